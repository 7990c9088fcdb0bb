//! What the API says of a message that was taken on.

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
    let Some(layer) = room.of_the_account() else { return Vec::new() };
    let reset = after(now, layer.reset).as_second();
    [
        (HeaderName::from_static("x-ratelimit-limit"), HeaderValue::from(layer.limit)),
        (HeaderName::from_static("x-ratelimit-remaining"), HeaderValue::from(layer.remaining)),
        (HeaderName::from_static("x-ratelimit-reset"), HeaderValue::from(reset)),
    ]
    .into()
}
