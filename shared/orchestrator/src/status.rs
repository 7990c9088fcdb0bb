//! What a workflow looks like from outside: the status route reads it, and a finished run says the same.

use std::collections::{BTreeMap, BTreeSet};

use huntaze_costs::attempt::Outcome;
use huntaze_domain::ids::{UserId, WorkflowId};
use huntaze_domain::money::Usd;
use huntaze_domain::provider::{Provider, TokenUsage};
use huntaze_postgres::Database;
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::answer::Failure;
use crate::drive::Booked;
use crate::store::StoreError;
use crate::workflow::WorkflowStatus;

const ONE: &str = include_str!("../sql/one.sql");
const LIST: &str = include_str!("../sql/list.sql");
const SUMMARY: &str = include_str!("../sql/summary.sql");

/// A finished run in figures.
pub(crate) struct CallsSummary {
    /// `azure`, `openai`, or `hybrid` where both made the answer.
    pub(crate) provider: &'static str,
    pub(crate) tokens: u64,
    pub(crate) detailed_costs: Value,
}

/// Sums up all that a workflow's calls cost, those without a text included: an unknown end is booked at its bound.
pub(crate) fn booked_summary(booked: &[Booked]) -> CallsSummary {
    let answers = || booked.iter().filter(|call| call.settlement.outcome == Outcome::Succeeded);
    let providers: BTreeSet<_> = answers().map(|call| call.provider).collect();
    let provider = match providers.iter().collect::<Vec<_>>()[..] {
        [one] => one.as_str(),
        _ => "hybrid",
    };
    let models: BTreeSet<_> = answers().map(|call| (call.provider, call.model.as_str())).collect();
    let models: Vec<_> = models.into_iter().map(|(_, model)| model).collect();
    let usage = booked.iter().map(|call| call.settlement.usage);
    let total: Usd = booked.iter().map(|call| call.settlement.cost).sum();
    let detailed_costs = json!({
        "inputTokens": usage.clone().map(|u| u.input_tokens).sum::<u64>(),
        "cachedInputTokens": usage.clone().map(|u| u.cached_input_tokens).sum::<u64>(),
        "outputTokens": usage.clone().map(|u| u.output_tokens).sum::<u64>(),
        "totalCost": total.to_json_number(),
        "provider": provider,
        "model": models.join("+"),
        "estimated": booked.iter().any(|call| call.settlement.estimated),
        "calls": booked.iter().map(|call| json!({
            "step": call.step, "provider": call.provider, "model": call.model,
            "outcome": call.settlement.outcome.as_str(),
            "inputTokens": call.settlement.usage.input_tokens, "cachedInputTokens": call.settlement.usage.cached_input_tokens,
            "outputTokens": call.settlement.usage.output_tokens, "cost": call.settlement.cost.to_json_number(),
            "priceVersion": call.price_version, "estimated": call.settlement.estimated,
        })).collect::<Vec<_>>(),
    });
    CallsSummary { provider, tokens: usage.map(TokenUsage::total).sum(), detailed_costs }
}

/// A workflow with its attempts, as the status route shows it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowView {
    /// The id.
    pub workflow_id: String,
    /// Whose it is.
    pub user_id: String,
    /// The kind of work.
    #[serde(rename = "type")]
    pub workflow_type: String,
    /// Where it stands.
    pub status: WorkflowStatus,
    /// Who is being asked, or was last.
    pub current_provider: Option<String>,
    /// Where each part stands.
    pub provider_states: Value,
    /// When it was accepted.
    pub started_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// From its acceptance to its end, in milliseconds.
    pub duration: Option<i64>,
    /// `{total, breakdown: {azure, openai}}` in dollars.
    pub cost: Value,
    /// `{tokensUsed, requestsCount, retryAttempts, fallbacksUsed}`.
    pub metrics: Value,
    /// Every change of provider.
    pub fallback_history: Value,
    /// Every decision and why: `[{at, step, action, reason, noRetry?, provider?, model?, attempt?, waitMs?}]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decisions: Option<Value>,
    /// Every call, as far as it got.
    pub attempts: Value,
    /// The text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Value>,
    /// What the answer said of its cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detailed_costs: Option<Value>,
    /// What is said of its texts by the rules, and of how well they do: the lowest of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compliance_score: Option<Value>,
    /// See `compliance_score`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality_score: Option<Value>,
    /// Why there is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
}

fn is_uncalled(failure: Option<&str>) -> bool {
    Failure::ALL.iter().any(|one| one.is_uncalled() && failure == Some(one.as_str()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AttemptFigures {
    provider: Provider,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cost: Option<String>,
    failure: Option<String>,
    cached: bool,
}

impl WorkflowView {
    fn read(row: &Row) -> Result<Self, StoreError> {
        let workflow_id: String = row.get("id");
        let unreadable = || StoreError::Row(workflow_id.clone());
        let mut attempts: Value = row.get("attempts");
        let figures: Vec<AttemptFigures> = Vec::deserialize(&attempts).map_err(|_| unreadable())?;
        let mut breakdown = BTreeMap::from(Provider::ALL.map(|provider| (provider, Usd::ZERO)));
        for figure in &figures {
            let cost = figure.cost.as_deref().map_or(Ok(Usd::ZERO), Usd::parse).map_err(|_| unreadable())?;
            *breakdown.entry(figure.provider).or_default() = breakdown[&figure.provider] + cost;
        }
        let tokens: u64 =
            figures.iter().map(|f| f.input_tokens.unwrap_or(0).saturating_add(f.output_tokens.unwrap_or(0))).sum();
        let total = Usd::try_from(row.get::<_, Decimal>("cost")).map_err(|_| unreadable())?;
        let fallback_history: Value = row.get("fallback_history");
        let mut result: Option<Value> = row.get("result");
        let mut part = |name: &str| result.as_mut().and_then(|r| r.pointer_mut(name)).map(Value::take);
        let (started_at, completed_at): (Timestamp, Option<Timestamp>) =
            (row.get("started_at"), row.get("completed_at"));
        as_on_the_wire(&mut attempts);
        Ok(Self {
            user_id: row.get("user_id"),
            workflow_type: row.get("type"),
            status: WorkflowStatus::from_name(row.get("status")).ok_or_else(unreadable)?,
            current_provider: row.get("current_provider"),
            provider_states: row.get("provider_states"),
            started_at,
            completed_at,
            duration: completed_at
                .map(|end| end.duration_since(started_at).as_millis().max(0))
                .and_then(|ms| ms.try_into().ok()),
            cost: json!({
                "total": total.to_json_number(),
                "breakdown": breakdown.iter().map(|(p, cost)| (p.as_str(), cost.to_json_number())).collect::<BTreeMap<_, _>>(),
            }),
            metrics: json!({
                "tokensUsed": tokens,
                // What was reserved and not made is no request.
                "requestsCount": figures.iter().filter(|f| !f.cached && !is_uncalled(f.failure.as_deref())).count(),
                "retryAttempts": row.get::<_, i32>("retries"),
                "fallbacksUsed": fallback_history.as_array().map_or(0, Vec::len),
            }),
            content: part("/data/content"),
            detailed_costs: part("/data/detailedCosts"),
            compliance_score: part("/data/complianceScore"),
            quality_score: part("/data/qualityScore"),
            error: row.get("error"),
            decisions: row.get("decisions"),
            fallback_history,
            attempts,
            workflow_id: workflow_id.clone(),
        })
    }
}

/// The query sends exact text and PostgreSQL's own times; the wire has dollars as numbers, and times ending in `Z`.
fn as_on_the_wire(attempts: &mut Value) {
    for attempt in attempts.as_array_mut().into_iter().flatten() {
        let read = |name: &str| attempt.get(name).and_then(Value::as_str);
        let dollars =
            ["cost", "boundCost", "savedCost"].map(|name| (name, read(name).and_then(|text| Usd::parse(text).ok())));
        let started_at = read("startedAt").and_then(|text| text.parse::<Timestamp>().ok());
        for (name, usd) in dollars {
            if let Some(usd) = usd {
                attempt[name] = usd.to_json_number().into();
            }
        }
        if let Some(started_at) = started_at {
            attempt["startedAt"] = started_at.to_string().into();
        }
    }
}

/// One workflow, whoever's it is.
///
/// # Errors
/// [`StoreError`]
pub async fn one(database: &Database, id: &WorkflowId) -> Result<Option<WorkflowView>, StoreError> {
    let rows = database.query(ONE, &[(&id.as_str(), Type::TEXT)]).await?;
    rows.first().map(WorkflowView::read).transpose()
}

/// Which workflows a list shows.
#[derive(Debug, Clone)]
pub struct ListQuery {
    /// Whose.
    pub user: UserId,
    /// In this state only.
    pub status: Option<WorkflowStatus>,
    /// Older than this one: the last of the page before.
    pub after: Option<(Timestamp, WorkflowId)>,
    /// How many at the most.
    pub limit: u8,
}

/// A page of a user's workflows.
#[derive(Debug, Clone)]
pub struct Page {
    /// Newest first.
    pub workflows: Vec<WorkflowView>,
    /// `{total, byStatus, totalCost}` over all of them, not only the page.
    pub summary: Value,
    /// The last one shown, where there are more.
    pub next: Option<(Timestamp, String)>,
}

/// A user's workflows, newest first.
///
/// # Errors
/// [`StoreError`]
pub async fn list(database: &Database, query: &ListQuery) -> Result<Page, StoreError> {
    let (user, status) = (query.user.as_str(), query.status.map(WorkflowStatus::as_str));
    let (at, id) = (query.after.as_ref().map(|a| a.0), query.after.as_ref().map(|a| a.1.as_str()));
    // One more than is shown tells whether there is a next page.
    let limit = i64::from(query.limit) + 1;
    let list = [
        (&user as _, Type::TEXT),
        (&status as _, Type::TEXT),
        (&at as _, Type::TIMESTAMPTZ),
        (&id as _, Type::TEXT),
        (&limit as _, Type::INT8),
    ];
    let summary = [(&user as _, Type::TEXT), (&status as _, Type::TEXT)];
    let (rows, totals) = tokio::join!(database.query(LIST, &list), database.query(SUMMARY, &summary));
    let mut workflows = rows?.iter().map(WorkflowView::read).collect::<Result<Vec<_>, _>>()?;
    let more = workflows.len() > usize::from(query.limit);
    workflows.truncate(query.limit.into());
    let next = workflows.last().filter(|_| more).map(|last| (last.started_at, last.workflow_id.clone()));
    Ok(Page { summary: summary_of(&totals?)?, workflows, next })
}

fn summary_of(rows: &[Row]) -> Result<Value, StoreError> {
    let mut by_status: BTreeMap<_, i64> = WorkflowStatus::ALL.map(|status| (status.as_str().to_owned(), 0)).into();
    let mut cost = Usd::ZERO;
    for row in rows {
        let status: String = row.get("status");
        let sum = Usd::try_from(row.get::<_, Decimal>("cost")).map_err(|_| StoreError::Row(status.clone()))?;
        cost = cost + sum;
        by_status.insert(status, row.get("total"));
    }
    let total: i64 = by_status.values().sum();
    Ok(json!({"total": total, "byStatus": by_status, "totalCost": cost.to_json_number()}))
}
