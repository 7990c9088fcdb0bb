//! The operators' Slack channel, by its incoming webhook. Whoever has the URL can write there, so it is in no log.

use std::time::Duration;

use huntaze_domain::env::Env;
use huntaze_domain::notification::{Fact, Severity};
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, StatusCode, Url};
use serde_json::{Value, json};

use crate::fault::Fault;
use crate::message::Content;

/// Slack answers within a second; the delivery's own patience is the net under this.
const TIMEOUT: Duration = Duration::from_secs(4);

// Block Kit's limits, <https://docs.slack.dev/reference/block-kit/blocks/>.
const HEADER: usize = 150;
const SECTION: usize = 3_000;
const FIELD: usize = 2_000;
const FIELDS: usize = 10;

/// A Slack channel.
pub struct Slack {
    client: Client,
    webhook: Url,
}

impl Slack {
    /// The channel whose webhook is `SLACK_WEBHOOK_URL`; `None` without one.
    #[must_use]
    pub fn from_env(env: &Env, client: Client) -> Option<Self> {
        let url = env.optional("SLACK_WEBHOOK_URL")?;
        let webhook = Url::parse(url.trim()).ok().filter(is_safe).ok_or("must be an https address (http on loopback)");
        env.check("SLACK_WEBHOOK_URL", webhook).map(|webhook| Self { client, webhook })
    }

    /// Tells it.
    ///
    /// # Errors
    /// [`Fault`]; the URL is not in it.
    pub async fn tell(&self, content: &Content) -> Result<(), Fault> {
        let request = self.client.post(self.webhook.clone()).timeout(TIMEOUT).json(&payload(content));
        let response = request
            .send()
            .await
            .map_err(|error| if error.is_timeout() { Fault::Timeout } else { Fault::Unreachable })?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Err(match status {
            StatusCode::TOO_MANY_REQUESTS => Fault::Limited { after: after.map(Duration::from_secs) },
            StatusCode::REQUEST_TIMEOUT => Fault::Timeout,
            // The message, or a webhook that was taken away: neither mends itself.
            status if status.is_client_error() => Fault::Refused(status.as_u16().to_string()),
            status => Fault::Failed(status.as_u16().to_string()),
        })
    }
}

/// Nothing goes over a network in the clear; what plays Slack on this machine may.
fn is_safe(url: &Url) -> bool {
    let loopback = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    url.has_host() && (url.scheme() == "https" || (url.scheme() == "http" && loopback))
}

/// The message in blocks. `text` is what a phone shows of it, and programs that show no blocks.
fn payload(content: &Content) -> Value {
    let Content { kind, severity, title, text, facts, link, timestamp } = content;
    let sign = match severity {
        Severity::Info => "ℹ️",
        Severity::Warning => "⚠️",
        Severity::Critical => "🚨",
    };
    let heading = escaped(&format!("{sign} {title}"), HEADER);
    let mut blocks = vec![
        json!({"type": "header", "text": {"type": "plain_text", "text": heading, "emoji": false}}),
        json!({"type": "section", "text": words(&escaped(text, SECTION))}),
    ];
    let fields = facts.chunks(FIELDS).map(|facts| {
        let fields: Vec<_> = facts.iter().map(field).collect();
        json!({"type": "section", "fields": fields})
    });
    blocks.extend(fields);
    blocks.extend(link.as_ref().map(|link| json!({"type": "section", "text": words(&format!("<{link}|Open>"))})));
    let when = timestamp.strftime("%Y-%m-%d %H:%M UTC");
    let foot = format!("{} · {} · {when}", severity.as_str(), escaped(kind, FIELD));
    blocks.push(json!({"type": "context", "elements": [words(&foot)]}));
    json!({"text": escaped(&format!("{sign} {title}"), SECTION), "blocks": blocks})
}

/// Text in Slack's markup, in which names of channels and addresses stay what they are.
fn words(text: &str) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

fn field(Fact { name, value }: &Fact) -> Value {
    words(&format!("*{}*\n{}", escaped(name, FIELD / 4), escaped(value, FIELD / 2)))
}

/// Slack's three control characters, escaped
/// (<https://docs.slack.dev/messaging/formatting-message-text/#escaping>), within a length that the escapes count for.
fn escaped(text: &str, longest: usize) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut length = 0;
    for c in text.chars() {
        let sign = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            _ => "",
        };
        length += if sign.is_empty() { 1 } else { sign.len() };
        if length >= longest {
            escaped.push('…');
            break;
        }
        if sign.is_empty() { escaped.push(c) } else { escaped.push_str(sign) }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use huntaze_domain::notification::MAX_FACTS;

    use super::*;

    fn content() -> Content {
        Content {
            kind: "cost_alert".to_owned(),
            severity: Severity::Critical,
            title: "Today's costs passed $50".to_owned(),
            text: "Everyone together spent $50.01 today.".to_owned(),
            facts: vec![
                Fact { name: "Threshold".to_owned(), value: "$50.00".to_owned() },
                Fact { name: "Top model".to_owned(), value: "gpt-4o <beta> & more".to_owned() },
            ],
            link: Some("https://app.huntaze.test/costs?a=1".to_owned()),
            timestamp: "2026-11-22T04:05:06Z".parse().unwrap(),
        }
    }

    #[test]
    fn a_message_is_a_header_a_section_the_facts_the_link_and_a_foot() {
        let expected: Value = serde_json::from_str(include_str!("../tests/golden/slack.json")).unwrap();
        assert_eq!(payload(&content()), expected, "{:#}", payload(&content()));
    }

    #[test]
    fn no_text_can_call_a_channel_or_end_a_link() {
        let text = "<!channel> <https://evil.example|here> & <@U1>".to_owned();
        let message = payload(&Content { title: text.clone(), text, ..content() }).to_string();
        assert!(!message.contains("<!") && !message.contains("<@"), "{message}");
        assert!(message.contains("&lt;!channel&gt;"));
    }

    #[test]
    fn the_longest_message_keeps_to_slacks_limits() {
        let (name, value) = ("&".repeat(100), "<".repeat(300));
        let facts = vec![Fact { name, value }; MAX_FACTS];
        let message = payload(&Content { title: "🚨".repeat(200), text: "&".repeat(4_000), facts, ..content() });
        let blocks = message["blocks"].as_array().unwrap();
        let length = |text: &Value| text["text"].as_str().unwrap().chars().count();
        assert!(blocks.len() <= 50);
        assert_eq!(length(&blocks[0]["text"]), HEADER);
        assert!((SECTION - 5..=SECTION).contains(&length(&blocks[1]["text"])));
        for block in &blocks[2..] {
            let fields = block["fields"].as_array().map(Vec::as_slice).unwrap_or_default();
            assert!(fields.len() <= FIELDS && fields.iter().all(|field| length(field) <= FIELD));
        }
    }

    #[test]
    fn a_webhook_is_a_secret_that_is_not_sent_in_the_clear_nor_repeated() {
        let read = |url: &str| {
            let env = Env::from_pairs([("SLACK_WEBHOOK_URL".to_owned(), url.to_owned())]);
            let client = reqwest_client();
            env.finish(Slack::from_env(&env, client).map(|_| ())).map_err(|error| error.to_string())
        };
        for fine in ["https://hooks.slack.com/services/T/B/secret", "http://127.0.0.1:4010/slack/services/T/B/secret"] {
            assert_eq!(read(fine), Ok(()), "{fine}");
        }
        for wrong in ["http://hooks.slack.com/services/T/B/secret", "ftp://127.0.0.1/secret", "secret"] {
            let said = read(wrong).unwrap_err();
            assert!(said.contains("SLACK_WEBHOOK_URL") && !said.contains("secret"), "{said}");
        }
    }

    fn reqwest_client() -> Client {
        // The workspace's clients bring their own TLS configuration; nothing is called here.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::new()
    }
}
