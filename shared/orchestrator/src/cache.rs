//! Texts that were made before: exact repetitions of a user's own request, served in a call's place while they are fresh, and as the
//! last of the chain while they are kept (ADR 0018).
//!
//! Nobody fails of the cache: where Redis is away, a value cannot be read or is too old, there is no text, and the call is made.

mod cached;
mod key;
mod rules;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use huntaze_domain::env::Env;
use huntaze_domain::intent::WorkflowType;
use huntaze_redis::{Redis, RedisFault};
use redis::Script;
use tokio::time::{Instant, sleep};

use self::cached::MAX_BYTES;
pub use self::cached::{Cached, Maker};
pub use self::key::Key;
pub use self::rules::{Rules, Times};

/// Who waits for another's text asks again after so long, and then less and less often: a call takes seconds.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What is to be done for a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined {
    /// Nothing: there is a fresh one.
    Hit(Cached),
    /// It is to be made, and until the lease is over nobody else makes it who asks first.
    Lead,
    /// Somebody else is making it.
    Wait {
        /// For so long it is theirs.
        lease_left: Duration,
    },
    /// It is to be made, whoever else may be making it: texts of this type are not served twice, or Redis is away.
    Alone,
}

/// What is to be done for a text after waiting for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// Nothing: there is a fresh one.
    Hit(Cached),
    /// As [`Joined::Lead`]: nobody makes it any more.
    Lead,
    /// As [`Joined::Alone`], or it was waited for long enough.
    Alone,
}

/// A script with what all that read a value share.
macro_rules! script {
    ($name:literal) => {
        LazyLock::new(|| {
            let read_value = include_str!("../lua/cache_value.lua");
            Script::new(&[read_value, include_str!(concat!("../lua/", $name, ".lua"))].join("\n"))
        })
    };
}

static LOOK: LazyLock<Script> = script!("cache_look");
static JOIN: LazyLock<Script> = script!("cache_join");
static PUT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../lua/cache_put.lua")));

/// What `cache_join.lua` returns.
type Reply = (String, Option<Vec<u8>>, u64);

/// The cache, whose texts are in Redis. Each question takes as long as [`Redis::run`], and one for the lead twice as long where a value
/// cannot be read.
pub struct Cache {
    redis: Arc<Redis>,
    rules: Rules,
}

impl Cache {
    /// Reads the times ([`Rules::from_env`]), also where there is no Redis to keep texts in.
    #[must_use]
    pub fn from_env(env: &Env, redis: Option<Arc<Redis>>) -> Option<Self> {
        let rules = Rules::from_env(env);
        Some(Self { redis: redis?, rules })
    }

    /// Opens the connection, and loads the scripts, ahead of their first use.
    pub async fn warm_up(&self) {
        self.redis.warm_up(&[&LOOK, &JOIN, &PUT]).await;
    }

    /// The times of one type of workflow.
    #[must_use]
    pub fn times(&self, kind: WorkflowType) -> Times {
        self.rules.of(kind)
    }

    /// A text that is kept, fresh or not: for whoever gets none from any provider.
    pub async fn look(&self, key: &Key) -> Option<Cached> {
        let Times { kept, .. } = self.rules.of(key.kind());
        if kept.is_zero() {
            return None;
        }
        let mut script = LOOK.key(key.value());
        script.arg(millis(kept)).arg(MAX_BYTES);
        match self.redis.run::<Option<Vec<u8>>>(&script).await {
            Ok(json) => readable(&json?),
            Err(fault) => {
                tracing::warn!(%fault, "whether a text is kept is not known");
                None
            }
        }
    }

    /// Asks for a fresh text, or for the lead in making it. Whoever asks is known by `token`, which asks as often as it likes. `lease`:
    /// how long the making takes at the most; where it takes longer, another makes it as well.
    ///
    /// Whoever is to make it says afterwards what came of it: [`Self::put_and_release`] or [`Self::release`].
    pub async fn join(&self, key: &Key, token: &str, lease: Duration) -> Joined {
        let Times { fresh, .. } = self.rules.of(key.kind());
        if fresh.is_zero() {
            return Joined::Alone;
        }
        self.ask(key, token, lease, fresh).await.unwrap_or_else(|fault| {
            tracing::warn!(%fault, "whether a text is kept or made is not known");
            Joined::Alone
        })
    }

    async fn ask(&self, key: &Key, token: &str, lease: Duration, fresh: Duration) -> Result<Joined, RedisFault> {
        // A value that cannot be read is in nobody's way: it is asked again as though there were none, for no value is younger than nothing.
        for younger_than in [fresh, Duration::ZERO] {
            let mut script = JOIN.key(key.value());
            script.key(key.flight()).arg(millis(younger_than)).arg(MAX_BYTES).arg(token).arg(millis(lease).max(1));
            let (joined, json, left): Reply = self.redis.run(&script).await?;
            match json.map(|json| readable(&json)) {
                Some(None) => {}
                Some(Some(cached)) => return Ok(Joined::Hit(cached)),
                None if joined == "lead" => return Ok(Joined::Lead),
                None => return Ok(Joined::Wait { lease_left: Duration::from_millis(left) }),
            }
        }
        Ok(Joined::Alone)
    }

    /// Asks as [`Self::join`] does, and waits for the text while somebody else is making it: until `until`, and at most as long again as
    /// one question takes. Who has waited in vain makes it.
    pub async fn follow(&self, key: &Key, token: &str, lease: Duration, until: Instant) -> Followed {
        let mut pause = FIRST_PAUSE;
        loop {
            let lease_left = match self.join(key, token, lease).await {
                Joined::Hit(cached) => return Followed::Hit(cached),
                Joined::Lead => return Followed::Lead,
                Joined::Alone => return Followed::Alone,
                Joined::Wait { lease_left } => lease_left,
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Followed::Alone;
            }
            // What is waited for happens in another process, perhaps on another machine: nothing in this one wakes us. To be told by
            // Redis would need a connection of its own for each that waits, and asking all the same for what was not told.
            sleep(pause.min(lease_left.max(FIRST_PAUSE)).min(left)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Keeps a text.
    pub async fn put(&self, key: &Key, cached: &Cached) {
        // No flight has this token.
        self.end(key, "", Some(cached)).await;
    }

    /// Keeps a text, and gives the lead back: who waits is served.
    pub async fn put_and_release(&self, key: &Key, token: &str, cached: &Cached) {
        self.end(key, token, Some(cached)).await;
    }

    /// Gives the lead back without a text: of those who wait the next leads. Says nothing where the token has no lead.
    pub async fn release(&self, key: &Key, token: &str) {
        self.end(key, token, None).await;
    }

    async fn end(&self, key: &Key, token: &str, cached: Option<&Cached>) {
        let Times { fresh, kept } = self.rules.of(key.kind());
        let value = cached.filter(|_| !kept.is_zero()).and_then(|cached| cached.written(kept));
        if value.is_none() && (token.is_empty() || fresh.is_zero()) {
            return;
        }
        let mut script = PUT.key(key.value());
        script.key(key.flight()).arg(token);
        if let Some(value) = value {
            script.arg(millis(kept)).arg(value);
        }
        if let Err(fault) = self.redis.run::<()>(&script).await {
            tracing::warn!(%fault, "a text is not kept");
        }
    }
}

/// A text as it was kept. What it is instead, where it cannot be read, is not logged: it may be a text.
fn readable(json: &[u8]) -> Option<Cached> {
    let cached = Cached::read(json);
    if cached.is_none() {
        tracing::warn!(bytes = json.len(), "a kept text cannot be read");
    }
    cached
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
