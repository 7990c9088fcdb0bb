//! Accounts over the API: whose they are, who sets what of them, and that a session is tried, sealed and never shown.

use std::collections::BTreeMap;

use anyhow::Result;
use huntaze_domain::env::Env;
use huntaze_domain::ids::AccountId;
use huntaze_lambda::clients;
use huntaze_messaging::account::{self, AccountStatus};
use huntaze_postgres::Database;
use huntaze_tests::{App, Request};
use huntaze_world::{Fault, Operation, Provider};
use serde_json::{Value, json};

use crate::support::{ACCOUNTS, MESSAGES, admin, faults, note, text, user};

fn set(who: &str, body: &Value) -> Request {
    user(Request::post(ACCOUNTS), who).json(body)
}

fn ids(body: &Value) -> Vec<&str> {
    body["data"]["accounts"].as_array().unwrap().iter().map(|one| text(&one["accountId"])).collect()
}

#[tokio::test]
async fn an_account_is_made_paused_and_let_go_on_by_its_owner() -> Result<()> {
    let app = App::start().await?;
    let function = app.function("onlyfans-accounts")?;
    let made = function.http(set("ana", &json!({"accountId": "acc-1"}))).await?;
    assert_eq!(made.status, 201, "{}", made.body);
    let data = &made.body["data"];
    for (name, value) in [
        ("accountId", json!("acc-1")),
        ("userId", json!("ana")),
        ("status", json!("active")),
        ("complianceFloor", json!("strict")),
        ("limits", json!({})),
        ("hasSession", json!(false)),
    ] {
        assert_eq!(data[name], value, "{name}");
    }
    let messages = app.function("onlyfans-messages")?;
    let paused = json!({"accountId": "acc-1", "status": "paused", "reason": "a holiday"});
    for _ in 0..2 {
        let paused = function.http(set("ana", &paused)).await?;
        assert_eq!((paused.status, &paused.body["data"]["reason"]), (200, &json!("a holiday")), "{}", paused.body);
    }
    messages.http(user(Request::post(MESSAGES), "ana").json(&note("acc-1", "fan-1", "hi"))).await?;
    assert!(app.stores.take_hints().await?.is_empty(), "a paused account wakes nobody");
    let active = function.http(set("ana", &json!({"accountId": "acc-1", "status": "active"}))).await?;
    assert_eq!((active.status, &active.body["data"]["status"]), (200, &json!("active")));
    assert_eq!(app.stores.take_hints().await?, [json!({"accountId": "acc-1"})], "what waited is due");
    let audit = "SELECT action FROM orchestrator.audit_log WHERE subject = 'account:acc-1' ORDER BY id";
    let actions: Vec<_> = app.stores.rows(audit, &[]).await?.into_iter().map(|mut row| row["action"].take()).collect();
    assert_eq!(actions, ["account.create", "account.change", "account.change"], "what changes nothing is not kept");
    Ok(())
}

#[tokio::test]
async fn only_administrators_set_limits_and_the_floor_and_another_users_account() -> Result<()> {
    let app = App::start().await?;
    let function = app.function("onlyfans-accounts")?;
    function.http(set("ana", &json!({"accountId": "acc-1"}))).await?;
    let own = json!({"accountId": "acc-1", "complianceFloor": "relaxed", "limits": {"account_minute": 3}});
    let refused = function.http(set("ana", &own)).await?;
    assert_eq!((refused.status, faults(&refused.body)), (403, vec!["/complianceFloor", "/limits"]), "{}", refused.body);
    for request in [
        set("bob", &json!({"accountId": "acc-1", "status": "paused"})),
        set("bob", &json!({"accountId": "acc-2", "userId": "ana"})),
        user(Request::get(ACCOUNTS), "bob").query("userId", "ana"),
    ] {
        let refused = function.http(request).await?;
        assert_eq!((refused.status, text(&refused.body["code"])), (403, "forbidden"), "{}", refused.body);
    }
    let changed = function.http(admin(Request::post(ACCOUNTS)).json(&own)).await?;
    let data = &changed.body["data"];
    assert_eq!((changed.status, &data["userId"], &data["limits"]), (200, &json!("ana"), &json!({"account_minute": 3})));
    assert_eq!(data["complianceFloor"], "relaxed");
    // Named for another user, it is nobody's to take.
    let taken = json!({"accountId": "acc-1", "userId": "bob"});
    assert_eq!(function.http(admin(Request::post(ACCOUNTS)).json(&taken)).await?.status, 403);
    let for_bob = json!({"accountId": "acc-3", "userId": "bob"});
    let made = function.http(admin(Request::post(ACCOUNTS)).json(&for_bob)).await?;
    assert_eq!((made.status, &made.body["data"]["userId"]), (201, &json!("bob")));

    assert_eq!(ids(&function.http(user(Request::get(ACCOUNTS), "ana")).await?.body), ["acc-1"]);
    assert_eq!(ids(&function.http(admin(Request::get(ACCOUNTS)).query("userId", "bob")).await?.body), ["acc-3"]);
    let first = function.http(admin(Request::get(ACCOUNTS)).query("limit", "1")).await?.body;
    let cursor = text(&first["data"]["nextCursor"]);
    let second = function.http(admin(Request::get(ACCOUNTS)).query("limit", "1").query("cursor", cursor)).await?.body;
    assert_eq!((ids(&first), ids(&second)), (vec!["acc-3"], vec!["acc-1"]));
    assert!(second["data"]["nextCursor"].is_null());
    Ok(())
}

#[tokio::test]
async fn what_an_administrator_paused_only_an_administrator_lets_go_on() -> Result<()> {
    let app = App::start().await?;
    let function = app.function("onlyfans-accounts")?;
    function.http(set("ana", &json!({"accountId": "acc-1"}))).await?;
    let paused = json!({"accountId": "acc-1", "status": "paused", "reason": "a complaint"});
    let active = json!({"accountId": "acc-1", "status": "active"});
    function.http(set("ana", &paused)).await?;
    let held = function.http(admin(Request::post(ACCOUNTS)).json(&paused)).await?;
    assert_eq!((held.status, &held.body["data"]["held"]), (200, &json!(true)), "{}", held.body);
    let refused = function.http(set("ana", &active)).await?;
    assert_eq!((refused.status, text(&refused.body["code"])), (403, "forbidden"), "{}", refused.body);
    let reworded = json!({"accountId": "acc-1", "status": "paused", "reason": "a holiday"});
    let reworded = function.http(set("ana", &reworded)).await?;
    assert_eq!((reworded.status, &reworded.body["data"]["reason"]), (200, &json!("a complaint")), "{}", reworded.body);
    let freed = function.http(admin(Request::post(ACCOUNTS)).json(&active)).await?;
    assert_eq!((freed.status, &freed.body["data"]["held"]), (200, &json!(false)), "{}", freed.body);
    // Its own pauses are the owner's again, whatever an administrator changes beside.
    function.http(set("ana", &paused)).await?;
    let floor = json!({"accountId": "acc-1", "complianceFloor": "moderate"});
    assert_eq!(function.http(admin(Request::post(ACCOUNTS)).json(&floor)).await?.status, 200);
    assert_eq!(function.http(set("ana", &active)).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_user_makes_so_many_accounts_and_an_administrator_more() -> Result<()> {
    let app = App::start().await?.set("ONLYFANS_ACCOUNTS_PER_USER", "3");
    let fleet = app.fleet("onlyfans-accounts", 8).await?;
    let requests: Vec<_> = (0..8).map(|n| set("ana", &json!({"accountId": format!("acc-{n}")}))).collect();
    let mut answers = BTreeMap::new();
    for response in fleet.http(requests).await {
        *answers.entry(response?.status).or_insert(0) += 1;
    }
    assert_eq!(answers, BTreeMap::from([(201, 3), (409, 5)]));
    let one_more = json!({"accountId": "acc-x", "userId": "ana"});
    let function = app.function("onlyfans-accounts")?;
    assert_eq!(function.http(admin(Request::post(ACCOUNTS)).json(&one_more)).await?.status, 201);
    assert_eq!(function.http(set("ana", &json!({"accountId": "acc-x", "status": "paused"}))).await?.status, 200);
    assert_eq!(function.http(set("bob", &json!({"accountId": "acc-y"}))).await?.status, 201);
    Ok(())
}

#[tokio::test]
async fn a_session_is_tried_on_the_platform_sealed_and_never_shown() -> Result<()> {
    let app = App::start().await?;
    let function = app.function("onlyfans-accounts")?;
    let session = app.world.onlyfans_session("acc-1");
    let body = json!({"accountId": "acc-1", "session": {"cookie": session.cookie, "headers": {"x-bc": "s3cret-token"},
        "userAgent": "Browser/1.0", "platformUserId": session.user_id}});
    let kept = function.http(set("ana", &body)).await?;
    assert_eq!((kept.status, &kept.body["data"]["hasSession"]), (201, &json!(true)), "{}", kept.body);
    assert!(kept.body["data"]["sessionUpdatedAt"].is_string());
    let call = &app.world.onlyfans_calls(Operation::Me)[0];
    assert_eq!(call.headers.get("user-agent").map(String::as_str), Some("Browser/1.0"));

    let items = app.stores.of_session_items().await?;
    assert_eq!(
        (items.len(), &items[0]["accountId"], &items[0]["platformUserId"]),
        (1, &json!("acc-1"), &json!(session.user_id))
    );
    let listed = function.http(user(Request::get(ACCOUNTS), "ana")).await?.body.to_string();
    let audit = app.stores.rows("SELECT * FROM orchestrator.audit_log", &[]).await?;
    for (place, held) in [
        ("items", json!(items).to_string()),
        ("list", listed),
        ("audit", json!(audit).to_string()),
        ("logs", function.logs()),
    ] {
        assert!(!held.contains("s3cret") && !held.contains(&session.cookie), "{place}");
    }
    assert!(audit.iter().any(|row| row["action"] == "account.session"), "{audit:?}");
    Ok(())
}

#[tokio::test]
async fn who_was_paused_for_want_of_the_session_that_is_being_kept_goes_on() -> Result<()> {
    let app = App::start().await?;
    let function = app.function("onlyfans-accounts")?;
    let env = Env::from_pairs(app.env().clone());
    let tls = clients::tls(&env)?;
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, tls));
    let (database, id) = (env.finish(database)?, AccountId::parse("acc-1")?);
    for (reason, active, status) in [
        ("no_session", true, AccountStatus::Active),
        ("no_session", false, AccountStatus::Paused),
        ("a holiday", true, AccountStatus::Paused),
    ] {
        let paused = json!({"accountId": "acc-1", "status": "paused", "reason": reason});
        assert!(function.http(set("ana", &paused)).await?.status < 300);
        let kept = account::session_kept(&database, &id, active).await?;
        assert_eq!((kept.status, kept.session_at.is_some()), (status, true), "{reason} {active}");
    }
    Ok(())
}

#[tokio::test]
async fn a_session_that_the_platform_does_not_take_is_kept_nowhere() -> Result<()> {
    let app = App::start().await?;
    let function = app.function("onlyfans-accounts")?;
    let good = app.world.onlyfans_session("acc-1");
    let with = |session: Value| json!({"accountId": "acc-1", "session": session});
    let of_another = json!({"cookie": good.cookie, "platformUserId": "17"});
    for (session, pointer) in
        [(json!({"cookie": "sess=of-nobody"}), "/session"), (of_another, "/session/platformUserId")]
    {
        let refused = function.http(set("ana", &with(session))).await?;
        assert_eq!((refused.status, faults(&refused.body)), (400, vec![pointer]), "{}", refused.body);
    }
    app.world.fault(Fault::status(503).on(Provider::OnlyFans).of(Operation::Me));
    let away = function.http(set("ana", &with(json!({"cookie": good.cookie})))).await?;
    assert_eq!((away.status, text(&away.body["code"])), (502, "onlyfans_api_error"), "{}", away.body);
    let odd = json!({"accountId": "acc 1", "status": "gone", "limits": {"account_week": 1},
        "session": {"cookie": "", "headers": {"Host": "x"}}});
    let response = function.http(set("ana", &odd)).await?;
    let mut found = faults(&response.body);
    found.sort_unstable();
    let fields = ["/accountId", "/limits/account_week", "/session/cookie", "/session/headers/Host", "/status"];
    assert_eq!((response.status, &found[..]), (400, &fields[..]), "{}", response.body);
    assert!(app.stores.of_session_items().await?.is_empty());
    assert!(app.stores.rows("SELECT id FROM orchestrator.accounts", &[]).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn one_user_of_the_platform_has_one_account_so_that_its_limits_hold() -> Result<()> {
    let app = App::start().await?;
    let function = app.function("onlyfans-accounts")?;
    let session = json!({"cookie": app.world.onlyfans_session("creator").cookie});
    let first = function.http(set("ana", &json!({"accountId": "acc-1", "session": session}))).await?;
    assert_eq!(first.status, 201, "{}", first.body);
    let second = function.http(set("ana", &json!({"accountId": "acc-2", "session": session}))).await?;
    assert_eq!((second.status, text(&second.body["code"])), (409, "conflict"), "{}", second.body);
    assert_eq!(ids(&function.http(user(Request::get(ACCOUNTS), "ana")).await?.body), ["acc-1"]);
    // Its own is renewed.
    let renewed = function.http(set("ana", &json!({"accountId": "acc-1", "session": session}))).await?;
    assert_eq!(renewed.status, 200, "{}", renewed.body);
    Ok(())
}
