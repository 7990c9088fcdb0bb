//! Reads the request, keeps to the alerts that the caller may see, and shows them in the contract's shape.

use http::{Method, StatusCode};
use huntaze_costs::alert::{Acknowledgement, Alert, ListQuery, NewAlert};
use huntaze_costs::owner::Owner;
use huntaze_domain::error::ErrorCode;
use huntaze_domain::notification::Severity;
use huntaze_domain::principal::Principal;
use huntaze_lambda::api::{Call, Reply, Route};
use huntaze_lambda::problem::Problem;
use huntaze_lambda::{metrics, page};
use serde_json::{Map, Value, json};

use crate::App;

const DEFAULT_LIMIT: u8 = 20;

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
                (StatusCode::CREATED, self.raise(&principal, call).await?)
            }
            Method::PUT => {
                call.admit(admission.await)?;
                (StatusCode::OK, self.acknowledge(&principal, call).await?)
            }
            _ => return Err(Problem::no_such_route()),
        };
        Ok(Reply { status, ..Reply::ok(call.envelope(data)) })
    }
}

impl App {
    async fn list(&self, principal: &Principal, call: &Call) -> Result<Value, Problem> {
        let query = list_query(principal, call)?;
        let alerts = &self.watch.alerts;
        let read = tokio::try_join!(alerts.list(&query, call.now), alerts.summary(&query, call.now));
        let (found, summary) = read.map_err(|e| Problem::internal(&e))?;
        let by_severity = Severity::ALL.iter().zip(summary.by_severity);
        let by_severity: Map<_, _> =
            by_severity.map(|(severity, count)| (severity.as_str().to_owned(), json!(count))).collect();
        Ok(json!({
            "alerts": found.alerts.iter().map(Alert::to_json).collect::<Vec<_>>(),
            "summary": {
                "total": summary.total,
                "unacknowledged": summary.unacknowledged,
                "bySeverity": by_severity,
                "complete": !summary.more,
            },
            "nextCursor": found.next.as_ref().map(page::cursor),
        }))
    }

    async fn raise(&self, principal: &Principal, call: &Call) -> Result<Value, Problem> {
        principal.require_admin()?;
        let new = NewAlert::parse(&call.body).map_err(Problem::invalid)?;
        let raised = self.watch.custom(new, &principal.user_id, call.now).await;
        let alert = raised.map_err(|e| Problem::internal(&e))?;
        metrics::cost_alert(alert.severity, alert.kind.as_str(), call.now, call.trace.id());
        Ok(alert.to_json())
    }

    async fn acknowledge(&self, principal: &Principal, call: &Call) -> Result<Value, Problem> {
        let Acknowledgement { id, acknowledged } = Acknowledgement::parse(&call.body).map_err(Problem::invalid)?;
        let alerts = &self.watch.alerts;
        let unknown = || Problem::new(ErrorCode::NotFound, "there is no such alert");
        let found = alerts.get(&id).await.map_err(|e| Problem::internal(&e))?.ok_or_else(unknown)?;
        // An alert's id can be guessed, and that it is there says what somebody else has spent.
        if found.owner.user() != Some(&principal.user_id) && !principal.is_admin() {
            return Err(unknown());
        }
        let changed = alerts.acknowledge(&id, acknowledged, &principal.user_id, call.now).await;
        Ok(changed.map_err(|e| Problem::internal(&e))?.ok_or_else(unknown)?.to_json())
    }
}

fn list_query(principal: &Principal, call: &Call) -> Result<ListQuery, Problem> {
    Ok(ListQuery {
        owner: call.owner_or_everyone(principal)?.map(Owner::User),
        severity: call.parameter("severity")?.map(read_severity).transpose()?,
        acknowledged: call.parameter("acknowledged")?.map(read_acknowledged).transpose()?,
        after: call.cursor()?,
        limit: call.limit(DEFAULT_LIMIT)?.into(),
    })
}

fn read_severity(text: &str) -> Result<Severity, Problem> {
    let names = Severity::ALL.iter().map(|severity| severity.as_str()).collect::<Vec<_>>().join(", ");
    Severity::from_name(text).ok_or_else(|| Problem::invalid_field("severity", format!("must be one of {names}")))
}

fn read_acknowledged(text: &str) -> Result<bool, Problem> {
    text.parse().map_err(|_| Problem::invalid_field("acknowledged", "must be `true` or `false`"))
}
