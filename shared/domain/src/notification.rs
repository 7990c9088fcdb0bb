//! What people are told: the message on the notifications queue, which every sender writes and one consumer delivers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::UserId;

macro_rules! names {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $name:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $type { $($(#[$variant_doc])* $name,)* }

        impl $type {
            /// Every one of them, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name on the wire and in the stores.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Reads the name.
            #[must_use]
            pub fn from_name(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str() == text)
            }
        }
    };
}

names! {
    /// How much it matters.
    Severity {
        /// Worth knowing.
        Info = "info",
        /// Somebody should look at it.
        Warning = "warning",
        /// Somebody has to do something.
        Critical = "critical",
    }
}

names! {
    /// A way to tell somebody.
    Channel {
        /// An e-mail: to the user, or to the operators' address.
        Email = "email",
        /// The operators' Slack webhook.
        Slack = "slack",
        /// The operators' SNS topic.
        Sns = "sns",
        /// Where the app shows it.
        InApp = "in_app",
    }
}

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// One user.
    User(UserId),
    /// Whoever runs the system.
    Operators,
}

/// One line of a notification's table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is.
    pub name: String,
    /// What it comes to, for a person.
    pub value: String,
}

/// One thing that somebody is told, over one or several channels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// Told twice under the same id, it is delivered once a channel.
    pub id: String,
    /// What it is about, for filters and figures: `cost_alert`, `cost_report`, …
    pub kind: String,
    /// How much it matters.
    pub severity: Severity,
    /// Who is told.
    pub audience: Audience,
    /// How.
    pub channels: Vec<Channel>,
    /// One line: the e-mail's subject.
    pub title: String,
    /// What happened, in plain sentences.
    pub text: String,
    /// The figures.
    #[serde(default)]
    pub facts: Vec<Fact>,
    /// Where there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// When it happened.
    pub timestamp: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_code_and_on_the_wire_agree() {
        for severity in Severity::ALL {
            assert_eq!(serde_json::to_value(severity).unwrap(), severity.as_str());
        }
        for channel in Channel::ALL {
            assert_eq!(serde_json::to_value(channel).unwrap(), channel.as_str());
        }
    }
}
