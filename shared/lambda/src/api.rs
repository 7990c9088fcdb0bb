//! An HTTP function: an API Gateway event in, a reply or a problem out, one log line and one line of metrics each.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use huntaze_domain::error::ErrorCode;
use huntaze_domain::ids::{IdempotencyKey, MAX_ID_BYTES, UserId};
use huntaze_domain::principal::Principal;
use huntaze_domain::trace::Trace;
use jiff::Timestamp;
use lambda_http::request::LambdaRequest;
use lambda_http::request::RequestContext;
use lambda_http::tower::util::MapRequest;
use lambda_http::{Adapter, Body, Error, LambdaEvent, Request, RequestExt, Response, service_fn};
use lambda_runtime::Runtime;
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::{Instrument, Span};

use crate::afterwards::Afterwards;
use crate::limit::{Admission, ApiLimit};
use crate::metrics::{self, Origin};
use crate::problem::{Problem, status_and_title};
use crate::scheduled::{millis, now};
use crate::scope::{self, Panicked};
use crate::session::{AuthError, Sessions};

/// API Gateway answers 503 after so long.
const GATEWAY_TIMEOUT: Duration = Duration::from_secs(30);
/// The service ends an invocation at its deadline; the answer must be out by then.
const MARGIN: Duration = Duration::from_millis(500);

/// Tells a client that this answer was made by an earlier request.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// One request.
pub struct Call {
    /// The method.
    pub method: Method,
    /// The path, for problems.
    pub path: String,
    /// Path and query as they came, not decoded.
    pub target: String,
    /// The headers; several of one name may be joined by commas.
    pub headers: HeaderMap,
    /// The query, decoded.
    pub query: Vec<(String, String)>,
    /// The body, decoded.
    pub body: Vec<u8>,
    /// The client's `X-Request-Id`, or the gateway's where it sent none or one that is not `[A-Za-z0-9._:=+/-]{1,128}`.
    pub request_id: String,
    /// The trace that the request belongs to.
    pub trace: Trace,
    /// The wall clock at its start.
    pub now: Timestamp,
    /// The moment that `now` was read.
    pub started: Instant,
    /// Nobody waits for the answer after this.
    pub deadline: Instant,
    /// The function's deployed name.
    pub function: String,
    /// What the API's own limit said, for the answer's headers.
    admission: OnceLock<Admission>,
    afterwards: Afterwards,
}

/// A successful answer.
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// What it says.
    pub content: Content,
    /// Headers of its own.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// The body of an answer.
pub enum Content {
    /// JSON.
    Json(Value),
    /// A text of another media type, which is named with its parameters.
    Text(&'static str, String),
    /// Another server's answer, headers and all: nothing of ours is added.
    Foreign(HeaderMap, Bytes),
}

impl Reply {
    /// 200 with a JSON body.
    #[must_use]
    pub fn ok(body: Value) -> Self {
        Self { status: StatusCode::OK, content: Content::Json(body), headers: Vec::new() }
    }

    /// 200 with a text of a media type.
    #[must_use]
    pub fn text(media_type: &'static str, text: String) -> Self {
        Self { status: StatusCode::OK, content: Content::Text(media_type, text), headers: Vec::new() }
    }

    /// The same with a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl Call {
    fn read(request: Request, afterwards: &Afterwards) -> Self {
        let (now, started) = (now(), Instant::now());
        let context = request.request_context_ref();
        let (gateway_id, accepted) = match context {
            Some(RequestContext::ApiGatewayV2(context)) => (context.request_id.clone(), context.time_epoch),
            _ => (None, 0),
        };
        let lambda = request.lambda_context_ref();
        let query = request.query_string_parameters_ref();
        let query =
            query.map(|map| map.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()).unwrap_or_default();
        let headers = request.headers();
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let request_id = text("x-request-id")
            .filter(|id| is_request_id(id))
            .map(str::to_owned)
            .or(gateway_id)
            .or_else(|| lambda.map(|context| context.request_id.clone()))
            .unwrap_or_default();
        let xray = lambda.and_then(|context| context.xray_trace_id.as_deref());
        let trace =
            text("traceparent").and_then(Trace::from_traceparent).unwrap_or_else(|| scope::trace_of_lambda(xray));
        let left = time_left(now, accepted, lambda.map_or(0, |context| context.deadline));
        let function = lambda.map(|context| context.env_config.function_name.clone()).unwrap_or_default();
        let path = request.raw_http_path().to_owned();
        let target = request.uri().query().map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
        let (parts, body) = request.into_parts();
        Self {
            method: parts.method,
            path,
            target,
            headers: parts.headers,
            query,
            body: match body {
                Body::Text(text) => text.into_bytes(),
                Body::Binary(bytes) => bytes,
                _ => Vec::new(),
            },
            request_id,
            trace,
            now,
            started,
            deadline: started + left,
            function,
            admission: OnceLock::new(),
            afterwards: afterwards.clone(),
        }
    }

    /// Has this done when the answer is out: nobody waits for it, and nothing may depend on it. It has until the function's
    /// time-out, and logs as the request does.
    pub fn afterwards(&self, work: impl Future<Output = ()> + Send + 'static) {
        let trace = self.trace.clone();
        let work = async move {
            // A panic is in the log already, and the answer is out.
            let _ = scope::run(&trace, work).await;
            tracing::debug!("done behind the answer");
        };
        self.afterwards.push(Box::pin(work.instrument(Span::current())));
    }

    /// What its metrics are about.
    #[must_use]
    pub fn origin(&self) -> Origin<'_> {
        Origin { function: &self.function, at: self.now, trace: self.trace.id() }
    }

    /// Lets the API's own limit decide. Its headers go with the answer from here on, whatever that is; the first decision
    /// counts.
    ///
    /// # Errors
    /// 429
    pub fn admit(&self, admission: Admission) -> Result<(), Problem> {
        match self.admission.get_or_init(|| admission) {
            Admission::Denied { limit, retry_after } => {
                let detail = format!("{limit} requests a minute are let through; see `Retry-After`");
                Err(Problem::new(ErrorCode::RateLimitExceeded, detail).retry_after(*retry_after))
            }
            Admission::Granted { .. } | Admission::Unknown => Ok(()),
        }
    }

    /// The body of a successful answer.
    #[must_use]
    pub fn envelope(&self, data: Value) -> Value {
        let metadata = json!({"timestamp": self.now, "requestId": self.request_id, "traceId": self.trace.id()});
        json!({"success": true, "data": data, "metadata": metadata})
    }

    /// Who asks.
    ///
    /// # Errors
    /// 401 without a valid session, 403 for a cookie from an origin that is not allowed.
    pub fn authenticate(&self, sessions: &Sessions) -> Result<Principal, Problem> {
        sessions.authenticate(&self.method, &self.headers, self.now).map_err(|error| match error {
            AuthError::Unauthenticated(reason) => {
                tracing::info!(reason, "unauthenticated");
                Problem::unauthenticated()
            }
            AuthError::ForbiddenOrigin => Problem::forbidden("cookies are not taken from this origin"),
        })
    }

    /// The administrator who asks, and is let through.
    ///
    /// # Errors
    /// As [`Call::authenticate`] and [`Call::admit`]; 403 without the role, which counts as a request.
    pub async fn administrator(&self, sessions: &Sessions, limit: &ApiLimit) -> Result<Principal, Problem> {
        let principal = self.authenticate(sessions)?;
        self.admit(limit.check(&principal.user_id).await)?;
        principal.require_admin()?;
        Ok(principal)
    }

    /// Whose data it is about: the caller's, or that of the user whom an administrator names with `userId`.
    ///
    /// # Errors
    /// 400 for a text that is no user id, 403 for another user without the role.
    pub fn owner(&self, principal: &Principal) -> Result<UserId, Problem> {
        let named = self.parameter("userId")?.map(UserId::parse).transpose();
        let named = named.map_err(|e| Problem::invalid_field("userId", e.to_string()))?;
        Ok(principal.acting_for(named.as_ref())?.clone())
    }

    /// The same where an administrator who names nobody asks about everyone: `None`.
    ///
    /// # Errors
    /// As [`Call::owner`].
    pub fn owner_or_everyone(&self, principal: &Principal) -> Result<Option<UserId>, Problem> {
        let owner = self.owner(principal)?;
        let everyone = principal.is_admin() && self.parameter("userId")?.is_none();
        Ok((!everyone).then_some(owner))
    }

    /// `Idempotency-Key`: the client's name for this request.
    ///
    /// # Errors
    /// 400
    pub fn idempotency_key(&self) -> Result<Option<IdempotencyKey>, Problem> {
        let Some(value) = self.headers.get("idempotency-key") else { return Ok(None) };
        // The gateway joins several headers of one name with a comma.
        let text = value.to_str().ok().filter(|text| !text.contains(','));
        let key = text.and_then(|text| IdempotencyKey::parse(text).ok());
        let invalid =
            || format!("must be 1 to {MAX_ID_BYTES} printable ASCII characters without spaces and commas, given once");
        key.map(Some).ok_or_else(|| Problem::invalid_field("Idempotency-Key", invalid()))
    }

    /// A query parameter that is `true` or `false`; absent, it is false.
    ///
    /// # Errors
    /// 400
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.parameter(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Problem::invalid_field(name, "must be `true` or `false`")),
        }
    }

    /// A query parameter; named twice, it is refused.
    ///
    /// # Errors
    /// 400
    pub fn parameter(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.query.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (value, None) => Ok(value.filter(|value| !value.is_empty())),
            _ => Err(Problem::invalid_field(name, "must be given once")),
        }
    }
}

/// Whether a client's name for its request can stand in the logs: it has none of the signs that an address is written with.
fn is_request_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:=+/-".contains(&b))
}

/// How long an answer is waited for. The gateway counts from the event's own time; an event that is older than its
/// patience was sent by no gateway that still waits (a file, a queue), so only the function's own deadline counts then.
fn time_left(now: Timestamp, accepted_ms: i64, deadline_ms: u64) -> Duration {
    let now = millis(now);
    let until = |end: u128| Duration::from_millis(u64::try_from(end.saturating_sub(now)).unwrap_or(0));
    let gateway = u128::try_from(accepted_ms).unwrap_or(0) + GATEWAY_TIMEOUT.as_millis();
    let function = until(u128::from(deadline_ms));
    let patience = if accepted_ms > 0 && gateway > now { until(gateway).min(GATEWAY_TIMEOUT) } else { GATEWAY_TIMEOUT };
    function.min(patience).saturating_sub(MARGIN)
}

/// What an HTTP function does with a request.
pub trait Route: Send + Sync {
    /// Answers it.
    fn handle(&self, call: &Call) -> impl Future<Output = Result<Reply, Problem>> + Send;
}

/// Serves requests until the environment is shut down. A handler that panics is answered as a fault of ours, and the next
/// request is served as if nothing had been.
///
/// # Errors
/// Those of the runtime itself.
pub async fn serve(route: &impl Route) -> Result<(), Error> {
    let afterwards = &Afterwards::default();
    let requests = Adapter::from(service_fn(async move |request: Request| {
        let call = Call::read(request, afterwards);
        let span = scope::span(&call.request_id, &call.trace);
        Ok::<_, Error>(answer(route, &call).instrument(span).await)
    }));
    Runtime::new(MapRequest::new(requests, with_the_gateways_trace)).layer(afterwards.layer()).run().await
}

/// The library writes Lambda's trace over the request's own `X-Amzn-Trace-Id`, so that is put into Lambda's place before.
fn with_the_gateways_trace(mut event: LambdaEvent<LambdaRequest>) -> LambdaEvent<LambdaRequest> {
    if let LambdaRequest::ApiGatewayV2(request) = &event.payload {
        let header = request.headers.get("x-amzn-trace-id").and_then(|value| value.to_str().ok());
        let own = header.filter(|header| Trace::from_xray(header).is_some()).map(str::to_owned);
        event.context.xray_trace_id = own.or(event.context.xray_trace_id);
    }
    event
}

async fn answer(route: &impl Route, call: &Call) -> Response<Body> {
    let outcome = scope::run(&call.trace, route.handle(call)).await;
    let outcome = outcome.unwrap_or_else(|Panicked| Err(Problem::unexplained()));
    let response = match &outcome {
        Ok(Reply { status, content, headers }) => match content {
            Content::Json(body) => respond(call, *status, "application/json", body.to_string(), headers),
            Content::Text(media_type, text) => respond(call, *status, media_type, text.clone(), headers),
            Content::Foreign(own, body) => pass_back(*status, carried(own), body),
        },
        Err(problem) => {
            let (status, _) = status_and_title(problem.code);
            let body = problem.body(&call.path, &call.request_id).to_string();
            respond(call, status, "application/problem+json", body, &problem.all_headers())
        }
    };
    let elapsed = call.started.elapsed();
    let code = outcome.as_ref().err().map(|problem| problem.code.as_str());
    tracing::info!(
        method = call.method.as_str(),
        status = response.status().as_u16(),
        code,
        duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        "request"
    );
    let failed = response.status().is_server_error();
    match &outcome {
        Ok(Reply { content: Content::Foreign(..), .. }) => metrics::passed_on(&call.origin(), failed, elapsed),
        _ => metrics::invocation(&call.origin(), failed, elapsed),
    }
    response
}

/// How long a text is as JSON, in bytes.
fn escaped(text: &str) -> usize {
    let length = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(length).sum()
}

/// Another server's answer. The gateway is given a text where that is shorter: what is none is a third longer on its way there.
fn pass_back(status: StatusCode, headers: HeaderMap, body: &Bytes) -> Response<Body> {
    let body = match std::str::from_utf8(body) {
        Ok(text) if escaped(text) <= body.len().div_ceil(3) * 4 => Body::Text(text.to_owned()),
        _ => Body::Binary(body.to_vec()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Headers as the gateway takes them: of each name one, but for cookies, and all of them ASCII. One that is not fails the whole answer.
fn carried(headers: &HeaderMap) -> HeaderMap {
    let mut carried = HeaderMap::new();
    for name in headers.keys() {
        let all = headers.get_all(name);
        let texts: Vec<_> = all.iter().filter(|value| value.to_str().is_ok()).cloned().collect();
        if texts.len() < all.iter().count() {
            tracing::warn!(%name, "a header is left out: the gateway carries no such value");
        }
        for value in texts {
            match carried.get_mut(name) {
                Some(before) if name != header::SET_COOKIE => {
                    let joined = [before.as_bytes(), value.as_bytes()].join(&b", "[..]);
                    // Of two values it is one.
                    *before = HeaderValue::from_bytes(&joined).unwrap_or(value);
                }
                _ => drop(carried.append(name, value)),
            }
        }
    }
    carried
}

fn respond(
    call: &Call,
    status: StatusCode,
    content_type: &'static str,
    body: String,
    headers: &[(HeaderName, HeaderValue)],
) -> Response<Body> {
    let mut response = Response::new(Body::Text(body));
    *response.status_mut() = status;
    let own = response.headers_mut();
    own.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    own.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(&call.request_id) {
        own.insert("x-request-id", id);
    }
    own.extend(headers.iter().cloned());
    own.extend(call.admission.get().into_iter().flat_map(|admission| admission.headers()));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_counts_from_the_event() {
        let now = Timestamp::from_millisecond(1_000_000_000_000).unwrap();
        let at = |ms: i64| now.as_millisecond() + ms;
        let function = u64::try_from(at(60_000)).unwrap();
        let left = |accepted: i64, deadline: u64| time_left(now, accepted, deadline).as_millis();
        assert_eq!(left(at(-2_000), function), 27_500);
        // An old or a future event says nothing about a gateway; the function's own deadline still holds.
        for odd in [0, -5, at(-31_000), at(900_000)] {
            assert_eq!(left(odd, function), 29_500);
        }
        assert_eq!(left(at(-2_000), u64::try_from(at(5_000)).unwrap()), 4_500);
        assert_eq!(left(at(-2_000), 0), 0);
    }
}
