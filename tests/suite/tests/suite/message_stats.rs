//! Statistics of messages: real numbers of what was sent, denied and waits; a user's, or everybody's.

use anyhow::Result;
use huntaze_tests::post::{batch_of, consume};
use huntaze_tests::{App, Request};
use serde_json::{Value, json};

use crate::support::{ACCOUNTS, MESSAGE_STATS, MESSAGES, accounts, admin, faults, note, text, user};

/// Ana's account has a session.
async fn start() -> Result<App> {
    let app = App::start().await?;
    accounts(&app, &[("acc-ana", "ana"), ("acc-bob", "bob")]).await?;
    let body = json!({"accountId": "acc-ana", "session": {"cookie": app.world.onlyfans_session("acc-ana").cookie}});
    let kept = app.function("onlyfans-accounts")?.http(user(Request::post(ACCOUNTS), "ana").json(&body)).await?;
    assert_eq!(kept.status, 200, "{}", kept.body);
    Ok(app)
}

async fn stats(app: &App, request: Request) -> Result<Value> {
    let answer = app.function("onlyfans-stats")?.http(request).await?;
    assert_eq!(answer.status, 200, "{}", answer.body);
    Ok(answer.body["data"].clone())
}

#[tokio::test]
async fn what_was_sent_and_denied_is_shown_to_its_user_and_to_administrators() -> Result<()> {
    let app = start().await?;
    let own = || user(Request::get(MESSAGE_STATS), "ana");
    let none = stats(&app, own()).await?;
    assert_eq!(
        (&none["currentPeriod"]["messages"], &none["currentPeriod"]["limit"]),
        (&json!(0), &json!(10)),
        "{none}"
    );
    assert_eq!((&none["violations"], &none["recipients"]), (&json!(0), &json!(0)));

    // Ten may go in a minute, the eleventh is denied.
    let messages = app.function("onlyfans-messages")?;
    for n in 0..11 {
        let sent = messages
            .http(user(Request::post(MESSAGES), "ana").json(&note("acc-ana", &format!("fan-{n}"), "hi")))
            .await?;
        assert_eq!(sent.status, 202, "{}", sent.body);
    }
    let app = app.set("RATE_LIMIT_GLOBAL_PER_SECOND", "1000");
    assert_eq!(
        consume(&app.function("message-sender")?, &batch_of(r#"{"accountId": "acc-ana"}"#, 1)).await?,
        Some(vec![])
    );

    let seen = stats(&app, own().query("detailed", "true")).await?;
    let period = &seen["currentPeriod"];
    assert_eq!(
        (&period["messages"], &period["limit"], &seen["recipients"]),
        (&json!(10), &json!(10), &json!(10)),
        "{seen}"
    );
    assert_eq!((&seen["violations"], &seen["violationsByLayer"]), (&json!(1), &json!({"account_minute": 1})));
    assert!(text(&period["resetTime"]) > text(&none["currentPeriod"]["resetTime"]), "{period}");
    let account = &seen["accounts"][0];
    assert_eq!(
        (&account["accountId"], &account["rateLimit"]["remaining"]),
        (&json!("acc-ana"), &json!(0)),
        "{account}"
    );
    assert_eq!(account["rateLimit"]["throttled"], true);
    let queue = &account["queue"];
    assert_eq!((&queue["waiting"], &queue["byStatus"]), (&json!(1), &json!({"queued": 1})), "{queue}");
    assert_eq!(queue["byPriority"], json!({"medium": 1}));
    assert!(queue["oldestWaiting"].is_string() && queue["nextDue"].is_string(), "{queue}");
    assert_eq!(stats(&app, own()).await?.get("accounts"), None);

    let of_ana = stats(&app, admin(Request::get(MESSAGE_STATS)).query("userId", "ana")).await?;
    assert_eq!(of_ana["currentPeriod"]["messages"], 10);
    let all = stats(&app, admin(Request::get(MESSAGE_STATS))).await?;
    assert_eq!(
        all,
        json!({"totalUsers": 2, "activeUsers": 1, "messagesPerMinute": 10, "violationsPerHour": 1,
            "topViolators": [{"userId": "ana", "violations": 1}]})
    );
    let of_bob = stats(&app, user(Request::get(MESSAGE_STATS), "bob")).await?;
    assert_eq!((&of_bob["currentPeriod"]["messages"], &of_bob["violations"]), (&json!(0), &json!(0)));
    Ok(())
}

#[tokio::test]
async fn another_users_statistics_need_a_role_and_a_flag_is_true_or_false() -> Result<()> {
    let app = App::start().await?;
    let function = app.function("onlyfans-stats")?;
    let refused = function.http(user(Request::get(MESSAGE_STATS), "bob").query("userId", "ana")).await?;
    assert_eq!((refused.status, text(&refused.body["code"])), (403, "forbidden"));
    let odd = function.http(user(Request::get(MESSAGE_STATS), "bob").query("detailed", "yes")).await?;
    assert_eq!((odd.status, faults(&odd.body)), (400, vec!["detailed"]));
    Ok(())
}

#[tokio::test]
async fn a_users_own_limits_are_those_of_all_their_accounts_with_what_is_set_of_each() -> Result<()> {
    let app = App::start().await?;
    accounts(&app, &[("acc-1", "ana"), ("acc-2", "ana")]).await?;
    let limits = json!({"accountId": "acc-2", "limits": {"account_minute": 3}});
    app.function("onlyfans-accounts")?.http(admin(Request::post(ACCOUNTS)).json(&limits)).await?;
    let seen = stats(&app, user(Request::get(MESSAGE_STATS), "ana").query("detailed", "true")).await?;
    assert_eq!(
        (&seen["currentPeriod"]["limit"], seen["accounts"].as_array().map(Vec::len)),
        (&json!(13), Some(2)),
        "{seen}"
    );
    Ok(())
}
