//! An account's session with the platform: what signs its calls in. Whoever has it is the creator, so it is kept encrypted
//! ([`Sessions`]) and is in no log, error or `Debug`.

mod seal;
mod store;

use std::collections::BTreeMap;
use std::fmt;

use huntaze_domain::error::FieldFault;
use huntaze_domain::ids::MAX_ID_BYTES;
use reqwest::header::{COOKIE, HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

pub use self::store::{SessionError, Sessions};

/// The longest cookie, in bytes: what servers take of one header.
pub const MAX_COOKIE_BYTES: usize = 8 * 1024;
/// The longest value of another header, in bytes.
pub const MAX_HEADER_BYTES: usize = 4 * 1024;
/// The most headers beside the cookie.
pub const MAX_HEADERS: usize = 24;
/// Cookie and headers together, in bytes. More is refused by most servers.
pub const MAX_SESSION_BYTES: usize = 16 * 1024;
/// The longest user agent, in bytes.
pub const MAX_USER_AGENT_BYTES: usize = 512;

/// Headers that are the call's own, the connection's, or the network's: no session sets them.
const NOT_OF_A_SESSION: [&str; 24] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "keep-alive",
    "range",
    "te",
    "traceparent",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-real-ip",
    "x-request-id",
];
/// The same, by how they begin.
const NOT_OF_A_SESSION_FROM: [&str; 3] = ["proxy-", "x-amz", "x-forwarded-"];

/// A session as texts: what a person hands over.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionParts {
    /// The account's user id on the platform: whom its messages are from.
    pub platform_user_id: String,
    /// The browser that the session was opened with, where it has to stay the same.
    pub user_agent: Option<String>,
    /// The value of the header `Cookie`.
    pub cookie: String,
    /// Headers beside it, by their names.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// A session that can be sent: every header is one that HTTP can carry and that a session may set.
#[derive(Clone, PartialEq, Eq)]
pub struct Session {
    platform_user_id: String,
    user_agent: Option<HeaderValue>,
    secret: Secret,
    /// The cookie and the headers of `secret`.
    headers: HeaderMap,
}

/// What is sealed of a session.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Secret {
    cookie: String,
    headers: BTreeMap<String, String>,
}

impl Session {
    /// Takes a session from outside.
    ///
    /// # Errors
    /// Its faults, by their JSON pointers in the session. No value is repeated.
    pub fn from_parts(parts: SessionParts) -> Result<Self, Vec<FieldFault>> {
        let SessionParts { platform_user_id, user_agent, cookie, headers } = parts;
        let mut faults = Faults::default();
        let is_id = (1..=MAX_ID_BYTES).contains(&platform_user_id.len());
        if !is_id || !platform_user_id.bytes().all(|b| b.is_ascii_graphic()) {
            faults.add(
                "/platformUserId",
                format!("must be 1 to {MAX_ID_BYTES} printable ASCII characters without spaces"),
            );
        }
        let user_agent = user_agent.map(|text| faults.value("/userAgent", &text, MAX_USER_AGENT_BYTES));
        let mut typed = HeaderMap::new();
        typed.insert(COOKIE, secret(faults.value("/cookie", &cookie, MAX_COOKIE_BYTES)));
        if headers.len() > MAX_HEADERS {
            faults.add("/headers", format!("must be at most {MAX_HEADERS}"));
        }
        for (name, value) in headers.iter().take(MAX_HEADERS) {
            let Some(header) = faults.name(name) else { continue };
            let value = faults.value(&pointer(name), value, MAX_HEADER_BYTES);
            if typed.insert(header, secret(value)).is_some() {
                faults.add(&pointer(name), "is named twice".to_owned());
            }
        }
        let bytes: usize = typed.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if bytes > MAX_SESSION_BYTES {
            faults.add("", format!("must be at most {MAX_SESSION_BYTES} bytes together"));
        }
        let secret = Secret { cookie, headers };
        if faults.0.is_empty() {
            Ok(Self { platform_user_id, user_agent, secret, headers: typed })
        } else {
            Err(faults.0)
        }
    }

    /// The account's user id on the platform.
    #[must_use]
    pub fn platform_user_id(&self) -> &str {
        &self.platform_user_id
    }

    /// The browser that it was opened with, where it has to stay the same.
    pub(crate) fn user_agent(&self) -> Option<&HeaderValue> {
        self.user_agent.as_ref()
    }

    /// The headers that sign a call in; their values are marked as secret.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

/// Nothing of it.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// Nothing of it.
impl fmt::Debug for SessionParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionParts").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Faults(Vec<FieldFault>);

impl Faults {
    fn add(&mut self, pointer: &str, detail: String) {
        self.0.push(FieldFault { pointer: pointer.to_owned(), detail });
    }

    /// A header's value. A carriage return or a line feed is no part of one, so nothing can end the header.
    fn value(&mut self, pointer: &str, text: &str, most: usize) -> HeaderValue {
        let fits =
            (1..=most).contains(&text.len()) && text.trim() == text && text.bytes().all(|b| (b' '..=b'~').contains(&b));
        HeaderValue::from_str(text).ok().filter(|_| fits).unwrap_or_else(|| {
            self.add(pointer, format!("must be 1 to {most} printable ASCII characters without spaces around them"));
            HeaderValue::from_static("")
        })
    }

    fn name(&mut self, name: &str) -> Option<HeaderName> {
        let header = HeaderName::try_from(name).ok().filter(|_| name.len() <= 64);
        let Some(header) = header else {
            self.add("/headers", "has a name that is none of a header, or is longer than 64 characters".to_owned());
            return None;
        };
        let begins = |start: &&str| header.as_str().starts_with(start);
        if NOT_OF_A_SESSION.contains(&header.as_str()) || NOT_OF_A_SESSION_FROM.iter().any(begins) {
            self.add(&pointer(name), "is not a header that a session sets".to_owned());
            return None;
        }
        Some(header)
    }
}

/// Where a header stands. A header's name has no slash.
fn pointer(name: &str) -> String {
    format!("/headers/{}", name.replace('~', "~0"))
}

fn secret(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(headers: &[(&str, &str)]) -> SessionParts {
        SessionParts {
            platform_user_id: "12345".to_owned(),
            user_agent: Some("Browser/1.0".to_owned()),
            cookie: "sess=s3cret; auth_id=12345".to_owned(),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    fn faults(parts: SessionParts) -> Vec<String> {
        let faults = Session::from_parts(parts).unwrap_err();
        assert!(faults.iter().all(|fault| !fault.detail.contains("s3cret")), "{faults:?}");
        faults.into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn a_session_is_its_cookie_and_its_headers() {
        let session = Session::from_parts(parts(&[("X-BC", "abc"), ("app-token", "t")])).unwrap();
        assert_eq!((session.platform_user_id(), session.headers().len()), ("12345", 3));
        assert_eq!(
            (&session.headers()["cookie"], &session.headers()["x-bc"]),
            (&HeaderValue::from_static("sess=s3cret; auth_id=12345"), &HeaderValue::from_static("abc"),)
        );
    }

    #[test]
    fn no_session_sets_a_header_that_is_not_its_own() {
        for name in
            ["Host", "content-length", "Transfer-Encoding", "Idempotency-Key", "X-Request-Id", "Cookie", "Connection"]
                .into_iter()
                .chain(["User-Agent", "Proxy-Authorization", "X-Forwarded-For", "x-amz-security-token"])
        {
            assert_eq!(faults(parts(&[(name, "x")])), [format!("/headers/{name}")]);
        }
        assert_eq!(faults(parts(&[("x-bc", "1"), ("X-BC", "2")])), ["/headers/x-bc"]);
        for name in ["", "a b", "a:b", "a\r\nb", "ä"] {
            assert_eq!(faults(parts(&[(name, "x")])), ["/headers"], "{name:?}");
        }
    }

    #[test]
    fn no_value_ends_its_header() {
        for bad in ["a\r\nX-Other: 1", "a\nb", "a\0", "", " a", "a ", "é"] {
            assert_eq!(faults(parts(&[("x-bc", bad)])), ["/headers/x-bc"], "{bad:?}");
            assert_eq!(faults(SessionParts { cookie: bad.to_owned(), ..parts(&[]) }), ["/cookie"]);
            assert_eq!(faults(SessionParts { user_agent: Some(bad.to_owned()), ..parts(&[]) }), ["/userAgent"]);
        }
    }

    #[test]
    fn every_fault_is_named_and_everything_is_bounded() {
        let long = |bytes: usize| "x".repeat(bytes);
        let many: BTreeMap<_, _> = (0..=MAX_HEADERS).map(|n| (format!("x-{n}"), "v".to_owned())).collect();
        assert_eq!(faults(SessionParts { headers: many, ..parts(&[]) }), ["/headers"]);
        let large: BTreeMap<_, _> = (0..4).map(|n| (format!("x-{n}"), long(MAX_HEADER_BYTES))).collect();
        assert_eq!(faults(SessionParts { headers: large, ..parts(&[]) }), [""]);
        let all = SessionParts {
            platform_user_id: "a b".to_owned(),
            user_agent: Some(long(MAX_USER_AGENT_BYTES + 1)),
            cookie: long(MAX_COOKIE_BYTES + 1),
            headers: [("x-bc".to_owned(), long(MAX_HEADER_BYTES + 1))].into(),
        };
        assert_eq!(faults(all), ["/platformUserId", "/userAgent", "/cookie", "/headers/x-bc"]);
    }

    #[test]
    fn nothing_of_a_session_is_in_what_is_printed_of_it() {
        let parts = parts(&[("x-bc", "s3cret")]);
        let session = Session::from_parts(parts.clone()).unwrap();
        let printed = format!("{parts:?} {session:?} {:?}", session.headers());
        assert!(!printed.contains("s3cret") && !printed.contains("12345"), "{printed}");
    }
}
