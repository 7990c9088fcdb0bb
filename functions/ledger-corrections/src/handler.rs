//! Reads an administrator's request, has a correction kept, and brings the ledger up to it behind the answer.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use huntaze_costs::correction::{self, Corrected, Correction, CorrectionError, Estimated};
use huntaze_costs::sweep;
use huntaze_domain::error::ErrorCode;
use huntaze_domain::principal::Principal;
use huntaze_lambda::api::{Call, Reply, Route};
use huntaze_lambda::page;
use huntaze_lambda::problem::Problem;
use serde_json::{Value, json};

use crate::App;

const DEFAULT_LIMIT: u8 = 20;
/// The sweep comes every minute.
const NEXT_SWEEP: Duration = Duration::from_secs(60);

impl Route for App {
    async fn handle(&self, call: &Call) -> Result<Reply, Problem> {
        let principal = call.administrator(&self.sessions, &self.limit).await?;
        let data = match call.method {
            Method::GET => self.list(call).await?,
            Method::POST => self.correct(&principal, call).await?,
            _ => return Err(Problem::no_such_route()),
        };
        Ok(Reply::ok(call.envelope(data)))
    }
}

impl App {
    async fn list(&self, call: &Call) -> Result<Value, Problem> {
        let (after, limit) = (call.cursor()?, call.limit(DEFAULT_LIMIT)?);
        let found = correction::estimated(&self.books.database, after.as_ref(), limit).await;
        let (attempts, more) = found.map_err(|e| Problem::internal(&e))?;
        let last = attempts.last().filter(|_| more).map(|last| (last.started_at, last.id.clone()));
        Ok(json!({
            "attempts": attempts.iter().map(Estimated::to_json).collect::<Vec<_>>(),
            "nextCursor": last.as_ref().map(page::cursor),
        }))
    }

    async fn correct(&self, principal: &Principal, call: &Call) -> Result<Value, Problem> {
        let wanted = Correction::parse(&call.body).map_err(Problem::invalid)?;
        let actor = &principal.user_id;
        let corrected = correction::correct(&self.books.database, &wanted, actor, &call.request_id).await;
        let Corrected { user_id, cost_before } = corrected.map_err(|error| refused(&error))?;
        let books = Arc::clone(&self.books);
        call.afterwards(async move {
            if let Err(error) = sweep::project_corrections(&books.database, &books.ledger, &books.catalogue).await {
                tracing::warn!(%error, "the ledger is corrected by the next sweep");
            }
        });
        Ok(json!({
            "attemptId": wanted.attempt,
            "userId": user_id,
            "costBefore": cost_before.to_json_number(),
            "cost": wanted.cost.to_json_number(),
        }))
    }
}

fn refused(error: &CorrectionError) -> Problem {
    let detail = error.to_string();
    match error {
        CorrectionError::Unknown => Problem::new(ErrorCode::NotFound, detail),
        CorrectionError::Known | CorrectionError::TooOld => Problem::invalid_field("/attemptId", detail),
        CorrectionError::OverBound(_) => Problem::invalid_field("/cost", detail),
        CorrectionError::TooEarly => Problem::new(ErrorCode::Conflict, detail).retry_after(NEXT_SWEEP),
        CorrectionError::Database(_) | CorrectionError::Row(_) => Problem::internal(error),
    }
}
