//! `/api/v2/onlyfans/accounts`: the accounts that messages are sent from, listed, made and changed.

mod handler;

use std::sync::Arc;

use huntaze_lambda::clients::{self, Aws};
use huntaze_lambda::limit::ApiLimit;
use huntaze_lambda::session::Sessions;
use huntaze_lambda::{api, config, logs};
use huntaze_messaging::account;
use huntaze_messaging::hint::Hints;
use huntaze_messaging::platform::Platform;
use huntaze_messaging::session::Sessions as AccountSessions;
use huntaze_postgres::Database;
use huntaze_redis::Redis;

struct App {
    sessions: Sessions,
    limit: ApiLimit,
    database: Database,
    account_sessions: AccountSessions,
    platform: Platform,
    hints: Hints,
    most_accounts: i64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let (aws, http) = (Aws::new(&env, &tls), clients::http(&tls)?);
    let (hints, most_accounts) = (Hints::from_env(&env, aws.queues()), account::most_from_env(&env));
    let account_sessions = AccountSessions::from_env(&env, aws.dynamodb());
    let platform = Platform::from_env(&env, http);
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, Arc::clone(&tls)));
    let limit = ApiLimit::from_env(&env, Redis::from_env(&env).map(Arc::new));
    let built = config::sessions(&env).zip(limit).zip(database).zip(account_sessions).zip(platform);
    let app = env.finish(built.map(|((((sessions, limit), database), account_sessions), platform)| App {
        sessions,
        limit,
        database,
        account_sessions,
        platform,
        hints,
        most_accounts,
    }))?;
    tokio::join!(app.database.warm_up(), app.limit.warm_up());
    api::serve(&app).await
}
