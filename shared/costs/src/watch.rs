//! Costs held against thresholds: after each settled request, and for everyone by a schedule.
//!
//! After a request only what it could have crossed is looked at: the enabled thresholds of its user and of everyone that count its
//! providers. They and the roll-ups of its periods are read side by side, three reads by their keys, whatever is stored. The totals
//! have other requests' costs in them too, and that is right: of requests that cross a threshold together, the one that is
//! projected last sees it crossed. What fails here is found by the schedule's check ([`Watch::patrol`]), but for what one request
//! cost: that is looked at here only.

mod memory;
mod patrol;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodb::Client as DynamoDb;
use futures_util::future::try_join_all;
use futures_util::{StreamExt, stream};
use huntaze_domain::env::Env;
use huntaze_domain::ids::UserId;
use huntaze_domain::money::Usd;
use huntaze_domain::provider::Provider;
use huntaze_sqs::{Notifications, Sqs};
use jiff::Timestamp;
use tokio::time::timeout;

use self::memory::Memory;
pub use self::patrol::Patrolled;
use crate::alert::{Alert, AlertKind, Alerts, Decision, Firing, NewAlert, Occasion, decide};
use crate::budget::Refusal;
use crate::ledger::{Ledger, LedgerEntry, LedgerError};
use crate::owner::Owner;
use crate::spend::{PeriodSpend, UserAndGlobal};
use crate::spike::SpikeRule;
use crate::threshold::{Crossing, Threshold, ThresholdKind, Thresholds};
use huntaze_dynamodb::TableError;

/// A function waits no longer for the check behind a request; the schedule's finds what it leaves.
const PATIENCE: Duration = Duration::from_secs(2);
/// Alerts that are written and told at once.
const CONCURRENCY: usize = 8;

/// Why costs could not be held against thresholds.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The tables of thresholds and alerts.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The roll-ups.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Thresholds, alerts and what they are about.
pub struct Watch {
    /// The thresholds.
    pub thresholds: Thresholds,
    /// The alerts.
    pub alerts: Alerts,
    ledger: Ledger,
    notifications: Notifications,
    spikes: SpikeRule,
    memory: Mutex<Memory>,
}

impl Watch {
    /// Reads the names of tables and queue, `ALERT_SILENCE_MS` and `SPIKE_*`; nothing is called.
    #[must_use]
    pub fn from_env(env: &Env, dynamodb: DynamoDb, sqs: Sqs, ledger: Ledger) -> Self {
        Self {
            thresholds: Thresholds::from_env(env, dynamodb.clone()),
            alerts: Alerts::from_env(env, dynamodb),
            ledger,
            notifications: Notifications::from_env(env, sqs),
            spikes: SpikeRule::from_env(env),
            memory: Mutex::default(),
        }
    }

    /// Checks the thresholds that a request could have crossed. `entries` are what it settled, and are in the ledger; `told` hears of
    /// each alert that fired. What fails, or takes longer than two seconds, is logged and left to the schedule, which finds what
    /// hours, days and months cost, and not what this request did.
    pub async fn settled(&self, entries: &[LedgerEntry], now: Timestamp, told: impl FnMut(&Alert)) {
        let check = async {
            let occasions = self.crossed_by(entries).await?;
            Ok::<_, WatchError>(self.raise_all(occasions, now, told).await)
        };
        match timeout(PATIENCE, check).await {
            // Each failure is in the log already.
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "thresholds are left to the scheduled check"),
            Err(_) => tracing::warn!("the check of thresholds is slow; left to the scheduled one"),
        }
    }

    /// Raises the alert of a budget that a request was refused for, once a budget and period. `told` hears of it where it fired.
    /// What fails is logged: the next refusal tries again.
    pub async fn budget_exceeded(&self, refusal: &Refusal, now: Timestamp, told: impl FnMut(&Alert)) {
        let raised = self.raise_all(vec![refusal.into()], now, told);
        if timeout(PATIENCE, raised).await.is_err() {
            tracing::warn!("the alert of a budget is slow; the next refusal raises it");
        }
    }

    /// Raises an administrator's own alert, with what its type's period costs as its value: the hour, the day or the month that
    /// it is. A single request's is not known, and nothing is shown for it.
    ///
    /// # Errors
    /// [`WatchError`]
    pub async fn custom(&self, new: NewAlert, asked_by: &UserId, now: Timestamp) -> Result<Alert, WatchError> {
        let spend = self.ledger.spend(new.user_id.as_ref().unwrap_or(asked_by), now).await?;
        let spend = new.user_id.as_ref().map_or(spend.global, |_| spend.user);
        let current = match new.kind {
            AlertKind::RequestThreshold => Usd::ZERO,
            AlertKind::HourlyThreshold => spend.hour.total(),
            AlertKind::DailyThreshold | AlertKind::SpikeDetection => spend.day.total(),
            AlertKind::MonthlyThreshold | AlertKind::BudgetExceeded => spend.month.total(),
        };
        let mut alert = Alert::custom(new, current, now);
        self.alerts.put(&alert).await?;
        alert.notified_at = self.tell(&alert, now).await.then_some(now);
        Ok(alert)
    }

    /// The thresholds that are reached of those that a request counts in.
    async fn crossed_by(&self, entries: &[LedgerEntry]) -> Result<Vec<Occasion>, WatchError> {
        let Some(first) = entries.first() else { return Ok(Vec::new()) };
        let Ok(user) = UserId::parse(&first.user_id) else { return Ok(Vec::new()) };
        let cost = |counted: &dyn Fn(Provider) -> bool| -> Usd {
            entries.iter().filter(|entry| counted(entry.provider)).map(|entry| entry.cost).sum()
        };
        if cost(&|_| true) == Usd::ZERO {
            return Ok(Vec::new());
        }
        // Calls on both sides of an hour's end are booked in two.
        let hours: BTreeMap<_, _> = entries.iter().map(|entry| (hour_of(entry.started_at), entry.started_at)).collect();
        let owner = Owner::User(user.clone());
        let spending = async {
            let spending = hours.into_values().map(async |at| Ok((at, self.ledger.spend(&user, at).await?)));
            try_join_all(spending).await.map_err(WatchError::Ledger)
        };
        let own = async { self.thresholds.in_force(&owner).await.map_err(WatchError::Table) };
        let everyones = async { self.thresholds.in_force(&Owner::Everyone).await.map_err(WatchError::Table) };
        let (own, everyones, spent) = tokio::try_join!(own, everyones, spending)?;

        let mut crossings = Vec::new();
        for threshold in own.iter().chain(&everyones) {
            let by_request = cost(&|provider| threshold.counts(provider));
            if by_request == Usd::ZERO {
                continue;
            }
            if threshold.kind == ThresholdKind::PerRequest {
                crossings.extend(Crossing::of(threshold, first.operation_id.clone(), by_request));
                continue;
            }
            for (at, spend) in &spent {
                crossings.extend(crossing(threshold, *at, of_owner(spend, &threshold.owner)));
            }
        }
        Ok(crossings.into_iter().map(Occasion::from).collect())
    }

    /// Fires what has not fired, some at once. Gives how many failed, each of which is logged.
    async fn raise_all(&self, occasions: Vec<Occasion>, now: Timestamp, mut told: impl FnMut(&Alert)) -> u64 {
        let mut failed = 0;
        let mut raised = stream::iter(occasions).map(|one| self.raise(one, now)).buffer_unordered(CONCURRENCY);
        while let Some(result) = raised.next().await {
            match result {
                Ok(Some(alert)) => told(&alert),
                Ok(None) => {}
                Err(error) => {
                    failed += 1;
                    tracing::warn!(%error, "an alert is left to the next check");
                }
            }
        }
        failed
    }

    /// Fires an alert and has it told, unless this process knows that it cannot fire.
    async fn raise(&self, occasion: Occasion, now: Timestamp) -> Result<Option<Alert>, TableError> {
        let standing = self.memory().standing(&occasion);
        if decide(standing, now, self.alerts.silence()) != Decision::Fire {
            return Ok(None);
        }
        let firing = self.alerts.fire(&occasion, now).await?;
        self.memory().learn(&occasion, &firing, now);
        let Firing::Fired(alert) = firing else { return Ok(None) };
        self.tell(&alert, now).await;
        Ok(Some(*alert))
    }

    /// Hands an alert over to be told. Whether it could; where not, the schedule does it again.
    async fn tell(&self, alert: &Alert, now: Timestamp) -> bool {
        if let Err(error) = self.notifications.put(&alert.notification()).await {
            tracing::warn!(%error, alert = alert.id, "an alert is told later");
            return false;
        }
        if let Err(error) = self.alerts.mark_notified(&alert.id, now).await {
            tracing::warn!(%error, alert = alert.id, "an alert is handed over again");
        }
        true
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a threshold of a period is reached by what was spent at a moment.
fn crossing<'a>(threshold: &'a Threshold, at: Timestamp, spend: &PeriodSpend) -> Option<Crossing<'a>> {
    let spent = match threshold.kind {
        ThresholdKind::Hourly => spend.hour,
        ThresholdKind::Daily => spend.day,
        ThresholdKind::Monthly => spend.month,
        ThresholdKind::PerRequest => return None,
    };
    Crossing::of(threshold, threshold.kind.period(at, ""), spent.of(threshold.provider))
}

fn of_owner<'a>(spend: &'a UserAndGlobal, owner: &Owner) -> &'a PeriodSpend {
    match owner {
        Owner::Everyone => &spend.global,
        Owner::User(_) => &spend.user,
    }
}

/// The name of the hour that a moment lies in.
fn hour_of(at: Timestamp) -> String {
    ThresholdKind::Hourly.period(at, "")
}
