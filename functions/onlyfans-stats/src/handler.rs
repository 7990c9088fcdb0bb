//! Reads the query, and keeps to whose statistics the caller may see.

use huntaze_domain::principal::Principal;
use huntaze_lambda::api::{Call, Reply, Route};
use huntaze_lambda::problem::Problem;
use huntaze_messaging::stats;
use serde_json::Value;

use crate::App;

impl Route for App {
    async fn handle(&self, call: &Call) -> Result<Reply, Problem> {
        let principal = call.authenticate(&self.sessions)?;
        // Side by side: what is read for a request that is refused is read in vain, and changes nothing.
        let (admission, data) = tokio::join!(self.limit.check(&principal.user_id), self.read(&principal, call));
        call.admit(admission)?;
        Ok(Reply::ok(call.envelope(data?)))
    }
}

impl App {
    async fn read(&self, principal: &Principal, call: &Call) -> Result<Value, Problem> {
        let owner = call.owner_or_everyone(principal)?;
        let detailed = call.flag("detailed")?;
        let read = match &owner {
            Some(user) => stats::user(&self.database, &self.limiter, user, detailed, call.now).await,
            None => stats::global(&self.database).await,
        };
        read.map_err(|e| Problem::internal(&e))
    }
}
