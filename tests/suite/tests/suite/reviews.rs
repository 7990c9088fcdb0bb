//! Workflows that a person decides about: listed, claimed by one, approved with or without an edit, rejected; all of it audit-logged.

use anyhow::{Result, ensure};
use huntaze_tests::post::{batch_of, consume};
use huntaze_tests::{App, Request, Response, Session};
use huntaze_world::{Fault, Provider};
use serde_json::{Value, json};

use crate::support::{STATUS, accounts, brief, campaign, faults, status_of, text, user};

const REVIEWS: &str = "/api/admin/reviews";

/// An app whose providers are down.
async fn down() -> Result<App> {
    let app = App::start().await?.set("MAX_RETRIES", "0");
    app.world.fault(Fault::status(503).on(Provider::Azure).always());
    app.world.fault(Fault::status(503).on(Provider::OpenAi).always());
    Ok(app)
}

fn validation() -> Value {
    brief("content_validation", &["onlyfans"])
}

fn as_admin(request: Request, name: &str) -> Request {
    request.bearer(&Session::admin(name).v4())
}

async fn list(app: &App, query: &[(&str, &str)]) -> Result<Vec<Value>> {
    let request =
        query.iter().fold(as_admin(Request::get(REVIEWS), "root"), |all, (name, value)| all.query(name, value));
    let answer = app.function("reviews")?.http(request).await?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
    Ok(answer.body["data"]["reviews"].as_array().unwrap().clone())
}

async fn order(app: &App, who: &str, body: &Value) -> Result<Response> {
    Ok(app.function("reviews")?.http(as_admin(Request::post(REVIEWS), who).json(body)).await?)
}

async fn done(app: &App, who: &str, body: &Value) -> Result<Value> {
    let mut answer = order(app, who, body).await?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
    Ok(answer.body["data"].take())
}

async fn waiting(app: &App, request: Request) -> Result<String> {
    let answer = app.function("campaigns-hybrid")?.http(request).await?;
    let shown = (answer.status, &answer.body["data"]["status"]);
    ensure!(shown == (202, &json!("manual_review")), "{} {}", answer.status, answer.body);
    Ok(text(&answer.body["data"]["workflowId"]).to_owned())
}

async fn view(app: &App, workflow: &str) -> Result<Value> {
    Ok(app.function("campaigns-status")?.http(status_of("ana", workflow)).await?.body["data"].take())
}

async fn audited(app: &App) -> Result<Vec<String>> {
    let sql = "SELECT actor || ' ' || action AS line FROM orchestrator.audit_log ORDER BY id";
    Ok(app.stores.rows(sql, &[]).await?.iter().map(|row| text(&row["line"]).to_owned()).collect())
}

#[tokio::test]
async fn where_no_provider_is_left_a_person_writes_what_is_missing() -> Result<()> {
    let app = down().await?;
    let request = || campaign("ana", &validation()).idempotency_key("k1");
    let workflow = waiting(&app, request()).await?;
    // The same again waits for the same person.
    assert_eq!(waiting(&app, request()).await?, workflow);
    let shown = view(&app, &workflow).await?;
    assert_eq!((&shown["status"], &shown["completedAt"]), (&json!("manual_review"), &Value::Null));
    let open = list(&app, &[("status", "open")]).await?;
    assert_eq!((open.len(), open[0].get("request")), (1, None));
    let review = &list(&app, &[("workflowId", &workflow)]).await?[0];
    assert_eq!((&review["workflowId"], &review["reason"]["code"]), (&json!(workflow), &json!("provider_unavailable")));
    assert_eq!(review["contents"], json!([{"step": "validation", "content": null}]));
    assert_eq!(review["request"]["data"]["theme"], "summer nights");

    let approve = |contents: Value| json!({"workflowId": workflow, "action": "approve", "contents": contents});
    let text_of = |words: &str| json!([{"step": "validation", "content": words}]);
    let unclaimed = order(&app, "root", &approve(text_of("Fine."))).await?;
    assert_eq!((unclaimed.status, &unclaimed.body["code"]), (409, &json!("conflict")));
    let claim = json!({"workflowId": workflow, "action": "claim"});
    assert_eq!(done(&app, "root", &claim).await?["status"], "claimed");
    assert_eq!(order(&app, "eve", &claim).await?.status, 409);
    assert_eq!(order(&app, "eve", &approve(text_of("Mine."))).await?.status, 409);
    let missing = order(&app, "root", &json!({"workflowId": workflow, "action": "approve"})).await?;
    assert_eq!((missing.status, faults(&missing.body)), (400, vec!["/contents"]), "{}", missing.body);
    let unknown = order(&app, "root", &approve(json!([{"step": "plan", "content": "?"}]))).await?;
    assert_eq!((unknown.status, faults(&unknown.body).len()), (400, 2));
    assert_eq!(done(&app, "root", &approve(text_of("Fine by me."))).await?["decision"], "edited");
    // Said twice, it is said once; by somebody else, it is too late.
    assert_eq!(done(&app, "root", &approve(text_of("Fine by me."))).await?["decision"], "edited");
    for (who, words) in [("eve", "Mine."), ("eve", "Fine by me."), ("root", "Mine.")] {
        assert_eq!(order(&app, who, &approve(text_of(words))).await?.status, 409);
    }

    let shown = view(&app, &workflow).await?;
    assert_eq!((&shown["status"], &shown["content"]), (&json!("completed"), &json!("Fine by me.")), "{shown}");
    let answered = app.function("campaigns-hybrid")?.http(request()).await?;
    assert_eq!((answered.status, &answered.body["data"]["reviewed"]), (200, &json!({"edited": true})));
    assert_eq!(audited(&app).await?, ["root review.claim", "root review.edit"]);
    assert_eq!(list(&app, &[("workflowId", &workflow)]).await?[0]["decision"], "edited");
    assert!(list(&app, &[("status", "open")]).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn what_may_not_be_paid_for_is_a_persons_with_a_cache_and_without() -> Result<()> {
    let mut body = validation();
    body["maxCost"] = json!(0.000_001);
    for app in [App::start().await?, App::start().await?.caching()] {
        let answer = app.function("campaigns-hybrid")?.http(campaign("ana", &body)).await?;
        assert_eq!(answer.status, 202, "{}", answer.body);
        let workflow = text(&answer.body["data"]["workflowId"]);
        let hint = batch_of(&json!({"workflowId": workflow}).to_string(), 1);
        ensure!(consume(&app.function("workflow-consumer")?, &hint).await? == Some(Vec::new()));
        assert_eq!(view(&app, workflow).await?["status"], "manual_review");
        assert_eq!(
            (list(&app, &[]).await?[0]["reason"]["code"].take(), app.world.calls().len()),
            (json!("cost_limit_exceeded"), 0)
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_refusal_is_a_persons_to_overrule_or_to_keep() -> Result<()> {
    let app = App::start().await?;
    app.world.fault(Fault::Refusal.on(Provider::OpenAi));
    let workflow = waiting(&app, campaign("ana", &validation()).idempotency_key("k1")).await?;
    // Nobody else was asked.
    assert_eq!(app.world.calls().len(), 1);
    assert_eq!(list(&app, &[]).await?[0]["reason"]["code"], "compliance_violation");
    done(&app, "root", &json!({"workflowId": workflow, "action": "claim"})).await?;
    let reject = json!({"workflowId": workflow, "action": "reject", "reason": "not for fans"});
    assert_eq!(done(&app, "root", &reject).await?["decision"], "rejected");
    let shown = view(&app, &workflow).await?;
    assert_eq!((&shown["status"], &shown["error"]["code"]), (&json!("failed"), &json!("compliance_violation")));
    let answer = app.function("campaigns-hybrid")?.http(campaign("ana", &validation()).idempotency_key("k1")).await?;
    assert_eq!(answer.status, 422, "{}", answer.body);
    assert!(text(&answer.body["detail"]).contains("not for fans"));
    assert_eq!(audited(&app).await?, ["root review.claim", "root review.reject"]);
    Ok(())
}

#[tokio::test]
async fn what_is_approved_for_a_fan_is_sent_once_and_waits_for_no_second_approval() -> Result<()> {
    let app = down().await?.set("MANUAL_REVIEW_TYPES", "message_generation,content_validation");
    accounts(&app, &[("acc-ana", "ana")]).await?;
    let mut body = brief("message_generation", &["onlyfans"]);
    body["sendToOnlyFans"] = json!(true);
    body["recipientId"] = json!("fan-1");
    let workflow = waiting(&app, campaign("ana", &body)).await?;
    done(&app, "root", &json!({"workflowId": workflow, "action": "claim"})).await?;
    let approve = |words: &str| json!({"workflowId": workflow, "action": "approve", "contents": [{"step": "message", "content": words}]});
    let long = order(&app, "root", &approve(&"a".repeat(1_001))).await?;
    assert_eq!((long.status, faults(&long.body)), (400, vec!["/contents"]), "{}", long.body);
    for _ in 0..2 {
        done(&app, "root", &approve("Hi from a person!")).await?;
    }
    let sql = "SELECT status, content, workflow_id FROM orchestrator.messages";
    let messages = app.stores.rows(sql, &[]).await?;
    let expected = json!({"status": "queued", "content": "Hi from a person!", "workflow_id": workflow});
    assert_eq!(messages, [expected]);
    assert_eq!(app.stores.take_hints().await?, [json!({"accountId": "acc-ana"})]);
    assert_eq!(view(&app, &workflow).await?["providerStates"]["onlyFans"], "pending");
    Ok(())
}

#[tokio::test]
async fn a_review_is_one_persons_until_it_is_given_back_or_the_claim_runs_out() -> Result<()> {
    let app = down().await?;
    let workflow = waiting(&app, campaign("ana", &validation())).await?;
    let act = |action: &str| json!({"workflowId": workflow, "action": action});
    let fleet = app.fleet("reviews", 4).await?;
    let claims = (0..8).map(|who| as_admin(Request::post(REVIEWS), &format!("admin-{who}")).json(&act("claim")));
    let statuses = fleet.http(claims).await;
    let claimed = statuses.iter().filter(|answer| answer.as_ref().is_ok_and(|answer| answer.status == 200)).count();
    assert_eq!(claimed, 1);
    let out = "UPDATE orchestrator.reviews SET claimed_until = now() - interval '1 second'";
    app.stores.execute(out, &[]).await?;
    assert_eq!(list(&app, &[]).await?[0]["status"], "open");
    done(&app, "root", &act("claim")).await?;
    assert_eq!(list(&app, &[("status", "claimed")]).await?[0]["claimedBy"], "root");
    assert_eq!(order(&app, "eve", &act("release")).await?.status, 409);
    assert_eq!(done(&app, "root", &act("release")).await?["status"], "open");
    done(&app, "eve", &act("claim")).await?;
    // Whoever it belongs to may still want it no more.
    let cancelled = app.function("campaigns-status")?;
    let cancelled = cancelled.http(user(Request::delete(STATUS), "ana").query("workflowId", &workflow)).await?;
    assert_eq!(cancelled.status, 200, "{}", cancelled.body);
    assert_eq!(order(&app, "eve", &act("reject")).await?.status, 409);
    assert_eq!(list(&app, &[("status", "decided")]).await?[0]["decision"], "cancelled");
    assert_eq!(view(&app, &workflow).await?["status"], "cancelled");
    Ok(())
}

#[tokio::test]
async fn reviews_are_paged_oldest_first_and_are_for_administrators() -> Result<()> {
    let app = down().await?;
    let mut workflows = Vec::new();
    for number in 0..3 {
        let request = campaign("ana", &validation()).idempotency_key(&format!("k{number}"));
        workflows.push(waiting(&app, request).await?);
    }
    let function = app.function("reviews")?;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    for _ in 0..3 {
        let request = as_admin(Request::get(REVIEWS), "root").query("limit", "1");
        let request = if cursor.is_empty() { request } else { request.query("cursor", &cursor) };
        let page = function.http(request).await?.body;
        seen.push(text(&page["data"]["reviews"][0]["workflowId"]).to_owned());
        text(&page["data"]["nextCursor"]).clone_into(&mut cursor);
    }
    assert_eq!((seen, cursor.as_str()), (workflows, ""));
    for request in [Request::get(REVIEWS), Request::post(REVIEWS).json(&json!({"workflowId": "x", "action": "claim"}))]
    {
        assert_eq!(function.http(user(request, "ana")).await?.status, 403);
    }
    for (request, pointer) in [
        (Request::get(REVIEWS).query("status", "lost"), "status"),
        (Request::get(REVIEWS).query("workflowId", "a b"), "workflowId"),
        (Request::post(REVIEWS).json(&json!({"workflowId": "x", "action": "burn"})), "/action"),
    ] {
        let answer = function.http(as_admin(request, "root")).await?;
        assert_eq!((answer.status, faults(&answer.body)), (400, vec![pointer]), "{}", answer.body);
    }
    let unknown = order(&app, "root", &json!({"workflowId": "nothing", "action": "claim"})).await?;
    assert_eq!(unknown.status, 404);
    Ok(())
}
