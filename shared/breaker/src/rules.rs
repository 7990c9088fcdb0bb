//! When a circuit opens, and for how long: the configuration.

use std::time::Duration;

use huntaze_domain::env::Env;

/// A circuit remembers each failure that counts: this bounds its memory.
pub const MAX_FAILURES: u32 = 50;
const FAILURES: u32 = 5;
const WINDOW_MS: u64 = 60_000;
const OPEN_MS: u64 = 30_000;
/// Longer than the longest call that a probe can be.
const PROBE_LEASE_MS: u64 = 60_000;
const PACE_DEFAULT_MS: u64 = 1_000;
const PACE_MAX_MS: u64 = 600_000;
/// So many parts of a window are counted apart, where shares of failures matter.
const BUCKETS: u64 = 12;

/// The rules of every circuit. Times are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    pub(crate) failures: u32,
    pub(crate) window: u64,
    pub(crate) open_for: u64,
    pub(crate) probe_lease: u64,
    pub(crate) min_percent: u8,
    pub(crate) pace_default: u64,
    pub(crate) pace_max: u64,
}

impl Default for Rules {
    /// Those of the design.
    fn default() -> Self {
        Self {
            failures: FAILURES,
            window: WINDOW_MS,
            open_for: OPEN_MS,
            probe_lease: PROBE_LEASE_MS,
            min_percent: 0,
            pace_default: PACE_DEFAULT_MS,
            pace_max: PACE_MAX_MS,
        }
    }
}

impl Rules {
    /// Reads:
    ///
    /// | variable | default | |
    /// |---|---|---|
    /// | `BREAKER_FAILURES` | 5 | so many failures open a circuit, 1 to [`MAX_FAILURES`] |
    /// | `BREAKER_WINDOW_MS` | 60000 | if they come within this |
    /// | `BREAKER_MIN_FAILURE_PERCENT` | 0 | and are at least this share of the calls in it; 0: whatever their share |
    /// | `BREAKER_OPEN_MS` | 30000 | it is open for so long |
    /// | `BREAKER_PROBE_LEASE_MS` | 60000 | a probe has so long to report; longer than the longest call |
    /// | `BREAKER_PACE_DEFAULT_MS` | 1000 | a rate limit that does not say how long paces so long |
    /// | `BREAKER_PACE_MAX_MS` | 600000 | and none paces longer |
    ///
    /// Times are 1 ms to 15 minutes.
    #[must_use]
    pub fn from_env(env: &Env) -> Self {
        let millis = |name: &str, default: u64| {
            let time = env.millis(name, default);
            time.as_millis().try_into().unwrap_or(default)
        };
        let rules = Self {
            failures: env.parsed("BREAKER_FAILURES", FAILURES),
            window: millis("BREAKER_WINDOW_MS", WINDOW_MS),
            open_for: millis("BREAKER_OPEN_MS", OPEN_MS),
            probe_lease: millis("BREAKER_PROBE_LEASE_MS", PROBE_LEASE_MS),
            min_percent: env.parsed("BREAKER_MIN_FAILURE_PERCENT", 0),
            pace_default: millis("BREAKER_PACE_DEFAULT_MS", PACE_DEFAULT_MS),
            pace_max: millis("BREAKER_PACE_MAX_MS", PACE_MAX_MS),
        };
        if !(1..=MAX_FAILURES).contains(&rules.failures) {
            env.fault("BREAKER_FAILURES", format!("must be 1 to {MAX_FAILURES}"));
        }
        if rules.min_percent > 100 {
            env.fault("BREAKER_MIN_FAILURE_PERCENT", "must be 0 to 100");
        }
        if rules.pace_default > rules.pace_max {
            env.fault("BREAKER_PACE_DEFAULT_MS", "must be at most BREAKER_PACE_MAX_MS");
        }
        rules
    }

    /// How long a rate limit paces, in milliseconds, rounded up.
    pub(crate) fn pace(&self, retry_after: Option<Duration>) -> u64 {
        let told = retry_after.map(|wait| wait.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(u64::MAX));
        told.unwrap_or(self.pace_default).min(self.pace_max)
    }

    /// How long calls are counted together.
    pub(crate) fn bucket(&self) -> u64 {
        self.window.div_ceil(BUCKETS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Env {
        Env::from_pairs(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn the_rules_are_the_designs_unless_they_are_set() {
        let none = env(&[]);
        assert_eq!(none.finish(Some(Rules::from_env(&none))).unwrap(), Rules::default());
        let set = env(&[
            ("BREAKER_FAILURES", "3"),
            ("BREAKER_WINDOW_MS", "10000"),
            ("BREAKER_OPEN_MS", "2000"),
            ("BREAKER_PROBE_LEASE_MS", "9000"),
            ("BREAKER_MIN_FAILURE_PERCENT", "50"),
            ("BREAKER_PACE_DEFAULT_MS", "20"),
            ("BREAKER_PACE_MAX_MS", "30"),
        ]);
        let expected = Rules {
            failures: 3,
            window: 10_000,
            open_for: 2_000,
            probe_lease: 9_000,
            min_percent: 50,
            pace_default: 20,
            pace_max: 30,
        };
        assert_eq!(set.finish(Some(Rules::from_env(&set))).unwrap(), expected);
    }

    #[test]
    fn every_fault_of_the_configuration_is_named() {
        let bad = [
            ("BREAKER_FAILURES", "0"),
            ("BREAKER_FAILURES", "51"),
            ("BREAKER_WINDOW_MS", "0"),
            ("BREAKER_OPEN_MS", "900001"),
            ("BREAKER_PROBE_LEASE_MS", "soon"),
            ("BREAKER_MIN_FAILURE_PERCENT", "101"),
            ("BREAKER_PACE_DEFAULT_MS", "600001"),
            ("BREAKER_PACE_MAX_MS", "-1"),
        ];
        for (name, value) in bad {
            let env = env(&[(name, value)]);
            let faults = env.finish(Some(Rules::from_env(&env))).unwrap_err().0;
            assert!(faults.len() == 1 && faults[0].starts_with(name), "{name}={value}: {faults:?}");
        }
    }

    #[test]
    fn a_pace_is_what_was_told_or_the_default_and_is_capped() {
        let pace = |told: Option<Duration>| Rules::default().pace(told);
        assert_eq!(pace(None), 1_000);
        assert_eq!(pace(Some(Duration::from_micros(1_500_001))), 1_501);
        assert_eq!(pace(Some(Duration::ZERO)), 0);
        assert_eq!(pace(Some(Duration::MAX)), 600_000);
    }
}
