//! `GET /api/admin/circuits`: which providers and which accounts are not called for a while because they failed.

mod handler;

use std::sync::Arc;

use huntaze_breaker::Breaker;
use huntaze_domain::provider::Provider;
use huntaze_lambda::limit::ApiLimit;
use huntaze_lambda::session::Sessions;
use huntaze_lambda::{api, config, logs};
use huntaze_messaging::outbox::Rules;
use huntaze_orchestrator::config::configured;
use huntaze_orchestrator::route::Roles;
use huntaze_postgres::Database;
use huntaze_redis::Redis;

struct App {
    sessions: Sessions,
    limit: ApiLimit,
    database: Database,
    breaker: Breaker,
    roles: Roles,
    /// Who has a key.
    callable: Vec<Provider>,
    rules: Rules,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, Arc::clone(&tls)));
    let redis = Redis::from_env(&env).map(Arc::new);
    let (limit, breaker) = (ApiLimit::from_env(&env, redis.clone()), Breaker::from_env(&env, redis));
    let (roles, callable, rules) = (Roles::from_env(&env), configured(&env), Rules::from_env(&env));
    let built = config::sessions(&env).zip(limit).zip(database).zip(breaker);
    let app = env.finish(built.map(|(((sessions, limit), database), breaker)| App {
        sessions,
        limit,
        database,
        breaker,
        roles,
        callable,
        rules,
    }))?;
    tokio::join!(app.database.warm_up(), app.limit.warm_up(), app.breaker.warm_up_to_peek());
    api::serve(&app).await
}
