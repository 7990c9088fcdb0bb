//! What the orchestrator's answer is on the wire.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, header};
use huntaze_domain::error::ErrorCode;
use huntaze_domain::ids::WorkflowId;
use huntaze_lambda::api::{Call, REPLAYED, Reply};
use huntaze_lambda::metrics;
use huntaze_lambda::problem::Problem;
use huntaze_orchestrator::route::RouteError;
use huntaze_orchestrator::run::{Answer, Given, RunError};
use huntaze_orchestrator::store::{AccountFault, StoreError};
use huntaze_orchestrator::workflow::{WorkflowError, WorkflowStatus};
use serde_json::{Value, json};

/// When a client may look again for a request that is in flight: a typical answer takes some seconds.
const IN_FLIGHT_RETRY: Duration = Duration::from_secs(2);
/// When a client may come again after both providers failed, where neither said.
const PROVIDER_RETRY: Duration = Duration::from_secs(30);

/// The answer, or what it was refused for.
pub(crate) fn told(call: &Call, user: &str, answer: Result<Answer, RunError>) -> Result<Reply, Problem> {
    reply(call, user, answer.map_err(|error| refused(&error))?)
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
    let WorkflowError { code, mut detail, limit, retry_after, findings } = error;
    if replayed.is_some() {
        // To come again with the same key would get this answer for ever.
        detail.push_str("; this is the answer of its Idempotency-Key, use a new one to try again");
    }
    let mut problem = Problem::new(code, detail).with("workflowId", workflow.as_str());
    problem.headers.extend(replayed);
    let wait = retry_after.map_or(PROVIDER_RETRY, Duration::from_secs);
    problem.retry_after = (code == ErrorCode::ProviderUnavailable).then_some(wait);
    if !findings.is_empty() {
        problem = problem.with("findings", findings);
    }
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
