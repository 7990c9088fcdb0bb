//! `GET /api/v2/onlyfans/stats`: what was sent to fans, what the limiter denied, and what waits; a user's, or everybody's.

mod handler;

use std::sync::Arc;

use huntaze_lambda::limit::ApiLimit;
use huntaze_lambda::session::Sessions;
use huntaze_lambda::{api, config, logs};
use huntaze_messaging::limiter::Limiter;
use huntaze_postgres::Database;
use huntaze_redis::Redis;

struct App {
    sessions: Sessions,
    limit: ApiLimit,
    database: Database,
    limiter: Limiter,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, Arc::clone(&tls)));
    let redis = Redis::from_env(&env).map(Arc::new);
    let (limit, limiter) = (ApiLimit::from_env(&env, redis.clone()), Limiter::from_env(&env, redis));
    let built = config::sessions(&env).zip(limit).zip(database).zip(limiter);
    let app =
        env.finish(built.map(|(((sessions, limit), database), limiter)| App { sessions, limit, database, limiter }))?;
    tokio::join!(app.database.warm_up(), app.limit.warm_up());
    api::serve(&app).await
}
