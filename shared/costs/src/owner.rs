//! Whose costs a threshold, a budget or an alert is about.

use huntaze_domain::ids::UserId;
use huntaze_domain::notification::{Audience, Channel};

/// Whose costs are counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// Those of all users together.
    Everyone,
    /// Those of one user.
    User(UserId),
}

impl From<Option<UserId>> for Owner {
    /// The user, or everyone.
    fn from(user: Option<UserId>) -> Self {
        user.map_or(Self::Everyone, Self::User)
    }
}

impl Owner {
    /// The key in the stores: `global` or `user#<id>`.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Everyone => "global".to_owned(),
            Self::User(user) => format!("user#{user}"),
        }
    }

    /// Reads the key.
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        match key.strip_prefix("user#") {
            Some(user) => UserId::parse(user).ok().map(Self::User),
            None => (key == "global").then_some(Self::Everyone),
        }
    }

    /// The user, where it is one.
    #[must_use]
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Self::Everyone => None,
            Self::User(user) => Some(user),
        }
    }

    /// Who is told of what happens to these costs.
    #[must_use]
    pub fn audience(&self) -> Audience {
        match self {
            Self::Everyone => Audience::Operators,
            Self::User(user) => Audience::User(user.clone()),
        }
    }

    /// How they are told where nobody chose: Slack and SNS are the operators' own.
    #[must_use]
    pub fn channels(&self) -> &'static [Channel] {
        match self {
            Self::Everyone => &[Channel::Email, Channel::Slack, Channel::Sns, Channel::InApp],
            Self::User(_) => &[Channel::InApp, Channel::Email],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_one_owner() {
        for owner in [Owner::Everyone, Owner::from(Some(UserId::parse("global").unwrap())), Owner::from(None)] {
            assert_eq!(Owner::from_key(&owner.key()), Some(owner));
        }
        assert_eq!(Owner::from_key("user#a b"), None);
        assert_eq!(Owner::from_key("everyone"), None);
    }
}
