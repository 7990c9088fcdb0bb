//! A campaign whose text goes to a fan: taken on as a message in the transaction that completes the workflow, or not at all.

use anyhow::{Context as _, Result};
use huntaze_domain::ids::AccountId;
use huntaze_messaging::hint;
use huntaze_tests::post::{batch_of, consume};
use huntaze_tests::{App, now};
use huntaze_world::{Fault, Provider};
use serde_json::{Value, json};

use crate::support::{accounts, campaign, faults, sessions, signed, status_of, text};

const ACCOUNT: &str = "acc-ana";

fn body() -> Value {
    json!({
        "type": "message_generation", "platforms": ["onlyfans"], "data": {"theme": "thanks"}, "sendToOnlyFans": true,
        "recipientId": "fan-1",
        "onlyFansContext": {"accountId": ACCOUNT, "messageType": "follow_up", "complianceLevel": "relaxed"},
    })
}

async fn start() -> Result<App> {
    let app = App::start().await?;
    accounts(&app, &[(ACCOUNT, "ana"), ("acc-bob", "bob")]).await?;
    sessions(&app).store(ACCOUNT, &signed(&app.world, ACCOUNT), now()).await?;
    Ok(app)
}

async fn messages(app: &App) -> Result<Vec<Value>> {
    app.stores.rows("SELECT * FROM orchestrator.messages", &[]).await
}

#[tokio::test]
async fn design_what_a_person_must_approve_is_not_sent_before() -> Result<()> {
    let app = start().await?;
    let hybrid = app.function("campaigns-hybrid")?;
    let response = hybrid.http(campaign("ana", &body()).header("idempotency-key", "k1")).await?;
    assert_eq!(response.status, 200, "{}", response.body);
    let data = &response.body["data"];
    let only_fans = &data["onlyFans"];
    assert_eq!((&only_fans["status"], &only_fans["accountId"]), (&json!("awaiting_approval"), &json!(ACCOUNT)));
    let [message] = <[Value; 1]>::try_from(messages(&app).await?).unwrap();
    assert_eq!(data["rateLimitStatus"]["unknown"], true, "nothing was ever sent");
    // The account's floor is stricter than what was asked for.
    assert_eq!((&message["id"], &message["compliance_level"]), (&only_fans["messageId"], &json!("strict")));
    assert_eq!((&message["workflow_id"], &message["recipient_id"]), (&data["workflowId"], &json!("fan-1")));
    assert_eq!((&message["content"], &message["message_type"]), (&data["content"], &json!("follow_up")));
    assert!(app.stores.take_hints().await?.is_empty(), "nothing is due");

    let again = hybrid.http(campaign("ana", &body()).header("idempotency-key", "k1")).await?;
    assert_eq!(&again.body["data"]["onlyFans"], only_fans);
    assert_eq!(messages(&app).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn what_nobody_has_to_approve_is_sent_and_the_status_says_how_far_it_is() -> Result<()> {
    let app = start().await?.set("HUMAN_APPROVAL", "never");
    let response = app.function("campaigns-hybrid")?.http(campaign("ana", &body())).await?;
    assert_eq!(response.body["data"]["onlyFans"]["status"], "queued");
    let workflow = text(&response.body["data"]["workflowId"]);
    let hint = huntaze_tests::eventually(std::time::Duration::from_secs(10), async || {
        app.stores.take_hints().await?.pop().context("no hint yet")
    });
    assert_eq!(hint.await?, json!({"accountId": ACCOUNT}));
    let states = async || {
        let response = app.function("campaigns-status")?.http(status_of("ana", workflow)).await?;
        let states = &response.body["data"]["providerStates"];
        anyhow::Ok((text(&states["rateLimiter"]).to_owned(), text(&states["onlyFans"]).to_owned()))
    };
    assert_eq!(states().await?, ("pending".to_owned(), "pending".to_owned()));
    let sender = app.function("message-sender")?;
    consume(&sender, &batch_of(&hint::body(&AccountId::parse(ACCOUNT)?), 1)).await?;
    assert_eq!(states().await?, ("approved".to_owned(), "sent".to_owned()));
    let again = app.function("campaigns-hybrid")?.http(campaign("ana", &body())).await?;
    let room = &again.body["data"]["rateLimitStatus"];
    assert_eq!((&room["remaining"], &room["throttled"]), (&json!(1), &json!(false)), "of two to a fan: {room}");
    let [reached] = <[_; 1]>::try_from(app.world.fan_messages()).unwrap();
    assert_eq!((reached.recipient.as_str(), json!(reached.text)), ("fan-1", response.body["data"]["content"].clone()));
    Ok(())
}

#[tokio::test]
async fn of_a_campaign_the_platforms_own_message_is_sent() -> Result<()> {
    let app = start().await?.set("HUMAN_APPROVAL", "never");
    let mut wanted = body();
    wanted["type"] = json!("campaign_execution");
    wanted["platforms"] = json!(["instagram", "onlyfans"]);
    let response = app.function("campaigns-hybrid")?.http(campaign("ana", &wanted)).await?;
    assert_eq!(response.status, 200, "{}", response.body);
    let contents = response.body["data"]["contents"].as_array().unwrap();
    let own = contents.iter().find(|content| content["step"] == "message:onlyfans").unwrap();
    assert_eq!(messages(&app).await?[0]["content"], own["content"]);
    Ok(())
}

#[tokio::test]
async fn design_sending_for_anothers_account_is_403_and_nothing_is_kept_or_called() -> Result<()> {
    let app = start().await?;
    let hybrid = app.function("campaigns-hybrid")?;
    let with = |account: &str| {
        let mut body = body();
        body["onlyFansContext"]["accountId"] = json!(account);
        body
    };
    let foreign = hybrid.http(campaign("ana", &with("acc-bob"))).await?;
    assert_eq!((foreign.status, text(&foreign.body["code"])), (403, "forbidden"));
    let unknown = hybrid.http(campaign("ana", &with("acc-none"))).await?;
    assert_eq!((unknown.status, text(&unknown.body["code"])), (404, "not_found"));
    let mut plan = body();
    plan["type"] = json!("content_planning");
    let plan = hybrid.http(campaign("ana", &plan)).await?;
    assert_eq!((plan.status, faults(&plan.body)), (400, vec!["/sendToOnlyFans"]));
    assert!(app.world.calls().is_empty());
    assert!(app.stores.rows("SELECT id FROM orchestrator.workflows", &[]).await?.is_empty());
    // The only account need not be named; of several one has to be.
    let mut unnamed = body();
    unnamed.as_object_mut().unwrap().remove("onlyFansContext");
    let response = hybrid.http(campaign("ana", &unnamed)).await?;
    assert_eq!(response.body["data"]["onlyFans"]["accountId"], ACCOUNT, "{}", response.body);
    accounts(&app, &[("acc-ana-2", "ana")]).await?;
    let several = hybrid.http(campaign("ana", &unnamed)).await?;
    assert_eq!((several.status, faults(&several.body)), (400, vec!["/onlyFansContext/accountId"]));
    Ok(())
}

#[tokio::test]
async fn a_text_that_cannot_be_sent_is_answered_and_not_sent() -> Result<()> {
    let app = start().await?;
    app.world.fault(Fault::text("x".repeat(1_001)).on(Provider::OpenAi));
    let response = app.function("campaigns-hybrid")?.http(campaign("ana", &body())).await?;
    assert_eq!((response.status, &response.body["data"]["onlyFans"]["status"]), (200, &json!("failed")));
    assert!(messages(&app).await?.is_empty());
    let workflow = text(&response.body["data"]["workflowId"]);
    let shown = app.function("campaigns-status")?.http(status_of("ana", workflow)).await?;
    assert_eq!(shown.body["data"]["providerStates"]["onlyFans"], "failed");
    Ok(())
}
