//! Keys, and what is sealed with them: AES-256-GCM, bound to the account that it is of.

use std::fmt;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, Generate, KeyInit, Nonce, Payload};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The longest name of a key.
const MAX_KEY_ID: usize = 32;

/// The first seals, all open.
#[derive(Clone)]
pub(super) struct Keys(Vec<Key>);

#[derive(Clone)]
struct Key {
    id: String,
    cipher: Aes256Gcm,
}

/// What a key made of a text.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) key_id: String,
    pub(super) nonce: Vec<u8>,
    pub(super) text: Vec<u8>,
}

/// What is not secret of something sealed, but must not be changed or exchanged: it opens only with the same.
#[derive(Clone, Copy)]
pub(super) struct Bound<'a> {
    /// Whose it is.
    pub(super) account: &'a str,
    pub(super) platform_user_id: &'a str,
    /// Empty where there is none.
    pub(super) user_agent: &'a str,
}

/// Why something cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SealError {
    /// No key has this name.
    UnknownKey,
    /// It, or what it is bound to, was changed, or another key has this name.
    Refused,
}

impl Keys {
    /// Reads `id:base64` of 32 bytes, or several by commas.
    ///
    /// # Errors
    /// What is wrong with the list; nothing of it is repeated.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut keys: Vec<Key> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (id, key) = part.split_once(':').ok_or("must be <name>:<base64 of 32 bytes>, or several by commas")?;
            let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if !(1..=MAX_KEY_ID).contains(&id.len()) || !id.bytes().all(is_name) {
                return Err("a key's name must be 1 to 32 letters, digits, - and _");
            }
            if keys.iter().any(|key| key.id == id) {
                return Err("a key's name is there twice");
            }
            let key = STANDARD.decode(key).map_err(|_| "a key is not base64")?;
            let cipher = Aes256Gcm::new_from_slice(&key).map_err(|_| "a key must have 32 bytes")?;
            keys.push(Key { id: id.to_owned(), cipher });
        }
        if keys.is_empty() { Err("must name a key") } else { Ok(Self(keys)) }
    }

    /// Seals a text with the first key, under a random nonce.
    pub(super) fn seal(&self, text: &[u8], bound: Bound<'_>) -> Result<Sealed, SealError> {
        let key = self.0.first().ok_or(SealError::UnknownKey)?;
        let nonce = Nonce::<Aes256Gcm>::try_generate().map_err(|_| SealError::Refused)?;
        let payload = Payload { msg: text, aad: &bound.bytes(&key.id) };
        let text = key.cipher.encrypt(&nonce, payload).map_err(|_| SealError::Refused)?;
        Ok(Sealed { key_id: key.id.clone(), nonce: nonce.to_vec(), text })
    }

    /// Opens what one of the keys sealed.
    pub(super) fn open(&self, sealed: &Sealed, bound: Bound<'_>) -> Result<Vec<u8>, SealError> {
        let key = self.0.iter().find(|key| key.id == sealed.key_id).ok_or(SealError::UnknownKey)?;
        let nonce: [u8; 12] = sealed.nonce.as_slice().try_into().map_err(|_| SealError::Refused)?;
        let payload = Payload { msg: &sealed.text, aad: &bound.bytes(&key.id) };
        key.cipher.decrypt(&nonce.into(), payload).map_err(|_| SealError::Refused)
    }
}

impl Bound<'_> {
    /// Each part with its length, so that no two of them read as others.
    fn bytes(&self, key_id: &str) -> Vec<u8> {
        let parts = ["huntaze-of-session", key_id, self.account, self.platform_user_id, self.user_agent];
        parts.map(|part| format!("{}:{part},", part.len())).concat().into_bytes()
    }
}

/// Nothing of them.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "2025:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const NEW: &str = "2026:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
    const BOUND: Bound<'static> = Bound { account: "acc", platform_user_id: "1", user_agent: "Browser" };

    fn keys(list: &[&str]) -> Keys {
        Keys::parse(&list.join(",")).unwrap()
    }

    #[test]
    fn what_the_first_key_seals_every_list_with_it_opens() {
        let sealed = keys(&[OLD]).seal(b"secret", BOUND).unwrap();
        assert_eq!(keys(&[NEW, OLD]).open(&sealed, BOUND).unwrap(), b"secret");
        let renewed = keys(&[NEW, OLD]).seal(b"secret", BOUND).unwrap();
        assert_eq!(renewed.key_id, "2026");
        assert_eq!(keys(&[OLD]).open(&renewed, BOUND), Err(SealError::UnknownKey));
    }

    #[test]
    fn a_nonce_is_used_once() {
        let keys = keys(&[NEW]);
        let (one, other) = (keys.seal(b"secret", BOUND).unwrap(), keys.seal(b"secret", BOUND).unwrap());
        assert!(one.nonce != other.nonce && one.text != other.text);
    }

    #[test]
    fn what_was_changed_or_exchanged_does_not_open() {
        let keys = keys(&[NEW, OLD]);
        let sealed = keys.seal(b"secret", BOUND).unwrap();
        for bound in [
            Bound { account: "other", ..BOUND },
            Bound { platform_user_id: "2", ..BOUND },
            Bound { user_agent: "", ..BOUND },
            // The same bytes, parted elsewhere.
            Bound { account: "acc1", platform_user_id: "", ..BOUND },
        ] {
            assert_eq!(keys.open(&sealed, bound), Err(SealError::Refused));
        }
        let flipped = |bytes: &[u8], at: usize| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 1;
            bytes
        };
        for at in 0..sealed.text.len() {
            let changed = Sealed { text: flipped(&sealed.text, at), ..sealed.clone() };
            assert_eq!(keys.open(&changed, BOUND), Err(SealError::Refused));
        }
        for changed in [
            Sealed { nonce: flipped(&sealed.nonce, 0), ..sealed.clone() },
            Sealed { nonce: Vec::new(), ..sealed.clone() },
            Sealed { text: sealed.text[..sealed.text.len() - 15].to_vec(), ..sealed.clone() },
            Sealed { text: Vec::new(), ..sealed.clone() },
            Sealed { key_id: "2025".to_owned(), ..sealed.clone() },
        ] {
            assert_eq!(keys.open(&changed, BOUND), Err(SealError::Refused));
        }
    }

    #[test]
    fn a_list_of_keys_that_is_none_is_refused_without_a_word_of_it() {
        let twice = format!("{OLD},{OLD}");
        for bad in ["", ",", "c2VjcmV0", ":c2VjcmV0", "a b:c2VjcmV0", "k:c2VjcmV0", "k:not base64", twice.as_str()] {
            let said = Keys::parse(bad).unwrap_err();
            assert!(!said.contains("c2VjcmV0"), "{said}");
        }
        assert_eq!(format!("{:?}", keys(&[OLD])), "Keys { .. }");
    }
}
