//! What the code should answer, said another way: without cryptography, and from the rules in the session module's own words.
//!
//! A token is good if it is, byte for byte, one that was made here. So whatever else opens, a bent tag, another encoding of the
//! same bytes, another place, is a difference that the fuzzer finds.

use std::collections::BTreeMap;

use http::header::{AUTHORIZATION, COOKIE, ORIGIN, REFERER};
use http::{HeaderMap, HeaderValue, Method};
use huntaze_domain::ids::UserId;
use huntaze_domain::principal::{Attributes, Principal, Role};
use jiff::Timestamp;
use percent_encoding::percent_decode;
use serde_json::{Map, Value};

use super::tokens::{self, Good, NOW, Token};

/// The session cookies, the deciding one first.
pub(super) const COOKIES: [&str; 4] = [
    "__Secure-authjs.session-token",
    "__Secure-next-auth.session-token",
    "authjs.session-token",
    "next-auth.session-token",
];

const TOLERANCE_SECONDS: i64 = 15;
const MAX_TOKEN_BYTES: usize = 65_536;
const MAX_CHUNKS: usize = 16;

/// Why nobody is let in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No good session.
    Session,
    /// A good session from another site.
    Origin,
}

impl Refusal {
    pub(super) fn is_of_origin(&self) -> bool {
        *self == Self::Origin
    }
}

/// What the code should answer.
pub(super) struct Verdict {
    pub(super) expected: Result<Principal, Refusal>,
    /// Whether only this is right. If not, the code may refuse what it finds odd.
    pub(super) certain: bool,
}

pub(super) fn verdict(method: &Method, headers: &HeaderMap, minted: &[Token]) -> Verdict {
    let refused = Verdict { expected: Err(Refusal::Session), certain: true };
    let Ok(cookie) = session_cookie(headers) else { return refused };
    let found = match &cookie {
        Some((name, text)) => good(text, minted).filter(|good| good.cookies.contains(name)),
        None => bearer(headers).and_then(|text| good(&text, minted)),
    };
    let Some((good, principal)) = found.and_then(|good| Some((good, principal(&good.claims)?))) else { return refused };
    let (permitted, certain) = if cookie.is_some() { from_an_allowed_site(method, headers) } else { (true, true) };
    let expected = if permitted { Ok(principal) } else { Err(Refusal::Origin) };
    Verdict { expected, certain: certain && good.certain }
}

fn good<'t>(text: &[u8], minted: &'t [Token]) -> Option<&'t Good> {
    let token = tokens::all().iter().chain(minted).find(|token| token.good.is_some() && token.text.as_bytes() == text);
    token.and_then(|token| token.good.as_ref())
}

/// The cookie that decides, and its token put together. What can be read in two ways is an error.
fn session_cookie(headers: &HeaderMap) -> Result<Option<(&'static str, Vec<u8>)>, ()> {
    for name in COOKIES {
        // By what is behind the name: nothing, or a dot and digits.
        let mut parts = BTreeMap::new();
        for header in headers.get_all(COOKIE) {
            for cookie in header.as_bytes().split(|byte| *byte == b';') {
                let Some((suffix, value)) = session_part(cookie, name) else { continue };
                if parts.insert(suffix, value).is_some() {
                    return Err(());
                }
            }
        }
        if parts.is_empty() {
            continue;
        }
        let token = match parts.get(&b""[..]) {
            Some(whole) if parts.len() == 1 => whole.to_vec(),
            Some(_) => return Err(()),
            None => {
                let chunks = (0..parts.len()).map(|number| parts.get(format!(".{number}").as_bytes()).copied());
                chunks.collect::<Option<Vec<_>>>().ok_or(())?.concat()
            }
        };
        let sound = parts.len() <= MAX_CHUNKS && token.len() <= MAX_TOKEN_BYTES && str::from_utf8(&token).is_ok();
        return if sound { Ok(Some((name, token))) } else { Err(()) };
    }
    Ok(None)
}

/// What is behind `name` in a cookie's own name, and the cookie's value. `None` for another cookie, and for one without a value.
fn session_part<'c>(cookie: &'c [u8], name: &str) -> Option<(&'c [u8], &'c [u8])> {
    let equals = cookie.iter().position(|byte| *byte == b'=')?;
    let suffix = cookie[..equals].trim_ascii().strip_prefix(name.as_bytes())?;
    let ours = suffix.is_empty() || (suffix[0] == b'.' && suffix[1..].iter().all(u8::is_ascii_digit));
    let value = match cookie[equals + 1..].trim_ascii() {
        [b'"', quoted @ .., b'"'] => quoted,
        plain => plain,
    };
    (ours && !value.is_empty()).then_some((suffix, value))
}

/// The token of the one `Authorization`, percent-decoded.
fn bearer(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = single(headers.get_all(AUTHORIZATION))?.as_bytes();
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, token) = (&value[..space], &value[space + 1..]);
    if !scheme.eq_ignore_ascii_case(b"bearer") || token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    Some(percent_decode(str::from_utf8(token).ok()?.trim_matches(' ').as_bytes()).collect())
}

fn single<'h>(values: http::header::GetAll<'h, HeaderValue>) -> Option<&'h HeaderValue> {
    let mut values = values.iter();
    values.next().filter(|_| values.next().is_none())
}

/// Who the claims name, if their time has come and has not passed.
fn principal(claims: &Map<String, Value>) -> Option<Principal> {
    // In whole seconds. What is too large for a float's digits is far from today.
    let time = |name: &str| claims.get(name).map(|value| value.as_f64().map(f64::trunc));
    let (earliest, latest) = ((NOW - TOLERANCE_SECONDS) as f64, (NOW + TOLERANCE_SECONDS) as f64);
    if time("exp")?? <= earliest {
        return None;
    }
    for name in ["nbf", "iat"] {
        if let Some(time) = time(name)
            && time? > latest
        {
            return None;
        }
    }
    let user_id = UserId::parse(claims.get("sub")?.as_str()?).ok()?;
    let roles = match claims.get("role") {
        Some(Value::Array(roles)) => roles.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(role)) => vec![role.as_str()],
        _ => vec![],
    };
    let is = |name: &str| roles.iter().any(|role| role.eq_ignore_ascii_case(name));
    let role = match () {
        () if is("super_admin") => Role::SuperAdmin,
        () if is("admin") => Role::Admin,
        () if is("creator") => Role::Creator,
        () => Role::User,
    };
    let known = |name: &str| {
        let text = claims.get(name)?.as_str()?;
        (!text.is_empty() && text.chars().count() < 65 && text.bytes().all(|byte| byte != 0)).then(|| text.to_owned())
    };
    let created_at = match claims.get("createdAt") {
        Some(Value::String(text)) => text.parse().ok(),
        Some(Value::Number(seconds)) => seconds.as_i64().and_then(|seconds| Timestamp::from_second(seconds).ok()),
        _ => None,
    };
    let attributes = Attributes { tier: known("tier"), region: known("region"), created_at };
    Some(Principal { user_id, role, attributes })
}

/// Whether a cookie may be used, and whether that is certain: a page's address may be one that the code cannot read.
fn from_an_allowed_site(method: &Method, headers: &HeaderMap) -> (bool, bool) {
    let listed = |origin: &[u8]| super::ORIGINS.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin));
    if headers.contains_key(ORIGIN) {
        return (single(headers.get_all(ORIGIN)).is_some_and(|origin| listed(origin.as_bytes())), true);
    }
    if ["GET", "HEAD", "OPTIONS"].contains(&method.as_str()) {
        return (true, true);
    }
    let Some(page) = single(headers.get_all(REFERER)).map(HeaderValue::as_bytes) else { return (false, true) };
    // `scheme://host`, up to what begins a path.
    let scheme = page.windows(3).position(|three| three == b"://").map_or(0, |at| at + 3);
    let end = page[scheme..].iter().position(|byte| b"/?#".contains(byte)).map_or(page.len(), |at| scheme + at);
    let plain = page.iter().all(|byte| byte.is_ascii_alphanumeric() || b"/:.-_?=&".contains(byte));
    (listed(&page[..end]), plain)
}
