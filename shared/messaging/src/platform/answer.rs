//! What an answer means. Pure: the same answer always means the same.

use std::time::Duration;

use huntaze_domain::retry_after::retry_after;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Number;

use super::end::DEFAULT_PACE;
use super::{HeaderMap, ReadError, Reason, SendEnd, StatusCode};

/// The longest id of the platform's that is kept, in bytes.
const MAX_PLATFORM_ID: usize = 128;
/// The longest code of an error that is shown.
const MAX_CODE: usize = 40;
/// Whoever says "at once" is not asked again at once.
const SHORTEST_PACE: Duration = Duration::from_secs(1);

/// An answer, as far as it came.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// `None` where it was lost, or is longer than is read.
    pub(super) body: Option<Vec<u8>>,
}

/// An id of the platform's: a number or a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlatformId(pub(super) String);

impl<'de> Deserialize<'de> for PlatformId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(u64),
            Text(String),
        }
        let id = match Either::deserialize(deserializer)? {
            Either::Number(number) => number.to_string(),
            Either::Text(text) => text,
        };
        let fits = (1..=MAX_PLATFORM_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic()) && id != "0";
        if fits { Ok(Self(id)) } else { Err(serde::de::Error::custom("no id")) }
    }
}

/// Whose session it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Me {
    /// The account's user id on the platform.
    pub platform_user_id: String,
    /// Its name there.
    pub username: Option<String>,
}

impl<'de> Deserialize<'de> for Me {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire {
            id: PlatformId,
            username: Option<String>,
        }
        let Wire { id, username } = Wire::deserialize(deserializer)?;
        Ok(Self { platform_user_id: id.0, username: username.filter(|name| name.len() <= MAX_PLATFORM_ID) })
    }
}

/// `{"error": {"code", "message"}}`
#[derive(Deserialize, Default)]
struct ErrorBody {
    #[serde(default)]
    error: ErrorMembers,
}

#[derive(Deserialize, Default)]
struct ErrorMembers {
    #[serde(default)]
    code: Option<Code>,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Code {
    Text(String),
    Number(Number),
}

impl Answer {
    /// The end of a send. `now` is the wall clock.
    pub(super) fn send_end(&self, recipient: &str, now: Timestamp) -> SendEnd {
        let status = self.status.as_u16();
        let answered = || Reason::Answered { status, code: self.code(recipient) };
        match status {
            200 | 201 => self.sent(status),
            429 => SendEnd::Paced { retry_after: self.pace(now) },
            400 | 404 | 413 | 422 => SendEnd::Refused { reason: answered() },
            401 => SendEnd::SessionRefused,
            403 => SendEnd::Forbidden { reason: answered() },
            _ => SendEnd::Ambiguous { reason: answered() },
        }
    }

    fn sent(&self, status: u16) -> SendEnd {
        #[derive(Deserialize)]
        struct Message {
            #[serde(default)]
            id: Option<PlatformId>,
        }
        let body = self.body.as_deref().ok_or(Reason::Unreadable { status });
        let message = body.and_then(|body| {
            // What is JSON and has no id that is one, is an answer without an id.
            let parsed: serde_json::Value = serde_json::from_slice(body).map_err(|_| Reason::Unreadable { status })?;
            serde_json::from_value::<Message>(parsed).map_err(|_| Reason::NoId { status })
        });
        match message.and_then(|message| message.id.ok_or(Reason::NoId { status })) {
            Ok(id) => SendEnd::Sent { platform_id: id.0, http_status: status },
            Err(reason) => SendEnd::Ambiguous { reason },
        }
    }

    /// What was asked for. `now` is the wall clock.
    pub(super) fn read<T: DeserializeOwned>(&self, now: Timestamp) -> Result<T, ReadError> {
        match self.status.as_u16() {
            200 => {
                let body = self.body.as_deref().ok_or(ReadError::Unreadable)?;
                serde_json::from_slice(body).map_err(|_| ReadError::Unreadable)
            }
            401 => Err(ReadError::SessionRefused),
            403 => Err(ReadError::Forbidden),
            429 => Err(ReadError::Paced { retry_after: self.pace(now) }),
            status => Err(ReadError::Answered { status }),
        }
    }

    fn pace(&self, now: Timestamp) -> Duration {
        let told = retry_after(&self.headers, true, self.error().message.as_deref(), now);
        told.unwrap_or(DEFAULT_PACE).max(SHORTEST_PACE)
    }

    /// The error's code, if it is the name of an error and names nobody: a word, or a small number.
    fn code(&self, recipient: &str) -> Option<String> {
        let is_word = |b: u8| b.is_ascii_alphabetic() || matches!(b, b'_' | b'-' | b'.');
        match self.error().code? {
            Code::Number(number) => number.as_u64().filter(|number| *number < 10_000).map(|number| number.to_string()),
            Code::Text(text) => {
                let fits =
                    (1..=MAX_CODE).contains(&text.len()) && text.bytes().all(is_word) && !text.contains(recipient);
                fits.then_some(text)
            }
        }
    }

    fn error(&self) -> ErrorMembers {
        let body = self.body.as_deref().and_then(|body| serde_json::from_slice::<ErrorBody>(body).ok());
        body.unwrap_or_default().error
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    fn answer(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers: HeaderMap::new(), body: Some(body.as_bytes().to_vec()) }
    }

    fn end(status: u16, body: &str) -> SendEnd {
        answer(status, body).send_end("fan", now())
    }

    #[test]
    fn an_id_is_a_number_or_a_text() {
        for (body, id) in [
            (r#"{"id": 123, "text": "x"}"#, "123"),
            (r#"{"id": "m_1"}"#, "m_1"),
            (r#"{"id": 18446744073709551615}"#, "18446744073709551615"),
        ] {
            assert_eq!(end(201, body), SendEnd::Sent { platform_id: id.to_owned(), http_status: 201 }, "{body}");
        }
        let long = format!(r#"{{"id": "{}"}}"#, "x".repeat(MAX_PLATFORM_ID + 1));
        for body in [
            "{}",
            "[]",
            "null",
            "7",
            r#"{"id": null}"#,
            r#"{"id": 0}"#,
            r#"{"id": -1}"#,
            r#"{"id": 1.5}"#,
            r#"{"id": ""}"#,
        ]
        .into_iter()
        .chain([r#"{"id": "a b"}"#, r#"{"id": {"id": 1}}"#, r#"{"error": {"code": "x"}}"#, long.as_str()])
        {
            assert_eq!(end(200, body), SendEnd::Ambiguous { reason: Reason::NoId { status: 200 } }, "{body}");
        }
        for body in ["", "{", r#"{"id": 1"#, "<html>", r#"{"id": 1} {}"#] {
            assert_eq!(end(200, body), SendEnd::Ambiguous { reason: Reason::Unreadable { status: 200 } }, "{body}");
        }
    }

    /// Whatever is not named is ambiguous; and no status but two is a message that was sent.
    #[test]
    fn every_status_has_one_meaning() {
        for status in 100..=999 {
            let end = end(status, r#"{"id": 1}"#);
            let fits = match status {
                200 | 201 => matches!(end, SendEnd::Sent { .. }),
                429 => matches!(end, SendEnd::Paced { .. }),
                400 | 404 | 413 | 422 => matches!(end, SendEnd::Refused { .. }),
                401 => end == SendEnd::SessionRefused,
                403 => matches!(end, SendEnd::Forbidden { .. }),
                _ => matches!(end, SendEnd::Ambiguous { .. }),
            };
            assert!(fits, "{status}: {end:?}");
            assert_eq!(end.http_status(), Some(status));
        }
    }

    #[test]
    fn a_refusal_says_its_code_and_no_more() {
        let code =
            |code: &str| match end(422, &format!(r#"{{"error": {{"code": {code}, "message": "to fan: hello"}}}}"#)) {
                SendEnd::Refused { reason: Reason::Answered { code, .. } } => code,
                other => panic!("{other:?}"),
            };
        assert_eq!(code(r#""text_too_long""#).as_deref(), Some("text_too_long"));
        assert_eq!(code("17").as_deref(), Some("17"));
        for odd in [r#""no fan""#, r#""to_fan""#, r#""user123""#, "1234567", "1.5", "null", "{}", r#""""#] {
            assert_eq!(code(odd), None, "{odd}");
        }
        let said = end(404, r#"{"error": {"code": "not_found", "message": "fan: hello"}}"#);
        let SendEnd::Refused { reason } = said else { panic!("{said:?}") };
        assert_eq!(reason.to_string(), "answered 404 (not_found)");
    }

    #[test]
    fn a_status_counts_also_where_its_body_is_lost() {
        let lost = |status| Answer { body: None, ..answer(status, "") }.send_end("fan", now());
        let reason = |status| Reason::Answered { status, code: None };
        assert_eq!(lost(422), SendEnd::Refused { reason: reason(422) });
        assert_eq!(lost(429), SendEnd::Paced { retry_after: DEFAULT_PACE });
        assert_eq!(lost(503), SendEnd::Ambiguous { reason: reason(503) });
        assert_eq!(lost(200), SendEnd::Ambiguous { reason: Reason::Unreadable { status: 200 } });
    }

    #[test]
    fn a_wait_is_read_in_every_form() {
        let wait = |name: &'static str, value: &str, message: &str| {
            let mut answer =
                answer(429, &format!(r#"{{"error": {{"code": "rate_limited", "message": "{message}"}}}}"#));
            if !name.is_empty() {
                answer.headers.insert(name, value.parse().unwrap());
            }
            let SendEnd::Paced { retry_after } = answer.send_end("fan", now()) else { panic!() };
            retry_after.as_secs()
        };
        assert_eq!(wait("", "", "slow down"), 45);
        assert_eq!(wait("retry-after", "7", ""), 7);
        assert_eq!(wait("retry-after", "Sun, 22 Nov 2026 10:01:30 GMT", ""), 90);
        assert_eq!(wait("", "", "please retry after 20 seconds"), 20);
        assert_eq!(wait("retry-after", "0", ""), 1);
        assert_eq!(wait("retry-after", "soon", ""), 45);
    }

    proptest! {
        #[test]
        fn no_answer_says_anything_of_the_text_or_the_fan(
            status in 100_u16..=999, fan in "[a-z0-9]{6,12}", words in "[a-z ]{12,30}",
        ) {
            for code in [fan.clone(), format!("no_{fan}"), words.clone()] {
                let body = format!(r#"{{"error": {{"code": "{code}", "message": "{fan}: {words}"}}}}"#);
                let said = format!("{:?}", answer(status, &body).send_end(&fan, now()));
                prop_assert!(!said.contains(&fan), "{}", said);
                prop_assert!(!words.contains(' ') || !said.contains(&words), "{}", said);
            }
        }
    }
}
