//! Workflows that nobody waits for: queued, claimed, taken up where the last driver stopped, cancelled.

use std::time::Duration;

use anyhow::{Result, ensure};
use huntaze_tests::post::{batch_of, consume};
use huntaze_tests::{App, Request, Response, eventually};
use huntaze_world::{Fault, Provider};
use serde_json::{Value, json};

use crate::support::{
    HYBRID, STATUS, accounts, brief, campaign, closed_port, entries_and_rollups, status_of, text, usd, user,
};

const BOUND: Duration = Duration::from_secs(30);

fn later(body: &Value) -> Request {
    campaign("ana", body).header("prefer", "wait=3, Respond-Async")
}

pub(crate) fn hint(workflow: &str) -> Value {
    batch_of(&json!({"workflowId": workflow}).to_string(), 1)
}

/// Has a request taken on for later, and gives its workflow.
pub(crate) async fn queued(app: &App, body: &Value) -> Result<String> {
    let response = app.function("campaigns-hybrid")?.http(later(body)).await?;
    ensure!(response.status == 202, "{} {}", response.status, response.body);
    Ok(text(&response.body["data"]["workflowId"]).to_owned())
}

/// Has the consumer take a workflow up.
pub(crate) async fn take_up(app: &App, workflow: &str) -> Result<()> {
    let again = consume(&app.function("workflow-consumer")?, &hint(workflow)).await?;
    ensure!(again == Some(Vec::new()), "{again:?}");
    Ok(())
}

pub(crate) async fn view(app: &App, workflow: &str) -> Result<Value> {
    Ok(app.function("campaigns-status")?.http(status_of("ana", workflow)).await?.body["data"].take())
}

/// Time passes: whoever holds the workflow has held it for longer than its lease.
pub(crate) async fn lease_runs_out(app: &App, workflow: &str) -> Result<()> {
    let sql =
        "UPDATE orchestrator.workflows SET due_at = now() - interval '1 minute' WHERE id = $1 AND due_at IS NOT NULL";
    ensure!(app.stores.execute(sql, &[&workflow]).await? == 1, "nobody holds it");
    Ok(())
}

async fn cancel(app: &App, who: &str, workflow: &str) -> Result<Response> {
    let request = user(Request::delete(STATUS), who).query("workflowId", workflow);
    Ok(app.function("campaigns-status")?.http(request).await?)
}

/// The ledger has all that was called, to the last digit; what it has beyond what the world was paid for is an estimate.
pub(crate) async fn books_are_closed(app: &App, workflow: &str) -> Result<()> {
    app.function("ledger-sweeper")?.invoke(&json!({}), BOUND).await?;
    let view = view(app, workflow).await?;
    let (entries, _) = entries_and_rollups(app.stores.cost_items().await?);
    let total = entries.iter().map(|entry| usd(&entry["cost"])).sum();
    ensure!(usd(&view["cost"]["total"]) == total, "{view}");
    let held =
        app.stores.rows("SELECT attempt_id FROM orchestrator.reservations WHERE settled_at IS NULL", &[]).await?;
    ensure!(held.is_empty(), "{held:?}");
    Ok(())
}

/// Has a workflow taken up while the end of its instagram text cannot be kept, and behind it that of the other is: all texts are then
/// there, and its end is not. Its lease has run out, and the store is well again.
pub(crate) async fn stopped_before_its_end(app: &App, body: &Value) -> Result<String> {
    let workflow = queued(app, body).await?;
    let blip = "CREATE FUNCTION orchestrator.blip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'blip'; END $$";
    app.stores.execute(blip, &[]).await?;
    let blips = "CREATE TRIGGER blip BEFORE UPDATE ON orchestrator.attempts FOR EACH ROW
                 WHEN (OLD.step = 'message:instagram') EXECUTE FUNCTION orchestrator.blip()";
    app.stores.execute(blips, &[]).await?;
    let late = Fault::delay(Duration::from_millis(900)).on(Provider::OpenAi);
    app.world.fault(late.containing("onlyfans"));
    let again = consume(&app.function("workflow-consumer")?, &hint(&workflow)).await?;
    assert_ne!(again, Some(Vec::new()), "the hint is done with");
    let shown = view(app, &workflow).await?;
    assert!(shown["status"] == "running" && shown["error"]["code"].is_null(), "{shown}");
    app.stores.execute("DROP FUNCTION orchestrator.blip() CASCADE", &[]).await?;
    lease_runs_out(app, &workflow).await?;
    Ok(workflow)
}

/// Has such a workflow taken up once more, and shows it.
async fn ended_by_the_next(app: &App, body: &Value) -> Result<(String, Value)> {
    let workflow = stopped_before_its_end(app, body).await?;
    take_up(app, &workflow).await?;
    let shown = view(app, &workflow).await?;
    assert_eq!(shown["status"], "completed", "{shown}");
    Ok((workflow, shown))
}

#[tokio::test]
async fn one_end_that_cannot_be_written_loses_nothing_that_is_made() -> Result<()> {
    let app = App::start().await?.set("LEDGER_SWEEP_GRACE_MS", "1");
    let (workflow, shown) = ended_by_the_next(&app, &brief("campaign_execution", &["onlyfans", "instagram"])).await?;
    let content = text(&shown["content"]);
    assert!(content.contains("## onlyfans") && content.contains("## instagram"), "{shown}");
    let steps: Vec<_> = shown["attempts"].as_array().unwrap().iter().map(|one| text(&one["step"])).collect();
    let times = |step: &str| steps.iter().filter(|one| **one == step).count();
    // What was written of the other message has the text of this one: nothing is called again.
    assert_eq!([times("plan"), times("message:onlyfans"), times("message:instagram")], [1, 1, 1], "{steps:?}");
    books_are_closed(&app, &workflow).await
}

#[tokio::test]
async fn the_text_of_a_workflow_that_is_taken_up_only_to_be_ended_is_sent_once() -> Result<()> {
    let app = App::start().await?.set("LEDGER_SWEEP_GRACE_MS", "1").set("HUMAN_APPROVAL", "never");
    accounts(&app, &[("acc-ana", "ana")]).await?;
    let mut body = brief("campaign_execution", &["onlyfans", "instagram"]);
    body["sendToOnlyFans"] = json!(true);
    body["recipientId"] = json!("fan-1");
    let (workflow, _) = ended_by_the_next(&app, &body).await?;
    // A hint that comes once more finds that it is over.
    take_up(&app, &workflow).await?;
    let messages = app.stores.rows("SELECT workflow_id, status FROM orchestrator.messages", &[]).await?;
    assert_eq!(messages, [json!({"workflow_id": workflow, "status": "queued"})]);
    let result = app.stores.row("SELECT result #> '{data,onlyFans,status}' AS sent FROM orchestrator.workflows", &[]);
    assert_eq!(result.await?["sent"], "queued");
    books_are_closed(&app, &workflow).await
}

#[tokio::test]
async fn design_a_claim_that_is_sent_twice_is_one() -> Result<()> {
    let app = App::start().await?;
    let workflow = queued(&app, &brief("content_planning", &["onlyfans"])).await?;
    let claim = async |claimant: &str| {
        let sql =
            "SELECT verdict, (claimed).fence, (claimed).claims FROM orchestrator.claim_workflow($1, $2, 60000, 3)";
        app.stores.row(sql, &[&workflow, &claimant]).await
    };
    let first = claim("c1").await?;
    assert_eq!(first, json!({"verdict": "claimed", "fence": 1, "claims": 1}));
    assert_eq!(claim("c1").await?, first);
    assert_eq!(claim("c2").await?["verdict"], "early");
    // It is nobody's any more when its lease is over, also not the first one's.
    lease_runs_out(&app, &workflow).await?;
    assert_eq!(claim("c1").await?["fence"], 2);
    Ok(())
}

#[tokio::test]
async fn what_waited_in_the_queue_has_all_of_its_time_when_it_is_first_taken_up() -> Result<()> {
    let app = App::start().await?;
    let workflow = queued(&app, &brief("content_planning", &["onlyfans"])).await?;
    let waited = "UPDATE orchestrator.workflows SET started_at = started_at - interval '1 hour', due_at = due_at - interval '1 hour'";
    app.stores.execute(waited, &[]).await?;
    take_up(&app, &workflow).await?;
    let shown = view(&app, &workflow).await?;
    assert_eq!(shown["status"], "completed", "{shown}");
    assert!(shown["duration"].as_u64().is_some_and(|millis| millis > 3_600_000), "{shown}");
    Ok(())
}

#[tokio::test]
async fn what_is_cancelled_while_a_retry_waits_is_not_called_again() -> Result<()> {
    let app = App::start().await?.set("LEDGER_SWEEP_GRACE_MS", "1");
    let mut body = brief("content_planning", &["onlyfans"]);
    body["forceProvider"] = json!("azure");
    app.world.fault(Fault::status(503).on(Provider::Azure));
    let workflow = queued(&app, &body).await?;
    let consumer = app.function("workflow-consumer")?;
    let taking = consumer.start_invoke(&hint(&workflow), BOUND);
    // The retry is reserved, and waits for about a second.
    let reserved = "SELECT count(*) AS n FROM orchestrator.attempts WHERE outcome = 'pending' AND sequence = 2";
    eventually(BOUND, async || {
        ensure!(app.stores.row(reserved, &[]).await?["n"] == 1, "not yet");
        Ok(())
    })
    .await?;
    assert_eq!(cancel(&app, "ana", &workflow).await?.status, 200);
    taking.answer().await?;
    assert_eq!(app.world.calls().len(), 1);
    assert_eq!(view(&app, &workflow).await?["status"], "cancelled");
    books_are_closed(&app, &workflow).await
}

#[tokio::test]
async fn where_nobody_waits_an_outage_is_waited_out() -> Result<()> {
    let app = App::start().await?.set("MAX_RETRIES", "1").set("WORKFLOW_RETRY_MS", "400").set("BREAKER_FAILURES", "50");
    app.world.fault(Fault::status(503).on(Provider::Azure).times(4));
    app.world.fault(Fault::status(503).on(Provider::OpenAi).times(4));
    let workflow = queued(&app, &brief("content_planning", &["onlyfans"])).await?;
    let shown = eventually(BOUND, async || {
        take_up(&app, &workflow).await?;
        let shown = view(&app, &workflow).await?;
        ensure!(shown["status"] != "queued", "it waits");
        Ok(shown)
    });
    let shown = shown.await?;
    assert_eq!((&shown["status"], &shown["metrics"]["retryAttempts"]), (&json!("completed"), &json!(1)), "{shown}");
    let decisions = shown["decisions"].as_array().unwrap();
    let handed_over = decisions.iter().filter(|one| one["action"] == "hand_over");
    assert!(handed_over.clone().count() == 3 && handed_over.clone().all(|one| one["waitMs"] == 400), "{decisions:?}");
    // An outage that is no shorter than the workflow's own time is its end.
    let app = app.set("WORKFLOW_DEADLINE_MS", "46000").set("WORKFLOW_RETRY_MS", "60000");
    app.world.fault(Fault::status(503).on(Provider::Azure).always());
    app.world.fault(Fault::status(503).on(Provider::OpenAi).always());
    let workflow = queued(&app, &brief("content_planning", &["onlyfans"])).await?;
    take_up(&app, &workflow).await?;
    let shown = view(&app, &workflow).await?;
    assert_eq!(
        (&shown["status"], &shown["error"]["code"]),
        (&json!("failed"), &json!("provider_unavailable")),
        "{shown}"
    );
    Ok(())
}

#[tokio::test]
async fn who_does_not_want_to_wait_gets_202_and_the_answer_from_the_status_route() -> Result<()> {
    let app = App::start().await?.set("LEDGER_SWEEP_GRACE_MS", "1");
    let hybrid = app.function("campaigns-hybrid")?;
    let body = brief("campaign_execution", &["onlyfans", "instagram"]);
    let request = || later(&body).idempotency_key("k1");
    let accepted = hybrid.http(request()).await?;
    assert_eq!((accepted.status, &accepted.body["data"]["status"]), (202, &json!("queued")), "{}", accepted.body);
    let workflow = text(&accepted.body["data"]["workflowId"]).to_owned();
    let url = format!("{STATUS}?workflowId={workflow}");
    assert_eq!((accepted.header("location"), &accepted.body["data"]["statusUrl"]), (url.as_str(), &json!(url)));
    assert!(accepted.header("retry-after").parse::<u32>().is_ok());
    assert!(app.world.calls().is_empty());
    assert_eq!(view(&app, &workflow).await?["status"], "queued");
    // Its hint follows the answer.
    let hints = eventually(BOUND, async || {
        let hints = app.stores.take_workflow_hints().await?;
        ensure!(!hints.is_empty(), "no hint");
        Ok(hints)
    });
    assert_eq!(hints.await?, [json!({"workflowId": workflow})]);
    // The same again is the same workflow, and another body is refused.
    let again = hybrid.http(request()).await?;
    assert_eq!((again.status, &again.body["data"]["workflowId"]), (202, &json!(workflow)));
    assert_eq!(again.header("idempotent-replayed"), "true");
    let other = hybrid.http(later(&brief("content_planning", &["x"])).idempotency_key("k1")).await?;
    assert_eq!(other.status, 422, "{}", other.body);

    take_up(&app, &workflow).await?;
    let shown = view(&app, &workflow).await?;
    assert_eq!(shown["status"], "completed", "{shown}");
    assert!(text(&shown["content"]).contains("## instagram"));
    assert_eq!((app.world.calls().len(), shown["attempts"].as_array().unwrap().len()), (3, 3));
    // Hinted at once more, it is over.
    take_up(&app, &workflow).await?;
    assert_eq!(app.world.calls().len(), 3);
    let answered = hybrid.http(request()).await?;
    assert_eq!((answered.status, &answered.body["data"]["content"]), (200, &shown["content"]), "{}", answered.body);
    books_are_closed(&app, &workflow).await
}

#[tokio::test]
async fn design_what_does_not_fit_into_the_gateways_time_is_202_from_the_start() -> Result<()> {
    let app = App::start().await?;
    // The gateway took the request 20 seconds ago.
    let old = huntaze_tests::now() - Duration::from_secs(20);
    let request = campaign("ana", &brief("content_planning", &["onlyfans"])).received_at(old);
    let plan = app.function("campaigns-hybrid")?.http(request).await?;
    assert_eq!((plan.status, app.world.calls().len()), (202, 0), "{}", plan.body);
    assert!(app.stores.rows("SELECT id FROM orchestrator.attempts", &[]).await?.is_empty());
    let workflow = text(&plan.body["data"]["workflowId"]).to_owned();
    take_up(&app, &workflow).await?;
    assert_eq!(view(&app, &workflow).await?["status"], "completed");
    Ok(())
}

#[tokio::test]
async fn what_is_left_when_the_gateways_time_is_up_is_handed_over_with_what_is_made() -> Result<()> {
    // A plan that takes its time, and behind it messages that there is no time to try again.
    let app = App::start().await?.set("REQUEST_DEADLINE_MS", "9100").set("LEDGER_SWEEP_GRACE_MS", "1");
    let app = app.set("PLANNER_TIME_MS", "6000").set("SHORT_MESSAGE_TIME_MS", "3000");
    app.world.fault(Fault::delay(Duration::from_secs(5)).on(Provider::Azure));
    app.world.fault(Fault::status(503).on(Provider::OpenAi).times(2));
    let body = brief("campaign_execution", &["onlyfans", "instagram"]);
    let answer = app.function("campaigns-hybrid")?.http(campaign("ana", &body)).await?;
    assert_eq!((answer.status, &answer.body["data"]["status"]), (202, &json!("queued")), "{}", answer.body);
    let workflow = text(&answer.body["data"]["workflowId"]).to_owned();
    let before = view(&app, &workflow).await?;
    let left = before["decisions"].as_array().unwrap().iter().any(|decision| decision["action"] == "hand_over");
    assert!(left, "{before}");
    lease_runs_out(&app, &workflow).await?;
    take_up(&app, &workflow).await?;
    let shown = view(&app, &workflow).await?;
    assert_eq!(shown["status"], "completed", "{shown}");
    let plans = shown["attempts"].as_array().unwrap().iter().filter(|attempt| attempt["step"] == "plan").count();
    assert_eq!(plans, 1, "{shown}");
    books_are_closed(&app, &workflow).await
}

#[tokio::test]
async fn design_a_consumer_killed_at_any_point_is_followed_by_one_that_pays_for_no_finished_step_again() -> Result<()> {
    let app = App::start().await?.set("LEDGER_SWEEP_GRACE_MS", "1");
    let workflow = queued(&app, &brief("campaign_execution", &["onlyfans", "instagram", "reddit"])).await?;
    // The plan is made; of the messages one is, and two hang.
    app.world.fault(Fault::Gate.on(Provider::OpenAi).containing("instagram"));
    app.world.fault(Fault::Gate.on(Provider::OpenAi).containing("reddit"));
    let consumer = app.function("workflow-consumer")?;
    let _lost = consumer.start_invoke(&hint(&workflow), BOUND);
    app.world.wait_for_calls(4, BOUND).await?;
    eventually(BOUND, async || {
        let made = view(&app, &workflow).await?;
        let done =
            made["attempts"].as_array().into_iter().flatten().filter(|one| one["outcome"] == "succeeded").count();
        ensure!(done == 2, "{made}");
        Ok(())
    })
    .await?;
    consumer.kill().await?;

    // Nobody else takes it up before its lease is over.
    take_up(&app, &workflow).await?;
    assert_eq!((app.world.calls().len(), &view(&app, &workflow).await?["status"]), (4, &json!("running")));
    lease_runs_out(&app, &workflow).await?;
    take_up(&app, &workflow).await?;
    let shown = view(&app, &workflow).await?;
    assert_eq!(shown["status"], "completed", "{shown}");
    let ends = |step: &str| -> Vec<_> {
        let attempts = shown["attempts"].as_array().unwrap().iter().filter(|attempt| attempt["step"] == step);
        attempts.map(|attempt| (text(&attempt["outcome"]), attempt["estimated"].as_bool().unwrap())).collect()
    };
    assert_eq!((ends("plan"), ends("message:onlyfans")), (vec![("succeeded", false)], vec![("succeeded", false)]));
    for step in ["message:instagram", "message:reddit"] {
        assert_eq!(ends(step), [("unknown", true), ("succeeded", false)], "{step}");
    }
    assert_eq!(app.world.calls().len(), 6);
    books_are_closed(&app, &workflow).await
}

#[tokio::test]
async fn a_consumer_that_was_overtaken_changes_nothing() -> Result<()> {
    let app = App::start().await?.set("LEDGER_SWEEP_GRACE_MS", "1");
    let workflow = queued(&app, &brief("content_planning", &["onlyfans"])).await?;
    app.world.fault(Fault::Gate.on(Provider::Azure));
    let frozen = app.function("workflow-consumer")?;
    let overtaken = frozen.start_invoke(&hint(&workflow), BOUND);
    app.world.wait_for_calls(1, BOUND).await?;
    lease_runs_out(&app, &workflow).await?;
    take_up(&app, &workflow).await?;
    let before = view(&app, &workflow).await?;
    assert_eq!(before["status"], "completed", "{before}");
    app.world.release();
    assert_eq!(overtaken.answer().await?, json!({"batchItemFailures": []}));
    assert_eq!(view(&app, &workflow).await?, before);
    books_are_closed(&app, &workflow).await
}

#[tokio::test]
async fn a_rate_limit_is_waited_out_by_the_queue() -> Result<()> {
    // Time is made to pass in PostgreSQL; in Redis it cannot be.
    let app = App::start().await?.set("BREAKER_PACE_MAX_MS", "1").set("BREAKER_PACE_DEFAULT_MS", "1");
    app.world.fault(Fault::rate_limited(60).on(Provider::OpenAi));
    let mut body = brief("message_generation", &["onlyfans"]);
    body["forceProvider"] = json!("openai");
    let answer = app.function("campaigns-hybrid")?.http(campaign("ana", &body)).await?;
    assert_eq!((answer.status, &answer.body["data"]["status"]), (202, &json!("queued")), "{}", answer.body);
    let wait: u32 = answer.header("retry-after").parse()?;
    assert!((55..=60).contains(&wait), "{wait}");
    let workflow = text(&answer.body["data"]["workflowId"]).to_owned();
    // A hint that comes early does nothing.
    take_up(&app, &workflow).await?;
    assert_eq!((app.world.calls().len(), &view(&app, &workflow).await?["status"]), (1, &json!("queued")));
    lease_runs_out(&app, &workflow).await?;
    take_up(&app, &workflow).await?;
    let shown = view(&app, &workflow).await?;
    assert_eq!((&shown["status"], &shown["metrics"]["retryAttempts"]), (&json!("completed"), &json!(1)), "{shown}");
    Ok(())
}

#[tokio::test]
async fn what_kills_whoever_takes_it_up_ends_as_failed_with_its_reason() -> Result<()> {
    let app = App::start().await?.set("LEDGER_SWEEP_GRACE_MS", "1");
    let workflow = queued(&app, &brief("content_planning", &["onlyfans"])).await?;
    for claim in 0..3 {
        app.world.fault(Fault::Gate.on(Provider::Azure));
        let consumer = app.function("workflow-consumer")?;
        let _lost = consumer.start_invoke(&hint(&workflow), BOUND);
        app.world.wait_for_calls(claim + 1, BOUND).await?;
        consumer.kill().await?;
        lease_runs_out(&app, &workflow).await?;
        // At the pace of production: a lease of 120 s, the sweep's grace of 10 s, and its whole minute.
        let passed = "UPDATE orchestrator.workflows SET started_at = started_at - interval '190 seconds',
                      timed_from = timed_from - interval '190 seconds'";
        app.stores.execute(passed, &[]).await?;
    }
    take_up(&app, &workflow).await?;
    assert_eq!(app.stores.take_workflow_letters().await?.len(), 1);
    let shown = view(&app, &workflow).await?;
    assert_eq!((&shown["status"], &shown["error"]["code"]), (&json!("failed"), &json!("internal")), "{shown}");
    assert!(text(&shown["error"]["detail"]).contains("interrupted each time"), "{shown}");
    assert_eq!(app.world.calls().len(), 3);
    books_are_closed(&app, &workflow).await
}

#[tokio::test]
async fn a_workflow_that_is_cancelled_is_not_gone_on_with_and_what_was_under_way_is_paid() -> Result<()> {
    let app = App::start().await?.set("LEDGER_SWEEP_GRACE_MS", "1");
    let waiting = queued(&app, &brief("content_planning", &["onlyfans"])).await?;
    assert_eq!(cancel(&app, "bob", &waiting).await?.status, 403);
    for _ in 0..2 {
        let answer = cancel(&app, "ana", &waiting).await?;
        assert_eq!((answer.status, &answer.body["data"]["status"]), (200, &json!("cancelled")), "{}", answer.body);
    }
    take_up(&app, &waiting).await?;
    assert!(app.world.calls().is_empty());

    app.world.fault(Fault::Gate.on(Provider::Azure));
    let running = queued(&app, &brief("campaign_execution", &["onlyfans", "instagram"])).await?;
    let consumer = app.function("workflow-consumer")?;
    let taken = consumer.start_invoke(&hint(&running), BOUND);
    app.world.wait_for_calls(1, BOUND).await?;
    assert_eq!(cancel(&app, "ana", &running).await?.status, 200);
    app.world.release();
    let _ = taken.answer().await;
    let shown = view(&app, &running).await?;
    assert_eq!(
        (&shown["status"], &shown["attempts"][0]["outcome"]),
        (&json!("cancelled"), &json!("succeeded")),
        "{shown}"
    );
    assert_eq!(app.world.calls().len(), 1);
    books_are_closed(&app, &running).await?;

    let answer = app.function("campaigns-hybrid")?.http(campaign("ana", &brief("content_planning", &["x"]))).await?;
    let done = text(&answer.body["data"]["workflowId"]).to_owned();
    let refused = cancel(&app, "ana", &done).await?;
    assert_eq!((refused.status, &refused.body["code"]), (409, &json!("conflict")), "{}", refused.body);
    let audited = "SELECT actor, subject FROM orchestrator.audit_log WHERE action = 'workflow.cancel' ORDER BY id";
    let audited = app.stores.rows(audited, &[]).await?;
    let subject = |workflow: &str| json!({"actor": "ana", "subject": format!("workflow:{workflow}")});
    assert_eq!(audited, [subject(&waiting), subject(&running)]);
    Ok(())
}

#[tokio::test]
async fn a_request_that_is_cancelled_while_its_client_waits_is_a_conflict() -> Result<()> {
    let app = App::start().await?;
    app.world.fault(Fault::Gate.on(Provider::Azure));
    let hybrid = app.function("campaigns-hybrid")?;
    let waiting = hybrid.start_http(campaign("ana", &brief("content_planning", &["onlyfans"])));
    app.world.wait_for_calls(1, BOUND).await?;
    let workflow = app.stores.row("SELECT id FROM orchestrator.workflows", &[]).await?;
    assert_eq!(cancel(&app, "ana", text(&workflow["id"])).await?.status, 200);
    app.world.release();
    let answer = waiting.response().await?;
    assert_eq!((answer.status, &answer.body["code"]), (409, &json!("conflict")), "{}", answer.body);
    Ok(())
}

#[tokio::test]
async fn a_lost_hint_is_made_up_for_by_the_sweep_and_a_long_queue_is_not_made_longer() -> Result<()> {
    let app = App::start().await?.set("WORKFLOW_SWEEP_GRACE_MS", "1");
    let workflow = queued(&app, &brief("content_planning", &["onlyfans"])).await?;
    eventually(BOUND, async || {
        ensure!(!app.stores.take_workflow_hints().await?.is_empty(), "no hint");
        Ok(())
    })
    .await?;
    let sweeper = app.function("workflow-sweeper")?;
    assert_eq!(sweeper.invoke(&json!({}), BOUND).await?, json!({"woken": 1}));
    assert_eq!(app.stores.take_workflow_hints().await?, [json!({"workflowId": workflow})]);
    assert_eq!(sweeper.invoke(&json!({}), BOUND).await?, json!({"woken": 0}));
    let past = "UPDATE orchestrator.workflows SET hinted_at = now() - interval '6 minutes'";
    app.stores.execute(past, &[]).await?;
    assert_eq!(sweeper.invoke(&json!({}), BOUND).await?, json!({"woken": 1}));
    Ok(())
}

#[tokio::test]
async fn what_the_queue_did_not_take_has_its_hint_from_the_next_sweep() -> Result<()> {
    let app = App::start().await?.set("WORKFLOW_SWEEP_GRACE_MS", "1");
    let workflows = [
        queued(&app, &brief("content_planning", &["x"])).await?,
        queued(&app, &brief("content_planning", &["y"])).await?,
    ];
    eventually(BOUND, async || {
        ensure!(!app.stores.take_workflow_hints().await?.is_empty(), "no hint");
        Ok(())
    })
    .await?;
    let away = app.function_with("workflow-sweeper", "AWS_ENDPOINT_URL_SQS", &format!("http://{}", closed_port()?))?;
    assert!(away.invoke(&json!({}), BOUND).await.is_err());
    assert_eq!(app.function("workflow-sweeper")?.invoke(&json!({}), BOUND).await?, json!({"woken": 2}));
    let hinted = app.stores.take_workflow_hints().await?;
    assert!(workflows.iter().all(|workflow| hinted.contains(&json!({"workflowId": workflow}))), "{hinted:?}");
    Ok(())
}

#[tokio::test]
async fn a_text_that_is_sent_later_is_taken_on_with_the_workflows_end() -> Result<()> {
    let app = App::start().await?.set("HUMAN_APPROVAL", "never");
    accounts(&app, &[("acc-ana", "ana"), ("acc-bob", "bob")]).await?;
    let mut body = brief("message_generation", &["onlyfans"]);
    body["sendToOnlyFans"] = json!(true);
    body["recipientId"] = json!("fan-1");
    let hybrid = app.function("campaigns-hybrid")?;
    let mut foreign = body.clone();
    foreign["onlyFansContext"] = json!({"accountId": "acc-bob", "messageType": "welcome", "complianceLevel": "strict"});
    assert_eq!(hybrid.http(later(&foreign)).await?.status, 403);
    let workflow = queued(&app, &body).await?;
    take_up(&app, &workflow).await?;
    let message = app.stores.row("SELECT account_id, workflow_id, status FROM orchestrator.messages", &[]).await?;
    assert_eq!(message, json!({"account_id": "acc-ana", "workflow_id": workflow, "status": "queued"}));
    Ok(())
}

#[tokio::test]
async fn what_is_no_hint_is_for_the_dead_letter_queue_and_holds_up_no_other() -> Result<()> {
    let app = App::start().await?;
    let workflow = queued(&app, &brief("content_planning", &["onlyfans"])).await?;
    let good = json!({"workflowId": workflow}).to_string();
    let unknown = json!({"workflowId": "no-such-workflow"}).to_string();
    let batch = huntaze_tests::post::batch([("bad", "{}"), ("good", good.as_str()), ("unknown", unknown.as_str())], 1);
    let again = consume(&app.function("workflow-consumer")?, &batch).await?;
    assert_eq!(again, Some(vec!["bad".to_owned()]));
    assert_eq!(view(&app, &workflow).await?["status"], "completed");
    assert_eq!(app.function("campaigns-hybrid")?.http(user(Request::get(HYBRID), "ana")).await?.status, 400);
    Ok(())
}
