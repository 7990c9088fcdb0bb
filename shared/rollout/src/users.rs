//! What sessions have said of their users: not every session says it, and whoever asks about a user has none of them.

use huntaze_domain::ids::UserId;
use huntaze_domain::principal::Attributes;
use huntaze_postgres::{Database, DatabaseError};
use tokio_postgres::types::Type;

const ATTRIBUTES: &str = "SELECT tier, region, coalesce(account_created_at, first_seen_at) AS created_at
    FROM orchestrator.users WHERE id = $1";
const REMEMBER: &str =
    "INSERT INTO orchestrator.users AS u (id, tier, region, account_created_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (id) DO UPDATE SET tier = coalesce(excluded.tier, u.tier), region = coalesce(excluded.region, u.region),
        account_created_at = coalesce(excluded.account_created_at, u.account_created_at)
    WHERE (coalesce(excluded.tier, u.tier), coalesce(excluded.region, u.region),
           coalesce(excluded.account_created_at, u.account_created_at))
        IS DISTINCT FROM (u.tier, u.region, u.account_created_at)";

/// What is remembered of a user. An account is as old as its user has been seen for, at least.
///
/// # Errors
/// [`DatabaseError`]
pub async fn attributes(database: &Database, user: &UserId) -> Result<Attributes, DatabaseError> {
    let rows = database.query(ATTRIBUTES, &[(&user.as_str(), Type::TEXT)]).await?;
    Ok(rows.first().map_or_else(Attributes::default, |row| Attributes {
        tier: row.get("tier"),
        region: row.get("region"),
        created_at: row.get("created_at"),
    }))
}

/// Remembers what a session says; what it does not say stays as it was.
///
/// # Errors
/// [`DatabaseError`]
pub async fn remember(database: &Database, user: &UserId, said: &Attributes) -> Result<(), DatabaseError> {
    let Attributes { tier, region, created_at } = said;
    let values = [
        (&user.as_str() as _, Type::TEXT),
        (tier as _, Type::TEXT),
        (region as _, Type::TEXT),
        (created_at as _, Type::TIMESTAMPTZ),
    ];
    database.query(REMEMBER, &values).await.map(drop)
}
