//! What was judged, by rule and by account.

use huntaze_compliance::VERSION;
use huntaze_domain::ids::AccountId;
use huntaze_postgres::{Database, DatabaseError};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::types::Type;

const REPORT: &str = include_str!("../sql/report.sql");
/// More rules than there are, and more accounts than anybody reads.
const MOST: i64 = 200;

/// What was judged since a moment, of all accounts or of one: how much was looked at and blocked, by origin, by rules' version, by rule and
/// by account, what was blocked most first.
///
/// # Errors
/// [`DatabaseError`]
pub async fn report(
    database: &Database,
    since: Timestamp,
    account: Option<&AccountId>,
) -> Result<Value, DatabaseError> {
    let account = account.map(AccountId::as_str);
    let params = [(&since as _, Type::TIMESTAMPTZ), (&account as _, Type::TEXT), (&MOST as _, Type::INT8)];
    let rows = database.query(REPORT, &params).await?;
    let mut report = rows.first().map_or_else(|| json!({}), |row| row.get("report"));
    (report["since"], report["ruleVersion"]) = (json!(since), json!(VERSION));
    Ok(report)
}
