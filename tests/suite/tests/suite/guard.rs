//! The guard: what harms its users is taken back at one look, what is healthy goes on, and of two who look one acts.

use std::time::Duration;

use anyhow::{Result, ensure};
use huntaze_tests::{App, Function, Request, eventually, now};
use huntaze_world::{Fault, Provider};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::support::{FLAGS, HYBRID, admin, brief, campaign, rolling_out, set_flag, text};

const BOUND: Duration = Duration::from_secs(60);
const HYBRID_FLAG: &str = "hybrid-orchestrator";

/// Ana is taken in and Bob is not, whatever the share.
fn sides(fields: &Value) -> Value {
    let mut flag = json!({"rolloutPercentage": 5, "userWhitelist": ["ana"], "userBlacklist": ["bob"],
        "rollbackTriggers": {"errorRateThreshold": 50, "latencyThreshold": 20_000, "timeWindowMinutes": 10}});
    flag.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    flag
}

/// An app with such a flag, which has had its share for so many minutes; each request whose theme is `fail` does.
async fn app(fields: &Value, minutes: i64) -> Result<App> {
    let app = rolling_out().await?.set("API_RATE_LIMIT_PER_MINUTE", "100000").set("MAX_RETRIES", "0");
    // A circuit that opens would fail the others as well.
    let app = app.set("BREAKER_WINDOW_MS", "1");
    set_flag(&app, &sides(fields)).await?;
    stepped(&app, minutes).await?;
    app.world.fault(Fault::status(500).on_any().always().containing("fail"));
    app.world.fault(Fault::status(500).on(Provider::Legacy).always().containing("fail"));
    Ok(app)
}

async fn stepped(app: &App, minutes: i64) -> Result<()> {
    app.stores.set_stepped_at(HYBRID_FLAG, now() - SignedDuration::from_mins(minutes)).await
}

/// So many requests of each of two, so many of whose fail.
async fn requests(app: &App, users: [(&str, usize, usize); 2]) -> Result<()> {
    let fleet = app.fleet("campaigns-hybrid", 3).await?;
    let plan = |theme: &str| {
        let mut body = brief("content_planning", &["onlyfans"]);
        body["data"]["theme"] = json!(theme);
        body
    };
    for (user, all, failed) in users {
        let of = |index| campaign(user, &plan(if index < failed { "fail" } else { "good" }));
        let answers = fleet.http((0..all).map(of)).await;
        let failures =
            answers.into_iter().filter(|answer| answer.as_ref().is_ok_and(|answer| answer.status >= 500)).count();
        ensure!(failures == failed, "{failures} of {user}'s failed");
    }
    // The last of them is counted behind its answer, and before the next request is taken up.
    for function in fleet.functions() {
        assert_eq!(function.http(Request::post(HYBRID)).await?.status, 401);
    }
    Ok(())
}

async fn look(guard: &Function) -> Result<Value> {
    Ok(guard.invoke(&json!({"source": "aws.scheduler"}), BOUND).await?)
}

async fn flag(app: &App) -> Result<Value> {
    let request = admin(Request::get(FLAGS)).query("name", HYBRID_FLAG);
    Ok(app.function("feature-flags")?.http(request).await?.body["data"].clone())
}

#[tokio::test]
async fn a_failure_that_is_asked_for_again_and_again_is_one_failure() -> Result<()> {
    let app = app(&json!({}), 60).await?;
    requests(&app, [("ana", 150, 0), ("bob", 150, 0)]).await?;
    let function = app.function("campaigns-hybrid")?;
    let mut body = brief("content_planning", &["onlyfans"]);
    body["data"]["theme"] = json!("fail");
    for asked in 0..100 {
        let answer = function.http(campaign("ana", &body).idempotency_key("k-1")).await?;
        assert_eq!(
            (answer.status, answer.header("idempotent-replayed") == "true"),
            (503, asked > 0),
            "{}",
            answer.body
        );
    }
    assert_eq!(function.http(Request::post(HYBRID)).await?.status, 401);
    assert_eq!(look(&app.function("canary-guard")?).await?["changed"], json!([]));
    Ok(())
}

#[tokio::test]
async fn a_canary_with_three_times_the_errors_is_taken_back_at_one_look() -> Result<()> {
    let app = app(&json!({}), 60).await?;
    requests(&app, [("ana", 400, 120), ("bob", 400, 40)]).await?;
    let guard = app.function("canary-guard")?;
    let done = look(&guard).await?;
    assert_eq!(done["changed"], json!([{"flag": HYBRID_FLAG, "from": 5, "to": 0, "why": "more_errors"}]));

    let after = flag(&app).await?;
    assert_eq!(
        (&after["rolloutPercentage"], &after["enabled"], &after["version"]),
        (&json!(0), &json!(true), &json!(2))
    );
    let reason = text(&after["rolledBack"]["reason"]);
    assert!(reason.contains("120 of 400 failed") && reason.contains("40 of 400 failed"), "{reason}");
    let told = app.stores.take_notifications().await?;
    let told: Vec<_> = told.iter().filter(|one| one["kind"] == "rollout").collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0]["severity"], &told[0]["audience"]), (&json!("critical"), &json!("operators")));
    assert!(guard.stdout().contains("\"RolledBack\":1"), "{}", guard.stdout());

    // It stays so, until a person decides how to go on.
    assert_eq!(look(&guard).await?["changed"], json!([]));
    let again = json!({"name": HYBRID_FLAG, "rolloutPercentage": 5});
    let request = admin(Request::put(FLAGS)).header("if-match", "\"2\"").json(&again);
    let answer = app.function("feature-flags")?.http(request).await?;
    assert_eq!((answer.status, answer.body["data"].get("rolledBack")), (200, None), "{}", answer.body);
    // What was before its step is not held against it.
    assert_eq!(look(&guard).await?["changed"], json!([]));
    Ok(())
}

#[tokio::test]
async fn equal_sides_stay_and_so_do_few_requests_and_a_flag_without_triggers() -> Result<()> {
    let app = app(&json!({}), 60).await?;
    requests(&app, [("ana", 99, 60), ("bob", 200, 20)]).await?;
    let guard = app.function("canary-guard")?;
    assert_eq!(look(&guard).await?["changed"], json!([]), "99 requests say nothing");
    requests(&app, [("ana", 201, 0), ("bob", 100, 40)]).await?;
    assert_eq!(look(&guard).await?["changed"], json!([]), "both fail alike");
    set_flag(&app, &sides(&json!({"rollbackTriggers": null}))).await?;
    stepped(&app, 60).await?;
    requests(&app, [("ana", 300, 300), ("bob", 1, 0)]).await?;
    assert_eq!(look(&guard).await?["changed"], json!([]), "nobody asked for it");
    Ok(())
}

#[tokio::test]
async fn a_share_of_the_environment_is_taken_back_by_the_flags_own_switch() -> Result<()> {
    let app = app(&json!({"rolloutPercentage": 0}), 60).await?.set("HYBRID_ORCHESTRATOR_PERCENTAGE", "50");
    requests(&app, [("ana", 200, 160), ("bob", 200, 0)]).await?;
    let done = look(&app.function("canary-guard")?).await?;
    assert_eq!(done["changed"][0]["why"], "more_errors, error_rate_threshold");
    assert_eq!(flag(&app).await?["enabled"], false);
    Ok(())
}

#[tokio::test]
async fn a_plan_goes_on_when_its_step_was_healthy_for_long_enough_and_of_two_guards_one_takes_it() -> Result<()> {
    let plan = json!({"steps": [{"percentage": 5, "bakeMinutes": 60}, {"percentage": 25, "bakeMinutes": 60}]});
    let app = app(&json!({"rolloutPlan": plan}), 61).await?;
    let (guard, other) = (app.function("canary-guard")?, app.function("canary-guard")?);
    assert_eq!(look(&guard).await?["changed"], json!([]), "nobody has asked for anything");
    requests(&app, [("ana", 120, 0), ("bob", 1, 0)]).await?;
    stepped(&app, 58).await?;
    assert_eq!(look(&guard).await?["changed"], json!([]), "it has not baked");
    stepped(&app, 61).await?;
    let (one, two) = tokio::join!(look(&guard), look(&other));
    let taken: Vec<_> = [one?, two?].iter().flat_map(|done| done["changed"].as_array().unwrap().clone()).collect();
    assert_eq!(taken, [json!({"flag": HYBRID_FLAG, "from": 5, "to": 25, "why": "healthy"})]);
    let after = flag(&app).await?;
    assert_eq!((&after["rolloutPercentage"], &after["version"]), (&json!(25), &json!(2)));
    assert_eq!(look(&guard).await?["changed"], json!([]), "the next step has to bake as well");
    let told = eventually(BOUND, async || {
        let told = app.stores.take_notifications().await?;
        ensure!(!told.is_empty(), "nobody was told");
        Ok(told)
    })
    .await?;
    assert_eq!((&told[0]["kind"], &told[0]["severity"]), (&json!("rollout"), &json!("info")));
    Ok(())
}
