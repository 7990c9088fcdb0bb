//! Dead letters: kept once, shown to administrators with why, and tried anew once.

use anyhow::{Result, ensure};
use huntaze_tests::post::{batch, consume};
use huntaze_tests::{App, Request};
use serde_json::{Value, json};

use crate::support::{DEAD_LETTERS, MESSAGES, accounts, admin, faults, note, text, user};

const LETTER: &str = "message:{id}#4";

/// An app with a message that was given up, and the id of its letter.
async fn given_up() -> Result<(App, String, String)> {
    let app = App::start().await?;
    accounts(&app, &[("acc-ana", "ana")]).await?;
    let sent = app.function("onlyfans-messages")?;
    let sent = sent.http(user(Request::post(MESSAGES), "ana").json(&note("acc-ana", "fan-1", "hi"))).await?;
    let id = text(&sent.body["data"]["messageId"]).to_owned();
    let failed = "UPDATE orchestrator.messages SET status = 'failed', dead_lettered = true, failure = 'no_connection', fence = 4,
        settled_at = now(), retries_left = 0 WHERE id = $1";
    ensure!(app.stores.execute(failed, &[&id]).await? == 1);
    app.stores.execute("UPDATE orchestrator.accounts SET wake_at = NULL", &[]).await?;
    app.stores.take_hints().await?;
    let letter = LETTER.replace("{id}", &id);
    let body =
        json!({"letterId": letter, "messageId": id, "accountId": "acc-ana", "reason": "no_connection"}).to_string();
    let dlq = app.function("message-dlq")?;
    // It may come twice, and beside what cannot be read.
    for records in [vec![("r1", body.as_str()), ("r2", "nonsense")], vec![("r3", body.as_str())]] {
        ensure!(consume(&dlq, &batch(records, 1)).await? == Some(Vec::new()), "{}", dlq.logs());
    }
    Ok((app, id, letter))
}

fn redrive(id: &str) -> Request {
    let body = json!({"id": id, "reason": "the platform is back"});
    admin(Request::post(&format!("{DEAD_LETTERS}/redrive"))).json(&body)
}

fn letters(body: &Value) -> Vec<(&str, &str)> {
    let list = body["data"]["deadLetters"].as_array().unwrap();
    let mut letters: Vec<_> = list.iter().map(|one| (text(&one["kind"]), text(&one["status"]))).collect();
    letters.sort_unstable();
    letters
}

#[tokio::test]
async fn a_letter_is_kept_once_and_shown_with_why() -> Result<()> {
    let (app, id, letter) = given_up().await?;
    let function = app.function("dead-letters")?;
    let list = function.http(admin(Request::get(DEAD_LETTERS))).await?;
    assert_eq!((list.status, letters(&list.body)), (200, vec![("hint", "open"), ("message", "open")]), "{}", list.body);
    let shown =
        list.body["data"]["deadLetters"].as_array().unwrap().iter().find(|one| one["kind"] == "message").unwrap();
    for (name, value) in [
        ("id", letter.as_str()),
        ("messageId", &id),
        ("accountId", "acc-ana"),
        ("reason", "no_connection"),
        ("messageStatus", "failed"),
    ] {
        assert_eq!(shown[name], value, "{name}");
    }
    assert!(text(&shown["receivedAt"]).ends_with('Z'), "{shown}");
    let page = function.http(admin(Request::get(DEAD_LETTERS)).query("limit", "1")).await?.body;
    let cursor = text(&page["data"]["nextCursor"]);
    let rest = function.http(admin(Request::get(DEAD_LETTERS)).query("cursor", cursor)).await?.body;
    assert_eq!((letters(&page).len(), letters(&rest).len(), &rest["data"]["nextCursor"]), (1, 1, &Value::Null));
    // The operators are told of each.
    let told = app.stores.take_notifications().await?;
    assert!(told.iter().all(|one| one["kind"] == "dead_letter" && one["audience"] == "operators"), "{told:?}");
    Ok(())
}

#[tokio::test]
async fn a_letter_is_tried_anew_once_however_often_it_is_asked_for() -> Result<()> {
    let (app, id, letter) = given_up().await?;
    let fleet = app.fleet("dead-letters", 4).await?;
    for answer in fleet.http(vec![redrive(&letter); 8]).await {
        let answer = answer?;
        assert_eq!((answer.status, &answer.body["data"]["status"]), (200, &json!("redriven")), "{}", answer.body);
    }
    let state = "SELECT status, retries_left, dead_lettered FROM orchestrator.messages WHERE id = $1";
    let row = app.stores.row(state, &[&id]).await?;
    assert_eq!(row, json!({"status": "queued", "retries_left": 3, "dead_lettered": false}));
    assert_eq!(app.stores.take_hints().await?, [json!({"accountId": "acc-ana"})]);
    let audit = "SELECT count(*) AS n FROM orchestrator.audit_log WHERE action = 'message.redrive' AND actor = 'root'";
    assert_eq!(app.stores.row(audit, &[]).await?["n"], 1);
    let function = &fleet.functions()[0];
    let list = async |status| function.http(admin(Request::get(DEAD_LETTERS)).query("status", status)).await;
    assert_eq!(letters(&list("open").await?.body), [("hint", "open")]);
    assert_eq!(letters(&list("redriven").await?.body), [("message", "redriven")]);
    Ok(())
}

#[tokio::test]
async fn a_letter_whose_message_is_not_given_up_any_more_is_a_conflict() -> Result<()> {
    let (app, id, letter) = given_up().await?;
    let sent = "UPDATE orchestrator.messages SET status = 'sent', dead_lettered = false WHERE id = $1";
    app.stores.execute(sent, &[&id]).await?;
    let function = app.function("dead-letters")?;
    let late = function.http(redrive(&letter)).await?;
    assert_eq!((late.status, text(&late.body["code"])), (409, "conflict"), "{}", late.body);
    let unknown = function.http(redrive("message:nothing#1")).await?;
    assert_eq!((unknown.status, text(&unknown.body["code"])), (404, "not_found"));
    Ok(())
}

#[tokio::test]
async fn dead_letters_are_for_administrators_and_faults_are_named() -> Result<()> {
    let app = App::start().await?;
    let function = app.function("dead-letters")?;
    for request in [
        Request::get(DEAD_LETTERS),
        Request::post(&format!("{DEAD_LETTERS}/redrive")).json(&json!({"id": "message:x#1"})),
    ] {
        let refused = function.http(user(request, "ana")).await?;
        assert_eq!((refused.status, text(&refused.body["code"])), (403, "forbidden"));
    }
    for (request, pointer) in [
        (Request::get(DEAD_LETTERS).query("status", "lost"), "status"),
        (Request::get(DEAD_LETTERS).query("limit", "101"), "limit"),
        (Request::post(&format!("{DEAD_LETTERS}/redrive")).json(&json!({"id": ""})), "/id"),
        (Request::post(&format!("{DEAD_LETTERS}/redrive")).json(&json!({"id": "x", "reason": " "})), "/reason"),
    ] {
        let response = function.http(admin(request)).await?;
        assert_eq!((response.status, faults(&response.body)), (400, vec![pointer]), "{}", response.body);
    }
    Ok(())
}
