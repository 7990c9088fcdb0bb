//! The workflow in PostgreSQL: each transaction is one statement, so that no crash can come between its parts, and each
//! is safe to run twice.

use std::collections::BTreeMap;
use std::time::Duration;

use huntaze_costs::attempt::{AttemptIntent, Settlement};
use huntaze_costs::budget::Refusal;
use huntaze_costs::sweep::Expired;
use huntaze_domain::ids::{AccountId, IdempotencyKey, UserId, WorkflowId, random};
use huntaze_domain::intent::WorkflowIntent;
use huntaze_domain::money::Usd;
use huntaze_messaging::outbox::HumanApproval;
use huntaze_postgres::{Database, DatabaseError, Hot, Param};
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::claimed::{Claimed, Kept};
use crate::workflow::{State, WorkflowError, WorkflowStatus};

/// A workflow that was claimed so often without anything of it being settled kills whoever takes it up.
///
/// Each takes a lease, and up to a minute until the sweep finds it: so many fit into a workflow's time, and one more.
const MOST_CLAIMS: i32 = 3;

const BEGIN: &str =
    "SELECT fresh, refusal, account, account_limits, account_fault FROM orchestrator.open_workflow($1, $2, $3)";
const EXISTING: &str = include_str!("../sql/existing.sql");
const ADVANCE: &str = "SELECT settled, workflow_status, refusals FROM orchestrator.advance($1, $2, $3, $4)";
const ADVANCE_AND_SEND: &str = "SELECT settled, workflow_status, refusals, message_status, wake_ms
    FROM orchestrator.advance_and_send($1, $2, $3, $4, $5, $6, $7)";
const WITHDRAW: &str = "SELECT orchestrator.withdraw($1)";
const QUEUE: &str = "SELECT fresh, account_fault FROM orchestrator.queue_workflow($1)";
const CLAIM: &str =
    "SELECT verdict, wait_ms, to_jsonb(claimed) AS workflow, (claimed).request_hash AS body_hash, attempts
    FROM orchestrator.claim_workflow($1, $2, $3, $4)";
const TAKE_UP: &str = "SELECT held, refusals, message_status, wake_ms
    FROM orchestrator.take_up($1, $2, $3, $4, $5, $6, $7, $8)";
const CANCEL: &str = "SELECT status, cancelled FROM orchestrator.cancel_workflow($1, $2, $3)";
const WANTED: &str = "SELECT FROM orchestrator.workflows WHERE id = $1 AND status = 'running'";
const OVERDUE: &str = include_str!("../sql/overdue.sql");
const NOT_HINTED: &str =
    "UPDATE orchestrator.workflows SET hinted_at = NULL WHERE id = ANY ($1) AND due_at IS NOT NULL";
const ADVANCED: &str = include_str!("../sql/advanced.sql");

/// The statements of every request. To read and plan them takes the server longer than to carry them out.
pub const HOT: &[Hot] = &[
    (BEGIN, &[Type::JSONB, Type::JSONB, Type::INT8]),
    (ADVANCE, &[Type::JSONB, Type::JSONB, Type::JSONB, Type::INT8]),
];

/// A workflow that is to be accepted.
pub struct NewWorkflow<'a> {
    /// Its id, made by the caller.
    pub id: &'a WorkflowId,
    /// Whose it is.
    pub user_id: &'a UserId,
    /// Who asked: the same, or an admin.
    pub requested_by: &'a UserId,
    /// The client's name for the request.
    pub idempotency_key: Option<&'a IdempotencyKey>,
    /// Which body it was.
    pub body_hash: [u8; 32],
    /// What is asked for.
    pub intent: &'a WorkflowIntent,
    /// The request's id.
    pub request_id: &'a str,
    /// The request's trace.
    pub trace_id: &'a str,
    /// When it was accepted.
    pub started_at: Timestamp,
}

/// The workflow that has a request's Idempotency-Key already.
#[derive(Debug, Clone, PartialEq)]
pub struct ExistingWorkflow {
    /// Its id.
    pub id: WorkflowId,
    /// Which body it had.
    pub body_hash: Vec<u8>,
    /// Where it stands.
    pub status: WorkflowStatus,
    /// Its answer, once it is completed.
    pub result: Option<Value>,
    /// Why it failed.
    pub error: Option<WorkflowError>,
    /// It goes on without the request that began it.
    pub handed_over: bool,
}

/// Whether a request is new.
#[derive(Debug, Clone, PartialEq)]
pub enum Begun {
    /// It is accepted, and its first attempt is reserved; where its text is to be sent, by this account.
    New(Option<SendingAccount>),
    /// Its Idempotency-Key is taken.
    Existing(ExistingWorkflow),
    /// A budget refused its first attempt; nothing is kept.
    Refused(Refusal),
    /// Its text is to be sent, and there is no account for that; nothing is kept.
    NoAccount(AccountFault),
}

/// The account that a text is sent by.
#[derive(Debug, Clone, PartialEq)]
pub struct SendingAccount {
    /// Its id.
    pub id: AccountId,
    /// Its limits in place of the configuration's.
    pub limits: Map<String, Value>,
}

/// Why no account can send a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccountFault {
    /// There is none of this id, or the user has none.
    #[error("there is no such account")]
    Unknown,
    /// The user has several.
    #[error("the user has several accounts: one has to be named")]
    Several,
    /// It is another user's.
    #[error("the account belongs to another user")]
    Foreign,
}

impl AccountFault {
    fn read(name: Option<&str>) -> Option<Self> {
        name.map(|name| match name {
            "foreign" => Self::Foreign,
            "which_account" => Self::Several,
            _ => Self::Unknown,
        })
    }
}

/// Why the store did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// PostgreSQL.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Somebody else ended the attempt: its reservation had run out.
    #[error("attempt {0} was ended by somebody else")]
    Fenced(String),
    /// Whoever it belongs to does not want it any more.
    #[error("the workflow was cancelled")]
    Cancelled,
    /// A row that the schema should not allow.
    #[error("workflow {0} cannot be read")]
    Row(String),
}

impl StoreError {
    /// Whether the statement certainly did not arrive.
    #[must_use]
    pub fn was_never_sent(&self) -> bool {
        matches!(self, Self::Database(error) if error.was_never_sent())
    }
}

pub(crate) fn json_or_null(value: &impl Serialize) -> Value {
    // Our own types have only text names, so they always become JSON.
    serde_json::to_value(value).unwrap_or_default()
}

fn attempt_row(attempt: &AttemptIntent) -> Value {
    json!({
        "id": attempt.id, "workflow_id": attempt.workflow_id, "sequence": attempt.sequence, "user_id": attempt.user_id,
        "step": attempt.step, "request_type": attempt.request_type, "provider": attempt.provider, "model": attempt.model,
        "price_version": attempt.price.version, "bound_input_tokens": attempt.bound.input_tokens,
        "bound_output_tokens": attempt.bound.output_tokens, "bound_cost": attempt.bound_cost().to_string(),
        "trace_id": attempt.trace_id, "started_at": attempt.started_at,
    })
}

fn workflow_row(workflow: &NewWorkflow<'_>, state: &State) -> Value {
    let hash: String = workflow.body_hash.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "id": workflow.id, "user_id": workflow.user_id, "requested_by": workflow.requested_by,
        "idempotency_key": workflow.idempotency_key, "request_hash": format!("\\x{hash}"),
        "type": workflow.intent.workflow_type, "intent": workflow.intent, "current_provider": state.current_provider,
        "provider_states": state.provider_states,
        "fallback_history": state.fallback_history, "decisions": state.decisions, "request_id": workflow.request_id, "trace_id": workflow.trace_id,
        "started_at": workflow.started_at, "checkpoint": state.checkpoint,
    })
}

/// The whole milliseconds of a duration, for PostgreSQL and JSON.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Accepts a workflow with its first attempt, or finds the one that has its Idempotency-Key.
///
/// # Errors
/// [`StoreError`]
pub async fn begin(
    database: &Database,
    workflow: &NewWorkflow<'_>,
    state: &State,
    first: &AttemptIntent,
    lease: Duration,
) -> Result<Begun, StoreError> {
    let row = workflow_row(workflow, state);
    let (attempt, lease) = (attempt_row(first), millis(lease));
    let params = [(&row as _, Type::JSONB), (&attempt as _, Type::JSONB), (&lease as _, Type::INT8)];
    // Twice: whoever had the key may have been withdrawn in between.
    for _ in 0..2 {
        let rows = database.query(BEGIN, &params).await?;
        let unreadable = || StoreError::Row(workflow.id.to_string());
        let row = rows.first().ok_or_else(unreadable)?;
        if let Some(fault) = AccountFault::read(row.get("account_fault")) {
            return Ok(Begun::NoAccount(fault));
        }
        if row.get("fresh") {
            let refusal: Option<Value> = row.get("refusal");
            if let Some(refusal) = refusal {
                return Refusal::from_row(&refusal).map(Begun::Refused).ok_or_else(unreadable);
            }
            let account: Option<&str> = row.get("account");
            let id = account.map(AccountId::parse).transpose().map_err(|_| unreadable())?;
            let limits: Option<Value> = row.get("account_limits");
            let limits = limits.and_then(|limits| limits.as_object().cloned()).unwrap_or_default();
            return Ok(Begun::New(id.map(|id| SendingAccount { id, limits })));
        }
        match existing(database, Some(workflow.id), workflow.user_id, workflow.idempotency_key).await? {
            // Its own, and somebody else has ended it.
            Some(found) if found.id == *workflow.id => return Err(StoreError::Fenced(first.id.to_string())),
            Some(found) => return Ok(Begun::Existing(found)),
            None => {}
        }
    }
    Err(StoreError::Row(workflow.id.to_string()))
}

/// Takes a workflow back of which nothing was called, whether or not its begin is known to have run: nothing is owed for it,
/// and its Idempotency-Key is free. A tombstone stays for an hour, so that a begin that arrives late changes nothing.
///
/// # Errors
/// [`StoreError`]; a begin that did run is then settled by the sweep, at its bound.
pub async fn withdraw(database: &Database, workflow: &NewWorkflow<'_>, state: &State) -> Result<(), StoreError> {
    let row = workflow_row(workflow, state);
    database.query(WITHDRAW, &[(&row, Type::JSONB)]).await?;
    Ok(())
}

/// The workflow of an id, or of a user's Idempotency-Key.
///
/// # Errors
/// [`StoreError`]
pub async fn existing(
    database: &Database,
    id: Option<&WorkflowId>,
    user_id: &UserId,
    idempotency_key: Option<&IdempotencyKey>,
) -> Result<Option<ExistingWorkflow>, StoreError> {
    let (id, key) = (id.map(WorkflowId::as_str), idempotency_key.map(IdempotencyKey::as_str));
    let params = [(&id as _, Type::TEXT), (&user_id.as_str() as _, Type::TEXT), (&key as _, Type::TEXT)];
    let rows = database.query(EXISTING, &params).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let unreadable = || StoreError::Row(row.get("id"));
    let error: Option<Value> = row.get("error");
    Ok(Some(ExistingWorkflow {
        id: WorkflowId::parse(row.get("id")).map_err(|_| unreadable())?,
        body_hash: row.get("request_hash"),
        status: WorkflowStatus::from_name(row.get("status")).ok_or_else(unreadable)?,
        result: row.get("result"),
        handed_over: row.get("handed_over"),
        error: error.map(serde_json::from_value).transpose().map_err(|_| unreadable())?,
    }))
}

/// Whether nothing was paid for a workflow. One that is not there says nothing.
///
/// # Errors
/// [`StoreError`]
pub async fn cost_nothing(database: &Database, id: &WorkflowId) -> Result<bool, StoreError> {
    const COST: &str = "SELECT cost = 0 FROM orchestrator.workflows WHERE id = $1";
    let rows = database.query(COST, &[(&id.as_str() as _, Type::TEXT)]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

/// How an attempt ended, as it is stored.
pub struct AttemptEnd<'a> {
    /// Which one.
    pub attempt: &'a AttemptIntent,
    /// What it costs.
    pub settlement: Settlement,
    /// Why it has no text.
    pub failure: Option<&'static str>,
    /// The answer's status.
    pub http_status: Option<u16>,
    /// How long it took.
    pub duration: Duration,
    /// What the text had cost that served in the call's place, where one did.
    pub saved: Option<Usd>,
    /// What was said of the text, as the log keeps it.
    pub judgement: Option<&'a Value>,
}

/// The attempts that a budget refused, by their ids.
pub type Refusals = BTreeMap<String, Refusal>;

/// The message that a workflow's end takes on, in the statement that keeps that end.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// Its row ([`huntaze_messaging::outbox::NewMessage::row`]).
    pub row: Value,
    /// Whether a person has to approve it.
    pub approval: HumanApproval,
    /// So much of waiting is worth one step of priority.
    pub priority_step: Duration,
}

/// What a kept end leaves.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Advanced {
    /// Which of the attempts that follow may not be called.
    pub refusals: Refusals,
    /// The status of the message that was taken on.
    pub message_status: Option<String>,
    /// When a hint has to be on the queue for its account.
    pub wake: Option<Duration>,
}

impl Advanced {
    /// What a statement says of the message that it may have taken on.
    fn sent(row: &Row) -> Self {
        let wake = row.get::<_, Option<i64>>("wake_ms").and_then(|millis| millis.try_into().ok());
        let (message_status, wake) = (row.get("message_status"), wake.map(Duration::from_millis));
        Self { refusals: Refusals::default(), message_status, wake }
    }
}

/// Ends an attempt, moves the workflow on, and reserves the attempts that follow, but for those that a budget refuses: these
/// are kept without a reservation, are not to be called, and are ended like any other.
///
/// # Errors
/// [`StoreError::Fenced`] if the attempt or its workflow had been ended by somebody else: nothing that follows is reserved,
/// and nothing may be called.
pub async fn advance(
    database: &Database,
    end: &AttemptEnd<'_>,
    state: &State,
    next: &[&AttemptIntent],
    lease: Duration,
    outgoing: Option<&Outgoing>,
) -> Result<Advanced, StoreError> {
    let settlement = end.settlement;
    let id = end.attempt.id.as_str();
    let ending = json!({
        "id": id, "outcome": settlement.outcome.as_str(), "failure": end.failure, "http_status": end.http_status,
        "input_tokens": settlement.usage.input_tokens, "cached_input_tokens": settlement.usage.cached_input_tokens,
        "output_tokens": settlement.usage.output_tokens, "cost": settlement.cost.to_string(),
        "estimated": settlement.estimated, "duration_ms": millis(end.duration),
        "cache_saved": end.saved.map(|saved| saved.to_string()), "judgement": end.judgement,
    });
    let ids: Vec<&str> = next.iter().map(|attempt| attempt.id.as_str()).collect();
    let columns = json_or_null(state);
    let (next, lease) = (Value::from_iter(next.iter().map(|attempt| attempt_row(attempt))), millis(lease));
    let params = [
        (&ending as _, Type::JSONB),
        (&columns as _, Type::JSONB),
        (&next as _, Type::JSONB),
        (&lease as _, Type::INT8),
    ];
    let rows = match outgoing {
        None => database.query(ADVANCE, &params).await?,
        Some(outgoing) => {
            let (policy, step) = (outgoing.approval.as_str(), millis(outgoing.priority_step));
            let sending = [(&outgoing.row as _, Type::JSONB), (&policy as _, Type::TEXT), (&step as _, Type::INT8)];
            let params: Vec<Param<'_>> = params.into_iter().chain(sending).collect();
            database.query(ADVANCE_AND_SEND, &params).await?
        }
    };
    let fenced = || StoreError::Fenced(id.to_owned());
    let row = rows.first().ok_or_else(fenced)?;
    let advanced = |refusals| match outgoing {
        Some(_) => Advanced { refusals, ..Advanced::sent(row) },
        None => Advanced { refusals, ..Advanced::default() },
    };
    let moved = |status: Option<&str>| status == Some(state.status.as_str());
    if row.get::<_, i64>("settled") == 1 {
        let status: Option<&str> = row.get("workflow_status");
        return match status.and_then(WorkflowStatus::from_name) {
            _ if moved(status) => refusals(&row.get("refusals"), id).map(advanced),
            Some(WorkflowStatus::Cancelled) => Err(StoreError::Cancelled),
            _ => Err(fenced()),
        };
    }
    // Either the statement had run already and its answer was lost, or somebody else was first.
    let rows = database.query(ADVANCED, &[(&id, Type::TEXT), (&ids, Type::TEXT_ARRAY)]).await?;
    let row = rows.first().ok_or_else(fenced)?;
    if row.get::<_, &str>("status") == WorkflowStatus::Cancelled.as_str() {
        return Err(StoreError::Cancelled);
    }
    let ours = row.get::<_, &str>("outcome") == settlement.outcome.as_str()
        && row.get::<_, Option<&str>>("failure") == end.failure
        && row.get::<_, Option<Decimal>>("cost") == Some(settlement.cost.to_decimal())
        && moved(row.get("status"))
        && usize::try_from(row.get::<_, i64>("kept")) == Ok(ids.len());
    if ours { refusals(&row.get("refusals"), id).map(advanced) } else { Err(fenced()) }
}

fn refusals(row: &Value, id: &str) -> Result<Refusals, StoreError> {
    let unreadable = || StoreError::Row(id.to_owned());
    let members = row.as_object().ok_or_else(unreadable)?;
    let read = |(attempt, refusal): (&String, &Value)| Some((attempt.clone(), Refusal::from_row(refusal)?));
    members.iter().map(|member| read(member).ok_or_else(unreadable)).collect()
}

/// Whether a request was taken on for the queue.
#[derive(Debug, Clone, PartialEq)]
pub enum Queued {
    /// It was, and nothing of it is begun.
    New,
    /// Its Idempotency-Key is taken.
    Existing(ExistingWorkflow),
    /// Its text is to be sent, and there is no account for that; nothing is kept.
    NoAccount(AccountFault),
}

/// Accepts a workflow for the queue, or finds the one that has its Idempotency-Key.
///
/// # Errors
/// [`StoreError`]
pub async fn queue(database: &Database, workflow: &NewWorkflow<'_>, state: &State) -> Result<Queued, StoreError> {
    let row = workflow_row(workflow, state);
    // Twice: whoever had the key may have been withdrawn in between.
    for _ in 0..2 {
        let rows = database.query(QUEUE, &[(&row, Type::JSONB)]).await?;
        let answer = rows.first().ok_or_else(|| StoreError::Row(workflow.id.to_string()))?;
        if let Some(fault) = AccountFault::read(answer.get("account_fault")) {
            return Ok(Queued::NoAccount(fault));
        }
        if answer.get("fresh") {
            return Ok(Queued::New);
        }
        let found = existing(database, None, workflow.user_id, workflow.idempotency_key).await?;
        if let Some(found) = found {
            return Ok(Queued::Existing(found));
        }
    }
    Err(StoreError::Row(workflow.id.to_string()))
}

/// What a claim finds.
#[derive(Debug)]
pub enum Claim {
    /// The workflow, for the lease.
    Claimed(Box<Claimed>),
    /// It is not due before, or held by another until then.
    Early(Duration),
    /// It has ended, or there is none.
    Over,
    /// It was claimed too often without anything coming of it, and has failed for that.
    Poison,
}

/// What a claim found, and the calls of those before that it settled at their bounds.
#[derive(Debug)]
pub struct Found {
    /// The workflow, or why not.
    pub claim: Claim,
    /// For the metrics: nobody else has seen their end.
    pub lost: Vec<Expired>,
}

/// Claims a workflow for the length of a lease, if it is due. What its last driver had under way and did not end is settled at
/// its bound.
///
/// # Errors
/// [`StoreError`]
pub async fn claim(database: &Database, id: &WorkflowId, lease: Duration) -> Result<Found, StoreError> {
    // The statement may be sent twice: the second finds that it has it already.
    let (text, claimant, lease) = (id.as_str(), format!("{:016x}", random()), millis(lease));
    let params = [
        (&text as _, Type::TEXT),
        (&claimant as _, Type::TEXT),
        (&lease as _, Type::INT8),
        (&MOST_CLAIMS as _, Type::INT4),
    ];
    let rows = database.query(CLAIM, &params).await?;
    let unreadable = || StoreError::Row(id.to_string());
    let row = rows.first().ok_or_else(unreadable)?;
    match row.get("verdict") {
        "early" => {
            let wait = row.get::<_, i64>("wait_ms").try_into().map_err(|_| unreadable())?;
            return Ok(Found { claim: Claim::Early(Duration::from_millis(wait)), lost: Vec::new() });
        }
        "over" => return Ok(Found { claim: Claim::Over, lost: Vec::new() }),
        _ => {}
    }
    let kept = Kept::read(id, row)?;
    let lost = kept.lost();
    if row.get::<_, &str>("verdict") == "poison" {
        return Ok(Found { claim: Claim::Poison, lost });
    }
    Ok(Found { claim: Claim::Claimed(Box::new(kept.claimed(id, row)?)), lost })
}

/// Keeps what a claimed workflow goes on with, and reserves its first attempts; or keeps its end, with the message that it takes on.
///
/// # Errors
/// [`StoreError::Fenced`] if it is in other hands, or has ended.
pub async fn take_up(
    database: &Database,
    claimed: &Claimed,
    state: &State,
    first: &[&AttemptIntent],
    lease: Duration,
    outgoing: Option<&Outgoing>,
) -> Result<Advanced, StoreError> {
    let (id, columns, lease) = (claimed.id.as_str(), json_or_null(state), millis(lease));
    let first = Value::from_iter(first.iter().map(|attempt| attempt_row(attempt)));
    let message = outgoing.map(|outgoing| &outgoing.row);
    let policy = outgoing.map(|outgoing| outgoing.approval.as_str());
    let step = outgoing.map(|outgoing| millis(outgoing.priority_step));
    let params = [
        (&id as _, Type::TEXT),
        (&claimed.fence as _, Type::INT4),
        (&columns as _, Type::JSONB),
        (&first as _, Type::JSONB),
        (&lease as _, Type::INT8),
        (&message as _, Type::JSONB),
        (&policy as _, Type::TEXT),
        (&step as _, Type::INT8),
    ];
    let rows = database.query(TAKE_UP, &params).await?;
    let row = rows.first().filter(|row| row.get("held")).ok_or_else(|| StoreError::Fenced(id.to_owned()))?;
    Ok(Advanced { refusals: refusals(&row.get("refusals"), id)?, ..Advanced::sent(row) })
}

/// Ends a workflow that is wanted no more: nothing new is called, what is under way is settled. Gives the state that it has now, and
/// whether it was this that ended it; `None` where there is no such workflow.
///
/// # Errors
/// [`StoreError`]
pub async fn cancel(
    database: &Database,
    id: &WorkflowId,
    actor: &UserId,
    request_id: &str,
) -> Result<Option<(WorkflowStatus, bool)>, StoreError> {
    let params = [(&id.as_str() as _, Type::TEXT), (&actor.as_str() as _, Type::TEXT), (&request_id as _, Type::TEXT)];
    let rows = database.query(CANCEL, &params).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let Some(status) = row.get::<_, Option<&str>>("status") else { return Ok(None) };
    let status = WorkflowStatus::from_name(status).ok_or_else(|| StoreError::Row(id.to_string()))?;
    Ok(Some((status, row.get("cancelled"))))
}

/// Whether a workflow is still wanted: nobody has ended it.
///
/// # Errors
/// [`StoreError`]
pub async fn is_wanted(database: &Database, id: &WorkflowId) -> Result<bool, StoreError> {
    let rows = database.query(WANTED, &[(&id.as_str() as _, Type::TEXT)]).await?;
    Ok(!rows.is_empty())
}

/// The workflows that have been due for longer than `grace`, the longest first, at most `most`: whose hint was lost, or whose driver
/// died. `user`: whose they are.
///
/// # Errors
/// [`StoreError`]
pub async fn overdue(database: &Database, grace: Duration, most: i64) -> Result<Vec<(WorkflowId, UserId)>, StoreError> {
    let grace = millis(grace);
    let rows = database.query(OVERDUE, &[(&grace, Type::INT8), (&most, Type::INT8)]).await?;
    let read = |row: &Row| Some((WorkflowId::parse(row.get("id")).ok()?, UserId::parse(row.get("user_id")).ok()?));
    rows.iter().map(|row| read(row).ok_or_else(|| StoreError::Row(row.get("id")))).collect()
}

/// Takes back that workflows were hinted at: the next look for what is overdue finds them.
///
/// # Errors
/// [`StoreError`]; the workflows are found when their hints have been lost for long enough.
pub async fn not_hinted(database: &Database, ids: impl Iterator<Item = &WorkflowId>) -> Result<(), StoreError> {
    let ids: Vec<_> = ids.map(WorkflowId::as_str).collect();
    database.query(NOT_HINTED, &[(&ids, Type::TEXT_ARRAY)]).await?;
    Ok(())
}
