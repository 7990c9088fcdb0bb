//! SQS queues that are written to, by their names.

mod notifications;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::DisplayErrorContext;
use huntaze_domain::env::Env;
use tokio::sync::OnceCell;

pub use self::notifications::Notifications;

/// SQS holds no message back for longer.
pub const LONGEST_DELAY: Duration = Duration::from_secs(15 * 60);

/// A message could not be put on a queue. Its text holds the service's own, for the log only.
#[derive(Debug, thiserror::Error)]
#[error("queue {queue} did not take a message: {cause}")]
pub struct QueueError {
    queue: String,
    cause: String,
}

/// SQS, whose client is built when something is first put on a queue: most requests put nothing there, and none waits for it
/// in the initialisation.
#[derive(Clone)]
pub struct Sqs(Arc<LazyLock<Client, Box<dyn FnOnce() -> Client + Send>>>);

impl Sqs {
    /// SQS by the client that is built then.
    pub fn new(build: impl FnOnce() -> Client + Send + 'static) -> Self {
        Self(Arc::new(LazyLock::new(Box::new(build))))
    }

    fn client(&self) -> &Client {
        &self.0
    }
}

/// A queue, found by its name when it is first needed.
pub struct Queue {
    sqs: Sqs,
    name: String,
    url: OnceCell<String>,
}

impl Queue {
    /// The queue that a variable names, by its name or its URL; nothing is called.
    #[must_use]
    pub fn from_env(env: &Env, variable: &str, default: &str, sqs: Sqs) -> Self {
        Self::named(&env.or(variable, default), sqs)
    }

    /// The queue of a name or a URL.
    #[must_use]
    pub fn named(queue: &str, sqs: Sqs) -> Self {
        // The name is the end of a URL. The URL of the service itself is asked for: it is the one that is reached from here.
        let name = queue.rsplit('/').next().unwrap_or_default().to_owned();
        Self { sqs, name, url: OnceCell::new() }
    }

    /// Puts a message on it, to be seen after a delay of at most [`LONGEST_DELAY`], in whole seconds rounded up. Of a group,
    /// the consumer's turns are shared fairly with other groups.
    ///
    /// # Errors
    /// [`QueueError`]
    pub async fn put(&self, body: String, delay: Duration, group: Option<&str>) -> Result<(), QueueError> {
        let fault = |cause: String| QueueError { queue: self.name.clone(), cause };
        let url = self.url.get_or_try_init(|| self.find()).await.map_err(fault)?;
        let delay = delay.min(LONGEST_DELAY);
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        let send = self.sqs.client().send_message().queue_url(url).message_body(body);
        let send = send.delay_seconds(i32::try_from(seconds).unwrap_or_default());
        let sent = send.set_message_group_id(group.map(str::to_owned)).send().await;
        sent.map(drop).map_err(|error| fault(DisplayErrorContext(error).to_string()))
    }

    async fn find(&self) -> Result<String, String> {
        let answer = self.sqs.client().get_queue_url().queue_name(&self.name).send().await;
        let answer = answer.map_err(|error| DisplayErrorContext(error).to_string())?;
        answer.queue_url.ok_or_else(|| "it has no URL".to_owned())
    }
}
