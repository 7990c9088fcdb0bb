//! The system before this one, whose old clients go on: `POST /api/campaigns/hybrid`, and `POST /api/v2/campaigns/hybrid`.
//!
//! A request that says `x-case` is given the answer that a test has recorded for it, byte by byte; any other is answered as the old
//! system does. What each looked like is remembered whole, for a test to compare.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, OriginalUri, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use crate::calls::{Memory, OpenCall, Outcome};
use crate::exchange::{self, Reply};
use crate::faults::{Operation, Provider};
use crate::server::Connection;

/// No more requests are remembered whole.
const REMEMBERED: usize = 20_000;
const CASE: &str = "x-case";

/// An answer, byte by byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyAnswer {
    /// The HTTP status.
    pub status: u16,
    /// Headers in their order; a name may be there twice.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyRequest {
    /// Its method.
    pub method: String,
    /// Its path and query, as they were written.
    pub target: String,
    /// Its headers in their order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its body.
    pub body: Vec<u8>,
}

/// What the old system knows.
#[derive(Debug, Default)]
pub(crate) struct Legacy(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    answers: HashMap<String, LegacyAnswer>,
    seen: Vec<LegacyRequest>,
}

impl Legacy {
    pub(crate) fn record(&self, case: &str, answer: LegacyAnswer) {
        self.lock().answers.insert(case.to_owned(), answer);
    }

    pub(crate) fn seen(&self) -> Vec<LegacyRequest> {
        self.lock().seen.clone()
    }

    pub(crate) fn reset(&self) {
        *self.lock() = Inner::default();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn routes() -> Router<Arc<Memory>> {
    Router::new().fallback(serve)
}

async fn serve(
    State(memory): State<Arc<Memory>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    OriginalUri(uri): OriginalUri,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let target = uri.path_and_query().map(|target| target.as_str().to_owned()).unwrap_or_default();
    let case = headers.get(CASE).and_then(|case| case.to_str().ok());
    let recorded = {
        let mut inner = memory.legacy.lock();
        if inner.seen.len() < REMEMBERED {
            let headers = headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
            let (method, headers) = (method.to_string(), headers.collect());
            inner.seen.push(LegacyRequest { method, target: target.clone(), headers, body: body.to_vec() });
        }
        case.and_then(|case| inner.answers.get(case).cloned())
    };
    let text = String::from_utf8_lossy(&body);
    let call = memory.open(Provider::Legacy, Operation::Campaign, target, String::new(), &headers, &text);
    match recorded.filter(|_| call.fault.is_none()) {
        Some(answer) => verbatim(call, answer),
        None => {
            exchange::run(call, connection, Provider::Legacy, |call| answer(&method, &headers, &body, call.id)).await
        }
    }
}

/// What the old system says.
fn answer(method: &Method, headers: &HeaderMap, body: &[u8], id: u64) -> Reply {
    if *method != Method::POST {
        return error(StatusCode::METHOD_NOT_ALLOWED).header("allow", "POST");
    }
    if !has_session(headers) {
        return error(StatusCode::UNAUTHORIZED);
    }
    let Ok(asked @ Value::Object(_)) = serde_json::from_slice::<Value>(body) else {
        return error(StatusCode::BAD_REQUEST);
    };
    let brief = if asked["payload"].is_object() { &asked["payload"] } else { &asked["data"] };
    let theme = brief["theme"].as_str().unwrap_or("your page");
    let data = json!({"campaignId": format!("legacy_{id}"), "content": format!("A campaign about {theme}."), "status": "completed"});
    let made = json!({"success": true, "status": "success", "result": data["content"], "message": "Campaign created", "data": data});
    Reply::new(StatusCode::OK, made).header("x-powered-by", "Next.js").header("set-cookie", "seen=1; Path=/; HttpOnly")
}

/// Whether there is something like a session, as a bearer token or in one or several cookies: its keys are not ours, so what is in it is not
/// looked at.
fn has_session(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_token = |token: &str| token.split('.').count() == 5;
    let pairs = text(header::COOKIE).split("; ").filter_map(|cookie| cookie.split_once('='));
    let cookies: String = pairs.filter(|(name, _)| name.contains("session-token")).map(|(_, value)| value).collect();
    text(header::AUTHORIZATION).strip_prefix("Bearer ").is_some_and(is_token) || is_token(&cookies)
}

/// What the old system sends with a status.
pub(crate) fn error(status: StatusCode) -> Reply {
    let message = status.canonical_reason().unwrap_or("Error");
    Reply::new(status, json!({"status": "error", "result": null, "message": message, "data": null}))
}

fn verbatim(call: OpenCall, answer: LegacyAnswer) -> Response {
    call.close(Outcome::Answered { status: answer.status });
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in &answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value.as_bytes())) {
            response.headers_mut().append(name, value);
        }
    }
    response
}
