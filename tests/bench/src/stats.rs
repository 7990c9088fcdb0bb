//! Order statistics, and how numbers are written.

use std::time::Duration;

/// Measurements of one thing, in any order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample(Vec<Duration>);

impl FromIterator<Duration> for Sample {
    fn from_iter<I: IntoIterator<Item = Duration>>(values: I) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_unstable();
        Self(values)
    }
}

impl Sample {
    /// The value that `percent` of the measurements do not pass (nearest rank); zero without any.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    pub(crate) fn median(&self) -> Duration {
        self.percentile(50)
    }

    /// `p50 / p99` in milliseconds.
    pub(crate) fn spread(&self) -> String {
        format!("{:.2} / {} ms", self.median().as_secs_f64() * 1e3, ms_number(self.percentile(99)))
    }
}

impl Sample {
    /// `p50 / p99` in microseconds.
    pub(crate) fn spread_in_micros(&self) -> String {
        let micros = |duration: Duration| format!("{:.2}", duration.as_secs_f64() * 1e6);
        format!("{} / {} µs", micros(self.median()), micros(self.percentile(99)))
    }
}

fn ms_number(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64() * 1e3)
}

/// Milliseconds, to the hundredth.
pub(crate) fn ms(duration: Duration) -> String {
    format!("{} ms", ms_number(duration))
}

/// Millions of instructions, to the hundredth.
pub(crate) fn millions(count: u64) -> String {
    format!("{:.2} M", count as f64 / 1e6)
}

/// MiB, to the tenth.
pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measurements_by_nearest_rank() {
        let sample: Sample = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!((sample.median(), sample.percentile(99)), (Duration::from_millis(100), Duration::from_millis(198)));
        assert_eq!(sample.spread(), "100.00 / 198.00 ms");
        let few: Sample = [3, 1, 2].map(Duration::from_millis).into_iter().collect();
        assert_eq!((few.median(), few.percentile(99)), (Duration::from_millis(2), Duration::from_millis(3)));
        assert_eq!(Sample::default().median(), Duration::ZERO);
    }
}
