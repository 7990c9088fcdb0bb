//! Reads the query, keeps to the caller's own data, shows workflows in the contract's shape, and cancels one.

use http::Method;
use huntaze_domain::error::ErrorCode;
use huntaze_domain::ids::{UserId, WorkflowId};
use huntaze_domain::principal::Principal;
use huntaze_lambda::api::{Call, Reply, Route};
use huntaze_lambda::page::{self, Place};
use huntaze_lambda::problem::Problem;
use huntaze_orchestrator::status::{self, ListQuery, WorkflowView};
use huntaze_orchestrator::store;
use huntaze_orchestrator::workflow::WorkflowStatus;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::App;

const DEFAULT_LIMIT: u8 = 10;

impl Route for App {
    async fn handle(&self, call: &Call) -> Result<Reply, Problem> {
        let principal = call.authenticate(&self.sessions)?;
        if call.method == Method::DELETE {
            call.admit(self.limit.check(&principal.user_id).await)?;
            return Ok(Reply::ok(call.envelope(self.cancel(&principal, call).await?)));
        }
        // Side by side: what is read for a request that is refused is read in vain, and changes nothing.
        let (admission, data) = tokio::join!(self.limit.check(&principal.user_id), self.read(&principal, call));
        call.admit(admission)?;
        Ok(Reply::ok(call.envelope(data?)))
    }
}

impl App {
    async fn read(&self, principal: &Principal, call: &Call) -> Result<Value, Problem> {
        let owner = call.owner(principal)?;
        // Read beside `workflowId` too: a parameter that is wrong is said, also where it is not needed.
        let query = list_query(owner, call)?;
        match call.parameter("workflowId")? {
            Some(id) => self.one(principal, id).await,
            None => self.list(&query).await,
        }
    }

    async fn one(&self, principal: &Principal, id: &str) -> Result<Value, Problem> {
        let view = self.owned(principal, &workflow_id(id)?).await?;
        serde_json::to_value(view).map_err(|e| Problem::internal(&e))
    }

    /// Cancelled again, it is cancelled.
    async fn cancel(&self, principal: &Principal, call: &Call) -> Result<Value, Problem> {
        let id = call.parameter("workflowId")?.ok_or_else(|| Problem::invalid_field("workflowId", "is required"))?;
        let id = workflow_id(id)?;
        self.owned(principal, &id).await?;
        let cancelled = store::cancel(&self.database, &id, &principal.user_id, &call.request_id).await;
        match cancelled.map_err(|e| Problem::internal(&e))? {
            None => Err(no_such_workflow()),
            Some((WorkflowStatus::Cancelled, _)) => Ok(json!({"workflowId": id, "status": WorkflowStatus::Cancelled})),
            Some((status, _)) => {
                let detail = format!("the workflow is {} already", status.as_str());
                Err(Problem::new(ErrorCode::Conflict, detail).with("workflowId", id.as_str()))
            }
        }
    }

    async fn owned(&self, principal: &Principal, id: &WorkflowId) -> Result<WorkflowView, Problem> {
        let found = status::one(&self.database, id).await.map_err(|e| Problem::internal(&e))?;
        let view = found.ok_or_else(no_such_workflow)?;
        let owner = UserId::parse(&view.user_id).map_err(|e| Problem::internal(&e))?;
        principal.acting_for(Some(&owner))?;
        Ok(view)
    }

    async fn list(&self, query: &ListQuery) -> Result<Value, Problem> {
        let found = status::list(&self.database, query).await.map_err(|e| Problem::internal(&e))?;
        let next = found.next.map(|(at, id)| page::cursor(&(at, id.to_string())));
        Ok(json!({"workflows": found.workflows, "summary": found.summary, "nextCursor": next}))
    }
}

fn no_such_workflow() -> Problem {
    Problem::new(ErrorCode::NotFound, "there is no such workflow")
}

fn workflow_id(text: &str) -> Result<WorkflowId, Problem> {
    WorkflowId::parse(text).map_err(|e| Problem::invalid_field("workflowId", e.to_string()))
}

fn list_query(owner: UserId, call: &Call) -> Result<ListQuery, Problem> {
    Ok(ListQuery {
        user: owner,
        status: call.parameter("status")?.map(read_status).transpose()?,
        after: call.cursor()?.map(read_place).transpose()?,
        limit: call.limit(DEFAULT_LIMIT)?,
    })
}

fn read_status(text: &str) -> Result<WorkflowStatus, Problem> {
    let names = WorkflowStatus::ALL.map(WorkflowStatus::as_str).join(", ");
    WorkflowStatus::from_name(text).ok_or_else(|| Problem::invalid_field("status", format!("must be one of {names}")))
}

fn read_place((at, id): Place) -> Result<(Timestamp, WorkflowId), Problem> {
    let id = WorkflowId::parse(&id).map_err(|e| Problem::invalid_field("cursor", e.to_string()))?;
    Ok((at, id))
}
