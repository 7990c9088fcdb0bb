//! What stands in the queues: notifications, and e-mail jobs. Read with every bound, whoever wrote it.

use huntaze_domain::error::FieldFault;
use huntaze_domain::ids::UserId;
use huntaze_domain::json::Fields;
use huntaze_domain::notification::{
    Audience, Channel, Fact, MAX_CHANNELS, MAX_FACTS, MAX_LINK_BYTES, MAX_TITLE, Severity, is_id, is_kind, is_line,
    is_text,
};
use jiff::Timestamp;
use reqwest::Url;
use serde::Serialize;
use serde_json::{Map, Value};

/// What somebody is told, whatever the channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// What it is about: `[a-z0-9_]`.
    pub kind: String,
    /// How much it matters.
    pub severity: Severity,
    /// One line.
    pub title: String,
    /// Plain sentences; may have several lines.
    pub text: String,
    /// The figures, at most [`MAX_FACTS`].
    pub facts: Vec<Fact>,
    /// Where there is more: an absolute HTTP address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// When it happened.
    pub timestamp: Timestamp,
}

/// One e-mail to be written. Any sender may put one on the queue; it names who is written to, never an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EmailJob {
    /// Put twice under the same id, it is sent once.
    pub id: String,
    /// Who is written to.
    pub to: Audience,
    /// What is written.
    #[serde(flatten)]
    pub content: Content,
}

/// A notification as its channels need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Told twice under the same id, it is delivered once a channel.
    pub id: String,
    /// Who is told.
    pub audience: Audience,
    /// How, each once.
    pub channels: Vec<Channel>,
    /// What.
    pub content: Content,
}

impl Told {
    /// Reads a notification as senders write it: [`huntaze_domain::notification::Notification`].
    ///
    /// # Errors
    /// Every faulty field.
    pub fn read(map: &Map<String, Value>) -> Result<Self, Vec<FieldFault>> {
        let mut faults = Vec::new();
        let fields = &mut Fields::new(map, "", &mut faults);
        let (id, audience, content) = (id(fields), audience(fields, "audience"), content(fields));
        let channels = channels(fields);
        match (id, audience, channels, content) {
            (Some(id), Some(audience), Some(channels), Some(content)) if faults.is_empty() => {
                Ok(Self { id, audience, channels, content })
            }
            _ => Err(faults),
        }
    }
}

impl EmailJob {
    /// Reads a job.
    ///
    /// # Errors
    /// Every faulty field.
    pub fn read(map: &Map<String, Value>) -> Result<Self, Vec<FieldFault>> {
        let mut faults = Vec::new();
        let fields = &mut Fields::new(map, "", &mut faults);
        match (id(fields), audience(fields, "to"), content(fields)) {
            (Some(id), Some(to), Some(content)) if faults.is_empty() => Ok(Self { id, to, content }),
            _ => Err(faults),
        }
    }
}

fn id(fields: &mut Fields<'_>) -> Option<String> {
    let expected = "1 to 512 printable ASCII characters";
    fields.required("id", expected, |value| {
        let id = value.as_str()?;
        is_id(id).then(|| id.to_owned())
    })
}

fn audience(fields: &mut Fields<'_>, name: &str) -> Option<Audience> {
    fields.required(name, "`operators` or {user: <id>}", |value| match value {
        Value::String(text) if text == "operators" => Some(Audience::Operators),
        Value::Object(named) if named.len() == 1 => {
            UserId::parse(named.get("user")?.as_str()?).ok().map(Audience::User)
        }
        _ => None,
    })
}

fn channels(fields: &mut Fields<'_>) -> Option<Vec<Channel>> {
    let expected = "a list of email, slack, sns, in_app";
    fields.required("channels", expected, |value| {
        let named = value.as_array().filter(|list| (1..=MAX_CHANNELS).contains(&list.len()))?;
        let mut channels: Vec<_> =
            named.iter().map(|name| Channel::from_name(name.as_str()?)).collect::<Option<_>>()?;
        channels.sort_unstable();
        channels.dedup();
        Some(channels)
    })
}

fn content(fields: &mut Fields<'_>) -> Option<Content> {
    let kind = fields.required("kind", "1 to 64 of a-z, 0-9 and _", |value| {
        let kind = value.as_str()?;
        is_kind(kind).then(|| kind.to_owned())
    });
    let severity =
        fields.required("severity", "info, warning or critical", |value| Severity::from_name(value.as_str()?));
    let title = fields.required("title", "one line of at most 200 characters", |value| {
        trimmed(value, |text| is_line(text, MAX_TITLE))
    });
    let text = fields.required("text", "at most 4000 characters", |value| trimmed(value, is_text));
    let facts = fields.optional("facts", "at most 40 of {name, value}", facts);
    let link = fields.optional("link", "an absolute HTTP address of at most 1000 bytes", link);
    let timestamp = fields.required("timestamp", "a moment as RFC 3339 has it", |value| value.as_str()?.parse().ok());
    Some(Content {
        kind: kind?,
        severity: severity?,
        title: title?,
        text: text?,
        facts: facts.unwrap_or_default(),
        link,
        timestamp: timestamp?,
    })
}

fn facts(value: &Value) -> Option<Vec<Fact>> {
    let list = value.as_array().filter(|list| list.len() <= MAX_FACTS)?;
    let fact = |fact: &Value| {
        let text = |name: &str| Some(fact[name].as_str()?.trim().to_owned());
        Some(Fact { name: text("name")?, value: text("value")? }).filter(Fact::fits)
    };
    list.iter().map(fact).collect()
}

fn trimmed(value: &Value, fits: impl Fn(&str) -> bool) -> Option<String> {
    let text = value.as_str()?.trim();
    fits(text).then(|| text.to_owned())
}

fn link(value: &Value) -> Option<String> {
    let url = Url::parse(value.as_str()?).ok()?;
    let fits = url.as_str().len() <= MAX_LINK_BYTES && matches!(url.scheme(), "https" | "http") && url.has_host();
    // As it was parsed: what could end an attribute or a Slack link is percent-encoded then.
    let plain =
        url.username().is_empty() && url.password().is_none() && !url.as_str().contains(['|', '<', '>', '"', '\'']);
    (fits && plain).then(|| url.to_string())
}

#[cfg(test)]
mod tests {
    use huntaze_domain::json::MAX_BODY_BYTES;
    use huntaze_domain::notification::{
        MAX_FACT_NAME, MAX_FACT_VALUE, MAX_ID_BYTES, MAX_KIND_BYTES, MAX_TEXT, Notification,
    };
    use serde_json::json;

    use super::*;

    fn notification() -> Notification {
        Notification {
            id: "alert#1".to_owned(),
            kind: "cost_alert".to_owned(),
            severity: Severity::Critical,
            audience: Audience::User(UserId::parse("ana").unwrap()),
            channels: vec![Channel::Slack, Channel::Email, Channel::Slack],
            title: "Today's costs passed $5".to_owned(),
            text: "One.\nTwo.".to_owned(),
            facts: vec![Fact { name: "Spent".to_owned(), value: "$5.01".to_owned() }],
            link: Some("https://app.huntaze.test/costs".to_owned()),
            timestamp: "2026-11-22T04:00:00Z".parse().unwrap(),
        }
    }

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn with(name: &str, value: Value) -> Map<String, Value> {
        let mut all = map(serde_json::to_value(notification()).unwrap());
        all.insert(name.to_owned(), value);
        all
    }

    #[test]
    fn what_a_sender_writes_is_what_is_read() {
        let written = map(serde_json::to_value(notification()).unwrap());
        let read = Told::read(&written).unwrap();
        let Notification { id, kind, severity, audience, title, text, facts, link, timestamp, .. } = notification();
        let content = Content { kind, severity, title, text, facts, link, timestamp };
        assert_eq!(read, Told { id, audience, channels: vec![Channel::Email, Channel::Slack], content });
        let job = EmailJob { id: read.id, to: read.audience, content: read.content };
        assert_eq!(EmailJob::read(&map(serde_json::to_value(&job).unwrap())).unwrap(), job);
    }

    #[test]
    fn what_a_sender_may_write_is_read_to_the_last_character() {
        let longest = Notification {
            id: "x".repeat(MAX_ID_BYTES),
            kind: "k".repeat(MAX_KIND_BYTES),
            channels: vec![Channel::Sns; MAX_CHANNELS],
            title: "ü".repeat(MAX_TITLE),
            text: "ü".repeat(MAX_TEXT),
            facts: vec![Fact { name: "ü".repeat(MAX_FACT_NAME), value: "ü".repeat(MAX_FACT_VALUE) }; MAX_FACTS],
            link: Some(format!("https://a.test/{}", "x".repeat(MAX_LINK_BYTES - 15))),
            ..notification()
        };
        assert!(longest.fits());
        let written = serde_json::to_vec(&longest).unwrap();
        assert!(written.len() <= MAX_BODY_BYTES, "{}", written.len());
        assert!(Told::read(&map(serde_json::to_value(&longest).unwrap())).is_ok());
    }

    #[test]
    fn every_faulty_field_is_named() {
        let pointers = |faults: Vec<FieldFault>| faults.into_iter().map(|fault| fault.pointer).collect::<Vec<_>>();
        let all = ["/id", "/audience", "/kind", "/severity", "/title", "/text", "/timestamp", "/channels"];
        assert_eq!(pointers(Told::read(&Map::new()).unwrap_err()), all);
        for (name, value) in [
            ("id", json!("")),
            ("id", json!("a b")),
            ("id", json!("x".repeat(513))),
            ("audience", json!("everyone")),
            ("audience", json!({"user": "a b"})),
            ("audience", json!({"user": "ana", "operators": true})),
            ("channels", json!([])),
            ("channels", json!(["slack", "pigeon"])),
            ("channels", json!(vec!["slack"; 17])),
            ("kind", json!("Cost Alert")),
            ("severity", json!("fatal")),
            ("title", json!("a\r\nBcc: eve@mail.example")),
            ("title", json!("a\u{2028}b")),
            ("title", json!("x".repeat(201))),
            ("title", json!("   ")),
            ("text", json!("x".repeat(4_001))),
            ("text", json!("a\u{202e}b")),
            ("text", json!("a\0")),
            ("facts", json!([{"name": "x"}])),
            ("facts", json!([{"name": "x", "value": "a\nb"}])),
            ("facts", json!(vec![json!({"name": "x", "value": "y"}); 41])),
            ("link", json!("javascript:alert(1)")),
            ("link", json!("//evil.example")),
            ("link", json!("https://user:secret@evil.example")),
            ("timestamp", json!("yesterday")),
        ] {
            let faults = Told::read(&with(name, value.clone())).expect_err(name);
            assert_eq!(pointers(faults), [format!("/{name}")], "{value}");
        }
    }

    #[test]
    fn what_could_end_an_attribute_is_encoded_or_refused() {
        let read = |text: &str| link(&json!(text));
        assert_eq!(read("https://x.test/a b?c=\"d\"<e>"), Some("https://x.test/a%20b?c=%22d%22%3Ce%3E".to_owned()));
        assert_eq!(read("https://x.test/a|b"), None);
        assert_eq!(read("https://x.test/?a='b"), Some("https://x.test/?a=%27b".to_owned()));
    }
}
