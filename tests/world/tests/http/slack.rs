//! Slack's webhook: what it takes, what it refuses, and what a test makes of it.

use huntaze_world::{Fault, Outcome, Provider};
use serde_json::{Value, json};

use crate::{BOUND, Fixture, ask};

async fn tell(fixture: &Fixture, url: &str, message: &Value) -> (u16, String) {
    let response = fixture.client.post(url).json(message).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn a_message_is_taken_with_a_bare_ok_and_remembered_without_its_token() {
    let fixture = Fixture::start();
    let url = fixture.world.slack_webhook_url();
    let message =
        json!({ "text": "spent", "blocks": [{ "type": "header", "text": { "type": "plain_text", "text": "x" } }] });
    assert_eq!(tell(&fixture, &url, &message).await, (200, "ok".to_owned()));
    let seen = fixture.world.wait_for_slack(1, BOUND).await.unwrap();
    assert_eq!((seen[0].provider, &seen[0].body), (Provider::Slack, &message));
    assert!(!seen[0].path.contains("token"), "{}", seen[0].path);
    assert!(fixture.world.calls().is_empty(), "a message to Slack is no chat completion");
}

#[tokio::test]
async fn what_block_kit_refuses_is_refused() {
    let fixture = Fixture::start();
    let url = fixture.world.slack_webhook_url();
    let text = |kind: &str, length: usize| json!({ "type": kind, "text": "x".repeat(length) });
    let field = text("mrkdwn", 10);
    for (block, fits) in [
        (json!({ "type": "header", "text": text("plain_text", 150) }), true),
        (json!({ "type": "header", "text": text("plain_text", 151) }), false),
        (json!({ "type": "header", "text": text("mrkdwn", 5) }), false),
        (json!({ "type": "section", "text": text("mrkdwn", 3_000) }), true),
        (json!({ "type": "section", "text": text("mrkdwn", 3_001) }), false),
        (json!({ "type": "section", "fields": vec![field.clone(); 10] }), true),
        (json!({ "type": "section", "fields": vec![field; 11] }), false),
        (json!({ "type": "section" }), false),
        (json!({ "type": "context", "elements": [] }), false),
        (json!({ "type": "poem" }), false),
    ] {
        let (status, word) = tell(&fixture, &url, &json!({ "text": "x", "blocks": [block] })).await;
        assert_eq!(status == 200, fits, "{block}");
        assert_eq!(word, if fits { "ok" } else { "invalid_blocks" });
    }
    assert_eq!(tell(&fixture, &url, &json!({})).await, (400, "no_text".to_owned()));
    assert_eq!(tell(&fixture, &format!("{url}x"), &json!({ "text": "x" })).await.0, 403);
}

#[tokio::test]
async fn slack_fails_as_scripted_and_no_model_with_it() {
    let fixture = Fixture::start();
    let url = fixture.world.slack_webhook_url();
    fixture.world.fault(Fault::rate_limited(7).on(Provider::Slack));
    fixture.world.fault(Fault::status(500).on(Provider::Slack));
    assert_eq!(fixture.openai(&ask("x")).send().await.unwrap().status(), 200);
    let limited = fixture.client.post(&url).json(&json!({ "text": "x" })).send().await.unwrap();
    assert_eq!((limited.status().as_u16(), &limited.headers()["retry-after"]), (429, &"7".parse().unwrap()));
    assert_eq!(tell(&fixture, &url, &json!({ "text": "x" })).await.0, 500);
    assert_eq!(tell(&fixture, &url, &json!({ "text": "x" })).await.0, 200);
    let ends: Vec<_> = fixture.world.slack_messages().into_iter().map(|call| call.outcome).collect();
    assert_eq!(ends, [429, 500, 200].map(|status| Outcome::Answered { status }));
}
