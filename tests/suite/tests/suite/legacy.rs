//! Old clients: their requests reach the old system as they were sent, and its answers reach them; and the same requests served here, in
//! the shape that they know.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use huntaze_tests::{App, Bad, Function, ORIGIN, Request, Response, Session};
use huntaze_world::{Fault, LegacyAnswer, LegacyRequest, Provider};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use crate::support::{HYBRID, OLD, brief, campaign, closed_port, link_to, old_campaign, rolling_out, set_flag, text};

/// Those of one connection: what a server or a client says of them ends there.
const OF_THE_CONNECTION: [&str; 6] =
    ["connection", "content-length", "keep-alive", "proxy-authorization", "te", "transfer-encoding"];

struct Recorded(Value);

impl Recorded {
    /// All of them, in their order.
    fn all() -> Result<Vec<Self>> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/legacy/recorded.json");
        let all: Vec<Value> = serde_json::from_slice(&std::fs::read(file)?)?;
        Ok(all.into_iter().map(Self).collect())
    }

    fn name(&self) -> &str {
        text(&self.0["name"])
    }

    fn path(&self) -> &str {
        text(&self.0["request"]["path"])
    }

    fn query(&self) -> &str {
        text(&self.0["request"]["query"])
    }

    fn body(of: &Value) -> Option<Vec<u8>> {
        let bytes = match (&of["body"], &of["bodyBase64"]) {
            (Value::String(body), _) => body.clone().into_bytes(),
            (_, Value::String(coded)) => BASE64_STANDARD.decode(coded).unwrap(),
            _ => return None,
        };
        Some(bytes.repeat(usize::try_from(of["repeat"].as_u64().unwrap_or(1)).unwrap()))
    }

    /// As the gateway gets it.
    fn request(&self, case: &str) -> Request {
        let recorded = &self.0["request"];
        let mut request = Request::post(self.path()).written_query(self.query()).header("x-case", case);
        for (name, value) in recorded["headers"].as_object().into_iter().flatten() {
            request = request.header(name, text(value));
        }
        for cookie in recorded["cookies"].as_array().into_iter().flatten() {
            let (name, value) = text(cookie).split_once('=').unwrap();
            request = request.cookie(name, value);
        }
        if let Some(body) = Self::body(recorded) {
            request = request.body(body);
        }
        match text(&recorded["session"]) {
            "bearer" => request.bearer(&Session::user("ana").v4()),
            "cookie" => request.cookie("next-auth.session-token", &Session::user("ana").v4()),
            _ => request,
        }
    }

    fn answer(&self) -> LegacyAnswer {
        let recorded = &self.0["answer"];
        let pair = |pair: &Value| (text(&pair[0]).to_owned(), text(&pair[1]).to_owned());
        LegacyAnswer {
            status: u16::try_from(recorded["status"].as_u64().unwrap()).unwrap(),
            headers: recorded["headers"].as_array().unwrap().iter().map(pair).collect(),
            body: Self::body(recorded).unwrap_or_default(),
        }
    }
}

/// The headers of an event as the old system should have got them.
fn expected_headers(event: &Value) -> BTreeMap<String, String> {
    let sent = event["headers"].as_object().unwrap().iter();
    let mut headers: BTreeMap<_, _> = sent
        .filter(|(name, _)| !OF_THE_CONNECTION.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), text(value).to_owned()))
        .collect();
    if let Some(cookies) = event["cookies"].as_array() {
        headers.insert("cookie".to_owned(), cookies.iter().map(text).collect::<Vec<_>>().join("; "));
    }
    // It has a name of its own, and is told by which it was asked.
    let host = headers.remove("host").unwrap();
    headers.insert("x-forwarded-host".to_owned(), host);
    headers.insert("via".to_owned(), "1.1 huntaze-bridge".to_owned());
    headers
}

fn assert_same_request(seen: &LegacyRequest, case: &Recorded, event: &Value) {
    let name = case.name();
    let query = if case.query().is_empty() { String::new() } else { format!("?{}", case.query()) };
    assert_eq!(seen.target, format!("/legacy{}{query}", case.path()), "{name}");
    assert_eq!(seen.method, "POST", "{name}");
    assert_eq!(seen.body, Recorded::body(&case.0["request"]).unwrap_or_default(), "{name}");
    let sent = seen.headers.iter().filter(|(name, _)| name != "content-length" && name != "host");
    let sent: BTreeMap<_, _> =
        sent.map(|(name, value)| (name.clone(), String::from_utf8(value.clone()).unwrap())).collect();
    let mut expected = expected_headers(event);
    // The runtime hands the trace on as it was given.
    expected.insert("x-amzn-trace-id".to_owned(), sent["x-amzn-trace-id"].clone());
    assert_eq!(sent, expected, "{name}");
}

fn assert_same_answer(answer: &Response, recorded: &LegacyAnswer, name: &str) {
    assert_eq!(answer.status, recorded.status, "{name}: {}", answer.body);
    assert!(answer.bytes == recorded.body, "{name}: {} bytes and not {}", answer.bytes.len(), recorded.body.len());
    let mut expected = BTreeMap::<_, Vec<_>>::new();
    let mut cookies = Vec::new();
    for (header, value) in &recorded.headers {
        match header.as_str() {
            "set-cookie" => cookies.push(value.clone()),
            header if OF_THE_CONNECTION.contains(&header) => {}
            header => expected.entry(header.to_owned()).or_default().push(value.as_str()),
        }
    }
    let expected: BTreeMap<_, _> = expected.into_iter().map(|(name, values)| (name, values.join(", "))).collect();
    let mut headers = answer.headers.clone();
    // The server's own, of which each answer has another.
    headers.remove("date");
    assert_eq!((headers, &answer.cookies), (expected, &cookies), "{name}");
}

#[tokio::test]
async fn design_who_is_not_taken_in_gets_the_old_systems_answers_to_the_byte() -> Result<()> {
    let app = rolling_out().await?;
    let functions: BTreeMap<_, Function> =
        [(OLD, app.function("legacy-campaigns")?), (HYBRID, app.function("campaigns-hybrid")?)].into();
    let all = Recorded::all()?;
    ensure!(all.len() >= 60, "{} are recorded", all.len());
    for (index, case) in all.iter().enumerate() {
        let (id, recorded) = (format!("case-{index}"), case.answer());
        app.world.record_legacy(&id, recorded.clone());
        let request = case.request(&id);
        let answer = functions[case.path()].http(request.clone()).await.with_context(|| case.name().to_owned())?;
        assert_same_answer(&answer, &recorded, case.name());
        let seen = app.world.legacy_requests();
        ensure!(seen.len() == index + 1, "{}: the old system was asked {} times", case.name(), seen.len() - index);
        assert_same_request(&seen[index], case, &request.event());
    }
    ensure!(app.world.calls().is_empty(), "nobody was taken in");
    Ok(())
}

#[tokio::test]
async fn a_header_that_the_gateway_cannot_carry_is_left_out_and_nothing_else() -> Result<()> {
    let app = rolling_out().await?;
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let headers =
        vec![header("x-odd", "naïve"), header("x-plain", "plain"), header("x-some", "a"), header("x-some", "ü")];
    app.world.record_legacy("odd", LegacyAnswer { status: 200, headers, body: b"{}".to_vec() });
    let function = app.function("legacy-campaigns")?;
    let answer = function.http(old_campaign("ana", &json!({})).header("x-case", "odd")).await?;
    assert_eq!((answer.status, &answer.body, answer.header("x-plain")), (200, &json!({}), "plain"));
    assert_eq!((answer.header("x-odd"), answer.header("x-some")), ("", "a"));
    Ok(())
}

/// Of which JSON type a value is.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

#[tokio::test]
async fn design_who_is_taken_in_gets_answers_of_the_same_shape() -> Result<()> {
    let app = rolling_out().await?.set("HYBRID_ORCHESTRATOR_ENABLED", "always");
    let function = app.function("legacy-campaigns")?;
    let here = |case: &&Recorded| case.path() == OLD && case.0["request"]["session"] != "none";
    let all = Recorded::all()?;
    let (mut made, mut passed_on) = (0, 0);
    for (index, case) in all.iter().filter(here).enumerate() {
        let (id, recorded, name) = (format!("case-{index}"), case.answer(), case.name());
        app.world.record_legacy(&id, recorded.clone());
        let answer = function.http(case.request(&id)).await.with_context(|| name.to_owned())?;
        if app.world.legacy_requests().len() > passed_on {
            // What we cannot read is the old system's to answer, and so is its shape.
            assert_same_answer(&answer, &recorded, name);
            passed_on += 1;
            continue;
        }
        let body = &answer.body;
        let members: Vec<_> = body.as_object().with_context(|| name.to_owned())?.keys().map(String::as_str).collect();
        assert_eq!(members, ["data", "message", "result", "status"], "{name}: {body}");
        assert!([200, 202].contains(&answer.status) && !text(&body["message"]).is_empty(), "{name}: {body}");
        assert_eq!((&body["status"], body["data"].is_object()), (&json!("success"), true), "{name}: {body}");
        assert_eq!(body["result"].is_string(), answer.status == 200, "{name}: {body}");
        made += 1;
        // What old clients read of the old system's answer is there, and of the same kind.
        let recorded: Value = serde_json::from_slice(&recorded.body).unwrap_or_default();
        if recorded["status"] != "success" || answer.status != 200 {
            continue;
        }
        for part in ["", "/data"] {
            for (member, of_old) in recorded.pointer(part).and_then(Value::as_object).into_iter().flatten() {
                let ours = body.pointer(part).map(|part| &part[member]);
                assert!(of_old.is_null() || ours.map(kind) == Some(kind(of_old)), "{name}: {part}/{member} of {body}");
            }
        }
        for said in ["action", "type"] {
            let of_old = &recorded["data"][said];
            assert!(of_old.is_null() || body["data"][said] == *of_old, "{name}: {said} of {body}");
        }
    }
    ensure!(made > 40 && (5..15).contains(&passed_on), "{made} made, {passed_on} passed on");
    Ok(())
}

#[tokio::test]
async fn nobody_is_named_to_the_old_system_for_whom_the_caller_may_not_act() -> Result<()> {
    let app = rolling_out().await?;
    for enabled in ["always", "false"] {
        let old = app.function_with("legacy-campaigns", "HYBRID_ORCHESTRATOR_ENABLED", enabled)?;
        let new = app.function_with("campaigns-hybrid", "HYBRID_ORCHESTRATOR_ENABLED", enabled)?;
        for body in [
            r#"{"userId": "bob", "action": "destroy"}"#,
            r#"{"user_id": "bob", "userId": "ana"}"#,
            r#"{"userId": "ana", "userId": "bob", "platforms": []}"#,
            r#"{"type": "nonsense", "userId": "bob""#,
        ] {
            for (function, path) in [(&old, OLD), (&new, HYBRID)] {
                let request = Request::post(path).bearer(&Session::user("ana").v4()).body(body);
                let answer = function.http(request.header("content-type", "application/json")).await?;
                assert_eq!(answer.status, 403, "{enabled} {path} {body}: {}", answer.body);
            }
        }
        let keyed = old_campaign("ana", &json!({"userId": "bob"})).header("idempotency-key", "no, key");
        assert_eq!(old.http(keyed).await?.status, 403);
    }
    ensure!(app.world.legacy_requests().is_empty(), "the old system was asked");
    Ok(())
}

#[tokio::test]
async fn what_a_repetition_may_send_from_here_does_not_go_back() -> Result<()> {
    // A price that nobody knows: nothing is begun.
    let app = rolling_out().await?;
    set_flag(&app, &json!({})).await?;
    let function = app.function_with("legacy-campaigns", "ROLE_SHORT_MESSAGE", "openai:nobody-knows")?;
    let message = |sent: bool| json!({"action": "send_message", "sendToOnlyFans": sent, "recipientId": "fan-1"});
    for (sent, key, status, asked) in [(false, Some("k-1"), 200, 1), (true, None, 200, 2), (true, Some("k-2"), 503, 2)]
    {
        let request = old_campaign("ana", &message(sent));
        let answer = function.http(key.into_iter().fold(request, Request::idempotency_key)).await?;
        assert_eq!((answer.status, app.world.legacy_requests().len()), (status, asked), "{}", answer.body);
    }
    Ok(())
}

#[tokio::test]
async fn where_nobody_knows_whether_it_was_here_before_only_what_is_sent_waits() -> Result<()> {
    let app = rolling_out().await?.set("HYBRID_ORCHESTRATOR_ENABLED", "false");
    let (link, url) = link_to(&app.env()["DATABASE_URL"]).await?;
    let function = app.function_with("legacy-campaigns", "DATABASE_URL", &url)?;
    let plan = || old_campaign("ana", &json!({"userId": "ana"}));
    assert_eq!(function.http(plan().idempotency_key("k-0")).await?.status, 200);
    link.spoil(Bad::Gone);
    let asked = Instant::now();
    let answer = function.http(plan().idempotency_key("k-1")).await?;
    assert_eq!((answer.status, app.world.legacy_requests().len()), (200, 2), "{}", answer.body);
    ensure!(asked.elapsed() < Duration::from_secs(3), "nobody waits so long for a store that does not serve him");
    let sent = json!({"action": "send_message", "sendToOnlyFans": true, "recipientId": "fan-1"});
    let answer = function.http(old_campaign("ana", &sent).idempotency_key("k-2")).await?;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "2"), "{}", answer.body);
    assert_eq!(app.world.legacy_requests().len(), 2);
    Ok(())
}

#[tokio::test]
async fn where_there_is_no_old_system_a_faulty_body_is_told_what_is_wrong_with_it() -> Result<()> {
    let app = App::start().await?.set("HYBRID_ORCHESTRATOR_ENABLED", "always");
    let function = app.function("legacy-campaigns")?;
    for (body, status, told) in [
        (json!({"action": "destroy"}), 400, "/action: must be one of `content_planning`"),
        (json!({"type": "nonsense", "platforms": [7]}), 400, "/type: must be one of"),
        (json!({"userId": "bob"}), 403, "another user"),
        (json!({"maxCost": 0.000_000_001}), 402, "cost"),
    ] {
        let answer = function.http(old_campaign("ana", &body)).await?;
        assert_eq!((answer.status, &answer.body["status"]), (status, &json!("error")), "{body}: {}", answer.body);
        assert!(text(&answer.body["message"]).contains(told), "{body}: {}", answer.body);
    }
    Ok(())
}

#[tokio::test]
async fn a_failure_before_anything_was_paid_goes_back_and_a_later_one_does_not() -> Result<()> {
    let app = rolling_out().await?.set("MAX_RETRIES", "0");
    set_flag(&app, &json!({})).await?;
    let function = app.function("legacy-campaigns")?;
    let plan = json!({"userId": "ana", "data": {"theme": "a"}});

    // Both providers are down: nothing was paid, and the client does not notice.
    app.world.fault(Fault::status(503).on_any().always());
    let request = || old_campaign("ana", &plan).idempotency_key("back");
    for asked in 1..=2 {
        let answer = function.http(request()).await?;
        assert_eq!((answer.status, text(&answer.body["result"])), (200, "A campaign about a."), "{}", answer.body);
        // The old system has it, and alone knows what a repetition is.
        assert_eq!(app.world.legacy_requests().len(), asked);
    }
    app.world.end_faults();
    let killed = app.function_with("legacy-campaigns", "HYBRID_ORCHESTRATOR_ENABLED", "false")?;
    assert_eq!(text(&killed.http(request()).await?.body["result"]), "A campaign about a.");
    assert_eq!(app.world.legacy_requests().len(), 3);

    // The plan was paid for, then both fail: it is not made again elsewhere.
    let campaign =
        json!({"action": "plan_campaign", "platforms": ["onlyfans", "instagram"], "payload": {"theme": "paid"}});
    app.world.fault(Fault::status(503).on_any().always().containing("paid").containing("The campaign is about paid"));
    let answer = function.http(old_campaign("bob", &campaign)).await?;
    assert_ne!(answer.status, 200, "{}", answer.body);
    assert_eq!((app.world.legacy_requests().len(), &answer.body["status"]), (3, &json!("error")), "{}", answer.body);
    app.world.end_faults();

    // PostgreSQL is away: nothing was begun.
    let nowhere = format!("postgres://u:p@{}/none", closed_port()?);
    let cut_off = app.function_with("legacy-campaigns", "DATABASE_URL", &nowhere)?;
    let answer = cut_off.http(old_campaign("ana", &plan)).await?;
    assert_eq!((answer.status, app.world.legacy_requests().len()), (200, 4), "{}", answer.body);
    // Under its key there may be one that was paid for.
    let answer = cut_off.http(old_campaign("ana", &plan).idempotency_key("seen")).await?;
    assert_eq!((answer.status, app.world.legacy_requests().len()), (500, 4), "{}", answer.body);
    Ok(())
}

#[tokio::test]
async fn an_answer_that_was_lost_is_not_asked_for_again() -> Result<()> {
    let app = rolling_out().await?.set("LEGACY_TIMEOUT_MS", "300");
    let (old, new) = (app.function("legacy-campaigns")?, app.function("campaigns-hybrid")?);
    for fault in [Fault::Reset, Fault::Truncate, Fault::Hang, Fault::Flood { bytes: 4 * 1024 * 1024 }] {
        let before = app.world.legacy_requests().len();
        app.world.fault(fault.clone().on(Provider::Legacy));
        let answer = old.http(old_campaign("ana", &json!({"userId": "ana"}))).await?;
        assert_eq!((answer.status, &answer.body["status"]), (502, &json!("error")), "{fault:?}: {}", answer.body);
        app.world.fault(fault.clone().on(Provider::Legacy));
        let answer = new.http(campaign("ana", &brief("content_planning", &["onlyfans"]))).await?;
        assert_eq!(
            (answer.status, text(&answer.body["code"])),
            (502, "legacy_api_error"),
            "{fault:?}: {}",
            answer.body
        );
        assert_eq!(app.world.legacy_requests().len(), before + 2, "{fault:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_old_system_that_is_not_there_is_503_and_one_that_is_ourselves_is_noticed() -> Result<()> {
    let app = rolling_out().await?;
    let nowhere = format!("http://{}", closed_port()?);
    let function = app.function_with("legacy-campaigns", "LEGACY_API_URL", &nowhere)?;
    let answer = function.http(old_campaign("ana", &json!({}))).await?;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "2"), "{}", answer.body);

    let function = app.function("legacy-campaigns")?;
    let answer = function.http(old_campaign("ana", &json!({})).header("via", "1.1 front, 1.1 huntaze-bridge")).await?;
    assert_eq!((answer.status, app.world.legacy_requests().len()), (400, 0), "{}", answer.body);
    Ok(())
}

#[tokio::test]
async fn sessions_and_roles_are_the_same_on_both_sides() -> Result<()> {
    let app = rolling_out().await?;
    let token = Session::user("ana").v4();
    for enabled in ["always", "false"] {
        let old = app.function_with("legacy-campaigns", "HYBRID_ORCHESTRATOR_ENABLED", enabled)?;
        let new = app.function_with("campaigns-hybrid", "HYBRID_ORCHESTRATOR_ENABLED", enabled)?;
        let mut of_bob = brief("content_planning", &["onlyfans"]);
        of_bob["userId"] = json!("bob");
        let elsewhere =
            |path: &str| Request::post(path).cookie("next-auth.session-token", &token).origin("https://elsewhere.test");
        for (function, request) in [
            (&old, old_campaign("ana", &of_bob)),
            (&new, campaign("ana", &of_bob)),
            (&old, elsewhere(OLD).json(&json!({"userId": "ana"}))),
            (&new, elsewhere(HYBRID).json(&brief("content_planning", &["onlyfans"]))),
        ] {
            let answer = function.http(request).await?;
            assert_eq!(answer.status, 403, "{enabled}: {}", answer.body);
        }
    }
    ensure!(app.world.legacy_requests().is_empty(), "the old system was asked");
    // Whose token we cannot read may be the old system's.
    let old = app.function("legacy-campaigns")?;
    old.http(Request::post(OLD).bearer("its-own").json(&json!({"userId": "ana"}))).await?;
    assert_eq!(app.world.legacy_requests().len(), 1);
    Ok(())
}

#[tokio::test]
async fn no_client_says_by_which_name_the_old_system_was_asked() -> Result<()> {
    let app = rolling_out().await?;
    let function = app.function("legacy-campaigns")?;
    let request =
        old_campaign("ana", &json!({})).header("x-forwarded-host", "evil.test").header("connection", "x-forwarded-for");
    function.http(request).await?;
    let seen = &app.world.legacy_requests()[0];
    let header = |name: &str| {
        seen.headers.iter().find(|(one, _)| one == name).map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    };
    assert_eq!(header("x-forwarded-host").as_deref(), Some("api.huntaze.test"));
    assert_eq!(header("x-forwarded-for").as_deref(), Some("192.0.2.1"));
    Ok(())
}

#[tokio::test]
async fn without_an_old_system_who_is_not_taken_in_is_told_so_as_ever() -> Result<()> {
    let app = App::start().await?.set("HYBRID_ORCHESTRATOR_ENABLED", "false");
    let (old, new) = (app.function("legacy-campaigns")?, app.function("campaigns-hybrid")?);
    for answer in [
        old.http(old_campaign("ana", &json!({}))).await?,
        new.http(campaign("ana", &brief("content_planning", &["onlyfans"]))).await?,
    ] {
        assert_eq!(
            (answer.status, &answer.body["success"], &answer.body["legacy"]),
            (200, &json!(false), &json!(true))
        );
        assert!(!text(&answer.body["message"]).is_empty());
    }
    let answer = old.http(Request::post(OLD).origin(ORIGIN).json(&json!({}))).await?;
    assert_eq!((answer.status, &answer.body["status"]), (401, &json!("error")), "{}", answer.body);
    ensure!(app.world.calls().is_empty(), "somebody was taken in");
    Ok(())
}
