//! What reading costs takes with 1,000 and with 1,000,000 entries over the same 90 days: time, and reads on the wire.

use std::collections::BTreeMap;
use std::io::{Write as _, stdout};

use anyhow::{Context as _, ensure};
use huntaze_costs::ledger::LedgerEntry;
use huntaze_costs::rollup::{Key, Rollup, rollups_of};
use huntaze_domain::money::Usd;
use huntaze_domain::provider::{Provider, TokenUsage};
use huntaze_tests::{App, Function, Meter, Passed, Request, Session};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::heading;
use crate::stats::Sample;
use crate::subject::Subject;

const FEW: usize = 1_000;
const MANY: usize = 1_000_000;
/// Warm invocations of each question on each side.
const ROUNDS: usize = 100;
const WARM_UP: usize = 5;

/// 90 days less two hours and a half, so that a day at either end is in it in part.
const RANGE: (&str, &str) = ("2026-08-20T22:30:00Z", "2026-11-18T01:30:00Z");
const FIRST_DAY: &str = "2026-08-20T00:00:00Z";
const DAYS: usize = 91;
const SHARDS: usize = 8;
const USERS: [&str; 3] = ["ana", "bob", "cyd"];
const MODELS: [(Provider, &str); 3] =
    [(Provider::Azure, "gpt-4-turbo"), (Provider::OpenAi, "gpt-4o"), (Provider::OpenAi, "gpt-4o-mini")];
const TYPES: [&str; 2] = ["content_planning", "message_generation"];

/// Stores with the roll-ups of so many entries.
struct Side {
    app: App,
    meter: Meter,
    items: usize,
}

/// One request that is measured on both sides.
struct Question {
    name: &'static str,
    function: &'static str,
    request: Request,
}

/// What a question took on one side.
struct Taken {
    took: Sample,
    reads: Vec<Passed>,
}

pub(crate) async fn run() -> anyhow::Result<()> {
    let (few, many) = (Side::new(FEW).await?, Side::new(MANY).await?);
    let mut table = format!(
        "| | {FEW} entries, p50 / p99 | {MANY} entries, p50 / p99 | reads | items read | the same |\n|---|---:|---:|---:|---:|---|\n"
    );
    for question in questions() {
        let (of_few, of_many) = question.measure(&few, &many).await?;
        let items = |taken: &Taken| taken.reads.iter().map(|passed| passed.items).sum::<usize>();
        let verdict = if of_few.reads == of_many.reads { "✓" } else { "✗" };
        table += &format!(
            "| {} | {} | {} | {} | {} | {verdict} |\n",
            question.name,
            of_few.took.spread(),
            of_many.took.spread(),
            of_many.reads.len(),
            items(&of_many),
        );
    }
    let held = format!("Roll-ups in place: {} and {} items.", few.items, many.items);
    writeln!(stdout(), "{}\n\n{table}\n{held}", heading("make bench-costs"))?;
    Ok(())
}

fn questions() -> [Question; 5] {
    let (ana, root) = (Session::user("ana").v4(), Session::admin("root").v4());
    let breakdown = |token: &str| {
        let request = Request::get("/api/v2/costs/breakdown").bearer(token);
        request.query("startDate", RANGE.0).query("endDate", RANGE.1)
    };
    let stats = |token: &str| Request::get("/api/v2/costs/stats").bearer(token);
    let question = |name, function, request| Question { name, function, request };
    [
        question("breakdown of a user", "costs-breakdown", breakdown(&ana)),
        question("breakdown of everyone, with users", "costs-breakdown", breakdown(&root)),
        question("the same as CSV, without users", "costs-breakdown", breakdown(&root).header("accept", "text/csv")),
        question("stats of a user", "costs-stats", stats(&ana)),
        question("stats of everyone, with users", "costs-stats", stats(&root).query("includeUsers", "true")),
    ]
}

impl Question {
    async fn measure(&self, few: &Side, many: &Side) -> anyhow::Result<(Taken, Taken)> {
        let reads = (self.reads(few).await?, self.reads(many).await?);
        let mut turns = (self.turn(few).await?, self.turn(many).await?);
        for _ in 0..ROUNDS {
            turns.0.ask().await?;
            turns.1.ask().await?;
        }
        let taken = |turn: Turn, reads| Taken { took: turn.took.into_iter().collect(), reads };
        Ok((taken(turns.0, reads.0), taken(turns.1, reads.1)))
    }

    /// What one invocation reads, in an order of its own: seen between it and DynamoDB.
    async fn reads(&self, side: &Side) -> anyhow::Result<Vec<Passed>> {
        let subject = self.subject(side).with([("AWS_ENDPOINT_URL_DYNAMODB", side.meter.url().to_owned())]);
        let function = subject.start().await?;
        let _ = side.meter.take();
        subject.ask(&function).await?;
        let mut passed = side.meter.take();
        passed.sort();
        function.kill().await?;
        Ok(passed)
    }

    async fn turn(&self, side: &Side) -> anyhow::Result<Turn> {
        let subject = self.subject(side);
        let function = subject.start().await?;
        for _ in 0..WARM_UP {
            subject.ask(&function).await?;
        }
        Ok(Turn { subject, function, took: Vec::new() })
    }

    fn subject(&self, side: &Side) -> Subject {
        Subject::new(self.function, side.app.env().clone(), self.request.clone())
    }
}

struct Turn {
    subject: Subject,
    function: Function,
    took: Vec<std::time::Duration>,
}

impl Turn {
    async fn ask(&mut self) -> anyhow::Result<()> {
        self.took.push(self.subject.ask(&self.function).await?.took);
        Ok(())
    }
}

impl Side {
    /// The roll-ups are summed here by the code that projects entries, and written as they then stand: to project a million
    /// entries one by one would take hours.
    async fn new(count: usize) -> anyhow::Result<Self> {
        let app = App::start().await?.set("API_RATE_LIMIT_PER_MINUTE", "100000");
        let mut sums: BTreeMap<Key, Rollup> = BTreeMap::new();
        let mut requests = 0;
        for n in 0..count {
            for (key, rollup) in rollups_of(&entry(n)?) {
                requests += rollup.total.requests;
                *sums.entry(key).or_default() += &rollup;
            }
        }
        ensure!(requests == 6 * count as u64, "an entry counts in six roll-ups");
        let items: Vec<_> = sums.into_iter().map(item).collect();
        app.stores.put_cost_items(&items).await?;
        let meter = Meter::to(app.env().get("AWS_ENDPOINT_URL").context("no endpoint")?).await?;
        Ok(Self { app, meter, items: items.len() })
    }
}

fn item((key, rollup): (Key, Rollup)) -> Map<String, Value> {
    let numbers = rollup.attributes().map(|(name, number)| (name, json!({ "N": number })));
    let key = [("id".to_owned(), json!({ "S": key.id })), ("timestamp".to_owned(), json!({ "S": key.timestamp }))];
    key.into_iter().chain(numbers).collect()
}

/// The `n`th entry. The first thousand are in every roll-up of the range that the others are in: 728 fill every day of every
/// shard, the next 80 the hours at both ends.
fn entry(n: usize) -> anyhow::Result<LedgerEntry> {
    let ends = [0, 1, 12, 22, 23];
    let (day, shard, hour) = match n {
        728..808 => ((n % 2) * (DAYS - 1), (n - 728) / 10, ends[(n - 728) / 2 % 5]),
        _ => (n % DAYS, n / DAYS % SHARDS, n / (DAYS * SHARDS) % 24),
    };
    let first: Timestamp = FIRST_DAY.parse()?;
    let hours = i64::try_from(24 * day + hour)?;
    let (provider, model) = MODELS[n % 3];
    let tokens = 100 + (n as u64 * 7_919) % 4_000;
    Ok(LedgerEntry {
        id: id_in_shard(n, shard),
        operation_id: format!("wf_{n}"),
        user_id: USERS[n % 3].to_owned(),
        provider,
        model: model.to_owned(),
        request_type: TYPES[n / 3 % 2].to_owned(),
        outcome: "succeeded".to_owned(),
        usage: TokenUsage { input_tokens: tokens, cached_input_tokens: tokens / 4, output_tokens: tokens / 3 },
        cost: Usd::parse(&format!("0.{:012}", 1_000_000_000 + (n as u64 * 123_456_789) % 20_000_000_000))?,
        saved: Usd::parse("0.000001")?,
        cache_hit: false,
        estimated: false,
        price_version: String::new(),
        trace_id: String::new(),
        duration_ms: None,
        started_at: first + SignedDuration::from_hours(hours),
    })
}

/// An id of the `n`th attempt that is kept in a shard: one of eight letters brings it there.
fn id_in_shard(n: usize, shard: usize) -> String {
    let id = |letter: char| format!("wf_{n}_{letter}.1");
    let is_there = |letter: &char| id(*letter).bytes().map(usize::from).sum::<usize>() % SHARDS == shard;
    ('a'..='h').find(is_there).map(id).unwrap_or_default()
}
