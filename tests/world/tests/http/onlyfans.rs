//! OnlyFans: what it takes and refuses, and that it remembers what reached a fan, whatever became of the answer.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use huntaze_world::{Author, FanMessage, Fault, Mix, Operation, Outcome, Provider, REMEMBERED_CALLS};
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::{Answer, BOUND, Fixture, answer};

const ACCOUNT: &str = "acc-1";

fn chat(fixture: &Fixture, recipient: &str) -> String {
    format!("{}/chats/{recipient}/messages", fixture.world.onlyfans_api_url())
}

fn signed(fixture: &Fixture, request: RequestBuilder) -> RequestBuilder {
    request.header("cookie", format!("lang=en; {}", fixture.world.onlyfans_session(ACCOUNT).cookie))
}

fn send(fixture: &Fixture, recipient: &str, text: &str) -> RequestBuilder {
    let body = json!({ "text": text, "price": 0, "mediaFiles": [] });
    let request = signed(fixture, fixture.client.post(chat(fixture, recipient))).json(&body);
    request.header("x-request-id", "msg_1.1").header("idempotency-key", "msg_1")
}

async fn conversation(fixture: &Fixture, recipient: &str, query: &str) -> Answer {
    answer(signed(fixture, fixture.client.get(format!("{}{query}", chat(fixture, recipient))))).await
}

fn texts(messages: &[FanMessage]) -> Vec<&str> {
    messages.iter().map(|message| message.text.as_str()).collect()
}

#[tokio::test]
async fn a_message_is_taken_shown_and_remembered() {
    let fixture = Fixture::start();
    let sent = answer(send(&fixture, "77", "hello")).await;
    assert_eq!(sent.status, 200);
    let user: u64 = fixture.world.onlyfans_session(ACCOUNT).user_id.parse().unwrap();
    assert_eq!((&sent.body["text"], &sent.body["fromUser"]["id"]), (&json!("hello"), &json!(user)));

    let shown = conversation(&fixture, "77", "?limit=20&order=desc").await;
    assert_eq!((shown.status, shown.body), (200, json!({ "list": [sent.body], "hasMore": false })));

    let seen = fixture.world.wait_for_fan_messages(1, BOUND).await.unwrap();
    let FanMessage { id, account, recipient, text, request_id, idempotency_key, .. } = &seen[0];
    assert_eq!((&json!(id), account.as_str(), recipient.as_str()), (&sent.body["id"], ACCOUNT, "77"));
    assert_eq!(
        (text.as_str(), request_id.as_deref(), idempotency_key.as_deref()),
        ("hello", Some("msg_1.1"), Some("msg_1"))
    );
    let call = &fixture.world.onlyfans_calls(Operation::Message)[0];
    assert_eq!((call.provider, call.outcome), (Provider::OnlyFans, Outcome::Answered { status: 200 }));
    assert_eq!((call.headers["cookie"].as_str(), call.headers["idempotency-key"].as_str()), ("redacted", "msg_1"));
}

#[tokio::test]
async fn the_same_message_sent_twice_is_two() {
    let fixture = Fixture::start();
    let (one, other) = (answer(send(&fixture, "77", "hello")).await, answer(send(&fixture, "77", "hello")).await);
    assert_ne!(one.body["id"], other.body["id"]);
    assert_eq!(texts(&fixture.world.fan_messages()), ["hello", "hello"]);
}

#[tokio::test]
async fn a_conversation_has_every_side_newest_first_and_pages() {
    let fixture = Fixture::start();
    let at = |text: &str| text.parse().unwrap();
    let old =
        fixture.world.write_to_conversation(ACCOUNT, "77", Author::Creator, "hello", at("2026-01-01T00:00:01.9Z"));
    let own = answer(send(&fixture, "77", "hello")).await.body["id"].clone();
    let first = fixture.world.write_to_conversation(ACCOUNT, "77", Author::Fan, "hello", at("2026-01-01T00:00:00Z"));
    answer(send(&fixture, "78", "hello")).await;

    let all = conversation(&fixture, "77", "?limit=20&order=desc").await.body;
    let ids =
        |body: &Value| -> Vec<Value> { body["list"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect() };
    assert_eq!(ids(&all), [own.clone(), json!(old), json!(first)]);
    assert_eq!(all["list"][1]["createdAt"], "2026-01-01T00:00:01+00:00");
    assert_eq!(all["list"][0]["fromUser"], all["list"][1]["fromUser"]);
    assert_ne!(all["list"][0]["fromUser"], all["list"][2]["fromUser"]);
    let newest = conversation(&fixture, "77", "?limit=2&order=desc").await.body;
    assert_eq!((ids(&newest).len(), &newest["hasMore"]), (2, &json!(true)));
    assert_eq!(ids(&conversation(&fixture, "77", "?order=asc&limit=1").await.body), [json!(first)]);
    assert_eq!(conversation(&fixture, "77", "?limit=0").await.status, 400);
    // What did not come over the API reached nobody by our doing.
    assert_eq!(fixture.world.fan_messages().len(), 2);
}

#[tokio::test]
async fn a_session_is_good_until_it_is_ended() {
    let fixture = Fixture::start();
    let me = format!("{}/users/me", fixture.world.onlyfans_api_url());
    let session = fixture.world.onlyfans_session(ACCOUNT);
    let with = async |cookie: &str| answer(fixture.client.get(&me).header("cookie", cookie)).await;
    let own = with(&session.cookie).await;
    assert_eq!(
        (own.status, own.body["id"].to_string(), &own.body["username"]),
        (200, session.user_id, &json!(ACCOUNT))
    );

    fixture.world.expire_onlyfans_session(ACCOUNT);
    let expired = with(&session.cookie).await;
    assert_eq!((expired.status, &expired.body["error"]["code"]), (401, &json!("session_expired")));
    assert_eq!(with(&fixture.world.onlyfans_session(ACCOUNT).cookie).await.status, 200);
    for wrong in ["sess=world.0.", "sess=world.7.acc-1", "sess=other", "x"] {
        assert_eq!(with(wrong).await.status, 401, "{wrong}");
    }
    let unsigned =
        fixture.client.post(chat(&fixture, "77")).json(&json!({ "text": "hello", "price": 0, "mediaFiles": [] }));
    assert_eq!(answer(unsigned).await.status, 401);
    assert!(fixture.world.fan_messages().is_empty());
}

#[tokio::test]
async fn what_is_no_message_is_refused_and_reaches_nobody() {
    let fixture = Fixture::start();
    let try_body =
        async |body: String| answer(signed(&fixture, fixture.client.post(chat(&fixture, "77"))).body(body)).await;
    for (body, status) in [
        (String::new(), 400),
        ("{".to_owned(), 400),
        (json!({ "price": 0, "mediaFiles": [] }).to_string(), 400),
        (json!({ "text": " ", "price": 0, "mediaFiles": [] }).to_string(), 400),
        (json!({ "text": "x", "price": 5, "mediaFiles": [] }).to_string(), 400),
        (json!({ "text": "x".repeat(1_001), "price": 0, "mediaFiles": [] }).to_string(), 422),
    ] {
        let refused = try_body(body.clone()).await;
        assert_eq!(refused.status, status, "{body}");
        assert!(refused.body["error"]["code"].is_string() && refused.body["error"]["message"].is_string());
    }
    assert_eq!(
        try_body(json!({ "text": "é".repeat(1_000), "price": 0, "mediaFiles": [] }).to_string()).await.status,
        200
    );
    assert_eq!(fixture.world.fan_messages().len(), 1);
}

#[tokio::test]
async fn a_fault_before_accepting_reaches_nobody_and_one_after_it_does() {
    let fixture = Fixture::start();
    for (fault, reached) in [
        (Fault::status(503), false),
        (Fault::status(503).after_accepting(), true),
        (Fault::status(404), false),
        (Fault::Hang, false),
        (Fault::Hang.after_accepting(), true),
        (Fault::Reset, false),
        (Fault::Reset.after_accepting(), true),
        (Fault::Truncate, true),
        (Fault::Garbage, false),
        (Fault::Garbage.after_accepting(), true),
        (Fault::Raw { body: "{}".to_owned() }.after_accepting(), true),
        (Fault::delay(Duration::from_millis(1)), true),
        (Fault::delay(Duration::from_millis(1)).after_accepting(), true),
    ] {
        fixture.world.reset();
        fixture.world.fault(fault.clone().on(Provider::OnlyFans));
        let mut request = send(&fixture, "77", "hello");
        if let Fault::Hang = fault {
            request = request.timeout(Duration::from_millis(100));
        } else if fault == Fault::Hang.after_accepting() {
            let hanging = tokio::time::timeout(BOUND, request.send());
            let arrived = fixture.world.wait_for_fan_messages(1, BOUND);
            tokio::select! { _ = hanging => panic!("it was answered"), seen = arrived => assert_eq!(seen.unwrap().len(), 1) }
            continue;
        }
        if let Ok(response) = request.send().await {
            let _ = response.bytes().await;
        }
        assert_eq!(fixture.world.fan_messages().len(), usize::from(reached), "{fault:?}");
        assert!(fixture.world.pending_faults().is_empty());
    }
}

#[test]
fn a_reset_after_accepting_is_a_reset_of_the_connection() {
    let fixture = Fixture::start();
    fixture.world.fault(Fault::Reset.after_accepting().on(Provider::OnlyFans));
    let mut stream = TcpStream::connect(fixture.world.url().strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let body = json!({ "text": "hello", "price": 0, "mediaFiles": [] }).to_string();
    let (cookie, length) = (fixture.world.onlyfans_session(ACCOUNT).cookie, body.len());
    write!(
        stream,
        "POST /onlyfans/api2/v2/chats/77/messages HTTP/1.1\r\nhost: world\r\ncookie: {cookie}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut read = Vec::new();
    assert_eq!(stream.read_to_end(&mut read).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!((read.len(), fixture.world.fan_messages().len()), (0, 1));
}

#[tokio::test]
async fn faults_are_scripted_over_http_for_one_operation() {
    let fixture = Fixture::start();
    let control = format!("{}/control", fixture.world.url());
    let script = async |rule: Value| {
        fixture.client.post(format!("{control}/faults")).json(&rule).send().await.unwrap().status().as_u16()
    };
    let after = json!({ "provider": "onlyfans", "operation": "message", "contains": "needle",
        "fault": { "kind": "after", "then": { "kind": "status", "status": 502 } } });
    assert_eq!(script(after).await, 201);
    let limited = json!({ "provider": "onlyfans", "operation": "conversation",
        "fault": { "kind": "status", "status": 429, "headers": { "retry-after": "7" } } });
    assert_eq!(script(limited).await, 201);
    assert_eq!(script(json!({ "provider": "onlyfans", "fault": { "kind": "after" } })).await, 422);

    assert_eq!(answer(send(&fixture, "77", "hello")).await.status, 200);
    assert_eq!(answer(send(&fixture, "77", "a needle")).await.status, 502);
    let read = conversation(&fixture, "77", "").await;
    assert_eq!((read.status, &read.headers["retry-after"]), (429, &"7".parse().unwrap()));
    assert_eq!(conversation(&fixture, "77", "").await.body["list"].as_array().unwrap().len(), 2);
    // Of itself a 429 does not say when to come again.
    fixture.world.fault(Fault::status(429).on(Provider::OnlyFans));
    assert!(!answer(send(&fixture, "77", "hello")).await.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn messages_sessions_and_foreign_words_are_controlled_over_http() {
    let fixture = Fixture::start();
    let control = format!("{}/control/onlyfans", fixture.world.url());
    answer(send(&fixture, "77", "hello")).await;
    answer(send(&fixture, "78", "hi")).await;
    let listed = answer(fixture.client.get(format!("{control}/messages?recipient=78&account={ACCOUNT}"))).await.body;
    assert_eq!(texts(&serde_json::from_value::<Vec<FanMessage>>(listed).unwrap()), ["hi"]);
    let count = async || answer(fixture.client.get(format!("{control}/messages/count"))).await.body["count"].clone();
    assert_eq!(count().await, 2);

    let foreign = |author: &str| json!({ "account": ACCOUNT, "recipient": "77", "author": author, "text": "hello" });
    let post = async |body: Value| answer(fixture.client.post(format!("{control}/messages")).json(&body)).await;
    assert!(post(foreign("creator")).await.body["id"].is_u64());
    assert_eq!(post(foreign("gateway")).await.status, 422);
    assert_eq!(conversation(&fixture, "77", "").await.body["list"].as_array().unwrap().len(), 2);
    assert_eq!(count().await, 2);

    let session = format!("{control}/sessions/{ACCOUNT}");
    let before = answer(fixture.client.get(&session)).await.body;
    assert_eq!(before["cookie"], fixture.world.onlyfans_session(ACCOUNT).cookie);
    fixture.client.delete(&session).send().await.unwrap().error_for_status().unwrap();
    assert_ne!(answer(fixture.client.get(&session)).await.body["cookie"], before["cookie"]);

    fixture.world.reset();
    assert_eq!(count().await, 0);
    assert_eq!(answer(fixture.client.get(&session)).await.body, before);
}

#[tokio::test]
async fn a_mix_meets_messages_alone_and_gives_way_to_rules() {
    let fixture = Fixture::start();
    let url = format!("{}/control/onlyfans/mix", fixture.world.url());
    let post = async |mix: Value| fixture.client.post(&url).json(&mix).send().await.unwrap().status().as_u16();
    assert_eq!(post(json!({ "seed": 1, "refuse": 0.7, "hangAfter": 0.4 })).await, 422);
    assert_eq!(post(json!({ "seed": 1, "refused": 0.7 })).await, 422);
    assert_eq!(post(json!({ "seed": 1, "failAfter": 1 })).await, 201);
    assert_eq!(answer(send(&fixture, "77", "hello")).await.status, 503);
    assert_eq!(conversation(&fixture, "77", "").await.status, 200);
    fixture.world.fault(Fault::status(404).on(Provider::OnlyFans));
    assert_eq!(answer(send(&fixture, "77", "hello")).await.status, 404);

    let outcomes = async |seed: u64| {
        fixture.world.reset();
        fixture.world.mix(&Mix { seed, refuse: 0.3, fail_after: 0.3, no_id_after: 0.2, ..Mix::default() }).unwrap();
        let mut outcomes = Vec::new();
        for _ in 0..30 {
            let answer = answer(send(&fixture, "77", "hello")).await;
            outcomes.push((answer.status, answer.body["id"].is_u64()));
        }
        let reached = outcomes.iter().filter(|(status, _)| *status != 422).count();
        assert_eq!(fixture.world.fan_messages().len(), reached);
        outcomes
    };
    let one = outcomes(1).await;
    assert_eq!(one, outcomes(1).await);
    assert_ne!(one, outcomes(2).await);
    for kind in [(422, false), (503, false), (200, false), (200, true)] {
        assert!(one.contains(&kind), "{kind:?}: {one:?}");
    }
    assert!(fixture.world.mix(&Mix { slow: 2.0, ..Mix::default() }).is_err());
}

#[tokio::test]
async fn more_messages_are_remembered_than_calls() {
    let fixture = Fixture::start();
    for n in 0..=REMEMBERED_CALLS {
        assert_eq!(answer(send(&fixture, "77", &format!("message {n}"))).await.status, 200);
    }
    assert_eq!(fixture.world.onlyfans_calls(Operation::Message).len(), REMEMBERED_CALLS);
    let messages = fixture.world.fan_messages();
    assert_eq!((messages.len(), messages[0].text.as_str()), (REMEMBERED_CALLS + 1, "message 0"));
    assert!(messages.is_sorted_by_key(|message| message.id));
}
