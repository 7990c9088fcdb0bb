//! Messages to fans over the API: what is taken on and said of it, who may see and decide what, and that what is accepted is one
//! message.

use std::collections::HashSet;

use anyhow::{Result, ensure};
use huntaze_tests::{App, Function, Request, Response, now};
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

use crate::support::{MESSAGES, accounts, admin, closed_port, faults, note, text, user};

/// Ana's only account, and one of Bob's.
async fn start() -> Result<(App, Function)> {
    let app = App::start().await?;
    accounts(&app, &[("acc-ana", "ana"), ("acc-bob", "bob")]).await?;
    let function = app.function("onlyfans-messages")?;
    Ok((app, function))
}

fn send(who: &str, body: &Value) -> Request {
    user(Request::post(MESSAGES), who).json(body)
}

fn one(who: &str, id: &str) -> Request {
    user(Request::get(MESSAGES), who).query("messageId", id)
}

fn decide(who: &str, step: &str, body: &Value) -> Request {
    user(Request::post(&format!("{MESSAGES}/{step}")), who).json(body)
}

fn cancel(who: &str, id: &str) -> Request {
    user(Request::delete(MESSAGES), who).query("messageId", id)
}

fn id_of(response: &Response) -> String {
    text(&response.body["data"]["messageId"]).to_owned()
}

fn code(response: &Response) -> (u16, &str) {
    (response.status, text(&response.body["code"]))
}

async fn count(app: &App) -> Result<Value> {
    Ok(app.stores.row("SELECT count(*) AS n FROM orchestrator.messages", &[]).await?["n"].take())
}

/// Puts a message into a state that only the sender brings it to.
async fn set(app: &App, id: &str, status: &str, rest: &str) -> Result<()> {
    let sql = format!("UPDATE orchestrator.messages SET status = '{status}'{rest} WHERE id = $1");
    ensure!(app.stores.execute(&sql, &[&id]).await? == 1, "no message {id}");
    Ok(())
}

#[tokio::test]
async fn a_message_is_taken_on_shown_and_the_queue_is_told_of_its_account() -> Result<()> {
    let (app, function) = start().await?;
    let mut body = note("acc-ana", "fan-1", "Good morning");
    body["metadata"] = json!({"campaign": "summer", "empty": null});
    body.as_object_mut().unwrap().remove("accountId");
    let sent = function.http(send("ana", &body)).await?;
    assert_eq!(sent.status, 202, "{}", sent.body);
    let data = &sent.body["data"];
    assert_eq!(
        (&data["accountId"], &data["status"], data.get("duplicate")),
        (&json!("acc-ana"), &json!("queued"), None)
    );
    assert_eq!(data["queueInfo"]["position"], 0, "{data}");
    assert!(data["queueInfo"]["expectedAt"].is_string() && data["queueInfo"]["estimated"] == true, "{data}");
    assert!(!sent.header("ratelimit").is_empty() && !sent.header("ratelimit-policy").is_empty());
    assert_eq!(app.stores.take_hints().await?, [json!({"accountId": "acc-ana"})]);

    let shown = function.http(one("ana", &id_of(&sent))).await?;
    assert_eq!(shown.status, 200, "{}", shown.body);
    let shown = &shown.body["data"];
    for (name, value) in [
        ("accountId", json!("acc-ana")),
        ("userId", json!("ana")),
        ("recipientId", json!("fan-1")),
        ("content", json!("Good morning")),
        ("status", json!("queued")),
        ("messageType", json!("follow_up")),
        ("priority", json!("medium")),
        ("complianceLevel", json!("strict")),
        ("attempts", json!(0)),
        ("needsApproval", json!(false)),
        ("needsDecision", json!(false)),
        ("metadata", body["metadata"].clone()),
        ("history", json!([])),
        ("decisions", json!([])),
    ] {
        assert_eq!(shown[name], value, "{name}");
    }
    assert_eq!(shown["queueInfo"]["position"], 0);
    assert_eq!(shown.get("sentAt"), None);
    // Behind the answer the apps' tables have it as well.
    let [messages, threads, days] = app.stores.shown_items().await?;
    assert_eq!((messages.len(), threads.len(), days.len()), (1, 1, 1));
    assert_eq!(messages[0]["messageId"], shown["messageId"]);
    // And no line says what was written, or to whom.
    let logs = function.logs();
    assert!(!logs.contains("Good morning") && !logs.contains("fan-1"), "{logs}");
    Ok(())
}

#[tokio::test]
async fn a_message_that_has_others_before_it_is_told_its_place_and_when_it_can_go() -> Result<()> {
    let (app, function) = start().await?;
    let mut last = Value::Null;
    for n in 0..11 {
        let sent = function.http(send("ana", &note("acc-ana", &format!("fan-{n}"), "hello"))).await?;
        assert_eq!(sent.body["data"]["queueInfo"]["position"], n, "{}", sent.body);
        last = sent.body;
    }
    // Ten a minute: the eleventh waits for the first to leave the window, whatever else happens.
    let now: Timestamp = text(&last["metadata"]["timestamp"]).parse()?;
    let expected: Timestamp = text(&last["data"]["queueInfo"]["expectedAt"]).parse()?;
    assert_eq!(expected, now + 60.seconds());
    // Nothing was sent, so nobody knows of a limit yet; which limits there are is known.
    let info = &last["data"]["rateLimitInfo"];
    assert_eq!(info["unknown"], true, "{info}");
    assert!(info["layers"].as_array().unwrap().contains(&json!({"name": "account_minute", "limit": 10})), "{info}");

    // What is urgent goes before them, what is scheduled goes when it is due, what is paused goes when somebody says so.
    let mut urgent = note("acc-ana", "fan-20", "hello");
    urgent["priority"] = json!("critical");
    let sent = function.http(send("ana", &urgent)).await?;
    assert_eq!(sent.body["data"]["queueInfo"]["position"], 0, "{}", sent.body);
    let mut scheduled = note("acc-ana", "fan-21", "hello");
    let at = Timestamp::from_second(now.as_second())? + 48.hours();
    scheduled["scheduleFor"] = json!(at);
    let sent = function.http(send("ana", &scheduled)).await?;
    assert_eq!(text(&sent.body["data"]["queueInfo"]["expectedAt"]).parse::<Timestamp>()?, at, "{}", sent.body);
    app.stores.execute("UPDATE orchestrator.accounts SET status = 'paused' WHERE id = 'acc-ana'", &[]).await?;
    let sent = function.http(send("ana", &note("acc-ana", "fan-22", "hello"))).await?;
    let queue = &sent.body["data"]["queueInfo"];
    assert_eq!((&queue["waitsFor"], queue.get("expectedAt")), (&json!("account"), None), "{queue}");
    Ok(())
}

#[tokio::test]
async fn the_same_text_to_the_same_fan_is_one_message_for_ten_minutes() -> Result<()> {
    let (app, function) = start().await?;
    let body = note("acc-ana", "fan-1", "Good morning");
    let first = function.http(send("ana", &body)).await?;
    let again = function.http(send("ana", &body)).await?;
    assert_eq!((again.status, &again.body["data"]["duplicate"]), (202, &json!(true)), "{}", again.body);
    assert_eq!((id_of(&again), again.header("idempotent-replayed")), (id_of(&first), ""));
    for other in [note("acc-ana", "fan-2", "Good morning"), note("acc-ana", "fan-1", "Good evening")] {
        assert_eq!(function.http(send("ana", &other)).await?.body["data"].get("duplicate"), None);
    }
    assert_eq!(count(&app).await?, 3);
    // Time passes.
    let earlier = "UPDATE orchestrator.messages SET created_at = created_at - interval '11 minutes'";
    app.stores.execute(earlier, &[]).await?;
    assert_ne!(id_of(&function.http(send("ana", &body)).await?), id_of(&first));
    Ok(())
}

#[tokio::test]
async fn a_key_is_one_message_and_belongs_to_one_body() -> Result<()> {
    let (app, function) = start().await?;
    let body = note("acc-ana", "fan-1", "Good morning");
    let first = function.http(send("ana", &body).idempotency_key("k1")).await?;
    let again = function.http(send("ana", &body).idempotency_key("k1")).await?;
    assert_eq!((again.status, id_of(&again)), (202, id_of(&first)));
    assert_eq!((&again.body["data"]["duplicate"], again.header("idempotent-replayed")), (&json!(true), "true"));
    let other = function.http(send("ana", &note("acc-ana", "fan-2", "hi")).idempotency_key("k1")).await?;
    assert_eq!(code(&other), (422, "idempotency_mismatch"), "{}", other.body);
    // With a key of its own the same text may be sent again on purpose.
    let on_purpose = function.http(send("ana", &body).idempotency_key("k2")).await?;
    assert_ne!(id_of(&on_purpose), id_of(&first));
    let odd = function.http(send("ana", &body).idempotency_key("two words")).await?;
    assert_eq!((odd.status, faults(&odd.body)), (400, vec!["Idempotency-Key"]));
    assert_eq!(count(&app).await?, 2);
    Ok(())
}

#[tokio::test]
async fn fifty_of_the_same_at_once_are_one_message() -> Result<()> {
    let (app, _) = start().await?;
    let fleet = app.fleet("onlyfans-messages", 8).await?;
    let request = send("ana", &note("acc-ana", "fan-1", "Good morning"));
    let mut ids = HashSet::new();
    for response in fleet.http(vec![request; 50]).await {
        let response = response?;
        assert_eq!(response.status, 202, "{}", response.body);
        ids.insert(id_of(&response));
    }
    assert_eq!((ids.len(), count(&app).await?), (1, json!(1)));
    Ok(())
}

#[tokio::test]
async fn a_full_queue_takes_no_more_and_says_when_to_come_again() -> Result<()> {
    let app = App::start().await?.set("MESSAGE_QUEUE_LIMIT", "2");
    accounts(&app, &[("acc-ana", "ana")]).await?;
    let function = app.function("onlyfans-messages")?;
    let mut ids = Vec::new();
    for fan in ["fan-1", "fan-2"] {
        ids.push(id_of(&function.http(send("ana", &note("acc-ana", fan, "hi"))).await?));
    }
    let full = function.http(send("ana", &note("acc-ana", "fan-3", "hi"))).await?;
    assert_eq!((code(&full), full.header("retry-after")), ((429, "rate_limit_exceeded"), "60"), "{}", full.body);
    assert_eq!([full.header("x-ratelimit-limit"), full.header("x-ratelimit-remaining")], ["2", "0"]);
    assert!(full.header("ratelimit-policy").contains(";q="), "the API's own limit is told as ever");
    // What it has already is no further one.
    let known = function.http(send("ana", &note("acc-ana", "fan-2", "hi"))).await?;
    assert_eq!((known.status, &known.body["data"]["duplicate"]), (202, &json!(true)));
    assert_eq!(function.http(cancel("ana", &ids[0])).await?.status, 200);
    assert_eq!(function.http(send("ana", &note("acc-ana", "fan-3", "hi"))).await?.status, 202);
    Ok(())
}

#[tokio::test]
async fn who_asks_too_often_is_told_so_in_the_old_headers_too() -> Result<()> {
    let app = App::start().await?.set("API_RATE_LIMIT_PER_MINUTE", "1");
    accounts(&app, &[("acc-ana", "ana")]).await?;
    let function = app.function("onlyfans-messages")?;
    assert_eq!(function.http(send("ana", &note("acc-ana", "fan-1", "hi"))).await?.status, 202);
    let refused = function.http(send("ana", &note("acc-ana", "fan-2", "hi"))).await?;
    assert_eq!(code(&refused), (429, "rate_limit_exceeded"), "{}", refused.body);
    assert!(refused.header("ratelimit").contains(";r=0;"));
    assert_eq!([refused.header("x-ratelimit-limit"), refused.header("x-ratelimit-remaining")], ["1", "0"]);
    let wait: i64 = refused.header("retry-after").parse()?;
    let reset: i64 = refused.header("x-ratelimit-reset").parse()?;
    let left = reset - now().as_second();
    assert!((wait - 5..=wait + 1).contains(&left), "{left} s, where {wait} s were told");
    Ok(())
}

#[tokio::test]
async fn a_faulty_message_is_told_every_field_and_kept_nowhere() -> Result<()> {
    let (app, function) = start().await?;
    accounts(&app, &[("acc-bob-2", "bob")]).await?;
    let odd = json!({"accountId": "a b", "content": "x".repeat(1_001), "messageType": "spam", "priority": "now",
        "scheduleFor": "tomorrow", "metadata": [1]});
    let response = function.http(send("ana", &odd)).await?;
    let mut found = faults(&response.body);
    found.sort_unstable();
    let fields = ["/accountId", "/content", "/messageType", "/metadata", "/priority", "/recipientId", "/scheduleFor"];
    assert_eq!((response.status, &found[..]), (400, &fields[..]), "{}", response.body);
    // Bob has two accounts and names none; Carol has none; nobody has that one.
    let mut unnamed = note("", "fan-1", "hi");
    unnamed.as_object_mut().unwrap().remove("accountId");
    let several = function.http(send("bob", &unnamed)).await?;
    assert_eq!((several.status, faults(&several.body)), (400, vec!["/accountId"]), "{}", several.body);
    for request in [send("carol", &unnamed), send("ana", &note("acc-nobody", "fan-1", "hi"))] {
        let response = function.http(request).await?;
        assert_eq!(code(&response), (404, "not_found"), "{}", response.body);
    }
    for (request, pointer) in [
        (one("ana", "a b"), "messageId"),
        (user(Request::get(MESSAGES), "ana").query("status", "lost"), "status"),
        (user(Request::get(MESSAGES), "ana").query("limit", "0"), "limit"),
        (user(Request::get(MESSAGES), "ana").query("cursor", "x"), "cursor"),
        (user(Request::get(MESSAGES), "ana").query("accountId", "a b"), "accountId"),
        (user(Request::delete(MESSAGES), "ana"), "messageId"),
        (decide("ana", "reject", &json!({"reason": "no"})), "/messageId"),
        (decide("ana", "approve", &json!({"messageId": "m", "content": " "})), "/content"),
        (decide("ana", "resend", &json!({"messageId": "m", "reason": ""})), "/reason"),
    ] {
        let response = function.http(request).await?;
        assert_eq!((response.status, faults(&response.body)), (400, vec![pointer]), "{}", response.body);
    }
    assert_eq!(count(&app).await?, 0);
    assert!(app.stores.take_hints().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn design_reading_anothers_messages_is_403() -> Result<()> {
    let (app, function) = start().await?;
    let id = id_of(&function.http(send("ana", &note("acc-ana", "fan-1", "hi"))).await?);
    let mut of_ana = note("acc-ana", "fan-1", "hi");
    of_ana["userId"] = json!("ana");
    for request in [
        send("bob", &note("acc-ana", "fan-1", "hi")),
        send("bob", &of_ana),
        one("bob", &id),
        user(Request::get(MESSAGES), "bob").query("userId", "ana"),
        user(Request::get(MESSAGES), "bob").query("accountId", "acc-ana"),
        cancel("bob", &id),
        decide("bob", "approve", &json!({"messageId": id})),
        decide("bob", "reject", &json!({"messageId": id})),
        decide("bob", "resend", &json!({"messageId": id})),
    ] {
        let response = function.http(request).await?;
        assert_eq!(code(&response), (403, "forbidden"), "{}", response.body);
    }
    assert_eq!(count(&app).await?, 1);

    of_ana["recipientId"] = json!("fan-2");
    let sent = function.http(admin(Request::post(MESSAGES)).json(&of_ana)).await?;
    assert_eq!(sent.status, 202, "{}", sent.body);
    let by = "SELECT user_id, requested_by FROM orchestrator.messages WHERE id = $1";
    assert_eq!(app.stores.row(by, &[&id_of(&sent)]).await?, json!({"user_id": "ana", "requested_by": "root"}));
    for request in [
        admin(Request::get(MESSAGES)).query("userId", "ana"),
        admin(Request::get(MESSAGES)).query("accountId", "acc-ana"),
        user(Request::get(MESSAGES), "ana").query("accountId", "acc-ana"),
    ] {
        let list = function.http(request).await?;
        assert_eq!(list.body["data"]["messages"].as_array().map(Vec::len), Some(2), "{}", list.body);
    }
    let cancelled = function.http(admin(Request::delete(MESSAGES)).query("messageId", &id)).await?;
    assert_eq!((cancelled.status, &cancelled.body["data"]["status"]), (200, &json!("cancelled")));
    let audit = "SELECT actor, action FROM orchestrator.audit_log WHERE subject = $1";
    let kept = app.stores.row(audit, &[&format!("message:{id}")]).await?;
    assert_eq!(kept, json!({"actor": "root", "action": "message.cancel"}));
    Ok(())
}

#[tokio::test]
async fn a_list_goes_from_page_to_page_and_keeps_to_a_state() -> Result<()> {
    let (_app, function) = start().await?;
    let mut sent = Vec::new();
    for n in 0..5 {
        sent.push(id_of(&function.http(send("ana", &note("acc-ana", &format!("fan-{n}"), "hi"))).await?));
    }
    assert_eq!(function.http(cancel("ana", &sent[1])).await?.status, 200);
    sent.reverse();
    let mut found = Vec::new();
    let mut cursor = Value::Null;
    for _ in 0..3 {
        let mut request = user(Request::get(MESSAGES), "ana").query("limit", "2");
        if let Some(cursor) = cursor.as_str() {
            request = request.query("cursor", cursor);
        }
        let mut page = function.http(request).await?.body["data"].take();
        found.extend(page["messages"].as_array().unwrap().iter().map(|one| text(&one["messageId"]).to_owned()));
        cursor = page["nextCursor"].take();
    }
    assert_eq!((found, cursor), (sent.clone(), Value::Null));
    let list = function.http(user(Request::get(MESSAGES), "ana").query("status", "cancelled")).await?.body;
    let ids: Vec<_> = list["data"]["messages"].as_array().unwrap().iter().map(|one| text(&one["messageId"])).collect();
    assert_eq!(ids, [&sent[3]]);
    Ok(())
}

#[tokio::test]
async fn a_message_is_taken_back_until_it_is_being_sent() -> Result<()> {
    let (app, function) = start().await?;
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(id_of(&function.http(send("ana", &note("acc-ana", &format!("fan-{n}"), "hi"))).await?));
    }
    // Again and again: it is done once.
    for _ in 0..2 {
        let cancelled = function.http(cancel("ana", &ids[0])).await?;
        assert_eq!(
            (cancelled.status, &cancelled.body["data"]["status"]),
            (200, &json!("cancelled")),
            "{}",
            cancelled.body
        );
    }
    let decisions = function.http(one("ana", &ids[0])).await?.body["data"]["decisions"].take();
    assert_eq!((decisions.as_array().unwrap().len(), &decisions[0]["decision"]), (1, &json!("cancel")), "{decisions}");
    // A worker has it in hand, but its bytes have not left.
    set(&app, &ids[1], "claimed", ", fence = 1, claimed_until = now() + interval '1 hour'").await?;
    assert_eq!(function.http(cancel("ana", &ids[1])).await?.body["data"]["status"], "cancelled");
    for (id, state) in ids[2..].iter().zip(["sending", "sent", "failed", "unknown"]) {
        set(&app, id, state, "").await?;
        let late = function.http(cancel("ana", id)).await?;
        assert_eq!((code(&late), &late.body["messageStatus"]), ((409, "conflict"), &json!(state)), "{}", late.body);
    }
    let unknown = function.http(cancel("ana", "msg_unknown")).await?;
    assert_eq!(code(&unknown), (404, "not_found"));
    Ok(())
}

#[tokio::test]
async fn of_a_hundred_cancellations_beside_a_claim_one_thing_happens() -> Result<()> {
    let (app, _) = start().await?;
    let fleet = app.fleet("onlyfans-messages", 4).await?;
    for round in 0..5 {
        let sent = fleet.functions()[0].http(send("ana", &note("acc-ana", &format!("fan-{round}"), "hi"))).await?;
        let id = id_of(&sent);
        let claim = "SELECT outcome FROM orchestrator.claim_message('acc-ana', $1, 60000)";
        let (outcome, answers) =
            tokio::join!(app.stores.rows(claim, &[&"me"]), fleet.http(vec![cancel("ana", &id); 8]));
        for answer in answers {
            assert_eq!(answer?.status, 200);
        }
        outcome?;
        // Whoever has claimed it may not begin it any more.
        let begin = "SELECT orchestrator.begin_sending($1, 1, 1::smallint, '{}', 1000, 1000) AS begun";
        assert_eq!(app.stores.row(begin, &[&id]).await?["begun"], "fenced");
        let audit = "SELECT count(*) AS n FROM orchestrator.audit_log WHERE subject = $1";
        assert_eq!(app.stores.row(audit, &[&format!("message:{id}")]).await?["n"], 1);
    }
    Ok(())
}

#[tokio::test]
async fn what_a_person_has_to_approve_waits_and_is_sent_as_they_wrote_it() -> Result<()> {
    let app = App::start().await?.set("HUMAN_APPROVAL", "always");
    accounts(&app, &[("acc-ana", "ana")]).await?;
    let function = app.function("onlyfans-messages")?;
    let mut ids = Vec::new();
    for n in 0..3 {
        let sent = function.http(send("ana", &note("acc-ana", &format!("fan-{n}"), "Good morning"))).await?;
        assert_eq!(sent.body["data"]["status"], "awaiting_approval", "{}", sent.body);
        let queue = &sent.body["data"]["queueInfo"];
        assert_eq!((&queue["waitsFor"], queue.get("expectedAt")), (&json!("approval"), None));
        ids.push(id_of(&sent));
    }
    assert!(app.stores.take_hints().await?.is_empty(), "nothing is due");
    assert_eq!(function.http(one("ana", &ids[0])).await?.body["data"]["needsApproval"], true);

    let edit = json!({"messageId": ids[0], "content": "Good evening", "reason": "it is late"});
    let approved = function.http(decide("ana", "approve", &edit)).await?;
    assert_eq!(approved.status, 200, "{}", approved.body);
    let data = &approved.body["data"];
    assert_eq!((&data["status"], &data["content"]), (&json!("queued"), &json!("Good evening")));
    assert_eq!(app.stores.take_hints().await?.len(), 1);
    let decisions = function.http(one("ana", &ids[0])).await?.body["data"]["decisions"].take();
    let decision = &decisions[0];
    assert_eq!(
        (&decision["decision"], &decision["by"], &decision["reason"]),
        (&json!("approve"), &json!("ana"), &json!("it is late")),
    );
    // Who approves it twice has what they want; other words, or another decision, are too late.
    for same in [&edit, &json!({"messageId": ids[0]})] {
        let again = function.http(decide("ana", "approve", same)).await?;
        assert_eq!((again.status, &again.body["data"]["content"]), (200, &json!("Good evening")), "{}", again.body);
    }
    let others = json!({"messageId": ids[0], "content": "Good night"});
    for (step, body) in [("approve", &others), ("reject", &edit)] {
        assert_eq!(code(&function.http(decide("ana", step, body)).await?), (409, "conflict"), "{step}");
    }
    let audit = "SELECT count(*) AS n FROM orchestrator.audit_log WHERE action = 'message.approve'";
    assert_eq!(app.stores.row(audit, &[]).await?["n"], 1);
    for _ in 0..2 {
        let rejected = function.http(decide("ana", "reject", &json!({"messageId": ids[1], "reason": "rude"}))).await?;
        assert_eq!((rejected.status, &rejected.body["data"]["status"]), (200, &json!("rejected")), "{}", rejected.body);
    }
    assert_eq!(function.http(cancel("ana", &ids[2])).await?.body["data"]["status"], "cancelled");
    // What was rejected may be written again.
    let again = function.http(send("ana", &note("acc-ana", "fan-1", "Good morning"))).await?;
    assert_eq!(again.body["data"].get("duplicate"), None);
    Ok(())
}

#[tokio::test]
async fn design_the_level_is_the_stricter_of_the_requests_and_the_accounts_floor() -> Result<()> {
    let (app, function) = start().await?;
    for (number, (asked, floor, kept)) in [
        (None, "strict", "strict"),
        (Some("relaxed"), "strict", "strict"),
        (Some("relaxed"), "moderate", "moderate"),
        (Some("strict"), "relaxed", "strict"),
        (Some("moderate"), "relaxed", "moderate"),
        (None, "relaxed", "relaxed"),
    ]
    .into_iter()
    .enumerate()
    {
        let set = "UPDATE orchestrator.accounts SET compliance_floor = $1 WHERE id = 'acc-ana'";
        app.stores.execute(set, &[&floor]).await?;
        let mut body = note("acc-ana", &format!("fan-{number}"), "hi");
        body["complianceLevel"] = json!(asked);
        let id = id_of(&function.http(send("ana", &body)).await?);
        let shown = function.http(one("ana", &id)).await?.body;
        assert_eq!(shown["data"]["complianceLevel"], kept, "{asked:?} {floor}");
    }
    Ok(())
}

#[tokio::test]
async fn by_default_a_persons_own_text_waits_for_no_approval_whatever_the_level() -> Result<()> {
    for mode in ["strict", "never"] {
        let app = App::start().await?.set("HUMAN_APPROVAL", mode);
        accounts(&app, &[("acc-ana", "ana")]).await?;
        let mut body = note("acc-ana", "fan-1", "hi");
        body["complianceLevel"] = json!("strict");
        let sent = app.function("onlyfans-messages")?.http(send("ana", &body)).await?;
        assert_eq!(sent.body["data"]["status"], "queued", "{mode}");
    }
    Ok(())
}

#[tokio::test]
async fn a_message_whose_end_nobody_knows_is_sent_again_by_a_person_only() -> Result<()> {
    let (app, function) = start().await?;
    let id = id_of(&function.http(send("ana", &note("acc-ana", "fan-1", "hi"))).await?);
    let again = json!({"messageId": id, "reason": "it is not there"});
    assert_eq!(code(&function.http(decide("ana", "resend", &again)).await?), (409, "conflict"), "it waits");
    set(&app, &id, "unknown", ", look_at = now(), attempts = 1, failure = 'no_answer', settled_at = now()").await?;
    assert_eq!(code(&function.http(decide("ana", "resend", &again)).await?), (409, "conflict"), "it is looked for");
    assert_eq!(function.http(one("ana", &id)).await?.body["data"]["needsDecision"], false);
    set(&app, &id, "unknown", ", look_at = NULL").await?;
    let shown = function.http(one("ana", &id)).await?.body["data"].take();
    assert_eq!((&shown["needsDecision"], &shown["failure"]), (&json!(true), &json!("no_answer")), "{shown}");
    app.stores.take_hints().await?;
    app.stores.execute("UPDATE orchestrator.accounts SET wake_at = NULL", &[]).await?;
    let resent = function.http(decide("ana", "resend", &again)).await?;
    assert_eq!((resent.status, &resent.body["data"]["status"]), (200, &json!("queued")), "{}", resent.body);
    assert_eq!(app.stores.take_hints().await?, [json!({"accountId": "acc-ana"})]);
    // The same request, sent again, is the same decision; another one comes too late.
    assert_eq!(code(&function.http(decide("ana", "resend", &again)).await?), (409, "conflict"));
    Ok(())
}

#[tokio::test]
async fn without_the_limiter_a_message_is_taken_on_and_it_is_said_that_nobody_knows_what_is_left() -> Result<()> {
    let (app, _) = start().await?;
    let away = app.function_with("onlyfans-messages", "REDIS_URL", &format!("redis://{}", closed_port()?))?;
    let sent = away.http(send("ana", &note("acc-ana", "fan-1", "hi"))).await?;
    assert_eq!(sent.status, 202, "{}", sent.body);
    let info = &sent.body["data"]["rateLimitInfo"];
    // The contract's members are there, as if nothing had been sent, and it is said that nobody knows.
    let shown = (&info["unknown"], &info["remaining"], &info["throttled"]);
    assert_eq!(shown, (&json!(true), &json!(2), &json!(false)), "{info}");
    assert_eq!(sent.header("x-ratelimit-limit"), "");
    Ok(())
}

#[tokio::test]
async fn the_message_that_was_sent_counts_in_what_is_left() -> Result<()> {
    let (app, function) = start().await?;
    sign_in(&app).await?;
    let first = id_of(&function.http(send("ana", &note("acc-ana", "fan-1", "hi"))).await?);
    work(&app).await?;
    // One hint brought it; behind it nothing is due, and nobody is woken.
    assert_eq!(app.stores.take_hints().await?.len(), 1);
    let shown = function.http(one("ana", &first)).await?.body["data"].take();
    assert_eq!((&shown["status"], &shown["attempts"]), (&json!("sent"), &json!(1)), "{shown}");
    assert!(shown["sentAt"].is_string() && shown["platformMessageId"].is_string() && shown.get("queueInfo").is_none());
    assert_eq!((&shown["history"][0]["outcome"], &shown["history"][0]["attempt"]), (&json!("sent"), &json!(1)));
    let next = function.http(send("ana", &note("acc-ana", "fan-1", "hello again"))).await?;
    let info = &next.body["data"]["rateLimitInfo"];
    assert_eq!((&info["tightest"], &info["remaining"]), (&json!("recipient_minute"), &json!(1)), "{info}");
    assert_eq!((next.header("x-ratelimit-limit"), next.header("x-ratelimit-remaining")), ("10", "9"));
    assert!(next.header("x-ratelimit-reset").parse::<i64>().is_ok_and(|at| at > 1_700_000_000));
    Ok(())
}

/// Gives Ana's account a session with the platform.
async fn sign_in(app: &App) -> Result<()> {
    let session = app.world.onlyfans_session("acc-ana");
    let body = json!({"accountId": "acc-ana", "session": {"cookie": session.cookie}});
    let kept = app
        .function("onlyfans-accounts")?
        .http(user(Request::post(crate::support::ACCOUNTS), "ana").json(&body))
        .await?;
    ensure!(kept.status == 200, "{}", kept.body);
    Ok(())
}

/// Has the sender do what is due of Ana's account.
async fn work(app: &App) -> Result<()> {
    let hint = huntaze_tests::post::batch_of(r#"{"accountId": "acc-ana"}"#, 1);
    let again = huntaze_tests::post::consume(&app.function("message-sender")?, &hint).await?;
    ensure!(again == Some(Vec::new()), "{again:?}");
    Ok(())
}
