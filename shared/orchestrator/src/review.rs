//! Workflows that a person decides about: no provider was left, or one refused. Whoever claims one writes what is missing, or edits what
//! there is, and approves it; or rejects it. Each of that is in the audit log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use huntaze_domain::env::Env;
use huntaze_domain::error::FieldFault;
use huntaze_domain::ids::{AccountId, UserId, WorkflowId};
use huntaze_domain::intent::WorkflowIntent;
use huntaze_domain::json::{Fields, parse_object};
use huntaze_judge::{Judge, Judged, Origin};
use huntaze_messaging::outbox::{Rules, Wake};
use huntaze_postgres::{Database, DatabaseError};
use jiff::Timestamp;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::claimed::{Claimed, Kept};
use crate::judging::Judging;
use crate::result::{Asked, Written};
use crate::route::steps;
use crate::store::{self, StoreError};
use crate::workflow::{Checkpoint, Text};

/// No text that a person writes is longer, in characters: several times what a model may write.
const MAX_TEXT: usize = 20_000;
const MAX_REASON: usize = 500;
/// A second opinion about what a person wrote is waited for so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Whoever claimed a review has so long to decide it.
const CLAIM_MS: u64 = 900_000;

const ONE: &str = include_str!("../sql/review.sql");
const LIST: &str = include_str!("../sql/reviews.sql");
const CLAIM: &str = "SELECT outcome, claimed_until FROM orchestrator.claim_review($1, $2, $3, $4)";
const RELEASE: &str = "SELECT outcome FROM orchestrator.release_review($1, $2, $3)";
const DECIDE: &str = "SELECT outcome, wake_ms FROM orchestrator.decide_review($1, $2, $3, $4, $5, $6, $7, $8)";

/// What a person does with a review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Takes it, for a time.
    Claim,
    /// Gives it back.
    Release,
    /// Ends its workflow with the texts that it has, and these in place of them or of what is missing, by the names of the steps.
    Approve(BTreeMap<String, String>),
    /// Ends its workflow without an answer.
    Reject,
}

/// A request's body: what is to be done with which review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The workflow that is reviewed.
    pub workflow_id: WorkflowId,
    /// What is done.
    pub act: Act,
    /// Why.
    pub reason: Option<String>,
}

impl Order {
    /// Reads `{workflowId, action: claim·release·approve·reject, contents?: [{step, content}], reason?}`.
    ///
    /// # Errors
    /// Every fault that was found, each with its JSON pointer.
    pub fn parse(body: &[u8]) -> Result<Self, Vec<FieldFault>> {
        let map = parse_object(body)?;
        let mut faults = Vec::new();
        let mut fields = Fields::new(&map, "", &mut faults);
        let workflow_id = fields.required("workflowId", "a workflow's id", |v| WorkflowId::parse(v.as_str()?).ok());
        let contents = fields.optional(
            "contents",
            "a list of {step, content}, each step once, with 1 to 20000 characters",
            contents,
        );
        let reason = fields.optional("reason", "a text of 1 to 500 characters", |v| text(v, MAX_REASON));
        let act = fields.required("action", "`claim`, `release`, `approve` or `reject`", |v| match v.as_str()? {
            "claim" => Some(Act::Claim),
            "release" => Some(Act::Release),
            "approve" => Some(Act::Approve(contents.clone().unwrap_or_default())),
            "reject" => Some(Act::Reject),
            _ => None,
        });
        if contents.is_some() && !matches!(act, Some(Act::Approve(_)) | None) {
            faults.push(FieldFault { pointer: "/contents".to_owned(), detail: "belongs to `approve`".to_owned() });
        }
        match workflow_id.zip(act) {
            Some((workflow_id, act)) if faults.is_empty() => Ok(Self { workflow_id, act, reason }),
            _ => Err(faults),
        }
    }
}

fn text(value: &Value, most: usize) -> Option<String> {
    let text = value.as_str()?.trim();
    ((1..=most).contains(&text.chars().count()) && !text.contains('\0')).then(|| text.to_owned())
}

fn contents(value: &Value) -> Option<BTreeMap<String, String>> {
    let items = value.as_array()?;
    let read = |item: &Value| {
        let item = item.as_object().filter(|item| item.len() == 2)?;
        Some((text(item.get("step")?, 100)?, text(item.get("content")?, MAX_TEXT)?))
    };
    let contents: BTreeMap<_, _> = items.iter().map(read).collect::<Option<_>>()?;
    (contents.len() == items.len()).then_some(contents)
}

/// What became of what a person did.
#[derive(Debug, Clone, PartialEq)]
pub enum Done {
    /// It is claimed until then.
    Claimed(Timestamp),
    /// It is given back.
    Released,
    /// Its workflow has ended so, now or before; the account has a message to send.
    Decided(&'static str, Option<(AccountId, Duration)>),
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// There is no such review.
    #[error("there is no such review")]
    Unknown,
    /// Somebody else has it.
    #[error("somebody else has claimed it")]
    Taken,
    /// It has to be claimed first.
    #[error("it has to be claimed first, and its claim may have run out")]
    Unclaimed,
    /// It is decided.
    #[error("it is decided already")]
    Decided,
    /// The texts do not do.
    #[error("the texts do not do")]
    Faulty(Vec<FieldFault>),
    /// A text breaks the rules: nobody approves that.
    #[error("{}", .0.refusal())]
    Blocked(Box<Judged>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<DatabaseError> for ReviewError {
    fn from(error: DatabaseError) -> Self {
        Self::Store(error.into())
    }
}

/// Which reviews a list shows.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// `open`, `claimed` or `decided` only.
    pub status: Option<String>,
    /// That of one workflow only.
    pub workflow: Option<String>,
    /// Behind this one: the last of the page before.
    pub after: Option<(Timestamp, String)>,
}

/// A review as a list shows it, and its place.
pub type Listed = (Value, Timestamp, String);

/// Every review.
pub struct Reviews {
    database: Arc<Database>,
    judge: Judge,
    sending: Rules,
    claim: Duration,
}

impl Reviews {
    /// Reads `REVIEW_CLAIM_MS`, and how messages are taken on.
    #[must_use]
    pub fn from_env(env: &Env, database: Option<Arc<Database>>, http: Option<&Client>) -> Option<Self> {
        let (sending, claim) = (Rules::from_env(env), env.millis("REVIEW_CLAIM_MS", CLAIM_MS));
        let judge = Judge::from_env(env, database.clone(), http);
        let (database, judge) = database.zip(judge)?;
        Some(Self { database, judge, sending, claim })
    }

    /// The oldest first, at most `most`. That of one workflow with what was asked for, the texts there are, and the steps that have none.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn list(&self, shown: &Shown, most: i64) -> Result<Vec<Listed>, StoreError> {
        let (at, id) = (shown.after.as_ref().map(|after| after.0), shown.after.as_ref().map(|after| after.1.as_str()));
        let (status, workflow) = (shown.status.as_deref(), shown.workflow.as_deref());
        let params = [
            (&status as _, Type::TEXT),
            (&workflow as _, Type::TEXT),
            (&at as _, Type::TIMESTAMPTZ),
            (&id as _, Type::TEXT),
            (&most as _, Type::INT8),
        ];
        let rows = self.database.query(LIST, &params).await?;
        rows.iter().map(listed).collect()
    }

    /// Does what a person wants with a review.
    ///
    /// # Errors
    /// [`ReviewError`]; then nothing was done.
    pub async fn follow(
        &self,
        order: &Order,
        actor: &UserId,
        request_id: &str,
        now: Timestamp,
    ) -> Result<Done, ReviewError> {
        match &order.act {
            Act::Claim => self.claim(&order.workflow_id, actor, request_id).await,
            Act::Release => self.release(&order.workflow_id, actor, request_id).await,
            Act::Approve(contents) => self.approve(order, contents, actor, request_id, now).await,
            Act::Reject => self.reject(order, actor, request_id).await,
        }
    }

    async fn claim(&self, id: &WorkflowId, actor: &UserId, request_id: &str) -> Result<Done, ReviewError> {
        let (id, actor, lease) = (id.as_str(), actor.as_str(), store::millis(self.claim));
        let params = [
            (&id as _, Type::TEXT),
            (&actor as _, Type::TEXT),
            (&lease as _, Type::INT8),
            (&request_id as _, Type::TEXT),
        ];
        let rows = self.database.query(CLAIM, &params).await?;
        let row = rows.first().ok_or(ReviewError::Unknown)?;
        match row.get("outcome") {
            "claimed" => Ok(Done::Claimed(row.get("claimed_until"))),
            other => Err(refusal(other)),
        }
    }

    async fn release(&self, id: &WorkflowId, actor: &UserId, request_id: &str) -> Result<Done, ReviewError> {
        let (id, actor) = (id.as_str(), actor.as_str());
        let params = [(&id as _, Type::TEXT), (&actor as _, Type::TEXT), (&request_id as _, Type::TEXT)];
        let rows = self.database.query(RELEASE, &params).await?;
        match rows.first().ok_or(ReviewError::Unknown)?.get("outcome") {
            "released" => Ok(Done::Released),
            other => Err(refusal(other)),
        }
    }

    async fn approve(
        &self,
        order: &Order,
        contents: &BTreeMap<String, String>,
        actor: &UserId,
        request_id: &str,
        now: Timestamp,
    ) -> Result<Done, ReviewError> {
        let id = &order.workflow_id;
        let rows = self.database.query(ONE, &[(&id.as_str() as _, Type::TEXT)]).await?;
        let row = rows.first().ok_or(ReviewError::Unknown)?;
        let mut claimed = Kept::read(id, row)?.claimed(id, row)?;
        let decision = if contents.is_empty() { "approved" } else { "edited" };
        // Once it is decided its texts are nobody's business any more.
        let ending = match row.get::<_, Option<&str>>("decision") {
            Some(_) if is_said(&row.get("workflow"), contents) => Ending::default(),
            Some(_) => return Err(ReviewError::Decided),
            None => {
                let judgements = self.judge(&mut claimed, contents, actor, request_id).await?;
                let ending = approved(&claimed, &self.sending, now, contents).map_err(ReviewError::Faulty)?;
                for judgement in judgements {
                    self.judge.keep(&judgement).await?;
                }
                ending
            }
        };
        let wake = self.decide(order, actor, request_id, decision, &ending).await?;
        Ok(Done::Decided(decision, claimed.sender.zip(wake)))
    }

    /// Puts a person's texts in the place of a model's, all of them judged as the rules are now; gives the judgements, to be kept. Who approves
    /// them has looked at them; what is blocked nobody approves.
    async fn judge(
        &self,
        claimed: &mut Claimed,
        contents: &BTreeMap<String, String>,
        actor: &UserId,
        request_id: &str,
    ) -> Result<Vec<Value>, ReviewError> {
        let (steps, by, profile) = (steps(&claimed.parsed.intent), Instant::now() + PATIENCE, Arc::default());
        let judging = steps.iter().map(|step| {
            let (claimed, profile) = (&*claimed, Arc::clone(&profile));
            async move {
                let edited = contents.get(&step.name);
                let kept = claimed.checkpoint.texts.get(&step.name);
                let content = edited.or(kept.map(|kept| &kept.content))?;
                let judging = Judging::of(claimed, &self.judge, step, profile);
                let (judged, is_blocked) = judging.text(content, false, by).await;
                let origin = if edited.is_some() { Origin::Edited } else { Origin::Approved };
                let row = judged.row(&judging.about(origin, actor, &claimed.id, request_id));
                let kept = kept.filter(|_| edited.is_none());
                let (truncated, made) =
                    (kept.is_some_and(|kept| kept.truncated), kept.and_then(|kept| kept.made.clone()));
                let text = Text { content: content.clone(), truncated, made, judged: Some(judged) };
                Some((step.name.clone(), text, is_blocked, row))
            }
        });
        let judged: Vec<_> = join_all(judging).await.into_iter().flatten().collect();
        let mut rows = Vec::new();
        for (step, text, is_blocked, row) in judged {
            if let (true, Some(judged)) = (is_blocked, &text.judged) {
                self.judge.keep(&row).await?;
                return Err(ReviewError::Blocked(Box::new(judged.clone())));
            }
            claimed.checkpoint.texts.insert(step, text);
            rows.push(row);
        }
        Ok(rows)
    }

    async fn reject(&self, order: &Order, actor: &UserId, request_id: &str) -> Result<Done, ReviewError> {
        self.decide(order, actor, request_id, "rejected", &Ending::default()).await?;
        Ok(Done::Decided("rejected", None))
    }

    /// Ends the workflow. Gives when its account has to be woken, where it has a message to send.
    async fn decide(
        &self,
        order: &Order,
        actor: &UserId,
        request_id: &str,
        decision: &str,
        ending: &Ending,
    ) -> Result<Wake, ReviewError> {
        let (id, actor, reason) = (order.workflow_id.as_str(), actor.as_str(), order.reason.as_deref());
        let step = store::millis(self.sending.priority_step);
        let params = [
            (&id as _, Type::TEXT),
            (&actor as _, Type::TEXT),
            (&decision as _, Type::TEXT),
            (&reason as _, Type::TEXT),
            (&ending.result as _, Type::JSONB),
            (&ending.message as _, Type::JSONB),
            (&step as _, Type::INT8),
            (&request_id as _, Type::TEXT),
        ];
        let rows = self.database.query(DECIDE, &params).await?;
        let row = rows.first().ok_or(ReviewError::Unknown)?;
        match row.get("outcome") {
            "done" | "same" => {
                let wake = row.get::<_, Option<i64>>("wake_ms").and_then(|wait| u64::try_from(wait).ok());
                Ok(wake.map(Duration::from_millis))
            }
            other => Err(refusal(other)),
        }
    }
}

/// What an approved workflow ends with; a rejected one with nothing.
#[derive(Default)]
struct Ending {
    result: Option<Value>,
    message: Option<Value>,
}

fn refusal(outcome: &str) -> ReviewError {
    match outcome {
        "taken" => ReviewError::Taken,
        "unclaimed" => ReviewError::Unclaimed,
        "decided" => ReviewError::Decided,
        _ => ReviewError::Unknown,
    }
}

/// A workflow with the texts of a checkpoint and those of a person, as its answer and its message.
fn approved(
    claimed: &Claimed,
    sending: &Rules,
    now: Timestamp,
    contents: &BTreeMap<String, String>,
) -> Result<Ending, Vec<FieldFault>> {
    let fault = |detail: String| FieldFault { pointer: "/contents".to_owned(), detail };
    let (intent, steps) = (&claimed.parsed.intent, steps(&claimed.parsed.intent));
    let unknown = contents.keys().filter(|name| steps.iter().all(|step| step.name != **name));
    let mut faults: Vec<_> = unknown.map(|name| fault(format!("there is no step `{name}`"))).collect();
    let texts: Vec<_> = steps.iter().map(|step| (step, claimed.checkpoint.texts.get(&step.name))).collect();
    let missing = texts.iter().filter(|(_, text)| text.is_none());
    faults.extend(missing.map(|(step, _)| fault(format!("the step `{}` needs a text", step.name))));
    let written = Written {
        id: &claimed.id,
        intent,
        texts: texts.iter().filter_map(|(step, text)| Some((*step, (*text)?))).collect(),
        booked: &claimed.booked,
        begun_at: claimed.begun_at,
        now,
    };
    let mut result = written.result();
    result["data"]["reviewed"] = json!({"edited": !contents.is_empty()});
    let mut message = None;
    if let (Some(account), true) = (&claimed.sender, faults.is_empty()) {
        let asked = Asked {
            owner: &claimed.owner,
            requested_by: &claimed.requested_by,
            body_hash: claimed.parsed.body_hash,
            request_id: &claimed.request_id,
            trace_id: &claimed.trace_id,
            approved: true,
        };
        let (said, outgoing) = written.message(&asked, account, sending);
        match outgoing {
            Some(outgoing) => message = Some(outgoing.row),
            None => {
                faults.push(fault(format!("no fan can be sent it: {}", said["error"].as_str().unwrap_or_default())))
            }
        }
        result["data"]["onlyFans"] = said;
    }
    if faults.is_empty() { Ok(Ending { result: Some(result), message }) } else { Err(faults) }
}

/// Whether an approved workflow's answer has these texts.
fn is_said(workflow: &Value, contents: &BTreeMap<String, String>) -> bool {
    let said = workflow.pointer("/result/data/contents").and_then(Value::as_array);
    let has = |(step, content): (&String, &String)| {
        said.into_iter().flatten().any(|item| item["step"] == **step && item["content"] == **content)
    };
    contents.iter().all(has)
}

fn listed(row: &Row) -> Result<Listed, StoreError> {
    let id: String = row.get("workflow_id");
    let unreadable = || StoreError::Row(id.clone());
    let mut review: Value = row.get("review");
    let place = |review| (review, row.get("created_at"), id.clone());
    // A page of them stays small, and one that cannot be read hides no other.
    let (Some(intent), Some(checkpoint)) = (row.get::<_, Option<Value>>("intent"), row.get("checkpoint")) else {
        return Ok(place(review));
    };
    let steps = steps(&WorkflowIntent::restore(&intent).ok_or_else(unreadable)?);
    let checkpoint: Checkpoint = serde_json::from_value(checkpoint).map_err(|_| unreadable())?;
    let decided = review["status"] == "decided";
    let contents = steps.iter().filter(|_| !decided).map(|step| match checkpoint.texts.get(&step.name) {
        Some(Text { content, truncated, judged, .. }) => {
            let mut shown = json!({"step": step.name, "content": content, "truncated": truncated});
            judged.iter().for_each(|judged| shown["compliance"] = judged.to_json());
            shown
        }
        None => json!({"step": step.name, "content": null}),
    });
    review["contents"] = contents.collect();
    review["request"] = intent;
    Ok(place(review))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &Value) -> Result<Order, Vec<String>> {
        Order::parse(body.to_string().as_bytes())
            .map_err(|faults| faults.into_iter().map(|fault| fault.pointer).collect())
    }

    #[test]
    fn an_order_is_read_and_its_faults_are_named() {
        let contents = json!([{"step": "message", "content": " Hi! "}]);
        let order = parse(&json!({"workflowId": "wf", "action": "approve", "contents": contents})).unwrap();
        assert_eq!(order.act, Act::Approve([("message".to_owned(), "Hi!".to_owned())].into()));
        assert_eq!(parse(&json!({"workflowId": "wf", "action": "claim"})).unwrap().act, Act::Claim);
        assert_eq!(
            parse(&json!({"action": "burn", "reason": ""})),
            Err(vec!["/workflowId".into(), "/reason".into(), "/action".into()])
        );
        assert_eq!(
            parse(&json!({"workflowId": "wf", "action": "reject", "contents": contents})),
            Err(vec!["/contents".into()])
        );
        let twice = json!([{"step": "plan", "content": "a"}, {"step": "plan", "content": "b"}]);
        let long = json!([{"step": "plan", "content": "a".repeat(MAX_TEXT + 1)}]);
        for odd in
            [twice, long, json!([{"step": "plan"}]), json!({"plan": "a"}), json!([{"step": "plan", "content": " "}])]
        {
            let read = parse(&json!({"workflowId": "wf", "action": "approve", "contents": odd}));
            assert_eq!(read, Err(vec!["/contents".into()]), "{odd}");
        }
    }
}
