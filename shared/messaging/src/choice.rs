//! What a person says about a message or a letter: a decision as a request's body has it.

use huntaze_domain::error::FieldFault;
use huntaze_domain::ids::{MAX_ID_BYTES, MessageId};
use huntaze_domain::json::read_object;

use crate::account::reason;
use crate::message::content;

/// A decision about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Which message.
    pub message_id: MessageId,
    /// The text in place of its own, where one can be given.
    pub content: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

impl Choice {
    /// Reads a request's body; `edits`: whether it may have another text.
    ///
    /// # Errors
    /// Every fault that was found, each with its JSON pointer.
    pub fn parse(body: &[u8], edits: bool) -> Result<Self, Vec<FieldFault>> {
        read_object(body, |fields| {
            let message_id = fields.required("messageId", "a message's id", |v| MessageId::parse(v.as_str()?).ok());
            let edit = edits
                .then(|| fields.optional("content", "a text of 1 to 1000 characters", |v| v.as_str().and_then(content)))
                .flatten();
            let reason = fields.optional("reason", "a text of 1 to 500 characters", |v| v.as_str().and_then(reason));
            Some(Self { message_id: message_id?, content: edit, reason })
        })
    }
}

/// A dead letter that is to be tried anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redrive {
    /// Which letter.
    pub id: String,
    /// Why.
    pub reason: Option<String>,
}

impl Redrive {
    /// Reads a request's body.
    ///
    /// # Errors
    /// Every fault that was found, each with its JSON pointer.
    pub fn parse(body: &[u8]) -> Result<Self, Vec<FieldFault>> {
        read_object(body, |fields| {
            let id =
                fields.required("id", "a letter's id", |v| v.as_str().filter(|id| is_letter_id(id)).map(str::to_owned));
            let reason = fields.optional("reason", "a text of 1 to 500 characters", |v| v.as_str().and_then(reason));
            Some(Self { id: id?, reason })
        })
    }
}

/// A message's id with its claim, or what SQS calls a message: longer than another id, and no less bounded.
fn is_letter_id(id: &str) -> bool {
    (1..=2 * MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pointers<T: std::fmt::Debug>(read: Result<T, Vec<FieldFault>>) -> Vec<String> {
        read.expect_err("faulty").into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn only_what_is_approved_may_be_edited() {
        let body = |value: Value| value.to_string().into_bytes();
        let edited = body(json!({"messageId": "m", "content": "hi", "reason": "kinder"}));
        assert_eq!(Choice::parse(&edited, true).unwrap().content.as_deref(), Some("hi"));
        assert_eq!(Choice::parse(&edited, false).unwrap().content, None);
        let odd = body(json!({"messageId": "m m", "content": " ", "reason": ""}));
        assert_eq!(pointers(Choice::parse(&odd, true)), ["/messageId", "/content", "/reason"]);
        assert_eq!(pointers(Redrive::parse(&body(json!({"id": "a b", "reason": 1})))), ["/id", "/reason"]);
    }
}
