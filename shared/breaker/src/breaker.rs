//! The circuits in Redis, and those of the process while Redis is away.

use std::sync::{Arc, LazyLock};

use huntaze_domain::env::Env;
use huntaze_redis::{Redis, RedisFault};
use jiff::Timestamp;
use redis::Script;

use crate::local::Local;
use crate::machine::{Circuit, Denied, Grant, Report, Standing};
use crate::name::Name;
use crate::rules::Rules;
use crate::token::Token;
use crate::wire::{self, Fields};

/// Who keeps the circuit that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// Redis, for all instances.
    Redis,
    /// This process for itself, because Redis did not answer.
    Process,
}

/// A call that is let through. It belongs to this one call, whose end is reported with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    name: Name,
    by: Keeper,
    grant: Grant,
}

impl Permit {
    /// The circuit that let it through.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Whether it is the one call that finds out if the service is back.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.grant.probe
    }

    /// The epoch in which its report counts.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.grant.epoch
    }
}

/// What a circuit says of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Whether it is let through.
    pub permit: Result<Permit, Denied>,
    /// Where the circuit stands now.
    pub standing: Standing,
    /// Who says so.
    pub by: Keeper,
}

/// What a circuit says to a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Whether the report opened or closed it. Where the answer of Redis was lost, nobody is told.
    pub changed: bool,
    /// Where the circuit stands now.
    pub standing: Standing,
}

/// Where circuits stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peeked {
    /// Each, in the order that they were asked for in.
    pub standings: Vec<Standing>,
    /// Who says so.
    pub by: Keeper,
}

/// A script behind what all of them share. Its digest is computed when it is first needed.
macro_rules! script {
    ($name:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(
                include_str!("../lua/circuit.lua"),
                "\n",
                include_str!(concat!("../lua/", $name, ".lua"))
            ))
        })
    };
}

static ASK: LazyLock<Script> = script!("ask");
static REPORT: LazyLock<Script> = script!("report");
static PEEK: LazyLock<Script> = script!("peek");

/// Every circuit.
pub struct Breaker {
    redis: Arc<Redis>,
    rules: Rules,
    local: Local,
}

impl Breaker {
    /// Reads the rules ([`Rules::from_env`]), also where there is no Redis to keep circuits in.
    #[must_use]
    pub fn from_env(env: &Env, redis: Option<Arc<Redis>>) -> Option<Self> {
        let rules = Rules::from_env(env);
        Some(Self { redis: redis?, rules, local: Local::default() })
    }

    /// The rules that it goes by.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Opens the connection, and loads what [`Self::ask`] and [`Self::report`] need, ahead of their first use.
    pub async fn warm_up(&self) {
        self.redis.warm_up(&[&ASK, &REPORT]).await;
    }

    /// Opens the connection, and loads what [`Self::peek`] needs, ahead of its first use.
    pub async fn warm_up_to_peek(&self) {
        self.redis.warm_up(&[&PEEK]).await;
    }

    /// Asks for a call. The same token asking again gets the same probe. A permit that is not used is reported as
    /// [`Report::NotMade`], or a probe keeps others waiting for its lease.
    ///
    /// Takes as long as [`Redis::run`]. Where Redis does not answer, the process decides by what it heard last and what was reported to
    /// it since.
    pub async fn ask(&self, name: &Name, token: Token) -> Asked {
        let mut script = ASK.key(name.key());
        script.arg(token.to_string()).arg(self.rules.open_for).arg(self.rules.probe_lease);
        let (asked, standing, by) = match self.redis.run::<(Fields, String, u64)>(&script).await {
            Ok((shown, decision, wait)) => {
                let circuit = wire::circuit(shown);
                let standing = self.learn(name, &circuit);
                (wire::asked(&circuit, token, &decision, wait), standing, Keeper::Redis)
            }
            Err(fault) => {
                tracing::warn!(%fault, "the circuit is not known; this process decides for itself");
                let now = now();
                let ask = |circuit: &mut Circuit| circuit.ask(&self.rules, now, token);
                let (asked, standing) = self.local.with(&self.rules, now, name, ask);
                (asked, standing, Keeper::Process)
            }
        };
        Asked { permit: asked.map(|grant| Permit { name: name.clone(), by, grant }), standing, by }
    }

    /// Reports how a call ended, to whoever let it through. May be said twice.
    ///
    /// # Errors
    /// [`RedisFault`], of a permit of Redis: nobody is told. A failure is not counted then, and a probe's lease runs out.
    pub async fn report(&self, permit: &Permit, report: Report) -> Result<Told, RedisFault> {
        let Permit { name, by, grant } = permit;
        if *by == Keeper::Process {
            let now = now();
            let ended = |circuit: &mut Circuit| circuit.report(&self.rules, now, grant, report);
            let (changed, standing) = self.local.with(&self.rules, now, name, ended);
            return Ok(Told { changed, standing });
        }
        let (kind, pace) = wire::report(&self.rules, report);
        let mut script = REPORT.key(name.key());
        script.arg(grant.token.to_string()).arg(grant.epoch).arg(u8::from(grant.probe)).arg(kind).arg(pace);
        script.arg(self.rules.failures).arg(self.rules.window).arg(self.rules.min_percent).arg(self.rules.bucket());
        let (shown, changed) = self.redis.run::<(Fields, bool)>(&script).await?;
        Ok(Told { changed, standing: self.learn(name, &wire::circuit(shown)) })
    }

    /// Where these circuits stand: one round trip, and nothing is granted or changed.
    pub async fn peek(&self, names: &[Name]) -> Peeked {
        if names.is_empty() {
            return Peeked { standings: Vec::new(), by: Keeper::Redis };
        }
        let mut script = PEEK.prepare_invoke();
        for name in names {
            script.key(name.key());
        }
        match self.redis.run::<Vec<Fields>>(&script).await {
            Ok(shown) => {
                let circuits = shown.into_iter().map(wire::circuit);
                let standings = names.iter().zip(circuits).map(|(name, circuit)| self.learn(name, &circuit));
                Peeked { standings: standings.collect(), by: Keeper::Redis }
            }
            Err(fault) => {
                tracing::warn!(%fault, "the circuits are not known; this process says what it knows");
                let now = now();
                let standings = names.iter().map(|name| self.local.with(&self.rules, now, name, |_| ()).1);
                Peeked { standings: standings.collect(), by: Keeper::Process }
            }
        }
    }

    /// Keeps what Redis said for when it does not answer; gives where the circuit stands, by the clock of Redis.
    fn learn(&self, name: &Name, circuit: &Circuit) -> Standing {
        self.local.learn(&self.rules, now(), name, circuit.clone());
        circuit.standing(&self.rules, circuit.at)
    }
}

/// The process's clock in milliseconds: for its own circuits only.
fn now() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the clock of the circuits that only this process has")]
    let now = Timestamp::now();
    now.as_millisecond().try_into().unwrap_or(0)
}
