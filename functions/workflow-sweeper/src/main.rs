//! Schedule, every minute: wakes the workflows that are overdue: whose hint was lost, or whose driver died. What people were not told of
//! those that were given up goes to its queue once more.

use std::time::Duration;

use anyhow::Context;
use huntaze_lambda::clients::Aws;
use huntaze_lambda::scheduled::{self, Invocation, Task};
use huntaze_lambda::{config, logs};
use huntaze_orchestrator::dead::{self, DeadQueue};
use huntaze_orchestrator::hint::Workflows;
use huntaze_orchestrator::store;
use huntaze_postgres::Database;
use serde_json::{Value, json};
use tokio::time::timeout_at;

/// Workflows that are woken by one run at the most, and letters that are put.
const MOST: i64 = 500;

struct App {
    database: Database,
    workflows: Workflows,
    dead: DeadQueue,
    grace: Duration,
}

impl Task for App {
    async fn run(&self, invocation: Invocation) -> anyhow::Result<Value> {
        let sweep = async {
            let overdue = store::overdue(&self.database, self.grace, MOST).await?;
            for (woken, (workflow, user)) in overdue.iter().enumerate() {
                if let Err(error) = self.workflows.try_put(workflow, user, Duration::ZERO).await {
                    // The queue is away: these have no hint, and must not wait as if they had.
                    store::not_hinted(&self.database, overdue[woken..].iter().map(|(workflow, _)| workflow)).await?;
                    return Err(error.into());
                }
            }
            anyhow::Ok((overdue.len(), dead::put_untold(&self.database, &self.dead, None, MOST).await?))
        };
        let (woken, letters) = timeout_at(invocation.deadline, sweep).await.context("the sweep ran out of time")??;
        tracing::info!(woken, letters, "swept");
        Ok(json!({"woken": woken}))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let queues = Aws::new(&env, &tls).queues();
    let (workflows, dead) = (Workflows::from_env(&env, queues.clone()), DeadQueue::from_env(&env, queues));
    // Whoever queued a workflow a moment ago is still putting its hint.
    let grace = env.millis("WORKFLOW_SWEEP_GRACE_MS", 10_000);
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, tls));
    let app = env.finish(database.map(|database| App { database, workflows, dead, grace }))?;
    scheduled::serve(&app).await
}
