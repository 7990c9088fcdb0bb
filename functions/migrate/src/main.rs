//! Applies the PostgreSQL migrations of `migrations/`; invoked once a deployment, before the new functions serve.
//!
//! Two of them at once are safe: the second waits for the first. A migration that was changed after it was applied, or is
//! missing, is an error and nothing is applied.

use anyhow::Context;
use huntaze_lambda::scheduled::{self, Invocation, Task};
use huntaze_lambda::{config, logs};
use huntaze_postgres::Database;
use serde_json::{Value, json};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

mod migrations {
    refinery::embed_migrations!("../../migrations");
}

/// Any number that nothing else in the database locks.
const LOCK: i64 = 0x6875_6e74;

/// Whoever wants a table that a migration waits for waits behind it: rather none is applied, and it is run again.
const LOCK_PATIENCE_MS: u32 = 3_000;

struct App {
    database: Database,
}

impl Task for App {
    async fn run(&self, _: Invocation) -> anyhow::Result<Value> {
        let mut client = self.database.dedicated().await?;
        client.query_typed("SELECT pg_advisory_lock($1)", &[(&LOCK, Type::INT8)]).await?;
        let applied = migrate(&mut client).await;
        // By hand: a frozen environment would keep its connection, and with it the lock.
        let unlocked = client.query_typed("SELECT pg_advisory_unlock($1)", &[(&LOCK, Type::INT8)]).await;
        let applied = applied?;
        unlocked?;
        tracing::info!(?applied, "migrated");
        Ok(json!({"applied": applied}))
    }
}

async fn migrate(client: &mut Client) -> anyhow::Result<Vec<String>> {
    client.batch_execute(&format!("SET lock_timeout = {LOCK_PATIENCE_MS}")).await?;
    // The history of migrations lives in the schema that the first of them makes.
    client.batch_execute("CREATE SCHEMA IF NOT EXISTS orchestrator").await.context("the schema cannot be made")?;
    let mut runner = migrations::migrations::runner();
    runner.set_migration_table_name("orchestrator.schema_history");
    let report = runner.run_async(client).await.context("a migration failed")?;
    Ok(report.applied_migrations().iter().map(ToString::to_string).collect())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, tls));
    scheduled::serve(&App { database: env.finish(database)? }).await
}
