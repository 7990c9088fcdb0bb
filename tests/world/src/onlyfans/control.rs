//! `/control/onlyfans`: what reached fans, what else is in their conversations, sessions, and the mix of faults.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Author, Dice, FanMessage, Mix, OnlyFansSession};
use crate::calls::{self, Memory};

pub(crate) fn routes() -> Router<Arc<Memory>> {
    Router::new()
        .route("/messages", get(messages).post(write))
        .route("/messages/count", get(count))
        .route("/mix", post(mix))
        .route("/sessions/{account}", get(session).delete(expire))
}

/// Which messages: all where nothing is named.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    account: Option<String>,
    recipient: Option<String>,
}

/// A message that did not come over the API.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Foreign {
    account: String,
    recipient: String,
    author: Author,
    text: String,
    /// Now, if not said.
    at: Option<Timestamp>,
}

fn filtered(memory: &Memory, filter: &Filter) -> Vec<FanMessage> {
    let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
    let mut messages = memory.chats.sent();
    messages.retain(|message| fits(&filter.account, &message.account) && fits(&filter.recipient, &message.recipient));
    messages
}

async fn messages(State(memory): State<Arc<Memory>>, Query(filter): Query<Filter>) -> Json<Vec<FanMessage>> {
    Json(filtered(&memory, &filter))
}

async fn count(State(memory): State<Arc<Memory>>, Query(filter): Query<Filter>) -> Json<Value> {
    Json(json!({ "count": filtered(&memory, &filter).len() }))
}

async fn write(State(memory): State<Arc<Memory>>, Json(foreign): Json<Foreign>) -> (StatusCode, Json<Value>) {
    if foreign.author == Author::Gateway {
        return (
            StatusCode::UNPROCESSABLE_ENTITY,
            Json(json!({ "error": "what the gateway writes comes over the API" })),
        );
    }
    let at = foreign.at.unwrap_or_else(calls::now);
    let id = memory.chats.write(&foreign.account, &foreign.recipient, foreign.author, &foreign.text, at);
    (StatusCode::CREATED, Json(json!({ "id": id })))
}

async fn mix(State(memory): State<Arc<Memory>>, Json(mix): Json<Mix>) -> StatusCode {
    match Dice::new(&mix) {
        Ok(dice) => {
            memory.set_dice(dice);
            StatusCode::CREATED
        }
        Err(_) => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

async fn session(State(memory): State<Arc<Memory>>, Path(account): Path<String>) -> Json<OnlyFansSession> {
    Json(memory.chats.session(&account))
}

async fn expire(State(memory): State<Arc<Memory>>, Path(account): Path<String>) -> StatusCode {
    memory.chats.expire(&account);
    StatusCode::NO_CONTENT
}
