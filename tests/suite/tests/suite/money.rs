//! What a request costs: exactly, once, and never more than was allowed.

use std::collections::BTreeMap;

use anyhow::Result;
use huntaze_domain::money::Usd;
use huntaze_tests::App;
use huntaze_world::{Fault, Provider};
use serde_json::{Value, json};

use crate::support::{brief, campaign, entries_and_rollups, priced, rollups_of, status_of, summed, text, usd};

#[tokio::test]
async fn a_request_costs_its_tokens_times_the_catalogues_price_to_the_last_digit() -> Result<()> {
    let app = App::start().await?;
    let hybrid = app.function("campaigns-hybrid")?;
    for (kind, provider) in
        [("content_planning", "azure"), ("message_generation", "openai"), ("content_validation", "openai")]
    {
        let response = hybrid.http(campaign("ana", &brief(kind, &["onlyfans"]))).await?;
        assert_eq!(response.status, 200, "{}", response.body);
        let data = &response.body["data"];
        assert_eq!((&data["provider"], &data["status"]), (&json!(provider), &json!("completed")));
        let costs = &data["detailedCosts"];
        assert_eq!(usd(&costs["totalCost"]), priced(costs));
        assert_eq!(usd(&response.body["metrics"]["cost"]["cost"]), priced(costs));
        assert!(text(&data["content"]).to_lowercase().contains("summer nights"), "{}", data["content"]);
        let is_score = |name: &str| data[name].as_f64().is_some_and(|score| (0.0..=1.0).contains(&score));
        // What is said of a text has no quality of its own.
        assert_eq!(
            (is_score("complianceScore"), is_score("qualityScore")),
            (true, kind != "content_validation"),
            "{data}"
        );
        assert!(data.get("rateLimitStatus").is_none());
    }
    Ok(())
}

#[tokio::test]
async fn cached_input_is_priced_as_the_provider_counts_it() -> Result<()> {
    let app = App::start().await?.set("ROLE_PLANNER", "azure:gpt-4o");
    let hybrid = app.function("campaigns-hybrid")?;
    let usage = Fault::Usage { prompt_tokens: 300, completion_tokens: 11, cached_tokens: 256 };
    app.world.fault(usage.on(Provider::Azure));
    let response = hybrid.http(campaign("ana", &brief("content_planning", &["onlyfans"]))).await?;
    let costs = &response.body["data"]["detailedCosts"];
    assert_eq!(costs["cachedInputTokens"], 256);
    // 44 × $2.50 + 256 × $1.25 + 11 × $10, each a million tokens; without the cache 256 × $2.50.
    assert_eq!(usd(&costs["totalCost"]).to_string(), "0.00054");
    let (entries, rollups) = entries_and_rollups(app.stores.cost_items().await?);
    assert_eq!(entries[0]["saved"], "0.00032");
    // The sweep, which knows the price by its name, writes the same entry.
    app.stores.forget_cost_items().await?;
    let swept = app.function_with("ledger-sweeper", "LEDGER_SWEEP_GRACE_MS", "1")?;
    assert_eq!(swept.invoke(&json!({}), std::time::Duration::from_secs(30)).await?["written"], 1);
    let again = entries_and_rollups(app.stores.cost_items().await?);
    assert_eq!((sorted(again.0), sorted(again.1)), (sorted(entries), sorted(rollups)));
    Ok(())
}

#[tokio::test]
async fn a_campaign_on_several_platforms_uses_both_providers() -> Result<()> {
    let app = App::start().await?;
    let hybrid = app.function("campaigns-hybrid")?;
    let response = hybrid.http(campaign("ana", &brief("campaign_execution", &["onlyfans", "instagram"]))).await?;
    assert_eq!(response.status, 200, "{}", response.body);
    let data = &response.body["data"];
    assert_eq!((&data["provider"], &data["detailedCosts"]["provider"]), (&json!("hybrid"), &json!("hybrid")));
    let calls = data["detailedCosts"]["calls"].as_array().unwrap();
    let mut who: Vec<_> = calls.iter().map(|call| (text(&call["step"]), text(&call["provider"]))).collect();
    // The messages are made side by side.
    who[1..].sort_unstable();
    assert_eq!(who, [("plan", "azure"), ("message:instagram", "openai"), ("message:onlyfans", "openai")]);
    let sum: Usd = calls.iter().map(priced).sum();
    assert_eq!(usd(&data["detailedCosts"]["totalCost"]), sum);
    // The messages are written to the plan.
    let plan = text(&data["contents"][0]["content"]).to_owned();
    let said = app.world.calls_to(Provider::OpenAi)[0].body["messages"][2]["content"].clone();
    assert_eq!(text(&said), plan);
    Ok(())
}

#[tokio::test]
async fn design_the_sum_of_ledger_entries_equals_the_rollups_to_the_last_digit() -> Result<()> {
    let app = App::start().await?;
    let fleet = app.fleet("campaigns-hybrid", 4).await?;
    let kinds = ["content_planning", "message_generation", "content_validation", "campaign_execution"];
    let requests = (0..16).map(|n| campaign(["ana", "bob"][n % 2], &brief(kinds[n / 4], &["onlyfans", "reddit"])));
    for response in fleet.http(requests).await {
        assert_eq!(response?.status, 200);
    }
    // What lost the race for a roll-up is left to the sweep.
    let sweeper = app.function_with("ledger-sweeper", "LEDGER_SWEEP_GRACE_MS", "1")?;
    let swept = sweeper.invoke(&json!({}), std::time::Duration::from_secs(30)).await?;
    assert_eq!(swept["failed"], 0);

    let (entries, rollups) = entries_and_rollups(app.stores.cost_items().await?);
    assert_eq!(entries.len(), 12 + 4 * 3);
    for user in [None, Some("ana"), Some("bob")] {
        let entries: Vec<_> = entries.iter().filter(|entry| user.is_none_or(|user| entry["userId"] == user)).collect();
        for grain in ["hour", "day", "month"] {
            let rollups = rollups_of(&rollups, user, grain);
            for (attribute, sum) in expected(&entries, user.is_some(), grain) {
                assert_eq!(summed(&rollups, &attribute), sum, "{user:?} {grain} {attribute}");
            }
        }
    }
    let sum: Usd = entries.iter().map(|entry| usd(&entry["cost"])).sum();
    let stored = app.stores.row("SELECT sum(cost)::text AS attempts, (SELECT sum(cost)::text FROM orchestrator.workflows) AS workflows FROM orchestrator.attempts", &[]).await?;
    assert_eq!((usd(&stored["attempts"]), usd(&stored["workflows"])), (sum, sum));
    Ok(())
}

/// What the attributes of these entries' roll-ups must come to, by name.
fn expected(entries: &[&Value], of_user: bool, grain: &str) -> BTreeMap<String, Usd> {
    let one = || json!("1");
    let mut sums: BTreeMap<String, Usd> = BTreeMap::new();
    let mut add = |name: String, value: &Value| {
        let sum = sums.entry(name).or_default();
        *sum = *sum + usd(value);
    };
    for entry in entries {
        let figures = [
            ("requests", one()),
            ("inputTokens", entry["inputTokens"].clone()),
            ("cachedInputTokens", entry["cachedInputTokens"].clone()),
            ("outputTokens", entry["outputTokens"].clone()),
            ("cost", entry["cost"].clone()),
            ("saved", entry["saved"].clone()),
        ];
        let names = ["provider", "model", "requestType"].map(|name| text(&entry[name]));
        for (figure, value) in figures {
            add(figure.to_owned(), &value);
            if grain != "month" {
                add(format!("{}#{figure}", names.join("#")), &value);
            }
        }
        add(format!("cost#{}", names[0]), &entry["cost"]);
        let at = text(&entry["timestamp"]);
        match (grain, of_user) {
            ("day", _) => {
                add(format!("hour#{}#cost", &at[11..13]), &entry["cost"]);
                add(format!("hour#{}#tokens", &at[11..13]), &entry["inputTokens"]);
                add(format!("hour#{}#tokens", &at[11..13]), &entry["outputTokens"]);
            }
            ("month", true) => add(format!("day#{}", &at[8..10]), &entry["cost"]),
            _ => {}
        }
    }
    sums
}

#[tokio::test]
async fn design_projecting_twice_changes_nothing() -> Result<()> {
    let app = App::start().await?.set("LEDGER_SWEEP_GRACE_MS", "1");
    let hybrid = app.function("campaigns-hybrid")?;
    assert_eq!(hybrid.http(campaign("ana", &brief("content_planning", &["onlyfans"]))).await?.status, 200);
    let before = app.stores.cost_items().await?;
    let sweeper = app.function("ledger-sweeper")?;
    for _ in 0..3 {
        app.stores.execute("UPDATE orchestrator.attempts SET projected_at = NULL", &[]).await?;
        let swept = sweeper.invoke(&json!({}), std::time::Duration::from_secs(30)).await?;
        assert_eq!(swept, json!({"ended": 0, "settled": 0, "corrected": 0, "found": 1, "written": 0, "failed": 0}));
    }
    let items = |items: Vec<_>| sorted(items.into_iter().map(Value::Object).collect());
    assert_eq!(items(app.stores.cost_items().await?), items(before));
    Ok(())
}

fn sorted(mut items: Vec<Value>) -> Vec<Value> {
    items.sort_by_key(|item| item["id"].to_string());
    items
}

#[tokio::test]
async fn design_an_unknown_model_is_never_free() -> Result<()> {
    let app = App::start().await?.set("ROLE_PLANNER", "azure:gpt-4-turbo=gpt-99");
    let response =
        app.function("campaigns-hybrid")?.http(campaign("ana", &brief("content_planning", &["onlyfans"]))).await?;
    assert_eq!((response.status, &response.body["code"]), (503, &json!("provider_unavailable")));
    assert!(text(&response.body["detail"]).contains("gpt-99"), "{}", response.body);
    assert!(app.world.calls().is_empty());

    let app = app.set("PRICE_FALLBACK_INPUT_PER_MILLION", "20").set("PRICE_FALLBACK_OUTPUT_PER_MILLION", "60");
    let response =
        app.function("campaigns-hybrid")?.http(campaign("ana", &brief("content_planning", &["onlyfans"]))).await?;
    assert_eq!(response.status, 200, "{}", response.body);
    let calls = &response.body["data"]["detailedCosts"]["calls"];
    assert_eq!(calls[0]["priceVersion"], "fallback");
    Ok(())
}

#[tokio::test]
async fn max_cost_refuses_what_its_upper_bound_would_pass() -> Result<()> {
    let app = App::start().await?;
    let hybrid = app.function("campaigns-hybrid")?;
    let mut body = brief("content_planning", &["onlyfans"]);
    body["maxCost"] = json!(0.0001);
    let response = hybrid.http(campaign("ana", &body)).await?;
    assert_eq!((response.status, &response.body["code"]), (402, &json!("cost_limit_exceeded")), "{}", response.body);
    assert_eq!(response.body["limit"]["name"], "maxCost");
    assert!(app.world.calls().is_empty());

    // Just enough for the cheaper provider: it is asked, and the dearer one is not.
    body["maxCost"] = response.body["limit"]["needed"].clone();
    let response = hybrid.http(campaign("ana", &body)).await?;
    assert_eq!((response.status, &response.body["data"]["provider"]), (200, &json!("openai")), "{}", response.body);
    assert!(usd(&response.body["data"]["detailedCosts"]["totalCost"]) <= usd(&body["maxCost"]));
    Ok(())
}

#[tokio::test]
async fn design_every_call_has_its_upper_bound_reserved_before_its_bytes_leave() -> Result<()> {
    let app = App::start().await?;
    let hybrid = app.function("campaigns-hybrid")?;
    app.world.fault(Fault::status(401).on(Provider::Azure));
    app.world.fault(Fault::Gate.on(Provider::OpenAi));
    let under_way = hybrid.start_http(campaign("ana", &brief("content_planning", &["onlyfans"])));
    app.world.wait_for_calls(2, std::time::Duration::from_secs(20)).await?;
    // The second call is at its provider, and its reservation is in the store; the first one's is gone.
    let held = app
        .stores
        .rows(
            "SELECT a.provider, r.amount = a.bound_cost AND r.amount > 0 AS full, r.settled_at IS NULL AS held
               FROM orchestrator.reservations r JOIN orchestrator.attempts a ON a.id = r.attempt_id ORDER BY a.sequence",
            &[],
        )
        .await?;
    let expected = json!([
        {"provider": "azure", "full": true, "held": false},
        {"provider": "openai", "full": true, "held": true}
    ]);
    assert_eq!(Value::Array(held), expected);
    app.world.release();
    assert_eq!(under_way.response().await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn design_a_fallback_that_passes_max_cost_is_not_called() -> Result<()> {
    let app = App::start().await?.set("AZURE_TIMEOUT_MS", "300");
    let hybrid = app.function("campaigns-hybrid")?;
    // Just enough for Azure, so not for both: a hanging first call is booked at its bound.
    let mut body = brief("content_planning", &["onlyfans"]);
    (body["forceProvider"], body["maxCost"]) = (json!("azure"), json!(0.0001));
    let refused = hybrid.http(campaign("ana", &body)).await?;
    (body["forceProvider"], body["maxCost"]) = (Value::Null, refused.body["limit"]["needed"].clone());
    app.world.fault(Fault::Hang.on(Provider::Azure));
    let response = hybrid.http(campaign("ana", &body)).await?;
    assert_eq!((response.status, &response.body["code"]), (402, &json!("cost_limit_exceeded")), "{}", response.body);
    assert!(app.world.calls_to(Provider::OpenAi).is_empty());
    let status = app.function("campaigns-status")?;
    let view = status.http(status_of("ana", text(&response.body["workflowId"]))).await?.body;
    assert_eq!(view["data"]["status"], "failed");
    assert!(usd(&view["data"]["cost"]["total"]) <= usd(&body["maxCost"]));
    Ok(())
}

#[tokio::test]
async fn wrong_or_missing_usage_is_booked_at_the_bound_and_flagged() -> Result<()> {
    let app = App::start().await?;
    let hybrid = app.function("campaigns-hybrid")?;
    let absurd = Fault::Usage { prompt_tokens: 9_000_000, completion_tokens: 9_000_000, cached_tokens: 0 };
    for fault in [Fault::NoUsage, absurd] {
        app.world.fault(fault.on(Provider::Azure));
        let response = hybrid.http(campaign("ana", &brief("content_planning", &["onlyfans"]))).await?;
        assert_eq!(response.status, 200, "{}", response.body);
        let costs = &response.body["data"]["detailedCosts"];
        assert_eq!(costs["estimated"], true);
        assert_eq!(usd(&costs["totalCost"]), priced(costs));
    }
    let booked = app.stores.rows("SELECT cost = bound_cost AS full FROM orchestrator.attempts", &[]).await?;
    assert_eq!(booked, [json!({"full": true}), json!({"full": true})]);
    Ok(())
}

#[tokio::test]
async fn a_ledger_entry_says_what_was_called_and_at_which_price() -> Result<()> {
    let app = App::start().await?;
    let hybrid = app.function("campaigns-hybrid")?;
    let request = campaign("ana", &brief("content_planning", &["onlyfans"]));
    let trace = "5759e988bd862e3fe1be46a994272793";
    let response = hybrid.http(request.header("traceparent", &format!("00-{trace}-53995c3f42cd8ad8-01"))).await?;
    let (entries, _) = entries_and_rollups(app.stores.cost_items().await?);
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!(entry["operationId"], response.body["data"]["workflowId"]);
    for (name, value) in [
        ("userId", "ana"),
        ("provider", "azure"),
        ("model", "gpt-4-turbo"),
        ("requestType", "content_planning"),
        ("outcome", "succeeded"),
        ("priceVersion", "azure/gpt-4-turbo@2026-11-21"),
        ("traceId", trace),
    ] {
        assert_eq!(entry[name], value, "{name}");
    }
    assert_eq!(usd(&entry["cost"]), usd(&response.body["data"]["detailedCosts"]["totalCost"]));
    assert_eq!((&entry["attempt"], &entry["cacheHit"]), (&json!("1"), &json!(false)));
    let started: jiff::Timestamp = text(&entry["timestamp"]).parse()?;
    assert_eq!(entry["expiresAt"], (started.as_second() + 400 * 86_400).to_string());
    Ok(())
}
