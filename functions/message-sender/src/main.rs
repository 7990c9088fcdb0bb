//! Queue `huntaze-rate-limiter-queue`: sends what is due of the account that a hint names.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use huntaze_lambda::clients::{self, Aws};
use huntaze_lambda::queue::{self, Consumer, Message, Undone};
use huntaze_lambda::{config, logs, metrics, scheduled};
use huntaze_messaging::dead::DeadQueue;
use huntaze_messaging::hint::{self, Hints};
use huntaze_messaging::limiter::Limiter;
use huntaze_messaging::outbox::{Outbox, Rules};
use huntaze_messaging::platform::Platform;
use huntaze_messaging::sender::{Sender, Tally};
use huntaze_messaging::session::Sessions;
use huntaze_messaging::shown::Shown;
use huntaze_messaging::tell::Teller;
use huntaze_postgres::Database;
use huntaze_redis::Redis;
use huntaze_sqs::Notifications;
use tokio::time::Instant;

/// What a message must leave of an invocation, whose time-out is 60 s in the template: it would never be begun.
const LONGEST_MESSAGE: Duration = Duration::from_secs(50);
/// What is shown of one message is written in less.
const PROJECTION: Duration = Duration::from_secs(6);
/// Before a hint comes again that a store did not answer for: long enough for a failover before its receives are used up.
const STORE_REST: Duration = Duration::from_secs(60);

struct App {
    sender: Sender,
    shown: Shown,
}

impl Consumer for App {
    async fn handle(&self, message: Message) -> Result<(), Undone> {
        let Some(account) = hint::read(&message.object()?) else { return Err(Undone::Reject("no hint".to_owned())) };
        let mut tally = Tally::default();
        let served = self.sender.serve(&account, message.deadline, &mut tally).await;
        let Tally { sent, failed, unknown, retried, throttled, touched } = tally;
        metrics::messages(&message.origin(), &metrics::Messages { sent, failed, unknown, retried, throttled });
        // Each once, and as far as there is time: the sweep completes it.
        let touched: BTreeSet<_> = touched.into_iter().collect();
        for id in touched {
            if Instant::now() + PROJECTION > message.deadline {
                break;
            }
            self.shown.project(&self.sender.outbox, &id).await;
        }
        // What was begun is settled or comes free with its lease, so the hint may come again.
        served.map_err(|error| Undone::Retry { after: Some(STORE_REST), cause: error.into() })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let (aws, http) = (Aws::new(&env, &tls), clients::http(&tls)?);
    let dynamodb = aws.dynamodb();
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, tls)).map(Arc::new);
    let limiter = Limiter::from_env(&env, Redis::from_env(&env).map(Arc::new));
    let sessions = Sessions::from_env(&env, dynamodb.clone());
    let platform = Platform::from_env(&env, http);
    let (rules, shown) = (Rules::from_env(&env), Shown::from_env(&env, dynamodb));
    let queues = aws.queues();
    let (hints, dead) = (Hints::from_env(&env, queues.clone()), DeadQueue::from_env(&env, queues.clone()));
    let teller = Teller::new(Notifications::from_env(&env, queues));
    let built = database.zip(limiter).zip(sessions).zip(platform);
    let app = env.finish(built.map(|(((database, limiter), sessions), platform)| {
        let (hold, lease_margin) = (Sender::hold_from_env(&env, &platform), Sender::lease_margin_from_env(&env));
        if hold + lease_margin > LONGEST_MESSAGE {
            let fault = format!("with the margins of hold and lease a message takes longer than {LONGEST_MESSAGE:?}");
            env.fault("ONLYFANS_TIMEOUT_MS", fault);
        }
        let outbox = Outbox::new(Arc::clone(&database), rules);
        let clock = scheduled::now;
        App {
            sender: Sender {
                outbox,
                database,
                limiter,
                sessions,
                platform,
                hints,
                dead,
                teller,
                clock,
                hold,
                lease_margin,
            },
            shown,
        }
    }))?;
    tokio::join!(app.sender.database.warm_up(), app.sender.limiter.warm_up());
    queue::serve(&app, aws.sqs()).await
}
