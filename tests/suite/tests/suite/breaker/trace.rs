//! The scripts decide as the machine does: on random courses of events, at the times that Redis read.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use huntaze_breaker::machine::{Circuit, Grant};
use huntaze_breaker::{Breaker, Denied, Keeper, Name, Permit, Report, Standing, State, Token};
use huntaze_tests::{App, eventually};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use redis::aio::MultiplexedConnection;

use super::{BOUND, age, breaker, name};

const TRACES: usize = 40;
const STEPS: usize = 200;
/// An answer that takes so long may be the second: when the first was decided, nobody knows.
const LATE: Duration = Duration::from_millis(200);
/// The longest that time passes at once: longer than anything is remembered.
const LONGEST_MS: i64 = 70_000;

/// Rules, and the part of the time that passes in a trace of them.
const SETTINGS: &[(i64, &[(&str, &str)])] = &[
    (1, &[]),
    (1, &[("BREAKER_FAILURES", "2"), ("BREAKER_PROBE_LEASE_MS", "3000")]),
    (1, &[("BREAKER_FAILURES", "3"), ("BREAKER_MIN_FAILURE_PERCENT", "60")]),
    (1, &[("BREAKER_FAILURES", "2"), ("BREAKER_MIN_FAILURE_PERCENT", "70"), ("BREAKER_WINDOW_MS", "24000"), SHORT]),
    (1, &[("BREAKER_FAILURES", "1"), ("BREAKER_WINDOW_MS", "7000"), ("BREAKER_PROBE_LEASE_MS", "2000"), SHORT]),
    // Hardly ever open: so that many calls are counted.
    (1, &[("BREAKER_FAILURES", "50"), ("BREAKER_MIN_FAILURE_PERCENT", "100"), ("BREAKER_WINDOW_MS", "24000"), UNPACED]),
    (
        10_000,
        &[("BREAKER_FAILURES", "50"), ("BREAKER_MIN_FAILURE_PERCENT", "100"), ("BREAKER_WINDOW_MS", "24"), UNPACED],
    ),
    // As short as what a step takes: so that some are made at the very ends of windows and leases.
    (
        10_000,
        &[
            ("BREAKER_FAILURES", "2"),
            ("BREAKER_WINDOW_MS", "5"),
            ("BREAKER_OPEN_MS", "2"),
            ("BREAKER_PROBE_LEASE_MS", "3"),
            ("BREAKER_PACE_DEFAULT_MS", "1"),
            ("BREAKER_PACE_MAX_MS", "2"),
        ],
    ),
];
const UNPACED: (&str, &str) = ("BREAKER_PACE_MAX_MS", "1000");
const SHORT: (&str, &str) = ("BREAKER_OPEN_MS", "900");

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Time passes; of a negative one, the clock is set back.
    Pass(i64),
    /// Somebody asks, or somebody who has asked before asks again.
    Ask { again: Option<usize> },
    /// A call ends, of the latest eight or of all.
    Report { which: usize, report: Report },
    /// Somebody looks.
    Peek,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let told = proptest::option::of((0..20_000u64).prop_map(Duration::from_millis));
    let report = prop_oneof![
        8 => Just(Report::Failure),
        3 => Just(Report::Success),
        1 => told.prop_map(|retry_after| Report::RateLimited { retry_after }),
        1 => Just(Report::Neither),
        1 => Just(Report::NotMade),
    ];
    let pass = prop_oneof![6 => 0..6_000i64, 2 => 6_000..LONGEST_MS, 1 => -LONGEST_MS..0];
    let step = prop_oneof![
        4 => pass.prop_map(Step::Pass),
        8 => proptest::option::weighted(0.4, any::<usize>()).prop_map(|again| Step::Ask { again }),
        10 => (any::<usize>(), report).prop_map(|(which, report)| Step::Report { which, report }),
        1 => Just(Step::Peek),
    ];
    proptest::collection::vec(step, STEPS)
}

/// A circuit in Redis, and the machine that is told the same.
struct Both<'a> {
    breaker: &'a Breaker,
    name: Name,
    /// So many times less time passes than the steps say.
    slower: i64,
    circuit: Circuit,
    /// How far the machine's clock is ahead of Redis'.
    ahead: i64,
    /// The machine's epoch, by that of the script: they are of other clocks, so they have to begin together.
    epochs: HashMap<u64, u64>,
    tokens: Vec<Token>,
    calls: Vec<(Permit, Grant)>,
    /// What has happened, and how often.
    seen: BTreeMap<&'static str, usize>,
}

impl Both<'_> {
    fn machine_time(&self, at: u64) -> Result<u64> {
        at.checked_add_signed(self.ahead).context("a time out of bounds")
    }

    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// Where both stand is the same.
    fn agree(&mut self, said: Standing) -> Result<()> {
        let own = self.circuit.standing(self.breaker.rules(), self.machine_time(said.at)?);
        assert_eq!(
            (said.state, said.failures, said.calls, said.paced),
            (own.state, own.failures, own.calls, own.paced),
            "{said:?} is not {own:?}"
        );
        let known = self.epochs.len();
        let epoch = *self.epochs.entry(said.epoch).or_insert(own.epoch);
        assert_eq!(epoch, own.epoch, "another epoch");
        let latest = self.epochs.values().max();
        assert!(self.epochs.len() == known || latest == Some(&own.epoch), "an epoch that is not the latest");
        Ok(())
    }

    async fn ask(&mut self, again: Option<usize>) -> Result<()> {
        // Most often whoever asked last has lost the answer.
        let latest = self.tokens.len().saturating_sub(1);
        let again = again.map(|n| if n.is_multiple_of(4) { n / 4 % (latest + 1) } else { latest });
        let again = again.and_then(|which| self.tokens.get(which)).copied();
        let token = again.unwrap_or_else(Token::random);
        let said = self.breaker.ask(&self.name, token).await;
        ensure!(said.by == Keeper::Redis, "Redis was late");
        let (now, rules) = (self.machine_time(said.standing.at)?, *self.breaker.rules());
        let own = self.circuit.ask(&rules, now, token);
        self.agree(said.standing)?;
        self.saw(match (&own, again) {
            (Ok(grant), Some(_)) if self.calls.iter().any(|(_, known)| known == grant) && grant.probe => "probe again",
            (Ok(grant), _) if grant.probe => "probe",
            (Ok(_), _) => "granted",
            (Err(Denied::Open { .. }), _) => "open",
            (Err(Denied::Paced { .. }), _) => "paced",
        });
        match (said.permit, own) {
            (Ok(permit), Ok(grant)) => {
                assert_eq!((permit.is_probe(), self.epochs[&permit.epoch()]), (grant.probe, grant.epoch));
                self.calls.push((permit, grant));
            }
            (permit, own) => assert_eq!(permit.err(), own.err()),
        }
        self.tokens.push(token);
        Ok(())
    }

    async fn report(&mut self, which: usize, report: Report) -> Result<()> {
        let from = if which.is_multiple_of(4) { 0 } else { self.calls.len().saturating_sub(8) };
        let Some((permit, grant)) = self.calls[from..].get(which / 4 % (self.calls.len() - from).max(1)) else {
            return Ok(());
        };
        let said = self.breaker.report(permit, report).await?;
        let now = self.machine_time(said.standing.at)?;
        let changed = self.circuit.report(self.breaker.rules(), now, grant, report);
        assert_eq!(said.changed, changed, "{report:?}");
        self.agree(said.standing)?;
        match (changed, said.standing.state) {
            (true, State::Open { .. }) => self.saw("opens"),
            (true, State::Closed) => self.saw("closes"),
            _ => self.saw("no other state"),
        }
        Ok(())
    }

    async fn peek(&mut self) -> Result<()> {
        let peeked = self.breaker.peek(std::slice::from_ref(&self.name)).await;
        ensure!(peeked.by == Keeper::Redis, "Redis was late");
        self.agree(peeked.standings[0])
    }

    async fn pass(&mut self, redis: &mut MultiplexedConnection, millis: i64) -> Result<()> {
        age(redis, &self.name, millis).await?;
        self.ahead += millis;
        self.saw(if millis < 0 { "set back" } else { "time passes" });
        Ok(())
    }

    async fn run(&mut self, redis: &mut MultiplexedConnection, steps: &[Step]) -> Result<()> {
        for step in steps {
            let begun = Instant::now();
            match *step {
                Step::Pass(millis) => self.pass(redis, millis / self.slower).await?,
                Step::Ask { again } => self.ask(again).await?,
                Step::Report { which, report } => self.report(which, report).await?,
                Step::Peek => self.peek().await?,
            }
            ensure!(begun.elapsed() < LATE, "Redis was late");
        }
        Ok(())
    }
}

#[tokio::test]
async fn the_scripts_decide_as_the_machine_does() -> Result<()> {
    let app = App::start().await?;
    let redis = app.stores.redis().await?;
    let breakers = SETTINGS.iter().map(|(_, settings)| breaker(&app, settings)).collect::<Result<Vec<_>>>()?;
    let (mut runner, mut seen, mut tries) = (TestRunner::deterministic(), BTreeMap::<_, usize>::new(), 0);
    for trace in 0..TRACES {
        let steps = steps().new_tree(&mut runner).map_err(|reason| anyhow::anyhow!("{reason}"))?.current();
        // On a busy machine an answer may be late, and when it was decided is not known: then it is tried again, from the beginning.
        let saw = eventually(BOUND, async || {
            tries += 1;
            let mut both = Both {
                breaker: &breakers[trace % breakers.len()],
                name: name(&format!("trace-{trace}-{tries}")),
                slower: SETTINGS[trace % breakers.len()].0,
                circuit: Circuit::default(),
                ahead: 0,
                epochs: HashMap::from([(0, 0)]),
                tokens: Vec::new(),
                calls: Vec::new(),
                seen: BTreeMap::new(),
            };
            both.run(&mut redis.clone(), &steps).await?;
            Ok(both.seen)
        });
        for (what, times) in saw.await.with_context(|| format!("trace {trace}"))? {
            *seen.entry(what).or_default() += times;
        }
    }
    println!("{TRACES} traces of {STEPS} steps, on which machine and scripts agree: {seen:?}");
    let all = ["closes", "granted", "no other state", "open", "opens", "paced", "probe", "probe again", "set back"];
    assert!(all.iter().all(|what| seen.get(what).is_some_and(|times| *times >= 5)), "{seen:?}");
    Ok(())
}
