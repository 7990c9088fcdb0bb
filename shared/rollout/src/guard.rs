//! When a rollout is taken back: what those who are in it see, held against those who are not; and for what only the new system tells
//! (costs, and texts that may not be used) against what it was before the present step.
//!
//! A look is at several windows: the flag's own finds in minutes what is grave, and the longer ones in hours what is not, or where
//! requests are few. None reaches back behind the rollout's present step.
//!
//! It may be looked at every minute of every day, so each question of each look has but its part of the day's risk,
//! `RISK_A_DAY / (LOOKS_A_DAY * QUESTIONS)`. By the union bound a rollout whose sides are equal is then taken back on fewer than 1 % of
//! days, however the windows of the looks overlap. The tests bound a binomial tail from above (Chernoff), so with few events they are
//! not wrong, only slower.

#![expect(clippy::float_arithmetic, reason = "chances and rates, no money")]

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::flag::RollbackTriggers;
use crate::tally::{Course, Tally, quarter};

/// How likely it may be, at the most, that an equal side is taken back within a day.
const RISK_A_DAY: f64 = 0.01;
/// One a minute.
const LOOKS_A_DAY: f64 = 1_440.0;
/// The windows of a look, each so many times that of the flag.
pub const WINDOWS: [u32; 3] = [1, 6, 36];
/// Asked of a window: errors and slowness, each against the other side and against what the flag allows, and costs and blocked texts
/// against what they were.
const QUESTIONS: f64 = 6.0 * WINDOWS.len() as f64;
/// How likely it may be that equal sides are taken back for one question of one look.
const RISK: f64 = RISK_A_DAY / (LOOKS_A_DAY * QUESTIONS);
/// No window is longer: so long its requests are remembered.
pub(crate) const LONGEST: SignedDuration = SignedDuration::from_hours(24);
/// Of fewer requests nothing is said.
pub const LEAST_REQUESTS: u64 = 100;
/// Of the requests so many may be slower than the flag's latency, which is that of the 95th percentile.
const SLOW_SHARE: f64 = 0.05;
/// What is dearer than this share of the requests before the step were is counted as costly.
const COSTLY_QUANTILE: f64 = 0.9;
/// The 95th percentile.
const P95: f64 = 0.95;
/// What takes longer than the other side's 95th percentile by so many bins, 41 %, is late, unless it takes less than half of what the
/// flag allows: a rollout need not be as quick to the millisecond.
const LATE_BINS: u32 = 2;
/// How likely it may be that equal sides keep a plan from its next step: it is asked again in a minute.
const RISK_OF_WAITING: f64 = 0.05;

/// What the requests of one side came to, over a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Side {
    /// How many there were.
    pub requests: u64,
    /// How many of them failed by a fault of the server.
    pub errors: u64,
    /// How many took longer than the flag's `latencyThreshold`.
    pub slow: u64,
    /// How many took longer than nearly all of the other side do.
    pub late: u64,
    /// Of how many it is known how long they took: those that did not fail.
    pub timed: u64,
    /// How many texts may not be used.
    pub blocked: u64,
    /// How many cost more than nine of ten did before the step.
    pub costly: u64,
    /// Of how many it is known what they cost.
    pub costed: u64,
}

/// What is only told by those who are in, over the day before the step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Baseline {
    /// How many requests there were.
    pub requests: u64,
    /// How many texts could not be used.
    pub blocked: u64,
    /// Of how many it is known what they cost.
    pub costed: u64,
    /// How many of them cost more than nine of ten.
    pub costly: u64,
    /// The bin that these are above; `None` where nothing is: most cost nothing.
    pub bin: Option<u32>,
}

impl Baseline {
    /// That of a step.
    #[must_use]
    pub fn of(course: &Course, stepped_at: Timestamp) -> Self {
        Self::from(&course.sum(true, stepped_at - LONGEST, stepped_at))
    }
}

impl From<&Tally> for Baseline {
    fn from(before: &Tally) -> Self {
        let bin = before.costs.quantile(COSTLY_QUANTILE).filter(|bin| *bin > 0);
        let costly = bin.map_or(0, |bin| before.costs.above(bin));
        Self { requests: before.requests, blocked: before.blocked, costed: before.costs.count(), costly, bin }
    }
}

/// What is wrong with those who are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Breach {
    /// More errors than on the other side.
    MoreErrors,
    /// More errors than the flag allows, and not on the other side.
    TooManyErrors,
    /// A slower 95th percentile than on the other side, by 41 % and more, and than half of what the flag allows.
    Slower,
    /// A slower 95th percentile than the flag allows, and not on the other side.
    TooSlow,
    /// More texts that may not be used than before the step.
    MoreBlocked,
    /// Dearer requests than before the step.
    Costlier,
}

impl Breach {
    /// The name on the wire and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MoreErrors => "more_errors",
            Self::TooManyErrors => "error_rate_threshold",
            Self::Slower => "slower",
            Self::TooSlow => "latency_threshold",
            Self::MoreBlocked => "more_blocked",
            Self::Costlier => "costlier",
        }
    }
}

/// Both sides over one window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sides {
    /// Those who are in.
    pub inside: Side,
    /// Those who are not.
    pub outside: Side,
    /// Those who were in, before the step.
    pub before: Baseline,
}

/// How far back a look goes.
#[must_use]
pub fn reach(triggers: &RollbackTriggers, times: u32) -> SignedDuration {
    SignedDuration::from_mins((times * triggers.time_window_minutes).into()).min(LONGEST)
}

impl Sides {
    /// All windows of a look at a rollout that has its present share since `stepped_at`. The minute of the step itself is of neither
    /// side of it; the one that is under way counts.
    #[must_use]
    pub fn of(
        course: &Course,
        before: Baseline,
        triggers: &RollbackTriggers,
        stepped_at: Timestamp,
        now: Timestamp,
    ) -> [Self; WINDOWS.len()] {
        let end = end_of_minute(now);
        WINDOWS.map(|times| {
            let from = (end - reach(triggers, times)).max(stepped_at);
            let [inside, outside] = [true, false].map(|inside| course.sum(inside, from, end));
            Self::between(&inside, &outside, before, triggers)
        })
    }

    fn between(inside: &Tally, outside: &Tally, before: Baseline, triggers: &RollbackTriggers) -> Self {
        let least = quarter((triggers.latency_threshold / 2).into());
        let late = outside.latencies.quantile(P95).map(|bin| (bin + LATE_BINS).max(least));
        let side = |tally: &Tally| Side {
            requests: tally.requests,
            errors: tally.errors,
            slow: tally.slow,
            late: late.map_or(0, |bin| tally.latencies.above(bin)),
            timed: tally.latencies.count(),
            blocked: tally.blocked,
            costly: before.bin.map_or(0, |bin| tally.costs.above(bin)),
            costed: tally.costs.count(),
        };
        Self { inside: side(inside), outside: side(outside), before }
    }

    /// Whether nothing speaks against taking more in: fewer errors and slow requests than the flag allows, and no more errors than outside.
    #[must_use]
    pub fn is_healthy(&self, triggers: &RollbackTriggers) -> bool {
        let Self { inside, outside, .. } = *self;
        let allowed = triggers.error_rate_threshold / 100.0;
        inside.requests >= LEAST_REQUESTS
            && inside.errors as f64 <= allowed * inside.requests as f64
            && inside.slow as f64 <= SLOW_SHARE * inside.timed as f64
            && !is_more((inside.errors, inside.requests), (outside.errors, outside.requests), RISK_OF_WAITING)
    }
}

/// The end of the minute that is under way.
pub(crate) fn end_of_minute(now: Timestamp) -> Timestamp {
    let second = now.as_second().rem_euclid(60);
    now - SignedDuration::from_secs(second) + SignedDuration::from_mins(1)
}

/// What is wrong over one of the [`WINDOWS`], if anything is: each breach once, in their order.
#[must_use]
pub fn look(windows: &[Sides; WINDOWS.len()], triggers: &RollbackTriggers) -> BTreeSet<Breach> {
    windows.iter().flat_map(|sides| breaches(*sides, triggers)).collect()
}

fn breaches(Sides { inside, outside, before }: Sides, triggers: &RollbackTriggers) -> Vec<Breach> {
    let allowed = triggers.error_rate_threshold / 100.0;
    // Nobody is sent for a second or a cent to a system that fails them.
    let is_refuge = !is_bad(outside.errors, outside.requests, allowed);
    let is_slower = inside.late as f64 > SLOW_SHARE * inside.timed as f64;
    let errors = |side: Side| (side.errors, side.requests);
    let slow = |side: Side| (side.slow, side.timed);
    let late = |side: Side| (side.late, side.timed);
    let (blocked, costly) = (|side: Side| (side.blocked, side.requests), |side: Side| (side.costly, side.costed));
    let all = [
        (Breach::MoreErrors, is_more(errors(inside), errors(outside), RISK)),
        (Breach::TooManyErrors, is_over(errors(inside), errors(outside), allowed)),
        (Breach::Slower, is_refuge && is_slower && is_more(late(inside), late(outside), RISK)),
        (Breach::TooSlow, is_refuge && is_over(slow(inside), slow(outside), SLOW_SHARE)),
        (Breach::MoreBlocked, is_refuge && is_more(blocked(inside), (before.blocked, before.requests), RISK)),
        (Breach::Costlier, is_refuge && is_more(costly(inside), (before.costly, before.costed), RISK)),
    ];
    all.into_iter().filter_map(|(breach, is_so)| is_so.then_some(breach)).collect()
}

/// So many of so many.
type Count = (u64, u64);

/// Whether more happens to these than to the others. If it happened to both alike, each event would be theirs as often as a request is.
fn is_more((events, of): Count, (other_events, others): Count, risk: f64) -> bool {
    let share = of as f64 / (of + others) as f64;
    of.min(others) >= LEAST_REQUESTS && is_beyond_chance(events, events + other_events, share, risk)
}

/// Whether more happens inside than is allowed. Where it is as bad outside, to go back would mend nothing.
fn is_over((events, of): Count, (other_events, others): Count, allowed: f64) -> bool {
    of >= LEAST_REQUESTS && !is_bad(other_events, others, allowed) && is_beyond_chance(events, of, allowed, RISK)
}

/// Whether more happens to these than is allowed, by what was seen of them alone.
fn is_bad(events: u64, of: u64, allowed: f64) -> bool {
    of >= LEAST_REQUESTS && events as f64 > allowed * of as f64
}

/// Whether so many are hardly seen where each has this chance: `P(X >= seen) <= exp(-of * KL(seen / of, chance))`.
fn is_beyond_chance(seen: u64, of: u64, chance: f64, risk: f64) -> bool {
    let (seen, of) = (seen as f64, of as f64);
    // More than is to be expected; so there are some, and the chance is not 1.
    seen > chance * of && -of * divergence(seen / of, chance) < risk.ln()
}

/// That of Kullback and Leibler, of two coins.
fn divergence(rate: f64, chance: f64) -> f64 {
    let part = |a: f64, b: f64| if a == 0.0 { 0.0 } else { a * (a / b).ln() };
    part(rate, chance) + part(1.0 - rate, 1.0 - chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIGGERS: RollbackTriggers =
        RollbackTriggers { error_rate_threshold: 5.0, latency_threshold: 4_000, time_window_minutes: 10 };

    fn found(inside: Side, outside: Side, triggers: &RollbackTriggers) -> Vec<Breach> {
        let before = Baseline::default();
        look(&[Sides { inside, outside, before }, Sides::default(), Sides::default()], triggers).into_iter().collect()
    }

    fn side(requests: u64, errors: u64, slow: u64) -> Side {
        Side { requests, errors, slow, late: slow, timed: requests, ..Side::default() }
    }

    #[test]
    fn three_times_the_errors_are_seen_at_one_look() {
        for (inside, outside) in [
            // 5 % of users, and 1 % errors of 20,000 requests.
            (side(1_000, 33, 0), side(19_000, 190, 0)),
            // 50 % of users, 2 % of 5,000.
            (side(2_500, 124, 0), side(2_500, 41, 0)),
        ] {
            assert_eq!(found(inside, outside, &TRIGGERS), [Breach::MoreErrors], "{inside:?} {outside:?}");
        }
    }

    #[test]
    fn what_the_flag_allows_holds_where_nobody_is_outside() {
        assert_eq!(found(side(1_000, 50, 50), Side::default(), &TRIGGERS), []);
        assert_eq!(found(side(1_000, 110, 40), Side::default(), &TRIGGERS), [Breach::TooManyErrors]);
        assert_eq!(found(side(1_000, 40, 110), Side::default(), &TRIGGERS), [Breach::TooSlow]);
        // A provider that fails everybody: to go back would mend nothing.
        assert_eq!(found(side(1_000, 110, 0), side(1_000, 90, 0), &TRIGGERS), []);
    }

    #[test]
    fn too_few_say_nothing_and_all_say_everything() {
        assert_eq!(found(side(99, 99, 99), side(10_000, 0, 0), &TRIGGERS), []);
        assert_eq!(found(Side::default(), Side::default(), &TRIGGERS), []);
        assert_eq!(found(side(1_000, 0, 0), side(1_000, 900, 900), &TRIGGERS), []);
        let all = [Breach::MoreErrors, Breach::TooManyErrors, Breach::Slower, Breach::TooSlow];
        assert_eq!(found(side(100, 100, 100), side(100, 0, 0), &TRIGGERS), all);
        let allowed = RollbackTriggers { error_rate_threshold: 100.0, ..TRIGGERS };
        assert_eq!(found(side(100, 100, 0), Side::default(), &allowed), []);
    }

    /// SplitMix64: the same days in every run.
    struct Chance(u64);

    impl Chance {
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        }

        /// How many of a minute's requests it happens to: Poisson's, by inversion.
        fn events(&mut self, mean: f64) -> u64 {
            let (chance, mut sum, mut part, mut count) = (self.next(), 0.0, (-mean).exp(), 0);
            loop {
                sum += part;
                if chance < sum || count > 1_000 {
                    return count;
                }
                count += 1;
                part *= mean / count as f64;
            }
        }
    }

    /// The minutes of a day at one side, and the sum of each window.
    #[derive(Default)]
    struct Day {
        minutes: Vec<Tally>,
        sums: [Tally; WINDOWS.len()],
    }

    impl Day {
        fn minute(&mut self, minute: Tally) {
            self.minutes.push(minute);
            for (sum, window) in self.sums.iter_mut().zip(WINDOWS) {
                sum.add(&self.minutes[self.minutes.len() - 1]);
                let length = (window * SIMULATED.time_window_minutes) as usize;
                if let Some(gone) = self.minutes.len().checked_sub(length + 1) {
                    sum.take(&self.minutes[gone]);
                }
            }
        }
    }

    /// Half of the latency is below what nearly all take, and does not count.
    const SIMULATED: RollbackTriggers = RollbackTriggers { latency_threshold: 16, ..TRIGGERS };
    /// How many of a hundred take so long, from the tenth bin on; of them those that are above the flag's latency are slow.
    const LATENCIES: [u32; 11] = [5, 10, 15, 20, 18, 12, 8, 6, 3, 2, 1];
    /// How many of a hundred cost so much, from the tenth bin on: what costs more than nine of ten is a matter of chance.
    const COSTS: [u32; 5] = [40, 30, 20, 7, 3];

    /// How often what happens to requests.
    #[derive(Debug, Clone, Copy)]
    struct Rates {
        requests: f64,
        errors: f64,
    }

    impl Rates {
        /// So many a minute, of which so many fail. Each one in fifty is blocked.
        fn new(requests: u32, errors: f64) -> Self {
            Self { requests: requests.into(), errors }
        }

        fn draw(self, chance: &mut Chance) -> Tally {
            let mut tally = Tally::default();
            let mut events = |rate: f64| chance.events(self.requests * rate);
            for (bin, share) in (10..).zip(LATENCIES) {
                let count = events(f64::from(share) / 100.0);
                tally.latencies.add(Some(bin), count);
                tally.slow += if bin > quarter(SIMULATED.latency_threshold.into()) { count } else { 0 };
            }
            for (bin, share) in (10..).zip(COSTS) {
                tally.costs.add(Some(bin), events(f64::from(share) / 100.0));
            }
            tally.errors = events(self.errors);
            tally.requests = tally.latencies.count() + tally.errors;
            tally.blocked = events(0.02).min(tally.requests);
            tally
        }
    }

    /// After how many minutes of a day it is taken back, if it is. The step was taken after so many minutes with the rates of the inside.
    fn taken_back(day: u64, inside: Rates, outside: Rates, step: u64) -> Option<usize> {
        let (mut chance, mut days, mut before) = (Chance(day), [Day::default(), Day::default()], Tally::default());
        (0..step).for_each(|_| before.add(&inside.draw(&mut chance)));
        let before = Baseline::from(&before);
        (1..=1_440).find(|_| {
            for (day, of) in days.iter_mut().zip([inside, outside]) {
                day.minute(of.draw(&mut chance));
            }
            let sides = |at: usize| Sides::between(&days[0].sums[at], &days[1].sums[at], before, &SIMULATED);
            !look(&std::array::from_fn(sides), &SIMULATED).is_empty()
        })
    }

    fn days_taken_back(inside: Rates, outside: Rates, step: u64) -> usize {
        (0..500).filter(|day| taken_back(*day, inside, outside, step).is_some()).count()
    }

    #[test]
    fn of_500_days_of_1440_looks_at_equal_sides_fewer_than_1_in_100_are_taken_back() {
        let days = days_taken_back(Rates::new(100, 0.02), Rates::new(100, 0.02), 1_440);
        assert!(days < 5, "{days} of 500");
    }

    #[test]
    fn of_500_days_with_one_user_in_twenty_inside_fewer_than_1_in_100_are_taken_back() {
        let days = days_taken_back(Rates::new(10, 0.01), Rates::new(190, 0.01), 20);
        assert!(days < 5, "{days} of 500");
    }

    #[test]
    fn three_times_the_errors_are_found_in_minutes_where_there_are_many_and_in_hours_where_there_are_few() {
        for (inside, outside, minutes) in
            [((100, 0.06), (100, 0.02), 40), ((10, 0.06), (190, 0.02), 180), ((10, 0.03), (190, 0.01), 360)]
        {
            let (inside, outside) = (Rates::new(inside.0, inside.1), Rates::new(outside.0, outside.1));
            for day in 0..50 {
                let found = taken_back(day, inside, outside, 0);
                assert!(found.is_some_and(|found| found <= minutes), "{found:?} with {inside:?} and {outside:?}");
            }
        }
    }

    #[test]
    fn what_only_the_new_system_tells_is_held_against_what_it_was() {
        let side = |blocked, costly| Side { requests: 1_000, blocked, costly, costed: 1_000, ..Side::default() };
        let before = Baseline { requests: 1_000, blocked: 20, costed: 1_000, costly: 100, bin: Some(9) };
        let found = |inside, before| breaches(Sides { inside, outside: Side::default(), before }, &TRIGGERS);
        assert_eq!(found(side(30, 120), before), []);
        assert_eq!(found(side(90, 120), before), [Breach::MoreBlocked]);
        assert_eq!(found(side(30, 250), before), [Breach::Costlier]);
        // Nobody was in before: there is nothing to hold it against.
        assert_eq!(found(side(900, 900), Baseline::default()), []);
    }

    #[test]
    fn a_step_is_healthy_where_it_is_within_what_the_flag_allows_and_no_worse_than_outside() {
        let is_healthy = |inside, outside| Sides { inside, outside, before: Baseline::default() }.is_healthy(&TRIGGERS);
        assert!(is_healthy(side(100, 5, 5), side(1_900, 95, 95)));
        assert!(is_healthy(side(100, 0, 0), Side::default()), "everybody is in");
        assert!(!is_healthy(side(99, 0, 0), side(1_900, 0, 0)), "too few");
        assert!(!is_healthy(side(100, 6, 0), Side::default()), "20 of 100 are no breach, and 6 not healthy");
        assert!(!is_healthy(side(100, 0, 6), Side::default()));
        assert!(
            !is_healthy(side(1_000, 45, 0), side(19_000, 190, 0)),
            "within what is allowed, and worse than outside"
        );
    }

    #[test]
    fn slower_is_what_takes_longer_than_the_other_sides_95th_percentile_by_far() {
        let now: Timestamp = "2026-11-23T10:05:10Z".parse().unwrap();
        let found = |inside: u32, outside: u32| {
            let mut course = Course::default();
            for (is_inside, bin) in [(true, inside), (false, outside)] {
                let tally = course.tally(now.as_second() / 60, is_inside);
                tally.requests = 1_000;
                tally.latencies.add(Some(bin), 1_000);
            }
            let windows = Sides::of(&course, Baseline::default(), &TRIGGERS, Timestamp::UNIX_EPOCH, now);
            look(&windows, &TRIGGERS).into_iter().collect::<Vec<_>>()
        };
        let second = quarter(1_000);
        let half = quarter(2_000);
        assert_eq!(found(half, half), []);
        assert_eq!(found(half + 2, half), [], "41 % slower");
        assert_eq!(found(half + 3, half), [Breach::Slower]);
        assert_eq!(found(half, half + 3), [], "faster");
        assert_eq!(found(half, second), [], "slower, and quick enough");
    }

    #[test]
    fn a_tail_is_no_slower_95th_percentile_and_who_fails_everybody_is_no_refuge() {
        let triggers = RollbackTriggers { latency_threshold: 15_000, ..TRIGGERS };
        let tally = |errors: u64, latencies: &[(u64, u64)]| {
            let mut tally = Tally { errors, ..Tally::default() };
            latencies.iter().for_each(|(millis, count)| tally.latencies.add(Some(quarter(*millis)), *count));
            tally.requests = tally.latencies.count() + errors;
            tally
        };
        let found = |inside: &Tally, outside: &Tally| {
            breaches(Sides::between(inside, outside, Baseline::default(), &triggers), &triggers)
        };
        // Quicker for nearly all, and slower for three in a hundred.
        let outside = tally(0, &[(2_000, 9_400), (8_000, 600)]);
        assert_eq!(found(&tally(0, &[(1_000, 9_400), (6_000, 300), (14_000, 300)]), &outside), []);
        assert_eq!(found(&tally(0, &[(1_000, 9_300), (14_000, 700)]), &outside), [Breach::Slower]);
        // The old system is down, and says so at once.
        let slower = tally(0, &[(1_000, 150), (14_000, 50)]);
        assert_eq!(found(&slower, &tally(3_800, &[])), []);
        assert_eq!(found(&slower, &tally(1_900, &[(20, 1_900)])), []);
        assert_eq!(found(&slower, &tally(0, &[(20, 3_800)])), [Breach::Slower]);
        let failing = tally(100, &[(1_000, 100)]);
        assert_eq!(found(&failing, &tally(1_900, &[(20, 1_900)])), [], "it is as bad outside");
    }

    #[test]
    fn a_look_is_at_what_came_after_the_step() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (stepped_at, now) = (at("2026-11-23T10:00:30Z"), at("2026-11-23T10:05:10Z"));
        let mut course = Course::default();
        let minute = |text: &str| at(text).as_second() / 60;
        // Ten requests before, of which one was dear; then one a minute, on both sides, all of them dear.
        for (bin, count) in [(40, 9), (60, 1)] {
            let tally = course.tally(minute("2026-11-23T09:59:00Z"), true);
            tally.requests += count;
            tally.costs.add(Some(bin), count);
        }
        for clock in ["10:00", "10:01", "10:04", "10:05", "10:06"] {
            for inside in [true, false] {
                let tally = course.tally(minute(&format!("2026-11-23T{clock}:00Z")), inside);
                (tally.requests, tally.blocked) = (tally.requests + 1, tally.blocked + 1);
                tally.costs.add(Some(50), 1);
            }
        }
        let before = Baseline::of(&course, stepped_at);
        assert_eq!(before, Baseline { requests: 10, blocked: 0, costed: 10, costly: 1, bin: Some(40) });
        let triggers = RollbackTriggers { time_window_minutes: 1, ..TRIGGERS };
        let windows = Sides::of(&course, before, &triggers, stepped_at, now);
        let seen =
            |requests| Side { requests, blocked: requests, costly: requests, costed: requests, ..Side::default() };
        assert_eq!(windows[0], Sides { inside: seen(1), outside: seen(1), before });
        assert_eq!(windows[1], Sides { inside: seen(3), outside: seen(3), before });
        assert_eq!(windows[1], windows[2]);
        // Where most cost nothing, nothing is dear.
        let mut free = Course::default();
        free.tally(minute("2026-11-23T09:59:00Z"), true).costs.add(Some(0), 10);
        assert_eq!(Baseline::of(&free, stepped_at).bin, None);
    }
}
