//! Messages and everything that can happen to whoever sends them: workers that die at any await, that freeze and wake up behind
//! others, hints that are lost, come twice and in any order, calls that hang, break and lie. The code is the shipped one, with its
//! SQL, its Lua, and the platform over HTTP; the harness only decides who runs, when, and until where, and lets time pass. An
//! account is served only where the outbox asked for a hint or the sweep finds it: one that is woken by neither never ends.
//! What is given up is redriven.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt as _};
use huntaze_domain::env::Env;
use huntaze_domain::ids::{AccountId, MessageId, RecipientId, UserId};
use huntaze_domain::intent::{ComplianceLevel, MessageType, Priority};
use huntaze_judge::{Profile, glance};
use huntaze_lambda::clients::{self, Aws};
use huntaze_messaging::dead::{DeadLetters, DeadQueue, Redriven};
use huntaze_messaging::hint::Hints;
use huntaze_messaging::limiter::Limiter;
use huntaze_messaging::outbox::{Accepted, By, Decision, NewMessage, Outbox, Rules};
use huntaze_messaging::platform::Platform;
use huntaze_messaging::sender::{Sender, Tally};
use huntaze_messaging::session::{Session, SessionParts, Sessions};
use huntaze_messaging::tell::Teller;
use huntaze_postgres::Database;
use huntaze_redis::Redis;
use huntaze_sqs::{Notifications, Sqs};
use huntaze_tests::{App, now};
use huntaze_world::Mix;
use jiff::Timestamp;
use rustls::ClientConfig;
use serde_json::Value;
use tokio::time::{Instant, Sleep, sleep};

use crate::support::closed_port;

/// How long one seed may take.
const BOUND: Duration = Duration::from_secs(600);
/// So many seeds have stores of their own together, and so many of them run at once.
const TOGETHER: usize = 100;
const AT_ONCE: usize = 25;
/// So many messages of an account may reach fans over any such window.
const LIMIT: usize = 2;
const WINDOW: Duration = Duration::from_secs(1);
const ACCOUNTS: usize = 3;
const WORKERS: usize = 3;
/// A worker has so much time for further messages behind its first: some get one more, some ten.
const TIME: Duration = Duration::from_secs(1);
/// A message has some ten awaits, each with a few polls that find nothing yet; and it may be the first of a worker's or a later one.
const POLLS: u64 = 45;
const MESSAGES: u64 = 4;

/// SplitMix64: a seed gives the same decisions every time, though the stores' own timing differs.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// What happens to a worker.
#[derive(Clone, Copy)]
enum Fate {
    Lives,
    /// It is gone behind so many polls, with all that it had under way.
    Dies(u64),
    /// It stands still behind so many polls for so long, and goes on as if nothing had been.
    Freezes(u64, Duration),
}

/// A future with a fate. `None`: it died.
struct Fated<F> {
    inner: Pin<Box<F>>,
    fate: Fate,
    polls: u64,
    frozen: Option<Pin<Box<Sleep>>>,
}

impl<F: Future> Future for Fated<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        if let Some(frozen) = &mut self.frozen {
            if frozen.as_mut().poll(task).is_pending() {
                return Poll::Pending;
            }
            self.frozen = None;
        }
        self.polls += 1;
        match self.fate {
            Fate::Dies(at) if self.polls > at => return Poll::Ready(None),
            Fate::Freezes(at, span) if self.polls == at => {
                let mut frozen = Box::pin(sleep(span));
                if frozen.as_mut().poll(task).is_pending() {
                    self.frozen = Some(frozen);
                    return Poll::Pending;
                }
            }
            _ => {}
        }
        self.inner.as_mut().poll(task).map(Some)
    }
}

fn fated<F: Future>(inner: F, fate: Fate) -> Fated<F> {
    Fated { inner: Box::pin(inner), fate, polls: 0, frozen: None }
}

fn poll(dice: &mut Dice) -> u64 {
    1 + dice.roll(MESSAGES) * POLLS + dice.roll(POLLS)
}

fn fate(dice: &mut Dice) -> Fate {
    match dice.roll(10) {
        0..4 => Fate::Lives,
        4..8 => Fate::Dies(poll(dice)),
        _ => Fate::Freezes(poll(dice), Duration::from_millis(10 + dice.roll(60))),
    }
}

/// What all workers may share: it keeps nothing of what one of them had under way.
struct Kit {
    env: Env,
    tls: Arc<ClientConfig>,
    dynamodb: aws_sdk_dynamodb::Client,
    queues: Sqs,
    http: reqwest::Client,
    /// As far as its workers know, nobody is at the platform's address.
    away: Env,
}

impl Kit {
    fn new(app: &App) -> Result<Self> {
        let env = Env::from_pairs(app.env().clone());
        let mut away = app.env().clone();
        away.insert("ONLYFANS_API_URL".to_owned(), format!("http://{}", closed_port()?));
        let tls = clients::tls(&env)?;
        let aws = Aws::new(&env, &tls);
        let (dynamodb, queues, http) = (aws.dynamodb(), aws.queues(), clients::http(&tls)?);
        Ok(Self { dynamodb, queues, http, env, away: Env::from_pairs(away), tls })
    }

    /// The platform, or where it is not.
    fn platform(&self, dice: &mut Dice) -> Result<Platform> {
        let env = if dice.roll(4) == 0 { &self.away } else { &self.env };
        Platform::from_env(env, self.http.clone()).context("a platform")
    }
}

/// A worker with stores' connections of its own, as a process has them.
fn worker(kit: &Kit) -> Result<Sender> {
    let Kit { env, tls, dynamodb, queues, http, .. } = kit;
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, Arc::clone(tls))).map(Arc::new);
    let limiter = Limiter::from_env(env, Redis::from_env(env).map(Arc::new));
    let (sessions, platform) = (Sessions::from_env(env, dynamodb.clone()), Platform::from_env(env, http.clone()));
    let (hints, dead) = (Hints::from_env(env, queues.clone()), DeadQueue::from_env(env, queues.clone()));
    let teller = Teller::new(Notifications::from_env(env, queues.clone()));
    let rules = Rules::from_env(env);
    let built = database.zip(limiter).zip(sessions).zip(platform);
    let built = built.map(|(((database, limiter), sessions), platform)| {
        let (hold, lease_margin) = (Sender::hold_from_env(env, &platform), Sender::lease_margin_from_env(env));
        let outbox = Outbox::new(Arc::clone(&database), rules);
        Sender { outbox, database, limiter, sessions, platform, hints, dead, teller, clock: now, hold, lease_margin }
    });
    Ok(env.finish(built)?)
}

struct Seed<'a> {
    app: &'a App,
    kit: &'a Kit,
    number: u64,
    accounts: Vec<AccountId>,
    user: UserId,
    messages: usize,
}

impl Seed<'_> {
    /// Takes the messages on, each asked for until it is known to be kept.
    async fn accept(&self, dice: &mut Dice) -> Result<Vec<MessageId>> {
        let mut ids = Vec::new();
        let mut sender = worker(self.kit)?;
        for number in 0..self.messages {
            let id = MessageId::generate();
            let priorities = [Priority::Low, Priority::Medium, Priority::High, Priority::Critical];
            let content = format!("message {number} of seed {}", self.number);
            let message = NewMessage {
                id: &id,
                account_id: Some(&self.accounts[number % self.accounts.len()]),
                user_id: &self.user,
                requested_by: &self.user,
                workflow_id: None,
                idempotency_key: None,
                body_hash: [0; 32],
                recipient_id: &RecipientId::parse(&format!("fan-{}", dice.roll(5)))?,
                content: &content,
                judged: &glance(&content, &Profile::at(None)),
                approved: true,
                message_type: MessageType::Custom,
                priority: priorities[usize::try_from(dice.roll(4))?],
                compliance_level: ComplianceLevel::Relaxed,
                not_before: now(),
                metadata: None,
                request_id: "r",
                trace_id: "t",
            };
            loop {
                let fate = if dice.roll(5) == 0 { Fate::Dies(1 + dice.roll(6)) } else { Fate::Lives };
                match fated(sender.outbox.accept(&message), fate).await {
                    Some(Ok(Accepted::New(..))) => break,
                    Some(other) => anyhow::bail!("not taken on: {other:?}"),
                    None => sender = worker(self.kit)?,
                }
            }
            ids.push(id);
        }
        Ok(ids)
    }

    /// The clock goes on for all that waits, and now and then for a lease whose owner is still alive.
    async fn time_passes(&self, dice: &mut Dice) -> Result<()> {
        let accounts: Vec<_> = self.accounts.iter().map(AccountId::as_str).collect();
        let seconds = [1_i64, 15, 90, 900][usize::try_from(dice.roll(4))?];
        let lease = if dice.roll(3) == 0 { seconds } else { 0 };
        // Somebody lets go on what paused itself, as far as the wrong is done away with.
        let later = "WITH accounts AS (
                SELECT id FROM orchestrator.accounts WHERE id = ANY ($1) ORDER BY id FOR UPDATE),
            messages AS (
                UPDATE orchestrator.messages m
                   SET not_before = not_before - make_interval(secs => $2::bigint), look_at = look_at - make_interval(secs => $2::bigint),
                       claimed_until = claimed_until - make_interval(secs => $3::bigint)
                  FROM accounts a
                 WHERE m.account_id = a.id AND (m.status IN ('queued', 'claimed', 'sending') OR m.look_at IS NOT NULL))
            UPDATE orchestrator.accounts w
               SET resume_at = resume_at - make_interval(secs => $2::bigint),
                   limited_until = limited_until - make_interval(secs => $2::bigint),
                   wake_at = wake_at - make_interval(secs => $2::bigint), status = 'active', refusals = 0
              FROM accounts a WHERE w.id = a.id";
        self.app.stores.execute(later, &[&accounts, &seconds, &lease]).await?;
        Ok(())
    }

    /// A hint of the queue: asked for by the outbox, due, and not lost. `None`: there is none.
    async fn hint(&self, dice: &mut Dice) -> Result<Option<&AccountId>> {
        let accounts: Vec<_> = self.accounts.iter().map(AccountId::as_str).collect();
        let due = "SELECT id FROM orchestrator.accounts
            WHERE id = ANY ($1) AND wake_at <= now() AND wake_at > now() - interval '1 minute' ORDER BY id";
        let due = self.app.stores.rows(due, &[&accounts]).await?;
        if due.is_empty() || dice.roll(10) == 0 {
            return Ok(None);
        }
        let chosen = due[usize::try_from(dice.roll(due.len() as u64))?]["id"].as_str().context("an id")?;
        Ok(self.accounts.iter().find(|account| account.as_str() == chosen))
    }

    /// Hints come, and a worker takes them; where none comes, time passes and the sweep looks for what is due.
    async fn work(&self, mut dice: Dice, until: Instant) -> Result<()> {
        let mut sender = worker(self.kit)?;
        let mut last: Option<&AccountId> = None;
        while self.left().await? > 0 {
            ensure!(Instant::now() < until, "seed {}: not done within {BOUND:?}", self.number);
            // Of half of the seeds hints come twice, the second time behind others.
            let twice = last.take().filter(|_| self.number.is_multiple_of(2) && dice.roll(5) == 0);
            let hint = match twice {
                Some(account) => Some(account),
                None => self.hint(&mut dice).await?,
            };
            let Some(account) = hint else {
                self.time_passes(&mut dice).await?;
                sender.outbox.overdue(100).await?;
                continue;
            };
            let mut tally = Tally::default();
            let time = Instant::now() + sender.one_message() + TIME;
            sender.platform = self.kit.platform(&mut dice)?;
            match fated(sender.serve(account, time, &mut tally), fate(&mut dice)).await {
                // A store that did not answer: the hint comes again, or is lost.
                Some(_) => {}
                None => sender = worker(self.kit)?,
            }
            last = Some(account);
        }
        Ok(())
    }

    /// Messages that have not reached their end.
    async fn left(&self) -> Result<i64> {
        let accounts: Vec<_> = self.accounts.iter().map(AccountId::as_str).collect();
        let left = "SELECT count(*) AS n FROM orchestrator.messages WHERE account_id = ANY ($1)
            AND (status IN ('queued', 'claimed', 'sending') OR status = 'unknown' AND look_at IS NOT NULL)";
        self.app.stores.row(left, &[&accounts]).await?["n"].as_i64().context("a count")
    }

    /// Takes some messages back while they are under way.
    async fn decide(&self, ids: &[MessageId], dice: &mut Dice) -> Result<()> {
        let sender = worker(self.kit)?;
        for id in ids {
            if dice.roll(20) == 0 {
                let by = By { owner: None, actor: &self.user, reason: None, request_id: "d" };
                sender.outbox.decide(id, &Decision::Cancel, &by).await?;
            }
        }
        Ok(())
    }

    /// Has every other letter tried anew, twice.
    async fn redrive(&self, dice: &mut Dice) -> Result<()> {
        let sender = worker(self.kit)?;
        let letters = DeadLetters::new(Arc::clone(&sender.database));
        for letter in self.letters().await? {
            for attempt in 0..2 * dice.roll(2) {
                let redriven =
                    letters.redrive(&sender.outbox.rules, &letter, &self.user, None, &format!("r{attempt}")).await?;
                ensure!(matches!(redriven, Redriven::Done(..)), "seed {}: {letter}: {redriven:?}", self.number);
            }
        }
        Ok(())
    }

    /// What was given up and not redriven.
    async fn letters(&self) -> Result<Vec<String>> {
        let accounts: Vec<_> = self.accounts.iter().map(AccountId::as_str).collect();
        let open =
            "SELECT id FROM orchestrator.dead_letters WHERE account_id = ANY ($1) AND status = 'open' ORDER BY id";
        let rows = self.app.stores.rows(open, &[&accounts]).await?;
        rows.iter().map(|row| Ok(row["id"].as_str().context("an id")?.to_owned())).collect()
    }

    async fn run(&self) -> Result<BTreeMap<String, usize>> {
        let mut dice = Dice(self.number);
        let stores = &self.app.stores;
        stores.execute("INSERT INTO orchestrator.users (id) VALUES ($1)", &[&self.user.as_str()]).await?;
        let sender = worker(self.kit)?;
        for account in &self.accounts {
            let insert = "INSERT INTO orchestrator.accounts (id, user_id, compliance_floor) VALUES ($1, $2, 'relaxed')";
            stores.execute(insert, &[&account.as_str(), &self.user.as_str()]).await?;
            let session = self.app.world.onlyfans_session(account.as_str());
            let parts = SessionParts {
                platform_user_id: session.user_id.clone(),
                user_agent: None,
                cookie: session.cookie.clone(),
                headers: BTreeMap::new(),
            };
            let session = Session::from_parts(parts).map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
            sender.sessions.store(account.as_str(), &session, now()).await?;
        }
        let ids = self.accept(&mut dice).await?;
        let until = Instant::now() + BOUND;
        let workers = (0..WORKERS).map(|n| self.work(Dice(self.number * 1_000 + n as u64), until));
        let (done, decided) = tokio::join!(try_join_all(workers), self.decide(&ids, &mut dice));
        done?;
        decided?;
        self.redrive(&mut dice).await?;
        self.work(Dice(self.number + 77), until).await?;
        self.judge(&ids).await
    }

    /// Holds the rows against what the fans have.
    async fn judge(&self, ids: &[MessageId]) -> Result<BTreeMap<String, usize>> {
        let mut reached: BTreeMap<String, usize> = BTreeMap::new();
        let wanted: BTreeSet<_> = ids.iter().map(|id| id.as_str().to_owned()).collect();
        for message in self.app.world.fan_messages() {
            // Only the world knows the messages by it: nothing of ours relies on it.
            if let Some(id) = message.idempotency_key.filter(|id| wanted.contains(id)) {
                *reached.entry(id).or_default() += 1;
            }
        }
        self.within_limits()?;
        let mut ends = BTreeMap::new();
        for id in ids {
            let end = "SELECT status, look_at FROM orchestrator.messages WHERE id = $1";
            let row = self.app.stores.row(end, &[&id.as_str()]).await?;
            let status = row["status"].as_str().context("a status")?.to_owned();
            let times = reached.get(id.as_str()).copied().unwrap_or_default();
            ensure!(times <= 1, "seed {}: {id} reached its fan {times} times", self.number);
            match status.as_str() {
                "sent" => ensure!(times == 1, "seed {}: {id} is lost", self.number),
                "failed" | "cancelled" => ensure!(times == 0, "seed {}: {id} is {status}, and arrived", self.number),
                "unknown" => ensure!(row["look_at"] == Value::Null, "{id} is still looked for"),
                other => anyhow::bail!("seed {}: {id} ended {other}", self.number),
            }
            *ends.entry(status).or_default() += 1;
            *ends.entry("reached".to_owned()).or_default() += times;
        }
        ends.extend(self.happened().await?);
        Ok(ends)
    }

    /// What is to have happened, or the simulation shows less than it says.
    async fn happened(&self) -> Result<BTreeMap<String, usize>> {
        let accounts: Vec<_> = self.accounts.iter().map(AccountId::as_str).collect();
        let counts = "SELECT
            (SELECT count(*) FROM orchestrator.messages WHERE account_id = ANY ($1) AND fence > attempts + throttled) AS \"taken over\",
            (SELECT count(*) FROM orchestrator.messages WHERE account_id = ANY ($1) AND throttled > 0) AS throttled,
            (SELECT count(*) FROM orchestrator.message_attempts
              WHERE account_id = ANY ($1) AND reason = 'interrupted') AS interrupted,
            (SELECT count(*) FROM orchestrator.message_attempts
              WHERE account_id = ANY ($1) AND outcome = 'sent' AND reason IS NOT NULL) AS found,
            (SELECT count(*) FROM orchestrator.message_attempts WHERE account_id = ANY ($1) AND outcome = 'failed') AS retried,
            (SELECT count(*) FROM orchestrator.dead_letters WHERE account_id = ANY ($1)) AS \"given up\",
            (SELECT count(*) FROM orchestrator.dead_letters WHERE account_id = ANY ($1) AND status = 'redriven') AS redriven";
        let counts = self.app.stores.row(counts, &[&accounts]).await?;
        let count = |(name, count): (&String, &Value)| Some((name.clone(), usize::try_from(count.as_u64()?).ok()?));
        Ok(counts.as_object().context("counts")?.iter().filter_map(count).collect())
    }

    /// Whatever died, froze or came twice, no window has more of an account than its limit.
    fn within_limits(&self) -> Result<()> {
        let mut arrivals: BTreeMap<String, Vec<Timestamp>> = BTreeMap::new();
        for message in self.app.world.fan_messages() {
            arrivals.entry(message.account).or_default().push(message.at);
        }
        for account in &self.accounts {
            let times = arrivals.remove(account.as_str()).unwrap_or_default();
            let mut runs = times.windows(LIMIT + 1);
            let over = runs.find(|run| run[LIMIT].duration_since(run[0]).unsigned_abs() < WINDOW);
            ensure!(over.is_none(), "seed {}: {} of {account} within {WINDOW:?}", self.number, LIMIT + 1);
        }
        Ok(())
    }
}

/// So many seeds, each with accounts of its own.
async fn simulate(seeds: std::ops::Range<u64>, messages: usize) -> Result<BTreeMap<String, usize>> {
    let mut app = App::start()
        .await?
        .set("ONLYFANS_TIMEOUT_MS", "400")
        .set("MESSAGE_HOLD_MARGIN_MS", "600")
        .set("MESSAGE_RETRIES", "1")
        .set("RATE_LIMIT_SECOND_MS", "50")
        .set("RATE_LIMIT_MINUTE_MS", WINDOW.as_millis().to_string())
        .set("RATE_LIMIT_HOUR_MS", "1000")
        .set("RATE_LIMIT_DAY_MS", "2000")
        .set("RATE_LIMIT_ACCOUNT_PER_MINUTE", LIMIT.to_string());
    for name in [
        "GLOBAL_PER_SECOND",
        "RECIPIENT_PER_MINUTE",
        "RECIPIENT_PER_HOUR",
        "RECIPIENTS_PER_HOUR",
        "CUSTOM_PER_MINUTE",
        "ACCOUNT_PER_HOUR",
        "ACCOUNT_PER_DAY",
    ] {
        app = app.set(&format!("RATE_LIMIT_{name}"), "5000");
    }
    let mix = Mix {
        seed: seeds.start,
        hang_before: 0.02,
        hang_after: 0.03,
        reset_before: 0.05,
        reset_after: 0.05,
        refuse: 0.05,
        limit: 0.05,
        retry_after_seconds: 1,
        fail_before: 0.05,
        fail_after: 0.05,
        truncate_after: 0.02,
        garbage_after: 0.02,
        no_id_after: 0.02,
        ..Mix::default()
    };
    app.world.mix(&mix)?;
    let kit = Kit::new(&app)?;
    let seeds: Vec<_> = seeds
        .map(|number| {
            let accounts =
                (0..ACCOUNTS).map(|n| AccountId::parse(&format!("s{number}-{n}"))).collect::<Result<_, _>>()?;
            anyhow::Ok(Seed {
                app: &app,
                kit: &kit,
                number,
                accounts,
                user: UserId::parse(&format!("user-{number}"))?,
                messages,
            })
        })
        .collect::<Result<_>>()?;
    let mut all = BTreeMap::new();
    let mut running = stream::iter(seeds.iter().map(Seed::run)).buffer_unordered(AT_ONCE);
    while let Some(ends) = running.next().await {
        add(&mut all, ends?);
    }
    Ok(all)
}

fn add(all: &mut BTreeMap<String, usize>, more: BTreeMap<String, usize>) {
    for (end, count) in more {
        *all.entry(end).or_default() += count;
    }
}

fn from_environment(name: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "how much is simulated is chosen where the tests are started")]
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// `SIMULATION_SEEDS` (from `SIMULATION_FIRST_SEED` on) and `SIMULATION_MESSAGES` (a seed) make it longer.
#[tokio::test]
async fn design_a_message_reaches_a_fan_at_most_once_and_none_is_lost() -> Result<()> {
    let (seeds, messages) = (from_environment("SIMULATION_SEEDS", 50), from_environment("SIMULATION_MESSAGES", 40));
    let begin = from_environment("SIMULATION_FIRST_SEED", 0);
    let started = Instant::now();
    let mut ends = BTreeMap::new();
    for first in (begin..begin + seeds).step_by(TOGETHER) {
        let some = first..(begin + seeds).min(first + TOGETHER as u64);
        let done = (some.end - begin) * messages;
        add(&mut ends, simulate(some, usize::try_from(messages)?).await?);
        println!("{done} of {} messages over {seeds} seeds in {:?}: {ends:?}", seeds * messages, started.elapsed());
    }
    for what in
        ["sent", "unknown", "taken over", "throttled", "interrupted", "found", "retried", "given up", "redriven"]
    {
        ensure!(ends.get(what).is_some_and(|count| *count > 0), "nothing is {what}: {ends:?}");
    }
    Ok(())
}
