//! Who may ask, and what a request must look like.

use std::time::Duration;

use anyhow::{Result, ensure};
use huntaze_tests::{App, ORIGIN, Request, Session, eventually};
use serde_json::json;

use crate::support::{HYBRID, STATUS, brief, campaign, text};

#[tokio::test]
async fn every_route_but_health_needs_a_session() -> Result<()> {
    let app = App::start().await?;
    let routes = crate::drift::routes()?;
    assert!(routes.len() >= 3, "{routes:?}");
    for (name, method, path) in routes {
        if name == "health" {
            continue;
        }
        let function = app.function(&name)?;
        let request = if method == "GET" { Request::get(&path) } else { Request::post(&path).json(&json!({})) };
        for request in [request.clone(), request.clone().bearer("not-a-token"), request.bearer("a.b.c.d.e")] {
            let response = function.http(request).await?;
            assert_eq!(response.status, 401, "{name}: {}", response.body);
            // Its clients know no other errors.
            if name == "legacy-campaigns" {
                assert_eq!(response.body["status"], "error");
                continue;
            }
            assert_eq!(response.body["code"], "unauthenticated");
            assert_eq!(response.header("content-type"), "application/problem+json");
        }
    }
    assert!(app.world.calls().is_empty());
    Ok(())
}

#[tokio::test]
async fn sessions_of_both_versions_are_taken_from_cookie_and_bearer() -> Result<()> {
    let app = App::start().await?;
    let status = app.function("campaigns-status")?;
    let session = Session::user("ana");
    let cookie = |name: &str, token: &str| Request::get(STATUS).cookie(name, token).origin(ORIGIN);
    for request in [
        Request::get(STATUS).bearer(&session.v4()),
        Request::get(STATUS).bearer(&session.v5("__Secure-authjs.session-token")),
        cookie("next-auth.session-token", &session.v4()),
        cookie("authjs.session-token", &session.v5("authjs.session-token")),
    ] {
        let response = status.http(request).await?;
        assert_eq!(response.status, 200, "{}", response.body);
    }
    Ok(())
}

#[tokio::test]
async fn a_cookie_changes_nothing_from_another_origin() -> Result<()> {
    let app = App::start().await?;
    let hybrid = app.function("campaigns-hybrid")?;
    let body = brief("message_generation", &["onlyfans"]);
    let request = || Request::post(HYBRID).cookie("next-auth.session-token", &Session::user("ana").v4()).json(&body);
    for refused in [request(), request().origin("https://evil.example"), request().origin("null")] {
        assert_eq!(hybrid.http(refused).await?.status, 403);
    }
    assert_eq!(hybrid.http(request().origin(ORIGIN)).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn another_users_data_needs_a_role() -> Result<()> {
    let app = App::start().await?;
    let (hybrid, status) = (app.function("campaigns-hybrid")?, app.function("campaigns-status")?);
    let mut body = brief("message_generation", &["onlyfans"]);
    body["userId"] = json!("bob");
    assert_eq!(hybrid.http(campaign("ana", &body)).await?.status, 403);
    assert!(app.world.calls().is_empty());

    let as_admin = Request::post(HYBRID).bearer(&Session::admin("root").v4()).json(&body);
    let made = hybrid.http(as_admin).await?;
    assert_eq!((made.status, &made.body["metadata"]["userId"]), (200, &json!("bob")), "{}", made.body);
    let workflow = text(&made.body["data"]["workflowId"]).to_owned();

    let ask = |session: Session, name: &str, value: &str| Request::get(STATUS).bearer(&session.v4()).query(name, value);
    assert_eq!(status.http(ask(Session::user("ana"), "workflowId", &workflow)).await?.status, 403);
    assert_eq!(status.http(ask(Session::user("ana"), "userId", "bob")).await?.status, 403);
    assert_eq!(status.http(ask(Session::user("bob"), "workflowId", &workflow)).await?.status, 200);
    assert_eq!(status.http(ask(Session::admin("root"), "userId", "bob")).await?.body["data"]["summary"]["total"], 1);
    Ok(())
}

#[tokio::test]
async fn a_faulty_request_is_told_each_fault_by_its_pointer() -> Result<()> {
    let app = App::start().await?;
    let hybrid = app.function("campaigns-hybrid")?;
    let raw = |body: &[u8]| Request::post(HYBRID).bearer(&Session::user("ana").v4()).body(body);
    let large = format!(r#"{{"data": {{"x": "{}"}}}}"#, "y".repeat(256 * 1024));
    let deep = format!(r#"{{"data": {}{}}}"#, "[".repeat(40), "]".repeat(40));
    let cases: [(&[u8], &[&str]); 7] = [
        (b"{}", &["/type", "/platforms", "/data"]),
        (br#"{"type": "poetry", "platforms": ["x"], "data": {}}"#, &["/type"]),
        (br#"{"type": "content_planning", "platforms": ["x"], "data": {}, "maxCost": NaN}"#, &["/maxCost"]),
        (b"{\"data\": \"\xff\"}", &[""]),
        (b"", &[""]),
        (large.as_bytes(), &[""]),
        (deep.as_bytes(), &[&format!("/data{}", "/0".repeat(31))]),
    ];
    for (body, pointers) in cases {
        let response = hybrid.http(raw(body)).await?;
        assert_eq!((response.status, &response.body["code"]), (400, &json!("invalid_request")), "{}", response.body);
        let found: Vec<_> =
            response.body["errors"].as_array().unwrap().iter().map(|fault| text(&fault["pointer"])).collect();
        assert_eq!(found, pointers, "{}", response.body);
    }
    assert!(app.world.calls().is_empty());
    Ok(())
}

#[tokio::test]
async fn an_error_is_a_problem_in_the_old_envelope() -> Result<()> {
    let app = App::start().await?;
    let request = campaign("ana", &json!({})).header("x-request-id", "req-7");
    let response = app.function("campaigns-hybrid")?.http(request).await?;
    for (member, value) in [
        ("success", json!(false)),
        ("error", json!("Invalid request")),
        ("type", json!("urn:huntaze:problem:invalid_request")),
        ("title", json!("Invalid request")),
        ("status", json!(400)),
        ("instance", json!(HYBRID)),
        ("code", json!("invalid_request")),
        ("requestId", json!("req-7")),
    ] {
        assert_eq!(response.body[member], value, "{member}");
    }
    assert_eq!(response.body["message"], response.body["detail"]);
    Ok(())
}

#[tokio::test]
async fn what_the_store_says_of_a_failing_row_is_not_in_a_log() -> Result<()> {
    let app = App::start().await?;
    // The server's message for this quotes the whole row.
    app.stores.execute("ALTER TABLE orchestrator.workflows ADD CHECK (request_id <> 'req-7')", &[]).await?;
    let hybrid = app.function("campaigns-hybrid")?;
    let body = json!({"type": "content_planning", "platforms": ["onlyfans"], "data": {"theme": "a very secret theme"}});
    let response = hybrid.http(campaign("ana-in-person", &body).header("x-request-id", "req-7")).await?;
    assert_eq!((response.status, &response.body["code"]), (500, &json!("internal")));
    let logs = eventually(Duration::from_secs(10), async || {
        let logs = hybrid.logs();
        ensure!(logs.contains("SQLSTATE 23514"), "{logs}");
        Ok(logs)
    });
    let said = format!("{}{}", logs.await?, response.body);
    assert!(!said.contains("a very secret theme") && !said.contains("ana-in-person"), "{said}");
    Ok(())
}

#[tokio::test]
async fn every_fault_of_the_configuration_is_reported_at_once_and_no_value() -> Result<()> {
    let app = App::start().await?;
    let common = [
        ("API_RATE_LIMIT_PER_MINUTE", "wrong-marked-limit"),
        ("REDIS_URL", "wrong-marked-redis"),
        ("SERVICE_JWT_HS256_SECRET", "wrong-marked-secret"),
        ("TLS_CA_FILE", "/wrong-marked-file"),
    ];
    let hybrids = [
        ("DATABASE_URL", "wrong-marked-url"),
        ("MAX_RETRIES", "wrong-marked-retries"),
        ("PRICE_FALLBACK_INPUT_PER_MILLION", "wrong-marked-price"),
        ("REQUEST_DEADLINE_MS", "wrong-marked-deadline"),
        ("ROLE_PLANNER", "wrong-marked-role"),
    ];
    let app = common.iter().chain(&hybrids).fold(app, |app, (name, value)| app.set(name, *value));
    let cases = [(app.function("campaigns-hybrid")?, &hybrids[..]), (app.function("campaigns-status")?, &hybrids[..1])];
    for (function, own) in cases {
        let error = function.ready().await.unwrap_err().to_string();
        for (name, _) in common.iter().chain(own) {
            // A secret for service tokens is nothing without their issuer and audience.
            // One price without the other is no price: the pair is named.
            let name = match *name {
                "SERVICE_JWT_HS256_SECRET" => "SERVICE_JWT_ISSUER",
                "PRICE_FALLBACK_INPUT_PER_MILLION" => "PRICE_FALLBACK_*_PER_MILLION",
                name => name,
            };
            assert!(error.contains(name), "{name} is not in {error}");
        }
        assert!(!error.contains("wrong-marked"), "{error}");
    }
    Ok(())
}
