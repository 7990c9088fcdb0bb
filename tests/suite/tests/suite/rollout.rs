//! Who is served by which system, and how soon a kill counts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::join_all;
use huntaze_tests::{App, Bad, Function, Request, Response, Session, eventually};
use huntaze_world::{Fault, Provider};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    FLAGS, HYBRID, admin, brief, campaign, closed_port, link_to, old_campaign, rolling_out, set_flag, text,
};

const BOUND: Duration = Duration::from_secs(30);
/// What the design allows between a change and the last decision by what was before it.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

fn plan() -> Value {
    brief("content_planning", &["onlyfans"])
}

/// Whether an answer was made here; `None` if it is no good answer.
fn is_ours(answer: &Response) -> Option<bool> {
    let data = &answer.body["data"];
    let ours = !text(&data["workflowId"]).is_empty();
    let theirs = text(&data["campaignId"]).starts_with("legacy_");
    (answer.status == 200 && ours != theirs).then_some(ours)
}

async fn ours(function: &Function, user: &str) -> Result<bool> {
    let answer = function.http(campaign(user, &plan())).await?;
    is_ours(&answer).with_context(|| format!("{} {}", answer.status, answer.body))
}

/// A request under way: when it was sent, and who answered it.
type Sent = (Instant, bool);

#[tokio::test]
async fn design_the_kill_takes_every_new_request_to_the_old_system_within_5_s_without_a_failed_one_and_back()
-> Result<()> {
    let app = rolling_out().await?.set("API_RATE_LIMIT_PER_MINUTE", "100000");
    set_flag(&app, &json!({})).await?;
    let flags = app.function("feature-flags")?;
    let (new, old) = (app.fleet("campaigns-hybrid", 2).await?, app.fleet("legacy-campaigns", 2).await?);
    let over = AtomicBool::new(false);
    // Each process has a client of its own, who asks as fast as he is answered.
    let client = async |function: &Function, request: &(dyn Fn() -> Request + Sync)| -> Result<Vec<Sent>> {
        let mut sent = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let at = Instant::now();
            let answer = function.http(request()).await?;
            sent.push((at, is_ours(&answer).with_context(|| format!("{}: {}", answer.status, answer.body))?));
        }
        Ok(sent)
    };
    let new_request = || campaign("ana", &plan());
    let old_request = || old_campaign("ana", &json!({"userId": "ana"}));
    let clients = async {
        let new = new.functions().iter().map(|function| client(function, &new_request));
        let old = old.functions().iter().map(|function| client(function, &old_request));
        let (new, old) = tokio::join!(join_all(new), join_all(old));
        new.into_iter().chain(old).collect::<Result<Vec<_>>>()
    };
    let switch = async |enabled: bool| -> Result<Instant> {
        let change = json!({"name": "hybrid-orchestrator", "enabled": enabled, "reason": "a drill"});
        let answer = flags.http(admin(Request::put(FLAGS)).header("if-match", "*").json(&change)).await?;
        ensure!(answer.status == 200, "{}", answer.body);
        Ok(Instant::now())
    };
    // The course of it: until enough has been asked behind each switch.
    let course = async {
        let asked = async |least: usize| {
            let before = app.world.calls().len() + app.world.legacy_requests().len();
            eventually(BOUND, async || {
                let now = app.world.calls().len() + app.world.legacy_requests().len();
                ensure!(now >= before + least, "{now} of {before} + {least}");
                Ok(())
            })
            .await
        };
        let behind = async |switched: Instant| {
            eventually(BOUND, async || {
                ensure!(switched.elapsed() > SEEN_WITHIN, "not yet");
                Ok(())
            })
            .await?;
            asked(20).await
        };
        let all = async {
            asked(20).await?;
            let killed = switch(false).await?;
            behind(killed).await?;
            let back = switch(true).await?;
            behind(back).await?;
            Ok::<_, anyhow::Error>((killed, back))
        };
        let all = all.await;
        over.store(true, Ordering::Relaxed);
        all
    };
    let (sent, course) = tokio::join!(clients, course);
    let ((killed, back), sent) = (course?, sent?);
    for (of, sent) in sent.iter().enumerate() {
        let (mut before, mut dead, mut after) = (0, 0, 0);
        for (at, ours) in sent {
            if *at < killed - Duration::from_secs(1) {
                ensure!(*ours, "a client of {of} was not taken in before the kill");
                before += 1;
            } else if (killed + SEEN_WITHIN..back).contains(at) {
                ensure!(!ours, "a killed flag served client {of}, {:?} behind the kill", *at - killed);
                dead += 1;
            } else if *at > back + SEEN_WITHIN {
                ensure!(*ours, "client {of} is not back");
                after += 1;
            }
        }
        ensure!(dead > 0 && after > 0, "client {of}: {before} before, {dead} while it was dead, {after} after");
    }
    Ok(())
}

#[tokio::test]
async fn nobody_is_taken_in_without_a_flag_or_by_one_that_cannot_be_read() -> Result<()> {
    let app = rolling_out().await?;
    ensure!(!ours(&app.function("campaigns-hybrid")?, "ana").await?, "there is no flag");
    set_flag(&app, &json!({})).await?;
    ensure!(ours(&app.function("campaigns-hybrid")?, "ana").await?, "there is one");
    let nowhere = format!("http://{}", closed_port()?);
    let blind = app.function_with("campaigns-hybrid", "AWS_ENDPOINT_URL_DYNAMODB", &nowhere)?;
    ensure!(!ours(&blind, "ana").await?, "it cannot be read: it may say that nobody is");

    let alone = app.unset("LEGACY_API_URL");
    let blind = alone.function_with("campaigns-hybrid", "AWS_ENDPOINT_URL_DYNAMODB", &nowhere)?;
    let answer = blind.http(campaign("ana", &plan())).await?;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "2"), "{}", answer.body);
    Ok(())
}

#[tokio::test]
async fn the_environment_switches_over_the_flag() -> Result<()> {
    let app = rolling_out().await?;
    set_flag(&app, &json!({"rolloutPercentage": 0, "userWhitelist": ["ana"], "userBlacklist": ["bob"]})).await?;
    for (variable, value, ana, bob, cyd) in [
        ("HYBRID_ORCHESTRATOR_ENABLED", "true", true, false, false),
        ("HYBRID_ORCHESTRATOR_ENABLED", "false", false, false, false),
        ("HYBRID_ORCHESTRATOR_ENABLED", "always", true, true, true),
        ("HYBRID_ORCHESTRATOR_PERCENTAGE", "100", true, false, true),
        ("HYBRID_ORCHESTRATOR_PERCENTAGE", "0", true, false, false),
    ] {
        let function = app.function_with("campaigns-hybrid", variable, value)?;
        let found = (ours(&function, "ana").await?, ours(&function, "bob").await?, ours(&function, "cyd").await?);
        assert_eq!(found, (ana, bob, cyd), "{variable}={value}");
    }
    Ok(())
}

#[tokio::test]
async fn design_a_missing_attribute_is_false_and_what_a_session_said_is_remembered() -> Result<()> {
    let app = rolling_out().await?;
    set_flag(&app, &json!({"conditions": {"userTier": ["vip"], "platform": ["onlyfans", "reddit"]}})).await?;
    let function = app.function("campaigns-hybrid")?;
    ensure!(!ours(&function, "ana").await?, "nothing is known of her tier");
    let says = |tier: &str| Session::user("ana").claim("tier", tier).v4();
    let asks = async |token: String, platforms: &[&str]| -> Result<bool> {
        let request = Request::post(HYBRID).bearer(&token).json(&brief("content_planning", platforms));
        is_ours(&function.http(request).await?).context("no good answer")
    };
    ensure!(!asks(says("free"), &["onlyfans"]).await?, "another tier");
    ensure!(asks(says("vip"), &["onlyfans"]).await?, "her tier");
    ensure!(!asks(says("vip"), &["onlyfans", "tiktok"]).await?, "not every platform of the request");
    // It is written behind the answer.
    eventually(BOUND, async || {
        ensure!(ours(&function, "ana").await?, "what her session said is not remembered");
        Ok(())
    })
    .await?;
    // An administrator's own tier says nothing of whom he asks for.
    let mut body = plan();
    body["userId"] = json!("bob");
    let token = Session::admin("root").claim("tier", "vip").v4();
    let answer = function.http(Request::post(HYBRID).bearer(&token).json(&body)).await?;
    assert_eq!(is_ours(&answer), Some(false), "{}", answer.body);
    Ok(())
}

#[tokio::test]
async fn a_table_that_is_slow_once_is_asked_again_and_one_that_stays_slow_takes_nobody_in() -> Result<()> {
    let app = rolling_out().await?;
    set_flag(&app, &json!({})).await?;
    let (link, through) = link_to(&app.env()["AWS_ENDPOINT_URL"]).await?;
    let function = app.function_with("campaigns-hybrid", "AWS_ENDPOINT_URL_DYNAMODB", &through)?;
    ensure!(ours(&function, "ana").await?, "it answers");
    // The connection that is kept dies, as one does while an environment is frozen; the table is well.
    link.spoil(Bad::Gone);
    link.mend();
    let dead = Instant::now();
    while dead.elapsed() < SEEN_WITHIN + Duration::from_secs(1) {
        ensure!(ours(&function, "ana").await?, "it was not asked again");
    }
    link.spoil(Bad::Gone);
    let asked = Instant::now();
    eventually(BOUND, async || {
        ensure!(!ours(&function, "ana").await?, "the flag is fresh still");
        Ok(())
    })
    .await?;
    ensure!(asked.elapsed() < Duration::from_secs(15), "nobody waits so long for a flag");
    link.mend();
    eventually(BOUND, async || {
        ensure!(ours(&function, "ana").await?, "it has not noticed");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_was_taken_on_before_the_kill_is_answered_here_and_not_done_again_there() -> Result<()> {
    let app = rolling_out().await?;
    set_flag(&app, &json!({})).await?;
    let request = || campaign("ana", &plan()).idempotency_key("k-1");
    let first = app.function("campaigns-hybrid")?.http(request()).await?;
    assert_eq!(is_ours(&first), Some(true), "{}", first.body);
    set_flag(&app, &json!({"enabled": false})).await?;
    for function in [
        app.function("campaigns-hybrid")?,
        app.function_with("campaigns-hybrid", "HYBRID_ORCHESTRATOR_ENABLED", "false")?,
    ] {
        let again = function.http(request()).await?;
        assert_eq!(again.body["data"]["workflowId"], first.body["data"]["workflowId"], "{}", again.body);
        assert_eq!(again.header("idempotent-replayed"), "true");
        assert_eq!(
            function.http(campaign("ana", &plan()).idempotency_key("k-1").body("{}")).await?.status,
            200,
            "it is faulty here"
        );
    }
    assert_eq!((app.world.calls().len(), app.world.legacy_requests().len()), (1, 2));
    let other = app.function("campaigns-hybrid")?.http(campaign("ana", &plan()).idempotency_key("k-2")).await?;
    assert_eq!(is_ours(&other), Some(false), "{}", other.body);
    Ok(())
}

#[tokio::test]
async fn every_decision_is_counted_with_its_flag_its_side_and_its_reason() -> Result<()> {
    let app = rolling_out().await?;
    set_flag(&app, &json!({"userBlacklist": ["bob"]})).await?;
    let function = app.function("campaigns-hybrid")?;
    app.world.fault(Fault::status(500).on(Provider::Legacy));
    ensure!(ours(&function, "ana").await?);
    assert_eq!(function.http(campaign("bob", &plan())).await?.status, 500, "the old system's own");
    let found = eventually(BOUND, async || {
        let stdout = function.stdout();
        let lines: Vec<Value> = stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let found: Vec<_> = lines.into_iter().filter(|line| line.get("FlagDecisions").is_some()).collect();
        ensure!(found.len() == 2, "{found:?}");
        Ok(found)
    })
    .await?;
    let told = |line: &Value| ["Flag", "Side", "Reason"].map(|name| text(&line[name]).to_owned());
    assert_eq!(told(&found[0]), ["hybrid-orchestrator", "new", "rollout"]);
    assert_eq!(told(&found[1]), ["hybrid-orchestrator", "legacy", "blacklist"]);
    for line in &found {
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Dimensions"], json!([["Flag", "Side", "Reason"], []]), "{line}");
    }
    Ok(())
}

#[tokio::test]
async fn whoever_is_not_taken_in_is_not_held_back_by_our_limit_nor_counted_by_it() -> Result<()> {
    let app: App = rolling_out().await?.set("API_RATE_LIMIT_PER_MINUTE", "2");
    let function = app.function("campaigns-hybrid")?;
    for _ in 0..4 {
        let answer = function.http(campaign("ana", &plan())).await?;
        assert_eq!((is_ours(&answer), answer.header("ratelimit")), (Some(false), ""), "{}", answer.body);
    }
    let counting = app.function_with("campaigns-hybrid", "HYBRID_ORCHESTRATOR_ENABLED", "always")?;
    let first = counting.http(campaign("ana", &plan())).await?;
    assert!(first.header("ratelimit").contains("r=1;"), "{}", first.header("ratelimit"));
    Ok(())
}
