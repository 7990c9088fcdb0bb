//! What people are told of sending: an account that stands still, a message whose end a person has to find out, one that was
//! given up. Never a text, and never a fan.

use huntaze_domain::ids::MessageId;
use huntaze_domain::notification::{Audience, Channel, Fact, Notification, Severity};
use huntaze_sqs::{Notifications, QueueError};
use jiff::Timestamp;

use crate::dead::Letter;
use crate::outbox::{Notice, NoticeKind, Outbox, OutboxError};

/// A message has one notice of a kind and a claim.
const MOST_OF_A_MESSAGE: i64 = 20;

/// Why a notice was not told.
#[derive(Debug, thiserror::Error)]
pub enum TellError {
    /// The notifications' queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The outbox.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

/// Puts notifications on their queue.
pub struct Teller(Notifications);

impl Teller {
    /// A teller who uses this queue.
    #[must_use]
    pub fn new(queue: Notifications) -> Self {
        Self(queue)
    }

    /// Tells what was noted of a message; what fails is told by the sweep.
    pub(crate) async fn tell_of(&self, outbox: &Outbox, message: &MessageId) {
        let told = async {
            for notice in outbox.notices(Some(message), None, MOST_OF_A_MESSAGE).await? {
                self.tell(outbox, &notice).await?;
            }
            Ok::<_, TellError>(())
        };
        if let Err(error) = told.await {
            tracing::warn!(%error, "what people are told is left to the sweep");
        }
    }

    /// Tells a notice, and forgets it.
    ///
    /// # Errors
    /// [`TellError`]; then it is still noted.
    pub async fn tell(&self, outbox: &Outbox, notice: &Notice) -> Result<(), TellError> {
        self.0.put(&notification(notice)).await?;
        Ok(outbox.told(notice).await?)
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
}

fn fact(name: &str, value: &str) -> Fact {
    Fact { name: name.to_owned(), value: value.chars().take(huntaze_domain::notification::MAX_FACT_VALUE).collect() }
}

fn notification(notice: &Notice) -> Notification {
    let (severity, title, text) = match notice.kind {
        NoticeKind::AccountPaused => (
            Severity::Critical,
            "An account was paused",
            "An account was paused, and sends nothing until you let it go on. Look at its connection with the platform first; what \
             waits is kept.",
        ),
        NoticeKind::MessageGivenUp => (
            Severity::Warning,
            "A message was given up",
            "A message was given up: its retries are used up, and it did not reach its fan. An administrator can have it tried anew.",
        ),
        NoticeKind::MessageUnknown => (
            Severity::Warning,
            "A message's end is not known",
            "Nobody knows whether a message reached its fan: the platform's answer was lost, and the message is not in the \
             conversation. Look there before you send it again; it is never sent again by itself.",
        ),
    };
    let about = match notice.kind {
        NoticeKind::AccountPaused => fact("account", notice.account_id.as_str()),
        NoticeKind::MessageGivenUp | NoticeKind::MessageUnknown => fact("message", notice.message_id.as_str()),
    };
    let kind = serde_json::to_value(notice.kind).ok().and_then(|kind| kind.as_str().map(str::to_owned));
    Notification {
        id: notice.id.clone(),
        kind: kind.unwrap_or_default(),
        severity,
        audience: Audience::User(notice.user_id.clone()),
        channels: vec![Channel::Email, Channel::InApp],
        title: title.to_owned(),
        text: text.to_owned(),
        facts: std::iter::once(about).chain(notice.reason.as_ref().map(|reason| fact("reason", reason))).collect(),
        link: None,
        timestamp: notice.noted_at,
    }
}
