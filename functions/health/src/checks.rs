//! Each thing that the main job stands on, asked for real, at no cost, within a time of its own.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::error::DisplayErrorContext;
use huntaze_domain::provider::Provider;
use huntaze_orchestrator::circuit;
use huntaze_orchestrator::run::Orchestrator;
use huntaze_redis::Redis;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

/// A check that takes longer has failed.
const PATIENCE: Duration = Duration::from_millis(2_500);
/// The tables that the main job needs; reading none of their rows, whatever their number.
const SCHEMA: &str =
    "SELECT FROM orchestrator.workflows w, orchestrator.attempts a, orchestrator.reservations r LIMIT 0";

/// The contract's health of one part, or of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Health {
    Healthy,
    Degraded,
    Unhealthy,
}

impl Health {
    /// Whether the main job can run.
    pub(crate) fn serves(self) -> bool {
        self != Self::Unhealthy
    }
}

/// One part's answer.
#[derive(Debug, Serialize)]
struct Check {
    status: Health,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
    /// Milliseconds.
    latency: u64,
}

/// What is checked.
pub(crate) struct Checks {
    /// As the main job has it, with the database.
    pub(crate) orchestrator: Orchestrator,
    pub(crate) redis: Arc<Redis>,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) costs_table: String,
    pub(crate) sqs: aws_sdk_sqs::Client,
    pub(crate) queues: [String; 2],
}

impl Checks {
    /// Runs all of them side by side.
    pub(crate) async fn run(&self, now: Timestamp) -> (Health, Value) {
        let (database, mut azure, mut openai, limiter, aws, disturbed) = tokio::join!(
            check("database", Health::Unhealthy, "PostgreSQL or its schema is not there", async {
                self.orchestrator.database.query(SCHEMA, &[]).await.map(|_| ())
            }),
            self.provider(Provider::Azure),
            self.provider(Provider::OpenAi),
            check("rateLimiter", Health::Degraded, "Redis is not reachable", self.redis.ping()),
            check("awsServices", Health::Degraded, "DynamoDB or SQS is not reachable", self.aws()),
            self.disturbed(),
        );
        for (provider, check) in [(Provider::Azure, &mut azure), (Provider::OpenAi, &mut openai)] {
            if disturbed.contains(&provider) && check.status == Health::Healthy {
                (check.status, check.message) = (Health::Degraded, Some("a circuit is open"));
            }
        }
        let orchestrator = self.routes(now, &azure, &openai);
        let overall = [&database, &orchestrator, &limiter, &aws].map(|check| check.status);
        // One provider of two is enough to serve; one that is not configured is not missed.
        let missed =
            |provider, check: &Check| self.orchestrator.providers.has(provider) && check.status != Health::Healthy;
        let degraded = missed(Provider::Azure, &azure) || missed(Provider::OpenAi, &openai);
        let providers = if degraded { Health::Degraded } else { Health::Healthy };
        let health = overall.into_iter().chain([providers]).max().unwrap_or(Health::Unhealthy);
        let checks = json!({
            "database": database,
            "orchestrator": orchestrator,
            "azureProvider": azure,
            "openaiProvider": openai,
            "rateLimiter": limiter,
            "awsServices": aws,
        });
        (health, checks)
    }

    async fn provider(&self, provider: Provider) -> Check {
        let (name, message) = match provider {
            Provider::Azure => ("azureProvider", "Azure OpenAI does not answer as it should"),
            Provider::OpenAi => ("openaiProvider", "OpenAI does not answer as it should"),
        };
        if !self.orchestrator.providers.has(provider) {
            return Check { status: Health::Unhealthy, message: Some("not configured"), latency: 0 };
        }
        check(name, Health::Unhealthy, message, self.orchestrator.providers.probe(provider, PATIENCE)).await
    }

    /// Whose calls failed so often that some are not made at the moment. Not to know is no failure: Redis has a check of its own.
    async fn disturbed(&self) -> Vec<Provider> {
        let Orchestrator { breaker: Some(breaker), roles, providers, .. } = &self.orchestrator else {
            return Vec::new();
        };
        let callable: Vec<_> = Provider::ALL.into_iter().filter(|provider| providers.has(*provider)).collect();
        timeout(PATIENCE, circuit::disturbed(breaker, roles, &callable)).await.unwrap_or_default()
    }

    /// Whether a request can be routed: every role has a candidate that is priced, configured and answering.
    fn routes(&self, now: Timestamp, azure: &Check, openai: &Check) -> Check {
        let Orchestrator { catalogue, providers, roles, .. } = &self.orchestrator;
        let up = |provider| match provider {
            Provider::Azure => azure.status.serves(),
            Provider::OpenAi => openai.status.serves(),
        };
        let priced = roles.all().all(|c| catalogue.price(c.provider, &c.model, now).is_ok());
        let routable = [&roles.planner, &roles.short_message, &roles.validator].iter().all(|candidates| {
            let mut callable = candidates.iter().filter(|c| providers.has(c.provider) && up(c.provider));
            callable.any(|c| catalogue.price(c.provider, &c.model, now).is_ok())
        });
        let (status, message) = match (routable, priced) {
            (true, true) => (Health::Healthy, None),
            (true, false) => (Health::Degraded, Some("a configured model has no price")),
            (false, _) => (Health::Unhealthy, Some("a role has no provider that answers")),
        };
        Check { status, message, latency: 0 }
    }

    /// `DescribeTable` and `GetQueueUrl` read no data and write nothing.
    async fn aws(&self) -> Result<(), String> {
        let table = async {
            let answer = self.dynamodb.describe_table().table_name(&self.costs_table).send().await;
            answer.map(|_| ()).map_err(|error| DisplayErrorContext(error).to_string())
        };
        let [first, second] = self.queues.each_ref().map(|queue| async move {
            // Given as a URL it is known already; what is asked is whether it is there.
            let answer = self.sqs.get_queue_url().queue_name(queue.rsplit('/').next().unwrap_or(queue)).send().await;
            answer.map(|_| ()).map_err(|error| DisplayErrorContext(error).to_string())
        });
        tokio::try_join!(table, first, second).map(|_| ())
    }
}

/// The answer where the configuration cannot be used: the main job does not even start.
pub(crate) fn misconfigured() -> (Health, Value) {
    let message = "not checked: the configuration cannot be used";
    let names = ["database", "orchestrator", "azureProvider", "openaiProvider", "rateLimiter", "awsServices"];
    let unchecked = || json!(Check { status: Health::Unhealthy, message: Some(message), latency: 0 });
    (Health::Unhealthy, names.map(|name| (name.to_owned(), unchecked())).into_iter().collect())
}

/// Runs one check. What went wrong is logged; the answer is public and says only that it did.
async fn check<E: Display>(
    name: &'static str,
    failed: Health,
    message: &'static str,
    work: impl Future<Output = Result<(), E>>,
) -> Check {
    let started = Instant::now();
    let outcome = timeout(PATIENCE, work).await;
    let latency = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let cause = match outcome {
        Ok(Ok(())) => return Check { status: Health::Healthy, message: None, latency },
        Ok(Err(cause)) => cause.to_string(),
        Err(_) => format!("no answer within {PATIENCE:?}"),
    };
    tracing::warn!(check = name, cause, "a health check failed");
    Check { status: failed, message: Some(message), latency }
}
