//! The body of a campaign request: any bytes.

use huntaze_domain::error::FieldFault;
use huntaze_domain::intent::{MAX_PLATFORMS, ParsedRequest, WorkflowIntent};
use huntaze_domain::json::MAX_DEPTH;
use huntaze_domain::money::Usd;
use serde_json::Value;

use crate::MAX_INPUT_BYTES;

/// No answer lists more faults.
const MAX_FAULTS: usize = 50;
/// 32 tokens of a slash and 64 characters, each of at most 4 bytes or escaped as two.
const MAX_POINTER_BYTES: usize = (MAX_DEPTH + 1) * (1 + 64 * 4);

/// Reads a body and holds what came of it against the limits. Returns whether it was accepted.
///
/// # Panics
/// If an accepted request passes a limit, is another when it is read from what it was written as, or has another hash when it is
/// spaced otherwise; or if a refusal does not say where.
pub fn check(data: &[u8]) -> bool {
    if data.len() > MAX_INPUT_BYTES {
        return false;
    }
    let read = WorkflowIntent::parse(data);
    assert_eq!(read, WorkflowIntent::parse(data), "the same body, read again");
    match &read {
        Ok(request) => {
            limits(&request.intent);
            written_and_read_again(&request.intent);
            spaced_otherwise(data, request);
        }
        Err(faults) => named(faults),
    }
    read.is_ok()
}

fn limits(intent: &WorkflowIntent) {
    let characters = |text: &str, most: usize| (1..=most).contains(&text.chars().count());
    let platforms = &intent.platforms;
    assert!((1..=MAX_PLATFORMS).contains(&platforms.len()), "{platforms:?}");
    for (index, name) in platforms.iter().enumerate() {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
        assert!((1..=32).contains(&name.len()) && name.bytes().all(plain), "{name:?}");
        assert!(!platforms[..index].contains(name), "{name} is there twice");
    }
    assert!(characters(&intent.content_type, 64));
    assert!(intent.client_version.as_deref().is_none_or(|text| characters(text, 64)));
    assert!(intent.recipient_id.as_ref().is_none_or(|fan| characters(fan.as_str(), 128)));
    assert!(intent.recipient_id.is_some() || !intent.send_to_only_fans, "sent to nobody");
    assert!(intent.feature_flags.len() <= 100 && intent.feature_flags.iter().all(|flag| characters(flag, 128)));
    if let Some(context) = &intent.only_fans_context {
        assert!(characters(&context.account_id, 128));
        assert!(context.recipient_id.as_deref().is_none_or(|text| characters(text, 128)));
    }
    if let Some(limit) = intent.max_cost {
        assert!(limit > Usd::ZERO && limit.to_json_number() <= 1_000_000.0, "{limit}");
    }
    // The body is the first level, `data` the second.
    intent.data.iter().for_each(|(name, value)| keepable(name, value, 2));
}

/// What PostgreSQL cannot keep is not there, and nothing is deep. `above` are the levels that it lies under.
fn keepable(name: &str, value: &Value, above: usize) {
    assert!(!name.contains('\0'), "{name:?}");
    assert!(above < MAX_DEPTH || !(value.is_array() || value.is_object()), "nested deeper than {MAX_DEPTH}");
    match value {
        Value::String(text) => assert!(!text.contains('\0'), "{text:?}"),
        Value::Array(items) => items.iter().for_each(|item| keepable("", item, above + 1)),
        Value::Object(fields) => fields.iter().for_each(|(name, item)| keepable(name, item, above + 1)),
        _ => {}
    }
}

/// The intent as it is stored says the same as the body that it came from.
fn written_and_read_again(intent: &WorkflowIntent) {
    let Ok(mut stored) = serde_json::to_value(intent) else { unreachable!("an intent is JSON") };
    // The store has exact text where a body has a number.
    if let Some(limit) = intent.max_cost {
        stored["maxCost"] = limit.to_json_number().into();
    }
    let again = WorkflowIntent::parse(stored.to_string().as_bytes()).map(|request| request.intent);
    assert_eq!(again.as_ref(), Ok(intent), "as it is stored: {stored}");
}

/// The hash names the request, not its spacing or order, and another request has another. Platforms are the same in capitals.
fn spaced_otherwise(data: &[u8], request: &ParsedRequest) {
    let Ok(Value::Object(mut map)) = serde_json::from_slice(data) else { unreachable!("it was accepted") };
    let hash = |text: &str| WorkflowIntent::parse(text.as_bytes()).map(|request| request.body_hash);
    let backwards: Vec<String> =
        map.iter().rev().map(|(name, value)| format!("{}:\t{value:#}", Value::from(name.as_str()))).collect();
    assert_eq!(hash(&format!(" {{\n{} }}", backwards.join("\r\n, "))), Ok(request.body_hash), "spaced otherwise");

    let mut capitals = Value::Object(map.clone());
    for name in capitals["platforms"].as_array_mut().into_iter().flatten() {
        *name = name.as_str().unwrap_or_default().to_ascii_uppercase().into();
    }
    let in_capitals = WorkflowIntent::parse(capitals.to_string().as_bytes()).map(|request| request.intent);
    assert_eq!(in_capitals.as_ref(), Ok(&request.intent), "the platforms in capitals");

    let name = "not there before";
    if map.insert(name.to_owned(), Value::Null).is_none() {
        assert_ne!(hash(&Value::Object(map).to_string()), Ok(request.body_hash), "another body");
    }
}

fn named(faults: &[FieldFault]) {
    assert!((1..=MAX_FAULTS).contains(&faults.len()), "{} faults", faults.len());
    for FieldFault { pointer, detail } in faults {
        assert!(!detail.is_empty(), "{pointer} is faulty, and nobody says why");
        assert!(pointer.len() <= MAX_POINTER_BYTES, "a pointer of {} bytes", pointer.len());
        assert!(!pointer.contains('\0'), "{pointer:?}");
        // RFC 6901: empty, or tokens that begin with a slash; in a token `~` is written `~0` and `/` as `~1`.
        assert!(pointer.is_empty() || pointer.starts_with('/'), "{pointer:?}");
        let escapes = pointer.split('~').skip(1);
        assert!(escapes.into_iter().all(|rest| rest.starts_with(['0', '1'])), "{pointer:?}");
    }
}
