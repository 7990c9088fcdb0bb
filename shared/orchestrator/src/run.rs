//! One request: accepted once, driven to its end, or answered from what is stored under its Idempotency-Key. What does not fit into
//! the time that somebody waits is queued, and taken up by whoever claims it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use huntaze_breaker::Breaker;
use huntaze_costs::budget::Refusal;
use huntaze_costs::price::Catalogue;
use huntaze_domain::ids::{IdempotencyKey, RecipientId, UserId, WorkflowId};
use huntaze_domain::intent::{MessageType, ParsedRequest, WorkflowType};
use huntaze_domain::trace::Trace;
use huntaze_judge::Judge;
use huntaze_messaging::account::overrides;
use huntaze_messaging::limiter::{Limiter, Subject};
use huntaze_messaging::outbox::Rules;
use huntaze_messaging::room::Room;
use huntaze_postgres::Database;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::aftermath::Left;
use crate::cache::Cache;
use crate::claimed::Claimed;
use crate::drive::{Course, Flight, Run};
use crate::judging::Judging;
use crate::machine::Stop;
use crate::provider::Providers;
use crate::route::{CallTimes, Roles, Route, RouteError, steps};
use crate::store::{
    self, AccountFault, Advanced, Begun, ExistingWorkflow, Found, NewWorkflow, Queued, Refusals, SendingAccount,
    StoreError,
};
use crate::workflow::{Checkpoint, Reuse, State, Text, WorkflowError, WorkflowStatus};

/// A request that is refused waits no longer for what it had begun to be taken back.
const WITHDRAWAL_PATIENCE: Duration = Duration::from_secs(2);
/// Where nobody waits, a longer wait for a provider is the queue's: one that is longer than our own longest, spread by a fifth.
const LONGEST_WAIT: Duration = Duration::from_secs(6);
/// When it is worth to look again for what a person decides.
const REVIEW: Duration = Duration::from_secs(60);

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
    /// A longer wait for a provider is not sat out.
    pub longest_wait: Duration,
    /// Its client does not want to wait for the answer.
    pub later: bool,
    /// Which texts that were made before its client takes.
    pub reuse: Reuse,
}

/// What a workflow came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    /// `{"data", "metrics"}` of the contract.
    Result(Value),
    /// What it failed of.
    Error(WorkflowError),
    /// It goes on, and nobody has to wait.
    Later {
        /// Where it stands.
        status: WorkflowStatus,
        /// When it is due.
        due: Duration,
    },
}

/// How a request was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The workflow.
    pub workflow_id: WorkflowId,
    /// What it came to.
    pub given: Given,
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
    /// How often another provider was asked.
    pub fallbacks: u64,
    /// What is left to be done.
    pub left: Left,
    /// It was taken on, or may have been: whoever does it elsewhere may do it twice.
    pub begun: bool,
}

impl From<Result<Answer, RunError>> for Outcome {
    fn from(answer: Result<Answer, RunError>) -> Self {
        let begun = matches!(answer, Err(RunError::Store(_)));
        Self { answer, fallbacks: 0, left: Left::default(), begun }
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
    /// How long a call may take that somebody waits for.
    pub times: CallTimes,
    /// How long a workflow may take from its acceptance to its end.
    pub patience: Duration,
    /// Where nobody waits and no provider is left, all of them are asked again after so long.
    pub pause: Duration,
    /// The types of work that a person decides about where no provider is left.
    pub reviewed: Vec<WorkflowType>,
    /// How messages are taken on.
    pub sending: Rules,
    /// Who may be called; `None` where nobody is called.
    pub breaker: Option<Breaker>,
    /// Texts that were made before; `None` where none are kept.
    pub cache: Option<Cache>,
    /// How many an account may send; `None` where there is no telling.
    pub limiter: Option<Limiter>,
    /// What judges texts.
    pub judge: Judge,
}

impl Orchestrator {
    /// Opens the connection of breaker and cache, and loads their scripts, ahead of their first use.
    pub async fn warm_up(&self) {
        let breaker = async {
            if let Some(breaker) = &self.breaker {
                breaker.warm_up().await;
            }
        };
        let cache = async {
            if let Some(cache) = &self.cache {
                cache.warm_up().await;
            }
        };
        tokio::join!(breaker, cache);
    }

    /// Answers a request, with the calls that it needs or from what is stored under its Idempotency-Key.
    ///
    /// `admitted` says whether who asks may ask now. It is waited for beside the first statement, which is taken back where
    /// it says no: a refused request keeps nothing and owes nothing.
    pub async fn handle(&self, request: Request, admitted: impl Future<Output = bool>) -> Outcome {
        let route = match self.route(&request.parsed, Some(&self.times), request.now) {
            Ok(route) => route,
            Err(no_way) => return self.without_way(&request, no_way.into(), admitted).await.into(),
        };
        // No call is cut to answer a gateway: what may not end in time is not begun here.
        if request.later || Instant::now() + route.time() > request.deadline {
            return self.queue(&request, admitted).await;
        }
        let mut run = Run::new(self, &request, &route);
        let mut first = match run.begin() {
            Ok(first) => first,
            // It was a matter of milliseconds.
            Err(Stop::NoTime) => return self.queue(&request, admitted).await,
            Err(stop) if run.is_reviewed(&stop) => return self.queue(&request, admitted).await,
            Err(stop) => return self.without_way(&request, stop.into(), admitted).await.into(),
        };
        if let Some(error) = self.in_vain(&run, &first).await {
            return self.without_way(&request, error, admitted).await.into();
        }
        let workflow = beginning(&request, &first);
        let begin = store::begin(&self.database, &workflow, &run.state, &first.attempt, self.lease);
        let gate = run.gate(&first);
        let asking = async { if first.is_kept() { None } else { Some(gate.ask().await) } };
        let (mut begun, admitted, asked) = tokio::join!(begin, admitted, asking);
        if matches!(begun, Ok(Begun::New(_))) && admitted {
            first.asked = asked;
        } else if let Some(asked) = asked {
            gate.give_back(asked).await;
        }
        let refused = loop {
            match (begun, admitted) {
                (Ok(Begun::New(account)), true) => {
                    run.sender = account.as_ref().map(|account| account.id.clone());
                    // What the limits leave is asked beside the calls: nobody waits for it.
                    let driving = run.drive(vec![first], Refusals::new());
                    let (course, room) = tokio::join!(driving, self.room(&request, account.as_ref()));
                    return ended(run, course, &request, |result| with_room(result, room));
                }
                // Nothing is kept of a beginning that a budget refused: a cheaper one is tried, as long as there is one.
                (Ok(Begun::Refused(refusal)), true) => {
                    let next = match run.refused(first, refusal) {
                        Ok(next) => self.in_vain(&run, &next).await.map_or(Ok(next), Err),
                        Err(error) => Err(error),
                    };
                    first = match next {
                        Ok(next) => next,
                        Err(error) => {
                            let outcome = match run.stop().is_some_and(|stop| run.is_reviewed(stop)) {
                                true => self.queue(&request, async { true }).await,
                                false => Err(error).into(),
                            };
                            let left = Left { refusal: run.refusal, ..outcome.left };
                            return Outcome { left, ..outcome };
                        }
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
        let withdrawn = self.withdraw(&beginning(&request, &first), &run.state).await;
        let never_sent = matches!(&refused, RunError::Store(error) if error.was_never_sent());
        // Under its key there may be another, which nobody could see.
        let unknown = matches!(refused, RunError::Store(_)) && request.idempotency_key.is_some();
        Outcome { begun: unknown || !(withdrawn || never_sent), ..Err(refused).into() }
    }

    /// The way of a request. `waited`: how long its calls may take, where somebody waits for them.
    fn route(&self, parsed: &ParsedRequest, waited: Option<&CallTimes>, now: Timestamp) -> Result<Route, RouteError> {
        let time = |provider, role| {
            let whole = self.providers.time(provider)?;
            Some(waited.map_or(whole, |times| times.of(role).min(whole)))
        };
        Route::find(&parsed.intent, &self.roles, time, &self.catalogue, now)
    }

    /// Where the texts of a request are kept. What is sent to a fan is made for him each time: nobody is told the same twice.
    pub(crate) fn cache_of(&self, request: &Request) -> Option<&Cache> {
        let may = request.reuse != Reuse::Never && !request.parsed.intent.send_to_only_fans;
        self.cache.as_ref().filter(|_| may)
    }

    /// Whether texts of such a request are kept.
    pub(crate) fn keeps(&self, request: &Request) -> bool {
        let kept = |cache: &Cache| cache.times(request.parsed.intent.workflow_type).kept;
        self.cache_of(request).is_some_and(|cache| !kept(cache).is_zero())
    }

    /// Why a request is not worth a beginning: no provider is left for its first call, no text is kept, and no person is asked.
    async fn in_vain(&self, run: &Run<'_>, first: &Flight) -> Option<RunError> {
        let stop = run.in_need().filter(|_| first.is_kept())?;
        let kept = match self.cache_of(run.request()) {
            Some(cache) => cache.look(&run.gate(first).key).await,
            None => None,
        };
        (kept.is_none() && !run.is_reviewed(stop)).then(|| run.refusal_of(stop))
    }

    /// Takes a request on for the queue.
    async fn queue(&self, request: &Request, admitted: impl Future<Output = bool>) -> Outcome {
        if !admitted.await {
            return Err(RunError::NotAdmitted).into();
        }
        let id = WorkflowId::generate();
        let workflow = accepted(request, &id, request.now);
        let checkpoint = Some(Checkpoint { reuse: request.reuse, ..Checkpoint::default() });
        match store::queue(&self.database, &workflow, &State { checkpoint, ..State::default() }).await {
            Ok(Queued::New) => {
                let given = Given::Later { status: WorkflowStatus::Queued, due: Duration::ZERO };
                let handed_over = Some((id.clone(), request.owner.clone(), Duration::ZERO));
                let left = Left { handed_over, ..Left::default() };
                Outcome { left, begun: true, ..Ok(Answer { workflow_id: id, given, replayed: false }).into() }
            }
            Ok(Queued::Existing(existing)) => replay(existing, &request.parsed).into(),
            Ok(Queued::NoAccount(fault)) => Err(RunError::Account(fault)).into(),
            // Where it is there all the same, it is done: the client may ask for it by its key.
            Err(error) => Err(error.into()).into(),
        }
    }

    /// Claims a workflow that is due, for a lease: its calls end by `deadline`, which must be sooner.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn claim(&self, id: &WorkflowId) -> Result<Found, StoreError> {
        store::claim(&self.database, id, self.lease).await
    }

    /// Goes on with a workflow that was claimed, until it has ended or the rest is for later. Its calls end by `deadline`.
    pub async fn take_up(&self, claimed: &Claimed, now: Timestamp, deadline: Instant) -> Outcome {
        let accepted_at = Instant::now();
        let claimed = match self.judged(claimed, deadline).await {
            Ok(judged) => judged,
            Err(error) => return Err(RunError::from(error)).into(),
        };
        let claimed = &*claimed;
        let request = Request {
            parsed: claimed.parsed.clone(),
            owner: claimed.owner.clone(),
            requested_by: claimed.requested_by.clone(),
            idempotency_key: None,
            request_id: claimed.request_id.clone(),
            trace: Trace::new(&claimed.trace_id, false)
                .unwrap_or_else(|| Trace::begin(now.as_nanosecond().unsigned_abs())),
            now,
            accepted_at,
            deadline,
            longest_wait: LONGEST_WAIT,
            later: true,
            reuse: claimed.checkpoint.reuse,
        };
        let route = match self.route(&claimed.parsed, None, now) {
            Ok(route) => route,
            Err(no_way) => return self.end(claimed, &no_way).await,
        };
        let mut run = Run::resume(self, &request, &route, claimed);
        let first = run.take_up();
        let attempts: Vec<_> = first.iter().map(|flight| &flight.attempt).collect();
        let (state, outgoing) = (run.snapshot(), run.outgoing.clone());
        let taken = store::take_up(&self.database, claimed, &state, &attempts, self.lease, outgoing.as_ref()).await;
        let course = match taken {
            Ok(Advanced { refusals, message_status, wake }) => {
                run.kept(message_status, wake);
                run.drive(first, refusals).await
            }
            Err(error) => Err(error.into()),
        };
        ended(run, course, &request, |result| result)
    }

    /// Texts that were kept before texts were judged are judged now; what is blocked is made again.
    async fn judged<'c>(&self, claimed: &'c Claimed, by: Instant) -> Result<Cow<'c, Claimed>, StoreError> {
        let mut judged = Cow::Borrowed(claimed);
        let (steps, profile) = (steps(&claimed.parsed.intent), Arc::default());
        for step in &steps {
            let kept = claimed.checkpoint.texts.get(&step.name);
            let Some(kept) = kept.filter(|kept| kept.judged.is_none()) else { continue };
            let judging = Judging::of(claimed, &self.judge, step, Arc::clone(&profile));
            let (said, is_blocked) = judging.text(&kept.content, false, by).await;
            let about = judging.about(judging.origin(false), &claimed.requested_by, &claimed.id, &claimed.request_id);
            // Whoever takes it up next, should this driver not get there, says the same of it: that is one judgement.
            let mut row = said.row(&about);
            row["id"] = format!("jdg_{}_{}_{}", claimed.id, step.name, said.rule_version).into();
            self.judge.keep(&row).await?;
            let texts = &mut judged.to_mut().checkpoint.texts;
            if is_blocked {
                texts.remove(&step.name);
            } else {
                texts.insert(step.name.clone(), Text { judged: Some(said), ..kept.clone() });
            }
        }
        Ok(judged)
    }

    /// Ends a workflow that was accepted and has no way any more.
    async fn end(&self, claimed: &Claimed, no_way: &RouteError) -> Outcome {
        let error = WorkflowError { limit: no_way.limit(), ..WorkflowError::new(no_way.code(), no_way.to_string()) };
        let state = State { status: WorkflowStatus::Failed, error: Some(error.clone()), ..claimed.state.clone() };
        let ended = store::take_up(&self.database, claimed, &state, &[], self.lease, None).await;
        let answer =
            ended.map(|_| Answer { workflow_id: claimed.id.clone(), given: Given::Error(error), replayed: false });
        answer.map_err(RunError::from).into()
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

    /// Takes a beginning back; says whether that was done. Nothing was called, so nothing is owed, also where it is not known whether
    /// the statement ran.
    async fn withdraw(&self, workflow: &NewWorkflow<'_>, state: &State) -> bool {
        let done = timeout(WITHDRAWAL_PATIENCE, store::withdraw(&self.database, workflow, state)).await;
        match &done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, workflow = %workflow.id, "left to the sweep"),
            Err(_) => tracing::warn!(workflow = %workflow.id, "not withdrawn in time; left to the sweep"),
        }
        matches!(done, Ok(Ok(())))
    }

    /// A request that has no way any more (a price rose, a provider went) may have been answered under its key all the same.
    async fn without_way(
        &self,
        request: &Request,
        no_way: RunError,
        admitted: impl Future<Output = bool>,
    ) -> Result<Answer, RunError> {
        if !admitted.await {
            return Err(RunError::NotAdmitted);
        }
        self.earlier(request).await?.unwrap_or(Err(no_way))
    }

    /// The answer that a request had before, under the same Idempotency-Key.
    ///
    /// # Errors
    /// [`StoreError`]: it is not known.
    pub async fn earlier(&self, request: &Request) -> Result<Option<Result<Answer, RunError>>, StoreError> {
        let Some(key) = &request.idempotency_key else { return Ok(None) };
        let existing = store::existing(&self.database, None, &request.owner, Some(key)).await?;
        Ok(existing.map(|existing| replay(existing, &request.parsed)))
    }

    /// Whether nothing was paid for a workflow that has ended.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn cost_nothing(&self, workflow: &WorkflowId) -> Result<bool, StoreError> {
        store::cost_nothing(&self.database, workflow).await
    }
}

/// An answer with what the limits leave, which is no part of what is kept: it is another a moment later.
fn with_room(mut result: Value, room: Option<Value>) -> Value {
    if let Some(room) = room {
        result["data"]["rateLimitStatus"] = room;
    }
    result
}

/// What a driver's part of a workflow comes to, with all that was done for it.
fn ended(
    run: Run<'_>,
    course: Result<Course, RunError>,
    request: &Request,
    shown: impl FnOnce(Value) -> Value,
) -> Outcome {
    let fallbacks = run.fallbacks();
    let Run { id, entries, changes, refusal, sender, wake, .. } = run;
    let given = course.map(|course| match course {
        Course::Completed(result) => Given::Result(shown(result)),
        Course::Failed(error) => Given::Error(error),
        Course::Later(due) => Given::Later { status: WorkflowStatus::Queued, due },
        Course::Review => Given::Later { status: WorkflowStatus::ManualReview, due: REVIEW },
    });
    let handed_over = match &given {
        Ok(Given::Later { status: WorkflowStatus::Queued, due }) => Some((id.clone(), request.owner.clone(), *due)),
        _ => None,
    };
    let answer = given.map(|given| Answer { workflow_id: id, given, replayed: false });
    let left = Left { entries, changes, refusal, wake: sender.zip(wake), handed_over };
    Outcome { answer, fallbacks, left, begun: true }
}

/// A request as a workflow that begins with a call.
fn beginning<'a>(request: &'a Request, first: &'a Flight) -> NewWorkflow<'a> {
    accepted(request, &first.attempt.workflow_id, first.attempt.started_at)
}

fn accepted<'a>(request: &'a Request, id: &'a WorkflowId, started_at: Timestamp) -> NewWorkflow<'a> {
    NewWorkflow {
        id,
        user_id: &request.owner,
        requested_by: &request.requested_by,
        idempotency_key: request.idempotency_key.as_ref(),
        body_hash: request.parsed.body_hash,
        intent: &request.parsed.intent,
        request_id: &request.request_id,
        trace_id: request.trace.id(),
        started_at,
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
    let given = match (existing.status, existing.result, existing.error) {
        (WorkflowStatus::Completed, Some(result), _) => Given::Result(result),
        (WorkflowStatus::Failed | WorkflowStatus::Cancelled, _, Some(error)) => Given::Error(error),
        (status @ WorkflowStatus::ManualReview, ..) => Given::Later { status, due: REVIEW },
        (status @ (WorkflowStatus::Queued | WorkflowStatus::Running), ..) if existing.handed_over => {
            Given::Later { status, due: Duration::ZERO }
        }
        // Also one that has failed already and still waits for the calls beside the one that did.
        _ => return Err(RunError::InFlight(existing.id)),
    };
    Ok(Answer { workflow_id: existing.id, given, replayed: true })
}
