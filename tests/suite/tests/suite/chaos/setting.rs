//! What a row of the table is played with: an app whose way to one dependency can go bad, and what is wrong with it.

use std::time::Duration;

use anyhow::{Result, ensure};
use huntaze_tests::{App, Bad, Link, Request, now};
use serde_json::json;

use crate::support::{BUDGETS, accounts, admin, link_to, sessions, signed};

/// Who asks, each with an account of its own.
pub(super) const USERS: [&str; 3] = ["ana", "bob", "cyd"];

/// Where a test would only wait, less time. Redis is waited for 250 ms, PostgreSQL 1 to 5 s and AWS 1.5 to 4 s, as in production.
const SCALED: [(&str, &str); 31] = [
    ("HUMAN_APPROVAL", "never"),
    ("API_RATE_LIMIT_PER_MINUTE", "100000"),
    ("REQUEST_DEADLINE_MS", "15000"),
    ("WORKFLOW_DEADLINE_MS", "60000"),
    ("AZURE_TIMEOUT_MS", "3000"),
    ("OPENAI_TIMEOUT_MS", "3000"),
    ("PLANNER_TIME_MS", "3000"),
    ("SHORT_MESSAGE_TIME_MS", "3000"),
    ("VALIDATOR_TIME_MS", "3000"),
    ("MAX_RETRIES", "1"),
    ("BREAKER_OPEN_MS", "1000"),
    ("BREAKER_PROBE_LEASE_MS", "6000"),
    ("LEDGER_SWEEP_GRACE_MS", "1000"),
    ("WORKFLOW_SWEEP_GRACE_MS", "1000"),
    ("MESSAGE_SWEEP_GRACE_MS", "1000"),
    ("ONLYFANS_TIMEOUT_MS", "1000"),
    ("ONLYFANS_BREAKER_OPEN_MS", "1000"),
    ("MESSAGE_HOLD_MARGIN_MS", "6000"),
    ("MESSAGE_LEASE_MARGIN_MS", "2000"),
    ("MESSAGE_LOOK_EVERY_MS", "500"),
    ("MESSAGE_RETRIES", "3"),
    ("RATE_LIMIT_SECOND_MS", "50"),
    ("RATE_LIMIT_HOUR_MS", "1000"),
    ("RATE_LIMIT_DAY_MS", "2000"),
    ("RATE_LIMIT_GLOBAL_PER_SECOND", "5000"),
    ("RATE_LIMIT_RECIPIENT_PER_MINUTE", "5000"),
    ("RATE_LIMIT_RECIPIENT_PER_HOUR", "5000"),
    ("RATE_LIMIT_RECIPIENTS_PER_HOUR", "5000"),
    ("RATE_LIMIT_CUSTOM_PER_MINUTE", "5000"),
    ("RATE_LIMIT_ACCOUNT_PER_HOUR", "5000"),
    ("RATE_LIMIT_ACCOUNT_PER_DAY", "5000"),
];

/// So many messages of an account may reach fans over any such window.
pub(super) const MOST: usize = 4;
pub(super) const WINDOW: Duration = Duration::from_secs(1);

/// So much later everything comes over a slow way: longer than Redis is waited for, shorter than anybody else is.
const SLOW: Duration = Duration::from_millis(400);

const PROVIDER_REFUSES: &str = "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-type: application/json\r\n\r\n\
    {\"error\":{\"code\":\"server_error\",\"message\":\"The service is temporarily unable to process your request.\"}}";
const DYNAMODB_REFUSES: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: application/x-amz-json-1.0\r\n\r\n\
    {\"__type\":\"com.amazonaws.dynamodb.v20120810#ThrottlingException\",\"message\":\"Rate of requests exceeds the allowed throughput.\"}";
const SQS_REFUSES: &str = "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-type: application/x-amz-json-1.0\r\n\r\n\
    {\"__type\":\"com.amazonaws.sqs#ServiceUnavailable\",\"message\":\"Service is temporarily unavailable.\"}";
/// What a way says that was led astray.
const NONSENSE: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/html\r\n\r\n\
    <!doctype html><html><title>Welcome</title><p>Please sign in to use this network.</html>";

/// What something outside can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dependency {
    Azure,
    OpenAi,
    PostgreSql,
    Redis,
    DynamoDb,
    Sqs,
    OnlyFans,
}

impl Dependency {
    pub(super) const ALL: [Self; 7] =
        [Self::Azure, Self::OpenAi, Self::PostgreSql, Self::Redis, Self::DynamoDb, Self::Sqs, Self::OnlyFans];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Azure => "Azure",
            Self::OpenAi => "OpenAI",
            Self::PostgreSql => "PostgreSQL",
            Self::Redis => "Redis",
            Self::DynamoDb => "DynamoDB",
            Self::Sqs => "SQS",
            Self::OnlyFans => "OnlyFans",
        }
    }

    /// The variable by which functions find it, and the one that a test's stores have its address in.
    fn variables(self) -> (&'static str, &'static str) {
        match self {
            Self::Azure => ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_ENDPOINT"),
            Self::OpenAi => ("OPENAI_BASE_URL", "OPENAI_BASE_URL"),
            Self::PostgreSql => ("DATABASE_URL", "DATABASE_URL"),
            Self::Redis => ("REDIS_URL", "REDIS_URL"),
            Self::DynamoDb => ("AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL"),
            Self::Sqs => ("AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL"),
            Self::OnlyFans => ("ONLYFANS_API_URL", "ONLYFANS_API_URL"),
        }
    }

    /// How it refuses over HTTP; the others refuse connections.
    fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Azure | Self::OpenAi | Self::OnlyFans => Some(PROVIDER_REFUSES),
            Self::DynamoDb => Some(DYNAMODB_REFUSES),
            Self::Sqs => Some(SQS_REFUSES),
            Self::PostgreSql | Self::Redis => None,
        }
    }
}

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Slow,
    Refusing,
    Cut,
    Garbage,
    Gone,
}

impl Wrong {
    pub(super) const ALL: [Self; 5] = [Self::Slow, Self::Refusing, Self::Cut, Self::Garbage, Self::Gone];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Refusing => "refusing",
            Self::Cut => "cut in the middle",
            Self::Garbage => "garbage",
            Self::Gone => "gone",
        }
    }

    pub(super) fn of(self, dependency: Dependency) -> Bad {
        match (self, dependency.refusal()) {
            (Self::Slow, _) => Bad::Slow(SLOW),
            (Self::Refusing, None) => Bad::Closed,
            (Self::Refusing, Some(answer)) => Bad::Refuses(answer),
            (Self::Cut, _) => Bad::Cut,
            (Self::Garbage, None) => Bad::Noise,
            (Self::Garbage, Some(_)) => Bad::Lies(NONSENSE),
            (Self::Gone, _) => Bad::Gone,
        }
    }
}

/// An app whose functions reach one dependency over a link, with users, accounts and budgets.
pub(super) async fn behind_a_link(dependency: Dependency) -> Result<(App, Link)> {
    let app = SCALED.into_iter().fold(App::start().await?.caching(), |app, (name, value)| app.set(name, value));
    let app = app.set("RATE_LIMIT_ACCOUNT_PER_MINUTE", MOST.to_string());
    let app = app.set("RATE_LIMIT_MINUTE_MS", WINDOW.as_millis().to_string());
    let (variable, source) = dependency.variables();
    let (link, url) = link_to(&app.env()[source]).await?;
    let app = app.set(variable, url);
    let own = USERS.map(account_of);
    let owners: Vec<_> = own.iter().map(String::as_str).zip(USERS).collect();
    accounts(&app, &owners).await?;
    for account in &own {
        sessions(&app).store(account, &signed(&app.world, account), now()).await?;
    }
    // Far above what is asked for: what is booked is counted, and nothing refused.
    let budgets = app.function("costs-budgets")?;
    let users = USERS.map(|user| json!({"scope": "user", "userId": user, "period": "day", "limit": 1000}));
    for budget in users.into_iter().chain([json!({"scope": "global", "period": "month", "limit": 10000})]) {
        let answer = budgets.http(admin(Request::put(BUDGETS)).json(&budget)).await?;
        ensure!(answer.status == 200, "{}", answer.body);
    }
    Ok((app, link))
}

pub(super) fn account_of(user: &str) -> String {
    format!("acc-{user}")
}
