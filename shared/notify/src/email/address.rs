//! An e-mail address as a value that cannot hold a second one, nor a header.

use std::fmt;

/// RFC 5321's limits, in bytes.
const MAX_BYTES: usize = 254;
const MAX_LOCAL_BYTES: usize = 64;
const MAX_LABEL_BYTES: usize = 63;
/// What RFC 5322 lets stand in a local part without quotes, beside letters and digits.
const SIGNS: &[u8] = b"!#$%&'*+-/=?^_`{|}~.";

/// A text that is no address. It is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an e-mail address, without a name: user@example.com")]
pub struct NoAddress;

/// One address, `local@domain`. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// Reads an address without a name, comment or quotes, in ASCII.
    ///
    /// # Errors
    /// [`NoAddress`]
    pub fn parse(text: &str) -> Result<Self, NoAddress> {
        let (local, domain) = text.rsplit_once('@').ok_or(NoAddress)?;
        let is_local = (1..=MAX_LOCAL_BYTES).contains(&local.len())
            && local.bytes().all(|b| b.is_ascii_alphanumeric() || SIGNS.contains(&b))
            && !local.starts_with('.')
            && !local.ends_with('.')
            && !local.contains("..");
        let is_label = |label: &str| {
            (1..=MAX_LABEL_BYTES).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let is_domain = domain.contains('.') && domain.split('.').all(is_label);
        let fits = text.len() <= MAX_BYTES;
        if is_local && is_domain && fits { Ok(Self(text.to_owned())) } else { Err(NoAddress) }
    }

    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_address_and_nothing_else() {
        for fine in ["a@b.co", "ana.in-person+tag@mail.example", "o'hara_1@sub.mail-1.example"] {
            assert!(Address::parse(fine).is_ok(), "{fine}");
        }
        let long = format!("{}@mail.example", "a".repeat(65));
        let longer = format!("a@{}example", "a.".repeat(130));
        for no in [
            "",
            "ana",
            "@mail.example",
            "ana@",
            "ana@localhost",
            "ana@mail..example",
            "ana@-mail.example",
            "an a@mail.example",
            "ana@mail.example\r\nBcc: eve@mail.example",
            "ana@mail.example,eve@mail.example",
            "Ana <ana@mail.example>",
            "\"ana\"@mail.example",
            "ana@eve@mail.example",
            "änä@mail.example",
            ".ana@mail.example",
            &long,
            &longer,
        ] {
            assert_eq!(Address::parse(no), Err(NoAddress), "{no:?}");
        }
    }

    #[test]
    fn an_address_is_not_shown_by_chance() {
        assert!(!format!("{:?}", Address::parse("ana@mail.example").unwrap()).contains("ana"));
    }
}
