//! `/api/admin/dead-letters`: what was given up of messages to fans and of workflows, with why; and `…/redrive`: tried anew.

mod handler;

use std::sync::Arc;

use huntaze_lambda::clients::Aws;
use huntaze_lambda::limit::ApiLimit;
use huntaze_lambda::session::Sessions;
use huntaze_lambda::{api, config, logs};
use huntaze_messaging::dead::DeadLetters;
use huntaze_messaging::hint::Hints;
use huntaze_messaging::outbox::Rules;
use huntaze_orchestrator::hint::Workflows;
use huntaze_postgres::Database;
use huntaze_redis::Redis;

struct App {
    sessions: Sessions,
    limit: ApiLimit,
    database: Arc<Database>,
    letters: DeadLetters,
    rules: Rules,
    hints: Hints,
    workflows: Workflows,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let queues = Aws::new(&env, &tls).queues();
    let (hints, workflows) = (Hints::from_env(&env, queues.clone()), Workflows::from_env(&env, queues));
    let rules = Rules::from_env(&env);
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, Arc::clone(&tls))).map(Arc::new);
    let limit = ApiLimit::from_env(&env, Redis::from_env(&env).map(Arc::new));
    let built = config::sessions(&env).zip(limit).zip(database);
    let app = env.finish(built.map(|((sessions, limit), database)| App {
        letters: DeadLetters::new(Arc::clone(&database)),
        rules,
        sessions,
        limit,
        database,
        hints,
        workflows,
    }))?;
    tokio::join!(app.database.warm_up(), app.limit.warm_up());
    api::serve(&app).await
}
