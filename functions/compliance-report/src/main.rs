//! `GET /api/admin/compliance`: what was judged, and which rules were broken by whom.

mod handler;

use std::sync::Arc;

use huntaze_lambda::limit::ApiLimit;
use huntaze_lambda::session::Sessions;
use huntaze_lambda::{api, config, logs};
use huntaze_postgres::Database;
use huntaze_redis::Redis;

struct App {
    sessions: Sessions,
    limit: ApiLimit,
    database: Database,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, Arc::clone(&tls)));
    let limit = ApiLimit::from_env(&env, Redis::from_env(&env).map(Arc::new));
    let built = config::sessions(&env).zip(limit).zip(database);
    let app = env.finish(built.map(|((sessions, limit), database)| App { sessions, limit, database }))?;
    tokio::join!(app.database.warm_up(), app.limit.warm_up());
    api::serve(&app).await
}
