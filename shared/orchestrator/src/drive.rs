//! Drives the machine of one workflow: waits, calls, settles, reserves, all under one deadline.
//!
//! The first step (the plan, or the only text) is called alone; the steps that follow need nothing but the plan and are
//! called side by side. Whatever ends, the machine decides what follows and one statement keeps both: what follows is
//! reserved before it is called. Calls go on while an earlier one's end is being kept, and are never dropped: what was
//! begun is settled.
//!
//! What does not fit into this driver's time is left to another one: the workflow is queued, with what it needs to go on.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use huntaze_breaker::{Permit, Report};
use huntaze_costs::attempt::{AttemptIntent, Billing, Outcome, Settlement};
use huntaze_costs::budget::Refusal;
use huntaze_costs::ledger::LedgerEntry;
use huntaze_domain::error::ErrorCode;
use huntaze_domain::ids::{AccountId, AttemptId, WorkflowId, random};
use huntaze_domain::money::Usd;
use huntaze_domain::provider::{Provider, TokenUsage};
use huntaze_domain::trace::SpanId;
use huntaze_judge::{Judged, Profile};
use jiff::{Timestamp, Unit};
use serde_json::Value;
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, sleep_until};

use crate::answer::{CallEnd, Failure};
use crate::cache::{Cached, Key, Maker};
use crate::circuit::{self, Change};
use crate::claimed::Claimed;
use crate::gate::{Asked, Gate, Passed};
use crate::judging::Judging;
use crate::machine::{Action, Decision, End, FIRST_LEG, Launch, Leg, Limits, Machine, Past, Stop};
use crate::matrix::Last;
use crate::prompt::{self, Chat};
use crate::provider::CallId;
use crate::result::{self, Written};
use crate::route::{Offer, Route, RouteError, RoutedStep};
use crate::run::{Orchestrator, Request, RunError};
use crate::store::{self, Advanced, AttemptEnd, Outgoing, Refusals, StoreError};
use crate::workflow::{
    Checkpoint, DecisionRecord, Fallback, ProviderState, Reuse, Standing, State, Text, WorkflowError, WorkflowStatus,
};

/// Who waits for another's text is asked to stop so long before it has to call: one more question takes as long at the most.
const ONE_QUESTION: Duration = Duration::from_millis(300);

/// One call that ended, as the answer sums it up.
#[derive(Debug, Clone)]
pub(crate) struct Booked {
    pub(crate) step: String,
    pub(crate) provider: Provider,
    pub(crate) model: String,
    pub(crate) price_version: String,
    pub(crate) settlement: Settlement,
}

impl Booked {
    fn of(attempt: &AttemptIntent, settlement: Settlement) -> Self {
        Self {
            step: attempt.step.clone(),
            provider: attempt.provider,
            model: attempt.model.clone(),
            price_version: attempt.price.version.clone(),
            settlement,
        }
    }

    /// As [`Self::by`], where a checkpoint says that its text was made before.
    pub(crate) fn made_before(&mut self, checkpoint: &Checkpoint) {
        if self.settlement.outcome == Outcome::Succeeded
            && let Some(Text { made: Some(maker), .. }) = checkpoint.texts.get(&self.step)
        {
            self.by(maker);
        }
    }

    /// Says who made the text, where that was before and the call was not made.
    fn by(&mut self, maker: &Maker) {
        self.provider = maker.provider();
        maker.model().clone_into(&mut self.model);
        maker.price_version().clone_into(&mut self.price_version);
    }
}

/// How a driver's part of a workflow ended.
pub(crate) enum Course {
    /// With the answer.
    Completed(Value),
    /// Without one.
    Failed(WorkflowError),
    /// Another driver goes on, in so long.
    Later(Duration),
    /// A person does.
    Review,
}

/// A call that is to be made: its attempt is reserved, or is in the statement that reserves it.
pub(crate) struct Flight {
    launch: Launch,
    pub(crate) attempt: AttemptIntent,
    /// What stands before it, where it was asked already.
    pub(crate) asked: Option<Asked>,
    /// Its workflow was ended while it waited for its turn.
    unwanted: bool,
}

impl Flight {
    /// Whether a kept text is looked for in the place of a call.
    pub(crate) fn is_kept(&self) -> bool {
        self.launch.kept
    }
}

/// A call that ended.
struct Landed {
    flight: Flight,
    end: CallEnd,
    /// Whose own budget refused it, where it is one provider's.
    budget_of: Option<Provider>,
    duration: Duration,
    /// Where its end is told.
    permit: Option<Permit>,
    /// Where its text is kept.
    key: Option<Key>,
    /// What was said of its text.
    judged: Option<Judged>,
}

/// The end of a call as it is to be kept: decided, not written yet.
struct Record {
    attempt: AttemptIntent,
    settlement: Settlement,
    failure: Option<Failure>,
    http_status: Option<u16>,
    duration: Duration,
    following: Vec<Flight>,
    /// What was said of its text, as the log keeps it.
    judgement: Option<Value>,
    /// What its circuit is told.
    told: Option<(Permit, Report)>,
    /// What is kept of it where; without a text, that there is none.
    keep: Option<(Key, Option<Cached>)>,
    /// What the text had cost that served in its place.
    saved: Option<Usd>,
    /// What that changed.
    changed: Option<Change>,
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
    /// How many of the machine's decisions are in the state.
    noted: usize,
    /// When it was accepted.
    begun_at: Timestamp,
    /// The text of each step.
    texts: Vec<Option<Text>>,
    booked: Vec<Booked>,
    /// What is booked and written, as the ledger will have it.
    pub(crate) entries: Vec<LedgerEntry>,
    /// Circuits that its calls opened or closed.
    pub(crate) changes: Vec<Change>,
    /// Who is being called.
    under_way: Vec<Provider>,
    /// For whom its texts are judged.
    profile: Arc<OnceCell<Profile>>,
    /// What was said of the text that is blocked.
    blocked: Option<Judged>,
    /// The budget that refused a call; of several, what needed the least.
    pub(crate) refusal: Option<Refusal>,
    /// The account that the text is sent by, where it is to be sent.
    pub(crate) sender: Option<AccountId>,
    /// The message that the workflow's end takes on.
    pub(crate) outgoing: Option<Outgoing>,
    /// When a hint has to be on the queue for that account.
    pub(crate) wake: Option<Duration>,
    /// The store failed: nothing new is called, what is under way is still settled.
    broken: Option<StoreError>,
    /// Whether nothing new is called any more: who waits for a call's turn need not.
    halted: watch::Sender<bool>,
}

impl<'a> Run<'a> {
    /// A workflow that begins.
    pub(crate) fn new(orchestrator: &'a Orchestrator, request: &'a Request, route: &'a Route) -> Self {
        Self::at(orchestrator, request, route, WorkflowId::generate(), [request.now; 2], None)
    }

    /// A workflow that goes on where its last driver stopped.
    pub(crate) fn resume(
        orchestrator: &'a Orchestrator,
        request: &'a Request,
        route: &'a Route,
        claimed: &Claimed,
    ) -> Self {
        let Claimed { id, begun_at, timed_from, sender, state, checkpoint, booked, calls, .. } = claimed;
        let mut texts: Vec<_> = route.steps.iter().map(|routed| checkpoint.texts.get(&routed.step.name)).collect();
        let leg = |routed: &RoutedStep| checkpoint.standings.get(&routed.step.name).and_then(|at| leg(routed, at));
        let past = Past {
            spent: booked.iter().map(|call| call.settlement.cost).sum(),
            calls: *calls,
            retries: checkpoint.retries,
            done: texts.iter().map(Option::is_some).collect(),
            legs: route.steps.iter().map(|routed| leg(routed).unwrap_or(FIRST_LEG)).collect(),
        };
        let texts = texts.drain(..).map(Option::<&Text>::cloned).collect();
        Self {
            // What the route passes over was noted by the first driver.
            noted: route.skipped.len(),
            texts,
            state: state.clone(),
            booked: booked.clone(),
            sender: sender.clone(),
            ..Self::at(orchestrator, request, route, id.clone(), [*begun_at, *timed_from], Some(&past))
        }
    }

    fn at(
        orchestrator: &'a Orchestrator,
        request: &'a Request,
        route: &'a Route,
        id: WorkflowId,
        [begun_at, timed_from]: [Timestamp; 2],
        past: Option<&Past>,
    ) -> Self {
        let age = Duration::try_from(request.now.duration_since(timed_from)).unwrap_or_default();
        let limits = Limits {
            horizon: request.deadline.saturating_duration_since(request.accepted_at),
            deadline: orchestrator.patience.saturating_sub(age),
            longest_wait: request.longest_wait,
            retries: orchestrator.retries,
            pause: request.later.then_some(orchestrator.pause),
            keeps: orchestrator.keeps(request),
        };
        Self {
            orchestrator,
            request,
            route,
            id,
            state: State::default(),
            machine: Machine::new(route, limits, past.unwrap_or(&Past::default())),
            noted: 0,
            begun_at,
            texts: vec![None; route.steps.len()],
            booked: Vec::new(),
            entries: Vec::new(),
            changes: Vec::new(),
            under_way: Vec::new(),
            profile: Arc::default(),
            blocked: None,
            refusal: None,
            sender: None,
            outgoing: None,
            wake: None,
            broken: None,
            halted: watch::Sender::new(false),
        }
    }

    /// Chooses the first call.
    ///
    /// # Errors
    /// [`Stop`] where there is none, now or later.
    pub(crate) fn begin(&mut self) -> Result<Flight, Stop> {
        let launches = self.machine.begin(self.elapsed())?;
        self.note_decisions(None);
        launches.into_iter().next().map(|launch| self.prepare(launch)).ok_or(Stop::NoTime)
    }

    /// Chooses what a workflow that is taken up goes on with. Where that is nothing, its end is in `state`.
    pub(crate) fn take_up(&mut self) -> Vec<Flight> {
        let launches = self.machine.begin(self.elapsed()).unwrap_or_default();
        self.note_decisions(None);
        if launches.is_empty() {
            self.note_stop();
            self.finish();
        }
        launches.into_iter().map(|launch| self.prepare(launch)).collect()
    }

    /// How often this driver asked another provider.
    pub(crate) fn fallbacks(&self) -> u64 {
        let fell_back = |decision: &&Decision| decision.action == Action::FallBack;
        self.machine.decisions().iter().filter(fell_back).count() as u64
    }

    /// What is kept of a workflow that is under way, as its row has it.
    pub(crate) fn snapshot(&self) -> State {
        use WorkflowStatus::{ManualReview, Queued, Running};
        let checkpoint = matches!(self.state.status, Running | Queued | ManualReview);
        State { checkpoint: checkpoint.then(|| self.checkpoint()), ..self.state.clone() }
    }

    fn checkpoint(&self) -> Checkpoint {
        let steps = || self.route.steps.iter().zip(&self.texts).zip(self.machine.legs());
        let standing = |routed: &RoutedStep, leg: &Leg| {
            let candidate = &routed.offers.get(leg.offer)?.candidate;
            let Leg { tries_left, retried, .. } = *leg;
            let (provider, deployment) = (candidate.provider, candidate.deployment.clone());
            Some((routed.step.name.clone(), Standing { provider, deployment, tries_left, retried }))
        };
        let begun = |leg: &Leg| *leg != FIRST_LEG;
        Checkpoint {
            texts: steps().filter_map(|((routed, text), _)| Some((routed.step.name.clone(), text.clone()?))).collect(),
            standings: steps()
                .filter(|((_, text), leg)| text.is_none() && begun(leg))
                .filter_map(|((routed, _), leg)| standing(routed, leg))
                .collect(),
            retries: self.machine.retries(),
            reuse: self.request.reuse,
        }
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
        let error = self.machine.stop().map_or(RunError::NoTime, |stop| self.refusal_of(stop));
        following.into_iter().next().map(|launch| self.prepare(launch)).ok_or(error)
    }

    /// A stop as the answer of a request of which nothing is kept.
    pub(crate) fn refusal_of(&self, stop: &Stop) -> RunError {
        match (stop, &self.refusal) {
            (Stop::Exhausted { .. }, Some(refusal)) => RunError::Budget(refusal.clone()),
            (stop, _) => stop.clone().into(),
        }
    }

    /// Why nothing new is called, once that is so.
    pub(crate) fn stop(&self) -> Option<&Stop> {
        self.machine.stop()
    }

    /// What it is for.
    pub(crate) fn request(&self) -> &'a Request {
        self.request
    }

    /// What the request would have stopped with, had no kept text been looked for.
    pub(crate) fn in_need(&self) -> Option<&Stop> {
        self.machine.in_need()
    }

    /// Whether a person decides where it stops so.
    pub(crate) fn is_reviewed(&self, stop: &Stop) -> bool {
        let reviewed = &self.orchestrator.reviewed;
        reviewed.contains(&self.request.parsed.intent.workflow_type)
            && stop.trigger().alternatives().last.contains(&Last::Review)
    }

    /// Of several refusals the one that needed the least is told: that is what would have been enough.
    fn note_refusal(&mut self, refusal: Refusal) {
        if self.refusal.as_ref().is_none_or(|told| refusal.needed < told.needed) {
            self.refusal = Some(refusal);
        }
    }

    /// Calls until there is an answer or no way on, here or at all. `refusals`: which of the first a budget refused. Records are
    /// written one after the other, in the order they were made.
    pub(crate) async fn drive(&mut self, first: Vec<Flight>, refusals: Refusals) -> Result<Course, RunError> {
        // Only now is it known that the workflow is this request's own.
        tracing::Span::current().record("workflow", self.id.as_str());
        self.machine.decisions()[..self.noted].iter().for_each(|decision| log_decision(&self.record(decision)));
        let (mut work, mut records, mut writing) = (FuturesUnordered::new(), VecDeque::new(), false);
        self.follow(first, refusals, &work, &mut records);
        loop {
            if !writing && let Some(mut record) = records.pop_front() {
                if self.broken.is_some() {
                    record.following.clear();
                    if self.request.later {
                        // It runs from the queue: whoever takes it up next goes on with all that is kept.
                        self.state.error = None;
                    } else if work.is_empty() && records.is_empty() {
                        self.give_up();
                    }
                } else if self.machine.is_over() && records.is_empty() {
                    // Everything has ended, and all but this is written: the workflow ends with it.
                    self.finish();
                }
                writing = true;
                work.push(self.write(record));
            }
            let Some(event) = work.next().await else { break };
            if let Event::Written(record, _) = &event {
                self.changes.extend(record.changed.clone());
            }
            match event {
                Event::Due(flight) => work.push(self.call(*flight)),
                Event::Landed(landed) => records.push_back(self.book(*landed)),
                Event::Written(record, Ok(Advanced { refusals, message_status, wake })) => {
                    writing = false;
                    self.kept(message_status, wake);
                    if !record.failure.is_some_and(Failure::is_uncalled) {
                        let entry = LedgerEntry::of(&record.attempt, record.settlement, record.duration);
                        self.entries.push(match record.saved {
                            Some(saved) => LedgerEntry { saved, cache_hit: true, ..entry },
                            None => entry,
                        });
                    }
                    self.follow(record.following, refusals, &work, &mut records);
                }
                Event::Written(_, Err(error)) => {
                    writing = false;
                    self.machine.close();
                    self.halted.send_replace(true);
                    self.broken.get_or_insert(error);
                }
            }
        }
        drop(work);
        match (self.broken.take(), self.state.error.take(), self.state.due_in_ms) {
            (Some(store), ..) => Err(store.into()),
            (None, Some(_), _) if self.state.status == WorkflowStatus::ManualReview => Ok(Course::Review),
            (None, Some(error), _) => Ok(Course::Failed(error)),
            (None, None, Some(due)) => Ok(Course::Later(Duration::from_millis(due.try_into().unwrap_or_default()))),
            (None, None, None) => Ok(Course::Completed(self.state.result.take().unwrap_or_default())),
        }
    }

    /// Has calls made that are reserved, and books those that a budget refused: these first, for they may be the end of all the
    /// others.
    fn follow(
        &mut self,
        flights: Vec<Flight>,
        mut refusals: Refusals,
        work: &FuturesUnordered<Pending<'a>>,
        records: &mut VecDeque<Record>,
    ) {
        let refused = |flight: &Flight| refusals.contains_key(flight.attempt.id.as_str());
        let (refused, reserved): (Vec<_>, Vec<_>) = flights.into_iter().partition(refused);
        for flight in refused {
            let refusal = refusals.remove(flight.attempt.id.as_str());
            let budget_of = refusal.as_ref().and_then(|refusal| refusal.provider);
            refusal.into_iter().for_each(|refusal| self.note_refusal(refusal));
            records.push_back(self.book(uncalled(flight, Failure::OverBudget, budget_of)));
        }
        reserved.into_iter().for_each(|flight| work.push(self.wait(flight)));
    }

    fn wait(&self, flight: Flight) -> Pending<'a> {
        let due = self.request.accepted_at + flight.launch.not_before;
        let (database, mut halted) = (&self.orchestrator.database, self.halted.subscribe());
        Box::pin(async move {
            let mut flight = flight;
            if due > Instant::now() {
                let waited = tokio::select! {
                    () = sleep_until(due) => true,
                    // It will not be made: nobody has to wait for that.
                    _ = halted.wait_for(|halted| *halted) => false,
                };
                // It may have been cancelled meanwhile. Where that cannot be asked, what follows cannot be kept either.
                if waited {
                    flight.unwanted = !store::is_wanted(database, &flight.attempt.workflow_id).await.unwrap_or(true);
                }
            }
            Event::Due(Box::new(flight))
        })
    }

    fn call(&self, flight: Flight) -> Pending<'a> {
        let gate = self.gate(&flight);
        let cap = self.machine.cap(&flight.launch, self.elapsed()).filter(|_| !flight.unwanted);
        let Some(cap) = cap else {
            return Box::pin(async move { Event::Landed(Box::new(not_sent(flight, &gate).await)) });
        };
        if flight.launch.kept {
            return self.look(flight, gate.key);
        }
        let (chat, offer, judging) = (self.chat(&flight), self.offer(&flight), self.judging(&flight));
        let deadline = self.request.deadline;
        let (providers, now) = (&self.orchestrator.providers, self.now());
        let traceparent = self.request.trace.traceparent(SpanId::new(random()));
        // Whoever waits for another's text has time left to make it.
        let latest = (self.request.deadline).checked_sub(cap).unwrap_or(self.request.accepted_at);
        let patience = latest.checked_sub(ONE_QUESTION).unwrap_or(latest);
        Box::pin(async move {
            let mut flight = flight;
            let permit = match gate.pass(flight.asked.take(), patience).await {
                Passed::Called(permit) => permit,
                Passed::Served(cached) => {
                    let mut end = CallEnd::served(cached);
                    let judged = judging.judge(&mut end, deadline).await;
                    return Event::Landed(Box::new(Landed { end, judged, ..uncalled(flight, Failure::NotSent, None) }));
                }
                Passed::Denied(denied) => {
                    let mut landed = uncalled(flight, circuit::failure(denied), None);
                    landed.end.retry_after = Some(denied.retry_after());
                    return Event::Landed(Box::new(landed));
                }
            };
            let started = Instant::now();
            if started > latest {
                let landed = Landed { permit, key: Some(gate.key), ..uncalled(flight, Failure::NotSent, None) };
                return Event::Landed(Box::new(landed));
            }
            let id = CallId { attempt: &flight.attempt.id, traceparent: &traceparent };
            let calling = providers.complete(&offer.candidate, &chat, offer.bound.output_tokens, cap, id, now);
            let calling = async { (calling.await, started.elapsed()) };
            // For whom the text is judged is read while it is written.
            let ((mut end, duration), _) = tokio::join!(calling, judging.profile());
            let judged = judging.judge(&mut end, deadline).await;
            let key = Some(gate.key);
            Event::Landed(Box::new(Landed { flight, end, budget_of: None, duration, permit, key, judged }))
        })
    }

    /// The last of the chain: the text of the same request that was made before.
    fn look(&self, flight: Flight, key: Key) -> Pending<'a> {
        let cache = self.orchestrator.cache_of(self.request);
        let (judging, deadline) = (self.judging(&flight), self.request.deadline);
        Box::pin(async move {
            let cached = match cache {
                Some(cache) => cache.look(&key).await,
                None => None,
            };
            let mut landed = uncalled(flight, Failure::NotKept, None);
            landed.end = cached.map_or(landed.end, CallEnd::served);
            landed.judged = judging.judge(&mut landed.end, deadline).await;
            Event::Landed(Box::new(landed))
        })
    }

    /// What stands before a call.
    pub(crate) fn gate(&self, flight: &Flight) -> Gate<'a> {
        let (orchestrator, intent) = (self.orchestrator, &self.request.parsed.intent);
        let (offer, step) = (self.offer(flight), &self.route.steps[flight.launch.step].step);
        Gate {
            breaker: orchestrator.breaker.as_ref(),
            cache: orchestrator.cache_of(self.request).filter(|_| self.request.reuse == Reuse::Fresh),
            key: Key::of(&self.request.owner, intent, step, &self.chat(flight)),
            token: flight.attempt.id.to_string(),
            candidate: &offer.candidate,
            time: offer.time,
        }
    }

    fn judging(&self, flight: &Flight) -> Judging<'a> {
        Judging {
            judge: &self.orchestrator.judge,
            owner: &self.request.owner,
            intent: &self.request.parsed.intent,
            step: &self.route.steps[flight.launch.step].step,
            sender: self.sender.clone(),
            profile: Arc::clone(&self.profile),
        }
    }

    fn offer(&self, flight: &Flight) -> &'a Offer {
        &self.route.steps[flight.launch.step].offers[flight.launch.offer]
    }

    /// What the model is told.
    fn chat(&self, flight: &Flight) -> Chat {
        let step = &self.route.steps[flight.launch.step].step;
        let plan = self.texts.first().and_then(Option::as_ref).filter(|_| step.follows_plan);
        let plan = plan.map(|text| text.content.as_str());
        prompt::chat(step.prompt, &self.request.parsed.intent, &step.platforms, plan)
    }

    /// Books a call's end and has the machine decide what follows.
    fn book(&mut self, landed: Landed) -> Record {
        let judgement = self.judgement(&landed);
        let Landed { flight: Flight { launch, attempt, .. }, end, budget_of, duration, permit, key, judged } = landed;
        let told = permit.map(|permit| (permit, circuit::report(&end)));
        let failure = end.result.as_ref().err().copied();
        let settlement = attempt.settle(end.outcome(), end.billing);
        log_end(&attempt, &end, settlement, duration);
        if !launch.kept {
            let called = |called: &Provider| *called == attempt.provider;
            self.under_way.iter().position(called).map(|at| self.under_way.swap_remove(at));
            self.state.ended(attempt.provider, failure, &self.under_way);
        }
        let keep = key.map(|key| (key, Cached::of(&end, &attempt, settlement, self.now())));
        let made = end.cached.map(|cached| cached.maker().clone());
        let mut booked = Booked::of(&attempt, settlement);
        made.iter().for_each(|maker| booked.by(maker));
        self.booked.push(booked);
        // What is blocked nobody got.
        let saved = made.as_ref().filter(|_| end.result.is_ok()).map(Maker::cost);
        match end.result {
            Ok(content) => self.texts[launch.step] = Some(Text { content, truncated: end.truncated, made, judged }),
            Err(_) => self.blocked = self.blocked.take().or(judged),
        }
        let report = End { failure, retry_after: end.retry_after, cost: settlement.cost, budget_of };
        let following = self.machine.ended(&launch, &report, self.elapsed(), random());
        self.note_decisions(Some(attempt.provider)).iter().for_each(log_decision);
        self.note_stop();
        self.halted.send_replace(self.state.error.is_some());
        let following = following.into_iter().map(|launch| self.prepare(launch)).collect();
        let (http_status, changed) = (end.http_status, None);
        Record { attempt, settlement, failure, http_status, duration, following, judgement, told, keep, saved, changed }
    }

    /// What was said of a call's text, as the log keeps it.
    fn judgement(&self, landed: &Landed) -> Option<Value> {
        let judging = self.judging(&landed.flight);
        let request = &self.request;
        let about = judging.about(judging.origin(false), &request.requested_by, &self.id, &request.request_id);
        landed.judged.as_ref().map(|judged| judged.row(&about))
    }

    fn write(&self, record: Record) -> Pending<'a> {
        let (orchestrator, state, outgoing) = (self.orchestrator, self.snapshot(), self.outgoing.clone());
        let cache = orchestrator.cache_of(self.request);
        Box::pin(async move {
            let mut record = record;
            let Record {
                attempt,
                settlement,
                failure,
                http_status,
                duration,
                following,
                judgement,
                told,
                keep,
                saved,
                ..
            } = &record;
            let attempts: Vec<_> = following.iter().map(|flight| &flight.attempt).collect();
            let (settlement, http_status, duration) = (*settlement, *http_status, *duration);
            let failure = failure.map(Failure::as_str);
            let judgement = judgement.as_ref();
            let end = AttemptEnd { attempt, settlement, failure, http_status, duration, saved: *saved, judgement };
            let (database, lease) = (&orchestrator.database, orchestrator.lease);
            let writing = store::advance(database, &end, &state, &attempts, lease, outgoing.as_ref());
            let telling = async {
                let (breaker, (permit, report)) = orchestrator.breaker.as_ref().zip(told.as_ref())?;
                circuit::tell(breaker, permit, *report).await
            };
            let keeping = async {
                match (cache, keep) {
                    (Some(cache), Some((key, Some(cached)))) => {
                        cache.put_and_release(key, attempt.id.as_str(), cached).await;
                    }
                    (Some(cache), Some((key, None))) => cache.release(key, attempt.id.as_str()).await,
                    _ => {}
                }
            };
            let (written, changed, ()) = tokio::join!(writing, telling, keeping);
            record.changed = changed;
            Event::Written(Box::new(record), written)
        })
    }

    /// Makes the intent of a call.
    fn prepare(&mut self, launch: Launch) -> Flight {
        let routed = &self.route.steps[launch.step];
        let Offer { candidate, price, bound, .. } = routed.offers[launch.offer].clone();
        // A text that is kept costs nothing.
        let bound = if launch.kept { TokenUsage::default() } else { bound };
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
        // Whoever is stood in for is not asked.
        if !launch.kept {
            self.under_way.push(attempt.provider);
            self.state.calling(attempt.provider);
        }
        Flight { launch, attempt, asked: None, unwanted: false }
    }

    /// Keeps what the machine has decided since the last time, and gives it. `ended`: whose call's end it decided about.
    fn note_decisions(&mut self, ended: Option<Provider>) -> Vec<DecisionRecord> {
        let new: Vec<_> = self.machine.decisions()[self.noted..].iter().map(|decision| self.record(decision)).collect();
        self.noted += new.len();
        for record in &new {
            // One that is handed over may be of the provider that failed.
            let changes = record.action == Action::FallBack.as_str() || record.action == Action::HandOver.as_str();
            if let (true, Some(from), Some(to)) = (changes && ended != record.provider, ended, record.provider) {
                let (reason, timestamp) = (record.reason.to_owned(), record.at);
                self.state.fallback_history.push(Fallback { from, to, reason, timestamp });
            }
            self.state.decisions.push(store::json_or_null(record));
        }
        new
    }

    fn note_stop(&mut self) {
        if self.state.error.is_none() {
            self.state.error =
                self.machine.stop().map(|stop| explained(stop, self.refusal.as_ref(), self.blocked.as_ref()));
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
            let review = self.machine.stop().is_some_and(|stop| self.is_reviewed(stop));
            self.state.status = if review { WorkflowStatus::ManualReview } else { WorkflowStatus::Failed };
        } else if let Some(due) = self.machine.later() {
            self.state.status = WorkflowStatus::Queued;
            self.state.due_in_ms = Some(store::millis(due.saturating_sub(self.elapsed())));
        } else {
            self.complete();
        }
    }

    fn complete(&mut self) {
        self.state.status = WorkflowStatus::Completed;
        let request = self.request;
        let steps = self.route.steps.iter().map(|routed| &routed.step);
        let written = Written {
            id: &self.id,
            intent: &request.parsed.intent,
            texts: steps.zip(&self.texts).filter_map(|(step, text)| Some((step, text.as_ref()?))).collect(),
            booked: &self.booked,
            begun_at: self.begun_at,
            now: self.now(),
        };
        let mut result = written.result();
        if let Some(account) = &self.sender {
            let asked = result::Asked {
                owner: &request.owner,
                requested_by: &request.requested_by,
                body_hash: request.parsed.body_hash,
                request_id: &request.request_id,
                trace_id: request.trace.id(),
                approved: false,
            };
            let (said, outgoing) = written.message(&asked, account, &self.orchestrator.sending);
            result["data"]["onlyFans"] = said;
            if outgoing.is_none() {
                self.state.provider_states.only_fans = ProviderState::Failed;
            }
            self.outgoing = outgoing;
        }
        self.state.result = Some(result);
    }

    /// What the statement that ended the workflow made of its message.
    pub(crate) fn kept(&mut self, status: Option<String>, wake: Option<Duration>) {
        self.wake = self.wake.or(wake);
        if let (Some(status), Some(result)) = (status, &mut self.state.result) {
            result["data"]["onlyFans"]["status"] = status.into();
        }
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

/// A step's leg in a route that may be another than the one that it was noted in.
fn leg(routed: &RoutedStep, at: &Standing) -> Option<Leg> {
    let is_it = |offer: &Offer| offer.candidate.provider == at.provider && offer.candidate.deployment == at.deployment;
    let offer = routed.offers.iter().position(is_it)?;
    Some(Leg { offer, tries_left: at.tries_left, retried: at.retried })
}

/// The end of a call that is not made. `budget_of`: whose own budget refused it, where it is one provider's.
fn uncalled(flight: Flight, failure: Failure, budget_of: Option<Provider>) -> Landed {
    let end = CallEnd::failed(failure, Billing::Nothing);
    Landed { flight, end, budget_of, duration: Duration::ZERO, permit: None, key: None, judged: None }
}

/// The end of a call for which there is no time any more.
async fn not_sent(mut flight: Flight, gate: &Gate<'_>) -> Landed {
    if let Some(asked) = flight.asked.take() {
        gate.give_back(asked).await;
    }
    uncalled(flight, Failure::NotSent, None)
}

/// What a stop says to the caller. `refusal`: the budget that refused a call, where one did.
/// `blocked`: what was said of the text that is, where one is.
fn explained(stop: &Stop, refusal: Option<&Refusal>, blocked: Option<&Judged>) -> WorkflowError {
    let says = |detail: String| WorkflowError::new(stop.trigger().alternatives().code, detail);
    match stop {
        Stop::Refused(Failure::Blocked) if let Some(judged) = blocked => {
            WorkflowError { findings: judged.reasons(), ..says(judged.refusal()) }
        }
        Stop::Refused(Failure::Declined) => says("the provider's model declined the request".to_owned()),
        Stop::Refused(_) => says("the provider's content filter refused the request".to_owned()),
        Stop::Rejected(provider) => {
            says(format!("{} refused the request as it stands; it may be too long", provider.as_str()))
        }
        Stop::CostLimit(error) => WorkflowError { limit: RouteError::limit(error), ..says(error.to_string()) },
        Stop::Exhausted { last: Failure::OverBudget, .. } if let Some(refusal) = refusal => {
            WorkflowError { limit: Some(refusal.limit()), ..says(refusal.to_string()) }
        }
        Stop::NoTime => says("no time is left for another call".to_owned()),
        Stop::Exhausted { last, retry_after } => WorkflowError {
            retry_after: retry_after.map(|wait| wait.as_millis().div_ceil(1_000)).and_then(|wait| wait.try_into().ok()),
            ..says(format!("no provider is left; the last ended with {}", last.as_str()))
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
