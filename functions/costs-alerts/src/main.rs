//! `/api/v2/costs/alerts`: what fired, what an administrator has to say, and who has seen it.

mod handler;

use std::sync::Arc;

use huntaze_costs::config::ledger;
use huntaze_costs::watch::Watch;
use huntaze_lambda::clients::Aws;
use huntaze_lambda::limit::ApiLimit;
use huntaze_lambda::session::Sessions;
use huntaze_lambda::{api, config, logs};
use huntaze_redis::Redis;

struct App {
    sessions: Sessions,
    limit: ApiLimit,
    watch: Watch,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let aws = Aws::new(&env, &tls);
    let dynamodb = aws.dynamodb();
    let ledger = ledger(&env, dynamodb.clone());
    let watch = Watch::from_env(&env, dynamodb, aws.queues(), ledger);
    let limit = ApiLimit::from_env(&env, Redis::from_env(&env).map(Arc::new));
    let built = config::sessions(&env).zip(limit);
    let app = env.finish(built.map(|(sessions, limit)| App { sessions, limit, watch }))?;
    app.limit.warm_up().await;
    api::serve(&app).await
}
