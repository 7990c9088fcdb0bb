//! What follows what: the calls, retries and fallbacks of one request as a state machine. Pure.
//!
//! It is told what ended and when (as the time since the request was taken up), and says what is called next, when, and why.
//! Whoever drives it reserves a [`Launch`] before it is made, asks for its [cap](Machine::cap) when it is due, and reports its
//! [`End`]. ADR 0008 has the rules; in short:
//!
//! | a call ended with | another provider is left | none is left |
//! |---|---|---|
//! | no connection, a lost one, 5xx, 408 | one more try after a wait, then the other | tries while budget, time and money last |
//! | 429 | the other at once, one try | waits as long as it was told |
//! | time-out | the other at once, two tries | as above |
//! | a fault of ours, an answer that cannot be read | the other at once | the end |
//! | a refusal | the end | the end |

use std::ops::Range;
use std::time::Duration;

use huntaze_domain::money::Usd;
use huntaze_domain::provider::Provider;

use crate::answer::Failure;
use crate::route::{Candidate, Offer, Route, RouteError, RoutedStep, Skipped};

/// What the contract waits before the first, second and third retry of a request.
pub const BACKOFF: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)];
/// A call with less time than this is not made: it would be cut before its first token.
const SHORTEST_CALL: Duration = Duration::from_millis(500);
/// A provider that fails while another is left gets this many further tries: a blip passes, an outage does not.
const RETRIES_BEFORE_FALLBACK: u16 = 1;
/// The contract's fallback scenarios: how many tries the other provider gets.
const TRIES_AFTER_TIMEOUT: u16 = 2;
const TRIES_AFTER_RATE_LIMIT: u16 = 1;

/// What holds for the whole request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Every call has ended by then.
    pub deadline: Duration,
    /// How many calls may be made again, over all steps and providers.
    pub retries: u16,
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

/// How often a step's current provider may be asked and was.
#[derive(Debug, Clone, Copy)]
struct Leg {
    tries_left: u16,
    retried: u16,
}

const FIRST_LEG: Leg = Leg { tries_left: u16::MAX, retried: 0 };

/// One request under way.
#[derive(Debug)]
pub struct Machine<'a> {
    route: &'a Route,
    limits: Limits,
    retries_left: u16,
    legs: Vec<Leg>,
    /// The bounds of the calls that are reserved and have not ended.
    held: Vec<(u16, Usd)>,
    spent: Usd,
    calls: u16,
    stop: Option<Stop>,
    /// Nothing new is called, for a reason that is not the machine's.
    closed: bool,
    decisions: Vec<Decision>,
}

impl<'a> Machine<'a> {
    /// A machine for a route. What the route passed over is its first decisions.
    #[must_use]
    pub fn new(route: &'a Route, limits: Limits) -> Self {
        let decisions = route.skipped.iter().map(|skipped| {
            let Skipped { step, candidate, reason } = skipped;
            Decision::new(Duration::ZERO, step, Action::Skip, reason).about(candidate)
        });
        Self {
            route,
            limits,
            retries_left: limits.retries,
            legs: vec![FIRST_LEG; route.steps.len()],
            held: Vec::new(),
            spent: Usd::ZERO,
            calls: 0,
            stop: None,
            closed: false,
            decisions: decisions.collect(),
        }
    }

    /// Chooses the first call.
    ///
    /// # Errors
    /// [`Stop`] where money or time allow none.
    pub fn begin(&mut self, at: Duration) -> Result<Launch, Stop> {
        let (offer, skipped) = self.choose(0, None, self.spent, self.route.rest(1), at)?;
        Ok(self.call(0, offer, skipped, at))
    }

    /// How long a call that is due may take. `None`: it is not made, and [ends](Self::ended) with [`Failure::NotSent`].
    #[must_use]
    pub fn cap(&self, launch: &Launch, at: Duration) -> Option<Duration> {
        let share = self.share(launch.step, launch.offer, at);
        (self.is_open() && share >= SHORTEST_CALL).then_some(share)
    }

    /// Takes note of a call's end and says what follows. `random` spreads the waits.
    pub fn ended(&mut self, launch: &Launch, end: &End, at: Duration, random: u64) -> Vec<Launch> {
        self.held.retain(|(number, _)| *number != launch.number);
        self.spent = self.spent + end.cost;
        if !self.is_open() {
            return Vec::new();
        }
        let following = match end.failure {
            // The first step is the plan: every step behind it, at once.
            None if launch.step == 0 => self.call_all(1..self.route.steps.len(), at),
            None => Ok(Vec::new()),
            Some(failure) => self.failed(launch, failure, end, at, random).map(|launch| vec![launch]),
        };
        following.unwrap_or_default()
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
    ) -> Result<Launch, ()> {
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
                Failure::Filtered | Failure::Declined => Stop::Refused(failure),
                Failure::Rejected => Stop::Rejected(self.offer(step, offer).candidate.provider),
                _ => Stop::NoTime,
            },
        };
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
            let (next, skipped) = self.choose(step, Some(after), self.committed(), self.rest(step), at)?;
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
    ) -> Result<Launch, Option<&'static str>> {
        let Launch { step, offer, .. } = *launch;
        let leg = self.legs[step];
        let bound = self.offer(step, offer).bound_cost();
        let used = usize::from(self.limits.retries - self.retries_left);
        let pause = jittered(BACKOFF[used.min(BACKOFF.len() - 1)], random);
        let wait = pause.max(retry_after.unwrap_or_default());
        let due = at.saturating_add(wait);
        let at_once = matches!(failure, Failure::Timeout | Failure::RateLimited)
            || leg.retried >= RETRIES_BEFORE_FALLBACK
            || wait > pause;
        let why_not = if !failure.is_retryable() {
            // A retry was not thinkable.
            return Err(None);
        } else if self.retries_left == 0 {
            "retry_budget_spent"
        } else if leg.tries_left <= 1 {
            "tries_spent"
        } else if other_is_left && at_once {
            "another_provider_is_left"
        } else if self.share(step, offer, due) < SHORTEST_CALL {
            "no_time"
        } else if self.route.is_over_max_cost(self.committed() + bound + self.rest(step)) {
            "over_max_cost"
        } else {
            self.retries_left -= 1;
            self.legs[step] = Leg { tries_left: leg.tries_left - 1, retried: leg.retried + 1 };
            let launch = self.launch(step, offer, due);
            let retry = self.decision(at, step, Action::Retry, failure.as_str());
            self.note_call(&launch, Decision { wait, ..retry });
            return Ok(launch);
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
    ) -> Launch {
        let tries_left = match failure {
            Failure::Timeout => TRIES_AFTER_TIMEOUT,
            Failure::RateLimited => TRIES_AFTER_RATE_LIMIT,
            _ => u16::MAX,
        };
        self.legs[step] = Leg { tries_left, retried: 0 };
        self.note_skipped(step, skipped, "over_max_cost", at);
        let launch = self.launch(step, offer, at);
        let fallback = self.decision(at, step, Action::FallBack, failure.as_str());
        self.note_call(&launch, Decision { no_retry, ..fallback });
        launch
    }

    fn call(&mut self, step: usize, offer: usize, skipped: Range<usize>, at: Duration) -> Launch {
        self.note_skipped(step, skipped, "over_max_cost", at);
        let launch = self.launch(step, offer, at);
        let call = self.decision(at, step, Action::Call, self.offer(step, offer).reason);
        self.note_call(&launch, call);
        launch
    }

    /// All are chosen before one is launched: what cannot be ended is not begun.
    fn call_all(&mut self, steps: Range<usize>, at: Duration) -> Result<Vec<Launch>, ()> {
        let mut committed = self.committed();
        let mut chosen = Vec::with_capacity(steps.len());
        for step in steps {
            match self.choose(step, None, committed, self.route.rest(step + 1), at) {
                Ok((offer, skipped)) => {
                    committed = committed + self.offer(step, offer).bound_cost();
                    chosen.push((step, offer, skipped));
                }
                Err(stop) => return self.halt(step, stop, None, at),
            }
        }
        Ok(chosen.into_iter().map(|(step, offer, skipped)| self.call(step, offer, skipped, at)).collect())
    }

    fn halt<T>(&mut self, step: usize, stop: Stop, no_retry: Option<&'static str>, at: Duration) -> Result<T, ()> {
        let decision = self.decision(at, step, Action::Stop, stop.reason());
        self.decisions.push(Decision { no_retry, ..decision });
        self.stop = Some(stop);
        Err(())
    }

    /// The step's next offer that money and time allow, and those that it is preferred to because they cost too much.
    fn choose(
        &self,
        step: usize,
        after: Option<usize>,
        committed: Usd,
        rest: Usd,
        at: Duration,
    ) -> Result<(usize, Range<usize>), Stop> {
        let offer = self.route.next_offer(step, after, committed, rest).map_err(|error| match error {
            RouteError::CostLimit { .. } => Stop::CostLimit(error),
            _ => Stop::Exhausted { last: Failure::NotConfigured, retry_after: None },
        })?;
        if self.share(step, offer, at) < SHORTEST_CALL {
            return Err(Stop::NoTime);
        }
        Ok((offer, after.map_or(0, |after| after + 1)..offer))
    }

    fn launch(&mut self, step: usize, offer: usize, not_before: Duration) -> Launch {
        self.calls += 1;
        self.held.push((self.calls, self.offer(step, offer).bound_cost()));
        Launch { number: self.calls, step, offer, not_before }
    }

    fn share(&self, step: usize, offer: usize, at: Duration) -> Duration {
        self.route.time_share(step, offer, self.limits.deadline.saturating_sub(at))
    }

    /// What is spent, and what may still be spent by the calls under way.
    fn committed(&self) -> Usd {
        self.spent + self.held.iter().map(|(_, bound)| *bound).sum()
    }

    /// What is kept for the steps that are not begun yet: behind any step but the first there is none.
    fn rest(&self, step: usize) -> Usd {
        if step == 0 { self.route.rest(1) } else { Usd::ZERO }
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

    fn note_call(&mut self, launch: &Launch, decision: Decision) {
        let candidate = &self.offer(launch.step, launch.offer).candidate;
        self.decisions.push(Decision { number: Some(launch.number), ..decision.about(candidate) });
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
    use crate::route::Roles;

    const MINUTE: Duration = Duration::from_secs(60);

    fn route(body: &Value) -> Option<Route> {
        let roles = Roles {
            planner: Candidate::parse_list("azure:gpt-4-turbo,openai:gpt-4o").unwrap(),
            short_message: Candidate::parse_list("openai:gpt-4o-mini,azure:gpt-4-turbo").unwrap(),
            validator: Candidate::parse_list("openai:gpt-4o-mini").unwrap(),
        };
        let intent = WorkflowIntent::parse(body.to_string().as_bytes()).unwrap().intent;
        let now = "2026-11-21T00:00:00Z".parse().unwrap();
        Route::find(&intent, &roles, |_| true, &Catalogue::built_in().unwrap(), now).ok()
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

    /// The course of a plan whose calls end one after the other, at once, as told: `action reason provider wait`.
    fn course(body: &Value, deadline: Duration, ends: &[End]) -> Vec<String> {
        let route = route(body).unwrap();
        let mut machine = Machine::new(&route, Limits { deadline, retries: 3 });
        let mut next = machine.begin(Duration::ZERO).ok();
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
            course(&plan(), MINUTE, &ends),
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
    fn a_forced_provider_is_retried_as_often_as_the_contract_says() {
        let ends = [failed(Failure::Connect); 9];
        assert_eq!(
            course(&forced("azure"), MINUTE, &ends),
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
            course(&plan(), MINUTE, &[over; 2]),
            ["call first_of_role azure 0", "fall_back over_budget openai 0", "stop over_budget  0"]
        );
        assert_eq!(
            course(&message, MINUTE, &[over; 2]),
            ["call first_of_role openai 0", "skip over_budget azure 0", "stop over_budget  0"]
        );
        assert_eq!(
            course(&message, MINUTE, &[own(Provider::OpenAi), own(Provider::Azure)]),
            ["call first_of_role openai 0", "fall_back over_budget azure 0", "stop over_budget  0"]
        );
    }

    #[test]
    fn the_fallback_scenarios_of_the_contract() {
        let timeout = [failed(Failure::Timeout); 9];
        assert_eq!(
            course(&plan(), MINUTE, &timeout)[1..],
            [
                "fall_back timeout openai 0 another_provider_is_left",
                "retry timeout openai 1000",
                "stop timeout  0 tries_spent",
            ]
        );
        let limited = [failed(Failure::RateLimited); 9];
        assert_eq!(
            course(&plan(), MINUTE, &limited)[1..],
            ["fall_back rate_limited openai 0 another_provider_is_left", "stop rate_limited  0 tries_spent"]
        );
    }

    #[test]
    fn a_rate_limit_is_waited_out_where_that_is_in_time() {
        let wait = |seconds| {
            let limited = End { retry_after: Some(Duration::from_secs(seconds)), ..failed(Failure::RateLimited) };
            course(&forced("openai"), Duration::from_secs(28), &[limited; 2])[2..].to_vec()
        };
        assert_eq!(wait(20)[0], "retry rate_limited openai 20000");
        assert_eq!(wait(28), ["stop rate_limited  0 no_time"]);
    }

    #[test]
    fn what_a_provider_says_no_to_is_asked_of_nobody_again() {
        for (failure, last) in [
            (Failure::Filtered, "stop content_filter  0"),
            (Failure::Declined, "stop refusal  0"),
            (Failure::Rejected, "stop rejected  0"),
        ] {
            assert_eq!(course(&plan(), MINUTE, &[failed(failure)])[1..], [last]);
        }
        for failure in [Failure::Misconfigured, Failure::InvalidAnswer, Failure::QuotaExhausted] {
            let after = course(&plan(), MINUTE, &[failed(failure); 2]);
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

    /// Drives a machine as the real driver does, in simulated time, and holds every promise of it.
    fn simulate(route: &Route, max_cost: Option<Usd>, limits: Limits, scripts: &[Script]) -> Result<(), TestCaseError> {
        let mut machine = Machine::new(route, limits);
        let Ok(first) = machine.begin(Duration::ZERO) else { return Ok(()) };
        let mut agenda: BTreeMap<(Duration, u16), Moment> = BTreeMap::new();
        let mut reserved: BTreeMap<u16, Usd> = BTreeMap::new();
        let (mut spent, mut sent) = (Usd::ZERO, BTreeSet::new());
        let (mut asked, mut barred, mut texts) = (BTreeMap::<_, u16>::new(), BTreeSet::new(), BTreeSet::new());
        let mut scripts = scripts.iter().cycle();
        let bound = |launch: &Launch| route.steps[launch.step].offers[launch.offer].bound_cost();

        reserved.insert(first.number, bound(&first));
        agenda.insert((first.not_before, first.number), Moment::Due(first));
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
                    // Never beyond the deadline.
                    prop_assert!(cap >= SHORTEST_CALL && now + cap <= limits.deadline, "{now:?} + {cap:?}");
                    let place = (launch.step, launch.offer);
                    prop_assert!(!barred.contains(&place), "a call was made again that must not be");
                    *asked.entry(place).or_default() += 1;
                    let timed_out = script.takes > cap;
                    let failure = if timed_out { Some(Failure::Timeout) } else { script.failure };
                    if failure.is_some_and(|failure| !failure.is_retryable()) {
                        barred.insert(place);
                    }
                    let offer = &route.steps[launch.step].offers[launch.offer];
                    let output_tokens = offer.bound.output_tokens * u64::from(script.billed_percent) / 100;
                    let cost = offer.price.cost(TokenUsage { output_tokens, ..offer.bound });
                    let end = End { failure, retry_after: script.retry_after, cost, budget_of: None };
                    let at = now + script.takes.min(cap);
                    agenda.insert((at, launch.number), Moment::Landed(launch, end, script.random));
                }
                Moment::Landed(launch, end, random) => {
                    reserved.remove(&launch.number);
                    spent = spent + end.cost;
                    if end.failure.is_none() {
                        texts.insert(launch.step);
                    }
                    let written = now + scripts.next().unwrap().written_after;
                    let told = end.retry_after.unwrap_or_default();
                    for next in machine.ended(&launch, &end, now, random) {
                        prop_assert!(next.number > launch.number && next.not_before >= now);
                        // A wait that was told is never shortened.
                        let again = (next.step, next.offer) == (launch.step, launch.offer);
                        prop_assert!(!again || next.not_before >= now + told);
                        reserved.insert(next.number, bound(&next));
                        agenda.insert((written.max(next.not_before), next.number), Moment::Due(next));
                    }
                }
            }
        }
        // Always an end: every call has ended, and there is an answer or a reason why not.
        prop_assert!(machine.is_over() && reserved.is_empty());
        prop_assert_eq!(machine.spent(), spent);
        prop_assert_eq!(machine.stop().is_none(), texts.len() == route.steps.len());
        // Never beyond the retry budget.
        let retries: u16 = asked.values().map(|times| times - 1).sum();
        prop_assert!(retries <= limits.retries);
        // Every call was decided, and a stop is the last word about its request but one a step under way.
        let decided = machine.decisions().iter().filter(|decision| decision.number.is_some()).count();
        prop_assert_eq!(decided, sent.len());
        let stops = machine.decisions().iter().filter(|decision| decision.action == Action::Stop).count();
        prop_assert_eq!(stops, usize::from(machine.stop().is_some()));
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Never beyond the deadline, never beyond the retry budget, no non-retryable call twice, the reservation extended
        /// before every further call and inside `maxCost`, always an end.
        #[test]
        fn no_course_of_events_breaks_a_promise(
            kind in proptest::sample::select(vec!["content_planning", "message_generation", "campaign_execution"]),
            platforms in 1_usize..5,
            force in proptest::option::of(proptest::sample::select(vec!["azure", "openai"])),
            micros in proptest::option::of(1_000_u32..400_000),
            deadline in 0_u64..60_000,
            retries in 0_u16..5,
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
            simulate(&route, max_cost, Limits { deadline: Duration::from_millis(deadline), retries }, &scripts)?;
        }
    }
}
