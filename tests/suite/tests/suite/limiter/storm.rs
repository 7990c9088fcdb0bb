//! Sixteen processes that send at once, and what their records say: no window had more than its limit, nothing was refused that
//! fits, and no attempt consumed twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use huntaze_domain::intent::MessageType;
use huntaze_messaging::limiter::{Bound, Generations, LAYERS, Limiter};
use huntaze_tests::{App, eventually, now};
use serde::Deserialize;
use serde_json::json;
use tokio::task::spawn_blocking;

use super::model::{Arrival, Model, Said, Who, most_in_a_window, token_bucket};
use super::watching::{Dice, KINDS, said};
use super::{Ask, BOUND, HOLD, Sender, app, dump, sender};

const PROCESSES: usize = 16;
/// One of five is a duplicate: a process that was overtaken asks for the same attempt, and does not call.
const MESSAGES: usize = 8_320;
const DUPLICATES: usize = MESSAGES / 4;
const ACCOUNTS: u64 = 16;
const RECIPIENTS: u64 = 14;
/// In microseconds: what the plan takes, and the scaled minute, whose edges the bursts are at.
const LENGTH: u64 = 11_000_000;
const MINUTE: u64 = 1_000_000;
const HOLD_MS: u64 = 1_000;
const SETTINGS: &[(&str, &str)] = &[
    ("RATE_LIMIT_SECOND_MS", "250"),
    ("RATE_LIMIT_MINUTE_MS", "1000"),
    ("RATE_LIMIT_HOUR_MS", "4000"),
    // So long that no permit has left its log when the run is over.
    ("RATE_LIMIT_DAY_MS", "600000"),
    ("RATE_LIMIT_ACCOUNT_PER_HOUR", "20"),
    ("RATE_LIMIT_ACCOUNT_PER_DAY", "45"),
    ("RATE_LIMIT_RECIPIENT_PER_HOUR", "4"),
    ("RATE_LIMIT_RECIPIENTS_PER_HOUR", "10"),
    ("RATE_LIMIT_WELCOME_PER_HOUR", "7"),
    ("RATE_LIMIT_FOLLOW_UP_PER_HOUR", "7"),
    ("RATE_LIMIT_PROMOTIONAL_PER_DAY", "11"),
    ("RATE_LIMIT_CUSTOM_PER_MINUTE", "3"),
    ("RATE_LIMIT_USER_PER_HOUR", "32"),
    ("RATE_LIMIT_GLOBAL_PER_SECOND", "60"),
];

/// What a probe was told of one request for a permit.
#[derive(Debug, Clone, Deserialize)]
struct Record {
    id: String,
    account: String,
    user: huntaze_domain::ids::UserId,
    recipient: String,
    kind: MessageType,
    /// When it first asked, by the wall clock.
    asked: u64,
    at: u64,
    /// For how long its call may reach the fan.
    hold_ms: u64,
    granted: bool,
    repeated: bool,
    layers: Vec<Said>,
    /// It called.
    calls: bool,
    /// It was overtaken by another before it could.
    overtaken: bool,
    ended: Option<Ended>,
}

#[derive(Debug, Clone, Deserialize)]
struct Ended {
    asked: u64,
    at: u64,
}

impl Record {
    fn who(&self) -> Who {
        let Self { account, user, recipient, kind, .. } = self.clone();
        Who { account, user, recipient, kind }
    }

    /// When the call was over at the latest: with its hold, which began before it asked.
    fn until(&self) -> u64 {
        let hold = self.at + self.hold_ms * 1_000;
        self.ended.as_ref().map_or(hold, |ended| ended.at.min(hold))
    }
}

/// The lines that each process follows: a quarter of the requests comes in bursts around the edges of a window.
fn plans(start: u64) -> Vec<String> {
    let mut dice = Dice(7);
    let mut plans = vec![String::new(); PROCESSES];
    let at = |dice: &mut Dice| match dice.below(4) {
        0 => (dice.below(LENGTH / MINUTE) * MINUTE + MINUTE - 5_000) + dice.below(10_000),
        _ => dice.below(LENGTH),
    };
    for n in 0..MESSAGES {
        let account = dice.below(ACCOUNTS);
        let line = json!({
            "at": start + at(&mut dice), "account": format!("account-{account}"), "user": format!("user-{}", account / 2),
            "recipient": format!("fan-{}", dice.below(RECIPIENTS)), "kind": dice.of(&KINDS), "message": format!("m{n}"),
            "attempt": 1, "hold_ms": HOLD_MS, "call_ms": dice.below(60), "ends": dice.below(50) > 0,
        });
        let process = usize::try_from(dice.below(PROCESSES as u64)).unwrap();
        plans[process] += &format!("{line}\n");
        if n < DUPLICATES {
            let mut overtaken = line;
            overtaken["at"] = json!(start + at(&mut dice));
            overtaken["call_ms"] = json!(null);
            plans[(process + 1) % PROCESSES] += &format!("{overtaken}\n");
        }
    }
    plans
}

/// A process that is killed with the test.
struct Probe(Option<Child>);

impl Probe {
    fn start(app: &App) -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_limiter-probe"));
        command.env_clear().envs(app.env()).envs(SETTINGS.iter().copied());
        Ok(Self(Some(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?)))
    }

    async fn follow(mut self, plan: String) -> Result<Vec<Record>> {
        let mut child = self.0.take().context("no process")?;
        let output = spawn_blocking(move || {
            child.stdin.take().context("no standard input")?.write_all(plan.as_bytes())?;
            anyhow::Ok(child.wait_with_output()?)
        });
        let output = output.await??;
        ensure!(output.status.success(), "{}", output.status);
        String::from_utf8(output.stdout)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = (child.kill(), child.wait());
        }
    }
}

/// The layers of a message of each type.
type Bounds = BTreeMap<MessageType, Vec<Bound>>;

fn bounds(limiter: &Limiter) -> Bounds {
    let of = |kind| limiter.limits(&Ask::new("any", Who { kind, ..sender("any", "any", 1) }).subject());
    KINDS.into_iter().map(|kind| (kind, of(kind))).collect()
}

/// What happened at a moment, by the limiter's clock.
enum Event<'a> {
    /// Somebody was told so.
    Decided(&'a Record),
    /// It granted, and the answer was lost: asked again, it had no room for the attempt beside others.
    Granted(&'a Record),
    /// A call was over.
    Ended(&'a Record),
}

/// Everything in its order. Where an answer was lost and it was asked again, the permit's own score says when it was done: no permit
/// has left its account's log.
fn events<'a>(records: &'a [Record], scores: &BTreeMap<String, u64>) -> Vec<(u64, Event<'a>)> {
    let told: BTreeSet<_> = records.iter().filter(|record| record.granted).map(|record| &record.id).collect();
    let mut events: Vec<_> = records.iter().map(|record| (record.at, Event::Decided(record))).collect();
    for record in records {
        let score = scores.get(&record.id).copied();
        if let Some(ended) = &record.ended {
            let first = score.filter(|score| (ended.asked..ended.at).contains(score));
            events.push((first.unwrap_or(ended.at), Event::Ended(record)));
        }
        let lost = score.filter(|_| !told.contains(&record.id)).map(|until| until - record.hold_ms * 1_000);
        events.extend(lost.filter(|at| (record.asked..record.at).contains(at)).map(|at| (at, Event::Granted(record))));
    }
    events.sort_by_key(|(at, _)| *at);
    events
}

/// Decides the same in the same order; gives how many decisions were held against it. Where an answer came late, an earlier one may
/// have been lost: the layers that it has to do with are left out meanwhile.
fn replay(bounds: &Bounds, records: &[Record], scores: &BTreeMap<String, u64>) -> Result<(Model, usize)> {
    const LATE: u64 = 240_000;
    let late: Vec<_> = records.iter().filter(|record| record.at - record.asked > LATE).collect();
    let late: Vec<_> = late.into_iter().map(|record| (record.asked..=record.at, record.who())).collect();
    let (mut model, mut compared) = (Model::default(), 0);
    for (at, event) in events(records, scores) {
        let (Event::Decided(record) | Event::Granted(record) | Event::Ended(record)) = event;
        if matches!(event, Event::Ended(_)) {
            model.ended(at, &record.account, &record.id);
            continue;
        }
        let (bounds, hold, who) = (&bounds[&record.kind], record.hold_ms * 1_000, record.who());
        let unsure: Vec<_> = late.iter().filter(|(when, _)| when.contains(&at)).map(|(_, who)| who).collect();
        let sure: Vec<_> = bounds.iter().map(|b| !unsure.iter().any(|other| who.shares(other, b.layer.of))).collect();
        let decided = matches!(event, Event::Decided(_));
        let known = if decided { (!unsure.is_empty()).then_some(record.granted) } else { Some(true) };
        let (granted, repeated, said) = model.acquire(at, &record.id, &who, hold, bounds, known);
        if !decided || !sure[0] {
            continue;
        }
        // Behind a grant the layers say what is left, so that only the same decision says the same.
        let all_sure = sure.iter().all(|sure| *sure);
        if all_sure || record.granted == granted {
            let same =
                sure.iter().zip(record.layers.iter().zip(&said)).all(|(sure, (told, said))| !sure || told == said);
            ensure!(same && record.repeated == repeated, "{record:?}\n{said:?}");
        }
        ensure!(!all_sure || record.granted == granted, "{record:?}\n{said:?}");
        compared += 1;
    }
    Ok((model, compared))
}

/// The permits in the accounts' logs by their ids, with their scores.
async fn scores(app: &App) -> Result<BTreeMap<String, u64>> {
    let logs = dump(&mut app.stores.redis().await?).await?;
    let logs = logs.into_iter().filter(|(key, _)| key.contains(":account:"));
    let permits = logs.flat_map(|(_, log)| {
        let permits = log.chunks(2).filter(|permit| permit[1] != "inf");
        permits.map(|permit| (permit[0].clone(), permit[1].clone())).collect::<Vec<_>>()
    });
    permits.map(|(member, score)| Ok((member.split('|').next().unwrap().to_owned(), score.parse()?))).collect()
}

/// One message of each account: its logs are there before the storm, so that none is restored in it.
async fn first_messages(sender: &Sender) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for n in 0..ACCOUNTS {
        let who = self::sender(&format!("account-{n}"), &format!("user-{}", n / 2), 0);
        let ask = Ask::new(&format!("first{n}"), who.clone());
        let (granted, verdict) = sender.decided(&ask, &Generations::default()).await?;
        let at = eventually(BOUND, async || Ok(sender.limiter.ended(&ask.permit()).await?)).await?;
        let Who { account, user, recipient, kind } = who;
        records.push(Record {
            id: ask.id(),
            account,
            user,
            recipient,
            kind,
            asked: verdict.at,
            at: verdict.at,
            hold_ms: HOLD.as_millis().try_into()?,
            granted: granted.is_some(),
            repeated: verdict.repeated,
            layers: said(&verdict),
            calls: granted.is_some(),
            overtaken: false,
            ended: Some(Ended { asked: at, at }),
        });
    }
    Ok(records)
}

#[tokio::test]
async fn design_the_10_messages_a_minute_hold_over_any_60_seconds_and_each_layer_its_own_over_16_processes()
-> Result<()> {
    let app = app().await?;
    let sender = Sender::of(&app, SETTINGS)?;
    let mut records = first_messages(&sender).await?;
    let probes = (0..PROCESSES).map(|_| Probe::start(&app)).collect::<Result<Vec<_>>>()?;
    let start = u64::try_from(now().as_microsecond())? + 1_500_000;
    let following = probes.into_iter().zip(plans(start)).map(|(probe, plan)| probe.follow(plan));
    records.extend(try_join_all(following).await?.into_iter().flatten());
    records.sort_by_key(|record| record.at);
    assert_eq!(records.len() as u64, ACCOUNTS + (MESSAGES + DUPLICATES) as u64);
    let restored = app.stores.rows("SELECT FROM orchestrator.limiter_logs WHERE generation > 1", &[]).await?;
    assert!(restored.is_empty(), "no memory was lost");
    assert!(records.windows(2).all(|two| two[0].at < two[1].at), "no two are decided at once");

    // No window had more than its limit, whenever the message of a call reached its fan.
    let calls = records.iter().filter(|record| record.calls);
    let arrivals: Vec<_> =
        calls.map(|call| Arrival { who: call.who(), granted: call.at, ended: call.until() }).collect();
    let bounds = bounds(&sender.limiter);
    let all: BTreeMap<_, _> = bounds.values().flatten().map(|bound| (bound.layer.name, *bound)).collect();
    assert_eq!(all.len(), LAYERS.len());
    let mut worst = BTreeMap::new();
    for (name, bound) in &all {
        let most = most_in_a_window(&arrivals, bound);
        assert!(most <= bound.limit as usize, "{name}: {most}");
        let _ = worst.insert(*name, most);
    }

    // Who was granted consumed once, however often it asked, and every decision is the model's: nothing was refused that fits.
    let scores = scores(&app).await?;
    let admitted: BTreeSet<_> = scores.keys().map(String::as_str).collect();
    let (model, compared) = replay(&bounds, &records, &scores)?;
    assert_eq!(model.ids(), admitted);
    let granted: BTreeSet<_> =
        records.iter().filter(|record| record.granted).map(|record| record.id.as_str()).collect();
    // Only who was told of a denial after an answer was lost has a permit that it does not know of.
    assert!(granted.is_subset(&admitted));
    let denied = |id: &&str| records.iter().any(|record| record.id == **id && !record.granted && record.repeated);
    assert!(admitted.difference(&granted).all(denied));
    assert!(compared >= 100, "only {compared} of {} decisions came in time", records.len());
    let denied = records.iter().flat_map(|record| bounds[&record.kind].iter().zip(&record.layers));
    let denied: BTreeSet<_> = denied.filter(|(_, said)| said.2).map(|(bound, _)| bound.layer.name).collect();
    assert!(denied.len() >= 6, "only {denied:?} have denied anything");

    // The same arrivals at a bucket of 10 that gets 10 a minute.
    let buckets = (0..ACCOUNTS).map(|n| {
        let of = format!("account-{n}");
        let asked: Vec<_> =
            records.iter().filter(|record| record.account == of && !record.overtaken).map(|record| record.at).collect();
        token_bucket(&asked, 10, MINUTE)
    });
    let bucket = buckets.max().unwrap_or_default();
    println!(
        "{} decisions by {PROCESSES} processes, {compared} of them held against the model, {} admitted",
        records.len(),
        admitted.len()
    );
    println!(
        "the most messages of an account in any minute: sliding log {}, token bucket (10, 10 a minute) {bucket}",
        worst["account_minute"]
    );
    println!("the most in any window of each layer: {worst:?}; those that denied: {denied:?}");
    assert!(bucket >= 17, "{bucket}");
    Ok(())
}
