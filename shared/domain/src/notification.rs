//! What people are told: the message on the notifications queue, which every sender writes and one consumer delivers. Its bounds
//! are here, so that a sender can keep them: the consumer has no use for a message that does not.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::UserId;

/// An id's longest length, in bytes: it is part of a key, and may hold a user's id.
pub const MAX_ID_BYTES: usize = 512;
/// A kind's longest length, in bytes.
pub const MAX_KIND_BYTES: usize = 64;
/// A title's longest length, in characters.
pub const MAX_TITLE: usize = 200;
/// A text's longest length, in characters.
pub const MAX_TEXT: usize = 4_000;
/// The most facts: what fits into a Slack message and an e-mail that is read.
pub const MAX_FACTS: usize = 40;
/// A fact's name, in characters.
pub const MAX_FACT_NAME: usize = 100;
/// A fact's value, in characters.
pub const MAX_FACT_VALUE: usize = 300;
/// A link's longest length, in bytes.
pub const MAX_LINK_BYTES: usize = 1_000;
/// Channels may be named twice, but a list of them is short.
pub const MAX_CHANNELS: usize = 16;

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

impl Notification {
    /// Whether the consumer takes it. What a link holds is the consumer's to read; its form and length are looked at here.
    #[must_use]
    pub fn fits(&self) -> bool {
        let Self { id, kind, channels, title, text, facts, link, .. } = self;
        is_id(id)
            && is_kind(kind)
            && (1..=MAX_CHANNELS).contains(&channels.len())
            && is_line(title, MAX_TITLE)
            && is_text(text)
            && facts.len() <= MAX_FACTS
            && facts.iter().all(Fact::fits)
            && link.as_deref().is_none_or(is_link)
    }
}

impl Fact {
    /// Whether the consumer takes it.
    #[must_use]
    pub fn fits(&self) -> bool {
        is_line(&self.name, MAX_FACT_NAME) && is_line(&self.value, MAX_FACT_VALUE)
    }
}

/// 1 to [`MAX_ID_BYTES`] of printable ASCII, without spaces.
#[must_use]
pub fn is_id(text: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// 1 to [`MAX_KIND_BYTES`] of `[a-z0-9_]`.
#[must_use]
pub fn is_kind(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    (1..=MAX_KIND_BYTES).contains(&text.len()) && plain
}

/// One line of 1 to `longest` characters, those around it not counted: a header of an e-mail may be made of it.
#[must_use]
pub fn is_line(text: &str, longest: usize) -> bool {
    let text = text.trim();
    (1..=longest).contains(&text.chars().count()) && !text.chars().any(is_break)
}

/// Lines of 1 to [`MAX_TEXT`] characters together, those around them not counted.
#[must_use]
pub fn is_text(text: &str) -> bool {
    let text = text.trim();
    (1..=MAX_TEXT).contains(&text.chars().count()) && !text.chars().any(|c| is_break(c) && c != '\n')
}

/// An `https://` or `http://` address of at most [`MAX_LINK_BYTES`] in printable ASCII.
fn is_link(text: &str) -> bool {
    let is_web = text.starts_with("https://") || text.starts_with("http://");
    is_web && text.len() <= MAX_LINK_BYTES && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Control characters, and what Unicode adds to end a line or to turn the direction of what follows.
fn is_break(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn longest() -> Notification {
        let line = |longest| "ü".repeat(longest);
        Notification {
            id: "x".repeat(MAX_ID_BYTES),
            kind: "k".repeat(MAX_KIND_BYTES),
            severity: Severity::Info,
            audience: Audience::Operators,
            channels: vec![Channel::InApp; MAX_CHANNELS],
            title: line(MAX_TITLE),
            text: line(MAX_TEXT),
            facts: vec![Fact { name: line(MAX_FACT_NAME), value: line(MAX_FACT_VALUE) }; MAX_FACTS],
            link: Some(format!("https://{}", "x".repeat(MAX_LINK_BYTES - 8))),
            timestamp: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn each_bound_of_a_notification_is_the_last_that_fits() {
        assert!(longest().fits());
        let beyond: [fn(&mut Notification); 12] = [
            |n| n.id.push('x'),
            |n| n.id = "a b".to_owned(),
            |n| n.kind.push('k'),
            |n| n.kind = "Cost".to_owned(),
            |n| n.channels.push(Channel::Email),
            |n| n.channels.clear(),
            |n| n.title.push('x'),
            |n| n.title = "a\nb".to_owned(),
            |n| n.text.push('x'),
            |n| n.facts.push(Fact { name: "a".to_owned(), value: "b".to_owned() }),
            |n| n.facts[0].value.push('x'),
            |n| n.link.as_mut().unwrap().push('x'),
        ];
        for (which, change) in beyond.iter().enumerate() {
            let mut changed = longest();
            change(&mut changed);
            assert!(!changed.fits(), "{which}");
        }
    }

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
