//! What each service answers when nothing is scripted.

use huntaze_world::{AZURE_KEY, Outcome, Provider};
use serde_json::{Value, json};

use crate::{Fixture, answer, ask};

const BRIEF: &str = r#"{"platforms":["instagram","onlyfans"],"theme":"Lanterns at the lake"}"#;

#[tokio::test]
async fn azure_answers_a_completion_with_its_filter_results() {
    let fixture = Fixture::start();
    let answer = answer(fixture.azure(&ask(BRIEF))).await;
    assert_eq!(answer.status, 200);
    assert!(answer.headers.contains_key("apim-request-id"));
    assert_eq!(answer.body["object"], "chat.completion");
    assert_eq!(answer.body["model"], "gpt-4-turbo-2024-04-09");
    assert_eq!(answer.body["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer.body["choices"][0]["content_filter_results"]["hate"]["severity"], "safe");
    assert_eq!(answer.body["prompt_filter_results"][0]["content_filter_results"]["jailbreak"]["detected"], false);
    let text = answer.body["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.contains("Lanterns at the lake") && text.contains("Instagram and OnlyFans"), "{text}");
}

#[tokio::test]
async fn openai_answers_a_completion_without_them() {
    let fixture = Fixture::start();
    let answer = answer(fixture.openai(&ask(BRIEF))).await;
    assert_eq!(answer.status, 200);
    assert!(answer.headers.contains_key("x-request-id"));
    assert_eq!(answer.body["model"], "gpt-4o-2024-08-06");
    assert_eq!(answer.body["choices"][0]["message"]["role"], "assistant");
    assert_eq!(answer.body["choices"][0]["message"]["refusal"], Value::Null);
    assert!(answer.body.get("prompt_filter_results").is_none());
    assert!(answer.body["choices"][0].get("content_filter_results").is_none());
    let call = &fixture.world.calls_to(Provider::OpenAi)[0];
    assert_eq!(call.headers["openai-organization"], "org-huntaze");
    assert_eq!(call.headers["authorization"], "redacted");
    assert_eq!((call.path.as_str(), call.model.as_str()), ("/openai/v1/chat/completions", "gpt-4o"));
    assert_eq!(call.outcome, Outcome::Answered { status: 200 });
}

#[tokio::test]
async fn tokens_are_counted_from_the_texts_and_never_pass_the_maximum() {
    let fixture = Fixture::start();
    let full = answer(fixture.openai(&ask(BRIEF))).await.body;
    let (usage, text) = (&full["usage"], full["choices"][0]["message"]["content"].as_str().unwrap());
    assert_eq!(usage["completion_tokens"], text.len().div_ceil(4));
    assert_eq!(usage["prompt_tokens"], "You write messages.".len().div_ceil(4) + BRIEF.len().div_ceil(4) + 3 * 2 + 3);
    assert_eq!(
        usage["total_tokens"].as_u64().unwrap(),
        usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap()
    );
    for maximum in ["max_tokens", "max_completion_tokens"] {
        let mut request = ask(BRIEF);
        request[maximum] = 7.into();
        let cut = answer(fixture.openai(&request)).await.body;
        assert_eq!(cut["usage"]["completion_tokens"], 7);
        assert_eq!(cut["choices"][0]["finish_reason"], "length");
    }
}

#[tokio::test]
async fn a_prompt_seen_before_is_cached_in_steps_of_128_tokens() {
    let fixture = Fixture::start();
    let cached = async |request: &Value| {
        answer(fixture.azure(request)).await.body["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
    };
    let long = "Lanterns at the lake. ".repeat(300);
    assert_eq!(cached(&ask(&long)).await, 0);
    assert_eq!(cached(&ask(&long)).await, (long.len() as u64 / 4) / 128 * 128);
    assert_eq!(cached(&ask(&format!("Another start. {long}"))).await, 0);
    // A short prompt is never cached, nor is another provider's.
    assert_eq!((cached(&ask("hi")).await, cached(&ask("hi")).await), (0, 0));
    assert_eq!(answer(fixture.openai(&ask(&long))).await.body["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
}

#[tokio::test]
async fn each_service_refuses_a_missing_and_a_wrong_key_in_its_own_shape() {
    let Fixture { world, client } = Fixture::start();
    let azure =
        format!("{}/openai/deployments/gpt-4-turbo/chat/completions?api-version=2024-10-21", world.azure_endpoint());
    let openai = format!("{}/chat/completions", world.openai_base_url());
    let missing = answer(client.post(&azure).json(&ask("x"))).await;
    assert_eq!((missing.status, &missing.body["error"]["code"]), (401, &json!("Unauthorized")));
    let wrong = answer(client.post(&azure).header("api-key", "no").json(&ask("x"))).await;
    assert_eq!((wrong.status, &wrong.body["error"]["code"]), (401, &json!("401")));
    // Azure's key is no bearer token, and a bearer token no key of Azure's.
    let bearer = answer(client.post(&azure).bearer_auth(AZURE_KEY).json(&ask("x"))).await;
    assert_eq!(bearer.status, 401);
    let missing = answer(client.post(&openai).json(&ask("x"))).await;
    assert_eq!((missing.status, &missing.body["error"]["code"]), (401, &Value::Null));
    let wrong = answer(client.post(&openai).bearer_auth("no").json(&ask("x"))).await;
    assert_eq!((wrong.status, &wrong.body["error"]["code"]), (401, &json!("invalid_api_key")));
}

#[tokio::test]
async fn azure_knows_its_deployments_and_wants_a_version() {
    let fixture = Fixture::start();
    let at = async |path: &str| answer(fixture.azure_at(path).json(&ask("x"))).await;
    let unknown = at("/openai/deployments/nothing-here/chat/completions?api-version=2024-10-21").await;
    assert_eq!((unknown.status, &unknown.body["error"]["code"]), (404, &json!("DeploymentNotFound")));
    for path in ["", "?api-version=", "?api-version=latest"] {
        let unversioned = at(&format!("/openai/deployments/gpt-4o/chat/completions{path}")).await;
        assert_eq!((unversioned.status, &unversioned.body["error"]["message"]), (404, &json!("Resource not found")));
    }
    assert_eq!(at("/openai/deployments/gpt-4o/chat/completions?api-version=2025-01-01-preview").await.status, 200);
    assert_eq!(at("/openai/elsewhere?api-version=2024-10-21").await.status, 404);
}

#[tokio::test]
async fn openai_knows_its_models() {
    let fixture = Fixture::start();
    let mut request = ask("x");
    request["model"] = "gpt-imaginary".into();
    let unknown = answer(fixture.openai(&request)).await;
    assert_eq!((unknown.status, &unknown.body["error"]["code"]), (404, &json!("model_not_found")));
    request.as_object_mut().unwrap().remove("model");
    assert_eq!(answer(fixture.openai(&request)).await.status, 400);
}

#[tokio::test]
async fn a_body_that_is_not_valid_is_refused_with_the_name_of_its_fault() {
    let fixture = Fixture::start();
    let cases = [
        (json!({ "model": "gpt-4o" }), "messages"),
        (json!({ "model": "gpt-4o", "messages": [] }), "messages"),
        (json!({ "model": "gpt-4o", "messages": [{ "role": "fan", "content": "x" }] }), "messages[0].role"),
        (json!({ "model": "gpt-4o", "messages": [{ "role": "user", "content": 7 }] }), "messages[0].content"),
        (json!({ "model": "gpt-4o", "messages": [{ "role": "user", "content": "x" }], "max_tokens": 0 }), "max_tokens"),
        (json!({ "model": "gpt-4o", "messages": [{ "role": "user", "content": "x" }], "stream": true }), "stream"),
        (json!({ "model": "gpt-5", "messages": [{ "role": "user", "content": "x" }], "max_tokens": 9 }), "max_tokens"),
    ];
    for (body, param) in cases {
        let refused = answer(fixture.openai(&body)).await;
        assert_eq!((refused.status, &refused.body["error"]["param"]), (400, &json!(param)), "{body}");
    }
    let not_json = fixture.openai(&json!({})).body("{\"model\":");
    assert_eq!(answer(not_json).await.status, 400);
    let not_json = fixture.azure(&json!({})).body("");
    assert_eq!(answer(not_json).await.status, 400);
}

#[tokio::test]
async fn both_list_their_models_to_those_with_a_key_and_count_it_as_no_call() {
    let Fixture { world, client } = Fixture::start();
    let azure = format!("{}/openai/models?api-version=2024-10-21", world.azure_endpoint());
    let openai = format!("{}/models", world.openai_base_url());
    let listed = answer(client.get(&azure).header("api-key", AZURE_KEY)).await;
    assert_eq!((listed.status, &listed.body["data"][0]["object"]), (200, &json!("model")));
    let listed = answer(client.get(&openai).bearer_auth(huntaze_world::OPENAI_KEY)).await;
    assert_eq!((listed.status, &listed.body["object"]), (200, &json!("list")));
    assert_eq!(answer(client.get(&openai)).await.status, 401);
    assert_eq!((world.calls().len(), world.probes().len()), (0, 3));
}
