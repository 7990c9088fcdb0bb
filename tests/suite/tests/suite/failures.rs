//! docs/failures.md: what a client sees of each failure, what is tried again, what it costs. Each row is played over the wire,
//! with the time limits and waits of production.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use huntaze_domain::money::Usd;
use huntaze_tests::post::batch_of;
use huntaze_tests::{App, Response};
use huntaze_world::{Fault, FilterStage, Provider};
use serde_json::{Value, json};

use crate::support::{brief, campaign, closed_port, status_of, text, usd};

/// How many rows are played at once: most of their time is waiting.
const SIDE_BY_SIDE: usize = 12;
/// The gateway's patience; no row may take longer.
const GATEWAY: f64 = 30.0;
/// The time-out of the queue's consumer.
const CONSUMER: Duration = Duration::from_secs(60);

/// What a provider does in a row.
enum Play {
    /// To every call.
    Always(Fault),
    /// To the first call.
    Once(Fault),
    /// Nobody listens.
    Gone,
}

struct Row {
    what: String,
    /// Who misbehaves: the first that is asked.
    who: Provider,
    play: Play,
    /// Whether the other provider may be asked.
    forced: bool,
    /// Whether the other misbehaves as well.
    both: bool,
}

impl Row {
    fn new(what: &str, who: Provider, play: Play) -> Self {
        Self { what: what.to_owned(), who, play, forced: false, both: false }
    }

    fn forced(self) -> Self {
        Self { what: format!("{}, `forceProvider`", self.what), forced: true, ..self }
    }
}

fn name(provider: Provider) -> &'static str {
    match provider {
        Provider::Azure => "azure",
        Provider::OpenAi => "openai",
        Provider::Slack => "slack",
        Provider::OnlyFans => "onlyfans",
        Provider::Legacy => "legacy",
    }
}

fn status(status: u16, body: Option<Value>, headers: &[(&str, &str)]) -> Fault {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Fault::Status { status, body, headers }
}

fn rate_limited(message: &str, headers: &[(&str, &str)]) -> Fault {
    // The services' own 429 says when to come again; here only what the row says does.
    let silent = [
        ("retry-after", ""),
        ("retry-after-ms", ""),
        ("x-ratelimit-reset-requests", ""),
        ("x-ratelimit-reset-tokens", ""),
    ];
    let mut all: BTreeMap<_, _> = silent.into();
    all.extend(headers.iter().copied());
    let all: Vec<_> = all.into_iter().collect();
    status(429, Some(json!({"error": {"code": "429", "message": message}})), &all)
}

/// A text with what only Azure adds to it.
fn unfiltered() -> Value {
    let error = json!({"error": {"code": "content_filter_error", "message": "The contents are not filtered"}});
    json!({
        "choices": [{"message": {"content": "A week of summer."}, "finish_reason": "stop", "content_filter_results": error}],
        "usage": {"prompt_tokens": 250, "completion_tokens": 5, "total_tokens": 255},
    })
}

fn rows() -> Vec<Row> {
    use Play::{Always, Gone, Once};
    let mut rows = Vec::new();
    for who in [Provider::Azure, Provider::OpenAi] {
        let mut row = |what: &str, play: Play| rows.push(Row::new(what, who, play));
        row("refuses connections", Gone);
        row("resets the connection before the headers", Always(Fault::Reset));
        row("cuts the connection after the headers", Always(Fault::Truncate));
        row("cuts the connection after the headers, once", Once(Fault::Truncate));
        row("hangs", Always(Fault::Hang));
        row("drips a byte every 2 s", Always(Fault::Drip { ms: 2_000 }));
        row("500", Always(Fault::status(500)));
        row("500, once", Once(Fault::status(500)));
        row("503 with `Retry-After: 20`", Always(status(503, None, &[("retry-after", "20")])));
        row("504", Always(Fault::status(504)));
        row("408", Always(Fault::status(408)));
        row("429", Always(Fault::rate_limited(20)));
        row(
            "429 `insufficient_quota`",
            Always(status(429, Some(json!({"error": {"code": "insufficient_quota"}})), &[])),
        );
        row("400", Always(Fault::status(400)));
        row("401", Always(Fault::status(401)));
        row("404", Always(Fault::status(404)));
        row("200 that is not JSON", Always(Fault::Garbage));
        row("200 with absurd JSON", Always(Fault::Raw { body: format!("{{\"choices\":{}1e9999", "[".repeat(5_000)) }));
        row("200 of 5 MB", Always(Fault::Flood { bytes: 5_000_000 }));
        row("200 without choices", Always(Fault::EmptyChoices));
        let inside = json!({"error": {"code": "server_error", "message": "The server had an error"}});
        row("200 with an error inside", Always(status(200, Some(inside), &[])));
        row("filters the prompt", Always(Fault::ContentFilter { stage: FilterStage::Prompt }));
        row("filters the text", Always(Fault::ContentFilter { stage: FilterStage::Completion }));
        row("model declines (`refusal`)", Always(Fault::Refusal));
        row("text met its bound (`length`)", Always(Fault::text("word ".repeat(4_000))));
        row("says nothing about usage", Always(Fault::NoUsage));
        let usage =
            |prompt_tokens, completion_tokens| Fault::Usage { prompt_tokens, completion_tokens, cached_tokens: 0 };
        row("says it used no tokens", Always(usage(0, 0)));
        row("says it used a million tokens", Always(usage(1_000_000, 1_000_000)));
        let mut forced = |what: &str, play: Play| rows.push(Row::new(what, who, play).forced());
        forced("500", Always(Fault::status(500)));
        forced("hangs", Always(Fault::Hang));
        forced("429 with `retry-after: 3`, once", Once(rate_limited("", &[("retry-after", "3")])));
        let date = [("date", "Sat, 21 Nov 2026 10:00:00 GMT"), ("retry-after", "Sat, 21 Nov 2026 10:00:03 GMT")];
        forced("429 with `retry-after` as a date 3 s on, once", Once(rate_limited("", &date)));
        forced("429 with `retry-after-ms: 2600`, once", Once(rate_limited("", &[("retry-after-ms", "2600")])));
        forced(
            "429 with `x-ratelimit-reset-requests: 3s`, once",
            Once(rate_limited("", &[("x-ratelimit-reset-requests", "3s")])),
        );
        forced(
            "429 with `x-ratelimit-reset-tokens: 2700ms`, once",
            Once(rate_limited("", &[("x-ratelimit-reset-tokens", "2700ms")])),
        );
        forced(
            "429 that says \"retry after 3 seconds\", once",
            Once(rate_limited("Please retry after 3 seconds.", &[])),
        );
        forced("429 that says nothing, once", Once(rate_limited("", &[])));
        forced("429 with `retry-after: 60`", Always(rate_limited("", &[("retry-after", "60")])));
    }
    let filter_failed = status(200, Some(unfiltered()), &[]);
    rows.push(Row::new("`content_filter_error`: its filter did not run", Provider::Azure, Always(filter_failed)));
    for (what, fault) in
        [("both: 500", Fault::status(500)), ("both: hang", Fault::Hang), ("both: 429", Fault::rate_limited(20))]
    {
        rows.push(Row { both: true, ..Row::new(what, Provider::Azure, Always(fault)) });
    }
    rows
}

/// A row as it stands in the table: its cells, the time apart.
struct Played {
    cells: Vec<String>,
    seconds: f64,
}

async fn play(row: Row) -> Result<Played> {
    let limits = [("AZURE_TIMEOUT_MS", "45000"), ("OPENAI_TIMEOUT_MS", "30000"), ("REQUEST_DEADLINE_MS", "28000")];
    let mut app = limits.into_iter().fold(App::start().await?, |app, (name, value)| app.set(name, value));
    match row.play {
        Play::Gone if row.who == Provider::Azure => {
            app = app.set("AZURE_OPENAI_ENDPOINT", format!("http://{}", closed_port()?))
        }
        Play::Gone => app = app.set("OPENAI_BASE_URL", format!("http://{}/v1", closed_port()?)),
        Play::Always(fault) if row.both => app.world.fault(fault.on_any().always()),
        Play::Always(fault) => app.world.fault(fault.on(row.who).always()),
        Play::Once(fault) => app.world.fault(fault.on(row.who)),
    }
    // Each provider is the first that is asked for its own kind of text.
    let kind = if row.who == Provider::Azure { "content_planning" } else { "message_generation" };
    let mut body = brief(kind, &["onlyfans"]);
    if row.forced {
        body["forceProvider"] = json!(name(row.who));
    }
    let hybrid = app.function("campaigns-hybrid")?;
    hybrid.ready().await?;
    let started = std::time::Instant::now();
    let answer = hybrid.http(campaign("ana", &body)).await?;
    let seconds = started.elapsed().as_secs_f64();
    ensure!(seconds < GATEWAY, "{}: {seconds} s", row.what);
    let id = ["/data/workflowId", "/workflowId"].iter().find_map(|place| answer.body.pointer(place)).map(text);
    let id = id.with_context(|| format!("{}: {}", row.what, answer.body))?;
    let due = "SELECT due_at <= now() AS now, due_at <= now() + interval '10 seconds' AS soon
               FROM orchestrator.workflows WHERE id = $1 AND due_at IS NOT NULL";
    // What is due within moments is taken up; what a provider wants to be asked later is left. Behind the client's back a hanging
    // provider is only waited for: its time is scaled down.
    let app = app.set("AZURE_TIMEOUT_MS", "4000").set("OPENAI_TIMEOUT_MS", "4000");
    let hint = batch_of(&json!({"workflowId": id}).to_string(), 1);
    let mut turns = 0;
    // What is answered is not due: there is nothing to be taken up.
    while let Some(state) = app.stores.rows(due, &[&id]).await?.pop().filter(|row| row["soon"] == true) {
        if state["now"] == false {
            // Seconds at the most.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        turns += 1;
        ensure!(turns < 10, "{}: it has no end", row.what);
        let taken = app.function("workflow-consumer")?.invoke(&hint, CONSUMER).await?;
        ensure!(taken == json!({"batchItemFailures": []}), "{}: {taken}", row.what);
    }
    let later = turns > 0;
    let view = app.function("campaigns-status")?.http(status_of("ana", id)).await?.body["data"].take();
    // What was reserved is settled, whatever happened.
    let held = "SELECT attempt_id FROM orchestrator.reservations WHERE settled_at IS NULL";
    ensure!(app.stores.rows(held, &[]).await?.is_empty(), "{}: a reservation is left", row.what);
    if row.forced {
        ensure!(app.world.calls().iter().all(|call| call.provider == row.who), "{}: another was asked", row.what);
    }
    // A refusal is reported, never retried on the other provider.
    if answer.status == 422 {
        ensure!(app.world.calls().len() == 1, "{}: {:?}", row.what, app.world.calls());
    }
    let who = if row.both { "both" } else { name(row.who) };
    let what = row.what.trim_start_matches("both: ").to_owned();
    let seen = if later { format!("{}; {}", seen(&answer), ended(&view)) } else { seen(&answer) };
    let cells = vec![who.to_owned(), what, seen, tried(&view)?, cost(&view)?];
    Ok(Played { cells, seconds })
}

fn seen(answer: &Response) -> String {
    let retry_after = Some(answer.header("retry-after")).filter(|wait| !wait.is_empty());
    let retry_after = retry_after.map(|wait| format!(", `Retry-After: {wait}`")).unwrap_or_default();
    if answer.status == 200 {
        let cut = if answer.body["data"]["contents"][0]["truncated"] == true { ", marked as cut" } else { "" };
        return format!("200, text of {}{cut}", text(&answer.body["data"]["provider"]));
    }
    if answer.status == 202 {
        // The moment at which the workflow is due is seconds away, more or less.
        let soon = answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds <= 6);
        return if soon { "202".to_owned() } else { "202, due as told".to_owned() };
    }
    format!("{} `{}`{retry_after}", answer.status, text(&answer.body["code"]))
}

/// What the status route said of it in the end.
fn ended(view: &Value) -> String {
    match view["error"]["code"].as_str() {
        None if view["status"] == "queued" => "begun anew when the outage may be over".to_owned(),
        None => format!("{}, text of {}", text(&view["status"]), text(&view["detailedCosts"]["provider"])),
        Some(code) => format!("{} `{code}`", text(&view["status"])),
    }
}

/// The course of the calls: who, how each ended, and the waits between.
fn tried(view: &Value) -> Result<String> {
    let (attempts, decisions) = (list(&view["attempts"])?, list(&view["decisions"])?);
    let mut course = String::new();
    for attempt in attempts {
        let decision = decisions.iter().find(|decision| decision["attempt"] == attempt["id"]);
        let decision = decision.with_context(|| format!("no decision led to {attempt}"))?;
        let end = attempt["failure"].as_str().unwrap_or("answered");
        match text(&decision["action"]) {
            _ if decision["reason"] == "handed_over" => {
                write!(course, ", later {}: {end}", text(&attempt["provider"]))?
            }
            "retry" => write!(course, ", again after {}: {end}", wait(&decision["waitMs"]))?,
            "fall_back" => write!(course, ", then {}: {end}", text(&attempt["provider"]))?,
            _ => write!(course, "{}: {end}", text(&attempt["provider"]))?,
        }
    }
    Ok(course)
}

/// A wait by its rule: the contract's 1, 2 and 5 s are spread by a fifth.
fn wait(millis: &Value) -> String {
    let millis = millis.as_u64().unwrap_or(0);
    match [1_000, 2_000, 5_000].into_iter().find(|nominal| (nominal * 4 / 5..=nominal * 6 / 5).contains(&millis)) {
        Some(nominal) => format!("{} s", nominal / 1_000),
        None => format!("{millis} ms as told"),
    }
}

fn cost(view: &Value) -> Result<String> {
    let (mut known, mut bound) = (Usd::ZERO, Usd::ZERO);
    for attempt in list(&view["attempts"])? {
        let into = if attempt["estimated"] == true { &mut bound } else { &mut known };
        *into = *into + usd(&attempt["cost"]);
    }
    ensure!(usd(&view["cost"]["total"]) == known + bound, "{view}");
    Ok(match (known == Usd::ZERO, bound == Usd::ZERO) {
        (true, true) => "0".to_owned(),
        (false, true) => format!("${known}"),
        (true, false) => format!("${bound} at the bound"),
        (false, false) => format!("${known} and ${bound} at the bound"),
    })
}

fn list(value: &Value) -> Result<&Vec<Value>> {
    value.as_array().with_context(|| format!("no list: {value}"))
}

const HEAD: &str = "| who | fails how | the client saw | tried | booked | s |\n|---|---|---|---|---|---|\n";

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/failures.md")
}

/// The rows of a table without their last cell, the time, which no two runs share.
fn timeless(page: &str) -> Vec<String> {
    let table = page.split_once(HEAD).map_or("", |(_, table)| table);
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    rows.filter_map(|line| Some(line.trim_end_matches('|').rsplit_once('|')?.0.trim().to_owned())).collect()
}

#[tokio::test]
async fn every_row_of_the_table_of_failures_is_true() -> Result<()> {
    let in_its_place = async |(place, row)| Ok::<_, anyhow::Error>((place, play(row).await?));
    let playing = stream::iter(rows().into_iter().enumerate()).map(in_its_place).buffer_unordered(SIDE_BY_SIDE);
    let played: BTreeMap<_, _> = playing.try_collect().await?;
    let mut table = HEAD.to_owned();
    for Played { cells, seconds } in played.into_values() {
        writeln!(table, "| {} | {seconds:.1} |", cells.join(" | "))?;
    }
    let page = fs::read_to_string(page())?;
    // `make failures` asks for the page to be written anew.
    if std::env::var_os("WRITE_FAILURES").is_some() {
        let (before, _) = page.split_once(HEAD).context("docs/failures.md has lost its table")?;
        fs::write(self::page(), format!("{before}{table}"))?;
        return Ok(());
    }
    let (told, true_now) = (timeless(&page), timeless(&table));
    let differing: Vec<_> = true_now.iter().filter(|row| !told.contains(row)).collect();
    assert!(told == true_now, "docs/failures.md is not true any more (`make failures` writes it): {differing:#?}");
    Ok(())
}

#[tokio::test]
async fn a_decision_stands_in_the_log_the_row_and_the_status() -> Result<()> {
    let app = App::start().await?;
    app.world.fault(Fault::rate_limited(20).on(Provider::Azure));
    let hybrid = app.function("campaigns-hybrid")?;
    let answer = hybrid.http(campaign("ana", &brief("content_planning", &["onlyfans"]))).await?;
    let id = text(&answer.body["data"]["workflowId"]);
    let view = app.function("campaigns-status")?.http(status_of("ana", id)).await?.body["data"].take();
    let reasons: Vec<_> = list(&view["decisions"])?.iter().map(|d| (text(&d["action"]), text(&d["reason"]))).collect();
    assert_eq!(reasons, [("call", "first_of_role"), ("fall_back", "rate_limited")]);
    assert_eq!(view["decisions"][1]["noRetry"], "another_provider_is_left");
    let row = app.stores.row("SELECT decisions FROM orchestrator.workflows WHERE id = $1", &[&id]).await?;
    assert_eq!(row["decisions"], view["decisions"]);
    let logged = huntaze_tests::eventually(Duration::from_secs(10), async || {
        let lines: Vec<Value> = hybrid.logs().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let decided: Vec<_> = lines.into_iter().filter(|line| line["message"] == "decided").collect();
        ensure!(decided.len() == 2, "{decided:?}");
        Ok(decided)
    })
    .await?;
    assert_eq!((&logged[1]["action"], &logged[1]["reason"]), (&json!("fall_back"), &json!("rate_limited")));
    Ok(())
}
