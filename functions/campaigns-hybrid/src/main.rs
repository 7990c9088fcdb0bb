//! `POST /api/v2/campaigns/hybrid`: the main job.

mod handler;

use std::sync::Arc;
use std::time::Duration;

use huntaze_lambda::clients::{self, Aws};
use huntaze_lambda::session::Sessions;
use huntaze_lambda::{api, config, logs};
use huntaze_orchestrator::run::Orchestrator;
use huntaze_orchestrator::store;
use huntaze_postgres::Database;

/// The gateway answers 503 after 30 s; two are kept for what surrounds the calls.
const REQUEST_DEADLINE_MS: u64 = 28_000;

struct App {
    sessions: Sessions,
    orchestrator: Orchestrator,
    /// No request takes longer, however much time the gateway leaves it.
    patience: Duration,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let database = env.check("DATABASE_URL", Database::new(&env.required("DATABASE_URL"), Arc::clone(&tls)));
    let database = database.map(|database| Arc::new(database.preparing(store::HOT)));
    let dynamodb = Aws::new(&env, &tls).dynamodb();
    let http = clients::http(&tls)?;
    let sessions = config::sessions(&env);
    let orchestrator = database.and_then(|database| Orchestrator::from_env(&env, database, dynamodb, http));
    let patience = env.millis("REQUEST_DEADLINE_MS", REQUEST_DEADLINE_MS);
    let built = sessions.zip(orchestrator).map(|(sessions, orchestrator)| App { sessions, orchestrator, patience });
    let app = env.finish(built)?;
    app.orchestrator.database.warm_up().await;
    api::serve(&app).await
}
