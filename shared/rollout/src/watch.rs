//! What is done about a rollout that is looked at: it is taken back, it takes its next step, or it stays.

use huntaze_domain::notification::{Audience, Channel, Fact, Notification, Severity};
use huntaze_dynamodb::TableError;
use huntaze_redis::RedisFault;
use huntaze_sqs::{Notifications, QueueError};
use jiff::{SignedDuration, Timestamp};

use crate::bucket::Percentage;
use crate::choice::Settings;
use crate::flag::{Flag, RollbackTriggers};
use crate::guard::{LEAST_REQUESTS, Sides as Windows, look};
use crate::sides::Sides;
use crate::store::{Action, Change, Flags, Kept, Latch, Row, WriteError, Written};
use crate::tally::{Course, Tally, value};

/// Who it is, in the history.
const GUARD: &str = "canary-guard";
/// The 95th percentile.
const P95: f64 = 0.95;

/// Why a rollout could not be looked at, or nobody was told.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The flags.
    #[error(transparent)]
    Table(#[from] TableError),
    /// What its requests came to.
    #[error(transparent)]
    Redis(#[from] RedisFault),
    /// It was done, and nobody was told.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// What was done about one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The flag's name.
    pub flag: String,
    /// Its share before.
    pub from: Percentage,
    /// Its share now.
    pub to: Percentage,
    /// It took the next step; else it was taken back.
    pub advanced: bool,
    /// The names of the breaches, or `healthy`.
    pub why: String,
}

/// Who looks.
pub struct Guard {
    /// The flags.
    pub flags: Flags,
    /// What requests came to.
    pub sides: Sides,
    /// Who is told.
    pub people: Notifications,
    /// What the environment says over the flags.
    pub settings: Settings,
}

impl Guard {
    /// Looks at every rollout. One that cannot be looked at keeps none of the others from it.
    ///
    /// # Errors
    /// Of the flags, where they cannot be read; else the last of [`WatchError`], beside what was done.
    pub async fn look(&self, now: Timestamp) -> Result<(Vec<Done>, Option<WatchError>), WatchError> {
        let (mut all, mut failed) = (Vec::new(), None);
        for kept in self.flags.all().await? {
            let Some(triggers) = kept.flag.triggers.filter(|_| self.is_under_way(&kept.flag)) else { continue };
            let course = match self.sides.course(&kept.flag.name, now).await {
                Ok(course) => course,
                Err(error) => {
                    failed = Some(error.into());
                    continue;
                }
            };
            let Some((after, done)) = self.verdict(&kept, &triggers, &course, now) else { continue };
            match self.follow(kept, after, &done, now).await {
                Ok(true) => all.push(done),
                Ok(false) => {}
                Err(error) => {
                    all.push(done);
                    failed = Some(error);
                }
            }
        }
        Ok((all, failed))
    }

    /// What is to be done about a rollout, if anything is.
    fn verdict(
        &self,
        kept: &Kept,
        triggers: &RollbackTriggers,
        course: &Course,
        now: Timestamp,
    ) -> Option<(Written, Done)> {
        let (mut flag, from) = (kept.flag.clone(), kept.flag.percentage);
        let breaches = look(&Windows::of(course, triggers, kept.stepped_at, now), triggers);
        let done = |to, advanced, why| Done { flag: kept.flag.name.as_str().to_owned(), from, to, advanced, why };
        if !breaches.is_empty() {
            // What is wrong at a step is wrong at the one before it: the same code serves both.
            flag.percentage = Percentage::NONE;
            // A share of the environment would stay.
            flag.enabled = self.settings.share_over(&flag).is_none();
            let why = breaches.iter().map(|breach| breach.as_str()).collect::<Vec<_>>().join(", ");
            let reason = format!("{why}; {}", figures(course, kept.stepped_at, now));
            let latch = Some(Latch { at: now, from, reason });
            return Some((Written { flag, latch }, done(Percentage::NONE, false, why)));
        }
        let next = kept.flag.plan.as_ref().filter(|_| kept.latch.is_none())?.next(from, kept.stepped_at, now)?;
        let seen = course.sum(true, kept.stepped_at, now + SignedDuration::from_mins(1)).requests;
        flag.percentage = next;
        (seen >= LEAST_REQUESTS).then(|| (Written { flag, latch: None }, done(next, true, "healthy".to_owned())))
    }

    /// Whether users are taken in by a share: only those are compared.
    fn is_under_way(&self, flag: &Flag) -> bool {
        flag.enabled && self.settings.share_over(flag).unwrap_or(flag.percentage) > Percentage::NONE
    }

    /// Writes it, if the flag is still what was looked at, and has the operators told.
    async fn follow(&self, kept: Kept, after: Written, done: &Done, now: Timestamp) -> Result<bool, WatchError> {
        let reason = after.latch.as_ref().map_or_else(|| done.why.clone(), |latch| latch.reason.clone());
        let action = if done.advanced { Action::Advanced } else { Action::RolledBack };
        let change = Change { at: now, by: GUARD.to_owned(), action, reason: Some(reason.clone()) };
        let (name, before) = (kept.flag.name.clone(), Row { version: kept.version, kept: Some(kept) });
        let version = match self.flags.write(&name, &before, Some(after), &change).await {
            Ok(row) => row.version,
            // Somebody decided meanwhile, and is looked at in a minute.
            Err(WriteError::Stale) => return Ok(false),
            Err(error @ WriteError::TooLarge) => return Err(TableError::of(error).into()),
            Err(WriteError::Table(error)) => return Err(error.into()),
        };
        self.people.put(&told(done, version, &reason, now)).await?;
        Ok(true)
    }
}

/// Both sides since the step, for a person.
fn figures(course: &Course, stepped_at: Timestamp, now: Timestamp) -> String {
    let side = |inside| {
        let tally: Tally = course.sum(inside, stepped_at, now + SignedDuration::from_mins(1));
        let p95 =
            tally.latencies.quantile(P95).map_or_else(|| "no p95".to_owned(), |bin| format!("p95 {} ms", value(bin)));
        format!("{} of {} failed, {p95}", tally.errors, tally.requests)
    };
    format!("since the step: {} on the new side; {} on the old", side(true), side(false))
}

fn told(done: &Done, version: u64, reason: &str, now: Timestamp) -> Notification {
    let fact = |name: &str, value: String| Fact { name: name.to_owned(), value: value.chars().take(300).collect() };
    let (severity, title, text) = match done.advanced {
        true => (
            Severity::Info,
            format!("{} now takes in {} % of users", done.flag, done.to.get()),
            "The rollout was healthy for as long as its plan asks, and took the next step.",
        ),
        false => (
            Severity::Critical,
            format!("{} was taken back from {} % of users", done.flag, done.from.get()),
            "The guard took the rollout back. It stays so until somebody sets its share again.",
        ),
    };
    Notification {
        id: format!("rollout#{}#{version}", done.flag),
        kind: "rollout".to_owned(),
        severity,
        audience: Audience::Operators,
        channels: vec![Channel::Email, Channel::Slack, Channel::Sns],
        title,
        text: text.to_owned(),
        facts: vec![
            fact("flag", done.flag.clone()),
            fact("from", format!("{} %", done.from.get())),
            fact("to", format!("{} %", done.to.get())),
            fact("why", reason.to_owned()),
        ],
        link: None,
        timestamp: now,
    }
}
