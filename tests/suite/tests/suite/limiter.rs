//! The limiter: exact over any window and any number of processes, restored when its memory is lost, and never unlimited.

mod memory;
mod model;
mod storm;
mod watching;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use huntaze_domain::env::Env;
use huntaze_domain::ids::{AccountId, MessageId, UserId};
use huntaze_domain::intent::MessageType;
use huntaze_lambda::clients;
use huntaze_messaging::limiter::{
    Acquired, Generations, LAYERS, Limiter, LimiterFault, Of, Overrides, Permit, Subject, Verdict,
};
use huntaze_postgres::Database;
use huntaze_redis::Redis;
use huntaze_tests::{App, eventually};
use redis::aio::MultiplexedConnection;
use serde_json::json;
use tokio_postgres::types::Type;

use self::model::Who;
use crate::support::closed_port;

const BOUND: Duration = Duration::from_secs(30);
const HOLD: Duration = Duration::from_secs(30);

/// One attempt of one message, owned.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) who: Who,
    account: AccountId,
    message: MessageId,
    overrides: Overrides,
}

impl Ask {
    pub(crate) fn new(message: &str, who: Who) -> Self {
        let (account, message) = (AccountId::parse(&who.account).unwrap(), MessageId::parse(message).unwrap());
        Self { who, account, message, overrides: Overrides::default() }
    }

    pub(crate) fn id(&self) -> String {
        format!("{}.1", self.message)
    }

    fn permit(&self) -> Permit<'_> {
        let Who { user, recipient, kind, .. } = &self.who;
        let Self { account, message, overrides, .. } = self;
        Permit { account, user, recipient, kind: *kind, message, attempt: 1, overrides }
    }

    pub(crate) fn subject(&self) -> Subject<'_> {
        self.permit().subject()
    }
}

/// A message of ana's account to a fan.
fn to(recipient: usize, message: &str) -> Ask {
    Ask::new(message, sender("anas-account", "ana", recipient))
}

pub(crate) fn sender(account: &str, user: &str, recipient: usize) -> Who {
    let (user, recipient) = (UserId::parse(user).unwrap(), format!("fan-{recipient}"));
    Who { account: account.to_owned(), user, recipient, kind: MessageType::FollowUp }
}

/// What a process that sends has: a limiter and a database.
pub(crate) struct Sender {
    pub(crate) limiter: Limiter,
    database: Database,
}

impl Sender {
    pub(crate) fn of(app: &App, settings: &[(&str, &str)]) -> Result<Self> {
        let own = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let env = Env::from_pairs(own).over(app.env().clone());
        let tls = clients::tls(&env)?;
        let database = env.required_as("DATABASE_URL", |url| Database::new(url, tls));
        let limiter = Limiter::from_env(&env, Redis::from_env(&env).map(Arc::new));
        env.finish(database.zip(limiter).map(|(database, limiter)| Self { limiter, database })).map_err(Into::into)
    }

    pub(crate) async fn ask(&self, ask: &Ask, hold: Duration, refused: &Generations) -> Acquired {
        self.limiter.acquire(&self.database, &ask.permit(), hold, refused).await
    }

    /// Asks until there is an answer: on a busy machine one may be late.
    pub(crate) async fn decided(&self, ask: &Ask, refused: &Generations) -> Result<(Option<Generations>, Verdict)> {
        eventually(BOUND, async || match self.ask(ask, HOLD, refused).await {
            Acquired::Granted { verdict, generations } => Ok((Some(generations), verdict)),
            Acquired::Denied(verdict) => Ok((None, verdict)),
            Acquired::Unknown(fault) => Err(fault.into()),
        })
        .await
    }

    async fn granted(&self, ask: &Ask) -> Result<bool> {
        Ok(self.decided(ask, &Generations::default()).await?.0.is_some())
    }

    /// Writes an attempt down, if PostgreSQL takes the generations of its permit.
    async fn begin(&self, ask: &Ask, generations: &Generations) -> Result<bool> {
        const BEGIN: &str = "INSERT INTO orchestrator.message_attempts (message_id, attempt, account_id, user_id,
            recipient_id, message_type, counts_until) SELECT $1, 1, $2, $3, $4, 'follow_up', now() + $5 * interval '1 ms'
            WHERE orchestrator.permits_hold($6) RETURNING message_id";
        let generations = generations.to_json();
        let hold = i64::try_from(HOLD.as_millis())?;
        let params = [
            (&ask.message.as_str() as _, Type::TEXT),
            (&ask.who.account as _, Type::TEXT),
            (&ask.who.user.as_str() as _, Type::TEXT),
            (&ask.who.recipient as _, Type::TEXT),
            (&hold as _, Type::INT8),
            (&generations as _, Type::JSONB),
        ];
        Ok(!self.database.query(BEGIN, &params).await?.is_empty())
    }

    /// Asks, and begins what is granted; asks again where the permit is not taken. Whether it was begun.
    async fn send(&self, ask: &Ask) -> Result<bool> {
        let mut refused = Generations::default();
        for _ in 0..100 {
            let (Some(generations), _) = self.decided(ask, &refused).await? else { return Ok(false) };
            if self.begin(ask, &generations).await? {
                return Ok(true);
            }
            refused = generations;
        }
        anyhow::bail!("no permit was taken of 100")
    }
}

/// An app whose attempts need no messages: the limiter knows nothing of those.
pub(crate) async fn app() -> Result<App> {
    let app = App::start().await?.set("RATE_LIMIT_GLOBAL_PER_SECOND", "5000");
    let sql = "ALTER TABLE orchestrator.message_attempts DROP CONSTRAINT message_attempts_message_id_fkey";
    let _ = app.stores.execute(sql, &[]).await?;
    Ok(app)
}

/// Everything in Redis but clocks, each log as its members and their scores.
async fn dump(redis: &mut MultiplexedConnection) -> Result<BTreeMap<String, Vec<String>>> {
    let mut logs = BTreeMap::new();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(redis).await?;
    for key in keys.into_iter().filter(|key| !key.ends_with(":clock")) {
        let log = redis::cmd("ZRANGE").arg(&key).arg(0).arg(-1).arg("WITHSCORES").query_async(redis).await?;
        let _ = logs.insert(key, log);
    }
    Ok(logs)
}

fn denying(verdict: &Verdict) -> Vec<&'static str> {
    verdict.denied().map(|said| said.layer.name).collect()
}

#[tokio::test]
async fn the_11th_message_of_a_minute_is_denied_and_told_when_to_come_again() -> Result<()> {
    let app = app().await?;
    let sender = Sender::of(&app, &[])?;
    let none = Generations::default();
    assert!(sender.limiter.peek(&to(1, "m1").subject()).await.is_none(), "nobody has asked yet");
    for n in 1..=10 {
        let (generations, verdict) = sender.decided(&to(n, &format!("m{n}")), &none).await?;
        assert!(generations.is_some() && !verdict.throttled());
        let minute = &verdict.layers[0];
        assert_eq!((minute.layer.name, minute.limit, minute.remaining as usize), ("account_minute", 10, 10 - n));
        assert!(minute.reset <= minute.window);
    }
    let Acquired::Denied(verdict) = sender.ask(&to(11, "m11"), HOLD, &none).await else { anyhow::bail!("not denied") };
    assert_eq!(denying(&verdict), ["account_minute"]);
    let retry_after = verdict.layers[0].retry_after().context("it denies")?;
    assert!((Duration::from_secs(50)..=Duration::from_secs(60)).contains(&retry_after), "{retry_after:?}");
    assert_eq!(
        (verdict.tightest(|_| true).map(|said| said.layer.name), verdict.layers[1].remaining),
        (Some("account_minute"), 90)
    );
    Ok(())
}

#[tokio::test]
async fn design_the_same_attempt_never_consumes_twice() -> Result<()> {
    let app = app().await?;
    let (sender, none) = (Sender::of(&app, &[])?, Generations::default());
    for n in 1..=10 {
        assert!(sender.granted(&to(n, &format!("m{n}"))).await?);
    }
    // It has its permit already, and its end is told as often as one likes.
    let (again, verdict) = sender.decided(&to(3, "m3"), &none).await?;
    assert!(again.is_some() && verdict.repeated && verdict.layers[0].remaining == 0);
    for _ in 0..2 {
        assert!(sender.limiter.ended(&to(3, "m3").permit()).await? > verdict.at);
    }
    let shown = sender.limiter.peek(&to(3, "m3").subject()).await.context("not known")?;
    assert_eq!((denying(&shown), shown.layers[0].remaining), (vec!["account_minute"], 0));
    Ok(())
}

#[tokio::test]
async fn design_a_denied_check_consumes_nothing_in_any_layer() -> Result<()> {
    let app = app().await?;
    let mut redis = app.stores.redis().await?;
    for layer in LAYERS {
        redis::cmd("FLUSHDB").exec_async(&mut redis).await?;
        let plenty = LAYERS.iter().map(|other| (other.variable, if other == layer { "1" } else { "5000" }));
        let sender = Sender::of(&app, &plenty.collect::<Vec<_>>())?;
        let kind = if let Of::Type(kind) = layer.of { kind } else { MessageType::Custom };
        let first = Who { kind, ..self::sender("one", "ana", 1) };
        let (mut same, mut free) = (first.clone(), None);
        match layer.of {
            Of::Account => free = Some(Who { account: "other".to_owned(), ..first.clone() }),
            Of::Recipient => free = Some(Who { recipient: "fan-2".to_owned(), ..first.clone() }),
            Of::Recipients => {
                same.recipient = "fan-2".to_owned();
                free = Some(first.clone());
            }
            Of::Type(MessageType::Custom) => free = Some(Who { kind: MessageType::Welcome, ..first.clone() }),
            Of::Type(_) => free = Some(Who { kind: MessageType::Custom, ..first.clone() }),
            Of::User => {
                same.account = "other".to_owned();
                free = Some(self::sender("theirs", "bob", 1));
            }
            Of::Everyone => same = self::sender("theirs", "bob", 7),
        }
        assert!(sender.granted(&Ask::new("m1", first)).await?);
        // Where a log is not there, it is made: that is no permit.
        let _ = sender.decided(&Ask::new("m2", same.clone()), &Generations::default()).await?;
        let before = dump(&mut redis).await?;
        let Acquired::Denied(verdict) = sender.ask(&Ask::new("m2", same), HOLD, &Generations::default()).await else {
            anyhow::bail!("{} does not deny", layer.name)
        };
        assert_eq!(denying(&verdict), [layer.name]);
        assert_eq!(dump(&mut redis).await?, before, "{}", layer.name);
        if let Some(free) = free {
            assert!(sender.granted(&Ask::new("m3", free)).await?, "{} denies another's", layer.name);
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_account_is_held_to_its_own_limits() -> Result<()> {
    let app = app().await?;
    let sender = Sender::of(&app, &[])?;
    let own = Overrides::parse(json!({"account_minute": 2}).as_object().unwrap(), "").unwrap();
    for (n, granted) in [(1, true), (2, true), (3, false)] {
        let ask = Ask { overrides: own.clone(), ..to(n, &format!("m{n}")) };
        assert_eq!(sender.granted(&ask).await?, granted);
    }
    assert!(sender.granted(&to(3, "m3")).await?, "by everybody's limits there is room");
    Ok(())
}

#[tokio::test]
async fn scripts_that_the_server_has_lost_are_sent_again_and_without_redis_nobody_knows() -> Result<()> {
    let app = app().await?;
    let sender = Sender::of(&app, &[])?;
    let mut redis = app.stores.redis().await?;
    sender.limiter.warm_up().await;
    for n in 0..2 {
        redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut redis).await?;
        assert!(sender.granted(&to(n, &format!("m{n}"))).await?);
        redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut redis).await?;
        let _ = eventually(BOUND, async || Ok(sender.limiter.ended(&to(n, &format!("m{n}")).permit()).await?)).await?;
    }
    let away = format!("redis://{}", closed_port()?);
    let away = Sender::of(&app, &[("REDIS_URL", &away)])?;
    let acquired = away.ask(&to(3, "m3"), HOLD, &Generations::default()).await;
    assert!(matches!(acquired, Acquired::Unknown(LimiterFault::Redis(_))), "{acquired:?}");
    assert!(away.limiter.ended(&to(3, "m3").permit()).await.is_err());
    assert!(away.limiter.peek(&to(3, "m3").subject()).await.is_none());
    Ok(())
}

/// A cluster keeps keys with the same text in braces in one slot, so one script may read them.
#[tokio::test]
async fn an_account_is_on_its_owners_shard_as_postgresql_says_it() -> Result<()> {
    let app = app().await?;
    let sender = Sender::of(&app, &[("RATE_LIMIT_SHARDS", "7"), ("RATE_LIMIT_USER_PER_HOUR", "100")])?;
    let mut redis = app.stores.redis().await?;
    let users: Vec<_> = (0..20).map(|n| format!("user-{n}")).collect();
    for user in &users {
        redis::cmd("FLUSHDB").exec_async(&mut redis).await?;
        assert!(sender.granted(&Ask::new("m1", self::sender("acc", user, 1))).await?);
        let shard =
            app.stores.row("SELECT orchestrator.limiter_shard($1, 7) AS shard", &[user]).await?["shard"].clone();
        let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await?;
        keys.sort_unstable();
        let logs = ["account:acc".to_owned(), "clock".to_owned(), format!("global:{shard}"), format!("user:{user}")];
        assert_eq!(keys, logs.map(|log| format!("huntaze:limiter:{{{shard}}}:{log}")));
    }
    Ok(())
}

/// Sets a field of the clock, for what TIME says cannot be changed.
pub(crate) async fn set_clock(
    redis: &mut MultiplexedConnection,
    prefix: &str,
    field: &str,
    value: String,
) -> Result<()> {
    let key = format!("{prefix}:{{0}}:clock");
    Ok(redis::cmd("HSET").arg(key).arg(field).arg(value).exec_async(redis).await?)
}

/// The server's own time, in microseconds.
pub(crate) async fn server_time(redis: &mut MultiplexedConnection) -> Result<u64> {
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(redis).await?;
    Ok(seconds * 1_000_000 + micros)
}

const ENFORCED: &str = "huntaze:limiter";

#[tokio::test]
async fn a_clock_that_is_set_back_shortens_no_window_and_one_that_goes_on_lengthens_none() -> Result<()> {
    let app = app().await?;
    let sender = Sender::of(&app, &[])?;
    let mut redis = app.stores.redis().await?;
    let mut last = 0;
    for n in 1..=10 {
        let (granted, verdict) = sender.decided(&to(n, &format!("m{n}")), &Generations::default()).await?;
        assert!(granted.is_some() && verdict.at > last);
        last = verdict.at;
        assert!(sender.limiter.ended(&to(n, &format!("m{n}")).permit()).await? > last);
    }
    // As if TIME had been set back by three seconds: it goes on from the latest moment, and stands still.
    let ahead = server_time(&mut redis).await? + 3_000_000;
    set_clock(&mut redis, ENFORCED, "at", ahead.to_string()).await?;
    for later in 1..=3 {
        let (granted, verdict) = sender.decided(&to(11, "m11"), &Generations::default()).await?;
        assert!(granted.is_none() && verdict.at >= ahead + later);
    }
    // As if nobody had asked for an hour: TIME is what it is.
    set_clock(&mut redis, ENFORCED, "at", (ahead - 3_600_000_000).to_string()).await?;
    let before = server_time(&mut redis).await?;
    let (granted, verdict) = sender.decided(&to(11, "m11"), &Generations::default()).await?;
    assert!(granted.is_none() && verdict.at >= before);
    // As if it had been set back by a minute: what was remembered is of no use, and PostgreSQL knows of nothing begun.
    let ahead = server_time(&mut redis).await? + 60_000_000;
    set_clock(&mut redis, ENFORCED, "at", ahead.to_string()).await?;
    let (granted, verdict) = sender.decided(&to(11, "m11"), &Generations::default()).await?;
    assert!(granted.is_some() && verdict.at < ahead && verdict.layers[0].remaining == 9);
    ensure!(!verdict.repeated);
    Ok(())
}
