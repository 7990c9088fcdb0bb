//! A way to DynamoDB that counts: what is read is seen on the wire, not asked of whoever reads.

use std::mem::take;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use reqwest::Client;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// One request that passed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Passed {
    /// The operation: the end of `X-Amz-Target`.
    pub operation: String,
    /// The items that its answer had.
    pub items: usize,
}

/// Listens on loopback, passes requests on and keeps count.
#[derive(Debug)]
pub struct Meter {
    url: String,
    passed: Arc<Mutex<Vec<Passed>>>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Way {
    client: Client,
    target: String,
    passed: Arc<Mutex<Vec<Passed>>>,
}

impl Meter {
    /// A way to the service at `target`.
    ///
    /// # Errors
    /// If no port is free.
    #[expect(clippy::disallowed_methods, reason = "no Lambda function: nothing freezes it")]
    pub async fn to(target: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let passed = Arc::default();
        let way = Way {
            client: Client::builder().no_proxy().build()?,
            target: target.to_owned(),
            passed: Arc::clone(&passed),
        };
        let router = Router::new().fallback(pass).with_state(way);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap_or_default() });
        Ok(Self { url, passed, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What has passed since it was last asked, in no order.
    #[must_use]
    pub fn take(&self) -> Vec<Passed> {
        take(&mut *self.passed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(State(way): State<Way>, headers: HeaderMap, body: Bytes) -> Response {
    way.pass(headers, body).await.unwrap_or_else(|error| (StatusCode::BAD_GATEWAY, error.to_string()).into_response())
}

impl Way {
    async fn pass(&self, mut headers: HeaderMap, body: Bytes) -> anyhow::Result<Response> {
        let target = headers.get("x-amz-target").context("no X-Amz-Target")?.to_str()?;
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        headers.remove(HOST);
        let answer = self.client.post(&self.target).headers(headers).body(body).send().await?;
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await?;
        let items = items(&serde_json::from_slice(&body).unwrap_or_default());
        self.passed.lock().unwrap_or_else(PoisonError::into_inner).push(Passed { operation, items });
        headers.remove(TRANSFER_ENCODING);
        headers.remove(CONTENT_LENGTH);
        Ok((status, headers, body).into_response())
    }
}

/// How many items a Query, Scan or BatchGetItem answered with.
fn items(answer: &Value) -> usize {
    let of_tables = answer["Responses"].as_object().into_iter().flat_map(|tables| tables.values());
    of_tables.chain([&answer["Items"]]).filter_map(Value::as_array).map(Vec::len).sum()
}
