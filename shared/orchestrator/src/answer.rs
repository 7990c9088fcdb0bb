//! What a provider's answer means: one typed end of a call, with what is known of its billing. Pure: the same answer always
//! means the same.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use huntaze_costs::attempt::{Billing, Outcome};
use huntaze_domain::provider::{Provider, TokenUsage};
use huntaze_domain::retry_after::retry_after;
use huntaze_http::Unread;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cache::Cached;
use crate::matrix::{Again, Alternatives, Other, Trigger};

/// No answer is read further. The longest permitted output is below 64 KiB.
pub const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// Why a call has no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No connection; the request did not leave.
    Connect,
    /// The connection was lost after the request may have been written.
    Connection,
    /// No answer in time.
    Timeout,
    /// 429, or as much in a 200.
    RateLimited,
    /// 429 of an account that has nothing left to spend: waiting does not help.
    QuotaExhausted,
    /// 5xx, or 408.
    Server,
    /// 3xx, 401, 403, 404 or another 4xx, or a 400 about a parameter: our endpoint, key, permission or deployment is wrong.
    /// Another provider has its own.
    Misconfigured,
    /// 400, 413 or 422: the same request would be refused again.
    Rejected,
    /// The provider's content filter refused the prompt or the text.
    Filtered,
    /// The model declined.
    Declined,
    /// The text breaks the rules: nobody gets to see it.
    Blocked,
    /// An answer that cannot be read.
    InvalidAnswer,
    /// A whole answer without a text: the model wrote nothing.
    NoText,
    /// The provider is not configured.
    NotConfigured,
    /// The call was not made: when it was its turn there was no time left, or no use for it.
    NotSent,
    /// The call was not made: its upper bound passes what a budget leaves.
    OverBudget,
    /// The call was not made: the provider's model failed too often a moment ago, for whichever instance.
    CircuitOpen,
    /// The call was not made: the provider asked whichever instance to come later.
    Paced,
    /// No provider was left, and no text of the same request is kept.
    NotKept,
}

impl Failure {
    /// Every failure.
    pub const ALL: [Self; 19] = [
        Self::Connect,
        Self::Connection,
        Self::Timeout,
        Self::RateLimited,
        Self::QuotaExhausted,
        Self::Server,
        Self::Misconfigured,
        Self::Rejected,
        Self::Filtered,
        Self::Declined,
        Self::Blocked,
        Self::InvalidAnswer,
        Self::NoText,
        Self::NotConfigured,
        Self::NotSent,
        Self::OverBudget,
        Self::CircuitOpen,
        Self::Paced,
        Self::NotKept,
    ];

    /// The name in the stores, in the log, and in a workflow's history.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect_error",
            Self::Connection => "connection_lost",
            Self::Timeout => "timeout",
            Self::RateLimited => "rate_limited",
            Self::QuotaExhausted => "quota_exhausted",
            Self::Server => "server_error",
            Self::Misconfigured => "misconfigured",
            Self::Rejected => "rejected",
            Self::Filtered => "content_filter",
            Self::Declined => "refusal",
            Self::Blocked => "blocked",
            Self::InvalidAnswer => "invalid_answer",
            Self::NoText => "no_text",
            Self::NotConfigured => "not_configured",
            Self::NotSent => "not_sent",
            Self::OverBudget => "over_budget",
            Self::CircuitOpen => "circuit_open",
            Self::Paced => "paced",
            Self::NotKept => "not_kept",
        }
    }

    /// What may follow it.
    #[must_use]
    pub fn alternatives(self) -> Alternatives {
        Trigger::Failed(self).alternatives()
    }

    /// Whether the same call may be made again: what the contract retries (network, 408, 429, 5xx, time-out).
    #[must_use]
    pub fn is_retryable(self) -> bool {
        self.alternatives().again != Again::Never
    }

    /// Whether no call was made at all: it is no entry of the ledger, and no request of a provider.
    #[must_use]
    pub fn is_uncalled(self) -> bool {
        matches!(self, Self::NotSent | Self::OverBudget | Self::CircuitOpen | Self::Paced | Self::NotKept)
    }

    /// Whether another provider may be asked. A refusal is an answer, and a request that one rejects is wrong at both.
    #[must_use]
    pub fn falls_back(self) -> bool {
        self.alternatives().other != Other::Nobody
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
    /// When the provider wants to be asked again, where it said so.
    pub retry_after: Option<Duration>,
    /// The text met its bound of tokens and is not whole.
    pub truncated: bool,
    /// The provider's content filter did not run (`content_filter_error`): nobody has looked at the text.
    pub unfiltered: bool,
    /// No provider was called: the text was made before.
    pub cached: Option<Box<Cached>>,
}

impl CallEnd {
    /// The end of a call without a text.
    #[must_use]
    pub fn failed(failure: Failure, billing: Billing) -> Self {
        Self {
            result: Err(failure),
            billing,
            http_status: None,
            retry_after: None,
            truncated: false,
            unfiltered: false,
            cached: None,
        }
    }

    /// The end of a call in whose place a text serves that was made before.
    #[must_use]
    pub fn served(cached: Cached) -> Self {
        let text = cached.text().to_owned();
        Self { result: Ok(text), cached: Some(Box::new(cached)), ..Self::failed(Failure::NotSent, Billing::Nothing) }
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

/// What came of an answer's body, of at most [`MAX_ANSWER_BYTES`].
pub type Body<'a> = Result<&'a [u8], Unread>;

/// Reads an answer. `now` is the wall clock.
#[must_use]
pub fn read(provider: Provider, status: StatusCode, headers: &HeaderMap, body: Body<'_>, now: Timestamp) -> CallEnd {
    let (end, message) = if status.is_success() { success(body) } else { failure(provider, status.as_u16(), body) };
    let limited = end.result == Err(Failure::RateLimited);
    let told = || retry_after(headers, limited, message.as_deref(), now);
    let retry_after = end.result.as_ref().err().filter(|failure| failure.is_retryable()).and_then(|_| told());
    CallEnd { http_status: Some(status.as_u16()), retry_after, ..end }
}

/// A call's end, and what the error said, which may be when to come again.
type Read = (CallEnd, Option<String>);

fn failure(provider: Provider, status: u16, body: Body<'_>) -> Read {
    let (failure, billing, message) = match body {
        // A 400 that nobody read may be a prompt that was filtered, and billed.
        Err(Unread::Cut) if status == 400 => (Failure::Connection, Billing::Unknown, None),
        Err(Unread::TooLong) if status == 400 => (Failure::InvalidAnswer, Billing::Unknown, None),
        body => {
            let error = body.ok().and_then(ServiceError::read);
            let error = error.unwrap_or_default();
            let (failure, billing) = refusal(provider, status, &error);
            (failure, billing, error.message)
        }
    };
    (CallEnd::failed(failure, billing), message)
}

/// What an answer that is no success means.
fn refusal(provider: Provider, status: u16, error: &ServiceError) -> (Failure, Billing) {
    match status {
        429 if error.is_quota() => (Failure::QuotaExhausted, Billing::Nothing),
        429 => (Failure::RateLimited, Billing::Nothing),
        // Somebody gave up waiting; the work may have been done all the same.
        408 | 502 | 504 => (Failure::Server, Billing::Unknown),
        500.. => (Failure::Server, Billing::Nothing),
        // Azure bills the tokens of a prompt that its filter refused, and does not say how many they were.
        400 if error.is_filter() && provider == Provider::Azure => (Failure::Filtered, Billing::Unknown),
        400 if error.is_filter() => (Failure::Filtered, Billing::Nothing),
        400 if error.is_unknown_parameter() => (Failure::Misconfigured, Billing::Nothing),
        // What is wrong with the request itself: its words or its length.
        400 | 413 | 422 => (Failure::Rejected, Billing::Nothing),
        // A key, a deployment, or an endpoint that is not the API's.
        _ => (Failure::Misconfigured, Billing::Nothing),
    }
}

/// An error as the services write it: `{"error": {code, type, message, innererror: {code}}}`, or `{"statusCode", "message"}` of
/// the gateway in front of Azure. A code may be text or a number.
#[derive(Debug, Default)]
struct ServiceError {
    codes: Vec<String>,
    message: Option<String>,
}

/// Nothing is kept of what is not asked for: an answer may be 4 MiB of anything.
#[derive(Deserialize, Default)]
struct ErrorBody<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "statusCode")]
    status_code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    innererror: Option<&'a RawValue>,
}

impl ServiceError {
    fn read(body: &[u8]) -> Option<Self> {
        let body: ErrorBody = serde_json::from_slice(body).ok()?;
        Some(body.error.and_then(object).map_or_else(|| Self::of(&body), |error| Self::of(&error)))
    }

    fn of(error: &ErrorBody) -> Self {
        let inner = error.innererror.and_then(object::<ErrorBody>).and_then(|inner| inner.code);
        let codes = [error.code, error.kind, inner, error.status_code].into_iter().flatten().filter_map(text_or_number);
        Self { codes: codes.collect(), message: error.message.and_then(object) }
    }

    fn is_any(&self, names: &[&str]) -> bool {
        self.codes.iter().any(|code| names.contains(&code.as_str()))
    }

    /// Azure says `content_filter` or, inside, `ResponsibleAIPolicyViolation`; OpenAI says the others.
    fn is_filter(&self) -> bool {
        const NAMES: [&str; 4] =
            ["content_filter", "ResponsibleAIPolicyViolation", "invalid_prompt", "content_policy_violation"];
        self.is_any(&NAMES)
    }

    fn is_quota(&self) -> bool {
        self.is_any(&["insufficient_quota", "billing_hard_limit_reached", "quota_exceeded"])
    }

    fn is_rate_limit(&self) -> bool {
        self.is_any(&["rate_limit_exceeded", "rate_limit_error", "too_many_requests", "429"])
    }

    /// The deployment does not know what we ask of it: no fault of the request.
    fn is_unknown_parameter(&self) -> bool {
        self.is_any(&["unsupported_parameter", "unknown_parameter", "OperationNotSupported"])
            || self.message.as_ref().is_some_and(|message| message.starts_with("Unrecognized request argument"))
    }

    /// What it means inside a 200, where the status says nothing.
    fn in_a_success(&self) -> Failure {
        match () {
            () if self.is_filter() => Failure::Filtered,
            () if self.is_quota() => Failure::QuotaExhausted,
            () if self.is_rate_limit() => Failure::RateLimited,
            () => Failure::Server,
        }
    }
}

/// Each part is read by itself: a text whose usage is odd is still a text.
#[derive(Deserialize)]
struct Completion<'a> {
    #[serde(borrow, default)]
    choices: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    message: Message,
    finish_reason: Option<String>,
    #[serde(borrow, default)]
    content_filter_results: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct Message {
    content: Option<String>,
    refusal: Option<String>,
}

/// A part of an answer as what it should be.
fn object<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

fn text_or_number(raw: &RawValue) -> Option<String> {
    object(raw).or_else(|| object::<serde_json::Number>(raw).map(|number| number.to_string()))
}

fn success(body: Body<'_>) -> Read {
    let unknown = |failure| (CallEnd::failed(failure, Billing::Unknown), None);
    let body = match body {
        Ok(body) => body,
        Err(Unread::Cut) => return unknown(Failure::Connection),
        Err(Unread::TooLong) => return unknown(Failure::InvalidAnswer),
    };
    let Ok(Completion { choices, usage, error }) = serde_json::from_slice(body) else {
        return unknown(Failure::InvalidAnswer);
    };
    if let Some(error) = error {
        // What the work cost, if any was done, is not said.
        let error = ServiceError::of(&object::<ErrorBody>(error).unwrap_or_default());
        return (CallEnd::failed(error.in_a_success(), Billing::Unknown), error.message);
    }
    let choice = choices.first().and_then(|choice| object::<Choice>(choice));
    let truncated = choice.as_ref().is_some_and(|choice| choice.finish_reason.as_deref() == Some("length"));
    let unfiltered = choice.as_ref().is_some_and(Choice::filter_failed);
    let result = choice.map_or(Err(Failure::InvalidAnswer), Choice::text);
    let usage = usage.and_then(object::<Usage>).and_then(|usage| usage.plausible(result.is_ok()));
    let billing = usage.map_or(Billing::Unknown, Billing::Usage);
    (CallEnd { result, billing, http_status: None, retry_after: None, truncated, unfiltered, cached: None }, None)
}

impl Choice<'_> {
    fn text(self) -> Result<String, Failure> {
        if self.finish_reason.as_deref() == Some("content_filter") {
            return Err(Failure::Filtered);
        }
        if self.message.refusal.is_some_and(|refusal| !refusal.is_empty()) {
            return Err(Failure::Declined);
        }
        // PostgreSQL keeps no NUL character, and no text needs one.
        let text = self.message.content.map(|text| text.replace('\0', ""));
        text.filter(|text| !text.trim().is_empty()).ok_or(Failure::NoText)
    }

    /// Azure's filter failed and let the text pass: `{"content_filter_results": {"error": {"code": "content_filter_error"}}}`.
    fn filter_failed(&self) -> bool {
        #[derive(Deserialize)]
        struct Results {
            error: Option<serde::de::IgnoredAny>,
        }
        self.content_filter_results.and_then(object::<Results>).is_some_and(|results| results.error.is_some())
    }
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

impl Usage {
    /// The provider's count of tokens, if it can be true: a sum that is their sum, no prompt of no tokens, no text of no
    /// tokens, no more cached than there were. What passes the attempt's bound is found where it is settled.
    fn plausible(self, has_text: bool) -> Option<TokenUsage> {
        let (input_tokens, output_tokens) = (self.prompt_tokens, self.completion_tokens);
        let cached_input_tokens = self.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0);
        let adds_up = self.total_tokens.is_none_or(|total| Some(total) == input_tokens.checked_add(output_tokens));
        let plausible = input_tokens > 0 && cached_input_tokens <= input_tokens && (output_tokens > 0 || !has_text);
        (adds_up && plausible).then_some(TokenUsage { input_tokens, cached_input_tokens, output_tokens })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read_as(provider: Provider, status: u16, body: &str) -> CallEnd {
        let now = Timestamp::UNIX_EPOCH;
        read(provider, StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), Ok(body.as_bytes()), now)
    }

    #[test]
    fn a_text_comes_with_its_usage() {
        let body = r#"{"choices":[{"message":{"content":"hi\u0000"},"finish_reason":"stop"}],
            "usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,"prompt_tokens_details":{"cached_tokens":4}}}"#;
        let end = read_as(Provider::Azure, 200, body);
        assert_eq!(end.result.as_deref(), Ok("hi"));
        let usage = TokenUsage { input_tokens: 9, cached_input_tokens: 4, output_tokens: 2 };
        assert_eq!((end.billing, end.outcome()), (Billing::Usage(usage), Outcome::Succeeded));
    }

    #[test]
    fn a_text_whose_usage_is_missing_or_cannot_be_true_is_not_free() {
        for usage in [
            "",
            r#","usage":null"#,
            r#","usage":{"prompt_tokens":-1,"completion_tokens":1}"#,
            r#","usage":{"prompt_tokens":"9","completion_tokens":1}"#,
            r#","usage":{"prompt_tokens":9.5,"completion_tokens":1}"#,
            r#","usage":{"prompt_tokens":0,"completion_tokens":1}"#,
            r#","usage":{"prompt_tokens":9,"completion_tokens":0}"#,
            r#","usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":9}"#,
            r#","usage":{"prompt_tokens":9,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":10}}"#,
            r#","usage":{"prompt_tokens":18446744073709551615,"completion_tokens":18446744073709551615,"total_tokens":1}"#,
        ] {
            let body = format!(r#"{{"choices":[{{"message":{{"content":"hi"}}}}]{usage}}}"#);
            let end = read_as(Provider::OpenAi, 200, &body);
            assert_eq!((end.result.as_deref(), end.billing), (Ok("hi"), Billing::Unknown), "{usage}");
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
            (502, Failure::Server, Billing::Unknown),
            (504, Failure::Server, Billing::Unknown),
            (400, Failure::Rejected, Billing::Nothing),
            (401, Failure::Misconfigured, Billing::Nothing),
            (404, Failure::Misconfigured, Billing::Nothing),
            (422, Failure::Rejected, Billing::Nothing),
            (405, Failure::Misconfigured, Billing::Nothing),
            (410, Failure::Misconfigured, Billing::Nothing),
        ] {
            let end = read_as(Provider::OpenAi, status, "{}");
            assert_eq!((end.result, end.billing), (Err(failure), billing), "{status}");
        }
        let deep = format!("{}{}", "[".repeat(4_000), "]".repeat(4_000));
        let odd = [
            "",
            "{",
            "[]",
            "null",
            r#"{"choices":[]}"#,
            r#"{"choices":{}}"#,
            r#"{"choices":[{"message":{"content":7}}]}"#,
            &deep,
        ];
        for body in odd {
            let end = read_as(Provider::OpenAi, 200, body);
            assert_eq!((end.result, end.billing), (Err(Failure::InvalidAnswer), Billing::Unknown), "{body}");
        }
        for nothing in [r#"{"choices":[{"message":{"content":" "}}]}"#, r#"{"choices":[{"message":{"content":null}}]}"#]
        {
            let end = read_as(Provider::OpenAi, 200, nothing);
            assert_eq!((end.result, end.billing), (Err(Failure::NoText), Billing::Unknown), "{nothing}");
        }
    }

    #[test]
    fn an_error_inside_a_200_is_an_error_and_may_have_cost() {
        for (error, failure) in [
            (json!({"code": "rate_limit_exceeded"}), Failure::RateLimited),
            (json!({"code": 429}), Failure::RateLimited),
            (json!({"code": "content_filter"}), Failure::Filtered),
            (json!({"type": "insufficient_quota"}), Failure::QuotaExhausted),
            (json!({"message": "The server had an error"}), Failure::Server),
            (json!({}), Failure::Server),
        ] {
            let end = read_as(Provider::OpenAi, 200, &json!({"error": error, "choices": []}).to_string());
            assert_eq!((end.result, end.billing), (Err(failure), Billing::Unknown), "{error}");
        }
    }

    #[test]
    fn a_wait_that_is_told_inside_a_200_is_kept() {
        let body = r#"{"error": {"code": "rate_limit_exceeded", "message": "Please try again in 20s."}}"#;
        assert_eq!(read_as(Provider::OpenAi, 200, body).retry_after, Some(Duration::from_secs(20)));
    }

    #[test]
    fn a_400_that_nobody_read_may_have_cost() {
        let status = StatusCode::BAD_REQUEST;
        let end = read(Provider::Azure, status, &HeaderMap::new(), Err(Unread::Cut), Timestamp::UNIX_EPOCH);
        assert_eq!((end.result, end.billing), (Err(Failure::Connection), Billing::Unknown));
    }

    #[test]
    fn an_account_with_nothing_left_is_not_asked_again() {
        let body = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#;
        let end = read_as(Provider::OpenAi, 429, body);
        assert_eq!(end.result, Err(Failure::QuotaExhausted));
        assert!(!Failure::QuotaExhausted.is_retryable() && Failure::QuotaExhausted.falls_back());
    }

    #[test]
    fn a_429_says_when_to_come_again() {
        let gateway = r#"{"statusCode": 429, "message": "Rate limit is exceeded. Try again in 5 seconds."}"#;
        let end = read_as(Provider::Azure, 429, gateway);
        assert_eq!((end.result, end.retry_after), (Err(Failure::RateLimited), Some(Duration::from_secs(5))));
    }

    #[test]
    fn a_parameter_that_a_deployment_does_not_know_is_our_fault() {
        let body = r#"{"error":{"message":"Unrecognized request argument supplied: max_tokens","code":null}}"#;
        assert_eq!(read_as(Provider::Azure, 400, body).result, Err(Failure::Misconfigured));
    }

    #[test]
    fn a_refusal_is_no_reason_to_ask_another() {
        let code = r#"{"error":{"code":"content_filter","message":"…"}}"#;
        let inner = r#"{"error":{"code":"BadRequest","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#;
        let finish = r#"{"choices":[{"message":{"content":"x"},"finish_reason":"content_filter"}]}"#;
        let flagged = r#"{"error":{"type":"invalid_request_error","code":"invalid_prompt"}}"#;
        for (status, body) in [(400, code), (400, inner), (400, flagged), (200, finish)] {
            assert_eq!(read_as(Provider::Azure, status, body).result, Err(Failure::Filtered), "{body}");
        }
        let refusal = r#"{"choices":[{"message":{"refusal":"no"},"finish_reason":"stop"}]}"#;
        assert_eq!(read_as(Provider::OpenAi, 200, refusal).result, Err(Failure::Declined));
        for failure in [Failure::Filtered, Failure::Declined] {
            assert!(!failure.falls_back() && !failure.is_retryable());
        }
    }

    #[test]
    fn a_filter_that_failed_has_filtered_nothing() {
        let body = r#"{"choices":[{"message":{"content":"hi"},"finish_reason":"stop","content_filter_results":
            {"error":{"code":"content_filter_error","message":"The contents are not filtered"}}}]}"#;
        let end = read_as(Provider::Azure, 200, body);
        assert_eq!((end.result.as_deref(), end.unfiltered), (Ok("hi"), true));
    }

    #[test]
    fn a_200_that_did_not_arrive_may_have_cost() {
        for (body, failure) in [(Unread::Cut, Failure::Connection), (Unread::TooLong, Failure::InvalidAnswer)] {
            let end = read(Provider::Azure, StatusCode::OK, &HeaderMap::new(), Err(body), Timestamp::UNIX_EPOCH);
            assert_eq!((end.result, end.billing), (Err(failure), Billing::Unknown));
        }
    }

    #[test]
    fn what_met_its_bound_is_marked() {
        let body = r#"{"choices":[{"message":{"content":"hi"},"finish_reason":"length"}]}"#;
        assert!(read_as(Provider::OpenAi, 200, body).truncated);
    }

    proptest! {
        #[test]
        fn any_answer_has_an_end(status in 200_u16..600, body in proptest::collection::vec(any::<u8>(), 0..256)) {
            let status = StatusCode::from_u16(status).unwrap();
            let end = read(Provider::Azure, status, &HeaderMap::new(), Ok(&body), Timestamp::UNIX_EPOCH);
            prop_assert!(end.result.is_err() && end.http_status == Some(status.as_u16()));
        }
    }
}
