//! The outbox in PostgreSQL: a message's row is its truth, and every step of it one statement, safe to run twice
//! (`migrations/V4__messages.sql`).

use std::sync::Arc;
use std::time::Duration;

use huntaze_compliance::Action;
use huntaze_domain::env::Env;
use huntaze_domain::ids::{AccountId, IdempotencyKey, MessageId, RecipientId, UserId, WorkflowId};
use huntaze_domain::intent::{ComplianceLevel, MessageType, Priority};
use huntaze_judge::{About, Judged, Origin};
use huntaze_postgres::{Database, DatabaseError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::ending::Ending;
use crate::message::content_hash;

const ACCEPT: &str =
    "SELECT outcome, to_jsonb(accepted) AS message, wake_ms FROM orchestrator.accept_message($1, $2, $3, $4, $5, $6)";
const CLAIM: &str =
    "SELECT outcome, to_jsonb(claimed) AS message, limits, wake_ms FROM orchestrator.claim_message($1, $2, $3)";
const BEGIN: &str = "SELECT orchestrator.begin_sending($1, $2, $3, $4, $5, $6, $7) AS outcome";
const RELEASE: &str = "SELECT orchestrator.release_message($1, $2, $3, $4, $5) AS wake_ms";
const SETTLE: &str =
    "SELECT settled, status, letter, noted, wake_ms FROM orchestrator.settle_message($1, $2, $3, $4, $5, $6, $7)";
const CLAIM_LOOK: &str = "SELECT to_jsonb(wanted) AS message, began_at, known FROM orchestrator.claim_look($1, $2)";
const SETTLE_LOOK: &str =
    "SELECT status, undecided, wake_ms FROM orchestrator.settle_look($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const DECIDE: &str = "SELECT outcome, to_jsonb(decided) AS message, wake_ms
    FROM orchestrator.decide_message($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
const OVERDUE: &str = "SELECT wake_overdue AS account FROM orchestrator.wake_overdue($1)";
const PROJECTION: &str = "SELECT orchestrator.message_projection($1) AS truth";
const PROJECTED: &str = "UPDATE orchestrator.messages SET projected = $2 WHERE id = $1 AND projected < $2";
const UNPROJECTED: &str = "SELECT id FROM orchestrator.messages
    WHERE projected < version AND changed_at < $1 ORDER BY changed_at LIMIT $2";
const PAUSE: &str = "SELECT orchestrator.pause_sending($1, $2, $3) AS wake_ms";
const NOTICES: &str = include_str!("../sql/notices.sql");
const TOLD: &str = "DELETE FROM orchestrator.message_notices WHERE id = $1";
const ONE: &str = "SELECT to_jsonb(m) AS message FROM orchestrator.messages m WHERE id = $1";

/// The states of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageStatus {
    /// A person has to approve it.
    AwaitingApproval,
    /// It waits for its turn.
    Queued,
    /// A worker has it; nothing was sent.
    Claimed,
    /// Its bytes may be on their way.
    Sending,
    /// It reached the fan.
    Sent,
    /// It did not, and will not.
    Failed,
    /// Nobody knows whether it did.
    Unknown,
    /// Its owner took it back.
    Cancelled,
    /// A person refused it.
    Rejected,
}

impl MessageStatus {
    /// The name in the stores and on the wire, where the two that a client cannot tell apart are one.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AwaitingApproval => "awaiting_approval",
            Self::Queued | Self::Claimed => "queued",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
        }
    }

    /// Whether nothing was sent of it yet, and something may be.
    #[must_use]
    pub fn waits(self) -> bool {
        matches!(self, Self::AwaitingApproval | Self::Queued | Self::Claimed)
    }
}

/// A message as its row has it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// Which account sends it.
    pub account_id: AccountId,
    /// Whose account that is.
    pub user_id: UserId,
    /// The fan.
    pub recipient_id: RecipientId,
    /// The text.
    pub content: String,
    /// The kind of message.
    pub message_type: MessageType,
    /// How urgent it is.
    pub priority: Priority,
    /// How strictly it is judged: the stricter of what was asked for and the account's floor.
    pub compliance_level: ComplianceLevel,
    /// What was said of the text ([`Judged::to_json`]); nothing of one that was taken on before texts were judged.
    #[serde(default)]
    pub judged: Option<Value>,
    /// The client's own.
    pub metadata: Option<Map<String, Value>>,
    /// Of the workflow whose text it is.
    pub workflow_id: Option<WorkflowId>,
    /// Where it stands.
    pub status: MessageStatus,
    /// Raised by each claim.
    pub fence: i64,
    /// Calls of the platform that were begun.
    pub attempts: i16,
    /// How many of them may still be followed by another.
    pub retries_left: i16,
    /// The session was read again for it.
    pub session_refreshed: bool,
    /// How often the limiter denied it.
    pub throttled: i32,
    /// Why it was not sent, or not yet.
    pub failure: Option<String>,
    /// Its retries are used up.
    pub dead_lettered: bool,
    /// The platform's id.
    pub platform_id: Option<String>,
    /// Looks at the conversation that did not find it.
    pub looks: i16,
    /// Looks that could not see the conversation.
    pub blind_looks: i16,
    /// When the next look is due; without one an unknown end is a person's to decide.
    pub look_at: Option<Timestamp>,
    /// Not to be sent before.
    pub not_before: Timestamp,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it reached its end.
    pub settled_at: Option<Timestamp>,
}

/// Whether a person has to approve a text before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HumanApproval {
    /// What a machine wrote, at the `strict` level.
    #[default]
    Strict,
    /// Every text.
    Always,
    /// No text.
    Never,
}

impl HumanApproval {
    /// The name in the configuration and for the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Always => "always",
            Self::Never => "never",
        }
    }

    /// Reads `HUMAN_APPROVAL`.
    pub fn from_env(env: &Env) -> Self {
        match env.or("HUMAN_APPROVAL", "strict").as_str() {
            "strict" => Self::Strict,
            "always" => Self::Always,
            "never" => Self::Never,
            _ => {
                env.fault("HUMAN_APPROVAL", "must be `strict`, `always` or `never`");
                Self::Strict
            }
        }
    }
}

/// What the configuration says about the outbox.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Whether a person has to approve.
    pub approval: HumanApproval,
    /// So much of waiting is worth one step of priority.
    pub priority_step: Duration,
    /// For so long the same account, fan and text without a key are one message.
    pub alike: Duration,
    /// How many messages of an account may wait.
    pub most_waiting: i64,
    /// How often a message that was definitely not delivered is tried again.
    pub retries: i16,
    /// Ends in a row at which the platform was not well that stop an account, and for how long.
    pub breaker: (i64, Duration),
    /// Refusals in a row that pause an account.
    pub most_refusals: i64,
    /// Looks at the conversation that find nothing, or cannot see it, before a person decides.
    pub most_looks: (i64, i64),
    /// Between two looks.
    pub look_every: Duration,
}

impl Rules {
    /// Reads the outbox's variables; each has a default.
    #[must_use]
    pub fn from_env(env: &Env) -> Self {
        let count = |name: &str, default: i64, range: std::ops::RangeInclusive<i64>| {
            let value = env.parsed(name, default);
            if !range.contains(&value) {
                env.fault(name, format!("must be {} to {}", range.start(), range.end()));
            }
            value
        };
        let seconds = |name: &str, default: u64| Duration::from_secs(env.parsed(name, default).min(7 * 86_400));
        Self {
            approval: HumanApproval::from_env(env),
            priority_step: seconds("MESSAGE_PRIORITY_STEP_SECONDS", 14_400),
            alike: seconds("MESSAGE_DUPLICATE_SECONDS", 600),
            most_waiting: count("MESSAGE_QUEUE_LIMIT", 1_000, 1..=100_000),
            retries: i16::try_from(count("MESSAGE_RETRIES", 3, 0..=20)).unwrap_or(3),
            breaker: (count("ONLYFANS_BREAKER_FAILURES", 5, 1..=1_000), env.millis("ONLYFANS_BREAKER_OPEN_MS", 30_000)),
            most_refusals: count("ONLYFANS_MOST_REFUSALS", 3, 1..=1_000),
            most_looks: (3, 30),
            look_every: env.millis("MESSAGE_LOOK_EVERY_MS", 60_000),
        }
    }
}

/// A message that is to be taken on.
pub struct NewMessage<'a> {
    /// Its id, made by the caller.
    pub id: &'a MessageId,
    /// Which account sends; `None`: the user's only one.
    pub account_id: Option<&'a AccountId>,
    /// Whose it is.
    pub user_id: &'a UserId,
    /// Who asked: the same, or an administrator.
    pub requested_by: &'a UserId,
    /// The workflow that wrote it; a person's text has none.
    pub workflow_id: Option<&'a WorkflowId>,
    /// The client's name for the request.
    pub idempotency_key: Option<&'a IdempotencyKey>,
    /// Which body it was.
    pub body_hash: [u8; 32],
    /// The fan.
    pub recipient_id: &'a RecipientId,
    /// The text.
    pub content: &'a str,
    /// What was said of it: what is blocked is not taken on, and what a person has to look at waits for that.
    pub judged: &'a Judged,
    /// A person has looked at it.
    pub approved: bool,
    /// The kind of message.
    pub message_type: MessageType,
    /// How urgent it is.
    pub priority: Priority,
    /// How strictly it is judged at least.
    pub compliance_level: ComplianceLevel,
    /// Not to be sent before.
    pub not_before: Timestamp,
    /// The client's own.
    pub metadata: Option<&'a Map<String, Value>>,
    /// The request's id.
    pub request_id: &'a str,
    /// The request's trace.
    pub trace_id: &'a str,
}

impl NewMessage<'_> {
    /// The row as the database takes it on. `retries`: how many attempts may follow the first.
    #[must_use]
    pub fn row(&self, retries: i16) -> Value {
        let Self { judged, approved, .. } = *self;
        let verdict = if approved && judged.verdict == Action::Review { Action::Allow } else { judged.verdict };
        // What a machine wrote is in the log since it ended.
        let about = About {
            origin: Origin::Direct,
            user: self.user_id,
            actor: self.requested_by,
            workflow: None,
            step: None,
            message: Some(self.id),
            request_id: self.request_id,
        };
        let judgement = self.workflow_id.is_none().then(|| judged.row(&about));
        json!({
            "id": self.id, "account_id": self.account_id, "user_id": self.user_id, "requested_by": self.requested_by,
            "workflow_id": self.workflow_id, "idempotency_key": self.idempotency_key, "request_hash": bytea(&self.body_hash),
            "content_hash": bytea(&content_hash(self.recipient_id, self.content)), "recipient_id": self.recipient_id,
            "content": self.content, "message_type": self.message_type, "priority": self.priority,
            "compliance_level": self.compliance_level, "not_before": self.not_before, "metadata": self.metadata,
            "retries_left": retries, "request_id": self.request_id, "trace_id": self.trace_id, "verdict": verdict,
            "judged_level": (!approved).then_some(judged.level), "judged": judged.to_json(), "judgement": judgement,
        })
    }
}

/// Bytes as PostgreSQL reads them from JSON.
fn bytea(bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\\x{hex}")
}

/// When a hint has to be on the queue for an account; `None`: one is, or none is needed.
pub type Wake = Option<Duration>;

/// What became of a message that was to be taken on.
#[derive(Debug, Clone, PartialEq)]
pub enum Accepted {
    /// It is kept.
    New(Box<Message>, Wake),
    /// It had been before.
    Duplicate(Box<Message>),
    /// Its key belongs to another request.
    Mismatch,
    /// There is no such account, or the user has none.
    NoAccount,
    /// The user has several.
    WhichAccount,
    /// The account is another user's.
    Foreign,
    /// So many wait already.
    Full,
    /// Its text may not be sent.
    Blocked,
}

/// What a worker got.
#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// A message, and the limits of its account in place of the configuration's.
    Message(Box<Message>, Map<String, Value>),
    /// Nothing is due now.
    Nothing(Wake),
    /// Another worker has one of this account's in hand, and goes on.
    Busy,
}

/// Whether a call of the platform may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It is written down.
    Sending,
    /// The message is somebody else's by now, or was taken back.
    Fenced,
    /// Its account was paused.
    Paused,
    /// The limiter has lost its memory since it granted.
    Forgotten,
}

/// What a settled attempt leaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// Whether this settled it; otherwise somebody else had.
    pub settled: bool,
    /// Where the message stands.
    pub status: MessageStatus,
    /// Its retries are used up; this is its dead letter.
    pub letter: Option<String>,
    /// Somebody has to be told.
    pub noted: bool,
    /// When to look at the account again.
    pub wake: Wake,
}

/// A message whose end is not known, to be looked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// The message.
    pub message: Message,
    /// When its last attempt was written down.
    pub began_at: Timestamp,
    /// The platform's ids of other messages to the same fan.
    pub known: Vec<String>,
}

/// What a person decides about a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// It may be sent.
    Approve(Box<Approval>),
    /// It is not sent.
    Reject,
    /// It is taken back.
    Cancel,
    /// Nobody knows its end; it is sent again all the same.
    Resend,
    /// It was given up; it is tried anew.
    Redrive,
}

/// What is approved.
#[derive(Debug, Clone, PartialEq)]
pub struct Approval {
    /// The message as it was when its words were judged.
    pub message: Message,
    /// Its words, where they are others.
    pub edit: Option<String>,
    /// What is said of them now; nothing where it waits for nobody any more.
    pub judged: Option<Judged>,
}

impl Approval {
    /// Alike are messages to the same fan.
    fn content_hash(&self) -> Option<Vec<u8>> {
        self.edit.as_ref().map(|text| content_hash(&self.message.recipient_id, text).to_vec())
    }

    fn judgement(&self, by: &By<'_>) -> Option<Value> {
        self.judged.as_ref().map(|judged| judged.row(&by.approves(&self.message, self.edit.is_some())))
    }
}

impl Decision {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Approve(_) => "approve",
            Self::Reject => "reject",
            Self::Cancel => "cancel",
            Self::Resend => "resend",
            Self::Redrive => "redrive",
        }
    }
}

/// What became of a decision.
#[derive(Debug, Clone, PartialEq)]
pub enum Decided {
    /// It was taken, now or before.
    Done(Box<Message>, Wake),
    /// There is no such message.
    Unknown,
    /// It is another user's.
    Foreign,
    /// The message is beyond it.
    TooLate(Box<Message>),
}

/// Why the store did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// PostgreSQL.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A row that the schema should not allow.
    #[error("a row of a message cannot be read")]
    Row,
}

/// The outbox.
#[derive(Clone)]
pub struct Outbox {
    database: Arc<Database>,
    /// What the configuration says.
    pub rules: Arc<Rules>,
}

impl Outbox {
    /// An outbox in a database.
    #[must_use]
    pub fn new(database: Arc<Database>, rules: Rules) -> Self {
        Self { database, rules: Arc::new(rules) }
    }

    /// Takes a message on.
    ///
    /// # Errors
    /// [`OutboxError`]; whether it is kept is then not known, and asking again with the same id is safe.
    pub async fn accept(&self, message: &NewMessage<'_>) -> Result<Accepted, OutboxError> {
        let rules = &self.rules;
        let (row, generated) = (message.row(rules.retries), message.workflow_id.is_some());
        let (step, alike) = (millis(rules.priority_step), millis(rules.alike));
        let params = [
            (&row as _, Type::JSONB),
            (&rules.approval.as_str() as _, Type::TEXT),
            (&generated as _, Type::BOOL),
            (&step as _, Type::INT8),
            (&alike as _, Type::INT8),
            (&rules.most_waiting as _, Type::INT8),
        ];
        let rows = self.database.query(ACCEPT, &params).await?;
        let row = rows.first().ok_or(OutboxError::Row)?;
        Ok(match row.get("outcome") {
            "accepted" => Accepted::New(Box::new(message_of(row)?), wake(row)),
            "duplicate" => Accepted::Duplicate(Box::new(message_of(row)?)),
            "mismatch" => Accepted::Mismatch,
            "no_account" => Accepted::NoAccount,
            "which_account" => Accepted::WhichAccount,
            "foreign" => Accepted::Foreign,
            "full" => Accepted::Full,
            "blocked" => Accepted::Blocked,
            _ => return Err(OutboxError::Row),
        })
    }

    /// Takes an account's first message that is due. `claimant` is unlike any other's.
    ///
    /// # Errors
    /// [`OutboxError`]; what was claimed comes free with its lease.
    pub async fn claim(&self, account: &AccountId, claimant: &str, lease: Duration) -> Result<Claim, OutboxError> {
        let lease = millis(lease);
        let params = [(&account.as_str() as _, Type::TEXT), (&claimant as _, Type::TEXT), (&lease as _, Type::INT8)];
        let rows = self.database.query(CLAIM, &params).await?;
        let row = rows.first().ok_or(OutboxError::Row)?;
        Ok(match row.get("outcome") {
            "claimed" => {
                let limits: Option<Value> = row.get("limits");
                let limits = limits.and_then(|limits| limits.as_object().cloned()).unwrap_or_default();
                Claim::Message(Box::new(message_of(row)?), limits)
            }
            "busy" => Claim::Busy,
            _ => Claim::Nothing(wake(row)),
        })
    }

    /// Writes an attempt down, the last step before its bytes leave. `hold`: how long it may take to reach the fan; `generations`:
    /// of the limiter's logs that granted it; `denied`: the layers that would not have, while the limiter only watches.
    ///
    /// # Errors
    /// [`OutboxError`]; then nothing may be sent, and the lease decides.
    pub async fn begin(
        &self,
        message: &Message,
        generations: &Value,
        hold: Duration,
        lease: Duration,
        denied: &[String],
    ) -> Result<Begun, OutboxError> {
        let (attempt, hold, lease) = (message.attempts + 1, millis(hold), millis(lease));
        let params = [
            (&message.id.as_str() as _, Type::TEXT),
            (&message.fence as _, Type::INT8),
            (&attempt as _, Type::INT2),
            (generations as _, Type::JSONB),
            (&hold as _, Type::INT8),
            (&lease as _, Type::INT8),
            (&denied as _, Type::TEXT_ARRAY),
        ];
        let rows = self.database.query(BEGIN, &params).await?;
        match rows.first().ok_or(OutboxError::Row)?.get("outcome") {
            "sending" => Ok(Begun::Sending),
            "fenced" => Ok(Begun::Fenced),
            "paused" => Ok(Begun::Paused),
            "forgotten" => Ok(Begun::Forgotten),
            _ => Err(OutboxError::Row),
        }
    }

    /// Gives a claimed message back: nothing was sent.
    ///
    /// # Errors
    /// [`OutboxError`]; then it comes free with its lease.
    pub async fn release(&self, message: &Message, wait: &Wait) -> Result<Wake, OutboxError> {
        let (own, all) = (wait.message.map(millis), wait.account.map(millis));
        let params = [
            (&message.id.as_str() as _, Type::TEXT),
            (&message.fence as _, Type::INT8),
            (&own as _, Type::INT8),
            (&all as _, Type::INT8),
            (&wait.denied as _, Type::TEXT_ARRAY),
        ];
        let rows = self.database.query(RELEASE, &params).await?;
        Ok(wake(rows.first().ok_or(OutboxError::Row)?))
    }

    /// Ends the attempt that was begun as the message's next.
    ///
    /// # Errors
    /// [`OutboxError`]; then the message ends `unknown` with its lease, and is looked for.
    pub async fn settle(&self, message: &Message, ending: &Ending) -> Result<Settled, OutboxError> {
        let rules = &self.rules;
        let (attempt, ending, open) = (message.attempts + 1, ending.to_json(), millis(rules.breaker.1));
        let params = [
            (&message.id.as_str() as _, Type::TEXT),
            (&message.fence as _, Type::INT8),
            (&attempt as _, Type::INT2),
            (&ending as _, Type::JSONB),
            (&rules.breaker.0 as _, Type::INT8),
            (&open as _, Type::INT8),
            (&rules.most_refusals as _, Type::INT8),
        ];
        let rows = self.database.query(SETTLE, &params).await?;
        let row = rows.first().ok_or(OutboxError::Row)?;
        Ok(Settled {
            settled: row.get::<_, Option<bool>>("settled").unwrap_or_default(),
            status: status(row)?,
            letter: row.get("letter"),
            noted: row.get("noted"),
            wake: wake(row),
        })
    }

    /// Takes a message of an account whose end is to be looked for; no other worker gets it within the lease.
    ///
    /// # Errors
    /// [`OutboxError`]
    pub async fn claim_look(&self, account: &AccountId, lease: Duration) -> Result<Option<Look>, OutboxError> {
        let lease = millis(lease);
        let params = [(&account.as_str() as _, Type::TEXT), (&lease as _, Type::INT8)];
        let rows = self.database.query(CLAIM_LOOK, &params).await?;
        let row = rows.first().ok_or(OutboxError::Row)?;
        let Some(began_at) = row.get("began_at") else { return Ok(None) };
        Ok(Some(Look { message: message_of(row)?, began_at, known: row.get("known") }))
    }

    /// Keeps what a look found: the platform's id, nothing, or that it could not see (`Err`). `pace`: the platform wants to be asked
    /// again no sooner.
    ///
    /// # Errors
    /// [`OutboxError`]; then the look is made again.
    pub async fn settle_look(
        &self,
        message: &Message,
        seen: Result<Option<&str>, ()>,
        pace: Option<Duration>,
    ) -> Result<LookEnd, OutboxError> {
        let (rules, blind, seen) = (&self.rules, seen.is_err(), seen.ok().flatten());
        let every = millis(pace.map_or(rules.look_every, |pace| pace.max(rules.look_every)));
        let params = [
            (&message.id.as_str() as _, Type::TEXT),
            (&message.fence as _, Type::INT8),
            (&message.looks as _, Type::INT2),
            (&message.blind_looks as _, Type::INT2),
            (&seen as _, Type::TEXT),
            (&blind as _, Type::BOOL),
            (&every as _, Type::INT8),
            (&rules.most_looks.0 as _, Type::INT8),
            (&rules.most_looks.1 as _, Type::INT8),
        ];
        let rows = self.database.query(SETTLE_LOOK, &params).await?;
        let row = rows.first().ok_or(OutboxError::Row)?;
        Ok(LookEnd { status: status(row)?, undecided: row.get("undecided"), wake: wake(row) })
    }

    /// Carries out a person's decision; `owner`: whose message it has to be, `None` for an administrator.
    ///
    /// # Errors
    /// [`OutboxError`]
    pub async fn decide(&self, id: &MessageId, decision: &Decision, by: &By<'_>) -> Result<Decided, OutboxError> {
        let approval = match decision {
            Decision::Approve(approval) => Some(&**approval),
            Decision::Reject | Decision::Cancel | Decision::Resend | Decision::Redrive => None,
        };
        let edit = approval.and_then(|approval| approval.edit.as_deref());
        let hash = approval.and_then(Approval::content_hash);
        let judged = approval.and_then(|approval| approval.judged.as_ref()).map(Judged::to_json);
        let judgement = approval.and_then(|approval| approval.judgement(by));
        let (owner, step) = (by.owner.map(UserId::as_str), millis(self.rules.priority_step));
        let params = [
            (&id.as_str() as _, Type::TEXT),
            (&decision.as_str() as _, Type::TEXT),
            (&owner as _, Type::TEXT),
            (&by.actor.as_str() as _, Type::TEXT),
            (&edit as _, Type::TEXT),
            (&hash as _, Type::BYTEA),
            (&by.reason as _, Type::TEXT),
            (&self.rules.retries as _, Type::INT2),
            (&step as _, Type::INT8),
            (&by.request_id as _, Type::TEXT),
            (&judged as _, Type::JSONB),
            (&judgement as _, Type::JSONB),
        ];
        let rows = self.database.query(DECIDE, &params).await?;
        let row = rows.first().ok_or(OutboxError::Row)?;
        Ok(match row.get("outcome") {
            "done" | "same" => Decided::Done(Box::new(message_of(row)?), wake(row)),
            "unknown" => Decided::Unknown,
            "foreign" => Decided::Foreign,
            "too_late" => Decided::TooLate(Box::new(message_of(row)?)),
            _ => return Err(OutboxError::Row),
        })
    }

    /// Gives a claimed message back and pauses its account: nothing of it is sent until somebody lets it go on.
    ///
    /// # Errors
    /// [`OutboxError`]; then the message comes free with its lease.
    pub async fn pause(&self, message: &Message, reason: &str) -> Result<Wake, OutboxError> {
        let params =
            [(&message.id.as_str() as _, Type::TEXT), (&message.fence as _, Type::INT8), (&reason as _, Type::TEXT)];
        let rows = self.database.query(PAUSE, &params).await?;
        Ok(wake(rows.first().ok_or(OutboxError::Row)?))
    }

    /// What somebody has to be told and was not: of a message, or of all since before a moment, at most so many, the oldest first.
    ///
    /// # Errors
    /// [`OutboxError`]
    pub async fn notices(
        &self,
        of: Option<&MessageId>,
        before: Option<Timestamp>,
        most: i64,
    ) -> Result<Vec<Notice>, OutboxError> {
        let of = of.map(MessageId::as_str);
        let params = [(&of as _, Type::TEXT), (&before as _, Type::TIMESTAMPTZ), (&most as _, Type::INT8)];
        let rows = self.database.query(NOTICES, &params).await?;
        let notice = |row: &Row| serde_json::from_value(row.get("notice")).map_err(|_| OutboxError::Row);
        rows.iter().map(notice).collect()
    }

    /// Forgets a notice that was told.
    ///
    /// # Errors
    /// [`OutboxError`]; then it is told again, as the same.
    pub async fn told(&self, notice: &Notice) -> Result<(), OutboxError> {
        self.database.query(TOLD, &[(&notice.id.as_str() as _, Type::TEXT)]).await?;
        Ok(())
    }

    /// What is to be shown of a message, its conversation and its account's day.
    pub(crate) async fn projection(&self, id: &MessageId) -> Result<Option<Value>, OutboxError> {
        let rows = self.database.query(PROJECTION, &[(&id.as_str() as _, Type::TEXT)]).await?;
        Ok(rows.first().ok_or(OutboxError::Row)?.get("truth"))
    }

    /// Notes that a version of a message is shown.
    pub(crate) async fn projected(&self, id: &MessageId, version: i64) -> Result<(), OutboxError> {
        let params = [(&id.as_str() as _, Type::TEXT), (&version as _, Type::INT8)];
        self.database.query(PROJECTED, &params).await?;
        Ok(())
    }

    /// Messages, at most so many, that changed before a moment and are not shown as they are.
    ///
    /// # Errors
    /// [`OutboxError`]
    pub async fn unprojected(&self, before: Timestamp, most: i64) -> Result<Vec<MessageId>, OutboxError> {
        let params = [(&before as _, Type::TIMESTAMPTZ), (&most as _, Type::INT8)];
        let rows = self.database.query(UNPROJECTED, &params).await?;
        rows.iter().map(|row| MessageId::parse(row.get("id")).map_err(|_| OutboxError::Row)).collect()
    }

    /// The accounts, at most so many, that something is due of and that no hint is under way for.
    ///
    /// # Errors
    /// [`OutboxError`]
    pub async fn overdue(&self, most: i64) -> Result<Vec<AccountId>, OutboxError> {
        let rows = self.database.query(OVERDUE, &[(&most as _, Type::INT8)]).await?;
        rows.iter().map(|row| AccountId::parse(row.get("account")).map_err(|_| OutboxError::Row)).collect()
    }

    /// A message.
    ///
    /// # Errors
    /// [`OutboxError`]
    pub async fn find(&self, id: &MessageId) -> Result<Option<Message>, OutboxError> {
        let rows = self.database.query(ONE, &[(&id.as_str() as _, Type::TEXT)]).await?;
        rows.first().map(message_of).transpose()
    }
}

/// Something that somebody has to be told.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Notice {
    /// The notification's id: however often it is told, it is told once.
    pub id: String,
    /// What happened.
    pub kind: NoticeKind,
    /// To the account of which message.
    pub account_id: AccountId,
    /// Whose it is.
    pub user_id: UserId,
    /// To which message.
    pub message_id: MessageId,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub noted_at: Timestamp,
}

/// What people are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// An account was paused.
    AccountPaused,
    /// A message was given up.
    MessageGivenUp,
    /// Nobody knows whether a message reached its fan.
    MessageUnknown,
}

/// Who decides about a message.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// Whose message it has to be; `None`: anybody's.
    pub owner: Option<&'a UserId>,
    /// Who decides.
    pub actor: &'a UserId,
    /// Why.
    pub reason: Option<&'a str>,
    /// The request's id.
    pub request_id: &'a str,
}

impl<'a> By<'a> {
    /// That this one approves a message, in other words perhaps.
    #[must_use]
    pub fn approves(&self, message: &'a Message, is_edited: bool) -> About<'a> {
        About {
            origin: if is_edited { Origin::Edited } else { Origin::Approved },
            user: &message.user_id,
            actor: self.actor,
            workflow: message.workflow_id.as_ref(),
            step: None,
            message: Some(&message.id),
            request_id: self.request_id,
        }
    }
}

/// How long a message that is given back waits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wait {
    /// The message.
    pub message: Option<Duration>,
    /// All of its account.
    pub account: Option<Duration>,
    /// The layers of the limiter that denied it.
    pub denied: Vec<String>,
}

/// What a look leaves.
#[derive(Debug, Clone, PartialEq)]
pub struct LookEnd {
    /// Where the message stands.
    pub status: MessageStatus,
    /// It is a person's to decide from now on.
    pub undecided: bool,
    /// When to look at the account again.
    pub wake: Wake,
}

fn message_of(row: &Row) -> Result<Message, OutboxError> {
    let message: Value = row.get("message");
    serde_json::from_value(message).map_err(|_| OutboxError::Row)
}

fn status(row: &Row) -> Result<MessageStatus, OutboxError> {
    let name: Option<String> = row.get("status");
    serde_json::from_value(json!(name)).map_err(|_| OutboxError::Row)
}

pub(crate) fn wake(row: &Row) -> Wake {
    let millis: Option<i64> = row.get("wake_ms");
    millis.and_then(|millis| u64::try_from(millis).ok()).map(Duration::from_millis)
}

/// The whole milliseconds of a duration, for PostgreSQL.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
