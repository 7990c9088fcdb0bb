//! What a user sees of their workflows.

use anyhow::Result;
use huntaze_tests::{App, Request, Session};
use huntaze_world::{Fault, Provider};
use serde_json::{Value, json};

use crate::support::{STATUS, brief, campaign, status_of, text, usd};

fn list(user: &str) -> Request {
    Request::get(STATUS).bearer(&Session::user(user).v4())
}

#[tokio::test]
async fn a_completed_workflow_shows_its_text_cost_and_attempts() -> Result<()> {
    let app = App::start().await?;
    let made =
        app.function("campaigns-hybrid")?.http(campaign("ana", &brief("content_planning", &["onlyfans"]))).await?;
    let data = &made.body["data"];
    let response = app.function("campaigns-status")?.http(status_of("ana", text(&data["workflowId"]))).await?;
    let view = &response.body["data"];
    assert_eq!(
        (&view["status"], &view["type"], &view["userId"]),
        (&json!("completed"), &json!("content_planning"), &json!("ana"))
    );
    assert_eq!(view["content"], data["content"]);
    assert_eq!(usd(&view["cost"]["total"]), usd(&data["detailedCosts"]["totalCost"]));
    assert_eq!(view["cost"]["breakdown"], json!({"azure": view["cost"]["total"], "openai": 0.0}));
    assert_eq!(
        view["metrics"],
        json!({
            "tokensUsed": made.body["metrics"]["cost"]["tokens"], "requestsCount": 1, "retryAttempts": 0, "fallbacksUsed": 0
        })
    );
    assert_eq!(view["fallbackHistory"], json!([]));
    assert!(view["duration"].is_u64() && view["completedAt"].is_string() && view.get("error").is_none());
    Ok(())
}

#[tokio::test]
async fn a_list_is_paged_filtered_and_summed() -> Result<()> {
    let app = App::start().await?;
    let hybrid = app.function("campaigns-hybrid")?;
    let mut made = Vec::new();
    for n in 0..5 {
        if n == 2 {
            app.world.fault(Fault::status(401).on_any().times(2));
        }
        let body = hybrid.http(campaign("ana", &brief("message_generation", &["onlyfans"]))).await?.body;
        made.push(text(body.pointer("/data/workflowId").unwrap_or(&body["workflowId"])).to_owned());
    }
    hybrid.http(campaign("bob", &brief("message_generation", &["onlyfans"]))).await?;
    made.reverse();

    let status = app.function("campaigns-status")?;
    let (mut seen, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let mut request = list("ana").query("limit", "2");
        if let Some(cursor) = &cursor {
            request = request.query("cursor", cursor);
        }
        let data = status.http(request).await?.body["data"].take();
        assert_eq!(data["summary"]["total"], 5);
        seen.extend(data["workflows"].as_array().unwrap().iter().map(|w| text(&w["workflowId"]).to_owned()));
        cursor = data["nextCursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, made);

    let failed = status.http(list("ana").query("status", "failed")).await?.body["data"].take();
    assert_eq!((&failed["workflows"][0]["workflowId"], &failed["summary"]["total"]), (&json!(made[2]), &json!(1)));
    let all = status.http(list("ana")).await?.body["data"].take();
    let sum = all["workflows"].as_array().unwrap().iter().map(|w| usd(&w["cost"]["total"])).sum();
    assert_eq!(usd(&all["summary"]["totalCost"]), sum);
    assert_eq!(
        (&all["summary"]["byStatus"]["completed"], &all["summary"]["byStatus"]["queued"]),
        (&json!(4), &json!(0))
    );
    assert_eq!(status.http(list("nobody")).await?.body["data"]["workflows"], json!([]));
    Ok(())
}

#[tokio::test]
async fn a_faulty_query_is_told_which_parameter() -> Result<()> {
    let app = App::start().await?;
    let status = app.function("campaigns-status")?;
    for (name, value) in [
        ("limit", "0"),
        ("limit", "101"),
        ("limit", "ten"),
        ("status", "done"),
        ("cursor", "!!"),
        ("cursor", "MTIz"),
        // -009998-01-01T00:00:00Z wf_x
        ("cursor", "LTAwOTk5OC0wMS0wMVQwMDowMDowMFogd2ZfeA"),
        ("workflowId", "a b"),
        ("userId", "ä"),
    ] {
        let response = status.http(list("ana").query(name, value)).await?;
        assert_eq!((response.status, &response.body["errors"][0]["pointer"]), (400, &json!(name)), "{}", response.body);
    }
    // Also where the parameter is not needed.
    let response = status.http(status_of("ana", "wf_none").query("limit", "0")).await?;
    assert_eq!(response.status, 400, "{}", response.body);
    Ok(())
}

#[tokio::test]
async fn an_unknown_workflow_is_404() -> Result<()> {
    let app = App::start().await?;
    let response = app.function("campaigns-status")?.http(status_of("ana", "wf_none")).await?;
    assert_eq!((response.status, &response.body["code"]), (404, &json!("not_found")));
    Ok(())
}

#[tokio::test]
async fn a_workflow_under_way_shows_who_is_being_asked() -> Result<()> {
    let app = App::start().await?;
    let hybrid = app.function("campaigns-hybrid")?;
    app.world.fault(Fault::Gate.on(Provider::Azure));
    let under_way = hybrid.start_http(campaign("ana", &brief("content_planning", &["onlyfans"])));
    app.world.wait_for_calls(1, std::time::Duration::from_secs(20)).await?;
    let listed: Value =
        app.function("campaigns-status")?.http(list("ana").query("status", "running")).await?.body["data"].take();
    let view = &listed["workflows"][0];
    assert_eq!((&view["providerStates"]["azure"], &view["completedAt"]), (&json!("executing"), &Value::Null));
    app.world.release();
    assert_eq!(under_way.response().await?.status, 200);
    Ok(())
}
