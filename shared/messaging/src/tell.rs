//! What people are told of sending: an account that stands still, a message whose end a person has to find out, one that was
//! given up. Never a text, and never a fan.

use huntaze_domain::notification::{Audience, Channel, Fact, Notification, Severity};
use huntaze_sqs::{Notifications, QueueError};
use jiff::Timestamp;

use crate::dead::Letter;
use crate::ending::Ending;
use crate::outbox::{Message, Settled};

/// Puts notifications on their queue.
pub struct Teller(Notifications);

impl Teller {
    /// A teller who uses this queue.
    #[must_use]
    pub fn new(queue: Notifications) -> Self {
        Self(queue)
    }

    /// What a settled attempt has to be told of.
    pub(crate) async fn settled(&self, message: &Message, settled: &Settled, ending: &Ending, now: Timestamp) {
        if let Some(reason) = &settled.paused {
            self.paused(message, reason, now).await;
        }
        if settled.dead && settled.settled {
            let facts = vec![fact("message", message.id.as_str()), fact("reason", ending.reason())];
            let text = "A message was given up: its retries are used up, and it did not reach its fan. An administrator can \
                        have it tried anew.";
            self.put(notification(message, "message_given_up", "A message was given up", text, facts, now)).await;
        }
    }

    /// An account was paused: nothing of it is sent until its owner lets it go on.
    pub(crate) async fn paused(&self, message: &Message, reason: &str, now: Timestamp) {
        let facts = vec![fact("account", message.account_id.as_str()), fact("reason", reason)];
        let text = "An account was paused, and sends nothing until you let it go on. Look at its connection with the platform first; \
                    what waits is kept.";
        let mut told = notification(message, "account_paused", "An account was paused", text, facts, now);
        told.id = format!("account_paused#{}#{}", message.account_id, message.id);
        told.severity = Severity::Critical;
        self.put(told).await;
    }

    /// Nobody knows whether a message reached its fan, and no look has found it.
    pub(crate) async fn undecided(&self, message: &Message, now: Timestamp) {
        let facts = vec![fact("message", message.id.as_str())];
        let text = "Nobody knows whether a message reached its fan: the platform's answer was lost, and the message is not in the \
                    conversation. Look there before you send it again; it is never sent again by itself.";
        self.put(notification(message, "message_unknown", "A message's end is not known", text, facts, now)).await;
    }

    /// Something was given up, and stays so until an administrator has it tried anew.
    ///
    /// # Errors
    /// [`QueueError`]
    pub async fn dead_letter(&self, letter: &Letter, now: Timestamp) -> Result<(), QueueError> {
        let told = Notification {
            id: format!("dead_letter#{}", letter.id),
            kind: "dead_letter".to_owned(),
            severity: Severity::Warning,
            audience: Audience::Operators,
            channels: vec![Channel::Email, Channel::Slack, Channel::Sns],
            title: "Something of the messages' queue was given up".to_owned(),
            text: "It is kept with its reason in the list of dead letters, from where it can be tried anew.".to_owned(),
            facts: vec![fact("letter", &letter.id), fact("kind", letter.kind), fact("reason", &letter.reason)],
            link: None,
            timestamp: now,
        };
        self.0.put(&told).await
    }

    async fn put(&self, told: Notification) {
        if let Err(error) = self.0.put(&told).await {
            // The message's own state says the same, and is kept.
            tracing::error!(%error, kind = told.kind, "nobody is told");
        }
    }
}

fn fact(name: &str, value: &str) -> Fact {
    Fact { name: name.to_owned(), value: value.chars().take(huntaze_domain::notification::MAX_FACT_VALUE).collect() }
}

/// Its id keeps it from being told twice of one attempt.
fn notification(
    message: &Message,
    kind: &str,
    title: &str,
    text: &str,
    facts: Vec<Fact>,
    now: Timestamp,
) -> Notification {
    Notification {
        id: format!("{kind}#{}#{}", message.id, message.fence),
        kind: kind.to_owned(),
        severity: Severity::Warning,
        audience: Audience::User(message.user_id.clone()),
        channels: vec![Channel::Email, Channel::InApp],
        title: title.to_owned(),
        text: text.to_owned(),
        facts,
        link: None,
        timestamp: now,
    }
}
