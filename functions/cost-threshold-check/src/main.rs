//! Schedule, every 5 minutes: holds everyone's costs against their thresholds, finds spikes, has told what was not, and measures
//! how full budgets are.

use anyhow::Context;
use huntaze_costs::alert::Alert;
use huntaze_costs::budget::{self, Utilisation};
use huntaze_costs::config::ledger;
use huntaze_costs::watch::Watch;
use huntaze_lambda::clients::Aws;
use huntaze_lambda::scheduled::{self, Invocation, Task};
use huntaze_lambda::{config, logs, metrics};
use huntaze_postgres::Database;
use serde_json::{Value, json};
use tokio::time::timeout_at;

struct App {
    watch: Watch,
    database: Database,
}

impl Task for App {
    async fn run(&self, invocation: Invocation) -> anyhow::Result<Value> {
        let Invocation { now, deadline, trace, .. } = invocation;
        let told = |alert: &Alert| metrics::cost_alert(alert.severity, alert.kind.as_str(), now, trace.id());
        let both = async { tokio::join!(self.watch.patrol(now, told), budget::utilisation(&self.database, now)) };
        let (done, utilisation) = timeout_at(deadline, both).await.context("the check ran out of time")?;
        let done = done?;
        // Thresholds have been looked at all the same.
        let Utilisation { user, global } = utilisation.context("how full budgets are is not known")?;
        for (scope, percent) in [("user", user), ("global", global)] {
            if let Some(percent) = percent {
                metrics::budget_utilisation(scope, percent, now, trace.id());
            }
        }
        tracing::info!(
            users = done.users,
            fired = done.fired,
            told_again = done.told_again,
            failed = done.failed,
            "checked"
        );
        Ok(json!({
            "users": done.users,
            "fired": done.fired,
            "toldAgain": done.told_again,
            "failed": done.failed,
            "fullestBudgets": {"user": user, "global": global},
        }))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let aws = Aws::new(&env, &tls);
    let dynamodb = aws.dynamodb();
    let ledger = ledger(&env, dynamodb.clone());
    let watch = Watch::from_env(&env, dynamodb, aws.queues(), ledger);
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, tls));
    let app = env.finish(database.map(|database| App { watch, database }))?;
    scheduled::serve(&app).await
}
