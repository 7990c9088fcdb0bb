//! How a call of the platform ends.

use std::time::Duration;

/// How a send ended. Only [`SendEnd::Ambiguous`] leaves open whether the fan has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendEnd {
    /// The fan has it.
    Sent {
        /// The platform's id of the message.
        platform_id: String,
        /// 200 or 201.
        http_status: u16,
    },
    /// Nobody was asked: it may be tried again.
    NotDelivered {
        /// [`Reason::NoConnection`] or [`Reason::NoTime`].
        reason: Reason,
    },
    /// 429: the account may send again later.
    Paced {
        /// How long it waits: what the platform says, at least a second, or [`DEFAULT_PACE`].
        retry_after: Duration,
    },
    /// This message will never be taken.
    Refused {
        /// Why.
        reason: Reason,
    },
    /// 401: the session is not good any more.
    SessionRefused,
    /// 403: the account may not do this.
    Forbidden {
        /// Why.
        reason: Reason,
    },
    /// It may have reached the fan, or not. It must not be sent again before somebody knows.
    Ambiguous {
        /// Why nobody knows.
        reason: Reason,
    },
}

/// The contract's wait behind a 429 that does not say how long.
pub const DEFAULT_PACE: Duration = Duration::from_secs(45);

impl SendEnd {
    /// The status of the answer, where there was one.
    #[must_use]
    pub fn http_status(&self) -> Option<u16> {
        match self {
            Self::Sent { http_status, .. } => Some(*http_status),
            Self::Paced { .. } => Some(429),
            Self::SessionRefused => Some(401),
            Self::NotDelivered { reason }
            | Self::Refused { reason }
            | Self::Forbidden { reason }
            | Self::Ambiguous { reason } => reason.http_status(),
        }
    }
}

/// Why a send ended as it did, in words that hold no text, no fan and no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// There was no connection to ask on: refused, no such host, or TLS.
    #[error("no connection")]
    NoConnection,
    /// There was no connection in time.
    #[error("no connection in time")]
    NoTime,
    /// No path can name the fan.
    #[error("the recipient cannot be addressed")]
    Unaddressable,
    /// The connection was lost before the answer.
    #[error("the connection was lost")]
    Lost,
    /// No answer in time.
    #[error("no answer in time")]
    NoAnswer,
    /// It says that it was taken, but the rest of the answer was lost, is too long or cannot be read.
    #[error("an answer that cannot be read ({status})")]
    Unreadable {
        /// The answer's status.
        status: u16,
    },
    /// It says that it was taken, but not as what.
    #[error("an answer without the message's id ({status})")]
    NoId {
        /// The answer's status.
        status: u16,
    },
    /// The platform said so.
    #[error("answered {status}{}", .code.as_deref().map(|code| format!(" ({code})")).unwrap_or_default())]
    Answered {
        /// The answer's status.
        status: u16,
        /// The error's code, if it has one that can be shown.
        code: Option<String>,
    },
}

impl Reason {
    /// The status of the answer, where there was one.
    #[must_use]
    pub fn http_status(&self) -> Option<u16> {
        match self {
            Self::Unreadable { status } | Self::NoId { status } | Self::Answered { status, .. } => Some(*status),
            Self::NoConnection | Self::NoTime | Self::Unaddressable | Self::Lost | Self::NoAnswer => None,
        }
    }
}

/// Why the platform could not be asked for something, which changes nothing there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No connection, or one that was lost.
    #[error("the platform cannot be reached")]
    Unreachable,
    /// No answer in time.
    #[error("no answer in time")]
    NoAnswer,
    /// No path can name the fan.
    #[error("the recipient cannot be addressed")]
    Unaddressable,
    /// 429.
    #[error("the platform lets no more through for now")]
    Paced {
        /// How long to wait; as in [`SendEnd::Paced`].
        retry_after: Duration,
    },
    /// 401: the session is not good any more.
    #[error("the session is not good any more")]
    SessionRefused,
    /// 403: the account may not do this.
    #[error("the account may not do this")]
    Forbidden,
    /// Another status.
    #[error("answered {status}")]
    Answered {
        /// Which.
        status: u16,
    },
    /// The answer was lost on its way, is too long, or is not what it should be.
    #[error("an answer that cannot be read")]
    Unreadable,
}
