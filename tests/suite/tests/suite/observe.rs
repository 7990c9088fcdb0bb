//! What a request leaves to those who run the system: log lines that name it, metrics, its trace at what it called, and
//! nothing that a person said.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use axum::http::HeaderMap;
use huntaze_domain::trace::{SpanId, Trace};
use huntaze_lambda::metrics::CATALOGUE;
use huntaze_tests::{App, Function, InvokeError, ORIGIN, Request, Response, Session, eventually, now};
use huntaze_world::server::Server;
use huntaze_world::{Fault, Provider};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{HEALTH, HYBRID, STATUS, brief, campaign, text, usd};

const BOUND: Duration = Duration::from_secs(20);
const PROBE: &str = "edge-probe";

/// A function, and how many of its lines were read.
struct Watched {
    function: Function,
    read: usize,
}

impl Watched {
    fn new(function: Function) -> Self {
        Self { function, read: 0 }
    }

    /// Sends a request in a trace of its own. Gives the answer and every line that was written, each of which names the
    /// request and its trace.
    async fn http(&mut self, request: Request) -> Result<(Response, Vec<Value>)> {
        let (id, trace) = (format!("req-{}", Uuid::new_v4()), Trace::begin(Uuid::new_v4().as_u128()));
        let request = request.header("x-request-id", &id).header("traceparent", &trace.traceparent(SpanId::new(7)));
        let response = self.function.http(request).await?;
        assert_eq!(response.header("x-request-id"), id);
        let lines = self.lines().await?;
        for line in &lines {
            assert_eq!(line["trace"], trace.id(), "{line}");
            assert!(is_metric(line) || line["request"] == json!(id), "{line}");
        }
        Ok((response, lines))
    }

    /// The lines of one invocation: they are all there once its metrics are, which come last, but for what the ledger's client
    /// says behind the answer at the level of debugging. What a library said at the start, before the first of them,
    /// belongs to none.
    async fn lines(&mut self) -> Result<Vec<Value>> {
        let new = eventually(BOUND, async || {
            let stdout = self.function.stdout();
            let written: Vec<_> = stdout.split_inclusive('\n').skip(self.read).map(str::to_owned).collect();
            let has_called = written.iter().any(|line| line.contains("AIProviderCost"));
            let last = if has_called && stdout.contains("DEBUG") { "done behind the answer" } else { "\"Requests\"" };
            ensure!(written.last().is_some_and(|line| line.contains(last)), "{}", self.function.logs());
            Ok(written)
        });
        let new = new.await?;
        let first = self.read == 0;
        self.read += new.len();
        let lines = new.iter().map(|line| serde_json::from_str(line)).collect::<Result<Vec<Value>, _>>()?;
        Ok(lines.into_iter().skip_while(|line| first && line.get("trace").is_none()).collect())
    }
}

fn is_metric(line: &Value) -> bool {
    line.get("_aws").is_some()
}

fn errors(lines: &[Value]) -> Vec<&Value> {
    lines.iter().filter(|line| line["level"] == "ERROR").collect()
}

fn probe(variables: &[(&str, &str)]) -> Result<Watched> {
    Ok(Watched::new(Function::spawn(PROBE, variables.iter().copied())?))
}

/// A metric as CloudWatch takes it.
struct Metric {
    namespace: String,
    name: String,
    unit: String,
    dimensions: Vec<String>,
    of: Vec<String>,
    value: f64,
}

/// The metrics of a line, each of which is there with its dimensions and with none.
fn metrics(line: &Value) -> Vec<Metric> {
    let directive = &line["_aws"]["CloudWatchMetrics"][0];
    let dimensions: Vec<_> = directive["Dimensions"][0].as_array().unwrap().iter().map(text).collect();
    assert_eq!(directive["Dimensions"], json!([dimensions, []]), "{line}");
    let metric = |metric: &Value| Metric {
        namespace: text(&directive["Namespace"]).to_owned(),
        name: text(&metric["Name"]).to_owned(),
        unit: text(&metric["Unit"]).to_owned(),
        dimensions: dimensions.iter().map(|name| (*name).to_owned()).collect(),
        of: dimensions.iter().map(|name| text(&line[*name]).to_owned()).collect(),
        value: line[text(&metric["Name"])].as_f64().unwrap(),
    };
    directive["Metrics"].as_array().unwrap().iter().map(metric).collect()
}

fn assert_in_the_catalogue(found: &[Metric]) {
    let known: BTreeSet<_> = CATALOGUE.iter().map(|m| (m.namespace, m.name, m.unit, m.dimensions.to_vec())).collect();
    for Metric { namespace, name, unit, dimensions, .. } in found {
        let dimensions = dimensions.iter().map(String::as_str).collect();
        assert!(
            known.contains(&(namespace.as_str(), name.as_str(), unit.as_str(), dimensions)),
            "{name} is not in the catalogue"
        );
    }
}

#[tokio::test]
async fn a_panic_is_a_clean_500_and_one_entry_that_says_where_but_not_what() -> Result<()> {
    let mut probe = probe(&[("LOG_LEVEL", "debug")])?;
    let words = "a fan's secret words";
    let (response, lines) = probe.http(Request::post("/panic").body(words)).await?;
    assert_eq!((response.status, response.header("content-type")), (500, "application/problem+json"));
    assert_eq!((&response.body["code"], &response.body["instance"]), (&json!("internal"), &json!("/panic")));
    let entries = errors(&lines);
    assert_eq!(entries.len(), 1, "{lines:?}");
    assert!(text(&entries[0]["location"]).contains("edge-probe.rs:"), "{}", entries[0]);

    // The process lives, and its next request is like any other.
    let pid = probe.function.pid();
    let (response, lines) = probe.http(Request::get("/")).await?;
    assert_eq!((response.status, errors(&lines).len(), probe.function.pid()), (200, 0, pid));
    assert_eq!(probe.function.stderr(), "");
    assert!(!probe.function.logs().contains("secret words"), "{}", probe.function.logs());
    Ok(())
}

#[tokio::test]
async fn a_panic_behind_an_answer_is_one_entry_of_its_request_and_no_other_requests_matter() -> Result<()> {
    let probe = probe(&[])?;
    let words = "a fan's secret words";
    let request = || Request::post("/panic-behind").header("x-request-id", "req-behind").body(words);
    assert_eq!(probe.function.http(request()).await?.status, 200);
    assert_eq!(probe.function.http(Request::get("/")).await?.status, 200);
    let logs = eventually(BOUND, async || {
        let logs = probe.function.logs();
        ensure!(logs.matches("\"Requests\":1").count() == 2, "{logs}");
        Ok(logs)
    });
    let logs = logs.await?;
    let lines: Vec<Value> = logs.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let entries = errors(&lines);
    assert_eq!((entries.len(), &entries[0]["request"]), (1, &json!("req-behind")), "{logs}");
    assert!(text(&entries[0]["location"]).contains("edge-probe.rs:") && !logs.contains("secret words"), "{logs}");
    Ok(())
}

#[tokio::test]
async fn a_fault_of_ours_is_logged_once_with_its_cause_and_not_told() -> Result<()> {
    // Also where only errors are logged, an entry names its request.
    let mut probe = probe(&[("LOG_LEVEL", "error")])?;
    let (response, lines) = probe.http(Request::get("/fail")).await?;
    assert_eq!((response.status, &response.body["code"]), (500, &json!("internal")));
    assert!(!response.body.to_string().contains("as told"), "{}", response.body);
    let entries: Vec<_> = lines.iter().filter(|line| !is_metric(line)).collect();
    assert_eq!((entries.len(), &entries[0]["error"]), (1, &json!("as told")), "{lines:?}");
    Ok(())
}

#[tokio::test]
async fn a_scheduled_function_outlives_a_panic_and_names_its_invocations_too() -> Result<()> {
    let mut probe = probe(&[("PROBE_IS", "scheduled"), ("LOG_LEVEL", "debug")])?;
    for (failed, said) in [(1, "location"), (1, "error"), (0, "")] {
        let invocation = probe.function.start_invoke(&json!({}), BOUND);
        let id = invocation.id().to_owned();
        let answer = invocation.answer().await;
        let lines = probe.lines().await?;
        for line in &lines {
            assert!(Trace::new(text(&line["trace"]), true).is_some(), "{line}");
            assert!(is_metric(line) || line["request"] == json!(id), "{line}");
        }
        let entries = errors(&lines);
        assert_eq!(entries.len(), failed, "{lines:?}");
        assert!(entries.iter().all(|entry| !text(&entry[said]).is_empty()), "{entries:?}");
        assert_eq!(lines.last().unwrap()["Errors"], failed);
        match answer {
            Ok(answer) => assert_eq!((failed, answer), (0, json!({"done": true}))),
            Err(InvokeError::Failed { error, .. }) => {
                assert!(!error.error_message.contains("a fan's words"), "{error:?}")
            }
            Err(other) => return Err(other.into()),
        }
    }
    assert!(!probe.function.logs().contains("a fan's words") && probe.function.stderr().is_empty());
    Ok(())
}

#[tokio::test]
async fn every_invocation_is_counted_with_its_function_and_without() -> Result<()> {
    let mut probe = probe(&[])?;
    for (path, failed, fallbacks) in
        [("/", 0.0, None), ("/fail", 1.0, None), ("/panic", 1.0, None), ("/fallbacks", 0.0, Some(2.0))]
    {
        let before = now().as_millisecond();
        let (_, lines) = probe.http(Request::get(path)).await?;
        let after = now().as_millisecond();
        let lines: Vec<_> = lines.iter().filter(|line| is_metric(line)).collect();
        assert!(lines.iter().all(|line| (before..=after).contains(&line["_aws"]["Timestamp"].as_i64().unwrap())));
        let found: Vec<_> = lines.into_iter().flat_map(metrics).collect();
        let value = |name: &str| found.iter().find(|metric| metric.name == name).map(|metric| metric.value);
        let counted = (value("Requests"), value("Errors"), value("Fallbacks"));
        assert_eq!(counted, (Some(1.0), Some(failed), fallbacks), "{path}");
        let bound = f64::from(i32::try_from(after - before)?);
        assert!(value("RequestDuration").is_some_and(|millis| (0.0..=bound).contains(&millis)));
        assert!(found.iter().all(|metric| metric.namespace == "Huntaze/Orchestrator" && metric.of == [PROBE]));
        assert_in_the_catalogue(&found);
    }
    Ok(())
}

#[tokio::test]
async fn a_call_that_the_sweep_settles_is_counted_at_its_bound_in_its_own_trace() -> Result<()> {
    let app = App::start().await?;
    let hybrid = app.function("campaigns-hybrid")?;
    app.world.fault(Fault::Gate.on(Provider::Azure));
    let trace = Trace::begin(Uuid::new_v4().as_u128());
    let request = campaign("ana", &brief("content_planning", &["onlyfans"]));
    let _lost = hybrid.start_http(request.header("traceparent", &trace.traceparent(SpanId::new(7))));
    app.world.wait_for_calls(1, BOUND).await?;
    hybrid.kill().await?;
    app.stores.execute("UPDATE orchestrator.reservations SET expires_at = now() - interval '1 second'", &[]).await?;

    let mut sweeper = Watched::new(app.function("ledger-sweeper")?);
    assert_eq!(sweeper.function.invoke(&json!({}), BOUND).await?["settled"], 1);
    let lines = sweeper.lines().await?;
    let calls: Vec<_> = lines.iter().filter(|line| line.get("AIProviderCost").is_some()).collect();
    let bound = "SELECT provider, model, bound_cost::text AS cost, bound_input_tokens + bound_output_tokens AS tokens
                   FROM orchestrator.attempts";
    let bound = app.stores.row(bound, &[]).await?;
    let [call] = &calls[..] else { panic!("{lines:?}") };
    assert_eq!(
        (&call["Provider"], &call["Model"], &call["AITokenUsage"]),
        (&bound["provider"], &bound["model"], &bound["tokens"])
    );
    assert_eq!((usd(&call["AIProviderCost"]), text(&call["Outcome"])), (usd(&bound["cost"]), "unknown"));
    assert_eq!((&call["trace"], call.get("AIRequestDuration")), (&json!(trace.id()), None));
    assert_in_the_catalogue(&metrics(call));
    // The next sweep finds nothing, and counts nothing again.
    sweeper.function.invoke(&json!({}), BOUND).await?;
    assert!(sweeper.lines().await?.iter().all(|line| line.get("AIProviderCost").is_none()));
    Ok(())
}

/// A DynamoDB that says yes, and the traces that it was called in; several of one call are joined by commas.
fn recording_dynamodb() -> Result<(Server, Arc<Mutex<Vec<String>>>)> {
    let traces = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&traces);
    let answer = move |headers: HeaderMap| async move {
        let values = headers.get_all("x-amzn-trace-id").iter().map(|value| value.to_str().unwrap());
        seen.lock().unwrap().push(values.collect::<Vec<_>>().join(","));
        "{}"
    };
    let router = axum::Router::new().fallback(answer);
    Ok((Server::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), router)?, traces))
}

#[tokio::test]
async fn calls_to_aws_and_to_providers_carry_the_trace_of_the_request_that_makes_them() -> Result<()> {
    let (dynamodb, seen) = recording_dynamodb()?;
    let app = App::start().await?.set("AWS_ENDPOINT_URL_DYNAMODB", format!("http://{}", dynamodb.addr()));
    let hybrid = app.function("campaigns-hybrid")?;
    let request = || campaign("ana", &brief("message_generation", &["onlyfans"]));
    let (w3c, xray) = (Trace::begin(Uuid::new_v4().as_u128()), Trace::begin(Uuid::new_v4().as_u128()));
    for request in [
        request().header("traceparent", &w3c.traceparent(SpanId::new(7))),
        request().header("x-amzn-trace-id", &xray.xray()),
    ] {
        assert_eq!(hybrid.http(request).await?.status, 200);
    }
    let traces = std::mem::take(&mut *seen.lock().unwrap());
    // A projection each, and the three reads of the check of thresholds.
    assert_eq!(traces.len(), 2 * 4, "{traces:?}");
    for (sent, expected) in traces.iter().zip([[&w3c; 4], [&xray; 4]].concat()) {
        assert!(!sent.contains(',') && Trace::from_xray(sent).as_ref() == Some(expected), "{sent}");
    }
    let calls = app.world.calls();
    let spans: Vec<_> = calls.iter().map(|call| call.headers["traceparent"].as_str()).collect();
    assert_eq!(spans.iter().filter_map(|header| Trace::from_traceparent(header)).collect::<Vec<_>>(), [w3c, xray]);
    assert_ne!(spans[0].split('-').nth(2), spans[1].split('-').nth(2), "each call is a span of its own");
    Ok(())
}

/// What no line may hold, each marked so that it is found wherever it is quoted.
const THEME: &str = "a very secret theme";
const FAN: &str = "fan-in-person";
const PERSON: [&str; 3] = ["ana-in-person", "ana.in.person@mail.example", "Ana In-Person"];

#[tokio::test]
async fn no_prompt_text_token_or_user_is_in_a_log() -> Result<()> {
    // Everything that can be logged, whatever asks for it.
    let level = "trace,aws_smithy_runtime=trace,lambda_runtime=trace";
    let app = App::start().await?.set("LOG_LEVEL", level).set("MAX_RETRIES", "0");
    let session = Session::user(PERSON[0]).claim("email", PERSON[1]).claim("name", PERSON[2]);
    let (token, foreign) = (session.v4(), session.clone().sealed_with("another secret").v4());
    let body = json!({"type": "content_planning", "platforms": ["onlyfans"], "data": {"theme": THEME}});
    let with = |name: &str, value: Value| {
        let mut body = body.clone();
        body[name] = value;
        Request::post(HYBRID).bearer(&token).json(&body)
    };
    let to_a_fan =
        json!({"accountId": "acc", "recipientId": FAN, "messageType": "welcome", "complianceLevel": "strict"});
    let cookie =
        |origin: &str| Request::post(HYBRID).cookie("next-auth.session-token", &token).origin(origin).json(&body);

    let mut hybrid = Watched::new(app.function("campaigns-hybrid")?);
    let (answered, lines) = hybrid.http(with("onlyFansContext", to_a_fan)).await?;
    assert_eq!(answered.status, 200, "{}", answered.body);
    assert!(lines.iter().any(|line| line["message"] == "call ended"), "{lines:?}");
    let workflow = text(&answered.body["data"]["workflowId"]);
    for (expected, request) in [
        (200, cookie(ORIGIN)),
        (403, cookie("https://evil.example")),
        (403, with("userId", json!("another-in-person"))),
        (402, with("maxCost", json!(1e-12))),
        (400, with("type", json!(THEME))),
        (400, with("data", json!(THEME))),
        (400, with("platforms", json!([FAN, 7])).header("idempotency-key", "a, b")),
        (401, Request::post(HYBRID).bearer(&foreign).json(&body)),
        (401, Request::post(HYBRID).bearer(&token[..80]).json(&body)),
    ] {
        assert_eq!(hybrid.http(request).await?.0.status, expected);
    }
    for fault in [Fault::status(500), Fault::status(401), Fault::status(429)] {
        app.world.fault(fault.on_any().times(2));
        assert_eq!(hybrid.http(with("type", json!("content_planning"))).await?.0.status, 503);
    }

    let mut status = Watched::new(app.function("campaigns-status")?);
    for (expected, request) in [
        (200, Request::get(STATUS).bearer(&token).query("workflowId", workflow)),
        (200, Request::get(STATUS).bearer(&token)),
        (403, Request::get(STATUS).bearer(&token).query("userId", FAN)),
        (400, Request::get(STATUS).bearer(&token).query("cursor", FAN)),
        (401, Request::get(STATUS).bearer(&foreign)),
    ] {
        assert_eq!(status.http(request).await?.0.status, expected);
    }
    let mut health = Watched::new(app.function("health")?);
    assert_eq!(health.http(Request::get(HEALTH).bearer(&token)).await?.0.status, 200);
    // A name for the request that says who sent it is not taken.
    let named = health.function.http(Request::get(HEALTH).header("x-request-id", PERSON[1])).await?;
    let lines = health.lines().await?;
    assert!(lines.iter().any(|line| line["request"] == named.header("x-request-id")), "{lines:?}");
    let mut probe = probe(&[("LOG_LEVEL", level)])?;
    assert_eq!(probe.http(Request::post("/panic").bearer(&token).body(THEME)).await?.0.status, 500);

    let content = text(&answered.body["data"]["content"]);
    let content = &content[..content.len().min(24)];
    let secrets =
        [THEME, FAN, "another-in-person", &token[..40], &foreign[..40], content, "world-azure-key", "world-openai-key"];
    for watched in [hybrid, status, health, probe] {
        let logs = watched.function.logs();
        for secret in secrets.iter().chain(&PERSON) {
            assert!(!logs.contains(secret), "{secret} is in {logs}");
        }
        assert_eq!(watched.function.stderr(), "");
    }
    Ok(())
}
