//! A flag: whom it takes in, and how it is read from a request.

use std::collections::BTreeSet;

use huntaze_domain::error::FieldFault;
use huntaze_domain::ids::UserId;
use huntaze_domain::json::{Fields, read_object};
use serde_json::{Map, Value, json};

use crate::body::{PERCENTAGE, percentage, users, values};
use crate::bucket::Percentage;

/// The flag that decides who is served by the orchestrator, and who by the system before it.
pub const HYBRID_ORCHESTRATOR: &str = "hybrid-orchestrator";

const NAME: &str = "1 to 64 of the characters a-z, 0-9, `.`, `_` and `-`, a letter or digit first";
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

fn whole(value: &Value, least: u64, most: u64) -> Option<u32> {
    value.as_u64().filter(|number| (least..=most).contains(number)).and_then(|number| number.try_into().ok())
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
}

impl Flag {
    /// Reads a body that says all of a flag; what it leaves out is off, nobody and nothing.
    ///
    /// # Errors
    /// Every fault that was found, each with its JSON pointer.
    pub fn parse(body: &[u8]) -> Result<Self, Vec<FieldFault>> {
        let new = Self::of;
        read_object(body, |fields| {
            let name = fields.required("name", NAME, |v| FlagName::parse(v.as_str()?));
            let group = fields.optional("flagGroup", NAME, |v| FlagName::parse(v.as_str()?));
            let change = FlagChange::read(fields);
            let mut flag = new(name?);
            flag.group = group.unwrap_or(flag.group);
            Some(change.of(flag))
        })
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
        }
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
                fields.fault("flagGroup", "is given when the flag is made, and stays: another would move its users");
            }
            let change = Self::read(fields);
            if change == Self::default() {
                fields.fault("name", "is the only field: what is to be different about the flag?");
            }
            Some((name?, change))
        })
    }

    fn read(fields: &mut Fields<'_>) -> Self {
        let triggers = fields.within("rollbackTriggers", RollbackTriggers::read).map(Some);
        // `null` counts as absent elsewhere; here it says that there are to be none.
        let none = || fields.is_null("rollbackTriggers").then_some(None);
        let triggers = triggers.or_else(none);
        Self {
            enabled: fields.optional("enabled", "true or false", Value::as_bool),
            percentage: fields.optional("rolloutPercentage", PERCENTAGE, percentage),
            whitelist: users(fields, "userWhitelist"),
            blacklist: users(fields, "userBlacklist"),
            conditions: fields.within("conditions", Conditions::read),
            triggers,
        }
    }

    /// The flag as it is then.
    #[must_use]
    pub fn of(self, flag: Flag) -> Flag {
        Flag {
            name: flag.name,
            group: flag.group,
            enabled: self.enabled.unwrap_or(flag.enabled),
            percentage: self.percentage.unwrap_or(flag.percentage),
            whitelist: self.whitelist.unwrap_or(flag.whitelist),
            blacklist: self.blacklist.unwrap_or(flag.blacklist),
            conditions: self.conditions.unwrap_or(flag.conditions),
            triggers: self.triggers.unwrap_or(flag.triggers),
        }
    }
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
        });
        let expected = [
            "/name",
            "/flagGroup",
            "/rollbackTriggers/errorRateThreshold",
            "/rollbackTriggers/latencyThreshold",
            "/rollbackTriggers/timeWindowMinutes",
            "/enabled",
            "/rolloutPercentage",
            "/userWhitelist/1",
            "/userBlacklist",
            "/conditions/userTier",
            "/conditions/accountAge",
            "/conditions/region/0",
            "/conditions/region/1",
            "/conditions/platform",
        ];
        assert_eq!(pointers(parse(&faulty)), expected);
        assert_eq!(pointers(parse(&json!({}))), ["/name"]);
        let many: Vec<_> = (0..1_001).map(|n| format!("u{n}")).collect();
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
        let cleared = json!({"name": name, "conditions": {}, "rollbackTriggers": null, "userWhitelist": []});
        let without = expected(&|flag| {
            flag["conditions"] = json!({});
            flag["userWhitelist"] = json!([]);
            flag.as_object_mut().unwrap().remove("rollbackTriggers");
        });
        assert_eq!(change(cleared), Ok(without));
        assert_eq!(pointers(change(json!({"name": name}))), ["/name"]);
        assert_eq!(pointers(change(json!({"name": name, "flagGroup": "new", "enabled": true}))), ["/flagGroup"]);
    }
}
