//! The schedule's check: everyone's thresholds, spikes, and alerts that nobody was told of.
//!
//! What it reads grows with the users that have costs this month and with the thresholds that were made, not with requests: the users'
//! months (a query a shard), the thresholds, and by their keys the alerts of what is reached. A user's hour, or one provider's share
//! of a user's day, is read only where the day as a whole is enough to reach the threshold.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures_util::{StreamExt, stream};
use huntaze_domain::ids::UserId;
use huntaze_domain::money::Usd;
use huntaze_domain::notification::Severity;
use huntaze_domain::provider::Provider;
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::{CONCURRENCY, Watch, WatchError, crossing, hour_of};
use crate::alert::{Alert, AlertKind, Contributor, Occasion, dollars, whose};
use crate::ledger::LedgerError;
use crate::owner::Owner;
use crate::period::{Month, day_of};
use crate::spend::{Spent, UserMonth};
use crate::spike::DAYS;
use crate::threshold::{Crossing, Threshold, ThresholdKind};

/// A period that ended so short a time ago is looked at once more: its last request may have come behind the last check.
const LOOK_BACK: SignedDuration = SignedDuration::from_mins(10);
/// Whoever fired an alert this short a time ago is still handing it over.
const GRACE: SignedDuration = SignedDuration::from_secs(60);
/// Nobody wants to be told of an older one.
const TOLD_WITHIN: SignedDuration = SignedDuration::from_hours(24);
/// The users that a spike of everyone's costs is put down to.
const TOP_USERS: usize = 5;

/// What a check of everyone did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Patrolled {
    /// Users with costs this month or, in its first days, the month before.
    pub users: u64,
    /// Alerts that fired.
    pub fired: u64,
    /// Alerts that were handed over to be told again.
    pub told_again: u64,
    /// What could not be read, written or handed over; the next check tries again.
    pub failed: u64,
}

type ByMonth = BTreeMap<Month, Vec<UserMonth>>;
type ByOwner = HashMap<Owner, Vec<Threshold>>;
/// What today cost, and each of the full days before it, the last one first.
type Week = [Usd; DAYS + 1];

impl Watch {
    /// Checks everyone; `told` hears of each alert as soon as it fired, so that a check that is cut short has told of all that it did. What
    /// fails of one owner does not stop the others.
    ///
    /// # Errors
    /// [`WatchError`] where nothing can be checked: the thresholds or the users' months cannot be read.
    pub async fn patrol(&self, now: Timestamp, mut told: impl FnMut(&Alert)) -> Result<Patrolled, WatchError> {
        let mut done = Patrolled::default();
        self.tell_again(now, &mut done).await;
        let (thresholds, months) =
            tokio::try_join!(async { self.thresholds.all().await.map_err(WatchError::Table) }, async {
                self.months(now).await.map_err(WatchError::Ledger)
            },)?;
        let users: HashSet<_> = months.values().flatten().map(|month| &month.user).collect();
        done.users = users.len() as u64;

        let mut occasions = Vec::new();
        for at in moments(now) {
            let Some(users) = months.get(&Month::at(at)) else { continue };
            occasions.extend(self.of_everyone(&thresholds, users, at, &mut done).await);
            occasions.extend(self.of_users(&thresholds, users, at, &mut done).await);
        }
        occasions.extend(self.spikes(&months, day_of(now)));
        let new = self.not_there(occasions).await?;
        let new = stream::iter(new).then(|occasion| self.explained(occasion, now)).collect().await;
        let count = |alert: &Alert| {
            done.fired += 1;
            told(alert);
        };
        let failed = self.raise_all(new, now, count).await;
        done.failed += failed;
        Ok(done)
    }

    /// The users' months that a check needs: this one, and the one before where the last days lie in it.
    async fn months(&self, now: Timestamp) -> Result<ByMonth, LedgerError> {
        let first = day_of(now).saturating_sub(7.days());
        let mut months = ByMonth::new();
        for month in BTreeSet::from([Month::of(first), Month::at(now)]) {
            months.insert(month, self.ledger.users_of_month(month).await?);
        }
        Ok(months)
    }

    /// Thresholds of all users together.
    async fn of_everyone(
        &self,
        thresholds: &ByOwner,
        users: &[UserMonth],
        at: Timestamp,
        done: &mut Patrolled,
    ) -> Vec<Occasion> {
        // A read is of a user and of everyone. Where no user has costs, nobody has.
        let Some(any) = users.first() else { return Vec::new() };
        let in_force = in_force(thresholds, &Owner::Everyone);
        match self.ledger.spend(&any.user, at).await {
            Ok(spend) => {
                in_force.iter().filter_map(|one| crossing(one, at, &spend.global)).map(Occasion::from).collect()
            }
            Err(error) => {
                done.failed += 1;
                tracing::warn!(%error, "everyone's thresholds are left to the next check");
                Vec::new()
            }
        }
    }

    /// Thresholds of each user.
    async fn of_users(
        &self,
        thresholds: &ByOwner,
        users: &[UserMonth],
        at: Timestamp,
        done: &mut Patrolled,
    ) -> Vec<Occasion> {
        let mut occasions = Vec::new();
        let mut unclear = Vec::new();
        for month in users {
            let in_force = in_force(thresholds, &Owner::User(month.user.clone()));
            let (clear, rest): (Vec<_>, Vec<_>) = in_force.into_iter().partition(is_told_by_the_month);
            occasions.extend(clear.iter().filter_map(|one| by_the_month(one, month, at)).map(Occasion::from));
            let possible = |one: &Threshold| by_the_month(one, month, at).is_some();
            let rest: Vec<_> = rest.into_iter().filter(possible).collect();
            if !rest.is_empty() {
                unclear.push((month.user.clone(), rest));
            }
        }
        let mut read = stream::iter(unclear)
            .map(async |(user, thresholds): (UserId, Vec<Threshold>)| (thresholds, self.ledger.spend(&user, at).await))
            .buffer_unordered(CONCURRENCY);
        while let Some((thresholds, spend)) = read.next().await {
            match spend {
                Ok(spend) => {
                    let crossed = thresholds.iter().filter_map(|one| crossing(one, at, &spend.user));
                    occasions.extend(crossed.map(Occasion::from));
                }
                Err(error) => {
                    done.failed += 1;
                    tracing::warn!(%error, "a user's thresholds are left to the next check");
                }
            }
        }
        occasions
    }

    /// Days that are far above those before them: everyone's, and each user's.
    fn spikes(&self, months: &ByMonth, today: Date) -> Vec<Occasion> {
        let mut weeks: BTreeMap<&UserId, Week> = BTreeMap::new();
        for (month, users) in months {
            for user in users {
                for (day, cost) in &user.days {
                    let date = month.first_day().with().day(day.cast_signed()).build();
                    let ago = date.ok().and_then(|date| usize::try_from((today - date).get_days()).ok());
                    let Some(ago) = ago.filter(|ago| *ago <= DAYS) else { continue };
                    weeks.entry(&user.user).or_default()[ago] = *cost;
                }
            }
        }
        let mut everyone = Week::default();
        for week in weeks.values() {
            everyone.iter_mut().zip(week).for_each(|(sum, cost)| *sum = *sum + *cost);
        }
        let mut by_cost: Vec<_> = weeks.iter().map(|(user, week)| (week[0], *user)).collect();
        by_cost.sort_by(|one, other| other.cmp(one));
        let top = by_cost.into_iter().take(TOP_USERS).filter(|(cost, _)| *cost > Usd::ZERO);
        let top = top.map(|(cost, user)| Contributor { kind: "user".to_owned(), name: user.to_string(), cost });
        let global = self.spike(&Owner::Everyone, &everyone, today, top.collect());
        let users = weeks.iter().map(|(user, week)| self.spike(&Owner::User((*user).clone()), week, today, Vec::new()));
        std::iter::once(global).chain(users).flatten().collect()
    }

    fn spike(&self, owner: &Owner, week: &Week, today: Date, contributors: Vec<Contributor>) -> Option<Occasion> {
        let [current, before @ ..] = week;
        let limit = self.spikes.limit(before).filter(|limit| current >= limit)?;
        Some(Occasion {
            source: format!("{}#spike", owner.key()),
            period: today.to_string(),
            owner: owner.clone(),
            kind: AlertKind::SpikeDetection,
            severity: Severity::Warning,
            threshold: limit,
            current: *current,
            message: format!(
                "{} cost {} on {today} so far. After the seven days before, {} is far above a usual day.",
                whose(owner, None),
                dollars(*current),
                dollars(limit)
            ),
            channels: owner.channels().to_vec(),
            provider: None,
            contributors,
        })
    }

    /// Without those whose alert is there: most of what is reached was reached before.
    async fn not_there(&self, mut occasions: Vec<Occasion>) -> Result<Vec<Occasion>, WatchError> {
        let known = |occasion: &Occasion| self.memory().standing(occasion).fired;
        occasions.retain(|occasion| !known(occasion));
        let ids: Vec<_> = occasions.iter().map(Occasion::alert_id).collect::<HashSet<_>>().into_iter().collect();
        let present = self.alerts.present(&ids).await?;
        present.into_iter().for_each(|id| self.memory().there(id));
        occasions.retain(|occasion| !known(occasion));
        Ok(occasions)
    }

    /// A spike with the providers that it came from. Without them where they cannot be read: they are not what it is about.
    async fn explained(&self, mut occasion: Occasion, now: Timestamp) -> Occasion {
        if occasion.kind != AlertKind::SpikeDetection {
            return occasion;
        }
        let top = occasion.contributors.first().and_then(|top| UserId::parse(&top.name).ok());
        let Some(user) = occasion.owner.user().cloned().or(top) else { return occasion };
        match self.ledger.spend(&user, now).await {
            Ok(spend) => {
                let day = super::of_owner(&spend, &occasion.owner).day;
                occasion.contributors.extend(providers(day));
            }
            Err(error) => tracing::warn!(%error, "a spike is told without its providers"),
        }
        occasion
    }

    /// Hands over what was not told: whoever fired it was stopped, or could not reach the queue.
    async fn tell_again(&self, now: Timestamp, done: &mut Patrolled) {
        let (since, until) = (now.saturating_sub(TOLD_WITHIN), now.saturating_sub(GRACE));
        let (Ok(since), Ok(until)) = (since, until) else { return };
        let untold = match self.alerts.untold(since, until).await {
            Ok(untold) => untold,
            Err(error) => {
                done.failed += 1;
                tracing::warn!(%error, "what was not told is left to the next check");
                return;
            }
        };
        let telling = stream::iter(untold).map(async |alert: Alert| self.tell(&alert, now).await);
        let mut telling = telling.buffer_unordered(CONCURRENCY);
        while let Some(told) = telling.next().await {
            done.told_again += u64::from(told);
            done.failed += u64::from(!told);
        }
    }
}

/// The moments whose periods are checked: now, and a moment of the hour that has just ended.
fn moments(now: Timestamp) -> Vec<Timestamp> {
    let before = now.saturating_sub(LOOK_BACK).ok().filter(|before| hour_of(*before) != hour_of(now));
    before.into_iter().chain([now]).collect()
}

fn in_force(thresholds: &ByOwner, owner: &Owner) -> Vec<Threshold> {
    Threshold::in_force(owner, thresholds.get(owner).cloned().unwrap_or_default())
}

/// Whether a user's month says all that the threshold is about.
fn is_told_by_the_month(threshold: &Threshold) -> bool {
    match threshold.kind {
        ThresholdKind::Monthly => true,
        ThresholdKind::Daily => threshold.provider.is_none(),
        ThresholdKind::Hourly | ThresholdKind::PerRequest => false,
    }
}

/// The threshold held against the most that it can come to by a user's month: an hour is no more than its day, and a provider's part no
/// more than the whole.
fn by_the_month<'a>(threshold: &'a Threshold, month: &UserMonth, at: Timestamp) -> Option<Crossing<'a>> {
    let day = u8::try_from(day_of(at).day()).ok()?;
    let day = month.days.get(&day).copied().unwrap_or_default();
    let most = match threshold.kind {
        ThresholdKind::Monthly => month.spent.of(threshold.provider),
        ThresholdKind::Daily | ThresholdKind::Hourly => day,
        ThresholdKind::PerRequest => return None,
    };
    Crossing::of(threshold, threshold.kind.period(at, ""), most)
}

fn providers(day: Spent) -> impl Iterator<Item = Contributor> {
    let mut all = Provider::ALL.map(|provider| (day.of(Some(provider)), provider.as_str()));
    all.sort_by(|one, other| other.cmp(one));
    let with_costs = all.into_iter().filter(|(cost, _)| *cost > Usd::ZERO);
    with_costs.map(|(cost, name)| Contributor { kind: "provider".to_owned(), name: name.to_owned(), cost })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn an_hour_that_has_just_ended_is_looked_at_once_more() {
        assert_eq!(moments(at("2026-11-22T10:10:01Z")), [at("2026-11-22T10:10:01Z")]);
        assert_eq!(moments(at("2026-12-01T00:04:00Z")), [at("2026-11-30T23:54:00Z"), at("2026-12-01T00:04:00Z")]);
    }

    #[test]
    fn a_users_month_tells_what_cannot_be_reached() {
        let usd = |text: &str| Usd::parse(text).unwrap();
        let owner = Owner::from(UserId::parse("ana").ok());
        let month = UserMonth {
            user: UserId::parse("ana").unwrap(),
            spent: Spent { azure: usd("4"), openai: usd("2") },
            days: BTreeMap::from([(21, usd("3"))]),
        };
        let most = |kind: ThresholdKind, provider: Option<Provider>, amount: &str| {
            let threshold = Threshold {
                kind,
                provider,
                amount: usd(amount),
                ..Threshold::default_of(&owner, ThresholdKind::Daily).unwrap()
            };
            by_the_month(&threshold, &month, at("2026-11-21T10:20:30Z")).map(|crossing| crossing.current.to_string())
        };
        assert_eq!(most(ThresholdKind::Monthly, Some(Provider::Azure), "1").as_deref(), Some("4"));
        assert_eq!(most(ThresholdKind::Daily, None, "3").as_deref(), Some("3"));
        assert_eq!(most(ThresholdKind::Hourly, Some(Provider::OpenAi), "3").as_deref(), Some("3"));
        assert_eq!(most(ThresholdKind::Hourly, None, "3.01"), None);
        assert_eq!(most(ThresholdKind::PerRequest, None, "1"), None);
    }
}
