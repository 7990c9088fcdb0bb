//! Queue `huntaze-hybrid-workflows`: takes up the workflow that a hint names, and runs it from where its last driver stopped.

use std::sync::Arc;
use std::time::Duration;

use huntaze_costs::alert::Alert;
use huntaze_costs::config::ledger;
use huntaze_costs::watch::Watch;
use huntaze_domain::error::ErrorCode;
use huntaze_domain::ids::WorkflowId;
use huntaze_lambda::clients::{self, Aws};
use huntaze_lambda::metrics::{self, ProviderCall};
use huntaze_lambda::queue::{self, Consumer, Message, Undone};
use huntaze_lambda::{config, logs, scheduled};
use huntaze_messaging::hint::Hints;
use huntaze_orchestrator::aftermath::{Aftermath, Left};
use huntaze_orchestrator::dead::{self, DeadQueue};
use huntaze_orchestrator::hint::{self, Workflows};
use huntaze_orchestrator::run::{Answer, Given, Orchestrator, Outcome, RunError};
use huntaze_orchestrator::store::{self, Claim, StoreError};
use huntaze_orchestrator::workflow::WorkflowStatus;
use huntaze_postgres::Database;
use huntaze_redis::Redis;
use huntaze_rollout::flag::{FlagName, HYBRID_ORCHESTRATOR};
use huntaze_rollout::sides::{OURS, Seen, Sides};

/// What is kept of the invocation's time for what follows the last call: its settlement, the ledger, the hints.
const AFTERMATH: Duration = Duration::from_secs(8);
/// Before a hint comes again that a store did not answer for: long enough for a failover before its receives are used up.
const STORE_REST: Duration = Duration::from_secs(60);

struct App {
    orchestrator: Orchestrator,
    aftermath: Aftermath,
    dead: DeadQueue,
    sides: Sides,
    flag: FlagName,
}

impl Consumer for App {
    async fn handle(&self, message: Message) -> Result<(), Undone> {
        let Some(id) = hint::read(&message.object()?) else { return Err(Undone::Reject("no workflow".to_owned())) };
        let again = |cause| Undone::Retry { after: Some(STORE_REST), cause };
        let found = self.orchestrator.claim(&id).await.map_err(|error| again(error.into()))?;
        for call in &found.lost {
            metrics::provider_call(&ProviderCall {
                provider: call.provider,
                model: &call.model,
                outcome: "unknown",
                cost: call.cost,
                tokens: call.tokens,
                duration: None,
                saved: None,
                at: message.now,
                trace: &call.trace_id,
            });
        }
        let claimed = match found.claim {
            Claim::Claimed(claimed) => claimed,
            // Whoever has it goes on, and the sweep sees to it that somebody does.
            Claim::Early(_) | Claim::Over => return Ok(()),
            Claim::Poison => {
                // Whoever ran it ended before it could be counted.
                let failed =
                    Seen { inside: true, failed: true, slow: false, blocked: false, latency: None, cost: None };
                tokio::join!(self.given_up(&id), self.sides.count(&self.flag, scheduled::now(), &failed));
                return Ok(());
            }
        };
        let outcome = self.orchestrator.take_up(&claimed, message.now, message.deadline - AFTERMATH).await;
        let Outcome { answer, fallbacks, left, .. } = outcome;
        count(&message, &left);
        if claimed.parsed.intent.force_provider.is_none()
            && let Some(seen) = seen(&answer, &left)
        {
            self.sides.count(&self.flag, scheduled::now(), &seen).await;
        }
        metrics::fallbacks(&message.origin(), fallbacks);
        let trace = message.trace.id();
        let told = |alert: &Alert, now| metrics::cost_alert(alert.severity, alert.kind.as_str(), now, trace);
        self.aftermath.follow(left, scheduled::now, told).await;
        match answer {
            Ok(answer) => {
                if matches!(answer.given, Given::Later { status: WorkflowStatus::ManualReview, .. }) {
                    metrics::manual_review(&message.origin());
                }
                let status = match answer.given {
                    Given::Result(_) => "completed",
                    Given::Error(error) => error.code.as_str(),
                    Given::Later { status, .. } => status.as_str(),
                };
                tracing::info!(status, "taken up");
                Ok(())
            }
            Err(RunError::Store(overtaken @ (StoreError::Fenced(_) | StoreError::Cancelled))) => {
                tracing::warn!(error = %overtaken, "not gone on with");
                Ok(())
            }
            // What was begun is settled, or found by the next claim, when the lease is over.
            Err(error) => Err(again(error.into())),
        }
    }
}

impl App {
    /// The claim that ended it has kept its letter; the queue only has people told.
    async fn given_up(&self, workflow: &WorkflowId) {
        tracing::error!(%workflow, "given up: whoever takes it up is interrupted");
        if let Err(error) = dead::put_untold(&self.orchestrator.database, &self.dead, Some(workflow), 1).await {
            tracing::warn!(%error, "its letter is left to the sweep");
        }
    }
}

/// What a workflow that has ended came to, for its side of the rollout; nobody waited for it.
fn seen(answer: &Result<Answer, RunError>, left: &Left) -> Option<Seen> {
    let (failed, blocked) = match &answer.as_ref().ok()?.given {
        Given::Result(_) => (false, false),
        Given::Error(error) => (OURS.contains(&error.code), error.code == ErrorCode::ComplianceViolation),
        Given::Later { status, .. } if *status == WorkflowStatus::ManualReview => (true, false),
        Given::Later { .. } => return None,
    };
    let cost = left.entries.iter().map(|entry| entry.cost).sum();
    Some(Seen { inside: true, failed, slow: false, blocked, latency: None, cost: Some(cost) })
}

/// What the workflow's calls came to, in figures.
fn count(message: &Message, left: &Left) {
    for change in &left.changes {
        metrics::circuit(change.provider, change.name.as_str(), change.opened, message.now, message.trace.id());
    }
    for entry in &left.entries {
        metrics::provider_call(&ProviderCall {
            provider: entry.provider,
            model: &entry.model,
            outcome: &entry.outcome,
            cost: entry.cost,
            tokens: entry.usage.total(),
            duration: entry.duration_ms.and_then(|millis| millis.try_into().ok()).map(Duration::from_millis),
            saved: entry.cache_hit.then_some(entry.saved),
            at: entry.started_at,
            trace: &entry.trace_id,
        });
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, Arc::clone(&tls)));
    let database = database.map(|database| Arc::new(database.preparing(store::HOT)));
    let aws = Aws::new(&env, &tls);
    let (dynamodb, queues) = (aws.dynamodb(), aws.queues());
    let dead = DeadQueue::from_env(&env, queues.clone());
    let ledger = ledger(&env, dynamodb.clone());
    let aftermath = Aftermath {
        messages: Hints::from_env(&env, queues.clone()),
        workflows: Workflows::from_env(&env, queues.clone()),
        watch: Watch::from_env(&env, dynamodb, queues, ledger.clone()),
        ledger,
    };
    let redis = Redis::from_env(&env).map(Arc::new);
    let sides = redis.clone().map(Sides::new);
    let orchestrator = Orchestrator::from_env(&env, database, clients::http(&tls)?, redis);
    let built = orchestrator.zip(sides).zip(FlagName::parse(HYBRID_ORCHESTRATOR));
    let app = built.map(|((orchestrator, sides), flag)| App { orchestrator, aftermath, dead, sides, flag });
    let app = env.finish(app)?;
    tokio::join!(app.orchestrator.database.warm_up(), app.orchestrator.warm_up());
    queue::serve(&app, aws.sqs()).await
}
