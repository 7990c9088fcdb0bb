//! The record of each delivery, in DynamoDB: what is sent is sent once, by whichever process.
//!
//! An item's key is `<id>#<channel>`. Its state:
//!
//! ```text
//! (absent) ──claim──▸ claimed ──▸ sent · skipped · failed
//!    waiting ──claim──▸  │ │ ▲
//!       ▲────────────────┘ │ └── claim of another, once the lease has run out
//!                          └──▸ exhausted ──claim for another message──▸ claimed
//! ```
//!
//! A claim is a conditional write that takes a lease and counts the attempt; every later write asks for the claim's token.
//! `heldUntil` is the end of the lease, or of the wait before the next attempt: nobody claims before, so that a message that
//! comes for another channel's sake uses up no attempt of this one.
//!
//! `sent`, `skipped` and `failed` are final; `failed` is what the channel refuses for good. A channel that does not answer is
//! tried [`MOST_ATTEMPTS`] times over half an hour to an hour, then it is `exhausted`, by the message that it was tried for.
//! That message goes to the dead-letter queue. Put back from there it is another one to SQS, and has all its attempts
//! again. Items are kept for 30 days: longer than a message is kept in a queue (14 days) and, put back once, in it again.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use huntaze_domain::env::Env;
use huntaze_domain::ids::random;
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::fault::Fault;

/// A channel that has not answered by then has failed. No channel waits for another.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// A claim is its process's for so long: the patience, two writes of the record, and time to spare.
const LEASE: SignedDuration = SignedDuration::from_secs(30);
/// How often a delivery is tried for one message. Its channels have waits of their own, so the queues' `maxReceiveCount` is more
/// than three times as much: one for each channel that can fail.
pub const MOST_ATTEMPTS: u32 = 10;
/// The wait after the first attempt; each further one is twice as long as the one before.
const FIRST_WAIT: Duration = Duration::from_secs(15);
/// No wait of ours is longer, and none that a channel asks for is taken for longer.
pub const LONGEST_WAIT: Duration = Duration::from_secs(900);
/// How long the record is kept.
const KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// One receive of a message: which message it is to the queue, and the wall clock of its handling.
#[derive(Debug, Clone)]
pub struct Receive {
    message: String,
    now: Timestamp,
    read: Instant,
}

impl Receive {
    /// Of the message with this id of SQS's; the clock showed `now` at the moment `read`.
    #[must_use]
    pub fn new(message: String, now: Timestamp, read: Instant) -> Self {
        Self { message, now, read }
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
    /// Another process is at it, or its wait is not over.
    #[error("it is not due")]
    Busy {
        /// When to look again.
        after: Duration,
    },
    /// It failed and will be tried again.
    #[error("it will be tried again")]
    Failed {
        /// When.
        after: Duration,
        /// How.
        #[source]
        fault: Fault,
    },
    /// It was tried for this message as often as it is.
    #[error("it was tried for the last time")]
    Exhausted,
    /// Its record cannot be read or written, so it is not known whether it was sent.
    #[error("the record of deliveries")]
    Record(#[source] Fault),
}

impl Undelivered {
    /// How long it is left alone; `None` where nobody knows.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::Busy { after } | Self::Failed { after, .. } => Some(*after),
            Self::Exhausted | Self::Record(_) => None,
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
    /// Of all messages, counted from 1.
    attempts: u32,
    /// Those of them that were made for messages before this one.
    before: u32,
}

impl Claim {
    /// Which attempt for this message it is, counted from 1.
    fn attempt(&self) -> u32 {
        self.attempts.saturating_sub(self.before)
    }
}

enum Claimed {
    Mine(Claim),
    /// It has ended.
    Over,
    /// It was tried for this message as often as it is.
    Exhausted,
    Busy(Duration),
}

impl Deliveries {
    /// The table that `DYNAMODB_DELIVERIES_TABLE` names.
    #[must_use]
    pub fn from_env(env: &Env, client: Client) -> Self {
        Self { client, table: env.or("DYNAMODB_DELIVERIES_TABLE", "huntaze-notification-deliveries") }
    }

    /// Has `send` done once for this message, and records how it ended. A delivery that ended before is not made again; one
    /// that is refused for good is over, too, and an error in the log.
    ///
    /// # Errors
    /// [`Undelivered`] where the message has to come again, or to the dead-letter queue.
    pub async fn once(
        &self,
        id: &str,
        step: Step,
        receive: &Receive,
        send: impl Future<Output = Result<Sent, Fault>>,
    ) -> Result<(), Undelivered> {
        let claim = match self.claim(format!("{id}#{}", step.as_str()), receive).await? {
            Claimed::Mine(claim) => claim,
            Claimed::Over => return Ok(()),
            Claimed::Exhausted => return Err(Undelivered::Exhausted),
            Claimed::Busy(after) => return Err(Undelivered::Busy { after }),
        };
        let (channel, attempt) = (step.as_str(), claim.attempt());
        // Each of the attempts before this one was cut short by the end of its process.
        if attempt > MOST_ATTEMPTS {
            tracing::error!(channel, "exhausted: no attempt came to its end");
            self.exhaust(&claim, "no attempt came to its end", receive).await;
            return Err(Undelivered::Exhausted);
        }
        match timeout(PATIENCE, send).await.unwrap_or(Err(Fault::Timeout)) {
            Ok(Sent::Told) => {
                self.settle(&claim, "sent", "", receive.now()).await;
                tracing::info!(channel, attempt, "told");
                Ok(())
            }
            // Somebody wanted this told, and nobody gets it.
            Ok(Sent::Skipped(reason)) => {
                self.settle(&claim, "skipped", reason, receive.now()).await;
                tracing::warn!(channel, reason, "skipped");
                Ok(())
            }
            Err(fault) if fault.is_final() => {
                let reason = fault.to_string();
                tracing::error!(channel, attempt, reason, "given up");
                self.settle(&claim, "failed", &reason, receive.now()).await;
                Ok(())
            }
            Err(fault) if attempt == MOST_ATTEMPTS => {
                let reason = fault.to_string();
                tracing::error!(channel, attempt, reason, "exhausted");
                self.exhaust(&claim, &reason, receive).await;
                Err(Undelivered::Exhausted)
            }
            Err(fault) => {
                let after = wait(attempt, &fault, random());
                self.release(&claim, &fault, after, receive.now()).await;
                Err(Undelivered::Failed { after, fault })
            }
        }
    }

    async fn claim(&self, id: String, receive: &Receive) -> Result<Claimed, Undelivered> {
        let now = receive.now();
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
            .condition_expression(
                "attribute_not_exists(id) OR (#state IN (:claimed, :waiting) AND heldUntil <= :now) \
                 OR (#state = :exhausted AND exhaustedBy <> :message)",
            )
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":claimed", AttributeValue::S("claimed".to_owned()))
            .expression_attribute_values(":waiting", AttributeValue::S("waiting".to_owned()))
            .expression_attribute_values(":exhausted", AttributeValue::S("exhausted".to_owned()))
            .expression_attribute_values(":message", AttributeValue::S(receive.message.clone()))
            .expression_attribute_values(":owner", AttributeValue::S(owner.clone()))
            .expression_attribute_values(":until", number(until.as_millisecond()))
            .expression_attribute_values(":now", number(now.as_millisecond()))
            .expression_attribute_values(":at", AttributeValue::S(now.to_string()))
            .expression_attribute_values(":expires", number(now.saturating_add(KEPT).unwrap_or(now).as_second()))
            .expression_attribute_values(":one", number(1))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match update.send().await {
            Ok(made) => Ok(Claimed::Mine(claim(made.attributes.as_ref(), id, owner))),
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
        self.write(claim, state, reason, now, now, "").await;
    }

    /// Gives the claim back, for an attempt that comes later.
    async fn release(&self, claim: &Claim, fault: &Fault, after: Duration, now: Timestamp) {
        let until = now.saturating_add(after).unwrap_or(now);
        self.write(claim, "waiting", &fault.to_string(), until, now, "").await;
    }

    /// Gives the claim back, for another message.
    async fn exhaust(&self, claim: &Claim, reason: &str, receive: &Receive) {
        let now = receive.now();
        self.write(claim, "exhausted", reason, now, now, &receive.message).await;
    }

    async fn write(
        &self,
        claim: &Claim,
        state: &str,
        reason: &str,
        held_until: Timestamp,
        now: Timestamp,
        exhausted_by: &str,
    ) {
        let before = if exhausted_by.is_empty() { claim.before } else { claim.attempts };
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("id", AttributeValue::S(claim.id.clone()))
            .update_expression(
                "SET #state = :state, reason = :reason, updatedAt = :at, heldUntil = :until, \
                 attemptsBefore = :before, exhaustedBy = :by REMOVE #owner",
            )
            .condition_expression("#owner = :owner")
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":state", AttributeValue::S(state.to_owned()))
            .expression_attribute_values(":reason", AttributeValue::S(reason.to_owned()))
            .expression_attribute_values(":at", AttributeValue::S(now.to_string()))
            .expression_attribute_values(":until", number(held_until.as_millisecond()))
            .expression_attribute_values(":before", number(before.into()))
            .expression_attribute_values(":by", AttributeValue::S(exhausted_by.to_owned()))
            .expression_attribute_values(":owner", AttributeValue::S(claim.owner.clone()));
        if let Err(error) = update.send().await {
            let fault = Fault::of_aws(&error, &[]);
            tracing::warn!(%fault, state, "the end of a delivery is not recorded");
        }
    }
}

/// How long a channel is left alone after an attempt: what it asks for, at least a backoff that doubles. Half of that is jitter,
/// because what fails together would otherwise come back together; the other half makes the attempts last.
fn wait(attempt: u32, fault: &Fault, random: u64) -> Duration {
    let whole = FIRST_WAIT.saturating_mul(1 << attempt.saturating_sub(1).min(10)).min(LONGEST_WAIT);
    let half = whole / 2;
    let jitter = random % u64::try_from(half.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
    let backoff = half + Duration::from_millis(jitter);
    match fault {
        Fault::Limited { after: Some(asked) } => backoff.max(*asked.min(&LONGEST_WAIT)),
        _ => backoff,
    }
}

type Item = HashMap<String, AttributeValue>;

/// What an item says that could not be claimed. It is this process's own where the first answer to its claim was lost.
fn held(item: Option<&Item>, id: String, owner: String, now: Timestamp) -> Claimed {
    let is_open = |item: &&Item| matches!(text(item, "state"), Some("claimed" | "waiting" | "exhausted"));
    let Some(item) = item.filter(is_open) else { return Claimed::Over };
    if text(item, "owner") == Some(&owner) {
        return Claimed::Mine(claim(Some(item), id, owner));
    }
    // By another message, it would have been claimed.
    if text(item, "state") == Some("exhausted") {
        return Claimed::Exhausted;
    }
    let left = integer(item, "heldUntil").unwrap_or(0) - now.as_millisecond();
    Claimed::Busy(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
}

fn claim(item: Option<&Item>, id: String, owner: String) -> Claim {
    let count = |name| item.and_then(|item| integer(item, name)).and_then(|count| u32::try_from(count).ok());
    Claim { id, owner, attempts: count("attempts").unwrap_or(1), before: count("attemptsBefore").unwrap_or(0) }
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
            ("attempts".to_owned(), number(13)),
            ("attemptsBefore".to_owned(), number(10)),
            ("heldUntil".to_owned(), number(now().as_millisecond() + lease)),
        ]);
        held(Some(&item), "a#slack".to_owned(), "mine".to_owned(), now())
    }

    #[test]
    fn what_has_ended_is_over_and_what_another_holds_is_looked_at_when_its_lease_ends() {
        for ended in ["sent", "skipped", "failed"] {
            assert!(matches!(found(ended, "", 9_000), Claimed::Over), "{ended}");
        }
        assert!(matches!(found("exhausted", "", -9_000), Claimed::Exhausted));
        for (state, lease, wait) in [("claimed", 9_000, 9), ("waiting", 7_000, 7), ("claimed", -9_000, 0)] {
            let found = found(state, "theirs", lease);
            assert!(matches!(found, Claimed::Busy(after) if after == Duration::from_secs(wait)), "{state}");
        }
    }

    #[test]
    fn a_claim_whose_answer_was_lost_is_ones_own() {
        let Claimed::Mine(claim) = found("claimed", "mine", 9_000) else { panic!("not one's own") };
        assert_eq!((claim.attempts, claim.attempt()), (13, 3));
    }

    #[test]
    fn the_attempts_for_a_message_last_half_an_hour_to_an_hour() {
        let lasting = |random| {
            let waits = (1..MOST_ATTEMPTS).map(|attempt| wait(attempt, &Fault::Timeout, random));
            assert!(waits.clone().all(|wait| wait <= LONGEST_WAIT));
            waits.sum::<Duration>().as_secs() / 60
        };
        assert_eq!(lasting(0), 30);
        assert!((31..=60).contains(&lasting(u64::MAX)));
        let longest = |attempt: u32| (0..1_000_u64).map(|n| wait(attempt, &Fault::Timeout, n * 997)).max().unwrap();
        for (attempt, bound) in [(1, 15), (2, 30), (3, 60), (7, 900), (9, 900), (40, 900)] {
            let longest = longest(attempt).as_secs();
            assert!(longest <= bound && longest * 10 >= bound * 9, "{attempt}: {longest}");
        }
    }

    #[test]
    fn a_wait_that_is_asked_for_is_kept_and_a_short_one_uses_up_no_attempts_within_seconds() {
        let limited = |asked| Fault::Limited { after: Some(Duration::from_secs(asked)) };
        assert_eq!(wait(1, &limited(600), 0).as_secs(), 600);
        assert_eq!(wait(1, &limited(86_400), 0), LONGEST_WAIT);
        assert_eq!(wait(6, &limited(1), 0).as_secs(), 240);
    }
}
