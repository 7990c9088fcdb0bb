//! Session tokens as the web app's NextAuth makes them. Nothing here is shared with the code that reads them.

use aes::Aes256;
use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256, Sha512};
use uuid::Uuid;

use crate::now;

/// The secret of all tests, for `NEXTAUTH_SECRET`.
pub const SECRET: &str = "test-secret-not-for-production";

/// The v5 cookie of a site on HTTPS.
pub const V5_COOKIE: &str = "__Secure-authjs.session-token";

/// The v4 cookie of a site on HTTPS.
pub const V4_COOKIE: &str = "__Secure-next-auth.session-token";

/// A session, to be made into a token.
#[derive(Clone, Debug)]
pub struct Session {
    secret: String,
    user: String,
    further: Map<String, Value>,
    issued: Timestamp,
    expires: Timestamp,
}

impl Session {
    /// A session of this user, without a role, for an hour from now.
    #[must_use]
    pub fn user(id: &str) -> Self {
        let issued = now();
        let expires = issued + SignedDuration::from_hours(1);
        Self { secret: SECRET.to_owned(), user: id.to_owned(), further: Map::new(), issued, expires }
    }

    /// A session of this administrator, for an hour from now.
    #[must_use]
    pub fn admin(id: &str) -> Self {
        Self::user(id).role("admin")
    }

    /// With this role.
    #[must_use]
    pub fn role(self, role: &str) -> Self {
        self.claim("role", role)
    }

    /// With this claim, such as the `email` and `name` that NextAuth puts into its tokens.
    #[must_use]
    pub fn claim(mut self, name: &str, value: &str) -> Self {
        self.further.insert(name.to_owned(), value.into());
        self
    }

    /// Expiring at this time.
    #[must_use]
    pub fn expiring_at(self, expires: Timestamp) -> Self {
        Self { expires, ..self }
    }

    /// Sealed with this secret, in place of [`SECRET`].
    #[must_use]
    pub fn sealed_with(self, secret: &str) -> Self {
        Self { secret: secret.to_owned(), ..self }
    }

    /// The token of next-auth 4.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a key of 32 bytes fits AES-256, and the claims are short")]
    pub fn v4(&self) -> String {
        let key: [u8; 32] = self.key("", "NextAuth.js Generated Encryption Key");
        let protected = encode(json!({ "alg": "dir", "enc": "A256GCM" }).to_string());
        let iv: [u8; 12] = random();
        let claims = self.claims();
        let payload = Payload { msg: claims.as_bytes(), aad: protected.as_bytes() };
        let mut text = Aes256Gcm::new(&key.into()).encrypt(&iv.into(), payload).expect("AES-GCM");
        let tag = text.split_off(text.len() - 16);
        compact(&protected, &iv, &text, &tag)
    }

    /// The token of Auth.js 5 for the cookie of this name, such as [`V5_COOKIE`].
    #[must_use]
    #[expect(clippy::expect_used, reason = "two halves of 64 bytes fit AES-256 and HMAC")]
    pub fn v5(&self, cookie: &str) -> String {
        let key: [u8; 64] = self.key(cookie, &format!("Auth.js Generated Encryption Key ({cookie})"));
        let thumbprint = Sha512::digest(json!({ "k": encode(key), "kty": "oct" }).to_string());
        let protected = encode(json!({ "alg": "dir", "enc": "A256CBC-HS512", "kid": encode(thumbprint) }).to_string());
        let iv: [u8; 16] = random();
        let (mac_key, cipher_key) = key.split_at(32);
        let text = cbc::Encryptor::<Aes256>::new_from_slices(cipher_key, &iv)
            .expect("AES-CBC")
            .encrypt_padded_vec::<Pkcs7>(self.claims().as_bytes());
        let mut mac = <Hmac<Sha512> as KeyInit>::new_from_slice(mac_key).expect("HMAC");
        mac.update(protected.as_bytes());
        mac.update(&iv);
        mac.update(&text);
        mac.update(&(protected.len() as u64 * 8).to_be_bytes());
        compact(&protected, &iv, &text, &mac.finalize().into_bytes()[..32])
    }

    fn claims(&self) -> String {
        let mut claims = self.further.clone();
        claims.insert("sub".to_owned(), self.user.as_str().into());
        claims.insert("iat".to_owned(), self.issued.as_second().into());
        claims.insert("exp".to_owned(), self.expires.as_second().into());
        claims.insert("jti".to_owned(), Uuid::new_v4().to_string().into());
        Value::Object(claims).to_string()
    }

    #[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8160 bytes")]
    fn key<const N: usize>(&self, salt: &str, info: &str) -> [u8; N] {
        let mut key = [0; N];
        let hkdf = Hkdf::<Sha256>::new(Some(salt.as_bytes()), self.secret.as_bytes());
        hkdf.expand(info.as_bytes(), &mut key).expect("HKDF");
        key
    }
}

fn compact(protected: &str, iv: &[u8], text: &[u8], tag: &[u8]) -> String {
    format!("{protected}..{}.{}.{}", encode(iv), encode(text), encode(tag))
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Random enough for an initialisation vector in a test.
fn random<const N: usize>() -> [u8; N] {
    let bytes = Uuid::new_v4().into_bytes();
    std::array::from_fn(|at| bytes[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys that next-auth 4 and Auth.js 5 themselves derive from [`SECRET`].
    #[test]
    fn keys_are_those_of_the_libraries() {
        let session = Session::user("ana");
        let hex = |key: &[u8]| key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let v4: [u8; 32] = session.key("", "NextAuth.js Generated Encryption Key");
        assert_eq!(hex(&v4), "a7b4495dca40f27ca329e7a5bdbeb7c195a2ec234b3d04020de3b9f8a83ebdbb");
        let v5: [u8; 64] = session.key(V5_COOKIE, &format!("Auth.js Generated Encryption Key ({V5_COOKIE})"));
        assert!(hex(&v5).starts_with("4abfd429b5f78cf871cb8e032ae95d42230b6eb9fab157f3dc8a121ae509a572"));
    }

    #[test]
    fn a_token_has_the_parts_of_a_directly_encrypted_jwe() {
        for (token, iv, tag) in [(Session::user("ana").v4(), 12, 16), (Session::admin("root").v5(V5_COOKIE), 16, 32)] {
            let parts: Vec<_> = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
            let lengths: Vec<_> = parts.iter().map(Vec::len).collect();
            assert_eq!((lengths.len(), lengths[1], lengths[2], lengths[4]), (5, 0, iv, tag));
            let header: Value = serde_json::from_slice(&parts[0]).unwrap();
            assert_eq!(header["alg"], "dir");
        }
    }
}
