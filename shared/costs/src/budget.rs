//! Budgets: what may be spent in a UTC day or month, by a user or by everybody, at one provider or at both.
//!
//! They are counted in PostgreSQL, in the transaction that keeps an attempt's intent or its settlement
//! (`migrations/V3__budgets.sql`): a call whose upper bound passes what one of them leaves is refused, so under any
//! concurrency spent and reserved never pass the limit. Without a budget nothing is counted.

use huntaze_domain::error::FieldFault;
use huntaze_domain::ids::UserId;
use huntaze_domain::json::read_object;
use huntaze_domain::money::Usd;
use huntaze_domain::provider::Provider;
use huntaze_postgres::{Database, DatabaseError};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::body::{amount_or_none, provider, user_id};
use crate::owner::Owner;
use crate::period::day_of;
use huntaze_dynamodb::ALL_PROVIDERS;

const BUDGETS: &str = include_str!("../sql/budgets.sql");
const UTILISATION: &str = include_str!("../sql/utilisation.sql");
/// What is said of a limit that is none.
const LIMIT: &str = "dollars from 0 to 1000000, or null for no limit";
const SET: &str = "SELECT orchestrator.set_budget($1, $2, $3, $4, $5, $6, $7)";

/// How long a budget lasts before it begins anew, by UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// From midnight to midnight.
    Day,
    /// From the first to the last.
    Month,
}

impl Period {
    /// The name on the wire and in the stores.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// Reads the name.
    #[must_use]
    pub fn from_name(text: &str) -> Option<Self> {
        [Self::Day, Self::Month].into_iter().find(|period| period.as_str() == text)
    }

    /// The first day of the period that a moment belongs to.
    #[must_use]
    pub fn start(self, at: Timestamp) -> Date {
        let day = day_of(at);
        match self {
            Self::Day => day,
            Self::Month => day.first_of_month(),
        }
    }

    /// When the period that begins on a day is over. A day beyond the calendar's end has none, and stands for itself.
    #[must_use]
    pub fn end(self, starts_on: Date) -> Timestamp {
        let span = match self {
            Self::Day => 1.day(),
            Self::Month => 1.month(),
        };
        let next = starts_on.checked_add(span).unwrap_or(starts_on);
        next.to_zoned(TimeZone::UTC).map_or(Timestamp::MAX, |midnight| midnight.timestamp())
    }
}

/// Which budget.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BudgetKey {
    /// Whose spending it limits.
    pub owner: Owner,
    /// In which time.
    pub period: Period,
    /// At which provider; `None`: at both together.
    pub provider: Option<Provider>,
}

impl BudgetKey {
    /// As the contract shows it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut shown = json!({
            "scope": scope(&self.owner),
            "period": self.period.as_str(),
            "provider": self.provider.map_or(ALL_PROVIDERS, Provider::as_str),
        });
        if let Some(user) = self.owner.user() {
            shown["userId"] = json!(user);
        }
        shown
    }
}

/// A budget that somebody wants set, or lifted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetChange {
    /// Which.
    pub key: BudgetKey,
    /// No more than this is to be spent; `None`: there is to be no limit.
    pub limit: Option<Usd>,
}

impl BudgetChange {
    /// Reads a request's body.
    ///
    /// # Errors
    /// Every fault that was found, each with its JSON pointer.
    pub fn parse(body: &[u8]) -> Result<Self, Vec<FieldFault>> {
        read_object(body, |fields| {
            let user_named = fields.optional("userId", "", |_| Some(())).is_some();
            let user = user_id(fields);
            let owner = fields.required("scope", "one of `user`, `global`", |v| match v.as_str()? {
                "user" => Some(user.map(Owner::User)),
                "global" => Some(Some(Owner::Everyone)),
                _ => None,
            });
            match owner {
                Some(None) if !user_named => fields.fault("userId", "is required: whose budget it is"),
                Some(Some(Owner::Everyone)) if user_named => {
                    fields.fault("userId", "must not be there: it is everybody's")
                }
                _ => {}
            }
            let period = fields.required("period", "one of `day`, `month`", |v| v.as_str().and_then(Period::from_name));
            let provider = provider(fields);
            // Nobody lifts a limit by leaving it out.
            if !fields.has("limit") {
                fields.fault("limit", format!("is required: {LIMIT}"));
            }
            let limit = fields.optional("limit", LIMIT, amount_or_none);
            Some(Self { key: BudgetKey { owner: owner??, period: period?, provider }, limit })
        })
    }
}

/// A budget in its present period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Which.
    pub key: BudgetKey,
    /// No more than this is spent.
    pub limit: Usd,
    /// What the period's settled calls cost.
    pub spent: Usd,
    /// What its calls under way may cost.
    pub reserved: Usd,
    /// When the period began.
    pub starts_on: Date,
    /// When the limit was set.
    pub updated_at: Timestamp,
}

impl Budget {
    /// What is left. A limit that was lowered under what is spent leaves less than nothing.
    #[must_use]
    pub fn available(&self) -> Usd {
        self.limit - self.spent - self.reserved
    }

    /// When it begins anew.
    #[must_use]
    pub fn resets_at(&self) -> Timestamp {
        self.key.period.end(self.starts_on)
    }

    /// As the contract shows it, amounts in dollars.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut shown = self.key.to_json();
        for (name, value) in [
            ("limit", json!(self.limit.to_json_number())),
            ("spent", json!(self.spent.to_json_number())),
            ("reserved", json!(self.reserved.to_json_number())),
            ("available", json!(self.available().to_json_number())),
            ("startsOn", json!(self.starts_on)),
            ("resetsAt", json!(self.resets_at())),
            ("updatedAt", json!(self.updated_at)),
        ] {
            shown[name] = value;
        }
        shown
    }
}

/// A budget that refused a call: its upper bound passes what was left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {whose} {period} budget{at} of ${limit} has no room for a call that may cost up to ${needed}; it resets at {resets}",
    whose = scope(&self.owner), period = self.period.as_str(), at = self.at(), resets = self.resets_at()
)]
pub struct Refusal {
    /// Whose spending it limits.
    pub owner: Owner,
    /// In which time.
    pub period: Period,
    /// At which provider; `None`: at both together.
    pub provider: Option<Provider>,
    /// The limit.
    pub limit: Usd,
    /// What the period's settled calls cost.
    pub spent: Usd,
    /// What its calls under way may cost.
    pub reserved: Usd,
    /// The refused call's upper bound.
    pub needed: Usd,
    /// When the period began.
    pub starts_on: Date,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RefusalRow {
    user_id: Option<UserId>,
    period: Period,
    provider: Option<Provider>,
    limit: String,
    spent: String,
    reserved: String,
    needed: String,
    starts_on: Date,
}

impl Refusal {
    /// Reads what `orchestrator.book` says of a refusal.
    #[must_use]
    pub fn from_row(row: &Value) -> Option<Self> {
        let row = RefusalRow::deserialize(row).ok()?;
        let usd = |text: &str| Usd::parse(text).ok();
        Some(Self {
            owner: row.user_id.into(),
            period: row.period,
            provider: row.provider,
            limit: usd(&row.limit)?,
            spent: usd(&row.spent)?,
            reserved: usd(&row.reserved)?,
            needed: usd(&row.needed)?,
            starts_on: row.starts_on,
        })
    }

    fn at(&self) -> String {
        self.provider.map(|provider| format!(" at {}", provider.as_str())).unwrap_or_default()
    }

    /// What is spent or reserved of it.
    #[must_use]
    pub fn committed(&self) -> Usd {
        self.spent + self.reserved
    }

    fn available(&self) -> Usd {
        self.limit - self.committed()
    }

    /// When the budget begins anew.
    #[must_use]
    pub fn resets_at(&self) -> Timestamp {
        self.period.end(self.starts_on)
    }

    /// The limit that was met, for the answer: its name, its value, what would be needed (in dollars), and when it resets. Of a
    /// user's own also what is left of it; what everybody has spent is for administrators, who ask elsewhere.
    #[must_use]
    pub fn limit(&self) -> Value {
        let mut limit = json!({
            "name": format!("{}_{}_budget", scope(&self.owner), self.period.as_str()),
            "value": self.limit.to_json_number(),
            "provider": self.provider.map_or(ALL_PROVIDERS, Provider::as_str),
            "needed": self.needed.to_json_number(),
            "resetsAt": self.resets_at(),
        });
        if self.owner.user().is_some() {
            for (name, amount) in [("spent", self.spent), ("reserved", self.reserved), ("available", self.available())]
            {
                limit[name] = amount.to_json_number().into();
            }
        }
        limit
    }
}

/// Why budgets could not be read or set.
#[derive(Debug, thiserror::Error)]
pub enum BudgetError {
    /// PostgreSQL.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A row that the schema should not allow.
    #[error("a budget cannot be read")]
    Row,
}

/// The budgets of a user (`None`: of nobody) and, with `global`, everybody's, in the periods of `now`.
///
/// # Errors
/// [`BudgetError`]
pub async fn list(
    database: &Database,
    user: Option<&UserId>,
    global: bool,
    now: Timestamp,
) -> Result<Vec<Budget>, BudgetError> {
    let user = user.map(UserId::as_str);
    let params = [(&user as _, Type::TEXT), (&global as _, Type::BOOL), (&now as _, Type::TIMESTAMPTZ)];
    database.query(BUDGETS, &params).await?.iter().map(|row| budget(row).ok_or(BudgetError::Row)).collect()
}

fn budget(row: &Row) -> Option<Budget> {
    let usd = |column: &str| Usd::try_from(row.get::<_, Decimal>(column)).ok();
    let provider: Option<&str> = row.get("provider");
    let user: Option<&str> = row.get("user_id");
    Some(Budget {
        key: BudgetKey {
            owner: user.map(UserId::parse).transpose().ok()?.into(),
            period: Period::from_name(row.get("period"))?,
            provider: provider.map(|name| Provider::from_name(name).ok_or(())).transpose().ok()?,
        },
        limit: usd("max_cost")?,
        spent: usd("spent")?,
        reserved: usd("reserved")?,
        starts_on: row.get("starts_on"),
        updated_at: row.get("updated_at"),
    })
}

/// How an owner is called in a budget: `user` or `global`.
#[must_use]
pub fn scope(owner: &Owner) -> &'static str {
    match owner {
        Owner::User(_) => "user",
        Owner::Everyone => "global",
    }
}

/// Sets a budget, or lifts it. One that begins to be counted now counts what its period has seen. Who did it is kept.
///
/// # Errors
/// [`BudgetError::Database`]
pub async fn set(
    database: &Database,
    BudgetChange { key, limit }: &BudgetChange,
    actor: &UserId,
    request_id: &str,
) -> Result<(), BudgetError> {
    let user = key.owner.user().map(UserId::as_str);
    let provider = key.provider.map(Provider::as_str);
    let limit = limit.map(Usd::to_decimal);
    let params = [
        (&scope(&key.owner) as _, Type::TEXT),
        (&user as _, Type::TEXT),
        (&key.period.as_str() as _, Type::TEXT),
        (&provider as _, Type::TEXT),
        (&limit as _, Type::NUMERIC),
        (&actor.as_str() as _, Type::TEXT),
        (&request_id as _, Type::TEXT),
    ];
    database.query(SET, &params).await?;
    Ok(())
}

/// How much of the fullest budget of each scope is spent or reserved, in per cent with two decimals: for people and metrics,
/// nothing is decided by it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Utilisation {
    /// Of users' budgets; absent where there is none.
    pub user: Option<f64>,
    /// Of everybody's.
    pub global: Option<f64>,
}

/// How full the fullest budgets are in the periods of `now`. A budget of nothing is full.
///
/// # Errors
/// [`BudgetError::Database`]
pub async fn utilisation(database: &Database, now: Timestamp) -> Result<Utilisation, BudgetError> {
    let rows = database.query(UTILISATION, &[(&now as _, Type::TIMESTAMPTZ)]).await?;
    let row = rows.first().ok_or(BudgetError::Row)?;
    Ok(Utilisation { user: row.get("user_scope"), global: row.get("global_scope") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_period_is_a_day_or_a_month_of_utc() {
        let late = at("2026-12-31T23:59:59.999Z");
        assert_eq!(Period::Day.end(Period::Day.start(late)), at("2027-01-01T00:00:00Z"));
        assert_eq!(Period::Month.start(late), "2026-12-01".parse().unwrap());
        assert_eq!(Period::Month.end(Period::Month.start(late)), at("2027-01-01T00:00:00Z"));
        assert_eq!(Period::Month.end("2028-02-01".parse().unwrap()), at("2028-03-01T00:00:00Z"));
    }

    #[test]
    fn the_faults_of_a_body_are_named() {
        let read = |body: Value| BudgetChange::parse(body.to_string().as_bytes());
        let pointers =
            |body| -> Vec<_> { read(body).expect_err("faulty").into_iter().map(|fault| fault.pointer).collect() };
        assert_eq!(pointers(json!({})), ["/scope", "/period", "/limit"]);
        assert_eq!(pointers(json!({"scope": "user", "period": "day", "limit": 1})), ["/userId"]);
        assert_eq!(pointers(json!({"scope": "user", "userId": null, "period": "day", "limit": 1})), ["/userId"]);
        assert_eq!(pointers(json!({"scope": "global", "userId": "ana", "period": "day", "limit": 1})), ["/userId"]);
        let odd = json!({"scope": "all", "userId": "", "period": "week", "provider": "aws", "limit": -1});
        assert_eq!(pointers(odd), ["/userId", "/scope", "/period", "/provider", "/limit"]);
        assert_eq!(pointers(json!({"scope": "global", "period": "day", "limit": "5"})), ["/limit"]);

        let lifted = read(json!({"scope": "global", "period": "month", "provider": "openai", "limit": null})).unwrap();
        let key = BudgetKey { owner: Owner::Everyone, period: Period::Month, provider: Some(Provider::OpenAi) };
        assert_eq!(lifted, BudgetChange { key, limit: None });
        let nothing =
            read(json!({"scope": "user", "userId": "ana", "period": "day", "provider": "all", "limit": 0})).unwrap();
        assert_eq!((nothing.limit, nothing.key.provider), (Some(Usd::ZERO), None));
    }

    #[test]
    fn a_refusal_names_the_limit_its_value_and_when_it_resets() {
        let refusal = Refusal::from_row(&json!({
            "userId": "ana", "period": "day", "provider": null, "limit": "5.000000000000", "spent": "4.9", "reserved": "0.05",
            "needed": "0.06", "startsOn": "2026-11-22",
        }))
        .unwrap();
        assert_eq!(
            refusal.to_string(),
            "the user day budget of $5 has no room for a call that may cost up to $0.06; it resets at 2026-11-23T00:00:00Z"
        );
        let limit = refusal.limit();
        assert_eq!((&limit["name"], &limit["value"]), (&json!("user_day_budget"), &json!(5.0)));
        assert_eq!(limit["resetsAt"], "2026-11-23T00:00:00Z");
        assert_eq!((&limit["spent"], &limit["available"]), (&json!(4.9), &json!(0.05)));
        let everybodys = Refusal { owner: Owner::Everyone, ..refusal }.limit();
        for amount in ["spent", "reserved", "available"] {
            assert!(everybodys.get(amount).is_none(), "{everybodys}");
        }
    }
}
