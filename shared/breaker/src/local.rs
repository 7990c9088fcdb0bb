//! The circuits of one process, for as long as Redis does not answer.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::machine::{Circuit, Standing, State};
use crate::name::Name;
use crate::rules::Rules;

/// So many circuits are remembered, some 300 bytes each. One that is forgotten is closed.
const MAX_CIRCUITS: usize = 1_000;

/// What Redis said last, and what happened since then that Redis was not told. Times are those of the wall clock: another may stand
/// still while the environment is frozen.
#[derive(Default)]
pub(crate) struct Local(Mutex<HashMap<Name, Circuit>>);

impl Local {
    /// Redis has answered: its circuit holds, whatever the process thought.
    pub(crate) fn learn(&self, rules: &Rules, now: u64, name: &Name, mut circuit: Circuit) {
        circuit.shift(circuit.at, now);
        let _ = self.with(rules, now, name, |own| *own = circuit);
    }

    /// Does something with the process's own circuit; gives where it stands then.
    pub(crate) fn with<T>(
        &self,
        rules: &Rules,
        now: u64,
        name: &Name,
        act: impl FnOnce(&mut Circuit) -> T,
    ) -> (T, Standing) {
        let mut circuits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut circuit = circuits.remove(name).unwrap_or_default();
        let done = act(&mut circuit);
        let standing = circuit.standing(rules, now);
        // One of which there is nothing to remember is made again when it is asked for. Where it had another state, that is
        // remembered: reports of that may come.
        if !is_quiet(&standing) || standing.epoch > 0 {
            if circuits.len() >= MAX_CIRCUITS {
                circuits.retain(|_, other| !is_quiet(&other.standing(rules, now)));
            }
            if circuits.len() >= MAX_CIRCUITS {
                circuits.clear();
            }
            circuits.insert(name.clone(), circuit);
        }
        (done, standing)
    }
}

/// Nobody is kept from anything, and no failure counts.
fn is_quiet(standing: &Standing) -> bool {
    standing.state == State::Closed && standing.failures == 0 && standing.paced.is_zero()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Denied, Grant, Report};
    use crate::token::Token;

    const RULES: fn() -> Rules = Rules::default;

    fn name(n: usize) -> Name {
        Name::parse(&format!("circuit-{n}")).unwrap()
    }

    fn ask(local: &Local, now: u64, n: usize, token: u64) -> Result<Grant, Denied> {
        local.with(&RULES(), now, &name(n), |circuit| circuit.ask(&RULES(), now, Token::from(token))).0
    }

    fn fail(local: &Local, now: u64, n: usize, token: u64) -> bool {
        let grant = ask(local, now, n, token).unwrap();
        local.with(&RULES(), now, &name(n), |circuit| circuit.report(&RULES(), now, &grant, Report::Failure)).0
    }

    fn known(local: &Local) -> usize {
        local.0.lock().unwrap().len()
    }

    #[test]
    fn what_redis_said_last_goes_on_by_the_clock_of_the_process() {
        let (local, rules) = (Local::default(), RULES());
        // Redis' clock is far behind; it says that the circuit opened ten seconds ago.
        let mut redis = Circuit::default();
        for n in 1..=5 {
            let grant = redis.ask(&rules, 50_000, Token::from(n)).unwrap();
            assert_eq!(redis.report(&rules, 50_000, &grant, Report::Failure), n == 5);
        }
        redis.at = 60_000;
        local.learn(&rules, 9_000_000, &name(0), redis);
        let denied = ask(&local, 9_000_000, 0, 6).unwrap_err();
        assert_eq!(denied.retry_after().as_millis(), 20_000);
        assert!(ask(&local, 9_020_000, 0, 6).is_ok_and(|probe| probe.probe));
        // Redis is back, and knows of no failure.
        local.learn(&rules, 9_021_000, &name(0), Circuit { at: 81_000, ..Circuit::default() });
        assert!(ask(&local, 9_021_000, 0, 7).is_ok_and(|grant| !grant.probe));
    }

    #[test]
    fn a_circuit_of_which_there_is_nothing_to_remember_is_not_remembered() {
        let local = Local::default();
        assert!(ask(&local, 1, 0, 1).is_ok());
        assert_eq!(known(&local), 0);
        assert!(!fail(&local, 1, 0, 2));
        assert_eq!(known(&local), 1);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_matters_stays() {
        let local = Local::default();
        for n in 0..MAX_CIRCUITS {
            assert!(!fail(&local, if n == 0 { 100_000 } else { 1 }, n, 1));
        }
        assert_eq!(known(&local), MAX_CIRCUITS);
        // All failures but one have left their window.
        assert!(!fail(&local, 100_001, MAX_CIRCUITS, 1));
        assert_eq!(known(&local), 2);
        for n in 0..=MAX_CIRCUITS {
            assert!(!fail(&local, 100_002, n + 1, 2));
        }
        assert!(known(&local) <= MAX_CIRCUITS);
    }
}
