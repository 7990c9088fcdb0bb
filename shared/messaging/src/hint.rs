//! Hints: what is on `huntaze-rate-limiter-queue`. A hint says of which account something may be due, and no more; the outbox is
//! the truth, so a hint that comes twice, late or in another order does no harm, and one that is lost is made up for by the sweep.

use std::time::Duration;

use huntaze_domain::env::Env;
use huntaze_domain::ids::AccountId;
use huntaze_sqs::{Queue, Sqs};
use serde_json::{Map, Value, json};

use crate::outbox::Wake;

/// The name of its one member.
const ACCOUNT: &str = "accountId";

/// The queue of hints.
pub struct Hints(Queue);

impl Hints {
    /// Reads `SQS_RATE_LIMITER_QUEUE`, a name or a URL; nothing is called.
    #[must_use]
    pub fn from_env(env: &Env, sqs: Sqs) -> Self {
        Self(Queue::from_env(env, "SQS_RATE_LIMITER_QUEUE", "huntaze-rate-limiter-queue", sqs))
    }

    /// Puts the hint that the outbox asked for. Where that fails, the sweep makes up for it within a minute or two.
    pub async fn put(&self, account: &AccountId, wake: Wake) {
        let Some(delay) = wake else { return };
        if let Err(error) = self.try_put(account, delay).await {
            tracing::warn!(%error, "a hint is left to the sweep");
        }
    }

    /// Puts a hint.
    ///
    /// # Errors
    /// [`huntaze_sqs::QueueError`]
    pub async fn try_put(&self, account: &AccountId, delay: Duration) -> Result<(), huntaze_sqs::QueueError> {
        // The group is the account: one with many messages does not hold up the others. An id may have more signs than a group.
        let group: String = account.as_str().chars().filter(|sign| sign.is_ascii_graphic()).take(128).collect();
        self.0.put(body(account), delay, Some(&group)).await
    }
}

/// A hint's body.
#[must_use]
pub fn body(account: &AccountId) -> String {
    json!({ ACCOUNT: account }).to_string()
}

/// Reads a hint's body.
#[must_use]
pub fn read(body: &Map<String, Value>) -> Option<AccountId> {
    body.get(ACCOUNT)?.as_str().and_then(|text| AccountId::parse(text).ok())
}

#[cfg(test)]
mod tests {
    use huntaze_domain::json::parse_object;

    use super::*;

    #[test]
    fn a_hint_is_read_as_it_was_written() {
        let account = AccountId::parse("acc-1").unwrap();
        assert_eq!(read(&parse_object(body(&account).as_bytes()).unwrap()), Some(account));
        for other in [r#"{}"#, r#"{"accountId": 7}"#, r#"{"accountId": "a b"}"#] {
            assert_eq!(read(&parse_object(other.as_bytes()).unwrap()), None, "{other}");
        }
    }
}
