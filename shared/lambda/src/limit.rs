//! The API's own limit: so many requests a minute a user, over all instances, and over any 60 seconds.
//!
//! What is answered about it follows `draft-ietf-httpapi-ratelimit-headers`: `RateLimit-Policy` says the limit, `RateLimit`
//! how many requests are left (`r`) and in how many seconds there is one more (`t`).

mod denials;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use huntaze_domain::env::Env;
use huntaze_domain::ids::UserId;
use huntaze_redis::Redis;
use redis::Script;

use self::denials::Denials;
use crate::scheduled::now;

/// The window that the limit holds over.
const WINDOW: Duration = Duration::from_secs(60);
/// The contract's limit.
const DEFAULT_LIMIT: u32 = 120;
/// The log in Redis has an entry a request: this bounds its memory.
const MAX_LIMIT: u32 = 100_000;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// What the limit says of a request. Times are whole seconds, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Redis is away, and a request is not refused for that.
    Unknown,
    /// It is let through, and counted.
    Granted {
        /// Requests a window.
        limit: u32,
        /// How many more would be let through now.
        remaining: u32,
        /// When there will be one more.
        reset: Duration,
    },
    /// It is refused, and not counted.
    Denied {
        /// Requests a window.
        limit: u32,
        /// When the next one will be let through.
        retry_after: Duration,
    },
}

impl Admission {
    /// Whether the request is refused.
    #[must_use]
    pub fn is_denied(self) -> bool {
        matches!(self, Self::Denied { .. })
    }

    /// The answer's headers: none where nothing is known.
    pub(crate) fn headers(self) -> Vec<(HeaderName, HeaderValue)> {
        let (limit, remaining, reset) = match self {
            Self::Unknown => return Vec::new(),
            Self::Granted { limit, remaining, reset } => (limit, remaining, reset),
            Self::Denied { limit, retry_after } => (limit, 0, retry_after),
        };
        let policy = format!("\"default\";q={limit};w={}", WINDOW.as_secs());
        let state = format!("\"default\";r={remaining};t={}", reset.as_secs());
        let headers = [(POLICY, policy), (STATE, state)];
        headers.into_iter().filter_map(|(name, text)| Some((name, HeaderValue::try_from(text).ok()?))).collect()
    }
}

/// The limit, counted in Redis.
pub struct ApiLimit {
    redis: Arc<Redis>,
    script: Script,
    limit: u32,
    denials: Denials,
}

impl ApiLimit {
    /// Reads `API_RATE_LIMIT_PER_MINUTE`, also where there is no Redis to count in.
    #[must_use]
    pub fn from_env(env: &Env, redis: Option<Arc<Redis>>) -> Option<Self> {
        let limit = env.parsed("API_RATE_LIMIT_PER_MINUTE", DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            env.fault("API_RATE_LIMIT_PER_MINUTE", format!("must be 1 to {MAX_LIMIT}"));
        }
        let script = Script::new(include_str!("../lua/api_limit.lua"));
        Some(Self { redis: redis?, script, limit, denials: Denials::default() })
    }

    /// Opens the connection, and loads the script, ahead of the first request.
    pub async fn warm_up(&self) {
        self.redis.warm_up(&[&self.script]).await;
    }

    /// The denial of this user that still stands, as far as this process knows: asked before anything is done for a request,
    /// it keeps those that come too often from every store. `None` says nothing; [`Self::check`] does.
    ///
    /// It is exact: a denied request is not counted, so nothing but time lets the next one through.
    #[must_use]
    pub fn denied_already(&self, user: &UserId) -> Option<Admission> {
        let left = self.denials.left(user, now())?;
        Some(Admission::Denied { limit: self.limit, retry_after: whole_seconds(left) })
    }

    /// Counts a request of this user: of whoever asks, also where an administrator asks about another. While a denial
    /// stands, Redis is not asked.
    ///
    /// Takes 250 ms at the most, or twice that where the connection had died. A request whose answer from Redis was lost
    /// may be counted twice.
    pub async fn check(&self, user: &UserId) -> Admission {
        if let Some(denied) = self.denied_already(user) {
            return denied;
        }
        // Read before Redis reads its own, so that no denial is remembered for longer than it stands.
        let asked_at = now();
        let mut script = self.script.key(format!("huntaze:api-limit:{user}"));
        script.arg(self.limit).arg(WINDOW.as_secs() * 1_000_000);
        match self.redis.run(&script).await {
            Ok((true, remaining, wait)) => {
                let reset = whole_seconds(Duration::from_micros(wait));
                Admission::Granted { limit: self.limit, remaining, reset }
            }
            Ok((false, _, wait)) => {
                let wait = Duration::from_micros(wait);
                self.denials.remember(user, asked_at, wait);
                Admission::Denied { limit: self.limit, retry_after: whole_seconds(wait) }
            }
            Err(error) => {
                tracing::warn!(%error, "the API limit is not known; the request is let through");
                Admission::Unknown
            }
        }
    }
}

/// Rounded up: who comes back then is not too early.
fn whole_seconds(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_micros().div_ceil(1_000_000).try_into().unwrap_or(u64::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_structured_fields_and_say_nothing_that_is_not_known() {
        let told = |admission: Admission| {
            let headers = admission.headers();
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect::<Vec<_>>()
        };
        let seconds = Duration::from_secs;
        assert_eq!(
            told(Admission::Granted { limit: 120, remaining: 119, reset: seconds(60) }),
            [r#"ratelimit-policy: "default";q=120;w=60"#, r#"ratelimit: "default";r=119;t=60"#]
        );
        assert_eq!(
            told(Admission::Denied { limit: 5, retry_after: seconds(7) }),
            [r#"ratelimit-policy: "default";q=5;w=60"#, r#"ratelimit: "default";r=0;t=7"#]
        );
        assert!(told(Admission::Unknown).is_empty());
    }
}
