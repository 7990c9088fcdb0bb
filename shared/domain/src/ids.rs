//! Identifiers. Each is a text that was checked once, so nothing behind the edge checks it again.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The longest identifier that is taken from outside, in bytes.
pub const MAX_ID_BYTES: usize = 128;

/// A text that is no identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {MAX_ID_BYTES} printable ASCII characters without spaces")]
pub struct InvalidId;

fn check(text: &str) -> Result<(), InvalidId> {
    let fits = (1..=MAX_ID_BYTES).contains(&text.len());
    if fits && text.bytes().all(|b| b.is_ascii_graphic()) { Ok(()) } else { Err(InvalidId) }
}

/// The longest name of a fan, in characters.
const MAX_RECIPIENT: usize = 128;

/// What a fan's name is, for whoever gave none.
pub const RECIPIENT: &str = "a text of 1 to 128 characters, none of them a control character";

/// A text that names no fan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be {RECIPIENT}")]
pub struct InvalidRecipient;

/// The platform names its fans, and we do not know how.
fn check_recipient(text: &str) -> Result<(), InvalidRecipient> {
    let fits = (1..=MAX_RECIPIENT).contains(&text.chars().count());
    if fits && !text.chars().any(char::is_control) { Ok(()) } else { Err(InvalidRecipient) }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        id! { $(#[$doc])* $name, check, InvalidId }
    };
    ($(#[$doc:meta])* $name:ident, $check:ident, $invalid:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Takes a text from outside.
            ///
            /// # Errors
            #[doc = concat!("[`", stringify!($invalid), "`]: it is empty, too long, or has other characters.")]
            pub fn parse(text: &str) -> Result<Self, $invalid> {
                $check(text).map(|()| Self(text.to_owned()))
            }

            /// The identifier's text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = $invalid;
            fn try_from(text: String) -> Result<Self, $invalid> {
                $check(&text).map(|()| Self(text))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// The session's subject: who asks, and who pays.
    UserId
}
id! {
    /// One campaign request, from its acceptance to its end.
    WorkflowId
}
id! {
    /// One call of one provider: `<workflow>.<sequence>`. Also the id of its ledger entry.
    AttemptId
}
id! {
    /// A creator's account on the platform.
    AccountId
}
id! {
    /// A fan, as the platform names them.
    RecipientId, check_recipient, InvalidRecipient
}
id! {
    /// One message to a fan, from its acceptance to its end.
    MessageId
}
id! {
    /// The client's name for one request, unique among that user's requests.
    IdempotencyKey
}

impl WorkflowId {
    /// A new id, ordered by time (UUID version 7).
    #[must_use]
    pub fn generate() -> Self {
        Self(format!("wf_{}", Uuid::now_v7().simple()))
    }
}

impl MessageId {
    /// A new id, ordered by time (UUID version 7).
    #[must_use]
    pub fn generate() -> Self {
        Self(format!("msg_{}", Uuid::now_v7().simple()))
    }
}

impl AttemptId {
    /// The id of a workflow's attempt; `sequence` counts from 1.
    #[must_use]
    pub fn of(workflow: &WorkflowId, sequence: u16) -> Self {
        Self(format!("{workflow}.{sequence}"))
    }
}

/// 62 random bits, for what needs to differ and not to be secret.
#[must_use]
pub fn random() -> u64 {
    Uuid::now_v7().as_u64_pair().1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_printable_and_bounded() {
        assert!(UserId::parse("user_ana_001").is_ok());
        for bad in ["", " ", "a b", "é", "a\n", "\u{200b}", &"x".repeat(129)] {
            assert_eq!(UserId::parse(bad), Err(InvalidId), "{bad:?}");
        }
    }

    #[test]
    fn a_fan_has_whatever_name_the_platform_gives() {
        for good in ["fan-1", "Zoë 🙂", &"é".repeat(128)] {
            assert!(RecipientId::parse(good).is_ok(), "{good:?}");
        }
        for bad in ["", "fan\n", "\u{85}", &"x".repeat(129)] {
            assert_eq!(RecipientId::parse(bad), Err(InvalidRecipient), "{bad:?}");
        }
    }

    #[test]
    fn an_attempt_is_named_after_its_workflow() {
        let workflow = WorkflowId::generate();
        assert_eq!(AttemptId::of(&workflow, 2).as_str(), format!("{workflow}.2"));
    }
}
