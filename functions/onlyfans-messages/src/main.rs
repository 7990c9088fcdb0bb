//! `/api/v2/onlyfans/messages`: messages to fans are taken on, shown and taken back; and `…/approve`, `…/reject`, `…/resend`: what a
//! person decides about one.

mod handler;
mod view;

use std::sync::Arc;

use huntaze_judge::Judge;
use huntaze_lambda::clients::{self, Aws};
use huntaze_lambda::limit::ApiLimit;
use huntaze_lambda::session::Sessions;
use huntaze_lambda::{api, config, logs};
use huntaze_messaging::hint::Hints;
use huntaze_messaging::limiter::Limiter;
use huntaze_messaging::outbox::{Outbox, Rules};
use huntaze_messaging::shown::Shown;
use huntaze_postgres::Database;
use huntaze_redis::Redis;

struct App {
    sessions: Sessions,
    limit: ApiLimit,
    database: Arc<Database>,
    judge: Judge,
    outbox: Outbox,
    limiter: Limiter,
    hints: Hints,
    shown: Shown,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let aws = Aws::new(&env, &tls);
    let (hints, shown) = (Hints::from_env(&env, aws.queues()), Shown::from_env(&env, aws.dynamodb()));
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, Arc::clone(&tls))).map(Arc::new);
    let redis = Redis::from_env(&env).map(Arc::new);
    let (limit, limiter) = (ApiLimit::from_env(&env, redis.clone()), Limiter::from_env(&env, redis));
    let rules = Rules::from_env(&env);
    let http = env.check("TLS", clients::http(&tls));
    let judge = Judge::from_env(&env, database.clone(), http.as_ref());
    let built = config::sessions(&env).zip(limit).zip(limiter).zip(database.zip(judge));
    let app = env.finish(built.map(|(((sessions, limit), limiter), (database, judge))| App {
        judge,
        outbox: Outbox::new(Arc::clone(&database), rules),
        sessions,
        limit,
        database,
        limiter,
        hints,
        shown,
    }))?;
    tokio::join!(app.database.warm_up(), app.limit.warm_up(), app.limiter.warm_up_to_peek());
    api::serve(&app).await
}
