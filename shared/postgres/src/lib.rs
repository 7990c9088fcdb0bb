//! One PostgreSQL connection that heals itself.
//!
//! A Lambda environment handles one request at a time and may be frozen between two, so it keeps one connection and
//! expects to find it dead. A statement goes out in one round trip, unprepared, so that a proxy in front can share its
//! own connections ("pinning" is what prepared statements cause there).
//!
//! **Every statement given to [`Database::query`] must be safe to run twice**: after a lost connection nobody can know
//! whether it ran, so it is sent again. The capability crates write each of their transactions as one such statement.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, Row, error::SqlState};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A connection that takes longer to open is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A statement that takes longer is given up, and its connection with it. All of them touch a few rows by key.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a statement is sent at the most.
const MAX_SENDS: u32 = 3;

/// A statement's parameter and the type that it is sent as.
pub type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// Why a statement has no answer.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The connection string cannot be used. It is not repeated here: it holds a password.
    #[error("the PostgreSQL connection string cannot be used")]
    Url(#[source] tokio_postgres::Error),
    /// No connection could be opened.
    #[error("PostgreSQL cannot be reached")]
    Connect(#[source] tokio_postgres::Error),
    /// The statement was refused or its connection was lost.
    #[error("PostgreSQL did not carry out a statement")]
    Statement(#[source] tokio_postgres::Error),
    /// No answer in time.
    #[error("PostgreSQL did not answer within {0:?}")]
    Timeout(Duration),
}

/// A handle on the one connection of this environment.
pub struct Database {
    config: Config,
    tls: MakeRustlsConnect,
    current: Mutex<Option<Arc<Client>>>,
}

impl Database {
    /// Takes a connection string; nothing is opened yet.
    ///
    /// Parameters that only Prisma knows (`schema`, `connection_limit`, …) are left out: the string is shared with it.
    ///
    /// # Errors
    /// [`DatabaseError::Url`] if the rest cannot be read.
    pub fn new(url: &str, tls: Arc<ClientConfig>) -> Result<Self, DatabaseError> {
        let mut config = Config::from_str(&without_foreign_parameters(url)).map_err(DatabaseError::Url)?;
        if config.get_application_name().is_none() {
            config.application_name("huntaze-orchestrator");
        }
        config.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(STATEMENT_TIMEOUT);
        Ok(Self { config, tls: MakeRustlsConnect::new((*tls).clone()), current: Mutex::new(None) })
    }

    /// Opens the connection ahead of the first statement. A failure is left to that statement.
    pub async fn warm_up(&self) {
        if let Err(error) = self.client().await {
            tracing::warn!(%error, "PostgreSQL is not reachable yet");
        }
    }

    /// Runs one statement in one round trip; see the crate's rule about running twice.
    ///
    /// # Errors
    /// What [`DatabaseError`] names, after up to three sends where the connection was lost or a deadlock was broken.
    pub async fn query(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, DatabaseError> {
        let mut sends = 1;
        loop {
            let client = self.client().await?;
            let error = match timeout(STATEMENT_TIMEOUT, client.query_typed(sql, params)).await {
                Ok(Ok(rows)) => return Ok(rows),
                Ok(Err(error)) => error,
                Err(_) => {
                    self.forget(&client).await;
                    return Err(DatabaseError::Timeout(STATEMENT_TIMEOUT));
                }
            };
            let lost = client.is_closed() || error.is_closed();
            if lost {
                self.forget(&client).await;
            }
            if sends == MAX_SENDS || !(lost || is_transient(&error)) {
                return Err(DatabaseError::Statement(error));
            }
            sends += 1;
        }
    }

    /// A connection of its own, for work that needs a session: migrations.
    ///
    /// # Errors
    /// As [`Database::query`].
    pub async fn dedicated(&self) -> Result<Client, DatabaseError> {
        let connecting = self.config.connect(self.tls.clone());
        let (client, connection) = timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_| DatabaseError::Timeout(CONNECT_TIMEOUT))?
            .map_err(DatabaseError::Connect)?;
        #[expect(clippy::disallowed_methods, reason = "drives the socket; frozen and thawed together with its user")]
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the PostgreSQL connection ended");
            }
        });
        Ok(client)
    }

    async fn client(&self) -> Result<Arc<Client>, DatabaseError> {
        let mut current = self.current.lock().await;
        if let Some(client) = current.as_ref().filter(|client| !client.is_closed()) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(self.dedicated().await?);
        *current = Some(Arc::clone(&client));
        Ok(client)
    }

    async fn forget(&self, client: &Arc<Client>) {
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|held| Arc::ptr_eq(held, client)) {
            *current = None;
        }
    }
}

/// The server undid the statement and says that it may be tried again.
fn is_transient(error: &tokio_postgres::Error) -> bool {
    matches!(
        error.code(),
        Some(
            &SqlState::T_R_DEADLOCK_DETECTED
                | &SqlState::T_R_SERIALIZATION_FAILURE
                | &SqlState::ADMIN_SHUTDOWN
                | &SqlState::CRASH_SHUTDOWN
        )
    )
}

/// Parameters that tokio-postgres knows and that may stand in a shared connection string.
const KNOWN: [&str; 7] = [
    "sslmode",
    "application_name",
    "connect_timeout",
    "options",
    "target_session_attrs",
    "channel_binding",
    "keepalives",
];

fn without_foreign_parameters(url: &str) -> String {
    let Some((base, query)) = url.split_once('?') else { return url.to_owned() };
    let known: Vec<_> =
        query.split('&').filter(|pair| pair.split('=').next().is_some_and(|name| KNOWN.contains(&name))).collect();
    if known.is_empty() { base.to_owned() } else { format!("{base}?{}", known.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_shared_with_prisma_is_taken() {
        let url = "postgresql://u:p@h:5432/d?schema=public&sslmode=require&connection_limit=1";
        assert_eq!(without_foreign_parameters(url), "postgresql://u:p@h:5432/d?sslmode=require");
        assert_eq!(without_foreign_parameters("postgresql://h/d?pgbouncer=true"), "postgresql://h/d");
        assert_eq!(without_foreign_parameters("postgresql://h/d"), "postgresql://h/d");
    }
}
