//! Statements that are prepared on a connection, and what happens when the server has lost them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use huntaze_postgres::{Database, Hot};
use huntaze_tests::{App, eventually};
use rustls::{ClientConfig, RootCertStore};

const BOUND: Duration = Duration::from_secs(10);
const ANSWER: &str = "SELECT 42::bigint";
const HOT: &[Hot] = &[(ANSWER, &[])];

/// A connection on which [`HOT`] has been prepared.
async fn prepared(app: &App) -> Result<Database> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let tls = tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let database = Database::new(&app.env()["DATABASE_URL"], Arc::new(tls))?.preparing(HOT);
    eventually(BOUND, async || {
        ensure!(known(&database).await? == 1, "not prepared yet");
        Ok(())
    })
    .await?;
    Ok(database)
}

/// How many statements the server knows on this connection. Asked unprepared, as everything that is not hot.
async fn known(database: &Database) -> Result<i64> {
    Ok(database.query("SELECT count(*) FROM pg_prepared_statements", &[]).await?[0].try_get(0)?)
}

#[tokio::test]
async fn a_hot_statement_is_prepared_on_its_connection_and_used() -> Result<()> {
    let app = App::start().await?;
    let database = prepared(&app).await?;
    assert_eq!(database.query(ANSWER, &[]).await?[0].try_get::<_, i64>(0)?, 42);
    let plans = "SELECT generic_plans + custom_plans FROM pg_prepared_statements";
    assert_eq!(database.query(plans, &[]).await?[0].try_get::<_, i64>(0)?, 1);
    Ok(())
}

#[tokio::test]
async fn a_hot_statement_that_the_server_has_lost_is_sent_unprepared() -> Result<()> {
    let app = App::start().await?;
    let database = prepared(&app).await?;
    database.query("DEALLOCATE ALL", &[]).await?;
    assert_eq!(database.query(ANSWER, &[]).await?[0].try_get::<_, i64>(0)?, 42);
    assert_eq!(known(&database).await?, 0);
    Ok(())
}
