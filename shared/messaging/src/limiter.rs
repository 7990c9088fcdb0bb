//! How many messages may be sent, over any window and all instances: exact sliding logs in Redis, restored from PostgreSQL
//! when Redis has lost them.
//!
//! A permit belongs to one attempt of one message, and counts from its grant until a window after its call has ended. All
//! layers are asked by one script: they grant together, or nothing is changed. Whoever was granted a permit begins its attempt in
//! PostgreSQL with the [`Generations`] that granted it, and calls only if those are taken; if not, it asks again and says so.
//!
//! Redis away means later, never unlimited (ADR 0015).

mod layer;
mod limits;
mod log;
mod recall;
mod verdict;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::future::try_join_all;
use huntaze_domain::env::Env;
use huntaze_domain::ids::{AccountId, MessageId, UserId};
use huntaze_domain::intent::MessageType;
use huntaze_postgres::{Database, DatabaseError};
use huntaze_redis::{Redis, RedisFault};
use redis::{Script, ScriptInvocation};

pub use self::layer::{Bound, LAYERS, Layer, Of, Span};
pub use self::limits::{Limits, MAX_LIMIT, Mode, Overrides};
use self::log::{Question, member, micros, millis};
use self::recall::recall;
pub use self::verdict::{Generations, LayerVerdict, Verdict};

/// A memory that is lost again while it is restored is restored so often; then the message waits.
const ROUNDS: u32 = 4;
/// A log is kept for so much longer than anything in it counts.
const SPARE: Duration = Duration::from_secs(3_600);

/// Who is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The account that sends.
    pub account: &'a AccountId,
    /// Whose account it is.
    pub user: &'a UserId,
    /// The fan; `None`: any, so no fan's own layers.
    pub recipient: Option<&'a str>,
    /// The type; `None`: the layers of every type.
    pub kind: Option<MessageType>,
    /// The account's own limits.
    pub overrides: &'a Overrides,
}

/// One attempt of one message.
#[derive(Debug, Clone, Copy)]
pub struct Permit<'a> {
    /// The account that sends.
    pub account: &'a AccountId,
    /// Whose account it is.
    pub user: &'a UserId,
    /// The fan.
    pub recipient: &'a str,
    /// What kind of message it is.
    pub kind: MessageType,
    /// Which message.
    pub message: &'a MessageId,
    /// Which attempt, counted from 1.
    pub attempt: i16,
    /// The account's own limits.
    pub overrides: &'a Overrides,
}

impl<'a> Permit<'a> {
    /// Who is asked about.
    #[must_use]
    pub fn subject(&self) -> Subject<'a> {
        let Self { account, user, recipient, kind, overrides, .. } = *self;
        Subject { account, user, recipient: Some(recipient), kind: Some(kind), overrides }
    }

    fn member(&self) -> String {
        let (message, account) = (self.message.as_str(), self.account.as_str());
        member(message, self.attempt, self.kind.as_str(), account, self.recipient)
    }
}

/// Whether an attempt may be begun.
#[derive(Debug)]
pub enum Acquired {
    /// It may, by a permit of these generations. While the limiter only watches, also where the verdict denies.
    Granted {
        /// What the layers say.
        verdict: Verdict,
        /// What `orchestrator.permits_hold` is to take.
        generations: Generations,
    },
    /// It may not, and nothing was consumed.
    Denied(Verdict),
    /// Nobody knows: the message waits. A permit may have been consumed; asked again, the same attempt has no other.
    Unknown(LimiterFault),
}

/// Why the limiter has no answer.
#[derive(Debug, thiserror::Error)]
pub enum LimiterFault {
    /// Redis.
    #[error(transparent)]
    Redis(#[from] RedisFault),
    /// PostgreSQL, from which the memory would have been restored.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// An attempt that the schema should not allow.
    #[error("an attempt cannot be read")]
    Row,
    /// The memory was lost each time it was restored.
    #[error("the limiter's memory was lost {ROUNDS} times in a row")]
    Forgetful,
}

/// A script with what all of them share. Its digest is computed when it is first needed: who only peeks has no other one.
macro_rules! script {
    ($name:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(
                include_str!("../lua/clock.lua"),
                "\n",
                include_str!("../lua/log.lua"),
                "\n",
                include_str!(concat!("../lua/", $name, ".lua"))
            ))
        })
    };
}

static ACQUIRE: LazyLock<Script> = script!("acquire");
static ENDED: LazyLock<Script> = script!("ended");
static PEEK: LazyLock<Script> = script!("peek");
static RESTORE: LazyLock<Script> = script!("restore");

/// What `acquire.lua` returns.
type Reply = (i8, u64, bool, Vec<i64>, Vec<String>, Vec<(u32, u64, bool)>);

/// The limiter, whose logs are in Redis.
pub struct Limiter {
    redis: Arc<Redis>,
    limits: Limits,
}

impl Limiter {
    /// Reads the limits ([`Limits::from_env`]), also where there is no Redis to count in.
    #[must_use]
    pub fn from_env(env: &Env, redis: Option<Arc<Redis>>) -> Option<Self> {
        let limits = Limits::from_env(env);
        Some(Self { redis: redis?, limits })
    }

    /// Opens the connection, and loads what [`Self::peek`] needs, ahead of its first use.
    pub async fn warm_up_to_peek(&self) {
        self.redis.warm_up(&[&PEEK]).await;
    }

    /// Opens the connection, and loads the scripts, ahead of their first use.
    pub async fn warm_up(&self) {
        self.redis.warm_up(&[&ACQUIRE, &ENDED, &PEEK, &RESTORE]).await;
    }

    /// Whether it denies, or only watches.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.limits.mode
    }

    /// The limits of a subject, whatever was sent.
    #[must_use]
    pub fn limits(&self, subject: &Subject<'_>) -> Vec<Bound> {
        self.limits.of(subject)
    }

    /// Asks for a permit. From before this is called the attempt's call must be over within `hold`: for so long, from the grant on,
    /// it may reach the fan as far as the limiter knows.
    ///
    /// `refused`: the generations that PostgreSQL did not take for this attempt, none at first. A log that still has one of
    /// them is restored.
    ///
    /// Takes as long as [`Redis::run`], and where a memory is restored as long again a few times, and [`Database::query`].
    pub async fn acquire(
        &self,
        database: &Database,
        permit: &Permit<'_>,
        hold: Duration,
        refused: &Generations,
    ) -> Acquired {
        match self.try_acquire(database, permit, hold, refused).await {
            Ok(acquired) => acquired,
            Err(fault) => {
                tracing::warn!(%fault, "the limiter does not answer; the message waits");
                Acquired::Unknown(fault)
            }
        }
    }

    async fn try_acquire(
        &self,
        database: &Database,
        permit: &Permit<'_>,
        hold: Duration,
        refused: &Generations,
    ) -> Result<Acquired, LimiterFault> {
        let question = Question::of(&self.limits, &permit.subject());
        let keep = self.keep(hold);
        let mut script = prepared(&ACQUIRE, &question);
        script.arg(permit.member()).arg(micros(hold)).arg(keep);
        for log in &question.logs {
            script.arg(refused.0.get(&log.subject).copied().unwrap_or_default());
        }
        args(&mut script, &question);
        for _ in 0..ROUNDS {
            let (decision, at, repeated, generations, vacancies, said): Reply = self.redis.run(&script).await?;
            if decision < 0 {
                self.restore(database, &question, &vacancies, keep).await?;
                continue;
            }
            let verdict = Verdict::new(at, repeated, &question.bounds, said);
            if self.limits.mode == Mode::Enforce && verdict.throttled() {
                return Ok(Acquired::Denied(verdict));
            }
            let subjects = question.logs.iter().map(|log| log.subject.clone());
            return Ok(Acquired::Granted { verdict, generations: Generations(subjects.zip(generations).collect()) });
        }
        Err(LimiterFault::Forgetful)
    }

    /// Says that an attempt's call has ended, whichever way: it does not reach the fan any more. Gives the limiter's time, in
    /// microseconds; zero where the memory was lost meanwhile. May be said twice.
    ///
    /// Not for an attempt that was granted and not begun: its permit counts out.
    ///
    /// # Errors
    /// [`RedisFault`]; the permit counts for as long as its hold, no less.
    pub async fn ended(&self, permit: &Permit<'_>) -> Result<u64, RedisFault> {
        let question = Question::of(&self.limits, &permit.subject());
        self.redis.run(prepared(&ENDED, &question).arg(permit.member())).await
    }

    /// What the layers would say of another message now. `None`: nobody knows, because Redis is away, or a log is not there: nothing
    /// was sent for a day, or it is restored by the next message.
    pub async fn peek(&self, subject: &Subject<'_>) -> Option<Verdict> {
        let question = Question::of(&self.limits, subject);
        let mut script = prepared(&PEEK, &question);
        args(&mut script, &question);
        match self.redis.run::<(bool, u64, Vec<(u32, u64, bool)>)>(&script).await {
            Ok((whole, at, said)) => whole.then(|| Verdict::new(at, false, &question.bounds, said)),
            Err(fault) => {
                tracing::warn!(%fault, "where the limits stand is not known");
                None
            }
        }
    }

    /// Restores the logs that have a vacancy.
    async fn restore(
        &self,
        database: &Database,
        question: &Question,
        vacancies: &[String],
        keep: u64,
    ) -> Result<(), LimiterFault> {
        let lost: Vec<_> = question.logs.iter().zip(vacancies).filter(|(_, vacancy)| !vacancy.is_empty()).collect();
        tracing::info!(logs = lost.len(), "the limiter has no memory of a subject; it is restored");
        let recalled = recall(database, &lost.iter().map(|(log, _)| *log).collect::<Vec<_>>()).await?;
        let writing = recalled.iter().filter_map(|recalled| {
            let (log, vacancy) = lost.iter().find(|(log, _)| log.subject == recalled.subject)?;
            let mut script = RESTORE.key(&question.clock);
            script.key(&log.key).arg(*vacancy).arg(recalled.generation).arg(keep);
            for (member, age) in &recalled.permits {
                script.arg(member).arg(age);
            }
            Some(script)
        });
        // Whether it was written, the next round finds out.
        let writing = writing.map(async |script| self.redis.run::<bool>(&script).await);
        try_join_all(writing).await?;
        Ok(())
    }

    /// How long a log is kept behind its last change, in milliseconds.
    fn keep(&self, hold: Duration) -> u64 {
        millis(self.limits.window(Span::Day) + hold + SPARE)
    }
}

/// A script with the clock and the logs of a question.
fn prepared<'s>(script: &'s Script, question: &Question) -> ScriptInvocation<'s> {
    let mut script = script.key(&question.clock);
    for log in &question.logs {
        script.key(&log.key);
    }
    script
}

/// The layers, as `log.lua` reads them.
fn args(script: &mut ScriptInvocation<'_>, question: &Question) {
    for (bound, (log, what, value)) in question.bounds.iter().zip(&question.counted) {
        script.arg(log).arg(what).arg(value).arg(bound.limit).arg(micros(bound.window));
    }
}
