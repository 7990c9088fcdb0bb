//! The steps of a rollout that goes on by itself.

use huntaze_domain::json::Fields;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::body::{PERCENTAGE, percentage, whole};
use crate::bucket::Percentage;

const MOST_STEPS: usize = 20;
/// Two weeks: who bakes for longer takes the step by hand.
const MOST_MINUTES: u64 = 20_160;

/// One step, and how long it has to be healthy before the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The share of users.
    pub percentage: Percentage,
    /// How long.
    pub bake_minutes: u32,
}

/// The steps of a rollout, each larger than the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan(Vec<Step>);

impl Plan {
    /// The share that comes next, where the present one has stood for long enough. A share that is none of the steps was set by
    /// hand, and stays.
    #[must_use]
    pub fn next(&self, present: Percentage, since: Timestamp, now: Timestamp) -> Option<Percentage> {
        let at = self.0.iter().position(|step| step.percentage == present)?;
        let baked = now.duration_since(since) >= SignedDuration::from_mins(self.0[at].bake_minutes.into());
        self.0.get(at + 1).filter(|_| baked).map(|step| step.percentage)
    }

    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let expected = format!("a list of 1 to {MOST_STEPS} steps");
        let fits = |list: &&Vec<Value>| (1..=MOST_STEPS).contains(&list.len());
        let list = fields.required("steps", &expected, |v| v.as_array().filter(fits))?;
        let mut steps: Vec<Step> = Vec::new();
        for index in 0..list.len() {
            let Some(step) = fields.within_list("steps", index, Step::read) else { continue };
            let before = steps.last().map_or(Percentage::NONE, |last| last.percentage);
            if step.percentage <= before {
                fields.fault_at("steps", index, "must take in more users than the one before");
            }
            steps.push(step);
        }
        (steps.len() == list.len()).then_some(Self(steps))
    }

    pub(crate) fn to_json(&self) -> Value {
        let steps =
            self.0.iter().map(|step| json!({"percentage": step.percentage.get(), "bakeMinutes": step.bake_minutes}));
        json!({"steps": steps.collect::<Vec<_>>()})
    }
}

impl Step {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let minutes = format!("minutes from 1 to {MOST_MINUTES}");
        let share = fields.required("percentage", PERCENTAGE, percentage);
        let bake_minutes = fields.required("bakeMinutes", &minutes, |v| whole(v, 1, MOST_MINUTES));
        Some(Self { percentage: share?, bake_minutes: bake_minutes? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_taken_when_the_one_before_has_baked() {
        let share = |percent| Percentage::new(percent).unwrap();
        let steps = [(5, 60), (25, 120), (100, 60)];
        let plan = Plan(steps.map(|(percent, bake_minutes)| Step { percentage: share(percent), bake_minutes }).into());
        let since: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let next = |percent, minutes| plan.next(share(percent), since, since + SignedDuration::from_mins(minutes));
        assert_eq!(next(0, 10_000), None, "it is begun, and taken back, by hand");
        assert_eq!((next(5, 59), next(5, 60)), (None, Some(share(25))));
        assert_eq!((next(25, 119), next(25, 120)), (None, Some(share(100))));
        assert_eq!(next(100, 10_000), None, "there is no next step");
        assert_eq!(next(30, 10_000), None, "set by hand");
        assert_eq!(plan.next(share(5), since, since - SignedDuration::from_hours(1)), None, "the clock was set back");
    }
}
