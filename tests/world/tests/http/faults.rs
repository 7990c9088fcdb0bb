//! What a test can make the services do.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use huntaze_world::{Fault, FilterStage, OPENAI_KEY, Outcome, Provider};
use serde_json::{Value, json};

use crate::{BOUND, Fixture, answer, ask};

#[tokio::test]
async fn a_status_comes_with_the_own_body_of_each_provider() {
    let fixture = Fixture::start();
    fixture.world.fault(Fault::status(429).on_any().times(2));
    let azure = answer(fixture.azure(&ask("x"))).await;
    assert_eq!((azure.status, &azure.body["error"]["code"]), (429, &json!("429")));
    assert_eq!(azure.headers["retry-after"], "20");
    let openai = answer(fixture.openai(&ask("x"))).await;
    assert_eq!((openai.status, &openai.body["error"]["code"]), (429, &json!("rate_limit_exceeded")));
    assert_eq!(openai.headers["retry-after-ms"], "1400");
    assert_eq!(answer(fixture.openai(&ask("x"))).await.status, 200);
}

#[tokio::test]
async fn a_status_may_carry_a_body_and_headers_of_the_test() {
    let fixture = Fixture::start();
    fixture.world.fault(Fault::rate_limited(7).on(Provider::Azure));
    assert_eq!(answer(fixture.azure(&ask("x"))).await.headers["retry-after"], "7");
    let fault = Fault::Status { status: 503, body: Some(json!({ "down": true })), headers: [].into() };
    fixture.world.fault(fault.on(Provider::Azure));
    let down = answer(fixture.azure(&ask("x"))).await;
    assert_eq!((down.status, down.body), (503, json!({ "down": true })));
}

#[tokio::test]
async fn faults_are_taken_in_order_by_the_calls_that_they_are_for() {
    let fixture = Fixture::start();
    let world = &fixture.world;
    world.fault(Fault::status(500).on(Provider::Azure));
    world.fault(Fault::status(503).on(Provider::Azure));
    world.fault(Fault::status(502).on_any().containing("needle").always());
    assert_eq!(answer(fixture.openai(&ask("x"))).await.status, 200);
    assert_eq!(answer(fixture.azure(&ask("x"))).await.status, 500);
    assert_eq!(answer(fixture.azure(&ask("needle"))).await.status, 503);
    assert_eq!(answer(fixture.azure(&ask("needle"))).await.status, 502);
    assert_eq!(answer(fixture.openai(&ask("needle"))).await.status, 502);
    assert_eq!(answer(fixture.azure(&ask("x"))).await.status, 200);
    assert_eq!(world.pending_faults().len(), 1);
}

#[tokio::test]
async fn a_fault_of_the_models_does_not_touch_completions() {
    let fixture = Fixture::start();
    fixture.world.fault(Fault::status(500).on(Provider::OpenAi).for_models().always());
    assert_eq!(answer(fixture.openai(&ask("x"))).await.status, 200);
    let models = fixture.client.get(format!("{}/models", fixture.world.openai_base_url())).bearer_auth(OPENAI_KEY);
    assert_eq!(answer(models).await.status, 500);
}

#[tokio::test]
async fn a_hanging_call_is_abandoned_when_its_caller_hangs_up() {
    let fixture = Fixture::start();
    fixture.world.fault(Fault::Hang.on(Provider::Azure));
    let error = fixture.azure(&ask("x")).timeout(Duration::from_millis(100)).send().await.unwrap_err();
    assert!(error.is_timeout());
    let ended = Instant::now();
    while fixture.world.calls()[0].outcome != Outcome::Abandoned {
        assert!(ended.elapsed() < BOUND, "still {:?}", fixture.world.calls()[0].outcome);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_gated_call_is_answered_once_released() {
    let fixture = Fixture::start();
    fixture.world.fault(Fault::Gate.on(Provider::Azure));
    let release = async {
        let calls = fixture.world.wait_for_calls(1, BOUND).await.unwrap();
        assert_eq!(calls[0].outcome, Outcome::InFlight);
        fixture.world.release();
    };
    let request = ask("x");
    let (answer, ()) = tokio::join!(answer(fixture.azure(&request)), release);
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn waiting_for_calls_that_do_not_come_ends_and_says_how_many_came() {
    let fixture = Fixture::start();
    answer(fixture.azure(&ask("x"))).await;
    let error = fixture.world.wait_for_calls(2, Duration::from_millis(20)).await.unwrap_err();
    assert!(error.to_string().contains("1 of 2"), "{error}");
}

#[tokio::test]
async fn a_delayed_answer_is_late_but_whole() {
    let fixture = Fixture::start();
    fixture.world.fault(Fault::delay(Duration::from_millis(60)).on(Provider::OpenAi));
    let started = Instant::now();
    assert_eq!(answer(fixture.openai(&ask("x"))).await.status, 200);
    assert!(started.elapsed() >= Duration::from_millis(60));
}

#[test]
fn a_reset_is_a_reset_of_the_connection() {
    let fixture = Fixture::start();
    fixture.world.fault(Fault::Reset.on(Provider::OpenAi));
    let mut answer = Vec::new();
    let error = speak(&fixture, &mut answer).unwrap_err();
    assert_eq!((error.kind(), answer.len()), (ErrorKind::ConnectionReset, 0));
    assert_eq!(fixture.world.calls()[0].outcome, Outcome::Broken);
}

#[test]
fn a_truncated_answer_is_half_of_what_its_length_promises() {
    let fixture = Fixture::start();
    fixture.world.fault(Fault::Truncate.on(Provider::OpenAi));
    let mut answer = Vec::new();
    let _ = speak(&fixture, &mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let promised = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert_eq!(body.len(), promised.parse::<usize>().unwrap() / 2);
    assert_eq!(fixture.world.calls()[0].outcome, Outcome::Broken);
}

#[tokio::test]
async fn garbage_is_a_200_that_is_not_json() {
    let fixture = Fixture::start();
    fixture.world.fault(Fault::Garbage.on(Provider::Azure));
    let response = fixture.azure(&ask("x")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.json::<Value>().await.is_err());
}

#[tokio::test]
async fn the_content_filter_refuses_a_prompt_in_the_way_of_each_provider() {
    let fixture = Fixture::start();
    let fault = Fault::ContentFilter { stage: FilterStage::Prompt };
    fixture.world.fault(fault.on_any().times(2));
    let azure = answer(fixture.azure(&ask("x"))).await;
    assert_eq!((azure.status, &azure.body["error"]["code"]), (400, &json!("content_filter")));
    assert_eq!(azure.body["error"]["innererror"]["code"], "ResponsibleAIPolicyViolation");
    let openai = answer(fixture.openai(&ask("x"))).await;
    assert_eq!((openai.status, &openai.body["error"]["code"]), (400, &json!("invalid_prompt")));
}

#[tokio::test]
async fn the_content_filter_may_stop_the_answer_which_is_billed() {
    let fixture = Fixture::start();
    let fault = Fault::ContentFilter { stage: FilterStage::Completion };
    fixture.world.fault(fault.on_any());
    let answer = answer(fixture.azure(&ask("x"))).await;
    let choice = &answer.body["choices"][0];
    assert_eq!((answer.status, &choice["finish_reason"]), (200, &json!("content_filter")));
    assert_eq!(choice["content_filter_results"]["sexual"]["filtered"], true);
    assert!(choice["message"].get("content").is_none());
    assert!(answer.body["usage"]["completion_tokens"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn a_refusal_stands_in_place_of_the_content() {
    let fixture = Fixture::start();
    fixture.world.fault(Fault::Refusal.on_any());
    let message = &answer(fixture.openai(&ask("x"))).await.body["choices"][0]["message"];
    assert!(message["content"].is_null() && message["refusal"].is_string());
}

#[tokio::test]
async fn an_answer_may_lack_its_choices_or_its_usage_or_carry_others() {
    let fixture = Fixture::start();
    let scripted = async |fault: Fault| {
        fixture.world.fault(fault.on(Provider::Azure));
        answer(fixture.azure(&ask("x"))).await.body
    };
    assert_eq!(scripted(Fault::EmptyChoices).await["choices"], json!([]));
    assert!(scripted(Fault::NoUsage).await.get("usage").is_none());
    let usage =
        &scripted(Fault::Usage { prompt_tokens: 2_000, completion_tokens: 30, cached_tokens: 1_024 }).await["usage"];
    assert_eq!(
        (&usage["total_tokens"], &usage["prompt_tokens_details"]["cached_tokens"]),
        (&json!(2_030), &json!(1_024))
    );
    assert_eq!(scripted(Fault::text("As said.")).await["choices"][0]["message"]["content"], "As said.");
}

#[tokio::test]
async fn a_body_may_drip_or_flood_or_be_anything() {
    let fixture = Fixture::start();
    fixture.world.fault(Fault::Drip { ms: 20 }.on(Provider::Azure));
    let mut dripping = fixture.azure(&ask("x")).send().await.unwrap();
    assert_eq!((dripping.status().as_u16(), dripping.chunk().await.unwrap().unwrap().len()), (200, 1));
    drop(dripping);
    fixture.world.fault(Fault::Flood { bytes: 5_000_000 }.on(Provider::Azure));
    assert!(fixture.azure(&ask("x")).send().await.unwrap().bytes().await.unwrap().len() > 5_000_000);
    fixture.world.fault(Fault::Raw { body: "[1e999".to_owned() }.on(Provider::OpenAi));
    assert_eq!(fixture.openai(&ask("x")).send().await.unwrap().text().await.unwrap(), "[1e999");
}

#[tokio::test]
async fn a_stopped_world_is_gone_for_kept_connections_too() {
    let Fixture { world, client } = Fixture::start();
    let url = format!("{}/control/calls/count", world.url());
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
    drop(world);
    assert!(client.get(&url).send().await.is_err());
}

/// Sends a completion on a plain socket and reads to its end, to see what a client library would hide.
fn speak(fixture: &Fixture, answer: &mut Vec<u8>) -> std::io::Result<usize> {
    let address = fixture.world.url();
    let mut stream = TcpStream::connect(address.strip_prefix("http://").unwrap())?;
    stream.set_read_timeout(Some(BOUND))?;
    let body = ask("x").to_string();
    write!(
        stream,
        "POST /openai/v1/chat/completions HTTP/1.1\r\nhost: world\r\nauthorization: Bearer {OPENAI_KEY}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    stream.read_to_end(answer)
}
