//! From a token's claims to a principal: the same rules for encrypted and for signed tokens.

use huntaze_domain::ids::UserId;
use huntaze_domain::principal::{Attributes, Principal, Role};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{CLOCK_TOLERANCE_SECONDS, Refusal};

pub(super) fn principal(claims: &Map<String, Value>, role_claim: &str, now: Timestamp) -> Result<Principal, Refusal> {
    check_times(claims, now.as_second())?;
    let subject = claims.get("sub").and_then(Value::as_str).ok_or("the token has no sub")?;
    let user_id = UserId::parse(subject).map_err(|_| "the token's sub is no user id")?;
    Ok(Principal { user_id, role: role(claims.get(role_claim)), attributes: attributes(claims) })
}

/// The longest of a user's attributes, in characters: that of a flag's condition.
const MAX_ATTRIBUTE: usize = 64;

/// What the application's `jwt` callback says of the user. What is not as it should be is not known.
fn attributes(claims: &Map<String, Value>) -> Attributes {
    let text = |name: &str| {
        let text = claims.get(name)?.as_str()?;
        let fits = (1..=MAX_ATTRIBUTE).contains(&text.chars().count()) && !text.contains('\0');
        fits.then(|| text.to_owned())
    };
    let created_at = claims.get("createdAt").and_then(|value| match value {
        Value::String(text) => text.parse().ok(),
        number => Timestamp::from_second(number.as_i64()?).ok(),
    });
    Attributes { tier: text("tier"), region: text("region"), created_at }
}

fn check_times(claims: &Map<String, Value>, now: i64) -> Result<(), Refusal> {
    let expires = seconds(claims, "exp")?.ok_or("the token has no exp")?;
    if expires <= now - CLOCK_TOLERANCE_SECONDS {
        return Err("the token has expired");
    }
    for (claim, refusal) in [("nbf", "the token is not valid yet"), ("iat", "the token is from the future")] {
        if seconds(claims, claim)?.is_some_and(|time| time > now + CLOCK_TOLERANCE_SECONDS) {
            return Err(refusal);
        }
    }
    Ok(())
}

/// A `NumericDate` (RFC 7519 §2) in whole seconds; it may have a fraction.
fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, Refusal> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64));
    seconds.map(Some).ok_or("a time in the token is no number")
}

/// The strongest role that the claim names: a text, or a list of texts.
fn role(claim: Option<&Value>) -> Role {
    let named = match claim {
        Some(Value::Array(roles)) => roles.as_slice(),
        Some(role) => std::slice::from_ref(role),
        None => &[],
    };
    named.iter().filter_map(Value::as_str).map(Role::from_claim).max().unwrap_or(Role::User)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn read(claims: Value) -> Result<Principal, Refusal> {
        principal(claims.as_object().unwrap(), "role", Timestamp::from_second(NOW).unwrap())
    }

    #[test]
    fn clocks_may_differ_by_15_seconds() {
        for (claims, good) in [
            (json!({"sub": "ana", "exp": NOW - 14}), true),
            (json!({"sub": "ana", "exp": NOW - 15}), false),
            (json!({"sub": "ana", "exp": NOW + 60, "nbf": NOW + 15}), true),
            (json!({"sub": "ana", "exp": NOW + 60, "nbf": NOW + 16}), false),
            (json!({"sub": "ana", "exp": NOW + 60, "iat": NOW + 15}), true),
            (json!({"sub": "ana", "exp": NOW + 60, "iat": NOW + 16}), false),
        ] {
            assert_eq!(read(claims.clone()).is_ok(), good, "{claims}");
        }
    }

    #[test]
    fn a_time_is_a_number_and_may_be_any() {
        for (claims, good) in [
            (json!({"sub": "ana", "exp": NOW as f64 + 0.5}), true),
            (json!({"sub": "ana", "exp": 1e300}), true),
            (json!({"sub": "ana", "exp": u64::MAX}), true),
            (json!({"sub": "ana", "exp": i64::MIN}), false),
            (json!({"sub": "ana", "exp": -1e300}), false),
            (json!({"sub": "ana", "exp": NOW.to_string()}), false),
            (json!({"sub": "ana", "exp": null}), false),
            (json!({"sub": "ana"}), false),
            (json!({"sub": "ana", "exp": NOW + 60, "nbf": null}), false),
            (json!({"sub": "ana", "exp": NOW + 60, "iat": "0"}), false),
            (json!({"sub": "ana", "exp": NOW + 60, "iat": 1e300}), false),
        ] {
            assert_eq!(read(claims.clone()).is_ok(), good, "{claims}");
        }
    }

    #[test]
    fn the_subject_must_be_a_user_id() {
        for subject in
            [json!(""), json!("a b"), json!("é"), json!(7), json!(null), json!(["ana"]), json!("x".repeat(129))]
        {
            assert!(read(json!({"sub": subject, "exp": NOW + 60})).is_err(), "{subject}");
        }
        assert!(read(json!({"exp": NOW + 60})).is_err());
    }

    #[test]
    fn what_a_session_says_of_its_user_is_known_where_it_can_be() {
        let read = |claims: Value| {
            let mut all = json!({"sub": "ana", "exp": NOW + 60});
            all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
            read(all).unwrap().attributes
        };
        let created_at = Some("2026-01-01T00:00:00Z".parse().unwrap());
        let known = Attributes { tier: Some("vip".to_owned()), region: Some("eu".to_owned()), created_at };
        assert_eq!(read(json!({"tier": "vip", "region": "eu", "createdAt": "2026-01-01T00:00:00Z"})), known);
        assert_eq!(read(json!({"createdAt": 1_767_225_600})).created_at, created_at);
        for odd in [
            json!(""),
            json!("x".repeat(65)),
            json!("a\u{0}"),
            json!(["vip"]),
            json!(null),
            json!(1e300),
            json!(u64::MAX),
        ] {
            assert_eq!(read(json!({"tier": odd, "region": odd, "createdAt": odd})), Attributes::default(), "{odd}");
        }
    }

    #[test]
    fn the_strongest_known_role_counts() {
        for (claim, role) in [
            (json!("creator"), Role::Creator),
            (json!("admin"), Role::Admin),
            (json!("super_admin"), Role::SuperAdmin),
            (json!(["creator", "admin"]), Role::Admin),
            (json!(["super_admin", "creator", 7, null]), Role::SuperAdmin),
            (json!(["operator", ["admin"]]), Role::User),
            (json!([]), Role::User),
            (json!("operator"), Role::User),
            (json!({"admin": true}), Role::User),
            (json!(true), Role::User),
            (json!(null), Role::User),
        ] {
            let caller = read(json!({"sub": "ana", "exp": NOW + 60, "role": claim})).unwrap();
            assert_eq!(caller.role, role, "{claim}");
        }
        assert_eq!(read(json!({"sub": "ana", "exp": NOW + 60})).unwrap().role, Role::User);
    }
}
