//! What the API says of a message that was taken on.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use huntaze_messaging::outbox::Message;
use huntaze_messaging::place::Place;
use huntaze_messaging::room::{Room, after};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The contract's answer to a send.
pub(crate) fn accepted(message: &Message, place: &Place, room: &Room, duplicate: bool, now: Timestamp) -> Value {
    let mut data = json!({
        "messageId": message.id,
        "accountId": message.account_id,
        "status": message.status.as_str(),
        "rateLimitInfo": room.to_json(now),
        "queueInfo": place.to_json(message, room, now),
    });
    if duplicate {
        data["duplicate"] = json!(true);
    }
    data
}

/// The old system's headers: the account's own limit that lets the fewest more through. Absent where that is not known.
pub(crate) fn limit_headers(room: &Room, now: Timestamp) -> Vec<(HeaderName, HeaderValue)> {
    room.of_the_account()
        .map(|layer| old_headers(layer.limit.into(), layer.remaining, layer.reset, now))
        .unwrap_or_default()
}

/// The same of a bound that refuses a message: nothing of it is left.
pub(crate) fn refusal_headers(limit: u64, retry_after: Duration, now: Timestamp) -> Vec<(HeaderName, HeaderValue)> {
    old_headers(limit, 0, retry_after, now)
}

fn old_headers(limit: u64, remaining: u32, reset: Duration, now: Timestamp) -> Vec<(HeaderName, HeaderValue)> {
    [
        (HeaderName::from_static("x-ratelimit-limit"), HeaderValue::from(limit)),
        (HeaderName::from_static("x-ratelimit-remaining"), HeaderValue::from(remaining)),
        (HeaderName::from_static("x-ratelimit-reset"), HeaderValue::from(after(now, reset).as_second())),
    ]
    .into()
}
