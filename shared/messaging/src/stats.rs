//! Statistics of messages: what the limits count, what they denied, and what waits.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use huntaze_domain::ids::{AccountId, UserId};
use huntaze_postgres::{Database, DatabaseError};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio_postgres::types::Type;

use crate::account::overrides;
use crate::limiter::{Limiter, Overrides, Subject};
use crate::room::{Room, after};

const USER: &str = include_str!("../sql/user_stats.sql");
const ACCOUNTS: &str = include_str!("../sql/account_stats.sql");
const GLOBAL: &str = include_str!("../sql/global_stats.sql");
/// A user's accounts that are counted, the newest ones.
const MOST_ACCOUNTS: i64 = 50;
/// Users that are named as those who were denied most.
const TOP_VIOLATORS: i64 = 10;
/// The layer that says how many messages a user may send now.
const PERIOD: &str = "account_minute";

/// Why there are no statistics.
#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    /// PostgreSQL.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A row that the schema should not allow.
    #[error("a row of statistics cannot be read")]
    Row,
}

/// So many messages of an account are in a state, of a priority.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Count {
    status: String,
    priority: String,
    messages: u64,
}

struct Account {
    id: AccountId,
    status: String,
    paused_reason: Option<String>,
    resume_at: Option<Timestamp>,
    overrides: Overrides,
    queue: Vec<Count>,
    oldest: Option<Timestamp>,
    next_due: Option<Timestamp>,
}

impl Account {
    fn subject<'a>(&'a self, user: &'a UserId) -> Subject<'a> {
        Subject { account: &self.id, user, recipient: None, kind: None, overrides: &self.overrides }
    }

    /// With what is left of every limit, and what waits.
    fn to_json(&self, room: &Room, now: Timestamp) -> Value {
        let total = |name: fn(&Count) -> &str| {
            let mut totals = BTreeMap::<&str, u64>::new();
            for count in &self.queue {
                *totals.entry(name(count)).or_default() += count.messages;
            }
            totals
        };
        let waiting = self.queue.iter().filter(|count| count.status == "queued").map(|count| count.messages);
        let mut shown = json!({
            "accountId": self.id,
            "status": self.status,
            "rateLimit": room.to_json(now),
            "queue": {
                "waiting": waiting.sum::<u64>(),
                "byStatus": total(|count| &count.status),
                "byPriority": total(|count| &count.priority),
                "oldestWaiting": self.oldest,
                "nextDue": self.next_due,
            },
        });
        let known = [
            ("reason", self.paused_reason.as_ref().map(|reason| json!(reason))),
            ("resumeAt", self.resume_at.map(|at| json!(at))),
        ];
        for (name, value) in known {
            if let Some(value) = value {
                shown[name] = value;
            }
        }
        shown
    }
}

/// A user's statistics, as the contract has them; `detailed`: with each account.
///
/// # Errors
/// [`StatsError`]
pub async fn user(
    database: &Database,
    limiter: &Limiter,
    user: &UserId,
    detailed: bool,
    now: Timestamp,
) -> Result<Value, StatsError> {
    let accounts = accounts(database, user).await?;
    let bounds = accounts.iter().filter_map(|account| {
        limiter.limits(&account.subject(user)).into_iter().find(|bound| bound.layer.name == PERIOD)
    });
    let bounds: Vec<_> = bounds.collect();
    let limit: u64 = bounds.iter().map(|bound| u64::from(bound.limit)).sum();
    let minute = bounds.first().map_or(Duration::from_secs(60), |bound| bound.window);

    let millis = i64::try_from(minute.as_millis()).unwrap_or(i64::MAX);
    let rows = database.query(USER, &[(&user.as_str() as _, Type::TEXT), (&millis as _, Type::INT8)]).await?;
    let row = rows.first().ok_or(StatsError::Row)?;
    let (messages, recipients): (i64, i64) = (row.get("minute"), row.get("recipients"));
    let oldest: Option<Timestamp> = row.get("oldest");
    let by_layer: Map<String, Value> =
        Map::deserialize(row.get::<_, Value>("violations")).map_err(|_| StatsError::Row)?;
    let mut stats = json!({
        "userId": user,
        // A place is free again a window after its message.
        "currentPeriod": {
            "messages": messages, "limit": limit, "resetTime": oldest.map_or(now, |oldest| after(oldest, minute)),
        },
        "violations": by_layer.values().filter_map(Value::as_u64).sum::<u64>(),
        "recipients": recipients,
    });
    if detailed {
        let shown = accounts.iter().map(async |account| {
            let room = Room::of(limiter, &account.subject(user)).await;
            account.to_json(&room, now)
        });
        stats["accounts"] = join_all(shown).await.into();
        stats["violationsByLayer"] = by_layer.into();
    }
    Ok(stats)
}

async fn accounts(database: &Database, user: &UserId) -> Result<Vec<Account>, StatsError> {
    let params = [(&user.as_str() as _, Type::TEXT), (&MOST_ACCOUNTS as _, Type::INT8)];
    let rows = database.query(ACCOUNTS, &params).await?;
    let read = rows.iter().map(|row| {
        let limits: Value = row.get("limits");
        Some(Account {
            id: AccountId::parse(row.get("id")).ok()?,
            status: row.get("status"),
            paused_reason: row.get("paused_reason"),
            resume_at: row.get("resume_at"),
            overrides: overrides(limits.as_object()?),
            queue: Vec::deserialize(row.get::<_, Value>("queue")).ok()?,
            oldest: row.get("oldest"),
            next_due: row.get("next_due"),
        })
    });
    read.collect::<Option<_>>().ok_or(StatsError::Row)
}

/// Everybody's statistics, as the contract has them.
///
/// # Errors
/// [`StatsError`]
pub async fn global(database: &Database) -> Result<Value, StatsError> {
    let rows = database.query(GLOBAL, &[(&TOP_VIOLATORS as _, Type::INT8)]).await?;
    let row = rows.first().ok_or(StatsError::Row)?;
    let count = |name: &str| row.get::<_, i64>(name);
    Ok(json!({
        "totalUsers": count("users"),
        "activeUsers": count("active"),
        "messagesPerMinute": count("minute"),
        "violationsPerHour": count("denials"),
        "topViolators": row.get::<_, Value>("violators"),
    }))
}
