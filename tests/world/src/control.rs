//! `/control`: scripts faults and shows what was seen. Unauthenticated; the server takes loopback addresses only.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::calls::{Call, Memory};
use crate::faults::{Operation, Provider, Rule};
use crate::onlyfans;

pub(crate) fn routes() -> Router<Arc<Memory>> {
    Router::new()
        .route("/", delete(reset))
        .route("/faults", post(add_rule).get(rules))
        .route("/release", post(release))
        .route("/calls", get(calls))
        .route("/calls/count", get(count))
        .nest("/onlyfans", onlyfans::control::routes())
}

/// Which calls: of all providers if none is named, chat completions if no operation is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    provider: Option<Provider>,
    #[serde(default)]
    operation: Operation,
}

async fn add_rule(State(memory): State<Arc<Memory>>, Json(rule): Json<Rule>) -> StatusCode {
    memory.add_rule(rule);
    StatusCode::CREATED
}

async fn rules(State(memory): State<Arc<Memory>>) -> Json<Vec<Rule>> {
    Json(memory.rules())
}

async fn release(State(memory): State<Arc<Memory>>) -> StatusCode {
    memory.release();
    StatusCode::NO_CONTENT
}

async fn calls(State(memory): State<Arc<Memory>>, Query(filter): Query<Filter>) -> Json<Vec<Call>> {
    Json(memory.calls(filter.operation, filter.provider))
}

async fn count(State(memory): State<Arc<Memory>>, Query(filter): Query<Filter>) -> Json<Value> {
    Json(json!({ "count": memory.calls(filter.operation, filter.provider).len() }))
}

async fn reset(State(memory): State<Arc<Memory>>) -> StatusCode {
    memory.reset();
    StatusCode::NO_CONTENT
}
