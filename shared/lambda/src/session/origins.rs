//! Which sites may use a session cookie. A browser sends the cookie whoever asks, and says who asked.

use http::header::{AsHeaderName, ORIGIN, REFERER};
use http::{HeaderMap, Method, Uri};

use super::SessionConfigError;

/// The allowed origins, as browsers write them: `scheme://host[:port]` in lower case.
pub(super) struct Origins(Vec<String>);

impl Origins {
    pub(super) fn new(origins: &[String]) -> Result<Self, SessionConfigError> {
        let origins = origins.iter().map(|text| {
            // What differs from its own origin has a path, or is no URL at all.
            origin_of(text).filter(|origin| origin.eq_ignore_ascii_case(text)).ok_or(SessionConfigError {
                field: "allowed_origins",
                problem: "must be origins: http or https, a host, perhaps a port, and nothing after it",
            })
        });
        origins.collect::<Result<_, _>>().map(Self)
    }

    /// Whether a request with a session cookie may be answered. A browser leaves `Origin` out of a same-origin read
    /// and of a navigation; a change without it must at least have come from a page of an allowed origin.
    pub(super) fn permit(&self, method: &Method, headers: &HeaderMap) -> bool {
        if headers.contains_key(ORIGIN) {
            return single(headers, ORIGIN).is_some_and(|origin| self.lists(origin));
        }
        let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
        reads || single(headers, REFERER).and_then(origin_of).is_some_and(|origin| self.lists(&origin))
    }

    fn lists(&self, origin: &str) -> bool {
        self.0.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
    }
}

/// A header that is there exactly once, as text.
fn single(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// The origin of an http or https URL, in lower case.
fn origin_of(url: &str) -> Option<String> {
    let url: Uri = url.parse().ok()?;
    let scheme = url.scheme_str().filter(|scheme| ["http", "https"].contains(scheme))?;
    let authority = url.authority().filter(|authority| !authority.host().is_empty())?.as_str();
    // A user name before the host would let a reader of the list take one for the other.
    (!authority.contains('@')).then(|| format!("{scheme}://{authority}").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn permits(method: Method, headers: &[(&'static str, &'static str)]) -> bool {
        let allowed = ["https://app.huntaze.com", "HTTPS://Admin.Huntaze.com", "http://localhost:3000"];
        let origins = Origins::new(&allowed.map(str::to_owned)).ok().unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        origins.permit(&method, &map)
    }

    #[test]
    fn an_origin_must_be_in_the_list_whatever_the_method() {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::POST, Method::PUT, Method::DELETE] {
            for (origin, allowed) in [
                ("https://app.huntaze.com", true),
                ("HTTPS://APP.huntaze.COM", true),
                ("https://admin.huntaze.com", true),
                ("http://localhost:3000", true),
                ("http://app.huntaze.com", false),
                ("https://app.huntaze.com:8443", false),
                ("https://app.huntaze.com/", false),
                ("https://app.huntaze.com.evil.example", false),
                ("https://evil.example?https://app.huntaze.com", false),
                ("https://huntaze.com", false),
                ("http://localhost", false),
                ("null", false),
                ("", false),
            ] {
                assert_eq!(permits(method.clone(), &[("origin", origin)]), allowed, "{method} {origin}");
            }
        }
    }

    #[test]
    fn a_change_without_origin_needs_an_allowed_referer() {
        for (referer, allowed) in [
            ("https://app.huntaze.com/campaigns?x=1", true),
            ("https://app.huntaze.com", true),
            ("http://localhost:3000/", true),
            ("https://app.huntaze.com@evil.example/", false),
            ("https://evil.example/https://app.huntaze.com/", false),
            ("https://app.huntaze.com.evil.example/", false),
            ("/campaigns", false),
            ("about:blank", false),
            ("", false),
        ] {
            for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                assert_eq!(permits(method.clone(), &[("referer", referer)]), allowed, "{method} {referer}");
            }
            assert!(permits(Method::GET, &[("referer", referer)]), "a read needs none: {referer}");
        }
        assert!(!permits(Method::POST, &[]));
        assert!(permits(Method::GET, &[]));
    }

    #[test]
    fn a_good_referer_does_not_mend_a_bad_origin() {
        let referer = ("referer", "https://app.huntaze.com/");
        assert!(!permits(Method::POST, &[("origin", "https://evil.example"), referer]));
        assert!(!permits(Method::POST, &[("origin", "null"), referer]));
    }

    #[test]
    fn a_header_that_is_there_twice_is_refused() {
        let origin = ("origin", "https://app.huntaze.com");
        assert!(!permits(Method::GET, &[origin, origin]));
        assert!(!permits(
            Method::POST,
            &[("referer", "https://app.huntaze.com/"), ("referer", "https://evil.example")]
        ));
    }

    #[test]
    fn the_list_takes_origins_only() {
        for bad in [
            "",
            "*",
            "null",
            "app.huntaze.com",
            "https://",
            "https://a.example/",
            "https://a.example/x",
            "ftp://a.example",
            "https://u@a.example",
            "https://*.example/",
        ] {
            let fault = Origins::new(&[bad.to_owned()]).err().unwrap();
            assert_eq!(fault.field, "allowed_origins", "{bad}");
        }
    }
}
