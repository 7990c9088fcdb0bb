//! Corrections: an attempt whose end nobody heard of is booked at its upper bound, and corrected against the provider's bill.
//!
//! PostgreSQL keeps what was corrected, by whom and why (`orchestrator.correct`), and moves the budgets that hold the cost; the
//! ledger follows ([`crate::sweep::project_corrections`]).

use huntaze_domain::error::FieldFault;
use huntaze_domain::ids::{AttemptId, UserId};
use huntaze_domain::json::read_object;
use huntaze_domain::money::Usd;
use huntaze_postgres::{Database, DatabaseError};
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::body::amount_or_none;

const CORRECT: &str = "SELECT * FROM orchestrator.correct($1, $2, $3, $4, $5)";
const ESTIMATED: &str = include_str!("../sql/estimated.sql");
/// Older attempts are not corrected: their entries begin to expire.
pub const MAX_AGE_DAYS: u16 = 90;
const REASON: &str = "a text of 1 to 500 characters";
const COST: &str = "dollars from 0 to 1000000";

/// What an attempt cost by the bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// Which attempt.
    pub attempt: AttemptId,
    /// What it cost.
    pub cost: Usd,
    /// How that is known.
    pub reason: String,
}

impl Correction {
    /// Reads a request's body.
    ///
    /// # Errors
    /// Every fault that was found, each with its JSON pointer.
    pub fn parse(body: &[u8]) -> Result<Self, Vec<FieldFault>> {
        read_object(body, |fields| {
            let attempt = fields.required("attemptId", "an attempt's id", |v| AttemptId::parse(v.as_str()?).ok());
            let cost = fields.required("cost", COST, amount_or_none);
            let reason = fields.required("reason", REASON, |v| {
                v.as_str().filter(|reason| !reason.trim().is_empty() && reason.chars().count() <= 500)
            });
            Some(Self { attempt: attempt?, cost: cost?, reason: reason?.to_owned() })
        })
    }
}

/// A correction that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corrected {
    /// Who paid.
    pub user_id: String,
    /// What was booked before: the same, where nothing had to be changed.
    pub cost_before: Usd,
}

/// Why nothing was corrected.
#[derive(Debug, thiserror::Error)]
pub enum CorrectionError {
    /// There is no such attempt.
    #[error("there is no such attempt")]
    Unknown,
    /// The provider's own numbers were booked.
    #[error(
        "this attempt was settled by the provider's own numbers, or is not settled yet: there is no estimate to correct"
    )]
    Known,
    /// No call costs more than its upper bound.
    #[error("is more than the attempt's upper bound of ${0}")]
    OverBound(Usd),
    /// It is too old.
    #[error("this attempt is older than {MAX_AGE_DAYS} days")]
    TooOld,
    /// The ledger has not got it yet.
    #[error("this attempt is not in the ledger yet")]
    TooEarly,
    /// PostgreSQL.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A row that the schema should not allow.
    #[error("attempt {0} cannot be read")]
    Row(String),
}

/// Keeps a correction, and moves the budgets that hold the attempt's cost.
///
/// # Errors
/// [`CorrectionError`]
pub async fn correct(
    database: &Database,
    correction: &Correction,
    actor: &UserId,
    request_id: &str,
) -> Result<Corrected, CorrectionError> {
    let Correction { attempt, cost, reason } = correction;
    let params = [
        (&attempt.as_str() as _, Type::TEXT),
        (&cost.to_decimal() as _, Type::NUMERIC),
        (&reason.as_str() as _, Type::TEXT),
        (&actor.as_str() as _, Type::TEXT),
        (&request_id as _, Type::TEXT),
    ];
    let rows = database.query(CORRECT, &params).await?;
    let unreadable = || CorrectionError::Row(attempt.to_string());
    let row = rows.first().ok_or_else(unreadable)?;
    let usd = |column: &str| usd(row, column).ok_or_else(unreadable);
    match row.get("outcome") {
        "corrected" | "same" => Ok(Corrected { user_id: row.get("payer"), cost_before: usd("cost_before")? }),
        "unknown" => Err(CorrectionError::Unknown),
        "known" => Err(CorrectionError::Known),
        "over_bound" => Err(CorrectionError::OverBound(usd("bound")?)),
        "too_old" => Err(CorrectionError::TooOld),
        "too_early" => Err(CorrectionError::TooEarly),
        _ => Err(unreadable()),
    }
}

fn usd(row: &Row, column: &str) -> Option<Usd> {
    Usd::try_from(row.get::<_, Option<Decimal>>(column)?).ok()
}

/// An attempt that is booked at its bound, for it is not known how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimated {
    /// Its id.
    pub id: String,
    /// When it was intended.
    pub started_at: Timestamp,
    shown: Value,
}

impl Estimated {
    /// As the API shows it, the bound in dollars.
    #[must_use]
    pub fn to_json(&self) -> Value {
        self.shown.clone()
    }

    fn read(row: &Row) -> Option<Self> {
        let (id, started_at): (String, Timestamp) = (row.get("id"), row.get("started_at"));
        let shown = json!({
            "attemptId": id,
            "workflowId": row.get::<_, &str>("workflow_id"),
            "userId": row.get::<_, &str>("user_id"),
            "provider": row.get::<_, &str>("provider"),
            "model": row.get::<_, &str>("model"),
            "failure": row.get::<_, Option<&str>>("failure"),
            "cost": usd(row, "cost")?.to_json_number(),
            "startedAt": started_at,
        });
        Some(Self { id, started_at, shown })
    }
}

/// Attempts that can be corrected, oldest first, behind one of them, and whether there are more.
///
/// # Errors
/// [`CorrectionError`]
pub async fn estimated(
    database: &Database,
    after: Option<&(Timestamp, String)>,
    limit: u8,
) -> Result<(Vec<Estimated>, bool), CorrectionError> {
    let (at, id) = (after.map(|(at, _)| at), after.map(|(_, id)| id.as_str()));
    // One more than is shown tells whether there is a next page.
    let page = [(&at as _, Type::TIMESTAMPTZ), (&id as _, Type::TEXT), (&(i64::from(limit) + 1) as _, Type::INT8)];
    let rows = database.query(ESTIMATED, &page).await?;
    let read = |row| Estimated::read(row).ok_or_else(|| CorrectionError::Row(row.get("id")));
    let shown = rows.iter().take(limit.into()).map(read);
    Ok((shown.collect::<Result<_, _>>()?, rows.len() > usize::from(limit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faults_of_a_body_are_named() {
        let pointers = |body: Value| -> Vec<String> {
            let faults = Correction::parse(body.to_string().as_bytes()).expect_err("faulty");
            faults.into_iter().map(|fault| fault.pointer).collect()
        };
        assert_eq!(pointers(json!({})), ["/attemptId", "/cost", "/reason"]);
        assert_eq!(
            pointers(json!({"attemptId": "a b", "cost": -1, "reason": " "})),
            ["/attemptId", "/cost", "/reason"]
        );
        assert_eq!(pointers(json!({"attemptId": "wf_1.1", "cost": 0, "reason": "r".repeat(501)})), ["/reason"]);
        let free = json!({"attemptId": "wf_1.1", "cost": 0, "reason": "not on the bill of November"});
        assert_eq!(Correction::parse(free.to_string().as_bytes()).unwrap().cost, Usd::ZERO);
    }
}
