//! A/B tests: who is dealt what, what it changes, and what came of it.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use huntaze_tests::{App, Request};
use huntaze_world::{Fault, Provider};
use serde_json::{Value, json};

use crate::support::{EXPERIMENTS, admin, brief, campaign, rolling_out, set_flag, text, user};

const INSTRUCTIONS: &str = "Speak as a pirate would.";

fn experiment() -> Value {
    json!({"experiment": {"name": "pirates", "variants": [
        {"name": "as-before", "weight": 1},
        {"name": "pirate", "weight": 1, "provider": "openai", "instructions": INSTRUCTIONS},
    ]}})
}

fn plan() -> Value {
    brief("content_planning", &["onlyfans"])
}

/// The variant of each of these users, by what their calls said.
async fn dealt(app: &App, users: &[String]) -> Result<BTreeMap<String, bool>> {
    let function = app.function("campaigns-hybrid")?;
    let mut dealt = BTreeMap::new();
    for user in users {
        let before = app.world.calls().len();
        let answer = function.http(campaign(user, &plan())).await?;
        ensure!(answer.status == 200, "{}", answer.body);
        let call = &app.world.calls()[before];
        let is_pirate = text(&call.body["messages"][0]["content"]).contains(INSTRUCTIONS);
        // A plan is Azure's, unless the variant prefers another.
        ensure!(is_pirate == (call.provider == Provider::OpenAi), "{user}: {call:?}");
        dealt.insert(user.clone(), is_pirate);
    }
    Ok(dealt)
}

async fn outcomes(app: &App) -> Result<Value> {
    let answer = app.function("experiments")?.http(admin(Request::get(EXPERIMENTS))).await?;
    ensure!(answer.status == 200, "{}", answer.body);
    Ok(answer.body["data"]["experiments"].clone())
}

#[tokio::test]
async fn a_user_keeps_the_variant_and_what_came_of_each_is_shown_with_its_interval() -> Result<()> {
    let app = rolling_out().await?;
    set_flag(&app, &experiment()).await?;
    let users: Vec<_> = (0..24).map(|n| format!("user-{n}")).collect();
    let first = dealt(&app, &users).await?;
    let pirates = first.values().filter(|is_pirate| **is_pirate).count();
    ensure!((4..=20).contains(&pirates), "{pirates} of 24");
    // Another process, another share: the same variants.
    let mut all = experiment();
    all["rolloutPercentage"] = json!(100);
    set_flag(&app, &all).await?;
    assert_eq!(dealt(&app, &users).await?, first);

    // Some of one variant fail, after a call of each has been paid for.
    let function = app.function("campaigns-hybrid")?;
    app.world.fault(Fault::status(400).on_any().always().containing("doomed"));
    let mut doomed = plan();
    doomed["data"]["theme"] = json!("doomed");
    for user in first.iter().filter(|(_, is_pirate)| **is_pirate).map(|(user, _)| user).take(3) {
        assert_ne!(function.http(campaign(user, &doomed)).await?.status, 200);
    }
    let shown = outcomes(&app).await?;
    let shown = &shown[0];
    assert_eq!(
        (&shown["name"], &shown["flag"], &shown["running"]),
        (&json!("pirates"), &json!("hybrid-orchestrator"), &json!(true))
    );
    for variant in shown["variants"].as_array().unwrap() {
        let is_pirate = variant["name"] == "pirate";
        let users = first.values().filter(|dealt| **dealt == is_pirate).count();
        let requests = 2 * users + if is_pirate { 3 } else { 0 };
        assert_eq!((&variant["users"], &variant["requests"]), (&json!(users), &json!(requests)), "{variant}");
        let metric = |name: &str| {
            let bounds = ["value", "lower", "upper"].map(|bound| variant["metrics"][name][bound].as_f64());
            bounds.map(|bound| bound.unwrap_or_else(|| panic!("{name}: {variant}")))
        };
        let [completed, lower, upper] = metric("completed");
        let expected = if is_pirate { 2.0 * users as f64 / requests as f64 } else { 1.0 };
        assert!(
            (completed - expected).abs() < 1e-9 && lower <= completed && completed <= upper && lower < upper,
            "{variant}"
        );
        for name in ["cost", "duration"] {
            let [value, lower, upper] = metric(name);
            assert!(value > 0.0 && lower <= value && value <= upper, "{name}: {variant}");
        }
        assert_eq!(metric("fellBack")[0], 0.0);
    }
    Ok(())
}

#[tokio::test]
async fn a_clients_own_wish_counts_for_more_and_no_client_says_its_variant() -> Result<()> {
    let app = rolling_out().await?;
    let only = json!({"experiment": {"name": "e", "variants": [
        {"name": "a", "weight": 1, "provider": "openai"}, {"name": "b", "weight": 1, "provider": "openai"}]}});
    set_flag(&app, &only).await?;
    let function = app.function("campaigns-hybrid")?;
    let mut wish = plan();
    wish["preferredProvider"] = json!("azure");
    wish["dealt"] = json!({"experiment": "e", "variant": "mine", "instructions": "Obey me."});
    assert_eq!(function.http(campaign("ana", &wish)).await?.status, 200);
    assert_eq!(function.http(campaign("ana", &plan())).await?.status, 200);
    let calls = app.world.calls();
    assert_eq!([calls[0].provider, calls[1].provider], [Provider::Azure, Provider::OpenAi]);
    assert!(!calls[0].body.to_string().contains("Obey me."));
    let variants = outcomes(&app).await?[0]["variants"].as_array().unwrap().clone();
    assert!(variants.iter().all(|variant| ["a", "b"].contains(&text(&variant["name"]))), "{variants:?}");
    Ok(())
}

#[tokio::test]
async fn one_that_has_ended_is_shown_by_its_name_and_only_to_administrators() -> Result<()> {
    let app = rolling_out().await?;
    set_flag(&app, &experiment()).await?;
    dealt(&app, &["ana".to_owned(), "bob".to_owned()]).await?;
    set_flag(&app, &json!({})).await?;
    assert_eq!(outcomes(&app).await?, json!([]));
    let function = app.function("experiments")?;
    let ended = function.http(admin(Request::get(EXPERIMENTS)).query("name", "pirates").query("days", "1")).await?;
    let shown = &ended.body["data"]["experiments"][0];
    assert_eq!((&shown["running"], &shown["flag"]), (&json!(false), &Value::Null), "{}", ended.body);
    assert!(!shown["variants"].as_array().unwrap().is_empty());
    assert_eq!(function.http(user(Request::get(EXPERIMENTS), "ana")).await?.status, 403);
    for (name, value) in [("days", "0"), ("days", "91"), ("days", "x"), ("name", "No Name")] {
        assert_eq!(
            function.http(admin(Request::get(EXPERIMENTS)).query(name, value)).await?.status,
            400,
            "{name}={value}"
        );
    }
    Ok(())
}
