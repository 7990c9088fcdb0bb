//! The queue of what people are told. Its consumer delivers each once a channel.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::DisplayErrorContext;
use huntaze_domain::env::Env;
use huntaze_domain::notification::Notification;
use tokio::sync::OnceCell;

/// A notification could not be put on the queue. Its text holds the service's own message, for the log only.
#[derive(Debug, thiserror::Error)]
#[error("the notifications' queue did not answer: {0}")]
pub struct QueueError(String);

/// The queue, found by its name when it is first needed.
#[derive(Debug)]
pub struct Notifications {
    client: Client,
    queue: String,
    url: OnceCell<String>,
}

impl Notifications {
    /// Reads `SQS_NOTIFICATIONS_QUEUE`, a name or a URL; nothing is called.
    #[must_use]
    pub fn from_env(env: &Env, client: Client) -> Self {
        let queue = env.or("SQS_NOTIFICATIONS_QUEUE", "huntaze-notifications-production");
        // The name is the end of a URL. The URL of the service itself is asked for: it is the one that is reached from here.
        let queue = queue.rsplit('/').next().unwrap_or_default().to_owned();
        Self { client, queue, url: OnceCell::new() }
    }

    /// Puts a notification on the queue. Put twice, it is delivered once.
    ///
    /// # Errors
    /// [`QueueError`]
    pub async fn put(&self, notification: &Notification) -> Result<(), QueueError> {
        let url = self.url.get_or_try_init(|| self.find()).await?;
        let body = serde_json::to_string(notification).map_err(|error| QueueError(error.to_string()))?;
        let send = self.client.send_message().queue_url(url).message_body(body).send().await;
        send.map(drop).map_err(|error| QueueError(DisplayErrorContext(error).to_string()))
    }

    async fn find(&self) -> Result<String, QueueError> {
        let answer = self.client.get_queue_url().queue_name(&self.queue).send().await;
        let answer = answer.map_err(|error| QueueError(DisplayErrorContext(error).to_string()))?;
        answer.queue_url.ok_or_else(|| QueueError("the queue has no URL".to_owned()))
    }
}
