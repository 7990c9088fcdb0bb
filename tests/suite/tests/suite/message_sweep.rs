//! What nobody hinted at is hinted at by the sweep, and what is shown of messages is completed by it.

use std::time::Duration;

use anyhow::{Result, ensure};
use huntaze_tests::{App, Function, Request};
use serde_json::{Value, json};

use crate::support::{MESSAGES, accounts, note, text, user};

const DEADLINE: Duration = Duration::from_secs(30);

async fn start() -> Result<(App, Function, Function)> {
    let app = App::start().await?.set("MESSAGE_SWEEP_GRACE_MS", "1");
    accounts(&app, &[("acc-ana", "ana"), ("acc-bob", "bob")]).await?;
    let (messages, sweeper) = (app.function("onlyfans-messages")?, app.function("message-sweeper")?);
    Ok((app, messages, sweeper))
}

async fn accept(app: &App, messages: &Function, who: &str) -> Result<String> {
    let body = note(&format!("acc-{who}"), "fan-1", "good morning");
    let response = messages.http(user(Request::post(MESSAGES), who).json(&body)).await?;
    ensure!(response.status == 202, "{}", response.body);
    // The hint that came with it is lost.
    ensure!(app.stores.take_hints().await?.len() == 1, "no hint");
    Ok(text(&response.body["data"]["messageId"]).to_owned())
}

async fn swept(sweeper: &Function) -> Result<Value> {
    Ok(sweeper.invoke(&json!({}), DEADLINE).await?)
}

/// A minute passes.
async fn a_minute_later(app: &App) -> Result<()> {
    app.stores.execute("UPDATE orchestrator.accounts SET wake_at = wake_at - interval '61 seconds'", &[]).await?;
    Ok(())
}

#[tokio::test]
async fn design_the_sweeper_wakes_what_is_overdue() -> Result<()> {
    let (app, messages, sweeper) = start().await?;
    accept(&app, &messages, "ana").await?;
    assert_eq!(swept(&sweeper).await?["woken"], 0, "one is under way");
    a_minute_later(&app).await?;
    assert_eq!(swept(&sweeper).await?["woken"], 1);
    assert_eq!(swept(&sweeper).await?["woken"], 0);
    assert_eq!(app.stores.take_hints().await?, [json!({"accountId": "acc-ana"})]);
    Ok(())
}

#[tokio::test]
async fn design_waits_beyond_the_queues_15_minutes_are_the_sweepers() -> Result<()> {
    let (app, messages, sweeper) = start().await?;
    let mut body = note("acc-ana", "fan-1", "good morning");
    body["scheduleFor"] = json!(huntaze_tests::now().saturating_add(Duration::from_secs(3_600))?);
    let response = messages.http(user(Request::post(MESSAGES), "ana").json(&body)).await?;
    assert_eq!(response.status, 202, "{}", response.body);
    assert!(app.stores.take_hints().await?.is_empty());
    assert_eq!(swept(&sweeper).await?["woken"], 0);
    app.stores.execute("UPDATE orchestrator.messages SET not_before = now()", &[]).await?;
    assert_eq!(swept(&sweeper).await?["woken"], 1);
    Ok(())
}

#[tokio::test]
async fn a_lease_that_ran_out_and_a_look_that_is_due_are_hinted_at_and_what_waits_or_is_paused_is_not() -> Result<()> {
    let (app, messages, sweeper) = start().await?;
    let (ana, bob) = (accept(&app, &messages, "ana").await?, accept(&app, &messages, "bob").await?);
    app.stores.execute("UPDATE orchestrator.accounts SET wake_at = NULL", &[]).await?;
    let set = async |id: &str, sql: &str| {
        app.stores.execute(&format!("UPDATE orchestrator.messages SET {sql} WHERE id = $1"), &[&id]).await
    };
    set(&ana, "status = 'claimed', claimed_until = now() + interval '1 minute'").await?;
    set(&bob, "status = 'unknown', look_at = now() + interval '1 minute'").await?;
    assert_eq!(swept(&sweeper).await?["woken"], 0);
    set(&ana, "claimed_until = now()").await?;
    set(&bob, "look_at = now()").await?;
    let rests = "UPDATE orchestrator.accounts SET resume_at = now() + interval '1 minute' WHERE id = 'acc-bob'";
    app.stores.execute(rests, &[]).await?;
    assert_eq!(swept(&sweeper).await?["woken"], 1, "a platform that wants to be left alone is not looked at either");
    app.stores.execute("UPDATE orchestrator.accounts SET wake_at = NULL, resume_at = NULL", &[]).await?;
    assert_eq!(swept(&sweeper).await?["woken"], 2);

    a_minute_later(&app).await?;
    set(&ana, "status = 'queued', claimed_until = NULL").await?;
    set(&bob, "status = 'queued', look_at = NULL").await?;
    let waits = "UPDATE orchestrator.accounts SET resume_at = now() + interval '1 minute' WHERE id = 'acc-ana'";
    app.stores.execute(waits, &[]).await?;
    app.stores.execute("UPDATE orchestrator.accounts SET status = 'paused' WHERE id = 'acc-bob'", &[]).await?;
    assert_eq!(swept(&sweeper).await?["woken"], 0);
    Ok(())
}

#[tokio::test]
async fn what_is_shown_is_what_the_rows_say_whoever_wrote_it_last() -> Result<()> {
    let (app, messages, sweeper) = start().await?;
    let id = accept(&app, &messages, "ana").await?;
    app.stores
        .execute("UPDATE orchestrator.messages SET status = 'sent', platform_id = '77', settled_at = now()", &[])
        .await?;
    assert_eq!(swept(&sweeper).await?, json!({"woken": 0, "shown": 1, "failed": 0, "told": 0}));
    let [shown, threads, days] = app.stores.shown_items().await?;
    assert_eq!((shown.len(), threads.len(), days.len()), (1, 1, 1));
    assert_eq!(
        (&shown[0]["messageId"], &shown[0]["status"], &shown[0]["platformId"]),
        (&json!(id), &json!("sent"), &json!("77"))
    );
    assert_eq!((&threads[0]["lastMessageId"], &threads[0]["sent"]), (&json!(id), &json!("1")));
    assert_eq!((&days[0]["accountId"], &days[0]["messages"]), (&json!("acc-ana"), &json!("1")));
    assert_eq!(swept(&sweeper).await?["shown"], 0);
    let unseen = "UPDATE orchestrator.messages SET not_before = now() + interval '1 minute', throttled = throttled + 1";
    app.stores.execute(unseen, &[]).await?;
    assert_eq!(swept(&sweeper).await?["shown"], 0, "what is not shown is not written again");
    Ok(())
}
