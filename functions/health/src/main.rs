//! `GET /api/health/hybrid-orchestrator`: real checks, side by side, at most every 15 seconds.

mod checks;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use huntaze_costs::config::ledger;
use huntaze_costs::watch::Watch;
use huntaze_lambda::api::{self, Call, Reply, Route};
use huntaze_lambda::clients::{self, Aws};
use huntaze_lambda::limit::ApiLimit;
use huntaze_lambda::problem::Problem;
use huntaze_lambda::{config, logs};
use huntaze_orchestrator::run::Orchestrator;
use huntaze_postgres::Database;
use huntaze_redis::Redis;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::checks::Checks;

/// Between two rounds of checks the last answer stands: nobody can make this route press on what it checks.
const FRESH_FOR: Duration = Duration::from_secs(15);

struct App {
    /// What is checked, or nothing where the configuration cannot be used.
    checks: Option<Checks>,
    born: Instant,
    last: Mutex<Option<(Instant, StatusCode, Value)>>,
}

impl Route for App {
    async fn handle(&self, call: &Call) -> Result<Reply, Problem> {
        let mut last = self.last.lock().await;
        if let Some((_, status, body)) = last.as_ref().filter(|(at, _, _)| at.elapsed() < FRESH_FOR) {
            return Ok(Reply { status: *status, ..Reply::ok(body.clone()) });
        }
        let started = Instant::now();
        let (health, checks) = match &self.checks {
            Some(checks) => checks.run(call.now).await,
            None => checks::misconfigured(),
        };
        let status = if health.serves() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let body = json!({
            "status": health,
            "timestamp": call.now,
            "uptime": self.born.elapsed().as_secs(),
            "checks": checks,
            "metrics": {"checkDuration": u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)},
            "version": env!("CARGO_PKG_VERSION"),
        });
        *last = Some((started, status, body.clone()));
        Ok(Reply { status, ..Reply::ok(body) })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let aws = Aws::new(&env, &tls);
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, Arc::clone(&tls))).map(Arc::new);
    let redis = Redis::from_env(&env).map(Arc::new);
    let orchestrator = Orchestrator::from_env(&env, database, clients::http(&tls)?, redis.clone());
    // What else keeps the main job from starting is read for its faults alone.
    let sessions = config::sessions(&env);
    let limit = ApiLimit::from_env(&env, redis.clone());
    let _ = env.millis("REQUEST_DEADLINE_MS", 1);
    let _ = Watch::from_env(&env, aws.dynamodb(), aws.queues(), ledger(&env, aws.dynamodb()));
    let built = orchestrator.zip(redis).zip(sessions.zip(limit)).map(|((orchestrator, redis), _)| Checks {
        orchestrator,
        redis,
        dynamodb: aws.dynamodb(),
        costs_table: env.or("DYNAMODB_COSTS_TABLE", "huntaze-ai-costs-production"),
        sqs: aws.sqs(),
        queues: [
            env.or("SQS_WORKFLOW_QUEUE", "huntaze-hybrid-workflows"),
            env.or("SQS_RATE_LIMITER_QUEUE", "huntaze-rate-limiter-queue"),
        ],
    });
    let checks = env.finish(built).inspect_err(|faults| tracing::error!(%faults, "the main job cannot run")).ok();
    let app = App { checks, born: Instant::now(), last: Mutex::new(None) };
    api::serve(&app).await
}
