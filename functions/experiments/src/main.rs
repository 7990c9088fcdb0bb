//! `GET /api/admin/experiments`: what came of each variant of an experiment.

mod handler;

use std::sync::Arc;

use huntaze_lambda::clients::Aws;
use huntaze_lambda::limit::ApiLimit;
use huntaze_lambda::session::Sessions;
use huntaze_lambda::{api, config, logs};
use huntaze_postgres::Database;
use huntaze_redis::Redis;
use huntaze_rollout::store::Flags;

struct App {
    sessions: Sessions,
    limit: ApiLimit,
    flags: Flags,
    database: Database,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let flags = Flags::from_env(&env, Aws::new(&env, &tls).dynamodb());
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, Arc::clone(&tls)));
    let limit = ApiLimit::from_env(&env, Redis::from_env(&env).map(Arc::new));
    let built = config::sessions(&env).zip(limit).zip(database);
    let app = env.finish(built.map(|((sessions, limit), database)| App { sessions, limit, flags, database }))?;
    app.limit.warm_up().await;
    api::serve(&app).await
}
