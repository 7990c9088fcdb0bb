//! What is done about a rollout that is looked at: it is taken back, it takes its next step, or it stays.

use huntaze_domain::notification::{Audience, Channel, Fact, Notification, Severity};
use huntaze_dynamodb::TableError;
use huntaze_redis::RedisFault;
use huntaze_sqs::{Notifications, QueueError};
use jiff::{SignedDuration, Timestamp};

use crate::bucket::Percentage;
use crate::choice::Settings;
use crate::flag::{Flag, RollbackTriggers};
use crate::guard::{Baseline, LONGEST, Side, Sides as Windows, WINDOWS, look, reach};
use crate::sides::Sides;
use crate::store::{Action, Change, Flags, Kept, Latch, Row, WriteError, Written};

/// Who it is, in the history.
const GUARD: &str = "canary-guard";
/// For so long a rollback is told again: under one id it is delivered once.
const TOLD_FOR: SignedDuration = SignedDuration::from_mins(10);

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
            if let Err(error) = self.tell_again(&kept, now).await {
                failed = Some(error);
            }
            match self.look_at(kept, now).await {
                Ok(None) => {}
                Ok(Some((done, told))) => {
                    all.push(done);
                    failed = told.err().map(WatchError::from).or(failed);
                }
                Err(error) => failed = Some(error),
            }
        }
        Ok((all, failed))
    }

    /// What was done about one rollout, and whether people were told.
    async fn look_at(&self, kept: Kept, now: Timestamp) -> Result<Option<(Done, Result<(), QueueError>)>, WatchError> {
        if !self.is_under_way(&kept.flag) {
            return Ok(None);
        }
        // Also where nothing is held against it yet: in a day it could not be found any more.
        let baseline = match kept.baseline {
            Some(baseline) => baseline,
            None => {
                let name = &kept.flag.name;
                let before = self.sides.course(name, kept.stepped_at - LONGEST, kept.stepped_at).await?;
                let baseline = Baseline::of(&before, kept.stepped_at);
                self.flags.keep_baseline(&kept, baseline).await?;
                baseline
            }
        };
        let Some(triggers) = kept.flag.triggers else { return Ok(None) };
        let from = (now - reach(&triggers, WINDOWS[WINDOWS.len() - 1])).max(kept.stepped_at);
        let course = self.sides.course(&kept.flag.name, from, now).await?;
        let windows = Windows::of(&course, baseline, &triggers, kept.stepped_at, now);
        match self.verdict(&kept, &triggers, &windows, now) {
            Some((after, done)) => self.follow(kept, after, done, now).await,
            None => Ok(None),
        }
    }

    /// What is to be done about a rollout, if anything is.
    fn verdict(
        &self,
        kept: &Kept,
        triggers: &RollbackTriggers,
        windows: &[Windows; WINDOWS.len()],
        now: Timestamp,
    ) -> Option<(Written, Done)> {
        let mut flag = kept.flag.clone();
        let over = self.settings.share_over(&flag);
        let from = over.unwrap_or(flag.percentage);
        let done = |to, advanced, why| Done { flag: kept.flag.name.as_str().to_owned(), from, to, advanced, why };
        let breaches = look(windows, triggers);
        if !breaches.is_empty() {
            // What is wrong at a step is wrong at the one before it: the same code serves both.
            flag.percentage = Percentage::NONE;
            // A share of the environment would stay.
            flag.enabled = over.is_none();
            let why = breaches.iter().map(|breach| breach.as_str()).collect::<Vec<_>>().join(", ");
            let latch = Some(Latch { at: now, from, reason: format!("{why}; {}", figures(windows, triggers)) });
            return Some((Written { flag, latch }, done(Percentage::NONE, false, why)));
        }
        // Of a share that the environment holds nothing is learnt about the next.
        let plan = kept.flag.plan.as_ref().filter(|_| kept.latch.is_none() && over.is_none())?;
        let next = plan.next(from, kept.stepped_at, now).filter(|_| windows[WINDOWS.len() - 1].is_healthy(triggers))?;
        flag.percentage = next;
        Some((Written { flag, latch: None }, done(next, true, "healthy".to_owned())))
    }

    /// Whether users are taken in by a share: only those are compared.
    fn is_under_way(&self, flag: &Flag) -> bool {
        let share = self.settings.share_over(flag).unwrap_or(flag.percentage);
        flag.enabled && share > Percentage::NONE && self.settings.asks(flag)
    }

    /// Whoever took it back may have ended before anybody was told.
    async fn tell_again(&self, kept: &Kept, now: Timestamp) -> Result<(), WatchError> {
        let Some(latch) = kept.latch.as_ref().filter(|latch| now.duration_since(latch.at) < TOLD_FOR) else {
            return Ok(());
        };
        let (flag, why) = (kept.flag.name.as_str().to_owned(), String::new());
        let done = Done { flag, from: latch.from, to: Percentage::NONE, advanced: false, why };
        Ok(self.people.put(&told(&done, latch.at, &latch.reason)).await?)
    }

    /// Writes it, if the flag is still what was looked at, and has the operators told.
    async fn follow(
        &self,
        kept: Kept,
        after: Written,
        done: Done,
        now: Timestamp,
    ) -> Result<Option<(Done, Result<(), QueueError>)>, WatchError> {
        let reason = after.latch.as_ref().map_or_else(|| done.why.clone(), |latch| latch.reason.clone());
        let action = if done.advanced { Action::Advanced } else { Action::RolledBack };
        let change = Change { at: now, by: GUARD.to_owned(), action, reason: Some(reason.clone()) };
        let (name, before) =
            (kept.flag.name.clone(), Row { version: kept.version, kept: Some(kept), ..Row::default() });
        match self.flags.write(&name, &before, Some(after), &change).await {
            Ok(_) => {}
            // Somebody decided meanwhile, and is looked at in a minute.
            Err(WriteError::Stale) => return Ok(None),
            Err(WriteError::Table(error)) => return Err(error.into()),
            Err(error @ (WriteError::TooLarge | WriteError::Experiment)) => return Err(TableError::of(error).into()),
        }
        let told = self.people.put(&told(&done, now, &reason)).await;
        Ok(Some((done, told)))
    }
}

/// Both sides over the longest window, for a person.
fn figures(windows: &[Windows; WINDOWS.len()], triggers: &RollbackTriggers) -> String {
    let Windows { inside, outside, .. } = windows[WINDOWS.len() - 1];
    let side = |side: Side| {
        format!("{} of {} failed, {} above {} ms", side.errors, side.requests, side.slow, triggers.latency_threshold)
    };
    format!("on the new side {}; on the old {}", side(inside), side(outside))
}

fn told(done: &Done, at: Timestamp, reason: &str) -> Notification {
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
        id: format!("rollout#{}#{}", done.flag, at.as_millisecond()),
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
        timestamp: at,
    }
}
