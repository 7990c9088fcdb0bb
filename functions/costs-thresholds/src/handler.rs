//! Reads the request, keeps to whose thresholds the caller may see and set, and shows them in the contract's shape.

use http::{Method, StatusCode};
use huntaze_costs::owner::Owner;
use huntaze_costs::threshold::{CreateError, NewThreshold, Threshold, ThresholdChange};
use huntaze_domain::error::ErrorCode;
use huntaze_domain::principal::Principal;
use huntaze_lambda::api::{Call, Reply, Route};
use huntaze_lambda::problem::Problem;
use serde_json::{Value, json};

use crate::App;

impl Route for App {
    async fn handle(&self, call: &Call) -> Result<Reply, Problem> {
        let principal = call.authenticate(&self.sessions)?;
        let admission = self.limit.check(&principal.user_id);
        let (status, data) = match call.method {
            Method::GET => {
                let (admission, data) = tokio::join!(admission, self.list(&principal, call));
                call.admit(admission)?;
                (StatusCode::OK, data?)
            }
            Method::POST => {
                call.admit(admission.await)?;
                (StatusCode::CREATED, self.create(&principal, call).await?)
            }
            Method::PUT => {
                call.admit(admission.await)?;
                (StatusCode::OK, self.change(&principal, call).await?)
            }
            _ => return Err(Problem::no_such_route()),
        };
        Ok(Reply { status, ..Reply::ok(call.envelope(data)) })
    }
}

impl App {
    async fn list(&self, principal: &Principal, call: &Call) -> Result<Value, Problem> {
        let owner = call.owner_or_everyone(principal)?.into();
        let thresholds = self.thresholds.in_force(&owner).await.map_err(|e| Problem::internal(&e))?;
        Ok(json!({"thresholds": thresholds.iter().map(Threshold::to_json).collect::<Vec<_>>()}))
    }

    async fn create(&self, principal: &Principal, call: &Call) -> Result<Value, Problem> {
        let mut new = NewThreshold::parse(&call.body).map_err(Problem::invalid)?;
        let owner = match new.user_id.take() {
            None if principal.is_admin() => Owner::Everyone,
            named => {
                let user = principal.acting_for(named.as_ref())?;
                Owner::User(user.clone())
            }
        };
        let theirs = new.operators_channels();
        if !theirs.is_empty() && !principal.is_admin() {
            return Err(Problem { errors: theirs, ..Problem::forbidden("Slack and SNS are the operators' own") });
        }
        match self.thresholds.create(owner, new, call.now).await {
            Ok(threshold) => Ok(threshold.to_json()),
            Err(full @ CreateError::Full) => Err(Problem::new(ErrorCode::Conflict, full.to_string())),
            Err(CreateError::Table(error)) => Err(Problem::internal(&error)),
        }
    }

    async fn change(&self, principal: &Principal, call: &Call) -> Result<Value, Problem> {
        principal.require_admin()?;
        let change = ThresholdChange::parse(&call.body).map_err(Problem::invalid)?;
        let changed = self.thresholds.change(&change, call.now).await.map_err(|e| Problem::internal(&e))?;
        let unknown = "there is no such threshold; one of a default's type takes the default's place";
        Ok(changed.ok_or_else(|| Problem::new(ErrorCode::NotFound, unknown))?.to_json())
    }
}
