//! Schedule, every minute: wakes the accounts that something is overdue of, and completes what is shown of messages.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use huntaze_lambda::clients::Aws;
use huntaze_lambda::scheduled::{self, Invocation, Task};
use huntaze_lambda::{config, logs};
use huntaze_messaging::hint::Hints;
use huntaze_messaging::outbox::{Outbox, Rules};
use huntaze_messaging::shown::Shown;
use huntaze_messaging::tell::Teller;
use huntaze_postgres::Database;
use huntaze_sqs::Notifications;
use serde_json::{Value, json};
use tokio::time::timeout_at;

/// Accounts that are woken, messages that are shown, and notices that are told, by one run at the most.
const MOST: i64 = 500;

struct App {
    outbox: Outbox,
    hints: Hints,
    shown: Shown,
    teller: Teller,
    grace: Duration,
    database: Arc<Database>,
}

impl Task for App {
    async fn run(&self, invocation: Invocation) -> anyhow::Result<Value> {
        // Whoever changed a message a moment ago is still showing it.
        let changed_before = invocation.now.saturating_sub(self.grace)?;
        let sweep = async {
            let overdue = self.outbox.overdue(MOST).await?;
            let mut woken = 0_u64;
            for account in &overdue {
                self.hints.try_put(account, Duration::ZERO).await?;
                woken += 1;
            }
            let (mut shown, mut failed) = (0_u64, 0_u64);
            for message in self.outbox.unprojected(changed_before, MOST).await? {
                match self.shown.try_project(&self.outbox, &message).await {
                    Ok(()) => shown += 1,
                    Err(error) => {
                        tracing::warn!(%error, "a message is not shown as it is");
                        failed += 1;
                    }
                }
            }
            let mut told = 0_u64;
            for notice in self.outbox.notices(None, Some(changed_before), MOST).await? {
                self.teller.tell(&self.outbox, &notice).await?;
                told += 1;
            }
            huntaze_judge::purge(&self.database).await?;
            anyhow::Ok((woken, shown, failed, told))
        };
        let swept = timeout_at(invocation.deadline, sweep).await.context("the sweep ran out of time")?;
        let (woken, shown, failed, told) = swept?;
        tracing::info!(woken, shown, failed, told, "swept");
        Ok(json!({"woken": woken, "shown": shown, "failed": failed, "told": told}))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let aws = Aws::new(&env, &tls);
    let queues = aws.queues();
    let (hints, shown) = (Hints::from_env(&env, queues.clone()), Shown::from_env(&env, aws.dynamodb()));
    let teller = Teller::new(Notifications::from_env(&env, queues));
    let rules = Rules::from_env(&env);
    let grace = env.millis("MESSAGE_SWEEP_GRACE_MS", 10_000);
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, tls)).map(Arc::new);
    let app = database.map(|database| {
        let outbox = Outbox::new(Arc::clone(&database), rules);
        App { outbox, hints, shown, teller, grace, database }
    });
    let app = env.finish(app)?;
    scheduled::serve(&app).await
}
