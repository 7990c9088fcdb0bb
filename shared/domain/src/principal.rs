//! Who asks, and what they may see.

use jiff::Timestamp;

use crate::ids::UserId;

/// The roles of the contract, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A session without a role claim.
    User,
    /// A creator. Sees and changes only their own data, as a user does.
    Creator,
    /// May name another user and use the admin routes.
    Admin,
    /// As [`Role::Admin`].
    SuperAdmin,
}

impl Role {
    /// Reads a role claim. An unknown role grants nothing more than [`Role::User`].
    #[must_use]
    pub fn from_claim(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "creator" => Self::Creator,
            "admin" => Self::Admin,
            "super_admin" => Self::SuperAdmin,
            _ => Self::User,
        }
    }
}

/// What is known of a user beside the id. What is not known is no reason for anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// What the user pays for.
    pub tier: Option<String>,
    /// Where the user lives.
    pub region: Option<String>,
    /// Since when there is an account.
    pub created_at: Option<Timestamp>,
}

impl Attributes {
    /// These, and of others what these do not say.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            tier: self.tier.or(others.tier),
            region: self.region.or(others.region),
            created_at: self.created_at.or(others.created_at),
        }
    }
}

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The session's subject.
    pub user_id: UserId,
    /// What the session's role claim says.
    pub role: Role,
    /// What the session says of its user.
    pub attributes: Attributes,
}

/// The caller asked for data that is another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this data belongs to another user")]
pub struct Forbidden;

/// The caller asked for what only administrators may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this needs an administrator")]
pub struct NotAdmin;

impl Principal {
    /// Whether the caller may use admin routes and name another user.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.role >= Role::Admin
    }

    /// Lets administrators through.
    ///
    /// # Errors
    /// [`NotAdmin`] for anybody else.
    pub fn require_admin(&self) -> Result<(), NotAdmin> {
        if self.is_admin() { Ok(()) } else { Err(NotAdmin) }
    }

    /// Whose data a request is about: the caller's, or another's whom an admin names.
    ///
    /// # Errors
    /// [`Forbidden`] if another user is named without the role.
    pub fn acting_for<'a>(&'a self, named: Option<&'a UserId>) -> Result<&'a UserId, Forbidden> {
        match named {
            Some(user) if *user != self.user_id && !self.is_admin() => Err(Forbidden),
            Some(user) => Ok(user),
            None => Ok(&self.user_id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> UserId {
        UserId::parse(text).unwrap()
    }

    #[test]
    fn another_users_data_needs_a_role() {
        let (ana, bob) = (id("ana"), id("bob"));
        for (role, allowed) in
            [(Role::User, false), (Role::Creator, false), (Role::Admin, true), (Role::SuperAdmin, true)]
        {
            let caller = Principal { user_id: ana.clone(), role, attributes: Attributes::default() };
            assert_eq!(caller.acting_for(Some(&bob)).is_ok(), allowed, "{role:?}");
            assert_eq!(caller.acting_for(Some(&ana)), Ok(&ana));
            assert_eq!(caller.acting_for(None), Ok(&ana));
        }
    }

    #[test]
    fn an_unknown_role_grants_nothing() {
        for claim in ["", "root", "administrator", "admin "] {
            assert_eq!(Role::from_claim(claim), Role::User);
        }
    }
}
