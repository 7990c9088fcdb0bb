//! The record of each delivery, in DynamoDB: what is sent is sent once, by whichever process.
//!
//! An item's key is `<id>#<channel>`. Its state:
//!
//! ```text
//! (absent) ──claim──▸ claimed ──▸ sent · skipped · failed
//!    waiting ──claim──▸  │  ▲
//!       ▲────────────────┘  └── claim of another, once the lease has run out
//! ```
//!
//! A claim is a conditional write that takes a lease and counts the attempt; every later write asks for the claim's token.
//! `heldUntil` is the end of the lease, or of the wait that the channel asked for: nobody claims before.
//! `sent`, `skipped` and `failed` are final. Items are kept for 30 days, longer than any queue keeps a message.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use huntaze_domain::env::Env;
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::fault::Fault;

/// A channel that has not answered by then has failed. No channel waits for another.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// A claim is its process's for so long: the patience, two writes of the record, and time to spare.
const LEASE: SignedDuration = SignedDuration::from_secs(30);
/// How often a delivery is tried. The queues' `maxReceiveCount` is the same.
pub const MOST_ATTEMPTS: u32 = 5;
/// How long the record is kept. SQS keeps a message for at most 14 days.
const KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The wall clock of one record's handling.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    now: Timestamp,
    read: Instant,
}

impl Clock {
    /// A clock that showed `now` at the moment `read`.
    #[must_use]
    pub fn new(now: Timestamp, read: Instant) -> Self {
        Self { now, read }
    }

    fn now(&self) -> Timestamp {
        self.now.saturating_add(self.read.elapsed()).unwrap_or(self.now)
    }
}

/// One thing that is done once for one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A message to Slack.
    Slack,
    /// A publication on the topic.
    Sns,
    /// The app shows it by itself; that it was meant to is recorded.
    InApp,
    /// The job on the e-mail queue.
    EmailJob,
    /// The e-mail.
    Email,
}

impl Step {
    /// The name in the record's key and in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Sns => "sns",
            Self::InApp => "in_app",
            Self::EmailJob => "email_job",
            Self::Email => "email",
        }
    }
}

/// How a sending ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It was told.
    Told,
    /// There is nobody to tell, for this reason.
    Skipped(&'static str),
}

/// A delivery that is not over.
#[derive(Debug, thiserror::Error)]
pub enum Undelivered {
    /// Another process is at it.
    #[error("another process is at it")]
    Busy {
        /// When to look again.
        after: Duration,
    },
    /// It failed and will be tried again.
    #[error(transparent)]
    Failed(#[from] Fault),
    /// Its record cannot be read or written, so it is not known whether it was sent.
    #[error("the record of deliveries")]
    Record(#[source] Fault),
}

impl Undelivered {
    /// How long the channel itself asked to be left alone.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::Failed(Fault::Limited { after }) => *after,
            Self::Busy { .. } | Self::Failed(_) | Self::Record(_) => None,
        }
    }
}

/// The table of deliveries.
#[derive(Debug, Clone)]
pub struct Deliveries {
    pub(crate) client: Client,
    pub(crate) table: String,
}

/// A claim that this process holds.
#[derive(Debug)]
struct Claim {
    id: String,
    owner: String,
    /// Counted from 1.
    attempt: u32,
}

enum Claimed {
    Mine(Claim),
    /// It has ended.
    Over,
    Busy(Duration),
}

impl Deliveries {
    /// The table that `DYNAMODB_DELIVERIES_TABLE` names.
    #[must_use]
    pub fn from_env(env: &Env, client: Client) -> Self {
        Self { client, table: env.or("DYNAMODB_DELIVERIES_TABLE", "huntaze-notification-deliveries") }
    }

    /// Has `send` done once for this message, and records how it ended. A delivery that ended before is not made again; one
    /// that failed for the last time is over, too, and an error in the log.
    ///
    /// # Errors
    /// [`Undelivered`] where the message has to come again.
    pub async fn once(
        &self,
        id: &str,
        step: Step,
        clock: &Clock,
        send: impl Future<Output = Result<Sent, Fault>>,
    ) -> Result<(), Undelivered> {
        let claim = match self.claim(format!("{id}#{}", step.as_str()), clock.now()).await? {
            Claimed::Mine(claim) => claim,
            Claimed::Over => return Ok(()),
            Claimed::Busy(after) => return Err(Undelivered::Busy { after }),
        };
        // Each of the attempts before this one was cut short by the end of its process.
        if claim.attempt > MOST_ATTEMPTS {
            tracing::error!(channel = step.as_str(), "given up: no attempt came to its end");
            self.settle(&claim, "failed", "no attempt came to its end", clock.now()).await;
            return Ok(());
        }
        let outcome = timeout(PATIENCE, send).await.unwrap_or(Err(Fault::Timeout));
        let attempt = claim.attempt;
        match outcome {
            Ok(Sent::Told) => {
                self.settle(&claim, "sent", "", clock.now()).await;
                tracing::info!(channel = step.as_str(), attempt, "told");
                Ok(())
            }
            Ok(Sent::Skipped(reason)) => {
                self.settle(&claim, "skipped", reason, clock.now()).await;
                tracing::info!(channel = step.as_str(), reason, "skipped");
                Ok(())
            }
            Err(fault) if fault.is_final() || attempt >= MOST_ATTEMPTS => {
                let reason = fault.to_string();
                tracing::error!(channel = step.as_str(), attempt, reason, "given up");
                self.settle(&claim, "failed", &reason, clock.now()).await;
                Ok(())
            }
            Err(fault) => {
                let undelivered = Undelivered::from(fault);
                self.release(&claim, &undelivered, clock.now()).await;
                Err(undelivered)
            }
        }
    }

    async fn claim(&self, id: String, now: Timestamp) -> Result<Claimed, Undelivered> {
        let (owner, until) = (Uuid::now_v7().simple().to_string(), now.saturating_add(LEASE).unwrap_or(now));
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("id", AttributeValue::S(id.clone()))
            .update_expression(
                "SET #state = :claimed, #owner = :owner, heldUntil = :until, updatedAt = :at, expiresAt = :expires \
                 ADD attempts :one",
            )
            .condition_expression("attribute_not_exists(id) OR (#state IN (:claimed, :waiting) AND heldUntil <= :now)")
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":claimed", AttributeValue::S("claimed".to_owned()))
            .expression_attribute_values(":waiting", AttributeValue::S("waiting".to_owned()))
            .expression_attribute_values(":owner", AttributeValue::S(owner.clone()))
            .expression_attribute_values(":until", number(until.as_millisecond()))
            .expression_attribute_values(":now", number(now.as_millisecond()))
            .expression_attribute_values(":at", AttributeValue::S(now.to_string()))
            .expression_attribute_values(":expires", number(now.saturating_add(KEPT).unwrap_or(now).as_second()))
            .expression_attribute_values(":one", number(1))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match update.send().await {
            Ok(made) => Ok(Claimed::Mine(Claim { id, owner, attempt: attempt(made.attributes.as_ref()) })),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                    Ok(held(refused.item.as_ref(), id, owner, now))
                }
                _ => Err(Undelivered::Record(Fault::of_aws(&error, &[]))),
            },
        }
    }

    /// Records an end. Where that fails, or the claim has become another's, the delivery may be made a second time: that is
    /// logged, and no reason to tell it again now.
    async fn settle(&self, claim: &Claim, state: &str, reason: &str, now: Timestamp) {
        self.write(claim, state, reason, now, now).await;
    }

    /// Gives the claim back, for an attempt that comes later.
    async fn release(&self, claim: &Claim, undelivered: &Undelivered, now: Timestamp) {
        let until = now.saturating_add(undelivered.wait().unwrap_or_default()).unwrap_or(now);
        self.write(claim, "waiting", &undelivered.to_string(), until, now).await;
    }

    async fn write(&self, claim: &Claim, state: &str, reason: &str, held_until: Timestamp, now: Timestamp) {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("id", AttributeValue::S(claim.id.clone()))
            .update_expression(
                "SET #state = :state, reason = :reason, updatedAt = :at, heldUntil = :until REMOVE #owner",
            )
            .condition_expression("#owner = :owner")
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":state", AttributeValue::S(state.to_owned()))
            .expression_attribute_values(":reason", AttributeValue::S(reason.to_owned()))
            .expression_attribute_values(":at", AttributeValue::S(now.to_string()))
            .expression_attribute_values(":until", number(held_until.as_millisecond()))
            .expression_attribute_values(":owner", AttributeValue::S(claim.owner.clone()));
        if let Err(error) = update.send().await {
            let fault = Fault::of_aws(&error, &[]);
            tracing::warn!(%fault, state, "the end of a delivery is not recorded");
        }
    }
}

type Item = HashMap<String, AttributeValue>;

/// What an item says that could not be claimed. It is this process's own where the first answer to its claim was lost.
fn held(item: Option<&Item>, id: String, owner: String, now: Timestamp) -> Claimed {
    let is_open = |item: &&Item| matches!(text(item, "state"), Some("claimed" | "waiting"));
    let Some(item) = item.filter(is_open) else { return Claimed::Over };
    if text(item, "owner") == Some(&owner) {
        return Claimed::Mine(Claim { id, owner, attempt: attempt(Some(item)) });
    }
    let left = integer(item, "heldUntil").unwrap_or(0) - now.as_millisecond();
    Claimed::Busy(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
}

fn attempt(item: Option<&Item>) -> u32 {
    item.and_then(|item| integer(item, "attempts")).and_then(|count| u32::try_from(count).ok()).unwrap_or(1)
}

fn text<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

fn integer(item: &Item, name: &str) -> Option<i64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

fn number(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T04:00:00Z".parse().unwrap()
    }

    fn found(state: &str, owner: &str, lease: i64) -> Claimed {
        let item = HashMap::from([
            ("state".to_owned(), AttributeValue::S(state.to_owned())),
            ("owner".to_owned(), AttributeValue::S(owner.to_owned())),
            ("attempts".to_owned(), number(3)),
            ("heldUntil".to_owned(), number(now().as_millisecond() + lease)),
        ]);
        held(Some(&item), "a#slack".to_owned(), "mine".to_owned(), now())
    }

    #[test]
    fn what_has_ended_is_over_and_what_another_holds_is_looked_at_when_its_lease_ends() {
        for ended in ["sent", "skipped", "failed"] {
            assert!(matches!(found(ended, "", 9_000), Claimed::Over), "{ended}");
        }
        for (state, lease, wait) in [("claimed", 9_000, 9), ("waiting", 7_000, 7), ("claimed", -9_000, 0)] {
            let found = found(state, "theirs", lease);
            assert!(matches!(found, Claimed::Busy(after) if after == Duration::from_secs(wait)), "{state}");
        }
    }

    #[test]
    fn a_claim_whose_answer_was_lost_is_ones_own() {
        assert!(matches!(found("claimed", "mine", 9_000), Claimed::Mine(Claim { attempt: 3, .. })));
    }
}
