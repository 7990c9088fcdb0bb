//! Where costs stand now: the hour, the day and the month of a moment. Pure, but for the one read.

use std::num::NonZeroU64;

use huntaze_domain::ids::UserId;
use huntaze_domain::money::Usd;
use huntaze_domain::provider::Provider;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;

use crate::ledger::{Ledger, LedgerError};
use crate::owner::Owner;
use crate::period::Month;
use crate::rollup::{Figures, Grain, Rollup, Spent};
use crate::spend::UserMonth;
use crate::usage::dearest_first;

/// What was counted in the hour, day and month of a moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// In the hour.
    pub hour: Counted,
    /// In the day.
    pub day: Counted,
    /// In the month.
    pub month: Counted,
}

/// What was counted in one period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Over everything.
    pub total: Figures,
    /// What each provider cost.
    pub spent: Spent,
}

impl Standing {
    fn of_mut(&mut self, grain: Grain) -> &mut Counted {
        match grain {
            Grain::Hour => &mut self.hour,
            Grain::Day => &mut self.day,
            Grain::Month => &mut self.month,
        }
    }
}

impl Ledger {
    /// Where an owner's costs stand: one read of its three roll-ups, for everyone of those of each shard.
    ///
    /// # Errors
    /// [`LedgerError`]
    pub async fn standing(&self, owner: &Owner, at: Timestamp) -> Result<Standing, LedgerError> {
        let attributes = ["requests", "inputTokens", "cachedInputTokens", "outputTokens", "cost", "saved"];
        let mut standing = Standing::default();
        for (_, grain, Rollup { total, spent, .. }) in self.periods(&owner.series(), at, &attributes).await? {
            let counted = standing.of_mut(grain);
            counted.total += total;
            counted.spent += spent;
        }
        Ok(standing)
    }
}

/// How near spending is to a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThresholdStatus {
    /// Below four fifths of it, or there is none.
    Normal,
    /// Four fifths of it, or more.
    Warning,
    /// All of it, or more.
    Critical,
}

impl ThresholdStatus {
    /// By what was spent; without a threshold nothing is near it.
    #[must_use]
    pub fn of(spent: Usd, threshold: Option<Usd>) -> Self {
        let at_least = |fifths: u8| {
            let parts = |amount: Usd, times: u8| (0..times).map(|_| amount).sum::<Usd>();
            threshold.is_some_and(|threshold| parts(spent, 5) >= parts(threshold, fifths))
        };
        if at_least(5) {
            Self::Critical
        } else if at_least(4) {
            Self::Warning
        } else {
            Self::Normal
        }
    }

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// The amounts that a day's and a month's costs are held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DayAndMonth {
    /// Of a day.
    pub day: Option<Usd>,
    /// Of a month.
    pub month: Option<Usd>,
}

/// What follows from where costs stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// What was read.
    pub standing: Standing,
    /// The month's cost over its days until now, today included.
    pub daily_average: Usd,
    /// Today's cost over its hours until now, this one included.
    pub hourly_average: Usd,
    /// Each provider's share of the month's cost, from 0 to 1, to four places.
    pub ratio: [(Provider, Decimal); 2],
    /// How many days the month has.
    pub days_in_month: u8,
    /// How near today is to its threshold.
    pub today: ThresholdStatus,
    /// How near the month is to its threshold.
    pub monthly: ThresholdStatus,
}

impl Stats {
    /// At a moment, against these thresholds.
    #[must_use]
    pub fn of(standing: Standing, at: Timestamp, thresholds: DayAndMonth) -> Self {
        let now = at.to_zoned(TimeZone::UTC);
        let parts = |count: i8| NonZeroU64::MIN.saturating_add(u64::from(count.unsigned_abs()).saturating_sub(1));
        let (today, month) = (standing.day.total.cost, standing.month.total.cost);
        let share = |provider| {
            let of_it = standing.month.spent.of(Some(provider)).to_decimal();
            of_it.checked_div(month.to_decimal()).unwrap_or_default().round_dp(4)
        };
        Self {
            daily_average: month.divided_by(parts(now.day())),
            hourly_average: today.divided_by(parts(now.hour() + 1)),
            ratio: Provider::ALL.map(|provider| (provider, share(provider))),
            days_in_month: Month::at(at).days(),
            today: ThresholdStatus::of(today, thresholds.day),
            monthly: ThresholdStatus::of(month, thresholds.month),
            standing,
        }
    }
}

/// What users spent today and in the month so far: those who spent most today, at most `most`.
#[must_use]
pub fn top_users(users: Vec<UserMonth>, at: Timestamp, most: usize) -> Vec<(UserId, Usd, Usd)> {
    let today = at.to_zoned(TimeZone::UTC).day().unsigned_abs();
    let mut months = std::collections::HashMap::new();
    let spent_today = users.into_iter().filter_map(|user| {
        let cost = user.days.get(&today).copied()?;
        months.insert(user.user.clone(), user.spent.total());
        Some((user.user, cost))
    });
    let mut top = dearest_first(spent_today.collect::<Vec<_>>());
    top.truncate(most);
    top.into_iter().map(|(user, today)| (user.clone(), today, months.get(&user).copied().unwrap_or_default())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(text: &str) -> Usd {
        Usd::parse(text).unwrap()
    }

    #[test]
    fn a_threshold_warns_from_four_fifths_and_is_critical_when_it_is_reached() {
        let status = |spent: &str| ThresholdStatus::of(usd(spent), Some(usd("5"))).as_str();
        assert_eq!(
            ["0", "3.999999999999", "4", "4.999999999999", "5", "6"].map(status),
            ["normal", "normal", "warning", "warning", "critical", "critical"]
        );
        assert_eq!(ThresholdStatus::of(usd("1000"), None), ThresholdStatus::Normal);
    }

    #[test]
    fn averages_count_the_days_and_hours_that_have_begun() {
        let counted = |azure: &str, openai: &str| {
            let spent = Spent { azure: usd(azure), openai: usd(openai) };
            Counted { total: Figures { cost: spent.total(), ..Figures::default() }, spent }
        };
        let standing = Standing { hour: Counted::default(), day: counted("4", "0"), month: counted("7", "14") };
        let stats = |at: &str| {
            Stats::of(standing.clone(), at.parse().unwrap(), DayAndMonth { day: Some(usd("5")), month: None })
        };
        let last = stats("2026-11-21T07:59:59Z");
        assert_eq!((last.daily_average, last.hourly_average, last.days_in_month), (usd("1"), usd("0.5"), 30));
        assert_eq!(last.ratio.map(|(_, share)| share.to_string()), ["0.3333", "0.6667"]);
        assert_eq!((last.today, last.monthly), (ThresholdStatus::Warning, ThresholdStatus::Normal));
        let first = stats("2026-11-01T00:00:00Z");
        assert_eq!((first.daily_average, first.hourly_average), (usd("21"), usd("4")));
        let none = Stats::of(Standing::default(), Timestamp::UNIX_EPOCH, DayAndMonth::default());
        assert_eq!(none.ratio.map(|(_, share)| share), [Decimal::ZERO; 2]);
    }
}
