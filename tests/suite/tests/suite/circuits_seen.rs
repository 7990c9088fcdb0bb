//! Where circuits are seen: in metrics, in health, and by administrators.

use std::time::Duration;

use anyhow::{Result, ensure};
use huntaze_lambda::metrics::CATALOGUE;
use huntaze_tests::{App, Function, Request, eventually, now};
use huntaze_world::{Fault, Provider};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::hand_over::{hint, queued};
use crate::support::{CIRCUITS, HEALTH, accounts, admin, brief, campaign, closed_port, text, user};

const BOUND: Duration = Duration::from_secs(30);

/// A plan that only Azure is asked for.
fn plan() -> Value {
    let mut body = brief("content_planning", &["onlyfans"]);
    body["forceProvider"] = json!("azure");
    body
}

/// One failure opens a circuit, for so long.
async fn app(open_ms: &str) -> Result<App> {
    Ok(App::start().await?.set("MAX_RETRIES", "0").set("BREAKER_FAILURES", "1").set("BREAKER_OPEN_MS", open_ms))
}

/// Azure fails, and its circuit opens.
async fn opened(app: &App) -> Result<Function> {
    app.world.fault(Fault::status(500).on(Provider::Azure));
    let hybrid = app.function("campaigns-hybrid")?;
    let answer = hybrid.http(campaign("ana", &plan())).await?;
    ensure!(answer.status == 503, "{}", answer.body);
    Ok(hybrid)
}

/// The lines of a metric, once there are so many.
async fn emitted(function: &Function, metric: &str, most: usize) -> Result<Vec<Value>> {
    eventually(BOUND, async || {
        let stdout = function.stdout();
        let lines: Vec<Value> = stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let found: Vec<_> = lines.into_iter().filter(|line| line.get(metric).is_some()).collect();
        ensure!(found.len() == most, "{metric}: {found:?}");
        Ok(found)
    })
    .await
}

/// A line of one circuit, with its provider and without.
fn assert_counts(line: &Value, metric: &str) {
    let directive = &line["_aws"]["CloudWatchMetrics"][0];
    assert_eq!(directive["Dimensions"], json!([["Provider"], []]), "{line}");
    assert_eq!(
        (&line["Provider"], &line["Circuit"], &line[metric]),
        (&json!("azure"), &json!("azure:gpt-4-turbo"), &json!(1))
    );
    let known = CATALOGUE.iter().any(|one| {
        one.namespace == text(&directive["Namespace"]) && one.name == metric && one.dimensions == ["Provider"]
    });
    assert!(known, "{line}");
}

async fn circuits(app: &App) -> Result<Value> {
    let answer = app.function("circuits")?.http(admin(Request::get(CIRCUITS))).await?;
    ensure!(answer.status == 200, "{}", answer.body);
    Ok(answer.body["data"].clone())
}

fn of<'a>(data: &'a Value, name: &str) -> &'a Value {
    data["circuits"].as_array().into_iter().flatten().find(|one| one["name"] == name).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn a_circuit_that_opens_and_one_that_closes_are_counted_once_each_by_whoever_did_it() -> Result<()> {
    let app = app("300").await?;
    let hybrid = opened(&app).await?;
    assert_counts(&emitted(&hybrid, "CircuitOpened", 1).await?[0], "CircuitOpened");
    let another = app.function("campaigns-hybrid")?;
    eventually(BOUND, async || {
        let answer = another.http(campaign("ana", &plan())).await?;
        ensure!(answer.status == 200, "{}", answer.body);
        Ok(())
    })
    .await?;
    assert_counts(&emitted(&another, "CircuitClosed", 1).await?[0], "CircuitClosed");
    // What changes nothing is counted by nobody.
    assert_eq!(another.http(campaign("ana", &plan())).await?.status, 200);
    emitted(&another, "Requests", another.stdout().matches("\"Requests\":1").count()).await?;
    emitted(&another, "CircuitClosed", 1).await?;
    emitted(&another, "CircuitOpened", 0).await?;
    emitted(&hybrid, "CircuitClosed", 0).await?;
    Ok(())
}

#[tokio::test]
async fn a_circuit_that_opens_behind_the_queue_is_counted_there() -> Result<()> {
    let app = app("600000").await?;
    let workflow = queued(&app, &plan()).await?;
    app.world.fault(Fault::status(500).on(Provider::Azure));
    let consumer = app.function("workflow-consumer")?;
    consumer.invoke(&hint(&workflow), BOUND).await?;
    assert_counts(&emitted(&consumer, "CircuitOpened", 1).await?[0], "CircuitOpened");
    Ok(())
}

#[tokio::test]
async fn health_is_degraded_while_a_circuit_is_open_and_does_not_say_whose() -> Result<()> {
    let app = app("600000").await?;
    opened(&app).await?;
    let response = app.function("health")?.http(Request::get(HEALTH)).await?;
    assert_eq!((response.status, &response.body["status"]), (200, &json!("degraded")), "{}", response.body);
    let checks = &response.body["checks"];
    let azure = (&checks["azureProvider"]["status"], &checks["azureProvider"]["message"]);
    assert_eq!(azure, (&json!("degraded"), &json!("a circuit is open")));
    assert_eq!(
        (&checks["openaiProvider"]["status"], &checks["orchestrator"]["status"]),
        (&json!("healthy"), &json!("healthy"))
    );
    assert!(!response.body.to_string().contains("gpt-4"), "{}", response.body);
    // To look is no probe: nothing was let through.
    assert_eq!(of(&circuits(&app).await?, "azure:gpt-4-turbo")["state"], "open");
    Ok(())
}

#[tokio::test]
async fn health_is_degraded_until_a_probe_has_found_the_provider_back() -> Result<()> {
    let app = app("1").await?;
    opened(&app).await?;
    app.world.fault(Fault::Gate.on(Provider::Azure));
    let prober = app.function("campaigns-hybrid")?;
    let probe = prober.start_http(campaign("ana", &plan()));
    app.world.wait_for_calls(2, BOUND).await?;
    let seen = circuits(&app).await?;
    let circuit = of(&seen, "azure:gpt-4-turbo");
    assert_eq!(circuit["state"], "half_open", "{seen}");
    assert!(text(&circuit["probeUntil"]).parse::<Timestamp>()? > now(), "{seen}");
    let health = async || Ok::<_, anyhow::Error>(app.function("health")?.http(Request::get(HEALTH)).await?.body);
    assert_eq!(health().await?["checks"]["azureProvider"]["status"], "degraded");
    app.world.release();
    assert_eq!(probe.response().await?.status, 200);
    assert_eq!(health().await?["checks"]["azureProvider"]["status"], "healthy");
    Ok(())
}

#[tokio::test]
async fn without_redis_no_provider_is_worse_for_it_and_the_process_says_what_it_knows() -> Result<()> {
    let app = app("600000").await?.set("REDIS_URL", format!("redis://{}", closed_port()?));
    let checks = app.function("health")?.http(Request::get(HEALTH)).await?.body["checks"].take();
    for provider in ["azureProvider", "openaiProvider"] {
        assert_eq!(checks[provider]["status"], "healthy", "{checks}");
    }
    let seen = circuits(&app).await?;
    assert_eq!(
        (&seen["keeper"], &of(&seen, "azure:gpt-4-turbo")["state"]),
        (&json!("process"), &json!("closed")),
        "{seen}"
    );
    Ok(())
}

#[tokio::test]
async fn an_administrator_sees_every_circuit_and_how_long_it_is_open() -> Result<()> {
    let app = app("600000").await?;
    let before = circuits(&app).await?;
    let names: Vec<_> = before["circuits"].as_array().unwrap().iter().map(|one| text(&one["name"])).collect();
    assert_eq!(names, ["azure:gpt-4-turbo", "openai:gpt-4o", "openai:gpt-4o-mini"]);
    let closed = |one: &Value| one["state"] == "closed" && one["epoch"] == 0 && one.get("openUntil").is_none();
    assert!(before["circuits"].as_array().unwrap().iter().all(closed), "{before}");
    assert_eq!(
        (&before["keeper"], &before["accounts"], &before["moreAccounts"]),
        (&json!("redis"), &json!([]), &json!(false))
    );

    opened(&app).await?;
    app.world.fault(Fault::rate_limited(30).on(Provider::OpenAi));
    let body = brief("message_generation", &["onlyfans"]);
    app.function("campaigns-hybrid")?.http(campaign("ana", &body)).await?;
    let after = circuits(&app).await?;
    let (azure, openai) = (of(&after, "azure:gpt-4-turbo"), of(&after, "openai:gpt-4o-mini"));
    assert_eq!(
        (&azure["state"], &azure["provider"], &azure["model"]),
        (&json!("open"), &json!("azure"), &json!("gpt-4-turbo"))
    );
    let until: Timestamp = text(&azure["openUntil"]).parse()?;
    assert!(until > now() && azure["epoch"].as_u64() > Some(0), "{after}");
    assert_eq!(openai["state"], "closed");
    assert!(text(&openai["pacedUntil"]).parse::<Timestamp>()? > now(), "{after}");
    // A provider without a key is never called.
    let one = app.unset("OPENAI_API_KEY");
    assert_eq!(circuits(&one).await?["circuits"].as_array().map(Vec::len), Some(1));
    Ok(())
}

#[tokio::test]
async fn accounts_that_failures_stopped_are_shown_and_no_others() -> Result<()> {
    let app = App::start().await?;
    accounts(&app, &[("acc-1", "ana"), ("acc-2", "ana"), ("acc-3", "bob"), ("acc-4", "bob")]).await?;
    let sql = "UPDATE orchestrator.accounts SET failures = $2::text::smallint, resume_at = now() + $3::text::interval WHERE id = $1";
    for (account, failures, resumes) in
        [("acc-1", "5", "1 minute"), ("acc-2", "4", "1 minute"), ("acc-3", "7", "-1 minute")]
    {
        app.stores.execute(sql, &[&account, &failures, &resumes]).await?;
    }
    let mut seen = circuits(&app).await?;
    assert!(text(&seen["accounts"][0]["openUntil"]).parse::<Timestamp>()? > now(), "{seen}");
    seen["accounts"][0].as_object_mut().unwrap().remove("openUntil");
    let expected = json!([
        {"accountId": "acc-1", "userId": "ana", "state": "open", "failures": 5},
        {"accountId": "acc-3", "userId": "bob", "state": "half_open", "failures": 7},
    ]);
    assert_eq!((&seen["accounts"], &seen["moreAccounts"]), (&expected, &json!(false)));

    let many = "INSERT INTO orchestrator.accounts (id, user_id, failures)
        SELECT 'more-' || n, 'ana', 5 FROM generate_series(1, 99) n";
    app.stores.execute(many, &[]).await?;
    let seen = circuits(&app).await?;
    assert_eq!((seen["accounts"].as_array().map(Vec::len), &seen["moreAccounts"]), (Some(100), &json!(true)));
    Ok(())
}

#[tokio::test]
async fn circuits_are_for_administrators() -> Result<()> {
    let app = App::start().await?;
    let refused = app.function("circuits")?.http(user(Request::get(CIRCUITS), "ana")).await?;
    assert_eq!((refused.status, &refused.body["code"]), (403, &json!("forbidden")));
    Ok(())
}
