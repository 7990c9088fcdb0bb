//! Functions without HTTP: what the schedule and the deployment invoke.

use std::time::Duration;

use jiff::Timestamp;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use tokio::time::Instant;

/// One invocation.
pub struct Invocation {
    /// The wall clock at its start.
    pub now: Timestamp,
    /// When the service ends it, less a second to end it ourselves.
    pub deadline: Instant,
}

/// What such a function does when it is invoked.
pub trait Task: Send + Sync {
    /// Does it. What it returns is the invocation's answer.
    fn run(&self, invocation: Invocation) -> impl Future<Output = anyhow::Result<Value>> + Send;
}

/// Serves invocations until the environment is shut down. An error is logged with its causes and reported to the service.
///
/// # Errors
/// Those of the runtime itself.
pub async fn serve(task: &impl Task) -> Result<(), Error> {
    lambda_runtime::run(service_fn(async move |event: LambdaEvent<Value>| {
        let now = now();
        let left = u128::from(event.context.deadline).saturating_sub(millis(now));
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0)).saturating_sub(Duration::from_secs(1));
        let invocation = Invocation { now, deadline: Instant::now() + left };
        task.run(invocation).await.map_err(|error| {
            let causes = format!("{error:#}");
            tracing::error!(error = causes, "the invocation failed");
            Error::from(causes)
        })
    }))
    .await
}

/// The wall clock. Read here and in [`crate::api`] only; everything below is told the time.
#[must_use]
pub fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the edge")]
    Timestamp::now()
}

/// Milliseconds since 1970, as the Lambda service counts.
pub(crate) fn millis(at: Timestamp) -> u128 {
    u128::try_from(at.as_millisecond()).unwrap_or(0)
}
