//! Health says what is, asks for real, and costs nothing.

use anyhow::Result;
use huntaze_tests::{App, Request, Response};
use huntaze_world::{Fault, Provider};
use serde_json::json;

use crate::support::{HEALTH, closed_port};

async fn health(app: &App) -> Result<Response> {
    Ok(app.function("health")?.http(Request::get(HEALTH)).await?)
}

#[tokio::test]
async fn a_healthy_system_is_200_and_its_checks_are_real() -> Result<()> {
    let app = App::start().await?;
    let function = app.function("health")?;
    let first = function.http(Request::get(HEALTH)).await?;
    assert_eq!((first.status, &first.body["status"]), (200, &json!("healthy")), "{}", first.body);
    for check in ["database", "orchestrator", "azureProvider", "openaiProvider", "rateLimiter", "awsServices"] {
        assert_eq!(first.body["checks"][check]["status"], "healthy", "{check}");
    }
    // No text was paid for, each provider was asked once, and the answer stands for a while.
    assert!(app.world.calls().is_empty());
    assert_eq!(app.world.probes().len(), 2);
    let second = function.http(Request::get(HEALTH)).await?;
    assert_eq!((second.body, app.world.probes().len()), (first.body, 2));
    Ok(())
}

#[tokio::test]
async fn one_provider_of_two_is_degraded_and_none_is_unhealthy() -> Result<()> {
    let app = App::start().await?;
    app.world.fault(Fault::status(500).on(Provider::Azure).for_models());
    let response = health(&app).await?;
    assert_eq!((response.status, &response.body["status"]), (200, &json!("degraded")), "{}", response.body);
    assert_eq!(response.body["checks"]["azureProvider"]["status"], "unhealthy");
    app.world.fault(Fault::status(401).on_any().for_models().always());
    let response = health(&app).await?;
    assert_eq!((response.status, &response.body["status"]), (503, &json!("unhealthy")), "{}", response.body);
    Ok(())
}

#[tokio::test]
async fn a_provider_that_hangs_does_not_hold_up_the_answer() -> Result<()> {
    let app = App::start().await?;
    app.world.fault(Fault::Hang.on(Provider::OpenAi).for_models());
    let response = health(&app).await?;
    assert_eq!(response.body["status"], "degraded");
    assert!(response.body["checks"]["openaiProvider"]["latency"].as_u64().unwrap() < 5_000);
    Ok(())
}

#[tokio::test]
async fn without_the_database_the_main_job_cannot_run() -> Result<()> {
    let app = App::start().await?.set("DATABASE_URL", format!("postgresql://u:pw-secret@{}/d", closed_port()?));
    let response = health(&app).await?;
    assert_eq!((response.status, &response.body["checks"]["database"]["status"]), (503, &json!("unhealthy")));
    assert!(!response.body.to_string().contains("pw-secret"));
    Ok(())
}

#[tokio::test]
async fn without_redis_or_aws_the_main_job_still_runs() -> Result<()> {
    let redis = App::start().await?.set("REDIS_URL", format!("redis://{}", closed_port()?));
    let aws = App::start().await?.set("AWS_ENDPOINT_URL", format!("http://{}", closed_port()?));
    for (app, check) in [(redis, "rateLimiter"), (aws, "awsServices")] {
        let response = health(&app).await?;
        assert_eq!((response.status, &response.body["status"]), (200, &json!("degraded")), "{}", response.body);
        assert_eq!(response.body["checks"][check]["status"], "degraded");
    }
    Ok(())
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_is_unhealthy() -> Result<()> {
    // Each of them keeps the main job from starting.
    let app = App::start().await?;
    for (name, wrong) in [
        ("NEXTAUTH_SECRET", ""),
        ("ROLE_PLANNER", "gemini:x"),
        ("API_RATE_LIMIT_PER_MINUTE", "0"),
        ("MAX_RETRIES", "-1"),
        ("RESERVATION_LEASE_MS", "1000"),
        ("REQUEST_DEADLINE_MS", "0"),
        ("LEDGER_ENTRY_TTL_DAYS", "1"),
        ("ALERT_SILENCE_MS", "86400001"),
        ("SPIKE_MINIMUM", "much"),
    ] {
        let response = app.function_with("health", name, wrong)?.http(Request::get(HEALTH)).await?;
        let orchestrator = &response.body["checks"]["orchestrator"]["status"];
        assert_eq!((response.status, orchestrator), (503, &json!("unhealthy")), "{name}");
    }
    let unpriced = App::start().await?.set("ROLE_PLANNER", "azure:gpt-4-turbo=gpt-99");
    assert_eq!(health(&unpriced).await?.status, 503);
    Ok(())
}

#[tokio::test]
async fn a_provider_that_is_not_configured_is_not_missed() -> Result<()> {
    let app = App::start().await?.unset("OPENAI_API_KEY");
    let response = health(&app).await?;
    assert_eq!((response.status, &response.body["status"]), (200, &json!("healthy")), "{}", response.body);
    assert_eq!(response.body["checks"]["openaiProvider"]["message"], "not configured");
    Ok(())
}
