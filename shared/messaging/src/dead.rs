//! Dead letters: messages whose retries are used up, and hints that could not be handled. They come over the dead-letter queue
//! of the hints and are kept in PostgreSQL, where an administrator reads why, and has them tried anew. Those of workflows come another
//! way, and stand in the same list.

use std::sync::Arc;
use std::time::Duration;

use huntaze_domain::env::Env;
use huntaze_domain::ids::{AccountId, UserId, WorkflowId};
use huntaze_postgres::{Database, DatabaseError};
use huntaze_sqs::{Queue, QueueError, Sqs};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::outbox::{Message, Rules, Wake, millis, wake};

/// What is kept of a body, in characters.
const MAX_BODY: usize = 2_000;
const KEEP: &str = "INSERT INTO orchestrator.dead_letters (id, kind, account_id, message_id, reason, body)
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
const LIST: &str = include_str!("../sql/dead_letters.sql");
const REDRIVE: &str = "SELECT r.outcome, r.account, r.wake_ms, w.id AS workflow, w.user_id AS owner
    FROM orchestrator.redrive($1, $2, $3, $4, $5, $6) r
    LEFT JOIN orchestrator.dead_letters l ON l.id = $1 LEFT JOIN orchestrator.workflows w ON w.id = l.workflow_id";

/// A letter as it is on the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Its id: a message's is that of its last claim, so that it is one letter however often it comes.
    pub id: String,
    /// `message` or `hint`.
    pub kind: &'static str,
    /// Of which account, where that is known.
    pub account_id: Option<AccountId>,
    /// Which message.
    pub message_id: Option<String>,
    /// Why it was given up.
    pub reason: String,
    /// What was on the queue, where it cannot be read.
    pub body: Option<String>,
}

impl Letter {
    /// Reads a record of the queue; `record` is SQS's id of it. What cannot be read is a letter as well.
    #[must_use]
    pub fn read(record: &str, body: &str) -> Self {
        let object: Option<Map<String, Value>> = serde_json::from_str(body).ok();
        let text = |name: &str| object.as_ref().and_then(|object| object.get(name)?.as_str());
        let account_id = text("accountId").and_then(|id| AccountId::parse(id).ok());
        match (text("letterId"), text("messageId"), account_id) {
            (Some(id), Some(message), account_id @ Some(_)) => Self {
                id: id.to_owned(),
                kind: "message",
                account_id,
                message_id: Some(message.to_owned()),
                reason: text("reason").unwrap_or("its retries are used up").to_owned(),
                body: None,
            },
            (_, _, account_id) => Self {
                id: format!("hint:{record}"),
                kind: "hint",
                reason: if account_id.is_some() { "it could not be handled" } else { "it cannot be read" }.to_owned(),
                body: account_id.is_none().then(|| body.chars().filter(|c| *c != '\0').take(MAX_BODY).collect()),
                account_id,
                message_id: None,
            },
        }
    }
}

/// The dead-letter queue.
pub struct DeadQueue(Queue);

impl DeadQueue {
    /// Reads `SQS_RATE_LIMITER_DLQ`, a name or a URL; nothing is called.
    #[must_use]
    pub fn from_env(env: &Env, sqs: Sqs) -> Self {
        Self(Queue::from_env(env, "SQS_RATE_LIMITER_DLQ", "huntaze-rate-limiter-queue-dlq", sqs))
    }

    /// Puts a message that was given up on it. It is kept already, as this letter; here it has people told.
    ///
    /// # Errors
    /// [`QueueError`]
    pub async fn put(&self, letter: &str, message: &Message, reason: &str) -> Result<(), QueueError> {
        let body = json!({
            "letterId": letter, "messageId": message.id, "accountId": message.account_id, "reason": reason,
        });
        self.0.put(body.to_string(), Duration::ZERO, None).await
    }
}

/// What became of a letter that is to be tried anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redriven {
    /// It is, now or before; this is to be woken for it.
    Done(Option<Woken>),
    /// There is no such letter.
    Unknown,
    /// Nobody here knows what it is.
    Unread,
    /// Its message or its workflow is not given up any more: somebody else decided about it.
    TooLate,
}

/// What has something to do again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Woken {
    /// An account, at a time.
    Account(AccountId, Wake),
    /// A workflow, and whose it is.
    Workflow(WorkflowId, UserId),
}

/// The letters that are kept.
#[derive(Clone)]
pub struct DeadLetters {
    database: Arc<Database>,
}

impl DeadLetters {
    /// Those of a database.
    #[must_use]
    pub fn new(database: Arc<Database>) -> Self {
        Self { database }
    }

    /// Keeps a letter. Kept twice, it is one.
    ///
    /// # Errors
    /// [`DatabaseError`]
    pub async fn keep(&self, letter: &Letter) -> Result<(), DatabaseError> {
        let account = letter.account_id.as_ref().map(AccountId::as_str);
        let params = [
            (&letter.id as _, Type::TEXT),
            (&letter.kind as _, Type::TEXT),
            (&account as _, Type::TEXT),
            (&letter.message_id as _, Type::TEXT),
            (&letter.reason as _, Type::TEXT),
            (&letter.body as _, Type::TEXT),
        ];
        self.database.query(KEEP, &params).await.map(drop)
    }

    /// Letters, the newest first: of a status, behind a place, at most so many. Each with its place.
    ///
    /// # Errors
    /// [`DatabaseError`]
    pub async fn list(
        &self,
        status: Option<&str>,
        after: Option<&(Timestamp, String)>,
        most: i64,
    ) -> Result<Vec<(Value, Timestamp, String)>, DatabaseError> {
        let (at, id) = (after.map(|(at, _)| *at), after.map(|(_, id)| id.as_str()));
        let params = [
            (&status as _, Type::TEXT),
            (&at as _, Type::TIMESTAMPTZ),
            (&id as _, Type::TEXT),
            (&most as _, Type::INT8),
        ];
        let rows = self.database.query(LIST, &params).await?;
        Ok(rows.iter().map(|row| (row.get("letter"), row.get("received_at"), row.get("id"))).collect())
    }

    /// Has a letter tried anew, by the outbox's rules.
    ///
    /// # Errors
    /// [`DatabaseError`]
    pub async fn redrive(
        &self,
        rules: &Rules,
        id: &str,
        actor: &UserId,
        reason: Option<&str>,
        request_id: &str,
    ) -> Result<Redriven, DatabaseError> {
        let step = millis(rules.priority_step);
        let params = [
            (&id as _, Type::TEXT),
            (&actor.as_str() as _, Type::TEXT),
            (&reason as _, Type::TEXT),
            (&rules.retries as _, Type::INT2),
            (&step as _, Type::INT8),
            (&request_id as _, Type::TEXT),
        ];
        let rows = self.database.query(REDRIVE, &params).await?;
        let Some(row) = rows.first() else { return Ok(Redriven::Unknown) };
        Ok(match row.get::<_, Option<&str>>("outcome") {
            Some("done" | "same") => Redriven::Done(woken(row)),
            Some("too_late" | "foreign") => Redriven::TooLate,
            Some("unread") => Redriven::Unread,
            _ => Redriven::Unknown,
        })
    }
}

fn woken(row: &Row) -> Option<Woken> {
    let text = |name: &str| row.get::<_, Option<&str>>(name);
    let account = || Some(Woken::Account(AccountId::parse(text("account")?).ok()?, wake(row)));
    let workflow =
        || Some(Woken::Workflow(WorkflowId::parse(text("workflow")?).ok()?, UserId::parse(text("owner")?).ok()?));
    account().or_else(workflow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_read_or_kept_as_it_is() {
        let message = r#"{"letterId": "message:m#2", "messageId": "m", "accountId": "a", "reason": "no connection"}"#;
        let read = Letter::read("r1", message);
        assert_eq!((read.id.as_str(), read.kind, read.message_id.as_deref()), ("message:m#2", "message", Some("m")));
        let hint = Letter::read("r1", r#"{"accountId": "a"}"#);
        assert_eq!((hint.id.as_str(), hint.kind, hint.body), ("hint:r1", "hint", None));
        let odd = Letter::read("r1", "nonsense\0");
        assert_eq!((odd.kind, odd.account_id, odd.body.as_deref()), ("hint", None, Some("nonsense")));
    }
}
