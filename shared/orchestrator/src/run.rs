//! Drives one request: accept, call, settle, fall back, answer, all under one deadline.

use std::sync::Arc;
use std::time::Duration;

use huntaze_costs::attempt::{AttemptIntent, Settlement};
use huntaze_costs::ledger::{Ledger, LedgerEntry};
use huntaze_costs::price::Catalogue;
use huntaze_domain::error::ErrorCode;
use huntaze_domain::ids::{AttemptId, IdempotencyKey, UserId, WorkflowId};
use huntaze_domain::intent::{ParsedRequest, WorkflowIntent};
use huntaze_domain::money::Usd;
use huntaze_domain::provider::Provider;
use huntaze_postgres::Database;
use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::prompt;
use crate::provider::{CallEnd, Failure, Providers};
use crate::route::{Offer, Roles, Route, RouteError};
use crate::status::calls_summary;
use crate::store::{
    self, AttemptEnd, Begun, ExistingWorkflow, NewWorkflow, ProviderState, ProviderStates, StoreError, WorkflowError,
};

/// A call with less time than this is not made: it would be cut before its first token.
const SHORTEST_CALL: Duration = Duration::from_millis(500);
/// The answer waits no longer for the ledger; the sweep catches up.
const PROJECTION_PATIENCE: Duration = Duration::from_secs(2);

/// The states of a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkflowStatus {
    /// Accepted, not begun.
    Queued,
    /// Under way, or interrupted and not yet swept.
    Running,
    /// Ended with an answer.
    Completed,
    /// Ended without one.
    Failed,
    /// Waits for a person.
    ManualReview,
    /// Ended by its owner.
    Cancelled,
}

impl WorkflowStatus {
    /// Every state, in the order of the contract.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Completed, Self::Failed, Self::ManualReview, Self::Cancelled];

    /// The name on the wire and in the stores.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::ManualReview => "manual_review",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the name.
    #[must_use]
    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// One change of provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallback {
    /// Who failed.
    pub from: Provider,
    /// Who was asked instead.
    pub to: Provider,
    /// What the first failed of.
    pub reason: String,
    /// When.
    pub timestamp: Timestamp,
}

/// What the workflow's row says; its fields are the row's columns.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct State {
    /// Where it stands.
    pub status: WorkflowStatus,
    /// Who is being asked, or was last.
    pub current_provider: Option<Provider>,
    /// Where each part stands.
    pub provider_states: ProviderStates,
    /// Every change of provider.
    pub fallback_history: Vec<Fallback>,
    /// The answer.
    pub result: Option<Value>,
    /// Why there is none.
    pub error: Option<WorkflowError>,
}

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
    pub trace_id: String,
    /// The wall clock at `accepted_at`.
    pub now: Timestamp,
    /// When the request was taken up.
    pub accepted_at: Instant,
    /// When the answer must be ready.
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

/// One call that gave a text.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) attempt: AttemptIntent,
    pub(crate) settlement: Settlement,
    pub(crate) text: String,
}

/// The main job with all that it needs.
pub struct Orchestrator {
    /// PostgreSQL.
    pub database: Arc<Database>,
    /// DynamoDB.
    pub ledger: Ledger,
    /// What models cost.
    pub catalogue: Catalogue,
    /// Who can be called.
    pub providers: Providers,
    /// Who plays which role.
    pub roles: Roles,
    /// How long a reservation is held for a call whose end is not heard of.
    pub lease: Duration,
}

impl Orchestrator {
    /// Answers a request, with the calls that it needs or from what is stored under its Idempotency-Key.
    ///
    /// # Errors
    /// [`RunError`]; a workflow that failed is an [`Answer`].
    pub async fn handle(&self, request: Request) -> Result<Answer, RunError> {
        let intent = &request.parsed.intent;
        let available = |provider| self.providers.has(provider);
        let route = match Route::find(intent, &self.roles, available, &self.catalogue, request.now) {
            Ok(route) => route,
            Err(no_way) => return self.answered_before(&request).await?.ok_or(no_way.into()),
        };
        let mut run = Run::new(self, &request, &route)?;
        let workflow = NewWorkflow {
            id: &run.id,
            user_id: &request.owner,
            requested_by: &request.requested_by,
            idempotency_key: request.idempotency_key.as_ref(),
            body_hash: request.parsed.body_hash,
            intent,
            request_id: &request.request_id,
            trace_id: &request.trace_id,
            started_at: run.attempt.started_at,
        };
        match store::begin(&self.database, &workflow, &run.state, &run.attempt, self.lease).await? {
            Begun::New => Ok(Answer { result: run.drive().await?, workflow_id: run.id, replayed: false }),
            Begun::Existing(existing) => replay(existing, &request.parsed),
        }
    }

    /// A request that has no way any more (a price rose, a provider went) may have been answered under its key all the same.
    async fn answered_before(&self, request: &Request) -> Result<Option<Answer>, RunError> {
        let Some(key) = &request.idempotency_key else { return Ok(None) };
        let existing = store::existing(&self.database, None, &request.owner, Some(key)).await?;
        existing.map(|existing| replay(existing, &request.parsed)).transpose()
    }

    async fn project(&self, entries: Vec<LedgerEntry>) {
        // One after the other: they meet in the same roll-ups.
        for entry in entries {
            match timeout(PROJECTION_PATIENCE, self.ledger.project(&entry)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, attempt = entry.id, "left to the ledger sweep"),
                Err(_) => tracing::warn!(attempt = entry.id, "the ledger is slow; left to its sweep"),
            }
        }
    }
}

fn replay(existing: ExistingWorkflow, parsed: &ParsedRequest) -> Result<Answer, RunError> {
    if existing.body_hash != parsed.body_hash {
        return Err(RunError::Mismatch);
    }
    let result = match (existing.result, existing.error) {
        (Some(result), _) => Ok(result),
        (None, Some(error)) => Err(error),
        (None, None) => return Err(RunError::InFlight(existing.id)),
    };
    Ok(Answer { workflow_id: existing.id, result, replayed: true })
}

/// What follows the end of a call.
enum Next {
    /// The step's text is there; the next step is called with this offer.
    Step { offer: usize },
    /// The same step is called with this offer.
    FallBack { offer: usize },
    /// All texts are there.
    Complete,
    /// There is no way on.
    Fail(WorkflowError),
}

/// One workflow under way. The attempt it holds is reserved.
struct Run<'a> {
    orchestrator: &'a Orchestrator,
    request: &'a Request,
    route: &'a Route,
    id: WorkflowId,
    step: usize,
    offer: usize,
    attempt: AttemptIntent,
    state: State,
    calls: Vec<Call>,
    spent: Usd,
    unprojected: Vec<LedgerEntry>,
}

impl<'a> Run<'a> {
    fn new(orchestrator: &'a Orchestrator, request: &'a Request, route: &'a Route) -> Result<Self, RouteError> {
        let id = WorkflowId::generate();
        let offer = route.next_offer(0, None, Usd::ZERO)?;
        let mut state = State {
            status: WorkflowStatus::Running,
            current_provider: None,
            provider_states: ProviderStates::default(),
            fallback_history: Vec::new(),
            result: None,
            error: None,
        };
        let attempt = intend(request, route, &id, (0, offer), 1, now(request));
        state.calling(attempt.provider);
        let (calls, spent, unprojected) = (Vec::new(), Usd::ZERO, Vec::new());
        Ok(Self { orchestrator, request, route, id, step: 0, offer, attempt, state, calls, spent, unprojected })
    }

    /// Calls until there is an answer or no way on; each turn settles one attempt and reserves the next.
    async fn drive(&mut self) -> Result<Result<Value, WorkflowError>, RunError> {
        loop {
            let earlier = std::mem::take(&mut self.unprojected);
            // The ledger entry of the call before is written while this one is under way.
            let ((end, duration), ()) = tokio::join!(self.call(), self.orchestrator.project(earlier));
            let failure = end.result.as_ref().err().copied();
            let settlement = self.attempt.settle(end.outcome(), end.billing);
            self.spent = self.spent + settlement.cost;
            let http_status = end.http_status;
            let ended = self.attempt.clone();
            if let Ok(text) = end.result {
                self.calls.push(Call { attempt: ended.clone(), settlement, text });
            }

            let next = self.next(failure);
            let following = self.enter(next, failure);
            let stored = AttemptEnd {
                attempt: &ended,
                settlement,
                failure: failure.map(Failure::as_str),
                http_status,
                duration,
            };
            let (database, lease) = (&self.orchestrator.database, self.orchestrator.lease);
            store::advance(database, &stored, &self.state, following.as_ref(), lease).await?;
            self.unprojected.push(LedgerEntry::of(&ended, settlement, duration));
            match following {
                Some(attempt) => self.attempt = attempt,
                None => break,
            }
        }
        self.orchestrator.project(std::mem::take(&mut self.unprojected)).await;
        Ok(match self.state.error.take() {
            Some(error) => Err(error),
            None => Ok(self.state.result.take().unwrap_or_default()),
        })
    }

    /// Makes the call that is reserved. Returns its end and how long it took.
    async fn call(&self) -> (CallEnd, Duration) {
        let (routed, offer) = (&self.route.steps[self.step], self.current_offer());
        let plan = self.calls.first().filter(|_| routed.step.follows_plan).map(|call| call.text.as_str());
        let chat = prompt::chat(routed.step.prompt, self.intent(), &routed.step.platforms, plan);
        let cap = self.route.time_share(self.step, self.offer, self.remaining());
        let (providers, started) = (&self.orchestrator.providers, Instant::now());
        let end = providers.complete(&offer.candidate, &chat, offer.bound.output_tokens, cap, &self.attempt.id).await;
        tracing::info!(
            workflow = %self.id, attempt = %self.attempt.id, step = routed.step.name, provider = offer.candidate.provider.as_str(),
            model = offer.candidate.model, status = end.http_status, failure = end.result.as_ref().err().map(|f| f.as_str()),
            "call ended"
        );
        (end, started.elapsed())
    }

    /// Decides, from what is known, what follows.
    fn next(&self, failure: Option<Failure>) -> Next {
        let fail = |code, detail: String| Next::Fail(WorkflowError { code, detail });
        let (step, after) = match failure {
            None if self.step + 1 == self.route.steps.len() => return Next::Complete,
            None => (self.step + 1, None),
            Some(Failure::Refused) => {
                let detail = "the provider's content filter refused the request".to_owned();
                return fail(ErrorCode::ComplianceViolation, detail);
            }
            Some(failure) if !failure.falls_back() => {
                let detail = format!("{} refused the call", self.attempt.provider.as_str());
                return fail(ErrorCode::ProviderUnavailable, detail);
            }
            Some(_) => (self.step, Some(self.offer)),
        };
        match self.route.next_offer(step, after, self.spent) {
            Ok(offer) if self.route.time_share(step, offer, self.remaining()) < SHORTEST_CALL => {
                let detail = format!(
                    "no time is left for a call of {}",
                    self.route.steps[step].offers[offer].candidate.provider.as_str()
                );
                fail(ErrorCode::ProviderUnavailable, detail)
            }
            Ok(offer) if failure.is_none() => Next::Step { offer },
            Ok(offer) => Next::FallBack { offer },
            Err(limit @ RouteError::CostLimit { .. }) => fail(ErrorCode::CostLimitExceeded, limit.to_string()),
            Err(_) => {
                let reason = failure.map_or("failed", Failure::as_str);
                fail(ErrorCode::ProviderUnavailable, format!("no provider is left; the last failed with {reason}"))
            }
        }
    }

    /// Puts the decision into the workflow's state. Returns the attempt that follows.
    fn enter(&mut self, next: Next, failure: Option<Failure>) -> Option<AttemptIntent> {
        let ended = self.attempt.provider;
        self.state.provider_states.set(
            ended,
            match failure {
                None => ProviderState::Completed,
                Some(Failure::Timeout) => ProviderState::Timeout,
                Some(_) => ProviderState::Failed,
            },
        );
        let (step, offer) = match next {
            Next::Complete => {
                self.state.status = WorkflowStatus::Completed;
                self.state.result = Some(self.result());
                return None;
            }
            Next::Fail(error) => {
                self.state.status = WorkflowStatus::Failed;
                self.state.error = Some(error);
                return None;
            }
            Next::Step { offer } => (self.step + 1, offer),
            Next::FallBack { offer } => (self.step, offer),
        };
        (self.step, self.offer) = (step, offer);
        let moment = now(self.request);
        let attempt = intend(self.request, self.route, &self.id, (step, offer), self.attempt.sequence + 1, moment);
        if let Some(failure) = failure {
            let reason = failure.as_str().to_owned();
            self.state.fallback_history.push(Fallback { from: ended, to: attempt.provider, reason, timestamp: moment });
        }
        self.state.calling(attempt.provider);
        Some(attempt)
    }

    /// `{"data", "metrics"}` of the contract.
    fn result(&self) -> Value {
        let summary = calls_summary(&self.calls, self.spent);
        let duration = store::millis(self.request.accepted_at.elapsed());
        let contents: Vec<_> =
            self.calls.iter().map(|call| json!({"step": call.attempt.step, "content": call.text})).collect();
        let texts = self.calls.iter().map(|call| match call.attempt.step.strip_prefix("message:") {
            Some(platform) => format!("## {platform}\n\n{}", call.text),
            None => call.text.clone(),
        });
        let content = texts.collect::<Vec<_>>().join("\n\n");
        json!({
            "data": {
                "workflowId": self.id,
                "content": content,
                "contents": contents,
                "provider": summary.provider,
                "platforms": self.intent().platforms,
                "status": WorkflowStatus::Completed,
                "detailedCosts": summary.detailed_costs,
            },
            "metrics": {
                "duration": duration,
                "provider": summary.provider,
                "cost": {"tokens": summary.tokens, "cost": self.spent.to_json_number(), "duration": duration},
            },
        })
    }

    fn intent(&self) -> &WorkflowIntent {
        &self.request.parsed.intent
    }

    fn current_offer(&self) -> &Offer {
        &self.route.steps[self.step].offers[self.offer]
    }

    fn remaining(&self) -> Duration {
        self.request.deadline.saturating_duration_since(Instant::now())
    }
}

impl State {
    fn calling(&mut self, provider: Provider) {
        self.current_provider = Some(provider);
        self.provider_states.set(provider, ProviderState::Executing);
    }
}

/// The wall clock by the request's own clock, which does not step. Whole milliseconds: a ledger key must read the same
/// from PostgreSQL.
fn now(request: &Request) -> Timestamp {
    let now = request.now.saturating_add(request.accepted_at.elapsed()).unwrap_or(request.now);
    now.round(Unit::Millisecond).unwrap_or(now)
}

fn intend(
    request: &Request,
    route: &Route,
    workflow: &WorkflowId,
    (step, offer): (usize, usize),
    sequence: u16,
    started_at: Timestamp,
) -> AttemptIntent {
    let routed = &route.steps[step];
    let Offer { candidate, price, bound } = routed.offers[offer].clone();
    AttemptIntent {
        id: AttemptId::of(workflow, sequence),
        workflow_id: workflow.clone(),
        sequence,
        user_id: request.owner.clone(),
        step: routed.step.name.clone(),
        request_type: request.parsed.intent.workflow_type.as_str(),
        provider: candidate.provider,
        model: candidate.model,
        price,
        bound,
        trace_id: request.trace_id.clone(),
        started_at,
    }
}
