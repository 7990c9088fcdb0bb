//! Who may see and set which thresholds, and what becomes of them.

use std::collections::BTreeSet;

use anyhow::Result;
use huntaze_tests::{App, Request};
use serde_json::{Value, json};

use crate::support::{STATS, THRESHOLDS, admin, brief, campaign, faults, text, user};

fn body() -> Value {
    json!({"type": "daily", "threshold": 2.5, "severity": "critical", "notificationChannels": ["in_app"]})
}

/// Names, amounts and whether they are defaults, in order of their names.
fn listed(body: &Value) -> BTreeSet<(String, String, bool)> {
    let list = body["data"]["thresholds"].as_array().unwrap();
    let shown = list.iter().map(|one| {
        let default = one["default"].as_bool().unwrap();
        let name = if default { text(&one["id"]) } else { text(&one["type"]) };
        (name.to_owned(), one["threshold"].to_string(), default)
    });
    shown.collect()
}

fn expected(list: &[(&str, &str, bool)]) -> BTreeSet<(String, String, bool)> {
    list.iter().map(|(name, amount, default)| ((*name).to_owned(), (*amount).to_owned(), *default)).collect()
}

#[tokio::test]
async fn a_user_sees_the_contracts_defaults_until_one_of_their_type_is_made() -> Result<()> {
    let app = App::start().await?;
    let function = app.function("costs-thresholds")?;
    let defaults = expected(&[("default:daily", "5.0", true), ("default:monthly", "100.0", true)]);
    let list = function.http(user(Request::get(THRESHOLDS), "ana")).await?;
    assert_eq!((list.status, listed(&list.body)), (200, defaults.clone()), "{}", list.body);
    let shown = &list.body["data"]["thresholds"][0];
    assert_eq!(
        shown,
        &json!({"id": "default:daily", "type": "daily", "threshold": 5.0, "severity": "warning", "provider": "all",
            "notificationChannels": ["in_app", "email"], "enabled": true, "default": true, "userId": "ana"})
    );

    let made = function.http(user(Request::post(THRESHOLDS), "ana").json(&body())).await?;
    assert_eq!(made.status, 201, "{}", made.body);
    let data = &made.body["data"];
    for (name, value) in [
        ("type", json!("daily")),
        ("threshold", json!(2.5)),
        ("severity", json!("critical")),
        ("notificationChannels", json!(["in_app"])),
        ("provider", json!("all")),
        ("userId", json!("ana")),
        ("enabled", json!(true)),
        ("default", json!(false)),
    ] {
        assert_eq!(data[name], value, "{name}");
    }
    let list = function.http(user(Request::get(THRESHOLDS), "ana")).await?;
    assert_eq!(listed(&list.body), expected(&[("daily", "2.5", false), ("default:monthly", "100.0", true)]));
    assert!(list.body["data"]["thresholds"].as_array().unwrap().contains(data));
    let other = function.http(user(Request::get(THRESHOLDS), "bob")).await?;
    assert_eq!(listed(&other.body), defaults);
    Ok(())
}

#[tokio::test]
async fn an_administrator_sets_everyones_thresholds_and_any_users() -> Result<()> {
    let app = App::start().await?;
    let function = app.function("costs-thresholds")?;
    let list = function.http(admin(Request::get(THRESHOLDS))).await?;
    let global = [("default:daily", "50.0", true), ("default:monthly", "500.0", true)];
    assert_eq!(listed(&list.body), expected(&global));

    let mut hourly = body();
    (hourly["type"], hourly["notificationChannels"]) = (json!("hourly"), json!(["slack", "sns"]));
    let made = function.http(admin(Request::post(THRESHOLDS)).json(&hourly)).await?;
    assert_eq!((made.status, made.body["data"].get("userId")), (201, None), "{}", made.body);
    hourly["userId"] = json!("ana");
    let made = function.http(admin(Request::post(THRESHOLDS)).json(&hourly)).await?;
    assert_eq!((made.status, &made.body["data"]["userId"]), (201, &json!("ana")), "{}", made.body);

    let of_ana = [("hourly", "2.5", false), ("default:daily", "5.0", true), ("default:monthly", "100.0", true)];
    let list = function.http(admin(Request::get(THRESHOLDS)).query("userId", "ana")).await?;
    assert_eq!(listed(&list.body), expected(&of_ana));
    let list = function.http(user(Request::get(THRESHOLDS), "ana")).await?;
    assert_eq!(listed(&list.body), expected(&of_ana));
    let list = function.http(admin(Request::get(THRESHOLDS))).await?;
    assert_eq!(listed(&list.body).len(), 3);
    Ok(())
}

#[tokio::test]
async fn what_a_user_may_not_do_is_403_and_changes_nothing() -> Result<()> {
    let app = App::start().await?;
    let function = app.function("costs-thresholds")?;
    let mut of_bob = body();
    of_bob["userId"] = json!("bob");
    let mut operators = body();
    operators["notificationChannels"] = json!(["email", "slack", "sns"]);
    let change = json!({"thresholdId": "thr_x", "enabled": false});
    for (request, pointers) in [
        (Request::get(THRESHOLDS).query("userId", "bob"), vec![]),
        (Request::post(THRESHOLDS).json(&of_bob), vec![]),
        (Request::post(THRESHOLDS).json(&operators), vec!["/notificationChannels/1", "/notificationChannels/2"]),
        (Request::put(THRESHOLDS).json(&change), vec![]),
    ] {
        let response = function.http(user(request, "ana")).await?;
        assert_eq!((response.status, &response.body["code"]), (403, &json!("forbidden")), "{}", response.body);
        assert_eq!(faults(&response.body), pointers);
    }
    assert!(app.stores.threshold_items().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_faulty_request_is_told_every_field() -> Result<()> {
    let app = App::start().await?;
    let function = app.function("costs-thresholds")?;
    let odd =
        json!({"type": "weekly", "threshold": -1, "severity": "bad", "notificationChannels": ["fax"], "provider": "x"});
    let response = function.http(user(Request::post(THRESHOLDS), "ana").json(&odd)).await?;
    let mut found = faults(&response.body);
    found.sort_unstable();
    let fields = ["/notificationChannels/0", "/provider", "/severity", "/threshold", "/type"];
    assert_eq!((response.status, &found[..]), (400, &fields[..]), "{}", response.body);
    for (request, pointer) in [
        (Request::get(THRESHOLDS).query("userId", "ä"), "userId"),
        (Request::post(THRESHOLDS).body("[]"), ""),
        (Request::put(THRESHOLDS).json(&json!({"thresholdId": "x"})), ""),
        (Request::put(THRESHOLDS).json(&json!({"thresholdId": "x", "threshold": 0})), "/threshold"),
        (Request::put(THRESHOLDS).json(&json!({"enabled": true})), "/thresholdId"),
    ] {
        let response = function.http(admin(request)).await?;
        assert_eq!((response.status, faults(&response.body)), (400, vec![pointer]), "{}", response.body);
    }
    assert!(app.stores.threshold_items().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_change_keeps_what_it_does_not_name_also_beside_another() -> Result<()> {
    let app = App::start().await?;
    let function = app.function("costs-thresholds")?;
    let made = function.http(user(Request::post(THRESHOLDS), "ana~b").json(&body())).await?;
    let id = text(&made.body["data"]["id"]).to_owned();
    let fleet = app.fleet("costs-thresholds", 3).await?;
    let changes = [
        json!({"thresholdId": id, "enabled": false}),
        json!({"thresholdId": id, "threshold": 7.25}),
        json!({"thresholdId": id, "notificationChannels": ["slack", "email"]}),
    ];
    let requests = changes.iter().map(|change| admin(Request::put(THRESHOLDS)).json(change));
    for response in fleet.http(requests).await {
        let response = response?;
        assert_eq!((response.status, &response.body["data"]["id"]), (200, &json!(id)), "{}", response.body);
    }
    let list = function.http(user(Request::get(THRESHOLDS), "ana~b")).await?.body;
    let found = list["data"]["thresholds"].as_array().unwrap().iter().find(|one| one["id"] == id).unwrap().clone();
    for (name, value) in [
        ("enabled", json!(false)),
        ("threshold", json!(7.25)),
        ("notificationChannels", json!(["slack", "email"])),
        ("severity", json!("critical")),
        ("type", json!("daily")),
        ("createdAt", made.body["data"]["createdAt"].clone()),
    ] {
        assert_eq!(found[name], value, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn what_was_set_is_what_stats_hold_costs_against() -> Result<()> {
    let app = App::start().await?;
    let hybrid = app.function("campaigns-hybrid")?;
    assert_eq!(hybrid.http(campaign("ana", &brief("content_planning", &["onlyfans"]))).await?.status, 200);
    let stats = app.function("costs-stats")?;
    let status = async || -> Result<Value> {
        Ok(stats.http(user(Request::get(STATS), "ana")).await?.body["data"]["alerts"].take())
    };
    let normal = json!({"todayThresholdStatus": "normal", "monthlyThresholdStatus": "normal"});
    assert_eq!(status().await?, normal);
    let mut tiny = body();
    tiny["threshold"] = json!(0.0001);
    let made = app.function("costs-thresholds")?.http(user(Request::post(THRESHOLDS), "ana").json(&tiny)).await?;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(status().await?, json!({"todayThresholdStatus": "critical", "monthlyThresholdStatus": "normal"}));
    Ok(())
}

#[tokio::test]
async fn an_unknown_threshold_and_a_default_cannot_be_changed() -> Result<()> {
    let app = App::start().await?;
    let function = app.function("costs-thresholds")?;
    for id in ["default:daily", "nothing", "count", &format!("thr_{}", "0".repeat(32))] {
        let change = json!({"thresholdId": id, "enabled": false});
        let response = function.http(admin(Request::put(THRESHOLDS)).json(&change)).await?;
        assert_eq!((response.status, &response.body["code"]), (404, &json!("not_found")), "{id}: {}", response.body);
    }
    assert!(app.stores.threshold_items().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn an_owner_has_at_most_fifty_also_where_they_are_made_side_by_side() -> Result<()> {
    let app = App::start().await?;
    let fleet = app.fleet("costs-thresholds", 4).await?;
    let requests = (0..54).map(|_| user(Request::post(THRESHOLDS), "ana").json(&body()));
    let mut full = 0;
    for response in fleet.http(requests).await {
        let response = response?;
        if response.status != 201 {
            assert_eq!((response.status, &response.body["code"]), (409, &json!("conflict")), "{}", response.body);
            full += 1;
        }
    }
    let of_ana = app.stores.threshold_items().await?.into_iter().filter(|item| text(&item["id"]).starts_with("thr_"));
    assert_eq!((of_ana.count(), full), (50, 4));
    // Another owner's are counted apart.
    let response = fleet.functions()[0].http(user(Request::post(THRESHOLDS), "bob").json(&body())).await?;
    assert_eq!(response.status, 201);
    Ok(())
}
