//! The event of an SQS queue, read so that nothing in one record keeps another from being read.

use huntaze_domain::json::MAX_BODY_BYTES;
use huntaze_domain::trace::Trace;
use serde::Deserialize;
use serde_json::value::RawValue;

/// What is left of a body that is not read, in bytes: enough for a person to know it by.
const BEGINNING: usize = 8 * 1024;

/// A batch. What the service itself writes has to be there; what senders wrote is not looked at here.
#[derive(Debug, Deserialize)]
pub(super) struct Batch<'a> {
    #[serde(rename = "Records", borrow)]
    pub(super) records: Vec<Record<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record<'a> {
    #[serde(rename = "messageId")]
    pub(super) id: String,
    pub(super) receipt_handle: String,
    #[serde(rename = "eventSourceARN")]
    pub(super) queue_arn: String,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    #[serde(borrow)]
    attributes: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Attributes {
    approximate_receive_count: String,
    #[serde(rename = "AWSTraceHeader")]
    trace_header: Option<String>,
}

impl<'a> Batch<'a> {
    pub(super) fn read(event: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(event)
    }
}

impl Record<'_> {
    /// The body, unless it is larger than any that is read, or no text that a program can hold.
    pub(super) fn body(&self) -> Option<String> {
        let text: String = serde_json::from_str(self.body?.get()).ok()?;
        Some(text).filter(|text| text.len() <= MAX_BODY_BYTES)
    }

    /// The beginning of the body, whatever it is: of its text, or as it stands in the event where it is none.
    pub(super) fn beginning(&self) -> String {
        let raw = self.body.map(RawValue::get).unwrap_or_default();
        let mut text: String = serde_json::from_str(raw).unwrap_or_else(|_| raw.to_owned());
        text.truncate(text.floor_char_boundary(BEGINNING));
        text
    }

    /// How often it was handed out, this time included.
    pub(super) fn received(&self) -> u32 {
        self.attributes().approximate_receive_count.parse().unwrap_or(1)
    }

    /// The trace that the sender sent it in.
    pub(super) fn trace(&self) -> Option<Trace> {
        self.attributes().trace_header.as_deref().and_then(Trace::from_xray)
    }

    fn attributes(&self) -> Attributes {
        self.attributes.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, body: &str, attributes: &str) -> String {
        format!(
            r#"{{"messageId": "{id}", "receiptHandle": "h", "eventSourceARN": "arn", "body": {body},
                "attributes": {attributes}, "md5OfBody": "", "awsRegion": "us-east-1"}}"#
        )
    }

    #[test]
    fn a_record_that_cannot_be_read_keeps_no_other_from_being_read() {
        let counted = r#"{"ApproximateReceiveCount": "3"}"#;
        let traced =
            r#"{"ApproximateReceiveCount": "x", "AWSTraceHeader": "Root=1-5759e988-bd862e3fe1be46a994272793"}"#;
        let large = format!("\"{}\"", "x".repeat(MAX_BODY_BYTES + 1));
        let records = [
            record("good", r#""{\"a\": 1}""#, counted),
            record("surrogate", r#""\ud800""#, traced),
            record("object", r#"{"a": 1}"#, "[]"),
            record("large", &large, "7"),
        ];
        let event = format!(r#"{{"Records": [{}]}}"#, records.join(","));
        let batch = Batch::read(&event).unwrap();
        let read: Vec<_> = batch.records.iter().map(|r| (r.id.as_str(), r.body(), r.received())).collect();
        assert_eq!(
            read,
            [
                ("good", Some(r#"{"a": 1}"#.to_owned()), 3),
                ("surrogate", None, 1),
                ("object", None, 1),
                ("large", None, 1)
            ]
        );
        let beginnings: Vec<_> = batch.records.iter().map(Record::beginning).collect();
        assert_eq!(beginnings[..3], [r#"{"a": 1}"#, r#""\ud800""#, r#"{"a": 1}"#]);
        assert_eq!(beginnings[3], "x".repeat(BEGINNING));
        assert_eq!(batch.records[1].trace(), Trace::new("5759e988bd862e3fe1be46a994272793", false));
        assert_eq!(batch.records[0].trace(), None);
    }

    #[test]
    fn what_is_no_batch_is_refused() {
        for event in ["{}", "[]", r#"{"Records": [{"body": ""}]}"#, "null"] {
            assert!(Batch::read(event).is_err(), "{event}");
        }
    }
}
