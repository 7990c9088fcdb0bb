//! What is asked to be sent: a type that cannot hold an invalid message.

use huntaze_domain::error::FieldFault;
use huntaze_domain::ids::{AccountId, RECIPIENT, RecipientId, UserId};
use huntaze_domain::intent::{ComplianceLevel, MessageType, Priority, recipient};
use huntaze_domain::json::{Fields, parse_object};
use jiff::{Timestamp, ToSpan};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The longest text, in characters.
pub const MAX_CONTENT: usize = 1_000;
/// The longest `metadata`, as JSON, in bytes.
const MAX_METADATA: usize = 4_096;
/// A message is scheduled no further ahead.
const MOST_AHEAD_DAYS: i64 = 366;

/// A valid request to send a message.
#[derive(Debug, Clone, PartialEq)]
pub struct SendRequest {
    /// For whom, where an administrator names another user.
    pub user_id: Option<UserId>,
    /// Which account sends; `None`: the user's only one.
    pub account_id: Option<AccountId>,
    /// The fan.
    pub recipient_id: RecipientId,
    /// The text, of at most [`MAX_CONTENT`] characters.
    pub content: String,
    /// The kind of message.
    pub message_type: MessageType,
    /// How urgent it is.
    pub priority: Priority,
    /// How strictly the text is judged, unless the account's floor is stricter.
    pub compliance_level: ComplianceLevel,
    /// Not to be sent before.
    pub schedule_for: Option<Timestamp>,
    /// The client's own, given back with the message.
    pub metadata: Option<Map<String, Value>>,
    /// Which body it was: another spacing or order of members is the same.
    pub body_hash: [u8; 32],
}

impl SendRequest {
    /// Reads a request's body.
    ///
    /// # Errors
    /// Every fault that was found, each with its JSON pointer.
    pub fn parse(body: &[u8], now: Timestamp) -> Result<Self, Vec<FieldFault>> {
        let map = parse_object(body)?;
        let mut faults = Vec::new();
        let request = Self::read(&map, now, &mut faults);
        match request {
            Some(request) if faults.is_empty() => Ok(request),
            _ => Err(faults),
        }
    }

    fn read(map: &Map<String, Value>, now: Timestamp, faults: &mut Vec<FieldFault>) -> Option<Self> {
        let mut fields = Fields::new(map, "", faults);
        let recipient_id = fields.required("recipientId", RECIPIENT, recipient);
        let content = fields.required("content", "a text of 1 to 1000 characters", |v| v.as_str().and_then(content));
        let message_type =
            fields.optional("messageType", MessageType::EXPECTED, MessageType::read).unwrap_or(MessageType::Custom);
        Some(Self {
            user_id: fields.optional("userId", "a user id", |v| v.as_str().and_then(|t| UserId::parse(t).ok())),
            account_id: fields
                .optional("accountId", "an account id", |v| v.as_str().and_then(|t| AccountId::parse(t).ok())),
            message_type,
            priority: fields
                .optional("priority", Priority::EXPECTED, Priority::read)
                .unwrap_or_else(|| message_type.priority()),
            // The account's floor decides, which is strict where nobody has said otherwise.
            compliance_level: fields
                .optional("complianceLevel", ComplianceLevel::EXPECTED, ComplianceLevel::read)
                .unwrap_or(ComplianceLevel::Relaxed),
            schedule_for: fields.optional("scheduleFor", "a time (RFC 3339) within a year", |v| {
                v.as_str().and_then(|text| schedule(text, now))
            }),
            metadata: fields.optional("metadata", "an object of at most 4096 bytes", |v| {
                v.as_object().filter(|_| v.to_string().len() <= MAX_METADATA).cloned()
            }),
            body_hash: Sha256::digest(Value::Object(map.clone()).to_string()).into(),
            recipient_id: recipient_id?,
            content: content?,
        })
    }
}

/// A text that can be sent: it is not empty, nor longer than the platform takes.
#[must_use]
pub fn content(text: &str) -> Option<String> {
    let fits = text.chars().count() <= MAX_CONTENT && !text.trim().is_empty();
    fits.then(|| text.to_owned())
}

fn schedule(text: &str, now: Timestamp) -> Option<Timestamp> {
    let at: Timestamp = text.parse().ok()?;
    let last = now.checked_add((MOST_AHEAD_DAYS * 24).hours()).ok()?;
    // What is past is due now; years that PostgreSQL does not know are past.
    (at <= last).then(|| at.max(now))
}

/// What makes two messages of an account alike: the fan and the text.
#[must_use]
pub fn content_hash(recipient: &RecipientId, content: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    // The length keeps a fan's id from running into the text.
    hash.update(recipient.as_str().len().to_be_bytes());
    hash.update(recipient.as_str());
    hash.update(content);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    fn parse(body: &Value) -> Result<SendRequest, Vec<FieldFault>> {
        SendRequest::parse(body.to_string().as_bytes(), now())
    }

    fn pointers(body: &Value) -> Vec<String> {
        parse(body).expect_err("faulty").into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn defaults_are_those_of_the_message_type() {
        let read = |kind: Option<&str>| {
            let body = json!({"recipientId": "fan", "content": "hi", "messageType": kind});
            let request = parse(&body).unwrap();
            (request.message_type, request.priority)
        };
        assert_eq!(read(None), (MessageType::Custom, Priority::Medium));
        assert_eq!(read(Some("welcome")), (MessageType::Welcome, Priority::High));
        assert_eq!(read(Some("follow_up")).1, Priority::Medium);
        assert_eq!(read(Some("promotional")).1, Priority::Low);
        let urgent =
            json!({"recipientId": "fan", "content": "hi", "messageType": "promotional", "priority": "critical"});
        assert_eq!(parse(&urgent).unwrap().priority, Priority::Critical);
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        assert_eq!(pointers(&json!({})), ["/recipientId", "/content"]);
        let long = "x".repeat(MAX_CONTENT + 1);
        let body = json!({
            "accountId": "a b", "recipientId": "fan\n", "content": long, "messageType": "x", "priority": 1,
            "scheduleFor": "tomorrow", "metadata": [], "complianceLevel": "none", "userId": ""
        });
        let mut found = pointers(&body);
        found.sort();
        let all =
            "/accountId /complianceLevel /content /messageType /metadata /priority /recipientId /scheduleFor /userId";
        assert_eq!(found, all.split(' ').collect::<Vec<_>>());
    }

    #[test]
    fn a_text_is_counted_in_characters_and_not_blank() {
        let read = |text: &str| content(text).is_some();
        assert_eq!(
            [read(&"é".repeat(1_000)), read(&"é".repeat(1_001)), read(" \n"), read("")],
            [true, false, false, false]
        );
    }

    #[test]
    fn a_time_is_within_a_year() {
        let at = |text: &str| {
            parse(&json!({"recipientId": "fan", "content": "hi", "scheduleFor": text}))
                .map(|request| request.schedule_for)
        };
        assert!(at("2027-11-23T10:00:00Z").is_ok_and(|at| at.is_some()));
        assert!(at("2027-11-23T10:00:01Z").is_err() && at("2026-13-01T00:00:00Z").is_err());
        for past in ["2020-01-01T00:00:00+02:00", "0000-01-01T00:00:00Z", "-000001-01-01T00:00:00Z"] {
            assert_eq!(at(past).unwrap(), Some(now()), "what is past is due at once");
        }
    }

    proptest! {
        #[test]
        fn who_and_what_make_messages_alike(a in "[a-c]{1,4}", b in "[a-c]{0,4}", c in "[a-c]{1,4}", d in "[a-c]{0,4}") {
            let hash = |fan: &str, text: &str| content_hash(&RecipientId::parse(fan).unwrap(), text);
            prop_assert_eq!(hash(&a, &b) == hash(&c, &d), (a, b) == (c, d));
        }
    }
}
