//! Schedule, every minute: looks at every rollout, takes back what harms its users, and takes the next step of a plan that is healthy.

use std::sync::Arc;

use anyhow::Context;
use huntaze_lambda::clients::Aws;
use huntaze_lambda::scheduled::{self, Invocation, Task};
use huntaze_lambda::{config, logs, metrics};
use huntaze_redis::Redis;
use huntaze_rollout::choice::settings;
use huntaze_rollout::sides::Sides;
use huntaze_rollout::store::Flags;
use huntaze_rollout::watch::Guard;
use huntaze_sqs::Notifications;
use serde_json::{Value, json};
use tokio::time::timeout_at;

struct App(Guard);

impl Task for App {
    async fn run(&self, Invocation { now, deadline, trace, .. }: Invocation) -> anyhow::Result<Value> {
        let looking = timeout_at(deadline, self.0.look(now));
        let (done, failed) = looking.await.context("the guard ran out of time")?.context("the flags cannot be read")?;
        for one in &done {
            metrics::rollout(&one.flag, one.advanced, &one.why, now, trace.id());
            let (from, to) = (one.from.get(), one.to.get());
            tracing::warn!(flag = one.flag, from, to, why = one.why, "a rollout was changed");
        }
        let shown: Vec<_> = done
            .iter()
            .map(|one| json!({"flag": one.flag, "from": one.from.get(), "to": one.to.get(), "why": one.why}))
            .collect();
        match failed {
            Some(error) => Err(error).context("a rollout could not be looked at, or nobody was told"),
            None => Ok(json!({"changed": shown})),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let aws = Aws::new(&env, &tls);
    let flags = Flags::from_env(&env, aws.dynamodb());
    let people = Notifications::from_env(&env, aws.queues());
    let sides = Redis::from_env(&env).map(|redis| Sides::new(Arc::new(redis)));
    let settings = settings(&env);
    let guard = sides.map(|sides| App(Guard { flags, sides, people, settings }));
    let guard = env.finish(guard)?;
    guard.0.sides.warm_up().await;
    scheduled::serve(&guard).await
}
