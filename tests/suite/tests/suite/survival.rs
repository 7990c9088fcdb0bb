//! Three hundred workflows while whoever runs them is killed: each ends, and what was paid for is paid for once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use huntaze_domain::ids::random;
use huntaze_domain::money::Usd;
use huntaze_tests::post::{batch_of, consume};
use huntaze_tests::{App, Fleet, Function, Request};
use huntaze_world::{Fault, Outcome, Provider};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::support::{brief, campaign, entries_and_rollups, text, usd};

const WORKFLOWS: usize = 300;
const KILLS: usize = 30;
const WORKERS: usize = 4;
const BOUND: Duration = Duration::from_secs(240);

fn request(number: usize) -> Request {
    let kinds = ["content_planning", "message_generation", "content_validation", "campaign_execution"];
    let mut body = brief(kinds[number % kinds.len()], &["onlyfans", "instagram"]);
    // A quarter asks for what was asked for before.
    body["data"]["theme"] = json!(format!("theme {}", number / 28 % 8));
    let request = campaign(&format!("user-{}", number % 7), &body).idempotency_key(&format!("key-{number}"));
    if number.is_multiple_of(2) { request.header("prefer", "respond-async") } else { request }
}

/// Takes hints until there are none, with a process that is killed now and then.
async fn work(app: &App, hints: &Mutex<VecDeque<String>>, kills: &AtomicUsize, turns: &AtomicUsize) -> Result<()> {
    let mut consumer = app.function("workflow-consumer")?;
    loop {
        let Some(workflow) = hints.lock().unwrap().pop_front() else { return Ok(()) };
        let batch = batch_of(&json!({"workflowId": workflow}).to_string(), 1);
        let doomed = turns.fetch_add(1, Ordering::Relaxed) % 4 == 3 && kills.fetch_add(1, Ordering::Relaxed) < KILLS;
        if !doomed {
            let again = consume(&consumer, &batch).await?;
            ensure!(again == Some(Vec::new()), "{again:?}");
            continue;
        }
        let _lost = consumer.start_invoke(&batch, Duration::from_secs(60));
        // Anywhere in its work, which is a few calls of 20 to 60 ms.
        sleep(Duration::from_millis(random() % 250)).await;
        consumer.kill().await?;
        consumer = app.function("workflow-consumer")?;
        // Time passes: its lease runs out, and the sweep may name it again.
        let sql = "UPDATE orchestrator.workflows SET due_at = now() - interval '1 minute', hinted_at = NULL
                   WHERE id = $1 AND due_at IS NOT NULL";
        app.stores.execute(sql, &[&workflow]).await?;
    }
}

/// What is on the queue, and what the sweep puts there.
async fn due(app: &App, sweeper: &Function) -> Result<VecDeque<String>> {
    sweeper.invoke(&json!({}), BOUND).await?;
    let hints = app.stores.take_workflow_hints().await?;
    Ok(hints.iter().map(|hint| text(&hint["workflowId"]).to_owned()).collect())
}

#[tokio::test]
async fn design_of_300_workflows_whose_consumers_are_killed_30_times_each_ends_and_no_finished_step_is_paid_twice()
-> Result<()> {
    let app = App::start().await?.set("LEDGER_SWEEP_GRACE_MS", "1").set("WORKFLOW_SWEEP_GRACE_MS", "1");
    let app = app.set("API_RATE_LIMIT_PER_MINUTE", "10000").set("WORKFLOW_RETRY_MS", "1000").caching();
    // Nobody is kept out by a circuit for longer than the faults last.
    let app = app.set("BREAKER_OPEN_MS", "500");
    app.world.fault(Fault::status(503).on(Provider::Azure).times(20));
    app.world.fault(Fault::status(500).on(Provider::OpenAi).times(20));
    app.world.fault(Fault::rate_limited(1).on(Provider::OpenAi).times(10));
    app.world.fault(Fault::delay(Duration::from_millis(40)).on_any().always());
    let fleet = app.fleet("campaigns-hybrid", WORKERS).await?;
    let (kills, turns) = (AtomicUsize::new(0), AtomicUsize::new(0));
    ask(&fleet).await?;
    let sweeper = app.function("workflow-sweeper")?;
    let open = "SELECT count(*) AS open FROM orchestrator.workflows WHERE status IN ('queued', 'running')";
    let finishing = async {
        while app.stores.row(open, &[]).await?["open"] != 0 {
            let hints = Arc::new(Mutex::new(due(&app, &sweeper).await?));
            try_join_all((0..WORKERS).map(|_| work(&app, &hints, &kills, &turns))).await?;
            // What waits for a provider is waited for: a second at the most.
        }
        anyhow::Ok(())
    };
    timeout(BOUND, finishing).await.context("some never end")??;
    ensure!(kills.into_inner() >= KILLS, "too few were killed");
    app.function("ledger-sweeper")?.invoke(&json!({}), BOUND).await?;
    all_have_ended(&app).await?;
    no_finished_step_is_paid_twice(&app).await?;
    what_was_paid_is_in_the_ledger(&app).await
}

async fn ask(fleet: &Fleet) -> Result<()> {
    for chunk in (0..WORKFLOWS).collect::<Vec<_>>().chunks(WORKERS) {
        for (number, answer) in chunk.iter().zip(fleet.http(chunk.iter().copied().map(request)).await) {
            let answer = answer?;
            let expected =
                if number % 2 == 0 { answer.status == 202 } else { [200, 202, 503].contains(&answer.status) };
            ensure!(expected, "{number}: {} {}", answer.status, answer.body);
        }
    }
    Ok(())
}

async fn all_have_ended(app: &App) -> Result<()> {
    let rows =
        app.stores.rows("SELECT id, status, error, result IS NOT NULL AS answered FROM orchestrator.workflows", &[]);
    let rows = rows.await?;
    ensure!(rows.len() == WORKFLOWS, "{}", rows.len());
    for row in rows {
        let ended = match text(&row["status"]) {
            "completed" => row["answered"] == true,
            "failed" => row["error"]["detail"].is_string(),
            "manual_review" => true,
            _ => false,
        };
        ensure!(ended, "{row}");
    }
    Ok(())
}

async fn no_finished_step_is_paid_twice(app: &App) -> Result<()> {
    let sql = "SELECT workflow_id, step, outcome FROM orchestrator.attempts ORDER BY workflow_id, sequence";
    let mut finished = BTreeSet::new();
    for attempt in app.stores.rows(sql, &[]).await? {
        let step = (text(&attempt["workflow_id"]).to_owned(), text(&attempt["step"]).to_owned());
        ensure!(!finished.contains(&step), "{step:?} was finished, and called again");
        if attempt["outcome"] == "succeeded" {
            finished.insert(step);
        }
    }
    Ok(())
}

async fn what_was_paid_is_in_the_ledger(app: &App) -> Result<()> {
    let (entries, _) = entries_and_rollups(app.stores.cost_items().await?);
    let entries: BTreeMap<_, _> = entries.iter().map(|entry| (text(&entry["id"]), entry)).collect();
    let mut seen = BTreeSet::new();
    for call in app.world.calls() {
        let id = ["x-ms-client-request-id", "x-client-request-id"].iter().find_map(|name| call.headers.get(*name));
        let id = id.context("a call without an attempt's id")?;
        let entry = entries.get(id.as_str());
        // What the world did not refuse it was paid for, also where nobody was there any more to hear its answer.
        let paid = !matches!(call.outcome, Outcome::Answered { status } if status != 200);
        ensure!(entry.is_some() || !paid, "{id} was paid for and is in no ledger");
        seen.insert(id.clone());
    }
    let beyond = entries.iter().filter(|(id, _)| !seen.contains(**id));
    for (id, entry) in beyond {
        let free = entry["cacheHit"] == true && usd(&entry["cost"]) == Usd::ZERO;
        ensure!(free || entry["estimated"] == true, "{id} was never called and is no estimate: {entry}");
    }
    let booked = app.stores.row("SELECT sum(cost)::text AS cost FROM orchestrator.workflows", &[]).await?;
    let ledger = entries.values().map(|entry| usd(&entry["cost"])).sum();
    ensure!(usd(&booked["cost"]) == ledger, "{booked}");
    Ok(())
}
