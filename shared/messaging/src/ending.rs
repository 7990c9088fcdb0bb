//! What follows from the end of a call of the platform. Pure.

use std::time::Duration;

use serde_json::{Value, json};

/// The first retry waits at most so long, and each further one at most twice as long as the one before.
const FIRST_RETRY: Duration = Duration::from_secs(30);
/// No retry waits longer.
const LONGEST_RETRY: Duration = Duration::from_secs(15 * 60);
/// Before the first look for a message whose end is not known: the platform may be slow to show it.
pub const FIRST_LOOK: Duration = Duration::from_secs(10);

/// How an attempt ended, and what is to follow.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// It reached the fan.
    Sent {
        /// The platform's id.
        platform_id: String,
    },
    /// It did not, and is tried again.
    Retry {
        /// Why.
        reason: &'static str,
        /// The answer's status, where there was one.
        http_status: Option<u16>,
        /// When.
        wait: Duration,
        /// All of the account waits so long.
        account_wait: Option<Duration>,
        /// Whether it is one of the message's retries.
        counted: bool,
        /// The session is to be read again for it.
        refreshed: bool,
        /// Whether the platform was well.
        unwell: bool,
    },
    /// It did not, and is not tried again.
    Failed {
        /// Why.
        reason: String,
        /// The answer's status.
        http_status: u16,
        /// The platform refused the account, not the message.
        forbidden: bool,
        /// The account is paused for this.
        pause: Option<&'static str>,
    },
    /// Nobody knows.
    Unknown {
        /// Why.
        reason: &'static str,
        /// The answer's status, where there was one.
        http_status: Option<u16>,
        /// Before it is looked for.
        look: Duration,
    },
}

impl Ending {
    /// As the store reads it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let millis = |wait: Duration| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        match self {
            Self::Sent { platform_id } => json!({"outcome": "sent", "platform_id": platform_id, "health": "well"}),
            Self::Retry { reason, http_status, wait, account_wait, counted, refreshed, unwell } => json!({
                "outcome": "retry", "reason": reason, "http_status": http_status, "wait_ms": millis(*wait),
                "account_ms": account_wait.map(millis), "counted": counted, "refreshed": refreshed,
                "health": unwell.then_some("unwell"),
            }),
            Self::Failed { reason, http_status, forbidden, pause } => json!({
                "outcome": "failed", "reason": reason, "http_status": http_status, "forbidden": forbidden, "pause": pause,
                "health": (!forbidden).then_some("well"),
            }),
            Self::Unknown { reason, http_status, look } => json!({
                "outcome": "unknown", "reason": reason, "http_status": http_status, "look_ms": millis(*look),
                "health": "unwell",
            }),
        }
    }
}

/// A retry's wait by how many attempts were made: anywhere up to the bound, which doubles. Full jitter, because what fails
/// together would otherwise come back together.
#[must_use]
pub fn backoff(attempts: u16, random: u64) -> Duration {
    let doublings = u32::from(attempts.saturating_sub(1).min(10));
    let bound = FIRST_RETRY.saturating_mul(1 << doublings).min(LONGEST_RETRY);
    Duration::from_millis(random % u64::try_from(bound.as_millis()).unwrap_or(u64::MAX).saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_under_full_jitter_and_are_bounded() {
        for (attempts, bound) in [(0, 30), (1, 30), (2, 60), (3, 120), (5, 480), (6, 900), (60_000, 900)] {
            assert_eq!(backoff(attempts, bound * 1_000).as_secs(), bound, "{attempts}");
            assert_eq!(backoff(attempts, bound * 1_000 + 1).as_secs(), 0, "{attempts}");
        }
    }
}
