//! From a threshold that is crossed to what people get: one e-mail, one message to Slack, one publication. The built functions on
//! real stores, and the crate beside them where time has to be another than now.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use huntaze_domain::money::Usd;
use huntaze_tests::post::{OPERATORS, batch, consume};
use huntaze_tests::{App, Fleet, Post, Request, eventually};
use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::alerts::{CHECK, Instance, at, check, one, set_threshold, stored, told};
use crate::support::{ALERTS, THRESHOLDS, admin, brief, campaign, entries_and_rollups, text, usd};

const BOUND: Duration = Duration::from_secs(60);
const PROCESSES: usize = 8;
const REQUESTS: usize = 200;
const USERS: usize = 20;

/// Two processes of each consumer, and who is behind them.
struct Consumers {
    notifications: Fleet,
    emails: Fleet,
    post: Post,
}

impl Consumers {
    async fn start(app: &App, post: Post) -> Result<Self> {
        let (notifications, emails) = tokio::try_join!(app.fleet("notifications", 2), app.fleet("email", 2))?;
        Ok(Self { notifications, emails, post })
    }

    /// Hands over what is on the queues; gives the e-mails, messages to Slack and publications that there are by now.
    async fn deliver(&self, app: &App) -> Result<[usize; 3]> {
        let messages: Vec<_> = app.stores.take_notifications().await?.iter().map(Value::to_string).collect();
        let ids: Vec<_> = (0..messages.len()).map(|n| format!("m{n}")).collect();
        if !messages.is_empty() {
            let records = ids.iter().map(String::as_str).zip(messages.iter().map(String::as_str));
            twice(&self.notifications, &batch(records, 1)).await?;
        }
        while let Some(jobs) = self.post.email_batch().await? {
            twice(&self.emails, &jobs).await?;
        }
        let (emails, publications) = tokio::try_join!(self.post.emails(), self.post.publications())?;
        Ok([emails.len(), app.world.slack_messages().len(), publications.len()])
    }
}

/// As SQS may deliver a batch: to two processes at once, until each has no record left.
async fn twice(consumers: &Fleet, batch: &Value) -> Result<()> {
    eventually(BOUND, async || {
        let ends = try_join_all(consumers.functions().iter().map(|function| consume(function, batch))).await?;
        ensure!(ends.iter().all(|end| end.as_ref().is_some_and(Vec::is_empty)), "{ends:?}");
        Ok(())
    })
    .await
}

/// Has campaigns written, and waits for what is done behind their answers.
async fn campaigns(fleet: &Fleet, count: usize, before: usize) -> Result<()> {
    let brief = brief("message_generation", &["onlyfans"]);
    let requests = (0..count).map(|n| campaign(&format!("user{}", n % USERS), &brief));
    for response in fleet.http(requests).await {
        let response = response?;
        ensure!(response.status == 200, "{}", response.body);
    }
    eventually(BOUND, async || {
        let ended = fleet.functions().iter().map(|function| function.stdout().matches("\"Requests\":1").count());
        let ended: usize = ended.sum();
        ensure!(ended == before + count, "{ended} have ended");
        Ok(())
    })
    .await
}

/// What the schedules do next: what lost a race for a roll-up, or for the alert, is left to them.
async fn schedules(app: &App) -> Result<()> {
    check(&app.function("ledger-sweeper")?).await?;
    check(&app.function(CHECK)?).await.map(drop)
}

fn everyones(kind: &str, amount: Usd) -> Value {
    json!({"type": kind, "threshold": amount.to_json_number(), "severity": "critical",
        "notificationChannels": ["email", "slack", "sns", "in_app"]})
}

#[tokio::test]
async fn design_a_threshold_crossed_by_200_requests_on_8_processes_is_told_once_a_channel_and_again_the_next_day()
-> Result<()> {
    let app = App::start().await?.set("API_RATE_LIMIT_PER_MINUTE", "100000").set("LEDGER_SWEEP_GRACE_MS", "1");
    let (app, post) = Post::open(app).await?;
    // One is like another, so that half of them reach what a hundred cost.
    let first = campaign("user0", &brief("message_generation", &["onlyfans"]));
    let first = app.function("campaigns-hybrid")?.http(first).await?;
    let cost = usd(&first.body["data"]["detailedCosts"]["totalCost"]);
    let threshold: Usd = [cost; REQUESTS / 2].into_iter().sum();
    set_threshold(&app, admin(Request::post(THRESHOLDS)), everyones("daily", threshold)).await?;

    let fleet = app.fleet("campaigns-hybrid", PROCESSES).await?;
    campaigns(&fleet, REQUESTS, 0).await?;
    schedules(&app).await?;
    let (entries, _) = entries_and_rollups(app.stores.cost_items().await?);
    let spent: Usd = entries.iter().map(|entry| usd(&entry["cost"])).sum();
    assert_eq!((entries.len(), spent), (REQUESTS + 1, [cost; REQUESTS + 1].into_iter().sum()));

    let alerts = stored(&app).await?;
    let [alert] = &alerts[..] else { panic!("{alerts:?}") };
    assert_eq!((text(&alert["type"]), text(&alert["owner"])), ("daily_threshold", "global"));
    let current = usd(&alert["currentValue"]);
    assert!((threshold..=spent).contains(&current), "{current}");
    let fired = fleet.functions().iter().map(|function| function.stdout().matches("\"CostAlerts\":1").count());
    assert!(fired.sum::<usize>() <= 1);

    let consumers = Consumers::start(&app, post).await?;
    assert_eq!(consumers.deliver(&app).await?, [1, 1, 1]);
    let emails = consumers.post.emails().await?;
    assert_eq!(emails[0]["To"], json!([OPERATORS]));
    let publications = consumers.post.publications().await?;
    let published: Value = serde_json::from_str(text(&publications[0]["Message"]))?;
    assert_eq!(published["id"], alert["id"]);

    // Seen, it is told no more, however much its day still costs.
    let seen = json!({"alertId": alert["id"], "acknowledged": true});
    let seen = app.function("costs-alerts")?.http(admin(Request::put(ALERTS)).json(&seen)).await?;
    assert_eq!((seen.status, &seen.body["data"]["acknowledged"]), (200, &json!(true)), "{}", seen.body);
    campaigns(&fleet, PROCESSES, REQUESTS).await?;
    schedules(&app).await?;
    assert_eq!((consumers.deliver(&app).await?, stored(&app).await?.len()), ([1, 1, 1], 1));

    // The next day arms it again, acknowledged or not.
    let day: Date = text(&alert["period"]).parse()?;
    let tomorrow = day.checked_add(1.day())?;
    let noon = tomorrow.at(12, 0, 0, 0).to_zoned(TimeZone::UTC)?.timestamp();
    let again = Instance::of(&app)?.spend("user0", &threshold.to_string(), noon).await?;
    assert_eq!(told(&again), [one("daily_threshold", "global", &tomorrow.to_string())]);
    assert_eq!(consumers.deliver(&app).await?, [2, 2, 2]);
    let ids: BTreeSet<_> = stored(&app).await?.iter().map(|alert| text(&alert["id"]).to_owned()).collect();
    assert_eq!(ids, BTreeSet::from([text(&alert["id"]).to_owned(), again[0].id.clone()]));
    Ok(())
}

#[tokio::test]
async fn for_30_minutes_the_same_threshold_is_told_over_no_channel_and_after_them_over_each_once() -> Result<()> {
    let (app, post) = Post::open(App::start().await?).await?;
    let consumers = Consumers::start(&app, post).await?;
    set_threshold(&app, admin(Request::post(THRESHOLDS)), everyones("hourly", Usd::parse("1")?)).await?;
    let instance = Instance::of(&app)?;
    assert_eq!(instance.spend("ana", "1", at("2026-11-20T10:50:00Z")).await?.len(), 1);
    assert_eq!(consumers.deliver(&app).await?, [1, 1, 1]);
    // Another hour is another period, which would fire; neither a request nor a check says so before its time.
    assert!(instance.spend("bob", "2", at("2026-11-20T11:05:00Z")).await?.is_empty());
    assert!(Instance::of(&app)?.patrol(at("2026-11-20T11:19:59.999Z")).await?.1.is_empty());
    assert_eq!(consumers.deliver(&app).await?, [1, 1, 1]);
    let (_, after) = Instance::of(&app)?.patrol(at("2026-11-20T11:20:00Z")).await?;
    assert_eq!(told(&after), [one("hourly_threshold", "global", "2026-11-20T11")]);
    assert_eq!(consumers.deliver(&app).await?, [2, 2, 2]);
    Ok(())
}
