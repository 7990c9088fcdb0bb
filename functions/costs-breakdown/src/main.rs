//! `GET /api/v2/costs/breakdown`: what the costs of up to 90 days are made of, as JSON or as a table.

mod handler;
mod query;
mod view;

use std::sync::Arc;

use huntaze_costs::config::{catalogue, ledger};
use huntaze_costs::ledger::Ledger;
use huntaze_costs::price::Catalogue;
use huntaze_domain::provider::Provider;
use huntaze_lambda::clients::Aws;
use huntaze_lambda::limit::ApiLimit;
use huntaze_lambda::session::Sessions;
use huntaze_lambda::{api, config, logs};
use huntaze_orchestrator::config::configured;
use huntaze_orchestrator::route::Roles;
use huntaze_redis::Redis;

struct App {
    sessions: Sessions,
    limit: ApiLimit,
    ledger: Ledger,
    catalogue: Catalogue,
    roles: Roles,
    /// Whom the roles can ask.
    configured: Vec<Provider>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let ledger = ledger(&env, Aws::new(&env, &tls).dynamodb());
    let limit = ApiLimit::from_env(&env, Redis::from_env(&env).map(Arc::new));
    let (roles, configured) = (Roles::from_env(&env), configured(&env));
    let built = config::sessions(&env).zip(limit).zip(catalogue(&env));
    let app = env.finish(built.map(|((sessions, limit), catalogue)| App {
        sessions,
        limit,
        ledger,
        catalogue,
        roles,
        configured,
    }))?;
    app.limit.warm_up().await;
    api::serve(&app).await
}
