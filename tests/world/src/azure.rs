//! Azure OpenAI: `{endpoint}/openai/…?api-version=…` with the header `api-key`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, OriginalUri, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::calls::{Memory, OpenCall};
use crate::chat::{self, Chat};
use crate::exchange::{self, Reply};
use crate::faults::{Fault, FilterStage, Operation, Provider};
use crate::server::Connection;

/// The key that this Azure takes.
pub const AZURE_KEY: &str = "world-azure-key";

const REGION: &str = "East US";

// The service's own words.
const NO_DEPLOYMENT: &str = "\
    The API deployment for this resource does not exist. If you created the deployment within the last 5 \
    minutes, please wait a moment and try again.";
const NO_TOKEN: &str = "\
    Access token is missing, invalid, audience is incorrect (https://cognitiveservices.azure.com), or have \
    expired.";
const WRONG_KEY: &str = "\
    Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an \
    active subscription and use a correct regional API endpoint for your resource.";
const RATE_LIMITED: &str = "\
    Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded \
    token rate limit of your current OpenAI S0 pricing tier. Please retry after 20 seconds. Please go here: \
    https://aka.ms/oai/quotaincrease if you would like to further increase the default rate limit.";
const FILTERED: &str = "\
    The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please \
    modify your prompt and retry. To learn more about our content filtering policies please read our \
    documentation: https://go.microsoft.com/fwlink/?linkid=2198766";
const UNAVAILABLE: &str = "The service is temporarily unable to process your request. Please try again later.";
const SERVER_ERROR: &str = "The server had an error while processing your request. Sorry about that!";

pub(crate) fn routes() -> Router<Arc<Memory>> {
    Router::new()
        .route("/openai/deployments/{deployment}/chat/completions", post(complete))
        .route("/openai/models", get(models))
        .fallback(async || exchange::respond_to_stranger(not_found()))
}

#[derive(Debug, Deserialize)]
struct ApiVersion {
    #[serde(rename = "api-version")]
    api_version: Option<String>,
}

async fn complete(
    State(memory): State<Arc<Memory>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    OriginalUri(uri): OriginalUri,
    Path(deployment): Path<String>,
    Query(version): Query<ApiVersion>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let call = memory.open(Provider::Azure, Operation::Chat, uri.to_string(), deployment.clone(), &headers, &body);
    exchange::run(call, connection, Provider::Azure, |call| {
        completion(&memory, call, &deployment, &version, &headers, &body).unwrap_or_else(|refusal| refusal)
    })
    .await
}

fn completion(
    memory: &Memory,
    call: &OpenCall,
    deployment: &str,
    version: &ApiVersion,
    headers: &HeaderMap,
    body: &str,
) -> Result<Reply, Reply> {
    authenticate(headers)?;
    require_version(version)?;
    let dated = chat::dated(deployment)
        .ok_or_else(|| error_body(StatusCode::NOT_FOUND, "DeploymentNotFound", NO_DEPLOYMENT))?;
    let body: Value = serde_json::from_str(body).map_err(|_| chat::not_json())?;
    let chat = Chat::read(&body, deployment)?;
    if chat::prompt_is_filtered(call) {
        return Err(filtered_prompt());
    }
    let mut body = chat::complete(memory, call, Provider::Azure, dated, &chat);
    body["prompt_filter_results"] = json!([{ "prompt_index": 0, "content_filter_results": verdicts(false, true) }]);
    let filtered = call.fault == Some(Fault::ContentFilter { stage: FilterStage::Completion });
    if let Some(choice) = body["choices"].get_mut(0) {
        choice["content_filter_results"] = verdicts(filtered, false);
    }
    Ok(Reply::new(StatusCode::OK, body))
}

async fn models(
    State(memory): State<Arc<Memory>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    OriginalUri(uri): OriginalUri,
    Query(version): Query<ApiVersion>,
    headers: HeaderMap,
) -> Response {
    let call = memory.open(Provider::Azure, Operation::Models, uri.to_string(), String::new(), &headers, "");
    exchange::run(call, connection, Provider::Azure, |_| {
        authenticate(&headers)
            .and_then(|()| require_version(&version))
            .map_or_else(|refusal| refusal, |()| Reply::new(StatusCode::OK, model_list()))
    })
    .await
}

fn model_list() -> Value {
    let models = chat::MODELS.iter().map(|(name, _)| {
        json!({
            "id": name,
            "object": "model",
            "status": "succeeded",
            "created_at": 1_712_620_800,
            "updated_at": 1_712_620_800,
            "capabilities": {
                "fine_tune": false,
                "inference": true,
                "completion": false,
                "chat_completion": true,
                "embeddings": false,
            },
            "lifecycle_status": "generally-available",
            "deprecation": { "inference": 1_893_456_000 },
        })
    });
    json!({ "object": "list", "data": models.collect::<Vec<_>>() })
}

fn authenticate(headers: &HeaderMap) -> Result<(), Reply> {
    match headers.get("api-key") {
        Some(key) if key == AZURE_KEY => Ok(()),
        Some(_) => Err(error(StatusCode::UNAUTHORIZED)),
        None => Err(error_body(StatusCode::UNAUTHORIZED, "Unauthorized", NO_TOKEN)),
    }
}

/// A version is a date, perhaps with `-preview`. Without a known one there is no such address, says the service.
fn require_version(version: &ApiVersion) -> Result<(), Reply> {
    let version = version.api_version.as_deref().unwrap_or_default();
    let date = version.strip_suffix("-preview").unwrap_or(version);
    if date.len() == 10 && date.parse::<jiff::civil::Date>().is_ok() { Ok(()) } else { Err(not_found()) }
}

fn not_found() -> Reply {
    error_body(StatusCode::NOT_FOUND, "404", "Resource not found")
}

/// What Azure sends with a status.
pub(crate) fn error(status: StatusCode) -> Reply {
    match status.as_u16() {
        401 => error_body(status, "401", WRONG_KEY),
        403 => error_body(status, "403", "Access denied due to Virtual Network/Firewall rules."),
        404 => not_found(),
        408 => error_body(status, "Timeout", "The operation was timeout."),
        429 => error_body(status, "429", RATE_LIMITED)
            .header("retry-after", "20")
            .header("x-ratelimit-reset-requests", "20")
            .header("policy-id", "DeploymentRatelimit-Token"),
        503 => error_body(status, "ServiceUnavailable", UNAVAILABLE),
        500 => error_body(status, "InternalServerError", SERVER_ERROR),
        other => error_body(status, &other.to_string(), status.canonical_reason().unwrap_or("Unknown error")),
    }
}

/// The headers that Azure puts on every answer.
pub(crate) fn with_headers(reply: Reply, id: u64) -> Reply {
    reply
        .default_header("apim-request-id", &format!("00000000-0000-4000-8000-{id:012x}"))
        .default_header("x-request-id", &format!("00000000-0000-4000-9000-{id:012x}"))
        .default_header("x-ms-region", REGION)
        .default_header("x-ratelimit-remaining-requests", "999")
        .default_header("x-ratelimit-remaining-tokens", "99000")
}

fn error_body(status: StatusCode, code: &str, message: &str) -> Reply {
    Reply::new(status, json!({ "error": { "code": code, "message": message } }))
}

fn filtered_prompt() -> Reply {
    let body = json!({ "error": {
        "message": FILTERED,
        "type": null,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": { "code": "ResponsibleAIPolicyViolation", "content_filter_result": verdicts(true, true) },
    }});
    Reply::new(StatusCode::BAD_REQUEST, body)
}

/// The filter's verdict on each category; of a prompt it says also whether it tries to break out.
fn verdicts(filtered: bool, of_prompt: bool) -> Value {
    let safe = json!({ "filtered": false, "severity": "safe" });
    let sexual = if filtered { json!({ "filtered": true, "severity": "medium" }) } else { safe.clone() };
    let mut verdicts = json!({ "hate": safe, "self_harm": safe, "sexual": sexual, "violence": safe });
    if of_prompt {
        verdicts["jailbreak"] = json!({ "filtered": false, "detected": false });
    }
    verdicts
}
