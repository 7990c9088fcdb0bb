//! Both providers are down: what their clients are told meanwhile, and that one probe each finds them back.

use std::time::Duration;

use anyhow::{Result, ensure};
use huntaze_tests::{App, Function, Response, eventually};
use huntaze_world::{Fault, Provider};
use serde_json::{Value, json};

use crate::support::{brief, campaign, entries_and_rollups, text, usd};

const BOUND: Duration = Duration::from_secs(30);
const CAMPAIGNS: usize = 12;
/// So many failures in a row open a circuit.
const OPENS: usize = 5;
/// A circuit is open for so many seconds, as long as the test does not let them pass.
const OPEN_SECONDS: u32 = 600;

/// A plan that nobody has asked for before.
fn plan(number: usize) -> Value {
    let mut body = brief("content_planning", &["onlyfans"]);
    body["data"]["theme"] = json!(format!("night {number}"));
    body
}

/// A process for which the time is over that circuits are open.
fn later(app: &App) -> Result<Function> {
    app.function_with("campaigns-hybrid", "BREAKER_OPEN_MS", "1")
}

/// Both fail, until both circuits are open.
async fn both_down() -> Result<App> {
    let app = App::start().await?.set("MAX_RETRIES", "0").set("BREAKER_OPEN_MS", (OPEN_SECONDS * 1_000).to_string());
    app.world.fault(Fault::status(503).on(Provider::Azure).always());
    app.world.fault(Fault::status(503).on(Provider::OpenAi).always());
    let hybrid = app.function("campaigns-hybrid")?;
    for number in 0..CAMPAIGNS {
        let wait = unavailable(&hybrid.http(campaign("ana", &plan(number))).await?)?;
        // Who was not called for an open circuit is told when that ends.
        ensure!((wait > 60) == (number >= OPENS) && wait <= OPEN_SECONDS, "{number}: {wait}");
    }
    Ok(app)
}

/// A 503 that says when to come again, and when.
fn unavailable(answer: &Response) -> Result<u32> {
    ensure!((answer.status, text(&answer.body["code"])) == (503, "provider_unavailable"), "{}", answer.body);
    Ok(answer.header("retry-after").parse()?)
}

fn provider(answer: &Response) -> Result<&str> {
    ensure!(answer.status == 200, "{}", answer.body);
    Ok(text(&answer.body["data"]["provider"]))
}

#[tokio::test]
async fn while_both_are_down_clients_are_told_when_to_come_again_and_neither_is_called_in_vain() -> Result<()> {
    let app = both_down().await?;
    for who in [Provider::Azure, Provider::OpenAi] {
        assert_eq!(app.world.calls_to(who).len(), OPENS, "{who:?}");
    }
    // A probe that fails is one call, and opens its circuit anew for everybody.
    unavailable(&later(&app)?.http(campaign("ana", &plan(20))).await?)?;
    let wait = unavailable(&app.function("campaigns-hybrid")?.http(campaign("ana", &plan(21))).await?)?;
    assert!(wait > OPEN_SECONDS - 60, "{wait}");
    assert_eq!(app.world.calls().len(), 2 * OPENS + 2);
    // Every campaign has ended with its reason, nothing is held, and what was refused cost nothing.
    let ended = "SELECT count(*) AS n FROM orchestrator.workflows
        WHERE status = 'failed' AND error ->> 'code' = 'provider_unavailable' AND cost = 0";
    assert_eq!(app.stores.row(ended, &[]).await?["n"], CAMPAIGNS + 2);
    let held = "SELECT attempt_id FROM orchestrator.reservations WHERE settled_at IS NULL";
    assert!(app.stores.rows(held, &[]).await?.is_empty());
    let entries = eventually(BOUND, async || {
        let (entries, _) = entries_and_rollups(app.stores.cost_items().await?);
        ensure!(entries.len() == 2 * OPENS + 2, "{}", entries.len());
        Ok(entries)
    });
    assert!(entries.await?.iter().all(|entry| usd(&entry["cost"]) == huntaze_domain::money::Usd::ZERO));
    Ok(())
}

#[tokio::test]
async fn design_when_they_are_back_one_probe_each_finds_them_and_the_next_is_served() -> Result<()> {
    let app = both_down().await?;
    app.world.end_faults();
    // Nobody asks before the time is over.
    unavailable(&app.function("campaigns-hybrid")?.http(campaign("ana", &plan(30))).await?)?;
    assert_eq!(app.world.calls().len(), 2 * OPENS);

    app.world.fault(Fault::Gate.on(Provider::Azure));
    let first = later(&app)?;
    let probe = first.start_http(campaign("ana", &plan(31)));
    app.world.wait_for_calls(2 * OPENS + 1, BOUND).await?;
    // Azure's only probe is under way, so whoever comes meanwhile is OpenAI's.
    let meanwhile = later(&app)?.http(campaign("ana", &plan(32))).await?;
    assert_eq!(provider(&meanwhile)?, "openai");
    app.world.release();
    assert_eq!(provider(&probe.response().await?)?, "azure");
    // The next are served, on every instance.
    for number in 33..36 {
        let next = app.function("campaigns-hybrid")?.http(campaign("ana", &plan(number))).await?;
        assert_eq!(provider(&next)?, "azure");
    }
    let calls = [Provider::Azure, Provider::OpenAi].map(|who| app.world.calls_to(who).len());
    assert_eq!(calls, [OPENS + 1 + 3, OPENS + 1]);
    Ok(())
}
