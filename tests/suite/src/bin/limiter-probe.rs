//! A process of senders for the limiter to be tried by: it asks for the permits of the plan on its standard input, each when its time
//! has come, and writes what it was told. Never deployed.

use std::io::{self, BufRead as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use huntaze_domain::ids::{AccountId, MessageId, UserId};
use huntaze_domain::intent::MessageType;
use huntaze_lambda::config;
use huntaze_messaging::limiter::{Acquired, Generations, Limiter, Overrides, Permit, Verdict};
use huntaze_postgres::Database;
use huntaze_redis::Redis;
use huntaze_tests::now;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

/// One line of the plan.
#[derive(Deserialize)]
struct Ask {
    /// When, in microseconds since 1970.
    at: i64,
    account: AccountId,
    user: UserId,
    recipient: String,
    kind: MessageType,
    message: MessageId,
    attempt: i16,
    hold_ms: u64,
    /// How long the call takes; none: this process is overtaken before it calls.
    call_ms: Option<u64>,
    /// Its end is told.
    ends: bool,
}

struct Probe {
    limiter: Limiter,
    database: Database,
}

impl Probe {
    /// Asks, calls, and says what was told. While nobody knows it asks again, and says since when.
    async fn follow(&self, ask: &Ask) -> anyhow::Result<()> {
        wait_until(ask.at).await;
        let overrides = Overrides::default();
        let Ask { account, user, message, .. } = ask;
        let recipient = ask.recipient.as_str();
        let permit =
            Permit { account, user, recipient, kind: ask.kind, message, attempt: ask.attempt, overrides: &overrides };
        let hold = Duration::from_millis(ask.hold_ms);
        let asked = now().as_microsecond();
        let (granted, verdict) = loop {
            match self.limiter.acquire(&self.database, &permit, hold, &Generations::default()).await {
                Acquired::Granted { verdict, .. } => break (true, verdict),
                Acquired::Denied(verdict) => break (false, verdict),
                Acquired::Unknown(_) => sleep(Duration::from_millis(50)).await,
            }
        };
        let mut told = shown(&verdict);
        told["granted"] = json!(granted);
        told["asked"] = json!(asked);
        // A call that would not be over before its hold is not made.
        let over = |call: &u64| now().as_microsecond() + i64::try_from(*call).unwrap_or(i64::MAX) * 1_000;
        let end_by = asked + i64::try_from(ask.hold_ms)? * 1_000;
        let call = ask.call_ms.filter(|call| granted && over(call) < end_by);
        let mut ended = None;
        if let Some(call) = call {
            sleep(Duration::from_millis(call)).await;
            let unsure_since = now().as_microsecond();
            while ask.ends && ended.is_none() {
                match self.limiter.ended(&permit).await {
                    Ok(at) => ended = Some(json!({"at": at, "asked": unsure_since})),
                    Err(_) => sleep(Duration::from_millis(50)).await,
                }
            }
        }
        told["ended"] = json!(ended);
        told["id"] = json!(format!("{}.{}", ask.message, ask.attempt));
        told["hold_ms"] = json!(ask.hold_ms);
        told["calls"] = json!(call.is_some());
        told["overtaken"] = json!(ask.call_ms.is_none());
        for (name, value) in [("account", account.as_str()), ("user", user.as_str()), ("recipient", recipient)] {
            told[name] = json!(value);
        }
        told["kind"] = json!(ask.kind);
        writeln!(io::stdout(), "{told}")?;
        Ok(())
    }
}

fn shown(verdict: &Verdict) -> Value {
    let layers = verdict.layers.iter().map(|said| json!([said.remaining, said.reset.as_micros(), said.denied]));
    json!({"at": verdict.at, "repeated": verdict.repeated, "layers": layers.collect::<Vec<_>>()})
}

async fn wait_until(at: i64) {
    let left = at - now().as_microsecond();
    sleep(Duration::from_micros(left.try_into().unwrap_or_default())).await;
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let (env, tls) = config::load().await?;
    let plan = io::stdin().lock().lines().map(|line| Ok(serde_json::from_str(&line?)?));
    let plan: Vec<Ask> = plan.collect::<anyhow::Result<_>>()?;
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, Arc::clone(&tls)));
    let limiter = Limiter::from_env(&env, Redis::from_env(&env).map(Arc::new));
    let probe = env.finish(database.zip(limiter).map(|(database, limiter)| Probe { limiter, database }))?;
    probe.limiter.warm_up().await;
    try_join_all(plan.iter().map(|ask| probe.follow(ask))).await?;
    Ok(())
}
