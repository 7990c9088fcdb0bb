//! What holds whatever happens, on a clock that may be set back and jump.

use proptest::prelude::*;

use super::*;

/// What happens next, so much later.
#[derive(Debug, Clone, Copy)]
enum Step {
    Ask { later: i64 },
    Report { later: i64, which: usize, report: Report },
}

fn report() -> impl Strategy<Value = Report> {
    let told = proptest::option::of((0..40u64).prop_map(Duration::from_millis));
    prop_oneof![
        6 => Just(Report::Failure),
        3 => Just(Report::Success),
        1 => told.prop_map(|retry_after| Report::RateLimited { retry_after }),
        1 => Just(Report::Neither),
        1 => Just(Report::NotMade),
    ]
}

/// Courses of events; where the clock may be set back, by as much as it moves ahead.
fn steps(set_back: bool) -> impl Strategy<Value = Vec<Step>> {
    let back = if set_back { -300..0i64 } else { 0..1i64 };
    let later = prop_oneof![8 => 0..20i64, 2 => 20..120i64, 1 => back];
    let ask = later.clone().prop_map(|later| Step::Ask { later });
    let ended = (later, any::<usize>(), report());
    let ended = ended.prop_map(|(later, which, report)| Step::Report { later, which, report });
    proptest::collection::vec(prop_oneof![5 => ask, 4 => ended], 1..200)
}

fn rules() -> impl Strategy<Value = Rules> {
    let shares = proptest::sample::select(vec![0, 0, 30, 100]);
    (1..6u32, 30..200u64, 10..80u64, 10..80u64, shares).prop_map(
        |(failures, window, open_for, probe_lease, min_percent)| Rules {
            failures,
            window,
            open_for,
            probe_lease,
            min_percent,
            ..Rules::default()
        },
    )
}

/// A circuit beside everything that happened to it.
struct Course {
    circuit: Circuit,
    rules: Rules,
    now: u64,
    /// How far the clock went ahead, all together: no less than the time that has passed.
    passed: u64,
    grants: Vec<Grant>,
}

impl Course {
    fn new(rules: Rules) -> Self {
        Self { circuit: Circuit::default(), rules, now: 1_000_000, passed: 0, grants: Vec::new() }
    }

    fn pass(&mut self, later: i64) {
        self.now = self.now.saturating_add_signed(later);
        self.passed += u64::try_from(later).unwrap_or(0);
    }

    fn ask(&mut self) -> Result<Grant, Denied> {
        let token = Token::from(self.grants.len() as u64 + 1);
        let asked = self.circuit.ask(&self.rules, self.now, token);
        self.grants.extend(asked);
        asked
    }

    /// A call of those that were let through; the latest are the likeliest.
    fn grant(&self, which: usize) -> Option<Grant> {
        let latest = self.grants.len().saturating_sub(8);
        let from = if which.is_multiple_of(4) { &self.grants[..] } else { &self.grants[latest..] };
        (!from.is_empty()).then(|| from[which / 4 % from.len()])
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn it_opens_with_the_failure_that_makes_enough_within_a_window_and_no_other(rules in rules(), steps in steps(false)) {
        let rules = Rules { min_percent: 0, ..rules };
        let mut course = Course::new(rules);
        // Every failure: of which epoch, whose, and when.
        let mut failed: Vec<(u64, Token, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Ask { later } => {
                    course.pass(later);
                    let _ = course.ask();
                }
                Step::Report { later, which, report } => {
                    course.pass(later);
                    let Some(grant) = course.grant(which) else { continue };
                    // What is told twice within a window is told once; behind it nobody remembers.
                    if failed.iter().any(|(_, token, _)| *token == grant.token) {
                        continue;
                    }
                    let epoch = course.circuit.epoch;
                    let counts = course.circuit.phase == Phase::Closed && grant.epoch == epoch;
                    let changed = course.circuit.report(&rules, course.now, &grant, report);
                    if !counts {
                        continue;
                    }
                    if report == Report::Failure {
                        failed.push((epoch, grant.token, course.now));
                        let within = |(of, _, at): &&(u64, Token, u64)| *of == epoch && at + rules.window > course.now;
                        prop_assert_eq!(changed, failed.iter().filter(within).count() >= rules.failures as usize);
                    } else {
                        prop_assert!(!changed);
                    }
                }
            }
        }
    }

    #[test]
    fn no_two_probes_are_under_way_and_only_the_current_one_and_its_epoch_change_anything(
        rules in rules(),
        steps in steps(true),
    ) {
        let mut course = Course::new(rules);
        let mut probe: Option<(Grant, u64)> = None;
        for step in steps {
            let before = course.circuit.clone();
            match step {
                Step::Ask { later } => {
                    course.pass(later);
                    let asked = course.ask();
                    prop_assert!(asked.is_ok() || course.circuit.phase == before.phase);
                    if let Ok(grant) = asked && grant.probe {
                        let free = probe.is_none_or(|(_, since)| course.passed >= since + rules.probe_lease);
                        prop_assert!(free, "{probe:?} is under way");
                        probe = Some((grant, course.passed));
                    } else if asked.is_ok() {
                        prop_assert_eq!(course.circuit.phase, Phase::Closed);
                    }
                }
                Step::Report { later, which, report } => {
                    course.pass(later);
                    let Some(grant) = course.grant(which) else { continue };
                    let changed = course.circuit.report(&rules, course.now, &grant, report);
                    let current = probe.is_some_and(|(probe, _)| probe == grant);
                    if grant.epoch != before.epoch || (before.phase != Phase::Closed && !current) {
                        let mut unmoved = before.clone();
                        unmoved.follow(course.now);
                        prop_assert!(!changed && course.circuit == unmoved);
                    } else if current {
                        probe = None;
                    }
                }
            }
            prop_assert!(course.circuit.epoch >= before.epoch, "epochs go on");
            prop_assert_eq!(course.circuit.epoch > before.epoch, {
                let probed = matches!(course.circuit.phase, Phase::HalfOpen { probe: Some(_) }) && course.circuit.phase != before.phase;
                probed || std::mem::discriminant(&course.circuit.phase) != std::mem::discriminant(&before.phase)
            }, "each state has its own");
        }
    }

    #[test]
    fn what_is_told_of_waiting_is_exact_and_nothing_stays_open_for_ever(rules in rules(), steps in steps(true)) {
        let mut course = Course::new(rules);
        let longest = rules.open_for.max(rules.probe_lease).max(rules.pace(Some(Duration::from_millis(40))));
        let longest = longest.max(rules.pace(None));
        for step in steps {
            match step {
                Step::Ask { later } => {
                    course.pass(later);
                    let Err(denied) = course.ask() else { continue };
                    let wait = u64::try_from(denied.retry_after().as_millis()).unwrap();
                    prop_assert!((1..=longest).contains(&wait), "{denied:?}");
                    let asks = |after: u64| course.circuit.clone().ask(&rules, course.now + after, Token::from(u64::MAX));
                    prop_assert!(asks(wait - 1).is_err() && asks(wait).is_ok(), "{denied:?}");
                }
                Step::Report { later, which, report } => {
                    course.pass(later);
                    let Some(grant) = course.grant(which) else { continue };
                    let _ = course.circuit.report(&rules, course.now, &grant, report);
                }
            }
        }
    }

    #[test]
    fn what_is_done_twice_is_done_once_and_memory_is_bounded(rules in rules(), steps in steps(true)) {
        let mut course = Course::new(rules);
        for step in steps {
            match step {
                Step::Ask { later } => {
                    course.pass(later);
                    let Ok(grant) = course.ask() else { continue };
                    let once = course.circuit.clone();
                    prop_assert_eq!(course.circuit.ask(&rules, course.now, grant.token), Ok(grant));
                    prop_assert_eq!(&course.circuit, &once);
                }
                Step::Report { later, which, report } => {
                    course.pass(later);
                    let Some(grant) = course.grant(which) else { continue };
                    let _ = course.circuit.report(&rules, course.now, &grant, report);
                    let once = course.circuit.clone();
                    // A success is counted where shares matter, and not told apart from another.
                    if rules.min_percent == 0 || (report != Report::Success && rules.failures > 1) {
                        prop_assert!(!course.circuit.report(&rules, course.now, &grant, report));
                        prop_assert_eq!(&course.circuit, &once);
                    }
                }
            }
            prop_assert!(course.circuit.failures.len() <= rules.failures as usize && course.circuit.calls.len() <= 12);
            let failed = course.circuit.failures.iter().map(|(at, _)| *at);
            prop_assert!(failed.chain([course.circuit.since]).all(|at| at <= course.circuit.at), "nothing is of the future");
        }
    }
}
