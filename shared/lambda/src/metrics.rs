//! CloudWatch metrics, as lines of the Embedded Metric Format on standard output: no call on the way of a request.
//!
//! CloudWatch makes metrics of a line's `_aws` member; the other members stay searchable in the log
//! (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>).
//! Each metric is there twice, with its dimension and with none, because an alarm cannot sum over dimensions. No
//! dimension names a user, a workflow or a fan: each of its values is a metric of its own, and billed.

use std::io::Write;
use std::time::Duration;

use huntaze_domain::money::Usd;
use huntaze_domain::notification::Severity;
use huntaze_domain::provider::Provider;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// One metric that the code emits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// CloudWatch's namespace.
    pub namespace: &'static str,
    /// Its name.
    pub name: &'static str,
    /// The dimensions that it is emitted with, beside none.
    pub dimensions: &'static [&'static str],
    /// CloudWatch's unit. Money has none there: `None` is dollars.
    pub unit: &'static str,
}

const PROVIDER_COST: Metric = metric(COSTS, "AIProviderCost", "None");
const PROVIDER_TOKENS: Metric = metric(COSTS, "AITokenUsage", "Count");
const PROVIDER_DURATION: Metric = metric(COSTS, "AIRequestDuration", "Milliseconds");
const CACHE_HITS: Metric = metric(COSTS, "AICacheHits", "Count");
const CACHE_SAVINGS: Metric = metric(COSTS, "AICacheSavings", "None");
const COST_ALERTS: Metric = metric(ALERTS, "CostAlerts", "Count");
const BUDGET_UTILISATION: Metric = metric(BUDGETS, "BudgetUtilisation", "Percent");
const REQUESTS: Metric = metric(ORCHESTRATOR, "Requests", "Count");
const ERRORS: Metric = metric(ORCHESTRATOR, "Errors", "Count");
const DURATION: Metric = metric(ORCHESTRATOR, "RequestDuration", "Milliseconds");
const LEGACY_REQUESTS: Metric = metric(ORCHESTRATOR, "LegacyRequests", "Count");
const LEGACY_ERRORS: Metric = metric(ORCHESTRATOR, "LegacyErrors", "Count");
const LEGACY_DURATION: Metric = metric(ORCHESTRATOR, "LegacyRequestDuration", "Milliseconds");
const FALLBACKS: Metric = metric(ORCHESTRATOR, "Fallbacks", "Count");
const MANUAL_REVIEWS: Metric = metric(ORCHESTRATOR, "ManualReviews", "Count");
const MESSAGES_SENT: Metric = metric(ORCHESTRATOR, "MessagesSent", "Count");
const MESSAGES_FAILED: Metric = metric(ORCHESTRATOR, "MessagesFailed", "Count");
const MESSAGES_UNKNOWN: Metric = metric(ORCHESTRATOR, "MessagesUnknown", "Count");
const MESSAGES_RETRIED: Metric = metric(ORCHESTRATOR, "MessagesRetried", "Count");
const MESSAGES_THROTTLED: Metric = metric(ORCHESTRATOR, "MessagesThrottled", "Count");
const CIRCUIT_OPENED: Metric = metric(CIRCUITS, "CircuitOpened", "Count");
const CIRCUIT_CLOSED: Metric = metric(CIRCUITS, "CircuitClosed", "Count");
const DEAD_LETTERS_OVER: Metric = metric(ORCHESTRATOR, "DeadLettersOver", "Count");
const DEAD_LETTERS_REDRIVEN: Metric = metric(ORCHESTRATOR, "DeadLettersRedriven", "Count");
const DEAD_LETTERS_KEPT: Metric = metric(ORCHESTRATOR, "DeadLettersKept", "Count");
const FLAG_DECISIONS: Metric = metric(DECISIONS, "FlagDecisions", "Count");
const ROLLED_BACK: Metric = metric(ROLLOUTS, "RolledBack", "Count");
const ADVANCED: Metric = metric(ROLLOUTS, "Advanced", "Count");
const RECORDS: Metric = metric(ORCHESTRATOR, "Records", "Count");
const RECORDS_FAILED: Metric = metric(ORCHESTRATOR, "RecordsFailed", "Count");
const RECORDS_REJECTED: Metric = metric(ORCHESTRATOR, "RecordsRejected", "Count");

/// Every metric that is emitted; alarms and dashboards are held against it.
pub const CATALOGUE: &[Metric] = &[
    PROVIDER_COST,
    PROVIDER_TOKENS,
    PROVIDER_DURATION,
    CACHE_HITS,
    CACHE_SAVINGS,
    COST_ALERTS,
    BUDGET_UTILISATION,
    REQUESTS,
    ERRORS,
    DURATION,
    LEGACY_REQUESTS,
    LEGACY_ERRORS,
    LEGACY_DURATION,
    FALLBACKS,
    MANUAL_REVIEWS,
    MESSAGES_SENT,
    MESSAGES_FAILED,
    MESSAGES_UNKNOWN,
    MESSAGES_RETRIED,
    MESSAGES_THROTTLED,
    CIRCUIT_OPENED,
    CIRCUIT_CLOSED,
    DEAD_LETTERS_OVER,
    DEAD_LETTERS_REDRIVEN,
    DEAD_LETTERS_KEPT,
    FLAG_DECISIONS,
    ROLLED_BACK,
    ADVANCED,
    RECORDS,
    RECORDS_FAILED,
    RECORDS_REJECTED,
];

/// A namespace and its dimensions.
type Family = (&'static str, &'static [&'static str]);
const COSTS: Family = ("Huntaze/AI/Costs", &["Provider"]);
const ALERTS: Family = ("Huntaze/AI/Costs", &["Severity"]);
const BUDGETS: Family = ("Huntaze/AI/Costs", &["Scope"]);
const CIRCUITS: Family = ("Huntaze/Orchestrator", &["Provider"]);
const ORCHESTRATOR: Family = ("Huntaze/Orchestrator", &["Function"]);
const DECISIONS: Family = ("Huntaze/Rollout", &["Flag", "Side", "Reason"]);
const ROLLOUTS: Family = ("Huntaze/Rollout", &["Flag"]);

const fn metric((namespace, dimensions): Family, name: &'static str, unit: &'static str) -> Metric {
    Metric { namespace, name, dimensions, unit }
}

/// One settled call of a provider.
#[derive(Debug, Clone, Copy)]
pub struct ProviderCall<'a> {
    /// Who was called.
    pub provider: Provider,
    /// The model that it is priced as.
    pub model: &'a str,
    /// How it ended: `succeeded`, `failed` or `unknown`.
    pub outcome: &'a str,
    /// What was booked, exactly; a metric has the nearest number.
    pub cost: Usd,
    /// Input and output together.
    pub tokens: u64,
    /// From its first byte to its end; absent where nobody saw its end.
    pub duration: Option<Duration>,
    /// No call was made: a text served that was made before, and had cost so much.
    pub saved: Option<Usd>,
    /// When the request that settled it began.
    pub at: Timestamp,
    /// The trace that it belongs to.
    pub trace: &'a str,
}

/// The invocation that a metric is about.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The function's deployed name, the stack's prefix included, as AWS's own metrics have it: two stacks of an account
    /// stay apart.
    pub function: &'a str,
    /// When it began.
    pub at: Timestamp,
    /// Its trace.
    pub trace: &'a str,
}

/// Emits what a settled call cost and took. Once for each call, by whoever settled it.
pub fn provider_call(call: &ProviderCall<'_>) {
    write(&provider_call_line(call));
}

/// Emits that this many calls of an invocation were fallbacks; none is not emitted.
pub fn fallbacks(origin: &Origin<'_>, count: u64) {
    if count > 0 {
        write(&function_line(origin, &[(FALLBACKS, json!(count))]));
    }
}

/// Emits that a workflow waits for a person. Once for each, by whoever ended its calls.
pub fn manual_review(origin: &Origin<'_>) {
    write(&function_line(origin, &[(MANUAL_REVIEWS, json!(1))]));
}

/// Emits that an alert fired. Once for each alert, by whoever fired it.
pub fn cost_alert(severity: Severity, kind: &str, at: Timestamp, trace: &str) {
    write(&line(ALERTS, severity.as_str(), at, &[(COST_ALERTS, json!(1))], &[("Type", kind), ("trace", trace)]));
}

/// Emits how much of the fullest budget of a scope (`user`, `global`) is spent or reserved, in per cent.
pub fn budget_utilisation(scope: &str, percent: f64, at: Timestamp, trace: &str) {
    write(&line(BUDGETS, scope, at, &[(BUDGET_UTILISATION, json!(percent))], &[("trace", trace)]));
}

/// What was done with messages to fans.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Messages {
    /// They reached their fan.
    pub sent: u64,
    /// They will not.
    pub failed: u64,
    /// Nobody knows yet.
    pub unknown: u64,
    /// They are tried again.
    pub retried: u64,
    /// The limiter held them back, or would have.
    pub throttled: u64,
}

/// Emits what was done with messages; what is none is not emitted.
pub fn messages(origin: &Origin<'_>, messages: &Messages) {
    let values = [
        (MESSAGES_SENT, messages.sent),
        (MESSAGES_FAILED, messages.failed),
        (MESSAGES_UNKNOWN, messages.unknown),
        (MESSAGES_RETRIED, messages.retried),
        (MESSAGES_THROTTLED, messages.throttled),
    ];
    let values: Vec<_> =
        values.into_iter().filter(|(_, count)| *count > 0).map(|(metric, count)| (metric, json!(count))).collect();
    if !values.is_empty() {
        write(&function_line(origin, &values));
    }
}

/// Emits that a circuit (`azure:gpt-4-turbo`) was opened, or else closed. Once for each change, by whoever made it.
pub fn circuit(provider: Provider, name: &str, opened: bool, at: Timestamp, trace: &str) {
    let metric = if opened { CIRCUIT_OPENED } else { CIRCUIT_CLOSED };
    write(&line(CIRCUITS, provider.as_str(), at, &[(metric, json!(1))], &[("Circuit", name), ("trace", trace)]));
}

/// Emits on which side of a flag a request was served, and what decided. Once for each decision, by whoever made it.
pub fn flag_decision(flag: &str, enrolled: bool, reason: &str, at: Timestamp, trace: &str) {
    let side = if enrolled { "new" } else { "legacy" };
    write(&line_of(DECISIONS, &[flag, side, reason], at, &[(FLAG_DECISIONS, json!(1))], &[("trace", trace)]));
}

/// Emits that a rollout took its next step, or else was taken back. Once for each change, by whoever made it.
pub fn rollout(flag: &str, advanced: bool, reason: &str, at: Timestamp, trace: &str) {
    let metric = if advanced { ADVANCED } else { ROLLED_BACK };
    write(&line(ROLLOUTS, flag, at, &[(metric, json!(1))], &[("Reason", reason), ("trace", trace)]));
}

/// What became of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLetter {
    /// There was nothing left to be done.
    Over,
    /// It is tried anew.
    Redriven,
    /// It is kept for a person.
    Kept,
}

/// Emits what became of a dead letter.
pub fn dead_letter(origin: &Origin<'_>, letter: DeadLetter) {
    let metric = match letter {
        DeadLetter::Over => DEAD_LETTERS_OVER,
        DeadLetter::Redriven => DEAD_LETTERS_REDRIVEN,
        DeadLetter::Kept => DEAD_LETTERS_KEPT,
    };
    write(&function_line(origin, &[(metric, json!(1))]));
}

/// How many records of a batch ended how; the rest was not due yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    /// Handled.
    pub(crate) done: u64,
    /// To be tried again.
    pub(crate) failed: u64,
    /// On their way to the dead-letter queue.
    pub(crate) rejected: u64,
}

/// Emits how the records of a batch ended.
pub(crate) fn records(origin: &Origin<'_>, ends: Ends) {
    let values =
        [(RECORDS, json!(ends.done)), (RECORDS_FAILED, json!(ends.failed)), (RECORDS_REJECTED, json!(ends.rejected))];
    write(&function_line(origin, &values));
}

/// Emits an invocation's end. `failed`: it failed, or was answered with a status of 500 or more.
pub(crate) fn invocation(origin: &Origin<'_>, failed: bool, duration: Duration) {
    let values = [(REQUESTS, json!(1)), (ERRORS, json!(u8::from(failed))), (DURATION, millis(duration))];
    write(&function_line(origin, &values));
}

/// Emits the end of a request that another system served: it says nothing of how this one does.
pub(crate) fn passed_on(origin: &Origin<'_>, failed: bool, duration: Duration) {
    let values =
        [(LEGACY_REQUESTS, json!(1)), (LEGACY_ERRORS, json!(u8::from(failed))), (LEGACY_DURATION, millis(duration))];
    write(&function_line(origin, &values));
}

fn provider_call_line(call: &ProviderCall<'_>) -> Value {
    let values = match call.saved {
        Some(saved) => vec![(CACHE_HITS, json!(1)), (CACHE_SAVINGS, json!(saved.to_json_number()))],
        None => {
            let cost = (PROVIDER_COST, json!(call.cost.to_json_number()));
            let duration = call.duration.map(|duration| (PROVIDER_DURATION, millis(duration)));
            [cost, (PROVIDER_TOKENS, json!(call.tokens))].into_iter().chain(duration).collect()
        }
    };
    let properties = [("Model", call.model), ("Outcome", call.outcome), ("trace", call.trace)];
    line(COSTS, call.provider.as_str(), call.at, &values, &properties)
}

fn function_line(origin: &Origin<'_>, values: &[(Metric, Value)]) -> Value {
    line(ORCHESTRATOR, origin.function, origin.at, values, &[("trace", origin.trace)])
}

/// A line of metrics of a family with one dimension; `of` is its value.
fn line(family: Family, of: &str, at: Timestamp, values: &[(Metric, Value)], properties: &[(&str, &str)]) -> Value {
    line_of(family, &[of], at, values, properties)
}

/// A line of metrics of one family; `of` are their dimensions' values.
fn line_of(
    (namespace, dimensions): Family,
    of: &[&str],
    at: Timestamp,
    values: &[(Metric, Value)],
    properties: &[(&str, &str)],
) -> Value {
    let metrics: Vec<_> = values.iter().map(|(metric, _)| json!({"Name": metric.name, "Unit": metric.unit})).collect();
    let directive = json!({"Namespace": namespace, "Dimensions": [dimensions, []], "Metrics": metrics});
    let aws = json!({"Timestamp": at.as_millisecond(), "CloudWatchMetrics": [directive]});
    let mut members = Map::from_iter([("_aws".to_owned(), aws)]);
    members.extend(dimensions.iter().zip(of).map(|(name, value)| ((*name).to_owned(), (*value).into())));
    members.extend(properties.iter().map(|(name, text)| ((*name).to_owned(), (*text).into())));
    members.extend(values.iter().map(|(metric, value)| (metric.name.to_owned(), value.clone())));
    Value::Object(members)
}

fn millis(duration: Duration) -> Value {
    json!(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// In one write, so that no other line comes between. Without standard output there is nobody to tell.
fn write(line: &Value) {
    let _ = std::io::stdout().lock().write_all(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> Timestamp {
        "2026-11-21T10:20:30.456Z".parse().unwrap()
    }

    #[test]
    fn a_providers_call_is_one_line_of_the_embedded_metric_format() {
        let call = ProviderCall {
            provider: Provider::Azure,
            model: "gpt-4-turbo",
            outcome: "succeeded",
            cost: Usd::parse("0.004675").unwrap(),
            tokens: 309,
            duration: Some(Duration::from_micros(812_900)),
            saved: None,
            at: at(),
            trace: "5759e988bd862e3fe1be46a994272793",
        };
        let mut expected = json!({
            "_aws": {
                "Timestamp": 1_795_256_430_456_u64,
                "CloudWatchMetrics": [{
                    "Namespace": "Huntaze/AI/Costs",
                    "Dimensions": [["Provider"], []],
                    "Metrics": [
                        {"Name": "AIProviderCost", "Unit": "None"},
                        {"Name": "AITokenUsage", "Unit": "Count"},
                        {"Name": "AIRequestDuration", "Unit": "Milliseconds"},
                    ],
                }],
            },
            "Provider": "azure", "Model": "gpt-4-turbo", "Outcome": "succeeded",
            "AIProviderCost": 0.004_675, "AITokenUsage": 309, "AIRequestDuration": 812,
            "trace": "5759e988bd862e3fe1be46a994272793",
        });
        assert_eq!(provider_call_line(&call), expected);
        // Nobody saw how long it took: the metric is not there at all.
        let lost = provider_call_line(&ProviderCall { duration: None, ..call });
        expected.as_object_mut().unwrap().remove("AIRequestDuration");
        expected["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array_mut().unwrap().pop();
        assert_eq!(lost, expected);
    }

    #[test]
    fn an_invocation_is_one_line_of_the_embedded_metric_format() {
        let origin = Origin { function: "huntaze-campaigns-hybrid", at: at(), trace: "t" };
        assert_eq!(
            function_line(&origin, &[(FALLBACKS, json!(2))]),
            json!({
                "_aws": {
                    "Timestamp": 1_795_256_430_456_u64,
                    "CloudWatchMetrics": [{
                        "Namespace": "Huntaze/Orchestrator",
                        "Dimensions": [["Function"], []],
                        "Metrics": [{"Name": "Fallbacks", "Unit": "Count"}],
                    }],
                },
                "Function": "huntaze-campaigns-hybrid", "Fallbacks": 2, "trace": "t",
            })
        );
    }
}
