//! One provider fails, the other answers, inside the deadline.

use std::time::{Duration, Instant};

use anyhow::Result;
use huntaze_tests::App;
use huntaze_world::{Fault, Provider};
use serde_json::{Value, json};

use crate::support::{brief, campaign, status_of, text};

/// Sends one plan and returns its workflow as the status route shows it.
async fn answered_by_openai(app: &App) -> Result<Value> {
    let response =
        app.function("campaigns-hybrid")?.http(campaign("ana", &brief("content_planning", &["onlyfans"]))).await?;
    assert_eq!((response.status, &response.body["data"]["provider"]), (200, &json!("openai")), "{}", response.body);
    let workflow = text(&response.body["data"]["workflowId"]).to_owned();
    Ok(app.function("campaigns-status")?.http(status_of("ana", &workflow)).await?.body["data"].take())
}

fn assert_fell_back(view: &Value, reason: &str, azure: &str, outcome: &str) {
    let history = &view["fallbackHistory"];
    assert_eq!(history[0]["from"], "azure");
    assert_eq!((&history[0]["to"], &history[0]["reason"]), (&json!("openai"), &json!(reason)));
    assert_eq!(
        view["providerStates"],
        json!({"azure": azure, "openai": "completed", "rateLimiter": "pending", "onlyFans": "pending"})
    );
    let ends: Vec<_> =
        view["attempts"].as_array().unwrap().iter().map(|a| (text(&a["provider"]), text(&a["outcome"]))).collect();
    assert_eq!(ends, [("azure", outcome), ("openai", "succeeded")]);
    assert_eq!(view["metrics"]["fallbacksUsed"], 1);
}

#[tokio::test]
async fn azure_that_fails_with_500_is_answered_by_openai() -> Result<()> {
    let app = App::start().await?;
    app.world.fault(Fault::status(500).on(Provider::Azure));
    assert_fell_back(&answered_by_openai(&app).await?, "server_error", "failed", "failed");
    Ok(())
}

#[tokio::test]
async fn azure_that_limits_the_rate_is_answered_by_openai() -> Result<()> {
    let app = App::start().await?;
    app.world.fault(Fault::rate_limited(20).on(Provider::Azure));
    assert_fell_back(&answered_by_openai(&app).await?, "rate_limited", "failed", "failed");
    Ok(())
}

#[tokio::test]
async fn azure_that_hangs_is_answered_by_openai_inside_the_deadline() -> Result<()> {
    let app = App::start().await?.set("AZURE_TIMEOUT_MS", "45000").set("REQUEST_DEADLINE_MS", "6000");
    app.world.fault(Fault::Hang.on(Provider::Azure));
    let started = Instant::now();
    let view = answered_by_openai(&app).await?;
    assert_fell_back(&view, "timeout", "timeout", "unknown");
    assert!(view["duration"].as_u64().unwrap() < 6_000 && started.elapsed() < Duration::from_secs(30), "{view}");
    // Nobody knows whether Azure did the work: it is booked at its bound.
    assert_eq!(view["attempts"][0]["estimated"], true);
    assert_eq!(view["attempts"][0]["cost"], view["attempts"][0]["boundCost"]);
    Ok(())
}

#[tokio::test]
async fn azure_that_refuses_connections_is_answered_by_openai() -> Result<()> {
    // A port that was bound and closed again: nobody listens.
    let closed = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let app = App::start().await?.set("AZURE_OPENAI_ENDPOINT", format!("http://{closed}"));
    let view = answered_by_openai(&app).await?;
    assert_fell_back(&view, "connect_error", "failed", "failed");
    assert_eq!(view["attempts"][0]["cost"], 0.0);
    Ok(())
}

#[tokio::test]
async fn a_lost_or_unreadable_answer_falls_back_and_is_booked_at_its_bound() -> Result<()> {
    for (fault, reason) in
        [(Fault::Reset, "connection_lost"), (Fault::Truncate, "invalid_answer"), (Fault::Garbage, "invalid_answer")]
    {
        let app = App::start().await?;
        app.world.fault(fault.on(Provider::Azure));
        let view = answered_by_openai(&app).await?;
        assert_fell_back(&view, reason, "failed", "unknown");
        assert_eq!(view["attempts"][0]["cost"], view["attempts"][0]["boundCost"]);
    }
    Ok(())
}

#[tokio::test]
async fn a_forced_provider_is_that_one_or_an_error() -> Result<()> {
    let app = App::start().await?;
    app.world.fault(Fault::status(503).on(Provider::Azure));
    let mut body = brief("content_planning", &["onlyfans"]);
    body["forceProvider"] = json!("azure");
    let response = app.function("campaigns-hybrid")?.http(campaign("ana", &body)).await?;
    assert_eq!((response.status, &response.body["code"]), (503, &json!("provider_unavailable")));
    assert!(!response.header("retry-after").is_empty());
    assert!(app.world.calls_to(Provider::OpenAi).is_empty());
    Ok(())
}

#[tokio::test]
async fn a_refusal_is_never_answered_by_asking_another() -> Result<()> {
    let app = App::start().await?;
    let hybrid = app.function("campaigns-hybrid")?;
    for fault in [Fault::ContentFilter { stage: huntaze_world::FilterStage::Prompt }, Fault::Refusal] {
        app.world.fault(fault.on(Provider::Azure));
        let response = hybrid.http(campaign("ana", &brief("content_planning", &["onlyfans"]))).await?;
        assert_eq!(
            (response.status, &response.body["code"]),
            (422, &json!("compliance_violation")),
            "{}",
            response.body
        );
    }
    assert!(app.world.calls_to(Provider::OpenAi).is_empty());
    Ok(())
}

#[tokio::test]
async fn both_providers_down_is_one_failed_workflow_with_both_attempts() -> Result<()> {
    let app = App::start().await?;
    app.world.fault(Fault::status(500).on_any().always());
    let response =
        app.function("campaigns-hybrid")?.http(campaign("ana", &brief("content_planning", &["onlyfans"]))).await?;
    assert_eq!((response.status, &response.body["code"]), (503, &json!("provider_unavailable")), "{}", response.body);
    let workflow = text(&response.body["workflowId"]).to_owned();
    let view = app.function("campaigns-status")?.http(status_of("ana", &workflow)).await?.body["data"].take();
    assert_eq!((&view["status"], &view["cost"]["total"]), (&json!("failed"), &json!(0.0)));
    assert_eq!(
        (view["attempts"].as_array().unwrap().len(), &view["error"]["code"]),
        (2, &json!("provider_unavailable"))
    );
    Ok(())
}

#[tokio::test]
async fn a_wrong_key_or_deployment_of_ours_is_no_outage() -> Result<()> {
    for status in [401, 403, 404] {
        let app = App::start().await?;
        app.world.fault(Fault::status(status).on(Provider::Azure));
        assert_fell_back(&answered_by_openai(&app).await?, "misconfigured", "failed", "failed");
    }
    Ok(())
}

#[tokio::test]
async fn a_request_that_a_provider_rejects_is_not_to_be_sent_again() -> Result<()> {
    let app = App::start().await?;
    app.world.fault(Fault::status(400).on(Provider::Azure));
    let response =
        app.function("campaigns-hybrid")?.http(campaign("ana", &brief("content_planning", &["onlyfans"]))).await?;
    assert_eq!((response.status, &response.body["code"]), (400, &json!("invalid_request")), "{}", response.body);
    assert_eq!((response.header("retry-after"), app.world.calls().len()), ("", 1));
    Ok(())
}

#[tokio::test]
async fn a_call_that_has_no_time_is_not_made_and_costs_nothing() -> Result<()> {
    let app = App::start().await?;
    // The gateway took the request 28.4 seconds ago.
    let old = huntaze_tests::now() - Duration::from_millis(28_400);
    let request = campaign("ana", &brief("content_planning", &["onlyfans"])).received_at(old);
    let response = app.function("campaigns-hybrid")?.http(request).await?;
    assert_eq!((response.status, &response.body["code"]), (503, &json!("provider_unavailable")), "{}", response.body);
    assert!(app.world.calls().is_empty());
    assert!(app.stores.rows("SELECT id FROM orchestrator.attempts", &[]).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn one_failed_message_of_a_campaign_leaves_every_call_settled() -> Result<()> {
    let app = App::start().await?;
    // A refusal of one message; the others answer.
    let refusal = Fault::ContentFilter { stage: huntaze_world::FilterStage::Prompt };
    app.world.fault(refusal.on(Provider::OpenAi).containing("instagram"));
    let body = brief("campaign_execution", &["onlyfans", "instagram", "reddit"]);
    let response = app.function("campaigns-hybrid")?.http(campaign("ana", &body)).await?;
    assert_eq!((response.status, &response.body["code"]), (422, &json!("compliance_violation")), "{}", response.body);
    let workflow = text(&response.body["workflowId"]).to_owned();
    let view = app.function("campaigns-status")?.http(status_of("ana", &workflow)).await?.body["data"].take();
    let mut ends: Vec<_> = view["attempts"].as_array().unwrap().iter().map(|a| text(&a["outcome"])).collect();
    ends.sort_unstable();
    assert_eq!((&view["status"], ends), (&json!("failed"), vec!["failed", "succeeded", "succeeded", "succeeded"]));
    let held =
        app.stores.rows("SELECT attempt_id FROM orchestrator.reservations WHERE settled_at IS NULL", &[]).await?;
    assert!(held.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_text_that_met_its_bound_is_marked() -> Result<()> {
    let app = App::start().await?;
    let long = "word ".repeat(4_000);
    app.world.fault(Fault::text(long).on(Provider::Azure));
    let response =
        app.function("campaigns-hybrid")?.http(campaign("ana", &brief("content_planning", &["onlyfans"]))).await?;
    assert_eq!((response.status, &response.body["data"]["contents"][0]["truncated"]), (200, &json!(true)));
    Ok(())
}
