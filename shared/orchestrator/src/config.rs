//! The orchestrator's part of the configuration.

use std::sync::Arc;
use std::time::Duration;

use huntaze_breaker::Breaker;
use huntaze_costs::config::catalogue;
use huntaze_domain::env::Env;
use huntaze_domain::intent::WorkflowType;
use huntaze_domain::provider::Provider;
use huntaze_judge::Judge;
use huntaze_messaging::limiter::Limiter;
use huntaze_messaging::outbox::Rules;
use huntaze_postgres::Database;
use huntaze_redis::Redis;
use reqwest::Client;

use crate::cache::Cache;
use crate::provider::{Azure, OpenAi, Providers};
use crate::route::{CallTimes, Candidate, Roles};
use crate::run::Orchestrator;

/// A reservation outlives the longest request and its settlement, so that no sweep takes a call for lost that is under way.
const LEASE_MS: u64 = 120_000;
/// The contract retries up to three times.
const MAX_RETRIES: u16 = 3;
/// No driver is under way for longer: the time-out of the function that takes workflows up from the queue.
const LONGEST_REQUEST: Duration = Duration::from_secs(60);
/// What surrounds a call takes 9 s of such an invocation at the most.
const LONGEST_CALL: Duration = Duration::from_secs(51);
/// A provider's rate limit is over by then, and an outage that is not is no reason to wait any more.
const WORKFLOW_DEADLINE_MS: u64 = 600_000;
/// As long as a circuit stays open: whoever comes sooner is let through nowhere.
const WORKFLOW_RETRY_MS: u64 = 30_000;

impl Providers {
    /// Reads `AZURE_OPENAI_*` and `OPENAI_*`. A provider without a key is not configured.
    #[must_use]
    pub fn from_env(env: &Env, http: Client) -> Self {
        let azure = env.optional("AZURE_OPENAI_API_KEY").map(|api_key| {
            let api_version = env.or("AZURE_OPENAI_API_VERSION", "2024-10-21");
            if !api_version.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                env.fault("AZURE_OPENAI_API_VERSION", "must be a date such as 2024-10-21");
            }
            let (endpoint, timeout) =
                (base_url(env, "AZURE_OPENAI_ENDPOINT", None), env.millis("AZURE_TIMEOUT_MS", 45_000));
            Azure { endpoint, api_key, api_version, timeout }
        });
        let openai = env.optional("OPENAI_API_KEY").map(|api_key| OpenAi {
            base_url: base_url(env, "OPENAI_BASE_URL", Some("https://api.openai.com/v1")),
            api_key,
            organization: env.optional("OPENAI_ORG_ID"),
            timeout: env.millis("OPENAI_TIMEOUT_MS", 30_000),
        });
        if azure.is_none() && openai.is_none() {
            env.fault("AZURE_OPENAI_API_KEY", "is required, or OPENAI_API_KEY");
        }
        Self { http, azure, openai }
    }
}

/// The providers that have a key.
#[must_use]
pub fn configured(env: &Env) -> Vec<Provider> {
    let key = |provider| match provider {
        Provider::Azure => "AZURE_OPENAI_API_KEY",
        Provider::OpenAi => "OPENAI_API_KEY",
    };
    Provider::ALL.into_iter().filter(|provider| env.optional(key(*provider)).is_some()).collect()
}

fn base_url(env: &Env, name: &str, default: Option<&str>) -> String {
    let url = default.map_or_else(|| env.required(name), |default| env.or(name, default));
    let has_scheme = url.starts_with("https://") || url.starts_with("http://");
    if !has_scheme && !url.is_empty() {
        env.fault(name, "must be an http or https URL");
    }
    url.trim_end_matches('/').to_owned()
}

impl Roles {
    /// Reads `ROLE_PLANNER`, `ROLE_SHORT_MESSAGE` and `ROLE_VALIDATOR`: candidates in the order in which they are tried.
    ///
    /// By default Azure's one deployment (`AZURE_OPENAI_DEPLOYMENT`, of the model `AZURE_OPENAI_MODEL`) plans and OpenAI
    /// writes, each with the other behind it.
    #[must_use]
    pub fn from_env(env: &Env) -> Self {
        let deployment = env.or("AZURE_OPENAI_DEPLOYMENT", "gpt-4-turbo");
        // A deployment has its model's name where nothing else is said.
        let azure = format!("{deployment}={}", env.or("AZURE_OPENAI_MODEL", &deployment));
        let role = |name: &str, default: String| {
            env.check(name, Candidate::parse_list(&env.or(name, &default))).unwrap_or_default()
        };
        Self {
            planner: role("ROLE_PLANNER", format!("azure:{azure},openai:gpt-4o")),
            short_message: role("ROLE_SHORT_MESSAGE", format!("openai:gpt-4o-mini,azure:{azure}")),
            validator: role("ROLE_VALIDATOR", format!("openai:gpt-4o-mini,azure:{azure}")),
        }
    }
}

impl Orchestrator {
    /// Puts the main job together. Everything is read, whatever is missing, so that every fault is found at once.
    #[must_use]
    pub fn from_env(
        env: &Env,
        database: Option<Arc<Database>>,
        http: Client,
        redis: Option<Arc<Redis>>,
    ) -> Option<Self> {
        let lease = env.millis("RESERVATION_LEASE_MS", LEASE_MS);
        if lease <= LONGEST_REQUEST {
            env.fault("RESERVATION_LEASE_MS", format!("must be longer than a request: {LONGEST_REQUEST:?}"));
        }
        let catalogue = catalogue(env);
        let (providers, roles) = (Providers::from_env(env, http), Roles::from_env(env));
        for (provider, name) in [(Provider::Azure, "AZURE_TIMEOUT_MS"), (Provider::OpenAi, "OPENAI_TIMEOUT_MS")] {
            if providers.time(provider).is_some_and(|time| time > LONGEST_CALL) {
                env.fault(
                    name,
                    format!(
                        "must be at most {LONGEST_CALL:?}: a call has to fit into an invocation of the queue's consumer"
                    ),
                );
            }
        }
        let retries = env.parsed("MAX_RETRIES", MAX_RETRIES);
        let times = CallTimes {
            planner: env.millis("PLANNER_TIME_MS", 16_000),
            short_message: env.millis("SHORT_MESSAGE_TIME_MS", 8_000),
            validator: env.millis("VALIDATOR_TIME_MS", 11_000),
        };
        let patience = env.millis("WORKFLOW_DEADLINE_MS", WORKFLOW_DEADLINE_MS);
        let (pause, reviewed) = (env.millis("WORKFLOW_RETRY_MS", WORKFLOW_RETRY_MS), reviewed(env));
        let (sending, breaker) = (Rules::from_env(env), Breaker::from_env(env, redis.clone()));
        let (cache, limiter) = (Cache::from_env(env, redis.clone()), Limiter::from_env(env, redis));
        let judge = Judge::from_env(env, database.clone(), Some(&providers.http));
        let ((database, catalogue), judge) = database.zip(catalogue).zip(judge)?;
        Some(Self {
            database,
            catalogue,
            providers,
            roles,
            lease,
            retries,
            times,
            patience,
            pause,
            reviewed,
            sending,
            breaker,
            cache,
            limiter,
            judge,
        })
    }
}

/// Reads `MANUAL_REVIEW_TYPES`: types of workflow, separated by commas, or `none`.
fn reviewed(env: &Env) -> Vec<WorkflowType> {
    let names = env.or("MANUAL_REVIEW_TYPES", WorkflowType::ContentValidation.as_str());
    let names = names.split(',').map(str::trim).filter(|name| *name != "none");
    let types: Option<Vec<_>> = names.map(WorkflowType::from_name).collect();
    types.unwrap_or_else(|| {
        env.fault("MANUAL_REVIEW_TYPES", "must be types of workflow, separated by commas, or `none`");
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_is_priced_by_its_model() {
        let roles = |pairs: &[(&str, &str)]| {
            Roles::from_env(&Env::from_pairs(
                pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
            ))
        };
        let named = roles(&[("AZURE_OPENAI_DEPLOYMENT", "our-planner"), ("AZURE_OPENAI_MODEL", "gpt-4o")]);
        assert_eq!((named.planner[0].deployment.as_str(), named.planner[0].model.as_str()), ("our-planner", "gpt-4o"));
        assert_eq!(roles(&[]).planner[0].model, "gpt-4-turbo");
    }

    #[test]
    fn in_place_of_a_model_the_others_of_its_role_could_have_been_asked() {
        let env = Env::from_pairs([("AZURE_OPENAI_DEPLOYMENT".to_owned(), "gpt-4-turbo".to_owned())]);
        let roles = Roles::from_env(&env);
        let models = |kind, provider, model: &str| -> Vec<_> {
            roles.instead_of(kind, provider, model).into_iter().map(|one| one.model.as_str()).collect()
        };
        let (plan, campaign) = (WorkflowType::ContentPlanning, WorkflowType::CampaignExecution);
        assert_eq!(models(plan, Provider::Azure, "gpt-4-turbo"), ["gpt-4-turbo", "gpt-4o"]);
        assert_eq!(models(plan, Provider::OpenAi, "retired"), ["gpt-4-turbo", "gpt-4o"]);
        assert_eq!(models(campaign, Provider::OpenAi, "gpt-4o"), ["gpt-4-turbo", "gpt-4o"]);
        assert_eq!(models(campaign, Provider::OpenAi, "gpt-4o-mini"), ["gpt-4o-mini", "gpt-4-turbo"]);
        // It may have planned or written, so only what does both.
        assert_eq!(models(campaign, Provider::Azure, "gpt-4-turbo"), ["gpt-4-turbo"]);
    }
}
