//! The sender as a function behind its queue: what it does with each end of a call, in which order, and what it never does.

use std::time::Duration;

use anyhow::{Result, ensure};
use huntaze_domain::ids::AccountId;
use huntaze_messaging::hint;
use huntaze_tests::post::{batch_of, consume};
use huntaze_tests::{App, Function, Request, now};
use huntaze_world::{Author, Fault, Operation, Provider};
use serde_json::{Value, json};

use crate::support::{MESSAGES, accounts, closed_port, note, sessions, signed, text, user};

const ACCOUNT: &str = "acc-ana";

/// Ana's account with a good session, where people's messages are taken on, and the sender.
async fn start(app: App) -> Result<(App, Function, Function)> {
    accounts(&app, &[(ACCOUNT, "ana")]).await?;
    sessions(&app).store(ACCOUNT, &signed(&app.world, ACCOUNT), now()).await?;
    let (messages, sender) = (app.function("onlyfans-messages")?, app.function("message-sender")?);
    Ok((app, messages, sender))
}

async fn accept(messages: &Function, body: &Value) -> Result<String> {
    let response = messages.http(user(Request::post(MESSAGES), "ana").json(body)).await?;
    ensure!(response.status == 202, "{}", response.body);
    Ok(text(&response.body["data"]["messageId"]).to_owned())
}

/// A hint comes; what is left of it.
async fn hinted(sender: &Function, account: &str) -> Result<Option<Vec<String>>> {
    consume(sender, &batch_of(&hint::body(&AccountId::parse(account)?), 1)).await
}

async fn row(app: &App, id: &str) -> Result<Value> {
    app.stores.row("SELECT * FROM orchestrator.messages WHERE id = $1", &[&id]).await
}

async fn status(app: &App, id: &str) -> Result<String> {
    Ok(text(&row(app, id).await?["status"]).to_owned())
}

/// Whatever waits is due.
async fn time_passes(app: &App) -> Result<()> {
    let due = "UPDATE orchestrator.messages SET not_before = least(not_before, now()), look_at = least(look_at, now())";
    app.stores.execute(due, &[]).await?;
    app.stores.execute("UPDATE orchestrator.accounts SET resume_at = NULL, limited_until = NULL", &[]).await?;
    Ok(())
}

fn texts(app: &App) -> Vec<String> {
    app.world.fan_messages().into_iter().map(|message| message.text).collect()
}

#[tokio::test]
async fn design_priority_is_chosen_at_the_claim() -> Result<()> {
    let (app, messages, sender) = start(App::start().await?).await?;
    let mut ids = Vec::new();
    for (fan, kind) in [("fan-1", "promotional"), ("fan-2", "follow_up"), ("fan-3", "welcome"), ("fan-4", "custom")] {
        let mut body = note(ACCOUNT, fan, kind);
        body["messageType"] = json!(kind);
        ids.push(accept(&messages, &body).await?);
    }
    let mut urgent = note(ACCOUNT, "fan-5", "urgent");
    urgent["priority"] = json!("critical");
    ids.push(accept(&messages, &urgent).await?);
    // The limit of everyone together is 5 a second, and a call counts for a second behind its end.
    assert_eq!(hinted(&sender, ACCOUNT).await?, Some(Vec::new()));
    assert_eq!(texts(&app), ["urgent", "welcome", "follow_up", "custom", "promotional"]);
    for id in &ids {
        let row = row(&app, id).await?;
        assert_eq!(
            (&row["status"], &row["attempts"], row["version"].clone()),
            (&json!("sent"), &json!(1), row["projected"].clone())
        );
    }
    let shown = messages.http(user(Request::get(MESSAGES), "ana").query("messageId", &ids[0])).await?;
    assert_eq!(shown.body["data"]["status"], "sent");
    Ok(())
}

#[tokio::test]
async fn waiting_is_worth_priority_so_that_nothing_is_starved() -> Result<()> {
    let (app, messages, sender) = start(App::start().await?).await?;
    let mut old = note(ACCOUNT, "fan-1", "low and old");
    old["priority"] = json!("low");
    let old = accept(&messages, &old).await?;
    let hours = "UPDATE orchestrator.messages SET rank_at = rank_at - interval '12 hours 1 second' WHERE id = $1";
    app.stores.execute(hours, &[&old]).await?;
    let mut new = note(ACCOUNT, "fan-2", "critical and new");
    new["priority"] = json!("critical");
    accept(&messages, &new).await?;
    hinted(&sender, ACCOUNT).await?;
    assert_eq!(texts(&app), ["low and old", "critical and new"]);
    Ok(())
}

#[tokio::test]
async fn the_11th_of_a_minute_waits_and_its_time_is_on_the_queue() -> Result<()> {
    let app = App::start().await?.set("RATE_LIMIT_GLOBAL_PER_SECOND", "100").set("RATE_LIMIT_CUSTOM_PER_MINUTE", "100");
    let (app, messages, sender) = start(app).await?;
    for number in 0..11 {
        accept(&messages, &note(ACCOUNT, &format!("fan-{number}"), "hello")).await?;
    }
    app.stores.take_hints().await?;
    assert_eq!(hinted(&sender, ACCOUNT).await?, Some(Vec::new()), "the hint is done: its receive count is not burnt");
    assert_eq!(app.world.fan_messages().len(), 10);
    let account = app
        .stores
        .row(
            "SELECT limited_until > now() + interval '30 seconds' AS later, wake_at >= limited_until AS woken
        FROM orchestrator.accounts",
            &[],
        )
        .await?;
    assert_eq!(account, json!({"later": true, "woken": true}));
    let denied = app.stores.row("SELECT layer, denials FROM orchestrator.limiter_denials", &[]).await?;
    assert_eq!(denied, json!({"layer": "account_minute", "denials": 1}));
    // A hint that comes too early does nothing.
    hinted(&sender, ACCOUNT).await?;
    assert_eq!(app.world.fan_messages().len(), 10);
    Ok(())
}

#[tokio::test]
async fn a_fan_who_has_enough_holds_up_no_other() -> Result<()> {
    let (app, messages, sender) = start(App::start().await?).await?;
    for (fan, words) in [("fan-1", "one"), ("fan-1", "two"), ("fan-1", "three"), ("fan-2", "four")] {
        accept(&messages, &note(ACCOUNT, fan, words)).await?;
    }
    hinted(&sender, ACCOUNT).await?;
    assert_eq!(texts(&app), ["one", "two", "four"]);
    Ok(())
}

#[tokio::test]
async fn design_the_limiter_down_means_later_not_unlimited() -> Result<()> {
    let (app, messages, _) = start(App::start().await?).await?;
    let id = accept(&messages, &note(ACCOUNT, "fan-1", "hello")).await?;
    let blind =
        app.function_with("message-sender", "REDIS_URL", &format!("redis://{}", crate::support::closed_port()?))?;
    assert_eq!(hinted(&blind, ACCOUNT).await?, Some(Vec::new()));
    assert_eq!((status(&app, &id).await?.as_str(), texts(&app).len()), ("queued", 0));
    time_passes(&app).await?;
    hinted(&app.function("message-sender")?, ACCOUNT).await?;
    assert_eq!((status(&app, &id).await?.as_str(), texts(&app).len()), ("sent", 1));
    Ok(())
}

#[tokio::test]
async fn a_definite_failure_is_tried_again_and_then_given_up_with_its_reason() -> Result<()> {
    // Each attempt counts: the fan's own limit would hold up the third.
    let app = App::start().await?.set("RATE_LIMIT_RECIPIENT_PER_MINUTE", "10");
    let (app, messages, _) = start(app).await?;
    let id = accept(&messages, &note(ACCOUNT, "fan-1", "hello")).await?;
    let away = format!("http://{}/api2/v2", crate::support::closed_port()?);
    let sender = app.function_with("message-sender", "ONLYFANS_API_URL", &away)?;
    for attempt in 1..=4 {
        hinted(&sender, ACCOUNT).await?;
        let row = row(&app, &id).await?;
        let expected = if attempt < 4 { "queued" } else { "failed" };
        assert_eq!((&row["status"], &row["attempts"]), (&json!(expected), &json!(attempt)), "{row}");
        time_passes(&app).await?;
    }
    assert_eq!(row(&app, &id).await?["failure"], "no connection");
    let letter = app.stores.row("SELECT kind, message_id, status FROM orchestrator.dead_letters", &[]).await?;
    assert_eq!(letter, json!({"kind": "message", "message_id": id, "status": "open"}));
    let told = app.stores.take_notifications().await?;
    assert_eq!(told.iter().map(|told| text(&told["kind"])).collect::<Vec<_>>(), ["message_given_up"]);
    assert!(app.world.fan_messages().is_empty());
    Ok(())
}

#[tokio::test]
async fn design_an_ambiguous_end_is_looked_for_and_never_blindly_sent_again() -> Result<()> {
    let (app, messages, sender) = start(App::start().await?).await?;
    app.world.fault(Fault::Reset.after_accepting().on(Provider::OnlyFans));
    let arrived = accept(&messages, &note(ACCOUNT, "fan-1", "did it arrive")).await?;
    hinted(&sender, ACCOUNT).await?;
    assert_eq!(status(&app, &arrived).await?, "unknown");
    time_passes(&app).await?;
    hinted(&sender, ACCOUNT).await?;
    let found = row(&app, &arrived).await?;
    assert_eq!((&found["status"], found["platform_id"].is_string()), (&json!("sent"), true));

    app.world.fault(Fault::status(503).on(Provider::OnlyFans));
    let lost = accept(&messages, &note(ACCOUNT, "fan-2", "it did not")).await?;
    hinted(&sender, ACCOUNT).await?;
    for looks in 1..=3 {
        time_passes(&app).await?;
        hinted(&sender, ACCOUNT).await?;
        assert_eq!(row(&app, &lost).await?["looks"], looks);
    }
    let row = row(&app, &lost).await?;
    assert_eq!((&row["status"], &row["look_at"]), (&json!("unknown"), &Value::Null));
    let told = app.stores.take_notifications().await?;
    assert_eq!(told.iter().map(|told| text(&told["kind"])).collect::<Vec<_>>(), ["message_unknown"]);
    assert!(!told[0].to_string().contains("it did not") && !told[0].to_string().contains("fan-2"));
    for _ in 0..2 {
        time_passes(&app).await?;
        hinted(&sender, ACCOUNT).await?;
    }
    assert_eq!(texts(&app), ["did it arrive"]);
    // A person decides that it is sent again.
    let again = user(Request::post(&format!("{MESSAGES}/resend")), "ana").json(&json!({"messageId": lost}));
    assert_eq!(messages.http(again).await?.status, 200);
    hinted(&sender, ACCOUNT).await?;
    assert_eq!(texts(&app), ["did it arrive", "it did not"]);
    Ok(())
}

#[tokio::test]
async fn a_session_that_is_refused_is_read_again_once_and_then_pauses_its_account() -> Result<()> {
    let (app, messages, sender) = start(App::start().await?).await?;
    app.world.expire_onlyfans_session(ACCOUNT);
    let (first, second) = (note(ACCOUNT, "fan-1", "one"), note(ACCOUNT, "fan-2", "two"));
    let (first, second) = (accept(&messages, &first).await?, accept(&messages, &second).await?);
    hinted(&sender, ACCOUNT).await?;
    let account = app.stores.row("SELECT status, paused_reason FROM orchestrator.accounts", &[]).await?;
    assert_eq!(account, json!({"status": "paused", "paused_reason": "session_refused"}));
    assert_eq!(
        (row(&app, &first).await?["attempts"].clone(), status(&app, &first).await?.as_str()),
        (json!(2), "failed")
    );
    assert_eq!(status(&app, &second).await?, "queued");
    let told = app.stores.take_notifications().await?;
    assert_eq!(told.iter().map(|told| text(&told["kind"])).collect::<Vec<_>>(), ["account_paused"]);
    time_passes(&app).await?;
    hinted(&sender, ACCOUNT).await?;
    assert_eq!(app.world.onlyfans_calls(Operation::Message).len(), 2, "a paused account calls nobody");
    Ok(())
}

#[tokio::test]
async fn an_account_without_a_session_is_paused_and_its_messages_are_kept() -> Result<()> {
    let app = App::start().await?;
    accounts(&app, &[(ACCOUNT, "ana")]).await?;
    let (messages, sender) = (app.function("onlyfans-messages")?, app.function("message-sender")?);
    let id = accept(&messages, &note(ACCOUNT, "fan-1", "hello")).await?;
    hinted(&sender, ACCOUNT).await?;
    let account = app.stores.row("SELECT status, paused_reason FROM orchestrator.accounts", &[]).await?;
    assert_eq!(account, json!({"status": "paused", "paused_reason": "no_session"}));
    assert_eq!(row(&app, &id).await?["status"], "queued");
    Ok(())
}

#[tokio::test]
async fn what_the_platform_says_of_its_pace_is_kept_and_counts_as_no_retry() -> Result<()> {
    let (app, messages, sender) = start(App::start().await?).await?;
    app.world.fault(Fault::rate_limited(120).on(Provider::OnlyFans));
    let id = accept(&messages, &note(ACCOUNT, "fan-1", "hello")).await?;
    hinted(&sender, ACCOUNT).await?;
    let row = row(&app, &id).await?;
    assert_eq!((&row["status"], &row["retries_left"]), (&json!("queued"), &json!(3)));
    let waits = "SELECT resume_at BETWEEN now() + interval '100 seconds' AND now() + interval '120 seconds' AS waits FROM orchestrator.accounts";
    assert_eq!(app.stores.row(waits, &[]).await?["waits"], true);
    Ok(())
}

#[tokio::test]
async fn a_look_that_comes_too_often_is_made_again_when_the_platform_says() -> Result<()> {
    let (app, messages, sender) = start(App::start().await?).await?;
    app.world.fault(Fault::Reset.after_accepting().on(Provider::OnlyFans));
    let id = accept(&messages, &note(ACCOUNT, "fan-1", "hello")).await?;
    hinted(&sender, ACCOUNT).await?;
    app.world.fault(Fault::rate_limited(600).on(Provider::OnlyFans).of(Operation::Conversation));
    time_passes(&app).await?;
    hinted(&sender, ACCOUNT).await?;
    let look = "SELECT blind_looks, look_at > now() + interval '500 seconds' AS later FROM orchestrator.messages";
    assert_eq!(app.stores.row(look, &[]).await?, json!({"blind_looks": 1, "later": true}));
    time_passes(&app).await?;
    hinted(&sender, ACCOUNT).await?;
    assert_eq!(status(&app, &id).await?, "sent");
    Ok(())
}

#[tokio::test]
async fn refusals_fail_their_message_and_several_of_an_account_pause_it() -> Result<()> {
    let (app, messages, sender) = start(App::start().await?).await?;
    app.world.fault(Fault::status(422).on(Provider::OnlyFans));
    let refused = accept(&messages, &note(ACCOUNT, "fan-0", "refused")).await?;
    hinted(&sender, ACCOUNT).await?;
    assert_eq!(status(&app, &refused).await?, "failed");
    app.world.fault(Fault::status(403).on(Provider::OnlyFans).times(3));
    for number in 1..=4 {
        accept(&messages, &note(ACCOUNT, &format!("fan-{number}"), "forbidden")).await?;
    }
    hinted(&sender, ACCOUNT).await?;
    let account = app.stores.row("SELECT status, paused_reason FROM orchestrator.accounts", &[]).await?;
    assert_eq!(account, json!({"status": "paused", "paused_reason": "forbidden"}));
    let left = app.stores.row("SELECT count(*) AS n FROM orchestrator.messages WHERE status = 'queued'", &[]).await?;
    assert_eq!((left["n"].clone(), app.world.fan_messages().len()), (json!(1), 0));
    Ok(())
}

#[tokio::test]
async fn a_platform_that_is_not_well_is_left_alone_for_a_while() -> Result<()> {
    let (app, messages, sender) = start(App::start().await?.set("RATE_LIMIT_GLOBAL_PER_SECOND", "100")).await?;
    app.world.fault(Fault::status(503).on(Provider::OnlyFans).always());
    for number in 0..7 {
        accept(&messages, &note(ACCOUNT, &format!("fan-{number}"), "hello")).await?;
    }
    hinted(&sender, ACCOUNT).await?;
    assert_eq!(app.world.onlyfans_calls(Operation::Message).len(), 5);
    let account = app
        .stores
        .row("SELECT failures, resume_at > now() + interval '20 seconds' AS open FROM orchestrator.accounts", &[]);
    assert_eq!(account.await?, json!({"failures": 5, "open": true}));
    Ok(())
}

#[tokio::test]
async fn somebody_elses_message_of_the_same_words_is_not_taken_for_ours() -> Result<()> {
    let (app, messages, sender) = start(App::start().await?).await?;
    app.world.fault(Fault::status(503).on(Provider::OnlyFans));
    let id = accept(&messages, &note(ACCOUNT, "fan-1", "good morning")).await?;
    hinted(&sender, ACCOUNT).await?;
    app.world.write_to_conversation(ACCOUNT, "fan-1", Author::Fan, "good morning", now());
    time_passes(&app).await?;
    hinted(&sender, ACCOUNT).await?;
    assert_eq!(status(&app, &id).await?, "unknown");
    Ok(())
}

#[tokio::test]
async fn no_text_fan_or_session_is_in_the_log() -> Result<()> {
    let (app, messages, sender) = start(App::start().await?).await?;
    app.world.fault(Fault::status(422).on(Provider::OnlyFans));
    accept(&messages, &note(ACCOUNT, "fan-with-a-name", "words of love")).await?;
    accept(&messages, &note(ACCOUNT, "fan-with-a-name", "more words of love")).await?;
    hinted(&sender, ACCOUNT).await?;
    assert_eq!(app.world.fan_messages().len(), 1);
    for log in [messages.logs().to_string(), sender.logs().to_string()] {
        for secret in ["words of love", "fan-with-a-name", "sess=world", "0123456789abcdef"] {
            assert!(!log.contains(secret), "{secret}: {log}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn who_has_written_to_enough_fans_goes_on_with_those_and_asks_for_one_other_only() -> Result<()> {
    let app = App::start().await?.set("RATE_LIMIT_RECIPIENTS_PER_HOUR", "1");
    let (app, messages, sender) = start(app).await?;
    let mut ids = Vec::new();
    for (fan, words) in [("fan-1", "one"), ("fan-2", "two"), ("fan-3", "three"), ("fan-1", "four")] {
        ids.push(accept(&messages, &note(ACCOUNT, fan, words)).await?);
    }
    hinted(&sender, ACCOUNT).await?;
    assert_eq!(texts(&app), ["one", "four"]);
    let waits = "SELECT throttled, not_before > now() + interval '50 minutes' AS waits FROM orchestrator.messages WHERE id = $1";
    for (id, throttled) in ids[1..3].iter().zip([1, 0]) {
        assert_eq!(app.stores.row(waits, &[id]).await?, json!({"throttled": throttled, "waits": true}));
    }
    Ok(())
}

#[tokio::test]
async fn whom_the_platform_holds_up_gets_into_line_anew() -> Result<()> {
    let (app, messages, sender) = start(App::start().await?).await?;
    app.world.fault(Fault::rate_limited(60).on(Provider::OnlyFans));
    for (fan, words) in [("fan-1", "one"), ("fan-2", "two")] {
        accept(&messages, &note(ACCOUNT, fan, words)).await?;
    }
    hinted(&sender, ACCOUNT).await?;
    time_passes(&app).await?;
    hinted(&sender, ACCOUNT).await?;
    assert_eq!(texts(&app), ["two", "one"]);
    Ok(())
}

#[tokio::test]
async fn what_may_have_arrived_once_is_never_said_not_to_have() -> Result<()> {
    let (app, messages, sender) = start(App::start().await?.set("MESSAGE_DUPLICATE_SECONDS", "0")).await?;
    let step = |step: &str, id: &str| {
        user(Request::post(&format!("{MESSAGES}/{step}")), "ana").json(&json!({"messageId": id, "reason": "why"}))
    };
    let mut ids = Vec::new();
    for (fan, words) in [("fan-1", "one"), ("fan-2", "two")] {
        app.world.fault(Fault::status(503).on(Provider::OnlyFans));
        let id = accept(&messages, &note(ACCOUNT, fan, words)).await?;
        hinted(&sender, ACCOUNT).await?;
        app.stores.execute("UPDATE orchestrator.messages SET look_at = NULL WHERE id = $1", &[&id]).await?;
        assert_eq!(messages.http(step("resend", &id)).await?.status, 200);
        ids.push(id);
        if fan == "fan-1" {
            let cancel = user(Request::delete(MESSAGES), "ana").query("messageId", &ids[0]);
            assert_eq!(messages.http(cancel).await?.body["data"]["status"], "unknown");
        }
    }
    app.stores.take_notifications().await?;
    app.world.fault(Fault::status(404).on(Provider::OnlyFans));
    hinted(&sender, ACCOUNT).await?;
    for id in &ids {
        let row = row(&app, id).await?;
        assert_eq!((&row["status"], &row["look_at"]), (&json!("unknown"), &Value::Null));
    }
    let told = app.stores.take_notifications().await?;
    assert_eq!(told.iter().map(|told| text(&told["kind"])).collect::<Vec<_>>(), ["message_unknown"]);
    assert_eq!(texts(&app), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn what_could_not_be_told_is_told_by_the_sweep_once() -> Result<()> {
    let app = App::start().await?;
    accounts(&app, &[(ACCOUNT, "ana")]).await?;
    let (messages, sweeper) = (app.function("onlyfans-messages")?, app.function("message-sweeper")?);
    let sender = app.function_with("message-sender", "AWS_ENDPOINT_URL_SQS", &format!("http://{}", closed_port()?))?;
    accept(&messages, &note(ACCOUNT, "fan-1", "hello")).await?;
    hinted(&sender, ACCOUNT).await?;
    assert!(app.stores.take_notifications().await?.is_empty());
    app.stores
        .execute("UPDATE orchestrator.message_notices SET noted_at = noted_at - interval '1 minute'", &[])
        .await?;
    for told in [1, 0] {
        assert_eq!(sweeper.invoke(&json!({}), Duration::from_secs(30)).await?["told"], told);
    }
    let told = app.stores.take_notifications().await?;
    assert_eq!((told.len(), text(&told[0]["kind"])), (1, "account_paused"), "{told:?}");
    Ok(())
}

#[tokio::test]
async fn a_type_that_has_enough_for_today_holds_up_nothing_else() -> Result<()> {
    let app = App::start().await?;
    let app = [("PROMOTIONAL_PER_DAY", "2"), ("ACCOUNT_PER_MINUTE", "2"), ("GLOBAL_PER_SECOND", "100")]
        .iter()
        .fold(app, |app, (name, limit)| app.set(&format!("RATE_LIMIT_{name}"), *limit));
    let (app, messages, sender) = start(app).await?;
    let mut promotions = Vec::new();
    for number in 0..5 {
        let mut body = note(ACCOUNT, &format!("fan-{number}"), "an offer");
        body["messageType"] = json!("promotional");
        promotions.push(accept(&messages, &body).await?);
    }
    hinted(&sender, ACCOUNT).await?;
    assert_eq!(app.world.fan_messages().len(), 2);
    // The account's own limit is full for a minute, the type's for a day.
    let account = "SELECT limited_until BETWEEN now() AND now() + interval '2 minutes' AS soon, resume_at FROM orchestrator.accounts";
    assert_eq!(app.stores.row(account, &[]).await?, json!({"soon": true, "resume_at": null}));
    let later = "SELECT count(*) AS n FROM orchestrator.messages WHERE status = 'queued' AND not_before > now() + interval '20 hours'";
    assert_eq!(app.stores.row(later, &[]).await?["n"], 3, "all of the type wait with the one that was denied");
    let denied = app.stores.rows("SELECT layer, denials FROM orchestrator.limiter_denials ORDER BY layer", &[]).await?;
    assert_eq!(
        denied,
        [json!({"layer": "account_minute", "denials": 1}), json!({"layer": "promotional_day", "denials": 1})]
    );
    Ok(())
}

#[tokio::test]
async fn a_process_that_dies_with_a_message_is_taken_over_behind_a_later_hint() -> Result<()> {
    let (app, messages, _) = start(App::start().await?.set("MESSAGE_SWEEP_GRACE_MS", "1")).await?;
    let id = accept(&messages, &note(ACCOUNT, "fan-1", "hello")).await?;
    let died = "UPDATE orchestrator.messages SET status = 'claimed', fence = 1, claimed_until = now() WHERE id = $1";
    app.stores.execute(died, &[&id]).await?;
    app.stores.execute("UPDATE orchestrator.accounts SET wake_at = now() + interval '10 minutes'", &[]).await?;
    let swept = app.function("message-sweeper")?.invoke(&json!({}), std::time::Duration::from_secs(30)).await?;
    assert_eq!(swept["woken"], 1);
    Ok(())
}

#[tokio::test]
async fn while_the_limiter_only_watches_what_it_would_have_denied_is_counted() -> Result<()> {
    let app = App::start().await?.set("RATE_LIMIT_MODE", "monitor").set("RATE_LIMIT_ACCOUNT_PER_MINUTE", "1");
    let (app, messages, sender) = start(app.set("RATE_LIMIT_GLOBAL_PER_SECOND", "100")).await?;
    for fan in ["fan-1", "fan-2"] {
        accept(&messages, &note(ACCOUNT, fan, "hello")).await?;
    }
    hinted(&sender, ACCOUNT).await?;
    assert_eq!(app.world.fan_messages().len(), 2);
    let denied = app.stores.row("SELECT layer, denials FROM orchestrator.limiter_denials", &[]).await?;
    assert_eq!(denied, json!({"layer": "account_minute", "denials": 1}));
    Ok(())
}

#[tokio::test]
async fn that_it_was_sent_counts_whatever_was_decided_meanwhile() -> Result<()> {
    let (app, messages, sender) = start(App::start().await?).await?;
    app.world.fault(Fault::Hang.after_accepting().on(Provider::OnlyFans));
    let id = accept(&messages, &note(ACCOUNT, "fan-1", "hello")).await?;
    hinted(&sender, ACCOUNT).await?;
    app.stores.execute("UPDATE orchestrator.messages SET look_at = NULL WHERE id = $1", &[&id]).await?;
    let again = user(Request::post(&format!("{MESSAGES}/resend")), "ana").json(&json!({"messageId": id}));
    assert_eq!(messages.http(again).await?.status, 200);
    // The worker that everybody had given up settles after all.
    let late = r#"SELECT settled, status FROM orchestrator.settle_message($1, 1, 1::smallint, '{"outcome": "sent", "platform_id": "7"}', 5, 1, 3)"#;
    assert_eq!(app.stores.row(late, &[&id]).await?, json!({"settled": true, "status": "sent"}));
    hinted(&sender, ACCOUNT).await?;
    assert_eq!(app.world.fan_messages().len(), 1);
    Ok(())
}
