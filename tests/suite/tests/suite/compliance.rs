//! Every text is judged: what is generated, edited, sent directly and validated. Each test tries to get one around that.

use std::time::Duration;

use anyhow::{Result, ensure};
use huntaze_tests::{App, Request};
use huntaze_world::{Fault, Operation, Provider};
use serde_json::{Value, json};

use crate::hand_over::{stopped_before_its_end, take_up, view};
use crate::support::{
    ACCOUNTS, HYBRID, MESSAGES, accounts, admin, brief, campaign, faults, note, status_of, text, user,
};

const CHECK: &str = "/api/v2/compliance/check";
const REPORT: &str = "/api/admin/compliance";
const ACCOUNT: &str = "acc-ana";
/// Blocked at every level, and how people write it to get around that.
const NEVER: &str = "I can send you a video with b3st1ality, аnimal s\u{200b}ex included";
/// Blocked at the strict level.
const CONTACT: &str = "You are so sweet! Write to me at ana.rose@example.com and we go on there.";
/// Fine at every level.
const FINE: &str = "Good morning handsome, I was just thinking about you. How did your week go so far?";

async fn start() -> Result<App> {
    let app = App::start().await?;
    accounts(&app, &[(ACCOUNT, "ana"), ("acc-bob", "bob")]).await?;
    Ok(app)
}

fn message(level: &str) -> Value {
    json!({
        "type": "message_generation", "platforms": ["onlyfans"], "data": {"theme": "thanks"},
        "onlyFansContext": {"accountId": ACCOUNT, "messageType": "follow_up", "complianceLevel": level},
    })
}

fn sent(level: &str) -> Value {
    let mut body = message(level);
    (body["sendToOnlyFans"], body["recipientId"]) = (json!(true), json!("fan-1"));
    body
}

/// The provider of messages writes this.
fn writes(app: &App, text: &str) {
    app.world.fault(Fault::text(text).on(Provider::OpenAi));
}

async fn post(app: &App, function: &str, path: &str, body: &Value) -> Result<huntaze_tests::Response> {
    Ok(app.function(function)?.http(user(Request::post(path), "ana").json(body)).await?)
}

async fn rows(app: &App, of: &str) -> Result<Vec<Value>> {
    app.stores.rows(&format!("SELECT * FROM orchestrator.{of} ORDER BY 1"), &[]).await
}

fn rules(findings: &Value) -> Vec<&str> {
    findings.as_array().map(|found| found.iter().map(|one| text(&one["rule"])).collect()).unwrap_or_default()
}

#[tokio::test]
async fn what_is_generated_and_blocked_nobody_gets_and_is_paid_once() -> Result<()> {
    let app = start().await?.set("HUMAN_APPROVAL", "never");
    let hybrid = app.function("campaigns-hybrid")?;
    for level in ["strict", "moderate", "relaxed"] {
        let before = app.world.calls().len();
        writes(&app, NEVER);
        let key = format!("key-{level}");
        let ask = || campaign("ana", &sent(level)).header("idempotency-key", &key);
        let refused = hybrid.http(ask()).await?;
        assert_eq!((refused.status, text(&refused.body["code"])), (422, "compliance_violation"), "{}", refused.body);
        let named = rules(&refused.body["findings"]);
        assert!(named.iter().any(|rule| rule.starts_with("bestiality.")), "{named:?}");
        assert!(!refused.body.to_string().contains("b3st1ality"), "nobody is shown the text");
        // Neither again, nor by another provider, nor for the same key.
        let again = hybrid.http(ask()).await?;
        assert_eq!((again.status, rules(&again.body["findings"])), (422, named));
        assert_eq!(app.world.calls().len(), before + 1);
    }
    assert!(rows(&app, "messages").await?.is_empty() && app.world.fan_messages().is_empty());
    let attempts = rows(&app, "attempts").await?;
    assert_eq!(attempts.len(), 3);
    for attempt in &attempts {
        assert_eq!((&attempt["outcome"], &attempt["failure"]), (&json!("failed"), &json!("blocked")));
        ensure!(attempt["cost"].as_f64().is_some_and(|cost| cost > 0.0) && attempt["estimated"] == false, "{attempt}");
    }
    let judged = rows(&app, "judgements").await?;
    assert_eq!(judged.len(), 3);
    for one in &judged {
        assert_eq!(
            (text(&one["origin"]), text(&one["verdict"]), text(&one["account_id"])),
            ("generated", "block", ACCOUNT)
        );
        ensure!(!one.to_string().contains("b3st1ality"), "the log has the text's hash, not the text");
    }
    // What we think of its texts is no failure of the provider.
    let circuits = app.function("circuits")?.http(admin(Request::get("/api/admin/circuits"))).await?;
    assert!(!circuits.body.to_string().contains("\"open\""), "{}", circuits.body);
    Ok(())
}

#[tokio::test]
async fn what_is_generated_is_answered_with_its_scores() -> Result<()> {
    let app = start().await?;
    writes(&app, FINE);
    let answer = post(&app, "campaigns-hybrid", HYBRID, &message("strict")).await?;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let (data, item) = (&answer.body["data"], &answer.body["data"]["contents"][0]);
    assert_eq!((&data["complianceScore"], &item["compliance"]["verdict"]), (&json!(1.0), &json!("allow")));
    assert_eq!((&item["compliance"]["level"], &item["compliance"]["findings"]), (&json!("strict"), &json!([])));
    assert_eq!(data["qualityScore"], item["quality"]["score"]);
    ensure!(data["qualityScore"].as_f64().is_some_and(|score| (0.5..=1.0).contains(&score)), "{data}");
    writes(&app, "Hey [name], {offer} is here, TODO");
    let poor = post(&app, "campaigns-hybrid", HYBRID, &message("strict")).await?;
    let quality = &poor.body["data"]["contents"][0]["quality"];
    assert_eq!(quality["placeholders"], 0.0, "{quality}");
    ensure!(quality["score"].as_f64() < data["qualityScore"].as_f64());
    // Asked again later, it is the same.
    let id = text(&poor.body["data"]["workflowId"]);
    let status = app.function("campaigns-status")?.http(status_of("ana", id)).await?;
    assert_eq!(status.body["data"]["qualityScore"], poor.body["data"]["qualityScore"], "{}", status.body);
    Ok(())
}

#[tokio::test]
async fn the_level_is_the_stricter_of_the_requests_and_the_accounts() -> Result<()> {
    let app = start().await?;
    // The account's floor is strict, whatever is asked for.
    writes(&app, CONTACT);
    let refused = post(&app, "campaigns-hybrid", HYBRID, &message("relaxed")).await?;
    ensure!(refused.status == 422 && rules(&refused.body["findings"]).contains(&"contact.email"), "{}", refused.body);
    let floor = json!({"accountId": ACCOUNT, "complianceFloor": "relaxed"});
    app.function("onlyfans-accounts")?.http(admin(Request::post(ACCOUNTS)).json(&floor)).await?;
    writes(&app, CONTACT);
    let shown = post(&app, "campaigns-hybrid", HYBRID, &message("relaxed")).await?;
    assert_eq!(shown.status, 200, "{}", shown.body);
    let compliance = &shown.body["data"]["contents"][0]["compliance"];
    assert_eq!((&compliance["verdict"], &compliance["level"]), (&json!("review"), &json!("relaxed")));
    // Where it is sent, a person looks at it first, whatever the policy is.
    let app = app.set("HUMAN_APPROVAL", "never");
    writes(&app, CONTACT);
    let waits = post(&app, "campaigns-hybrid", HYBRID, &sent("relaxed")).await?;
    assert_eq!(waits.body["data"]["onlyFans"]["status"], "awaiting_approval", "{}", waits.body);
    writes(&app, FINE);
    let goes = post(&app, "campaigns-hybrid", HYBRID, &sent("relaxed")).await?;
    assert_eq!(goes.body["data"]["onlyFans"]["status"], "queued", "{}", goes.body);
    Ok(())
}

#[tokio::test]
async fn what_is_sent_directly_is_judged_and_what_is_blocked_is_not_kept() -> Result<()> {
    let app = start().await?;
    for blocked in [NEVER, CONTACT] {
        let refused = post(&app, "onlyfans-messages", MESSAGES, &note(ACCOUNT, "fan-1", blocked)).await?;
        assert_eq!((refused.status, text(&refused.body["code"])), (422, "compliance_violation"), "{}", refused.body);
        // Whoever wrote it is shown where.
        let finding = &refused.body["findings"][0];
        ensure!(finding["end"].as_u64() > finding["start"].as_u64(), "{finding}");
    }
    assert!(rows(&app, "messages").await?.is_empty());
    let fine = post(&app, "onlyfans-messages", MESSAGES, &note(ACCOUNT, "fan-1", FINE)).await?;
    assert_eq!((fine.status, text(&fine.body["data"]["status"])), (202, "queued"), "{}", fine.body);
    // The same to the same fan again: a person looks at it.
    let again =
        post(&app, "onlyfans-messages", MESSAGES, &note(ACCOUNT, "fan-1", &FINE.replace("handsome", "darling")))
            .await?;
    assert_eq!(text(&again.body["data"]["status"]), "awaiting_approval", "{}", again.body);
    let other =
        post(&app, "onlyfans-messages", MESSAGES, &note(ACCOUNT, "fan-2", &FINE.replace("handsome", "love"))).await?;
    assert_eq!(text(&other.body["data"]["status"]), "queued", "{}", other.body);
    let id = text(&again.body["data"]["messageId"]);
    let shown = user(Request::get(MESSAGES), "ana").query("messageId", id);
    let shown = app.function("onlyfans-messages")?.http(shown).await?;
    assert_eq!(rules(&shown.body["data"]["compliance"]["findings"]), ["repetition.same_text"], "{}", shown.body);
    let verdicts: Vec<_> = rows(&app, "judgements").await?.iter().map(|one| text(&one["verdict"]).to_owned()).collect();
    assert_eq!(verdicts.iter().filter(|verdict| *verdict == "block").count(), 2);
    assert_eq!(verdicts.len(), 5);
    Ok(())
}

#[tokio::test]
async fn who_approves_edits_nothing_into_a_text_that_may_not_be_sent() -> Result<()> {
    let app = start().await?;
    writes(&app, FINE);
    let waits = post(&app, "campaigns-hybrid", HYBRID, &sent("strict")).await?;
    let id = text(&waits.body["data"]["onlyFans"]["messageId"]).to_owned();
    assert_eq!(waits.body["data"]["onlyFans"]["status"], "awaiting_approval");
    let approve = async |content: Option<&str>| {
        let body = json!({"messageId": id, "content": content});
        post(&app, "onlyfans-messages", &format!("{MESSAGES}/approve"), &body).await
    };
    for blocked in [NEVER, CONTACT] {
        let refused = approve(Some(blocked)).await?;
        assert_eq!((refused.status, text(&refused.body["code"])), (422, "compliance_violation"), "{}", refused.body);
    }
    let kept = rows(&app, "messages").await?;
    assert_eq!((&kept[0]["status"], &kept[0]["content"]), (&json!("awaiting_approval"), &json!(FINE)));
    let edited = "Good morning! How did your week go so far, and what are you up to now?";
    let approved = approve(Some(edited)).await?;
    assert_eq!((approved.status, text(&approved.body["data"]["status"])), (200, "queued"), "{}", approved.body);
    let log = app.stores.rows("SELECT after FROM orchestrator.audit_log WHERE action = 'message.approve'", &[]).await?;
    ensure!(log[0]["after"]["verdict"] == "allow" && log[0]["after"]["ruleVersion"].is_string(), "{log:?}");
    let origins: Vec<_> = rows(&app, "judgements").await?.iter().map(|one| text(&one["origin"]).to_owned()).collect();
    assert_eq!(origins.iter().filter(|origin| *origin == "edited").count(), 3);
    // Nobody judges in another's name.
    let foreign = app.function("onlyfans-messages")?;
    let body = json!({"messageId": id, "content": NEVER});
    let foreign = foreign.http(user(Request::post(&format!("{MESSAGES}/approve")), "bob").json(&body)).await?;
    assert_eq!(foreign.status, 403, "{}", foreign.body);
    Ok(())
}

#[tokio::test]
async fn who_reviews_writes_nothing_that_may_not_be_sent() -> Result<()> {
    let app = start().await?.set("MANUAL_REVIEW_TYPES", "message_generation");
    app.world.fault(Fault::status(500).on(Provider::OpenAi).always());
    app.world.fault(Fault::status(500).on(Provider::Azure).always());
    let app = app.set("MAX_RETRIES", "0");
    let waits = post(&app, "campaigns-hybrid", HYBRID, &sent("strict")).await?;
    assert_eq!((waits.status, text(&waits.body["data"]["status"])), (202, "manual_review"), "{}", waits.body);
    let id = text(&waits.body["data"]["workflowId"]).to_owned();
    let decide = async |action: &str, contents: Option<&str>| {
        let contents = contents.map(|content| json!([{"step": "message", "content": content}]));
        let body = json!({"workflowId": id, "action": action, "contents": contents});
        anyhow::Ok(app.function("reviews")?.http(admin(Request::post("/api/admin/reviews")).json(&body)).await?)
    };
    assert_eq!(decide("claim", None).await?.status, 200);
    for blocked in [NEVER, CONTACT] {
        let refused = decide("approve", Some(blocked)).await?;
        assert_eq!((refused.status, text(&refused.body["code"])), (422, "compliance_violation"), "{}", refused.body);
    }
    assert!(rows(&app, "messages").await?.is_empty());
    let approved = decide("approve", Some(FINE)).await?;
    assert_eq!(approved.status, 200, "{}", approved.body);
    let messages = rows(&app, "messages").await?;
    assert_eq!((&messages[0]["content"], &messages[0]["status"]), (&json!(FINE), &json!("queued")));
    let workflow = rows(&app, "workflows").await?;
    let item = &workflow[0]["result"]["data"]["contents"][0];
    assert_eq!(item["compliance"]["verdict"], "allow", "{item}");
    let origins: Vec<_> = rows(&app, "judgements").await?.iter().map(|one| text(&one["origin"]).to_owned()).collect();
    assert_eq!(origins.iter().filter(|origin| *origin == "edited").count(), 3, "{origins:?}");
    Ok(())
}

#[tokio::test]
async fn what_waits_is_judged_as_the_rules_are_when_it_is_approved() -> Result<()> {
    let app = start().await?;
    let approve = async |id: &str, content: Option<&str>| {
        post(&app, "onlyfans-messages", &format!("{MESSAGES}/approve"), &json!({"messageId": id, "content": content}))
            .await
    };
    writes(&app, FINE);
    let waits = post(&app, "campaigns-hybrid", HYBRID, &sent("strict")).await?;
    let id = text(&waits.body["data"]["onlyFans"]["messageId"]).to_owned();
    // As if its rule were younger than the text.
    let own = json!({"accountId": ACCOUNT, "customWords": ["handsome"]});
    app.function("onlyfans-accounts")?.http(user(Request::post(ACCOUNTS), "ana").json(&own)).await?;
    let refused = approve(&id, None).await?;
    assert_eq!((refused.status, rules(&refused.body["findings"])), (422, vec!["account.word"]), "{}", refused.body);
    // In words of which something is found it waits for another look, however often the request comes.
    let hurried = "LAST CHANCE!! 5 minutes left and then this video is erased for ever";
    let edit = Request::post(&format!("{MESSAGES}/approve")).json(&json!({"messageId": id, "content": hurried}));
    let edit = user(edit, "ana").header("x-request-id", "the-same");
    for _ in 0..2 {
        let stays = app.function("onlyfans-messages")?.http(edit.clone()).await?;
        let shown = &stays.body["data"];
        assert_eq!((stays.status, text(&shown["status"])), (200, "awaiting_approval"), "{}", stays.body);
        assert_eq!((&shown["compliance"]["verdict"], &shown["content"]), (&json!("review"), &json!(hurried)));
    }
    let goes = approve(&id, None).await?;
    assert_eq!((goes.status, text(&goes.body["data"]["status"])), (200, "queued"), "{}", goes.body);
    let log = "SELECT action FROM orchestrator.audit_log WHERE subject LIKE 'message:%' ORDER BY id";
    let log: Vec<_> = app.stores.rows(log, &[]).await?.iter().map(|row| text(&row["action"]).to_owned()).collect();
    assert_eq!(log, ["message.edit", "message.approve"]);
    Ok(())
}

#[tokio::test]
async fn a_text_that_was_made_before_texts_were_judged_is_judged_when_it_is_reviewed() -> Result<()> {
    let app = start().await?.set("MANUAL_REVIEW_TYPES", "campaign_execution").set("MAX_RETRIES", "0");
    // The plan and the platform's message are made, the other one is refused.
    let mut body = brief("campaign_execution", &["onlyfans", "instagram"]);
    body["onlyFansContext"] = json!({"accountId": ACCOUNT, "messageType": "follow_up", "complianceLevel": "strict"});
    app.world.fault(Fault::Refusal.on(Provider::OpenAi).containing("instagram"));
    let waits = post(&app, "campaigns-hybrid", HYBRID, &body).await?;
    assert_eq!(text(&waits.body["data"]["status"]), "manual_review", "{}", waits.body);
    let id = text(&waits.body["data"]["workflowId"]).to_owned();
    let listed =
        app.function("reviews")?.http(admin(Request::get("/api/admin/reviews")).query("workflowId", &id)).await?;
    assert!(listed.body.to_string().contains("\"compliance\""), "{}", listed.body);
    app.stores
        .execute(
            "UPDATE orchestrator.workflows SET checkpoint = jsonb_set(checkpoint #- '{texts,message:onlyfans,judged}',
                '{texts,message:onlyfans,content}', to_jsonb($1::text))",
            &[&NEVER],
        )
        .await?;
    let reviews = app.function("reviews")?;
    let review = async |body: Value| reviews.http(admin(Request::post("/api/admin/reviews")).json(&body)).await;
    review(json!({"workflowId": id, "action": "claim"})).await?;
    let contents = json!([{"step": "message:instagram", "content": FINE}]);
    let refused = review(json!({"workflowId": id, "action": "approve", "contents": contents})).await?;
    assert_eq!((refused.status, text(&refused.body["code"])), (422, "compliance_violation"), "{}", refused.body);
    Ok(())
}

#[tokio::test]
async fn a_text_that_was_made_before_texts_were_judged_is_judged_when_its_workflow_is_taken_up() -> Result<()> {
    let app = start().await?;
    let workflow = stopped_before_its_end(&app, &brief("campaign_execution", &["onlyfans", "instagram"])).await?;
    // As it was kept before: without a verdict, whatever it says.
    app.stores
        .execute(
            "UPDATE orchestrator.workflows SET checkpoint = jsonb_set(checkpoint #- '{texts,message:onlyfans,judged}' #- '{texts,plan,judged}',
                '{texts,message:onlyfans,content}', to_jsonb($1::text))",
            &[&NEVER],
        )
        .await?;
    take_up(&app, &workflow).await?;
    let shown = view(&app, &workflow).await?;
    assert!(shown["status"] == "completed" && !shown["content"].to_string().contains("b3st1ality"), "{shown}");
    let steps: Vec<_> = shown["attempts"].as_array().unwrap().iter().map(|one| text(&one["step"])).collect();
    let times = |step: &str| steps.iter().filter(|one| **one == step).count();
    // What may be used is, and what may not is made again.
    assert_eq!([times("plan"), times("message:onlyfans"), times("message:instagram")], [1, 2, 1], "{steps:?}");
    let said = "SELECT verdict FROM orchestrator.judgements WHERE step = 'message:onlyfans' ORDER BY at";
    let said = app.stores.rows(said, &[]).await?;
    assert_eq!(said, ["allow", "block", "allow"].map(|verdict| json!({"verdict": verdict})));
    Ok(())
}

#[tokio::test]
async fn judgements_are_forgotten_after_400_days() -> Result<()> {
    let app = start().await?;
    for recipient in ["fan-1", "fan-2"] {
        post(&app, "onlyfans-messages", MESSAGES, &note(ACCOUNT, recipient, FINE)).await?;
    }
    let ages = "UPDATE orchestrator.judgements SET at = now() - make_interval(days => CASE WHEN id = (SELECT min(id) FROM orchestrator.judgements)
                    THEN 401 ELSE 399 END)";
    ensure!(app.stores.execute(ages, &[]).await? == 2, "both were judged");
    let before = rows(&app, "judgements").await?;
    app.function("message-sweeper")?.invoke(&json!({}), Duration::from_secs(30)).await?;
    assert_eq!(rows(&app, "judgements").await?, before[1..]);
    Ok(())
}

#[tokio::test]
async fn another_platform_beside_it_or_no_account_named_makes_no_text_laxer() -> Result<()> {
    let app = start().await?;
    let mut named = message("relaxed");
    named["platforms"] = json!(["onlyfans", "instagram"]);
    let mut unnamed = message("relaxed");
    unnamed.as_object_mut().map(|members| members.remove("onlyFansContext"));
    for body in [named, unnamed] {
        writes(&app, CONTACT);
        let refused = post(&app, "campaigns-hybrid", HYBRID, &body).await?;
        let is_refused = refused.status == 422 && rules(&refused.body["findings"]).contains(&"contact.email");
        assert!(is_refused, "{}", refused.body);
    }
    let check = post(&app, "compliance-check", CHECK, &json!({"text": CONTACT, "level": "relaxed"})).await?;
    assert_eq!(check.body["data"]["verdict"], "block", "{}", check.body);
    Ok(())
}

#[tokio::test]
async fn what_is_validated_is_judged_and_that_is_the_answer() -> Result<()> {
    let app = start().await?;
    // The validator quotes what it was shown.
    writes(&app, &format!("This text is a violation: {NEVER}"));
    let mut body = brief("content_validation", &["onlyfans"]);
    body["data"] = json!({"text": NEVER});
    let answer = post(&app, "campaigns-hybrid", HYBRID, &body).await?;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let item = &answer.body["data"]["contents"][0];
    assert_eq!(item["compliance"]["verdict"], "block", "{item}");
    ensure!(
        answer.body["data"]["complianceScore"].as_f64() == Some(0.0) && item["quality"].is_null(),
        "{}",
        answer.body
    );
    assert_eq!(rows(&app, "judgements").await?[0]["origin"], "validated");
    // It is all of the brief, by whatever name.
    body["data"] = json!({"text": FINE, "notes": [{"caption": NEVER}]});
    writes(&app, "It may be sent as it is.");
    let hidden = post(&app, "campaigns-hybrid", HYBRID, &body).await?;
    assert_eq!(hidden.body["data"]["contents"][0]["compliance"]["verdict"], "block", "{}", hidden.body);
    // What validates a text writes none that may not be sent.
    body["data"] = json!({"text": FINE});
    writes(&app, &format!("Better: {CONTACT}"));
    let worse = post(&app, "campaigns-hybrid", HYBRID, &body).await?;
    assert!(worse.status == 422 && rules(&worse.body["findings"]).contains(&"contact.email"), "{}", worse.body);
    Ok(())
}

#[tokio::test]
async fn an_accounts_own_words_and_its_disclosure_hold_for_its_texts() -> Result<()> {
    let app = start().await?.set("HUMAN_APPROVAL", "never");
    let accounts = app.function("onlyfans-accounts")?;
    let own =
        json!({"accountId": ACCOUNT, "customWords": ["handsome"], "aiDisclosure": "Written with the help of AI."});
    let set = accounts.http(user(Request::post(ACCOUNTS), "ana").json(&own)).await?;
    assert_eq!((set.status, &set.body["data"]["customWords"]), (200, &json!(["handsome"])), "{}", set.body);
    let allowed = json!({"accountId": ACCOUNT, "allowedWords": ["vodka"]});
    let refused = accounts.http(user(Request::post(ACCOUNTS), "ana").json(&allowed)).await?;
    assert_eq!((refused.status, faults(&refused.body)), (403, vec!["/allowedWords"]));
    for disclosure in [" ", "More of me: t.me/anarose", &"a".repeat(96)] {
        let odd = json!({"accountId": ACCOUNT, "customWords": ["東京"], "aiDisclosure": disclosure});
        let odd = accounts.http(user(Request::post(ACCOUNTS), "ana").json(&odd)).await?;
        assert_eq!((odd.status, faults(&odd.body)), (400, vec!["/customWords", "/aiDisclosure"]), "{}", odd.body);
    }

    writes(&app, &FINE.replace("handsome", "h@ndsome"));
    let blocked = post(&app, "campaigns-hybrid", HYBRID, &message("strict")).await?;
    assert_eq!(rules(&blocked.body["findings"]), ["account.word"], "{}", blocked.body);
    let fine = FINE.replace("handsome", "you");
    let direct = post(&app, "onlyfans-messages", MESSAGES, &note(ACCOUNT, "fan-2", &fine)).await?;
    assert_eq!(direct.status, 202, "{}", direct.body);
    app.function("onlyfans-accounts")?
        .http(admin(Request::post(ACCOUNTS)).json(&json!({"accountId": ACCOUNT, "complianceFloor": "moderate"})))
        .await?;
    writes(&app, &fine);
    let generated = post(&app, "campaigns-hybrid", HYBRID, &sent("moderate")).await?;
    assert_eq!(generated.status, 200, "{}", generated.body);
    let contents: Vec<_> = rows(&app, "messages").await?.iter().map(|one| text(&one["content"]).to_owned()).collect();
    // A person's words stay as they are.
    ensure!(
        contents.contains(&fine) && contents.contains(&format!("{fine}\n\nWritten with the help of AI.")),
        "{contents:?}"
    );
    let none = json!({"accountId": ACCOUNT, "aiDisclosure": null, "customWords": []});
    let none = accounts.http(user(Request::post(ACCOUNTS), "ana").json(&none)).await?;
    assert_eq!((&none.body["data"]["aiDisclosure"], &none.body["data"]["customWords"]), (&Value::Null, &json!([])));
    let log = app
        .stores
        .rows("SELECT after FROM orchestrator.audit_log WHERE action = 'account.change' ORDER BY id", &[])
        .await?;
    assert_eq!(log[0]["after"]["customWords"], json!(["handsome"]), "{log:?}");
    Ok(())
}

#[tokio::test]
async fn a_second_opinion_counts_and_none_lets_nothing_through() -> Result<()> {
    let app = start().await?.set("MODERATION_MODEL", "omni-moderation-latest").set("MODERATION_TIME_MS", "1500");
    let verdict = async |app: &App| {
        writes(app, FINE);
        let answer = post(app, "campaigns-hybrid", HYBRID, &message("strict")).await?;
        let item = &answer.body["data"]["contents"][0]["compliance"];
        let found = if answer.status == 200 { item["findings"].clone() } else { answer.body["findings"].clone() };
        let opinion = item["secondOpinion"].as_str().unwrap_or("-").to_owned();
        anyhow::Ok((answer.status, opinion, rules(&found).join(" ")))
    };
    let is = |status: u16, opinion: &str, rules: &str| (status, opinion.to_owned(), rules.to_owned());
    assert_eq!(verdict(&app).await?, is(200, "passed", ""));
    let asked = app.world.moderations();
    assert_eq!((&asked[0].body["input"], &asked[0].body["model"]), (&json!(FINE), &json!("omni-moderation-latest")));
    app.world.fault(Fault::flagged(&["sexual"]));
    assert_eq!(verdict(&app).await?, is(200, "flagged", ""), "which is allowed between adults");
    app.world.fault(Fault::flagged(&["hate"]));
    assert_eq!(verdict(&app).await?, is(200, "flagged", "second_opinion.hate"));
    app.world.fault(Fault::flagged(&["sexual/minors"]));
    assert_eq!(verdict(&app).await?, is(422, "-", "second_opinion.sexual_minors"));
    let never = [
        Fault::status(500),
        Fault::Garbage,
        Fault::Hang,
        Fault::Reset,
        Fault::Raw { body: r#"{"results":[]}"#.to_owned() },
    ];
    for fault in never {
        app.world.fault(fault.clone().on(Provider::OpenAi).of(Operation::Moderation));
        assert_eq!(verdict(&app).await?, is(200, "missing", "second_opinion.missing"), "{fault:?}");
    }
    // And so it waits for a person, also where nobody has to approve.
    let app = app.set("HUMAN_APPROVAL", "never");
    app.world.fault(Fault::status(503).on(Provider::OpenAi).of(Operation::Moderation));
    let direct = post(&app, "onlyfans-messages", MESSAGES, &note(ACCOUNT, "fan-1", FINE)).await?;
    assert_eq!(direct.body["data"]["status"], "awaiting_approval", "{}", direct.body);
    // What the rules block nobody is asked about.
    let before = app.world.moderations().len();
    post(&app, "onlyfans-messages", MESSAGES, &note(ACCOUNT, "fan-1", NEVER)).await?;
    assert_eq!(app.world.moderations().len(), before);
    Ok(())
}

#[tokio::test]
async fn a_filter_that_did_not_run_has_passed_nothing() -> Result<()> {
    let app = start().await?;
    let unfiltered = json!({
        "choices": [{"index": 0, "message": {"role": "assistant", "content": FINE}, "finish_reason": "stop",
                     "content_filter_results": {"error": {"code": "content_filter_error", "message": "not filtered"}}}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30},
    });
    let mut body = message("strict");
    body["forceProvider"] = json!("azure");
    app.world.fault(Fault::Raw { body: unfiltered.to_string() }.on(Provider::Azure));
    let answer = post(&app, "campaigns-hybrid", HYBRID, &body).await?;
    let compliance = &answer.body["data"]["contents"][0]["compliance"];
    assert_eq!(rules(&compliance["findings"]), ["second_opinion.not_filtered"], "{}", answer.body);
    assert_eq!(compliance["verdict"], "review");
    Ok(())
}

#[tokio::test]
async fn an_editor_is_told_what_is_wrong_where_and_nothing_is_kept() -> Result<()> {
    let app = start().await?;
    let check = async |body: Value| post(&app, "compliance-check", CHECK, &body).await;
    let fine = check(json!({"text": FINE})).await?;
    assert_eq!(
        (&fine.body["data"]["verdict"], &fine.body["data"]["level"]),
        (&json!("allow"), &json!("strict")),
        "{}",
        fine.body
    );
    // Places are counted as browsers count: an emoji is two.
    let found = check(json!({"text": "😘 write to ana.rose@example.com", "level": "relaxed"})).await?;
    let finding = &found.body["data"]["findings"][0];
    assert_eq!(
        (&finding["rule"], &finding["start"], &finding["end"]),
        (&json!("contact.email"), &json!(12), &json!(32)),
        "{}",
        found.body
    );
    for member in ["category", "severity", "reason", "suggestion"] {
        ensure!(finding[member].is_string(), "{member}: {finding}");
    }
    // The account's floor is stricter than what is asked for; another's is not theirs to ask about.
    let floor = check(json!({"text": CONTACT, "level": "relaxed", "accountId": ACCOUNT})).await?;
    assert_eq!((&floor.body["data"]["level"], &floor.body["data"]["verdict"]), (&json!("strict"), &json!("block")));
    assert_eq!(check(json!({"text": FINE, "accountId": "acc-bob"})).await?.status, 403);
    assert_eq!(check(json!({"text": FINE, "accountId": "acc-nobody"})).await?.status, 404);
    let faulty = check(json!({"text": "", "level": "no", "accountId": ""})).await?;
    assert_eq!((faulty.status, faults(&faulty.body)), (400, vec!["/text", "/level", "/accountId"]));
    assert!(rows(&app, "judgements").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn administrators_are_told_which_rules_are_broken_by_whom() -> Result<()> {
    let app = start().await?;
    for content in [CONTACT, NEVER, FINE] {
        post(&app, "onlyfans-messages", MESSAGES, &note(ACCOUNT, "fan-1", content)).await?;
    }
    let report = async |name: &str, value: &str| {
        let request = admin(Request::get(REPORT)).query(name, value);
        anyhow::Ok(app.function("compliance-report")?.http(request).await?)
    };
    let all = report("days", "1").await?;
    let data = &all.body["data"];
    assert_eq!(
        (&data["judged"], &data["blocked"], &data["accounts"]),
        (&json!(3), &json!(2), &json!(1)),
        "{}",
        all.body
    );
    let row = data["byRule"].as_array().unwrap().iter().find(|row| row["rule"] == "contact.email").unwrap();
    assert_eq!((&row["blocked"], &row["accounts"]), (&json!(1), &json!(1)));
    let account = &data["byAccount"][0];
    assert_eq!(
        (&account["accountId"], &account["blocked"], &account["rules"]["contact.email"]),
        (&json!(ACCOUNT), &json!(2), &json!(1))
    );
    assert_eq!(report("accountId", "acc-bob").await?.body["data"]["judged"], 0);
    assert_eq!(report("days", "91").await?.status, 400);
    let user = app.function("compliance-report")?.http(user(Request::get(REPORT), "ana")).await?;
    assert_eq!(user.status, 403);
    Ok(())
}
