//! One Idempotency-Key, one workflow, one charge.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Result;
use huntaze_tests::{App, Response};
use huntaze_world::{Fault, Provider};
use serde_json::json;

use crate::support::{brief, campaign, text};

#[tokio::test]
async fn design_the_same_key_and_body_is_the_same_workflow_and_one_charge() -> Result<()> {
    let app = App::start().await?;
    let hybrid = app.function("campaigns-hybrid")?;
    let body = brief("content_planning", &["onlyfans"]);
    let first = hybrid.http(campaign("ana", &body).idempotency_key("k1")).await?;
    let again = hybrid.http(campaign("ana", &body).idempotency_key("k1")).await?;
    assert_eq!((first.status, again.status), (200, 200), "{} {}", first.body, again.body);
    assert_eq!((&first.body["data"], &first.body["metrics"]), (&again.body["data"], &again.body["metrics"]));
    assert_eq!((first.header("idempotent-replayed"), again.header("idempotent-replayed")), ("", "true"));
    assert_eq!(app.world.calls().len(), 1);

    let other = hybrid.http(campaign("ana", &brief("content_planning", &["reddit"])).idempotency_key("k1")).await?;
    assert_eq!((other.status, &other.body["code"]), (422, &json!("idempotency_mismatch")));
    // Another user's key is another key.
    let bob = hybrid.http(campaign("bob", &body).idempotency_key("k1")).await?;
    assert_ne!(bob.body["data"]["workflowId"], first.body["data"]["workflowId"]);
    Ok(())
}

#[tokio::test]
async fn design_a_key_in_flight_is_a_conflict_that_names_the_workflow() -> Result<()> {
    let app = App::start().await?;
    let fleet = app.fleet("campaigns-hybrid", 2).await?;
    let [first, second] = fleet.functions() else { unreachable!() };
    app.world.fault(Fault::Gate.on(Provider::Azure));
    let request = campaign("ana", &brief("content_planning", &["onlyfans"])).idempotency_key("k1");
    let under_way = first.start_http(request.clone());
    app.world.wait_for_calls(1, Duration::from_secs(20)).await?;
    let conflict = second.http(request).await?;
    assert_eq!((conflict.status, &conflict.body["code"]), (409, &json!("conflict")), "{}", conflict.body);
    assert!(!conflict.header("retry-after").is_empty());
    app.world.release();
    let answer = under_way.response().await?;
    assert_eq!(answer.body["data"]["workflowId"], conflict.body["workflowId"]);
    Ok(())
}

#[tokio::test]
async fn fifty_of_the_same_key_at_once_are_one_workflow_and_one_charge() -> Result<()> {
    let app = App::start().await?;
    let fleet = app.fleet("campaigns-hybrid", 10).await?;
    let request = campaign("ana", &brief("content_planning", &["onlyfans"])).idempotency_key("k1");
    let mut workflows = HashSet::new();
    for response in fleet.http(vec![request; 50]).await {
        let response = response?;
        let workflow = match response.status {
            200 => &response.body["data"]["workflowId"],
            409 => &response.body["workflowId"],
            _ => panic!("{} {}", response.status, response.body),
        };
        workflows.insert(text(workflow).to_owned());
    }
    assert_eq!((workflows.len(), app.world.calls().len()), (1, 1));
    let counts = app
        .stores
        .row(
            "SELECT (SELECT count(*) FROM orchestrator.workflows) AS workflows,
                    (SELECT count(*) FROM orchestrator.attempts) AS attempts",
            &[],
        )
        .await?;
    assert_eq!(counts, json!({"workflows": 1, "attempts": 1}));
    Ok(())
}

#[tokio::test]
async fn a_failed_workflow_fails_again_under_its_key_without_a_call() -> Result<()> {
    let app = App::start().await?;
    let hybrid = app.function("campaigns-hybrid")?;
    app.world.fault(Fault::status(401).on_any().times(2));
    let request = campaign("ana", &brief("content_planning", &["onlyfans"])).idempotency_key("k1");
    let first = hybrid.http(request.clone()).await?;
    let again = hybrid.http(request).await?;
    assert_eq!((first.status, again.status), (503, 503));
    assert_eq!(first.body["workflowId"], again.body["workflowId"]);
    assert_eq!(app.world.calls().len(), 2);
    // To come again with this key would be in vain, and is said.
    assert!(text(&again.body["detail"]).contains("use a new one"), "{}", again.body);
    let headers =
        |response: &Response| ["retry-after", "idempotent-replayed"].map(|name| response.header(name).to_owned());
    assert_eq!((headers(&first), headers(&again)), (["30", ""].map(str::to_owned), ["30", "true"].map(str::to_owned)));
    Ok(())
}

#[tokio::test]
async fn a_key_that_is_no_key_is_refused() -> Result<()> {
    let app = App::start().await?;
    let hybrid = app.function("campaigns-hybrid")?;
    for key in ["", "two words", "one,two", &"x".repeat(129)] {
        let request = campaign("ana", &brief("content_planning", &["onlyfans"])).idempotency_key(key);
        let response = hybrid.http(request).await?;
        assert_eq!(
            (response.status, &response.body["errors"][0]["pointer"]),
            (400, &json!("Idempotency-Key")),
            "{key}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn an_answered_key_is_answered_even_where_the_request_has_no_way_any_more() -> Result<()> {
    let app = App::start().await?;
    let request = campaign("ana", &brief("content_planning", &["onlyfans"])).idempotency_key("k1");
    let first = app.function("campaigns-hybrid")?.http(request.clone()).await?;
    let unpriced = app.function_with("campaigns-hybrid", "ROLE_PLANNER", "azure:gpt-4-turbo=gpt-99")?;
    let again = unpriced.http(request).await?;
    assert_eq!((again.status, &again.body["data"]), (200, &first.body["data"]), "{}", again.body);
    Ok(())
}
