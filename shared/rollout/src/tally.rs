//! Counts of requests, summed over minutes.

#![expect(clippy::float_arithmetic, reason = "bins and quantiles; nothing is booked by them")]

use std::collections::BTreeMap;

use huntaze_domain::money::Usd;
use jiff::Timestamp;

/// Where a number stands in a histogram: each bin begins 19 % above the one before, by quarters of an octave.
#[must_use]
pub fn quarter(number: u64) -> u32 {
    // Of 2^53 and more the last digits are lost, which is far less than a bin.
    ((number.max(1) as f64).log2() * 4.0).floor() as u32
}

/// A cost in whole millionths of a dollar.
#[must_use]
pub fn micros(cost: Usd) -> u64 {
    (cost.to_json_number() * 1_000_000.0).round() as u64
}

/// That of the largest number.
const LAST_BIN: u32 = 256;

/// Numbers, by their bins: how many are in each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram(Vec<u64>);

impl Histogram {
    /// Adds to a bin, where there is one.
    pub(crate) fn add(&mut self, bin: Option<u32>, count: u64) {
        let Some(bin) = bin.filter(|bin| *bin <= LAST_BIN) else { return };
        let at = bin as usize;
        self.0.resize(self.0.len().max(at + 1), 0);
        self.0[at] += count;
    }

    fn bins(&self) -> impl Iterator<Item = (u32, u64)> {
        (0..).zip(self.0.iter().copied())
    }

    /// The bin that this share of the numbers is in or below; `None` of no numbers.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<u32> {
        let all = self.count();
        let mut below = 0;
        let mut bins = self.bins().filter(|(_, count)| *count > 0);
        bins.find_map(|(bin, count)| {
            below += count;
            (below as f64 >= share * all as f64).then_some(bin)
        })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// How many are above a bin.
    #[must_use]
    pub fn above(&self, bin: u32) -> u64 {
        self.0.iter().skip(bin as usize + 1).sum()
    }
}

/// What requests of one side came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many there were.
    pub requests: u64,
    /// How many of them failed by a fault of the server.
    pub errors: u64,
    /// How many took longer than the flag's `latencyThreshold`.
    pub slow: u64,
    /// How many texts may not be used.
    pub blocked: u64,
    /// What they cost together, in millionths of a dollar.
    pub micros: u64,
    /// How long they took, in milliseconds.
    pub latencies: Histogram,
    /// What each cost, in millionths of a dollar.
    pub costs: Histogram,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.slow += other.slow;
        self.blocked += other.blocked;
        self.micros += other.micros;
        for (own, others) in [(&mut self.latencies, &other.latencies), (&mut self.costs, &other.costs)] {
            for (bin, count) in others.bins().filter(|(_, count)| *count > 0) {
                own.add(Some(bin), count);
            }
        }
    }

    /// Takes out again what was added.
    #[cfg(test)]
    pub(crate) fn take(&mut self, other: &Self) {
        self.requests -= other.requests;
        self.errors -= other.errors;
        self.slow -= other.slow;
        self.blocked -= other.blocked;
        for (own, others) in [(&mut self.latencies, &other.latencies), (&mut self.costs, &other.costs)] {
            own.0.iter_mut().zip(&others.0).for_each(|(own, other)| *own -= other);
        }
    }
}

/// A rollout, minute by minute.
#[derive(Debug, Clone, Default)]
pub struct Course(BTreeMap<i64, [Tally; 2]>);

impl Course {
    /// One side's minute, counted from 1970.
    pub(crate) fn tally(&mut self, minute: i64, inside: bool) -> &mut Tally {
        &mut self.0.entry(minute).or_default()[usize::from(inside)]
    }

    /// One side over the minutes that lie between two times as a whole.
    #[must_use]
    pub fn sum(&self, inside: bool, from: Timestamp, until: Timestamp) -> Tally {
        let first = from.as_second().div_euclid(60) + i64::from(from.as_second().rem_euclid(60) > 0);
        let mut sum = Tally::default();
        for (_, tallies) in self.0.range(first..until.as_second().div_euclid(60).max(first)) {
            sum.add(&tallies[usize::from(inside)]);
        }
        sum
    }
}
