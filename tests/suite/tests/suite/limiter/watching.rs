//! Watching decides as enforcing does, and both as the model: on random courses of events, with the clock in the test's hands.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use huntaze_domain::intent::MessageType;
use huntaze_messaging::limiter::{Acquired, Generations, LAYERS, Verdict};
use huntaze_tests::eventually;
use redis::aio::MultiplexedConnection;

use super::model::{Model, Said, Who};
use super::{Ask, BOUND, ENFORCED, Sender, app, sender, server_time, set_clock};

const WATCHED: &str = "huntaze:limiter-monitor";
const HOLD_US: u64 = 3_000_000;
const TRACES: u64 = 8;
const STEPS: usize = 150;
/// Windows of seconds, far longer than what a step takes, and passed by making the past earlier.
const SETTINGS: &[(&str, &str)] = &[
    ("RATE_LIMIT_SECOND_MS", "1000"),
    ("RATE_LIMIT_MINUTE_MS", "5000"),
    ("RATE_LIMIT_HOUR_MS", "15000"),
    ("RATE_LIMIT_DAY_MS", "35000"),
    ("RATE_LIMIT_ACCOUNT_PER_MINUTE", "5"),
    ("RATE_LIMIT_ACCOUNT_PER_HOUR", "8"),
    ("RATE_LIMIT_ACCOUNT_PER_DAY", "10"),
    ("RATE_LIMIT_RECIPIENT_PER_HOUR", "3"),
    ("RATE_LIMIT_RECIPIENTS_PER_HOUR", "4"),
    ("RATE_LIMIT_WELCOME_PER_HOUR", "3"),
    ("RATE_LIMIT_FOLLOW_UP_PER_HOUR", "3"),
    ("RATE_LIMIT_PROMOTIONAL_PER_DAY", "5"),
    ("RATE_LIMIT_CUSTOM_PER_MINUTE", "2"),
    ("RATE_LIMIT_USER_PER_HOUR", "11"),
    ("RATE_LIMIT_GLOBAL_PER_SECOND", "6"),
];

/// Chance that comes again with its seed (splitmix64).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    pub(super) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

pub(super) const KINDS: [MessageType; 4] =
    [MessageType::Welcome, MessageType::FollowUp, MessageType::Promotional, MessageType::Custom];

pub(super) fn said(verdict: &Verdict) -> Vec<Said> {
    let one = |said: &huntaze_messaging::limiter::LayerVerdict| {
        (said.remaining, u64::try_from(said.reset.as_micros()).unwrap(), said.denied)
    };
    verdict.layers.iter().map(one).collect()
}

/// Two limiters that are asked the same at the same moments.
struct Both {
    enforcing: Sender,
    watching: Sender,
    redis: MultiplexedConnection,
    /// Where both clocks are set to: the test's own time, ahead of TIME.
    now: u64,
}

impl Both {
    /// Sets both clocks to the next moment, and that ahead of TIME, which may have caught up.
    async fn lead(&mut self) -> Result<()> {
        self.now = (self.now + 10).max(server_time(&mut self.redis).await? + 1_000_000);
        for prefix in [ENFORCED, WATCHED] {
            set_clock(&mut self.redis, prefix, "at", self.now.to_string()).await?;
        }
        Ok(())
    }

    /// What both say, which has to be the same. Where an answer was late they are asked again: then whether there was a permit before
    /// is not told.
    async fn ask(&mut self, ask: &Ask) -> Result<(bool, Option<bool>, u64, Vec<Said>)> {
        let mut first = true;
        eventually(BOUND, async || {
            let told = self.ask_once(ask).await;
            let told = told.map(|(granted, repeated, at, said)| (granted, repeated.filter(|_| first), at, said));
            assert!(!first || told.as_ref().map_or(true, |told| told.1.is_some()), "one of them has granted it before");
            first = false;
            told
        })
        .await
    }

    async fn ask_once(&mut self, ask: &Ask) -> Result<(bool, Option<bool>, u64, Vec<Said>)> {
        self.lead().await?;
        let hold = Duration::from_micros(HOLD_US);
        let enforced = self.enforcing.ask(ask, hold, &Generations::default()).await;
        let watched = self.watching.ask(ask, hold, &Generations::default()).await;
        let (granted, enforced) = match enforced {
            Acquired::Granted { verdict, .. } => (true, verdict),
            Acquired::Denied(verdict) => (false, verdict),
            Acquired::Unknown(fault) => return Err(fault.into()),
        };
        let watched = match watched {
            Acquired::Granted { verdict, .. } => verdict,
            Acquired::Denied(_) => panic!("watching denies"),
            Acquired::Unknown(fault) => return Err(fault.into()),
        };
        ensure!(enforced.at == watched.at, "not asked at the same moment");
        assert_eq!(granted, !enforced.throttled());
        assert_eq!(said(&enforced), said(&watched));
        let repeated = (enforced.repeated == watched.repeated).then_some(enforced.repeated);
        Ok((granted, repeated, enforced.at, said(&enforced)))
    }

    /// Ends a call in both, at the same moment. One that was denied was made while watching.
    async fn end(&mut self, ask: &Ask, granted: bool) -> Result<u64> {
        eventually(BOUND, async || {
            self.lead().await?;
            let watched = self.watching.limiter.ended(&ask.permit()).await?;
            let enforced = if granted { self.enforcing.limiter.ended(&ask.permit()).await? } else { watched };
            ensure!(enforced == watched, "not told at the same moment");
            Ok(watched)
        })
        .await
    }

    /// Time passes: whatever there is was so much earlier.
    async fn age(&mut self, by: u64) -> Result<()> {
        const AGE: &str = "for _, key in ipairs(redis.call('KEYS', '*')) do
            if redis.call('TYPE', key).ok == 'zset' then
                for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
                    redis.call('ZINCRBY', key, '-' .. ARGV[1], member)
                end
            end
        end";
        Ok(redis::Script::new(AGE).arg(by).invoke_async(&mut self.redis).await?)
    }

    /// Both forget, and PostgreSQL has nothing to remind them of; TIME was set back, or somebody emptied Redis.
    async fn lose(&mut self, dice: &mut Dice) -> Result<()> {
        if dice.below(2) == 0 {
            redis::cmd("FLUSHDB").exec_async(&mut self.redis).await?;
        } else {
            for prefix in [ENFORCED, WATCHED] {
                set_clock(&mut self.redis, prefix, "at", (self.now + 60_000_000).to_string()).await?;
            }
        }
        Ok(())
    }
}

async fn trace(both: &mut Both, seed: u64, denied: &mut BTreeSet<&'static str>) -> Result<(usize, usize)> {
    let mut dice = Dice(seed);
    let (mut model, mut open): (Model, Vec<(Ask, bool)>) = Default::default();
    let (mut granted, mut asked) = (0, 0);
    redis::cmd("FLUSHDB").exec_async(&mut both.redis).await?;
    both.now = 0;
    both.lead().await?;
    for step in 0..STEPS {
        let passed = match dice.below(10) {
            0 => 1_500_000 + dice.below(4_500_000),
            1..4 => 0,
            _ => dice.below(400_000),
        };
        both.age(passed).await?;
        model.age(passed);
        match dice.below(100) {
            0..25 if !open.is_empty() => {
                let which = usize::try_from(dice.below(open.len() as u64))?;
                let (ask, granted) = open.swap_remove(which);
                let at = both.end(&ask, granted).await?;
                if granted {
                    model.ended(at, &ask.who.account, &ask.id());
                }
            }
            25..27 => {
                both.lose(&mut dice).await?;
                model.forget();
                open.clear();
                // The clocks' new lives begin with TIME.
                let _ = both.enforcing.decided(&probe("first"), &Generations::default()).await?;
                let _ = both.watching.decided(&probe("first"), &Generations::default()).await?;
                redis::cmd("DEL").arg(forgotten()).exec_async(&mut both.redis).await?;
                both.lead().await?;
            }
            action => {
                let repeats = (action >= 85 && !open.is_empty()).then(|| dice.below(open.len() as u64));
                let again = repeats.map(usize::try_from).transpose()?;
                let ask = again.map_or_else(|| new(&mut dice, seed, step), |which| open[which].0.clone());
                let subject = ask.subject();
                let bounds = both.enforcing.limiter.limits(&subject);
                let (grants, repeated, at, said) = both.ask(&ask).await?;
                let expected = model.acquire(at, &ask.id(), &ask.who, HOLD_US, &bounds, None);
                denied.extend(bounds.iter().zip(&said).filter(|(_, said)| said.2).map(|(bound, _)| bound.layer.name));
                assert_eq!((grants, said), (expected.0, expected.2), "seed {seed}, step {step}");
                assert!(repeated.is_none_or(|repeated| repeated == expected.1), "seed {seed}, step {step}");
                match again {
                    // Denied or not, it keeps the permit that it has.
                    Some(which) => open[which].1 |= grants,
                    None => open.push((ask, grants)),
                }
                (granted, asked) = (granted + usize::from(grants), asked + 1);
            }
        }
    }
    Ok((granted, asked))
}

/// One of nobody's that the rest is about, and the logs that it leaves.
fn probe(message: &str) -> Ask {
    Ask::new(message, sender("nobodys", "nobody", 1))
}

fn forgotten() -> Vec<String> {
    let logs = ["account:nobodys", "user:nobody", "global:0"];
    [ENFORCED, WATCHED].iter().flat_map(|prefix| logs.map(|log| format!("{prefix}:{{0}}:{log}"))).collect()
}

fn new(dice: &mut Dice, seed: u64, step: usize) -> Ask {
    let (account, user) = dice.of(&[("one", "ana"), ("one", "ana"), ("two", "ana"), ("three", "bob")]);
    let recipient = usize::try_from(dice.below(6)).unwrap();
    let who = Who { kind: dice.of(&KINDS), ..sender(account, user, recipient) };
    Ask::new(&format!("m{seed}-{step}"), who)
}

#[tokio::test]
async fn design_watching_decides_as_enforcing_does_and_both_as_the_model() -> Result<()> {
    let app = app().await?;
    let enforcing = Sender::of(&app, SETTINGS)?;
    let watching = Sender::of(&app, &[SETTINGS, &[("RATE_LIMIT_MODE", "monitor")]].concat())?;
    let mut both = Both { enforcing, watching, redis: app.stores.redis().await?, now: 0 };
    let (mut granted, mut asked, mut denied) = (0, 0, BTreeSet::new());
    for seed in 1..=TRACES {
        let (of_granted, of_asked) = trace(&mut both, seed, &mut denied).await?;
        (granted, asked) = (granted + of_granted, asked + of_asked);
    }
    println!(
        "{asked} decisions on {TRACES} traces, {granted} of them grants: watching, enforcing and the model are of one mind"
    );
    assert_eq!(denied.len(), LAYERS.len(), "{denied:?} have denied something");
    assert!(granted > asked / 10 && granted < asked * 9 / 10, "{granted} of {asked}");
    Ok(())
}
