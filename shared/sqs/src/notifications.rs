//! The queue of what people are told. Its consumer delivers each once a channel.

use std::time::Duration;

use huntaze_domain::env::Env;
use huntaze_domain::notification::Notification;

use crate::{Queue, QueueError, Sqs};

/// The notifications' queue.
pub struct Notifications(Queue);

impl Notifications {
    /// Reads `SQS_NOTIFICATIONS_QUEUE`, a name or a URL; nothing is called.
    #[must_use]
    pub fn from_env(env: &Env, sqs: Sqs) -> Self {
        Self(Queue::from_env(env, "SQS_NOTIFICATIONS_QUEUE", "huntaze-notifications-production", sqs))
    }

    /// Puts a notification on the queue. Put twice, it is delivered once.
    ///
    /// # Errors
    /// [`QueueError`]
    pub async fn put(&self, notification: &Notification) -> Result<(), QueueError> {
        // Our own type has only text names, so it always becomes JSON.
        let body = serde_json::to_string(notification).unwrap_or_default();
        self.0.put(body, Duration::ZERO, None).await
    }
}
