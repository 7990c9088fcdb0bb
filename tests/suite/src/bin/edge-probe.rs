//! A function for the edge to be tried on: it answers, fails or panics as it is told. Never deployed.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use huntaze_lambda::api::{self, Call, Reply, Route};
use huntaze_lambda::problem::Problem;
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

#[expect(clippy::panic, reason = "this is what it is for")]
fn panics(words: &str) -> ! {
    panic!("could not read {words}")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    logs::init();
    let (env, _) = config::load().await?;
    match env.optional("PROBE_IS_SCHEDULED") {
        Some(_) => scheduled::serve(&Scheduled(AtomicUsize::new(0))).await,
        None => api::serve(&Http).await,
    }
}
