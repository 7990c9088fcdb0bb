//! OpenAI: `{base}/…` with `Authorization: Bearer …`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, OriginalUri, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};

use crate::calls::{Memory, OpenCall};
use crate::chat::{self, Chat};
use crate::exchange::{self, Reply};
use crate::faults::{Fault, Operation, Provider};
use crate::server::Connection;

/// The key that this OpenAI takes.
pub const OPENAI_KEY: &str = "world-openai-key";

// The service's own words.
const MISSING_KEY: &str = "\
    You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth \
    (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're accessing \
    the API from your browser and are prompted for a username and password. You can obtain an API key from \
    https://platform.openai.com/account/api-keys.";
const WRONG_KEY: &str = "\
    Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys.";
const FLAGGED: &str = "\
    Invalid prompt: your prompt was flagged as potentially violating our usage policy. Please try again with a \
    different prompt: https://platform.openai.com/docs/guides/reasoning#advice-on-prompting";
const RATE_LIMITED: &str = "\
    Rate limit reached for gpt-4o in organization org-world on tokens per min (TPM): Limit 30000, Used 29500, \
    Requested 1200. Please try again in 1.4s. Visit https://platform.openai.com/account/rate-limits to learn \
    more.";
const OVERLOADED: &str = "The engine is currently overloaded, please try again later";
const SERVER_ERROR: &str = "The server had an error while processing your request. Sorry about that!";
const WRONG_REGION: &str = "Country, region, or territory not supported";

pub(crate) fn routes() -> Router<Arc<Memory>> {
    let router = Router::new().route("/chat/completions", post(complete)).route("/models", get(models));
    router.route("/moderations", post(moderate)).fallback(async |method: Method, OriginalUri(uri): OriginalUri| {
        let message = format!("Invalid URL ({method} {})", uri.path());
        exchange::respond_to_stranger(error_body(StatusCode::NOT_FOUND, &message, "invalid_request_error", Value::Null))
    })
}

/// A request of a model.
type Asked = (State<Arc<Memory>>, ConnectInfo<Connection>, OriginalUri, HeaderMap, String);

async fn complete(asked: Asked) -> Response {
    answer(asked, Operation::Chat, completion).await
}

/// Flags nothing, unless a test says otherwise.
async fn moderate(asked: Asked) -> Response {
    answer(asked, Operation::Moderation, moderation).await
}

async fn answer(
    (State(memory), ConnectInfo(connection), OriginalUri(uri), headers, body): Asked,
    operation: Operation,
    answers: fn(&Memory, &OpenCall, &str, &Value) -> Result<Reply, Reply>,
) -> Response {
    let request: Result<Value, _> = serde_json::from_str(&body);
    let model = request.as_ref().ok().and_then(|body| body["model"].as_str()).unwrap_or_default().to_owned();
    let call = memory.open(Provider::OpenAi, operation, uri.to_string(), model.clone(), &headers, &body);
    exchange::run(call, connection, Provider::OpenAi, |call| {
        authenticate(&headers)
            .and_then(|()| request.map_err(|_| chat::not_json()))
            .and_then(|body| answers(&memory, call, &model, &body))
            .unwrap_or_else(|refusal| refusal)
    })
    .await
}

fn completion(memory: &Memory, call: &OpenCall, model: &str, body: &Value) -> Result<Reply, Reply> {
    if model.is_empty() {
        return Err(error_body(
            StatusCode::BAD_REQUEST,
            "you must provide a model parameter",
            "invalid_request_error",
            Value::Null,
        ));
    }
    let dated = chat::dated(model).ok_or_else(|| {
        let message = format!("The model `{model}` does not exist or you do not have access to it.");
        error_body(StatusCode::NOT_FOUND, &message, "invalid_request_error", "model_not_found".into())
    })?;
    let chat = Chat::read(body, model)?;
    if chat::prompt_is_filtered(call) {
        return Err(error_body(StatusCode::BAD_REQUEST, FLAGGED, "invalid_request_error", "invalid_prompt".into()));
    }
    let mut body = chat::complete(memory, call, Provider::OpenAi, dated, &chat);
    body["service_tier"] = "default".into();
    Ok(Reply::new(StatusCode::OK, body))
}

/// The categories that a moderation knows.
const CATEGORIES: [&str; 13] = [
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
];

fn moderation(_: &Memory, call: &OpenCall, model: &str, _: &Value) -> Result<Reply, Reply> {
    let flagged = match &call.fault {
        Some(Fault::Flagged { categories }) => categories.as_slice(),
        _ => &[],
    };
    let is = |name: &&str| flagged.iter().any(|flagged| flagged == name);
    let of = |value: &dyn Fn(&&str) -> Value| {
        CATEGORIES.iter().map(|name| ((*name).to_owned(), value(name))).collect::<Value>()
    };
    let body = json!({"id": format!("modr-{}", call.id), "model": model, "results": [{
        "flagged": !flagged.is_empty(),
        "categories": of(&|name| is(name).into()),
        "category_scores": of(&|name| if is(name) { 0.97.into() } else { 0.00001.into() }),
        "category_applied_input_types": of(&|_| json!(["text"])),
    }]});
    Ok(Reply::new(StatusCode::OK, body))
}

async fn models(
    State(memory): State<Arc<Memory>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Response {
    let call = memory.open(Provider::OpenAi, Operation::Models, uri.to_string(), String::new(), &headers, "");
    exchange::run(call, connection, Provider::OpenAi, |_| {
        authenticate(&headers).map_or_else(|refusal| refusal, |()| Reply::new(StatusCode::OK, model_list()))
    })
    .await
}

fn model_list() -> Value {
    let models = chat::MODELS
        .iter()
        .map(|(name, _)| json!({ "id": name, "object": "model", "created": 1_712_361_441, "owned_by": "system" }));
    json!({ "object": "list", "data": models.collect::<Vec<_>>() })
}

fn authenticate(headers: &HeaderMap) -> Result<(), Reply> {
    let Some(given) = headers.get(header::AUTHORIZATION) else {
        return Err(error_body(StatusCode::UNAUTHORIZED, MISSING_KEY, "invalid_request_error", Value::Null));
    };
    let key = given.to_str().ok().and_then(|given| given.split_once(' '));
    match key {
        Some((scheme, OPENAI_KEY)) if scheme.eq_ignore_ascii_case("bearer") => Ok(()),
        _ => Err(error(StatusCode::UNAUTHORIZED)),
    }
}

/// What OpenAI sends with a status.
pub(crate) fn error(status: StatusCode) -> Reply {
    match status.as_u16() {
        401 => error_body(status, WRONG_KEY, "invalid_request_error", "invalid_api_key".into()),
        403 => error_body(status, WRONG_REGION, "request_forbidden", "unsupported_country_region_territory".into()),
        429 => error_body(status, RATE_LIMITED, "tokens", "rate_limit_exceeded".into())
            .header("retry-after", "2")
            .header("retry-after-ms", "1400")
            .header("x-ratelimit-remaining-tokens", "500")
            .header("x-ratelimit-reset-tokens", "1.4s"),
        503 => error_body(status, OVERLOADED, "server_error", Value::Null),
        500..=599 => error_body(status, SERVER_ERROR, "server_error", Value::Null),
        _ => error_body(
            status,
            status.canonical_reason().unwrap_or("Unknown error"),
            "invalid_request_error",
            Value::Null,
        ),
    }
}

/// The headers that OpenAI puts on every answer.
pub(crate) fn with_headers(reply: Reply, id: u64) -> Reply {
    reply
        .default_header("x-request-id", &format!("req_{id:032x}"))
        .default_header("openai-organization", "org-world")
        .default_header("openai-processing-ms", "12")
        .default_header("openai-version", "2020-10-01")
        .default_header("x-ratelimit-limit-tokens", "30000")
        .default_header("x-ratelimit-remaining-tokens", "29000")
}

fn error_body(status: StatusCode, message: &str, kind: &str, code: Value) -> Reply {
    Reply::new(status, json!({ "error": { "message": message, "type": kind, "param": null, "code": code } }))
}
