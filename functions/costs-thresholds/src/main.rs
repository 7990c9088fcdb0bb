//! `/api/v2/costs/thresholds`: the amounts that somebody wants to be told of, listed, made and changed.

mod handler;

use std::sync::Arc;

use huntaze_costs::threshold::Thresholds;
use huntaze_lambda::clients::Aws;
use huntaze_lambda::limit::ApiLimit;
use huntaze_lambda::session::Sessions;
use huntaze_lambda::{api, config, logs};
use huntaze_redis::Redis;

struct App {
    sessions: Sessions,
    limit: ApiLimit,
    thresholds: Thresholds,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let thresholds = Thresholds::from_env(&env, Aws::new(&env, &tls).dynamodb());
    let limit = ApiLimit::from_env(&env, Redis::from_env(&env).map(Arc::new));
    let built = config::sessions(&env).zip(limit);
    let app = env.finish(built.map(|(sessions, limit)| App { sessions, limit, thresholds }))?;
    app.limit.warm_up().await;
    api::serve(&app).await
}
