//! Redis: one connection an environment, kept over its invocations, and never waited for long.

use std::time::Duration;

use huntaze_domain::env::Env;
use jiff::{SignedDuration, Timestamp};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, FromRedisValue, RedisError, Script, ScriptInvocation, ServerErrorKind};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// Redis answers in well under a millisecond, and a connection takes three round trips with TLS: one that takes longer is
/// away. No request waits longer for what it can do without.
const PATIENCE: Duration = Duration::from_millis(250);
/// A Redis that did not answer is not asked again for so long: one request pays for the finding, not each.
const REST: SignedDuration = SignedDuration::from_secs(2);
/// The health check's patience: it wants to know, not to go on.
const PING_PATIENCE: Duration = Duration::from_secs(1);

/// Why a script has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RedisFault {
    /// It did not answer a moment ago, and was not asked.
    #[error("Redis did not answer a moment ago")]
    Resting,
    /// No answer in time.
    #[error("Redis did not answer within {PATIENCE:?}")]
    Silent,
    /// It refused, or could not be reached.
    #[error("Redis: {0}")]
    Failed(#[from] RedisError),
}

impl RedisFault {
    /// Whether it is the connection that failed, and not the script. A replica is what is left of a primary after a
    /// failover: a new connection finds the new primary.
    fn is_of_the_connection(&self) -> bool {
        match self {
            Self::Resting => false,
            Self::Silent => true,
            Self::Failed(error) => {
                error.is_unrecoverable_error() || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
            }
        }
    }
}

/// A handle on the one connection of this environment.
pub struct Redis {
    client: redis::Client,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    /// When it did not answer. By the wall clock: the other may stand still while the environment is frozen.
    failed_at: Timestamp,
}

impl Redis {
    /// The Redis of `REDIS_URL`; nothing is opened yet.
    #[must_use]
    pub fn from_env(env: &Env) -> Option<Self> {
        let client = env.required_as("REDIS_URL", |url| redis::Client::open(url))?;
        Some(Self { client, state: Mutex::default() })
    }

    /// Opens the connection and loads the scripts, in one round trip, ahead of their first use. A failure is left to that.
    pub async fn warm_up(&self, scripts: &[&Script]) {
        let opening = async {
            let mut connection = self.connection().await?;
            let mut loads = redis::pipe();
            for script in scripts {
                loads.load_script(script).ignore();
            }
            Ok(loads.exec_async(&mut connection).await?)
        };
        let opened = timeout(PATIENCE, opening).await.unwrap_or(Err(RedisFault::Silent));
        if let Err(error) = &opened {
            tracing::warn!(%error, "Redis is not reachable yet");
        }
        self.rest_after(&opened).await;
    }

    /// Runs a script: one round trip where the server knows it.
    ///
    /// A connection that was kept may have died while the environment was frozen, so where it fails or is silent the script
    /// is sent once more, on a fresh one. Nobody can know whether the first had arrived: **every script must be safe to run
    /// twice**, if only by erring on the careful side.
    ///
    /// # Errors
    /// [`RedisFault`], after 250 ms at the most, or twice that where a connection had been kept.
    pub async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, RedisFault> {
        let kept = {
            let state = self.state.lock().await;
            if (SignedDuration::ZERO..REST).contains(&now().duration_since(state.failed_at)) {
                return Err(RedisFault::Resting);
            }
            state.connection.is_some()
        };
        let mut answer = self.attempt(script).await;
        if kept && answer.as_ref().is_err_and(RedisFault::is_of_the_connection) {
            self.state.lock().await.connection = None;
            answer = self.attempt(script).await;
        }
        self.rest_after(&answer).await;
        answer
    }

    async fn attempt<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, RedisFault> {
        let sending = async { Ok(script.invoke_async(&mut self.connection().await?).await?) };
        timeout(PATIENCE, sending).await.unwrap_or(Err(RedisFault::Silent))
    }

    /// The connection, opened where there is none. What is asked of it is bounded by whoever asks.
    async fn connection(&self) -> Result<MultiplexedConnection, RedisFault> {
        let mut state = self.state.lock().await;
        if let Some(connection) = &state.connection {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        state.connection = Some(connection.clone());
        Ok(connection)
    }

    /// Forgets a connection that failed, and leaves Redis alone for a while.
    async fn rest_after<T>(&self, answer: &Result<T, RedisFault>) {
        if answer.as_ref().is_err_and(RedisFault::is_of_the_connection) {
            *self.state.lock().await = State { connection: None, failed_at: now() };
        }
    }

    /// Asks whether it is there, on a connection of its own.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn ping(&self) -> Result<(), RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PING_PATIENCE))
            .set_response_timeout(Some(PING_PATIENCE));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        redis::cmd("PING").exec_async(&mut connection).await
    }
}

fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "tells only how long ago Redis did not answer")]
    Timestamp::now()
}
