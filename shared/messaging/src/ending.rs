//! What follows from the end of a call of the platform. Pure.

use std::time::Duration;

use serde_json::{Value, json};

use crate::outbox::Message;
use crate::platform::{Reason, SendEnd};

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
        reason: String,
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
        /// The answer's status, where there was one.
        http_status: Option<u16>,
        /// The platform refused the account, not the message.
        forbidden: bool,
        /// The account is paused for this.
        pause: Option<&'static str>,
    },
    /// Nobody knows.
    Unknown {
        /// Why.
        reason: String,
        /// The answer's status, where there was one.
        http_status: Option<u16>,
        /// Before it is looked for.
        look: Duration,
    },
}

/// Why an account is paused whose session the platform refused twice.
const SESSION_REFUSED: &str = "session_refused";

/// What follows from a call's end.
#[must_use]
pub fn of(end: &SendEnd, message: &Message, random: u64) -> Ending {
    let http_status = end.http_status();
    let attempts = u16::try_from(message.attempts.saturating_add(1)).unwrap_or(1);
    match end {
        SendEnd::Sent { platform_id, .. } => Ending::Sent { platform_id: platform_id.clone() },
        SendEnd::NotDelivered { reason } => Ending::Retry {
            reason: reason.to_string(),
            http_status,
            wait: backoff(attempts, random),
            account_wait: None,
            counted: true,
            refreshed: false,
            // That the time was up before anything was asked is our own slowness.
            unwell: *reason != Reason::NoTime,
        },
        SendEnd::Paced { retry_after } => Ending::Retry {
            reason: "the platform lets no more through for now".to_owned(),
            http_status,
            wait: *retry_after,
            account_wait: Some(*retry_after),
            // Whoever waits when told to has done nothing wrong.
            counted: false,
            refreshed: false,
            unwell: false,
        },
        SendEnd::SessionRefused if !message.session_refreshed => Ending::Retry {
            reason: SESSION_REFUSED.to_owned(),
            http_status,
            wait: Duration::ZERO,
            account_wait: None,
            counted: false,
            refreshed: true,
            unwell: false,
        },
        SendEnd::SessionRefused => Ending::Failed {
            reason: SESSION_REFUSED.to_owned(),
            http_status,
            forbidden: false,
            pause: Some(SESSION_REFUSED),
        },
        SendEnd::Refused { reason } => {
            Ending::Failed { reason: reason.to_string(), http_status, forbidden: false, pause: None }
        }
        SendEnd::Forbidden { reason } => {
            Ending::Failed { reason: reason.to_string(), http_status, forbidden: true, pause: None }
        }
        SendEnd::Ambiguous { reason } => Ending::Unknown { reason: reason.to_string(), http_status, look: FIRST_LOOK },
    }
}

impl Ending {
    /// Why it ended so, in words that may be logged.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Sent { .. } => "sent",
            Self::Retry { reason, .. } | Self::Failed { reason, .. } | Self::Unknown { reason, .. } => reason,
        }
    }

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
                // Without a status nobody was asked.
                "health": (!forbidden && http_status.is_some()).then_some("well"),
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
