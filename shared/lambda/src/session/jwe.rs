//! Decrypting NextAuth's tokens: JWE compact serialisation (RFC 7516) with a direct key, and nothing else of it.
//!
//! RustCrypto primitives instead of a JOSE crate, because every length is checked here before a primitive sees it:
//! a GCM tag cut to one byte would let a session be forged in 256 tries.

use aes::Aes256;
use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256, Sha512};

use super::Refusal;

/// The longest protected header, encoded. NextAuth's longest is 180 bytes.
const MAX_HEADER_BYTES: usize = 1024;

/// A key for one content encryption, derived from one secret for one purpose.
pub(super) struct Key {
    cipher: Cipher,
    /// What a token's `kid` must say, if it has one. `None` for v4, which has no `kid`.
    thumbprint: Option<String>,
}

enum Cipher {
    A256Gcm([u8; 32]),
    A256CbcHs512([u8; 64]),
}

impl Key {
    /// The key of every v4 session cookie.
    pub(super) fn v4(secret: &str) -> Self {
        let key = derive(secret, "", "NextAuth.js Generated Encryption Key");
        Self { cipher: Cipher::A256Gcm(key), thumbprint: None }
    }

    /// The keys of the v5 session cookie of this name: the one in use, and the one of sessions from before it.
    pub(super) fn v5(secret: &str, cookie: &str) -> [Self; 2] {
        let info = format!("Auth.js Generated Encryption Key ({cookie})");
        // The library's thumbprint uses the SHA-2 that is as long as the key.
        let current = derive::<64>(secret, cookie, &info);
        let current_kid = base64url(&Sha512::digest(thumbprint_input(&current)));
        let former = derive::<32>(secret, cookie, &info);
        let former_kid = base64url(&Sha256::digest(thumbprint_input(&former)));
        [
            Self { cipher: Cipher::A256CbcHs512(current), thumbprint: Some(current_kid) },
            Self { cipher: Cipher::A256Gcm(former), thumbprint: Some(former_kid) },
        ]
    }

    fn matches(&self, enc: Option<&str>, kid: Option<&Value>) -> bool {
        let name = match self.cipher {
            Cipher::A256Gcm(_) => "A256GCM",
            Cipher::A256CbcHs512(_) => "A256CBC-HS512",
        };
        let named = match (kid, &self.thumbprint) {
            (Some(kid), Some(thumbprint)) => kid == thumbprint,
            _ => true,
        };
        enc == Some(name) && named
    }
}

/// Decrypts a token with the first key that opens it.
pub(super) fn decrypt<'k>(token: &str, keys: impl IntoIterator<Item = &'k Key>) -> Result<Vec<u8>, Refusal> {
    let parts: Vec<&str> = token.splitn(6, '.').collect();
    // The second part is the encrypted key; a direct key has none.
    let [protected, "", iv, ciphertext, tag] = parts[..] else { return Err("the token is no directly encrypted JWE") };
    if protected.len() > MAX_HEADER_BYTES {
        return Err("the token's header is too long");
    }
    let [header, iv, ciphertext, tag] = [protected, iv, ciphertext, tag].map(|part| URL_SAFE_NO_PAD.decode(part));
    let (Ok(header), Ok(iv), Ok(ciphertext), Ok(tag)) = (header, iv, ciphertext, tag) else {
        return Err("the token is not base64url");
    };
    let Ok(header) = serde_json::from_slice::<Map<String, Value>>(&header) else {
        return Err("the token's header is no JSON object");
    };
    let text = |name| header.get(name).and_then(Value::as_str);
    if text("alg") != Some("dir") {
        return Err("the token's alg is not allowed");
    }
    // Both change what the token means, and NextAuth uses neither.
    if header.contains_key("crit") || header.contains_key("zip") {
        return Err("the token's header has crit or zip");
    }
    keys.into_iter()
        .filter(|key| key.matches(text("enc"), header.get("kid")))
        .find_map(|key| key.cipher.open(protected.as_bytes(), &iv, &ciphertext, &tag))
        .ok_or("no key opens the token")
}

impl Cipher {
    /// The plaintext, if IV and tag have their full length and the tag is right.
    fn open(&self, aad: &[u8], iv: &[u8], ciphertext: &[u8], tag: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::A256Gcm(key) => {
                let iv: &[u8; 12] = iv.try_into().ok()?;
                let tag: &[u8; 16] = tag.try_into().ok()?;
                let mut text = ciphertext.to_vec();
                Aes256Gcm::new(key.into())
                    .decrypt_inout_detached(iv.into(), aad, text.as_mut_slice().into(), tag.into())
                    .ok()?;
                Some(text)
            }
            // RFC 7518 §5.2.2.2: the key's first half authenticates, its second half decrypts.
            Self::A256CbcHs512(key) => {
                let iv: &[u8; 16] = iv.try_into().ok()?;
                let tag: &[u8; 32] = tag.try_into().ok()?;
                let (mac_key, cipher_key) = key.split_at(32);
                let aad_bits = u64::try_from(aad.len()).ok()?.checked_mul(8)?;
                <Hmac<Sha512> as KeyInit>::new_from_slice(mac_key)
                    .ok()?
                    .chain_update(aad)
                    .chain_update(iv)
                    .chain_update(ciphertext)
                    .chain_update(aad_bits.to_be_bytes())
                    // In constant time, over the left half of the MAC: exactly the tag's 32 bytes.
                    .verify_truncated_left(tag)
                    .ok()?;
                let cipher_key: &[u8; 32] = cipher_key.try_into().ok()?;
                cbc::Decryptor::<Aes256>::new(cipher_key.into(), iv.into()).decrypt_padded_vec::<Pkcs7>(ciphertext).ok()
            }
        }
    }
}

#[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8160 bytes, and N is 32 or 64")]
fn derive<const N: usize>(secret: &str, salt: &str, info: &str) -> [u8; N] {
    let mut key = [0; N];
    Hkdf::<Sha256>::new(Some(salt.as_bytes()), secret.as_bytes())
        .expand(info.as_bytes(), &mut key)
        .expect("the key is short enough");
    key
}

/// The canonical JSON of an `oct` JWK (RFC 7638).
fn thumbprint_input(key: &[u8]) -> String {
    format!(r#"{{"k":"{}","kty":"oct"}}"#, base64url(key))
}

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_that_the_libraries_derive() {
        let fixture = super::super::tests::fixture();
        let secret = fixture["secret"].as_str().unwrap();
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let Cipher::A256Gcm(v4) = Key::v4(secret).cipher else { panic!("v4 is GCM") };
        assert_eq!(fixture["v4"]["derived_key_hex"], hex(&v4));
        for (cookie, expected) in fixture["v5"]["derived_key_hex"].as_object().unwrap() {
            let [Key { cipher: Cipher::A256CbcHs512(v5), .. }, _] = Key::v5(secret, cookie) else {
                panic!("v5 is CBC")
            };
            assert_eq!(*expected, hex(&v5), "{cookie}");
        }
    }
}
