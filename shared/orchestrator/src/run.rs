//! One request: accepted once, driven to its end, or answered from what is stored under its Idempotency-Key.

use std::sync::Arc;
use std::time::Duration;

use huntaze_costs::budget::Refusal;
use huntaze_costs::ledger::LedgerEntry;
use huntaze_costs::price::Catalogue;
use huntaze_domain::ids::{AccountId, IdempotencyKey, RecipientId, UserId, WorkflowId};
use huntaze_domain::intent::{MessageType, ParsedRequest};
use huntaze_domain::trace::Trace;
use huntaze_messaging::account::overrides;
use huntaze_messaging::limiter::{Limiter, Subject};
use huntaze_messaging::outbox::Rules;
use huntaze_messaging::room::Room;
use huntaze_postgres::Database;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::drive::{Flight, Run};
use crate::machine::Stop;
use crate::provider::Providers;
use crate::route::{Roles, Route, RouteError};
use crate::store::{self, AccountFault, Begun, ExistingWorkflow, NewWorkflow, SendingAccount, StoreError};
use crate::workflow::{State, WorkflowError, WorkflowStatus};

/// A request that is refused waits no longer for what it had begun to be taken back.
const WITHDRAWAL_PATIENCE: Duration = Duration::from_secs(2);

/// A request that was parsed, authenticated and authorised.
#[derive(Debug, Clone)]
pub struct Request {
    /// What it asks for.
    pub parsed: ParsedRequest,
    /// Whose workflow it is.
    pub owner: UserId,
    /// Who asked.
    pub requested_by: UserId,
    /// The client's name for it.
    pub idempotency_key: Option<IdempotencyKey>,
    /// The request's id.
    pub request_id: String,
    /// The request's trace.
    pub trace: Trace,
    /// The wall clock at `accepted_at`.
    pub now: Timestamp,
    /// When the request was taken up.
    pub accepted_at: Instant,
    /// When the last call must have ended: there is still its settlement to be written.
    pub deadline: Instant,
}

/// How a request was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The workflow.
    pub workflow_id: WorkflowId,
    /// `{"data", "metrics"}` of the contract, or what it failed of.
    pub result: Result<Value, WorkflowError>,
    /// It had been answered before, under the same Idempotency-Key.
    pub replayed: bool,
}

/// Why a request has no workflow of its own.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no way for it; nothing was stored or called.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// Budgets leave too little for a first call by any way; nothing was stored or called.
    #[error("{0}")]
    Budget(Refusal),
    /// Too little time was left for a first call; nothing was stored or called.
    #[error("no time is left for a call")]
    NoTime,
    /// Who asked may not ask now; nothing is stored and nothing was called.
    #[error("the request was not admitted")]
    NotAdmitted,
    /// Its text is to be sent, and there is no account for that; nothing is stored and nothing was called.
    #[error(transparent)]
    Account(AccountFault),
    /// Its Idempotency-Key belongs to a request that is still in flight.
    #[error("workflow {0} with this Idempotency-Key is still in flight")]
    InFlight(WorkflowId),
    /// Its Idempotency-Key was used with another body.
    #[error("this Idempotency-Key was used with another body")]
    Mismatch,
    /// The store failed. What was reserved is settled by the sweep.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a request came to: its answer, and what was done for it, which there may be without one.
#[derive(Debug)]
pub struct Outcome {
    /// The answer.
    pub answer: Result<Answer, RunError>,
    /// Every attempt that was settled: to be counted, and to be projected into the ledger.
    pub entries: Vec<LedgerEntry>,
    /// How often another provider was asked.
    pub fallbacks: u64,
    /// The budget that refused a call, also where another way was found.
    pub refusal: Option<Refusal>,
    /// The account that has a message to send now, and when its hint has to be on the queue.
    pub wake: Option<(AccountId, Duration)>,
}

impl From<Result<Answer, RunError>> for Outcome {
    fn from(answer: Result<Answer, RunError>) -> Self {
        Self { answer, entries: Vec::new(), fallbacks: 0, refusal: None, wake: None }
    }
}

/// The main job with all that it needs.
pub struct Orchestrator {
    /// PostgreSQL.
    pub database: Arc<Database>,
    /// What models cost.
    pub catalogue: Catalogue,
    /// Who can be called.
    pub providers: Providers,
    /// Who plays which role.
    pub roles: Roles,
    /// How long a reservation is held for a call whose end is not heard of.
    pub lease: Duration,
    /// How many calls of one request may be made again.
    pub retries: u16,
    /// How messages are taken on.
    pub sending: Rules,
    /// How many an account may send; `None` where there is no telling.
    pub limiter: Option<Limiter>,
}

impl Orchestrator {
    /// Answers a request, with the calls that it needs or from what is stored under its Idempotency-Key.
    ///
    /// `admitted` says whether who asks may ask now. It is waited for beside the first statement, which is taken back where
    /// it says no: a refused request keeps nothing and owes nothing.
    pub async fn handle(&self, request: Request, admitted: impl Future<Output = bool>) -> Outcome {
        let intent = &request.parsed.intent;
        let available = |provider| self.providers.has(provider);
        let route = match Route::find(intent, &self.roles, available, &self.catalogue, request.now) {
            Ok(route) => route,
            Err(no_way) => return self.without_way(&request, no_way, admitted).await.into(),
        };
        let mut run = Run::new(self, &request, &route);
        let mut first = match run.begin() {
            Ok(first) => first,
            Err(stop) => return Err(stop.into()).into(),
        };
        let workflow = beginning(&request, &first);
        let begin = store::begin(&self.database, &workflow, &run.state, &first.attempt, self.lease);
        let (mut begun, admitted) = tokio::join!(begin, admitted);
        let refused = loop {
            match (begun, admitted) {
                (Ok(Begun::New(account)), true) => {
                    run.sender = account.as_ref().map(|account| account.id.clone());
                    // What the limits leave is asked beside the calls: nobody waits for it.
                    let (result, room) = tokio::join!(run.drive(first), self.room(&request, account.as_ref()));
                    let result = result.map(|result| result.map(|result| with_room(result, room)));
                    let fallbacks = run.state.fallback_history.len() as u64;
                    let answer = result.map(|result| Answer { workflow_id: run.id, result, replayed: false });
                    let wake = run.sender.zip(run.wake);
                    return Outcome { answer, fallbacks, entries: run.entries, refusal: run.refusal, wake };
                }
                // Nothing is kept of a beginning that a budget refused: a cheaper one is tried, as long as there is one.
                (Ok(Begun::Refused(refusal)), true) => {
                    first = match run.refused(first, refusal) {
                        Ok(next) => next,
                        Err(error) => return Outcome { refusal: run.refusal, ..Err(error).into() },
                    };
                    let workflow = beginning(&request, &first);
                    begun = store::begin(&self.database, &workflow, &run.state, &first.attempt, self.lease).await;
                }
                (Ok(Begun::Existing(existing)), true) => return replay(existing, &request.parsed).into(),
                (Ok(Begun::NoAccount(fault)), true) => return Err(RunError::Account(fault)).into(),
                (Ok(Begun::Existing(_) | Begun::Refused(_) | Begun::NoAccount(_)), false) => {
                    return Err(RunError::NotAdmitted).into();
                }
                (Ok(Begun::New(_)) | Err(_), false) => break RunError::NotAdmitted,
                (Err(error), true) => break error.into(),
            }
        };
        self.withdraw(&beginning(&request, &first), &run.state).await;
        Err(refused).into()
    }

    /// What the limits leave of the account that the text is sent by.
    async fn room(&self, request: &Request, account: Option<&SendingAccount>) -> Option<Value> {
        let (limiter, account) = self.limiter.as_ref().zip(account)?;
        let intent = &request.parsed.intent;
        let overrides = overrides(&account.limits);
        let subject = Subject {
            account: &account.id,
            user: &request.owner,
            recipient: intent.recipient_id.as_ref().map(RecipientId::as_str),
            kind: Some(intent.only_fans_context.as_ref().map_or(MessageType::Custom, |context| context.message_type)),
            overrides: &overrides,
        };
        Some(Room::of(limiter, &subject).await.to_json(request.now))
    }

    /// Takes a beginning back. Nothing was called, so nothing is owed, also where it is not known whether the statement ran.
    async fn withdraw(&self, workflow: &NewWorkflow<'_>, state: &State) {
        match timeout(WITHDRAWAL_PATIENCE, store::withdraw(&self.database, workflow, state)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, workflow = %workflow.id, "left to the sweep"),
            Err(_) => tracing::warn!(workflow = %workflow.id, "not withdrawn in time; left to the sweep"),
        }
    }

    /// A request that has no way any more (a price rose, a provider went) may have been answered under its key all the same.
    async fn without_way(
        &self,
        request: &Request,
        no_way: RouteError,
        admitted: impl Future<Output = bool>,
    ) -> Result<Answer, RunError> {
        if !admitted.await {
            return Err(RunError::NotAdmitted);
        }
        let Some(key) = &request.idempotency_key else { return Err(no_way.into()) };
        let existing = store::existing(&self.database, None, &request.owner, Some(key)).await?;
        existing.map_or(Err(no_way.into()), |existing| replay(existing, &request.parsed))
    }
}

/// An answer with what the limits leave, which is no part of what is kept: it is another a moment later.
fn with_room(mut result: Value, room: Option<Value>) -> Value {
    if let Some(room) = room {
        result["data"]["rateLimitStatus"] = room;
    }
    result
}

/// A request as a workflow that begins with a call.
fn beginning<'a>(request: &'a Request, first: &'a Flight) -> NewWorkflow<'a> {
    NewWorkflow {
        id: &first.attempt.workflow_id,
        user_id: &request.owner,
        requested_by: &request.requested_by,
        idempotency_key: request.idempotency_key.as_ref(),
        body_hash: request.parsed.body_hash,
        intent: &request.parsed.intent,
        request_id: &request.request_id,
        trace_id: request.trace.id(),
        started_at: first.attempt.started_at,
    }
}

impl From<Stop> for RunError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::CostLimit(error) => error.into(),
            Stop::NoTime => Self::NoTime,
            Stop::Refused(_) | Stop::Rejected(_) | Stop::Exhausted { .. } => RouteError::NoProvider.into(),
        }
    }
}

fn replay(existing: ExistingWorkflow, parsed: &ParsedRequest) -> Result<Answer, RunError> {
    if existing.body_hash != parsed.body_hash {
        return Err(RunError::Mismatch);
    }
    let result = match (existing.status, existing.result, existing.error) {
        (WorkflowStatus::Completed, Some(result), _) => Ok(result),
        (WorkflowStatus::Failed, _, Some(error)) => Err(error),
        // Also one that has failed already and still waits for the calls beside the one that did.
        _ => return Err(RunError::InFlight(existing.id)),
    };
    Ok(Answer { workflow_id: existing.id, result, replayed: true })
}
