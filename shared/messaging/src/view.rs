//! Messages as their owner sees them.

use huntaze_domain::ids::{AccountId, MessageId, UserId};
use huntaze_postgres::Database;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_postgres::types::Type;

use crate::outbox::{Message, MessageStatus, OutboxError};

const ONE: &str = include_str!("../sql/message.sql");
const LIST: &str = include_str!("../sql/messages.sql");

/// The states that a client sees, each with those of the store.
const STATES: [(&str, &[&str]); 8] = [
    ("awaiting_approval", &["awaiting_approval"]),
    ("queued", &["queued", "claimed"]),
    ("sending", &["sending"]),
    ("sent", &["sent"]),
    ("failed", &["failed"]),
    ("unknown", &["unknown"]),
    ("cancelled", &["cancelled"]),
    ("rejected", &["rejected"]),
];

/// A state that a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State(&'static [&'static str]);

impl State {
    /// The names on the wire.
    pub fn names() -> impl Iterator<Item = &'static str> {
        STATES.iter().map(|(name, _)| *name)
    }

    /// Reads a name on the wire.
    #[must_use]
    pub fn from_name(text: &str) -> Option<Self> {
        STATES.iter().find(|(name, _)| *name == text).map(|(_, stored)| Self(stored))
    }
}

/// Which messages are listed.
#[derive(Debug, Clone, PartialEq)]
pub struct ListQuery {
    /// Whose.
    pub user: UserId,
    /// Of which account.
    pub account: Option<AccountId>,
    /// In which state.
    pub state: Option<State>,
    /// Behind which place.
    pub after: Option<(Timestamp, String)>,
    /// How many at the most.
    pub limit: u8,
}

/// One call of the platform.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Attempt {
    attempt: i16,
    outcome: String,
    reason: Option<String>,
    http_status: Option<i16>,
    began_at: Timestamp,
    ended_at: Option<Timestamp>,
}

/// One decision of a person.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Decided {
    action: String,
    actor: String,
    reason: Option<String>,
    at: Timestamp,
}

/// A message with what was done about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Whole {
    /// The message.
    pub message: Message,
    attempts: Vec<Attempt>,
    decisions: Vec<Decided>,
}

impl Whole {
    /// As the API shows it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut shown = shown(&self.message);
        let attempts = self.attempts.iter().map(|attempt| {
            json!({
                "attempt": attempt.attempt,
                "beganAt": attempt.began_at,
                "endedAt": attempt.ended_at,
                "outcome": attempt.outcome,
                "reason": attempt.reason,
                "httpStatus": attempt.http_status,
            })
        });
        let decisions = self.decisions.iter().map(|decision| {
            let action = decision.action.strip_prefix("message.").unwrap_or(&decision.action);
            json!({"decision": action, "by": decision.actor, "at": decision.at, "reason": decision.reason})
        });
        shown["history"] = attempts.collect();
        shown["decisions"] = decisions.collect();
        shown
    }
}

/// A message as the API shows it. What is not known is absent.
#[must_use]
pub fn shown(message: &Message) -> Value {
    let sent = message.status == MessageStatus::Sent;
    let undecided = message.status == MessageStatus::Unknown && message.look_at.is_none();
    let mut shown = json!({
        "messageId": message.id,
        "accountId": message.account_id,
        "userId": message.user_id,
        "recipientId": message.recipient_id,
        "content": message.content,
        "status": message.status.as_str(),
        "messageType": message.message_type,
        "priority": message.priority,
        "complianceLevel": message.compliance_level,
        "attempts": message.attempts,
        "throttled": message.throttled,
        "notBefore": message.not_before,
        "createdAt": message.created_at,
        "needsApproval": message.status == MessageStatus::AwaitingApproval,
        "needsDecision": undecided,
        "givenUp": message.dead_lettered,
    });
    let known = [
        ("failure", message.failure.as_ref().map(|failure| json!(failure))),
        ("sentAt", message.settled_at.filter(|_| sent).map(|at| json!(at))),
        ("settledAt", message.settled_at.map(|at| json!(at))),
        ("platformMessageId", message.platform_id.as_ref().map(|id| json!(id))),
        ("workflowId", message.workflow_id.as_ref().map(|id| json!(id))),
        ("metadata", message.metadata.as_ref().map(|metadata| json!(metadata))),
        ("compliance", message.judged.clone()),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            shown[name] = value;
        }
    }
    shown
}

/// A message with its attempts and decisions.
///
/// # Errors
/// [`OutboxError`]
pub async fn one(database: &Database, id: &MessageId) -> Result<Option<Whole>, OutboxError> {
    let rows = database.query(ONE, &[(&id.as_str() as _, Type::TEXT)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let whole = || {
        Some(Whole {
            message: Message::deserialize(row.get::<_, Value>("message")).ok()?,
            attempts: Vec::deserialize(row.get::<_, Value>("attempts")).ok()?,
            decisions: Vec::deserialize(row.get::<_, Value>("decisions")).ok()?,
        })
    };
    whole().map(Some).ok_or(OutboxError::Row)
}

/// A page of a user's messages, the newest first, and whether there are more.
///
/// # Errors
/// [`OutboxError`]
pub async fn list(database: &Database, query: &ListQuery) -> Result<(Vec<Message>, bool), OutboxError> {
    let account = query.account.as_ref().map(AccountId::as_str);
    let states = query.state.map(|State(stored)| stored);
    let (at, id) = (query.after.as_ref().map(|(at, _)| *at), query.after.as_ref().map(|(_, id)| id.as_str()));
    // One more than is shown tells whether there is a next page.
    let most = i64::from(query.limit) + 1;
    let params = [
        (&query.user.as_str() as _, Type::TEXT),
        (&account as _, Type::TEXT),
        (&states as _, Type::TEXT_ARRAY),
        (&at as _, Type::TIMESTAMPTZ),
        (&id as _, Type::TEXT),
        (&most as _, Type::INT8),
    ];
    let rows = database.query(LIST, &params).await?;
    let read = rows.iter().map(|row| Message::deserialize(row.get::<_, Value>("message")));
    let mut messages: Vec<_> = read.collect::<Result<_, _>>().map_err(|_| OutboxError::Row)?;
    let more = messages.len() > usize::from(query.limit);
    messages.truncate(query.limit.into());
    Ok((messages, more))
}
