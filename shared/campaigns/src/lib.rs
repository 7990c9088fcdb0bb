//! A campaign request from its headers and body to its answer: by the new route or the old one, in this system or the one before.
//!
//! | module | what it knows |
//! |---|---|
//! | `request` | what a request asks the orchestrator for |
//! | `answer` | what the orchestrator's answer is on the wire |
//! | `side` | which system serves a request, and what it came to there |
//!
//! Two functions are built on it, `campaigns-hybrid` and `legacy-campaigns`: a route decides what the bodies look like, never who serves them.

mod answer;
mod request;
mod side;

use std::sync::Arc;
use std::time::Duration;

use huntaze_costs::config::ledger;
use huntaze_costs::watch::Watch;
use huntaze_domain::env::{ConfigError, Env};
use huntaze_lambda::clients::{self, Aws};
use huntaze_lambda::config;
use huntaze_lambda::limit::ApiLimit;
use huntaze_lambda::scheduled::now;
use huntaze_lambda::session::Sessions;
use huntaze_messaging::hint::Hints;
use huntaze_orchestrator::aftermath::Aftermath;
use huntaze_orchestrator::hint::Workflows;
use huntaze_orchestrator::run::Orchestrator;
use huntaze_orchestrator::store;
use huntaze_postgres::Database;
use huntaze_redis::Redis;
use huntaze_rollout::choice::Rollout;
use huntaze_rollout::legacy::Legacy;
use huntaze_rollout::sides::Sides;
use huntaze_rollout::store::Flags;
use rustls::ClientConfig;

/// The gateway answers 503 after 30 s; two are kept for what surrounds the calls.
const REQUEST_DEADLINE_MS: u64 = 28_000;

/// What serves campaign requests.
pub struct Campaigns {
    sessions: Sessions,
    limit: ApiLimit,
    orchestrator: Orchestrator,
    aftermath: Arc<Aftermath>,
    rollout: Arc<Rollout>,
    sides: Arc<Sides>,
    /// The system before this one, where it still is.
    legacy: Option<Legacy>,
    /// No request takes longer, however much time the gateway leaves it.
    patience: Duration,
}

impl Campaigns {
    /// Puts it together; nothing is opened yet.
    ///
    /// # Errors
    /// [`ConfigError`] with every fault.
    pub fn from_env(env: &Env, tls: &Arc<ClientConfig>) -> Result<Self, ConfigError> {
        let database = env.required_as("DATABASE_URL", |url| Database::new(url, Arc::clone(tls)));
        let database = database.map(|database| Arc::new(database.preparing(store::HOT)));
        let aws = Aws::new(env, tls);
        let dynamodb = aws.dynamodb();
        let ledger = ledger(env, dynamodb.clone());
        let queues = aws.queues();
        let flags = Flags::from_env(env, dynamodb.clone());
        let aftermath = Arc::new(Aftermath {
            messages: Hints::from_env(env, queues.clone()),
            workflows: Workflows::from_env(env, queues.clone()),
            watch: Watch::from_env(env, dynamodb, queues, ledger.clone()),
            ledger,
        });
        let http = env.check("TLS", clients::http(tls));
        let sessions = config::sessions(env);
        let redis = Redis::from_env(env).map(Arc::new);
        let limit = ApiLimit::from_env(env, redis.clone());
        let sides = redis.clone().map(|redis| Arc::new(Sides::new(redis)));
        let rollout = database.clone().and_then(|database| Rollout::from_env(env, flags, database)).map(Arc::new);
        let orchestrator = http.and_then(|http| Orchestrator::from_env(env, database, http, redis));
        let patience = env.millis("REQUEST_DEADLINE_MS", REQUEST_DEADLINE_MS);
        let legacy = Legacy::from_env(env, tls);
        let built = sessions.zip(limit).zip(orchestrator).zip(rollout).zip(sides);
        env.finish(built.map(|((((sessions, limit), orchestrator), rollout), sides)| Self {
            sessions,
            limit,
            orchestrator,
            aftermath,
            rollout,
            sides,
            legacy,
            patience,
        }))
    }

    /// Opens what the first request needs, side by side.
    pub async fn warm_up(&self) {
        tokio::join!(
            self.orchestrator.database.warm_up(),
            self.limit.warm_up(),
            self.orchestrator.warm_up(),
            self.rollout.warm_up(now())
        );
    }
}
