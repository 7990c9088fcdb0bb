//! Shows an administrator where every circuit stands. Nothing is granted or changed by that.

use huntaze_lambda::api::{Call, Reply, Route};
use huntaze_lambda::problem::Problem;
use huntaze_messaging::account;
use huntaze_orchestrator::circuit;
use serde_json::{Value, json};

use crate::App;

/// Accounts that are shown. Where there are more, it is the platform that is away, and not they.
const MOST_ACCOUNTS: usize = 100;

impl Route for App {
    async fn handle(&self, call: &Call) -> Result<Reply, Problem> {
        call.administrator(&self.sessions, &self.limit).await?;
        Ok(Reply::ok(call.envelope(self.circuits().await?)))
    }
}

impl App {
    async fn circuits(&self) -> Result<Value, Problem> {
        // One more than is shown tells whether there are more.
        let most = i64::try_from(MOST_ACCOUNTS + 1).unwrap_or(i64::MAX);
        let (mut data, accounts) = tokio::join!(
            circuit::view(&self.breaker, &self.roles, &self.callable),
            account::stopped(&self.database, self.rules.breaker.0, most),
        );
        let mut accounts = accounts.map_err(|error| Problem::internal(&error))?;
        data["moreAccounts"] = json!(accounts.len() > MOST_ACCOUNTS);
        accounts.truncate(MOST_ACCOUNTS);
        data["accounts"] = json!(accounts);
        Ok(data)
    }
}
