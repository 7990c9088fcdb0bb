//! Texts that were made before: served while they are fresh, made once for all who ask at the same time, and the last of the chain.

use std::time::Duration;

use anyhow::{Result, ensure};
use huntaze_domain::money::Usd;
use huntaze_tests::post::{batch_of, consume};
use huntaze_tests::{App, Request, Response};
use huntaze_world::{Fault, Provider};
use serde_json::{Value, json};

use crate::support::{
    BUDGETS, accounts, admin, brief, campaign, closed_port, entries_and_rollups, rollups_of, status_of, summed, text,
    usd,
};

const BOUND: Duration = Duration::from_secs(30);

fn plan() -> Value {
    brief("content_planning", &["onlyfans"])
}

fn message() -> Value {
    brief("message_generation", &["onlyfans"])
}

async fn app() -> Result<App> {
    Ok(App::start().await?.caching().set("MAX_RETRIES", "0").set("LEDGER_SWEEP_GRACE_MS", "1"))
}

async fn ask(app: &App, request: Request) -> Result<Response> {
    Ok(app.function("campaigns-hybrid")?.http(request).await?)
}

async fn served(app: &App, request: Request) -> Result<Response> {
    let response = ask(app, request).await?;
    ensure!(response.status == 200, "{} {}", response.status, response.body);
    Ok(response)
}

fn providers_go(app: &App) {
    app.world.fault(Fault::status(503).on(Provider::Azure).always());
    app.world.fault(Fault::status(503).on(Provider::OpenAi).always());
}

#[tokio::test]
async fn design_a_cache_hit_costs_0_and_says_what_it_saved() -> Result<()> {
    let app = app().await?;
    let made = served(&app, campaign("ana", &plan())).await?.body["data"].take();
    assert!(made.get("cached").is_none() && made.get("cache").is_none(), "{made}");
    let again = served(&app, campaign("ana", &plan())).await?.body["data"].take();
    assert_eq!(
        (&again["cached"], &again["content"], &again["provider"]),
        (&json!(true), &made["content"], &json!("azure"))
    );
    let cost = usd(&made["detailedCosts"]["totalCost"]);
    assert!(cost > Usd::ZERO && again["cache"]["ageSeconds"].as_u64().is_some(), "{again}");
    assert_eq!((usd(&again["cache"]["savedCost"]), usd(&again["detailedCosts"]["totalCost"])), (cost, Usd::ZERO));
    assert_eq!(again["contents"][0]["cache"]["model"], made["detailedCosts"]["model"]);
    assert_eq!(app.world.calls().len(), 1);
    // As the status route has it, and the ledger: one entry each, and its roll-ups.
    let workflow = text(&again["workflowId"]).to_owned();
    let view = app.function("campaigns-status")?.http(status_of("ana", &workflow)).await?.body["data"].take();
    let attempt = &view["attempts"][0];
    assert_eq!(
        (&attempt["cached"], usd(&attempt["savedCost"]), usd(&attempt["cost"])),
        (&json!(true), cost, Usd::ZERO)
    );
    assert_eq!((&view["metrics"]["requestsCount"], &view["providerStates"]["azure"]), (&json!(0), &json!("completed")));
    app.function("ledger-sweeper")?.invoke(&json!({}), BOUND).await?;
    let (entries, rollups) = entries_and_rollups(app.stores.cost_items().await?);
    let hits: Vec<_> = entries.iter().filter(|entry| entry["cacheHit"] == true).collect();
    assert_eq!((entries.len(), hits.len()), (2, 1));
    assert_eq!((usd(&hits[0]["saved"]), usd(&hits[0]["cost"]), &hits[0]["id"]), (cost, Usd::ZERO, &attempt["id"]));
    let months = rollups_of(&rollups, Some("ana"), "month");
    assert_eq!((summed(&months, "cost"), summed(&months, "saved")), (cost, cost));
    Ok(())
}

#[tokio::test]
async fn the_sweep_writes_a_hit_into_the_ledger_as_the_request_would_have() -> Result<()> {
    let app = app().await?;
    served(&app, campaign("ana", &plan())).await?;
    // The ledger is away while the second is answered.
    let away =
        app.function_with("campaigns-hybrid", "AWS_ENDPOINT_URL_DYNAMODB", &format!("http://{}", closed_port()?))?;
    ensure!(away.http(campaign("ana", &plan())).await?.body["data"]["cached"] == true);
    app.function("ledger-sweeper")?.invoke(&json!({}), BOUND).await?;
    let (entries, _) = entries_and_rollups(app.stores.cost_items().await?);
    let hit = entries.iter().find(|entry| entry["cacheHit"] == true).unwrap();
    let made = entries.iter().find(|entry| entry["cacheHit"] == false).unwrap();
    assert_eq!((usd(&hit["cost"]), usd(&hit["saved"])), (Usd::ZERO, usd(&made["cost"])));
    Ok(())
}

#[tokio::test]
async fn nobody_is_served_what_is_not_exactly_his() -> Result<()> {
    let app = app().await?;
    served(&app, campaign("ana", &plan())).await?;
    let mut other = plan();
    other["data"]["tone"] = json!("cold");
    let mut calls = 1;
    for request in [
        campaign("ben", &plan()),
        campaign("ana", &other),
        campaign("ana", &plan()).header("cache-control", "max-age=0, No-Cache"),
    ] {
        let answer = served(&app, request).await?;
        calls += 1;
        assert_eq!((answer.body["data"].get("cached"), app.world.calls().len()), (None, calls));
    }
    // Whoever asks for a message again wants another one.
    for _ in 0..2 {
        assert_eq!(served(&app, campaign("ana", &message())).await?.body["data"].get("cached"), None);
    }
    assert_eq!(app.world.calls().len(), calls + 2);
    Ok(())
}

#[tokio::test]
async fn what_was_cut_or_refused_is_made_again() -> Result<()> {
    let app = app().await?;
    app.world.fault(Fault::text("word ".repeat(4_000)).on(Provider::Azure));
    assert_eq!(served(&app, campaign("ana", &plan())).await?.body["data"]["contents"][0]["truncated"], true);
    app.world.fault(Fault::Refusal.on(Provider::Azure));
    assert_eq!(ask(&app, campaign("ana", &plan())).await?.status, 422);
    assert_eq!(served(&app, campaign("ana", &plan())).await?.body["data"].get("cached"), None);
    assert_eq!(app.world.calls().len(), 3);
    Ok(())
}

#[tokio::test]
async fn the_same_request_at_the_same_time_is_one_call() -> Result<()> {
    let app = app().await?;
    app.world.fault(Fault::delay(Duration::from_millis(700)).on(Provider::Azure));
    let fleet = app.fleet("campaigns-hybrid", 4).await?;
    let answers = fleet.http(vec![campaign("ana", &plan()); 4]).await;
    let mut made = 0;
    for answer in answers {
        let answer = answer?;
        assert_eq!(answer.status, 200, "{}", answer.body);
        made += usize::from(answer.body["data"].get("cached").is_none());
    }
    assert_eq!((made, app.world.calls().len()), (1, 1));
    Ok(())
}

#[tokio::test]
async fn who_makes_the_text_for_all_and_fails_leaves_it_to_the_next() -> Result<()> {
    let app = app().await?;
    let mut body = plan();
    body["forceProvider"] = json!("azure");
    // The first call fails; the next is well, and ends when the first request has long looked in vain for a kept text.
    app.world.fault(Fault::Truncate.on(Provider::Azure));
    app.world.fault(Fault::delay(Duration::from_millis(900)).on(Provider::Azure));
    let fleet = app.fleet("campaigns-hybrid", 3).await?;
    let mut statuses: Vec<_> = fleet
        .http(vec![campaign("ana", &body); 3])
        .await
        .into_iter()
        .map(|answer| answer.map(|a| a.status))
        .collect::<Result<_, _>>()?;
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503]);
    assert_eq!(app.world.calls().len(), 2);
    Ok(())
}

#[tokio::test]
async fn both_providers_down_a_kept_text_is_served_where_there_is_one() -> Result<()> {
    let app = app().await?;
    let made = served(&app, campaign("ana", &message())).await?;
    providers_go(&app);
    let kept = served(&app, campaign("ana", &message())).await?.body["data"].take();
    assert_eq!((&kept["cached"], &kept["content"]), (&json!(true), &made.body["data"]["content"]));
    assert_eq!(usd(&kept["detailedCosts"]["totalCost"]), Usd::ZERO);
    let workflow = text(&kept["workflowId"]).to_owned();
    let view = app.function("campaigns-status")?.http(status_of("ana", &workflow)).await?.body["data"].take();
    let actions: Vec<_> = view["decisions"].as_array().unwrap().iter().map(|one| text(&one["action"])).collect();
    assert_eq!(actions, ["call", "fall_back", "use_kept"]);
    let states = &view["providerStates"];
    assert_eq!((&states["openai"], &states["azure"]), (&json!("failed"), &json!("failed")), "{states}");
    // Who wants it anew is served it all the same, when nobody makes one.
    let anew = served(&app, campaign("ana", &message()).header("cache-control", "no-cache")).await?;
    assert_eq!(anew.body["data"]["cached"], true);
    // Where there is none, 503 and when to come again.
    let mut other = message();
    other["data"]["theme"] = json!("another one");
    let none = ask(&app, campaign("ana", &other)).await?;
    assert_eq!((none.status, &none.body["code"]), (503, &json!("provider_unavailable")), "{}", none.body);
    assert!(none.header("retry-after").parse::<u32>()? > 0);
    app.function("ledger-sweeper")?.invoke(&json!({}), BOUND).await?;
    let (entries, _) = entries_and_rollups(app.stores.cost_items().await?);
    assert_eq!(entries.iter().filter(|entry| entry["cacheHit"] == true).count(), 2);
    assert!(entries.iter().all(|entry| entry["outcome"] != "failed" || usd(&entry["cost"]) == Usd::ZERO));
    Ok(())
}

#[tokio::test]
async fn what_costs_too_much_is_served_from_what_is_kept() -> Result<()> {
    let app = app().await?;
    served(&app, campaign("ana", &message())).await?;
    let mut dear = message();
    dear["maxCost"] = json!(0.000_001);
    assert_eq!(served(&app, campaign("ana", &dear)).await?.body["data"]["cached"], true);
    // What nobody has made is refused as ever, and nothing of it is kept.
    dear["data"]["theme"] = json!("another one");
    let refused = ask(&app, campaign("ana", &dear)).await?;
    assert_eq!((refused.status, &refused.body["limit"]["name"]), (402, &json!("maxCost")), "{}", refused.body);
    assert_eq!(app.world.calls().len(), 1);
    let workflows = app.stores.rows("SELECT status FROM orchestrator.workflows", &[]).await?;
    assert_eq!(workflows, [json!({"status": "completed"}), json!({"status": "completed"})]);
    Ok(())
}

#[tokio::test]
async fn what_costs_nothing_is_refused_by_no_budget() -> Result<()> {
    let app = app().await?;
    served(&app, campaign("ana", &plan())).await?;
    // Less than is spent already.
    let limit = json!({"scope": "user", "userId": "ana", "period": "day", "limit": 0.000_001});
    let set = app.function("costs-budgets")?.http(admin(Request::put(BUDGETS)).json(&limit)).await?;
    assert_eq!(set.status, 200, "{}", set.body);
    assert_eq!(served(&app, campaign("ana", &plan())).await?.body["data"]["cached"], true);
    let mut other = plan();
    other["data"]["theme"] = json!("another one");
    assert_eq!(ask(&app, campaign("ana", &other)).await?.status, 402);
    Ok(())
}

#[tokio::test]
async fn who_has_waited_for_anothers_text_in_vain_makes_it() -> Result<()> {
    let app = app().await?.set("PLANNER_TIME_MS", "3000").set("REQUEST_DEADLINE_MS", "4500");
    app.world.fault(Fault::delay(Duration::from_millis(2_500)).on(Provider::Azure));
    let fleet = app.fleet("campaigns-hybrid", 2).await?;
    for answer in fleet.http(vec![campaign("ana", &plan()); 2]).await {
        let answer = answer?;
        assert_eq!((answer.status, answer.body["data"].get("cached")), (200, None), "{}", answer.body);
    }
    assert_eq!(app.world.calls().len(), 2);
    Ok(())
}

#[tokio::test]
async fn what_is_sent_to_a_fan_is_made_for_him_each_time() -> Result<()> {
    let app = app().await?.set("HUMAN_APPROVAL", "never");
    accounts(&app, &[("acc-ana", "ana")]).await?;
    let mut body = message();
    body["sendToOnlyFans"] = json!(true);
    body["recipientId"] = json!("fan-1");
    served(&app, campaign("ana", &body)).await?;
    providers_go(&app);
    assert_eq!(ask(&app, campaign("ana", &body)).await?.status, 503);
    assert_eq!(app.stores.rows("SELECT id FROM orchestrator.messages", &[]).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn with_no_store_nothing_is_kept_and_nothing_that_was_kept_is_told() -> Result<()> {
    let app = app().await?;
    let private = || campaign("ana", &plan()).header("cache-control", "no-store");
    served(&app, private()).await?;
    assert_eq!(served(&app, campaign("ana", &plan())).await?.body["data"].get("cached"), None);
    assert_eq!(served(&app, private()).await?.body["data"].get("cached"), None);
    providers_go(&app);
    assert_eq!(ask(&app, private()).await?.status, 503);
    Ok(())
}

#[tokio::test]
async fn a_look_whose_driver_died_is_no_call() -> Result<()> {
    let app = app().await?;
    let accepted = ask(&app, campaign("ana", &plan()).header("prefer", "respond-async")).await?;
    let workflow = text(&accepted.body["data"]["workflowId"]).to_owned();
    let claim = "SELECT verdict FROM orchestrator.claim_workflow($1, 'who-dies', 60000, 3)";
    assert_eq!(app.stores.row(claim, &[&workflow]).await?["verdict"], "claimed");
    let look = "SELECT orchestrator.book('{}', jsonb_build_array(jsonb_build_object(
            'id', $1 || '.1', 'workflow_id', $1, 'sequence', 1, 'user_id', 'ana', 'step', 'plan', 'request_type', 'content_planning',
            'provider', 'azure', 'model', 'gpt-4-turbo', 'price_version', 'azure/gpt-4-turbo@2026-11-21', 'bound_input_tokens', 0,
            'bound_output_tokens', 0, 'bound_cost', '0', 'trace_id', 't', 'started_at', now())), 60000, true)::text AS refused";
    app.stores.row(look, &[&workflow]).await?;
    app.stores.execute("UPDATE orchestrator.workflows SET due_at = now() - interval '1 minute'", &[]).await?;
    let hint = batch_of(&json!({"workflowId": workflow}).to_string(), 1);
    ensure!(consume(&app.function("workflow-consumer")?, &hint).await? == Some(Vec::new()));
    let view = app.function("campaigns-status")?.http(status_of("ana", &workflow)).await?.body["data"].take();
    assert_eq!((&view["status"], &view["metrics"]["requestsCount"]), (&json!("completed"), &json!(1)), "{view}");
    assert_eq!(view["attempts"][0]["failure"], "not_kept");
    app.function("ledger-sweeper")?.invoke(&json!({}), BOUND).await?;
    assert_eq!(entries_and_rollups(app.stores.cost_items().await?).0.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_campaign_is_served_step_by_step() -> Result<()> {
    let app = app().await?;
    let body = brief("campaign_execution", &["onlyfans", "instagram"]);
    let made = served(&app, campaign("ana", &body)).await?.body["data"].take();
    let again = served(&app, campaign("ana", &body)).await?.body["data"].take();
    assert_eq!((&again["content"], &again["provider"]), (&made["content"], &made["provider"]));
    assert_eq!(again["cache"]["texts"], 3);
    assert_eq!(usd(&again["cache"]["savedCost"]), usd(&made["detailedCosts"]["totalCost"]));
    assert_eq!(app.world.calls().len(), 3);
    Ok(())
}

#[tokio::test]
async fn without_redis_every_text_is_made() -> Result<()> {
    let app = app().await?.set("REDIS_URL", format!("redis://{}", closed_port()?));
    for calls in 1..=2 {
        assert_eq!(served(&app, campaign("ana", &plan())).await?.body["data"].get("cached"), None);
        assert_eq!(app.world.calls().len(), calls);
    }
    providers_go(&app);
    assert_eq!(ask(&app, campaign("ana", &plan())).await?.status, 503);
    Ok(())
}
