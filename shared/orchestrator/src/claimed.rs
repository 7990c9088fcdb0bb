//! A workflow as whoever goes on with it finds it: a consumer that claimed it, or a person who reviews it.

use huntaze_costs::attempt::{Outcome, Settlement};
use huntaze_costs::sweep::Expired;
use huntaze_domain::ids::{AccountId, UserId, WorkflowId};
use huntaze_domain::intent::{ParsedRequest, WorkflowIntent};
use huntaze_domain::money::Usd;
use huntaze_domain::provider::{Provider, TokenUsage};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use tokio_postgres::Row;

use crate::drive::Booked;
use crate::store::StoreError;
use crate::workflow::{Checkpoint, Fallback, ProviderStates, State};

/// A workflow that is due, in the hands of whoever claimed it.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Its id.
    pub id: WorkflowId,
    /// Whose it is.
    pub owner: UserId,
    /// Who asked.
    pub requested_by: UserId,
    /// What is asked for.
    pub parsed: ParsedRequest,
    /// The request's id.
    pub request_id: String,
    /// The request's trace.
    pub trace_id: String,
    /// When it was accepted.
    pub begun_at: Timestamp,
    /// From when on its time runs.
    pub(crate) timed_from: Timestamp,
    /// The account that its text is sent by.
    pub(crate) sender: Option<AccountId>,
    /// Which claim it is; a later one has a greater number.
    pub(crate) fence: i32,
    pub(crate) state: State,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) booked: Vec<Booked>,
    /// How many attempts there are.
    pub(crate) calls: u16,
}

#[derive(Deserialize)]
struct WorkflowRow {
    user_id: UserId,
    requested_by: UserId,
    intent: Value,
    request_id: String,
    trace_id: String,
    started_at: Timestamp,
    timed_from: Option<Timestamp>,
    account_id: Option<AccountId>,
    fence: i32,
    current_provider: Option<Provider>,
    provider_states: ProviderStates,
    fallback_history: Vec<Fallback>,
    decisions: Vec<Value>,
    checkpoint: Checkpoint,
}

#[derive(Deserialize)]
struct AttemptRow {
    sequence: u16,
    step: String,
    provider: Provider,
    model: String,
    price_version: String,
    outcome: String,
    input_tokens: u64,
    cached_input_tokens: u64,
    output_tokens: u64,
    cost: String,
    estimated: bool,
    lost: bool,
}

impl AttemptRow {
    fn booked(&self) -> Option<Booked> {
        let usage = TokenUsage {
            input_tokens: self.input_tokens,
            cached_input_tokens: self.cached_input_tokens,
            output_tokens: self.output_tokens,
        };
        let (cost, outcome) = (Usd::parse(&self.cost).ok()?, Outcome::from_name(&self.outcome)?);
        Some(Booked {
            step: self.step.clone(),
            provider: self.provider,
            model: self.model.clone(),
            price_version: self.price_version.clone(),
            settlement: Settlement { outcome, usage, cost, estimated: self.estimated },
        })
    }
}

/// The columns `workflow` and `attempts` of a row, read.
pub(crate) struct Kept {
    workflow: WorkflowRow,
    attempts: Vec<AttemptRow>,
    booked: Vec<Booked>,
}

impl Kept {
    pub(crate) fn read(id: &WorkflowId, row: &Row) -> Result<Self, StoreError> {
        let unreadable = || StoreError::Row(id.to_string());
        let workflow = serde_json::from_value::<WorkflowRow>(row.get("workflow")).map_err(|_| unreadable())?;
        let attempts = serde_json::from_value::<Vec<AttemptRow>>(row.get("attempts")).map_err(|_| unreadable())?;
        let booked = attempts.iter().map(AttemptRow::booked).collect::<Option<_>>().ok_or_else(unreadable)?;
        Ok(Self { workflow, attempts, booked })
    }

    /// The calls whose end nobody has seen, settled at their bounds.
    pub(crate) fn lost(&self) -> Vec<Expired> {
        let calls = self.attempts.iter().zip(&self.booked).filter(|(attempt, _)| attempt.lost);
        let expired = |call: &Booked| Expired {
            provider: call.provider,
            model: call.model.clone(),
            cost: call.settlement.cost,
            tokens: call.settlement.usage.total(),
            trace_id: self.workflow.trace_id.clone(),
        };
        calls.map(|(_, call)| expired(call)).collect()
    }

    /// `row` has the column `body_hash` as well.
    pub(crate) fn claimed(self, id: &WorkflowId, row: &Row) -> Result<Claimed, StoreError> {
        let unreadable = || StoreError::Row(id.to_string());
        let Self { workflow, attempts, mut booked } = self;
        let intent = WorkflowIntent::restore(&workflow.intent).ok_or_else(unreadable)?;
        let body_hash = row.get::<_, Vec<u8>>("body_hash").try_into().map_err(|_| unreadable())?;
        for call in &mut booked {
            call.made_before(&workflow.checkpoint);
        }
        Ok(Claimed {
            id: id.clone(),
            owner: workflow.user_id,
            requested_by: workflow.requested_by,
            parsed: ParsedRequest { intent, body_hash },
            request_id: workflow.request_id,
            trace_id: workflow.trace_id,
            begun_at: workflow.started_at,
            timed_from: workflow.timed_from.unwrap_or(workflow.started_at),
            sender: workflow.account_id,
            fence: workflow.fence,
            state: State {
                current_provider: workflow.current_provider,
                provider_states: workflow.provider_states,
                fallback_history: workflow.fallback_history,
                decisions: workflow.decisions,
                ..State::default()
            },
            checkpoint: workflow.checkpoint,
            calls: attempts.iter().map(|attempt| attempt.sequence).max().unwrap_or_default(),
            booked,
        })
    }
}
