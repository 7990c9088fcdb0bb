//! A process dies, and nothing is lost: what it left is brought to its end by the sweep.

use std::time::Duration;

use anyhow::Result;
use huntaze_tests::{App, Proxy, Request, Session};
use huntaze_world::{Fault, Provider};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{STATUS, brief, campaign, entries_and_rollups, rollups_of, run_out, status_of, summed, text, usd};

const BOUND: Duration = Duration::from_secs(30);

async fn only_workflow(app: &App) -> Result<String> {
    Ok(text(&app.stores.row("SELECT id FROM orchestrator.workflows", &[]).await?["id"]).to_owned())
}

/// An app whose functions reach PostgreSQL through a proxy.
async fn behind_a_proxy() -> Result<(App, Proxy)> {
    let app = App::start().await?;
    let mut url = reqwest::Url::parse(&app.env()["DATABASE_URL"])?;
    let target = (url.host_str().unwrap(), url.port().unwrap());
    let proxy = Proxy::to(tokio::net::lookup_host(target).await?.next().unwrap()).await?;
    url.set_port(Some(proxy.addr().port())).unwrap();
    let app = app.set("DATABASE_URL", url.as_str());
    Ok((app, proxy))
}

#[tokio::test]
async fn design_no_crash_can_separate_a_call_from_its_reservation() -> Result<()> {
    let app = App::start().await?.set("LEDGER_SWEEP_GRACE_MS", "1");
    let hybrid = app.function("campaigns-hybrid")?;
    let (status, sweeper) = (app.function("campaigns-status")?, app.function("ledger-sweeper")?);
    app.world.fault(Fault::status(401).on(Provider::Azure));
    app.world.fault(Fault::Gate.on(Provider::OpenAi));
    let request = campaign("ana", &brief("content_planning", &["onlyfans"])).idempotency_key("k1");
    let _lost = hybrid.start_http(request.clone());
    app.world.wait_for_calls(2, BOUND).await?;
    hybrid.kill().await?;

    let workflow = only_workflow(&app).await?;
    let view = status.http(status_of("ana", &workflow)).await?.body["data"].take();
    assert_eq!((&view["status"], &view["currentProvider"]), (&json!("running"), &json!("openai")));
    let outcomes: Vec<_> = view["attempts"].as_array().unwrap().iter().map(|a| text(&a["outcome"])).collect();
    assert_eq!(outcomes, ["failed", "pending"]);

    // Only once the reservation has run out, the sweep takes the call for lost.
    assert_eq!(sweeper.invoke(&json!({}), BOUND).await?["settled"], 0);
    run_out(&app).await?;
    assert_eq!(sweeper.invoke(&json!({}), BOUND).await?["settled"], 1);
    let view = status.http(status_of("ana", &workflow)).await?.body["data"].take();
    let stop = view["decisions"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&stop["action"], &stop["reason"], &stop["step"]),
        (&json!("stop"), &json!("interrupted"), &json!("plan"))
    );
    assert!(text(&stop["at"]).parse::<jiff::Timestamp>().is_ok(), "{stop}");
    let lost = &view["attempts"][1];
    assert_eq!(
        (&lost["outcome"], &lost["estimated"], &lost["failure"]),
        (&json!("unknown"), &json!(true), &json!("interrupted"))
    );
    assert_eq!((&lost["cost"], &view["cost"]["total"]), (&lost["boundCost"], &lost["boundCost"]));
    assert_eq!((&view["status"], &view["providerStates"]["openai"]), (&json!("failed"), &json!("failed")));

    // It is booked once, in the ledger too, and its key does not start another.
    let again = sweeper.invoke(&json!({}), BOUND).await?;
    assert_eq!((&again["settled"], &again["failed"]), (&json!(0), &json!(0)));
    let (entries, rollups) = entries_and_rollups(app.stores.cost_items().await?);
    let booked = summed(&rollups_of(&rollups, Some("ana"), "day"), "cost");
    assert_eq!((entries.len(), booked), (2, usd(&lost["cost"])));
    let repeated = app.function("campaigns-hybrid")?.http(request).await?;
    assert_eq!((repeated.status, &repeated.body["workflowId"]), (500, &json!(workflow)), "{}", repeated.body);
    Ok(())
}

#[tokio::test]
async fn a_crash_between_settlement_and_projection_leaves_a_ledger_that_the_sweep_completes() -> Result<()> {
    let app = App::start().await?.set("LEDGER_SWEEP_GRACE_MS", "1");
    // A DynamoDB that takes the connection and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", silent.local_addr()?);
    let hybrid = app.function_with("campaigns-hybrid", "AWS_ENDPOINT_URL_DYNAMODB", &endpoint)?;
    let _lost = hybrid.start_http(campaign("ana", &brief("content_planning", &["onlyfans"])));
    let (_connection, _) = tokio::time::timeout(BOUND, silent.accept()).await??;
    hybrid.kill().await?;

    let view =
        app.function("campaigns-status")?.http(status_of("ana", &only_workflow(&app).await?)).await?.body["data"]
            .take();
    assert_eq!(view["status"], "completed");
    assert_eq!(app.stores.cost_items().await?.len(), 0);
    let swept = app.function("ledger-sweeper")?.invoke(&json!({}), BOUND).await?;
    assert_eq!(swept, json!({"ended": 0, "settled": 0, "corrected": 0, "found": 0, "written": 1, "failed": 0}));
    let (entries, rollups) = entries_and_rollups(app.stores.cost_items().await?);
    assert_eq!((entries.len(), rollups.len()), (1, 6));
    assert_eq!(usd(&entries[0]["cost"]), usd(&view["cost"]["total"]));
    assert_eq!(entries[0]["timestamp"], view["attempts"][0]["startedAt"]);
    Ok(())
}

#[tokio::test]
async fn a_ledger_that_is_silent_or_away_does_not_hold_up_the_answer() -> Result<()> {
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let away = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    for address in [silent.local_addr()?, away] {
        // What has six seconds starts only where it may end in them.
        let app = App::start().await?.set("PLANNER_TIME_MS", "2000");
        let app = app.set("AWS_ENDPOINT_URL_DYNAMODB", format!("http://{address}"));
        let hybrid = app.function("campaigns-hybrid")?;
        let event = campaign("ana", &brief("content_planning", &["onlyfans"])).event();
        // The function has six seconds in all, and is killed after them: the first answer would be lost with it.
        let mut first = hybrid.start_invoke(&event, Duration::from_secs(6));
        let next = hybrid.start_invoke(&event, Duration::from_secs(6));
        let answered = first.timed().await?;
        assert_eq!(answered.answer["statusCode"], 200, "{}", answered.answer);
        // The ledger is given two seconds, which nobody waits for; then the next event is taken.
        assert!(answered.took < Duration::from_secs(2), "{:?}", answered.took);
        assert_eq!(next.answer().await?["statusCode"], 200);
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_that_is_silent_is_replaced() -> Result<()> {
    let (app, proxy) = behind_a_proxy().await?;
    let hybrid = app.function("campaigns-hybrid")?;
    let request = || campaign("ana", &brief("message_generation", &["onlyfans"]));
    assert_eq!(hybrid.http(request()).await?.status, 200);
    proxy.silence();
    let response = hybrid.http(request()).await?;
    assert_eq!(response.status, 200, "{}", response.body);
    assert_eq!(app.stores.row("SELECT count(*) AS n FROM orchestrator.workflows", &[]).await?, json!({"n": 2}));
    Ok(())
}

#[tokio::test]
async fn design_a_lost_reply_of_the_store_is_not_a_second_workflow_or_charge() -> Result<()> {
    let (app, proxy) = behind_a_proxy().await?;
    let hybrid = app.function("campaigns-hybrid")?;
    let request = |key: &str| campaign("ana", &brief("content_planning", &["onlyfans"])).idempotency_key(key);

    // The answer to `begin` is lost.
    hybrid.ready().await?;
    proxy.lose_the_next_answer();
    let response = hybrid.http(request("k1")).await?;
    assert_eq!(response.status, 200, "{}", response.body);

    // The answer to `advance` is lost.
    app.world.fault(Fault::Gate.on(Provider::Azure));
    let under_way = hybrid.start_http(request("k2"));
    app.world.wait_for_calls(2, BOUND).await?;
    proxy.lose_the_next_answer();
    app.world.release();
    let response = under_way.response().await?;
    assert_eq!(response.status, 200, "{}", response.body);

    let stored = "SELECT count(*) AS workflows, (SELECT count(*) FROM orchestrator.attempts) AS attempts,
                         (SELECT count(*) FROM orchestrator.reservations WHERE settled_at IS NULL) AS held,
                         bool_and(status = 'completed') AS completed,
                         sum(cost) = (SELECT sum(cost) FROM orchestrator.attempts) AS even FROM orchestrator.workflows";
    let expected = json!({"workflows": 2, "attempts": 2, "held": 0, "completed": true, "even": true});
    assert_eq!(app.stores.row(stored, &[]).await?, expected);
    assert_eq!(app.world.calls().len(), 2);
    Ok(())
}

#[tokio::test]
async fn messages_that_a_crash_left_are_all_booked() -> Result<()> {
    let app = App::start().await?.set("LEDGER_SWEEP_GRACE_MS", "1");
    let hybrid = app.function("campaigns-hybrid")?;
    app.world.fault(Fault::Gate.on(Provider::OpenAi).always());
    let body = brief("campaign_execution", &["onlyfans", "instagram", "reddit"]);
    let _lost = hybrid.start_http(campaign("ana", &body));
    // The plan, and the three messages side by side.
    app.world.wait_for_calls(4, BOUND).await?;
    hybrid.kill().await?;
    run_out(&app).await?;
    let sweeper = app.function("ledger-sweeper")?;
    assert_eq!(sweeper.invoke(&json!({}), BOUND).await?["settled"], 3);
    // What one sweep settles, the next brings into the ledger.
    assert_eq!(sweeper.invoke(&json!({}), BOUND).await?["failed"], 0);
    let (entries, rollups) = entries_and_rollups(app.stores.cost_items().await?);
    let stored = "SELECT sum(cost)::text AS cost, (SELECT cost::text FROM orchestrator.workflows) AS workflow FROM orchestrator.attempts";
    let stored = app.stores.row(stored, &[]).await?;
    assert_eq!((entries.len(), usd(&stored["cost"])), (4, usd(&stored["workflow"])));
    assert_eq!(summed(&rollups_of(&rollups, Some("ana"), "day"), "cost"), usd(&stored["cost"]));
    Ok(())
}

#[tokio::test]
async fn a_connection_that_died_while_the_environment_was_frozen_is_opened_again() -> Result<()> {
    let app = App::start().await?;
    let hybrid = app.function("campaigns-hybrid")?;
    let request = || campaign("ana", &brief("message_generation", &["onlyfans"]));
    assert_eq!(hybrid.http(request()).await?.status, 200);
    let ended = "SELECT count(pg_terminate_backend(pid)) AS ended FROM pg_stat_activity
                  WHERE datname = current_database() AND application_name = 'huntaze-orchestrator'";
    assert_eq!(app.stores.row(ended, &[]).await?["ended"], 1);
    let response = hybrid.http(request()).await?;
    assert_eq!(response.status, 200, "{}", response.body);
    assert_eq!(app.stores.row("SELECT count(*) AS n FROM orchestrator.workflows", &[]).await?, json!({"n": 2}));
    Ok(())
}

#[tokio::test]
async fn a_late_settlement_does_not_undo_the_sweeps() -> Result<()> {
    let app = App::start().await?;
    let hybrid = app.function("campaigns-hybrid")?;
    app.world.fault(Fault::Gate.on(Provider::Azure));
    let under_way = hybrid.start_http(campaign("ana", &brief("content_planning", &["onlyfans"])));
    app.world.wait_for_calls(1, BOUND).await?;
    run_out(&app).await?;
    assert_eq!(app.function("ledger-sweeper")?.invoke(&json!({}), BOUND).await?["settled"], 1);
    let before = app
        .stores
        .rows("SELECT outcome, failure, cost::text, settled_at::text FROM orchestrator.attempts", &[])
        .await?;
    app.world.release();
    assert_eq!(under_way.response().await?.status, 500);
    let after: Vec<Value> = app
        .stores
        .rows("SELECT outcome, failure, cost::text, settled_at::text FROM orchestrator.attempts", &[])
        .await?;
    assert_eq!(before, after);
    Ok(())
}

#[tokio::test]
async fn a_store_that_fails_one_settlement_loses_none_of_the_others() -> Result<()> {
    let app = App::start().await?;
    let refuse =
        "ALTER TABLE orchestrator.attempts ADD CHECK (NOT (step = 'message:instagram' AND outcome = 'succeeded'))";
    app.stores.execute(refuse, &[]).await?;
    let body = brief("campaign_execution", &["onlyfans", "instagram", "reddit"]);
    let response = app.function("campaigns-hybrid")?.http(campaign("ana", &body)).await?;
    assert_eq!((response.status, &response.body["code"]), (500, &json!("internal")), "{}", response.body);
    let view =
        app.function("campaigns-status")?.http(status_of("ana", &only_workflow(&app).await?)).await?.body["data"]
            .take();
    let mut ends: Vec<_> = view["attempts"].as_array().unwrap().iter().map(|a| text(&a["outcome"])).collect();
    ends.sort_unstable();
    assert_eq!(ends, ["pending", "succeeded", "succeeded", "succeeded"]);
    // It is ended by whichever settlement is written last, or by the sweep.
    assert!(["running", "failed"].contains(&text(&view["status"])), "{view}");

    run_out(&app).await?;
    assert_eq!(app.function("ledger-sweeper")?.invoke(&json!({}), BOUND).await?["settled"], 1);
    let stored =
        "SELECT status, cost = (SELECT sum(cost) FROM orchestrator.attempts) AS even FROM orchestrator.workflows";
    assert_eq!(app.stores.row(stored, &[]).await?, json!({"status": "failed", "even": true}));
    Ok(())
}

/// A begin that the function gave up goes on in the network, and may be carried out when its workflow has been withdrawn.
#[tokio::test]
async fn a_begin_that_arrives_behind_its_withdrawal_changes_nothing() -> Result<()> {
    const BEGIN: &str = "SELECT fresh, refusal FROM orchestrator.begin_workflow($1, $2, $3)";
    let app = App::start().await?.set("API_RATE_LIMIT_PER_MINUTE", "1");
    let hybrid = app.function("campaigns-hybrid")?;
    assert_eq!(hybrid.http(campaign("ana", &brief("content_planning", &["onlyfans"]))).await?.status, 200);
    let refused = campaign("ana", &brief("content_planning", &["onlyfans"])).idempotency_key("k1");
    assert_eq!(app.function("campaigns-hybrid")?.http(refused).await?.status, 429);

    let state = "SELECT (SELECT jsonb_agg(w.status ORDER BY w.status) FROM orchestrator.workflows w) AS workflows,
                        (SELECT count(*) FROM orchestrator.attempts WHERE outcome = 'pending') AS pending,
                        (SELECT count(*) FROM orchestrator.reservations WHERE settled_at IS NULL) AS held,
                        (SELECT count(*) FROM orchestrator.workflows WHERE idempotency_key = 'k1') AS keys";
    let expected = json!({"workflows": ["completed", "withdrawn"], "pending": 0, "held": 0, "keys": 0});
    assert_eq!(app.stores.row(state, &[]).await?, expected);
    let sent = app
        .stores
        .row(
            "SELECT to_jsonb(w) || '{\"idempotency_key\": \"k1\"}' AS workflow, to_jsonb(a) AS attempt
               FROM orchestrator.workflows w JOIN orchestrator.attempts a ON a.workflow_id = w.id
              WHERE w.status = 'withdrawn'",
            &[],
        )
        .await?;
    app.stores.execute(BEGIN, &[&sent["workflow"], &sent["attempt"], &120_000_i64]).await?;
    assert_eq!(app.stores.row(state, &[]).await?, expected);

    // No route shows it, nothing is owed for it, and an hour later it is gone.
    let list = campaigns_of("ana", &app).await?;
    assert_eq!((&list["summary"]["total"], list["workflows"].as_array().map(Vec::len)), (&json!(1), Some(1)));
    let old = "UPDATE orchestrator.workflows SET completed_at = now() - interval '2 hours' WHERE status = 'withdrawn'";
    app.stores.execute(old, &[]).await?;
    let swept = app.function("ledger-sweeper")?.invoke(&json!({}), BOUND).await?;
    assert_eq!((&swept["settled"], &swept["ended"]), (&json!(0), &json!(0)), "{swept}");
    let gone = json!({"workflows": ["completed"], "pending": 0, "held": 0, "keys": 0});
    assert_eq!(app.stores.row(state, &[]).await?, gone);
    Ok(())
}

async fn campaigns_of(user: &str, app: &App) -> Result<Value> {
    // Asked by somebody whose own requests are not used up.
    let request = Request::get(STATUS).bearer(&Session::admin("root").v4()).query("userId", user);
    Ok(app.function("campaigns-status")?.http(request).await?.body["data"].take())
}

#[tokio::test]
async fn a_workflow_that_nobody_drives_any_more_is_ended_by_the_sweep() -> Result<()> {
    let app = App::start().await?;
    let made =
        app.function("campaigns-hybrid")?.http(campaign("ana", &brief("content_planning", &["onlyfans"]))).await?;
    let workflow = text(&made.body["data"]["workflowId"]).to_owned();
    // Every attempt is settled, and the statement that ends the workflow was never carried out.
    let lost = "UPDATE orchestrator.workflows
                   SET status = 'running', completed_at = NULL, result = NULL, started_at = now() - interval '10 minutes'";
    app.stores.execute(lost, &[]).await?;
    let swept = app.function("ledger-sweeper")?.invoke(&json!({}), BOUND).await?;
    assert_eq!((&swept["ended"], &swept["settled"]), (&json!(1), &json!(0)), "{swept}");
    let view = app.function("campaigns-status")?.http(status_of("ana", &workflow)).await?.body["data"].take();
    assert_eq!((&view["status"], &view["error"]["code"]), (&json!("failed"), &json!("internal")));
    assert_eq!(view["decisions"].as_array().unwrap().last().unwrap()["reason"], "interrupted");
    Ok(())
}
