//! A request's way from its headers and body to the orchestrator, and its answer's way back.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, StatusCode, header};
use huntaze_costs::alert::Alert;
use huntaze_domain::error::ErrorCode;
use huntaze_domain::ids::WorkflowId;
use huntaze_domain::intent::WorkflowIntent;
use huntaze_domain::principal::Principal;
use huntaze_lambda::api::{Call, REPLAYED, Reply, Route};
use huntaze_lambda::metrics::{self, ProviderCall};
use huntaze_lambda::problem::Problem;
use huntaze_lambda::scheduled;
use huntaze_orchestrator::aftermath::Left;
use huntaze_orchestrator::route::RouteError;
use huntaze_orchestrator::run::{Answer, Given, Outcome, Request, RunError};
use huntaze_orchestrator::store::{AccountFault, StoreError};
use huntaze_orchestrator::workflow::{Reuse, WorkflowError, WorkflowStatus};
use serde_json::{Value, json};

use crate::App;

/// What is kept of the time for what follows the last call: its settlement.
const SETTLEMENT: Duration = Duration::from_millis(1_500);
/// When a client may look again for a request that is in flight: a typical answer takes some seconds.
const IN_FLIGHT_RETRY: Duration = Duration::from_secs(2);
/// When a client may come again after both providers failed, where neither said.
const PROVIDER_RETRY: Duration = Duration::from_secs(30);

impl Route for App {
    async fn handle(&self, call: &Call) -> Result<Reply, Problem> {
        let principal = call.authenticate(&self.sessions)?;
        if let Some(denied) = self.limit.denied_already(&principal.user_id) {
            call.admit(denied)?;
        }
        // Asked beside the first statement. Whatever becomes of the request, it has counted.
        let admission = self.limit.check(&principal.user_id).shared();
        let admitted = admission.clone().map(|admission| !admission.is_denied());
        let answered = match self.read(call, &principal) {
            Ok(request) => Ok((request.owner.clone(), self.orchestrator.handle(request, admitted).await)),
            Err(problem) => Err(problem),
        };
        call.admit(admission.await)?;
        let (owner, outcome) = answered?;
        let Outcome { answer, fallbacks, left } = outcome;
        count(call, &left, fallbacks);
        if !left.is_nothing() {
            let (aftermath, trace) = (Arc::clone(&self.aftermath), call.trace.clone());
            call.afterwards(async move {
                let told =
                    |alert: &Alert, now| metrics::cost_alert(alert.severity, alert.kind.as_str(), now, trace.id());
                // The request's own time is that of its calls ago.
                aftermath.follow(left, scheduled::now, told).await;
            });
        }
        reply(call, owner.as_str(), answer.map_err(|error| refused(&error))?)
    }
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

impl App {
    fn read(&self, call: &Call, principal: &Principal) -> Result<Request, Problem> {
        let idempotency_key = call.idempotency_key()?;
        let parsed = WorkflowIntent::parse(&call.body).map_err(Problem::invalid)?;
        let owner = principal.acting_for(parsed.intent.user_id.as_ref())?;
        Ok(Request {
            owner: owner.clone(),
            requested_by: principal.user_id.clone(),
            parsed,
            idempotency_key,
            request_id: call.request_id.clone(),
            trace: call.trace.clone(),
            now: call.now,
            accepted_at: call.started,
            deadline: (call.deadline - SETTLEMENT).min(call.started + self.patience),
            // Its client waits no longer than the deadline.
            longest_wait: self.patience,
            later: prefers_async(call),
            reuse: reuse(call),
        })
    }
}

/// RFC 7240: preferences are separated by commas, parameters by semicolons.
fn prefers_async(call: &Call) -> bool {
    let preferences = call.headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut names = preferences.flat_map(|line| line.split(',')).filter_map(|part| part.split(';').next());
    names.any(|name| name.trim().eq_ignore_ascii_case("respond-async"))
}

/// RFC 9111: `no-cache` wants a new one, `no-store` that nothing of it is kept either.
fn reuse(call: &Call) -> Reuse {
    let directives = call.headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let names: Vec<_> =
        directives.flat_map(|line| line.split(',')).map(|name| name.trim().to_ascii_lowercase()).collect();
    let says = |name: &str| names.iter().any(|one| one == name);
    match () {
        () if says("no-store") => Reuse::Never,
        () if says("no-cache") => Reuse::Last,
        () => Reuse::Fresh,
    }
}

fn refused(error: &RunError) -> Problem {
    match error {
        RunError::Route(route @ RouteError::CostLimit { .. }) => {
            Problem::new(ErrorCode::CostLimitExceeded, route.to_string()).with("limit", route.limit())
        }
        RunError::Budget(refusal) => {
            Problem::new(ErrorCode::CostLimitExceeded, refusal.to_string()).with("limit", refusal.limit())
        }
        RunError::Route(RouteError::UnknownModel(unknown)) => {
            // A fault of the configuration: said to the caller, and loudly to the operator.
            let _ = Problem::internal(unknown);
            Problem::new(ErrorCode::ProviderUnavailable, unknown.to_string()).retry_after(PROVIDER_RETRY)
        }
        RunError::Route(RouteError::NoProvider) | RunError::NoTime => {
            Problem::new(ErrorCode::ProviderUnavailable, error.to_string()).retry_after(PROVIDER_RETRY)
        }
        RunError::InFlight(workflow) => Problem::new(ErrorCode::Conflict, error.to_string())
            .retry_after(IN_FLIGHT_RETRY)
            .with("workflowId", workflow.as_str()),
        RunError::Account(AccountFault::Foreign) => Problem::forbidden("the account belongs to another user"),
        RunError::Account(fault @ AccountFault::Unknown) => Problem::new(ErrorCode::NotFound, fault.to_string()),
        RunError::Account(fault @ AccountFault::Several) => {
            Problem::invalid_field("/onlyFansContext/accountId", fault.to_string())
        }
        RunError::NotAdmitted => Problem::new(ErrorCode::RateLimitExceeded, error.to_string()),
        RunError::Mismatch => Problem::new(ErrorCode::IdempotencyMismatch, error.to_string()),
        RunError::Store(StoreError::Cancelled) => Problem::new(ErrorCode::Conflict, error.to_string()),
        RunError::Store(cause) => Problem::internal(cause),
    }
}

fn reply(call: &Call, user: &str, answer: Answer) -> Result<Reply, Problem> {
    let replayed = answer.replayed.then(|| (REPLAYED, HeaderValue::from_static("true")));
    let mut reply = match answer.given {
        Given::Result(mut result) => Reply::ok(json!({
            "success": true,
            "data": result["data"].take(),
            "metrics": result["metrics"].take(),
            "metadata": metadata(call, user),
        })),
        Given::Later { status, due } => {
            if status == WorkflowStatus::ManualReview && !answer.replayed {
                metrics::manual_review(&call.origin());
            }
            accepted(call, user, &answer.workflow_id, status, due)
        }
        Given::Error(error) => return Err(failed(error, &answer.workflow_id, replayed)),
    };
    reply.headers.extend(replayed);
    Ok(reply)
}

/// 202: where the workflow's status is, and when it is worth to look.
fn accepted(call: &Call, user: &str, workflow: &WorkflowId, status: WorkflowStatus, due: Duration) -> Reply {
    let url = format!("/api/v2/campaigns/status?workflowId={workflow}");
    let wait = due.max(IN_FLIGHT_RETRY).as_millis().div_ceil(1_000).to_string();
    let body = json!({
        "success": true,
        "data": {"workflowId": workflow, "status": status, "statusUrl": url},
        "metadata": metadata(call, user),
    });
    let headers = [(header::LOCATION, url), (header::RETRY_AFTER, wait)];
    let headers = headers.into_iter().filter_map(|(name, text)| Some((name, HeaderValue::try_from(text).ok()?)));
    Reply { status: StatusCode::ACCEPTED, headers: headers.collect(), ..Reply::ok(body) }
}

fn failed(error: WorkflowError, workflow: &WorkflowId, replayed: Option<(HeaderName, HeaderValue)>) -> Problem {
    let WorkflowError { code, mut detail, limit, retry_after } = error;
    if replayed.is_some() {
        // To come again with the same key would get this answer for ever.
        detail.push_str("; this is the answer of its Idempotency-Key, use a new one to try again");
    }
    let mut problem = Problem::new(code, detail).with("workflowId", workflow.as_str());
    problem.headers.extend(replayed);
    let wait = retry_after.map_or(PROVIDER_RETRY, Duration::from_secs);
    problem.retry_after = (code == ErrorCode::ProviderUnavailable).then_some(wait);
    if let Some(limit) = limit { problem.with("limit", limit) } else { problem }
}

fn metadata(call: &Call, user: &str) -> Value {
    json!({
        "userId": user,
        "timestamp": call.now,
        "traceId": call.trace.id(),
        "requestId": call.request_id,
        "hybridOrchestrator": true,
    })
}
