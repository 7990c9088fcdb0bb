//! The system before this one, which goes on serving whom no rollout has taken in: a request is passed on to it as it came, and its answer
//! as it answered.
//!
//! "As it came" is what RFC 9110 (7.6) asks of an intermediary: method, path, query, body and end-to-end headers unchanged, those of one
//! connection left out, and `Via` to notice a request that comes back. A call is made once, on a connection of its own: a kept one that
//! the other side is just closing loses a request of which nobody knows whether it was done.

use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use huntaze_domain::env::Env;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use tokio::time::{Instant, timeout_at};

/// Opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The old system's own patience: that of the gateway before it.
const TIMEOUT_MS: u64 = 28_000;
/// An answer has 6 MB on its way out, as JSON: binary ones a third more than they are, texts up to twice.
const MOST_BYTES: usize = 3 * 1024 * 1024;
/// What requests that were here name in `Via`.
const PSEUDONYM: &str = "huntaze-bridge";

/// Of one connection (RFC 9110, 7.6.1), and what hyper writes itself.
const NOT_PASSED_ON: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::CONTENT_LENGTH,
];

/// A request as it came.
#[derive(Debug, Clone, Copy)]
pub struct Passed<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its path and query, not decoded.
    pub target: &'a str,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body.
    pub body: &'a [u8],
    /// Nobody waits for the answer after this.
    pub deadline: Instant,
}

/// The old system's answer, without what is of the connection.
#[derive(Debug)]
pub struct Answered {
    /// Its status.
    pub status: StatusCode,
    /// Its end-to-end headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum LegacyError {
    /// It was never sent: the old system could not be reached, or no time was left.
    #[error("the legacy system cannot be reached: {0}")]
    Unreached(String),
    /// It was sent, and nobody knows what became of it.
    #[error("the legacy system did not answer: {0}")]
    Lost(String),
    /// It was here before: the old system's address is our own.
    #[error("the request came back: LEGACY_API_URL leads here")]
    Loop,
}

/// The way to the old system.
pub struct Legacy {
    scheme: Scheme,
    authority: Authority,
    /// What its URL has before the path.
    prefix: String,
    patience: Duration,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Legacy {
    /// Reads `LEGACY_API_URL` and `LEGACY_TIMEOUT_MS`; `None` where there is no old system. Nothing is opened.
    #[must_use]
    pub fn from_env(env: &Env, tls: &ClientConfig) -> Option<Self> {
        let patience = env.millis("LEGACY_TIMEOUT_MS", TIMEOUT_MS);
        let url = env.optional("LEGACY_API_URL")?;
        let (scheme, authority, prefix) = env.check("LEGACY_API_URL", parts(&url))?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let https = HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http().enable_http1();
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(https.wrap_connector(tcp));
        Some(Self { scheme, authority, prefix, patience, client })
    }

    /// Passes a request on, once.
    ///
    /// # Errors
    /// [`LegacyError`]
    pub async fn pass(&self, passed: &Passed<'_>) -> Result<Answered, LegacyError> {
        if was_here(passed.headers) {
            return Err(LegacyError::Loop);
        }
        let request = self.request(passed)?;
        let until = passed.deadline.min(Instant::now() + self.patience);
        let answering = async {
            let response = self.client.request(request).await.map_err(|error| match error.is_connect() {
                true => LegacyError::Unreached(causes(&error)),
                false => LegacyError::Lost(causes(&error)),
            })?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, MOST_BYTES).collect().await;
            let body = body.map_err(|error| LegacyError::Lost(causes(&*error)))?.to_bytes();
            Ok(Answered { status: parts.status, headers: end_to_end(&parts.headers), body })
        };
        timeout_at(until, answering).await.unwrap_or_else(|_| Err(LegacyError::Lost("not in time".to_owned())))
    }

    fn request(&self, passed: &Passed<'_>) -> Result<Request<Full<Bytes>>, LegacyError> {
        let unsaid = |error: &dyn std::error::Error| LegacyError::Unreached(error.to_string());
        let target = PathAndQuery::try_from(format!("{}{}", self.prefix, passed.target)).map_err(|e| unsaid(&e))?;
        let uri = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone()).path_and_query(target);
        let mut request = Request::new(Full::new(Bytes::copy_from_slice(passed.body)));
        *request.method_mut() = passed.method.clone();
        *request.uri_mut() = uri.build().map_err(|e| unsaid(&e))?;
        *request.headers_mut() = end_to_end(passed.headers);
        let own = request.headers_mut();
        // The old system makes links of the name that it was asked by: the gateway's, and no client's.
        own.remove("x-forwarded-host");
        if let Some(host) = own.remove(header::HOST) {
            own.insert("x-forwarded-host", host);
        }
        own.append(header::VIA, HeaderValue::from_static("1.1 huntaze-bridge"));
        Ok(request)
    }
}

/// Scheme, authority and prefix of an address, which may have nothing else.
fn parts(url: &str) -> Result<(Scheme, Authority, String), &'static str> {
    const EXPECTED: &str = "must be an http or https URL without a query";
    let parts = url.parse::<Uri>().map_err(|_| EXPECTED)?.into_parts();
    let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else { return Err(EXPECTED) };
    let path = parts.path_and_query.as_ref();
    if !["http", "https"].contains(&scheme.as_str()) || path.is_some_and(|path| path.query().is_some()) {
        return Err(EXPECTED);
    }
    let is_here = ["127.0.0.1", "[::1]", "localhost"].contains(&authority.host());
    if scheme != Scheme::HTTPS && !is_here {
        return Err("must be https, or http on loopback: sessions go over it");
    }
    Ok((scheme, authority, path.map_or("", PathAndQuery::path).trim_end_matches('/').to_owned()))
}

fn was_here(headers: &HeaderMap) -> bool {
    headers.get_all(header::VIA).iter().any(|via| via.to_str().is_ok_and(|via| via.contains(PSEUDONYM)))
}

/// The headers without those of one connection, which `Connection` may name more of.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<_> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    // What the old system decides by is not a client's to take away.
    let is_safe = |name: &str| name.starts_with("x-forwarded-") || ["authorization", "cookie"].contains(&name);
    let is_named = |name: &str| !is_safe(name) && named.iter().any(|one| one == name);
    let is_kept = |name: &HeaderName| !NOT_PASSED_ON.contains(name) && !is_named(name.as_str());
    headers.iter().filter(|(name, _)| is_kept(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_of_http_and_has_no_query() {
        let read = |url: &str| parts(url).map(|(scheme, authority, prefix)| format!("{scheme} {authority} {prefix}"));
        assert_eq!(read("https://old.example.com"), Ok("https old.example.com ".to_owned()));
        assert_eq!(read("http://127.0.0.1:3000/app/"), Ok("http 127.0.0.1:3000 /app".to_owned()));
        for odd in [
            "http://old.example.com",
            "old.example.com",
            "/path",
            "ftp://old.example.com",
            "https://old.example.com/?a=b",
            "https://",
            "",
        ] {
            assert!(read(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn what_belongs_to_one_connection_stays_there() {
        let sent = [
            ("connection", "close, X-Secret, Authorization, X-Forwarded-For"),
            ("x-secret", "of this connection"),
            ("authorization", "Bearer t"),
            ("x-forwarded-for", "192.0.2.1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("content-length", "7"),
            ("accept", "text/plain"),
            ("accept", "text/html"),
            ("x-odd", "ümlaut"),
        ];
        let headers: HeaderMap = sent
            .into_iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap()))
            .collect();
        let kept: Vec<_> = end_to_end(&headers).iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        let expected = [
            ("authorization", "Bearer t"),
            ("x-forwarded-for", "192.0.2.1"),
            ("accept", "text/plain"),
            ("accept", "text/html"),
            ("x-odd", "ümlaut"),
        ]
        .map(|(name, value)| (name.to_owned(), HeaderValue::from_bytes(value.as_bytes()).unwrap()));
        assert_eq!(kept, expected);
    }

    #[test]
    fn a_request_that_comes_back_is_noticed() {
        let via = |text: &'static str| HeaderMap::from_iter([(header::VIA, HeaderValue::from_static(text))]);
        assert!(was_here(&via("1.1 front, 1.1 huntaze-bridge")));
        assert!(!was_here(&via("1.1 front")) && !was_here(&HeaderMap::new()));
    }
}
