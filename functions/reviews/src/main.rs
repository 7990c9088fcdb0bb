//! `/api/admin/reviews`: the workflows that a person decides about.

mod handler;

use std::sync::Arc;

use huntaze_lambda::clients::{self, Aws};
use huntaze_lambda::limit::ApiLimit;
use huntaze_lambda::session::Sessions;
use huntaze_lambda::{api, config, logs};
use huntaze_messaging::hint::Hints;
use huntaze_orchestrator::review::Reviews;
use huntaze_postgres::Database;
use huntaze_redis::Redis;

struct App {
    sessions: Sessions,
    limit: ApiLimit,
    database: Arc<Database>,
    reviews: Reviews,
    hints: Hints,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let hints = Hints::from_env(&env, Aws::new(&env, &tls).queues());
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, Arc::clone(&tls))).map(Arc::new);
    let http = env.check("TLS", clients::http(&tls));
    let reviews = Reviews::from_env(&env, database.clone(), http.as_ref());
    let limit = ApiLimit::from_env(&env, Redis::from_env(&env).map(Arc::new));
    let built = config::sessions(&env).zip(limit).zip(database.zip(reviews));
    let built = built.map(|((sessions, limit), (database, reviews))| App { sessions, limit, database, reviews, hints });
    let app = env.finish(built)?;
    tokio::join!(app.database.warm_up(), app.limit.warm_up());
    api::serve(&app).await
}
