//! `POST /api/campaigns/hybrid`: the route of old clients, served here or by the system before this one.

use huntaze_campaigns::Campaigns;
use huntaze_lambda::api::{Call, Reply, Route};
use huntaze_lambda::problem::Problem;
use huntaze_lambda::{api, config, logs};

struct App(Campaigns);

impl Route for App {
    async fn handle(&self, call: &Call) -> Result<Reply, Problem> {
        self.0.serve_old(call).await
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let app = App(Campaigns::from_env(&env, &tls)?);
    app.0.warm_up().await;
    api::serve(&app).await
}
