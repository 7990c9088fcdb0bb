//! What requests came to on both sides of a rollout, minute by minute over the last day, in Redis.
//!
//! `huntaze:rollout:{<flag>}:<hour>` is a hash of counts: `<minute>:<side>:<kind>`, of `r`equests, `e`rrors, `s`low and `b`locked ones,
//! `m`icrodollars, and of each `l`atency and `c`ost by quarters of an octave. Nothing is sampled.

use std::sync::Arc;
use std::time::Duration;

use huntaze_domain::error::ErrorCode;
use huntaze_domain::money::Usd;
use huntaze_redis::{Redis, RedisFault};
use jiff::Timestamp;
use redis::Script;

use crate::flag::FlagName;
use crate::tally::{Course, Tally, micros, quarter};

const HOUR_SECONDS: i64 = 3_600;
/// How long an hour is kept: it is read for a day.
const KEPT_SECONDS: i64 = 26 * HOUR_SECONDS;

/// By which faults a request fails that another system would have served.
pub const OURS: [ErrorCode; 2] = [ErrorCode::ProviderUnavailable, ErrorCode::Internal];

/// One request, when it was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// It was served by the new system.
    pub inside: bool,
    /// It failed by a fault of the server.
    pub failed: bool,
    /// It took longer than the flag's `latencyThreshold`.
    pub slow: bool,
    /// Its text may not be used.
    pub blocked: bool,
    /// How long its client waited; nobody did for what the queue's consumer ended.
    pub latency: Option<Duration>,
    /// What its calls cost; the old system does not say.
    pub cost: Option<Usd>,
}

impl Seen {
    /// What it raises, and by how much.
    fn counts(&self) -> Vec<(String, u64)> {
        let mut counts = vec![("r".to_owned(), 1)];
        // How quick a failure is says nothing for its side, and it counts as one.
        if let Some(latency) = self.latency.filter(|_| !self.failed) {
            let millis = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
            counts.push((format!("l{}", quarter(millis)), 1));
        }
        let flags = [("e", self.failed), ("s", self.slow && !self.failed), ("b", self.blocked)];
        counts.extend(flags.into_iter().filter(|(_, is_so)| *is_so).map(|(kind, _)| (kind.to_owned(), 1)));
        if let Some(cost) = self.cost {
            let micros = micros(cost);
            counts.extend([(format!("c{}", quarter(micros)), 1), ("m".to_owned(), micros)]);
        }
        counts
    }
}

/// The counts of all rollouts.
pub struct Sides {
    redis: Arc<Redis>,
    count: Script,
    read: Script,
}

impl Sides {
    /// Counts in this Redis.
    #[must_use]
    pub fn new(redis: Arc<Redis>) -> Self {
        let script = Script::new;
        Self {
            redis,
            count: script(include_str!("../lua/side_count.lua")),
            read: script(include_str!("../lua/side_read.lua")),
        }
    }

    /// Opens the connection, and loads what reads.
    pub async fn warm_up(&self) {
        self.redis.warm_up(&[&self.read]).await;
    }

    /// Counts a request that was over at this time. One that cannot be counted is missing in the comparison, and that is all.
    pub async fn count(&self, flag: &FlagName, at: Timestamp, seen: &Seen) {
        let second = at.as_second();
        let (minute, side) = (second.rem_euclid(HOUR_SECONDS) / 60, if seen.inside { "i" } else { "o" });
        let mut script = self.count.key(key(flag, second.div_euclid(HOUR_SECONDS)));
        script.arg(KEPT_SECONDS);
        for (kind, count) in seen.counts() {
            script.arg(format!("{minute}:{side}:{kind}")).arg(count);
        }
        if let Err(error) = self.redis.run::<u8>(&script).await {
            tracing::warn!(%error, "a request is not counted on its side");
        }
    }

    /// A rollout between two times, in whole hours, of which no more than a day is kept. Each is read by itself: no other script waits for
    /// more than that.
    ///
    /// # Errors
    /// [`RedisFault`]
    pub async fn course(&self, flag: &FlagName, from: Timestamp, until: Timestamp) -> Result<Course, RedisFault> {
        let hour = |at: Timestamp| at.as_second().div_euclid(HOUR_SECONDS);
        let mut course = Course::default();
        for hour in hour(from).max(hour(until) - KEPT_SECONDS / HOUR_SECONDS)..=hour(until) {
            let counts: Vec<(String, u64)> = self.redis.run(&self.read.key(key(flag, hour))).await?;
            for (field, count) in counts {
                if let Some((minute, inside, kind)) = read(&field) {
                    course.tally(hour * 60 + minute, inside).raise(kind, count);
                }
            }
        }
        Ok(course)
    }
}

fn key(flag: &FlagName, hour: i64) -> String {
    format!("huntaze:rollout:{{{}}}:{hour}", flag.as_str())
}

/// A field's minute, side and kind.
fn read(field: &str) -> Option<(i64, bool, &str)> {
    let (minute, rest) = field.split_once(':')?;
    let (side, kind) = rest.split_once(':')?;
    Some((minute.parse().ok()?, side == "i", kind))
}

impl Tally {
    fn raise(&mut self, kind: &str, count: u64) {
        let bin = || kind.get(1..)?.parse().ok();
        match kind {
            "r" => self.requests += count,
            "e" => self.errors += count,
            "s" => self.slow += count,
            "b" => self.blocked += count,
            "m" => self.micros += count,
            _ if kind.starts_with('l') => self.latencies.add(bin(), count),
            _ if kind.starts_with('c') => self.costs.add(bin(), count),
            _ => {}
        }
    }
}
