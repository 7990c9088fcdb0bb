//! Items of DynamoDB, written and read: what every table of ours has in common.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, CancellationReason, TransactWriteItem};
use backon::{ExponentialBuilder, Retryable};
use huntaze_domain::money::Usd;
use huntaze_domain::notification::{Channel, Severity};
use huntaze_domain::provider::Provider;
use jiff::Timestamp;

/// An item, by its attributes' names.
pub type Item = HashMap<String, AttributeValue>;

/// A table could not be read or written. Its text holds the service's own message, for the log only.
#[derive(Debug, thiserror::Error)]
#[error("the table did not answer: {0}")]
pub struct TableError(String);

impl TableError {
    /// What the service or the way to it said.
    pub fn of(error: impl std::error::Error) -> Self {
        Self(DisplayErrorContext(error).to_string())
    }

    /// A reason of our own.
    #[must_use]
    pub fn because(reason: &str) -> Self {
        Self(reason.to_owned())
    }
}

/// A text.
pub fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// A number.
pub fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// A moment as the stores sort it: RFC 3339 with exactly three decimals, so that the order of the texts is that of time.
#[must_use]
pub fn moment(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// A provider, or all of them.
#[must_use]
pub fn provider(provider: Option<Provider>) -> AttributeValue {
    text(provider.map_or(ALL_PROVIDERS, Provider::as_str))
}

/// The name of all providers together, on the wire and in the stores.
pub const ALL_PROVIDERS: &str = "all";

/// Channels, in their order.
#[must_use]
pub fn channels(channels: &[Channel]) -> AttributeValue {
    AttributeValue::L(channels.iter().map(|channel| text(channel.as_str())).collect())
}

/// Writes items in one transaction. One that meets another transaction is sent again.
///
/// # Errors
/// What the last try said.
pub async fn transact(
    client: &Client,
    items: Vec<TransactWriteItem>,
) -> Result<(), Box<SdkError<TransactWriteItemsError>>> {
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_millis(400))
        .with_max_times(6)
        .with_jitter();
    let send = || async {
        let write = client.transact_write_items().set_transact_items(Some(items.clone()));
        write.send().await.map(drop).map_err(Box::new)
    };
    send.retry(backoff).when(|error| reasons(error).contains(&"TransactionConflict")).await
}

/// Why a transaction was cancelled, item by item.
#[must_use]
pub fn cancellations(error: &SdkError<TransactWriteItemsError>) -> &[CancellationReason] {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => cancelled.cancellation_reasons(),
        _ => &[],
    }
}

/// The same as codes. A transaction that is still in progress is one that meets another.
#[must_use]
pub fn reasons(error: &SdkError<TransactWriteItemsError>) -> Vec<&str> {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionInProgressException(_)) => vec!["TransactionConflict"],
        _ => cancellations(error).iter().filter_map(CancellationReason::code).collect(),
    }
}

/// Whether a write of one item was refused by its condition.
pub fn condition_failed<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    error.as_service_error().and_then(ProvideErrorMetadata::code) == Some("ConditionalCheckFailedException")
}

/// Reads an item's members. `None` where one is missing or of another kind.
#[derive(Clone, Copy)]
pub struct Members<'a>(pub &'a Item);

impl<'a> Members<'a> {
    /// A text.
    #[must_use]
    pub fn text(self, name: &str) -> Option<&'a str> {
        self.0.get(name)?.as_s().ok().map(String::as_str)
    }

    /// True or false.
    #[must_use]
    pub fn flag(self, name: &str) -> Option<bool> {
        self.0.get(name)?.as_bool().ok().copied()
    }

    /// Dollars, exactly.
    #[must_use]
    pub fn usd(self, name: &str) -> Option<Usd> {
        Usd::parse(self.0.get(name)?.as_n().ok()?).ok()
    }

    /// How much an alert matters.
    #[must_use]
    pub fn severity(self, name: &str) -> Option<Severity> {
        Severity::from_name(self.text(name)?)
    }

    /// A moment.
    #[must_use]
    pub fn time(self, name: &str) -> Option<Timestamp> {
        self.text(name)?.parse().ok()
    }

    /// A list.
    #[must_use]
    pub fn list(self, name: &str) -> Option<&'a [AttributeValue]> {
        self.0.get(name)?.as_l().ok().map(Vec::as_slice)
    }

    /// Channels, in their order.
    #[must_use]
    pub fn channels(self, name: &str) -> Option<Vec<Channel>> {
        self.list(name)?.iter().map(|item| Channel::from_name(item.as_s().ok()?)).collect()
    }

    /// The outer `None` is a fault, the inner one all providers.
    #[must_use]
    pub fn provider(self, name: &str) -> Option<Option<Provider>> {
        match self.text(name)? {
            ALL_PROVIDERS => Some(None),
            name => Provider::from_name(name).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_sort_as_texts() {
        let at = |text: &str| moment(text.parse().unwrap());
        assert_eq!(at("2026-11-21T12:00:00Z"), "2026-11-21T12:00:00.000Z");
        assert!(at("2026-11-21T12:00:00Z") < at("2026-11-21T12:00:00.5Z"));
        assert!(at("2026-11-21T12:00:00.0999Z") < at("2026-11-21T12:00:00.1Z"));
    }
}
