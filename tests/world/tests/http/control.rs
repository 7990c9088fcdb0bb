//! The control routes, as a shell script or a test in another process uses them.

use huntaze_world::{Call, Fault, Outcome, Provider, World};
use serde_json::{Value, json};

use crate::{BOUND, Fixture, answer, ask};

async fn script(fixture: &Fixture, rule: &Value) -> u16 {
    let url = format!("{}/control/faults", fixture.world.url());
    fixture.client.post(url).json(rule).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_fault_is_for_one_call_unless_it_says_how_many() {
    let fixture = Fixture::start();
    assert_eq!(
        script(&fixture, &json!({ "provider": "azure", "fault": { "kind": "status", "status": 500 } })).await,
        201
    );
    assert_eq!(answer(fixture.azure(&ask("x"))).await.status, 500);
    assert_eq!(answer(fixture.azure(&ask("x"))).await.status, 200);
    let always =
        json!({ "provider": "any", "fault": { "kind": "status", "status": 503 }, "times": null, "contains": "needle" });
    assert_eq!(script(&fixture, &always).await, 201);
    for _ in 0..3 {
        assert_eq!(answer(fixture.openai(&ask("needle"))).await.status, 503);
    }
    assert_eq!(answer(fixture.openai(&ask("x"))).await.status, 200);
}

#[tokio::test]
async fn what_cannot_be_scripted_is_refused() {
    let fixture = Fixture::start();
    for rule in [
        json!({ "provider": "azure", "fault": { "kind": "explode" } }),
        json!({ "provider": "nobody", "fault": { "kind": "hang" } }),
        json!({ "provider": "azure", "fault": { "kind": "hang" }, "time": 2 }),
    ] {
        assert_eq!(script(&fixture, &rule).await, 422, "{rule}");
    }
}

#[tokio::test]
async fn calls_are_listed_counted_released_and_forgotten_over_http() {
    let fixture = Fixture::start();
    let control = |path: &str| format!("{}/control{path}", fixture.world.url());
    script(&fixture, &json!({ "provider": "openai", "fault": { "kind": "gate" } })).await;
    let request = ask("x");
    let release = async {
        fixture.world.wait_for_calls(1, BOUND).await.unwrap();
        fixture.client.post(control("/release")).send().await.unwrap().status()
    };
    let (gated, released) = tokio::join!(answer(fixture.openai(&request)), release);
    assert_eq!((gated.status, released.as_u16()), (200, 204));
    answer(fixture.azure(&request)).await;

    let listed = answer(fixture.client.get(control("/calls?provider=openai"))).await.body;
    let calls: Vec<Call> = serde_json::from_value(listed).unwrap();
    assert_eq!(
        (calls.len(), calls[0].provider, calls[0].outcome),
        (1, Provider::OpenAi, Outcome::Answered { status: 200 })
    );
    assert_eq!(calls[0].body, request);
    assert_eq!(answer(fixture.client.get(control("/calls/count"))).await.body, json!({ "count": 2 }));

    fixture.client.delete(control("")).send().await.unwrap().error_for_status().unwrap();
    assert_eq!(answer(fixture.client.get(control("/calls/count"))).await.body, json!({ "count": 0 }));
}

#[tokio::test]
async fn a_call_says_when_it_ended() {
    let fixture = Fixture::start();
    fixture.world.fault(Fault::Gate.on(Provider::Azure));
    let request = ask("x");
    let look = async {
        let in_flight = fixture.world.wait_for_calls(1, BOUND).await.unwrap();
        fixture.world.release();
        in_flight[0].ended_at
    };
    let (_, before) = tokio::join!(answer(fixture.azure(&request)), look);
    assert_eq!(before, None);
    let call = &fixture.world.calls()[0];
    assert!(call.ended_at.unwrap() >= call.at);
}

#[test]
fn a_world_is_started_on_loopback_only() {
    assert!(World::start("0.0.0.0:0".parse().unwrap()).is_err());
}
