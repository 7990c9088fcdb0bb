//! `GET /api/v2/campaigns/status`: one workflow, or a page of a user's workflows.

mod handler;

use std::sync::Arc;

use huntaze_lambda::session::Sessions;
use huntaze_lambda::{api, config, logs};
use huntaze_postgres::Database;

struct App {
    sessions: Sessions,
    database: Database,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let database = env.check("DATABASE_URL", Database::new(&env.required("DATABASE_URL"), Arc::clone(&tls)));
    let built = config::sessions(&env).zip(database).map(|(sessions, database)| App { sessions, database });
    let app = env.finish(built)?;
    app.database.warm_up().await;
    api::serve(&app).await
}
