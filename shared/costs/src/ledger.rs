//! The ledger in DynamoDB: one entry a settled attempt, and the roll-ups that are read.
//!
//! One table, key `id` (hash) and `timestamp` (range):
//!
//! | item | `id` | `timestamp` |
//! |---|---|---|
//! | entry | the attempt's id | when it was intended, RFC 3339 |
//! | a user's hour | `rollup#user#<user>#hour#<YYYY-MM-DD>` | `<YYYY-MM-DD>T<HH>` |
//! | a user's day | `rollup#user#<user>#day#<YYYY-MM>` | `<YYYY-MM-DD>` |
//! | a user's month, beside the others' of its shard | `rollup#users#<shard>#month#<YYYY-MM>` | `<user>` |
//! | everyone's hour, day | `rollup#global#<shard>#hour#…`, `…#day#…` | as a user's |
//! | everyone's month | `rollup#global#<shard>#month` | `<YYYY-MM>` |
//!
//! So a range of days is one query a month, and its price grows with the days asked for, not with the entries. What a roll-up
//! holds is [`crate::rollup`]'s. Entry and roll-ups are written in one transaction whose condition is that the entry is new:
//! projecting twice changes nothing. Entries expire, roll-ups do not.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{BuildError, DisplayErrorContext};
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, Put, TransactWriteItem, Update};
use futures_util::future::join_all;
use huntaze_domain::money::Usd;
use huntaze_domain::provider::{Provider, TokenUsage};
use jiff::Timestamp;
use tokio::time::timeout;

use crate::attempt::{AttemptIntent, Settlement};
use crate::rollup::{Key, Unreadable, rollups_of};
use huntaze_dynamodb::{number, reasons, transact};

/// A function waits no longer for the ledger; the sweep catches up.
const PROJECTION_PATIENCE: Duration = Duration::from_secs(2);

/// What the ledger keeps of one settled attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// The attempt's id.
    pub id: String,
    /// The workflow's id: one operation, however many attempts.
    pub operation_id: String,
    /// Who paid.
    pub user_id: String,
    /// Who was called.
    pub provider: Provider,
    /// The priced model.
    pub model: String,
    /// The workflow's type.
    pub request_type: String,
    /// How it ended.
    pub outcome: String,
    /// Booked tokens.
    pub usage: TokenUsage,
    /// Their price.
    pub cost: Usd,
    /// What they would have cost more without a cache.
    pub saved: Usd,
    /// Whether an answer of before served, and no provider was called.
    pub cache_hit: bool,
    /// Whether the bound was booked in place of the provider's numbers.
    pub estimated: bool,
    /// The price row that was used.
    pub price_version: String,
    /// Links it to the request's trace.
    pub trace_id: String,
    /// How long the call took, where it is known.
    pub duration_ms: Option<i64>,
    /// When the call was intended.
    pub started_at: Timestamp,
}

impl LedgerEntry {
    /// The entry of an attempt that was just settled.
    #[must_use]
    pub fn of(intent: &AttemptIntent, settlement: Settlement, duration: Duration) -> Self {
        Self {
            id: intent.id.to_string(),
            operation_id: intent.workflow_id.to_string(),
            user_id: intent.user_id.to_string(),
            provider: intent.provider,
            model: intent.model.clone(),
            request_type: intent.request_type.to_owned(),
            outcome: settlement.outcome.as_str().to_owned(),
            usage: settlement.usage,
            cost: settlement.cost,
            saved: intent.price.saved(settlement.usage),
            cache_hit: false,
            estimated: settlement.estimated,
            price_version: intent.price.version.clone(),
            trace_id: intent.trace_id.clone(),
            duration_ms: i64::try_from(duration.as_millis()).ok(),
            started_at: intent.started_at,
        }
    }

    /// Its place among the operation's attempts, from 1: an attempt is named after it.
    fn attempt(&self) -> Option<u16> {
        self.id.rsplit_once('.')?.1.parse().ok()
    }

    fn key(&self) -> Key {
        Key { id: self.id.clone(), timestamp: self.started_at.to_string() }
    }

    fn item(&self, retention: Retention) -> HashMap<String, AttributeValue> {
        let text = |value: &str| AttributeValue::S(value.to_owned());
        let mut item = self.key().attributes();
        let known = [
            ("operationId", text(&self.operation_id)),
            ("userId", text(&self.user_id)),
            ("provider", text(self.provider.as_str())),
            ("model", text(&self.model)),
            ("requestType", text(&self.request_type)),
            ("outcome", text(&self.outcome)),
            ("inputTokens", number(self.usage.input_tokens)),
            ("cachedInputTokens", number(self.usage.cached_input_tokens)),
            ("outputTokens", number(self.usage.output_tokens)),
            ("cost", number(self.cost)),
            ("saved", number(self.saved)),
            ("cacheHit", AttributeValue::Bool(self.cache_hit)),
            ("estimated", AttributeValue::Bool(self.estimated)),
            ("priceVersion", text(&self.price_version)),
            ("traceId", text(&self.trace_id)),
        ];
        let sometimes = [
            ("attempt", self.attempt().map(number)),
            ("durationMs", self.duration_ms.map(number)),
            ("expiresAt", retention.end(self.started_at).map(number)),
        ];
        let sometimes = sometimes.into_iter().filter_map(|(name, value)| Some((name, value?)));
        item.extend(known.into_iter().chain(sometimes).map(|(name, value)| (name.to_owned(), value)));
        item
    }
}

/// A correction of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerCorrection {
    /// Its place among the entry's corrections, from 1.
    pub number: u16,
    /// The entry as it was.
    pub before: LedgerEntry,
    /// The entry as it is to be: what differs is its cost, and whether that is an estimate.
    pub after: LedgerEntry,
}

/// The last correction of an entry.
const CORRECTION: &str = "correction";

/// How long entries are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// For ever.
    Forever,
    /// For so many days from their intent.
    Days(u16),
}

impl Retention {
    /// When the table may drop an entry: in seconds of the epoch, which is what its TTL reads.
    fn end(self, started_at: Timestamp) -> Option<i64> {
        match self {
            Self::Forever => None,
            Self::Days(days) => Some(started_at.as_second() + i64::from(days) * 86_400),
        }
    }
}

/// The ledger could not be written or read. Its text holds the service's own message, for the log only.
#[derive(Debug, thiserror::Error)]
#[error("the ledger did not answer: {0}")]
pub struct LedgerError(String);

impl LedgerError {
    pub(crate) fn of(error: impl std::error::Error) -> Self {
        Self(DisplayErrorContext(error).to_string())
    }

    pub(crate) fn throttled() -> Self {
        Self("the table is throttled".to_owned())
    }

    pub(crate) fn nameless() -> Self {
        Self("an item has no name that one was written under".to_owned())
    }

    fn out_of_order() -> Self {
        Self("the entry, or the correction before this one, is not there".to_owned())
    }

    pub(crate) fn too_much() -> Self {
        Self("there is more than one read takes".to_owned())
    }
}

impl From<Unreadable> for LedgerError {
    fn from(error: Unreadable) -> Self {
        Self(error.to_string())
    }
}

/// The DynamoDB table of entries and roll-ups.
#[derive(Debug, Clone)]
pub struct Ledger {
    pub(crate) client: Client,
    pub(crate) table: String,
    retention: Retention,
}

impl Ledger {
    /// Names the table; nothing is called.
    #[must_use]
    pub fn new(client: Client, table: String, retention: Retention) -> Self {
        Self { client, table, retention }
    }

    /// Writes an entry and counts it in its roll-ups, once: doing it again changes nothing.
    ///
    /// Two entries of one user at the same time meet in that user's roll-up and one of them is sent again.
    ///
    /// # Errors
    /// [`LedgerError`] after the last try; the sweep will find the entry missing.
    pub async fn project(&self, entry: &LedgerEntry) -> Result<(), LedgerError> {
        let items = self.transaction(entry).map_err(LedgerError::of)?;
        match transact(&self.client, items).await {
            Ok(()) => Ok(()),
            // Only the entry's put has a condition: it is there already, and so are its roll-ups.
            Err(error) if reasons(&error).contains(&"ConditionalCheckFailed") => Ok(()),
            Err(error) => Err(LedgerError::of(error)),
        }
    }

    /// Corrects what an entry and its roll-ups say it cost, once: doing it again changes nothing.
    ///
    /// # Errors
    /// [`LedgerError`], also where the correction before this one is not in the ledger yet.
    pub async fn correct(&self, correction: &LedgerCorrection) -> Result<(), LedgerError> {
        let items = self.correcting(correction).map_err(LedgerError::of)?;
        match transact(&self.client, items).await {
            Ok(()) => Ok(()),
            Err(error) if reasons(&error).contains(&"ConditionalCheckFailed") => {
                let found = self.items(vec![correction.after.key()], &[CORRECTION]).await?;
                let last = found.first().and_then(|item| item.get(CORRECTION)?.as_n().ok()?.parse().ok());
                let done = last.is_some_and(|last: u16| last >= correction.number);
                if done { Ok(()) } else { Err(LedgerError::out_of_order()) }
            }
            Err(error) => Err(LedgerError::of(error)),
        }
    }

    /// Projects entries side by side. What fails, or takes longer than two seconds, is left to the sweep.
    pub async fn project_all(&self, entries: &[LedgerEntry]) {
        let projecting =
            entries.iter().map(async |entry| match timeout(PROJECTION_PATIENCE, self.project(entry)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, attempt = entry.id, "left to the ledger sweep"),
                Err(_) => tracing::warn!(attempt = entry.id, "the ledger is slow; left to its sweep"),
            });
        join_all(projecting).await;
    }

    fn transaction(&self, entry: &LedgerEntry) -> Result<Vec<TransactWriteItem>, BuildError> {
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(entry.item(self.retention)))
            .condition_expression("attribute_not_exists(id)")
            .build()?;
        let mut items = vec![TransactWriteItem::builder().put(put).build()];
        for (key, added) in rollups_of(entry) {
            let update = self.add(&key, added.attributes())?;
            items.push(TransactWriteItem::builder().update(update).build());
        }
        Ok(items)
    }

    fn correcting(&self, correction: &LedgerCorrection) -> Result<Vec<TransactWriteItem>, BuildError> {
        let LedgerCorrection { number: this, before, after } = correction;
        let entry = Update::builder()
            .table_name(&self.table)
            .set_key(Some(after.key().attributes()))
            .update_expression("SET #cost = :cost, #estimated = :estimated, #correction = :this")
            .expression_attribute_names("#cost", "cost")
            .expression_attribute_names("#estimated", "estimated")
            .expression_attribute_names("#correction", CORRECTION)
            .expression_attribute_values(":cost", number(after.cost))
            .expression_attribute_values(":estimated", AttributeValue::Bool(after.estimated))
            .expression_attribute_values(":this", number(this));
        // In their order, for each says what it changes from.
        let entry = match this.saturating_sub(1) {
            0 => entry.condition_expression("attribute_exists(id) AND attribute_not_exists(#correction)"),
            last => {
                entry.condition_expression("#correction = :last").expression_attribute_values(":last", number(last))
            }
        };
        let mut items = vec![TransactWriteItem::builder().update(entry.build()?).build()];
        for ((key, was), (_, is)) in rollups_of(before).iter().zip(rollups_of(after)) {
            let changed = is.less(was);
            if !changed.is_empty() {
                items.push(TransactWriteItem::builder().update(self.add(key, changed)?).build());
            }
        }
        Ok(items)
    }

    fn add(&self, key: &Key, added: impl IntoIterator<Item = (String, String)>) -> Result<Update, BuildError> {
        let mut update = Update::builder().table_name(&self.table).set_key(Some(key.attributes()));
        let mut sums = Vec::new();
        for (place, (name, value)) in added.into_iter().enumerate() {
            update = update
                .expression_attribute_names(format!("#{place}"), name)
                .expression_attribute_values(format!(":{place}"), number(value));
            sums.push(format!("#{place} :{place}"));
        }
        update.update_expression(format!("ADD {}", sums.join(", "))).build()
    }

    /// Which of these entries (at most 100) the ledger has.
    ///
    /// # Errors
    /// [`LedgerError`]
    pub async fn present(&self, entries: &[LedgerEntry]) -> Result<HashSet<String>, LedgerError> {
        let keys = entries.iter().map(LedgerEntry::key).collect();
        let found = self.items(keys, &["id"]).await?;
        Ok(found.iter().filter_map(|item| item.get("id")?.as_s().ok().cloned()).collect())
    }

    /// These attributes of the items that there are, of at most 100, as they stand after every write that has ended.
    pub(crate) async fn items(
        &self,
        keys: Vec<Key>,
        attributes: &[&str],
    ) -> Result<Vec<HashMap<String, AttributeValue>>, LedgerError> {
        let names: Vec<_> = (0..attributes.len()).map(|place| format!("#{place}")).collect();
        let projection = names.join(", ");
        let names: HashMap<_, _> = names.into_iter().zip(attributes.iter().map(|name| (*name).to_owned())).collect();
        let mut wanted: Vec<_> = keys.iter().map(Key::attributes).collect();
        let mut items = Vec::with_capacity(wanted.len());
        // The service may answer in parts; each part makes the rest smaller, so this ends.
        while !wanted.is_empty() {
            let keys = KeysAndAttributes::builder()
                .set_keys(Some(wanted.clone()))
                .consistent_read(true)
                .projection_expression(&projection)
                .set_expression_attribute_names(Some(names.clone()))
                .build()
                .map_err(LedgerError::of)?;
            let answer =
                self.client.batch_get_item().request_items(&self.table, keys).send().await.map_err(LedgerError::of)?;
            items.extend(answer.responses.unwrap_or_default().remove(&self.table).unwrap_or_default());
            let left = answer.unprocessed_keys.unwrap_or_default().remove(&self.table).map(|rest| rest.keys);
            let left = left.unwrap_or_default();
            if left.len() >= wanted.len() {
                return Err(LedgerError::throttled());
            }
            wanted = left;
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollup::tests::entry;

    #[test]
    fn an_entry_expires_and_says_which_attempt_it_was() {
        let entry = entry("wf_1.12", "ana", "2026-11-21T00:00:00Z");
        let item = entry.item(Retention::Days(400));
        assert_eq!(item["expiresAt"], number(1_795_219_200 + 400 * 86_400));
        assert_eq!((&item["attempt"], &item["cacheHit"]), (&number(12), &AttributeValue::Bool(false)));
        assert_eq!(entry.item(Retention::Forever).get("expiresAt"), None);
    }
}
