//! Which system serves a request, and what it came to there.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join;
use http::StatusCode;
use huntaze_costs::alert::Alert;
use huntaze_domain::error::ErrorCode;
use huntaze_domain::ids::{UserId, WorkflowId};
use huntaze_domain::money::Usd;
use huntaze_domain::principal::{Attributes, Forbidden, Principal};
use huntaze_lambda::api::{Call, Content, Reply};
use huntaze_lambda::metrics::{self, ProviderCall};
use huntaze_lambda::problem::{Problem, status_and_title};
use huntaze_lambda::scheduled::now;
use huntaze_orchestrator::aftermath::Left;
use huntaze_orchestrator::route::RouteError;
use huntaze_orchestrator::run::{Answer, Given, Outcome, Request, RunError};
use huntaze_rollout::choice::{Choice, Who, Why};
use huntaze_rollout::legacy::{LegacyError, Passed};
use huntaze_rollout::old;
use huntaze_rollout::sides::{OURS, Seen};
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::request::{deal, unread};
use crate::{Campaigns, answer};

/// When it is worth to ask again whom the flag takes in, or to look for the old system.
const RETRY: Duration = Duration::from_secs(2);
/// Nobody waits longer to find out whether a request was here before.
const EARLIER_PATIENCE: Duration = Duration::from_secs(1);
/// Less is not worth to begin a call of the old system with: it would be cut, and nobody would know what became of it.
const LEAST_TIME: Duration = Duration::from_secs(8);
/// What is told of a request's faults where there is only a sentence for it.
const MOST_FAULTS: usize = 5;

/// Nothing is known of a user whom an administrator names.
const UNKNOWN: Attributes = Attributes { tier: None, region: None, created_at: None };

/// What a request came to.
#[derive(Default)]
struct Came {
    failed: bool,
    blocked: bool,
    cost: Option<Usd>,
}

/// Where a request ended up.
enum Side {
    /// The old system is to serve it.
    There,
    /// It was answered here.
    Here(Result<Reply, Problem>, Trace),
}

/// What a request left here.
enum Trace {
    /// It failed by a fault of ours, or cannot be read, and nothing of it was taken on.
    None,
    /// It failed by a fault of ours, and so did its workflow, which may have been paid for.
    Failed(WorkflowId),
    /// Something, or it is no failure of ours.
    Some,
}

/// A request whose side is decided.
struct Attempt {
    side: Side,
    choice: Choice,
    /// What it comes to says something of its side.
    counts: bool,
}

/// What was done about a request.
struct Decided {
    side: Side,
    choice: Choice,
    /// It was answered before: that has counted.
    replayed: bool,
    /// What its calls cost.
    cost: Option<Usd>,
}

impl Decided {
    fn new(side: Side, choice: Choice) -> Self {
        Self { side, choice, replayed: false, cost: None }
    }
}

impl Campaigns {
    /// `POST /api/v2/campaigns/hybrid`
    ///
    /// # Errors
    /// What the request is refused for, or failed of.
    pub async fn serve(&self, call: &Call) -> Result<Reply, Problem> {
        let principal = call.authenticate(&self.sessions)?;
        match self.attempt(call, &principal, self.read(call, &call.body, &principal)).await {
            Attempt { side: Side::Here(answer, _), .. } => answer,
            Attempt { side: Side::There, choice, counts } => self.pass_on(call, Some(&choice), counts).await,
        }
    }

    /// `POST /api/campaigns/hybrid`, in the shape that old clients know.
    ///
    /// # Errors
    /// None: they know no other.
    pub async fn serve_old(&self, call: &Call) -> Result<Reply, Problem> {
        Ok(self.old(call).await.unwrap_or_else(|problem| old_error(&problem)))
    }

    async fn old(&self, call: &Call) -> Result<Reply, Problem> {
        let principal = match call.authenticate(&self.sessions) {
            Ok(principal) => principal,
            // It may know sessions that we do not. A good one from a page that may not use it is refused on either side.
            Err(problem) if problem.code == ErrorCode::Unauthenticated && self.legacy.is_some() => {
                return self.pass_on(call, None, false).await;
            }
            Err(problem) => return Err(problem),
        };
        let body = old::to_new(&call.body).map_err(|faults| unread(call, &principal, Problem::invalid(faults)));
        let read = body.and_then(|body| self.read(call, &body, &principal));
        let Attempt { side, choice, counts } = self.attempt(call, &principal, read).await;
        match side {
            Side::There => self.pass_on(call, Some(&choice), counts).await,
            Side::Here(Ok(reply), _) => Ok(old_reply(reply, &call.body)),
            // Where it is a failure of ours, it has been counted.
            Side::Here(Err(_), trace) if self.may_go_back(call, &trace).await => self.pass_on(call, None, false).await,
            Side::Here(Err(problem), _) => Err(problem),
        }
    }

    /// Serves a request here, if its user is taken in.
    async fn attempt(&self, call: &Call, principal: &Principal, read: Result<Request, Problem>) -> Attempt {
        // Whoever names a provider has its faults, and not those of a side; what cannot be read is nobody's fault.
        let counts = read.as_ref().is_ok_and(|request| request.parsed.intent.force_provider.is_none());
        let is_sent_once = read.as_ref().is_ok_and(is_sent_once);
        let owner = read.as_ref().map_or(&principal.user_id, |request| &request.owner).clone();
        let attributes = if owner == principal.user_id { &principal.attributes } else { &UNKNOWN };
        let platforms = read.as_ref().map_or_else(|_| Vec::new(), |request| request.parsed.intent.platforms.clone());
        let who = Who { user: &owner, attributes, platforms: &platforms };
        let choosing = self.rollout.choose(who, call.now).shared();
        // The caller may not do this on either side.
        let forbidden = read.as_ref().is_err_and(|problem| problem.code == ErrorCode::Forbidden);
        let panicked = |choice: Choice, panic| {
            self.count_side(call, &choice, Came { failed: true, ..Came::default() });
            resume_unwind(panic)
        };
        let deciding = self.decide(call, principal, who, choosing.clone(), read);
        let decided = match AssertUnwindSafe(deciding).catch_unwind().await {
            Ok(decided) => decided,
            Err(panic) => panicked(choosing.await, panic),
        };
        let Decided { side, choice, replayed, cost } = decided;
        let side = match side {
            Side::There if forbidden => Side::Here(Err(Forbidden.into()), Trace::Some),
            // Nothing is kept under its key, so a repetition of it would be sent from here as well.
            Side::Here(answer, Trace::None) if is_sent_once => Side::Here(answer, Trace::Some),
            side => side,
        };
        let (flag, reason) = (self.rollout.name().as_str(), choice.reason.as_str());
        metrics::flag_decision(flag, choice.enrolled, reason, call.now, call.trace.id());
        if let Side::Here(answer, _) = &side
            && choice.enrolled
            && counts
            && !replayed
            && let Some(came) = came(answer, cost)
        {
            self.count_side(call, &choice, came);
        }
        Attempt { side, choice, counts }
    }

    /// The same, with what its calls cost.
    async fn decide(
        &self,
        call: &Call,
        principal: &Principal,
        who: Who<'_>,
        choosing: impl Future<Output = Choice> + Clone,
        read: Result<Request, Problem>,
    ) -> Decided {
        // Where the flag is fresh there is no wait, and whoever is not taken in costs no store a thing.
        let known = match choosing.clone().now_or_never() {
            None if read.is_ok() && self.rollout.was_in(who, call.now) => None,
            None => Some(choosing.clone().await),
            known => known,
        };
        if let Some(choice) = known.clone().filter(|choice| !choice.enrolled) {
            return Decided::new(self.elsewhere(call, read.as_ref().ok()).await, choice);
        }
        let kept = read.as_ref().ok().filter(|_| known.is_none()).cloned();
        // Asked beside the first statement. Whatever becomes of the request, it has counted.
        let denied = self.limit.denied_already(&principal.user_id);
        let admission = self.limit.check(&principal.user_id).shared();
        let both = join(admission.clone(), choosing.clone());
        let admitted = both.map(|(admission, choice)| !admission.is_denied() && choice.enrolled);
        let outcome = match read {
            Ok(_) if denied.is_some() => Ok(Err(RunError::NotAdmitted).into()),
            Ok(mut request) => {
                if let Some(choice) = &known {
                    deal(&mut request, choice);
                }
                Ok(self.orchestrator.handle(request, admitted).await)
            }
            Err(problem) => Err(problem),
        };
        let (choice, admission) = tokio::join!(choosing, admission);
        if !choice.enrolled {
            return Decided::new(self.elsewhere(call, kept.as_ref()).await, choice);
        }
        if let Err(problem) = call.admit(admission) {
            return Decided::new(Side::Here(Err(problem), Trace::Some), choice);
        }
        self.remember(call, &choice, who);
        match outcome {
            Ok(outcome) => {
                let replayed = outcome.answer.as_ref().is_ok_and(|answer| answer.replayed);
                let cost = outcome.left.entries.iter().map(|entry| entry.cost).sum();
                let side = self.here(call, who.user, outcome);
                Decided { replayed, cost: (!replayed).then_some(cost), ..Decided::new(side, choice) }
            }
            // The old system may read what we do not.
            Err(problem) => {
                let trace = if problem.code == ErrorCode::Forbidden { Trace::Some } else { Trace::None };
                Decided::new(Side::Here(Err(problem), trace), choice)
            }
        }
    }

    /// A request of somebody who is not taken in. What was taken on before, under its key, is answered here: the old system would do it
    /// again.
    async fn elsewhere(&self, call: &Call, request: Option<&Request>) -> Side {
        let Some(request) = request.filter(|request| request.idempotency_key.is_some()) else { return Side::There };
        match timeout(EARLIER_PATIENCE, self.orchestrator.earlier(request)).await {
            Ok(Ok(None)) => Side::There,
            Ok(Ok(Some(answer))) => match failed(&answer) {
                // It came to nothing: the old system has it, or may have it.
                Some(workflow) if self.cost_nothing(workflow).await => Side::There,
                _ => Side::Here(answer::told(call, request.owner.as_str(), answer), Trace::Some),
            },
            // It is not known. What is not sent to anybody may be made twice.
            unknown => {
                let error =
                    unknown.map_or_else(|_| "it took too long".to_owned(), |answer| format!("{:?}", answer.err()));
                tracing::warn!(error, "it is not known whether this was taken on before");
                if !is_sent_once(request) {
                    return Side::There;
                }
                let detail = "whether this was sent before cannot be found out now";
                Side::Here(Err(Problem::new(ErrorCode::ProviderUnavailable, detail).retry_after(RETRY)), Trace::Some)
            }
        }
    }

    /// What the orchestrator came to, told, counted and followed up.
    fn here(&self, call: &Call, owner: &UserId, outcome: Outcome) -> Side {
        let Outcome { answer, fallbacks, left, begun } = outcome;
        count(call, &left, fallbacks);
        if !left.is_nothing() {
            let (aftermath, trace) = (Arc::clone(&self.aftermath), call.trace.clone());
            call.afterwards(async move {
                let told =
                    |alert: &Alert, now| metrics::cost_alert(alert.severity, alert.kind.as_str(), now, trace.id());
                // The request's own time is that of its calls ago.
                aftermath.follow(left, now, told).await;
            });
        }
        let trace = match failed(&answer) {
            Some(workflow) => Trace::Failed(workflow.clone()),
            None if !begun && is_ours(&answer) => Trace::None,
            None => Trace::Some,
        };
        Side::Here(answer::told(call, owner.as_str(), answer), trace)
    }

    /// Whether the old system may serve a request that failed here, as if nothing had been. A repetition of one that it served goes there
    /// again: it alone knows what it did.
    async fn may_go_back(&self, call: &Call, trace: &Trace) -> bool {
        if self.legacy.is_none() || Instant::now() + LEAST_TIME > call.deadline {
            return false;
        }
        match trace {
            Trace::None => true,
            Trace::Failed(workflow) => self.cost_nothing(workflow).await,
            Trace::Some => false,
        }
    }

    async fn cost_nothing(&self, workflow: &WorkflowId) -> bool {
        self.orchestrator.cost_nothing(workflow).await.unwrap_or(false)
    }

    /// Passes a request on to the old system. `choice`: why it is of the old side; `counts`: it counts there.
    async fn pass_on(&self, call: &Call, choice: Option<&Choice>, counts: bool) -> Result<Reply, Problem> {
        let Some(legacy) = &self.legacy else {
            return match choice {
                Some(Choice { reason: Why::Unread, .. }) => {
                    let detail = "whether you are served here cannot be found out now";
                    Err(Problem::new(ErrorCode::ProviderUnavailable, detail).retry_after(RETRY))
                }
                _ => Ok(Reply::ok(json!({
                    "success": false,
                    "message": "The hybrid orchestrator is not enabled for this user",
                    "legacy": true,
                }))),
            };
        };
        let passed = Passed {
            method: &call.method,
            target: &call.target,
            headers: &call.headers,
            body: &call.body,
            deadline: call.deadline,
        };
        let answered = legacy.pass(&passed).await;
        let is_loop = matches!(answered, Err(LegacyError::Loop));
        if let Some(choice) = choice.filter(|_| counts && !is_loop) {
            let failed = answered.as_ref().map_or(true, |answered| answered.status.is_server_error());
            self.count_side(call, choice, Came { failed, ..Came::default() });
        }
        let answered = answered.map_err(|error| unanswered(&error))?;
        Ok(Reply {
            status: answered.status,
            headers: Vec::new(),
            content: Content::Foreign(answered.headers, answered.body),
        })
    }

    /// Counts what a request came to on its side, behind the answer.
    fn count_side(&self, call: &Call, choice: &Choice, came: Came) {
        let Some(kept) = choice.flag.clone() else { return };
        let latency = call.started.elapsed();
        let bound = kept.flag.triggers.map(|triggers| Duration::from_millis(triggers.latency_threshold.into()));
        let slow = bound.is_some_and(|bound| latency > bound);
        let Came { failed, blocked, cost } = came;
        let seen = Seen { inside: choice.enrolled, failed, slow, blocked, latency: Some(latency), cost };
        let sides = Arc::clone(&self.sides);
        call.afterwards(async move { sides.count(&kept.flag.name, now(), &seen).await });
    }

    /// Remembers what the session says of its user, behind the answer.
    fn remember(&self, call: &Call, choice: &Choice, who: Who<'_>) {
        if !choice.is_worth_remembering(who.attributes) {
            return;
        }
        let (rollout, user, attributes) = (Arc::clone(&self.rollout), who.user.clone(), who.attributes.clone());
        call.afterwards(async move { rollout.remember(&user, &attributes).await });
    }
}

/// What an answer came to; what goes on without the client is counted when it has ended.
fn came(answer: &Result<Reply, Problem>, cost: Option<Usd>) -> Option<Came> {
    match answer {
        Ok(reply) if reply.status == StatusCode::ACCEPTED => {
            waits(reply).then_some(Came { failed: true, cost, ..Came::default() })
        }
        Ok(_) => Some(Came { cost, ..Came::default() }),
        Err(problem) => {
            let failed = status_and_title(problem.code).0.is_server_error();
            Some(Came { failed, blocked: problem.code == ErrorCode::ComplianceViolation, cost })
        }
    }
}

/// Whether it waits for a person, for no provider is left.
fn waits(reply: &Reply) -> bool {
    matches!(&reply.content, Content::Json(body) if body["data"]["status"] == "manual_review")
}

/// The workflow that failed by a fault of ours.
fn failed(answer: &Result<Answer, RunError>) -> Option<&WorkflowId> {
    match answer {
        Ok(Answer { given: Given::Error(error), workflow_id, .. }) if OURS.contains(&error.code) => Some(workflow_id),
        _ => None,
    }
}

/// Whether a request was not taken on by a fault of ours.
fn is_ours(answer: &Result<Answer, RunError>) -> bool {
    matches!(
        answer,
        Err(RunError::Store(_)
            | RunError::NoTime
            | RunError::Route(RouteError::NoProvider | RouteError::UnknownModel(_)))
    )
}

/// What the request came to, in figures.
fn count(call: &Call, left: &Left, fallbacks: u64) {
    for entry in &left.entries {
        metrics::provider_call(&ProviderCall {
            provider: entry.provider,
            model: &entry.model,
            outcome: &entry.outcome,
            cost: entry.cost,
            tokens: entry.usage.total(),
            duration: entry.duration_ms.and_then(|millis| millis.try_into().ok()).map(Duration::from_millis),
            saved: entry.cache_hit.then_some(entry.saved),
            at: entry.started_at,
            trace: &entry.trace_id,
        });
    }
    for change in &left.changes {
        metrics::circuit(change.provider, change.name.as_str(), change.opened, call.now, call.trace.id());
    }
    metrics::fallbacks(&call.origin(), fallbacks);
}

/// The old system gave no answer.
fn unanswered(error: &LegacyError) -> Problem {
    match error {
        LegacyError::Unreached(_) => {
            tracing::error!(%error, "nothing was passed on");
            let detail = "the legacy system cannot be reached; nothing was done";
            Problem::new(ErrorCode::ProviderUnavailable, detail).retry_after(RETRY)
        }
        LegacyError::Lost(_) => {
            tracing::error!(%error, "the answer was lost");
            let detail = "the legacy system did not answer; what was asked for may have been done";
            Problem::new(ErrorCode::LegacyApiError, detail)
        }
        LegacyError::Loop => {
            tracing::error!(%error, "nothing was passed on");
            Problem::invalid_field("Via", "says that the request was here before")
        }
    }
}

/// Whether it is sent to a fan, and only once under its key.
fn is_sent_once(request: &Request) -> bool {
    request.idempotency_key.is_some() && request.parsed.intent.send_to_only_fans
}

/// An answer of ours as old clients know it, who asked so.
fn old_reply(reply: Reply, asked: &[u8]) -> Reply {
    match reply.content {
        // That of a rollout without an old system says so in its own members.
        Content::Json(body) if body["legacy"] != true => {
            Reply { content: Content::Json(old::answer(&body, asked)), ..reply }
        }
        content => Reply { content, ..reply },
    }
}

/// An error of ours as old clients know it.
fn old_error(problem: &Problem) -> Reply {
    let faults: Vec<_> =
        problem.errors.iter().take(MOST_FAULTS).map(|f| format!("{}: {}", f.pointer, f.detail)).collect();
    let message = if faults.is_empty() { problem.detail.clone() } else { faults.join("; ") };
    let (status, _) = status_and_title(problem.code);
    Reply { status, headers: problem.all_headers(), ..Reply::ok(old::error(&message)) }
}
