//! What follows what: the calls, retries and fallbacks of one request as a state machine. Pure.
//!
//! It is told what ended and when (as the time since the request was taken up), and says what is called next, when, and why.
//! Whoever drives it reserves a [`Launch`] before it is made, asks for its [cap](Machine::cap) when it is due, and reports its
//! [`End`]. What does not fit into the driver's own time is [for later](Machine::later), for another driver: no call is cut because
//! somebody stops waiting (ADR 0006). What may follow which end is the [matrix](crate::matrix)'s; ADR 0008 has the rules.

use std::ops::Range;
use std::time::Duration;

use huntaze_domain::money::Usd;
use huntaze_domain::provider::Provider;

use crate::answer::Failure;
use crate::matrix::{Again, Last, Other, Trigger};
use crate::route::{Candidate, Offer, Route, RouteError, RoutedStep, Skipped};

/// What the contract waits before the first, second and third retry of a request.
pub const BACKOFF: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)];
/// What is kept between a call's choice and its turn: its reservation is written then.
const SLACK: Duration = Duration::from_millis(500);
/// A provider that fails while another is left gets this many further tries: a blip passes, an outage does not.
const RETRIES_BEFORE_FALLBACK: u16 = 1;
/// Why a call is made that an earlier driver chose.
const HANDED_OVER: &str = "handed_over";

/// What holds for the whole request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Every call of this driver has ended by then.
    pub horizon: Duration,
    /// Every call of whichever driver has ended by then.
    pub deadline: Duration,
    /// A longer wait is not sat out by this driver.
    pub longest_wait: Duration,
    /// How many calls may be made again, over all steps and providers.
    pub retries: u16,
    /// Where nobody waits for the answer: after such a pause everybody is asked again.
    pub pause: Option<Duration>,
    /// Whether texts are kept that were made before.
    pub keeps: bool,
}

/// What earlier drivers of the same request did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Past {
    /// What their calls cost.
    pub spent: Usd,
    /// How many they made or reserved.
    pub calls: u16,
    /// How many of them were made again.
    pub retries: u16,
    /// Which steps have their text.
    pub done: Vec<bool>,
    /// Where the other steps stand; those behind the list's end are not begun.
    pub legs: Vec<Leg>,
}

/// A call that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Its place among the request's calls, from 1.
    pub number: u16,
    /// The step of the route.
    pub step: usize,
    /// The offer of the step.
    pub offer: usize,
    /// It is not made earlier.
    pub not_before: Duration,
    /// No provider is called: a text that was made before is looked for in the offer's place.
    pub kept: bool,
}

/// How a call ended, as far as it matters for what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Why there is no text; `None` where there is one.
    pub failure: Option<Failure>,
    /// When the provider wants to be asked again.
    pub retry_after: Option<Duration>,
    /// What it was settled at.
    pub cost: Usd,
    /// Whose own budget refused it, where a budget did and it is one provider's.
    pub budget_of: Option<Provider>,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A candidate was passed over.
    Skip,
    /// A step's first call.
    Call,
    /// The same provider is asked again.
    Retry,
    /// Another provider is asked.
    FallBack,
    /// No provider is left: a text is looked for that was made before.
    UseKept,
    /// Somebody else calls, later.
    HandOver,
    /// Nothing new is called.
    Stop,
}

impl Action {
    /// The name in the log, in the workflow's row and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Call => "call",
            Self::Retry => "retry",
            Self::FallBack => "fall_back",
            Self::UseKept => "use_kept",
            Self::HandOver => "hand_over",
            Self::Stop => "stop",
        }
    }
}

/// One decision, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// When.
    pub at: Duration,
    /// For which step.
    pub step: String,
    /// What.
    pub action: Action,
    /// Why: the choice's reason, or the failure that it follows.
    pub reason: &'static str,
    /// Why it is no retry, where a retry was thinkable.
    pub no_retry: Option<&'static str>,
    /// Who is called or passed over.
    pub candidate: Option<(Provider, String)>,
    /// The call that it leads to.
    pub number: Option<u16>,
    /// How long that call waits.
    pub wait: Duration,
}

impl Decision {
    fn new(at: Duration, step: &str, action: Action, reason: &'static str) -> Self {
        let (step, wait) = (step.to_owned(), Duration::ZERO);
        Self { at, step, action, reason, no_retry: None, candidate: None, number: None, wait }
    }

    fn about(self, candidate: &Candidate) -> Self {
        Self { candidate: Some((candidate.provider, candidate.model.clone())), ..self }
    }
}

/// Why nothing new is called, although the request has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// A provider or its model refused: that is an answer.
    Refused(Failure),
    /// A provider rejects the request as it stands.
    Rejected(Provider),
    /// Every way on passes `maxCost`.
    CostLimit(RouteError),
    /// Too little time is left for a call.
    NoTime,
    /// Every provider was asked.
    Exhausted {
        /// What the last one ended with.
        last: Failure,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
}

impl Stop {
    /// What stood in the way in the end.
    #[must_use]
    pub fn trigger(&self) -> Trigger {
        match self {
            Self::Refused(failure) | Self::Exhausted { last: failure, .. } => Trigger::Failed(*failure),
            Self::Rejected(_) => Trigger::Failed(Failure::Rejected),
            Self::CostLimit(_) => Trigger::MaxCost,
            Self::NoTime => Trigger::Deadline,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Refused(failure) => failure.as_str(),
            Self::Rejected(_) => Failure::Rejected.as_str(),
            Self::CostLimit(_) => "over_max_cost",
            Self::NoTime => "no_time",
            Self::Exhausted { last, .. } => last.as_str(),
        }
    }
}

/// Which offer of a step is its turn, and how often it may be asked and was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leg {
    /// The offer; one before it is not asked again.
    pub offer: usize,
    /// How often it may be asked.
    pub tries_left: u16,
    /// How often it was asked again.
    pub retried: u16,
}

/// A step that is not begun.
pub const FIRST_LEG: Leg = Leg { offer: 0, tries_left: u16::MAX, retried: 0 };

/// A call that is reserved and has not ended.
#[derive(Debug, Clone, Copy)]
struct Held {
    number: u16,
    step: usize,
    bound: Usd,
}

/// Why nothing new would be called, and why the last call is not made again.
type Reason = (Stop, Option<&'static str>);

/// One request under way.
#[derive(Debug)]
pub struct Machine<'a> {
    route: &'a Route,
    limits: Limits,
    retries_left: u16,
    legs: Vec<Leg>,
    done: Vec<bool>,
    held: Vec<Held>,
    /// What each step would have stopped with, had no kept text been looked for.
    in_need: Vec<Option<Reason>>,
    spent: Usd,
    calls: u16,
    stop: Option<Stop>,
    /// When the first of the calls is due that another driver makes.
    later: Option<Duration>,
    /// Nothing new is called, for a reason that is not the machine's.
    closed: bool,
    decisions: Vec<Decision>,
}

impl<'a> Machine<'a> {
    /// A machine for a route, which goes on where others stopped. What the route passed over is its first decisions.
    #[must_use]
    pub fn new(route: &'a Route, limits: Limits, past: &Past) -> Self {
        let decisions = route.skipped.iter().map(|skipped| {
            let Skipped { step, candidate, reason } = skipped;
            Decision::new(Duration::ZERO, step, Action::Skip, reason).about(candidate)
        });
        Self {
            route,
            limits,
            retries_left: limits.retries.saturating_sub(past.retries),
            legs: (0..route.steps.len()).map(|step| past.legs.get(step).copied().unwrap_or(FIRST_LEG)).collect(),
            done: (0..route.steps.len()).map(|step| past.done.get(step) == Some(&true)).collect(),
            held: Vec::new(),
            in_need: vec![None; route.steps.len()],
            spent: past.spent,
            calls: past.calls,
            stop: None,
            later: None,
            closed: false,
            decisions: decisions.collect(),
        }
    }

    /// Chooses the first calls: the plan, or where there is one, all that are missing behind it.
    ///
    /// # Errors
    /// [`Stop`] where money or time allow none.
    pub fn begin(&mut self, at: Duration) -> Result<Vec<Launch>, Stop> {
        let missing = if self.done.first() == Some(&true) { 1..self.route.steps.len() } else { 0..1 };
        self.call_all(missing, at).map_err(|()| self.stop.clone().unwrap_or(Stop::NoTime))
    }

    /// How long a call that is due may take. `None`: it is not made, and [ends](Self::ended) with [`Failure::NotSent`].
    #[must_use]
    pub fn cap(&self, launch: &Launch, at: Duration) -> Option<Duration> {
        let time = if launch.kept { Duration::ZERO } else { self.offer(launch.step, launch.offer).time };
        let in_time = launch.kept || at.saturating_add(time) <= self.limits.horizon;
        (self.is_open() && in_time).then_some(time)
    }

    /// Takes note of a call's end and says what follows. `random` spreads the waits.
    pub fn ended(&mut self, launch: &Launch, end: &End, at: Duration, random: u64) -> Vec<Launch> {
        self.held.retain(|held| held.number != launch.number);
        self.spent = self.spent + end.cost;
        if !self.is_open() {
            return Vec::new();
        }
        let following = match end.failure {
            None => {
                self.done[launch.step] = true;
                // The first step is the plan: every step behind it, at once. Where one of those is served by a kept text, the
                // others were waiting for that.
                let goes_on = launch.step == 0 || launch.kept && self.later.is_none();
                if goes_on { self.call_all(1..self.route.steps.len(), at) } else { Ok(Vec::new()) }
            }
            Some(Failure::NotKept) => match self.in_need[launch.step].clone() {
                Some((stop, no_retry)) => self.give_up(launch.step, launch.offer, stop, no_retry, at),
                None => self.halt(launch.step, Stop::NoTime, None, at),
            },
            // Its reservation took so long to be written that it does not fit any more.
            Some(Failure::NotSent) => self.put_off(launch, at),
            Some(failure) => self.failed(launch, failure, end, at, random),
        };
        following.unwrap_or_default()
    }

    /// What the request would have stopped with, where a kept text is looked for in its first call's place.
    #[must_use]
    pub fn in_need(&self) -> Option<&Stop> {
        self.in_need.first().and_then(Option::as_ref).map(|(stop, _)| stop)
    }

    /// From now on nothing new is called.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether no call is reserved that has not ended: nothing will follow any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.held.is_empty()
    }

    /// When the first of the calls is due that are left to another driver. `None` where there are none.
    #[must_use]
    pub fn later(&self) -> Option<Duration> {
        self.later.filter(|_| self.stop.is_none())
    }

    /// Where another driver would go on.
    #[must_use]
    pub fn legs(&self) -> &[Leg] {
        &self.legs
    }

    /// How many calls were made again.
    #[must_use]
    pub fn retries(&self) -> u16 {
        self.limits.retries - self.retries_left
    }

    /// Why the request has no answer, once it is known.
    #[must_use]
    pub fn stop(&self) -> Option<&Stop> {
        self.stop.as_ref()
    }

    /// What the calls that ended cost.
    #[must_use]
    pub fn spent(&self) -> Usd {
        self.spent
    }

    /// Every decision until now, in order.
    #[must_use]
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    fn is_open(&self) -> bool {
        self.stop.is_none() && !self.closed
    }

    fn failed(
        &mut self,
        launch: &Launch,
        failure: Failure,
        end: &End,
        at: Duration,
        random: u64,
    ) -> Result<Vec<Launch>, ()> {
        let Launch { step, offer, .. } = *launch;
        let retry_after = end.retry_after;
        let other = self.other(launch, failure, end.budget_of, at);
        let no_retry = match self.retry(launch, failure, retry_after, other.is_ok(), at, random) {
            Ok(retry) => return Ok(retry),
            Err(no_retry) => no_retry,
        };
        let stop = match other {
            Ok((other, skipped)) if failure.falls_back() => {
                return Ok(self.fall_back(step, other, skipped, failure, no_retry, at));
            }
            Err(Stop::Exhausted { .. }) if failure.falls_back() => Stop::Exhausted { last: failure, retry_after },
            Err(stop) if failure.falls_back() => stop,
            _ => match failure {
                Failure::Filtered | Failure::Declined | Failure::Blocked => Stop::Refused(failure),
                Failure::Rejected => Stop::Rejected(self.offer(step, offer).candidate.provider),
                _ => Stop::NoTime,
            },
        };
        self.give_up(step, offer, stop, no_retry, at)
    }

    /// No provider is left for a step: a text that is kept, then all of them again later, then the end.
    fn give_up(
        &mut self,
        step: usize,
        offer: usize,
        stop: Stop,
        no_retry: Option<&'static str>,
        at: Duration,
    ) -> Result<Vec<Launch>, ()> {
        let last = stop.trigger().alternatives().last;
        if self.limits.keeps && last.contains(&Last::Kept) && self.in_need[step].is_none() {
            let look = self.decision(at, step, Action::UseKept, stop.reason());
            self.in_need[step] = Some((stop, no_retry));
            return Ok(self.hold(step, offer, at, Usd::ZERO, true, Decision { no_retry, ..look }));
        }
        if let (Stop::Exhausted { retry_after, .. }, Some(pause), true) =
            (&stop, self.limits.pause, last.contains(&Last::Later))
        {
            let wait = pause.max(retry_after.unwrap_or_default());
            let due = at.saturating_add(wait);
            if self.fits(step, 0, due, self.limits.deadline) {
                let hand_over = self.decision(at, step, Action::HandOver, stop.reason());
                self.legs[step] = FIRST_LEG;
                self.hand_over(step, 0, due, Decision { no_retry, wait, ..hand_over });
                return Ok(Vec::new());
            }
        }
        self.halt(step, stop, no_retry, at)
    }

    /// What may be called in a call's place. Of one that a budget refused that is a cheaper one, or where the budget is the
    /// provider's own, the other provider's.
    fn other(
        &mut self,
        launch: &Launch,
        failure: Failure,
        budget_of: Option<Provider>,
        at: Duration,
    ) -> Result<(usize, Range<usize>), Stop> {
        let Launch { step, offer, .. } = *launch;
        let refused = self.offer(step, offer);
        let mut after = offer;
        loop {
            let (next, skipped) = self.choose(step, after + 1, self.committed(), self.rest(step), at)?;
            let found = self.offer(step, next);
            let eases = found.bound_cost() < refused.bound_cost()
                || budget_of.is_some_and(|provider| provider != found.candidate.provider);
            if failure != Failure::OverBudget || eases {
                return Ok((next, skipped));
            }
            self.note_skipped(step, skipped, "over_max_cost", at);
            self.note_skipped(step, next..next + 1, failure.as_str(), at);
            after = next;
        }
    }

    /// The same call once more, or why not.
    fn retry(
        &mut self,
        launch: &Launch,
        failure: Failure,
        retry_after: Option<Duration>,
        other_is_left: bool,
        at: Duration,
        random: u64,
    ) -> Result<Vec<Launch>, Option<&'static str>> {
        let Launch { step, offer, .. } = *launch;
        let leg = self.legs[step];
        let bound = self.offer(step, offer).bound_cost();
        let used = usize::from(self.retries());
        let pause = jittered(BACKOFF[used.min(BACKOFF.len() - 1)], random);
        let wait = pause.max(retry_after.unwrap_or_default());
        let due = at.saturating_add(wait);
        let again = failure.alternatives().again;
        let at_once = again == Again::Alone || leg.retried >= RETRIES_BEFORE_FALLBACK || wait > pause;
        let why_not = if again == Again::Never {
            // A retry was not thinkable.
            return Err(None);
        } else if self.retries_left == 0 {
            "retry_budget_spent"
        } else if leg.tries_left <= 1 {
            "tries_spent"
        } else if other_is_left && at_once {
            "another_provider_is_left"
        } else if !self.fits(step, offer, due, self.limits.deadline) {
            "no_time"
        } else if self.route.is_over_max_cost(self.committed() + bound + self.rest(step)) {
            "over_max_cost"
        } else {
            self.retries_left -= 1;
            self.legs[step] = Leg { offer, tries_left: leg.tries_left - 1, retried: leg.retried + 1 };
            let retry = self.decision(at, step, Action::Retry, failure.as_str());
            return Ok(self.launch(step, offer, due, Decision { wait, ..retry }));
        };
        Err(Some(why_not))
    }

    fn fall_back(
        &mut self,
        step: usize,
        offer: usize,
        skipped: Range<usize>,
        failure: Failure,
        no_retry: Option<&'static str>,
        at: Duration,
    ) -> Vec<Launch> {
        let tries_left = match failure.alternatives().other {
            Other::Next { tries } => tries,
            Other::Cheaper | Other::Nobody => u16::MAX,
        };
        self.legs[step] = Leg { offer, tries_left, retried: 0 };
        self.note_skipped(step, skipped, "over_max_cost", at);
        let fallback = self.decision(at, step, Action::FallBack, failure.as_str());
        self.launch(step, offer, at, Decision { no_retry, ..fallback })
    }

    /// A call that was reserved and is not made here any more.
    fn put_off(&mut self, launch: &Launch, at: Duration) -> Result<Vec<Launch>, ()> {
        let Launch { step, offer, .. } = *launch;
        if !self.fits(step, offer, at, self.limits.deadline) {
            return self.give_up(step, offer, Stop::NoTime, None, at);
        }
        self.hand_over(step, offer, at, self.decision(at, step, Action::HandOver, "no_time"));
        Ok(Vec::new())
    }

    /// The missing ones of some steps. All are chosen before one is launched: what cannot be ended is not begun.
    fn call_all(&mut self, steps: Range<usize>, at: Duration) -> Result<Vec<Launch>, ()> {
        let under_way = |step: usize| self.held.iter().any(|held| held.step == step);
        let missing: Vec<_> = steps.filter(|step| !self.done[*step] && !under_way(*step)).collect();
        let mut committed = self.committed();
        let mut chosen = Vec::with_capacity(missing.len());
        for step in missing {
            // What is chosen here is committed, and what is not chosen yet is kept for it.
            let rest = self.missing_after(step);
            match self.choose(step, self.legs[step].offer, committed, rest, at) {
                Ok((offer, skipped)) => {
                    committed = committed + self.offer(step, offer).bound_cost();
                    chosen.push((step, offer, skipped));
                }
                // What cannot be ended is not begun: the others wait for what becomes of this one.
                Err(stop) => return self.give_up(step, self.legs[step].offer, stop, None, at),
            }
        }
        let mut launches = Vec::with_capacity(chosen.len());
        for (step, offer, skipped) in chosen {
            let first = self.legs[step] == FIRST_LEG;
            self.legs[step].offer = offer;
            self.note_skipped(step, skipped, "over_max_cost", at);
            // What another driver left to this one is what it would have done.
            let (action, reason) = match self.legs[step] {
                Leg { retried: 1.., .. } => (Action::Retry, HANDED_OVER),
                Leg { offer: 1.., .. } if !first => (Action::FallBack, HANDED_OVER),
                _ => (Action::Call, self.offer(step, offer).reason),
            };
            let call = self.decision(at, step, action, reason);
            launches.extend(self.launch(step, offer, at, call));
        }
        Ok(launches)
    }

    fn halt<T>(&mut self, step: usize, stop: Stop, no_retry: Option<&'static str>, at: Duration) -> Result<T, ()> {
        let decision = self.decision(at, step, Action::Stop, stop.reason());
        self.decisions.push(Decision { no_retry, ..decision });
        self.stop = Some(stop);
        Err(())
    }

    /// The step's next offer from `from` on that money and time allow, and those that it is preferred to because they cost too much.
    fn choose(
        &self,
        step: usize,
        from: usize,
        committed: Usd,
        rest: Usd,
        at: Duration,
    ) -> Result<(usize, Range<usize>), Stop> {
        let offer = self.route.next_offer(step, from, committed, rest).map_err(|error| match error {
            RouteError::CostLimit { .. } => Stop::CostLimit(error),
            _ => Stop::Exhausted { last: Failure::NotConfigured, retry_after: None },
        })?;
        if self.fits(step, offer, at, self.limits.deadline) { Ok((offer, from..offer)) } else { Err(Stop::NoTime) }
    }

    /// Whether a call that is due then has ended by `end`.
    fn fits(&self, step: usize, offer: usize, due: Duration, end: Duration) -> bool {
        due.saturating_add(self.offer(step, offer).time).saturating_add(SLACK) <= end
    }

    /// The call as `decision` has it where it fits into this driver's time, or no call where it is another's.
    fn launch(&mut self, step: usize, offer: usize, not_before: Duration, decision: Decision) -> Vec<Launch> {
        let waits = not_before.saturating_sub(decision.at) > self.limits.longest_wait;
        // Once one is left to another driver all are: what that one has to do is not held up by this one.
        if self.later.is_some() || waits || !self.fits(step, offer, not_before, self.limits.horizon) {
            self.hand_over(step, offer, not_before, Decision { action: Action::HandOver, ..decision });
            return Vec::new();
        }
        self.hold(step, offer, not_before, self.offer(step, offer).bound_cost(), false, decision)
    }

    fn hold(
        &mut self,
        step: usize,
        offer: usize,
        not_before: Duration,
        bound: Usd,
        kept: bool,
        decision: Decision,
    ) -> Vec<Launch> {
        self.calls += 1;
        let number = self.calls;
        self.held.push(Held { number, step, bound });
        self.note_call(Some(number), step, offer, decision);
        vec![Launch { number, step, offer, not_before, kept }]
    }

    fn hand_over(&mut self, step: usize, offer: usize, due: Duration, decision: Decision) {
        self.later = Some(self.later.map_or(due, |later| later.min(due)));
        self.note_call(None, step, offer, decision);
    }

    /// What is spent, and what may still be spent by the calls under way.
    fn committed(&self) -> Usd {
        self.spent + self.held.iter().map(|held| held.bound).sum()
    }

    /// What is kept for the steps that are not begun yet: behind any step but the first there is none.
    fn rest(&self, step: usize) -> Usd {
        if step == 0 { self.route.rest(1) } else { Usd::ZERO }
    }

    /// What the missing steps behind a step cost at the most, by their cheapest offers.
    fn missing_after(&self, step: usize) -> Usd {
        (step + 1..self.route.steps.len()).filter(|step| !self.done[*step]).map(|step| self.route.cheapest(step)).sum()
    }

    fn offer(&self, step: usize, offer: usize) -> &'a Offer {
        &self.step(step).offers[offer]
    }

    fn step(&self, step: usize) -> &'a RoutedStep {
        &self.route.steps[step]
    }

    fn decision(&self, at: Duration, step: usize, action: Action, reason: &'static str) -> Decision {
        Decision::new(at, &self.step(step).step.name, action, reason)
    }

    fn note_call(&mut self, number: Option<u16>, step: usize, offer: usize, decision: Decision) {
        let candidate = &self.offer(step, offer).candidate;
        self.decisions.push(Decision { number, ..decision.about(candidate) });
    }

    fn note_skipped(&mut self, step: usize, offers: Range<usize>, reason: &'static str, at: Duration) {
        for offer in offers {
            let skip = self.decision(at, step, Action::Skip, reason);
            self.decisions.push(skip.about(&self.offer(step, offer).candidate));
        }
    }
}

/// Up to a fifth more or less, so that clients that failed together do not come back together.
fn jittered(wait: Duration, random: u64) -> Duration {
    let thousandths = 800 + u32::try_from(random % 401).unwrap_or(0);
    wait * thousandths / 1_000
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use huntaze_costs::price::Catalogue;
    use huntaze_domain::intent::WorkflowIntent;
    use huntaze_domain::provider::TokenUsage;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::route::{Role, Roles};

    const MINUTE: Duration = Duration::from_secs(60);

    fn route(body: &Value) -> Option<Route> {
        let roles = Roles {
            planner: Candidate::parse_list("azure:gpt-4-turbo,openai:gpt-4o").unwrap(),
            short_message: Candidate::parse_list("openai:gpt-4o-mini,azure:gpt-4-turbo").unwrap(),
            validator: Candidate::parse_list("openai:gpt-4o-mini").unwrap(),
        };
        let intent = WorkflowIntent::parse(body.to_string().as_bytes()).unwrap().intent;
        let now = "2026-11-21T00:00:00Z".parse().unwrap();
        let seconds = |_, role| Some(Duration::from_secs(if role == Role::Planner { 16 } else { 8 }));
        Route::find(&intent, &roles, seconds, &Catalogue::built_in().unwrap(), now).ok()
    }

    fn plan() -> Value {
        json!({"type": "content_planning", "platforms": ["x"], "data": {"theme": "summer"}})
    }

    fn forced(provider: &str) -> Value {
        json!({"type": "content_planning", "platforms": ["x"], "data": {}, "forceProvider": provider})
    }

    fn failed(failure: Failure) -> End {
        End { failure: Some(failure), retry_after: None, cost: Usd::ZERO, budget_of: None }
    }

    fn within(horizon: Duration) -> Limits {
        Limits { horizon, deadline: horizon, longest_wait: horizon, retries: 3, pause: None, keeps: false }
    }

    /// The course of a plan whose calls end one after the other, at once, as told: `action reason provider wait`.
    fn course(body: &Value, limits: Limits, ends: &[End]) -> Vec<String> {
        let route = route(body).unwrap();
        let mut machine = Machine::new(&route, limits, &Past::default());
        let mut next = machine.begin(Duration::ZERO).unwrap_or_default().pop();
        for end in ends {
            let Some(launch) = next.take() else { break };
            // 200 is the middle of the jitter: no more and no less.
            next = machine.ended(&launch, end, launch.not_before, 200).pop();
        }
        let told = |decision: &Decision| {
            let provider = decision.candidate.as_ref().map_or("", |(provider, _)| provider.as_str());
            let no_retry = decision.no_retry.unwrap_or_default();
            let wait = decision.wait.as_millis();
            format!("{} {} {provider} {wait} {no_retry}", decision.action.as_str(), decision.reason)
                .trim_end()
                .to_owned()
        };
        machine.decisions().iter().map(told).collect()
    }

    #[test]
    fn a_blip_is_retried_and_an_outage_is_left() {
        let ends = [failed(Failure::Server); 9];
        assert_eq!(
            course(&plan(), within(MINUTE), &ends),
            [
                "call first_of_role azure 0",
                "retry server_error azure 1000",
                "fall_back server_error openai 0 another_provider_is_left",
                "retry server_error openai 2000",
                "retry server_error openai 5000",
                "stop server_error  0 retry_budget_spent",
            ]
        );
    }

    #[test]
    fn where_no_provider_is_left_a_kept_text_is_looked_for_and_then_everybody_is_asked_later() {
        let ends = |kept| [failed(Failure::Server), failed(Failure::Misconfigured), kept, failed(Failure::Server)];
        let keeps = Limits { keeps: true, retries: 0, ..within(MINUTE) };
        let asked = [
            "call first_of_role azure 0",
            "fall_back server_error openai 0 retry_budget_spent",
            "use_kept misconfigured openai 0",
        ];
        let served = End { failure: None, ..failed(Failure::Server) };
        assert_eq!(course(&plan(), keeps, &ends(served)), asked);
        // What is wrong for good is wrong later as well.
        let waiting = Limits { pause: Some(MINUTE), deadline: MINUTE * 10, ..keeps };
        for limits in [keeps, waiting] {
            let end = course(&plan(), limits, &ends(failed(Failure::NotKept)));
            assert_eq!(end, [&asked[..], &["stop misconfigured  0"]].concat());
        }
        let outage = |limits| {
            course(&plan(), limits, &[failed(Failure::Timeout), failed(Failure::Server), failed(Failure::NotKept)])
        };
        assert_eq!(
            outage(waiting)[2..],
            [
                "use_kept server_error openai 0 retry_budget_spent",
                "hand_over server_error azure 60000 retry_budget_spent"
            ]
        );
        // The deadline is the deadline.
        let late = Limits { deadline: MINUTE + Duration::from_secs(16), ..waiting };
        assert_eq!(outage(late)[3..], ["stop server_error  0 retry_budget_spent"]);
    }

    #[test]
    fn a_forced_provider_is_retried_as_often_as_the_contract_says() {
        let ends = [failed(Failure::Connect); 9];
        assert_eq!(
            course(&forced("azure"), within(MINUTE), &ends),
            [
                "skip not_forced openai 0",
                "call forced azure 0",
                "retry connect_error azure 1000",
                "retry connect_error azure 2000",
                "retry connect_error azure 5000",
                "stop connect_error  0 retry_budget_spent",
            ]
        );
    }

    #[test]
    fn behind_a_budgets_refusal_only_what_eases_it_is_asked() {
        let over = failed(Failure::OverBudget);
        let own = |provider| End { budget_of: Some(provider), ..over };
        let message = json!({"type": "message_generation", "platforms": ["x"], "data": {}});
        // A plan's second model is the cheaper one, a message's is the dearer.
        assert_eq!(
            course(&plan(), within(MINUTE), &[over; 2]),
            ["call first_of_role azure 0", "fall_back over_budget openai 0", "stop over_budget  0"]
        );
        assert_eq!(
            course(&message, within(MINUTE), &[over; 2]),
            ["call first_of_role openai 0", "skip over_budget azure 0", "stop over_budget  0"]
        );
        assert_eq!(
            course(&message, within(MINUTE), &[own(Provider::OpenAi), own(Provider::Azure)]),
            ["call first_of_role openai 0", "fall_back over_budget azure 0", "stop over_budget  0"]
        );
    }

    #[test]
    fn the_fallback_scenarios_of_the_contract() {
        let timeout = [failed(Failure::Timeout); 9];
        assert_eq!(
            course(&plan(), within(MINUTE), &timeout)[1..],
            [
                "fall_back timeout openai 0 another_provider_is_left",
                "retry timeout openai 1000",
                "stop timeout  0 tries_spent",
            ]
        );
        let limited = [failed(Failure::RateLimited); 9];
        assert_eq!(
            course(&plan(), within(MINUTE), &limited)[1..],
            ["fall_back rate_limited openai 0 another_provider_is_left", "stop rate_limited  0 tries_spent"]
        );
    }

    #[test]
    fn a_rate_limit_is_waited_out_where_that_is_in_time() {
        let wait = |seconds| {
            let limited = End { retry_after: Some(Duration::from_secs(seconds)), ..failed(Failure::RateLimited) };
            let limits = Limits { deadline: MINUTE, ..within(Duration::from_secs(28)) };
            course(&forced("openai"), limits, &[limited; 2])[2..].to_vec()
        };
        assert_eq!(wait(10)[0], "retry rate_limited openai 10000");
        assert_eq!(wait(20), ["hand_over rate_limited openai 20000"]);
        assert_eq!(wait(50), ["stop rate_limited  0 no_time"]);
    }

    #[test]
    fn what_does_not_fit_is_left_to_another_driver_who_goes_on_where_this_one_stopped() {
        let route = route(&plan()).unwrap();
        let limits = Limits { deadline: MINUTE, ..within(Duration::from_secs(20)) };
        let mut machine = Machine::new(&route, limits, &Past::default());
        let first = machine.begin(Duration::ZERO).unwrap().pop().unwrap();
        let sixteen = Duration::from_secs(16);
        assert_eq!(machine.cap(&first, Duration::ZERO), Some(sixteen));
        assert!(machine.ended(&first, &failed(Failure::Timeout), sixteen, 200).is_empty());
        assert_eq!((machine.later(), machine.is_over()), (Some(sixteen), true));
        let past = Past { calls: 1, legs: machine.legs().to_vec(), ..Past::default() };
        let mut another = Machine::new(&route, within(MINUTE), &past);
        let second = another.begin(Duration::ZERO).unwrap().pop().unwrap();
        assert_eq!((second.number, second.offer), (2, 1));
        // The tries that a time-out leaves the other provider are those that were left.
        let third = another.ended(&second, &failed(Failure::Timeout), sixteen, 200).pop().unwrap();
        assert!(another.ended(&third, &failed(Failure::Timeout), sixteen * 2, 200).is_empty());
        assert!(matches!(another.stop(), Some(Stop::Exhausted { .. })));
    }

    #[test]
    fn what_has_its_text_is_not_made_again() {
        let body = json!({"type": "campaign_execution", "platforms": ["a", "b", "c"], "data": {}});
        let route = route(&body).unwrap();
        let past = Past { calls: 3, done: vec![true, false, true], ..Past::default() };
        let mut machine = Machine::new(&route, within(MINUTE), &past);
        let missing: Vec<_> = machine.begin(Duration::ZERO).unwrap().iter().map(|launch| launch.step).collect();
        assert_eq!(missing, [1, 3]);
    }

    #[test]
    fn once_one_call_is_left_to_another_driver_all_are_but_a_refusal_still_ends_it() {
        let body =
            json!({"type": "campaign_execution", "platforms": ["a", "b"], "data": {}, "forceProvider": "openai"});
        let route = route(&body).unwrap();
        let limits = Limits { deadline: MINUTE * 10, longest_wait: Duration::from_secs(5), ..within(MINUTE) };
        let past = Past { calls: 1, done: vec![true], ..Past::default() };
        let mut machine = Machine::new(&route, limits, &past);
        let launches = machine.begin(Duration::ZERO).unwrap();
        let limited = End { retry_after: Some(MINUTE), ..failed(Failure::RateLimited) };
        assert!(machine.ended(&launches[0], &limited, Duration::ZERO, 200).is_empty());
        assert_eq!(machine.later(), Some(MINUTE));
        let mut beside = machine;
        assert!(beside.ended(&launches[1], &failed(Failure::Filtered), Duration::ZERO, 200).is_empty());
        assert_eq!((beside.later(), beside.stop().is_some()), (None, true));
    }

    #[test]
    fn what_a_provider_says_no_to_is_asked_of_nobody_again() {
        for (failure, last) in [
            (Failure::Filtered, "stop content_filter  0"),
            (Failure::Declined, "stop refusal  0"),
            (Failure::Rejected, "stop rejected  0"),
        ] {
            assert_eq!(course(&plan(), within(MINUTE), &[failed(failure)])[1..], [last]);
        }
        for failure in [Failure::Misconfigured, Failure::InvalidAnswer, Failure::QuotaExhausted] {
            let after = course(&plan(), within(MINUTE), &[failed(failure); 2]);
            let name = failure.as_str();
            assert_eq!(after[1..], [format!("fall_back {name} openai 0"), format!("stop {name}  0")]);
        }
    }

    /// How a simulated call ends.
    #[derive(Debug, Clone)]
    struct Script {
        failure: Option<Failure>,
        retry_after: Option<Duration>,
        billed_percent: u32,
        takes: Duration,
        /// How long its end, and the reservation of what follows, take to be written.
        written_after: Duration,
        random: u64,
    }

    fn script() -> impl Strategy<Value = Script> {
        let failure = prop_oneof![
            3 => Just(None),
            7 => proptest::sample::select(Failure::ALL.to_vec()).prop_map(Some),
        ];
        let retry_after = proptest::option::of((0_u64..40_000).prop_map(Duration::from_millis));
        let span = |millis| (0_u64..millis).prop_map(Duration::from_millis);
        (failure, retry_after, 0_u32..=100, span(50_000), span(2_000), any::<u64>()).prop_map(
            |(failure, retry_after, billed_percent, takes, written_after, random)| Script {
                failure,
                retry_after,
                billed_percent,
                takes,
                written_after,
                random,
            },
        )
    }

    /// What a driver sees of a call, in the order of time.
    enum Moment {
        Due(Launch),
        Landed(Launch, End, u64),
    }

    /// What holds over all drivers of a request.
    #[derive(Default)]
    struct Course {
        spent: Usd,
        calls: u16,
        retries: u16,
        done: Vec<bool>,
        legs: Vec<Leg>,
        barred: BTreeSet<(usize, usize)>,
    }

    /// Drives a machine as the real driver does, in simulated time, and holds every promise of it. `now` begins where the driver
    /// before ended. Gives when the next one is due.
    fn simulate<'s>(
        route: &Route,
        max_cost: Option<Usd>,
        limits: Limits,
        scripts: &mut impl Iterator<Item = &'s Script>,
        course: &mut Course,
    ) -> Result<Option<Duration>, TestCaseError> {
        let past = Past {
            spent: course.spent,
            calls: course.calls,
            retries: course.retries,
            done: course.done.clone(),
            legs: course.legs.clone(),
        };
        let mut machine = Machine::new(route, limits, &past);
        let first = machine.begin(Duration::ZERO).unwrap_or_default();
        let mut agenda: BTreeMap<(Duration, u16), Moment> = BTreeMap::new();
        let mut reserved: BTreeMap<u16, Usd> = BTreeMap::new();
        let (mut spent, mut sent) = (course.spent, BTreeSet::new());
        let bound = |launch: &Launch| match launch.kept {
            true => Usd::ZERO,
            false => route.steps[launch.step].offers[launch.offer].bound_cost(),
        };

        for launch in first {
            prop_assert!(course.done.get(launch.step) != Some(&true), "a finished step is bought again");
            reserved.insert(launch.number, bound(&launch));
            agenda.insert((launch.not_before, launch.number), Moment::Due(launch));
        }
        for turn in 0.. {
            prop_assert!(turn < 1_000, "it has no end");
            let Some(((now, _), moment)) = agenda.pop_first() else { break };
            match moment {
                Moment::Due(launch) => {
                    // The reservation is extended before every call, and with it all that is spent stays below the limit.
                    prop_assert!(reserved.contains_key(&launch.number) && sent.insert(launch.number));
                    let held: Usd = reserved.values().copied().sum();
                    prop_assert!(max_cost.is_none_or(|limit| spent + held <= limit));
                    let script = scripts.next().unwrap();
                    let Some(cap) = machine.cap(&launch, now) else {
                        let end = failed(Failure::NotSent);
                        agenda.insert((now, launch.number), Moment::Landed(launch, end, script.random));
                        continue;
                    };
                    if launch.kept {
                        prop_assert!(limits.keeps);
                        let failure = script.failure.map(|_| Failure::NotKept);
                        let end = End { failure, retry_after: None, cost: Usd::ZERO, budget_of: None };
                        agenda.insert((now, launch.number), Moment::Landed(launch, end, script.random));
                        continue;
                    }
                    // Never beyond the driver's time or the deadline, and never cut short for them.
                    let offer = &route.steps[launch.step].offers[launch.offer];
                    prop_assert!(cap == offer.time && now + cap <= limits.horizon && now + cap <= limits.deadline);
                    let place = (launch.step, launch.offer);
                    // Later everybody is asked again.
                    let barred = limits.pause.is_none() && course.barred.contains(&place);
                    prop_assert!(!barred, "a call was made again that must not be");
                    let timed_out = script.takes > cap;
                    let failure = if timed_out { Some(Failure::Timeout) } else { script.failure };
                    // What was not sent is not called again either, but handed over.
                    let failure = failure.filter(|failure| *failure != Failure::NotSent);
                    if failure.is_some_and(|failure| !failure.is_retryable()) {
                        course.barred.insert(place);
                    }
                    let output_tokens = offer.bound.output_tokens * u64::from(script.billed_percent) / 100;
                    let cost = offer.price.cost(TokenUsage { output_tokens, ..offer.bound });
                    let end = End { failure, retry_after: script.retry_after, cost, budget_of: None };
                    let at = now + script.takes.min(cap);
                    agenda.insert((at, launch.number), Moment::Landed(launch, end, script.random));
                }
                Moment::Landed(launch, end, random) => {
                    reserved.remove(&launch.number);
                    spent = spent + end.cost;
                    let written = now + scripts.next().unwrap().written_after;
                    let told = end.retry_after.unwrap_or_default();
                    for next in machine.ended(&launch, &end, now, random) {
                        prop_assert!(next.number > launch.number && next.not_before >= now);
                        // A wait that was told is never shortened.
                        let again = !next.kept && (next.step, next.offer) == (launch.step, launch.offer);
                        prop_assert!(!again || next.not_before >= now + told);
                        prop_assert!(next.not_before - now <= limits.longest_wait);
                        reserved.insert(next.number, bound(&next));
                        agenda.insert((written.max(next.not_before), next.number), Moment::Due(next));
                    }
                }
            }
        }
        // Always an end: every call has ended, and there is an answer, a reason why not, or somebody who goes on.
        prop_assert!(machine.is_over() && reserved.is_empty());
        prop_assert_eq!(machine.spent(), spent);
        let whole = machine.done.iter().all(|done| *done);
        prop_assert_eq!(machine.stop().is_none() && machine.later().is_none(), whole);
        // Never beyond the retry budget.
        prop_assert!(machine.retries() <= limits.retries);
        // Every call was decided, and a stop is the last word about its request but one a step under way.
        let decided = machine.decisions().iter().filter(|decision| decision.number.is_some()).count();
        prop_assert_eq!(decided, sent.len());
        let stops = machine.decisions().iter().filter(|decision| decision.action == Action::Stop).count();
        prop_assert_eq!(stops, usize::from(machine.stop().is_some()));
        let calls = machine.calls;
        let (retries, done, legs) = (machine.retries(), machine.done.clone(), machine.legs.clone());
        let later = machine.later();
        let barred = std::mem::take(&mut course.barred);
        *course = Course { spent, calls, retries, done, legs, barred };
        Ok(later)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Never beyond the deadline, never beyond the retry budget, no non-retryable call twice, no finished step twice, the
        /// reservation extended before every further call and inside `maxCost`, always an end, over however many drivers.
        #[test]
        fn no_course_of_events_breaks_a_promise(
            kind in proptest::sample::select(vec!["content_planning", "message_generation", "campaign_execution"]),
            platforms in 1_usize..5,
            force in proptest::option::of(proptest::sample::select(vec!["azure", "openai"])),
            micros in proptest::option::of(1_000_u32..400_000),
            deadline in 0_u64..300_000,
            horizon in 16_500_u64..90_000,
            longest_wait in 0_u64..30_000,
            retries in 0_u16..5,
            pause in proptest::option::of(10_000_u64..60_000),
            keeps in any::<bool>(),
            scripts in proptest::collection::vec(script(), 1..40),
        ) {
            let platforms = &["a", "b", "c", "d"][..platforms];
            let mut body = json!({"type": kind, "platforms": platforms, "data": {"theme": "summer"}});
            if let Some(provider) = force {
                body["forceProvider"] = json!(provider);
            }
            let max_cost = micros.map(|micros| Usd::parse(&format!("0.{micros:06}")).unwrap());
            if let Some(limit) = max_cost {
                body["maxCost"] = json!(limit.to_json_number());
            }
            let Some(route) = route(&body) else { return Ok(()) };
            let [horizon, longest_wait] = [horizon, longest_wait].map(Duration::from_millis);
            let pause = pause.map(Duration::from_millis);
            let (mut left, mut course) = (Duration::from_millis(deadline), Course::default());
            let mut scripts = scripts.iter().cycle();
            for driver in 0.. {
                prop_assert!(driver < 100, "it has no end");
                let limits = Limits { horizon: horizon.min(left), deadline: left, longest_wait, retries, pause, keeps };
                let Some(due) = simulate(&route, max_cost, limits, &mut scripts, &mut course)? else { break };
                // Somebody takes it up when it is due.
                left = left.saturating_sub(due);
            }
        }
    }
}
