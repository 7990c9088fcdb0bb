//! Finding the session token among the cookies.

use http::HeaderMap;
use http::header::COOKIE;

use super::{MAX_TOKEN_BYTES, Purpose, Refusal};

/// A cookie holds 4096 bytes, so the libraries cut a longer token into `NAME.0`, `NAME.1`, ….
const MAX_CHUNKS: usize = 16;

/// The session cookies in the order in which they are looked for: the first that is there decides. Another site on a
/// sibling domain can set a plain cookie but not a `__Secure-` one, so that comes first; then the newer version.
const SESSION_COOKIES: [(&str, Purpose); 4] = [
    ("__Secure-authjs.session-token", Purpose::V5Secure),
    ("__Secure-next-auth.session-token", Purpose::V4),
    ("authjs.session-token", Purpose::V5),
    ("next-auth.session-token", Purpose::V4),
];

/// The session token in the cookies and what it may be for, or `None` where there is no session cookie.
pub(super) fn session_token(headers: &HeaderMap) -> Result<Option<(Purpose, String)>, Refusal> {
    for (name, purpose) in SESSION_COOKIES {
        if let Some(token) = assemble(name, headers)? {
            return Ok(Some((purpose, token)));
        }
    }
    Ok(None)
}

/// The value of one cookie, whole or joined from its chunks. What can be read in two ways is refused.
fn assemble(name: &str, headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut whole = None;
    let mut chunks = [None; MAX_CHUNKS];
    for (cookie, value) in pairs(headers) {
        let slot = match cookie.strip_prefix(name.as_bytes()) {
            Some([]) => &mut whole,
            Some([b'.', suffix @ ..]) if suffix.iter().all(u8::is_ascii_digit) => {
                let place = chunk_number(suffix).and_then(|number| chunks.get_mut(number));
                place.ok_or("the session cookie has a chunk that cannot be")?
            }
            _ => continue,
        };
        if slot.replace(value).is_some() {
            return Err("the session cookie is there twice");
        }
    }
    let count = chunks.iter().flatten().count();
    let parts: Vec<&[u8]> = match whole {
        Some(_) if count > 0 => return Err("the session cookie is there whole and in chunks"),
        Some(value) => vec![value],
        None => chunks.iter().map_while(|chunk| *chunk).collect(),
    };
    if parts.len() < count {
        return Err("the session cookie lacks a chunk");
    }
    if parts.iter().map(|part| part.len()).sum::<usize>() > MAX_TOKEN_BYTES {
        return Err("the session cookie is too long");
    }
    match String::from_utf8(parts.concat()) {
        Ok(token) if token.is_empty() => Ok(None),
        Ok(token) => Ok(Some(token)),
        Err(_) => Err("the session cookie is no text"),
    }
}

/// A chunk's number, written as the libraries write it.
fn chunk_number(suffix: &[u8]) -> Option<usize> {
    let text = str::from_utf8(suffix).ok()?;
    let number: usize = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// All cookies of all `Cookie` headers (HTTP/2 may split them). As bytes: another application's cookie need not be
/// text. One without a value is as good as not there: that is how the libraries clear a cookie.
fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    let cookies = headers.get_all(COOKIE).iter().flat_map(|header| header.as_bytes().split(|byte| *byte == b';'));
    cookies.filter_map(|cookie| {
        let equals = cookie.iter().position(|byte| *byte == b'=')?;
        let value = cookie[equals + 1..].trim_ascii();
        let value = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value);
        (!value.is_empty()).then(|| (cookie[..equals].trim_ascii(), value))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn found(cookies: &[&[u8]]) -> Result<Option<String>, Refusal> {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(COOKIE, HeaderValue::from_bytes(cookie).unwrap());
        }
        session_token(&headers).map(|found| found.map(|(_, token)| token))
    }

    #[test]
    fn a_session_cookie_is_found_among_others() {
        for cookies in [
            &["authjs.session-token=abc".as_bytes()][..],
            &[b"theme=dark;authjs.session-token=abc ; lang=fr"],
            &[b"theme=dark", b"authjs.session-token=abc"],
            &[b"authjs.session-token=\"abc\""],
            &[b"name=\xc3\xa9\xff; authjs.session-token=abc"],
            &[b"broken; =; ;; authjs.session-token=abc"],
            &[b"authjs.session-token=abc; authjs.session-token.callback=x; authjs.session-tokens=y"],
            &[b"authjs.session-token.0=; authjs.session-token=abc"],
            &[b"authjs.session-token.2=c; authjs.session-token.0=a", b"authjs.session-token.1=b"],
        ] {
            assert_eq!(found(cookies), Ok(Some("abc".to_owned())), "{cookies:?}");
        }
    }

    #[test]
    fn chunks_are_joined_by_number_and_not_by_text() {
        let cookies: Vec<String> = (0..MAX_CHUNKS).rev().map(|n| format!("authjs.session-token.{n}=<{n}>")).collect();
        let joined: String = (0..MAX_CHUNKS).map(|n| format!("<{n}>")).collect();
        assert_eq!(found(&[cookies.join("; ").as_bytes()]), Ok(Some(joined)));
    }

    #[test]
    fn no_session_cookie_is_no_error() {
        for cookies in
            [&[][..], &[b"".as_slice()], &[b"theme=dark"], &[b"authjs.session-token="], &[b"AUTHJS.session-token=abc"]]
        {
            assert_eq!(found(cookies), Ok(None), "{cookies:?}");
        }
    }

    #[test]
    fn a_cookie_that_can_be_read_in_two_ways_is_refused() {
        for cookies in [
            "authjs.session-token=a; authjs.session-token=b",
            "authjs.session-token=a; authjs.session-token.0=a",
            "authjs.session-token.0=a; authjs.session-token.0=a",
            "authjs.session-token.1=b",
            "authjs.session-token.0=a; authjs.session-token.2=c",
            "authjs.session-token.0=a; authjs.session-token.16=b",
            "authjs.session-token.0=a; authjs.session-token.01=b",
            "authjs.session-token.0=a; authjs.session-token.=b",
            "authjs.session-token.0=a; authjs.session-token.99999999999999999999999=b",
        ] {
            assert!(found(&[cookies.as_bytes()]).is_err(), "{cookies}");
        }
        assert!(found(&[b"authjs.session-token=\xff"]).is_err());
    }

    #[test]
    fn a_token_is_bounded_however_it_is_cut() {
        let chunks = |length: usize| {
            let value = "x".repeat(length);
            (0..MAX_CHUNKS).map(|n| format!("authjs.session-token.{n}={value}")).collect::<Vec<_>>().join("; ")
        };
        let limit = MAX_TOKEN_BYTES / MAX_CHUNKS;
        assert!(found(&[chunks(limit).as_bytes()]).is_ok());
        assert!(found(&[chunks(limit + 1).as_bytes()]).is_err());
    }

    #[test]
    fn the_cookie_that_is_harder_to_set_decides() {
        let all = "next-auth.session-token=1; authjs.session-token=2; __Secure-next-auth.session-token=3; \
                   __Secure-authjs.session-token=4";
        assert_eq!(found(&[all.as_bytes()]), Ok(Some("4".to_owned())));
    }
}
