//! One circuit, pure: the time is passed in, in milliseconds of a clock that may be set back.
//!
//! What stands here stands in `lua/` once more, to be decided in Redis in one step.

#[cfg(test)]
mod laws;

use std::time::Duration;

use crate::rules::Rules;
use crate::token::Token;

/// How a call ended, as far as it says something of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// It was answered.
    Success,
    /// The service failed: no connection, a time-out, a 5xx.
    Failure,
    /// The service limits the rate (429), and may have said when to come again. No failure.
    RateLimited {
        /// What it said.
        retry_after: Option<Duration>,
    },
    /// It was answered with a refusal, or with what is our own fault: says only that the service is there.
    Neither,
    /// It was never sent, or we ended it ourselves: says nothing.
    NotMade,
}

/// A call that is let through, and in which epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The epoch that its report counts in.
    pub epoch: u64,
    /// Whose call it is.
    pub token: Token,
    /// It is the one that finds out whether the service is back.
    pub probe: bool,
}

/// Why a call is not let through, and when to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The circuit is open, or another's call probes it.
    #[error("the circuit is open; ask again in {retry_after:?}")]
    Open {
        /// When a probe is let through, if no other is before. Where one is under way: when its lease ends, at the latest.
        retry_after: Duration,
    },
    /// The service limits the rate.
    #[error("the service limits the rate; ask again in {retry_after:?}")]
    Paced {
        /// When that is over.
        retry_after: Duration,
    },
}

impl Denied {
    /// When to ask again.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Open { retry_after } | Self::Paced { retry_after } => *retry_after,
        }
    }
}

/// A circuit's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Calls are let through.
    Closed,
    /// None is.
    Open {
        /// For so long; then the next who asks is the probe.
        left: Duration,
    },
    /// One is, or may be.
    HalfOpen {
        /// The lease of the one that is under way; zero: the next who asks is the probe.
        left: Duration,
    },
}

/// Where a circuit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// When it stood so: milliseconds of the clock of whoever keeps the circuit.
    pub at: u64,
    /// Its state.
    pub state: State,
    /// Which state this is: later ones have higher numbers. 0: nobody remembers another.
    pub epoch: u64,
    /// The failures in the window; no more are counted than open it.
    pub failures: usize,
    /// The calls in the window, where the share of failures matters, and else 0; the oldest twelfth of the window may be missing.
    pub calls: u64,
    /// Nobody is let through for so long, because the service limits the rate; zero: it does not.
    pub paced: Duration,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    #[default]
    Closed,
    Open,
    HalfOpen {
        probe: Option<Token>,
    },
}

/// Calls that ended in one part of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) since: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
}

/// A circuit. The default is one of which nobody remembers anything: closed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Circuit {
    pub(crate) phase: Phase,
    /// When this state began, of a higher number than the state before, whatever the clock says.
    pub(crate) epoch: u64,
    /// When this state began, of half-open: when its probe was granted.
    pub(crate) since: u64,
    /// Nobody is let through before.
    pub(crate) paced: u64,
    /// The latest failures, oldest first, no more than open it.
    pub(crate) failures: Vec<(u64, Token)>,
    /// Oldest first; only where the share of failures matters.
    pub(crate) calls: Vec<Calls>,
    /// When it was changed.
    pub(crate) at: u64,
}

impl Circuit {
    /// Decides whether a call is made. The same token asking again gets the same probe.
    ///
    /// # Errors
    /// [`Denied`]; nothing is changed.
    pub fn ask(&mut self, rules: &Rules, now: u64, token: Token) -> Result<Grant, Denied> {
        self.follow(now);
        let free_at = self.free_at(rules);
        let again = self.phase == Phase::HalfOpen { probe: Some(token) } && now < free_at;
        if !again {
            if now < free_at {
                return Err(Denied::Open { retry_after: left(free_at.max(self.paced), now) });
            }
            if now < self.paced {
                return Err(Denied::Paced { retry_after: left(self.paced, now) });
            }
            if self.phase != Phase::Closed {
                self.enter(Phase::HalfOpen { probe: Some(token) }, now);
            }
        }
        Ok(Grant { epoch: self.epoch, token, probe: self.phase != Phase::Closed })
    }

    /// Takes note of how a call ended; gives whether that began another state. What is of an older epoch changes nothing, nor does
    /// a probe that is not the current one.
    pub fn report(&mut self, rules: &Rules, now: u64, grant: &Grant, report: Report) -> bool {
        self.follow(now);
        match self.phase {
            // A higher epoch is of a memory that was lost.
            Phase::Closed if !grant.probe && grant.epoch >= self.epoch => {
                self.call_ended(rules, now, grant.token, report)
            }
            Phase::HalfOpen { probe } if grant.epoch == self.epoch && probe == Some(grant.token) => {
                self.probe_ended(rules, now, report)
            }
            _ => false,
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn standing(&self, rules: &Rules, now: u64) -> Standing {
        let mut seen = self.clone();
        seen.follow(now);
        let free = left(seen.free_at(rules), now);
        let state = match seen.phase {
            Phase::Closed => State::Closed,
            Phase::Open => State::Open { left: free },
            Phase::HalfOpen { .. } => State::HalfOpen { left: free },
        };
        let failures = seen.failures.iter().filter(|(at, _)| counts(*at, rules, now)).count();
        let calls = seen.calls.iter().filter(|part| counts(part.since, rules, now));
        let calls = calls.map(|part| part.succeeded.saturating_add(part.failed)).sum();
        Standing { at: now, state, epoch: seen.epoch, failures, calls, paced: left(seen.paced, now) }
    }

    /// The same circuit by another clock, which says `to` where the one before says `from`.
    pub(crate) fn shift(&mut self, from: u64, to: u64) {
        let failures = self.failures.iter_mut().map(|(at, _)| at);
        let calls = self.calls.iter_mut().map(|calls| &mut calls.since);
        for time in failures.chain(calls).chain([&mut self.since, &mut self.paced, &mut self.at]) {
            *time = time.saturating_add(to).saturating_sub(from);
        }
    }

    /// Where the clock was set back, what is remembered goes with it: as if no time had passed since it was changed. So nothing
    /// ends later than it would have, counted from now, and none of it is forgotten.
    fn follow(&mut self, now: u64) {
        if now < self.at {
            self.shift(self.at, now);
        }
    }

    /// Until when nobody is let through, whatever the pace.
    fn free_at(&self, rules: &Rules) -> u64 {
        match self.phase {
            Phase::Closed | Phase::HalfOpen { probe: None } => 0,
            Phase::Open => self.since.saturating_add(rules.open_for),
            Phase::HalfOpen { probe: Some(_) } => self.since.saturating_add(rules.probe_lease),
        }
    }

    fn call_ended(&mut self, rules: &Rules, now: u64, token: Token, report: Report) -> bool {
        match report {
            Report::Success if rules.min_percent > 0 => self.count(rules, now, false),
            Report::Failure => return self.failed(rules, now, token),
            Report::RateLimited { retry_after } => self.pace(rules, now, retry_after),
            Report::Success | Report::Neither | Report::NotMade => {}
        }
        false
    }

    fn probe_ended(&mut self, rules: &Rules, now: u64, report: Report) -> bool {
        let next = match report {
            // A refusal proves that the service works.
            Report::Success | Report::Neither => Phase::Closed,
            Report::Failure => Phase::Open,
            Report::RateLimited { .. } | Report::NotMade => Phase::HalfOpen { probe: None },
        };
        if let Report::RateLimited { retry_after } = report {
            self.pace(rules, now, retry_after);
        }
        if next == (Phase::HalfOpen { probe: None }) {
            (self.phase, self.at) = (next, now);
            return false;
        }
        self.enter(next, now);
        true
    }

    /// Counts a failure, once, and opens the circuit with the last that it takes.
    fn failed(&mut self, rules: &Rules, now: u64, token: Token) -> bool {
        if self.failures.iter().any(|(_, counted)| *counted == token) {
            return false;
        }
        self.at = now;
        self.failures.retain(|(at, _)| counts(*at, rules, now));
        self.failures.push((now, token));
        let most = rules.failures as usize;
        self.failures.drain(..self.failures.len().saturating_sub(most));
        if rules.min_percent > 0 {
            self.count(rules, now, true);
        }
        let opens = self.failures.len() >= most && self.share_is_reached(rules);
        if opens {
            self.enter(Phase::Open, now);
        }
        opens
    }

    /// Counts a call for the share of failures. A part of the window leaves it as a whole, so the oldest twelfth of it may be
    /// missing, and nothing older counts.
    fn count(&mut self, rules: &Rules, now: u64, failed: bool) {
        self.at = now;
        self.calls.retain(|calls| counts(calls.since, rules, now));
        if self.calls.last().is_none_or(|last| now >= last.since.saturating_add(rules.bucket())) {
            self.calls.push(Calls { since: now, succeeded: 0, failed: 0 });
        }
        if let Some(last) = self.calls.last_mut() {
            let counted = if failed { &mut last.failed } else { &mut last.succeeded };
            *counted = counted.saturating_add(1);
        }
    }

    fn share_is_reached(&self, rules: &Rules) -> bool {
        let failed: u64 = self.calls.iter().map(|calls| calls.failed).sum();
        let all: u64 = failed + self.calls.iter().map(|calls| calls.succeeded).sum::<u64>();
        failed * 100 >= all * u64::from(rules.min_percent)
    }

    /// The later of the pace that stands and the one that was told.
    fn pace(&mut self, rules: &Rules, now: u64, retry_after: Option<Duration>) {
        let until = now.saturating_add(rules.pace(retry_after));
        if until > self.paced {
            (self.paced, self.at) = (until, now);
        }
    }

    /// Begins another state: with it an epoch, without failures. A pace is no matter of states.
    fn enter(&mut self, phase: Phase, now: u64) {
        let epoch = now.max(self.epoch.saturating_add(1));
        *self = Self { phase, epoch, since: now, at: now, paced: self.paced, ..Self::default() };
    }
}

/// Whether what happened then is in the window that ends now: 60 s later it is not.
fn counts(at: u64, rules: &Rules, now: u64) -> bool {
    now < at.saturating_add(rules.window)
}

fn left(until: u64, now: u64) -> Duration {
    Duration::from_millis(until.saturating_sub(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000;
    const BEGIN: u64 = 1_700_000_000_000;

    /// A circuit and its clock, which begins at zero.
    struct Trial {
        circuit: Circuit,
        rules: Rules,
        tokens: u64,
    }

    impl Trial {
        fn new() -> Self {
            Self { circuit: Circuit::default(), rules: Rules::default(), tokens: 0 }
        }

        fn ask(&mut self, at: u64) -> Result<Grant, Denied> {
            self.tokens += 1;
            self.circuit.ask(&self.rules, BEGIN + at, Token::from(self.tokens))
        }

        fn report(&mut self, at: u64, grant: &Grant, report: Report) -> bool {
            self.circuit.report(&self.rules, BEGIN + at, grant, report)
        }

        /// A call that ends at once.
        fn call(&mut self, at: u64, report: Report) -> bool {
            let grant = self.ask(at).unwrap();
            self.report(at, &grant, report)
        }

        fn state(&self, at: u64) -> State {
            self.circuit.standing(&self.rules, BEGIN + at).state
        }

        /// Opens it by five failures at once.
        fn open(&mut self, at: u64) {
            for n in 1..=5 {
                assert_eq!(self.call(at, Report::Failure), n == 5);
            }
        }
    }

    fn open_for(millis: u64) -> Denied {
        Denied::Open { retry_after: Duration::from_millis(millis) }
    }

    fn paced_for(millis: u64) -> Denied {
        Denied::Paced { retry_after: Duration::from_millis(millis) }
    }

    #[test]
    fn design_failures_at_0_15_30_45_and_61_s_keep_it_closed_and_a_fifth_within_60_s_opens_it() {
        let fails_at = |times: [u64; 5]| {
            let mut trial = Trial::new();
            times.map(|at| trial.call(at, Report::Failure))
        };
        assert_eq!(fails_at([0, 15, 30, 45, 61].map(|at| at * SECOND)), [false; 5]);
        assert_eq!(fails_at([0, 15, 30, 45, 59].map(|at| at * SECOND)), [false, false, false, false, true]);
        assert!(!fails_at([0, 1, 2, 3, 60_000])[4], "a window of 60 s does not have both of its ends");
        assert!(fails_at([0, 1, 2, 3, 59_999])[4]);
        // The window slides: the sixth is the fifth since the second.
        let mut trial = Trial::new();
        let opened = [0, 15, 30, 45, 61, 74].map(|at| trial.call(at * SECOND, Report::Failure));
        assert_eq!(opened, [false, false, false, false, false, true]);
    }

    #[test]
    fn a_success_while_closed_takes_no_failure_back() {
        let mut trial = Trial::new();
        for at in 0..4 {
            assert!(!trial.call(at, Report::Failure) && !trial.call(at, Report::Success));
        }
        assert!(trial.call(4, Report::Failure));
    }

    #[test]
    fn design_after_30_s_exactly_one_probe_runs_and_its_success_closes() {
        let mut trial = Trial::new();
        trial.open(0);
        assert_eq!((trial.ask(0).unwrap_err(), trial.ask(29_999).unwrap_err()), (open_for(30_000), open_for(1)));
        let probe = trial.ask(30_000).unwrap();
        assert!(probe.probe);
        assert_eq!(trial.ask(30_001).unwrap_err(), open_for(59_999));
        assert!(trial.report(31_000, &probe, Report::Success));
        assert!(!trial.ask(31_000).unwrap().probe);
        assert_eq!(trial.circuit.standing(&trial.rules, BEGIN + 31_000).failures, 0);
    }

    #[test]
    fn a_probe_that_fails_opens_it_for_another_30_s() {
        let mut trial = Trial::new();
        trial.open(0);
        let probe = trial.ask(30_000).unwrap();
        assert!(trial.report(40_000, &probe, Report::Failure));
        assert_eq!(trial.ask(40_001).unwrap_err(), open_for(29_999));
        assert!(trial.ask(70_000).unwrap().probe);
    }

    #[test]
    fn design_a_late_report_of_an_older_epoch_changes_nothing() {
        let all = [
            Report::Success,
            Report::Failure,
            Report::RateLimited { retry_after: None },
            Report::Neither,
            Report::NotMade,
        ];
        let mut trial = Trial::new();
        let early = trial.ask(0).unwrap();
        let unmoved = |trial: &mut Trial, at: u64, grant: &Grant| {
            for report in all {
                let before = trial.circuit.clone();
                assert!(!trial.report(at, grant, report) && trial.circuit == before, "{report:?}");
            }
        };
        trial.open(0);
        unmoved(&mut trial, 1, &early);
        let lost = trial.ask(30_000).unwrap();
        unmoved(&mut trial, 30_001, &early);
        let probe = trial.ask(90_000).unwrap();
        unmoved(&mut trial, 90_001, &lost);
        assert!(trial.report(90_002, &probe, Report::Success));
        for late in [&early, &lost, &probe] {
            unmoved(&mut trial, 90_003, late);
        }
    }

    #[test]
    fn design_a_lost_probe_is_granted_again_when_its_lease_has_run_out() {
        let mut trial = Trial::new();
        trial.open(0);
        let lost = trial.ask(30_000).unwrap();
        assert_eq!(trial.ask(89_999).unwrap_err(), open_for(1));
        let next = trial.ask(90_000).unwrap();
        assert!(next.probe && next.epoch > lost.epoch);
        assert_eq!(trial.ask(90_001).unwrap_err(), open_for(59_999));
    }

    #[test]
    fn a_lost_probe_that_reports_before_another_is_granted_is_believed() {
        let mut trial = Trial::new();
        trial.open(0);
        let slow = trial.ask(30_000).unwrap();
        assert!(trial.report(100_000, &slow, Report::Success));
        assert_eq!(trial.state(100_000), State::Closed);
    }

    #[test]
    fn whoever_lost_the_answer_asks_again_and_is_the_same_probe() {
        let mut trial = Trial::new();
        trial.open(0);
        let probe = trial.ask(30_000).unwrap();
        assert_eq!(trial.circuit.ask(&trial.rules, BEGIN + 30_400, probe.token), Ok(probe));
        // Behind its lease it is another, and of another epoch.
        let again = trial.circuit.ask(&trial.rules, BEGIN + 90_000, probe.token).unwrap();
        assert!(again.probe && again.epoch > probe.epoch);
    }

    #[test]
    fn a_failure_that_is_reported_twice_is_one() {
        let mut trial = Trial::new();
        for _ in 0..4 {
            let grant = trial.ask(0).unwrap();
            for at in [0, 1] {
                assert!(!trial.report(at, &grant, Report::Failure));
            }
        }
        assert_eq!(trial.circuit.standing(&trial.rules, BEGIN + 1).failures, 4);
    }

    #[test]
    fn design_429_is_no_failure_and_paces() {
        let mut trial = Trial::new();
        let limited = |seconds: u64| Report::RateLimited { retry_after: Some(Duration::from_secs(seconds)) };
        let calls: Vec<_> = (0..8).map(|_| trial.ask(0).unwrap()).collect();
        for grant in &calls {
            assert!(!trial.report(0, grant, limited(7)));
        }
        assert!(!trial.report(0, &calls[0], limited(3)), "a shorter one does not end it");
        assert_eq!((trial.ask(1).unwrap_err(), trial.ask(6_999).unwrap_err()), (paced_for(6_999), paced_for(1)));
        assert_eq!(trial.circuit.standing(&trial.rules, BEGIN + 1).epoch, 0);
        assert!(trial.ask(7_000).is_ok() && trial.ask(7_000).is_ok(), "then everybody is let through");
    }

    #[test]
    fn a_probe_that_meets_a_429_frees_its_lease_and_the_next_waits_for_the_pace() {
        let mut trial = Trial::new();
        trial.open(0);
        let probe = trial.ask(30_000).unwrap();
        let limited = Report::RateLimited { retry_after: Some(Duration::from_secs(5)) };
        assert!(!trial.report(30_000, &probe, limited));
        assert_eq!(trial.ask(30_001).unwrap_err(), paced_for(4_999));
        assert!(!trial.report(30_002, &probe, Report::Success), "it has reported");
        assert!(trial.ask(35_000).unwrap().probe);
    }

    #[test]
    fn an_open_circuit_that_is_paced_for_longer_says_when_it_can_be_asked() {
        let mut trial = Trial::new();
        let limited = Report::RateLimited { retry_after: Some(Duration::from_secs(50)) };
        let others: Vec<_> = (0..5).map(|_| trial.ask(0).unwrap()).collect();
        assert!(!trial.call(0, limited));
        assert!(others.iter().any(|grant| trial.report(0, grant, Report::Failure)));
        assert_eq!((trial.ask(0).unwrap_err(), trial.ask(40_000).unwrap_err()), (open_for(50_000), paced_for(10_000)));
        assert!(trial.ask(50_000).unwrap().probe);
    }

    #[test]
    fn a_refusal_of_a_probe_closes_and_a_probe_that_was_not_made_frees_its_lease() {
        for (report, closes) in [(Report::Neither, true), (Report::NotMade, false)] {
            let mut trial = Trial::new();
            trial.open(0);
            let probe = trial.ask(30_000).unwrap();
            assert_eq!(trial.report(30_000, &probe, report), closes);
            let next = trial.ask(30_000).unwrap();
            assert_eq!((next.probe, trial.ask(30_000).is_ok()), (!closes, closes));
        }
        let mut trial = Trial::new();
        for _ in 0..20 {
            assert!(!trial.call(0, Report::Neither) && !trial.call(0, Report::NotMade));
        }
        assert_eq!(trial.circuit, Circuit::default(), "while closed they change nothing");
    }

    #[test]
    fn where_a_share_is_asked_for_it_takes_that_of_the_calls_too() {
        let mut trial = Trial::new();
        trial.rules.min_percent = 50;
        for _ in 0..8 {
            assert!(!trial.call(0, Report::Success));
        }
        for n in 1..=8 {
            assert_eq!(trial.call(1, Report::Failure), n == 8, "{n} of {}", n + 8);
        }
        // What has left the window does not count.
        let mut trial = Trial::new();
        trial.rules.min_percent = 50;
        for _ in 0..100 {
            assert!(!trial.call(0, Report::Success));
        }
        trial.open(60_000);
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_nothing_open_for_longer_and_forgets_no_failure() {
        let hour = 3_600 * SECOND;
        // Opened while the clock was an hour ahead.
        let mut trial = Trial::new();
        trial.open(hour);
        assert_eq!(trial.ask(0).unwrap_err(), open_for(30_000));
        let lost = trial.ask(30_000).unwrap();
        // A probe that was granted while it was ahead.
        let mut ahead = Trial::new();
        ahead.open(0);
        let probe = ahead.ask(hour).unwrap();
        assert!(probe.probe && ahead.ask(100).is_err() && ahead.ask(60_100).is_ok_and(|next| next.epoch > probe.epoch));
        // Epochs go on, so what is late is late on any clock.
        assert!(trial.ask(90_000).is_ok_and(|next| next.epoch > lost.epoch));
        // A pace, and failures.
        let mut trial = Trial::new();
        let calls: Vec<_> = (0..5).map(|_| trial.ask(0).unwrap()).collect();
        for grant in &calls[..4] {
            assert!(!trial.report(hour, grant, Report::Failure));
        }
        assert!(trial.report(0, &calls[4], Report::Failure), "five within 60 s, as far as can be known");
        let mut trial = Trial::new();
        assert!(!trial.call(hour, Report::RateLimited { retry_after: None }));
        assert_eq!((trial.ask(0).unwrap_err(), trial.ask(1_000).is_ok()), (paced_for(1_000), true));
    }

    #[test]
    fn a_clock_that_jumps_ahead_keeps_nothing_open() {
        let mut trial = Trial::new();
        trial.open(0);
        assert!(trial.ask(86_400 * SECOND).unwrap().probe);
    }
}
