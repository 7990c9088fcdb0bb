//! `/api/admin/feature-flags`: the flags, their history, and what they come to for a user.

mod handler;

use std::sync::Arc;

use huntaze_lambda::clients::Aws;
use huntaze_lambda::limit::ApiLimit;
use huntaze_lambda::session::Sessions;
use huntaze_lambda::{api, config, logs};
use huntaze_postgres::Database;
use huntaze_redis::Redis;
use huntaze_rollout::choice::{Settings, settings};
use huntaze_rollout::store::Flags;

struct App {
    sessions: Sessions,
    limit: ApiLimit,
    flags: Flags,
    /// What the environment says over the flag of the hybrid orchestrator.
    settings: Settings,
    database: Database,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let flags = Flags::from_env(&env, Aws::new(&env, &tls).dynamodb());
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, Arc::clone(&tls)));
    let limit = ApiLimit::from_env(&env, Redis::from_env(&env).map(Arc::new));
    let settings = settings(&env);
    let built = config::sessions(&env).zip(limit).zip(database);
    let built = built.map(|((sessions, limit), database)| App { sessions, limit, flags, settings, database });
    let app = env.finish(built)?;
    app.limit.warm_up().await;
    api::serve(&app).await
}
