//! The operators' SNS topic: text for people, JSON for programs.

use aws_sdk_sns::Client;
use aws_sdk_sns::config::retry::RetryConfig;
use aws_sdk_sns::config::timeout::TimeoutConfig;
use aws_sdk_sns::types::MessageAttributeValue;
use huntaze_domain::env::Env;
use serde_json::{Value, json};

use crate::delivery::PATIENCE;
use crate::fault::Fault;
use crate::message::{Content, Told};

/// A subject is at most 100 characters of ASCII without line breaks, says SNS's `Publish`.
const SUBJECT: usize = 100;
/// Errors that mean this publication.
const REFUSALS: &[&str] = &["InvalidParameter", "InvalidParameterValue", "ValidationException", "NotFound"];

/// An SNS topic.
#[derive(Debug, Clone)]
pub struct Topic {
    client: Client,
    arn: String,
}

impl Topic {
    /// The topic whose ARN is `COST_ALERTS_SNS_TOPIC`; `None` without one.
    #[must_use]
    pub fn from_env(env: &Env, client: Client) -> Option<Self> {
        let arn = env.optional("COST_ALERTS_SNS_TOPIC")?;
        let is_arn = arn.starts_with("arn:") && arn.split(':').count() == 6;
        env.check("COST_ALERTS_SNS_TOPIC", if is_arn { Ok(arn) } else { Err("must be a topic's ARN") })
            .map(|arn| Self { client, arn })
    }

    /// Publishes it. The SDK's own retries are off: a second publication is counted as an attempt.
    ///
    /// # Errors
    /// [`Fault`]
    pub async fn publish(&self, told: &Told) -> Result<(), Fault> {
        let content = &told.content;
        let mut publish = self
            .client
            .publish()
            .topic_arn(&self.arn)
            .subject(subject(content))
            .message_structure("json")
            .message(message(told).to_string());
        for (name, value) in [("kind", content.kind.as_str()), ("severity", content.severity.as_str())] {
            let value = MessageAttributeValue::builder().data_type("String").string_value(value).build();
            publish = publish.message_attributes(name, value.map_err(|_| Fault::Refused("attribute".to_owned()))?);
        }
        let once = aws_sdk_sns::config::Builder::new()
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(PATIENCE).build());
        let published = publish.customize().config_override(once).send().await;
        published.map(|_| ()).map_err(|error| Fault::of_aws(&error, REFUSALS))
    }
}

fn subject(Content { severity, title, .. }: &Content) -> String {
    let subject = format!("[{}] {title}", severity.as_str());
    subject.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).take(SUBJECT).collect()
}

/// What each kind of subscriber gets; `default` is what programs read.
fn message(told: &Told) -> Value {
    let Told { id, content, .. } = told;
    let mut document = json!(content);
    document["id"] = json!(id);
    json!({"default": document.to_string(), "email": content.plain(), "sms": subject(content)})
}

#[cfg(test)]
mod tests {
    use huntaze_domain::notification::{Audience, Fact, MAX_FACTS, Severity};

    use super::*;

    fn told() -> Told {
        let content = Content {
            kind: "cost_alert".to_owned(),
            severity: Severity::Warning,
            title: "Les coûts ont dépassé 5 $".to_owned(),
            text: "One \"line\".".to_owned(),
            facts: vec![Fact { name: "Spent".to_owned(), value: "$5.01".to_owned() }],
            link: None,
            timestamp: "2026-11-22T04:05:06Z".parse().unwrap(),
        };
        Told { id: "a1".to_owned(), audience: Audience::Operators, channels: Vec::new(), content }
    }

    #[test]
    fn a_subject_is_ascii_of_at_most_100_characters() {
        assert_eq!(subject(&told().content), "[warning] Les co?ts ont d?pass? 5 $");
        let long = Content { title: "x".repeat(200), ..told().content };
        assert_eq!(subject(&long).len(), SUBJECT);
    }

    #[test]
    fn programs_get_json_and_people_text() {
        let message = message(&told());
        let document: Value = serde_json::from_str(message["default"].as_str().unwrap()).unwrap();
        assert_eq!((&document["id"], &document["severity"]), (&json!("a1"), &json!("warning")));
        assert_eq!(document["facts"], json!([{"name": "Spent", "value": "$5.01"}]));
        assert!(document.get("audience").is_none(), "who is told is not for every subscriber");
        assert!(message["email"].as_str().unwrap().contains("Spent: $5.01"));
    }

    #[test]
    fn the_longest_message_fits_into_a_publication() {
        let fact = Fact { name: "\"".repeat(100), value: "🚨".repeat(300) };
        let content = Content { text: "\"".repeat(4_000), facts: vec![fact; MAX_FACTS], ..told().content };
        assert!(message(&Told { content, ..told() }).to_string().len() < 256 * 1024);
    }
}
