//! `/api/admin/ledger/corrections`: attempts that were booked at their bound, shown, and corrected against the bill.

mod handler;

use std::sync::Arc;

use huntaze_costs::config::{catalogue, ledger};
use huntaze_costs::ledger::Ledger;
use huntaze_costs::price::Catalogue;
use huntaze_lambda::clients::Aws;
use huntaze_lambda::limit::ApiLimit;
use huntaze_lambda::session::Sessions;
use huntaze_lambda::{api, config, logs};
use huntaze_postgres::Database;
use huntaze_redis::Redis;

struct App {
    sessions: Sessions,
    limit: ApiLimit,
    books: Arc<Books>,
}

/// What a correction changes.
struct Books {
    database: Database,
    ledger: Ledger,
    catalogue: Catalogue,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let ledger = ledger(&env, Aws::new(&env, &tls).dynamodb());
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, Arc::clone(&tls)));
    let limit = ApiLimit::from_env(&env, Redis::from_env(&env).map(Arc::new));
    let books = database.zip(catalogue(&env));
    let books = books.map(|(database, catalogue)| Arc::new(Books { database, ledger, catalogue }));
    let built = config::sessions(&env).zip(limit).zip(books);
    let app = env.finish(built.map(|((sessions, limit), books)| App { sessions, limit, books }))?;
    tokio::join!(app.books.database.warm_up(), app.limit.warm_up());
    api::serve(&app).await
}
