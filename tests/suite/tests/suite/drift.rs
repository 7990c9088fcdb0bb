//! What stands in several places says the same in each: folders, template, openapi.yaml, events, error types, layers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use huntaze_costs::alert::AlertKind;
use huntaze_costs::threshold::{MAX_THRESHOLDS, ThresholdKind};
use huntaze_domain::error::ErrorCode;
use huntaze_domain::ids::MAX_ID_BYTES;
use huntaze_domain::intent::MAX_PLATFORMS;
use huntaze_lambda::metrics::CATALOGUE;
use huntaze_lambda::problem::status_and_title;
use huntaze_lambda::queue::MOST_RECEIVES;
use huntaze_notify::delivery::MOST_ATTEMPTS;
use huntaze_tests::load_event;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn folders(path: &str) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(root().join(path)).with_context(|| path.to_owned())?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn template() -> Result<yaml_serde::Value> {
    Ok(yaml_serde::from_str(&fs::read_to_string(root().join("template.yaml"))?)?)
}

/// The resources of a type.
fn resources<'a>(
    template: &'a yaml_serde::Value,
    kind: &'a str,
) -> Result<impl Iterator<Item = &'a yaml_serde::Value>> {
    let resources = template["Resources"].as_mapping().context("a template without resources")?;
    Ok(resources.values().filter(move |resource| resource["Type"] == kind))
}

/// The functions of the template: each one's binary and its events.
fn deployed() -> Result<Vec<(String, yaml_serde::Value)>> {
    let template = template()?;
    resources(&template, "AWS::Serverless::Function")?
        .map(|function| {
            let binary = function["Metadata"]["BuildProperties"]["Binary"].as_str().context("a function's binary")?;
            Ok((binary.to_owned(), function["Properties"]["Events"].clone()))
        })
        .collect()
}

/// Function, method and path of every HTTP route of the template.
pub(crate) fn routes() -> Result<Vec<(String, String, String)>> {
    let mut routes = Vec::new();
    for (function, events) in deployed()? {
        let events = events.as_mapping().into_iter().flat_map(|events| events.values());
        for event in events.filter(|event| event["Type"] == "HttpApi") {
            let text = |name: &str| event["Properties"][name].as_str().map(str::to_owned).context("a route");
            routes.push((function.clone(), text("Method")?, text("Path")?));
        }
    }
    Ok(routes)
}

/// `METHOD path` of every HTTP route of the template.
fn route_keys() -> Result<BTreeSet<String>> {
    Ok(routes()?.into_iter().map(|(_, method, path)| format!("{method} {path}")).collect())
}

fn openapi() -> Result<Value> {
    Ok(yaml_serde::from_str(&fs::read_to_string(root().join("openapi.yaml"))?)?)
}

/// `METHOD path` of every operation of openapi.yaml, with the operation.
fn operations(openapi: &Value) -> Result<Vec<(String, &Value)>> {
    let mut operations = Vec::new();
    for (path, methods) in openapi["paths"].as_object().context("no paths")? {
        for (method, operation) in methods.as_object().context("no methods")? {
            operations.push((format!("{} {path}", method.to_uppercase()), operation));
        }
    }
    Ok(operations)
}

/// The value itself, or what it refers to.
fn resolved<'a>(openapi: &'a Value, value: &'a Value) -> &'a Value {
    let target = value["$ref"].as_str().and_then(|reference| openapi.pointer(reference.trim_start_matches('#')));
    target.unwrap_or(value)
}

/// The texts of a list.
fn texts(list: &Value) -> BTreeSet<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn every_function_is_in_the_template_and_has_events() -> Result<()> {
    let functions = folders("functions")?;
    assert_eq!(folders("events")?, functions);
    assert_eq!(deployed()?.into_iter().map(|(binary, _)| binary).collect::<BTreeSet<_>>(), functions);
    Ok(())
}

#[test]
fn the_openapi_document_has_every_route_and_no_other() -> Result<()> {
    let openapi = openapi()?;
    let documented: BTreeSet<_> = operations(&openapi)?.into_iter().map(|(key, _)| key).collect();
    assert!(!documented.is_empty());
    assert_eq!(documented, route_keys()?);
    assert_eq!(openapi["info"]["version"], env!("CARGO_PKG_VERSION"));
    Ok(())
}

#[test]
fn every_route_has_an_event_and_every_http_event_is_of_its_functions_route() -> Result<()> {
    let routes = routes()?;
    let mut shown = BTreeSet::new();
    for function in folders("events")? {
        for case in folders(&format!("events/{function}"))? {
            let event = load_event(&format!("{function}/{case}"))?;
            let http = &event["requestContext"]["http"];
            let (Some(method), Some(path)) = (http["method"].as_str(), http["path"].as_str()) else { continue };
            let route = (function.clone(), method.to_owned(), path.to_owned());
            assert!(routes.contains(&route), "{function}/{case}: {method} {path}");
            let key = format!("{method} {path}");
            for stated in [&event["routeKey"], &event["requestContext"]["routeKey"]] {
                assert_eq!(stated, &key, "{function}/{case}");
            }
            shown.insert(key);
        }
    }
    assert_eq!(shown, route_keys()?);
    Ok(())
}

#[test]
fn what_the_events_are_answered_with_is_documented() -> Result<()> {
    let openapi = openapi()?;
    let operations = operations(&openapi)?;
    for (function, case, status) in crate::events::EXPECTED {
        let event = load_event(&format!("{function}/{case}.json"))?;
        let Some((key, operation)) = operations.iter().find(|(key, _)| event["routeKey"] == **key) else { continue };
        let status = status.to_string();
        assert!(operation["responses"].get(&status).is_some(), "{key} does not document {status} ({function}/{case})");
    }
    Ok(())
}

/// Error types that no route answers yet.
const UNANSWERED: &[&str] = &[];

#[test]
fn the_openapi_document_has_every_error_type_under_its_status() -> Result<()> {
    let openapi = openapi()?;
    let codes: BTreeSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(texts(&openapi["components"]["schemas"]["ErrorCode"]["enum"]), codes);

    let mut answered = BTreeSet::new();
    for (key, operation) in operations(&openapi)? {
        for (status, response) in operation["responses"].as_object().context("no responses")? {
            let problem = &resolved(&openapi, response)["content"]["application/problem+json"]["schema"];
            if problem.is_null() {
                continue;
            }
            assert_eq!(problem["allOf"][0]["$ref"], "#/components/schemas/Problem", "{key} {status}");
            let members = &problem["allOf"][1]["properties"];
            assert_eq!(members["status"]["const"].to_string(), *status, "{key}");
            let documented = texts(&members["code"]["enum"]);
            assert!(!documented.is_empty(), "{key} {status}");
            for code in ErrorCode::ALL.iter().filter(|code| documented.contains(code.as_str())) {
                assert_eq!(status_and_title(*code).0.as_str(), status, "{key}: {}", code.as_str());
                answered.insert(code.as_str());
            }
        }
    }
    assert_eq!(codes.difference(&answered).copied().collect::<Vec<_>>(), UNANSWERED);
    Ok(())
}

#[test]
fn every_route_with_a_session_documents_what_the_edge_answers() -> Result<()> {
    let edge = [
        ErrorCode::InvalidRequest,
        ErrorCode::Unauthenticated,
        ErrorCode::Forbidden,
        ErrorCode::RateLimitExceeded,
        ErrorCode::Internal,
    ];
    let openapi = openapi()?;
    for (key, operation) in operations(&openapi)? {
        if operation["security"].as_array().is_some_and(Vec::is_empty) {
            continue;
        }
        for code in edge {
            let (status, _) = status_and_title(code);
            assert!(operation["responses"].get(status.as_str()).is_some(), "{key} does not document {status}");
        }
    }
    Ok(())
}

#[test]
fn the_openapi_document_has_the_limits_of_the_code() -> Result<()> {
    let openapi = openapi()?;
    let schemas = &openapi["components"]["schemas"];
    assert_eq!(schemas["CampaignRequest"]["properties"]["platforms"]["maxItems"], MAX_PLATFORMS);
    assert_eq!(schemas["CampaignRequest"]["properties"]["userId"]["maxLength"], MAX_ID_BYTES);
    assert_eq!(schemas["Id"]["maxLength"], MAX_ID_BYTES);
    // Those of each type that an owner has none of are shown beside as many as there may be.
    let shown = &schemas["CostThresholdsAnswer"]["properties"]["data"]["properties"]["thresholds"];
    assert_eq!(shown["maxItems"], MAX_THRESHOLDS + ThresholdKind::ALL.len());
    for (schema, names) in [
        ("ThresholdType", ThresholdKind::ALL.map(ThresholdKind::as_str).into()),
        ("AlertType", AlertKind::ALL.map(AlertKind::as_str).into()),
    ] {
        assert_eq!(texts(&schemas[schema]["enum"]), names, "{schema}");
    }
    assert_eq!(openapi["components"]["parameters"]["IdempotencyKey"]["schema"]["maxLength"], MAX_ID_BYTES);
    Ok(())
}

#[test]
fn every_alarm_watches_a_metric_that_is_emitted_with_its_dimensions() -> Result<()> {
    let template = template()?;
    let mut watched = BTreeSet::new();
    for alarm in resources(&template, "AWS::CloudWatch::Alarm")? {
        let alarm = &alarm["Properties"];
        let text = |name: &str| alarm[name].as_str().with_context(|| format!("{name} of {alarm:?}"));
        let (namespace, name) = (text("Namespace")?, text("MetricName")?);
        assert!(matches!(text("Statistic")?, "Sum" | "Average" | "Minimum" | "Maximum" | "SampleCount"), "{alarm:?}");
        let dimensions = alarm["Dimensions"].as_sequence().into_iter().flatten();
        let dimensions: Vec<_> = dimensions.filter_map(|dimension| dimension["Name"].as_str()).collect();
        // What AWS itself emits is AWS's to say.
        if !namespace.starts_with("AWS/") {
            let metric = CATALOGUE.iter().find(|metric| (metric.namespace, metric.name) == (namespace, name));
            let metric = metric.with_context(|| format!("nobody emits {namespace} {name}"))?;
            assert!(dimensions.is_empty() || dimensions == metric.dimensions, "{name} has no {dimensions:?}");
            watched.insert(name);
        }
    }
    assert!(["AIProviderCost", "CircuitOpened", "RolledBack"].iter().all(|name| watched.contains(name)), "{watched:?}");
    Ok(())
}

/// Channels of a notification that can fail: Slack, the topic, the queue of e-mails.
const CHANNELS_THAT_FAIL: u32 = 3;

#[test]
fn a_message_is_handed_out_more_often_than_its_channels_are_tried() -> Result<()> {
    let template = template()?;
    const { assert!(MOST_RECEIVES > CHANNELS_THAT_FAIL * MOST_ATTEMPTS) };
    for queue in ["NotificationsQueue", "EmailQueue"] {
        let most = &template["Resources"][queue]["Properties"]["RedrivePolicy"]["maxReceiveCount"];
        assert_eq!(most.as_u64(), Some(MOST_RECEIVES.into()), "{queue}");
    }
    // What a rejected record is handed out for at once, no queue hands out more often.
    for queue in resources(&template, "AWS::SQS::Queue")? {
        let most = queue["Properties"]["RedrivePolicy"]["maxReceiveCount"].as_u64();
        assert!(most.is_none_or(|most| most <= MOST_RECEIVES.into()), "{most:?}");
    }
    Ok(())
}

#[test]
fn every_dead_letter_queue_has_its_alarm() -> Result<()> {
    let template = template()?;
    let dead: Vec<_> = resources(&template, "AWS::SQS::Queue")?
        .filter_map(|queue| queue["Properties"]["RedrivePolicy"]["deadLetterTargetArn"].as_str()?.split('.').next())
        .collect();
    assert!(!dead.is_empty());
    for queue in dead {
        let alarm = &template["Resources"][format!("{queue}Alarm")]["Properties"];
        let named = alarm["Dimensions"][0]["Value"].as_str();
        assert_eq!(named, Some(format!("{queue}.QueueName").as_str()), "{queue}");
        assert_eq!(alarm["MetricName"], "ApproximateNumberOfMessagesVisible", "{queue}");
    }
    Ok(())
}

#[test]
fn every_scheduled_function_has_an_alarm_on_its_errors() -> Result<()> {
    let template = template()?;
    let functions = template["Resources"].as_mapping().context("no resources")?;
    let scheduled = functions.iter().filter(|(_, one)| {
        let events = one["Properties"]["Events"].as_mapping();
        events.is_some_and(|events| events.values().any(|event| event["Type"] == "ScheduleV2"))
    });
    let names: Vec<_> = scheduled.filter_map(|(name, _)| name.as_str()).collect();
    assert!(names.len() >= 3, "{names:?}");
    for name in names {
        let alarm = &template["Resources"][format!("{name}ErrorsAlarm")]["Properties"];
        let watched =
            (alarm["Namespace"].as_str(), alarm["MetricName"].as_str(), alarm["Dimensions"][0]["Value"].as_str());
        assert_eq!(watched, (Some("AWS/Lambda"), Some("Errors"), Some(name)));
    }
    Ok(())
}

/// What each crate may use of ours: functions use everything, capabilities the domain and what the design names.
const LAYERS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("postgres", &[]),
    ("redis", &["domain"]),
    ("dynamodb", &["domain"]),
    ("sqs", &["domain"]),
    ("breaker", &["domain", "redis"]),
    ("costs", &["domain", "dynamodb", "postgres", "sqs"]),
    ("lambda", &["domain", "redis", "sqs"]),
    ("compliance", &["domain"]),
    ("http", &[]),
    ("judge", &["compliance", "domain", "http", "postgres"]),
    ("messaging", &["compliance", "domain", "http", "judge", "postgres", "redis", "sqs"]),
    ("notify", &["domain"]),
    ("rollout", &["domain", "dynamodb", "postgres", "redis", "sqs"]),
    (
        "orchestrator",
        &["domain", "http", "postgres", "redis", "sqs", "breaker", "compliance", "costs", "judge", "messaging"],
    ),
    ("campaigns", &["costs", "domain", "lambda", "messaging", "orchestrator", "postgres", "redis", "rollout"]),
];

#[test]
fn crates_depend_downwards_only() -> Result<()> {
    assert_eq!(folders("shared")?, LAYERS.iter().map(|(name, _)| (*name).to_owned()).collect());
    for (name, allowed) in LAYERS {
        let manifest = fs::read_to_string(root().join("shared").join(name).join("Cargo.toml"))?;
        let used = manifest.lines().filter_map(|line| line.strip_prefix("huntaze-")?.split('.').next());
        for dependency in used {
            assert!(allowed.contains(&dependency), "shared/{name} must not use {dependency}");
        }
    }
    Ok(())
}

/// A binary whose own crate has a profile of its own keeps its symbols unless that says `strip` as well.
#[test]
fn every_function_is_built_without_symbols() -> Result<()> {
    let manifest = fs::read_to_string(root().join("Cargo.toml"))?;
    assert!(manifest.contains("\nstrip = true\n"));
    let of_release = manifest.split("[profile.release.package]").nth(1).and_then(|rest| rest.split("\n[").next());
    let of_release = of_release.context("packages of the release profile")?;
    for function in folders("functions")? {
        let own = of_release.lines().find(|line| line.starts_with(&format!("{function} =")));
        assert!(own.is_none_or(|own| own.contains("strip = true")), "{function} would keep its symbols");
    }
    Ok(())
}

#[test]
fn the_domain_has_no_io() -> Result<()> {
    let manifest = fs::read_to_string(root().join("shared/domain/Cargo.toml"))?;
    for outside in ["tokio", "reqwest", "aws-sdk", "redis", "postgres", "lambda"] {
        assert!(!manifest.contains(outside), "the domain uses {outside}");
    }
    Ok(())
}

/// The text of every source below a folder.
fn sources(folder: &Path, all: &mut String) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, all)?;
        } else if path.extension().is_some_and(|name| name == "rs" || name == "py") {
            all.push_str(&fs::read_to_string(path)?);
        }
    }
    Ok(())
}

#[test]
fn every_test_that_the_architecture_names_is_there() -> Result<()> {
    let mut all = String::new();
    for folder in ["shared", "functions", "tests"] {
        sources(&root().join(folder), &mut all)?;
    }
    let page = fs::read_to_string(root().join("docs/ARCHITECTURE.md"))?;
    let kept = page.split_once("## What must always hold").context("no invariants")?.1;
    // A test's name is a sentence; nothing else in backticks is as long.
    let named = kept.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 4);
    let missing: Vec<_> = named.filter(|name| !all.contains(&format!(" {name}("))).collect();
    assert!(missing.is_empty(), "{missing:?}");
    Ok(())
}
