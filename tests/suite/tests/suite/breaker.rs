//! The circuit breaker: one for all instances, decided in Redis as the machine decides it, and by each process while Redis is away.

mod away;
mod race;
mod trace;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use huntaze_breaker::{Asked, Breaker, Denied, Keeper, Name, Permit, Report, Standing, State, Token, Told};
use huntaze_domain::env::Env;
use huntaze_redis::Redis;
use huntaze_tests::{App, Proxy, eventually};
use redis::aio::MultiplexedConnection;

const BOUND: Duration = Duration::from_secs(30);
const WINDOW_MS: u64 = 60_000;
const OPEN_MS: i64 = 30_000;
const LEASE_MS: i64 = 60_000;

/// The breaker of one process, with a connection of its own.
fn breaker(app: &App, settings: &[(&str, &str)]) -> Result<Breaker> {
    let own = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let env = Env::from_pairs(own).over(app.env().clone());
    let breaker = Breaker::from_env(&env, Redis::from_env(&env).map(Arc::new));
    env.finish(breaker).map_err(Into::into)
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// Asks until Redis answers: on a busy machine it may be late, and the same token asks for the same.
async fn asked(breaker: &Breaker, name: &Name) -> Result<Asked> {
    let token = Token::random();
    eventually(BOUND, async || {
        let asked = breaker.ask(name, token).await;
        ensure!(asked.by == Keeper::Redis, "Redis was late");
        Ok(asked)
    })
    .await
}

async fn permitted(breaker: &Breaker, name: &Name) -> Result<Permit> {
    Ok(asked(breaker, name).await?.permit?)
}

async fn told(breaker: &Breaker, permit: &Permit, report: Report) -> Result<Told> {
    eventually(BOUND, async || Ok(breaker.report(permit, report).await?)).await
}

/// A call that ends at once; gives where the circuit stands then.
async fn call(breaker: &Breaker, name: &Name, report: Report) -> Result<Standing> {
    let permit = permitted(breaker, name).await?;
    Ok(told(breaker, &permit, report).await?.standing)
}

async fn open(breaker: &Breaker, name: &Name) -> Result<()> {
    for _ in 1..=4 {
        assert_eq!(call(breaker, name, Report::Failure).await?.state, State::Closed);
    }
    let state = call(breaker, name, Report::Failure).await?.state;
    assert!(matches!(state, State::Open { .. }), "{state:?}");
    Ok(())
}

/// Where one circuit stands, as Redis says.
async fn standing(breaker: &Breaker, name: &Name) -> Result<Standing> {
    eventually(BOUND, async || {
        let peeked = breaker.peek(std::slice::from_ref(name)).await;
        ensure!(peeked.by == Keeper::Redis, "Redis was late");
        Ok(peeked.standings[0])
    })
    .await
}

fn key(name: &Name) -> String {
    format!("huntaze:{{breaker}}:{name}")
}

/// Time passes for a circuit: all of it was so many milliseconds earlier. Of a negative time: the clock was set back.
async fn age(redis: &mut MultiplexedConnection, name: &Name, millis: i64) -> Result<()> {
    const AGE: &str = "if redis.call('EXISTS', KEYS[1]) == 0 then return end
        for _, field in ipairs({'since', 'paced', 'at'}) do
            redis.call('HSET', KEYS[1], field, math.max(redis.call('HGET', KEYS[1], field) - ARGV[1], 0))
        end
        for _, field in ipairs({'failures', 'calls'}) do
            local entries = string.gsub(redis.call('HGET', KEYS[1], field), '(%d+)(:%S+ )', function(at, rest)
                return string.format('%.0f', at - ARGV[1]) .. rest
            end)
            redis.call('HSET', KEYS[1], field, entries)
        end";
    Ok(redis::Script::new(AGE).key(key(name)).arg(millis).invoke_async(redis).await?)
}

fn waits(denied: Result<Permit, Denied>, range: std::ops::RangeInclusive<i64>) -> bool {
    let Err(Denied::Open { retry_after }) = denied else { return false };
    range.contains(&i64::try_from(retry_after.as_millis()).unwrap())
}

#[tokio::test]
async fn design_five_failures_within_any_60_s_open_it_and_four_do_not() -> Result<()> {
    let app = App::start().await?;
    let (breaker, mut redis) = (breaker(&app, &[])?, app.stores.redis().await?);
    // Each failure's seconds after the first; what the test itself takes comes on top and is read from the answers.
    for (n, seconds) in [[0, 15, 30, 45, 61], [0, 5, 10, 15, 20]].into_iter().enumerate() {
        let name = name(&format!("azure:trial-{n}"));
        let (mut passed, mut first, mut last) = (0, None, None);
        for at in seconds.map(|at| at * 1_000) {
            age(&mut redis, &name, at - passed).await?;
            passed = at;
            let said = call(&breaker, &name, Report::Failure).await?;
            let moment = said.at + u64::try_from(at)?;
            let began = *first.get_or_insert(moment);
            last = Some((said.state, moment - began));
        }
        let Some((state, span)) = last else { anyhow::bail!("no failure") };
        assert_eq!(matches!(state, State::Open { .. }), span < WINDOW_MS, "{seconds:?} took {span} ms: {state:?}");
        assert_eq!(seconds[4] == 61, span >= WINDOW_MS, "{span} ms");
    }
    Ok(())
}

#[tokio::test]
async fn design_after_30_s_exactly_one_probe_runs_over_all_instances() -> Result<()> {
    let app = App::start().await?;
    let (one, other) = (breaker(&app, &[])?, breaker(&app, &[])?);
    let (mut redis, name) = (app.stores.redis().await?, name("openai:gpt"));
    open(&one, &name).await?;
    assert!(waits(asked(&other, &name).await?.permit, 1..=OPEN_MS), "another instance knows");
    age(&mut redis, &name, OPEN_MS).await?;
    let probe = permitted(&other, &name).await?;
    assert!(probe.is_probe());
    for breaker in [&one, &other] {
        let said = asked(breaker, &name).await?;
        assert!(matches!(said.standing.state, State::HalfOpen { left } if !left.is_zero()));
        assert!(waits(said.permit, 1..=LEASE_MS));
    }
    // It fails: another 30 s.
    let said = told(&other, &probe, Report::Failure).await?;
    assert!(matches!(said.standing.state, State::Open { .. }));
    assert!(waits(asked(&one, &name).await?.permit, 1..=OPEN_MS));
    age(&mut redis, &name, OPEN_MS).await?;
    // It succeeds: everybody.
    let probe = permitted(&one, &name).await?;
    let said = told(&one, &probe, Report::Success).await?.standing;
    assert_eq!((said.state, said.failures), (State::Closed, 0));
    assert!(said.epoch > probe.epoch() && !permitted(&other, &name).await?.is_probe());
    Ok(())
}

#[tokio::test]
async fn design_late_reports_of_an_older_epoch_are_ignored_and_a_lost_probe_is_granted_again() -> Result<()> {
    let all =
        [Report::Success, Report::Failure, Report::RateLimited { retry_after: None }, Report::Neither, Report::NotMade];
    let app = App::start().await?;
    let (breaker, mut redis, name) = (breaker(&app, &[])?, app.stores.redis().await?, name("azure:gpt"));
    let early = permitted(&breaker, &name).await?;
    let mut kept = redis.clone();
    let mut ignored = async |late: &Permit| {
        for report in all {
            let before: Vec<String> = redis::cmd("HGETALL").arg(key(&name)).query_async(&mut kept).await?;
            assert!(!told(&breaker, late, report).await?.changed, "{report:?}");
            let after: Vec<String> = redis::cmd("HGETALL").arg(key(&name)).query_async(&mut kept).await?;
            assert_eq!(before, after, "{report:?}");
        }
        Ok::<_, anyhow::Error>(())
    };
    open(&breaker, &name).await?;
    ignored(&early).await?;
    age(&mut redis, &name, OPEN_MS).await?;
    let lost = permitted(&breaker, &name).await?;
    ignored(&early).await?;
    assert!(asked(&breaker, &name).await?.permit.is_err());
    // Nothing is heard of it for its lease.
    age(&mut redis, &name, LEASE_MS).await?;
    let probe = permitted(&breaker, &name).await?;
    assert!(probe.is_probe() && probe.epoch() > lost.epoch());
    ignored(&lost).await?;
    assert_eq!(told(&breaker, &probe, Report::Success).await?.standing.state, State::Closed);
    for late in [&early, &lost, &probe] {
        ignored(late).await?;
    }
    Ok(())
}

#[tokio::test]
async fn design_429_paces_all_instances_and_is_no_failure() -> Result<()> {
    let app = App::start().await?;
    let (one, other) = (breaker(&app, &[])?, breaker(&app, &[])?);
    let (mut redis, name) = (app.stores.redis().await?, name("openai:gpt"));
    let permits = [permitted(&one, &name).await?, permitted(&one, &name).await?];
    for (permit, seconds) in permits.iter().zip([40, 20]) {
        let limited = Report::RateLimited { retry_after: Some(Duration::from_secs(seconds)) };
        let said = told(&one, permit, limited).await?.standing;
        assert_eq!((said.state, said.failures, said.epoch), (State::Closed, 0, 0));
        assert!(said.paced > Duration::from_secs(20), "a shorter one does not end it: {said:?}");
    }
    let denied = asked(&other, &name).await?.permit.unwrap_err();
    assert!(matches!(denied, Denied::Paced { retry_after } if retry_after <= Duration::from_secs(40)), "{denied}");
    age(&mut redis, &name, 40_000).await?;
    open(&other, &name).await?;
    // A probe that meets one frees its lease, and the next waits for no more than the pace.
    age(&mut redis, &name, OPEN_MS).await?;
    let probe = permitted(&one, &name).await?;
    let long = Report::RateLimited { retry_after: Some(Duration::from_secs(86_400)) };
    let said = told(&one, &probe, long).await?;
    assert!(!said.changed && said.standing.state == State::HalfOpen { left: Duration::ZERO });
    assert!(said.standing.paced <= Duration::from_secs(600), "none paces for longer");
    assert!(matches!(asked(&other, &name).await?.permit, Err(Denied::Paced { .. })));
    age(&mut redis, &name, 600_000).await?;
    assert!(permitted(&other, &name).await?.is_probe());
    Ok(())
}

#[tokio::test]
async fn a_lost_answer_costs_no_probe_and_counts_no_failure_twice() -> Result<()> {
    let app = App::start().await?;
    let mut url = reqwest::Url::parse(&app.env()["REDIS_URL"])?;
    let target = tokio::net::lookup_host((url.host_str().unwrap(), url.port().unwrap())).await?.next().unwrap();
    let proxy = Proxy::to(target).await?;
    url.set_port(Some(proxy.addr().port())).unwrap();
    let (direct, far) = (breaker(&app, &[])?, breaker(&app, &[("REDIS_URL", url.as_str())])?);
    let (mut redis, name) = (app.stores.redis().await?, name("azure:gpt"));
    for n in 1..=5 {
        let permit = permitted(&far, &name).await?;
        proxy.lose_the_next_answer();
        let said = told(&far, &permit, Report::Failure).await?.standing;
        assert_eq!((said.failures, said.state == State::Closed), (n % 5, n < 5), "{said:?}");
    }
    age(&mut redis, &name, OPEN_MS).await?;
    let token = Token::random();
    let probe = eventually(BOUND, async || {
        proxy.lose_the_next_answer();
        let said = far.ask(&name, token).await;
        ensure!(said.by == Keeper::Redis, "Redis was late");
        Ok(said.permit?)
    });
    let probe = probe.await?;
    assert!(probe.is_probe() && asked(&direct, &name).await?.permit.is_err(), "one, and it is known to whom it is");
    assert_eq!(told(&far, &probe, Report::Success).await?.standing.state, State::Closed);
    Ok(())
}

#[tokio::test]
async fn where_a_share_of_failures_is_asked_for_few_of_many_do_not_open_it() -> Result<()> {
    let app = App::start().await?;
    let breaker = breaker(&app, &[("BREAKER_MIN_FAILURE_PERCENT", "50")])?;
    let (mut redis, name) = (app.stores.redis().await?, name("openai:gpt"));
    for _ in 0..6 {
        let _ = call(&breaker, &name, Report::Success).await?;
    }
    for _ in 0..5 {
        assert_eq!(call(&breaker, &name, Report::Failure).await?.state, State::Closed);
    }
    assert!(matches!(call(&breaker, &name, Report::Failure).await?.state, State::Open { .. }), "six of twelve");
    // What succeeded more than a window ago says nothing of now.
    let name = self::name("azure:gpt");
    for _ in 0..20 {
        let _ = call(&breaker, &name, Report::Success).await?;
    }
    age(&mut redis, &name, i64::try_from(WINDOW_MS)?).await?;
    open(&breaker, &name).await
}

#[tokio::test]
async fn a_clock_that_was_set_back_keeps_nothing_open_for_longer() -> Result<()> {
    let app = App::start().await?;
    let (breaker, mut redis) = (breaker(&app, &[])?, app.stores.redis().await?);
    let (hour, name) = (3_600_000, name("azure:gpt"));
    open(&breaker, &name).await?;
    age(&mut redis, &name, -hour).await?;
    assert!(waits(asked(&breaker, &name).await?.permit, 1..=OPEN_MS));
    age(&mut redis, &name, OPEN_MS).await?;
    let lost = permitted(&breaker, &name).await?;
    age(&mut redis, &name, -hour).await?;
    assert!(waits(asked(&breaker, &name).await?.permit, 1..=LEASE_MS));
    age(&mut redis, &name, LEASE_MS).await?;
    let probe = permitted(&breaker, &name).await?;
    assert!(probe.is_probe() && probe.epoch() > lost.epoch());
    Ok(())
}

#[tokio::test]
async fn peeking_grants_nothing_and_a_circuit_without_trouble_has_no_key() -> Result<()> {
    let app = App::start().await?;
    let (breaker, mut redis) = (breaker(&app, &[])?, app.stores.redis().await?);
    let names = ["azure:a", "azure:b", "openai:c"].map(name);
    for report in [Report::Success, Report::Neither, Report::NotMade] {
        assert_eq!(call(&breaker, &names[0], report).await?.state, State::Closed);
    }
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await?;
    assert!(keys.is_empty(), "{keys:?}");
    open(&breaker, &names[1]).await?;
    let limited = Report::RateLimited { retry_after: Some(Duration::from_secs(30)) };
    let _ = call(&breaker, &names[2], limited).await?;
    age(&mut redis, &names[1], OPEN_MS).await?;
    for _ in 0..3 {
        let peeked = eventually(BOUND, async || {
            let peeked = breaker.peek(&names).await;
            ensure!(peeked.by == Keeper::Redis);
            Ok(peeked.standings)
        });
        let peeked = peeked.await?;
        assert_eq!((peeked[0].state, peeked[0].epoch, peeked[0].paced), (State::Closed, 0, Duration::ZERO));
        assert_eq!(peeked[1].state, State::Open { left: Duration::ZERO });
        assert!(peeked[2].state == State::Closed && !peeked[2].paced.is_zero());
    }
    assert!(permitted(&breaker, &names[1]).await?.is_probe());
    for name in &names[1..] {
        let left: i64 = redis::cmd("PTTL").arg(key(name)).query_async(&mut redis).await?;
        assert!((1..=3_600_000).contains(&left), "what nobody asks for is forgotten");
    }
    Ok(())
}

#[tokio::test]
async fn scripts_that_the_server_has_lost_are_sent_again_and_a_lost_memory_is_a_closed_circuit() -> Result<()> {
    let app = App::start().await?;
    let (breaker, mut redis, name) = (breaker(&app, &[])?, app.stores.redis().await?, name("azure:gpt"));
    breaker.warm_up().await;
    open(&breaker, &name).await?;
    age(&mut redis, &name, OPEN_MS).await?;
    let probe = permitted(&breaker, &name).await?;
    redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut redis).await?;
    assert!(asked(&breaker, &name).await?.permit.is_err());
    redis::cmd("FLUSHDB").exec_async(&mut redis).await?;
    // The probe of the memory before says nothing to this one.
    assert!(!told(&breaker, &probe, Report::Failure).await?.changed);
    assert_eq!(standing(&breaker, &name).await?.failures, 0);
    assert!(!permitted(&breaker, &name).await?.is_probe());
    open(&breaker, &name).await
}
