//! What SES says of an e-mail later, through SNS, on the same queue as the jobs: addresses that bounce for good, and people who
//! complain.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::email::{Address, Suppressions};
use crate::fault::Fault;

/// SES takes at most 50 recipients; nothing longer is one of its messages.
const MAX_RECIPIENTS: usize = 50;

/// What SES says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Feedback {
    /// These addresses are not to be written to again.
    Suppress {
        /// `bounce` or `complaint`.
        reason: &'static str,
        /// Which.
        addresses: Vec<Address>,
    },
    /// Nothing to be done: a delivery, or a bounce that may pass.
    Nothing,
}

/// A message that is from SNS and not one of SES's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a notification of SNS that is not SES's")]
pub struct Unknown;

impl Feedback {
    /// Whether a message of the queue came through SNS, and is no job.
    #[must_use]
    pub fn is_in(message: &Map<String, Value>) -> bool {
        message.get("Type").is_some_and(Value::is_string) && message.contains_key("Message")
    }

    /// Reads SNS's envelope, and SES's event in it: a notification of an identity (`notificationType`) or an event of a
    /// configuration set (`eventType`).
    ///
    /// # Errors
    /// [`Unknown`]
    pub fn read(envelope: &Map<String, Value>) -> Result<Self, Unknown> {
        if envelope.get("Type").and_then(Value::as_str) != Some("Notification") {
            return Err(Unknown);
        }
        let event = envelope.get("Message").and_then(Value::as_str).ok_or(Unknown)?;
        let event: Value = serde_json::from_str(event).map_err(|_| Unknown)?;
        let kind = event["notificationType"].as_str().or_else(|| event["eventType"].as_str()).ok_or(Unknown)?;
        let (reason, list, applies) = match kind {
            "Bounce" => ("bounce", &event["bounce"]["bouncedRecipients"], event["bounce"]["bounceType"] == "Permanent"),
            // Somebody who takes a mail out of the junk folder is reported in the same way.
            "Complaint" => (
                "complaint",
                &event["complaint"]["complainedRecipients"],
                event["complaint"]["complaintFeedbackType"] != "not-spam",
            ),
            _ => return Ok(Self::Nothing),
        };
        let recipients = list.as_array().filter(|list| list.len() <= MAX_RECIPIENTS).ok_or(Unknown)?;
        if !applies {
            return Ok(Self::Nothing);
        }
        let addresses =
            recipients.iter().filter_map(|recipient| address(recipient["emailAddress"].as_str()?)).collect();
        Ok(Self::Suppress { reason, addresses })
    }

    /// Does what it asks for. Done again, it changes nothing.
    ///
    /// # Errors
    /// [`Fault`] of the store.
    pub async fn apply(&self, suppressions: &Suppressions, now: Timestamp) -> Result<(), Fault> {
        let Self::Suppress { reason, addresses } = self else { return Ok(()) };
        for address in addresses {
            suppressions.add(address, reason, now).await?;
        }
        tracing::info!(reason, count = addresses.len(), "addresses are suppressed");
        Ok(())
    }
}

/// The address of `Name <address>`, or of itself.
fn address(text: &str) -> Option<Address> {
    let bare = text.rsplit_once('<').map_or(text, |(_, rest)| rest.trim_end_matches(['>', ' ']));
    Address::parse(bare.trim()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn envelope(event: &Value) -> Map<String, Value> {
        let envelope = json!({"Type": "Notification", "TopicArn": "arn", "Message": event.to_string()});
        envelope.as_object().unwrap().clone()
    }

    fn bounce(kind: &str) -> Value {
        let recipients = json!([{"emailAddress": "ana@mail.example"}, {"emailAddress": "Bob <bob@mail.example>"}, {}]);
        json!({"notificationType": "Bounce", "bounce": {"bounceType": kind, "bouncedRecipients": recipients}})
    }

    fn suppressed(reason: &'static str, addresses: &[&str]) -> Result<Feedback, Unknown> {
        let addresses = addresses.iter().map(|address| Address::parse(address).unwrap()).collect();
        Ok(Feedback::Suppress { reason, addresses })
    }

    #[test]
    fn a_permanent_bounce_and_a_complaint_suppress_and_nothing_else_does() {
        let both = &["ana@mail.example", "bob@mail.example"];
        assert_eq!(Feedback::read(&envelope(&bounce("Permanent"))), suppressed("bounce", both));
        for kind in ["Transient", "Undetermined"] {
            assert_eq!(Feedback::read(&envelope(&bounce(kind))), Ok(Feedback::Nothing));
        }
        let complaint = |kind: &str| {
            let recipients = json!([{"emailAddress": "ana@mail.example"}]);
            json!({"eventType": "Complaint",
                   "complaint": {"complainedRecipients": recipients, "complaintFeedbackType": kind}})
        };
        assert_eq!(Feedback::read(&envelope(&complaint("abuse"))), suppressed("complaint", &both[..1]));
        assert_eq!(Feedback::read(&envelope(&complaint("not-spam"))), Ok(Feedback::Nothing));
        assert_eq!(Feedback::read(&envelope(&json!({"eventType": "Delivery"}))), Ok(Feedback::Nothing));
    }

    #[test]
    fn what_is_not_sess_is_unknown() {
        let many = vec![json!({"emailAddress": "a@mail.example"}); 51];
        for event in [
            json!({}),
            json!([]),
            json!({"eventType": "Bounce", "bounce": {"bounceType": "Permanent"}}),
            json!({"eventType": "Bounce", "bounce": {"bounceType": "Permanent", "bouncedRecipients": many}}),
        ] {
            assert_eq!(Feedback::read(&envelope(&event)), Err(Unknown), "{event}");
        }
        let confirmation = json!({"Type": "SubscriptionConfirmation", "Message": "hello"});
        assert!(Feedback::is_in(confirmation.as_object().unwrap()));
        assert_eq!(Feedback::read(confirmation.as_object().unwrap()), Err(Unknown));
    }
}
