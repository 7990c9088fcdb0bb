//! Which system serves a request: the flag as it is now, and what is known of the user.
//!
//! A published version of a function cannot see that a variable was changed, and a thawed environment believes that no time has passed.
//! So the flag is what switches off, and no decision is made by one that was read more than five seconds ago by either clock. Where it
//! cannot be read nobody is taken in: it may say so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use huntaze_domain::env::Env;
use huntaze_domain::ids::UserId;
use huntaze_domain::intent::Dealt;
use huntaze_domain::principal::Attributes;
use huntaze_domain::provider::Provider;
use huntaze_postgres::Database;
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, timeout};

use crate::bucket::Percentage;
use crate::evaluate::{Decision, Reason, Subject, Switches};
use crate::flag::{Flag, FlagName, HYBRID_ORCHESTRATOR};
use crate::store::{Flags, Kept};
use crate::users;

/// How old a flag may be when it decides.
const FRESH: SignedDuration = SignedDuration::from_secs(5);
/// DynamoDB answers in milliseconds: a table that takes longer is away, and somebody waits for the decision.
const PATIENCE: Duration = Duration::from_secs(1);
/// A table that did not answer is not asked again for so long: one request pays for the finding, not each.
const REST: SignedDuration = SignedDuration::from_secs(2);

/// What `HYBRID_ORCHESTRATOR_ENABLED` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// `false`: the old system serves everybody.
    Nobody,
    /// `true`, and where nothing is said: the flag decides.
    ByFlag,
    /// `always`: the old system is gone, and no flag is asked.
    Everybody,
}

/// Who asks for what.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// The user.
    pub user: &'a UserId,
    /// What the session says of them.
    pub attributes: &'a Attributes,
    /// What the request is for.
    pub platforms: &'a [String],
}

/// Which system serves a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// This one.
    pub enrolled: bool,
    /// Why.
    pub reason: Why,
    /// The flag that decided.
    pub flag: Option<Arc<Kept>>,
}

impl Choice {
    /// The user's variant of the flag's experiment, and whom it prefers.
    #[must_use]
    pub fn deal(&self, user: &UserId) -> Option<(Dealt, Option<Provider>)> {
        let experiment = self.flag.as_ref()?.flag.experiment.as_ref()?;
        let variant = experiment.variant(user);
        let dealt = Dealt {
            experiment: experiment.name.as_str().to_owned(),
            variant: variant.name.as_str().to_owned(),
            instructions: variant.instructions.clone(),
        };
        Some((dealt, variant.provider))
    }

    /// Whether what a session says of its user is to be remembered: the flag asks for such things, and another session may not say it.
    #[must_use]
    pub fn is_worth_remembering(&self, attributes: &Attributes) -> bool {
        let asks = self.flag.as_ref().is_some_and(|kept| kept.flag.conditions.ask_of_users());
        asks && *attributes != Attributes::default()
    }
}

/// What decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A rule of the flag, or the environment's switch.
    Rule(Reason),
    /// `HYBRID_ORCHESTRATOR_ENABLED=always`.
    Always,
    /// There is no flag.
    Absent,
    /// The flag could not be read.
    Unread,
}

impl Why {
    /// The name on the wire and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rule(reason) => reason.as_str(),
            Self::Always => "always",
            Self::Absent => "absent",
            Self::Unread => "unread",
        }
    }
}

/// A flag when it was last read.
#[derive(Debug, Clone)]
struct Read {
    found: Found,
    /// The wall clock when it was asked for.
    asked: Timestamp,
    /// The other clock then, which may stand still while the environment is frozen, but is never set.
    instant: Instant,
}

#[derive(Debug, Clone)]
enum Found {
    Flag(Arc<Kept>),
    Absent,
    Unread,
}

impl Read {
    fn is_good(&self, now: Timestamp, instant: Instant) -> bool {
        let bound = if matches!(self.found, Found::Unread) { REST } else { FRESH };
        let other = SignedDuration::try_from(instant.duration_since(self.instant)).unwrap_or(SignedDuration::MAX);
        (SignedDuration::ZERO..bound).contains(&now.duration_since(self.asked)) && other < bound
    }
}

/// What decides.
pub struct Rollout {
    flags: Flags,
    name: FlagName,
    settings: Settings,
    database: Arc<Database>,
    last: Mutex<Option<Read>>,
}

impl Rollout {
    /// Reads `HYBRID_ORCHESTRATOR_ENABLED` and `HYBRID_ORCHESTRATOR_PERCENTAGE`; nothing is called.
    #[must_use]
    pub fn from_env(env: &Env, flags: Flags, database: Arc<Database>) -> Option<Self> {
        let settings = settings(env);
        let name = FlagName::parse(HYBRID_ORCHESTRATOR)?;
        Some(Self { flags, name, settings, database, last: Mutex::default() })
    }

    /// The flag's name.
    #[must_use]
    pub fn name(&self) -> &FlagName {
        &self.name
    }

    /// Decides. Without a wait, unless the flag has to be read again, or it asks what the session does not say.
    pub async fn choose(&self, who: Who<'_>, now: Timestamp) -> Choice {
        let whatever = |enrolled, reason| Choice { enrolled, reason, flag: None };
        match self.settings.mode {
            Mode::Nobody => whatever(false, Why::Rule(Reason::Killed)),
            Mode::Everybody => whatever(true, Why::Always),
            Mode::ByFlag => match self.found(now).await {
                Found::Absent => whatever(false, Why::Absent),
                Found::Unread => whatever(false, Why::Unread),
                Found::Flag(kept) => {
                    let Decision { enabled, reason, .. } = self.decide(&kept, who, now).await;
                    Choice { enrolled: enabled, reason: Why::Rule(reason), flag: Some(kept) }
                }
            },
        }
    }

    async fn decide(&self, kept: &Kept, who: Who<'_>, now: Timestamp) -> Decision {
        let switches = Switches { enabled: true, percentage: self.settings.percentage };
        let by = |attributes: &Attributes| kept.flag.decide(&subject(who, attributes, now), switches);
        let decision = by(who.attributes);
        // Where the share would leave the user out as well, nobody needs to know.
        if !is_unknown(who.attributes, decision.reason) || !decision.bucket.is_in(decision.percentage) {
            return decision;
        }
        match timeout(PATIENCE, users::attributes(&self.database, who.user)).await {
            Ok(Ok(remembered)) => return by(&who.attributes.clone().or(remembered)),
            Ok(Err(error)) => tracing::warn!(%error, "what is remembered of a user cannot be read"),
            Err(_) => tracing::warn!("what is remembered of a user was not read within {PATIENCE:?}"),
        }
        decision
    }

    /// Remembers what a session says of its user.
    pub async fn remember(&self, user: &UserId, attributes: &Attributes) {
        if let Err(error) = users::remember(&self.database, user, attributes).await {
            tracing::warn!(%error, "what a session says of its user is not remembered");
        }
    }

    /// Whether a request may be begun beside the reading of the flag: as it was read last, however long ago, it took this user in without
    /// more ado. Most who are not taken in are so for long, and cost no store a thing.
    #[must_use]
    pub fn was_in(&self, who: Who<'_>, now: Timestamp) -> bool {
        let last = lock(&self.last).as_ref().map(|read| read.found.clone());
        let Some(Found::Flag(kept)) = last else { return false };
        let switches = Switches { enabled: true, percentage: self.settings.percentage };
        // A variant is dealt by the flag as it is, before the first call is chosen.
        kept.flag.experiment.is_none() && kept.flag.decide(&subject(who, who.attributes, now), switches).enabled
    }

    /// Reads the flag ahead of the first request.
    pub async fn warm_up(&self, now: Timestamp) {
        if self.settings.mode == Mode::ByFlag {
            self.found(now).await;
        }
    }

    async fn found(&self, now: Timestamp) -> Found {
        if let Some(read) = lock(&self.last).as_ref().filter(|read| read.is_good(now, Instant::now())) {
            return read.found.clone();
        }
        let instant = Instant::now();
        let found = match timeout(PATIENCE, self.flags.get(&self.name)).await {
            Ok(Ok(row)) => row.kept.map_or(Found::Absent, |kept| Found::Flag(Arc::new(kept))),
            Ok(Err(error)) => {
                tracing::error!(%error, "the flag cannot be read; nobody is taken in");
                Found::Unread
            }
            Err(_) => {
                tracing::error!("the flag was not read within {PATIENCE:?}; nobody is taken in");
                Found::Unread
            }
        };
        *lock(&self.last) = Some(Read { found: found.clone(), asked: now, instant });
        found
    }
}

/// Whether it was decided by something that is not known.
fn is_unknown(attributes: &Attributes, reason: Reason) -> bool {
    match reason {
        Reason::UserTier => attributes.tier.is_none(),
        Reason::Region => attributes.region.is_none(),
        Reason::AccountAge => attributes.created_at.is_none(),
        _ => false,
    }
}

fn lock(last: &Mutex<Option<Read>>) -> MutexGuard<'_, Option<Read>> {
    last.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the environment says over the flag of the hybrid orchestrator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    mode: Mode,
    percentage: Option<Percentage>,
}

impl Settings {
    /// What is said over a flag: over others than the hybrid orchestrator's, nothing.
    fn over(self, flag: &Flag) -> Self {
        let own = flag.name.as_str() == HYBRID_ORCHESTRATOR;
        if own { self } else { Self { mode: Mode::ByFlag, percentage: None } }
    }

    /// Whether a flag is asked at all.
    #[must_use]
    pub fn asks(self, flag: &Flag) -> bool {
        self.over(flag).mode == Mode::ByFlag
    }

    /// The share that counts in place of the flag's own.
    #[must_use]
    pub fn share_over(self, flag: &Flag) -> Option<Percentage> {
        self.over(flag).percentage
    }

    /// What a flag comes to for a user, and why.
    #[must_use]
    pub fn explain(self, kept: &Kept, who: Who<'_>, now: Timestamp) -> (bool, Why, Decision) {
        let settings = self.over(&kept.flag);
        let switches = Switches { enabled: settings.mode != Mode::Nobody, percentage: settings.percentage };
        let decision = kept.flag.decide(&subject(who, who.attributes, now), switches);
        match settings.mode {
            Mode::Everybody => (true, Why::Always, decision),
            _ => (decision.enabled, Why::Rule(decision.reason), decision),
        }
    }
}

/// Reads `HYBRID_ORCHESTRATOR_ENABLED` and `HYBRID_ORCHESTRATOR_PERCENTAGE`.
#[must_use]
pub fn settings(env: &Env) -> Settings {
    let mode = match env.or("HYBRID_ORCHESTRATOR_ENABLED", "true").trim().to_ascii_lowercase().as_str() {
        "true" | "1" => Mode::ByFlag,
        "always" => Mode::Everybody,
        other => {
            if !["false", "0"].contains(&other) {
                env.fault("HYBRID_ORCHESTRATOR_ENABLED", "must be `true`, `false` or `always`");
            }
            Mode::Nobody
        }
    };
    let percentage = env.optional("HYBRID_ORCHESTRATOR_PERCENTAGE").and_then(|text| {
        let share = text.trim().parse().ok().and_then(Percentage::new);
        env.check("HYBRID_ORCHESTRATOR_PERCENTAGE", share.ok_or("must be a whole number from 0 to 100"))
    });
    Settings { mode, percentage }
}

/// Whom a flag decides about.
#[must_use]
pub fn subject<'a>(who: Who<'a>, attributes: &'a Attributes, now: Timestamp) -> Subject<'a> {
    let age = attributes.created_at.map(|at| now.duration_since(at).as_hours() / 24);
    Subject {
        user: who.user,
        tier: attributes.tier.as_deref(),
        account_age_days: age.map(|days| u32::try_from(days).unwrap_or_default()),
        region: attributes.region.as_deref(),
        platforms: who.platforms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Env {
        Env::from_pairs(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn the_environment_switches_as_it_always_did() {
        let read = |pairs: &[(&str, &str)]| {
            let env = env(pairs);
            let settings = settings(&env);
            env.finish(Some((settings.mode, settings.percentage))).map_err(|fault| fault.0.len())
        };
        assert_eq!(read(&[]), Ok((Mode::ByFlag, None)));
        for (text, mode) in [
            ("true", Mode::ByFlag),
            ("1", Mode::ByFlag),
            ("FALSE", Mode::Nobody),
            ("0", Mode::Nobody),
            ("always", Mode::Everybody),
        ] {
            assert_eq!(read(&[("HYBRID_ORCHESTRATOR_ENABLED", text)]), Ok((mode, None)), "{text}");
        }
        assert_eq!(read(&[("HYBRID_ORCHESTRATOR_PERCENTAGE", "25")]), Ok((Mode::ByFlag, Percentage::new(25))));
        let odd = [("HYBRID_ORCHESTRATOR_ENABLED", "maybe"), ("HYBRID_ORCHESTRATOR_PERCENTAGE", "101")];
        assert_eq!(read(&odd), Err(2));
    }

    #[test]
    fn design_flags_older_than_5_s_are_read_again() {
        let (asked, instant): (Timestamp, _) = ("2026-11-23T10:00:00Z".parse().unwrap(), Instant::now());
        let read = |found| Read { found, asked, instant };
        let is_good = |read: &Read, wall: i64, other: u64| {
            read.is_good(asked + SignedDuration::from_millis(wall), instant + Duration::from_millis(other))
        };
        let absent = read(Found::Absent);
        assert!(is_good(&absent, 0, 0) && is_good(&absent, 4_999, 4_999));
        assert!(!is_good(&absent, 5_000, 0), "it was frozen");
        assert!(!is_good(&absent, -1, 1), "the clock was set back");
        assert!(!is_good(&absent, 0, 5_000), "the clock stands still");
        let unread = read(Found::Unread);
        assert!(is_good(&unread, 1_999, 1_999) && !is_good(&unread, 2_000, 2_000));
    }
}
