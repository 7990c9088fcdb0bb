//! Functions behind an SQS queue: a batch in, and out which of its records are to come again.
//!
//! Each record is handled for itself: in a span and the trace of whoever sent it, with a net under its panics, and with an
//! end of its own. What SQS is told:
//!
//! | end | what happens to the record |
//! |---|---|
//! | done | it is deleted |
//! | [`Undone::Later`], [`Undone::Retry`] | it comes again after the wait that is named, else after a backoff with full jitter |
//! | [`Undone::Reject`], a body that cannot be read (but [`Consumer::TAKES_ALL`]) | it comes again at once, so that the queue's `maxReceiveCount` ([`MOST_RECEIVES`]) soon moves it to the dead-letter queue, where a person finds it; nothing here needs to know that queue. Where there is none, it comes ever more seldom |
//! | a panic, no time left | it comes again after the queue's own visibility time-out |
//!
//! Where nothing went well and something failed, the invocation itself does: AWS counts it in the function's `Errors`, and its
//! pollers slow down. A record that is only not due yet is no failure, and one that is rejected none of what is needed for
//! the others: it must not slow them down on its way to the dead-letter queue.
//!
//! The order of a FIFO queue is not kept: its records are handled side by side.

mod batch;
mod visibility;

use std::error::Error as StdError;
use std::time::Duration;

use aws_sdk_sqs::Client;
use futures_util::{StreamExt, stream};
use huntaze_domain::error::FieldFault;
use huntaze_domain::json::parse_object;
use huntaze_domain::trace::Trace;
use jiff::Timestamp;
use lambda_runtime::{Context, Error, LambdaEvent, service_fn};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use self::batch::{Batch, Record};
use self::visibility::Visibility;
use crate::metrics::{self, Ends, Origin};
use crate::scheduled::{millis, now};
use crate::scope::{self, Panicked};

/// The `maxReceiveCount` of a queue whose records wait for several things, each with waits of its own.
pub const MOST_RECEIVES: u32 = 40;
/// What is kept of the invocation's time to say how it ended: two calls of SQS, and the answer.
const MARGIN: Duration = Duration::from_secs(2);
/// The least time that a record is begun with. One that gets less comes again, and finds a whole invocation's.
const LEAST: Duration = Duration::from_secs(1);

/// One record of a batch.
#[derive(Debug)]
pub struct Message {
    /// SQS's own id, which is on each of the record's log lines.
    pub id: String,
    /// What was sent, at most [`huntaze_domain::json::MAX_BODY_BYTES`]; or its beginning ([`Consumer::TAKES_ALL`]).
    pub body: String,
    /// How often SQS has handed it out, this time included.
    pub received: u32,
    /// The trace of whoever sent it.
    pub trace: Trace,
    /// The wall clock when its handling begins.
    pub now: Timestamp,
    /// The moment that `now` was read.
    pub started: Instant,
    /// Its handling is cut then.
    pub deadline: Instant,
    /// The function's deployed name.
    pub function: String,
}

impl Message {
    /// What its metrics are about.
    #[must_use]
    pub fn origin(&self) -> Origin<'_> {
        Origin { function: &self.function, at: self.now, trace: self.trace.id() }
    }

    /// The body as a JSON object.
    ///
    /// # Errors
    /// [`Undone::Reject`]
    pub fn object(&self) -> Result<Map<String, Value>, Undone> {
        // The faults of a text that is not JSON quote it.
        parse_object(self.body.as_bytes()).map_err(|_| Undone::Reject("the body is no JSON object".to_owned()))
    }
}

/// Why a record is not done. What is in here is logged: no text of a user, no address, no URL.
#[derive(Debug, thiserror::Error)]
pub enum Undone {
    /// Nothing is wrong; its time has not come.
    #[error("not due yet")]
    Later {
        /// When it comes again.
        after: Duration,
    },
    /// Something that it needs does not work.
    #[error("it will be tried again")]
    Retry {
        /// When it comes again; `None`: after a backoff by how often it came.
        after: Option<Duration>,
        /// What does not work.
        #[source]
        cause: Box<dyn StdError + Send + Sync>,
    },
    /// Trying it again is of no use, unless somebody does something: it goes to the dead-letter queue.
    #[error("it is for the dead-letter queue: {0}")]
    Reject(String),
}

impl Undone {
    /// A record with faulty fields. Only where they are is told: what they hold is the sender's.
    #[must_use]
    pub fn faulty(faults: &[FieldFault]) -> Self {
        let pointers: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        Self::Reject(format!("faulty: {}", pointers.join(" ")))
    }
}

/// What a function does with a record. It may be given the same one again at any time: SQS delivers at least once.
pub trait Consumer: Send + Sync {
    /// How many records of a batch are handled at once.
    const SIDE_BY_SIDE: usize = 10;
    /// Whether a record whose body is too large, or no text, is handled with the beginning of it in place of being rejected: by who
    /// keeps what nobody can read, and has no queue behind.
    const TAKES_ALL: bool = false;

    /// Handles it.
    fn handle(&self, message: Message) -> impl Future<Output = Result<(), Undone>> + Send;
}

/// Serves batches until the environment is shut down. `sqs` moves the time at which a record comes again
/// (`sqs:GetQueueUrl` and `sqs:ChangeMessageVisibility` on the function's own queue).
///
/// # Errors
/// Those of the runtime itself.
pub async fn serve(consumer: &impl Consumer, sqs: Client) -> Result<(), Error> {
    let visibility = &Visibility::new(sqs);
    // Raw, so that a record that cannot be read is that record's fault and not the batch's.
    lambda_runtime::run(service_fn(async move |event: LambdaEvent<Box<RawValue>>| {
        let context = event.context;
        let trace = scope::trace_of_lambda(context.xray_trace_id.as_deref());
        let span = scope::span(&context.request_id, &trace);
        invoke(consumer, visibility, &context, &trace, event.payload.get()).instrument(span).await
    }))
    .await
}

async fn invoke(
    consumer: &impl Consumer,
    visibility: &Visibility,
    context: &Context,
    trace: &Trace,
    event: &str,
) -> Result<Value, Error> {
    let (now, started) = (now(), Instant::now());
    let left = u128::from(context.deadline).saturating_sub(millis(now));
    let deadline = started + Duration::from_millis(u64::try_from(left).unwrap_or(0)).saturating_sub(MARGIN);
    let origin = Origin { function: &context.env_config.function_name, at: now, trace: trace.id() };
    let answer = match Batch::read(event) {
        Ok(batch) => answer(handle_all(consumer, visibility, &batch, deadline, &origin, trace).await, &origin),
        Err(_) => {
            tracing::error!("the event is no batch of SQS");
            Err("the event is no batch of SQS".into())
        }
    };
    metrics::invocation(&origin, answer.is_err(), started.elapsed());
    answer
}

/// How a record ended.
enum End {
    Done,
    /// It comes again.
    Again,
    Failed,
    Rejected,
}

async fn handle_all<'a, C: Consumer>(
    consumer: &C,
    visibility: &Visibility,
    batch: &'a Batch<'a>,
    deadline: Instant,
    origin: &Origin<'_>,
    trace: &Trace,
) -> Vec<(&'a str, End)> {
    let handling = batch.records.iter().map(async |record| {
        let trace = record.trace().unwrap_or_else(|| trace.clone());
        let span = scope::span(&record.id, &trace);
        (record.id.as_str(), handle(consumer, visibility, record, deadline, origin, trace).instrument(span).await)
    });
    stream::iter(handling).buffer_unordered(C::SIDE_BY_SIDE.max(1)).collect().await
}

async fn handle<C: Consumer>(
    consumer: &C,
    visibility: &Visibility,
    record: &Record<'_>,
    deadline: Instant,
    origin: &Origin<'_>,
    trace: Trace,
) -> End {
    let started = Instant::now();
    if started + LEAST > deadline {
        tracing::warn!("not begun: the invocation's time is up");
        return End::Failed;
    }
    let body = record.body().or_else(|| C::TAKES_ALL.then(|| record.beginning()));
    let outcome = match body {
        Some(body) => {
            let (id, received) = (record.id.clone(), record.received());
            let function = origin.function.to_owned();
            let message = Message { id, body, received, trace: trace.clone(), now: now(), started, deadline, function };
            timeout_at(deadline, scope::run(&trace, consumer.handle(message))).await
        }
        None => Ok(Ok(Err(Undone::Reject("its body is too large, or no text".to_owned())))),
    };
    let undone = match outcome {
        Ok(Ok(Ok(()))) => return End::Done,
        Ok(Ok(Err(undone))) => undone,
        // Where it panicked is in the log already.
        Ok(Err(Panicked)) => return End::Failed,
        Err(_) => {
            tracing::error!("cut: the invocation's time is up");
            return End::Failed;
        }
    };
    let (wait, end) = match &undone {
        Undone::Later { after } => {
            tracing::info!("comes again: {undone}");
            (*after, End::Again)
        }
        Undone::Retry { after, cause } => {
            let received = record.received();
            tracing::warn!(error = chain(&**cause), received, "comes again");
            (after.unwrap_or_else(|| visibility::backoff(received, huntaze_domain::ids::random())), End::Failed)
        }
        Undone::Reject(reason) => {
            let received = record.received();
            tracing::error!(reason, received, "rejected");
            (visibility::after_rejection(received, huntaze_domain::ids::random()), End::Rejected)
        }
    };
    scope::run(&trace, visibility.set(record, wait)).await.unwrap_or_default();
    end
}

fn chain(cause: &(dyn StdError + 'static)) -> String {
    let causes = std::iter::successors(Some(cause), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The records that SQS keeps, or an error where none went well.
fn answer(ends: Vec<(&str, End)>, origin: &Origin<'_>) -> Result<Value, Error> {
    let count = |wanted: fn(&End) -> bool| ends.iter().filter(|(_, end)| wanted(end)).count() as u64;
    let rejected = count(|end| matches!(end, End::Rejected));
    let failed = count(|end| matches!(end, End::Failed));
    let done = count(|end| matches!(end, End::Done));
    metrics::records(origin, Ends { done, failed, rejected });
    let all = ends.len() as u64;
    tracing::info!(all, done, failed, rejected, "batch");
    if failed > 0 && failed + rejected == all {
        return Err("no record of the batch could be handled; the log says why of each".into());
    }
    let again = ends.iter().filter(|(_, end)| !matches!(end, End::Done));
    let failures: Vec<_> = again.map(|(id, _)| json!({"itemIdentifier": id})).collect();
    Ok(json!({"batchItemFailures": failures}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin<'static> {
        Origin { function: "f", at: Timestamp::UNIX_EPOCH, trace: "t" }
    }

    #[test]
    fn the_answer_names_what_is_to_come_again_and_nothing_else() {
        let ends =
            vec![("a", End::Done), ("b", End::Again), ("c", End::Failed), ("d", End::Rejected), ("e", End::Done)];
        let failures = json!([{"itemIdentifier": "b"}, {"itemIdentifier": "c"}, {"itemIdentifier": "d"}]);
        assert_eq!(answer(ends, &origin()).unwrap(), json!({"batchItemFailures": failures}));
        assert_eq!(answer(Vec::new(), &origin()).unwrap(), json!({"batchItemFailures": []}));
    }

    #[test]
    fn a_batch_of_which_nothing_went_well_is_a_failed_invocation() {
        assert!(answer(vec![("a", End::Failed), ("b", End::Rejected)], &origin()).is_err());
        for end in [End::Again, End::Rejected] {
            let answer = answer(vec![("a", end)], &origin()).unwrap();
            assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "a"}]}));
        }
    }

    #[test]
    fn a_rejection_says_where_and_not_what() {
        let fault = FieldFault { pointer: "/to".to_owned(), detail: "ana@mail.example is odd".to_owned() };
        assert_eq!(Undone::faulty(&[fault]).to_string(), "it is for the dead-letter queue: faulty: /to");
    }
}
