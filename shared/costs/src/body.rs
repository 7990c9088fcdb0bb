//! What the bodies of several routes have in common.

use huntaze_domain::ids::UserId;
use huntaze_domain::json::Fields;
use huntaze_domain::money::Usd;
use huntaze_domain::provider::Provider;
use serde_json::Value;

use huntaze_dynamodb::ALL_PROVIDERS;

/// An amount of more dollars is a slip of the keyboard.
const MAX_DOLLARS: f64 = 1_000_000.0;
/// What is said of an amount that is none.
pub(crate) const AMOUNT: &str = "dollars: at least 10^-12, at most 1000000";

/// A positive amount, rounded down to what is exact.
pub(crate) fn amount(value: &Value) -> Option<Usd> {
    amount_or_none(value).filter(|amount| *amount > Usd::ZERO)
}

/// An amount that may be nothing, rounded down to what is exact.
pub(crate) fn amount_or_none(value: &Value) -> Option<Usd> {
    let dollars = value.as_f64().filter(|dollars| (0.0..=MAX_DOLLARS).contains(dollars))?;
    Usd::limit_from_json_number(dollars).ok()
}

pub(crate) fn user_id(fields: &mut Fields<'_>) -> Option<UserId> {
    fields.optional("userId", "a user id", |v| v.as_str().and_then(|text| UserId::parse(text).ok()))
}

/// One provider, or `None` for all, which is also what is meant where none is named.
pub(crate) fn provider(fields: &mut Fields<'_>) -> Option<Provider> {
    let named = fields.optional("provider", "one of `azure`, `openai`, `all`", |v| match v.as_str()? {
        ALL_PROVIDERS => Some(None),
        name => Provider::from_name(name).map(Some),
    });
    named.flatten()
}
