//! Errors as the contract has them: RFC 9457 problems that are also the old system's envelope.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue, StatusCode};
use huntaze_domain::error::{ErrorCode, FieldFault};
use huntaze_domain::principal::{Forbidden, NotAdmin};
use serde_json::{Map, Value, json};

/// An error answer. Its detail is for the caller: causes are logged, not told.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The contract's error type; it decides the status.
    pub code: ErrorCode,
    /// What happened, for a person.
    pub detail: String,
    /// What is wrong with the request, field by field.
    pub errors: Vec<FieldFault>,
    /// When to come again.
    pub retry_after: Option<Duration>,
    /// Further members.
    pub extra: Map<String, Value>,
    /// Further headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// How each error type is answered, and its title.
#[must_use]
pub fn status_and_title(code: ErrorCode) -> (StatusCode, &'static str) {
    match code {
        ErrorCode::InvalidRequest => (StatusCode::BAD_REQUEST, "Invalid request"),
        ErrorCode::Unauthenticated => (StatusCode::UNAUTHORIZED, "Unauthorized"),
        ErrorCode::Forbidden => (StatusCode::FORBIDDEN, "Forbidden"),
        ErrorCode::NotFound => (StatusCode::NOT_FOUND, "Not found"),
        ErrorCode::Conflict => (StatusCode::CONFLICT, "Conflict"),
        ErrorCode::IdempotencyMismatch => (StatusCode::UNPROCESSABLE_ENTITY, "Idempotency-Key used with another body"),
        ErrorCode::RateLimitExceeded => (StatusCode::TOO_MANY_REQUESTS, "Too many requests"),
        ErrorCode::CostLimitExceeded => (StatusCode::PAYMENT_REQUIRED, "Cost limit exceeded"),
        ErrorCode::ComplianceViolation => (StatusCode::UNPROCESSABLE_ENTITY, "Compliance violation"),
        ErrorCode::ProviderUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "No provider is available"),
        ErrorCode::OnlyfansApiError => (StatusCode::BAD_GATEWAY, "The platform failed"),
        ErrorCode::LegacyApiError => (StatusCode::BAD_GATEWAY, "The legacy system failed"),
        ErrorCode::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, "Changed meanwhile"),
        ErrorCode::PreconditionRequired => (StatusCode::PRECONDITION_REQUIRED, "If-Match is required"),
        ErrorCode::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "Internal error"),
    }
}

impl Problem {
    /// A problem with a detail.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
            extra: Map::new(),
            headers: Vec::new(),
        }
    }

    /// A request that is wrong, field by field.
    #[must_use]
    pub fn invalid(errors: Vec<FieldFault>) -> Self {
        Self { errors, ..Self::new(ErrorCode::InvalidRequest, "the request is not valid; see `errors`") }
    }

    /// One wrong parameter or header.
    #[must_use]
    pub fn invalid_field(name: &str, detail: impl Into<String>) -> Self {
        Self::invalid(vec![FieldFault { pointer: name.to_owned(), detail: detail.into() }])
    }

    /// A path or a method that a function's routes do not have.
    #[must_use]
    pub fn no_such_route() -> Self {
        Self::new(ErrorCode::NotFound, "there is no such route")
    }

    /// No valid session. The reason is not told: it would help to guess.
    #[must_use]
    pub fn unauthenticated() -> Self {
        Self::new(ErrorCode::Unauthenticated, "a valid session is required")
    }

    /// The session may not do this.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::Forbidden, detail)
    }

    /// A fault of ours. The cause is logged here, once, and not told.
    #[must_use]
    pub fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        let causes: Vec<_> =
            std::iter::successors(Some(cause), |error| error.source()).map(ToString::to_string).collect();
        tracing::error!(error = causes.join(": "), "internal error");
        Self::unexplained()
    }

    /// A fault of ours whose cause is in the log already.
    pub(crate) fn unexplained() -> Self {
        Self::new(ErrorCode::Internal, "the request could not be completed")
    }

    /// The same with a time to come again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The same with a further member.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    /// Its headers, `Retry-After` included: whole seconds, rounded up, since who comes early is refused again.
    #[must_use]
    pub fn all_headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let seconds = |wait: Duration| wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let retry = self.retry_after.map(|wait| (RETRY_AFTER, HeaderValue::from(seconds(wait).max(1))));
        retry.into_iter().chain(self.headers.iter().cloned()).collect()
    }

    /// The body.
    #[must_use]
    pub fn body(&self, instance: &str, request_id: &str) -> Value {
        let (status, title) = status_and_title(self.code);
        let mut body = json!({
            "success": false,
            "error": title,
            "message": self.detail,
            "type": format!("urn:huntaze:problem:{}", self.code.as_str()),
            "title": title,
            "status": status.as_u16(),
            "detail": self.detail,
            "instance": instance,
            "code": self.code,
            "requestId": request_id,
        });
        if let Value::Object(members) = &mut body {
            if !self.errors.is_empty() {
                members.insert("errors".to_owned(), json!(self.errors));
            }
            // What a problem has of itself stays, whatever is added to it.
            for (name, value) in &self.extra {
                members.entry(name).or_insert_with(|| value.clone());
            }
        }
        body
    }
}

impl From<Forbidden> for Problem {
    fn from(error: Forbidden) -> Self {
        Self::forbidden(error.to_string())
    }
}

impl From<NotAdmin> for Problem {
    fn from(error: NotAdmin) -> Self {
        Self::forbidden(error.to_string())
    }
}
