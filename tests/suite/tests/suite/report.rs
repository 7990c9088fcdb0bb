//! What operators are told of a day: the built function on real stores, its files and what it tells against the ledger.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use huntaze_costs::ledger::LedgerEntry;
use huntaze_costs::rollup::Figures;
use huntaze_domain::money::Usd;
use huntaze_domain::notification::Notification;
use huntaze_domain::provider::Provider;
use huntaze_tests::post::{batch_of, consume};
use huntaze_tests::{App, Function, InvokeError, Meter, Passed, Post, now};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use rust_decimal::Decimal;
use serde_json::{Map, Value, json};

use crate::costs::{at, by, entry, project, rolled_up, shard_letter, sum};
use crate::support::{text, usd};

const REPORT: &str = "cost-daily-report";
const BOUND: Duration = Duration::from_secs(30);

async fn report(function: &Function, day: &str) -> Result<Value, InvokeError> {
    function.invoke(&json!({ "day": day }), BOUND).await
}

/// Entries of thirteen users on both sides of midnight, over the ends of February, which has 29 days, and of the year.
fn around_midnights() -> Vec<LedgerEntry> {
    let moments = [
        "2023-12-30T12:00:00Z",
        "2023-12-31T00:00:00Z",
        "2023-12-31T23:59:59.999999999Z",
        "2024-01-01T00:00:00Z",
        "2024-01-01T23:59:59.999Z",
        "2024-01-02T00:00:00Z",
        "2024-02-01T00:00:00Z",
        "2024-02-28T23:59:59.999Z",
        "2024-02-29T00:00:00Z",
        "2024-02-29T23:59:59.999Z",
        "2024-03-01T00:00:00Z",
        "2024-03-01T12:30:00Z",
        "2024-03-02T00:00:00Z",
    ];
    // 13 moments and 14 users, so that each user is at each moment but in another place.
    let moments = moments.iter().cycle().take(moments.len() * 14);
    moments.enumerate().map(|(n, moment)| entry(n, &format!("user-{:02}", n % 14), at(moment))).collect()
}

/// Sets one of everyone's budgets, of which `reserved` is not settled in the period that begins on a day.
async fn budget(
    app: &App,
    period: &str,
    provider: Option<&str>,
    limit: &str,
    open: Option<(&str, &str)>,
) -> Result<()> {
    let insert = "INSERT INTO orchestrator.budgets (scope, period, provider, max_cost, updated_by)
                  VALUES ('global', $1, $2, ($3::text)::numeric, 'root')";
    app.stores.execute(insert, &[&period, &provider, &limit]).await?;
    if let Some((starts_on, reserved)) = open {
        let insert = "INSERT INTO orchestrator.budget_periods (budget_id, starts_on, reserved)
                      SELECT id, ($1::text)::date, ($2::text)::numeric FROM orchestrator.budgets
                       WHERE period = $3 AND provider IS NOT DISTINCT FROM $4";
        app.stores.execute(insert, &[&starts_on, &reserved, &period, &provider]).await?;
    }
    Ok(())
}

/// The entries of one day.
fn on<'a>(entries: &[&'a LedgerEntry], day: &str) -> Vec<&'a LedgerEntry> {
    entries.iter().copied().filter(|entry| entry.started_at.to_string().starts_with(day)).collect()
}

fn change_percent(day: Usd, before: Usd) -> Option<Decimal> {
    let change = (day - before).to_decimal() * Decimal::ONE_HUNDRED;
    Some(change.checked_div(before.to_decimal())?.round_dp(2))
}

fn assert_figures(shown: &Value, entries: &[&LedgerEntry]) {
    let mut figures = Figures::default();
    entries.iter().for_each(|entry| figures += Figures::of(entry));
    assert_eq!(usd(&shown["cost"]), figures.cost);
    assert_eq!(usd(&shown["saved"]), figures.saved);
    for (name, count) in [
        ("requests", figures.requests),
        ("tokens", figures.usage.total()),
        ("cachedInputTokens", figures.usage.cached_input_tokens),
        ("failedRequests", figures.failed),
        ("estimatedRequests", figures.estimated),
    ] {
        assert_eq!(shown[name], count, "{name} of {shown}");
    }
}

fn assert_change(shown: &Value, day: Usd, before: Usd) {
    assert_eq!(usd(&shown["change"]), day - before, "{shown}");
    let percent = change_percent(day, before).map(|percent| percent.normalize().to_string().parse::<f64>().unwrap());
    assert_eq!(shown["changePercent"], json!(percent), "{shown}");
}

/// Holds one part of the report against the entries of both days.
fn assert_part(shown: &Value, day: &[&LedgerEntry], before: &[&LedgerEntry]) {
    assert_figures(shown, day);
    assert_figures(&shown["dayBefore"], before);
    assert_change(shown, sum(day), sum(before));
}

/// Holds a list of parts, each named by some of its members, against the entries of both days.
fn assert_list(
    shown: &Value,
    names: &[&str],
    [day, before]: [&[&LedgerEntry]; 2],
    name: impl Fn(&LedgerEntry) -> String + Copy,
) {
    let (day, before) = (by(day, name), by(before, name));
    let shown = shown.as_array().unwrap();
    let all: std::collections::BTreeSet<_> = day.keys().chain(before.keys()).collect();
    assert_eq!(shown.len(), all.len());
    for part in shown {
        let name = names.iter().map(|name| text(&part[*name])).collect::<Vec<_>>().join("/");
        let of = |groups: &BTreeMap<String, Vec<_>>| groups.get(&name).cloned().unwrap_or_default();
        assert_part(part, &of(&day), &of(&before));
    }
    assert!(shown.is_sorted_by(|a, b| usd(&a["cost"]) >= usd(&b["cost"])));
}

/// The rows of a table, by column.
fn rows(table: &str) -> Vec<BTreeMap<&str, &str>> {
    let mut lines = table.split_terminator("\r\n");
    let names: Vec<_> = lines.next().unwrap().split(',').collect();
    lines.map(|line| names.iter().copied().zip(line.split(',')).collect()).collect()
}

#[tokio::test]
async fn a_report_equals_the_ledger_to_the_last_digit_against_the_day_before() -> Result<()> {
    let app = App::start().await?;
    let entries = around_midnights();
    project(&app, &entries).await?;
    let function = app.function(REPORT)?;
    for day in ["2024-01-01", "2024-02-29", "2024-03-01", "2024-03-02"] {
        let all: Vec<_> = entries.iter().collect();
        let date: Date = day.parse()?;
        let yesterday = date.yesterday()?.to_string();
        let (of_day, before) = (on(&all, day), on(&all, &yesterday));
        let answer = report(&function, day).await?;
        let key = format!("cost-reports/{}/{}/{day}", &day[..4], &day[5..7]);
        assert_eq!((&answer["day"], &answer["key"]), (&json!(day), &json!(key)));
        assert_eq!((usd(&answer["totalCost"]), &answer["requests"]), (sum(&of_day), &json!(of_day.len())));

        let (kind, json) = app.stores.report(&format!("{key}.json")).await?;
        let json: Value = serde_json::from_str(&json)?;
        assert_eq!((kind.as_str(), &json["day"]), ("application/json", &json!(day)));
        assert_eq!(json["dayBefore"], yesterday);
        assert_part(&json["total"], &of_day, &before);
        for provider in Provider::ALL {
            let parts = [&of_day, &before]
                .map(|entries| entries.iter().copied().filter(|entry| entry.provider == provider).collect::<Vec<_>>());
            assert_part(&json["providers"][provider.as_str()], &parts[0], &parts[1]);
        }
        let both = [&of_day[..], &before[..]];
        let model = |entry: &LedgerEntry| format!("{}/{}", entry.provider.as_str(), entry.model);
        assert_list(&json["models"], &["provider", "model"], both, model);
        assert_list(&json["requestTypes"], &["type"], both, |entry| entry.request_type.clone());
        let month: Vec<_> = all
            .iter()
            .copied()
            .filter(|entry| (&day[..8]..=&day[..10]).contains(&&entry.started_at.to_string()[..10]))
            .collect();
        assert_figures(&json["monthToDate"], &month);

        let [spent, spent_before] = both.map(|entries| by(entries, |entry| entry.user_id.clone()));
        let mut users: Vec<_> = spent.iter().map(|(user, of)| (user.clone(), sum(of))).collect();
        users.retain(|(_, cost)| *cost > Usd::ZERO);
        users.sort_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then(a.cmp(b)));
        assert_eq!((&json["users"], &answer["users"]), (&json!(users.len()), &json!(users.len())));
        let shown = json["topUsers"].as_array().unwrap();
        let names: Vec<_> = shown.iter().map(|user| (text(&user["userId"]).to_owned(), usd(&user["cost"]))).collect();
        assert_eq!(names, users[..users.len().min(10)]);
        for user in shown {
            let before = spent_before.get(text(&user["userId"])).map(sum).unwrap_or_default();
            assert_eq!(usd(&user["dayBefore"]["cost"]), before);
            assert_change(user, usd(&user["cost"]), before);
        }

        let (kind, table) = app.stores.report(&format!("{key}.csv")).await?;
        assert_eq!(kind, "text/csv; charset=utf-8; header=present");
        let rows = rows(&table);
        let part = |name: &str| rows.iter().filter(|row| row["part"] == name).collect::<Vec<_>>();
        for (name, entries, before) in [("total", &of_day, sum(&before)), ("monthToDate", &month, Usd::ZERO)] {
            let [row] = part(name)[..] else { panic!("{table}") };
            assert_eq!((row["day"], Usd::parse(row["cost"])?), (day, sum(entries)));
            assert_eq!(row["requests"], entries.len().to_string());
            assert_eq!(Usd::parse(row["costDayBefore"]).unwrap_or_default(), before);
        }
        for name in ["provider", "model", "requestType"] {
            let costs = |column: &str| part(name).iter().map(|row| Usd::parse(row[column]).unwrap()).sum::<Usd>();
            assert_eq!((costs("cost"), costs("costDayBefore")), (sum(&of_day), sum(&before)), "{name}");
            assert_eq!(costs("change"), sum(&of_day) - sum(&before), "{name}");
        }
        assert_eq!(part("user").len(), shown.len());
    }
    // Operators see the users; the log does not.
    assert!(!function.logs().contains("user-"), "{}", function.logs());
    Ok(())
}

#[tokio::test]
async fn a_day_is_held_against_everyones_budgets() -> Result<()> {
    let app = App::start().await?;
    let spent = |n: usize, moment: &str, dollars: &str| {
        let cost = Usd::parse(dollars).unwrap();
        LedgerEntry { cost, ..entry(n, "ana", at(moment)) }
    };
    // The first and last go to Azure, the second to OpenAI.
    let entries = [
        spent(0, "2024-02-10T10:00:00Z", "3"),
        spent(1, "2024-02-20T10:00:00Z", "4.000000000001"),
        spent(3, "2024-02-20T11:00:00Z", "1"),
    ];
    project(&app, &entries).await?;
    budget(&app, "day", None, "5.000000000001", Some(("2024-02-20", "0.5"))).await?;
    budget(&app, "day", Some("azure"), "8", None).await?;
    budget(&app, "month", None, "0", Some(("2024-02-01", "0.25"))).await?;
    // What belongs to others or to other times is not theirs.
    let other = "INSERT INTO orchestrator.budgets (scope, user_id, period, max_cost, updated_by) VALUES ('user', 'ana', 'day', 1, 'root')";
    app.stores.execute(other, &[]).await?;
    let function = app.function(REPORT)?;
    report(&function, "2024-02-20").await?;
    let (_, json) = app.stores.report("cost-reports/2024/02/2024-02-20.json").await?;
    let budgets = serde_json::from_str::<Value>(&json)?["budgets"].take();
    let expected = json!([
        {"period": "day", "provider": "all", "limit": 5.000_000_000_001, "spent": 5.000_000_000_001, "reserved": 0.5,
            "usedPercent": 100.0, "status": "critical"},
        {"period": "day", "provider": "azure", "limit": 8.0, "spent": 1.0, "reserved": 0.0, "usedPercent": 12.5, "status": "normal"},
        {"period": "month", "provider": "all", "limit": 0.0, "spent": 8.000_000_000_001, "reserved": 0.25,
            "usedPercent": null, "status": "critical"},
    ]);
    assert_eq!(budgets, expected);
    let (_, table) = app.stores.report("cost-reports/2024/02/2024-02-20.csv").await?;
    let rows = rows(&table);
    let budgets: Vec<_> = rows.iter().filter(|row| row["part"] == "budget").collect();
    let cells = |row: &BTreeMap<&str, &str>| {
        ["provider", "name", "cost", "limit", "usedPercent"].map(|name| row[name].to_owned())
    };
    assert_eq!(cells(budgets[0]), ["all", "day", "5.000000000001", "5.000000000001", "100"]);
    assert_eq!(cells(budgets[2]), ["all", "month", "8.000000000001", "0", ""]);

    let told = told(&app).await?;
    let [told] = &told[..] else { panic!("{told:?}") };
    assert_eq!(json!(told.severity), "warning");
    let value = |name: &str| told.facts.iter().find(|fact| fact.name == name).map(|fact| fact.value.as_str());
    assert_eq!(value("Budget of the day, Azure OpenAI"), Some("$1.00 of $8.00 (12.5 %)"));
    // For people, amounts are rounded.
    assert_eq!(value("Budget of the day"), Some("$5.00 of $5.00 (100 %), $0.50 reserved"));
    assert_eq!(value("Budget of the month"), Some("$8.00 of $0.00, $0.25 reserved"));
    Ok(())
}

async fn told(app: &App) -> Result<Vec<Notification>> {
    let messages = app.stores.take_notifications().await?;
    messages.into_iter().map(|message| Ok(serde_json::from_value(message)?)).collect()
}

#[tokio::test]
async fn the_operators_get_one_report_however_often_it_is_made() -> Result<()> {
    let (app, post) = Post::open(App::start().await?).await?;
    project(&app, &around_midnights()).await?;
    let function = app.function(REPORT)?;
    let keys = ["csv", "json"].map(|ending| format!("cost-reports/2024/02/2024-02-29.{ending}"));
    let mut kept = Vec::new();
    for _ in 0..2 {
        report(&function, "2024-02-29").await?;
        assert_eq!(app.stores.report_keys().await?, keys);
        kept.push([app.stores.report(&keys[0]).await?, app.stores.report(&keys[1]).await?]);
    }
    assert_eq!(kept[0], kept[1]);

    let told = told(&app).await?;
    let [one, other] = &told[..] else { panic!("{told:?}") };
    assert_eq!((one.id.as_str(), &one.id), ("cost-daily-report:2024-02-29", &other.id));
    assert_eq!((one.kind.as_str(), json!(one.audience)), ("cost_daily_report", json!("operators")));
    assert_eq!(json!(one.channels), json!(["email", "slack"]));
    let bucket = &app.env()["REPORTS_S3_BUCKET"];
    for key in &keys {
        assert!(one.text.contains(&format!("s3://{bucket}/{key}")), "{}", one.text);
    }

    // As its consumer takes it: every bound is kept, and the repeat is told to nobody.
    let notifications = app.function("notifications")?;
    for notification in &told {
        let batch = batch_of(&serde_json::to_string(notification)?, 1);
        assert_eq!(consume(&notifications, &batch).await?, Some(Vec::new()), "{}", notifications.logs());
    }
    let email = app.function("email")?;
    while let Some(batch) = post.email_batch().await? {
        assert_eq!(consume(&email, &batch).await?, Some(Vec::new()), "{}", email.logs());
    }
    let emails = post.emails().await?;
    assert_eq!((emails.len(), app.world.slack_messages().len()), (1, 1));
    assert_eq!(text(&emails[0]["Subject"]), one.title);
    Ok(())
}

#[tokio::test]
async fn a_day_without_costs_is_reported_as_such() -> Result<()> {
    let app = App::start().await?;
    project(&app, &[entry(0, "ana", at("2024-05-01T00:00:00Z"))]).await?;
    let answer = report(&app.function(REPORT)?, "2024-05-03").await?;
    assert_eq!((&answer["totalCost"], &answer["requests"]), (&json!(0.0), &json!(0)));
    let (_, json) = app.stores.report("cost-reports/2024/05/2024-05-03.json").await?;
    let json: Value = serde_json::from_str(&json)?;
    for list in ["models", "requestTypes", "topUsers", "budgets"] {
        assert_eq!(json[list], json!([]), "{list}");
    }
    assert_eq!((&json["total"]["changePercent"], &json["monthToDate"]["requests"]), (&Value::Null, &json!(1)));
    let told = told(&app).await?;
    assert!(told[0].text.starts_with("Nothing was spent on 2024-05-03 (UTC)"), "{told:?}");
    assert_eq!(json!(told[0].severity), "info");
    Ok(())
}

#[tokio::test]
async fn without_a_day_yesterday_is_reported() -> Result<()> {
    let app = App::start().await?;
    let yesterday = || (now() - SignedDuration::from_hours(24)).to_zoned(TimeZone::UTC).date();
    let before = yesterday();
    let noon = before.at(12, 0, 0, 0).to_zoned(TimeZone::UTC)?.timestamp();
    project(&app, &[entry(0, "ana", noon)]).await?;
    let answer = app.function(REPORT)?.invoke(&json!({"source": "aws.scheduler", "detail": "{}"}), BOUND).await?;
    // Midnight may have come between.
    let after = yesterday();
    assert!([json!(before), json!(after)].contains(&answer["day"]), "{answer}");
    let spent = if before == after { entry(0, "ana", noon).cost } else { usd(&answer["totalCost"]) };
    assert_eq!(usd(&answer["totalCost"]), spent);
    Ok(())
}

fn failure(result: Result<Value, InvokeError>) -> Result<String> {
    match result {
        Err(InvokeError::Failed { error, .. }) => Ok(error.error_message),
        other => anyhow::bail!("it did not fail as a function does: {other:?}"),
    }
}

#[tokio::test]
async fn what_is_no_day_that_is_over_fails_the_invocation_and_names_the_field() -> Result<()> {
    let app = App::start().await?;
    let function = app.function(REPORT)?;
    let day = |days: i64| (now() + SignedDuration::from_hours(24 * days)).to_string()[..10].to_owned();
    for bad in [
        json!(day(1)),
        json!(day(400)),
        json!("1999-12-31"),
        json!("2024-02-30"),
        json!("2024-02-29T00:00:00Z"),
        json!("../../2024-02-29"),
        json!(""),
        json!(20_240_229),
        json!({"day": "2024-02-29"}),
    ] {
        let message = failure(function.invoke(&json!({ "day": bad }), BOUND).await)?;
        assert!(message.starts_with("/day: must be "), "{bad}: {message}");
    }
    assert_eq!(app.stores.report_keys().await?, Vec::<String>::new());
    assert_eq!(told(&app).await?, []);
    // The process goes on.
    report(&function, "2024-02-29").await?;
    Ok(())
}

#[tokio::test]
async fn nobody_is_told_of_a_report_that_could_not_be_kept_and_what_failed_is_made_again() -> Result<()> {
    let app = App::start().await?;
    project(&app, &around_midnights()).await?;
    let no_bucket = app.function_with(REPORT, "REPORTS_S3_BUCKET", "no-such-bucket-anywhere")?;
    let message = failure(report(&no_bucket, "2024-02-29").await)?;
    assert!(message.starts_with("S3 did not take cost-reports/2024/02/2024-02-29."), "{message}");
    assert_eq!(told(&app).await?, []);

    let no_queue = app.function_with(REPORT, "SQS_NOTIFICATIONS_QUEUE", "no-such-queue-anywhere")?;
    let message = failure(report(&no_queue, "2024-02-29").await)?;
    assert!(message.contains("queue"), "{message}");
    assert_eq!(app.stores.report_keys().await?.len(), 2);

    report(&app.function(REPORT)?, "2024-02-29").await?;
    assert_eq!((app.stores.report_keys().await?.len(), told(&app).await?.len()), (2, 1));
    Ok(())
}

#[tokio::test]
async fn a_report_of_nothing_readable_is_none() -> Result<()> {
    let app = App::start().await?;
    let odd =
        json!({"id": {"S": "rollup#global#0#day#2024-02"}, "timestamp": {"S": "2024-02-29"}, "cost": {"S": "much"}});
    app.stores.put_cost_items(&[odd.as_object().context("an item")?.clone()]).await?;
    let message = failure(report(&app.function(REPORT)?, "2024-02-29").await)?;
    assert!(message.contains("`cost` cannot be read"), "{message}");
    assert_eq!((app.stores.report_keys().await?.len(), told(&app).await?.len()), (0, 0));
    Ok(())
}

/// So many entries of two days, such that the first 48 are in every roll-up that the others are in.
fn of_two_days(count: usize, day: Date) -> Vec<LedgerEntry> {
    let users = ["ana", "bob", "cyd"];
    let noon = |day: Date| -> Timestamp { day.at(12, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap().timestamp() };
    let moments = [noon(day), noon(day.saturating_sub(1.day()))];
    let of = |n: usize| {
        let id = format!("wf_{n}_{}.1", shard_letter(n, n / 2 % 8));
        LedgerEntry { id, ..entry(n, users[n / 16 % 3], moments[n % 2]) }
    };
    (0..count).map(of).collect()
}

#[tokio::test]
async fn a_report_is_the_same_reads_with_a_hundred_times_the_entries() -> Result<()> {
    // In a month, and over its border.
    for (day, queries) in [("2024-02-15", 8 + 2 * 8), ("2024-03-01", 2 * 8 + 2 * 8)] {
        let mut reads: Vec<Vec<Passed>> = Vec::new();
        for count in [48, 4_800] {
            let app = App::start().await?;
            let entries = of_two_days(count, day.parse()?);
            let items: Vec<Map<String, Value>> = rolled_up(&entries);
            app.stores.put_cost_items(&items).await?;
            let meter = Meter::to(&app.env()["AWS_ENDPOINT_URL"]).await?;
            let app = app.set("AWS_ENDPOINT_URL_DYNAMODB", meter.url());
            let answer = report(&app.function(REPORT)?, day).await?;
            let all: Vec<_> = entries.iter().collect();
            assert_eq!(usd(&answer["totalCost"]), sum(&on(&all, day)));
            let mut passed = meter.take();
            passed.sort();
            reads.push(passed);
        }
        assert_eq!(reads[0], reads[1]);
        // The days of each shard and month; the users of each shard, of the day and of the day before.
        assert_eq!(reads[0].len(), queries, "{day}");
        assert!(reads[0].iter().all(|passed| passed.operation == "Query"), "{:?}", reads[0]);
    }
    Ok(())
}
