//! What was booked at its bound is corrected against the bill: once, in every book.

use std::time::Duration;

use anyhow::{Result, ensure};
use huntaze_domain::money::Usd;
use huntaze_tests::{App, Request};
use huntaze_world::{Fault, Provider};
use serde_json::{Value, json};

use crate::support::{
    BUDGETS, CORRECTIONS, admin, brief, campaign, closed_port, entries_and_rollups, faults, rollups_of, summed, text,
    usd, user,
};

const BOUND: Duration = Duration::from_secs(30);

fn correction(attempt: &str, cost: Value) -> Request {
    let body = json!({"attemptId": attempt, "cost": cost, "reason": "the bill of November"});
    admin(Request::post(CORRECTIONS)).json(&body)
}

/// An app whose budgets hold an attempt that was booked at its bound, and one that was not; their ids.
async fn booked_at_its_bound() -> Result<(App, String, String)> {
    let app = App::start().await?.set("LEDGER_SWEEP_GRACE_MS", "1");
    for scope in [json!({"scope": "global"}), json!({"scope": "user", "userId": "ana"})] {
        let mut budget = json!({"period": "month", "limit": 100});
        budget.as_object_mut().unwrap().extend(scope.as_object().unwrap().clone());
        let set = app.function("costs-budgets")?.http(admin(Request::put(BUDGETS)).json(&budget)).await?;
        ensure!(set.status == 200, "{}", set.body);
    }
    let hybrid = app.function("campaigns-hybrid")?;
    let plan = brief("content_planning", &["onlyfans"]);
    app.world.fault(Fault::NoUsage.on(Provider::Azure));
    let ids = [hybrid.http(campaign("ana", &plan)).await?, hybrid.http(campaign("ana", &plan)).await?]
        .map(|answer| format!("{}.1", text(&answer.body["data"]["workflowId"])));
    let [estimated, known] = ids;
    Ok((app, estimated, known))
}

/// What each book says was spent: budgets, workflows, ledger and its roll-ups.
async fn books(app: &App) -> Result<Vec<Usd>> {
    let sums = "SELECT (SELECT sum(cost)::text FROM orchestrator.attempts) AS attempts,
                       (SELECT sum(cost)::text FROM orchestrator.workflows) AS workflows,
                       (SELECT min(spent)::text FROM orchestrator.budget_periods) AS least,
                       (SELECT max(spent)::text FROM orchestrator.budget_periods) AS most";
    let sums = app.stores.row(sums, &[]).await?;
    let (entries, rollups) = entries_and_rollups(app.stores.cost_items().await?);
    let of = |user, grain| summed(&rollups_of(&rollups, user, grain), "cost");
    let rollups = ["hour", "day", "month"].into_iter().flat_map(|grain| [of(None, grain), of(Some("ana"), grain)]);
    let stored = ["attempts", "workflows", "least", "most"].map(|name| usd(&sums[name]));
    let ledger: Usd = entries.iter().map(|entry| usd(&entry["cost"])).sum();
    Ok(stored.into_iter().chain([ledger]).chain(rollups).collect())
}

#[tokio::test]
async fn a_correction_changes_every_book_once() -> Result<()> {
    let (app, estimated, known) = booked_at_its_bound().await?;
    let corrections = app.function("ledger-corrections")?;
    let early = corrections.http(correction(&estimated, json!(0.001))).await?;
    assert_eq!((early.status, &early.body["code"]), (409, &json!("conflict")), "{}", early.body);
    assert_eq!(early.header("retry-after"), "60");
    app.function("ledger-sweeper")?.invoke(&json!({}), BOUND).await?;

    let list = corrections.http(admin(Request::get(CORRECTIONS))).await?.body["data"].take();
    let attempts = list["attempts"].as_array().unwrap();
    let [shown] = &attempts[..] else { panic!("{list}") };
    assert_eq!((&shown["attemptId"], &shown["userId"]), (&json!(estimated), &json!("ana")));
    let bound = usd(&shown["cost"]);

    let before = books(&app).await?;
    assert!(before.iter().all(|sum| *sum == before[0]), "{before:?}");
    // Twice: the second correction corrects the first. And again, which changes nothing.
    for (cost, was) in [("0.001", bound), ("0.00075", Usd::parse("0.001")?), ("0.00075", Usd::parse("0.00075")?)] {
        let cost = Usd::parse(cost)?;
        let done = corrections.http(correction(&estimated, json!(cost.to_json_number()))).await?;
        assert_eq!(done.status, 200, "{}", done.body);
        let data = &done.body["data"];
        assert_eq!((&data["userId"], usd(&data["costBefore"]), usd(&data["cost"])), (&json!("ana"), was, cost));
        let after = books(&app).await?;
        assert!(after.iter().all(|sum| *sum == before[0] - bound + cost), "{cost}: {after:?}");
    }
    let (entries, rollups) = entries_and_rollups(app.stores.cost_items().await?);
    let entry = entries.iter().find(|entry| entry["id"] == *estimated).unwrap();
    assert_eq!((&entry["estimated"], &entry["correction"]), (&json!(false), &json!("2")));
    for user in [None, Some("ana")] {
        assert_eq!(summed(&rollups_of(&rollups, user, "day"), "estimatedRequests"), Usd::ZERO);
        assert_eq!(summed(&rollups_of(&rollups, user, "day"), "requests"), Usd::parse("2")?);
    }
    let trail = "SELECT count(*), min(actor) AS actor, bool_and(subject = 'attempt:' || $1) AS named
                   FROM orchestrator.audit_log WHERE action = 'ledger.correct'";
    assert_eq!(app.stores.row(trail, &[&estimated]).await?, json!({"count": 2, "actor": "root", "named": true}));
    let list = corrections.http(admin(Request::get(CORRECTIONS))).await?.body["data"].take();
    assert_eq!(list["attempts"], json!([]));

    for (request, status, pointer) in [
        (correction("wf_unknown.1", json!(0)), 404, None),
        (correction(&known, json!(0)), 400, Some("/attemptId")),
        (correction(&estimated, json!(1)), 400, Some("/cost")),
        (correction("a b", json!("free")), 400, Some("/attemptId")),
        (user(Request::post(CORRECTIONS).json(&json!({})), "ana"), 403, None),
        (user(Request::get(CORRECTIONS), "ana"), 403, None),
        (admin(Request::get(CORRECTIONS)).query("limit", "0"), 400, Some("limit")),
        (Request::get(CORRECTIONS), 401, None),
    ] {
        let refused = corrections.http(request).await?;
        assert_eq!((refused.status, faults(&refused.body).first().copied()), (status, pointer), "{}", refused.body);
    }
    let old = "UPDATE orchestrator.attempts SET started_at = started_at - interval '91 days' WHERE id = $1";
    app.stores.execute(old, &[&estimated]).await?;
    assert_eq!(faults(&corrections.http(correction(&estimated, json!(0))).await?.body), ["/attemptId"]);
    Ok(())
}

#[tokio::test]
async fn a_correction_that_the_ledger_misses_is_brought_by_the_sweep() -> Result<()> {
    let (app, estimated, _) = booked_at_its_bound().await?;
    let sweeper = app.function("ledger-sweeper")?;
    sweeper.invoke(&json!({}), BOUND).await?;
    let before = books(&app).await?;
    let away = format!("http://{}", closed_port()?);
    let corrections = app.function_with("ledger-corrections", "AWS_ENDPOINT_URL_DYNAMODB", &away)?;
    for cost in [0.001, 0.000_5] {
        assert_eq!(corrections.http(correction(&estimated, json!(cost))).await?.status, 200);
    }
    let swept = sweeper.invoke(&json!({}), BOUND).await?;
    assert_eq!((&swept["corrected"], &swept["failed"]), (&json!(2), &json!(0)), "{swept}");
    let after = books(&app).await?;
    assert!(after.iter().all(|sum| *sum == after[0] && *sum < before[0]), "{after:?}");

    // Again, as after a mark that was lost: nothing changes.
    app.stores.execute("UPDATE orchestrator.corrections SET projected_at = NULL", &[]).await?;
    assert_eq!(sweeper.invoke(&json!({}), BOUND).await?["corrected"], 2);
    assert_eq!(books(&app).await?, after);
    Ok(())
}

#[tokio::test]
async fn a_budget_that_was_set_later_follows_a_correction_too() -> Result<()> {
    let (app, estimated, _) = booked_at_its_bound().await?;
    app.function("ledger-sweeper")?.invoke(&json!({}), BOUND).await?;
    let budgets = app.function("costs-budgets")?;
    let later = json!({"scope": "user", "userId": "ana", "period": "month", "provider": "azure", "limit": 10});
    assert_eq!(budgets.http(admin(Request::put(BUDGETS)).json(&later)).await?.status, 200);
    let corrected = app.function("ledger-corrections")?.http(correction(&estimated, json!(0))).await?;
    assert_eq!(corrected.status, 200, "{}", corrected.body);
    let books = books(&app).await?;
    assert!(books.iter().all(|sum| *sum == books[0]), "{books:?}");
    Ok(())
}
