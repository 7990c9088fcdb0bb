//! Reads the request, keeps to whose budgets the caller may see and set, and shows them in the contract's shape.

use http::Method;
use huntaze_costs::budget::{self, Budget, BudgetChange};
use huntaze_domain::principal::Principal;
use huntaze_lambda::api::{Call, Reply, Route};
use huntaze_lambda::problem::Problem;
use serde_json::{Value, json};

use crate::App;

impl Route for App {
    async fn handle(&self, call: &Call) -> Result<Reply, Problem> {
        let principal = call.authenticate(&self.sessions)?;
        let admission = self.limit.check(&principal.user_id);
        let data = match call.method {
            Method::GET => {
                let (admission, data) = tokio::join!(admission, self.list(&principal, call));
                call.admit(admission)?;
                data?
            }
            Method::PUT => {
                call.admit(admission.await)?;
                self.set(&principal, call).await?
            }
            _ => return Err(Problem::no_such_route()),
        };
        Ok(Reply::ok(call.envelope(data)))
    }
}

impl App {
    /// A user's own budgets; an administrator sees everybody's beside them.
    async fn list(&self, principal: &Principal, call: &Call) -> Result<Value, Problem> {
        let user = call.owner(principal)?;
        let budgets = budget::list(&self.database, Some(&user), principal.is_admin(), call.now).await;
        let budgets = budgets.map_err(|e| Problem::internal(&e))?;
        Ok(json!({"budgets": budgets.iter().map(Budget::to_json).collect::<Vec<_>>()}))
    }

    async fn set(&self, principal: &Principal, call: &Call) -> Result<Value, Problem> {
        principal.require_admin()?;
        let change = BudgetChange::parse(&call.body).map_err(Problem::invalid)?;
        let BudgetChange { key, limit } = &change;
        budget::set(&self.database, &change, &principal.user_id, &call.request_id)
            .await
            .map_err(|e| Problem::internal(&e))?;
        if limit.is_some() {
            let owner = key.owner.user();
            let budgets = budget::list(&self.database, owner, owner.is_none(), call.now).await;
            let budgets = budgets.map_err(|e| Problem::internal(&e))?;
            if let Some(set) = budgets.iter().find(|budget| budget.key == *key) {
                return Ok(set.to_json());
            }
        }
        // Lifted, by this request or by one right behind it.
        let mut lifted = key.to_json();
        lifted["limit"] = Value::Null;
        Ok(lifted)
    }
}
