//! Shows an administrator what waits for a person, and does what is decided.

use http::Method;
use huntaze_domain::error::ErrorCode;
use huntaze_domain::ids::WorkflowId;
use huntaze_domain::principal::Principal;
use huntaze_lambda::api::{Call, Reply, Route};
use huntaze_lambda::page;
use huntaze_lambda::problem::Problem;
use huntaze_orchestrator::review::{Done, Order, ReviewError, Shown};
use serde_json::{Value, json};

use crate::App;

const DEFAULT_LIMIT: u8 = 20;

impl Route for App {
    async fn handle(&self, call: &Call) -> Result<Reply, Problem> {
        let principal = call.administrator(&self.sessions, &self.limit).await?;
        let data = match call.method {
            Method::GET => self.list(call).await?,
            Method::POST => self.follow(&principal, call).await?,
            _ => return Err(Problem::no_such_route()),
        };
        Ok(Reply::ok(call.envelope(data)))
    }
}

impl App {
    async fn list(&self, call: &Call) -> Result<Value, Problem> {
        let status = match call.parameter("status")? {
            status @ (None | Some("open" | "claimed" | "decided")) => status.map(str::to_owned),
            Some(_) => return Err(Problem::invalid_field("status", "must be `open`, `claimed` or `decided`")),
        };
        let workflow = match call.parameter("workflowId")?.map(WorkflowId::parse).transpose() {
            Ok(workflow) => workflow.map(|id| id.to_string()),
            Err(_) => return Err(Problem::invalid_field("workflowId", "must be a workflow's id")),
        };
        let (after, limit) = (call.cursor()?, usize::from(call.limit(DEFAULT_LIMIT)?));
        // One more than is shown tells whether there is a next page.
        let most = i64::try_from(limit + 1).unwrap_or(i64::MAX);
        let shown = Shown { status, workflow, after };
        let mut found = self.reviews.list(&shown, most).await.map_err(|error| Problem::internal(&error))?;
        let more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().filter(|_| more).map(|(_, at, id)| page::cursor(&(*at, id.clone())));
        let reviews: Vec<_> = found.into_iter().map(|(review, _, _)| review).collect();
        Ok(json!({"reviews": reviews, "nextCursor": last}))
    }

    async fn follow(&self, principal: &Principal, call: &Call) -> Result<Value, Problem> {
        let order = Order::parse(&call.body).map_err(Problem::invalid)?;
        let id = &order.workflow_id;
        let done = self.reviews.follow(&order, &principal.user_id, &call.request_id, call.now).await;
        Ok(match done.map_err(refused)? {
            Done::Claimed(until) => json!({"workflowId": id, "status": "claimed", "claimedUntil": until}),
            Done::Released => json!({"workflowId": id, "status": "open"}),
            Done::Decided(decision, wake) => {
                if let Some((account, delay)) = wake {
                    self.hints.put(&account, Some(delay)).await;
                }
                json!({"workflowId": id, "status": "decided", "decision": decision})
            }
        })
    }
}

fn refused(error: ReviewError) -> Problem {
    let detail = error.to_string();
    match error {
        ReviewError::Unknown => Problem::new(ErrorCode::NotFound, detail),
        ReviewError::Taken | ReviewError::Unclaimed | ReviewError::Decided => Problem::new(ErrorCode::Conflict, detail),
        ReviewError::Faulty(faults) => Problem::invalid(faults),
        ReviewError::Blocked(judged) => Problem::new(ErrorCode::ComplianceViolation, detail)
            .with("complianceScore", judged.score)
            .with("findings", judged.findings.clone()),
        ReviewError::Store(cause) => Problem::internal(&cause),
    }
}
