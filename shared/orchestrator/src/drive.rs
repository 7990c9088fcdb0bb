//! Drives the machine of one workflow: waits, calls, settles, reserves, all under one deadline.
//!
//! The first step (the plan, or the only text) is called alone; the steps that follow need nothing but the plan and are
//! called side by side. Whatever ends, the machine decides what follows and one statement keeps both: what follows is
//! reserved before it is called. Calls go on while an earlier one's end is being kept, and are never dropped: what was
//! begun is settled.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use huntaze_costs::attempt::{AttemptIntent, Billing, Settlement};
use huntaze_costs::budget::Refusal;
use huntaze_costs::ledger::LedgerEntry;
use huntaze_domain::error::ErrorCode;
use huntaze_domain::ids::{AccountId, AttemptId, MessageId, RecipientId, WorkflowId, random};
use huntaze_domain::intent::{ComplianceLevel, MessageType};
use huntaze_domain::money::Usd;
use huntaze_domain::provider::Provider;
use huntaze_domain::trace::SpanId;
use huntaze_messaging::message;
use huntaze_messaging::outbox::NewMessage;
use jiff::{Timestamp, Unit};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::answer::{CallEnd, Failure};
use crate::machine::{Action, Decision, End, Launch, Limits, Machine, Stop};
use crate::prompt;
use crate::provider::CallId;
use crate::route::{Offer, Route, RouteError};
use crate::run::{Orchestrator, Request, RunError};
use crate::status::booked_summary;
use crate::store::{self, Advanced, AttemptEnd, Outgoing, StoreError};
use crate::workflow::{DecisionRecord, Fallback, ProviderState, State, WorkflowError, WorkflowStatus};

/// One call that ended, as it is booked.
#[derive(Debug, Clone)]
pub(crate) struct Booked {
    pub(crate) attempt: AttemptIntent,
    pub(crate) settlement: Settlement,
}

/// A call that is to be made: its attempt is reserved, or is in the statement that reserves it.
pub(crate) struct Flight {
    launch: Launch,
    pub(crate) attempt: AttemptIntent,
}

/// A call that ended.
struct Landed {
    flight: Flight,
    end: CallEnd,
    /// Whose own budget refused it, where it is one provider's.
    budget_of: Option<Provider>,
    duration: Duration,
}

/// The end of a call as it is to be kept: decided, not written yet.
struct Record {
    attempt: AttemptIntent,
    settlement: Settlement,
    failure: Option<Failure>,
    http_status: Option<u16>,
    duration: Duration,
    following: Vec<Flight>,
}

/// What a workflow waits for.
enum Event {
    /// It is a call's turn.
    Due(Box<Flight>),
    /// A call ended.
    Landed(Box<Landed>),
    /// A record is written, and some of the calls that follow are refused; or it could not be.
    Written(Box<Record>, Result<Advanced, StoreError>),
}

type Pending<'a> = Pin<Box<dyn Future<Output = Event> + Send + 'a>>;

/// One workflow under way.
pub(crate) struct Run<'a> {
    orchestrator: &'a Orchestrator,
    request: &'a Request,
    route: &'a Route,
    pub(crate) id: WorkflowId,
    pub(crate) state: State,
    machine: Machine<'a>,
    /// The text of each step, and whether it was cut short.
    texts: Vec<Option<(String, bool)>>,
    booked: Vec<Booked>,
    /// What is booked and written, as the ledger will have it.
    pub(crate) entries: Vec<LedgerEntry>,
    /// Who is being called.
    under_way: Vec<Provider>,
    /// The budget that refused a call; of several, what needed the least.
    pub(crate) refusal: Option<Refusal>,
    /// The account that the text is sent by, where it is to be sent.
    pub(crate) sender: Option<AccountId>,
    /// The message that the workflow's end takes on.
    outgoing: Option<Outgoing>,
    /// When a hint has to be on the queue for that account.
    pub(crate) wake: Option<Duration>,
    /// The store failed: nothing new is called, what is under way is still settled.
    broken: Option<StoreError>,
    /// Whether nothing new is called any more: who waits for a call's turn need not.
    halted: watch::Sender<bool>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(orchestrator: &'a Orchestrator, request: &'a Request, route: &'a Route) -> Self {
        let deadline = request.deadline.saturating_duration_since(request.accepted_at);
        Self {
            orchestrator,
            request,
            route,
            id: WorkflowId::generate(),
            state: State::default(),
            machine: Machine::new(route, Limits { deadline, retries: orchestrator.retries }),
            texts: vec![None; route.steps.len()],
            booked: Vec::new(),
            entries: Vec::new(),
            under_way: Vec::new(),
            refusal: None,
            sender: None,
            outgoing: None,
            wake: None,
            broken: None,
            halted: watch::Sender::new(false),
        }
    }

    /// Chooses the first call.
    pub(crate) fn begin(&mut self) -> Result<Flight, Stop> {
        let launch = self.machine.begin(self.elapsed())?;
        self.note_decisions(None);
        Ok(self.prepare(launch))
    }

    /// A budget refused the first call, and nothing is kept: what is called in its place, as another workflow.
    ///
    /// # Errors
    /// [`RunError`] where there is no other way.
    pub(crate) fn refused(&mut self, first: Flight, refusal: Refusal) -> Result<Flight, RunError> {
        let (provider, budget_of) = (first.attempt.provider, refusal.provider);
        self.id = WorkflowId::generate();
        self.under_way.clear();
        self.state.ended(provider, Some(Failure::OverBudget), &[]);
        self.note_refusal(refusal);
        let end = End { failure: Some(Failure::OverBudget), retry_after: None, cost: Usd::ZERO, budget_of };
        let following = self.machine.ended(&first.launch, &end, self.elapsed(), random());
        self.note_decisions(Some(provider));
        let error = match (self.machine.stop(), &self.refusal) {
            (Some(Stop::Exhausted { .. }), Some(refusal)) => RunError::Budget(refusal.clone()),
            (Some(stop), _) => stop.clone().into(),
            (None, _) => RunError::NoTime,
        };
        following.into_iter().next().map(|launch| self.prepare(launch)).ok_or(error)
    }

    /// Of several refusals the one that needed the least is told: that is what would have been enough.
    fn note_refusal(&mut self, refusal: Refusal) {
        if self.refusal.as_ref().is_none_or(|told| refusal.needed < told.needed) {
            self.refusal = Some(refusal);
        }
    }

    /// Calls until there is an answer or no way on. Records are written one after the other, in the order they were made.
    pub(crate) async fn drive(&mut self, first: Flight) -> Result<Result<Value, WorkflowError>, RunError> {
        // Only now is it known that the workflow is this request's own.
        tracing::Span::current().record("workflow", self.id.as_str());
        self.state.decisions.iter().for_each(log_decision);
        let (mut work, mut records, mut writing) = (FuturesUnordered::new(), VecDeque::new(), false);
        work.push(self.wait(first));
        while let Some(event) = work.next().await {
            match event {
                Event::Due(flight) => work.push(self.call(*flight)),
                Event::Landed(landed) => records.push_back(self.book(*landed)),
                Event::Written(record, Ok(Advanced { mut refusals, message_status, wake })) => {
                    writing = false;
                    self.kept(message_status, wake);
                    if !record.failure.is_some_and(Failure::is_uncalled) {
                        self.entries.push(LedgerEntry::of(&record.attempt, record.settlement, record.duration));
                    }
                    // What is refused comes first: it may be the end of all the others.
                    let refused = |flight: &Flight| refusals.contains_key(flight.attempt.id.as_str());
                    let (refused, reserved): (Vec<_>, Vec<_>) = record.following.into_iter().partition(refused);
                    for flight in refused {
                        let refusal = refusals.remove(flight.attempt.id.as_str());
                        let budget_of = refusal.as_ref().and_then(|refusal| refusal.provider);
                        refusal.into_iter().for_each(|refusal| self.note_refusal(refusal));
                        records.push_back(self.book(uncalled(flight, Failure::OverBudget, budget_of)));
                    }
                    reserved.into_iter().for_each(|flight| work.push(self.wait(flight)));
                }
                Event::Written(_, Err(error)) => {
                    writing = false;
                    self.machine.close();
                    self.halted.send_replace(true);
                    self.broken.get_or_insert(error);
                }
            }
            if !writing && let Some(mut record) = records.pop_front() {
                if self.broken.is_some() {
                    record.following.clear();
                    if work.is_empty() && records.is_empty() {
                        self.give_up();
                    }
                } else if self.machine.is_over() && records.is_empty() {
                    // Everything has ended, and all but this is written: the workflow ends with it.
                    self.finish();
                }
                writing = true;
                work.push(self.write(record));
            }
        }
        drop(work);
        match (self.broken.take(), self.state.error.take()) {
            (Some(store), _) => Err(store.into()),
            (None, Some(error)) => Ok(Err(error)),
            (None, None) => Ok(Ok(self.state.result.take().unwrap_or_default())),
        }
    }

    fn wait(&self, flight: Flight) -> Pending<'a> {
        let due = self.request.accepted_at + flight.launch.not_before;
        let mut halted = self.halted.subscribe();
        Box::pin(async move {
            if due > Instant::now() {
                tokio::select! {
                    () = sleep_until(due) => {}
                    // It will not be made: nobody has to wait for that.
                    _ = halted.wait_for(|halted| *halted) => {}
                }
            }
            Event::Due(Box::new(flight))
        })
    }

    fn call(&self, flight: Flight) -> Pending<'a> {
        let Some(cap) = self.machine.cap(&flight.launch, self.elapsed()) else {
            let landed = uncalled(flight, Failure::NotSent, None);
            return Box::pin(async move { Event::Landed(Box::new(landed)) });
        };
        let routed = &self.route.steps[flight.launch.step];
        let offer = &routed.offers[flight.launch.offer];
        let plan = self.texts.first().and_then(Option::as_ref).filter(|_| routed.step.follows_plan);
        let plan = plan.map(|(text, _)| text.as_str());
        let chat = prompt::chat(routed.step.prompt, &self.request.parsed.intent, &routed.step.platforms, plan);
        let (providers, now) = (&self.orchestrator.providers, self.now());
        let traceparent = self.request.trace.traceparent(SpanId::new(random()));
        Box::pin(async move {
            let started = Instant::now();
            let id = CallId { attempt: &flight.attempt.id, traceparent: &traceparent };
            let end = providers.complete(&offer.candidate, &chat, offer.bound.output_tokens, cap, id, now).await;
            Event::Landed(Box::new(Landed { flight, end, budget_of: None, duration: started.elapsed() }))
        })
    }

    /// Books a call's end and has the machine decide what follows.
    fn book(&mut self, landed: Landed) -> Record {
        let Landed { flight: Flight { launch, attempt }, end, budget_of, duration } = landed;
        let failure = end.result.as_ref().err().copied();
        let settlement = attempt.settle(end.outcome(), end.billing);
        log_end(&attempt, &end, settlement, duration);
        self.under_way.iter().position(|called| *called == attempt.provider).map(|at| self.under_way.swap_remove(at));
        self.state.ended(attempt.provider, failure, &self.under_way);
        self.booked.push(Booked { attempt: attempt.clone(), settlement });
        if let Ok(text) = end.result {
            self.texts[launch.step] = Some((text, end.truncated));
        }
        let report = End { failure, retry_after: end.retry_after, cost: settlement.cost, budget_of };
        let following = self.machine.ended(&launch, &report, self.elapsed(), random());
        let noted = self.state.decisions.len();
        self.note_decisions(Some(attempt.provider));
        self.state.decisions[noted..].iter().for_each(log_decision);
        if self.state.error.is_none() {
            self.state.error = self.machine.stop().map(|stop| explained(stop, self.refusal.as_ref()));
            self.halted.send_replace(self.state.error.is_some());
        }
        let following = following.into_iter().map(|launch| self.prepare(launch)).collect();
        Record { attempt, settlement, failure, http_status: end.http_status, duration, following }
    }

    fn write(&self, record: Record) -> Pending<'a> {
        let (orchestrator, state, outgoing) = (self.orchestrator, self.state.clone(), self.outgoing.clone());
        Box::pin(async move {
            let Record { attempt, settlement, failure, http_status, duration, following } = &record;
            let attempts: Vec<_> = following.iter().map(|flight| &flight.attempt).collect();
            let (settlement, http_status, duration) = (*settlement, *http_status, *duration);
            let failure = failure.map(Failure::as_str);
            let end = AttemptEnd { attempt, settlement, failure, http_status, duration };
            let written =
                store::advance(&orchestrator.database, &end, &state, &attempts, orchestrator.lease, outgoing.as_ref())
                    .await;
            Event::Written(Box::new(record), written)
        })
    }

    /// Makes the intent of a call.
    fn prepare(&mut self, launch: Launch) -> Flight {
        let routed = &self.route.steps[launch.step];
        let Offer { candidate, price, bound, .. } = routed.offers[launch.offer].clone();
        let attempt = AttemptIntent {
            id: AttemptId::of(&self.id, launch.number),
            workflow_id: self.id.clone(),
            sequence: launch.number,
            user_id: self.request.owner.clone(),
            step: routed.step.name.clone(),
            request_type: self.request.parsed.intent.workflow_type.as_str(),
            provider: candidate.provider,
            model: candidate.model,
            price,
            bound,
            trace_id: self.request.trace.id().to_owned(),
            started_at: self.now(),
        };
        self.under_way.push(attempt.provider);
        self.state.calling(attempt.provider);
        Flight { launch, attempt }
    }

    /// Keeps what the machine has decided since the last time. `ended`: whose call's end it decided about.
    fn note_decisions(&mut self, ended: Option<Provider>) {
        for decision in &self.machine.decisions()[self.state.decisions.len()..] {
            let record = self.record(decision);
            if let (Action::FallBack, Some(from), Some(to)) = (decision.action, ended, record.provider) {
                let (reason, timestamp) = (record.reason.to_owned(), record.at);
                self.state.fallback_history.push(Fallback { from, to, reason, timestamp });
            }
            self.state.decisions.push(record);
        }
    }

    fn record(&self, decision: &Decision) -> DecisionRecord {
        let (provider, model) = decision.candidate.clone().unzip();
        DecisionRecord {
            at: self.wall_clock(decision.at),
            step: decision.step.clone(),
            action: decision.action.as_str(),
            reason: decision.reason,
            no_retry: decision.no_retry,
            provider,
            model,
            attempt: decision.number.map(|number| AttemptId::of(&self.id, number)),
            wait_ms: u64::try_from(decision.wait.as_millis()).ok().filter(|wait| *wait > 0),
        }
    }

    /// The store failed under a workflow whose last record can be written all the same.
    fn give_up(&mut self) {
        let interrupted = || {
            WorkflowError::new(
                ErrorCode::Internal,
                "the request was interrupted; what it had cost until then is booked",
            )
        };
        self.state.error.get_or_insert_with(interrupted);
        self.finish();
    }

    fn finish(&mut self) {
        if self.state.error.is_some() {
            self.state.status = WorkflowStatus::Failed;
        } else {
            self.state.status = WorkflowStatus::Completed;
            let mut result = self.result();
            let recipient = self.request.parsed.intent.recipient_id.as_ref();
            if let Some((account, recipient)) = self.sender.as_ref().zip(recipient) {
                let id = MessageId::generate();
                let sent = self.outgoing_text();
                result["data"]["onlyFans"] = match &sent {
                    Ok(_) => json!({"messageId": id, "accountId": account}),
                    Err(reason) => json!({"status": "failed", "accountId": account, "error": reason}),
                };
                if sent.is_err() {
                    self.state.provider_states.only_fans = ProviderState::Failed;
                }
                self.outgoing = sent.ok().map(|text| self.outgoing(&id, account, recipient, &text));
            }
            self.state.result = Some(result);
        }
    }

    /// The text for the fan.
    fn outgoing_text(&self) -> Result<String, &'static str> {
        let texts = self.route.steps.iter().zip(&self.texts);
        let mut texts = texts.filter(|(routed, _)| routed.step.is_for_fans()).filter_map(|(_, text)| text.as_ref());
        let (text, truncated) = texts.next().ok_or("there is no text for a fan")?;
        if *truncated {
            return Err("the text was cut short");
        }
        message::content(text.trim()).ok_or("the text is empty, or longer than 1000 characters")
    }

    fn outgoing(&self, id: &MessageId, account: &AccountId, recipient_id: &RecipientId, text: &str) -> Outgoing {
        let (request, sending) = (self.request, &self.orchestrator.sending);
        let intent = &request.parsed.intent;
        let context = intent.only_fans_context.as_ref();
        let kind = context.map_or(MessageType::Custom, |context| context.message_type);
        let message = NewMessage {
            id,
            account_id: Some(account),
            user_id: &request.owner,
            requested_by: &request.requested_by,
            workflow_id: Some(&self.id),
            idempotency_key: None,
            body_hash: request.parsed.body_hash,
            recipient_id,
            content: text,
            message_type: kind,
            priority: intent.priority,
            compliance_level: context.map_or(ComplianceLevel::Relaxed, |context| context.compliance_level),
            not_before: self.now(),
            metadata: None,
            request_id: &request.request_id,
            trace_id: request.trace.id(),
        };
        let (approval, priority_step) = (sending.approval, sending.priority_step);
        Outgoing { row: message.row(sending.retries), approval, priority_step }
    }

    /// What the statement that ended the workflow made of its message.
    fn kept(&mut self, status: Option<String>, wake: Option<Duration>) {
        self.wake = self.wake.or(wake);
        if let (Some(status), Some(result)) = (status, &mut self.state.result) {
            result["data"]["onlyFans"]["status"] = status.into();
        }
    }

    /// `{"data", "metrics"}` of the contract.
    fn result(&self) -> Value {
        let summary = booked_summary(&self.booked);
        let duration = store::millis(self.elapsed());
        let texts = || self.route.steps.iter().zip(self.texts.iter().flatten());
        let contents: Vec<_> = texts()
            .map(|(routed, (text, truncated))| json!({"step": routed.step.name, "content": text, "truncated": truncated}))
            .collect();
        let content: Vec<_> = texts()
            .map(|(routed, (text, _))| match routed.step.name.strip_prefix("message:") {
                Some(platform) => format!("## {platform}\n\n{text}"),
                None => text.clone(),
            })
            .collect();
        json!({
            "data": {
                "workflowId": self.id,
                "content": content.join("\n\n"),
                "contents": contents,
                "provider": summary.provider,
                "platforms": self.request.parsed.intent.platforms,
                "status": WorkflowStatus::Completed,
                "detailedCosts": summary.detailed_costs,
            },
            "metrics": {
                "duration": duration,
                "provider": summary.provider,
                "cost": {
                    "tokens": summary.tokens,
                    "cost": self.machine.spent().to_json_number(),
                    "duration": duration,
                },
            },
        })
    }

    /// The time since the request was taken up, by a clock that does not step.
    fn elapsed(&self) -> Duration {
        self.request.accepted_at.elapsed()
    }

    fn now(&self) -> Timestamp {
        self.wall_clock(self.elapsed())
    }

    /// The wall clock by the request's own. Whole milliseconds: a ledger key must read the same from PostgreSQL.
    fn wall_clock(&self, at: Duration) -> Timestamp {
        let now = self.request.now.saturating_add(at).unwrap_or(self.request.now);
        now.round(Unit::Millisecond).unwrap_or(now)
    }
}

/// The end of a call that is not made. `budget_of`: whose own budget refused it, where it is one provider's.
fn uncalled(flight: Flight, failure: Failure, budget_of: Option<Provider>) -> Landed {
    let end = CallEnd::failed(failure, Billing::Nothing);
    Landed { flight, end, budget_of, duration: Duration::ZERO }
}

/// What a stop says to the caller. `refusal`: the budget that refused a call, where one did.
fn explained(stop: &Stop, refusal: Option<&Refusal>) -> WorkflowError {
    let unavailable = |detail: String| WorkflowError::new(ErrorCode::ProviderUnavailable, detail);
    match stop {
        Stop::Refused(Failure::Declined) => {
            WorkflowError::new(ErrorCode::ComplianceViolation, "the provider's model declined the request")
        }
        Stop::Refused(_) => {
            WorkflowError::new(ErrorCode::ComplianceViolation, "the provider's content filter refused the request")
        }
        Stop::Rejected(provider) => WorkflowError::new(
            ErrorCode::InvalidRequest,
            format!("{} refused the request as it stands; it may be too long", provider.as_str()),
        ),
        Stop::CostLimit(error) => WorkflowError {
            limit: RouteError::limit(error),
            ..WorkflowError::new(ErrorCode::CostLimitExceeded, error.to_string())
        },
        Stop::Exhausted { last: Failure::OverBudget, .. } if let Some(refusal) = refusal => WorkflowError {
            limit: Some(refusal.limit()),
            ..WorkflowError::new(ErrorCode::CostLimitExceeded, refusal.to_string())
        },
        Stop::NoTime => unavailable("no time is left for another call".to_owned()),
        Stop::Exhausted { last, retry_after } => WorkflowError {
            retry_after: retry_after.map(|wait| wait.as_millis().div_ceil(1_000)).and_then(|wait| wait.try_into().ok()),
            ..unavailable(format!("no provider is left; the last ended with {}", last.as_str()))
        },
    }
}

fn log_decision(decision: &DecisionRecord) {
    tracing::info!(
        step = decision.step,
        action = decision.action,
        reason = decision.reason,
        no_retry = decision.no_retry,
        provider = decision.provider.map(Provider::as_str),
        model = decision.model,
        attempt = decision.attempt.as_ref().map(AttemptId::as_str),
        wait_ms = decision.wait_ms,
        "decided"
    );
}

/// One line a call, in the names of OpenTelemetry's conventions for generative AI.
fn log_end(attempt: &AttemptIntent, end: &CallEnd, settlement: Settlement, duration: Duration) {
    let provider = match attempt.provider {
        Provider::Azure => "azure.ai.openai",
        Provider::OpenAi => "openai",
    };
    tracing::info!(
        attempt = %attempt.id, step = attempt.step, gen_ai.operation.name = "chat", gen_ai.provider.name = provider,
        gen_ai.request.model = attempt.model, gen_ai.usage.input_tokens = settlement.usage.input_tokens,
        gen_ai.usage.output_tokens = settlement.usage.output_tokens, http.response.status_code = end.http_status,
        error.r#type = end.result.as_ref().err().map(|failure| failure.as_str()), truncated = end.truncated,
        cost = %settlement.cost, estimated = settlement.estimated, duration_ms = store::millis(duration), "call ended"
    );
    if let (Billing::Usage(claimed), true) = (end.billing, settlement.estimated) {
        tracing::error!(attempt = %attempt.id, ?claimed, bound = ?attempt.bound, "impossible usage");
    }
    if end.unfiltered {
        tracing::warn!(attempt = %attempt.id, "the provider's content filter did not run");
    }
}
