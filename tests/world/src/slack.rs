//! Slack's incoming webhooks: `POST /services/{team}/{app}/{token}`, answered with a bare word.
//!
//! The limits are those of Block Kit (<https://docs.slack.dev/reference/block-kit/blocks/>); the words are the service's
//! (<https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks/>).

use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::post;
use serde_json::Value;

use crate::calls::Memory;
use crate::exchange::{self, Reply};
use crate::faults::{Operation, Provider};
use crate::server::Connection;

/// The last part of the path of the webhook that this Slack knows.
pub const SLACK_TOKEN: &str = "world-slack-token";

const MOST_BLOCKS: usize = 50;
const MOST_FIELDS: usize = 10;
const MOST_ELEMENTS: usize = 10;
const LONGEST_HEADER: usize = 150;
const LONGEST_SECTION: usize = 3_000;
const LONGEST_FIELD: usize = 2_000;

pub(crate) fn routes() -> Router<Arc<Memory>> {
    Router::new()
        .route("/{team}/{app}/{token}", post(receive))
        .fallback(async || exchange::respond_to_stranger(word(StatusCode::NOT_FOUND, "no_service")))
}

async fn receive(
    State(memory): State<Arc<Memory>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    Path((team, app, token)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: String,
) -> Response {
    // The token is a secret, which is remembered by no one.
    let path = format!("/slack/services/{team}/{app}/redacted");
    let call = memory.open(Provider::Slack, Operation::Webhook, path, String::new(), &headers, &body);
    exchange::run(call, connection, Provider::Slack, |_| {
        if token != SLACK_TOKEN {
            return word(StatusCode::FORBIDDEN, "invalid_token");
        }
        match serde_json::from_str::<Value>(&body) {
            Err(_) => word(StatusCode::BAD_REQUEST, "invalid_payload"),
            Ok(message) => match fault(&message) {
                Some(fault) => word(StatusCode::BAD_REQUEST, fault),
                None => word(StatusCode::OK, "ok"),
            },
        }
    })
    .await
}

/// What the service would refuse, if anything.
fn fault(message: &Value) -> Option<&'static str> {
    let has_text = message["text"].as_str().is_some_and(|text| !text.is_empty());
    let blocks = message["blocks"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !has_text && blocks.is_empty() {
        return Some("no_text");
    }
    let fit = blocks.len() <= MOST_BLOCKS && blocks.iter().all(is_valid);
    (!fit).then_some("invalid_blocks")
}

fn is_valid(block: &Value) -> bool {
    let list = |name: &str| block[name].as_array().map(Vec::as_slice).unwrap_or_default();
    match block["type"].as_str() {
        Some("header") => block["text"]["type"] == "plain_text" && is_text(&block["text"], LONGEST_HEADER),
        Some("section") => {
            let fields = list("fields");
            let has_content = !fields.is_empty() || !block["text"].is_null();
            let text_fits = block["text"].is_null() || is_text(&block["text"], LONGEST_SECTION);
            has_content
                && text_fits
                && fields.len() <= MOST_FIELDS
                && fields.iter().all(|field| is_text(field, LONGEST_FIELD))
        }
        Some("context") => {
            let elements = list("elements");
            (1..=MOST_ELEMENTS).contains(&elements.len())
                && elements.iter().all(|element| is_text(element, LONGEST_FIELD))
        }
        Some("divider") => true,
        _ => false,
    }
}

fn is_text(text: &Value, longest: usize) -> bool {
    let is_known = text["type"] == "plain_text" || text["type"] == "mrkdwn";
    is_known && text["text"].as_str().is_some_and(|text| (1..=longest).contains(&text.chars().count()))
}

/// What Slack sends with a status.
pub(crate) fn error(status: StatusCode) -> Reply {
    match status.as_u16() {
        403 => word(status, "action_prohibited"),
        404 => word(status, "channel_not_found"),
        410 => word(status, "channel_is_archived"),
        429 => word(status, "rate_limited").header("retry-after", "30"),
        500..=599 => word(status, "rollup_error"),
        _ => word(status, "invalid_payload"),
    }
}

fn word(status: StatusCode, word: &str) -> Reply {
    Reply::new(status, Value::from(word))
}
