//! The flags: nothing that somebody else has written is written over unread, and their history tells what was done.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use huntaze_tests::{App, Function, Request, Response, Session};
use serde_json::{Value, json};

use crate::support::{FLAGS, admin, faults, text, user};

const EVALUATE: &str = "/api/admin/feature-flags/evaluate";
const HISTORY: &str = "/api/admin/feature-flags/history";

async fn put(function: &Function, tag: &str, body: &Value) -> Result<Response> {
    Ok(function.http(admin(Request::put(FLAGS)).header("if-match", tag).json(body)).await?)
}

async fn get(function: &Function, name: &str) -> Result<Response> {
    Ok(function.http(admin(Request::get(FLAGS)).query("name", name)).await?)
}

fn seen(answer: &Response) -> (u16, &str) {
    (answer.status, answer.header("etag"))
}

#[tokio::test]
async fn a_flag_is_written_over_only_by_who_has_read_it() -> Result<()> {
    let app = App::start().await?;
    let function = app.function("feature-flags")?;
    let flag = json!({"name": "beta", "enabled": true, "rolloutPercentage": 5});
    let post = || admin(Request::post(FLAGS)).json(&flag);
    assert_eq!(seen(&function.http(post().header("if-match", "*")).await?), (412, ""), "there is none to match");
    assert_eq!(seen(&function.http(post()).await?), (201, "\"1\""));
    assert_eq!(function.http(post()).await?.status, 428);
    assert_eq!(function.http(post().header("if-none-match", "*")).await?.status, 412);
    assert_eq!(seen(&function.http(post().header("if-match", "\"1\"")).await?), (200, "\"2\""));

    let change = json!({"name": "beta", "rolloutPercentage": 25, "reason": "it went well"});
    assert_eq!(function.http(admin(Request::put(FLAGS)).json(&change)).await?.status, 428);
    for stale in ["\"1\"", "W/\"2\"", "\"3\"", "2", ""] {
        let answer = put(&function, stale, &change).await?;
        assert_eq!(
            (answer.status, text(&answer.body["code"])),
            (412, "precondition_failed"),
            "{stale}: {}",
            answer.body
        );
    }
    assert_eq!(seen(&put(&function, "\"7\", \"2\"", &change).await?), (200, "\"3\""));
    let shown = get(&function, "beta").await?;
    assert_eq!((seen(&shown), &shown.body["data"]["rolloutPercentage"]), ((200, "\"3\""), &json!(25)));

    // Who has to be quick may write over whatever there is.
    assert_eq!(seen(&put(&function, "*", &json!({"name": "beta", "enabled": false})).await?), (200, "\"4\""));
    let delete = |tag: &str| admin(Request::delete(FLAGS)).query("name", "beta").header("if-match", tag);
    assert_eq!(function.http(delete("\"3\"")).await?.status, 412);
    assert_eq!(function.http(delete("\"4\"").query("reason", "over")).await?.status, 200);
    assert_eq!((get(&function, "beta").await?.status, function.http(delete("*")).await?.status), (404, 404));
    assert_eq!(put(&function, "*", &change).await?.status, 404);
    // One of the same name is another: no version of the first fits it.
    assert_eq!(seen(&function.http(post()).await?), (201, "\"6\""));
    assert_eq!(put(&function, "\"4\"", &change).await?.status, 412);
    Ok(())
}

#[tokio::test]
async fn of_many_administrators_none_loses_anothers_change_and_the_history_tells_the_story() -> Result<()> {
    let app = App::start().await?;
    let fleet = app.fleet("feature-flags", 2).await?;
    let functions = fleet.functions();
    let made =
        functions[0].http(admin(Request::post(FLAGS)).json(&json!({"name": "beta", "userWhitelist": []}))).await?;
    ensure!(made.status == 201, "{}", made.body);
    let one = async |index: usize| -> Result<()> {
        let function = &functions[index % functions.len()];
        let me = format!("admin-{index}");
        let session = Session::admin(&me).v4();
        loop {
            let read = function.http(Request::get(FLAGS).query("name", "beta").bearer(&session)).await?;
            let mut list = read.body["data"]["userWhitelist"].as_array().unwrap().clone();
            list.push(json!(format!("user-{index}")));
            let change = json!({"name": "beta", "userWhitelist": list, "reason": format!("add {index}")});
            let request = Request::put(FLAGS).bearer(&session).header("if-match", read.header("etag")).json(&change);
            match function.http(request).await?.status {
                200 => return Ok(()),
                status => ensure!(status == 412, "{status}"),
            }
        }
    };
    futures_util::future::try_join_all((0..12).map(one)).await?;
    let last = get(&functions[0], "beta").await?;
    let users: BTreeSet<_> = last.body["data"]["userWhitelist"].as_array().unwrap().iter().map(text).collect();
    let expected: Vec<_> = (0..12).map(|index| format!("user-{index}")).collect();
    assert_eq!(users, expected.iter().map(String::as_str).collect());

    // Page by page, newest first: each change begins where the one before it ended.
    let (mut changes, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let mut request = admin(Request::get(HISTORY)).query("name", "beta").query("limit", "5");
        if let Some(cursor) = &cursor {
            request = request.query("cursor", cursor);
        }
        let page = functions[0].http(request).await?;
        changes.extend(page.body["data"]["changes"].as_array().unwrap().clone());
        cursor = page.body["data"]["nextCursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(
        changes.iter().map(|change| change["version"].as_u64().unwrap()).collect::<Vec<_>>(),
        (1..=13).rev().collect::<Vec<_>>()
    );
    for pair in changes.windows(2) {
        assert_eq!(pair[0]["before"], pair[1]["after"]);
        let (before, after) = (&pair[0]["before"]["userWhitelist"], &pair[0]["after"]["userWhitelist"]);
        assert_eq!(after.as_array().unwrap().len(), before.as_array().unwrap().len() + 1);
        let who = text(&pair[0]["by"]).strip_prefix("admin-").unwrap();
        assert_eq!((&pair[0]["reason"], &pair[0]["action"]), (&json!(format!("add {who}")), &json!("changed")));
        assert!(after.as_array().unwrap().contains(&json!(format!("user-{who}"))));
    }
    let first = changes.last().unwrap();
    assert_eq!((&first["before"], &first["action"], &first["by"]), (&Value::Null, &json!("created"), &json!("root")));
    Ok(())
}

#[tokio::test]
async fn all_flags_are_listed_with_their_sums() -> Result<()> {
    let app = App::start().await?;
    let function = app.function("feature-flags")?;
    for (name, enabled, percent) in [("a", true, 100), ("b", true, 25), ("c", false, 0)] {
        let flag = json!({"name": name, "enabled": enabled, "rolloutPercentage": percent});
        assert_eq!(function.http(admin(Request::post(FLAGS)).json(&flag)).await?.status, 201);
    }
    let list = function.http(admin(Request::get(FLAGS))).await?;
    let data = &list.body["data"];
    assert_eq!(
        data["stats"],
        json!({"total": 3, "enabled": 2, "disabled": 1, "byRollout": {"full": 1, "partial": 1, "none": 1}})
    );
    assert_eq!(
        data["flags"].as_array().unwrap().iter().map(|flag| text(&flag["name"])).collect::<Vec<_>>(),
        ["a", "b", "c"]
    );
    let flag = &data["flags"][1];
    for (name, value) in [
        ("userWhitelist", json!([])),
        ("userBlacklist", json!([])),
        ("conditions", json!({})),
        ("flagGroup", json!("b")),
    ] {
        assert_eq!(flag[name], value, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn an_evaluation_explains_which_rule_decided() -> Result<()> {
    let app = App::start().await?.set("HYBRID_ORCHESTRATOR_ENABLED", "true");
    let function = app.function("feature-flags")?;
    // Of the group `gr1` user 123 is in bucket 73 (vectors of the Unleash SDKs).
    let flag = json!({"name": "beta", "flagGroup": "gr1", "enabled": true, "rolloutPercentage": 72, "userBlacklist": ["bob"],
        "userWhitelist": ["cyd"]});
    assert_eq!(function.http(admin(Request::post(FLAGS)).json(&flag)).await?.status, 201);
    let evaluate = async |user: &str| -> Result<Value> {
        let asked =
            admin(Request::get(EVALUATE)).query("name", "beta").query("userId", user).query("platform", "onlyfans");
        let answer = function.http(asked).await?;
        ensure!(answer.status == 200, "{}", answer.body);
        Ok(answer.body["data"].clone())
    };
    let told = |data: &Value| {
        (data["enabled"].as_bool().unwrap(), text(&data["reason"]).to_owned(), data["percentage"].as_u64().unwrap())
    };
    let outside = evaluate("123").await?;
    assert_eq!((told(&outside), &outside["bucket"]), ((false, "rollout".to_owned(), 72), &json!(73)));
    assert_eq!(told(&evaluate("bob").await?), (false, "blacklist".to_owned(), 72));
    assert_eq!(told(&evaluate("cyd").await?), (true, "whitelist".to_owned(), 72));
    for (change, expected) in [
        (json!({"rolloutPercentage": 73}), (true, "rollout", 73)),
        (json!({"conditions": {"platform": ["reddit"]}}), (false, "condition_platform", 73)),
        (json!({"conditions": {"userTier": ["vip"], "platform": ["onlyfans"]}}), (false, "condition_user_tier", 73)),
        (json!({"enabled": false}), (false, "disabled", 73)),
    ] {
        let mut body = json!({"name": "beta"});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        ensure!(put(&function, "*", &body).await?.status == 200);
        let (enabled, reason, percentage) = expected;
        assert_eq!(told(&evaluate("123").await?), (enabled, reason.to_owned(), percentage), "{change}");
    }
    // What a session said of the user is remembered.
    let tier = "INSERT INTO orchestrator.users (id, tier, account_created_at) VALUES ('123', 'vip', now() - interval '40 days')";
    app.stores.execute(tier, &[]).await?;
    let conditions = json!({"name": "beta", "enabled": true, "conditions": {"userTier": ["vip"], "accountAge": 40}});
    ensure!(put(&function, "*", &conditions).await?.status == 200);
    assert_eq!(told(&evaluate("123").await?), (true, "rollout".to_owned(), 73));
    let older = json!({"name": "beta", "conditions": {"userTier": ["vip"], "accountAge": 41}});
    ensure!(put(&function, "*", &older).await?.status == 200);
    assert_eq!(told(&evaluate("123").await?), (false, "condition_account_age".to_owned(), 73));

    let killed = app.function_with("feature-flags", "HYBRID_ORCHESTRATOR_ENABLED", "false")?;
    let own = json!({"name": "hybrid-orchestrator", "enabled": true, "rolloutPercentage": 100});
    assert_eq!(killed.http(admin(Request::post(FLAGS)).json(&own)).await?.status, 201);
    let asked = |name: &str| admin(Request::get(EVALUATE)).query("name", name).query("userId", "cyd");
    assert_eq!(killed.http(asked("hybrid-orchestrator")).await?.body["data"]["reason"], "killed");
    assert_eq!(killed.http(asked("beta")).await?.body["data"]["reason"], "whitelist", "it is of one flag only");
    assert_eq!(killed.http(asked("none")).await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn only_administrators_see_and_set_flags_and_faults_are_named() -> Result<()> {
    let app = App::start().await?;
    let function = app.function("feature-flags")?;
    for request in [
        Request::get(FLAGS),
        Request::get(EVALUATE).query("name", "a").query("userId", "ana"),
        Request::get(HISTORY).query("name", "a"),
        Request::post(FLAGS).json(&json!({"name": "a"})),
        Request::put(FLAGS).json(&json!({"name": "a", "enabled": true})),
        Request::delete(FLAGS).query("name", "a"),
    ] {
        assert_eq!(function.http(user(request, "ana")).await?.status, 403);
    }
    let odd = json!({"name": "A", "rolloutPercentage": 101, "rolloutPlan": {"steps": []}, "reason": ""});
    let answer = function.http(admin(Request::post(FLAGS)).json(&odd)).await?;
    assert_eq!((answer.status, faults(&answer.body)), (400, vec!["/name", "/rolloutPercentage", "/rolloutPlan/steps"]));
    let unguarded =
        json!({"name": "hybrid-orchestrator", "rolloutPlan": {"steps": [{"percentage": 5, "bakeMinutes": 5}]}});
    assert_eq!(faults(&function.http(admin(Request::post(FLAGS)).json(&unguarded)).await?.body), ["/rolloutPlan"]);
    assert_eq!(function.http(admin(Request::post(FLAGS)).json(&json!({"name": "a"}))).await?.status, 201);
    let moved = json!({"name": "a", "flagGroup": "b"});
    let answer = function.http(admin(Request::post(FLAGS)).header("if-match", "*").json(&moved)).await?;
    assert_eq!(faults(&answer.body), ["/flagGroup"], "it would move its users");
    // An experiment's variants stay what they are, also when it was taken away meanwhile.
    let own = |experiment: Value| json!({"name": "hybrid-orchestrator", "experiment": experiment});
    let variants = |names: [&str; 2]| json!(names.map(|name| json!({"name": name, "weight": 1})));
    let first = own(json!({"name": "e", "variants": variants(["a", "b"])}));
    assert_eq!(function.http(admin(Request::post(FLAGS)).json(&first)).await?.status, 201);
    let other = own(json!({"name": "e", "variants": variants(["a", "c"])}));
    assert_eq!(faults(&put(&function, "*", &other).await?.body), ["/experiment/variants"]);
    assert_eq!(put(&function, "*", &own(Value::Null)).await?.status, 200);
    assert_eq!(faults(&put(&function, "*", &other).await?.body), ["/experiment/variants"]);
    assert_eq!(put(&function, "*", &own(json!({"name": "f", "variants": variants(["a", "c"])}))).await?.status, 200);
    // Nor does a flag that is made anew forget them.
    let delete = admin(Request::delete(FLAGS)).query("name", "hybrid-orchestrator").header("if-match", "*");
    assert_eq!(function.http(delete).await?.status, 200);
    let again = function.http(admin(Request::post(FLAGS)).json(&other)).await?;
    assert_eq!(faults(&again.body), ["/experiment/variants"], "{}", again.body);
    assert_eq!(function.http(admin(Request::post(FLAGS)).json(&first)).await?.status, 201);
    // Each fits alone; both together do not.
    let users: Vec<_> = (0..120).map(|n| format!("{n:0>6}{}", "\\".repeat(122))).collect();
    assert_eq!(put(&function, "*", &json!({"name": "a", "userWhitelist": users})).await?.status, 200);
    let both = put(&function, "*", &json!({"name": "a", "userBlacklist": users})).await?;
    assert_eq!((both.status, faults(&both.body)), (400, vec![""]), "{}", both.body);
    Ok(())
}
