//! Queue `huntaze-rate-limiter-queue-dlq`: keeps what was given up, and has the operators told.

use std::sync::Arc;

use huntaze_lambda::clients::Aws;
use huntaze_lambda::queue::{self, Consumer, Message, Undone};
use huntaze_lambda::{config, logs};
use huntaze_messaging::dead::{DeadLetters, Letter};
use huntaze_messaging::tell::Teller;
use huntaze_postgres::Database;
use huntaze_sqs::Notifications;

struct App {
    letters: DeadLetters,
    teller: Teller,
}

impl Consumer for App {
    const TAKES_ALL: bool = true;

    async fn handle(&self, message: Message) -> Result<(), Undone> {
        // What cannot be read is kept as well: there is no dead-letter queue behind this one.
        let letter = Letter::read(&message.id, &message.body);
        let kept = self.letters.keep(&letter).await;
        kept.map_err(|error| Undone::Retry { after: None, cause: error.into() })?;
        let told = self.teller.dead_letter(&letter, message.now).await;
        told.map_err(|error| Undone::Retry { after: None, cause: error.into() })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let aws = Aws::new(&env, &tls);
    let teller = Teller::new(Notifications::from_env(&env, aws.queues()));
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, tls)).map(Arc::new);
    let app = env.finish(database.map(|database| App { letters: DeadLetters::new(database), teller }))?;
    queue::serve(&app, aws.sqs()).await
}
