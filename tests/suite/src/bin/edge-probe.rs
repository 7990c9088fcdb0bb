//! A function for the edge to be tried on: it answers, fails or panics as it is told. Never deployed.

use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use huntaze_lambda::api::{self, Call, Reply, Route};
use huntaze_lambda::clients::Aws;
use huntaze_lambda::problem::Problem;
use huntaze_lambda::queue::{self, Consumer, Message, Undone};
use huntaze_lambda::scheduled::{self, Invocation, Task};
use huntaze_lambda::{config, logs, metrics};
use serde_json::{Value, json};

/// As an HTTP function it does what the path says, to what the body says.
struct Http;

impl Route for Http {
    async fn handle(&self, call: &Call) -> Result<Reply, Problem> {
        match call.path.as_str() {
            "/panic" => panics(&String::from_utf8_lossy(&call.body)),
            "/fail" => Err(Problem::internal(&io::Error::other("as told"))),
            "/panic-behind" => {
                let words = String::from_utf8_lossy(&call.body).into_owned();
                call.afterwards(async move { panics(&words) });
                Ok(Reply::ok(json!({"success": true})))
            }
            "/fallbacks" => {
                metrics::fallbacks(&call.origin(), 2);
                Ok(Reply::ok(json!({"success": true})))
            }
            _ => Ok(Reply::ok(json!({"success": true}))),
        }
    }
}

/// As a scheduled one it panics first, then fails, then succeeds.
struct Scheduled(AtomicUsize);

impl Task for Scheduled {
    async fn run(&self, _: Invocation) -> anyhow::Result<Value> {
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0 => panics("a fan's words"),
            1 => Err(io::Error::other("as told").into()),
            _ => Ok(json!({"done": true})),
        }
    }
}

/// As a queue's consumer it does to each record what that says.
struct Queue;

impl Consumer for Queue {
    async fn handle(&self, message: Message) -> Result<(), Undone> {
        let body = message.object()?;
        match body.get("do").and_then(Value::as_str) {
            Some("panic") => panics(&message.body),
            Some("retry") => Err(Undone::Retry { after: None, cause: io::Error::other("as told").into() }),
            Some("later") => Err(Undone::Later { after: Duration::from_secs(1) }),
            Some("reject") => Err(Undone::Reject("as told".to_owned())),
            Some("hang") => pending().await,
            _ => Ok(()),
        }
    }
}

#[expect(clippy::panic, reason = "this is what it is for")]
fn panics(words: &str) -> ! {
    panic!("could not read {words}")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    match env.optional("PROBE_IS").as_deref() {
        Some("scheduled") => scheduled::serve(&Scheduled(AtomicUsize::new(0))).await,
        Some("queue") => queue::serve(&Queue, Aws::new(&env, &tls).sqs()).await,
        _ => api::serve(&Http).await,
    }
}
