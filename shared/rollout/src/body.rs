//! What the bodies about flags have in common.

use std::collections::BTreeSet;

use huntaze_domain::ids::UserId;
use huntaze_domain::json::Fields;
use serde_json::Value;

use crate::bucket::Percentage;

/// A flag's item has room for so many in each of its two lists.
const MOST_USERS: usize = 500;
/// A condition names so many values at the most.
const MOST_VALUES: usize = 50;

pub(crate) const PERCENTAGE: &str = "a whole number from 0 to 100";
const VALUE: &str = "a text of 1 to 64 characters";

pub(crate) fn percentage(value: &Value) -> Option<Percentage> {
    // `5.0` is what some clients send for 5.
    let whole = value.as_u64().or_else(|| value.as_f64().filter(|n| n.fract() == 0.0 && *n >= 0.0).map(|n| n as u64));
    whole.and_then(Percentage::new)
}

pub(crate) fn whole(value: &Value, least: u64, most: u64) -> Option<u32> {
    value.as_u64().filter(|number| (least..=most).contains(number)).and_then(|number| number.try_into().ok())
}

/// A list of users, each once. The fault of one of them is named by its place.
pub(crate) fn users(fields: &mut Fields<'_>, name: &str) -> Option<BTreeSet<UserId>> {
    let expected = format!("a list of at most {MOST_USERS} user ids");
    let list = fields.optional(name, &expected, |value| value.as_array().filter(|list| list.len() <= MOST_USERS))?;
    let mut users = BTreeSet::new();
    for (index, item) in list.iter().enumerate() {
        match item.as_str().and_then(|id| UserId::parse(id).ok()) {
            Some(user) => drop(users.insert(user)),
            None => fields.fault_at(name, index, "must be a user id"),
        }
    }
    Some(users)
}

/// The values of a condition. Without a value it would be met by nobody, which `enabled` says better.
pub(crate) fn values(fields: &mut Fields<'_>, name: &str) -> Option<BTreeSet<String>> {
    let expected = format!("a list of 1 to {MOST_VALUES} texts");
    let fits = |list: &&Vec<Value>| (1..=MOST_VALUES).contains(&list.len());
    let list = fields.optional(name, &expected, |value| value.as_array().filter(fits))?;
    let mut values = BTreeSet::new();
    for (index, item) in list.iter().enumerate() {
        match item.as_str().filter(|text| (1..=64).contains(&text.chars().count())) {
            Some(text) => drop(values.insert(text.to_owned())),
            None => fields.fault_at(name, index, format!("must be {VALUE}")),
        }
    }
    Some(values)
}
