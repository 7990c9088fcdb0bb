//! Dead letters of AI work: workflows that were given up, hints of workflows that came back from the end of their queue, and what is on
//! the dead-letter queues that nobody here can read.
//!
//! A workflow that is given up has its letter in PostgreSQL by the statement that ends it. What goes over the queue only has people
//! told, so it may be lost or come twice: [`put_untold`] puts it again for as long as nobody was told.

use std::sync::Arc;
use std::time::Duration;

use huntaze_domain::env::Env;
use huntaze_domain::ids::{MAX_ID_BYTES, UserId, WorkflowId};
use huntaze_domain::json::parse_object;
use huntaze_domain::notification::{Audience, Channel, Fact, MAX_FACT_VALUE, Notification, Severity};
use huntaze_postgres::{Database, DatabaseError};
use huntaze_sqs::{Notifications, Queue, QueueError, Sqs};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio_postgres::types::Type;

use crate::hint::{self, Workflows};

/// A workflow's hint that came back is put on the queue again by itself so often.
const MOST_RETURNS: i16 = 3;
/// What is kept of a body, in characters.
const MAX_BODY: usize = 2_000;
/// What is kept of a reason, in characters.
const MAX_REASON: usize = 300;
/// Who had a hint tried anew, where it was no person.
const ITSELF: &str = "ai-processing-dlq";

const RETURN: &str = "SELECT verdict, letter, owner, told FROM orchestrator.return_hint($1, $2, $3, $4)";
/// Whatever stands in a letter that is kept already stays.
const KEEP: &str = "WITH kept AS (
        INSERT INTO orchestrator.dead_letters (id, kind, workflow_id, reason, body) VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT DO NOTHING)
    SELECT EXISTS (SELECT FROM orchestrator.dead_letters WHERE id = $1 AND told_at IS NOT NULL) AS told";
const TOLD: &str = "UPDATE orchestrator.dead_letters SET told_at = now() WHERE id = $1";
const UNTOLD: &str = include_str!("../sql/untold.sql");

/// A letter as it is on a queue. Pure; what becomes of a hint is decided by how its workflow stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Letter {
    /// A workflow that was given up.
    GivenUp {
        /// Its letter's id.
        letter: String,
        /// Which workflow.
        workflow: WorkflowId,
        /// Why.
        reason: String,
    },
    /// The hint of a workflow, and nothing else, that could not be handled.
    Hint(WorkflowId),
    /// It cannot be read, or is of a kind that is not known here.
    Unread {
        /// Why.
        reason: &'static str,
        /// The beginning of what stood on the queue.
        body: String,
    },
}

impl Letter {
    /// Reads a record's body. What cannot be read is a letter as well.
    #[must_use]
    pub fn read(body: &str) -> Self {
        let unread = |reason| Self::Unread { reason, body: plain(body, MAX_BODY) };
        let Ok(object) = parse_object(body.as_bytes()) else { return unread("it cannot be read") };
        // What has more to say than which workflow it is about is no hint of ours, and must not go with one.
        match (hint::read(&object), letter_id(&object)) {
            (Some(workflow), Some(letter)) => {
                let reason = object.get("reason").and_then(Value::as_str).unwrap_or("it was given up");
                Self::GivenUp { letter: letter.to_owned(), workflow, reason: plain(reason, MAX_REASON) }
            }
            (Some(workflow), None) if object.len() == 1 => Self::Hint(workflow),
            _ => unread("it is of a kind that is not known here"),
        }
    }
}

/// The id of the letter of a workflow, which is longer than another id and no less bounded.
fn letter_id(object: &Map<String, Value>) -> Option<&str> {
    let id = object.get("letterId")?.as_str()?;
    let bounded = (1..=2 * MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    Some(id).filter(|_| bounded)
}

/// The beginning of a text, as PostgreSQL can keep it.
fn plain(text: &str, most: usize) -> String {
    text.chars().filter(|sign| *sign != '\0').take(most).collect()
}

/// What became of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// There was nothing to be done: its workflow has ended, or there is none.
    Over,
    /// Its workflow's hint is on the queue again.
    Redriven,
    /// It is kept, and people are told.
    Kept,
}

/// Why a letter is not settled, or not put on its queue.
#[derive(Debug, thiserror::Error)]
pub enum DeadError {
    /// PostgreSQL.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Settles letters.
pub struct DeadLetters {
    /// PostgreSQL.
    pub database: Arc<Database>,
    /// Where hints go.
    pub workflows: Workflows,
    /// Where people are told.
    pub people: Notifications,
}

impl DeadLetters {
    /// Settles a record of a dead-letter queue; `record` is SQS's id of it. The same record again is settled the same.
    ///
    /// # Errors
    /// [`DeadError`]; then it has to come again.
    pub async fn settle(&self, record: &str, letter: &Letter, now: Timestamp) -> Result<Settled, DeadError> {
        match letter {
            Letter::Hint(workflow) => self.returned(record, workflow, now).await,
            Letter::GivenUp { letter, workflow, reason } => {
                let told = self.keep(letter, "workflow", Some(workflow), reason, None).await?;
                let note = Note {
                    letter,
                    kind: "workflow",
                    title: "A workflow was given up",
                    workflow: Some(workflow),
                    reason,
                };
                self.tell(told, &note, now).await
            }
            Letter::Unread { reason, body } => {
                let letter = format!("unread:{record}");
                let told = self.keep(&letter, "unread", None, reason, Some(body)).await?;
                let title = "A dead letter of AI work cannot be handled";
                let note = Note { letter: &letter, kind: "unread", title, workflow: None, reason };
                self.tell(told, &note, now).await
            }
        }
    }

    async fn returned(&self, record: &str, workflow: &WorkflowId, now: Timestamp) -> Result<Settled, DeadError> {
        let params = [
            (&workflow.as_str() as _, Type::TEXT),
            (&record as _, Type::TEXT),
            (&MOST_RETURNS as _, Type::INT2),
            (&ITSELF as _, Type::TEXT),
        ];
        let rows = self.database.query(RETURN, &params).await?;
        let Some(row) = rows.first() else { return Ok(Settled::Over) };
        let text = |name: &str| row.get::<_, Option<&str>>(name);
        match (text("verdict"), text("letter"), text("owner").and_then(|id| UserId::parse(id).ok())) {
            (Some("kept"), Some(letter), _) => {
                let (told, reason) = (row.get::<_, Option<bool>>("told"), "its hint came back too often");
                let title = "A workflow is not taken up";
                let note = Note { letter, kind: "workflow_hint", title, workflow: Some(workflow), reason };
                self.tell(told.unwrap_or_default(), &note, now).await
            }
            (Some("redriven"), _, Some(owner)) => {
                self.workflows.try_put(workflow, &owner, Duration::ZERO).await?;
                Ok(Settled::Redriven)
            }
            _ => Ok(Settled::Over),
        }
    }

    /// Keeps a letter; kept twice, it is one. Gives whether people were told of it.
    async fn keep(
        &self,
        id: &str,
        kind: &str,
        workflow: Option<&WorkflowId>,
        reason: &str,
        body: Option<&str>,
    ) -> Result<bool, DatabaseError> {
        let workflow = workflow.map(WorkflowId::as_str);
        let params = [
            (&id as _, Type::TEXT),
            (&kind as _, Type::TEXT),
            (&workflow as _, Type::TEXT),
            (&reason as _, Type::TEXT),
            (&body as _, Type::TEXT),
        ];
        let rows = self.database.query(KEEP, &params).await?;
        Ok(rows.first().is_some_and(|row| row.get("told")))
    }

    /// Has the operators told of a letter, once.
    async fn tell(&self, told: bool, note: &Note<'_>, now: Timestamp) -> Result<Settled, DeadError> {
        if !told {
            self.people.put(&note.notification(now)).await?;
            self.database.query(TOLD, &[(&note.letter, Type::TEXT)]).await?;
        }
        Ok(Settled::Kept)
    }
}

/// What the operators are told of a letter: never a text, and never whose it is.
struct Note<'a> {
    letter: &'a str,
    kind: &'static str,
    title: &'static str,
    workflow: Option<&'a WorkflowId>,
    reason: &'a str,
}

impl Note<'_> {
    fn notification(&self, now: Timestamp) -> Notification {
        let fact = |(name, value): (&str, &str)| Fact { name: name.to_owned(), value: plain(value, MAX_FACT_VALUE) };
        let facts = [("letter", self.letter), ("kind", self.kind), ("reason", self.reason)];
        let workflow = self.workflow.map(|workflow| ("workflow", workflow.as_str()));
        Notification {
            id: format!("dead_letter#{}", self.letter),
            kind: "dead_letter".to_owned(),
            severity: Severity::Warning,
            audience: Audience::Operators,
            channels: vec![Channel::Email, Channel::Slack, Channel::Sns],
            title: self.title.to_owned(),
            text: "It is kept with its reason in the list of dead letters.".to_owned(),
            facts: facts.into_iter().chain(workflow).map(fact).collect(),
            link: None,
            timestamp: now,
        }
    }
}

/// The dead-letter queue of workflows.
pub struct DeadQueue(Queue);

impl DeadQueue {
    /// Reads `SQS_WORKFLOW_DLQ`, a name or a URL; nothing is called.
    #[must_use]
    pub fn from_env(env: &Env, sqs: Sqs) -> Self {
        Self(Queue::from_env(env, "SQS_WORKFLOW_DLQ", "huntaze-hybrid-workflows-dlq", sqs))
    }
}

/// Puts the letters on the queue that people were not told of: a workflow's, or all, at most so many, each once in five minutes. Gives
/// how many.
///
/// # Errors
/// [`DeadError`]; the letters are kept, and the sweep puts them.
pub async fn put_untold(
    database: &Database,
    queue: &DeadQueue,
    workflow: Option<&WorkflowId>,
    most: i64,
) -> Result<u64, DeadError> {
    let workflow = workflow.map(WorkflowId::as_str);
    let mut put = 0;
    for row in database.query(UNTOLD, &[(&workflow as _, Type::TEXT), (&most as _, Type::INT8)]).await? {
        let text = |name: &str| row.get::<_, Option<&str>>(name);
        let body = json!({"letterId": text("id"), "workflowId": text("workflow_id"), "reason": text("reason")});
        queue.0.put(body.to_string(), Duration::ZERO, None).await?;
        put += 1;
    }
    Ok(put)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_letter_is_a_workflows_a_hint_or_what_nobody_can_read() {
        let given_up = r#"{"letterId": "workflow:w#6", "workflowId": "w", "reason": "no luck"}"#;
        let workflow = WorkflowId::parse("w").unwrap();
        let expected = Letter::GivenUp {
            letter: "workflow:w#6".to_owned(),
            workflow: workflow.clone(),
            reason: "no luck".to_owned(),
        };
        assert_eq!(Letter::read(given_up), expected);
        assert_eq!(Letter::read(r#"{"workflowId": "w"}"#), Letter::Hint(workflow));
        for (body, why) in [
            ("nonsense\0", "it cannot be read"),
            ("[1]", "it cannot be read"),
            ("{}", "it is of a kind that is not known here"),
            (r#"{"workflowId": "w", "prompt": "p"}"#, "it is of a kind that is not known here"),
            (r#"{"workflowId": "w", "letterId": "a b"}"#, "it is of a kind that is not known here"),
            (r#"{"workflowId": 7}"#, "it is of a kind that is not known here"),
            (r#"{"workflowId": "w", "letterId": "l", "reason": "\u0000"}"#, "it cannot be read"),
        ] {
            let Letter::Unread { reason, body: kept } = Letter::read(body) else { panic!("{body}") };
            assert_eq!((reason, kept.as_str()), (why, body.trim_end_matches('\0')), "{body}");
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_on_the_queue_is_a_letter_of_bounded_size_that_can_be_kept(body in any::<String>()) {
            for text in [body.clone(), json!({"letterId": body, "workflowId": "w", "reason": body}).to_string()] {
                match Letter::read(&text) {
                    Letter::Unread { body, .. } => prop_assert!(body.chars().count() <= MAX_BODY && !body.contains('\0')),
                    Letter::GivenUp { letter, reason, .. } => {
                        prop_assert!(letter.len() <= 2 * MAX_ID_BYTES);
                        prop_assert!(reason.chars().count() <= MAX_REASON && !reason.contains('\0'));
                    }
                    Letter::Hint(_) => {}
                }
            }
        }
    }
}
