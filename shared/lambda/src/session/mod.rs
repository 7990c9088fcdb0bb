//! Sessions: from a request's headers to who asks.
//!
//! The platform's own clients send a NextAuth token (v4 or v5, encrypted), as cookie, as chunked cookie or as Bearer;
//! other services send a signed token as Bearer, where that is configured. The rules, in their order:
//!
//! - A session cookie decides if there is one, good or bad; only without one is `Authorization` read. So does the
//!   library, and a page cannot choose which of two sessions a request runs under.
//! - A token opens only with a key of its purpose: a v5 key belongs to one cookie's name. A Bearer token does not say
//!   which cookie it was made for, so the keys of all session cookies are tried.
//! - Five parts are an encrypted token and three a signed one; neither is ever tried as the other.
//! - Every token must say who (`sub`) and until when (`exp`). Clocks may differ by [`CLOCK_TOLERANCE_SECONDS`].
//! - With a cookie, the `Origin` must be an allowed one: see [`AuthError::ForbiddenOrigin`].
//!
//! What a refusal says is for the log. It never holds a part of the token, and the caller learns only the status.

mod claims;
mod cookies;
mod jwe;
#[cfg(test)]
mod mint;
mod origins;
mod service;
mod signatures;
#[cfg(test)]
mod tests;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};
use huntaze_domain::principal::Principal;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use jwe::Key;
use origins::Origins;

/// How far the clock of whoever made a token may differ from ours. It is what NextAuth itself allows.
pub const CLOCK_TOLERANCE_SECONDS: i64 = 15;

/// The longest token, however it came. API Gateway takes 10 KiB of headers, other front doors up to 64.
const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// Why a token was refused, for the log.
type Refusal = &'static str;

/// What sessions are checked against.
pub struct SessionConfig {
    /// NextAuth's secrets, all of which are tried. More than one while they are being rotated.
    pub secrets: Vec<String>,
    /// The claim with the role. NextAuth has none of its own: the application's `jwt` callback adds it.
    pub role_claim: String,
    /// Other services' signed tokens; `None` refuses them all.
    pub service: Option<ServiceTokens>,
    /// The sites that may use a session cookie, each `scheme://host[:port]`.
    pub allowed_origins: Vec<String>,
}

/// What signed tokens are checked against. At least one key is needed.
pub struct ServiceTokens {
    /// The shared secret of HS256, 32 bytes or more.
    pub hs256_secret: Option<String>,
    /// The RSA public key of RS256 in PEM form, 2048 bits or more.
    pub rs256_public_key_pem: Option<String>,
    /// What `iss` must be.
    pub issuer: String,
    /// What `aud` must be or contain.
    pub audience: String,
}

/// A session configuration that cannot work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct SessionConfigError {
    /// The field of [`SessionConfig`] that is wrong.
    pub field: &'static str,
    /// What is wrong with it, without its value.
    pub problem: &'static str,
}

/// Why a request has no principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is no session, or not a good one: 401. The reason is for the log.
    #[error("unauthenticated: {0}")]
    Unauthenticated(&'static str),
    /// The session cookie is good, but another site's page may have sent it: 403.
    #[error("the session cookie was sent from an origin that is not allowed")]
    ForbiddenOrigin,
}

/// What a NextAuth key is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    V4,
    V5,
    V5Secure,
}

/// Checks sessions. Its keys are derived once, so make one an environment.
pub struct Sessions {
    keys: Vec<(Purpose, Key)>,
    role_claim: String,
    service: Option<service::Verifier>,
    origins: Origins,
}

impl Sessions {
    /// Derives the keys.
    ///
    /// # Errors
    /// [`SessionConfigError`] names the field that cannot work.
    pub fn new(config: SessionConfig) -> Result<Self, SessionConfigError> {
        let SessionConfig { secrets, role_claim, service, allowed_origins } = config;
        if secrets.is_empty() {
            return Err(SessionConfigError { field: "secrets", problem: "must not be empty" });
        }
        if secrets.iter().any(|secret| secret.trim().is_empty()) {
            return Err(SessionConfigError { field: "secrets", problem: "must not have a blank one" });
        }
        if role_claim.is_empty() {
            return Err(SessionConfigError { field: "role_claim", problem: "must not be empty" });
        }
        let mut keys = Vec::new();
        for secret in &secrets {
            keys.push((Purpose::V4, Key::v4(secret)));
            keys.extend(Key::v5(secret, "authjs.session-token").map(|key| (Purpose::V5, key)));
            keys.extend(Key::v5(secret, "__Secure-authjs.session-token").map(|key| (Purpose::V5Secure, key)));
        }
        let service = service.map(service::Verifier::new).transpose()?;
        Ok(Self { keys, role_claim, service, origins: Origins::new(&allowed_origins)? })
    }

    /// Says who sent the request with these headers.
    ///
    /// # Errors
    /// [`AuthError::Unauthenticated`] without a good session, and [`AuthError::ForbiddenOrigin`] if the session is in
    /// a cookie and `Origin` is not allowed, or a method other than GET, HEAD and OPTIONS has neither an allowed
    /// `Origin` nor an allowed `Referer`.
    pub fn authenticate(&self, method: &Method, headers: &HeaderMap, now: Timestamp) -> Result<Principal, AuthError> {
        if let Some((purpose, token)) = cookies::session_token(headers).map_err(AuthError::Unauthenticated)? {
            let keys = self.keys.iter().filter(|(of, _)| *of == purpose);
            let claims = open(&token, keys).map_err(AuthError::Unauthenticated)?;
            let principal = self.principal(&claims, now)?;
            return if self.origins.permit(method, headers) { Ok(principal) } else { Err(AuthError::ForbiddenOrigin) };
        }
        let token = bearer(headers).map_err(AuthError::Unauthenticated)?;
        let claims = match &self.service {
            Some(service) if token.splitn(4, '.').count() == 3 => service.verify(&token),
            _ => open(&token, &self.keys),
        };
        self.principal(&claims.map_err(AuthError::Unauthenticated)?, now)
    }

    fn principal(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<Principal, AuthError> {
        claims::principal(claims, &self.role_claim, now).map_err(AuthError::Unauthenticated)
    }
}

/// The claims of a NextAuth token.
fn open<'k>(token: &str, keys: impl IntoIterator<Item = &'k (Purpose, Key)>) -> Result<Map<String, Value>, Refusal> {
    let text = jwe::decrypt(token, keys.into_iter().map(|(_, key)| key))?;
    serde_json::from_slice(&text).map_err(|_| "the token's claims are no JSON object")
}

/// The token of `Authorization: Bearer`. The library percent-decodes it; what is not well encoded keeps a `%`, which
/// no token has.
fn bearer(headers: &HeaderMap) -> Result<String, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or("there is neither a session cookie nor Authorization")?;
    if values.next().is_some() {
        return Err("Authorization is there twice");
    }
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err("Authorization is no Bearer token");
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err("the Bearer token is too long");
    }
    let token = percent_decode_str(token.trim_matches(' ')).decode_utf8();
    token.map(Into::into).map_err(|_| "the Bearer token is no text")
}
