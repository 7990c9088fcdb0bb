//! What costs were: breakdown and stats equal the ledger to the last digit, read no more than they must, and show nobody another's.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use anyhow::Result;
use huntaze_costs::config::{catalogue, ledger};
use huntaze_costs::ledger::{Ledger, LedgerEntry};
use huntaze_costs::period::Month;
use huntaze_costs::rollup::{Key, Rollup, rollups_of};
use huntaze_domain::env::Env;
use huntaze_domain::ids::UserId;
use huntaze_domain::money::Usd;
use huntaze_domain::provider::{Provider, TokenUsage};
use huntaze_lambda::clients::{self, Aws};
use huntaze_tests::{App, Function, Meter, Passed, Request, Session, now};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::support::{BREAKDOWN, STATS, entries_and_rollups, text, usd};

const MODELS: [(Provider, &str); 3] =
    [(Provider::Azure, "gpt-4-turbo"), (Provider::OpenAi, "gpt-4o"), (Provider::OpenAi, "gpt-4o-mini")];
const TYPES: [&str; 3] = ["content_planning", "message_generation", "campaign_execution"];
const USERS: [&str; 3] = ["ana", "bob", "cyd"];

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The `n`th entry: its user, model, type, tokens and cost differ from its neighbours', its cost in all twelve decimals.
pub(crate) fn entry(n: usize, user: &str, started_at: Timestamp) -> LedgerEntry {
    let (provider, model) = MODELS[n % 3];
    let tokens = 100 + (n as u64 * 7_919) % 4_000;
    let usage = TokenUsage { input_tokens: tokens, cached_input_tokens: tokens / 4, output_tokens: tokens / 3 };
    // 5 % of them cost nothing: they failed.
    let failed = n % 20 == 19;
    let picos = if failed { 0 } else { 10_000_000_000 + (n as u64 * 123_456_789_101) % 300_000_000_000 };
    LedgerEntry {
        id: format!("wf_{n}_{}.1", (b'a' + (n / 3 % 8) as u8) as char),
        operation_id: format!("wf_{n}"),
        user_id: user.to_owned(),
        provider,
        model: model.to_owned(),
        request_type: TYPES[n / 3 % 3].to_owned(),
        outcome: if failed { "failed" } else { "succeeded" }.to_owned(),
        usage: if failed { TokenUsage::default() } else { usage },
        cost: Usd::parse(&format!("0.{picos:012}")).unwrap(),
        saved: if failed { Usd::ZERO } else { Usd::parse(&format!("0.{:012}", tokens * 1_001)).unwrap() },
        cache_hit: false,
        estimated: n % 31 == 30,
        price_version: "test".to_owned(),
        trace_id: String::new(),
        duration_ms: Some(5),
        started_at,
    }
}

fn ledger_of(app: &App) -> Result<Ledger> {
    let env = Env::from_pairs(app.env().clone());
    Ok(ledger(&env, Aws::new(&env, &clients::tls(&env)?).dynamodb()))
}

pub(crate) async fn project(app: &App, entries: &[LedgerEntry]) -> Result<()> {
    let ledger = ledger_of(app)?;
    for entry in entries {
        ledger.project(entry).await?;
    }
    Ok(())
}

/// Entries of three users on both sides of the borders of hours, days and months.
fn around_borders() -> Vec<LedgerEntry> {
    let moments = [
        "2026-08-31T22:59:59.999Z",
        "2026-08-31T23:00:00Z",
        "2026-08-31T23:59:59.999999999Z",
        "2026-09-01T00:00:00Z",
        "2026-09-01T00:59:59.999Z",
        "2026-09-01T01:00:00Z",
        "2026-09-15T12:30:00Z",
        "2026-09-15T12:30:00.001Z",
        "2026-09-30T23:59:59.999Z",
        "2026-10-01T00:00:00Z",
        "2026-10-01T13:00:00Z",
        "2026-10-31T23:00:00Z",
        "2026-11-01T00:00:00Z",
        "2026-11-02T07:00:00Z",
    ];
    let moments = moments.iter().cycle().take(moments.len() * 5);
    moments.enumerate().map(|(n, moment)| entry(n, USERS[n % 4 % 3], at(moment))).collect()
}

fn breakdown(session: &Session, start: &str, end: &str) -> Request {
    Request::get(BREAKDOWN).bearer(&session.v4()).query("startDate", start).query("endDate", end)
}

async fn ok(function: &Function, request: Request) -> Result<Value> {
    let response = function.http(request).await?;
    assert_eq!(response.status, 200, "{}", response.body);
    Ok(response.body)
}

pub(crate) fn sum<'a>(entries: impl IntoIterator<Item = &'a &'a LedgerEntry>) -> Usd {
    entries.into_iter().map(|entry| entry.cost).sum()
}

/// Entries in groups by name.
pub(crate) fn by<'a>(
    entries: &[&'a LedgerEntry],
    name: impl Fn(&LedgerEntry) -> String,
) -> BTreeMap<String, Vec<&'a LedgerEntry>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    entries.iter().for_each(|entry| groups.entry(name(entry)).or_default().push(*entry));
    groups
}

/// Holds figures of the answer against the entries that they count.
fn assert_figures(shown: &Value, entries: &[&LedgerEntry]) {
    let tokens: u64 = entries.iter().map(|entry| entry.usage.total()).sum();
    let cached: u64 = entries.iter().map(|entry| entry.usage.cached_input_tokens).sum();
    assert_eq!(usd(&shown["cost"]), sum(entries));
    assert_eq!((&shown["requests"], &shown["tokens"]), (&json!(entries.len()), &json!(tokens)));
    assert_eq!(shown["cachedInputTokens"], cached);
    assert_eq!(shown["failedRequests"], entries.iter().filter(|entry| entry.outcome == "failed").count());
    assert_eq!(shown["estimatedRequests"], entries.iter().filter(|entry| entry.estimated).count());
    let average = NonZeroU64::new(entries.len() as u64).map_or(Usd::ZERO, |count| sum(entries).divided_by(count));
    assert_eq!(usd(&shown["avgCostPerRequest"]), average);
}

/// Holds a whole answer against the entries of its range.
fn assert_breakdown(data: &Value, entries: &[&LedgerEntry]) {
    assert_eq!(usd(&data["totalCost"]), sum(entries));
    assert_eq!(data["totalRequests"], entries.len());
    let saved: Usd = entries.iter().map(|entry| entry.saved).sum();
    assert_eq!(usd(&data["savings"]["actualSavings"]), saved);
    for provider in Provider::ALL {
        let of_it: Vec<_> = entries.iter().copied().filter(|entry| entry.provider == provider).collect();
        assert_figures(&data["providers"][provider.as_str()], &of_it);
    }
    for (list, expected, name) in [
        (
            "models",
            by(entries, |entry| format!("{}/{}", entry.provider.as_str(), entry.model)),
            &["provider", "model"][..],
        ),
        ("requestTypes", by(entries, |entry| entry.request_type.clone()), &["type"]),
    ] {
        let shown = data[list].as_array().unwrap();
        assert_eq!(shown.len(), expected.len(), "{list}");
        for one in shown {
            let name: Vec<_> = name.iter().map(|part| text(&one[*part])).collect();
            assert_figures(one, &expected[&name.join("/")]);
        }
        assert!(shown.is_sorted_by(|a, b| usd(&a["cost"]) >= usd(&b["cost"])), "{list}");
    }
    let daily = by(entries, |entry| format!("{} {}", &entry.started_at.to_string()[..10], entry.provider.as_str()));
    let shown = data["trends"]["dailyCosts"].as_array().unwrap().iter();
    let shown: BTreeMap<_, _> =
        shown.map(|day| (format!("{} {}", text(&day["date"]), text(&day["provider"])), usd(&day["cost"]))).collect();
    assert_eq!(shown, daily.into_iter().map(|(name, entries)| (name, sum(&entries))).collect());
    let hourly = by(entries, |entry| format!("{}:00:00Z", &entry.started_at.to_string()[..13]));
    let shown = data["trends"]["hourlyUsage"].as_array().unwrap().iter();
    let shown: BTreeMap<_, _> = shown
        .map(|hour| (text(&hour["hour"]).to_owned(), (usd(&hour["cost"]), hour["tokens"].as_u64().unwrap())))
        .collect();
    let tokens = |entries: &[&LedgerEntry]| entries.iter().map(|entry| entry.usage.total()).sum();
    let hourly = hourly.into_iter().map(|(name, entries)| (name, (sum(&entries), tokens(&entries))));
    // An hour in which only free calls failed has nothing to show.
    assert_eq!(shown, hourly.filter(|(_, (cost, _))| *cost > Usd::ZERO).collect());
}

#[tokio::test]
async fn a_breakdown_equals_the_ledger_to_the_last_digit_over_every_border() -> Result<()> {
    let app = App::start().await?;
    let entries = around_borders();
    project(&app, &entries).await?;
    let function = app.function("costs-breakdown")?;
    let root = Session::admin("root");
    for (start, end) in [
        ("2026-09-01", "2026-10-01"),
        ("2026-08-31", "2026-11-03"),
        ("2026-08-31T23:00:00Z", "2026-09-01T01:00:00Z"),
        ("2026-09-15T12:00:00Z", "2026-09-15T13:00:00Z"),
        ("2026-08-31T22:00:00Z", "2026-11-01T01:00:00Z"),
        ("2026-09-01T02:00:00+02:00", "2026-10-01T00:00:00-03:00"),
        ("2026-10-02", "2026-10-31"),
    ] {
        let range = if start.len() == 10 {
            [start, end].map(|day| at(&format!("{day}T00:00:00Z")))
        } else {
            [at(start), at(end)]
        };
        let inside: Vec<_> =
            entries.iter().filter(|entry| entry.started_at >= range[0] && entry.started_at < range[1]).collect();
        let body = ok(&function, breakdown(&root, start, end)).await?;
        assert_breakdown(&body["data"], &inside);
        assert_eq!(body["data"]["timeRange"], json!({"start": range[0], "end": range[1]}));
        for user in USERS {
            let own: Vec<_> = inside.iter().copied().filter(|entry| entry.user_id == user).collect();
            let shown = ok(&function, breakdown(&Session::user(user), start, end)).await?;
            assert_breakdown(&shown["data"], &own);
            assert_eq!(shown["data"].get("users"), None);
            let named = ok(&function, breakdown(&root, start, end).query("userId", user)).await?;
            assert_eq!(named["data"]["users"], json!([{"userId": user, "cost": named["data"]["totalCost"]}]));
            assert_eq!(named["data"]["totalCost"], shown["data"]["totalCost"]);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_range_is_counted_in_whole_hours() -> Result<()> {
    let app = App::start().await?;
    let entries = around_borders();
    project(&app, &entries).await?;
    let function = app.function("costs-breakdown")?;
    let request = breakdown(&Session::admin("root"), "2026-08-31T23:30:00Z", "2026-09-01T00:00:00.001Z");
    let data = &ok(&function, request).await?["data"];
    assert_eq!(data["timeRange"], json!({"start": "2026-08-31T23:00:00Z", "end": "2026-09-01T01:00:00Z"}));
    let hours = at("2026-08-31T23:00:00Z")..at("2026-09-01T01:00:00Z");
    let inside: Vec<_> = entries.iter().filter(|entry| hours.contains(&entry.started_at)).collect();
    assert_breakdown(data, &inside);
    Ok(())
}

#[tokio::test]
async fn administrators_see_the_users_by_what_they_spent_page_by_page() -> Result<()> {
    let app = App::start().await?;
    let moments = ["2026-09-30T05:00:00Z", "2026-10-01T23:00:00Z", "2026-10-02T00:00:00Z"];
    let entries: Vec<_> = (0..40).map(|n| entry(n, &format!("user-{:02}", n % 13), at(moments[n % 3]))).collect();
    project(&app, &entries).await?;
    let function = app.function("costs-breakdown")?;
    // The last day is in it in part, and counts whole for users.
    let request = || breakdown(&Session::admin("root"), "2026-09-30", "2026-10-01T01:00:00Z").query("limit", "5");
    let end = at("2026-10-02T00:00:00Z");
    let inside: Vec<_> = entries.iter().filter(|entry| entry.started_at < end).collect();
    let mut expected: Vec<_> =
        by(&inside, |entry| entry.user_id.clone()).into_iter().map(|(user, of)| (user, sum(&of))).collect();
    expected.sort_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then(a.cmp(b)));
    let (mut seen, mut cursor) = (Vec::new(), Value::Null);
    for page in 0.. {
        assert!(page < 4, "{seen:?}");
        let request = if cursor.is_null() { request() } else { request().query("cursor", text(&cursor)) };
        let data = ok(&function, request).await?["data"].take();
        let users = data["users"].as_array().unwrap();
        seen.extend(users.iter().map(|user| (text(&user["userId"]).to_owned(), usd(&user["cost"]))));
        cursor = data["nextCursor"].clone();
        if cursor.is_null() {
            break;
        }
        assert_eq!(users.len(), 5);
    }
    assert_eq!(seen, expected);
    Ok(())
}

#[tokio::test]
async fn a_breakdown_as_csv_has_the_same_sum() -> Result<()> {
    let app = App::start().await?;
    let entries = around_borders();
    project(&app, &entries).await?;
    let function = app.function("costs-breakdown")?;
    let request = || breakdown(&Session::user("ana"), "2026-08-31T23:00:00Z", "2026-11-01");
    let json = ok(&function, request().header("accept", "application/json, text/csv;q=0.5")).await?;
    let answer = function.http(request().header("accept", "text/csv")).await?;
    assert_eq!((answer.status, answer.header("vary")), (200, "accept"));
    assert_eq!(answer.header("content-type"), "text/csv; charset=utf-8; header=present");
    assert_eq!(answer.header("content-disposition"), "attachment; filename=\"costs_2026-08-31_2026-10-31.csv\"");
    let table = text(&answer.body);
    let mut lines = table.split_terminator("\r\n");
    let names: Vec<_> = lines.next().unwrap().split(',').collect();
    let rows: Vec<BTreeMap<_, _>> = lines.map(|line| names.iter().copied().zip(line.split(',')).collect()).collect();
    let costs: Usd = rows.iter().map(|row| Usd::parse(row["cost"]).unwrap()).sum();
    assert_eq!(costs, usd(&json["data"]["totalCost"]));
    let keys: BTreeSet<_> =
        rows.iter().map(|row| ["date", "provider", "model", "requestType"].map(|name| row[name])).collect();
    assert_eq!(keys.len(), rows.len());
    let inside = entries.iter().filter(|entry| {
        entry.user_id == "ana" && (at("2026-08-31T23:00:00Z")..at("2026-11-01T00:00:00Z")).contains(&entry.started_at)
    });
    let expected: BTreeSet<_> = inside
        .map(|entry| {
            [
                entry.started_at.to_string()[..10].to_owned(),
                entry.provider.as_str().to_owned(),
                entry.model.clone(),
                entry.request_type.clone(),
            ]
        })
        .collect();
    assert_eq!(keys.iter().map(|key| key.map(str::to_owned)).collect::<BTreeSet<_>>(), expected);
    Ok(())
}

#[tokio::test]
async fn savings_are_what_the_cheapest_of_the_role_would_have_cost() -> Result<()> {
    let app = App::start().await?;
    let env = Env::from_pairs(app.env().clone());
    let catalogue = catalogue(&env).unwrap();
    let usage = TokenUsage { input_tokens: 12_345, cached_input_tokens: 1_000, output_tokens: 678 };
    let moment = at("2026-11-21T10:00:00Z");
    let price = |provider, model| catalogue.price(provider, model, moment).unwrap().cost(usage);
    let dear = LedgerEntry { usage, cost: price(Provider::Azure, "gpt-4-turbo"), ..entry(0, "ana", moment) };
    assert_eq!((dear.model.as_str(), dear.request_type.as_str()), ("gpt-4-turbo", "content_planning"));
    project(&app, std::slice::from_ref(&dear)).await?;
    let request = || breakdown(&Session::user("ana"), "2026-11-21", "2026-11-22");
    let data = &ok(&app.function("costs-breakdown")?, request()).await?["data"];
    let saving = dear.cost - price(Provider::OpenAi, "gpt-4o");
    assert_eq!(usd(&data["savings"]["potentialSavings"]), saving);
    let said = text(&data["savings"]["optimizationRecommendations"][0]);
    assert!(said.starts_with("Asking gpt-4o of openai first for content_planning"), "{said}");
    // Where only Azure can be asked, nothing else would have been cheaper.
    let app = app.unset("OPENAI_API_KEY");
    let data = &ok(&app.function("costs-breakdown")?, request()).await?["data"];
    assert_eq!(
        (&data["savings"]["potentialSavings"], &data["savings"]["optimizationRecommendations"]),
        (&json!(0.0), &json!([]))
    );
    Ok(())
}

#[tokio::test]
async fn bad_ranges_and_pages_are_refused_by_name() -> Result<()> {
    let app = App::start().await?;
    let function = app.function("costs-breakdown")?;
    let base = || Request::get(BREAKDOWN).bearer(&Session::user("ana").v4());
    let good = || breakdown(&Session::user("ana"), "2026-11-01", "2026-11-02");
    for (request, named) in [
        (base(), &["startDate", "endDate"][..]),
        (base().query("startDate", "2026-11-01"), &["endDate"]),
        (base().query("endDate", "2026-11-01").query("limit", "0"), &["startDate", "limit"]),
        (breakdown(&Session::user("ana"), "yesterday", "2026-02-30"), &["startDate", "endDate"]),
        (breakdown(&Session::user("ana"), "2026-11-02", "2026-11-01"), &["endDate"]),
        (breakdown(&Session::user("ana"), "2026-11-02", "2026-11-02"), &["endDate"]),
        (breakdown(&Session::user("ana"), "2026-01-01", "2026-04-02"), &["endDate"]),
        (breakdown(&Session::user("ana"), "0001-01-01", "9999-12-31"), &["startDate", "endDate"]),
        (good().query("startDate", "2026-11-01"), &["startDate"]),
        (good().query("limit", "101"), &["limit"]),
        (good().query("limit", "x").query("cursor", "!"), &["cursor", "limit"]),
        (good().query("cursor", "AAAA"), &["cursor"]),
        (good().query("userId", "a b"), &["userId"]),
    ] {
        let response = function.http(request.clone()).await?;
        assert_eq!((response.status, &response.body["code"]), (400, &json!("invalid_request")), "{request:?}");
        let errors = response.body["errors"].as_array().unwrap();
        assert_eq!(errors.iter().map(|error| text(&error["pointer"])).collect::<Vec<_>>(), named, "{}", response.body);
    }
    assert_eq!(function.http(breakdown(&Session::user("ana"), "2026-01-01", "2026-04-01")).await?.status, 200);

    let stats = app.function("costs-stats")?;
    let response =
        stats.http(Request::get(STATS).bearer(&Session::admin("root").v4()).query("includeUsers", "yes")).await?;
    assert_eq!((response.status, &response.body["errors"][0]["pointer"]), (400, &json!("includeUsers")));
    Ok(())
}

#[tokio::test]
async fn another_users_costs_need_a_role() -> Result<()> {
    let app = App::start().await?;
    let (costs, stats) = (app.function("costs-breakdown")?, app.function("costs-stats")?);
    let both = |session: &Session| {
        [(&costs, breakdown(session, "2026-11-01", "2026-11-02")), (&stats, Request::get(STATS).bearer(&session.v4()))]
    };
    for (session, status) in [
        (Session::user("ana"), 403),
        (Session::user("ana").role("creator"), 403),
        (Session::user("ana").role("administrator"), 403),
        (Session::admin("root"), 200),
        (Session::user("root").role("super_admin"), 200),
    ] {
        for (function, request) in both(&session) {
            let response = function.http(request.query("userId", "bob")).await?;
            assert_eq!(response.status, status, "{session:?} {}", response.body);
        }
        let users = stats.http(Request::get(STATS).bearer(&session.v4()).query("includeUsers", "true")).await?;
        assert_eq!(users.status, status, "{session:?}");
        assert_eq!(users.body["data"]["realTime"]["topUsers"].is_array(), status == 200);
    }
    for (function, path) in [(&costs, BREAKDOWN), (&stats, STATS)] {
        assert_eq!(function.http(Request::get(path)).await?.status, 401);
    }
    for (function, request) in both(&Session::user("ana")) {
        assert_eq!(function.http(request.query("userId", "ana")).await?.status, 200);
    }
    Ok(())
}

/// Entries of now, of earlier today and of earlier in the month, as far as there is an earlier, and of the month before.
fn until(now: Timestamp) -> Vec<LedgerEntry> {
    let back = [0, 1, 3_599, 3_600, 7_200, 86_400, 3 * 86_400, 32 * 86_400];
    let moments = back.map(|seconds| now - SignedDuration::from_secs(seconds)).into_iter().cycle().take(64);
    moments.enumerate().map(|(n, moment)| entry(n, USERS[n / 8 % 3], moment)).collect()
}

#[tokio::test]
async fn stats_show_where_costs_stand_to_the_last_digit() -> Result<()> {
    let app = App::start().await?;
    let entries = until(now());
    project(&app, &entries).await?;
    let function = app.function("costs-stats")?;
    for user in [None, Some("ana"), Some("bob"), Some("nobody")] {
        let session = user.map_or_else(|| Session::admin("root"), Session::user);
        let body = ok(&function, Request::get(STATS).bearer(&session.v4())).await?;
        let at = text(&body["metadata"]["timestamp"]);
        assert_eq!(body["metadata"]["refreshInterval"], 60);
        let own: Vec<_> = entries.iter().filter(|entry| user.is_none_or(|user| entry.user_id == user)).collect();
        let within = |length: usize| -> Vec<&LedgerEntry> {
            own.iter().copied().filter(|entry| entry.started_at.to_string()[..length] == at[..length]).collect()
        };
        let (month, day, hour) = (within(7), within(10), within(13));
        let of = |entries: &[&LedgerEntry], provider| {
            sum(entries.iter().filter(|entry| entry.provider == provider).collect::<Vec<_>>())
        };
        let data = &body["data"];
        assert_eq!(usd(&data["realTime"]["todayTotal"]), sum(&day));
        assert_eq!(usd(&data["realTime"]["thisHourTotal"]), sum(&hour));
        assert_eq!(usd(&data["monthly"]["totalCost"]), sum(&month));
        for provider in Provider::ALL {
            assert_eq!(usd(&data["realTime"]["providerBreakdown"][provider.as_str()]), of(&day, provider));
            assert_eq!(usd(&data["monthly"]["providers"][provider.as_str()]), of(&month, provider));
        }
        assert_eq!(usd(&data["monthly"]["savings"]), month.iter().map(|entry| entry.saved).sum());
        assert_eq!(data["monthly"]["daysInMonth"], Month::at(self::at(at)).days());
        let parts = |text: &str, more: u64| NonZeroU64::new(text.parse::<u64>().unwrap() + more).unwrap();
        assert_eq!(usd(&data["trends"]["dailyAverage"]), sum(&month).divided_by(parts(&at[8..10], 0)));
        assert_eq!(usd(&data["trends"]["hourlyAverage"]), sum(&day).divided_by(parts(&at[11..13], 1)));
        let ratio = &data["trends"]["providerRatio"];
        let whole = if month.is_empty() { "0" } else { "1" };
        assert_eq!(usd(&ratio["azure"]) + usd(&ratio["openai"]), Usd::parse(whole)?);
        assert!(data["realTime"].get("topUsers").is_none());
    }
    Ok(())
}

#[tokio::test]
async fn stats_show_administrators_who_spent_most_today() -> Result<()> {
    let app = App::start().await?;
    let moment = now();
    let entries: Vec<_> = (0..60).map(|n| entry(n, &format!("user-{:02}", n % 15), moment)).collect();
    project(&app, &entries).await?;
    let request = Request::get(STATS).bearer(&Session::admin("root").v4()).query("includeUsers", "true");
    let body = ok(&app.function("costs-stats")?, request).await?;
    let mut users: Vec<_> = by(&entries.iter().collect::<Vec<_>>(), |entry| entry.user_id.clone())
        .into_iter()
        .map(|(user, of)| (user, sum(&of)))
        .collect();
    users.sort_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then(a.cmp(b)));
    let expected: Vec<_> = users.into_iter().take(10).collect();
    let shown = body["data"]["realTime"]["topUsers"].as_array().unwrap().iter();
    let shown: Vec<_> = shown.map(|user| (text(&user["userId"]).to_owned(), usd(&user["cost"]))).collect();
    // Where midnight has come since, nobody has spent anything today.
    if text(&body["metadata"]["timestamp"])[..10] == moment.to_string()[..10] {
        assert_eq!(shown, expected);
    }
    Ok(())
}

#[tokio::test]
async fn a_threshold_that_is_near_or_reached_is_said() -> Result<()> {
    let app = App::start().await?;
    let function = app.function("costs-stats")?;
    let moment = now();
    let spend = async |n: usize, dollars: &str| -> Result<[String; 4]> {
        let cost = Usd::parse(dollars)?;
        project(&app, &[LedgerEntry { cost, ..entry(n, "ana", moment) }]).await?;
        let own = ok(&function, Request::get(STATS).bearer(&Session::user("ana").v4())).await?;
        let all = ok(&function, Request::get(STATS).bearer(&Session::admin("root").v4())).await?;
        let alerts = [&own, &all].map(|body| body["data"]["alerts"].clone());
        let names = ["todayThresholdStatus", "monthlyThresholdStatus"];
        Ok([(0, 0), (0, 1), (1, 0), (1, 1)].map(|(who, name)| text(&alerts[who][names[name]]).to_owned()))
    };
    // A user's five dollars a day and hundred a month, everyone's fifty and five hundred.
    assert_eq!(spend(0, "3.99").await?, ["normal", "normal", "normal", "normal"]);
    assert_eq!(spend(1, "0.01").await?, ["warning", "normal", "normal", "normal"]);
    assert_eq!(spend(2, "1").await?, ["critical", "normal", "normal", "normal"]);
    assert_eq!(spend(3, "75").await?, ["critical", "warning", "critical", "normal"]);
    assert_eq!(spend(4, "320").await?, ["critical", "critical", "critical", "warning"]);
    Ok(())
}

#[tokio::test]
async fn what_was_spent_is_one_read_and_everyones_months_are_eight() -> Result<()> {
    let meter_target = |app: &App| app.env()["AWS_ENDPOINT_URL"].clone();
    let app = App::start().await?;
    let moment = now();
    let entries = until(moment);
    project(&app, &entries).await?;
    let meter = Meter::to(&meter_target(&app)).await?;
    let app = app.set("AWS_ENDPOINT_URL_DYNAMODB", meter.url());
    let ledger = ledger_of(&app)?;
    let ana = UserId::parse("ana")?;

    let spend = ledger.spend(&ana, moment).await?;
    let read = meter.take();
    assert_eq!(read.len(), 1, "{read:?}");
    assert_eq!(read[0].operation, "BatchGetItem");
    let name = moment.to_string();
    for (whose, user) in [(spend.user, Some("ana")), (spend.global, None)] {
        for (spent, length) in [(whose.hour, 13), (whose.day, 10), (whose.month, 7)] {
            let of = |provider: Option<Provider>| -> Usd {
                let counted = entries.iter().filter(|entry| {
                    user.is_none_or(|user| entry.user_id == user)
                        && provider.is_none_or(|provider| entry.provider == provider)
                        && entry.started_at.to_string()[..length] == name[..length]
                });
                counted.map(|entry| entry.cost).sum()
            };
            assert_eq!(
                (spent.azure, spent.openai),
                (of(Some(Provider::Azure)), of(Some(Provider::OpenAi))),
                "{user:?} {length}"
            );
            assert_eq!((spent.of(None), spent.total()), (of(None), of(None)));
        }
    }

    let users = ledger.users_of_month(Month::at(moment)).await?;
    assert_eq!(meter.take().iter().filter(|passed| passed.operation == "Query").count(), 8);
    let month: Vec<_> = entries.iter().filter(|entry| Month::at(entry.started_at) == Month::at(moment)).collect();
    let expected: BTreeMap<_, _> =
        by(&month, |entry| entry.user_id.clone()).into_iter().map(|(user, of)| (user, sum(&of))).collect();
    assert_eq!(
        users.iter().map(|user| (user.user.to_string(), user.spent.total())).collect::<BTreeMap<_, _>>(),
        expected
    );
    for user in users {
        assert_eq!(user.days.values().copied().sum::<Usd>(), user.spent.total());
    }
    Ok(())
}

/// The roll-ups of entries as they stand when all are projected, as items of the table.
pub(crate) fn rolled_up(entries: &[LedgerEntry]) -> Vec<Map<String, Value>> {
    let mut sums: BTreeMap<Key, Rollup> = BTreeMap::new();
    for (key, rollup) in entries.iter().flat_map(rollups_of) {
        *sums.entry(key).or_default() += &rollup;
    }
    let item = |(key, rollup): (Key, Rollup)| {
        let numbers = rollup.attributes().map(|(name, number)| (name, json!({ "N": number })));
        let key = [("id".to_owned(), json!({ "S": key.id })), ("timestamp".to_owned(), json!({ "S": key.timestamp }))];
        key.into_iter().chain(numbers).collect()
    };
    sums.into_iter().map(item).collect()
}

/// So many entries over 90 days and a bit, such that the first 1,000 are in every roll-up that the others are in.
fn over_90_days(count: usize) -> Vec<LedgerEntry> {
    // The hours at both ends of the range that is asked for, and one between.
    let hours = [0, 1, 12, 22, 23];
    let entry = |n: usize| {
        // 91 days, 8 shards: 728 entries fill every day of everyone's. The hours of the days at both ends are filled by the next 80.
        let (day, shard, hour) = match n {
            728..808 => ((n % 2) * 90, (n - 728) / 10, hours[(n - 728) / 2 % 5]),
            _ => (n % 91, n / 91 % 8, hours[n / 728 % 5]),
        };
        let moment = at("2026-08-20T00:00:00Z") + SignedDuration::from_hours(24 * day as i64 + hour);
        let entry = entry(n, USERS[n % 3], moment);
        LedgerEntry { id: format!("wf_{n}_{}.1", shard_letter(n, shard)), ..entry }
    };
    (0..count).map(entry).collect()
}

/// A letter that brings the id of the `n`th entry into a shard.
pub(crate) fn shard_letter(n: usize, shard: usize) -> char {
    let of = |letter: char| format!("wf_{n}_{letter}.1").bytes().map(usize::from).sum::<usize>() % 8;
    ('a'..='h').find(|letter| of(*letter) == shard).unwrap()
}

#[tokio::test]
async fn the_rollups_that_are_put_are_those_of_the_entries_one_by_one() -> Result<()> {
    let (one, other) = (App::start().await?, App::start().await?);
    let entries = around_borders();
    project(&one, &entries).await?;
    other.stores.put_cost_items(&rolled_up(&entries)).await?;
    let items = async |app: &App| -> Result<BTreeMap<[String; 2], BTreeMap<String, Usd>>> {
        let (_, rollups) = entries_and_rollups(app.stores.cost_items().await?);
        let read = rollups.iter().map(|item| {
            let numbers =
                item.as_object().unwrap().iter().filter(|(name, _)| !["id", "timestamp"].contains(&name.as_str()));
            let numbers = numbers.map(|(name, number)| (name.clone(), usd(number))).collect();
            (["id", "timestamp"].map(|name| text(&item[name]).to_owned()), numbers)
        });
        Ok(read.collect())
    };
    let (one, other) = (items(&one).await?, items(&other).await?);
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (key, numbers) in one {
        assert_eq!(numbers, other[&key], "{key:?}");
    }
    Ok(())
}

#[tokio::test]
async fn ninety_days_are_the_same_reads_with_twenty_times_the_entries() -> Result<()> {
    let mut reads: Vec<Vec<Vec<Passed>>> = Vec::new();
    for count in [1_000, 20_000] {
        let app = App::start().await?;
        let entries = over_90_days(count);
        app.stores.put_cost_items(&rolled_up(&entries)).await?;
        let meter = Meter::to(&app.env()["AWS_ENDPOINT_URL"]).await?;
        let app = app.set("AWS_ENDPOINT_URL_DYNAMODB", meter.url());
        let (costs, stats) = (app.function("costs-breakdown")?, app.function("costs-stats")?);
        let mut of_count = Vec::new();
        for user in [Some("ana"), None] {
            let session = user.map_or_else(|| Session::admin("root"), Session::user);
            let (start, end) = ("2026-08-20T22:30:00Z", "2026-11-18T01:30:00Z");
            let body = ok(&costs, breakdown(&session, start, end)).await?;
            let hours = at("2026-08-20T22:00:00Z")..at("2026-11-18T02:00:00Z");
            let own = entries.iter().filter(|entry| user.is_none_or(|user| entry.user_id == user));
            let own = own.filter(|entry| hours.contains(&entry.started_at));
            assert_eq!(usd(&body["data"]["totalCost"]), own.map(|entry| entry.cost).sum());
            of_count.push(meter.take());
            ok(&stats, Request::get(STATS).bearer(&session.v4())).await?;
            of_count.push(meter.take());
        }
        ok(&stats, Request::get(STATS).bearer(&Session::admin("root").v4()).query("includeUsers", "true")).await?;
        of_count.push(meter.take());
        of_count.iter_mut().for_each(|passed| passed.sort());
        reads.push(of_count);
    }
    assert_eq!(reads[0], reads[1]);
    let queries: Vec<_> = reads[0].iter().map(Vec::len).collect();
    // A user: a query for each of four months and for a day in part at either end. Everyone: of each of eight shards, and the users
    // of each shard and month. Where costs stand: one read, and the owner's thresholds.
    assert_eq!(queries, [6, 2, 6 * 8 + 4 * 8, 2, 2 + 8]);
    Ok(())
}
