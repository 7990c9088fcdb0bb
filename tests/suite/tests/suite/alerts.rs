//! Alerts fire once, are told, seen and armed again: the built functions, and the crate beside them where time has to be
//! another than now, on real stores.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::{join_all, try_join_all};
use huntaze_costs::alert::{Alert, Alerts, Decision, Firing, Occasion, Standing, decide};
use huntaze_costs::budget::{Period, Refusal};
use huntaze_costs::config::ledger;
use huntaze_costs::ledger::{Ledger, LedgerEntry};
use huntaze_costs::owner::Owner;
use huntaze_costs::threshold::{Crossing, Threshold, ThresholdKind};
use huntaze_costs::watch::{Patrolled, Watch};
use huntaze_domain::env::Env;
use huntaze_domain::ids::UserId;
use huntaze_domain::money::Usd;
use huntaze_domain::notification::Notification;
use huntaze_domain::provider::{Provider, TokenUsage};
use huntaze_lambda::clients::{self, Aws};
use huntaze_tests::{App, Function, Request, eventually, now};
use jiff::{SignedDuration, Timestamp, ToSpan};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

use crate::support::{ALERTS, THRESHOLDS, admin, brief, campaign, entries_and_rollups, faults, text, usd, user};

const BOUND: Duration = Duration::from_secs(60);
pub(crate) const CHECK: &str = "cost-threshold-check";

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn owner(user: &str) -> Owner {
    Owner::from(UserId::parse(user).ok())
}

/// What a process of its own has: a watch and a ledger on the test's stores.
pub(crate) struct Instance {
    watch: Watch,
    ledger: Ledger,
}

impl Instance {
    pub(crate) fn of(app: &App) -> Result<Self> {
        let env = Env::from_pairs(app.env().clone());
        let tls = clients::tls(&env)?;
        let aws = Aws::new(&env, &tls);
        let ledger = ledger(&env, aws.dynamodb());
        let watch = Watch::from_env(&env, aws.dynamodb(), aws.queues(), ledger.clone());
        env.finish(Some(Self { watch, ledger })).map_err(Into::into)
    }

    /// Projects what a request settled, and checks it, at a time.
    async fn settle(&self, entries: &[LedgerEntry], now: Timestamp) -> Result<Vec<Alert>> {
        try_join_all(entries.iter().map(|entry| self.ledger.project(entry))).await?;
        let mut fired = Vec::new();
        self.watch.settled(entries, now, |alert| fired.push(alert.clone())).await;
        Ok(fired)
    }

    pub(crate) async fn spend(&self, user: &str, dollars: &str, started_at: Timestamp) -> Result<Vec<Alert>> {
        self.settle(&[entry(user, Provider::Azure, dollars, started_at)], started_at).await
    }

    pub(crate) async fn patrol(&self, now: Timestamp) -> Result<(Patrolled, Vec<Alert>)> {
        let mut fired = Vec::new();
        let done = self.watch.patrol(now, |alert| fired.push(alert.clone())).await?;
        fired.sort_by(|one, other| (&one.source, &one.period).cmp(&(&other.source, &other.period)));
        Ok((done, fired))
    }
}

fn entry(user: &str, provider: Provider, dollars: &str, started_at: Timestamp) -> LedgerEntry {
    let workflow = huntaze_domain::ids::WorkflowId::generate();
    LedgerEntry {
        id: format!("{workflow}.1"),
        operation_id: workflow.to_string(),
        user_id: user.to_owned(),
        provider,
        model: "gpt-4o".to_owned(),
        request_type: "content_planning".to_owned(),
        outcome: "succeeded".to_owned(),
        usage: TokenUsage { input_tokens: 10, cached_input_tokens: 0, output_tokens: 10 },
        cost: Usd::parse(dollars).unwrap(),
        saved: Usd::ZERO,
        cache_hit: false,
        estimated: false,
        price_version: "test".to_owned(),
        trace_id: "t".to_owned(),
        duration_ms: None,
        started_at,
    }
}

/// Type, owner's key and period of each, in order.
pub(crate) fn told(alerts: &[Alert]) -> Vec<(&'static str, String, String)> {
    let mut told: Vec<_> =
        alerts.iter().map(|alert| (alert.kind.as_str(), alert.owner.key(), alert.period.clone())).collect();
    told.sort();
    told
}

pub(crate) fn one(kind: &'static str, owner: &str, period: &str) -> (&'static str, String, String) {
    (kind, owner.to_owned(), period.to_owned())
}

/// The alerts of the table, without what sources remember.
pub(crate) async fn stored(app: &App) -> Result<Vec<Map<String, Value>>> {
    let items = app.stores.alert_items().await?;
    Ok(items.into_iter().filter(|item| text(&item["id"]).starts_with("alr_")).collect())
}

pub(crate) async fn set_threshold(app: &App, request: Request, body: Value) -> Result<()> {
    let made = app.function("costs-thresholds")?.http(request.json(&body)).await?;
    ensure!(made.status == 201, "{}", made.body);
    Ok(())
}

fn threshold(kind: &str, dollars: f64) -> Value {
    json!({"type": kind, "threshold": dollars, "severity": "critical", "notificationChannels": ["email", "in_app"]})
}

pub(crate) async fn check(function: &Function) -> Result<Value> {
    Ok(function.invoke(&json!({}), BOUND).await?)
}

#[tokio::test]
async fn a_campaign_over_a_threshold_of_a_cents_fraction_raises_an_alert_that_is_listed_and_told() -> Result<()> {
    let app = App::start().await?;
    let hybrid = app.function("campaigns-hybrid")?;
    // The process is warm and knows of no threshold: one that is made now counts from the next request on.
    assert_eq!(hybrid.http(campaign("ana", &brief("content_planning", &["onlyfans"]))).await?.status, 200);
    assert!(stored(&app).await?.is_empty());
    set_threshold(&app, user(Request::post(THRESHOLDS), "ana"), threshold("daily", 0.0001)).await?;
    assert_eq!(hybrid.http(campaign("ana", &brief("content_planning", &["onlyfans"]))).await?.status, 200);
    let (entries, _) = entries_and_rollups(app.stores.cost_items().await?);
    let cost: Usd = entries.iter().map(|entry| usd(&entry["cost"])).sum();

    let list = app.function("costs-alerts")?.http(user(Request::get(ALERTS), "ana")).await?;
    let alert = &list.body["data"]["alerts"][0];
    for (name, value) in [
        ("type", json!("daily_threshold")),
        ("severity", json!("critical")),
        ("threshold", json!(0.0001)),
        ("currentValue", json!(cost.to_json_number())),
        ("acknowledged", json!(false)),
        ("userId", json!("ana")),
        ("period", json!(now().to_string()[..10])),
        ("provider", json!("all")),
    ] {
        assert_eq!(alert[name], value, "{name} of {alert}");
    }
    let summary = json!({"total": 1, "unacknowledged": 1, "bySeverity": {"info": 0, "warning": 0, "critical": 1}, "complete": true});
    assert_eq!(list.body["data"]["summary"], summary);

    let messages = app.stores.take_notifications().await?;
    let [message] = &messages[..] else { panic!("{messages:?}") };
    let message: Notification = serde_json::from_value(message.clone())?;
    assert_eq!((json!(message.id), message.kind.as_str()), (alert["id"].clone(), "cost_alert"));
    assert_eq!(json!(message.audience), json!({"user": "ana"}));
    assert_eq!(json!(message.channels), json!(["email", "in_app"]));
    assert!(alert["notifiedAt"].is_string(), "{alert}");

    // Counted once, where it fired; and over the threshold no request writes or tells anything more.
    assert_eq!(hybrid.http(campaign("ana", &brief("content_planning", &["onlyfans"]))).await?.status, 200);
    let counted = hybrid.stdout().lines().filter(|line| line.contains("\"CostAlerts\":1")).count();
    assert_eq!((counted, stored(&app).await?.len()), (1, 1), "{}", hybrid.logs());
    assert!(app.stores.take_notifications().await?.is_empty());
    assert!(!hybrid.logs().contains("ana"), "{}", hybrid.logs());
    Ok(())
}

#[tokio::test]
async fn design_the_table_decides_as_the_rule_does_whoever_asks() -> Result<()> {
    const SILENCE: Duration = Duration::from_millis(1_800_000);
    let app = App::start().await?;
    let env = Env::from_pairs(app.env().clone());
    let tls = clients::tls(&env)?;
    // Three instances, each with its own connections and without a memory.
    let instances: Vec<_> = (0..3).map(|_| Alerts::from_env(&env, Aws::new(&env, &tls).dynamodb())).collect();
    let mut runner = TestRunner::deterministic();
    let course = proptest::collection::vec((0_i64..2_400_000, 0_usize..3), 1..9);
    for number in 0..12 {
        let who = owner(&format!("user{number}"));
        let threshold = Threshold::default_of(&who, ThresholdKind::Daily).unwrap();
        let (mut at, mut fired, mut last) = (at("2026-11-21T00:00:00Z"), BTreeSet::new(), None);
        for (wait, period) in course.new_tree(&mut runner).unwrap().current() {
            at += SignedDuration::from_millis(wait);
            let period = format!("day {period}");
            let occasion: Occasion = Crossing::of(&threshold, period.clone(), threshold.amount).unwrap().into();
            let expected = decide(Standing { fired: fired.contains(&period), last_fired: last }, at, SILENCE);
            let firings = join_all(instances.iter().map(|alerts| alerts.fire(&occasion, at))).await;
            let firings = firings.into_iter().collect::<Result<Vec<_>, _>>()?;
            let count = |wanted: fn(&Firing) -> bool| firings.iter().filter(|firing| wanted(firing)).count();
            let counts = (count(|f| matches!(f, Firing::Fired(_))), count(|f| *f == Firing::Already));
            match expected {
                Decision::Fire => {
                    assert_eq!(counts, (1, 2), "{firings:?}");
                    fired.insert(period);
                    last = Some(at);
                }
                Decision::Fired => assert_eq!(counts, (0, 3), "{firings:?}"),
                // When its source last fired is said, for a memory.
                Decision::Silent => assert_eq!(firings, vec![Firing::Silent(last); 3]),
            }
        }
        let of_source = stored(&app).await?.into_iter().filter(|item| text(&item["owner"]) == who.key()).count();
        assert_eq!(of_source, fired.len());
    }
    Ok(())
}

#[tokio::test]
async fn a_source_is_silent_for_30_minutes_and_a_later_check_fires_what_is_still_reached() -> Result<()> {
    let app = App::start().await?;
    set_threshold(&app, user(Request::post(THRESHOLDS), "ana"), threshold("hourly", 1.0)).await?;
    let instance = Instance::of(&app)?;
    let ten = instance.spend("ana", "1", at("2026-11-20T10:50:00Z")).await?;
    assert_eq!(told(&ten), [one("hourly_threshold", "user#ana", "2026-11-20T10")]);
    // The next hour is another period, but the same threshold: neither a request nor a check is heard, here or elsewhere.
    assert!(instance.spend("ana", "1.5", at("2026-11-20T11:05:00Z")).await?.is_empty());
    let other = Instance::of(&app)?;
    assert!(other.spend("ana", "0.25", at("2026-11-20T11:06:00Z")).await?.is_empty());
    assert!(other.patrol(at("2026-11-20T11:19:59.999Z")).await?.1.is_empty());
    assert_eq!(stored(&app).await?.len(), 1);
    let (_, eleven) = other.patrol(at("2026-11-20T11:20:00Z")).await?;
    assert_eq!(told(&eleven), [one("hourly_threshold", "user#ana", "2026-11-20T11")]);
    assert_eq!(eleven[0].current, Usd::parse("1.75")?);
    assert_eq!(app.stores.take_notifications().await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn the_silence_is_that_of_the_configuration() -> Result<()> {
    let app = App::start().await?.set("ALERT_SILENCE_MS", "0");
    set_threshold(&app, user(Request::post(THRESHOLDS), "ana"), threshold("hourly", 1.0)).await?;
    let instance = Instance::of(&app)?;
    for moment in ["2026-11-20T10:59:59Z", "2026-11-20T11:00:00Z"] {
        assert_eq!(instance.spend("ana", "1", at(moment)).await?.len(), 1, "{moment}");
    }
    Ok(())
}

#[tokio::test]
async fn a_clock_that_is_far_ahead_does_not_silence_a_source_for_ever() -> Result<()> {
    let app = App::start().await?;
    let instance = Instance::of(&app)?;
    assert_eq!(instance.spend("ana", "6", at("2026-11-20T10:00:00Z")).await?.len(), 1);
    let state = "state#user#ana#default:daily";
    let broken = at("2027-06-01T00:00:00Z").as_millisecond().to_string();
    app.stores.set_alert_attribute(state, "lastFiredAt", &json!({"N": broken})).await?;
    let next = Instance::of(&app)?.spend("ana", "6", at("2026-11-21T10:00:00Z")).await?;
    assert_eq!(told(&next), [one("daily_threshold", "user#ana", "2026-11-21")]);
    Ok(())
}

#[tokio::test]
async fn a_threshold_is_armed_again_by_the_next_period_acknowledged_or_not() -> Result<()> {
    let app = App::start().await?;
    let instance = Instance::of(&app)?;
    let first = instance.spend("ana", "5", at("2026-11-29T12:00:00Z")).await?;
    assert_eq!(told(&first), [one("daily_threshold", "user#ana", "2026-11-29")]);
    let seen = json!({"alertId": first[0].id, "acknowledged": true});
    assert_eq!(app.function("costs-alerts")?.http(user(Request::put(ALERTS), "ana").json(&seen)).await?.status, 200);
    // In its period it stays as it is, however much is spent, here and where nothing is known of it.
    for instance in [&instance, &Instance::of(&app)?] {
        assert!(instance.spend("ana", "5", at("2026-11-29T23:59:59Z")).await?.is_empty());
    }
    let second = instance.spend("ana", "90", at("2026-11-30T00:00:00Z")).await?;
    let mut expected = vec![
        one("daily_threshold", "global", "2026-11-30"),
        one("daily_threshold", "user#ana", "2026-11-30"),
        one("monthly_threshold", "user#ana", "2026-11"),
    ];
    assert_eq!(told(&second), expected);
    let third = instance.spend("ana", "100", at("2026-12-01T00:00:00Z")).await?;
    expected
        .iter_mut()
        .for_each(|(_, _, period)| *period = period.replace("11-30", "12-01").replace("2026-11", "2026-12"));
    assert_eq!(told(&third), expected);
    Ok(())
}

#[tokio::test]
async fn a_request_is_held_against_what_it_could_have_crossed_by_its_own_cost_and_provider() -> Result<()> {
    let app = App::start().await?;
    for (kind, provider, dollars) in [
        ("per_request", "all", 0.5),
        ("per_request", "openai", 0.25),
        ("daily", "openai", 0.75),
        ("hourly", "azure", 9.0),
    ] {
        let mut body = threshold(kind, dollars);
        body["provider"] = json!(provider);
        set_threshold(&app, user(Request::post(THRESHOLDS), "ana"), body).await?;
    }
    let off = json!({"type": "hourly", "threshold": 0.01, "severity": "info", "notificationChannels": ["email"], "enabled": false});
    set_threshold(&app, user(Request::post(THRESHOLDS), "ana"), off).await?;
    let instance = Instance::of(&app)?;
    let start = at("2026-11-20T10:59:59Z");
    let calls = |azure: &str, openai: &str, second: i64| {
        let first = entry("ana", Provider::Azure, azure, start + second.seconds());
        let mut second = entry("ana", Provider::OpenAi, openai, start + second.seconds());
        second.operation_id.clone_from(&first.operation_id);
        [first, second]
    };
    assert!(instance.settle(&calls("0.3", "0.19", 0), start).await?.is_empty());
    // Both calls together are the request; the openai's part alone is not enough for its own threshold.
    let entries = calls("0.3", "0.2", 0);
    let fired = instance.settle(&entries, start).await?;
    assert_eq!(told(&fired), [one("request_threshold", "user#ana", &entries[0].operation_id)]);
    assert_eq!(fired[0].current, Usd::parse("0.5")?);
    // 0.19 + 0.2 + 0.36 of the day are OpenAI's, on both sides of an hour's end.
    let mut entries = calls("0", "0.36", 0);
    entries[1].started_at = start + 2.seconds();
    let fired = instance.settle(&entries, start + 3.seconds()).await?;
    let expected = [
        one("daily_threshold", "user#ana", "2026-11-20"),
        one("request_threshold", "user#ana", &entries[0].operation_id),
    ];
    assert_eq!(told(&fired), expected);
    assert_eq!(fired.iter().map(|alert| alert.provider).collect::<BTreeSet<_>>(), [Some(Provider::OpenAi)].into());
    // What costs nothing is not looked at.
    assert!(instance.settle(&calls("0", "0", 5), start).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_budget_that_refuses_is_told_once_a_period() -> Result<()> {
    let app = App::start().await?;
    let refusal = |user: &str, starts_on: &str| Refusal {
        owner: owner(user),
        period: Period::Day,
        provider: None,
        limit: Usd::parse("20").unwrap(),
        spent: Usd::parse("19").unwrap(),
        reserved: Usd::parse("0.5").unwrap(),
        needed: Usd::parse("0.6").unwrap(),
        starts_on: starts_on.parse().unwrap(),
    };
    let mut told = Vec::new();
    for (user, moment, starts_on) in [
        ("ana", "2026-11-20T10:00:00Z", "2026-11-20"),
        ("ana", "2026-11-20T23:00:00Z", "2026-11-20"),
        ("bob", "2026-11-20T23:00:00Z", "2026-11-20"),
        ("ana", "2026-11-21T10:00:00Z", "2026-11-21"),
    ] {
        let raise = async |instance: Instance| {
            let mut fired = 0;
            instance.watch.budget_exceeded(&refusal(user, starts_on), at(moment), |_| fired += 1).await;
            fired
        };
        told.push(join_all([raise(Instance::of(&app)?), raise(Instance::of(&app)?)]).await.iter().sum::<u32>());
    }
    assert_eq!(told, [1, 0, 1, 1]);
    let alerts = stored(&app).await?;
    assert!(alerts.iter().all(|alert| alert["type"] == "budget_exceeded" && alert["severity"] == "critical"));
    assert_eq!(app.stores.take_notifications().await?.len(), 3);
    Ok(())
}

#[tokio::test]
async fn the_scheduled_check_finds_what_no_request_told_and_fires_it_once() -> Result<()> {
    let app = App::start().await?;
    for (user, kind, provider, dollars) in [
        ("bob", "daily", "openai", 2.0),
        ("cyd", "hourly", "all", 3.0),
        ("dan", "daily", "all", 1_000.0),
        ("dan", "monthly", "azure", 7.0),
    ] {
        let mut body = threshold(kind, dollars);
        (body["provider"], body["userId"]) = (json!(provider), json!(user));
        set_threshold(&app, admin(Request::post(THRESHOLDS)), body).await?;
    }
    set_threshold(&app, admin(Request::post(THRESHOLDS)), threshold("hourly", 19.5)).await?;
    let instance = Instance::of(&app)?;
    let morning = at("2026-11-20T08:00:00Z");
    let noon = at("2026-11-20T12:00:00Z");
    for entry in [
        entry("ana", Provider::Azure, "5", noon),
        // 2.5 in all, but 1.5 of it OpenAI's.
        entry("bob", Provider::Azure, "1", noon),
        entry("bob", Provider::OpenAi, "1.5", noon),
        // 3.5 on the day, but 2 in the hour.
        entry("cyd", Provider::Azure, "1.5", morning),
        entry("cyd", Provider::Azure, "2", noon),
        entry("dan", Provider::Azure, "6", at("2026-11-02T12:00:00Z")),
        entry("dan", Provider::OpenAi, "9", noon),
        entry("dan", Provider::Azure, "1", noon),
    ] {
        instance.ledger.project(&entry).await?;
    }
    let (done, fired) = instance.patrol(noon).await?;
    let expected = [
        one("daily_threshold", "user#ana", "2026-11-20"),
        one("hourly_threshold", "global", "2026-11-20T12"),
        one("monthly_threshold", "user#dan", "2026-11"),
    ];
    assert_eq!(told(&fired), expected);
    assert_eq!((done.users, done.fired, done.failed), (4, 3, 0));
    // Once, here and elsewhere.
    for instance in [&instance, &Instance::of(&app)?] {
        assert_eq!(instance.patrol(noon + 5.minutes()).await?, (Patrolled { fired: 0, ..done }, vec![]));
    }
    instance.ledger.project(&entry("bob", Provider::OpenAi, "0.5", noon)).await?;
    instance.ledger.project(&entry("cyd", Provider::OpenAi, "1", noon)).await?;
    let (_, fired) = instance.patrol(noon + 10.minutes()).await?;
    let expected =
        [one("daily_threshold", "user#bob", "2026-11-20"), one("hourly_threshold", "user#cyd", "2026-11-20T12")];
    assert_eq!(told(&fired), expected);
    Ok(())
}

#[tokio::test]
async fn the_end_of_a_period_is_checked_behind_it() -> Result<()> {
    let app = App::start().await?;
    let instance = Instance::of(&app)?;
    instance.ledger.project(&entry("ana", Provider::Azure, "100", at("2026-11-30T23:59:59Z"))).await?;
    let (_, fired) = instance.patrol(at("2026-12-01T00:04:00Z")).await?;
    let expected = [
        one("daily_threshold", "global", "2026-11-30"),
        one("daily_threshold", "user#ana", "2026-11-30"),
        one("monthly_threshold", "user#ana", "2026-11"),
    ];
    assert_eq!(told(&fired), expected);
    Ok(())
}

#[tokio::test]
async fn a_spike_is_told_once_a_day_with_what_it_came_from() -> Result<()> {
    let app = App::start().await?;
    let instance = Instance::of(&app)?;
    // The seven days before lie in two months; one of them was wild.
    for (day, dollars) in ["2026-11-26", "2026-11-27", "2026-11-28", "2026-11-29", "2026-11-30", "2026-12-01"]
        .into_iter()
        .zip(["1", "1", "1.5", "0.5", "40", "1"])
    {
        for user in ["ana", "bob"] {
            instance.ledger.project(&entry(user, Provider::Azure, dollars, at(&format!("{day}T12:00:00Z")))).await?;
        }
    }
    let today = at("2026-12-03T09:00:00Z");
    for (user, provider, dollars) in
        [("ana", Provider::Azure, "3"), ("ana", Provider::OpenAi, "0.25"), ("bob", Provider::OpenAi, "1")]
    {
        instance.ledger.project(&entry(user, provider, dollars, today)).await?;
    }
    let spikes =
        |fired: Vec<Alert>| fired.into_iter().filter(|alert| alert.source.ends_with("#spike")).collect::<Vec<_>>();
    let (_, fired) = instance.patrol(today).await?;
    let fired = spikes(fired);
    // Of six days with costs the median is 1, the deviations 0, 0, 0, 0.5, 0.5 and 39: the wild day counts for 2.11195.
    let of_ana = fired.iter().find(|alert| alert.owner == owner("ana")).unwrap();
    assert_eq!(of_ana.threshold, Usd::parse("3.047978571429")?);
    let from = |alert: &Alert| {
        let from = alert.contributors.iter().map(|one| format!("{} {} {}", one.kind, one.name, one.cost));
        from.collect::<Vec<_>>()
    };
    assert_eq!(from(of_ana), ["provider azure 3", "provider openai 0.25"]);
    assert_eq!(told(&fired), [one("spike_detection", "user#ana", "2026-12-03")]);
    instance.ledger.project(&entry("bob", Provider::OpenAi, "3", today)).await?;
    let (_, more) = Instance::of(&app)?.patrol(today + 5.minutes()).await?;
    let more = spikes(more);
    let expected = [one("spike_detection", "global", "2026-12-03"), one("spike_detection", "user#bob", "2026-12-03")];
    assert_eq!(told(&more), expected);
    let global = more.iter().find(|alert| alert.owner == Owner::Everyone).unwrap();
    assert_eq!(from(global), ["user bob 4", "user ana 3.25", "provider openai 4.25", "provider azure 3"]);
    assert!(spikes(Instance::of(&app)?.patrol(today + 10.minutes()).await?.1).is_empty());
    let message =
        app.stores.take_notifications().await?.into_iter().find(|message| message["id"] == global.id).unwrap();
    assert_eq!(message["audience"], "operators");
    assert!(message["facts"].as_array().unwrap().contains(&json!({"name": "From", "value": "user bob: $4.00"})));
    Ok(())
}

#[tokio::test]
async fn what_could_not_be_told_is_told_by_the_scheduled_check() -> Result<()> {
    let app = App::start().await?;
    set_threshold(&app, user(Request::post(THRESHOLDS), "ana"), threshold("daily", 0.0001)).await?;
    let hybrid = app.function_with("campaigns-hybrid", "SQS_NOTIFICATIONS_QUEUE", "no-such-queue")?;
    assert_eq!(hybrid.http(campaign("ana", &brief("content_planning", &["onlyfans"]))).await?.status, 200);
    let alerts = stored(&app).await?;
    let [alert] = &alerts[..] else { panic!("{alerts:?}\n{}", hybrid.logs()) };
    assert!(!alert.contains_key("notifiedAt") && app.stores.take_notifications().await?.is_empty());
    // Whoever fired it may still be telling it.
    let scheduled = app.function(CHECK)?;
    assert_eq!(check(&scheduled).await?["toldAgain"], 0);
    let id = text(&alert["id"]);
    let fired_at = async |ago: SignedDuration| {
        let at = format!("{:.3}", now() - ago);
        app.stores.set_alert_attribute(id, "timestamp", &json!({"S": at})).await
    };
    // Neither seen alerts nor old ones are told any more.
    fired_at(SignedDuration::from_hours(25)).await?;
    assert_eq!(check(&scheduled).await?["toldAgain"], 0);
    fired_at(SignedDuration::from_mins(2)).await?;
    app.stores.set_alert_attribute(id, "acknowledged", &json!({"BOOL": true})).await?;
    assert_eq!(check(&scheduled).await?["toldAgain"], 0);
    app.stores.set_alert_attribute(id, "acknowledged", &json!({"BOOL": false})).await?;
    let done = check(&scheduled).await?;
    assert_eq!(
        done,
        json!({"users": 1, "fired": 0, "toldAgain": 1, "failed": 0, "fullestBudgets": {"user": null, "global": null}})
    );
    let messages = app.stores.take_notifications().await?;
    assert_eq!((messages.len(), text(&messages[0]["id"])), (1, id));
    assert_eq!(check(&scheduled).await?["toldAgain"], 0);
    Ok(())
}

#[tokio::test]
async fn what_a_killed_process_left_is_fired_by_the_scheduled_check() -> Result<()> {
    let app = App::start().await?.set("LEDGER_SWEEP_GRACE_MS", "1");
    // A request that was answered, and whose process knew of no threshold.
    let hybrid = app.function_with("campaigns-hybrid", "DYNAMODB_THRESHOLDS_TABLE", "no-such-table")?;
    assert_eq!(hybrid.http(campaign("ana", &brief("content_planning", &["onlyfans"]))).await?.status, 200);
    set_threshold(&app, user(Request::post(THRESHOLDS), "ana"), threshold("monthly", 0.0001)).await?;
    assert!(stored(&app).await?.is_empty());
    let scheduled = app.function(CHECK)?;
    assert_eq!(
        check(&scheduled).await?,
        json!({"users": 1, "fired": 1, "toldAgain": 0, "failed": 0, "fullestBudgets": {"user": null, "global": null}})
    );
    assert_eq!(check(&scheduled).await?["fired"], 0);
    let counted = scheduled.stdout().lines().filter(|line| line.contains("\"CostAlerts\":1")).count();
    assert_eq!((counted, app.stores.take_notifications().await?.len()), (1, 1));
    assert!(!scheduled.logs().contains("ana"), "{}", scheduled.logs());
    Ok(())
}

#[tokio::test]
async fn an_alert_is_acknowledged_by_whom_it_concerns_or_an_administrator() -> Result<()> {
    let app = App::start().await?;
    let instance = Instance::of(&app)?;
    let fired = instance.spend("ana", "60", at("2026-11-20T10:00:00Z")).await?;
    let of = |key: &str| fired.iter().find(|alert| alert.owner.key() == key).unwrap().id.clone();
    let (own, global) = (of("user#ana"), of("global"));
    let function = app.function("costs-alerts")?;
    let put = async |request: Request, id: &str, acknowledged: bool| {
        function.http(request.json(&json!({"alertId": id, "acknowledged": acknowledged}))).await
    };
    // Whether another's alert is there is nobody's to know.
    for (who, id) in [("bob", &own), ("ana", &global), ("ana", &"alr_unknown".to_owned())] {
        let refused = put(user(Request::put(ALERTS), who), id, true).await?;
        assert_eq!((refused.status, &refused.body["detail"]), (404, &json!("there is no such alert")), "{who}");
    }
    let unknown = format!("alr_{}", "0".repeat(32));
    for id in [unknown.as_str(), "state#user#ana#default:daily", "x"] {
        let response = put(admin(Request::put(ALERTS)), id, true).await?;
        assert_eq!((response.status, &response.body["code"]), (404, &json!("not_found")), "{id}");
    }
    let first = put(user(Request::put(ALERTS), "ana"), &own, true).await?.body;
    assert_eq!((&first["data"]["acknowledged"], &first["data"]["acknowledgedBy"]), (&json!(true), &json!("ana")));
    // Whoever was first stays, until it is taken back.
    let again = put(admin(Request::put(ALERTS)), &own, true).await?.body;
    assert_eq!(again["data"], first["data"]);
    let back = put(user(Request::put(ALERTS), "ana"), &own, false).await?.body;
    assert_eq!((&back["data"]["acknowledged"], back["data"].get("acknowledgedBy")), (&json!(false), None));
    let other = put(admin(Request::put(ALERTS)), &own, true).await?.body;
    assert_eq!(other["data"]["acknowledgedBy"], "root");

    let list = async |request: Request| function.http(request).await;
    let seen = list(user(Request::get(ALERTS), "ana").query("acknowledged", "true")).await?.body;
    assert_eq!(
        (&seen["data"]["alerts"][0]["id"], &seen["data"]["summary"]["unacknowledged"]),
        (&json!(own), &json!(0))
    );
    let unseen = list(user(Request::get(ALERTS), "ana").query("acknowledged", "false")).await?.body;
    assert_eq!(unseen["data"]["summary"]["total"], 0);
    Ok(())
}

#[tokio::test]
async fn an_administrators_own_alert_is_told_to_whom_it_concerns() -> Result<()> {
    let app = App::start().await?;
    let instance = Instance::of(&app)?;
    instance.ledger.project(&entry("ana", Provider::Azure, "0.75", now())).await?;
    instance.ledger.project(&entry("bob", Provider::Azure, "0.5", now())).await?;
    let function = app.function("costs-alerts")?;
    let body = json!({"type": "daily_threshold", "threshold": 3, "message": "Prices rise on Monday.", "userId": "ana"});
    let response = function.http(user(Request::post(ALERTS), "ana").json(&body)).await?;
    assert_eq!(response.status, 403);
    let made = function.http(admin(Request::post(ALERTS)).json(&body)).await?;
    assert_eq!(made.status, 201, "{}", made.body);
    let alert = &made.body["data"];
    assert_eq!((&alert["userId"], &alert["currentValue"]), (&json!("ana"), &json!(0.75)));
    assert_eq!((&alert["severity"], &alert["message"]), (&json!("warning"), &body["message"]));
    let everyones = json!({"type": "spike_detection", "threshold": 3, "message": "Look.", "severity": "info"});
    let made = function.http(admin(Request::post(ALERTS)).json(&everyones)).await?;
    assert_eq!((made.body["data"].get("userId"), &made.body["data"]["currentValue"]), (None, &json!(1.25)));
    let messages = app.stores.take_notifications().await?;
    let audiences: BTreeSet<_> = messages.iter().map(|message| message["audience"].to_string()).collect();
    assert_eq!(audiences, BTreeSet::from(["\"operators\"".to_owned(), json!({"user": "ana"}).to_string()]));
    let list = function.http(user(Request::get(ALERTS), "ana")).await?.body;
    assert_eq!(list["data"]["alerts"][0]["id"], alert["id"]);

    let odd = json!({"type": "x", "threshold": 0, "message": "", "severity": "x", "userId": "a b"});
    let response = function.http(admin(Request::post(ALERTS)).json(&odd)).await?;
    let mut found = faults(&response.body);
    found.sort_unstable();
    assert_eq!((response.status, found), (400, vec!["/message", "/severity", "/threshold", "/type", "/userId"]));
    Ok(())
}

#[tokio::test]
async fn alerts_are_listed_in_pages_by_severity_and_for_whom_they_are() -> Result<()> {
    let app = App::start().await?;
    let instance = Instance::of(&app)?;
    // Three users over three months: each a warning a day, and one of everyone's.
    let moments: Vec<_> = (0..6).map(|n: i64| now() - SignedDuration::from_hours(24 * 13 * n)).collect();
    for (n, moment) in moments.iter().enumerate() {
        instance.spend(["ana", "bob", "cyd"][n % 3], "51", *moment).await?;
    }
    let items = stored(&app).await?;
    let function = app.function("costs-alerts")?;
    let pages = async |request: fn() -> Request, limit: &str| -> Result<(Vec<String>, Value)> {
        let (mut seen, mut cursor, mut summary) = (Vec::new(), None::<String>, Value::Null);
        for _ in 0..50 {
            let mut asked = request().query("limit", limit);
            if let Some(cursor) = &cursor {
                asked = asked.query("cursor", cursor);
            }
            let mut body = function.http(asked).await?.body;
            let data = body["data"].take();
            seen.extend(data["alerts"].as_array().unwrap().iter().map(|alert| text(&alert["id"]).to_owned()));
            summary = data["summary"].clone();
            cursor = data["nextCursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        ensure!(cursor.is_none(), "the list has no end");
        Ok((seen, summary))
    };
    // Newest first; those of one moment in any order, but each once.
    let expected = |fits: &dyn Fn(&Map<String, Value>) -> bool| {
        let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for item in items.iter().filter(|item| fits(item)) {
            ids.entry(text(&item["timestamp"]).to_owned()).or_default().insert(text(&item["id"]).to_owned());
        }
        ids.into_values().rev().flatten().collect::<Vec<_>>()
    };
    let same = |found: &[String], expected: Vec<String>| {
        assert_eq!(found.len(), expected.len());
        let at = |id: &String| items.iter().find(|item| item["id"] == **id).map(|item| item["timestamp"].clone());
        assert_eq!(found.iter().map(at).collect::<Vec<_>>(), expected.iter().map(at).collect::<Vec<_>>());
        assert_eq!(found.iter().collect::<BTreeSet<_>>(), expected.iter().collect());
    };
    let (all, summary) = pages(|| admin(Request::get(ALERTS)), "3").await?;
    same(&all, expected(&|_| true));
    assert_eq!((&summary["total"], &summary["bySeverity"]["warning"]), (&json!(items.len()), &json!(items.len())));
    let (of_ana, summary) = pages(|| user(Request::get(ALERTS), "ana"), "1").await?;
    same(&of_ana, expected(&|item| item["owner"] == "user#ana"));
    assert_eq!(summary["total"], of_ana.len());
    let (by_admin, _) = pages(|| admin(Request::get(ALERTS)).query("userId", "ana"), "100").await?;
    same(&by_admin, of_ana);
    let (critical, summary) = pages(|| admin(Request::get(ALERTS)).query("severity", "critical"), "2").await?;
    assert_eq!((critical.len(), &summary["total"]), (0, &json!(0)));

    let other = function.http(user(Request::get(ALERTS), "ana").query("userId", "bob")).await?;
    assert_eq!(other.status, 403);
    for (name, value) in [
        ("severity", "bad"),
        ("acknowledged", "yes"),
        ("cursor", "!!"),
        ("limit", "0"),
        ("limit", "101"),
        ("userId", "ä"),
    ] {
        let response = function.http(admin(Request::get(ALERTS)).query(name, value)).await?;
        assert_eq!((response.status, faults(&response.body)), (400, vec![name]), "{}", response.body);
    }
    Ok(())
}

#[tokio::test]
async fn an_alert_and_what_its_source_remembers_expire() -> Result<()> {
    let app = App::start().await?;
    let moment = at("2026-11-20T10:00:00Z");
    Instance::of(&app)?.spend("ana", "6", moment).await?;
    let items = eventually(BOUND, async || {
        let items = app.stores.alert_items().await?;
        ensure!(items.len() == 2, "{items:?}");
        Ok(items)
    });
    for item in items.await? {
        assert_eq!(text(&item["expiresAt"]), (moment.as_second() + 400 * 86_400).to_string(), "{item:?}");
    }
    Ok(())
}
