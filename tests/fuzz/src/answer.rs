//! A provider's answer, and what is booked for the call.
//!
//! An input is a provider and a status, perhaps `cut` or `large` where the body did not come whole, then headers and body:
//!
//! ```text
//! azure 429
//! retry-after-ms: 1500
//!
//! {"error": {"code": "429", "message": "Please retry after 2 seconds."}}
//! ```

use std::sync::LazyLock;
use std::time::Duration;

use http::StatusCode;
use huntaze_costs::attempt::{AttemptIntent, Billing, Outcome, Settlement};
use huntaze_costs::price::Catalogue;
use huntaze_domain::ids::{AttemptId, UserId, WorkflowId};
use huntaze_domain::money::Usd;
use huntaze_domain::provider::{Provider, TokenUsage};
use huntaze_http::Unread;
use huntaze_orchestrator::answer::{self, Body, CallEnd, Failure};
use jiff::Timestamp;
use serde_json::Value;

use crate::MAX_INPUT_BYTES;
use crate::message::Message;

/// The time of every answer: 2026-11-21, 10:00:00 UTC.
const NOW: i64 = 1_795_255_200;
/// Nobody is asked to wait longer.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
/// What is reserved for every call.
const BOUND: TokenUsage = TokenUsage { input_tokens: 4_000, cached_input_tokens: 0, output_tokens: 1_000 };

/// Reads an answer, settles the call, and holds both against what the answer says. Returns whether there is a text.
///
/// # Panics
/// If a text is no text, a failure is none, work may have been done for nothing, more is booked than was reserved, or a wait is
/// longer than a day.
pub fn check(data: &[u8]) -> bool {
    if data.len() > MAX_INPUT_BYTES {
        return false;
    }
    let message = Message::read(data);
    let mut words = message.first_line.split(' ');
    let provider = words.next().and_then(Provider::from_name).unwrap_or(Provider::Azure);
    let status = words.next().and_then(|word| word.parse().ok()).unwrap_or(StatusCode::OK);
    let body = match words.next() {
        Some("cut") => Err(Unread::Cut),
        Some("large") => Err(Unread::TooLong),
        _ => Ok(message.body),
    };
    let headers = message.header_map(<[u8]>::to_vec);
    let now = Timestamp::from_second(NOW).unwrap_or_default();
    let end = answer::read(provider, status, &headers, body, now);
    assert_eq!(end, answer::read(provider, status, &headers, body, now), "the same answer, read again");

    waiting(&end);
    // What the reader skips may be less than JSON (a control character in a text that nobody asked for). What it says is then
    // not compared with the whole, which cannot be read.
    let has_read = end.result.is_ok() || matches!(end.billing, Billing::Usage(_));
    if has_read && json(body).is_none() {
        return end.result.is_ok();
    }
    meaning(status, body, &end);
    money(provider, status, body, &end);
    end.result.is_ok()
}

/// A text only in a success, only as it was written there, and not what the provider or its model held back.
fn meaning(status: StatusCode, body: Body<'_>, end: &CallEnd) {
    assert_eq!(end.http_status, Some(status.as_u16()));
    match &end.result {
        Ok(text) => {
            assert!(status.is_success(), "a text with {status}");
            assert!(!text.trim().is_empty() && !text.contains('\0'), "{text:?} is no text");
            let said = json(body).unwrap_or_default();
            let choice = &said["choices"][0];
            assert_eq!(choice["message"]["content"].as_str().map(|text| text.replace('\0', "")).as_ref(), Some(text));
            assert_ne!(choice["finish_reason"], "content_filter");
            assert!(matches!(choice["message"]["refusal"].as_str(), None | Some("")), "the model declined");
            assert!(!said["error"].is_object(), "a text beside an error");
        }
        Err(failure) => {
            let expected = match status.as_u16() {
                200..=299 => !matches!(failure, Failure::Rejected | Failure::Misconfigured),
                429 => matches!(failure, Failure::RateLimited | Failure::QuotaExhausted),
                408 | 500.. => *failure == Failure::Server,
                400 if body == Err(Unread::Cut) => *failure == Failure::Connection,
                400 if body == Err(Unread::TooLong) => *failure == Failure::InvalidAnswer,
                400 => matches!(failure, Failure::Filtered | Failure::Misconfigured | Failure::Rejected),
                413 | 422 => *failure == Failure::Rejected,
                _ => *failure == Failure::Misconfigured,
            };
            assert!(expected, "{failure:?} with {status}");
            // These are of a call that had no answer.
            let answered = !matches!(
                failure,
                Failure::Connect | Failure::Timeout | Failure::NotConfigured | Failure::NotSent | Failure::OverBudget
            );
            assert!(answered, "{failure:?} with an answer");
        }
    }
}

fn waiting(end: &CallEnd) {
    if let Some(wait) = end.retry_after {
        assert!(wait <= LONGEST_WAIT, "a wait of {wait:?}");
        assert!(end.result.as_ref().is_err_and(|failure| failure.is_retryable()), "a wait for {:?}", end.result);
    }
}

/// A success is never free, only the provider's own numbers are cheaper than the bound, and nothing passes the bound.
fn money(provider: Provider, status: StatusCode, body: Body<'_>, end: &CallEnd) {
    assert!(!status.is_success() || end.billing != Billing::Nothing, "a success is not free");
    if let Billing::Usage(usage) = end.billing {
        assert!(status.is_success(), "usage with {status}");
        assert_eq!(Some(usage), said_usage(body), "the provider said otherwise");
        assert!(can_be_true(usage, body, end.result.is_ok()), "{usage:?} cannot be true");
    }
    let attempt = attempt(provider);
    let bound = attempt.bound_cost();
    let Settlement { outcome, usage, cost, estimated } = attempt.settle(end.outcome(), end.billing);
    assert!(cost <= bound, "{cost} passes the bound of {bound}");
    assert_eq!(cost, attempt.price.cost(usage), "the tokens that are booked are what is paid");
    match end.billing {
        Billing::Nothing => assert_eq!((usage, cost, estimated), (TokenUsage::default(), Usd::ZERO, false)),
        Billing::Usage(said) if !estimated => assert_eq!(said, usage),
        Billing::Usage(said) => {
            assert!(said.input_tokens > BOUND.input_tokens || said.output_tokens > BOUND.output_tokens, "{said:?}");
            assert_eq!(cost, bound);
        }
        Billing::Unknown => {
            assert_eq!((cost, estimated), (bound, true));
            assert!(
                end.result.is_err()
                    || says_twice(body)
                    || !said_usage(body).is_some_and(|said| can_be_true(said, body, true)),
                "the provider's numbers are not used"
            );
        }
    }
    assert!(end.result.is_err() || (cost > Usd::ZERO && outcome == Outcome::Succeeded), "a text that is free");
    assert_eq!(outcome == Outcome::Unknown, end.result.is_err() && end.billing == Billing::Unknown);
}

fn json(body: Body<'_>) -> Option<Value> {
    serde_json::from_slice(body.ok()?).ok()
}

/// Whether a number is there twice: which of them is meant cannot be known, so neither is used.
fn says_twice(body: Body<'_>) -> bool {
    const NAMES: [&str; 6] =
        ["usage", "prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "cached_tokens"];
    let Ok(body) = body else { return false };
    let text = String::from_utf8_lossy(body);
    NAMES.iter().any(|name| text.matches(&format!("\"{name}\"")).count() > 1)
}

/// The numbers of tokens in an answer's body.
fn said_usage(body: Body<'_>) -> Option<TokenUsage> {
    let usage = json(body)?.get_mut("usage").map(Value::take)?;
    let cached = &usage["prompt_tokens_details"]["cached_tokens"];
    Some(TokenUsage {
        input_tokens: usage["prompt_tokens"].as_u64()?,
        cached_input_tokens: if cached.is_null() { 0 } else { cached.as_u64()? },
        output_tokens: usage["completion_tokens"].as_u64()?,
    })
}

/// Whether a call can have cost this, by itself and by the sum in the body.
fn can_be_true(usage: TokenUsage, body: Body<'_>, has_text: bool) -> bool {
    let TokenUsage { input_tokens, cached_input_tokens, output_tokens } = usage;
    let total = json(body).map(|mut body| body["usage"]["total_tokens"].take()).unwrap_or_default();
    let adds_up = total.is_null() || total.as_u64() == input_tokens.checked_add(output_tokens);
    adds_up && input_tokens > 0 && (output_tokens > 0 || !has_text) && cached_input_tokens <= input_tokens
}

/// A call of the provider's own model, under [`BOUND`].
fn attempt(provider: Provider) -> &'static AttemptIntent {
    static ATTEMPTS: LazyLock<[AttemptIntent; 2]> =
        LazyLock::new(|| [make_attempt(Provider::Azure), make_attempt(Provider::OpenAi)]);
    &ATTEMPTS[usize::from(provider == Provider::OpenAi)]
}

#[expect(clippy::expect_used, reason = "constants: the model is in the built-in catalogue, the ids are ids")]
fn make_attempt(provider: Provider) -> AttemptIntent {
    let workflow_id = WorkflowId::parse("wf_fuzz").expect("an id");
    let started_at = Timestamp::from_second(NOW).expect("a time");
    let catalogue = Catalogue::built_in().expect("a catalogue");
    AttemptIntent {
        id: AttemptId::of(&workflow_id, 1),
        workflow_id,
        sequence: 1,
        user_id: UserId::parse("ana").expect("an id"),
        step: "plan".to_owned(),
        request_type: "content_planning",
        provider,
        model: "gpt-4o".to_owned(),
        price: catalogue.price(provider, "gpt-4o", started_at).expect("a price").clone(),
        bound: BOUND,
        trace_id: String::new(),
        started_at,
    }
}
