//! The wire of Azure OpenAI and OpenAI: one call, one typed end.

use std::time::Duration;

use huntaze_costs::attempt::{Billing, Outcome};
use huntaze_domain::ids::AttemptId;
use huntaze_domain::provider::{Provider, TokenUsage};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::prompt::Chat;
use crate::route::Candidate;

/// No answer is read further. The longest permitted output is below 64 KiB.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// Where Azure OpenAI is and how it is called.
#[derive(Clone)]
pub struct Azure {
    /// The resource's endpoint, without a slash at its end.
    pub endpoint: String,
    /// Sent as `api-key`.
    pub api_key: String,
    /// Sent as `api-version`.
    pub api_version: String,
    /// No call takes longer.
    pub timeout: Duration,
}

/// Where OpenAI is and how it is called.
#[derive(Clone)]
pub struct OpenAi {
    /// The API's base, `/v1` included, without a slash at its end.
    pub base_url: String,
    /// Sent as the bearer token.
    pub api_key: String,
    /// Sent as `OpenAI-Organization` where it is set.
    pub organization: Option<String>,
    /// No call takes longer.
    pub timeout: Duration,
}

/// The configured providers.
pub struct Providers {
    /// Keeps connections between calls.
    pub http: Client,
    /// Azure OpenAI, where it is configured.
    pub azure: Option<Azure>,
    /// OpenAI, where it is configured.
    pub openai: Option<OpenAi>,
}

/// Why a call has no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection; the request did not leave.
    Connect,
    /// The connection was lost after the request may have been written.
    Connection,
    /// No answer in time.
    Timeout,
    /// 429.
    RateLimited,
    /// 5xx, or 408.
    Server,
    /// 3xx, 401, 403, 404, or a 400 about a parameter: our endpoint, key, permission or deployment is wrong. Another provider
    /// has its own.
    Misconfigured,
    /// Another 4xx: the same request would be refused again.
    Rejected,
    /// The provider's filter refused the prompt or the text, or the model declined.
    Refused,
    /// An answer that cannot be read, or that holds no text.
    InvalidAnswer,
    /// The provider is not configured.
    NotConfigured,
}

impl Failure {
    /// The name in the stores and in a workflow's history.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect_error",
            Self::Connection => "connection_lost",
            Self::Timeout => "timeout",
            Self::RateLimited => "rate_limited",
            Self::Server => "server_error",
            Self::Misconfigured => "misconfigured",
            Self::Rejected => "rejected",
            Self::Refused => "content_filter",
            Self::InvalidAnswer => "invalid_answer",
            Self::NotConfigured => "not_configured",
        }
    }

    /// Whether another provider may be asked. A refusal is an answer, and a request that one rejects is wrong at both.
    #[must_use]
    pub fn falls_back(self) -> bool {
        !matches!(self, Self::Rejected | Self::Refused)
    }
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallEnd {
    /// The text, or why there is none.
    pub result: Result<String, Failure>,
    /// What is known of its billing.
    pub billing: Billing,
    /// The answer's status, where there was one.
    pub http_status: Option<u16>,
    /// The text met its bound of tokens and is not whole.
    pub truncated: bool,
}

impl CallEnd {
    fn failed(failure: Failure, billing: Billing, http_status: Option<u16>) -> Self {
        Self { result: Err(failure), billing, http_status, truncated: false }
    }

    /// The end of a call that was not made.
    pub(crate) fn not_sent(failure: Failure) -> Self {
        Self::failed(failure, Billing::Nothing, None)
    }

    /// How the attempt is recorded.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match (&self.result, self.billing) {
            (Ok(_), _) => Outcome::Succeeded,
            (Err(_), Billing::Unknown) => Outcome::Unknown,
            (Err(_), _) => Outcome::Failed,
        }
    }
}

/// The provider did not answer its probe as it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// It is not configured.
    #[error("not configured")]
    NotConfigured,
    /// It answered with an error.
    #[error("answered {0}")]
    Status(u16),
    /// It did not answer.
    #[error("not reachable")]
    Unreachable,
}

impl Providers {
    /// Whether a provider is configured.
    #[must_use]
    pub fn has(&self, provider: Provider) -> bool {
        match provider {
            Provider::Azure => self.azure.is_some(),
            Provider::OpenAi => self.openai.is_some(),
        }
    }

    /// Asks for one chat completion. It ends within `cap` and the provider's own time-out.
    pub async fn complete(
        &self,
        candidate: &Candidate,
        chat: &Chat,
        max_output_tokens: u64,
        cap: Duration,
        attempt: &AttemptId,
    ) -> CallEnd {
        let Some((request, limit)) = self.chat_request(candidate, attempt) else {
            return CallEnd::not_sent(Failure::NotConfigured);
        };
        let body = json!({"model": candidate.model, "messages": chat, limit_name(&candidate.model): max_output_tokens});
        let exchange = async {
            let response = request.json(&body).send().await.map_err(|error| transport_failure(&error))?;
            let status = response.status();
            // The status is known even where the body is lost on the way.
            Ok((status, read_bounded(response).await))
        };
        match timeout(cap.min(limit), exchange).await {
            Err(_) => CallEnd::failed(Failure::Timeout, Billing::Unknown, None),
            Ok(Err(end)) => end,
            Ok(Ok((status, body))) => interpret(candidate.provider, status, body.as_deref()),
        }
    }

    fn chat_request(&self, candidate: &Candidate, attempt: &AttemptId) -> Option<(RequestBuilder, Duration)> {
        match candidate.provider {
            Provider::Azure => self.azure.as_ref().map(|azure| {
                let path = format!("deployments/{}/chat/completions", candidate.deployment);
                let request = azure.sign(self.http.post(azure.url(&path)));
                (request.header("x-ms-client-request-id", attempt.as_str()), azure.timeout)
            }),
            Provider::OpenAi => self.openai.as_ref().map(|openai| {
                let request = self.http.post(format!("{}/chat/completions", openai.base_url));
                (openai.sign(request).header("X-Client-Request-Id", attempt.as_str()), openai.timeout)
            }),
        }
    }

    /// Asks for the list of models, which costs nothing: the provider is there and takes the key.
    ///
    /// # Errors
    /// [`ProbeError`]
    pub async fn probe(&self, provider: Provider, cap: Duration) -> Result<(), ProbeError> {
        let request = match provider {
            Provider::Azure => self.azure.as_ref().map(|azure| azure.sign(self.http.get(azure.url("models")))),
            Provider::OpenAi => {
                self.openai.as_ref().map(|openai| openai.sign(self.http.get(format!("{}/models", openai.base_url))))
            }
        };
        let sent = request.ok_or(ProbeError::NotConfigured)?.timeout(cap).send().await;
        let status = sent.map_err(|_| ProbeError::Unreachable)?.status();
        if status.is_success() { Ok(()) } else { Err(ProbeError::Status(status.as_u16())) }
    }
}

impl Azure {
    fn url(&self, path: &str) -> String {
        format!("{}/openai/{path}?api-version={}", self.endpoint, self.api_version)
    }

    fn sign(&self, request: RequestBuilder) -> RequestBuilder {
        request.header("api-key", &self.api_key)
    }
}

impl OpenAi {
    fn sign(&self, request: RequestBuilder) -> RequestBuilder {
        let request = request.bearer_auth(&self.api_key);
        match &self.organization {
            Some(organization) => request.header("OpenAI-Organization", organization),
            None => request,
        }
    }
}

/// How a model's bound of output tokens is called. Older models know the older name at every API version; the newer ones,
/// which also count hidden reasoning, take only the newer.
fn limit_name(model: &str) -> &'static str {
    if model.starts_with("gpt-3.5") || model.starts_with("gpt-4") { "max_tokens" } else { "max_completion_tokens" }
}

fn transport_failure(error: &reqwest::Error) -> CallEnd {
    if error.is_connect() || error.is_builder() {
        CallEnd::failed(Failure::Connect, Billing::Nothing, None)
    } else {
        CallEnd::failed(Failure::Connection, Billing::Unknown, None)
    }
}

/// The whole body, or `None` if it was cut off or passes [`MAX_ANSWER_BYTES`].
async fn read_bounded(mut response: Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER_BYTES => body.extend_from_slice(&chunk),
            Ok(None) => return Some(body),
            Ok(Some(_)) | Err(_) => return None,
        }
    }
}

#[derive(Deserialize, Default)]
struct Completion {
    #[serde(default)]
    choices: Vec<Choice>,
    /// Read by itself: a text whose usage is odd is still a text.
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    message: Message,
    finish_reason: Option<String>,
}

#[derive(Deserialize, Default)]
struct Message {
    content: Option<String>,
    refusal: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Deserialize)]
struct ErrorDetail {
    code: Option<String>,
    message: Option<String>,
    innererror: Option<InnerError>,
}

#[derive(Deserialize)]
struct InnerError {
    code: Option<String>,
}

/// Reads an answer: the same answer always means the same.
fn interpret(provider: Provider, status: StatusCode, body: Option<&[u8]>) -> CallEnd {
    let end = |failure, billing| CallEnd::failed(failure, billing, Some(status.as_u16()));
    let misconfigured = || {
        tracing::error!(provider = provider.as_str(), status = status.as_u16(), "endpoint, key or deployment is wrong");
        end(Failure::Misconfigured, Billing::Nothing)
    };
    match status.as_u16() {
        200..=299 => CallEnd { http_status: Some(status.as_u16()), ..interpret_success(body) },
        429 => end(Failure::RateLimited, Billing::Nothing),
        // Somebody gave up waiting; the work may have been done all the same.
        408 | 502 | 504 => end(Failure::Server, Billing::Unknown),
        500.. => end(Failure::Server, Billing::Nothing),
        400 if body.is_some_and(is_content_filter) => {
            // Azure bills the tokens of a prompt that its filter refused, and does not say how many they were.
            let billing = if provider == Provider::Azure { Billing::Unknown } else { Billing::Nothing };
            end(Failure::Refused, billing)
        }
        // A redirect is an endpoint that is not the API's.
        300..=399 | 401 | 403 | 404 => misconfigured(),
        400 if body.is_some_and(is_unknown_parameter) => misconfigured(),
        _ => end(Failure::Rejected, Billing::Nothing),
    }
}

/// The deployment does not know what we ask of it: no fault of the request.
fn is_unknown_parameter(body: &[u8]) -> bool {
    let Ok(ErrorBody { error }) = serde_json::from_slice(body) else { return false };
    matches!(error.code.as_deref(), Some("unsupported_parameter" | "unknown_parameter" | "OperationNotSupported"))
        || error.message.is_some_and(|message| message.starts_with("Unrecognized request argument"))
}

/// Azure says `content_filter`, OpenAI `invalid_prompt` or `content_policy_violation`.
fn is_content_filter(body: &[u8]) -> bool {
    let Ok(ErrorBody { error }) = serde_json::from_slice(body) else { return false };
    matches!(error.code.as_deref(), Some("content_filter" | "invalid_prompt" | "content_policy_violation"))
        || error.innererror.and_then(|inner| inner.code).as_deref() == Some("ResponsibleAIPolicyViolation")
}

fn interpret_success(body: Option<&[u8]>) -> CallEnd {
    let completion = body.and_then(|body| serde_json::from_slice::<Completion>(body).ok());
    let Some(Completion { choices, usage }) = completion else {
        return CallEnd::failed(Failure::InvalidAnswer, Billing::Unknown, None);
    };
    let usage = usage.and_then(|usage| serde_json::from_value::<Usage>(usage).ok());
    let billing = usage.map_or(Billing::Unknown, |usage| {
        Billing::Usage(TokenUsage {
            input_tokens: usage.prompt_tokens,
            cached_input_tokens: usage.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0),
            output_tokens: usage.completion_tokens,
        })
    });
    let choice = choices.into_iter().next();
    let truncated = choice.as_ref().is_some_and(|choice| choice.finish_reason.as_deref() == Some("length"));
    let result = match choice {
        None => Err(Failure::InvalidAnswer),
        Some(choice) if choice.finish_reason.as_deref() == Some("content_filter") => Err(Failure::Refused),
        Some(Choice { message: Message { refusal: Some(_), .. }, .. }) => Err(Failure::Refused),
        // PostgreSQL keeps no NUL character, and no text needs one.
        Some(choice) => choice.message.content.map(|text| text.replace('\0', "")).ok_or(Failure::InvalidAnswer),
    };
    let result = result.and_then(|text| if text.trim().is_empty() { Err(Failure::InvalidAnswer) } else { Ok(text) });
    CallEnd { result, billing, http_status: None, truncated }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(provider: Provider, status: u16, body: &str) -> CallEnd {
        interpret(provider, StatusCode::from_u16(status).unwrap(), Some(body.as_bytes()))
    }

    #[test]
    fn a_text_comes_with_its_usage() {
        let body = r#"{"choices":[{"message":{"content":"hi\u0000"},"finish_reason":"stop"}],
            "usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}}"#;
        let end = read(Provider::Azure, 200, body);
        assert_eq!(end.result.as_deref(), Ok("hi"));
        let usage = TokenUsage { input_tokens: 9, cached_input_tokens: 4, output_tokens: 2 };
        assert_eq!((end.billing, end.outcome()), (Billing::Usage(usage), Outcome::Succeeded));
    }

    #[test]
    fn a_text_without_usage_is_not_free() {
        for usage in ["", r#","usage":null"#, r#","usage":{"prompt_tokens":-1}"#] {
            let body = format!(r#"{{"choices":[{{"message":{{"content":"hi"}}}}]{usage}}}"#);
            assert_eq!(read(Provider::OpenAi, 200, &body).billing, Billing::Unknown);
        }
    }

    #[test]
    fn what_is_known_of_the_billing_follows_the_status() {
        for (status, failure, billing) in [
            (301, Failure::Misconfigured, Billing::Nothing),
            (429, Failure::RateLimited, Billing::Nothing),
            (500, Failure::Server, Billing::Nothing),
            (503, Failure::Server, Billing::Nothing),
            (408, Failure::Server, Billing::Unknown),
            (504, Failure::Server, Billing::Unknown),
            (400, Failure::Rejected, Billing::Nothing),
            (401, Failure::Misconfigured, Billing::Nothing),
            (404, Failure::Misconfigured, Billing::Nothing),
            (422, Failure::Rejected, Billing::Nothing),
        ] {
            let end = read(Provider::OpenAi, status, "{}");
            assert_eq!((end.result, end.billing), (Err(failure), billing), "{status}");
        }
        for body in ["", "{", "[]", r#"{"choices":[]}"#, r#"{"choices":[{"message":{"content":" "}}]}"#] {
            let end = read(Provider::OpenAi, 200, body);
            assert_eq!((end.result, end.billing), (Err(Failure::InvalidAnswer), Billing::Unknown), "{body}");
        }
    }

    #[test]
    fn a_parameter_that_a_deployment_does_not_know_is_our_fault() {
        let body = r#"{"error":{"message":"Unrecognized request argument supplied: max_tokens","code":null}}"#;
        assert_eq!(read(Provider::Azure, 400, body).result, Err(Failure::Misconfigured));
        assert_eq!(limit_name("gpt-4-turbo"), "max_tokens");
        assert_eq!(limit_name("gpt-5.1"), "max_completion_tokens");
    }

    #[test]
    fn a_refusal_is_no_reason_to_ask_another() {
        let code = r#"{"error":{"code":"content_filter","message":"…"}}"#;
        let inner = r#"{"error":{"code":"BadRequest","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#;
        let finish = r#"{"choices":[{"message":{"content":"x"},"finish_reason":"content_filter"}]}"#;
        let refusal = r#"{"choices":[{"message":{"refusal":"no"},"finish_reason":"stop"}]}"#;
        let flagged = r#"{"error":{"type":"invalid_request_error","code":"invalid_prompt"}}"#;
        for (status, body) in [(400, code), (400, inner), (400, flagged), (200, finish), (200, refusal)] {
            let end = read(Provider::Azure, status, body);
            assert_eq!(end.result, Err(Failure::Refused), "{body}");
            assert!(!Failure::Refused.falls_back());
        }
    }

    proptest! {
        #[test]
        fn any_answer_has_an_end(status in 200_u16..600, body in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = interpret(Provider::Azure, StatusCode::from_u16(status).unwrap(), Some(&body));
        }
    }
}
