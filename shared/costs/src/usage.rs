//! What was used in a range: its roll-ups, read day by day.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::{StreamExt, TryStreamExt, stream};
use huntaze_domain::ids::UserId;
use huntaze_domain::money::Usd;
use jiff::civil::Date;

use crate::ledger::{Ledger, LedgerError};
use crate::owner::Owner;
use crate::period::Month;
use crate::range::{Days, Hours, Range};
use crate::rollup::{HourUse, Key, Rollup, SHARDS, Series};

/// Queries that are under way at once: each takes a connection.
const CONCURRENCY: usize = 16;

impl Owner {
    /// Where its roll-ups are.
    pub(crate) fn series(&self) -> Vec<Series<'_>> {
        match self {
            Self::User(user) => vec![Series::User(user.as_str())],
            Self::Everyone => (0..SHARDS).map(Series::Everyone).collect(),
        }
    }
}

/// What each day of a range came to; a day in part is the sum of its hours.
pub type Usage = BTreeMap<Date, Rollup>;

/// One query: a partition and the range keys between which it is read.
struct Part {
    partition: String,
    first: String,
    last: String,
    hours_of: Option<Date>,
}

impl Part {
    fn of_hours(series: Series<'_>, Hours { day, first, last }: Hours) -> Self {
        let key = |hour: i8| format!("{day}T{hour:02}");
        Self { partition: series.hours(day), first: key(first), last: key(last), hours_of: Some(day) }
    }

    fn of_days(series: Series<'_>, Days { first, last }: Days) -> Self {
        let partition = series.days(Month::of(first));
        Self { partition, first: first.to_string(), last: last.to_string(), hours_of: None }
    }

    /// The day that one of its items counts in, and what it counts there.
    fn read(&self, item: &HashMap<String, AttributeValue>) -> Result<(Date, Rollup), LedgerError> {
        let Key { timestamp, .. } = Key::of(item).ok_or_else(LedgerError::nameless)?;
        let mut rollup = Rollup::read(item)?;
        let Some(day) = self.hours_of else {
            return Ok((timestamp.parse().map_err(|_| LedgerError::nameless())?, rollup));
        };
        let hour =
            timestamp.rsplit_once('T').and_then(|(_, hour)| hour.parse().ok()).ok_or_else(LedgerError::nameless)?;
        let used = HourUse { tokens: rollup.total.usage.total(), cost: rollup.total.cost };
        rollup.hours.insert(hour, used);
        Ok((day, rollup))
    }
}

impl Ledger {
    /// The days of a range. How much is read depends on the range and on how many details a day has, not on the entries: a query
    /// a month, and one for a day in part at either end; for everyone, of each shard.
    ///
    /// # Errors
    /// [`LedgerError`]
    pub async fn usage(&self, owner: &Owner, range: &Range) -> Result<Usage, LedgerError> {
        let (days, hours) = (range.days(), range.hours());
        let parts = owner.series().into_iter().flat_map(|series| {
            let days = days.iter().map(move |days| Part::of_days(series, *days));
            days.chain(hours.iter().map(move |hours| Part::of_hours(series, *hours)))
        });
        let parts: Vec<_> = parts.collect();
        let mut read = stream::iter(parts)
            .map(async |part| {
                let items = self.query(&part.partition, Some((&part.first, &part.last))).await?;
                items.iter().map(|item| part.read(item)).collect::<Result<Vec<_>, _>>()
            })
            .buffer_unordered(CONCURRENCY);
        let mut usage = Usage::new();
        while let Some(items) = read.try_next().await? {
            for (day, rollup) in items {
                *usage.entry(day).or_default() += &rollup;
            }
        }
        Ok(usage)
    }

    /// What each user spent in the days that a range touches, dearest first. A user's roll-ups of a month know its days and not
    /// their hours, so a day in part counts whole here.
    ///
    /// # Errors
    /// [`LedgerError`]
    pub async fn users(&self, range: &Range) -> Result<Vec<(UserId, Usd)>, LedgerError> {
        let (first, last) = range.touched();
        let mut users: HashMap<UserId, Usd> = HashMap::new();
        for month in range.months() {
            for user in self.users_of_month(month).await? {
                let days = user.days.iter().filter(|(day, _)| {
                    let day = month.first_day().with().day(day.cast_signed()).build();
                    day.is_ok_and(|day| (first..=last).contains(&day))
                });
                let cost: Usd = days.map(|(_, cost)| *cost).sum();
                if cost > Usd::ZERO {
                    let sum = users.entry(user.user).or_default();
                    *sum = *sum + cost;
                }
            }
        }
        Ok(dearest_first(users))
    }
}

/// Users by what they spent; of two that spent the same, the one whose id comes first.
pub(crate) fn dearest_first(users: impl IntoIterator<Item = (UserId, Usd)>) -> Vec<(UserId, Usd)> {
    let mut users: Vec<_> = users.into_iter().collect();
    users.sort_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then_with(|| a.cmp(b)));
    users
}
