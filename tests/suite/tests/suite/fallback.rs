//! One provider fails, the other answers: what the workflow tells of it. What each failure leads to is in `failures`.

use anyhow::Result;
use huntaze_tests::App;
use huntaze_world::{Fault, Provider};
use serde_json::json;

use crate::support::{brief, campaign, status_of, text};

#[tokio::test]
async fn a_change_of_provider_is_told_by_the_status() -> Result<()> {
    let app = App::start().await?;
    app.world.fault(Fault::status(500).on(Provider::Azure).always());
    let response =
        app.function("campaigns-hybrid")?.http(campaign("ana", &brief("content_planning", &["onlyfans"]))).await?;
    assert_eq!((response.status, &response.body["data"]["provider"]), (200, &json!("openai")), "{}", response.body);
    let workflow = text(&response.body["data"]["workflowId"]);
    let view = app.function("campaigns-status")?.http(status_of("ana", workflow)).await?.body["data"].take();
    let history = &view["fallbackHistory"][0];
    assert_eq!((&history["from"], &history["to"]), (&json!("azure"), &json!("openai")));
    assert_eq!(history["reason"], "server_error");
    assert_eq!(
        view["providerStates"],
        json!({"azure": "failed", "openai": "completed", "rateLimiter": "pending", "onlyFans": "pending"})
    );
    let ends: Vec<_> =
        view["attempts"].as_array().unwrap().iter().map(|a| (text(&a["provider"]), text(&a["outcome"]))).collect();
    assert_eq!(ends, [("azure", "failed"), ("azure", "failed"), ("openai", "succeeded")]);
    let metrics = &view["metrics"];
    assert_eq!(
        (&metrics["requestsCount"], &metrics["retryAttempts"], &metrics["fallbacksUsed"]),
        (&json!(3), &json!(1), &json!(1))
    );
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
