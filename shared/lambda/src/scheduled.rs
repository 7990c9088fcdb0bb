//! Functions without HTTP: what the schedule and the deployment invoke.

use std::time::Duration;

use huntaze_domain::trace::Trace;
use jiff::Timestamp;
use lambda_runtime::{Context, Error, LambdaEvent, service_fn};
use serde_json::Value;
use tokio::time::Instant;
use tracing::Instrument;

use crate::metrics::{self, Origin};
use crate::scope::{self, Panicked};

/// One invocation.
pub struct Invocation {
    /// What it was invoked with: the schedule's own event, or what a person sends.
    pub event: Value,
    /// The wall clock at its start.
    pub now: Timestamp,
    /// When the service ends it, less a second to end it ourselves.
    pub deadline: Instant,
    /// The trace that it belongs to.
    pub trace: Trace,
}

/// What such a function does when it is invoked.
pub trait Task: Send + Sync {
    /// Does it. What it returns is the invocation's answer.
    fn run(&self, invocation: Invocation) -> impl Future<Output = anyhow::Result<Value>> + Send;
}

/// Serves invocations until the environment is shut down. An error is logged with its causes and reported to the service;
/// a panic is reported without its words.
///
/// # Errors
/// Those of the runtime itself.
pub async fn serve(task: &impl Task) -> Result<(), Error> {
    lambda_runtime::run(service_fn(async move |event: LambdaEvent<Value>| {
        let LambdaEvent { payload, context } = event;
        let trace = scope::trace_of_lambda(context.xray_trace_id.as_deref());
        let span = scope::span(&context.request_id, &trace);
        invoke(task, payload, &context, &trace).instrument(span).await
    }))
    .await
}

async fn invoke(task: &impl Task, event: Value, context: &Context, trace: &Trace) -> Result<Value, Error> {
    let (now, started) = (now(), Instant::now());
    let left = u128::from(context.deadline).saturating_sub(millis(now));
    let left = Duration::from_millis(u64::try_from(left).unwrap_or(0)).saturating_sub(Duration::from_secs(1));
    let invocation = Invocation { event, now, deadline: started + left, trace: trace.clone() };
    let outcome = scope::run(trace, task.run(invocation)).await;
    let answer = match outcome {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            let causes = format!("{error:#}");
            tracing::error!(error = causes, "the invocation failed");
            Err(causes.into())
        }
        Err(Panicked) => Err("the invocation failed; its log says where".into()),
    };
    let origin = Origin { function: &context.env_config.function_name, at: now, trace: trace.id() };
    metrics::invocation(&origin, answer.is_err(), started.elapsed());
    answer
}

/// The wall clock. Read in this crate only; everything below is told the time.
#[must_use]
pub fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the edge")]
    Timestamp::now()
}

/// Milliseconds since 1970, as the Lambda service counts.
pub(crate) fn millis(at: Timestamp) -> u128 {
    u128::try_from(at.as_millisecond()).unwrap_or(0)
}
