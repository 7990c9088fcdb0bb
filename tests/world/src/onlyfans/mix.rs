//! Faults for a load: so many of all messages meet with this, so many with that, the same in the same order every time.

use serde::{Deserialize, Serialize};

use crate::faults::Fault;

/// Shares are counted in these parts of one.
const PARTS: u64 = 1_000_000_000;

/// Which shares of the messages meet with what; each from 0 to 1, together at most 1. The rest is answered as usual. It is
/// for messages that no rule is for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Mix {
    /// What the draws begin with: the same seed gives the same faults in the same order.
    pub seed: u64,
    /// Never answered, and not accepted.
    pub hang_before: f64,
    /// Accepted, and never answered.
    pub hang_after: f64,
    /// The connection is reset, and nothing accepted.
    pub reset_before: f64,
    /// Accepted, then the connection is reset.
    pub reset_after: f64,
    /// Refused with 422.
    pub refuse: f64,
    /// Refused with 429, to come again after `retry_after_seconds`.
    pub limit: f64,
    /// What such a 429 says.
    pub retry_after_seconds: u32,
    /// Refused with 503, and not accepted.
    pub fail_before: f64,
    /// Accepted, and answered with 503.
    pub fail_after: f64,
    /// Accepted, and answered with half of the answer.
    pub truncate_after: f64,
    /// Accepted, and answered with what is not JSON.
    pub garbage_after: f64,
    /// Accepted, and answered without an id.
    pub no_id_after: f64,
    /// Accepted, and answered `slow_ms` later.
    pub slow: f64,
    /// How much later, in milliseconds.
    pub slow_ms: u64,
}

/// A mix that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MixError;

/// A mix that is drawn from.
#[derive(Debug)]
pub(crate) struct Dice {
    seed: u64,
    drawn: u64,
    /// Each fault below its part of the whole, in ascending order.
    below: Vec<(u64, Fault)>,
}

impl Dice {
    pub(crate) fn new(mix: &Mix) -> Result<Self, MixError> {
        let no_id = Fault::Raw { body: r#"{"createdAt":"2026-01-01T00:00:00+00:00"}"#.to_owned() };
        let shares = [
            (mix.hang_before, Fault::Hang),
            (mix.hang_after, Fault::Hang.after_accepting()),
            (mix.reset_before, Fault::Reset),
            (mix.reset_after, Fault::Reset.after_accepting()),
            (mix.refuse, Fault::status(422)),
            (mix.limit, Fault::rate_limited(mix.retry_after_seconds)),
            (mix.fail_before, Fault::status(503)),
            (mix.fail_after, Fault::status(503).after_accepting()),
            (mix.truncate_after, Fault::Truncate),
            (mix.garbage_after, Fault::Garbage.after_accepting()),
            (mix.no_id_after, no_id.after_accepting()),
            (mix.slow, Fault::Delay { ms: mix.slow_ms }.after_accepting()),
        ];
        let mut sum = 0;
        let mut below = Vec::new();
        for (share, fault) in shares {
            sum += parts(share).ok_or(MixError)?;
            below.push((sum, fault));
        }
        if sum > PARTS { Err(MixError) } else { Ok(Self { seed: mix.seed, drawn: 0, below }) }
    }

    /// What the next message meets with.
    pub(crate) fn draw(&mut self) -> Option<Fault> {
        self.drawn += 1;
        let drawn = scattered(self.seed.wrapping_add(self.drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15))) % PARTS;
        self.below.iter().find(|(end, _)| drawn < *end).map(|(_, fault)| fault.clone())
    }
}

#[expect(clippy::float_arithmetic, reason = "a share of a test's calls; no money")]
fn parts(share: f64) -> Option<u64> {
    (0.0..=1.0).contains(&share).then(|| (share * PARTS as f64).round() as u64)
}

/// SplitMix64's last step: neighbouring numbers become unlike ones.
fn scattered(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(mix: &Mix, n: usize) -> Vec<Option<Fault>> {
        let mut dice = Dice::new(mix).unwrap();
        (0..n).map(|_| dice.draw()).collect()
    }

    #[test]
    fn a_seed_gives_its_faults_in_its_order_and_each_its_share() {
        let mix = Mix { seed: 7, hang_after: 0.05, refuse: 0.1, ..Mix::default() };
        let drawn = draws(&mix, 10_000);
        assert_eq!(drawn, draws(&mix, 10_000));
        assert_ne!(drawn, draws(&Mix { seed: 8, ..mix }, 10_000));
        let count = |wanted: Option<Fault>| drawn.iter().filter(|one| **one == wanted).count();
        let (hung, refused) = (count(Some(Fault::Hang.after_accepting())), count(Some(Fault::status(422))));
        assert!((400..600).contains(&hung) && (850..1_150).contains(&refused), "{hung} {refused}");
        assert_eq!(count(None), 10_000 - hung - refused);
    }

    #[test]
    fn the_whole_can_be_given_to_one_fault_or_to_none() {
        assert!(draws(&Mix::default(), 1_000).iter().all(Option::is_none));
        let all = draws(&Mix { reset_before: 1.0, ..Mix::default() }, 1_000);
        assert!(all.iter().all(|fault| *fault == Some(Fault::Reset)));
    }

    #[test]
    fn shares_that_are_none_are_refused() {
        for share in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Dice::new(&Mix { slow: share, ..Mix::default() }).unwrap_err(), MixError, "{share}");
        }
        assert!(Dice::new(&Mix { slow: 0.6, refuse: 0.5, ..Mix::default() }).is_err());
    }
}
