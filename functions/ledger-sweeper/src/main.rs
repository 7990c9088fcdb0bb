//! Schedule, every minute: settles what a crash left reserved, and completes the ledger.

use std::time::Duration;

use anyhow::Context;
use huntaze_costs::attempt::Outcome;
use huntaze_costs::config::{catalogue, ledger};
use huntaze_costs::ledger::Ledger;
use huntaze_costs::price::Catalogue;
use huntaze_costs::sweep::{self, Expired};
use huntaze_lambda::clients::Aws;
use huntaze_lambda::metrics::{self, ProviderCall};
use huntaze_lambda::scheduled::{self, Invocation, Task};
use huntaze_lambda::{config, logs};
use huntaze_postgres::Database;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::timeout_at;

struct App {
    database: Database,
    ledger: Ledger,
    catalogue: Catalogue,
    grace: Duration,
}

impl Task for App {
    async fn run(&self, invocation: Invocation) -> anyhow::Result<Value> {
        // Whoever settled an attempt a moment ago is still writing its entry.
        let settled_before = invocation.now.saturating_sub(self.grace)?;
        let sweep = async {
            let ended = sweep::tidy(&self.database).await?;
            let settled = sweep::settle_expired(&self.database, |call| emit(&call, invocation.now)).await?;
            let projected =
                sweep::project_missing(&self.database, &self.ledger, &self.catalogue, settled_before).await?;
            let corrected = sweep::project_corrections(&self.database, &self.ledger, &self.catalogue).await?;
            anyhow::Ok((ended, settled, projected, corrected))
        };
        let (ended, settled, projected, (corrected, uncorrected)) =
            timeout_at(invocation.deadline, sweep).await.context("the sweep ran out of time")??;
        tracing::info!(
            ended,
            settled,
            found = projected.found,
            written = projected.written,
            corrected,
            failed = projected.failed + uncorrected,
            "swept"
        );
        Ok(json!({
            "ended": ended,
            "settled": settled,
            "found": projected.found,
            "written": projected.written,
            "corrected": corrected,
            "failed": projected.failed + uncorrected,
        }))
    }
}

/// What the process that made the call cannot say any more. Its end was seen by nobody, so it has no duration.
fn emit(call: &Expired, at: Timestamp) {
    metrics::provider_call(&ProviderCall {
        provider: call.provider,
        model: &call.model,
        outcome: Outcome::Unknown.as_str(),
        cost: call.cost,
        tokens: call.tokens,
        duration: None,
        saved: None,
        at,
        trace: &call.trace_id,
    });
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let ledger = ledger(&env, Aws::new(&env, &tls).dynamodb());
    let grace = env.millis("LEDGER_SWEEP_GRACE_MS", 10_000);
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, tls));
    let built = database.zip(catalogue(&env));
    let app = env.finish(built.map(|(database, catalogue)| App { database, ledger, catalogue, grace }))?;
    scheduled::serve(&app).await
}
