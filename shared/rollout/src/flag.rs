//! A flag: whom it takes in, and how it is read from a request.

use std::collections::BTreeSet;

use huntaze_domain::error::FieldFault;
use huntaze_domain::ids::UserId;
use huntaze_domain::json::{Fields, read_object};
use serde_json::{Map, Value, json};

use crate::body::{PERCENTAGE, percentage, users, values, whole};
use crate::bucket::Percentage;
use crate::experiment::Experiment;
use crate::plan::Plan;

/// The flag that decides who is served by the orchestrator, and who by the system before it.
pub const HYBRID_ORCHESTRATOR: &str = "hybrid-orchestrator";

pub(crate) const NAME: &str = "1 to 64 of the characters a-z, 0-9, `.`, `_` and `-`, a letter or digit first";
const PINNED: &str = "is given when the flag is made, and stays: another would move its users";
/// What a reason is, for whoever gave none.
pub const REASON: &str = "a text of 1 to 500 characters";
/// A longer account age is a slip of the keyboard.
const MOST_DAYS: u64 = 36_500;
/// The guard remembers no more than a day.
const MOST_MINUTES: u64 = 1_440;
/// No request takes longer: the gateway gives it 30 s.
const MOST_MILLIS: u64 = 30_000;

/// The name of a flag, or of its group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlagName(String);

impl FlagName {
    /// Reads a name. `None` for a text that is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let is_other = |b: u8| is_first(b) || b"._-".contains(&b);
        let fits =
            (1..=64).contains(&text.len()) && text.bytes().all(is_other) && text.bytes().next().is_some_and(is_first);
        fits.then(|| Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What must be so for a flag's rollout to count. All of them must; where a user's attribute is not known, it is not so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    /// One of these tiers.
    pub user_tier: Option<BTreeSet<String>>,
    /// An account of so many days at least.
    pub account_age: Option<u32>,
    /// One of these regions.
    pub region: Option<BTreeSet<String>>,
    /// Of these platforms every one that the request is for.
    pub platform: Option<BTreeSet<String>>,
}

impl Conditions {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let days = format!("a whole number of days from 0 to {MOST_DAYS}");
        Some(Self {
            user_tier: values(fields, "userTier"),
            account_age: fields.optional("accountAge", &days, |v| whole(v, 0, MOST_DAYS)),
            region: values(fields, "region"),
            platform: values(fields, "platform"),
        })
    }

    /// Whether any of them is about the user, and not about the request.
    #[must_use]
    pub fn ask_of_users(&self) -> bool {
        self.user_tier.is_some() || self.account_age.is_some() || self.region.is_some()
    }

    fn to_json(&self) -> Value {
        let all = [
            ("userTier", self.user_tier.as_ref().map(|tiers| json!(tiers))),
            ("accountAge", self.account_age.map(|days| json!(days))),
            ("region", self.region.as_ref().map(|regions| json!(regions))),
            ("platform", self.platform.as_ref().map(|platforms| json!(platforms))),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// What takes a rollout back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RollbackTriggers {
    /// More failed requests than this, in percent.
    pub error_rate_threshold: f64,
    /// A slower 95th percentile than this, in milliseconds.
    pub latency_threshold: u32,
    /// How far back both are looked at.
    pub time_window_minutes: u32,
}

impl RollbackTriggers {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (millis, minutes) =
            (format!("milliseconds from 1 to {MOST_MILLIS}"), format!("minutes from 1 to {MOST_MINUTES}"));
        let percent = |value: &Value| value.as_f64().filter(|percent| (0.0..=100.0).contains(percent));
        let error_rate_threshold = fields.required("errorRateThreshold", "a percentage from 0 to 100", percent);
        let latency_threshold = fields.required("latencyThreshold", &millis, |v| whole(v, 1, MOST_MILLIS));
        let time_window_minutes = fields.required("timeWindowMinutes", &minutes, |v| whole(v, 1, MOST_MINUTES));
        Some(Self {
            error_rate_threshold: error_rate_threshold?,
            latency_threshold: latency_threshold?,
            time_window_minutes: time_window_minutes?,
        })
    }

    fn to_json(self) -> Value {
        json!({
            "errorRateThreshold": self.error_rate_threshold,
            "latencyThreshold": self.latency_threshold,
            "timeWindowMinutes": self.time_window_minutes,
        })
    }
}

/// A flag.
#[derive(Debug, Clone, PartialEq)]
pub struct Flag {
    /// What it is asked for by.
    pub name: FlagName,
    /// What its buckets are dealt by. It is given when the flag is made and stays, so that a flag of another name can take over
    /// without moving anybody.
    pub group: FlagName,
    /// Off, it takes nobody in, whatever else it says.
    pub enabled: bool,
    /// The share of users whose conditions are met.
    pub percentage: Percentage,
    /// Who is in, whatever the conditions and the share.
    pub whitelist: BTreeSet<UserId>,
    /// Who is out, whatever else is said.
    pub blacklist: BTreeSet<UserId>,
    /// Whose share it is.
    pub conditions: Conditions,
    /// What takes it back.
    pub triggers: Option<RollbackTriggers>,
    /// What takes it on.
    pub plan: Option<Plan>,
    /// What is compared among those who are in.
    pub experiment: Option<Experiment>,
}

impl Flag {
    /// Reads a body that says all of a flag; what it leaves out is off, nobody and nothing.
    ///
    /// # Errors
    /// Every fault that was found, each with its JSON pointer.
    pub fn parse(body: &[u8]) -> Result<Self, Vec<FieldFault>> {
        Self::parse_over(body, None)
    }

    /// The same where there is one already: its group stays.
    ///
    /// # Errors
    /// As [`Flag::parse`].
    pub fn parse_over(body: &[u8], before: Option<&Self>) -> Result<Self, Vec<FieldFault>> {
        let new = Self::of;
        let flag = read_object(body, |fields| {
            let name = fields.required("name", NAME, |v| FlagName::parse(v.as_str()?));
            let group = fields.optional("flagGroup", NAME, |v| FlagName::parse(v.as_str()?));
            if group.as_ref().is_some_and(|group| before.is_some_and(|before| before.group != *group)) {
                fields.fault("flagGroup", PINNED);
            }
            let change = FlagChange::read(fields);
            let mut flag = new(name?);
            flag.group = before.map(|before| before.group.clone()).or(group).unwrap_or(flag.group);
            Some(change.of(flag))
        });
        flag?.checked()
    }

    /// One that takes nobody in.
    #[must_use]
    pub fn of(name: FlagName) -> Self {
        Self {
            group: name.clone(),
            name,
            enabled: false,
            percentage: Percentage::NONE,
            whitelist: BTreeSet::new(),
            blacklist: BTreeSet::new(),
            conditions: Conditions::default(),
            triggers: None,
            plan: None,
            experiment: None,
        }
    }

    /// It, where its parts fit each other.
    ///
    /// # Errors
    /// What does not fit, with its JSON pointer.
    pub fn checked(self) -> Result<Self, Vec<FieldFault>> {
        let is_asked = self.name.as_str() == HYBRID_ORCHESTRATOR;
        let nobody_asks = format!("is for the flag `{HYBRID_ORCHESTRATOR}` alone: no request asks for another");
        let unguarded = "needs `rollbackTriggers`: what goes on by itself is taken back by itself";
        let all = [
            (self.plan.is_some() && !is_asked, "/rolloutPlan", nobody_asks.as_str()),
            (self.plan.is_some() && is_asked && self.triggers.is_none(), "/rolloutPlan", unguarded),
            (self.experiment.is_some() && !is_asked, "/experiment", nobody_asks.as_str()),
        ];
        let fault = |(_, pointer, detail): (bool, &str, &str)| FieldFault {
            pointer: pointer.to_owned(),
            detail: detail.to_owned(),
        };
        let faults: Vec<_> = all.into_iter().filter(|(is_so, ..)| *is_so).map(fault).collect();
        if faults.is_empty() { Ok(self) } else { Err(faults) }
    }

    /// As the contract shows it, and as it is kept: [`Flag::parse`] reads it.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        let all = [
            ("name", Some(json!(self.name.as_str()))),
            ("flagGroup", Some(json!(self.group.as_str()))),
            ("enabled", Some(json!(self.enabled))),
            ("rolloutPercentage", Some(json!(self.percentage.get()))),
            ("userWhitelist", Some(json!(self.whitelist))),
            ("userBlacklist", Some(json!(self.blacklist))),
            ("conditions", Some(self.conditions.to_json())),
            ("rollbackTriggers", self.triggers.map(RollbackTriggers::to_json)),
            ("rolloutPlan", self.plan.as_ref().map(Plan::to_json)),
            ("experiment", self.experiment.as_ref().map(Experiment::to_json)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// What is to be different about a flag.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FlagChange {
    /// Whether it is on.
    pub enabled: Option<bool>,
    /// The share of users.
    pub percentage: Option<Percentage>,
    /// Who is in.
    pub whitelist: Option<BTreeSet<UserId>>,
    /// Who is out.
    pub blacklist: Option<BTreeSet<UserId>>,
    /// Whose share it is: all of them anew.
    pub conditions: Option<Conditions>,
    /// What takes it back; the inner `None` takes them away.
    pub triggers: Option<Option<RollbackTriggers>>,
    /// What takes it on; as above.
    pub plan: Option<Option<Plan>>,
    /// What is compared; as above.
    pub experiment: Option<Option<Experiment>>,
}

impl FlagChange {
    /// Reads a body that names a flag and what is to be different about it.
    ///
    /// # Errors
    /// Every fault that was found, each with its JSON pointer.
    pub fn parse(body: &[u8]) -> Result<(FlagName, Self), Vec<FieldFault>> {
        read_object(body, |fields| {
            let name = fields.required("name", NAME, |v| FlagName::parse(v.as_str()?));
            if fields.has("flagGroup") {
                fields.fault("flagGroup", PINNED);
            }
            let change = Self::read(fields);
            if change == Self::default() {
                fields.fault("name", "is the only field: what is to be different about the flag?");
            }
            Some((name?, change))
        })
    }

    fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            enabled: fields.optional("enabled", "true or false", Value::as_bool),
            percentage: fields.optional("rolloutPercentage", PERCENTAGE, percentage),
            whitelist: users(fields, "userWhitelist"),
            blacklist: users(fields, "userBlacklist"),
            conditions: fields.within("conditions", Conditions::read),
            triggers: or_none(fields, "rollbackTriggers", RollbackTriggers::read),
            plan: or_none(fields, "rolloutPlan", Plan::read),
            experiment: or_none(fields, "experiment", Experiment::read),
        }
    }

    /// The flag as it is then.
    #[must_use]
    pub fn of(&self, flag: Flag) -> Flag {
        let change = self.clone();
        Flag {
            name: flag.name,
            group: flag.group,
            enabled: change.enabled.unwrap_or(flag.enabled),
            percentage: change.percentage.unwrap_or(flag.percentage),
            whitelist: change.whitelist.unwrap_or(flag.whitelist),
            blacklist: change.blacklist.unwrap_or(flag.blacklist),
            conditions: change.conditions.unwrap_or(flag.conditions),
            triggers: change.triggers.unwrap_or(flag.triggers),
            plan: change.plan.unwrap_or(flag.plan),
            experiment: change.experiment.unwrap_or(flag.experiment),
        }
    }
}

/// Why a flag is changed, as the body says it.
///
/// # Errors
/// It is no [`REASON`].
pub fn reason(body: &[u8]) -> Result<Option<String>, Vec<FieldFault>> {
    let read = |value: &Value| value.as_str().filter(|text| is_reason(text)).map(str::to_owned);
    read_object(body, |fields| Some(fields.optional("reason", REASON, read)))
}

/// Whether a text is a [`REASON`].
#[must_use]
pub fn is_reason(text: &str) -> bool {
    (1..=500).contains(&text.chars().count()) && !text.contains('\0')
}

/// A part that `null` takes away, which counts as absent elsewhere.
fn or_none<T>(
    fields: &mut Fields<'_>,
    name: &str,
    read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
) -> Option<Option<T>> {
    let none = fields.is_null(name).then_some(None);
    none.or_else(|| fields.within(name, read).map(Some))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &Value) -> Result<Flag, Vec<FieldFault>> {
        Flag::parse(body.to_string().as_bytes())
    }

    fn pointers<T: std::fmt::Debug>(read: Result<T, Vec<FieldFault>>) -> Vec<String> {
        read.expect_err("faulty").into_iter().map(|fault| fault.pointer).collect()
    }

    fn whole_flag() -> Value {
        json!({
            "name": "hybrid-orchestrator", "flagGroup": "old-name", "enabled": true, "rolloutPercentage": 25,
            "userWhitelist": ["ana"], "userBlacklist": ["bob", "cyd"],
            "conditions": {"userTier": ["vip"], "accountAge": 30, "region": ["eu", "us"], "platform": ["onlyfans"]},
            "rollbackTriggers": {"errorRateThreshold": 2.5, "latencyThreshold": 4_000, "timeWindowMinutes": 10},
            "rolloutPlan": {"steps": [{"percentage": 5, "bakeMinutes": 60}, {"percentage": 100, "bakeMinutes": 1_440}]},
            "experiment": {"name": "tone", "variants": [
                {"name": "as-before", "weight": 1}, {"name": "warm", "weight": 3, "provider": "azure", "instructions": "Be warm."},
            ]},
        })
    }

    #[test]
    fn what_is_kept_is_read_as_it_was() {
        let least = Flag::of(FlagName::parse("a").unwrap());
        for flag in [parse(&whole_flag()).unwrap(), least] {
            assert_eq!(parse(&Value::Object(flag.to_json())).unwrap(), flag);
        }
        assert_eq!(Value::Object(parse(&whole_flag()).unwrap().to_json()), whole_flag());
    }

    #[test]
    fn a_flag_of_which_nothing_is_said_takes_nobody_in() {
        let flag = parse(&json!({"name": "new"})).unwrap();
        assert_eq!(flag, Flag::of(FlagName::parse("new").unwrap()));
        assert_eq!((flag.enabled, flag.percentage, flag.group.as_str()), (false, Percentage::NONE, "new"));
    }

    #[test]
    fn each_fault_is_named_by_its_place() {
        let faulty = json!({
            "name": "Not A Name", "flagGroup": "-", "enabled": "yes", "rolloutPercentage": 5.5,
            "userWhitelist": ["ana", "b b"], "userBlacklist": "bob",
            "conditions": {"userTier": [], "accountAge": -1, "region": ["", 7], "platform": "onlyfans"},
            "rollbackTriggers": {"errorRateThreshold": 101, "latencyThreshold": 0},
            "rolloutPlan": {"steps": [{"percentage": 25, "bakeMinutes": 0}, {"percentage": 50, "bakeMinutes": 1},
                {"percentage": 50, "bakeMinutes": 1}]},
            "experiment": {"name": "e", "variants": [
                {"name": "a", "weight": 0}, {"name": "b", "weight": 1, "provider": "both"}, {"name": "b", "weight": 1}]},
        });
        let expected = [
            "/name",
            "/flagGroup",
            "/enabled",
            "/rolloutPercentage",
            "/userWhitelist/1",
            "/userBlacklist",
            "/conditions/userTier",
            "/conditions/accountAge",
            "/conditions/region/0",
            "/conditions/region/1",
            "/conditions/platform",
            "/rollbackTriggers/errorRateThreshold",
            "/rollbackTriggers/latencyThreshold",
            "/rollbackTriggers/timeWindowMinutes",
            "/rolloutPlan/steps/0/bakeMinutes",
            "/rolloutPlan/steps/2",
            "/experiment/variants/0/weight",
            "/experiment/variants/1/provider",
            "/experiment/variants/2",
        ];
        assert_eq!(pointers(parse(&faulty)), expected);
        assert_eq!(pointers(parse(&json!({}))), ["/name"]);
        let many: Vec<_> = (0..501).map(|n| format!("u{n}")).collect();
        assert_eq!(pointers(parse(&json!({"name": "a", "userWhitelist": many}))), ["/userWhitelist"]);
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let change = |body: Value| {
            let (name, change) = FlagChange::parse(body.to_string().as_bytes())?;
            assert_eq!(name.as_str(), "hybrid-orchestrator");
            Ok::<_, Vec<FieldFault>>(Value::Object(change.of(parse(&whole_flag())?).to_json()))
        };
        let expected = |of: &dyn Fn(&mut Value)| {
            let mut flag = whole_flag();
            of(&mut flag);
            flag
        };
        let name = "hybrid-orchestrator";
        assert_eq!(
            change(json!({"name": name, "enabled": false})),
            Ok(expected(&|flag| flag["enabled"] = json!(false)))
        );
        let cleared = json!({"name": name, "conditions": {}, "rollbackTriggers": null, "rolloutPlan": null, "experiment": null,
            "userWhitelist": []});
        let without = expected(&|flag| {
            flag["conditions"] = json!({});
            flag["userWhitelist"] = json!([]);
            for part in ["rollbackTriggers", "rolloutPlan", "experiment"] {
                flag.as_object_mut().unwrap().remove(part);
            }
        });
        assert_eq!(change(cleared), Ok(without));
        assert_eq!(pointers(change(json!({"name": name}))), ["/name"]);
        assert_eq!(pointers(change(json!({"name": name, "flagGroup": "new", "enabled": true}))), ["/flagGroup"]);
    }
}
