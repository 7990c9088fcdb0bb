//! A range of time that costs are asked for, and which roll-ups hold it. Pure.

use huntaze_domain::error::FieldFault;
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::period::{Month, day_of};

/// The longest range: what it takes to read grows with its days.
pub const MAX_DAYS: i64 = 90;
/// No costs are from before.
pub(crate) const FIRST_DAY: Date = date(2000, 1, 1);
/// Nobody asks for what comes after.
const LAST_DAY: Date = date(2100, 12, 31);
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// From a moment, to another that it leaves out, in whole hours of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    start: Timestamp,
    end: Timestamp,
}

/// Hours of one day, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// The day.
    pub day: Date,
    /// The first hour.
    pub first: i8,
    /// The last hour.
    pub last: i8,
}

/// Whole days of one month, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days {
    /// The first day.
    pub first: Date,
    /// The last day, of the same month.
    pub last: Date,
}

impl Range {
    /// Reads `startDate` and `endDate`: days (midnight in UTC) or moments of RFC 3339. The start is rounded down to its hour and
    /// the end up, for roll-ups know no less.
    ///
    /// # Errors
    /// Every fault: one is missing or no date, the years are absurd, the start is not before the end, or there are more than
    /// [`MAX_DAYS`] between them.
    pub fn parse(start: Option<&str>, end: Option<&str>) -> Result<Self, Vec<FieldFault>> {
        let (start, end) = match (moment("startDate", start), moment("endDate", end)) {
            (Ok(start), Ok(end)) => (start, end),
            (start, end) => return Err([start.err(), end.err()].into_iter().flatten().collect()),
        };
        if start >= end {
            return Err(vec![fault("endDate", "must be after `startDate`")]);
        }
        if start.duration_until(end) > SignedDuration::from_hours(24 * MAX_DAYS) {
            return Err(vec![fault("endDate", format!("must be at most {MAX_DAYS} days after `startDate`"))]);
        }
        let hour_end = floor(end);
        let end = if hour_end == end { end } else { hour_end.saturating_add(HOUR).unwrap_or(end) };
        Ok(Self { start: floor(start), end })
    }

    /// Whole days, both included; the last is not before the first.
    pub(crate) fn of_days(first: Date, last: Date) -> Self {
        Self { start: midnight(first), end: midnight(last.saturating_add(1.day())) }
    }

    /// Its first moment.
    #[must_use]
    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// The moment that ends it.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        self.end
    }

    /// Its first day and its last, which may lie in it in part.
    #[must_use]
    pub fn touched(&self) -> (Date, Date) {
        (day_of(self.start), day_of(self.end.saturating_sub(HOUR).unwrap_or(self.start)))
    }

    /// The months that it touches.
    #[must_use]
    pub fn months(&self) -> Vec<Month> {
        let (first, last) = self.touched();
        let months = std::iter::successors(Some(Month::of(first)), |month| Some(month.next()));
        months.take_while(|month| *month <= Month::of(last)).collect()
    }

    /// The hours of the days that lie in it in part: of one at each end, if any.
    #[must_use]
    pub fn hours(&self) -> Vec<Hours> {
        let (first, last) = self.touched();
        let from = self.start.to_zoned(TimeZone::UTC).hour();
        let to = self.end.to_zoned(TimeZone::UTC).hour();
        let to = if to == 0 { 23 } else { to - 1 };
        if first == last {
            let whole = (from, to) == (0, 23);
            return (!whole).then_some(Hours { day: first, first: from, last: to }).into_iter().collect();
        }
        let before = (from > 0).then_some(Hours { day: first, first: from, last: 23 });
        let behind = (to < 23).then_some(Hours { day: last, first: 0, last: to });
        before.into_iter().chain(behind).collect()
    }

    /// Its whole days, month by month.
    #[must_use]
    pub fn days(&self) -> Vec<Days> {
        let partial = self.hours();
        let is_whole = |day: Date| partial.iter().all(|hours| hours.day != day);
        let (first, last) = self.touched();
        let first = if is_whole(first) { first } else { first.saturating_add(1.day()) };
        let last = if is_whole(last) { last } else { last.saturating_sub(1.day()) };
        let of_month = |month: Month| Days { first: first.max(month.first_day()), last: last.min(month.last_day()) };
        self.months().into_iter().map(of_month).filter(|days| days.first <= days.last).collect()
    }
}

/// A day beyond the calendar's end begins never.
fn midnight(day: Date) -> Timestamp {
    day.to_zoned(TimeZone::UTC).map_or(Timestamp::MAX, |midnight| midnight.timestamp())
}

fn floor(moment: Timestamp) -> Timestamp {
    let past = moment.as_second().rem_euclid(3_600);
    Timestamp::from_second(moment.as_second() - past).unwrap_or(moment)
}

fn moment(name: &str, text: Option<&str>) -> Result<Timestamp, FieldFault> {
    let text = text.ok_or_else(|| fault(name, "is required: a date or a moment, such as 2026-11-01"))?;
    let moment =
        read(text).ok_or_else(|| fault(name, "must be a date (2026-11-01) or a moment (2026-11-01T08:00:00Z)"))?;
    if (FIRST_DAY..=LAST_DAY).contains(&day_of(moment)) {
        Ok(moment)
    } else {
        Err(fault(name, format!("must lie between {FIRST_DAY} and {LAST_DAY}")))
    }
}

fn read(text: &str) -> Option<Timestamp> {
    // The parser takes more than RFC 3339: names of zones, spaces, offsets of seconds.
    let plain = (10..=40).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || b"-:.+TZ".contains(&b));
    match plain {
        true if text.len() == 10 => Some(text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp()),
        true => text.parse().ok(),
        false => None,
    }
}

fn fault(pointer: &str, detail: impl Into<String>) -> FieldFault {
    FieldFault { pointer: pointer.to_owned(), detail: detail.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(start: &str, end: &str) -> Range {
        Range::parse(Some(start), Some(end)).unwrap()
    }

    fn faults(start: Option<&str>, end: Option<&str>) -> Vec<String> {
        Range::parse(start, end).unwrap_err().into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn what_is_no_range_is_refused_by_name() {
        assert_eq!(faults(None, None), ["startDate", "endDate"]);
        for bad in [
            "",
            "x",
            "2026",
            "2026-13-01",
            "2026-02-30",
            "2026-11-01T",
            "2026-11-01T25:00:00Z",
            "1999-12-31",
            "2101-01-01",
            "2026-11-01T00:00:00",
            "2026-11-01 00:00:00Z",
            "2026-11-01T00:00:00Z[UTC]",
            "+002026-11-01",
            "2026-11-01T00:00:00.0000000001Z",
        ] {
            assert_eq!(faults(Some(bad), Some("2026-11-02")), ["startDate"], "{bad}");
        }
        assert_eq!(faults(Some("2026-11-02"), Some("2026-11-02")), ["endDate"]);
        assert_eq!(faults(Some("2026-11-02"), Some("2026-11-01")), ["endDate"]);
        assert_eq!(faults(Some("2026-01-01"), Some("2026-04-01T00:00:00.001Z")), ["endDate"]);
        assert_eq!(range("2026-01-01", "2026-04-01").days().len(), 3);
    }

    #[test]
    fn it_counts_in_whole_hours() {
        let range = range("2026-11-01T23:59:59.999+02:00", "2026-11-03T00:00:00.001Z");
        assert_eq!(
            (range.start().to_string(), range.end().to_string()),
            ("2026-11-01T21:00:00Z".into(), "2026-11-03T01:00:00Z".into())
        );
        let (second, third) = (date(2026, 11, 2), date(2026, 11, 3));
        let hours = [Hours { day: date(2026, 11, 1), first: 21, last: 23 }, Hours { day: third, first: 0, last: 0 }];
        assert_eq!(range.hours(), hours);
        assert_eq!(range.days(), [Days { first: second, last: second }]);
    }

    #[test]
    fn whole_days_are_read_as_days() {
        let range = range("2026-11-30", "2026-12-02");
        assert_eq!(range.hours(), []);
        let days = |first, last| Days { first, last };
        let (november, december) = (date(2026, 11, 30), date(2026, 12, 1));
        assert_eq!(range.days(), [days(november, november), days(december, december)]);
        assert_eq!(range.months().len(), 2);
    }

    #[test]
    fn a_part_of_one_day_is_read_as_hours() {
        let range = range("2026-11-30T10:30:00Z", "2026-11-30T11:00:00Z");
        assert_eq!(range.hours(), [Hours { day: date(2026, 11, 30), first: 10, last: 10 }]);
        assert_eq!(range.days(), []);
    }

    proptest! {
        #[test]
        fn every_hour_is_read_once(start in 946_684_800_i64..4_000_000_000, long in 1_i64..90 * 86_400) {
            let at = |second| Timestamp::from_second(second).unwrap().to_string();
            let range = range(&at(start), &at(start + long));
            let mut read: Vec<Timestamp> = Vec::new();
            let moment = |day: Date, hour: i8| day.at(hour, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap().timestamp();
            for hours in range.hours() {
                read.extend((hours.first..=hours.last).map(|hour| moment(hours.day, hour)));
            }
            for days in range.days() {
                prop_assert_eq!(Month::of(days.first), Month::of(days.last));
                let all = days.first.series(1.day()).take_while(|day| *day <= days.last);
                read.extend(all.flat_map(|day| (0..24).map(move |hour| moment(day, hour))));
            }
            read.sort();
            let hours = std::iter::successors(Some(range.start()), |hour| Some(*hour + HOUR));
            prop_assert_eq!(read, hours.take_while(|hour| *hour < range.end()).collect::<Vec<_>>());
            prop_assert!(range.start().as_second() <= start && start + long <= range.end().as_second());
        }
    }
}
