//! Queues `huntaze-ai-processing-dlq` and `huntaze-hybrid-workflows-dlq`: has what is still wanted tried anew, keeps the rest, and has
//! the operators told.

use std::sync::Arc;

use huntaze_lambda::clients::Aws;
use huntaze_lambda::metrics;
use huntaze_lambda::queue::{self, Consumer, Message, Undone};
use huntaze_lambda::{config, logs};
use huntaze_orchestrator::dead::{DeadLetters, Letter, Settled};
use huntaze_orchestrator::hint::Workflows;
use huntaze_postgres::Database;
use huntaze_sqs::Notifications;

struct App(DeadLetters);

impl Consumer for App {
    const TAKES_ALL: bool = true;

    async fn handle(&self, message: Message) -> Result<(), Undone> {
        // Nothing is rejected: there is no dead-letter queue behind these.
        let letter = Letter::read(&message.body);
        let settled = self.0.settle(&message.id, &letter, message.now).await;
        let settled = settled.map_err(|error| Undone::Retry { after: None, cause: error.into() })?;
        tracing::info!(?settled, "a dead letter");
        metrics::dead_letter(
            &message.origin(),
            match settled {
                Settled::Over => metrics::DeadLetter::Over,
                Settled::Redriven => metrics::DeadLetter::Redriven,
                Settled::Kept => metrics::DeadLetter::Kept,
            },
        );
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let aws = Aws::new(&env, &tls);
    let workflows = Workflows::from_env(&env, aws.queues());
    let people = Notifications::from_env(&env, aws.queues());
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, tls)).map(Arc::new);
    let app = env.finish(database.map(|database| App(DeadLetters { database, workflows, people })))?;
    queue::serve(&app, aws.sqs()).await
}
