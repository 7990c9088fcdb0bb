//! One PostgreSQL connection that heals itself.
//!
//! A Lambda environment handles one request at a time and may be frozen between two, so it keeps one connection and
//! expects to find it dead. A statement goes out in one round trip. Those of the hot path are prepared beside whatever
//! else the connection does ([`Database::preparing`]); any other is sent unprepared, and so are these until they are.
//!
//! **Every statement given to [`Database::query`] must be safe to run twice**: after a lost connection nobody can know
//! whether it ran, so it is sent again. The capability crates write each of their transactions as one such statement.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::{join, join_all};
use rustls::ClientConfig;
use tokio::time::{sleep, timeout};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, Row, Socket, Statement, error::SqlState};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A connection that takes longer to open is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A statement that takes longer is given up, and its connection with it. All of them touch a few rows by key.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// The same on a connection that was idle: it may have died in silence while the environment was frozen, and the statement
/// can be sent again on a fresh one.
const SUSPECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection that answered this long ago is taken for good.
const TRUSTED_FOR: Duration = Duration::from_secs(2);
/// How often a statement is sent at the most.
const MAX_SENDS: u32 = 3;
/// Before a connection that could not be opened is tried again; doubled each time. A failover's new server is there soon.
const BACKOFF: Duration = Duration::from_millis(150);

/// A statement's parameter and the type that it is sent as.
pub type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// A statement and the types of its parameters.
pub type Hot = (&'static str, &'static [Type]);

/// Why a statement has no answer. Nothing of the statement's values is in it: they may be somebody's words.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The connection string cannot be used. It is not repeated here: it holds a password.
    #[error("the PostgreSQL connection string cannot be used")]
    Url,
    /// No connection could be opened.
    #[error("PostgreSQL cannot be reached: {0}")]
    Connect(Cause),
    /// The statement was refused or its connection was lost.
    #[error("PostgreSQL did not carry out a statement: {0}")]
    Statement(Cause),
    /// No answer in time, on a connection that was opened for it.
    #[error("PostgreSQL did not answer within {0:?}")]
    Timeout(Duration),
    /// No answer in time, on a connection that was there before and may be dead.
    #[error("a connection to PostgreSQL was silent for {0:?}")]
    Silent(Duration),
}

impl DatabaseError {
    /// Whether the statement certainly did not arrive.
    #[must_use]
    pub fn was_never_sent(&self) -> bool {
        matches!(self, Self::Url | Self::Connect(_))
    }

    /// Whether the same statement may succeed on another connection.
    fn is_transient(&self) -> bool {
        match self {
            // A fresh connection that is silent will not be mended by another.
            Self::Url | Self::Timeout(_) => false,
            Self::Connect(_) | Self::Silent(_) => true,
            Self::Statement(cause) => cause.transient,
        }
    }
}

/// What the server or the socket said, without the values: the server's own `DETAIL` quotes whole rows.
#[derive(Debug)]
pub struct Cause {
    text: String,
    transient: bool,
}

impl Cause {
    /// Keeps what may be logged of an error.
    #[must_use]
    pub fn of(error: &tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            let lost = error.is_closed() || error.source().is_some_and(<dyn Error>::is::<std::io::Error>);
            return Self { text: error.to_string(), transient: lost };
        };
        let place = [("table", db.table()), ("column", db.column()), ("constraint", db.constraint())];
        let place: String = place.iter().filter_map(|(what, name)| Some(format!(", {what} {}", (*name)?))).collect();
        let transient = [
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
        ];
        Self { text: format!("SQLSTATE {}{place}", db.code().code()), transient: transient.contains(db.code()) }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An open connection, and the statements that are prepared on it.
struct Connection {
    client: Client,
    prepared: Mutex<Vec<(&'static str, Statement)>>,
}

impl Connection {
    /// Prepares statements, all sent at once. What cannot be prepared is sent unprepared where it is used.
    async fn prepare(&self, statements: &'static [Hot]) {
        let preparing = statements.iter().map(async |&(sql, types)| {
            let statement = self.client.prepare_typed(sql, types).await.ok()?;
            Some((sql, statement))
        });
        // Bounded, for it keeps the connection.
        if let Ok(prepared) = timeout(STATEMENT_TIMEOUT, join_all(preparing)).await {
            *lock(&self.prepared) = prepared.into_iter().flatten().collect();
        }
    }

    async fn query(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, tokio_postgres::Error> {
        let prepared = lock(&self.prepared).iter().find(|(of, _)| *of == sql).map(|(_, known)| known.clone());
        let Some(statement) = prepared else { return self.client.query_typed(sql, params).await };
        let values: Vec<_> = params.iter().map(|(value, _)| *value).collect();
        match self.client.query(&statement, &values).await {
            Err(error) if error.code().is_some_and(|code| STALE.contains(code)) => {
                lock(&self.prepared).clear();
                self.client.query_typed(sql, params).await
            }
            answer => answer,
        }
    }
}

/// What was prepared is gone (a pooler in front gave the session to another server), or made for a schema that has changed.
/// The server says so before it does anything.
const STALE: [SqlState; 2] = [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::FEATURE_NOT_SUPPORTED];

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The connection, and when it last answered.
struct Held {
    connection: Arc<Connection>,
    /// The wall clock: the other may stand still while the environment is frozen.
    answered: SystemTime,
}

impl Held {
    fn is_trusted(&self) -> bool {
        now().duration_since(self.answered).is_ok_and(|idle| idle < TRUSTED_FOR)
    }
}

/// Since when a connection is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// It was opened for this statement.
    No,
    /// It answered a moment ago.
    InUse,
    /// It has not been used for a while.
    Idle,
}

fn now() -> SystemTime {
    #[expect(clippy::disallowed_methods, reason = "tells only how long a connection was idle")]
    SystemTime::now()
}

/// A handle on the one connection of this environment.
pub struct Database {
    config: Config,
    tls: MakeRustlsConnect,
    hot: &'static [Hot],
    current: Mutex<Option<Held>>,
    /// Whoever opens the connection does it for all who wait.
    opening: tokio::sync::Mutex<()>,
}

impl Database {
    /// Takes a connection string; nothing is opened yet.
    ///
    /// Parameters that only Prisma knows (`schema`, `connection_limit`, …) are left out: the string is shared with it.
    ///
    /// # Errors
    /// [`DatabaseError::Url`] if the rest cannot be read.
    pub fn new(url: &str, tls: Arc<ClientConfig>) -> Result<Self, DatabaseError> {
        let mut config = Config::from_str(&without_foreign_parameters(url)).map_err(|_| DatabaseError::Url)?;
        if config.get_application_name().is_none() {
            config.application_name("huntaze-orchestrator");
        }
        config.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(STATEMENT_TIMEOUT);
        let tls = MakeRustlsConnect::new((*tls).clone());
        Ok(Self { config, tls, hot: &[], current: Mutex::default(), opening: tokio::sync::Mutex::default() })
    }

    /// Prepares these statements on every connection that is opened: the server then reads and plans them once a
    /// connection, not once a request. Nobody waits for it.
    #[must_use]
    pub fn preparing(self, hot: &'static [Hot]) -> Self {
        Self { hot, ..self }
    }

    /// Opens the connection ahead of the first statement. A failure is left to that statement.
    pub async fn warm_up(&self) {
        if let Err(error) = self.connection().await {
            tracing::warn!(%error, "PostgreSQL is not reachable yet");
        }
    }

    /// Runs one statement in one round trip; see the crate's rule about running twice.
    ///
    /// # Errors
    /// What [`DatabaseError`] names, after up to three sends where the connection could not be opened, was lost or was
    /// silent, or where a deadlock was broken.
    pub async fn query(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, DatabaseError> {
        let (mut sends, mut lost) = (1, None);
        loop {
            let error = match self.send(sql, params).await {
                Ok(rows) => return Ok(rows),
                Err(error) => error,
            };
            if sends == MAX_SENDS || !error.is_transient() {
                // That it could not be sent again does not say that it never was.
                return Err(lost.filter(|_| error.was_never_sent()).unwrap_or(error));
            }
            tracing::warn!(%error, sends, "a statement is sent again");
            if error.was_never_sent() {
                sleep(BACKOFF * sends).await;
            } else {
                lost = Some(error);
            }
            sends += 1;
        }
    }

    async fn send(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, DatabaseError> {
        let (connection, kept) = self.connection().await?;
        let mut suspicion = Suspicion { database: self, connection: &connection, confirmed: true };
        let patience = if kept == Kept::Idle { SUSPECT_TIMEOUT } else { STATEMENT_TIMEOUT };
        let silence = if kept == Kept::No { DatabaseError::Timeout } else { DatabaseError::Silent };
        let answer = timeout(patience, connection.query(sql, params)).await.map_err(|_| silence(patience))?;
        // The server answered, if only to refuse: the connection is good.
        suspicion.confirmed = answer.as_ref().is_err_and(|error| error.as_db_error().is_none());
        answer.map_err(|error| DatabaseError::Statement(Cause::of(&error)))
    }

    /// A connection of its own, for work that needs a session: migrations.
    ///
    /// # Errors
    /// As [`Database::query`].
    pub async fn dedicated(&self) -> Result<Client, DatabaseError> {
        let (client, connection) = self.open().await?;
        drive(connection, std::future::ready(()));
        Ok(client)
    }

    async fn open(&self) -> Result<(Client, Driver), DatabaseError> {
        let connecting = self.config.connect(self.tls.clone());
        timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_| DatabaseError::Timeout(CONNECT_TIMEOUT))?
            .map_err(|error| DatabaseError::Connect(Cause::of(&error)))
    }

    /// The connection, and what is known of its life.
    async fn connection(&self) -> Result<(Arc<Connection>, Kept), DatabaseError> {
        let _turn = self.opening.lock().await;
        if let Some(held) = self.current().as_ref().filter(|held| !held.connection.client.is_closed()) {
            return Ok((Arc::clone(&held.connection), if held.is_trusted() { Kept::InUse } else { Kept::Idle }));
        }
        let (client, driver) = self.open().await?;
        let connection = Arc::new(Connection { client, prepared: Mutex::default() });
        let (prepared, hot) = (Arc::clone(&connection), self.hot);
        drive(driver, async move { prepared.prepare(hot).await });
        *self.current() = Some(Held { connection: Arc::clone(&connection), answered: now() });
        Ok((connection, Kept::No))
    }

    fn current(&self) -> MutexGuard<'_, Option<Held>> {
        lock(&self.current)
    }
}

/// What reads and writes a connection's socket.
type Driver = tokio_postgres::Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// Drives the socket, and beside it what is to be done first.
fn drive(connection: Driver, first: impl Future<Output = ()> + Send + 'static) {
    #[expect(clippy::disallowed_methods, reason = "drives the socket; frozen and thawed together with its user")]
    tokio::spawn(async move {
        let (ended, ()) = join(connection, first).await;
        if let Err(error) = ended {
            tracing::debug!(error = %Cause::of(&error), "the PostgreSQL connection ended");
        }
    });
}

/// Forgets a connection that did not answer, also where whoever asked has stopped waiting.
struct Suspicion<'a> {
    database: &'a Database,
    connection: &'a Arc<Connection>,
    confirmed: bool,
}

impl Drop for Suspicion<'_> {
    fn drop(&mut self) {
        let mut current = self.database.current();
        match current.as_mut().filter(|held| Arc::ptr_eq(&held.connection, self.connection)) {
            Some(_) if self.confirmed => *current = None,
            Some(held) => held.answered = now(),
            None => {}
        }
    }
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
