//! Which rule of a flag decides about whom. The order is fixed, and the first that applies decides:
//!
//! 1. the environment's switch, off: nobody
//! 2. the flag, off: nobody
//! 3. its blacklist: not these
//! 4. its whitelist: these
//! 5. its conditions: only whom they are met by, and an attribute that is not known meets none
//! 6. its share, or the environment's in its place: who is in a bucket of it

use std::collections::BTreeSet;

use huntaze_domain::ids::UserId;

use crate::bucket::{Bucket, Percentage};
use crate::flag::{Conditions, Flag};

/// About whom a flag decides, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject<'a> {
    /// Who.
    pub user: &'a UserId,
    /// What the user pays for.
    pub tier: Option<&'a str>,
    /// Whole days since the account was made.
    pub account_age_days: Option<u32>,
    /// Where the user lives.
    pub region: Option<&'a str>,
    /// What the request is for.
    pub platforms: &'a [String],
}

/// What the environment says over every flag of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switches {
    /// Off, nobody is in.
    pub enabled: bool,
    /// In place of the flag's own share.
    pub percentage: Option<Percentage>,
}

impl Default for Switches {
    fn default() -> Self {
        Self { enabled: true, percentage: None }
    }
}

/// The rule that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The environment's switch.
    Killed,
    /// The flag is off.
    Disabled,
    /// Its blacklist.
    Blacklist,
    /// Its whitelist.
    Whitelist,
    /// The tier is another, or not known.
    UserTier,
    /// The account is younger, or its age is not known.
    AccountAge,
    /// The region is another, or not known.
    Region,
    /// It is for another platform, or for none that is known.
    Platform,
    /// Its share.
    Rollout,
    /// The share of the environment.
    EnvironmentRollout,
}

impl Reason {
    /// The name on the wire and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Disabled => "disabled",
            Self::Blacklist => "blacklist",
            Self::Whitelist => "whitelist",
            Self::UserTier => "condition_user_tier",
            Self::AccountAge => "condition_account_age",
            Self::Region => "condition_region",
            Self::Platform => "condition_platform",
            Self::Rollout => "rollout",
            Self::EnvironmentRollout => "rollout_environment",
        }
    }
}

/// What a flag comes to for one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether the user is in.
    pub enabled: bool,
    /// What decided.
    pub reason: Reason,
    /// Where the user stands, also where that did not decide.
    pub bucket: Bucket,
    /// The share that counts.
    pub percentage: Percentage,
}

impl Flag {
    /// Decides.
    #[must_use]
    pub fn decide(&self, subject: &Subject<'_>, switches: Switches) -> Decision {
        let bucket = Bucket::of(self.group.as_str(), subject.user);
        let percentage = switches.percentage.unwrap_or(self.percentage);
        let (enabled, reason) = if !switches.enabled {
            (false, Reason::Killed)
        } else if !self.enabled {
            (false, Reason::Disabled)
        } else if self.blacklist.contains(subject.user) {
            (false, Reason::Blacklist)
        } else if self.whitelist.contains(subject.user) {
            (true, Reason::Whitelist)
        } else if let Some(unmet) = self.conditions.unmet(subject) {
            (false, unmet)
        } else {
            let own = switches.percentage.is_none();
            (bucket.is_in(percentage), if own { Reason::Rollout } else { Reason::EnvironmentRollout })
        };
        Decision { enabled, reason, bucket, percentage }
    }
}

impl Conditions {
    /// The first of them that is not met.
    fn unmet(&self, subject: &Subject<'_>) -> Option<Reason> {
        let one_of = |wanted: &Option<BTreeSet<String>>, value: Option<&str>| {
            wanted.as_ref().is_none_or(|wanted| value.is_some_and(|value| wanted.contains(value)))
        };
        let old_enough = |days: u32| subject.account_age_days.is_some_and(|age| age >= days);
        let all_of = |wanted: &BTreeSet<String>| {
            !subject.platforms.is_empty() && subject.platforms.iter().all(|platform| wanted.contains(platform))
        };
        let all = [
            (one_of(&self.user_tier, subject.tier), Reason::UserTier),
            (self.account_age.is_none_or(old_enough), Reason::AccountAge),
            (one_of(&self.region, subject.region), Reason::Region),
            (self.platform.as_ref().is_none_or(all_of), Reason::Platform),
        ];
        all.into_iter().find_map(|(met, reason)| (!met).then_some(reason))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::flag::FlagName;

    const ON: Switches = Switches { enabled: true, percentage: None };

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    fn everybody() -> Flag {
        Flag { enabled: true, percentage: Percentage::ALL, ..Flag::of(FlagName::parse("f").unwrap()) }
    }

    fn nothing_known(user: &UserId) -> Subject<'_> {
        Subject { user, tier: None, account_age_days: None, region: None, platforms: &[] }
    }

    fn texts(texts: &[&str]) -> Option<BTreeSet<String>> {
        Some(texts.iter().map(|text| (*text).to_owned()).collect())
    }

    /// Each rule decides over all that come after it: with every rule set against its successors, they are taken away one by one.
    #[test]
    fn design_the_order_is_kill_disabled_blacklist_whitelist_conditions_rollout() {
        let ana = user("ana");
        let mut flag = Flag {
            enabled: false,
            blacklist: [ana.clone()].into(),
            whitelist: [ana.clone()].into(),
            conditions: Conditions { user_tier: texts(&["vip"]), ..Conditions::default() },
            ..everybody()
        };
        let mut switches = Switches { enabled: false, percentage: None };
        let told = |flag: &Flag, switches| {
            let Decision { enabled, reason, .. } = flag.decide(&nothing_known(&ana), switches);
            (enabled, reason)
        };
        assert_eq!(told(&flag, switches), (false, Reason::Killed));
        switches.enabled = true;
        assert_eq!(told(&flag, switches), (false, Reason::Disabled));
        flag.enabled = true;
        assert_eq!(told(&flag, switches), (false, Reason::Blacklist));
        flag.blacklist.clear();
        assert_eq!(told(&flag, switches), (true, Reason::Whitelist));
        flag.whitelist.clear();
        assert_eq!(told(&flag, switches), (false, Reason::UserTier));
        flag.conditions = Conditions::default();
        assert_eq!(told(&flag, switches), (true, Reason::Rollout));
        flag.percentage = Percentage::NONE;
        assert_eq!(told(&flag, switches), (false, Reason::Rollout));
        switches.percentage = Some(Percentage::ALL);
        assert_eq!(told(&flag, switches), (true, Reason::EnvironmentRollout));
    }

    #[test]
    fn design_a_missing_attribute_is_false() {
        let ana = user("ana");
        let platforms = ["onlyfans".to_owned(), "reddit".to_owned()];
        let known = Subject {
            user: &ana,
            tier: Some("vip"),
            account_age_days: Some(30),
            region: Some("eu"),
            platforms: &platforms,
        };
        let none = Conditions::default();
        let cases = [
            (Conditions { user_tier: texts(&["vip", "pro"]), ..none.clone() }, Reason::UserTier),
            (Conditions { account_age: Some(30), ..none.clone() }, Reason::AccountAge),
            (Conditions { region: texts(&["eu"]), ..none.clone() }, Reason::Region),
            (Conditions { platform: texts(&["onlyfans", "reddit"]), ..none.clone() }, Reason::Platform),
        ];
        for (conditions, reason) in cases {
            let flag = Flag { conditions, ..everybody() };
            let of = |subject: &Subject<'_>| flag.decide(subject, ON);
            assert_eq!(of(&known).reason, Reason::Rollout);
            let unknown = of(&nothing_known(&ana));
            assert_eq!((unknown.enabled, unknown.reason), (false, reason));
        }
        let other = [
            Conditions { user_tier: texts(&["VIP"]), ..none.clone() },
            Conditions { account_age: Some(31), ..none.clone() },
            Conditions { region: texts(&["us"]), ..none.clone() },
            Conditions { platform: texts(&["onlyfans"]), ..none.clone() },
        ];
        for conditions in other {
            assert!(
                !Flag { conditions: conditions.clone(), ..everybody() }.decide(&known, ON).enabled,
                "{conditions:?}"
            );
        }
    }

    proptest! {
        /// Whatever else a flag says: who is in stays in when its share rises, and a flag of another name and the same group decides alike.
        #[test]
        fn a_share_that_rises_takes_nobody_out_and_a_new_name_moves_nobody(
            id in "[a-z]{1,12}", low in 0_u64..=100, more in 0_u64..=100,
            age in proptest::option::of(0_u32..60), least in proptest::option::of(0_u32..60),
        ) {
            let id = user(&id);
            let subject = Subject { account_age_days: age, ..nothing_known(&id) };
            let at = |percent: u64, name: &str| {
                let conditions = Conditions { account_age: least, ..Conditions::default() };
                let share = Percentage::new(percent.min(100)).unwrap();
                let named = Flag { name: FlagName::parse(name).unwrap(), percentage: share, conditions, ..everybody() };
                named.decide(&subject, ON)
            };
            prop_assert!(!at(low, "f").enabled || at(low + more, "f").enabled);
            prop_assert_eq!(at(low, "f"), at(low, "renamed"));
        }
    }
}
