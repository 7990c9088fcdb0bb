//! Drives one request: accept, call, settle, fall back, answer, all under one deadline.
//!
//! The first step (the plan, or the only text) is called alone; the steps that follow need nothing but the plan and are
//! called side by side. Whatever ends, one place decides what follows and one statement keeps it.
//! Calls go on while an earlier one's end is being kept, and are never dropped: what was begun is settled.

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use huntaze_costs::attempt::{AttemptIntent, Billing, Settlement};
use huntaze_costs::ledger::{Ledger, LedgerEntry};
use huntaze_costs::price::Catalogue;
use huntaze_domain::error::ErrorCode;
use huntaze_domain::ids::{AttemptId, IdempotencyKey, UserId, WorkflowId};
use huntaze_domain::intent::ParsedRequest;
use huntaze_domain::money::Usd;
use huntaze_domain::provider::Provider;
use huntaze_domain::trace::Trace;
use huntaze_postgres::Database;
use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::prompt;
use crate::provider::{CallEnd, Failure, Providers};
use crate::route::{Offer, Roles, Route, RouteError};
use crate::status::booked_summary;
use crate::store::{
    self, AttemptEnd, Begun, ExistingWorkflow, NewWorkflow, ProviderState, ProviderStates, StoreError, WorkflowError,
};

/// A call with less time than this is not made: it would be cut before its first token.
const SHORTEST_CALL: Duration = Duration::from_millis(500);
/// The answer waits no longer for the ledger, and never past the time it is due; the sweep catches up.
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
    pub trace: Trace,
    /// The wall clock at `accepted_at`.
    pub now: Timestamp,
    /// When the request was taken up.
    pub accepted_at: Instant,
    /// When the last call must have ended: there is still its settlement to be written.
    pub deadline: Instant,
    /// When the answer must be out.
    pub answer_by: Instant,
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
    /// Too little time was left for a first call; nothing was stored or called.
    #[error("no time is left for a call")]
    NoTime,
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

/// One call that ended, as it is booked.
#[derive(Debug, Clone)]
pub(crate) struct Booked {
    pub(crate) attempt: AttemptIntent,
    pub(crate) settlement: Settlement,
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
        let mut run = Run::new(self, &request, &route);
        let first = run.launch(0, route.next_offer(0, None, Usd::ZERO, route.rest(1))?);
        if route.time_share(0, first.offer, run.remaining()) < SHORTEST_CALL {
            return Err(RunError::NoTime);
        }
        let workflow = NewWorkflow {
            id: &run.id,
            user_id: &request.owner,
            requested_by: &request.requested_by,
            idempotency_key: request.idempotency_key.as_ref(),
            body_hash: request.parsed.body_hash,
            intent,
            request_id: &request.request_id,
            trace_id: request.trace.id(),
            started_at: first.attempt.started_at,
        };
        match store::begin(&self.database, &workflow, &run.state, &first.attempt, self.lease).await? {
            Begun::New => Ok(Answer { result: run.drive(first).await?, workflow_id: run.id, replayed: false }),
            Begun::Existing(existing) => replay(existing, &request.parsed),
        }
    }

    /// A request that has no way any more (a price rose, a provider went) may have been answered under its key all the same.
    async fn answered_before(&self, request: &Request) -> Result<Option<Answer>, RunError> {
        let Some(key) = &request.idempotency_key else { return Ok(None) };
        let existing = store::existing(&self.database, None, &request.owner, Some(key)).await?;
        existing.map(|existing| replay(existing, &request.parsed)).transpose()
    }

    async fn project(&self, entry: LedgerEntry, answer_by: Instant) {
        let patience = PROJECTION_PATIENCE.min(answer_by.saturating_duration_since(Instant::now()));
        match timeout(patience, self.ledger.project(&entry)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, attempt = entry.id, "left to the ledger sweep"),
            Err(_) => tracing::warn!(attempt = entry.id, "the ledger is slow; left to its sweep"),
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

/// A call that is about to be made: its attempt is reserved, or is in the statement that reserves it.
struct Launch {
    step: usize,
    offer: usize,
    attempt: AttemptIntent,
}

/// A call that ended.
struct Ended {
    launch: Launch,
    end: CallEnd,
    duration: Duration,
}

/// The end of a call as it is to be kept: decided, not written yet.
struct Decision {
    attempt: AttemptIntent,
    settlement: Settlement,
    failure: Option<&'static str>,
    http_status: Option<u16>,
    duration: Duration,
    following: Vec<Launch>,
}

/// What a workflow waits for.
enum Event {
    /// A call ended.
    Ended(Box<Ended>),
    /// A decision is written, or could not be.
    Written(Box<Decision>, Result<(), StoreError>),
    /// A ledger entry is written, or left to the sweep.
    Projected,
}

type Work<'a> = FuturesUnordered<Pin<Box<dyn Future<Output = Event> + Send + 'a>>>;

/// One workflow under way.
struct Run<'a> {
    orchestrator: &'a Orchestrator,
    request: &'a Request,
    route: &'a Route,
    id: WorkflowId,
    state: State,
    /// The text of each step, and whether it was cut short.
    texts: Vec<Option<(String, bool)>>,
    booked: Vec<Booked>,
    spent: Usd,
    /// The bounds of the calls that are under way, by provider.
    held: Vec<(Provider, Usd)>,
    sequence: u16,
    /// The store failed: nothing new is called, what is under way is still settled.
    broken: Option<StoreError>,
}

impl<'a> Run<'a> {
    fn new(orchestrator: &'a Orchestrator, request: &'a Request, route: &'a Route) -> Self {
        let state = State {
            status: WorkflowStatus::Running,
            current_provider: None,
            provider_states: ProviderStates::default(),
            fallback_history: Vec::new(),
            result: None,
            error: None,
        };
        let texts = vec![None; route.steps.len()];
        let (id, booked, held) = (WorkflowId::generate(), Vec::new(), Vec::new());
        let (spent, sequence, broken) = (Usd::ZERO, 0, None);
        Self { orchestrator, request, route, id, state, texts, booked, spent, held, sequence, broken }
    }

    /// Calls until there is an answer or no way on. Decisions are written one after the other, in the order they were made.
    async fn drive(&mut self, first: Launch) -> Result<Result<Value, WorkflowError>, RunError> {
        let (mut work, mut decisions, mut writing) = (Work::new(), VecDeque::new(), false);
        work.push(self.call(first));
        while let Some(event) = work.next().await {
            match event {
                Event::Ended(ended) => decisions.push_back(self.decide(*ended)),
                Event::Written(decision, Ok(())) => {
                    writing = false;
                    work.push(self.project(&decision));
                    decision.following.into_iter().for_each(|launch| work.push(self.call(launch)));
                }
                Event::Written(_, Err(error)) => {
                    writing = false;
                    self.broken.get_or_insert(error);
                }
                Event::Projected => {}
            }
            if !writing && let Some(mut decision) = decisions.pop_front() {
                if self.broken.is_some() {
                    decision.following.clear();
                } else if self.held.is_empty() && decisions.is_empty() {
                    // Everything has ended, and all but this is written: the workflow ends with it.
                    self.finish();
                }
                writing = true;
                work.push(self.write(decision));
            }
        }
        drop(work);
        match (self.broken.take(), self.state.error.take()) {
            (Some(store), _) => Err(store.into()),
            (None, Some(error)) => Ok(Err(error)),
            (None, None) => Ok(Ok(self.state.result.take().unwrap_or_default())),
        }
    }

    fn write(&self, decision: Decision) -> Pin<Box<dyn Future<Output = Event> + Send + 'a>> {
        let (orchestrator, state) = (self.orchestrator, self.state.clone());
        Box::pin(async move {
            let Decision { attempt, settlement, failure, http_status, duration, following } = &decision;
            let attempts: Vec<_> = following.iter().map(|launch| &launch.attempt).collect();
            let (settlement, failure, http_status, duration) = (*settlement, *failure, *http_status, *duration);
            let end = AttemptEnd { attempt, settlement, failure, http_status, duration };
            let written = store::advance(&orchestrator.database, &end, &state, &attempts, orchestrator.lease).await;
            Event::Written(Box::new(decision), written)
        })
    }

    fn project(&self, decision: &Decision) -> Pin<Box<dyn Future<Output = Event> + Send + 'a>> {
        let (orchestrator, answer_by) = (self.orchestrator, self.request.answer_by);
        let entry = LedgerEntry::of(&decision.attempt, decision.settlement, decision.duration);
        Box::pin(async move {
            orchestrator.project(entry, answer_by).await;
            Event::Projected
        })
    }

    fn call(&self, launch: Launch) -> Pin<Box<dyn Future<Output = Event> + Send + 'a>> {
        let routed = &self.route.steps[launch.step];
        let offer = &routed.offers[launch.offer];
        let plan = self.texts.first().and_then(Option::as_ref).filter(|_| routed.step.follows_plan);
        let plan = plan.map(|(text, _)| text.as_str());
        let chat = prompt::chat(routed.step.prompt, &self.request.parsed.intent, &routed.step.platforms, plan);
        let (route, providers, deadline) = (self.route, &self.orchestrator.providers, self.request.deadline);
        Box::pin(async move {
            let started = Instant::now();
            let cap = route.time_share(launch.step, launch.offer, deadline.saturating_duration_since(started));
            let end = if cap < SHORTEST_CALL {
                CallEnd::not_sent(Failure::Timeout)
            } else {
                providers.complete(&offer.candidate, &chat, offer.bound.output_tokens, cap, &launch.attempt.id).await
            };
            tracing::info!(
                workflow = %launch.attempt.workflow_id, attempt = %launch.attempt.id, step = routed.step.name,
                provider = offer.candidate.provider.as_str(), model = offer.candidate.model, status = end.http_status,
                failure = end.result.as_ref().err().map(|failure| failure.as_str()), "call ended"
            );
            Event::Ended(Box::new(Ended { launch, end, duration: started.elapsed() }))
        })
    }

    /// Books a call's end and decides what follows.
    fn decide(&mut self, ended: Ended) -> Decision {
        let Ended { launch: ended, end, duration } = ended;
        let failure = end.result.as_ref().err().copied();
        let settlement = ended.attempt.settle(end.outcome(), end.billing);
        if let Billing::Usage(claimed) = end.billing
            && settlement.estimated
        {
            tracing::error!(attempt = %ended.attempt.id, ?claimed, bound = ?ended.attempt.bound, "impossible usage");
        }
        self.spent = self.spent + settlement.cost;
        let reserved = (ended.attempt.provider, ended.attempt.bound_cost());
        self.held.iter().position(|held| *held == reserved).map(|index| self.held.swap_remove(index));
        self.state.ended(ended.attempt.provider, failure, &self.held);
        self.booked.push(Booked { attempt: ended.attempt.clone(), settlement });
        if let Ok(text) = end.result {
            self.texts[ended.step] = Some((text, end.truncated));
        }

        let following = self.next(&ended, failure);
        Decision {
            settlement,
            failure: failure.map(Failure::as_str),
            http_status: end.http_status,
            duration,
            following,
            attempt: ended.attempt,
        }
    }

    /// Decides what follows the end of a call: the steps behind it, a fallback, or nothing. Once a part has failed for good,
    /// nothing new is called.
    fn next(&mut self, ended: &Launch, failure: Option<Failure>) -> Vec<Launch> {
        if self.state.error.is_some() || self.broken.is_some() {
            return Vec::new();
        }
        let decided = match failure {
            // The plan is there: every step behind it, at once.
            None if ended.step == 0 => self.launch_all(1..self.route.steps.len()),
            None => Ok(Vec::new()),
            Some(failure) => self.fall_back(ended, failure).map(|launch| vec![launch]),
        };
        decided.unwrap_or_else(|error| {
            self.state.error = Some(error);
            Vec::new()
        })
    }

    fn launch_all(&mut self, steps: Range<usize>) -> Result<Vec<Launch>, WorkflowError> {
        // All are chosen before one is launched: what cannot be ended is not begun.
        let mut committed = self.committed();
        let mut chosen = Vec::with_capacity(steps.len());
        for step in steps {
            let offer = self.choose(step, None, committed, self.route.rest(step + 1), None)?;
            committed = committed + self.route.steps[step].offers[offer].bound_cost();
            chosen.push((step, offer));
        }
        Ok(chosen.into_iter().map(|(step, offer)| self.launch(step, offer)).collect())
    }

    fn fall_back(&mut self, ended: &Launch, failure: Failure) -> Result<Launch, WorkflowError> {
        let from = ended.attempt.provider;
        if !failure.falls_back() {
            return Err(match failure {
                Failure::Refused => WorkflowError::new(
                    ErrorCode::ComplianceViolation,
                    "the provider's content filter refused the request",
                ),
                _ => WorkflowError::new(
                    ErrorCode::InvalidRequest,
                    format!("{} refused the request as it stands; it may be too long", from.as_str()),
                ),
            });
        }
        // The steps behind the plan are not begun yet; behind any other step there is none.
        let rest = if ended.step == 0 { self.route.rest(1) } else { Usd::ZERO };
        let offer = self.choose(ended.step, Some(ended.offer), self.committed(), rest, Some(failure))?;
        let launch = self.launch(ended.step, offer);
        let (to, timestamp) = (launch.attempt.provider, launch.attempt.started_at);
        self.state.fallback_history.push(Fallback { from, to, reason: failure.as_str().to_owned(), timestamp });
        Ok(launch)
    }

    /// The next offer of a step that money and time allow.
    fn choose(
        &self,
        step: usize,
        after: Option<usize>,
        committed: Usd,
        rest: Usd,
        failure: Option<Failure>,
    ) -> Result<usize, WorkflowError> {
        let unavailable = |detail| WorkflowError::new(ErrorCode::ProviderUnavailable, detail);
        let offer = self.route.next_offer(step, after, committed, rest).map_err(|error| match error {
            RouteError::CostLimit { .. } => WorkflowError {
                limit: error.limit(),
                ..WorkflowError::new(ErrorCode::CostLimitExceeded, error.to_string())
            },
            _ => {
                let reason = failure.map_or("failed", Failure::as_str);
                unavailable(format!("no provider is left; the last ended with {reason}"))
            }
        })?;
        if self.route.time_share(step, offer, self.remaining()) < SHORTEST_CALL {
            return Err(unavailable("no time is left for another call".to_owned()));
        }
        Ok(offer)
    }

    /// Makes the intent of a call and counts its bound as held.
    fn launch(&mut self, step: usize, offer: usize) -> Launch {
        self.sequence += 1;
        let routed = &self.route.steps[step];
        let Offer { candidate, price, bound } = routed.offers[offer].clone();
        let attempt = AttemptIntent {
            id: AttemptId::of(&self.id, self.sequence),
            workflow_id: self.id.clone(),
            sequence: self.sequence,
            user_id: self.request.owner.clone(),
            step: routed.step.name.clone(),
            request_type: self.request.parsed.intent.workflow_type.as_str(),
            provider: candidate.provider,
            model: candidate.model,
            price,
            bound,
            trace_id: self.request.trace.id().to_owned(),
            started_at: self.now(),
        };
        self.held.push((attempt.provider, attempt.bound_cost()));
        self.state.calling(attempt.provider);
        Launch { step, offer, attempt }
    }

    /// What is spent, and what may still be spent by the calls under way.
    fn committed(&self) -> Usd {
        self.spent + self.held.iter().map(|(_, bound)| *bound).sum()
    }

    fn finish(&mut self) {
        if self.state.error.is_some() {
            self.state.status = WorkflowStatus::Failed;
        } else {
            self.state.status = WorkflowStatus::Completed;
            self.state.result = Some(self.result());
        }
    }

    /// `{"data", "metrics"}` of the contract.
    fn result(&self) -> Value {
        let summary = booked_summary(&self.booked);
        let duration = store::millis(self.request.accepted_at.elapsed());
        let texts = || self.route.steps.iter().zip(self.texts.iter().flatten());
        let contents: Vec<_> = texts()
            .map(|(routed, (text, truncated))| json!({"step": routed.step.name, "content": text, "truncated": truncated}))
            .collect();
        let content: Vec<_> = texts()
            .map(|(routed, (text, _))| match routed.step.name.strip_prefix("message:") {
                Some(platform) => format!("## {platform}\n\n{text}"),
                None => text.clone(),
            })
            .collect();
        json!({
            "data": {
                "workflowId": self.id,
                "content": content.join("\n\n"),
                "contents": contents,
                "provider": summary.provider,
                "platforms": self.request.parsed.intent.platforms,
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

    /// The wall clock by the request's own clock, which does not step. Whole milliseconds: a ledger key must read the same
    /// from PostgreSQL.
    fn now(&self) -> Timestamp {
        let request = self.request;
        let now = request.now.saturating_add(request.accepted_at.elapsed()).unwrap_or(request.now);
        now.round(Unit::Millisecond).unwrap_or(now)
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

    fn ended(&mut self, provider: Provider, failure: Option<Failure>, still_held: &[(Provider, Usd)]) {
        let state = match failure {
            _ if still_held.iter().any(|(held, _)| *held == provider) => ProviderState::Executing,
            None => ProviderState::Completed,
            Some(Failure::Timeout) => ProviderState::Timeout,
            Some(_) => ProviderState::Failed,
        };
        self.provider_states.set(provider, state);
    }
}
