//! Dead letters of AI work: what is still wanted is tried anew, the rest is kept and told once, and a workflow that was given up may be
//! tried anew with what is made of it.

use std::time::Duration;

use anyhow::{Result, ensure};
use huntaze_tests::post::{batch, consume};
use huntaze_tests::{App, Function, Request, Response, eventually};
use huntaze_world::{Fault, Provider};
use serde_json::{Value, json};

use crate::hand_over::{books_are_closed, hint, lease_runs_out, queued, take_up, view};
use crate::support::{DEAD_LETTERS, STATUS, admin, brief, text, user};

const BOUND: Duration = Duration::from_secs(30);
const DLQ: &str = "ai-processing-dlq";

fn plan() -> Value {
    brief("content_planning", &["onlyfans"])
}

fn hint_of(workflow: &str) -> String {
    json!({"workflowId": workflow}).to_string()
}

/// Gives the consumer of dead letters a record; what comes again is an error.
async fn comes_back(function: &Function, record: &str, body: &str) -> Result<()> {
    let again = consume(function, &batch([(record, body)], 1)).await?;
    ensure!(again == Some(Vec::new()), "{again:?}: {}", function.logs());
    Ok(())
}

/// A workflow that is queued, whose first hint is gone.
async fn waiting(app: &App) -> Result<String> {
    let workflow = queued(app, &plan()).await?;
    eventually(BOUND, async || {
        ensure!(!app.stores.take_workflow_hints().await?.is_empty(), "no hint");
        Ok(())
    })
    .await?;
    Ok(workflow)
}

/// Whoever claims it now is the last one.
async fn used_up(app: &App, workflow: &str) -> Result<()> {
    let sql = "UPDATE orchestrator.workflows SET claims = 5 WHERE id = $1";
    ensure!(app.stores.execute(sql, &[&workflow]).await? == 1);
    Ok(())
}

async fn letters(app: &App) -> Result<Vec<Value>> {
    let list = app.function("dead-letters")?.http(admin(Request::get(DEAD_LETTERS))).await?;
    ensure!(list.status == 200, "{}", list.body);
    Ok(list.body["data"]["deadLetters"].as_array().cloned().unwrap_or_default())
}

fn redrive(letter: &str) -> Request {
    admin(Request::post(&format!("{DEAD_LETTERS}/redrive"))).json(&json!({"id": letter, "reason": "it was our fault"}))
}

async fn redriven(app: &App, letter: &str) -> Result<Response> {
    Ok(app.function("dead-letters")?.http(redrive(letter)).await?)
}

async fn told(app: &App) -> Result<Vec<String>> {
    let told = app.stores.take_notifications().await?;
    ensure!(told.iter().all(|one| one["kind"] == "dead_letter" && one["audience"] == "operators"), "{told:?}");
    Ok(told.iter().map(|one| text(&one["id"]).to_owned()).collect())
}

/// How often the function counted a metric, once its line is there.
async fn counted(function: &Function, metric: &str, most: usize) -> Result<()> {
    let needle = format!("\"{metric}\":1");
    eventually(BOUND, async || {
        let lines = function.stdout().matches(&needle).count();
        ensure!(lines == most, "{metric}: {lines} in {}", function.logs());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn design_what_kills_its_drivers_is_given_up_with_what_is_made_and_tried_anew_without_paying_for_it_again()
-> Result<()> {
    let app = App::start().await?.set("LEDGER_SWEEP_GRACE_MS", "1");
    let workflow = queued(&app, &brief("campaign_execution", &["onlyfans", "instagram"])).await?;
    app.stores.take_workflow_hints().await?;
    // The plan and a message are made; whoever makes the other dies.
    app.world.fault(Fault::Gate.on(Provider::OpenAi).containing("instagram"));
    let consumer = app.function("workflow-consumer")?;
    let _lost = consumer.start_invoke(&hint(&workflow), BOUND);
    app.world.wait_for_calls(3, BOUND).await?;
    eventually(BOUND, async || {
        let made = view(&app, &workflow).await?;
        let attempts = made["attempts"].as_array().into_iter().flatten();
        ensure!(attempts.filter(|one| one["outcome"] == "succeeded").count() == 2, "{made}");
        Ok(())
    })
    .await?;
    consumer.kill().await?;
    used_up(&app, &workflow).await?;
    lease_runs_out(&app, &workflow).await?;
    take_up(&app, &workflow).await?;
    let shown = view(&app, &workflow).await?;
    assert_eq!((&shown["status"], &shown["error"]["code"]), (&json!("failed"), &json!("internal")), "{shown}");

    let put = app.stores.take_workflow_letters().await?;
    let [letter] = &put[..] else { panic!("{put:?}") };
    assert_eq!(letter["workflowId"], workflow);
    let (id, body) = (text(&letter["letterId"]), letter.to_string());
    let dlq = app.function(DLQ)?;
    for record in ["r1", "r1", "r2"] {
        comes_back(&dlq, record, &body).await?;
    }
    assert_eq!(told(&app).await?, [format!("dead_letter#{id}")]);
    let kept = letters(&app).await?;
    let [one] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!((&one["id"], &one["kind"], &one["status"]), (&json!(id), &json!("workflow"), &json!("open")), "{one}");
    assert_eq!((&one["workflowId"], &one["workflowStatus"]), (&json!(workflow), &json!("failed")), "{one}");

    // Hours later somebody has it tried anew, several times at once.
    let hours = "UPDATE orchestrator.workflows SET started_at = started_at - interval '5 hours'";
    app.stores.execute(hours, &[]).await?;
    let fleet = app.fleet("dead-letters", 3).await?;
    for answer in fleet.http((0..6).map(|_| redrive(id))).await {
        let answer = answer?;
        assert_eq!((answer.status, &answer.body["data"]["status"]), (200, &json!("redriven")), "{}", answer.body);
    }
    let audit = "SELECT actor, subject, reason FROM orchestrator.audit_log WHERE action = 'workflow.redrive'";
    let expected = json!({"actor": "root", "subject": format!("workflow:{workflow}"), "reason": "it was our fault"});
    assert_eq!(app.stores.rows(audit, &[]).await?, [expected]);
    assert!(app.stores.take_workflow_hints().await?.contains(&json!({"workflowId": workflow})));
    take_up(&app, &workflow).await?;
    let shown = view(&app, &workflow).await?;
    assert_eq!((&shown["status"], shown.get("error")), (&json!("completed"), None), "{shown}");
    // The plan and the first message were paid for once.
    assert_eq!(app.world.calls().len(), 4);
    books_are_closed(&app, &workflow).await?;
    // Its letter is of the past.
    assert_eq!(redriven(&app, id).await?.status, 200);
    assert_eq!(view(&app, &workflow).await?["status"], "completed");
    Ok(())
}

#[tokio::test]
async fn design_a_letter_that_a_crash_kept_from_its_queue_is_put_by_the_sweep_until_people_are_told() -> Result<()> {
    let app = App::start().await?;
    let workflow = queued(&app, &plan()).await?;
    used_up(&app, &workflow).await?;
    // The claim that ends it is made, and whoever made it is gone.
    let claim = "SELECT verdict FROM orchestrator.claim_workflow($1, 'who-dies', 60000, 3)";
    assert_eq!(app.stores.row(claim, &[&workflow]).await?["verdict"], "poison");
    let sweeper = app.function("workflow-sweeper")?;
    let swept = async || {
        sweeper.invoke(&json!({}), BOUND).await?;
        app.stores.take_workflow_letters().await
    };
    let put = swept().await?;
    assert_eq!((put.len(), &put[0]["workflowId"]), (1, &json!(workflow)), "{put:?}");
    // It is under way; it is lost, and put again.
    assert!(swept().await?.is_empty());
    let later = "UPDATE orchestrator.dead_letters SET put_at = now() - interval '6 minutes'";
    app.stores.execute(later, &[]).await?;
    assert_eq!(swept().await?, put);
    comes_back(&app.function(DLQ)?, "r1", &put[0].to_string()).await?;
    assert_eq!(told(&app).await?.len(), 1);
    app.stores.execute(later, &[]).await?;
    assert!(swept().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_hint_that_comes_back_is_put_back_3_times_then_kept_and_told_once_and_a_person_begins_anew() -> Result<()> {
    let app = App::start().await?;
    let workflow = waiting(&app).await?;
    let dlq = app.function(DLQ)?;
    let again = async |record: &str| {
        comes_back(&dlq, record, &hint_of(&workflow)).await?;
        app.stores.take_workflow_hints().await
    };
    let hints = [json!({"workflowId": workflow})];
    // One record is one return, however often it comes.
    for record in ["r1", "r1", "r2", "r3"] {
        assert_eq!(again(record).await?, hints, "{record}");
    }
    for record in ["r4", "r4", "r5"] {
        assert!(again(record).await?.is_empty(), "{record}");
    }
    let first = told(&app).await?;
    assert_eq!(first.len(), 1, "{first:?}");
    let kept = letters(&app).await?;
    let [one] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!((&one["kind"], &one["status"], &one["returns"]), (&json!("workflow_hint"), &json!("open"), &json!(5)));
    counted(&dlq, "DeadLettersRedriven", 4).await?;
    counted(&dlq, "DeadLettersKept", 3).await?;

    assert_eq!(redriven(&app, text(&one["id"])).await?.status, 200);
    assert_eq!(app.stores.take_workflow_hints().await?, hints);
    for record in ["r6", "r7", "r8"] {
        assert_eq!(again(record).await?, hints, "{record}");
    }
    assert!(again("r9").await?.is_empty());
    let second = told(&app).await?;
    assert!(second.len() == 1 && second != first, "{second:?}");
    // Once it is over, there is nothing left to be tried anew.
    take_up(&app, &workflow).await?;
    let open: Vec<_> = letters(&app).await?.into_iter().filter(|one| one["status"] == "open").collect();
    let late = redriven(&app, text(&open[0]["id"])).await?;
    assert_eq!((late.status, &late.body["code"]), (409, &json!("conflict")), "{}", late.body);
    Ok(())
}

#[tokio::test]
async fn a_hint_of_what_is_over_needs_nothing() -> Result<()> {
    let app = App::start().await?;
    let (done, cancelled) = (waiting(&app).await?, waiting(&app).await?);
    take_up(&app, &done).await?;
    let cancel = user(Request::delete(STATUS), "ana").query("workflowId", &cancelled);
    assert_eq!(app.function("campaigns-status")?.http(cancel).await?.status, 200);
    let dlq = app.function(DLQ)?;
    for workflow in [&done, &cancelled, "wf_nobody_knows"] {
        comes_back(&dlq, "r", &hint_of(workflow)).await?;
    }
    counted(&dlq, "DeadLettersOver", 3).await?;
    assert!(app.stores.take_workflow_hints().await?.is_empty());
    assert!(letters(&app).await?.is_empty() && told(&app).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn what_nobody_can_read_is_kept_with_what_it_said_and_is_in_no_log() -> Result<()> {
    let app = App::start().await?.set("LOG_LEVEL", "debug");
    let secret = "a very secret prompt";
    let job = json!({"workflowId": "w", "prompt": secret}).to_string();
    let dlq = app.function(DLQ)?;
    let records = [("r1", "nonsense"), ("r2", job.as_str()), ("r2", job.as_str())];
    assert_eq!(consume(&dlq, &batch(records, 1)).await?, Some(Vec::new()), "{}", dlq.logs());
    let mut kept = letters(&app).await?;
    kept.sort_by_key(|one| text(&one["id"]).to_owned());
    let said: Vec<_> = kept.iter().map(|one| (text(&one["id"]), text(&one["kind"]), text(&one["body"]))).collect();
    assert_eq!(said, [("unread:r1", "unread", "nonsense"), ("unread:r2", "unread", job.as_str())]);
    let mut told = told(&app).await?;
    told.sort_unstable();
    told.dedup();
    assert_eq!(told, ["dead_letter#unread:r1", "dead_letter#unread:r2"]);
    assert!(!dlq.logs().contains(secret) && !dlq.logs().contains("nonsense"), "{}", dlq.logs());
    let refused = redriven(&app, "unread:r1").await?;
    assert_eq!((refused.status, &refused.body["code"]), (409, &json!("conflict")), "{}", refused.body);
    Ok(())
}

#[tokio::test]
async fn a_letter_that_is_too_large_to_be_read_is_kept_by_its_beginning() -> Result<()> {
    let app = App::start().await?;
    let large = format!("{{\"prompt\": \"{}\"}}", "x".repeat(300 * 1024));
    comes_back(&app.function(DLQ)?, "r1", &large).await?;
    comes_back(&app.function("message-dlq")?, "r2", &large).await?;
    let kept = letters(&app).await?;
    let bodies: Vec<_> = kept.iter().map(|one| text(&one["body"])).collect();
    assert_eq!(bodies, [&large[..2_000]; 2], "{kept:?}");
    Ok(())
}

#[tokio::test]
async fn a_hint_that_is_put_back_does_not_disturb_whoever_has_the_workflow() -> Result<()> {
    let app = App::start().await?;
    let workflow = waiting(&app).await?;
    app.world.fault(Fault::Gate.on(Provider::Azure));
    let consumer = app.function("workflow-consumer")?;
    let taken = consumer.start_invoke(&hint(&workflow), BOUND);
    app.world.wait_for_calls(1, BOUND).await?;
    comes_back(&app.function(DLQ)?, "r1", &hint_of(&workflow)).await?;
    let hints = app.stores.take_workflow_hints().await?;
    assert_eq!(hints, [json!({"workflowId": workflow})]);
    take_up(&app, &workflow).await?;
    app.world.release();
    assert_eq!(taken.answer().await?, json!({"batchItemFailures": []}));
    assert_eq!((&view(&app, &workflow).await?["status"], app.world.calls().len()), (&json!("completed"), 1));
    Ok(())
}

#[tokio::test]
async fn what_people_could_not_be_told_of_comes_again_alone() -> Result<()> {
    let app = App::start().await?;
    let mute = app.function_with(DLQ, "SQS_NOTIFICATIONS_QUEUE", "no-such-queue")?;
    let over = hint_of("wf_nobody_knows");
    let again = consume(&mute, &batch([("good", over.as_str()), ("bad", "nonsense")], 1)).await?;
    assert_eq!(again, Some(vec!["bad".to_owned()]), "{}", mute.logs());
    comes_back(&app.function(DLQ)?, "bad", "nonsense").await?;
    assert_eq!((told(&app).await?.len(), letters(&app).await?.len()), (1, 1));
    Ok(())
}

#[tokio::test]
async fn a_workflow_that_failed_for_another_reason_since_is_not_tried_anew_by_an_old_letter() -> Result<()> {
    let app = App::start().await?;
    let workflow = waiting(&app).await?;
    used_up(&app, &workflow).await?;
    take_up(&app, &workflow).await?;
    let letter = app.stores.row("SELECT id FROM orchestrator.dead_letters", &[]).await?;
    app.stores.execute("UPDATE orchestrator.workflows SET fence = fence + 1", &[]).await?;
    let late = redriven(&app, text(&letter["id"])).await?;
    assert_eq!((late.status, &late.body["code"]), (409, &json!("conflict")), "{}", late.body);
    assert_eq!(view(&app, &workflow).await?["status"], "failed");
    Ok(())
}
