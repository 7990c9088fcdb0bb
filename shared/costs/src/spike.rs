//! Spikes: a day that costs far more than those before it.
//!
//! The contract's rule is 3 × the mean of the last seven days. A mean forgets nothing: after one wild day it is so high that the
//! next is not seen. So each of the seven full days counts for no more than the *cap*, which is the median of the days with costs, and
//! three times their scaled median absolute deviation above it (1.4826 makes that deviation a standard deviation, where days are
//! spread as errors are; three of them are the usual fence). Median and deviation are of the days with costs only, for many
//! days without would make both nothing; the mean is over all seven.
//!
//! An owner with costs on fewer than three of the seven days has no usual day. A day under the minimum amount is no spike, whatever the
//! others were. All of it is exact: a limit is rounded up to 10⁻¹² dollars.

use huntaze_domain::env::Env;
use huntaze_domain::money::Usd;
use rust_decimal::{Decimal, RoundingStrategy};

/// So many full days are looked at.
pub const DAYS: usize = 7;
/// So many of them need costs.
const DAYS_WITH_COSTS: usize = 3;

/// When a day is a spike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpikeRule {
    multiplier: Decimal,
    minimum: Usd,
}

impl Default for SpikeRule {
    /// 3 × the mean, and a dollar at the least.
    fn default() -> Self {
        Self { multiplier: Decimal::from(3), minimum: Usd::try_from(Decimal::ONE).unwrap_or(Usd::ZERO) }
    }
}

impl SpikeRule {
    /// Reads `SPIKE_MULTIPLIER` (more than 1, at most 1000) and `SPIKE_MINIMUM` (dollars).
    #[must_use]
    pub fn from_env(env: &Env) -> Self {
        let default = Self::default();
        let multiplier = env.parsed("SPIKE_MULTIPLIER", default.multiplier);
        if multiplier <= Decimal::ONE || multiplier > Decimal::from(1_000) || multiplier.scale() > 3 {
            env.fault("SPIKE_MULTIPLIER", "must be more than 1, at most 1000, with at most 3 decimals");
        }
        let minimum = env.optional("SPIKE_MINIMUM").map_or(Ok(default.minimum), |text| Usd::parse(text.trim()));
        Self { multiplier, minimum: env.check("SPIKE_MINIMUM", minimum).unwrap_or(default.minimum) }
    }

    /// What a day has to cost to be a spike after these. `None` where there is no usual day.
    #[must_use]
    pub fn limit(&self, days: &[Usd; DAYS]) -> Option<Usd> {
        let mut with_costs: Vec<_> =
            days.iter().filter(|cost| **cost > Usd::ZERO).map(|cost| cost.to_decimal()).collect();
        if with_costs.len() < DAYS_WITH_COSTS {
            return None;
        }
        let middle = median(&mut with_costs)?;
        let mut deviations: Vec<_> = with_costs.iter().map(|cost| (*cost - middle).abs()).collect();
        // 3 × 1.4826
        let reach = median(&mut deviations)?.checked_mul(Decimal::new(44_478, 4))?;
        let cap = middle.checked_add(reach)?;
        let sum: Decimal = with_costs.iter().map(|cost| cap.min(*cost)).sum();
        let limit = sum.checked_mul(self.multiplier)?.checked_div(Decimal::from(DAYS))?;
        let limit = limit.round_dp_with_strategy(12, RoundingStrategy::ToPositiveInfinity);
        Some(Usd::try_from(limit).ok()?.max(self.minimum))
    }
}

/// The middle of the amounts, or half-way between the middle two. They are sorted on the way.
fn median(amounts: &mut [Decimal]) -> Option<Decimal> {
    amounts.sort_unstable();
    let upper = amounts.get(amounts.len() / 2)?;
    if amounts.len() % 2 == 1 {
        return Some(*upper);
    }
    let lower = amounts.get(amounts.len() / 2 - 1)?;
    (*lower + *upper).checked_div(Decimal::TWO)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn usd(text: &str) -> Usd {
        Usd::parse(text).unwrap()
    }

    fn limit(days: [&str; DAYS]) -> Option<String> {
        SpikeRule::default().limit(&days.map(usd)).map(|limit| limit.to_string())
    }

    #[test]
    fn a_spike_is_three_times_the_mean_of_seven_even_days() {
        assert_eq!(limit(["2"; DAYS]).as_deref(), Some("6"));
        assert_eq!(limit(["1", "2", "3", "2", "2", "1", "3"]).as_deref(), Some("6"));
    }

    #[test]
    fn one_wild_day_does_not_hide_the_next() {
        // By the plain mean it would take $45.43.
        assert_eq!(limit(["1", "1", "1", "1", "1", "1", "100"]).as_deref(), Some("3"));
        // Median 2, deviations 1, 1, 0, 0, 0, 1 and 98: the wild day counts for 2 + 3 × 1.4826 × 1.
        assert_eq!(limit(["1", "3", "2", "2", "2", "3", "100"]).as_deref(), Some("8.334771428572"));
    }

    #[test]
    fn days_without_costs_count_in_the_mean_only() {
        assert_eq!(limit(["0", "0", "0", "0", "7", "7", "7"]).as_deref(), Some("9"));
        assert_eq!(limit(["0", "0", "0", "0", "0", "7", "7"]), None);
    }

    #[test]
    fn what_is_small_is_no_spike() {
        assert_eq!(limit(["0.001"; DAYS]).as_deref(), Some("1"));
    }

    #[test]
    fn the_rule_is_configured() {
        let env = |pairs: &[(&str, &str)]| {
            Env::from_pairs(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
        };
        let chosen = env(&[("SPIKE_MULTIPLIER", "2.5"), ("SPIKE_MINIMUM", "0.01")]);
        let rule = SpikeRule::from_env(&chosen);
        assert_eq!(rule.limit(&[usd("0.1"); DAYS]), Some(usd("0.25")));
        assert!(chosen.finish(Some(())).is_ok());
        let odd = env(&[("SPIKE_MULTIPLIER", "1"), ("SPIKE_MINIMUM", "x")]);
        let _ = SpikeRule::from_env(&odd);
        assert_eq!(odd.finish(Some(())).unwrap_err().0.len(), 2);
    }

    proptest! {
        #[test]
        fn a_limit_is_never_above_that_of_the_plain_mean_and_never_under_the_minimum(
            days in proptest::array::uniform7(0_i64..10_i64.pow(15)),
        ) {
            let days = days.map(|picos| Usd::try_from(Decimal::new(picos, 12)).unwrap());
            if let Some(limit) = SpikeRule::default().limit(&days) {
                let plain: Decimal = days.iter().map(|day| day.to_decimal()).sum::<Decimal>() * Decimal::from(3);
                let one = SpikeRule::default().minimum;
                prop_assert!(limit >= one);
                prop_assert!(limit == one || limit.to_decimal() * Decimal::from(7) <= plain + Decimal::new(7, 12));
            }
        }

        #[test]
        fn no_amount_is_too_much(days in proptest::array::uniform7(0_i64..=10_i64.pow(12))) {
            let days = days.map(|dollars| Usd::try_from(Decimal::from(dollars)).unwrap());
            let _ = SpikeRule::default().limit(&days);
        }
    }
}
