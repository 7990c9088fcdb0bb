//! The ledger in DynamoDB: one entry a settled attempt, and the roll-ups that are read.
//!
//! One table, key `id` (hash) and `timestamp` (range):
//!
//! | item | `id` | `timestamp` |
//! |---|---|---|
//! | entry | the attempt's id | when it was intended, RFC 3339 |
//! | a user's day | `rollup#user#<user>#day#<YYYY-MM>` | `<YYYY-MM-DD>#<provider>#<model>#<request type>` |
//! | a user's hour | `rollup#user#<user>#hour#<YYYY-MM-DD>` | `<YYYY-MM-DD>T<HH>#<provider>#<model>#<request type>` |
//! | everyone's | `rollup#global#<shard>#day#…`, `…#hour#…` | the same |
//!
//! So a range of days is one query a month, and its price grows with the days asked for, not with the entries. Entry and
//! roll-ups are written in one transaction whose condition is that the entry is new: projecting twice changes nothing.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{BuildError, DisplayErrorContext, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, Put, TransactWriteItem, Update};
use backon::{ExponentialBuilder, Retryable};
use futures_util::future::join_all;
use huntaze_domain::money::Usd;
use huntaze_domain::provider::{Provider, TokenUsage};
use jiff::Timestamp;
use tokio::time::timeout;

use crate::attempt::{AttemptIntent, Settlement};

/// Everyone's roll-ups are spread over so many items, for one item takes 1,000 writes a second.
pub const GLOBAL_SHARDS: u8 = 8;

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
            estimated: settlement.estimated,
            price_version: intent.price.version.clone(),
            trace_id: intent.trace_id.clone(),
            duration_ms: i64::try_from(duration.as_millis()).ok(),
            started_at: intent.started_at,
        }
    }

    fn key(&self) -> HashMap<String, AttributeValue> {
        key(self.id.clone(), self.started_at.to_string())
    }

    fn item(&self) -> HashMap<String, AttributeValue> {
        let text = |value: &str| AttributeValue::S(value.to_owned());
        let mut item = self.key();
        item.extend(
            [
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
                ("estimated", AttributeValue::Bool(self.estimated)),
                ("priceVersion", text(&self.price_version)),
                ("traceId", text(&self.trace_id)),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        item.extend(self.duration_ms.map(|ms| ("durationMs".to_owned(), number(ms))));
        item
    }

    /// The keys of the roll-ups that this entry counts in.
    fn rollup_keys(&self) -> [(String, String); 4] {
        let moment = self.started_at.to_string();
        let (month, day, hour) = (&moment[..7], &moment[..10], &moment[..13]);
        let detail = format!("{}#{}#{}", self.provider.as_str(), self.model, self.request_type);
        let shard = self.id.bytes().fold(0_u8, u8::wrapping_add) % GLOBAL_SHARDS;
        let user = format!("rollup#user#{}", self.user_id);
        let global = format!("rollup#global#{shard}");
        [
            (format!("{user}#day#{month}"), format!("{day}#{detail}")),
            (format!("{user}#hour#{day}"), format!("{hour}#{detail}")),
            (format!("{global}#day#{month}"), format!("{day}#{detail}")),
            (format!("{global}#hour#{day}"), format!("{hour}#{detail}")),
        ]
    }
}

fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn key(id: String, timestamp: String) -> HashMap<String, AttributeValue> {
    HashMap::from([("id".to_owned(), AttributeValue::S(id)), ("timestamp".to_owned(), AttributeValue::S(timestamp))])
}

/// The ledger could not be written or read. Its text holds the service's own message, for the log only.
#[derive(Debug, thiserror::Error)]
#[error("the ledger did not answer: {0}")]
pub struct LedgerError(String);

impl LedgerError {
    fn of(error: impl std::error::Error) -> Self {
        Self(DisplayErrorContext(error).to_string())
    }
}

/// The DynamoDB table of entries and roll-ups.
#[derive(Debug, Clone)]
pub struct Ledger {
    client: Client,
    table: String,
}

impl Ledger {
    /// Names the table; nothing is called.
    #[must_use]
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Writes an entry and counts it in its roll-ups, once: doing it again changes nothing.
    ///
    /// Two entries of one user at the same time meet in that user's roll-up and one of them is sent again.
    ///
    /// # Errors
    /// [`LedgerError`] after the last try; the sweep will find the entry missing.
    pub async fn project(&self, entry: &LedgerEntry) -> Result<(), LedgerError> {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(20))
            .with_max_delay(Duration::from_millis(400))
            .with_max_times(6)
            .with_jitter();
        let items = self.transaction(entry).map_err(LedgerError::of)?;
        let send = || async {
            let write = self.client.transact_write_items().set_transact_items(Some(items.clone()));
            write.send().await.map(|_| ()).map_err(Box::new)
        };
        match send.retry(backoff).when(|error| reasons(error).contains(&"TransactionConflict")).await {
            Ok(()) => Ok(()),
            // Only the entry's put has a condition: it is there already, and so are its roll-ups.
            Err(error) if reasons(&error).contains(&"ConditionalCheckFailed") => Ok(()),
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
            .set_item(Some(entry.item()))
            .condition_expression("attribute_not_exists(id)")
            .build()?;
        let mut items = vec![TransactWriteItem::builder().put(put).build()];
        for (id, timestamp) in entry.rollup_keys() {
            let update = self.count(entry, key(id, timestamp))?;
            items.push(TransactWriteItem::builder().update(update).build());
        }
        Ok(items)
    }

    fn count(&self, entry: &LedgerEntry, key: HashMap<String, AttributeValue>) -> Result<Update, BuildError> {
        let failed = u64::from(entry.outcome != "succeeded");
        Update::builder()
            .table_name(&self.table)
            .set_key(Some(key))
            .update_expression(
                "ADD #cost :cost, inputTokens :input, cachedInputTokens :cached, outputTokens :output, \
                 requests :one, failedRequests :failed, estimatedRequests :estimated",
            )
            .expression_attribute_names("#cost", "cost")
            .expression_attribute_values(":cost", number(entry.cost))
            .expression_attribute_values(":input", number(entry.usage.input_tokens))
            .expression_attribute_values(":cached", number(entry.usage.cached_input_tokens))
            .expression_attribute_values(":output", number(entry.usage.output_tokens))
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":failed", number(failed))
            .expression_attribute_values(":estimated", number(u64::from(entry.estimated)))
            .build()
    }

    /// Which of these entries (at most 100) the ledger has.
    ///
    /// # Errors
    /// [`LedgerError`]
    pub async fn present(&self, entries: &[LedgerEntry]) -> Result<HashSet<String>, LedgerError> {
        let mut present = HashSet::new();
        let mut wanted: Vec<_> = entries.iter().map(LedgerEntry::key).collect();
        // The service may answer in parts; each part makes the rest smaller, so this ends.
        while !wanted.is_empty() {
            let keys = KeysAndAttributes::builder()
                .set_keys(Some(wanted.clone()))
                .consistent_read(true)
                .projection_expression("id")
                .build()
                .map_err(LedgerError::of)?;
            let answer =
                self.client.batch_get_item().request_items(&self.table, keys).send().await.map_err(LedgerError::of)?;
            let found = answer.responses.unwrap_or_default().remove(&self.table).unwrap_or_default();
            present.extend(found.iter().filter_map(|item| item.get("id")?.as_s().ok().cloned()));
            let left = answer.unprocessed_keys.unwrap_or_default().remove(&self.table).map(|rest| rest.keys);
            let left = left.unwrap_or_default();
            if left.len() >= wanted.len() {
                return Err(LedgerError("the table is throttled".to_owned()));
            }
            wanted = left;
        }
        Ok(present)
    }
}

/// Why a transaction was cancelled, item by item.
fn reasons(error: &SdkError<TransactWriteItemsError>) -> Vec<&str> {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
            cancelled.cancellation_reasons().iter().filter_map(|reason| reason.code()).collect()
        }
        Some(TransactWriteItemsError::TransactionInProgressException(_)) => vec!["TransactionConflict"],
        _ => Vec::new(),
    }
}
