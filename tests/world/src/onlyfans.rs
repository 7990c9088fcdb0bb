//! OnlyFans, as the gateway in front of it is spoken to: `/chats/{recipient}/messages` and `/users/me`.
//!
//! A message that is accepted has reached its fan, and is remembered for good, whatever becomes of the answer. `Idempotency-Key` is
//! remembered and not honoured: what is sent twice are two messages, so that a test sees it.

mod chats;
pub(crate) mod control;
mod mix;

use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, OriginalUri, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

pub use self::chats::{Author, FanMessage, OnlyFansSession};
pub(crate) use self::chats::{Chats, Line};
pub(crate) use self::mix::Dice;
pub use self::mix::Mix;
use crate::calls::Memory;
use crate::exchange::{self, Reply};
use crate::faults::{Operation, Provider};
use crate::server::Connection;

/// The longest text that a fan can be sent, in characters.
const LONGEST_TEXT: usize = 1_000;
/// The most messages of a conversation that are shown at once.
const MOST_SHOWN: usize = 100;

pub(crate) fn routes() -> Router<Arc<Memory>> {
    Router::new()
        .route("/chats/{recipient}/messages", post(send).get(conversation))
        .route("/users/me", get(me))
        .fallback(async || exchange::respond_to_stranger(error(StatusCode::NOT_FOUND)))
}

async fn send(
    State(memory): State<Arc<Memory>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    OriginalUri(uri): OriginalUri,
    Path(recipient): Path<String>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let call = memory.open(Provider::OnlyFans, Operation::Message, uri.to_string(), String::new(), &headers, &body);
    exchange::run(call, connection, Provider::OnlyFans, |_| {
        accept(&memory.chats, &recipient, &headers, &body).unwrap_or_else(|refusal| refusal)
    })
    .await
}

/// From here on the fan has it.
fn accept(chats: &Chats, recipient: &str, headers: &HeaderMap, body: &str) -> Result<Reply, Reply> {
    let account = authenticate(chats, headers)?;
    let text = wanted_text(body)?;
    let header = |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let line = chats.accept(account, recipient, text, header("x-request-id"), header("idempotency-key"));
    Ok(Reply::new(StatusCode::OK, shown(&line)))
}

/// The text of `{"text", "price", "mediaFiles"}`. A price and media are not played.
fn wanted_text(body: &str) -> Result<String, Reply> {
    let refused = |message: &str| coded(StatusCode::BAD_REQUEST, "invalid_request", message);
    let body: Value = serde_json::from_str(body).map_err(|_| refused("The body is not JSON."))?;
    let text = body["text"].as_str().filter(|text| !text.trim().is_empty());
    let text = text.ok_or_else(|| refused("text is required."))?;
    if text.chars().count() > LONGEST_TEXT {
        return Err(coded(StatusCode::UNPROCESSABLE_ENTITY, "text_too_long", "The text is too long."));
    }
    if body["price"] != 0 || body["mediaFiles"].as_array().is_none_or(|files| !files.is_empty()) {
        return Err(refused("price must be 0 and mediaFiles empty."));
    }
    Ok(text.to_owned())
}

#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default = "ten")]
    limit: usize,
    #[serde(default)]
    order: Order,
}

fn ten() -> usize {
    10
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    #[default]
    Desc,
    Asc,
}

async fn conversation(
    State(memory): State<Arc<Memory>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    OriginalUri(uri): OriginalUri,
    Path(recipient): Path<String>,
    Query(page): Query<Page>,
    headers: HeaderMap,
) -> Response {
    let call = memory.open(Provider::OnlyFans, Operation::Conversation, uri.to_string(), String::new(), &headers, "");
    exchange::run(call, connection, Provider::OnlyFans, |_| {
        let account = match authenticate(&memory.chats, &headers) {
            Ok(account) => account,
            Err(refusal) => return refusal,
        };
        if !(1..=MOST_SHOWN).contains(&page.limit) {
            return coded(StatusCode::BAD_REQUEST, "invalid_request", "limit must be 1 to 100.");
        }
        let mut lines = memory.chats.of(&account, &recipient);
        if page.order == Order::Desc {
            lines.reverse();
        }
        let list: Vec<_> = lines.iter().take(page.limit).map(shown).collect();
        Reply::new(StatusCode::OK, json!({ "list": list, "hasMore": lines.len() > page.limit }))
    })
    .await
}

/// A message as the platform shows it. Its times have no fractions of a second.
fn shown(Line { message, author }: &Line) -> Value {
    let from = match author {
        Author::Fan => chats::user_id("fan", &message.recipient),
        Author::Gateway | Author::Creator => chats::user_id("creator", &message.account),
    };
    json!({
        "id": message.id,
        "text": message.text,
        "createdAt": message.at.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string(),
        "fromUser": { "id": from },
    })
}

async fn me(
    State(memory): State<Arc<Memory>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Response {
    let call = memory.open(Provider::OnlyFans, Operation::Me, uri.to_string(), String::new(), &headers, "");
    exchange::run(call, connection, Provider::OnlyFans, |_| match authenticate(&memory.chats, &headers) {
        Ok(account) => {
            let id = chats::user_id("creator", &account);
            Reply::new(StatusCode::OK, json!({ "id": id, "username": account }))
        }
        Err(refusal) => refusal,
    })
    .await
}

/// The account whose session the request carries.
fn authenticate(chats: &Chats, headers: &HeaderMap) -> Result<String, Reply> {
    let cookies = headers.get(header::COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let account = cookies.split(';').find_map(|cookie| chats.account_of(cookie.trim()));
    account.ok_or_else(|| error(StatusCode::UNAUTHORIZED))
}

/// What OnlyFans sends with a status. Its 429 does not say when to come again, unless a test has it say so.
pub(crate) fn error(status: StatusCode) -> Reply {
    let (code, message) = match status.as_u16() {
        400 => ("invalid_request", "The request cannot be read."),
        401 => ("session_expired", "Please sign in again."),
        403 => ("forbidden", "This account may not write messages."),
        404 => ("not_found", "There is no such user."),
        408 => ("timeout", "The request took too long."),
        413 => ("too_large", "The request is too large."),
        422 => ("unprocessable", "This message cannot be sent."),
        429 => ("rate_limited", "Too many messages."),
        _ => ("unavailable", "Please try again later."),
    };
    coded(status, code, message)
}

fn coded(status: StatusCode, code: &str, message: &str) -> Reply {
    Reply::new(status, json!({ "error": { "code": code, "message": message } }))
}
