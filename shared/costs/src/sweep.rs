//! What a crash left behind is brought to its end here, by a schedule.
//!
//! Three things can be left: a call whose process died before it was settled (its reservation runs out), and a settled
//! attempt, or the correction of one, that did not get into the ledger. All are found in PostgreSQL and are safe to do again.

use futures_util::{StreamExt, stream};
use huntaze_domain::money::Usd;
use huntaze_domain::provider::{Provider, TokenUsage};
use huntaze_postgres::{Database, DatabaseError};
use jiff::Timestamp;
use rust_decimal::Decimal;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::ledger::{Ledger, LedgerCorrection, LedgerEntry, LedgerError};
use crate::price::Catalogue;

const SETTLE_EXPIRED: &str = "SELECT * FROM orchestrator.settle_expired($1)";
const SETTLE_UNSENT: &str = "SELECT orchestrator.settle_unsent()";
const PURGE_WITHDRAWN: &str = include_str!("../sql/purge_withdrawn.sql");
const END_ABANDONED: &str = include_str!("../sql/end_abandoned.sql");
const UNPROJECTED: &str = include_str!("../sql/unprojected.sql");
const UNPROJECTED_CORRECTIONS: &str = include_str!("../sql/unprojected_corrections.sql");
const MARK_CORRECTED: &str =
    "UPDATE orchestrator.corrections SET projected_at = now() WHERE attempt_id = $1 AND number = $2";
const MARK_PROJECTED: &str = "UPDATE orchestrator.attempts SET projected_at = now() WHERE id = ANY($1)";
/// DynamoDB answers for at most 100 keys at once.
const PAGE: i64 = 100;
/// Withdrawn workflows that one sweep forgets.
const PURGED: i64 = 10_000;
/// Projections that are under way at once.
const CONCURRENCY: usize = 8;

/// Why a sweep stopped.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// PostgreSQL.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// DynamoDB.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A row that the schema should not allow.
    #[error("attempt {0} cannot be read")]
    Row(String),
}

/// A call whose reservation ran out, settled at its bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// Who was called.
    pub provider: Provider,
    /// The model that it is priced as.
    pub model: String,
    /// What was booked: its bound.
    pub cost: Usd,
    /// Input and output tokens of the bound together.
    pub tokens: u64,
    /// The trace of the request that made it.
    pub trace_id: String,
}

/// Ends the workflows that nobody drives any more although their attempts are settled, settles at nothing what a withdrawn
/// workflow left pending, and forgets the withdrawn ones of an hour ago. Returns how many workflows were ended.
///
/// # Errors
/// [`SweepError::Database`]
pub async fn tidy(database: &Database) -> Result<u64, SweepError> {
    database.query(SETTLE_UNSENT, &[]).await?;
    database.query(PURGE_WITHDRAWN, &[(&PURGED, Type::INT8)]).await?;
    Ok(database.query(END_ABANDONED, &[]).await?.len() as u64)
}

/// Settles the attempts whose reservation has run out: the process that made the call is gone, its outcome is unknown, so
/// the full bound is booked, flagged as an estimate. Their workflows end as failed. Returns how many.
///
/// `settled` is told of each as soon as it is booked, so that a sweep that is cut short has told of all that it did.
///
/// # Errors
/// [`SweepError`] if PostgreSQL is away, or holds what it should not.
pub async fn settle_expired(database: &Database, mut settled: impl FnMut(Expired)) -> Result<u64, SweepError> {
    let mut count = 0;
    loop {
        let rows = database.query(SETTLE_EXPIRED, &[(&PAGE, Type::INT8)]).await?;
        if rows.is_empty() {
            return Ok(count);
        }
        // What a budget refused was not called, and cost nothing.
        for row in rows.iter().filter(|row| row.get("called")) {
            settled(expired(row)?);
            count += 1;
        }
    }
}

fn expired(row: &Row) -> Result<Expired, SweepError> {
    let unreadable = || SweepError::Row(row.get("id"));
    Ok(Expired {
        provider: Provider::from_name(row.get("provider")).ok_or_else(unreadable)?,
        model: row.get("model"),
        cost: Usd::try_from(row.get::<_, Decimal>("cost")).map_err(|_| unreadable())?,
        tokens: u64::try_from(row.get::<_, i64>("tokens")).map_err(|_| unreadable())?,
        trace_id: row.get("trace_id"),
    })
}

/// What [`project_missing`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Projected {
    /// Settled attempts whose entry was there already.
    pub found: u64,
    /// Entries that were missing and are written now.
    pub written: u64,
    /// Entries that could not be written; the next sweep tries again.
    pub failed: u64,
}

/// Brings the ledger up to what was settled before `settled_before`, and marks it as done.
///
/// # Errors
/// [`SweepError`] if a store is away. One entry that cannot be written does not hold up the others.
pub async fn project_missing(
    database: &Database,
    ledger: &Ledger,
    catalogue: &Catalogue,
    settled_before: Timestamp,
) -> Result<Projected, SweepError> {
    let mut done = Projected::default();
    let mut after = (Timestamp::UNIX_EPOCH, String::new());
    loop {
        let page = [
            (&after.0 as _, Type::TIMESTAMPTZ),
            (&after.1 as _, Type::TEXT),
            (&settled_before as _, Type::TIMESTAMPTZ),
            (&PAGE as _, Type::INT8),
        ];
        let rows = database.query(UNPROJECTED, &page).await?;
        let Some(last) = rows.last() else { return Ok(done) };
        after = (last.get("settled_at"), last.get("id"));
        let entries = rows.iter().map(|row| entry(row, catalogue)).collect::<Result<Vec<_>, _>>()?;

        let present = ledger.present(&entries).await?;
        let (mut projected, missing): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| present.contains(&entry.id));
        done.found += projected.len() as u64;
        let mut writes = stream::iter(missing).map(|entry| write(ledger, entry)).buffer_unordered(CONCURRENCY);
        while let Some((entry, result)) = writes.next().await {
            match result {
                Ok(()) => {
                    done.written += 1;
                    projected.push(entry);
                }
                Err(error) => {
                    done.failed += 1;
                    tracing::error!(%error, attempt = entry.id, "a ledger entry could not be written");
                }
            }
        }
        let ids: Vec<&str> = projected.iter().map(|entry| entry.id.as_str()).collect();
        database.query(MARK_PROJECTED, &[(&ids, Type::TEXT_ARRAY)]).await?;
    }
}

/// Brings the ledger up to the corrections, one after the other. Gives how many are in it now, and how many could not be
/// written; the next sweep tries these again.
///
/// # Errors
/// [`SweepError`] if PostgreSQL is away, or holds what it should not.
pub async fn project_corrections(
    database: &Database,
    ledger: &Ledger,
    catalogue: &Catalogue,
) -> Result<(u64, u64), SweepError> {
    let (mut written, mut failed) = (0, 0);
    for row in database.query(UNPROJECTED_CORRECTIONS, &[(&PAGE, Type::INT8)]).await? {
        let (correction, number) = (correction(&row, catalogue)?, row.get::<_, i16>("number"));
        let id = correction.after.id.as_str();
        if let Err(error) = ledger.correct(&correction).await {
            failed += 1;
            tracing::error!(%error, attempt = id, "a correction could not be written");
            continue;
        }
        written += 1;
        database.query(MARK_CORRECTED, &[(&id, Type::TEXT), (&number, Type::INT2)]).await?;
    }
    Ok((written, failed))
}

fn correction(row: &Row, catalogue: &Catalogue) -> Result<LedgerCorrection, SweepError> {
    let after = LedgerEntry { estimated: false, ..entry(row, catalogue)? };
    let unreadable = || SweepError::Row(after.id.clone());
    let number = u16::try_from(row.get::<_, i16>("number")).map_err(|_| unreadable())?;
    let cost = Usd::try_from(row.get::<_, Decimal>("cost_before")).map_err(|_| unreadable())?;
    // Only what was booked at its bound is ever corrected, so until its first correction it was an estimate.
    let before = LedgerEntry { cost, estimated: number == 1, ..after.clone() };
    Ok(LedgerCorrection { number, before, after })
}

async fn write(ledger: &Ledger, entry: LedgerEntry) -> (LedgerEntry, Result<(), LedgerError>) {
    let result = ledger.project(&entry).await;
    (entry, result)
}

fn entry(row: &Row, catalogue: &Catalogue) -> Result<LedgerEntry, SweepError> {
    let id: String = row.get("id");
    let unreadable = || SweepError::Row(id.clone());
    let tokens = |column: &str| u64::try_from(row.get::<_, i64>(column)).map_err(|_| unreadable());
    let price_version: String = row.get("price_version");
    let usage = TokenUsage {
        input_tokens: tokens("input_tokens")?,
        cached_input_tokens: tokens("cached_input_tokens")?,
        output_tokens: tokens("output_tokens")?,
    };
    let cached: Option<Decimal> = row.get("cache_saved");
    let saved = match cached {
        Some(saved) => Usd::try_from(saved).map_err(|_| unreadable())?,
        // Only the fallback's row may be missing, and it prices cached tokens as it prices all others.
        None => catalogue.version(&price_version).map_or(Usd::ZERO, |price| price.saved(usage)),
    };
    Ok(LedgerEntry {
        operation_id: row.get("workflow_id"),
        user_id: row.get("user_id"),
        provider: Provider::from_name(row.get("provider")).ok_or_else(unreadable)?,
        model: row.get("model"),
        request_type: row.get("request_type"),
        outcome: row.get("outcome"),
        usage,
        cost: Usd::try_from(row.get::<_, Decimal>("cost")).map_err(|_| unreadable())?,
        saved,
        cache_hit: cached.is_some(),
        estimated: row.get("estimated"),
        price_version,
        trace_id: row.get("trace_id"),
        duration_ms: row.get("duration_ms"),
        started_at: row.get("started_at"),
        id: id.clone(),
    })
}
