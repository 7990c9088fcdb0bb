//! Makes NextAuth tokens, for tests. It shares nothing with the code that reads them.

use aes::Aes256;
use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};

/// A token as next-auth 4 makes it.
pub(super) fn v4(secret: &str, claims: &Value) -> String {
    gcm(&key(secret, "", "NextAuth.js Generated Encryption Key"), &json!({"alg": "dir", "enc": "A256GCM"}), claims)
}

/// A token as Auth.js 5 makes it for the cookie of this name.
pub(super) fn v5(secret: &str, cookie: &str, claims: &Value) -> String {
    let key: [u8; 64] = v5_key(secret, cookie);
    let jwk = json!({"k": URL_SAFE_NO_PAD.encode(key), "kty": "oct"}).to_string();
    let kid = URL_SAFE_NO_PAD.encode(Sha512::digest(jwk));
    cbc(&key, &json!({"alg": "dir", "enc": "A256CBC-HS512", "kid": kid}), claims)
}

/// The key of an Auth.js 5 token: 64 bytes, or 32 for A256GCM.
pub(super) fn v5_key<const N: usize>(secret: &str, cookie: &str) -> [u8; N] {
    key(secret, cookie, &format!("Auth.js Generated Encryption Key ({cookie})"))
}

/// A key as both versions derive it.
pub(super) fn key<const N: usize>(secret: &str, salt: &str, info: &str) -> [u8; N] {
    let mut key = [0; N];
    Hkdf::<Sha256>::new(Some(salt.as_bytes()), secret.as_bytes()).expand(info.as_bytes(), &mut key).unwrap();
    key
}

/// An A256GCM token with any header and content.
pub(super) fn gcm(key: &[u8; 32], header: &Value, content: &Value) -> String {
    let (protected, iv) = (encode(header.to_string()), iv::<12>(content));
    let mut text = content.to_string().into_bytes();
    let tag = Aes256Gcm::new(key.into())
        .encrypt_inout_detached(&iv.into(), protected.as_bytes(), text.as_mut_slice().into())
        .unwrap();
    [protected, String::new(), encode(iv), encode(text), encode(tag)].join(".")
}

/// An A256CBC-HS512 token with any header and content.
pub(super) fn cbc(key: &[u8; 64], header: &Value, content: &Value) -> String {
    let (protected, iv) = (encode(header.to_string()), iv::<16>(content));
    let (mac_key, cipher_key) = key.split_at(32);
    let text = cbc::Encryptor::<Aes256>::new_from_slices(cipher_key, &iv)
        .unwrap()
        .encrypt_padded_vec::<Pkcs7>(content.to_string().as_bytes());
    let mut mac = <Hmac<Sha512> as KeyInit>::new_from_slice(mac_key).unwrap();
    let bits = u64::try_from(protected.len() * 8).unwrap().to_be_bytes();
    for part in [protected.as_bytes(), &iv, &text, &bits] {
        mac.update(part);
    }
    let tag = &mac.finalize().into_bytes()[..32];
    [protected, String::new(), encode(iv), encode(text), encode(tag)].join(".")
}

/// Different for different contents, and the same in every run.
fn iv<const N: usize>(content: &Value) -> [u8; N] {
    *Sha256::digest(content.to_string()).first_chunk().unwrap()
}

pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
