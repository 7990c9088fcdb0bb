//! From a request to its answer or to its scripted mishap.

use std::future::pending;
use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde_json::Value;

use crate::calls::{OpenCall, Outcome};
use crate::faults::{Fault, Provider};
use crate::server::Connection;
use crate::{azure, legacy, onlyfans, openai, slack};

/// An answer of a provider, before it becomes bytes.
#[derive(Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Value,
}

impl Reply {
    pub(crate) fn new(status: StatusCode, body: Value) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    /// With this header, in place of an earlier one of that name. A name or value that HTTP cannot carry is left out.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            self.headers.retain(|(earlier, _)| *earlier != name);
            self.headers.push((name, value));
        }
        self
    }

    /// With this header, unless one of that name is set.
    pub(crate) fn default_header(self, name: &str, value: &str) -> Self {
        if self.headers.iter().any(|(set, _)| set == name) { self } else { self.header(name, value) }
    }
}

/// The answer to a request for an address that is no part of the service; such a request is no call.
pub(crate) fn respond_to_stranger(reply: Reply) -> Response {
    respond(reply, Delivery::Whole)
}

/// Ends a call: by what is scripted for it, else by `answer`.
pub(crate) async fn run(
    mut call: OpenCall,
    connection: Connection,
    provider: Provider,
    answer: impl FnOnce(&OpenCall) -> Reply + Send,
) -> Response {
    type Answer<'a> = Box<dyn FnOnce(&OpenCall) -> Reply + Send + 'a>;
    let (fault, answer): (_, Answer<'_>) = match call.fault.clone() {
        Some(Fault::After { then }) => {
            let reply = answer(&call);
            (Some(*then), Box::new(move |_| reply))
        }
        fault => (fault, Box::new(answer)),
    };
    let reply = match fault.clone() {
        Some(Fault::Hang) => pending().await,
        Some(Fault::Reset) => {
            connection.reset();
            call.close(Outcome::Broken);
            // Never sent: the connection refuses to write it.
            return StatusCode::OK.into_response();
        }
        Some(Fault::Garbage) => return verbatim(call, "text/html", "<html><body>upstream</bod".to_owned()),
        Some(Fault::Raw { body }) => return verbatim(call, "application/json", body),
        Some(Fault::Flood { bytes }) => {
            let body = format!(r#"{{"choices":[{{"message":{{"content":"{}"}}}}]}}"#, "x".repeat(bytes));
            return verbatim(call, "application/json", body);
        }
        Some(Fault::Status { status, body, headers }) => scripted(provider, status, body, headers),
        Some(Fault::Delay { ms }) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            answer(&call)
        }
        Some(Fault::Gate) => {
            call.gate().await;
            answer(&call)
        }
        _ => answer(&call),
    };
    let reply = match provider {
        Provider::Azure => azure::with_headers(reply, call.id),
        Provider::OpenAi => openai::with_headers(reply, call.id),
        Provider::Slack | Provider::OnlyFans | Provider::Legacy => reply,
    };
    let delivery = match fault {
        Some(Fault::Truncate) => Delivery::Half,
        Some(Fault::Drip { ms }) => Delivery::Drip(Duration::from_millis(ms)),
        _ => Delivery::Whole,
    };
    let status = reply.status.as_u16();
    call.close(if matches!(delivery, Delivery::Half) { Outcome::Broken } else { Outcome::Answered { status } });
    respond(reply, delivery)
}

/// How a body goes out.
enum Delivery {
    Whole,
    /// Half of what the length promises, then the connection ends.
    Half,
    /// A byte after each pause.
    Drip(Duration),
}

fn verbatim(call: OpenCall, content_type: &'static str, body: String) -> Response {
    call.close(Outcome::Answered { status: 200 });
    (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], body).into_response()
}

fn scripted(
    provider: Provider,
    status: u16,
    body: Option<Value>,
    headers: impl IntoIterator<Item = (String, String)>,
) -> Reply {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let own = match provider {
        Provider::Azure => azure::error(status),
        Provider::OpenAi => openai::error(status),
        Provider::Slack => slack::error(status),
        Provider::OnlyFans => onlyfans::error(status),
        Provider::Legacy => legacy::error(status),
    };
    let reply = Reply { body: body.unwrap_or(own.body), ..own };
    headers.into_iter().fold(reply, |reply, (name, value)| reply.header(&name, &value))
}

fn respond(reply: Reply, delivery: Delivery) -> Response {
    // Slack's webhooks answer with a bare word.
    let (content_type, bytes) = match reply.body {
        Value::String(word) => ("text/html", Bytes::from(word)),
        json => ("application/json", Bytes::from(json.to_string())),
    };
    let length = bytes.len();
    let body = match delivery {
        Delivery::Whole => Body::from(bytes),
        Delivery::Half => {
            let half = stream::iter([Ok(bytes.slice(..length / 2))]);
            let failure = stream::once(async {
                // The server sends what it has whenever the body is not ready; without the pause it would drop the half.
                tokio::task::yield_now().await;
                Err(io::Error::from(io::ErrorKind::ConnectionAborted))
            });
            Body::from_stream(half.chain(failure))
        }
        Delivery::Drip(pause) => Body::from_stream(stream::iter(0..length).then(move |at| {
            let byte = bytes.slice(at..=at);
            async move {
                tokio::time::sleep(pause).await;
                Ok::<_, io::Error>(byte)
            }
        })),
    };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.extend(reply.headers);
    response
}
