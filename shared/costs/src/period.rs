//! Calendar months, in UTC: what roll-ups are kept together by.

use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// A month of a year, in UTC. Written `2026-11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(Date);

impl Month {
    /// The month that a day lies in.
    #[must_use]
    pub fn of(day: Date) -> Self {
        Self(day.first_of_month())
    }

    /// The month that a moment lies in.
    #[must_use]
    pub fn at(moment: Timestamp) -> Self {
        Self::of(day_of(moment))
    }

    /// Its first day.
    #[must_use]
    pub fn first_day(self) -> Date {
        self.0
    }

    /// Its last day.
    #[must_use]
    pub fn last_day(self) -> Date {
        self.0.last_of_month()
    }

    /// How many days it has.
    #[must_use]
    pub fn days(self) -> u8 {
        self.0.days_in_month().unsigned_abs()
    }

    /// The month after it. The last month that a calendar has is its own next.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1.month()))
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.year(), self.0.month())
    }
}

/// The day that a moment lies in, in UTC.
#[must_use]
pub fn day_of(moment: Timestamp) -> Date {
    moment.to_zoned(TimeZone::UTC).date()
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_month_knows_its_days_and_the_next_one() {
        let month = Month::at("2026-12-31T23:59:59.999Z".parse().unwrap());
        assert_eq!((month.to_string(), month.days()), ("2026-12".to_owned(), 31));
        assert_eq!((month.first_day(), month.last_day()), (date(2026, 12, 1), date(2026, 12, 31)));
        assert_eq!(month.next().to_string(), "2027-01");
        assert_eq!(month.next().next().days(), 28);
        assert!(month < month.next());
    }
}
