//! What was spent so far, for thresholds and their checks: read from roll-ups by their keys.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::future::try_join_all;
use huntaze_domain::ids::UserId;
use huntaze_domain::money::Usd;
use jiff::Timestamp;

use crate::ledger::{Ledger, LedgerError};
use crate::period::Month;
use crate::rollup::{Grain, Key, Rollup, SHARDS, Series, users_of_month};

pub use crate::rollup::Spent;

/// A query is read in pages of a megabyte, and no longer than this: some 100,000 users a shard.
const MOST_PAGES: usize = 64;

/// What was spent in the hour, day and month of a moment, by provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PeriodSpend {
    /// In the hour.
    pub hour: Spent,
    /// In the day.
    pub day: Spent,
    /// In the month.
    pub month: Spent,
}

impl PeriodSpend {
    fn of_mut(&mut self, grain: Grain) -> &mut Spent {
        match grain {
            Grain::Hour => &mut self.hour,
            Grain::Day => &mut self.day,
            Grain::Month => &mut self.month,
        }
    }
}

/// What a user spent, and everyone together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UserAndGlobal {
    /// The user.
    pub user: PeriodSpend,
    /// Everyone, the user among them.
    pub global: PeriodSpend,
}

/// A user's month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserMonth {
    /// Whose.
    pub user: UserId,
    /// By provider.
    pub spent: Spent,
    /// What its days cost, 1 to 31; days without costs are not in it.
    pub days: BTreeMap<u8, Usd>,
}

impl Ledger {
    /// What a user, and everyone, spent in the hour, day and month of a moment. One read of 27 roll-ups, which shows every
    /// projection that has ended.
    ///
    /// # Errors
    /// [`LedgerError`]
    pub async fn spend(&self, user: &UserId, at: Timestamp) -> Result<UserAndGlobal, LedgerError> {
        let series: Vec<_> = (0..SHARDS).map(Series::Everyone).chain([Series::User(user.as_str())]).collect();
        let mut spend = UserAndGlobal::default();
        for (series, grain, rollup) in self.periods(&series, at, &[]).await? {
            let whose = match series {
                Series::User(_) => &mut spend.user,
                Series::Everyone(_) => &mut spend.global,
            };
            *whose.of_mut(grain) += rollup.spent;
        }
        Ok(spend)
    }

    /// The roll-ups of the hour, day and month of a moment, as far as there are any: what the providers cost, and further
    /// attributes.
    pub(crate) async fn periods<'a>(
        &self,
        series: &[Series<'a>],
        at: Timestamp,
        attributes: &[&str],
    ) -> Result<Vec<(Series<'a>, Grain, Rollup)>, LedgerError> {
        let moment = at.to_string();
        let places: HashMap<Key, (Series<'_>, Grain)> = series
            .iter()
            .flat_map(|series| Grain::ALL.map(|grain| (*series, grain)))
            .map(|(series, grain)| (series.key(grain, &moment), (series, grain)))
            .collect();
        let keys = places.keys().cloned().collect();
        let attributes = [&["id", "timestamp", "cost#azure", "cost#openai"], attributes].concat();
        let items = self.items(keys, &attributes).await?;
        let found = items.iter().filter_map(|item| Some((places.get(&Key::of(item)?)?, item)));
        found.map(|((series, grain), item)| Ok((*series, *grain, Rollup::read(item)?))).collect()
    }

    /// Every user with costs in a month, in no order. One query a shard, side by side; each is as many pages as its users fill.
    ///
    /// # Errors
    /// [`LedgerError`]
    pub async fn users_of_month(&self, month: Month) -> Result<Vec<UserMonth>, LedgerError> {
        let shards = (0..SHARDS).map(async |shard| self.query(&users_of_month(shard, month), None).await);
        let items = try_join_all(shards).await?;
        items.iter().flatten().map(user_month).collect()
    }

    /// The items of a partition, in the order of their range keys, of those between two of them where they are given.
    pub(crate) async fn query(
        &self,
        partition: &str,
        between: Option<(&str, &str)>,
    ) -> Result<Vec<HashMap<String, AttributeValue>>, LedgerError> {
        let text = |value: &str| AttributeValue::S(value.to_owned());
        let mut query = self.client.query().table_name(&self.table).expression_attribute_values(":id", text(partition));
        query = match between {
            None => query.key_condition_expression("id = :id"),
            Some((first, last)) => query
                .key_condition_expression("id = :id AND #at BETWEEN :first AND :last")
                .expression_attribute_names("#at", "timestamp")
                .expression_attribute_values(":first", text(first))
                .expression_attribute_values(":last", text(last)),
        };
        let (mut items, mut after) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let page = query.clone().set_exclusive_start_key(after).send().await.map_err(LedgerError::of)?;
            items.extend(page.items.unwrap_or_default());
            after = page.last_evaluated_key;
            if after.is_none() {
                return Ok(items);
            }
        }
        Err(LedgerError::too_much())
    }
}

fn user_month(item: &HashMap<String, AttributeValue>) -> Result<UserMonth, LedgerError> {
    let user = Key::of(item).and_then(|key| UserId::parse(&key.timestamp).ok()).ok_or_else(LedgerError::nameless)?;
    let Rollup { spent, days, .. } = Rollup::read(item)?;
    Ok(UserMonth { user, spent, days })
}
