//! The wire of Azure OpenAI and OpenAI: one call goes out, one typed end comes back.

use std::time::Duration;

use huntaze_costs::attempt::Billing;
use huntaze_domain::ids::AttemptId;
use huntaze_domain::provider::Provider;
use jiff::Timestamp;
use reqwest::{Client, RequestBuilder};
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::answer::{self, CallEnd, Failure, MAX_ANSWER_BYTES};
use crate::prompt::Chat;
use crate::route::Candidate;

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

/// What a call is known by on the other side.
#[derive(Debug, Clone, Copy)]
pub struct CallId<'a> {
    /// Sent as the request id that the provider's support can find it by.
    pub attempt: &'a AttemptId,
    /// Sent as `traceparent`.
    pub traceparent: &'a str,
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
        self.time(provider).is_some()
    }

    /// How long a call of a provider may take; `None` where it is not configured.
    #[must_use]
    pub fn time(&self, provider: Provider) -> Option<Duration> {
        match provider {
            Provider::Azure => self.azure.as_ref().map(|azure| azure.timeout),
            Provider::OpenAi => self.openai.as_ref().map(|openai| openai.timeout),
        }
    }

    /// Asks for one chat completion. It ends within `cap` and the provider's own time-out. `now` is the wall clock.
    pub async fn complete(
        &self,
        candidate: &Candidate,
        chat: &Chat,
        max_output_tokens: u64,
        cap: Duration,
        id: CallId<'_>,
        now: Timestamp,
    ) -> CallEnd {
        let Some((request, limit)) = self.chat_request(candidate, id.attempt) else {
            return CallEnd::failed(Failure::NotConfigured, Billing::Nothing);
        };
        let body = json!({"model": candidate.model, "messages": chat, limit_name(&candidate.model): max_output_tokens});
        let request = request.header("traceparent", id.traceparent).json(&body);
        let started = Instant::now();
        let exchange = async {
            let mut response = request.send().await.map_err(|error| transport_failure(&error))?;
            let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
            // The status is known even where the body is lost on the way.
            let body = huntaze_http::read(response, MAX_ANSWER_BYTES).await;
            let now = now.saturating_add(started.elapsed()).unwrap_or(now);
            Ok(answer::read(candidate.provider, status, &headers, body.as_deref().map_err(|unread| *unread), now))
        };
        let end = match timeout(cap.min(limit), exchange).await {
            Err(_) => CallEnd::failed(Failure::Timeout, Billing::Unknown),
            Ok(Ok(end) | Err(end)) => end,
        };
        if matches!(end.result, Err(Failure::Misconfigured | Failure::QuotaExhausted)) {
            let provider = candidate.provider.as_str();
            tracing::error!(provider, status = end.http_status, "endpoint, key, deployment or account is wrong");
        }
        end
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

/// A connection that was not opened carried nothing; whatever else fails may have been read.
fn transport_failure(error: &reqwest::Error) -> CallEnd {
    if error.is_connect() || error.is_builder() {
        CallEnd::failed(Failure::Connect, Billing::Nothing)
    } else {
        CallEnd::failed(Failure::Connection, Billing::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_told_its_bound_by_the_name_that_it_knows() {
        assert_eq!(limit_name("gpt-4-turbo"), "max_tokens");
        assert_eq!(limit_name("gpt-5.1"), "max_completion_tokens");
    }
}
