//! Providers behind their circuits: who failed too often is not asked, over all instances, until one call finds it back.

use std::time::Duration;

use anyhow::{Result, ensure};
use huntaze_tests::{App, eventually};
use huntaze_world::{Fault, FilterStage, Provider};
use serde_json::{Value, json};

use crate::support::{brief, campaign, closed_port, status_of, text};

const BOUND: Duration = Duration::from_secs(30);

/// A plan that only Azure is asked for.
fn plan() -> Value {
    let mut body = brief("content_planning", &["onlyfans"]);
    body["forceProvider"] = json!("azure");
    body
}

/// Azure, which fails, is asked until its circuit is open.
async fn opened(app: &App) -> Result<()> {
    app.world.fault(Fault::status(500).on(Provider::Azure).times(5));
    for _ in 0..5 {
        let answer = app.function("campaigns-hybrid")?.http(campaign("ana", &plan())).await?;
        ensure!(answer.status == 503, "{}", answer.body);
    }
    ensure!(app.world.pending_faults().is_empty(), "it was not asked five times");
    Ok(())
}

async fn app() -> Result<App> {
    Ok(App::start().await?.set("MAX_RETRIES", "0").set("BREAKER_OPEN_MS", "600000"))
}

#[tokio::test]
async fn design_what_failed_5_times_on_one_instance_is_asked_by_no_other() -> Result<()> {
    let app = app().await?;
    opened(&app).await?;
    let another = app.function("campaigns-hybrid")?;
    let refused = another.http(campaign("ana", &plan())).await?;
    assert_eq!((refused.status, &refused.body["code"]), (503, &json!("provider_unavailable")), "{}", refused.body);
    let wait: u32 = refused.header("retry-after").parse()?;
    assert!((500..=600).contains(&wait), "{wait}");
    assert_eq!(app.world.calls().len(), 5);
    // Where another may be asked, it is, at once.
    let answer = another.http(campaign("ana", &brief("content_planning", &["onlyfans"]))).await?;
    assert_eq!((answer.status, &answer.body["data"]["provider"]), (200, &json!("openai")), "{}", answer.body);
    let workflow = text(&answer.body["data"]["workflowId"]).to_owned();
    let view = app.function("campaigns-status")?.http(status_of("ana", &workflow)).await?.body["data"].take();
    let first = &view["attempts"][0];
    assert_eq!((&first["failure"], &first["cost"]), (&json!("circuit_open"), &json!(0.0)), "{view}");
    assert_eq!(
        (&view["metrics"]["requestsCount"], &view["fallbackHistory"][0]["reason"]),
        (&json!(1), &json!("circuit_open"))
    );
    // What was not called is in no ledger.
    let items = eventually(BOUND, async || {
        let entries = crate::support::entries_and_rollups(app.stores.cost_items().await?).0;
        ensure!(entries.len() == 6, "{}", entries.len());
        Ok(entries)
    });
    assert!(items.await?.iter().all(|entry| entry["id"] != first["id"]));
    Ok(())
}

#[tokio::test]
async fn a_provider_that_is_back_is_asked_again_behind_one_probe() -> Result<()> {
    let app = app().await?.set("BREAKER_OPEN_MS", "300");
    opened(&app).await?;
    let hybrid = app.function("campaigns-hybrid")?;
    eventually(BOUND, async || {
        let answer = hybrid.http(campaign("ana", &plan())).await?;
        ensure!(answer.status == 200, "{}", answer.body);
        Ok(())
    })
    .await?;
    // All are let through, and nobody was asked in vain.
    for _ in 0..3 {
        assert_eq!(hybrid.http(campaign("ana", &plan())).await?.status, 200);
    }
    assert_eq!(app.world.calls().len(), 9);
    Ok(())
}

#[tokio::test]
async fn a_rate_limit_of_one_instance_paces_the_others_and_opens_nothing() -> Result<()> {
    let app = app().await?;
    app.world.fault(Fault::rate_limited(30).on(Provider::Azure));
    let body = brief("content_planning", &["onlyfans"]);
    for _ in 0..2 {
        let answer = app.function("campaigns-hybrid")?.http(campaign("ana", &body)).await?;
        assert_eq!((answer.status, &answer.body["data"]["provider"]), (200, &json!("openai")), "{}", answer.body);
    }
    assert_eq!(app.world.calls_to(Provider::Azure).len(), 1);
    let paced = "SELECT count(*) AS paced FROM orchestrator.attempts WHERE failure = 'paced'";
    assert_eq!(app.stores.row(paced, &[]).await?["paced"], 1);
    Ok(())
}

#[tokio::test]
async fn design_without_redis_the_same_circuits_are_the_processs_own() -> Result<()> {
    let app = app().await?.set("REDIS_URL", format!("redis://{}", closed_port()?));
    app.world.fault(Fault::status(500).on(Provider::Azure).always());
    let hybrid = app.function("campaigns-hybrid")?;
    for _ in 0..7 {
        assert_eq!(hybrid.http(campaign("ana", &plan())).await?.status, 503);
    }
    assert_eq!(app.world.calls().len(), 5);
    Ok(())
}

#[tokio::test]
async fn design_a_content_filter_refusal_is_neither_and_one_users_request_speaks_for_no_other() -> Result<()> {
    let filtered = |stage| Fault::ContentFilter { stage };
    for (fault, status) in [
        (Fault::status(400), 400),
        (filtered(FilterStage::Prompt), 422),
        (filtered(FilterStage::Completion), 422),
        (Fault::Refusal, 422),
        // What a model is told to write, it may write: nothing.
        (Fault::text("  "), 503),
    ] {
        let app = app().await?;
        app.world.fault(fault.on(Provider::Azure).times(6));
        let hybrid = app.function("campaigns-hybrid")?;
        for _ in 0..6 {
            let answer = hybrid.http(campaign("eve", &plan())).await?;
            assert_eq!(answer.status, status, "{}", answer.body);
        }
        assert_eq!(hybrid.http(campaign("ana", &plan())).await?.status, 200);
    }
    Ok(())
}
