//! `POST /api/v2/campaigns/hybrid`: the main job.

mod handler;

use std::sync::Arc;
use std::time::Duration;

use huntaze_costs::config::ledger;
use huntaze_costs::watch::Watch;
use huntaze_lambda::clients::{self, Aws};
use huntaze_lambda::limit::ApiLimit;
use huntaze_lambda::session::Sessions;
use huntaze_lambda::{api, config, logs};
use huntaze_messaging::hint::Hints;
use huntaze_orchestrator::aftermath::Aftermath;
use huntaze_orchestrator::hint::Workflows;
use huntaze_orchestrator::run::Orchestrator;
use huntaze_orchestrator::store;
use huntaze_postgres::Database;
use huntaze_redis::Redis;

/// The gateway answers 503 after 30 s; two are kept for what surrounds the calls.
const REQUEST_DEADLINE_MS: u64 = 28_000;

struct App {
    sessions: Sessions,
    limit: ApiLimit,
    orchestrator: Orchestrator,
    aftermath: Arc<Aftermath>,
    /// No request takes longer, however much time the gateway leaves it.
    patience: Duration,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, Arc::clone(&tls)));
    let database = database.map(|database| Arc::new(database.preparing(store::HOT)));
    let aws = Aws::new(&env, &tls);
    let dynamodb = aws.dynamodb();
    let ledger = ledger(&env, dynamodb.clone());
    let queues = aws.queues();
    let aftermath = Arc::new(Aftermath {
        messages: Hints::from_env(&env, queues.clone()),
        workflows: Workflows::from_env(&env, queues.clone()),
        watch: Watch::from_env(&env, dynamodb, queues, ledger.clone()),
        ledger,
    });
    let http = clients::http(&tls)?;
    let sessions = config::sessions(&env);
    let redis = Redis::from_env(&env).map(Arc::new);
    let limit = ApiLimit::from_env(&env, redis.clone());
    let orchestrator = Orchestrator::from_env(&env, database, http, redis);
    let patience = env.millis("REQUEST_DEADLINE_MS", REQUEST_DEADLINE_MS);
    let built = sessions.zip(limit).zip(orchestrator);
    let built =
        built.map(|((sessions, limit), orchestrator)| App { sessions, limit, orchestrator, aftermath, patience });
    let app = env.finish(built)?;
    tokio::join!(app.orchestrator.database.warm_up(), app.limit.warm_up(), app.orchestrator.warm_up());
    api::serve(&app).await
}
