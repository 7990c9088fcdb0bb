//! What a circuit is called.

use std::fmt;

/// The longest name, in bytes: an identifier, and what it is one of.
const MAX_BYTES: usize = 192;

/// A text that names no circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {MAX_BYTES} printable ASCII characters without spaces")]
pub struct InvalidName;

/// A circuit's name, as `azure:gpt-4-turbo`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Takes a name.
    ///
    /// # Errors
    /// [`InvalidName`]: it is empty, too long, or has other characters.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let fits = (1..=MAX_BYTES).contains(&text.len());
        if fits && text.bytes().all(|b| b.is_ascii_graphic()) { Ok(Self(text.to_owned())) } else { Err(InvalidName) }
    }

    /// The name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where Redis keeps the circuit. A cluster keeps keys with the same text in the first braces in one slot, so one script may
    /// read several.
    pub(crate) fn key(&self) -> String {
        format!("huntaze:{{breaker}}:{}", self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_printable_and_bounded() {
        assert_eq!(Name::parse("azure:gpt-4-turbo").unwrap().key(), "huntaze:{breaker}:azure:gpt-4-turbo");
        for bad in ["", "a b", "é", "a\n", &"x".repeat(193)] {
            assert_eq!(Name::parse(bad), Err(InvalidName), "{bad:?}");
        }
    }
}
