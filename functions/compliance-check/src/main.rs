//! `POST /api/v2/compliance/check`: what is to be said of a text, for whoever is still writing it.

mod handler;

use std::sync::Arc;

use huntaze_judge::Judge;
use huntaze_lambda::limit::ApiLimit;
use huntaze_lambda::session::Sessions;
use huntaze_lambda::{api, config, logs};
use huntaze_postgres::Database;
use huntaze_redis::Redis;

struct App {
    sessions: Sessions,
    limit: ApiLimit,
    database: Arc<Database>,
    judge: Judge,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, Arc::clone(&tls))).map(Arc::new);
    // Nobody else is asked while somebody types.
    let judge = Judge::from_env(&env, database.clone(), None);
    let limit = ApiLimit::from_env(&env, Redis::from_env(&env).map(Arc::new));
    let built = config::sessions(&env).zip(limit).zip(database.zip(judge));
    let built = built.map(|((sessions, limit), (database, judge))| App { sessions, limit, database, judge });
    let app = env.finish(built)?;
    tokio::join!(app.database.warm_up(), app.limit.warm_up());
    api::serve(&app).await
}
