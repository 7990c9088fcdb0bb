//! What PostgreSQL remembers of the permits that were used.

use huntaze_postgres::Database;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_postgres::types::Type;

use super::log::{Log, member};
use super::{LimiterFault, limits::MAX_LIMIT};

const RECALL: &str = "SELECT log, raised, permits FROM orchestrator.recall_permits($1, $2)";

/// A log as it has to be.
pub(super) struct Recalled {
    pub(super) subject: String,
    pub(super) generation: i64,
    /// Members, and for how many microseconds they have not been able to reach the fan any more.
    pub(super) permits: Vec<(String, i64)>,
}

#[derive(Deserialize)]
struct Permit {
    message: String,
    attempt: i16,
    account: String,
    recipient: String,
    #[serde(rename = "type")]
    kind: String,
    age_us: i64,
}

/// Begins the next generation of logs. Of more permits than any limit the latest are enough: until the first of those leaves the
/// longest window, they alone deny.
pub(super) async fn recall(database: &Database, logs: &[&Log]) -> Result<Vec<Recalled>, LimiterFault> {
    let asked = json!(logs.iter().map(|log| log.recall()).collect::<Vec<_>>());
    let params = [(&asked as _, Type::JSONB), (&i64::from(MAX_LIMIT) as _, Type::INT8)];
    let rows = database.query(RECALL, &params).await?;
    let read = rows.iter().map(|row| {
        let permits = Vec::<Permit>::deserialize(row.get::<_, Value>("permits")).ok()?;
        let of = |p: Permit| (member(&p.message, p.attempt, &p.kind, &p.account, &p.recipient), p.age_us);
        Some(Recalled {
            subject: row.get("log"),
            generation: row.get("raised"),
            permits: permits.into_iter().map(of).collect(),
        })
    });
    read.collect::<Option<_>>().ok_or(LimiterFault::Row)
}
