//! Who asks.

use std::fmt;

use huntaze_domain::ids::random;

/// One call that is about to be made. Asked for twice, because an answer was lost, it is let through once; its
/// failure reported twice within the window counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(u64);

impl Token {
    /// A token of its own for each call.
    #[must_use]
    pub fn random() -> Self {
        Self(random())
    }

    /// As Redis keeps it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
impl From<u64> for Token {
    fn from(number: u64) -> Self {
        Self(number)
    }
}
