//! Shows an administrator what was judged within some days.

use http::Method;
use huntaze_domain::ids::AccountId;
use huntaze_judge::report;
use huntaze_lambda::api::{Call, Reply, Route};
use huntaze_lambda::problem::Problem;

use crate::App;

const DEFAULT_DAYS: i64 = 30;
const MOST_DAYS: i64 = 90;

impl Route for App {
    async fn handle(&self, call: &Call) -> Result<Reply, Problem> {
        call.administrator(&self.sessions, &self.limit).await?;
        if call.method != Method::GET {
            return Err(Problem::no_such_route());
        }
        let since = call.since(DEFAULT_DAYS, MOST_DAYS)?;
        let account = call.parameter("accountId")?.map(AccountId::parse).transpose();
        let account = account.map_err(|e| Problem::invalid_field("accountId", e.to_string()))?;
        let report =
            report(&self.database, since, account.as_ref()).await.map_err(|error| Problem::internal(&error))?;
        Ok(Reply::ok(call.envelope(report)))
    }
}
