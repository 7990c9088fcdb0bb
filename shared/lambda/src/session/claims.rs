//! From a token's claims to a principal: the same rules for encrypted and for signed tokens.

use huntaze_domain::ids::UserId;
use huntaze_domain::principal::{Principal, Role};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{CLOCK_TOLERANCE_SECONDS, Refusal};

pub(super) fn principal(claims: &Map<String, Value>, role_claim: &str, now: Timestamp) -> Result<Principal, Refusal> {
    check_times(claims, now.as_second())?;
    let subject = claims.get("sub").and_then(Value::as_str).ok_or("the token has no sub")?;
    let user_id = UserId::parse(subject).map_err(|_| "the token's sub is no user id")?;
    Ok(Principal { user_id, role: role(claims.get(role_claim)) })
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
