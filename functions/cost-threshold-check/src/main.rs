//! Schedule, every 5 minutes: holds everyone's costs against their thresholds, finds spikes, and has told what was not.

use anyhow::Context;
use huntaze_costs::alert::Alert;
use huntaze_costs::config::ledger;
use huntaze_costs::watch::Watch;
use huntaze_lambda::clients::Aws;
use huntaze_lambda::scheduled::{self, Invocation, Task};
use huntaze_lambda::{config, logs, metrics};
use serde_json::{Value, json};
use tokio::time::timeout_at;

struct App {
    watch: Watch,
}

impl Task for App {
    async fn run(&self, invocation: Invocation) -> anyhow::Result<Value> {
        let Invocation { now, deadline, trace, .. } = invocation;
        let told = |alert: &Alert| metrics::cost_alert(alert.severity, alert.kind.as_str(), now, trace.id());
        let done = timeout_at(deadline, self.watch.patrol(now, told)).await.context("the check ran out of time")??;
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
    let watch = Watch::from_env(&env, dynamodb, aws.sqs(), ledger);
    let app = env.finish(Some(App { watch }))?;
    scheduled::serve(&app).await
}
