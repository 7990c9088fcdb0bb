//! The API's own limit: so many requests a user over any 60 seconds, over all instances.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use huntaze_tests::{App, Function, Proxy, Request, Response, Session, eventually};
use redis::aio::MultiplexedConnection;
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::{STATUS, brief, campaign};

const BOUND: Duration = Duration::from_secs(20);

async fn limited(limit: u32) -> Result<App> {
    Ok(App::start().await?.set("API_RATE_LIMIT_PER_MINUTE", limit.to_string()))
}

fn ask(user: &str) -> Request {
    Request::get(STATUS).bearer(&Session::user(user).v4())
}

/// Status, requests left, and seconds until there is one more, as the headers say it.
fn told(response: &Response) -> (u16, Option<(u32, u64)>) {
    let state = response.header("ratelimit").strip_prefix("\"default\";r=").and_then(|rest| rest.split_once(";t="));
    (response.status, state.map(|(left, seconds)| (left.parse().unwrap(), seconds.parse().unwrap())))
}

async fn statuses(function: &Function, user: &str, requests: usize) -> Result<Vec<u16>> {
    let mut statuses = Vec::new();
    for _ in 0..requests {
        statuses.push(function.http(ask(user)).await?.status);
    }
    Ok(statuses)
}

/// The log that `api_limit.lua` keeps of a user: times in microseconds, oldest first.
async fn log(redis: &mut MultiplexedConnection, user: &str) -> Result<Vec<i64>> {
    Ok(redis::cmd("ZRANGE").arg(key(user)).arg(0).arg(-1).query_async(redis).await?)
}

fn key(user: &str) -> String {
    format!("huntaze:api-limit:{user}")
}

/// Time passes for some of a user's requests: each was made so many seconds earlier. A process for which none passed keeps
/// to a denial that it was told of, so who was denied is asked for in a fresh one.
async fn age(redis: &mut MultiplexedConnection, user: &str, requests: &[i64], seconds: i64) -> Result<()> {
    for at in requests {
        let earlier = at - seconds * 1_000_000;
        redis::cmd("ZREM").arg(key(user)).arg(at).exec_async(redis).await?;
        redis::cmd("ZADD").arg(key(user)).arg(earlier).arg(earlier).exec_async(redis).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_limit_is_told_with_every_answer_and_the_next_request_is_429() -> Result<()> {
    let app = limited(5).await?;
    let status = app.function("campaigns-status")?;
    for left in (1..5).rev() {
        let response = status.http(ask("ana")).await?;
        assert_eq!(response.header("ratelimit-policy"), r#""default";q=5;w=60"#);
        let (200, Some((remaining, 1..=60))) = told(&response) else { panic!("{response:?}") };
        assert_eq!(remaining, left);
    }
    // A request that is refused for another reason counts, and is told too.
    let faulty = status.http(ask("ana").query("limit", "none")).await?;
    assert!(matches!(told(&faulty), (400, Some((0, 1..=60)))), "{faulty:?}");

    let mut redis = app.stores.redis().await?;
    let before = log(&mut redis, "ana").await?;
    assert_eq!(before.len(), 5);
    for _ in 0..3 {
        let denied = status.http(ask("ana")).await?;
        let (429, Some((0, wait @ 1..=60))) = told(&denied) else { panic!("{denied:?}") };
        assert_eq!(denied.header("retry-after"), wait.to_string());
        assert_eq!(denied.header("ratelimit-policy"), r#""default";q=5;w=60"#);
        assert_eq!((&denied.body["code"], &denied.body["success"]), (&json!("rate_limit_exceeded"), &json!(false)));
        assert_eq!(denied.header("content-type"), "application/problem+json");
    }
    assert_eq!(log(&mut redis, "ana").await?, before, "a denied request consumes nothing");
    assert_eq!(statuses(&status, "bob", 5).await?, [200; 5], "another user has a limit of their own");
    Ok(())
}

#[tokio::test]
async fn one_count_holds_over_all_functions_and_processes_at_once() -> Result<()> {
    let app = limited(5).await?;
    let hybrid = app.function("campaigns-hybrid")?;
    let response = hybrid.http(campaign("ana", &brief("message_generation", &["onlyfans"]))).await?;
    assert!(matches!(told(&response), (200, Some((4, 1..=60)))), "{response:?}");

    let fleet = app.fleet("campaigns-status", 4).await?;
    let answers = fleet.http((0..12).map(|_| ask("ana"))).await;
    let mut statuses = answers.into_iter().map(|answer| Ok(answer?.status)).collect::<Result<Vec<_>>>()?;
    statuses.sort_unstable();
    assert_eq!(statuses, [[200; 4].as_slice(), &[429; 8]].concat());

    let denied = hybrid.http(campaign("ana", &brief("message_generation", &["onlyfans"]))).await?;
    assert!(matches!(told(&denied), (429, Some((0, 1..=60)))), "{denied:?}");
    assert_eq!(app.world.calls().len(), 1, "what is refused is not generated");
    Ok(())
}

/// The first statement and the limit are asked side by side, so what the one kept the other's no takes back: what stays of it
/// is a tombstone that no one sees.
#[tokio::test]
async fn a_campaign_that_is_refused_keeps_nothing_and_its_key_is_free() -> Result<()> {
    let app = limited(1).await?;
    let hybrid = app.function("campaigns-hybrid")?;
    let request = || campaign("ana", &brief("message_generation", &["onlyfans"])).idempotency_key("k1");
    assert_eq!(hybrid.http(campaign("ana", &brief("message_generation", &["onlyfans"]))).await?.status, 200);
    assert_eq!(hybrid.http(request()).await?.status, 429);
    let kept = "SELECT (SELECT count(*) FROM orchestrator.workflows WHERE status <> 'withdrawn') AS workflows,
                       (SELECT count(*) FROM orchestrator.attempts WHERE failure IS DISTINCT FROM 'not_sent') AS attempts,
                       (SELECT count(*) FROM orchestrator.reservations WHERE settled_at IS NULL) AS held";
    assert_eq!(app.stores.row(kept, &[]).await?, json!({"workflows": 1, "attempts": 1, "held": 0}));

    let mut redis = app.stores.redis().await?;
    let counted = log(&mut redis, "ana").await?;
    age(&mut redis, "ana", &counted, 61).await?;
    let hybrid = app.function("campaigns-hybrid")?;
    let answered = hybrid.http(request()).await?;
    assert_eq!((answered.status, answered.header("idempotent-replayed")), (200, ""), "{}", answered.body);
    // An answer that is there already is not given either, to whoever has asked too often.
    assert_eq!(hybrid.http(request()).await?.status, 429);
    assert_eq!(app.stores.row(kept, &[]).await?, json!({"workflows": 2, "attempts": 2, "held": 0}));
    Ok(())
}

#[tokio::test]
async fn an_administrator_counts_as_themselves() -> Result<()> {
    let app = limited(2).await?;
    let status = app.function("campaigns-status")?;
    for user in ["ana", "bob"] {
        let request = Request::get(STATUS).bearer(&Session::admin("root").v4()).query("userId", user);
        assert_eq!(status.http(request).await?.status, 200);
    }
    assert_eq!(statuses(&status, "root", 1).await?, [429]);
    assert_eq!(statuses(&status, "ana", 3).await?, [200, 200, 429]);
    Ok(())
}

#[tokio::test]
async fn the_limit_holds_over_any_60_seconds() -> Result<()> {
    let app = limited(5).await?;
    let status = app.function("campaigns-status")?;
    let mut redis = app.stores.redis().await?;
    assert_eq!(statuses(&status, "ana", 6).await?, [200, 200, 200, 200, 200, 429]);

    // 40 seconds pass: nothing has left the window, and the next one is let through in what remains of it.
    let made = log(&mut redis, "ana").await?;
    age(&mut redis, "ana", &made, 40).await?;
    let status = app.function("campaigns-status")?;
    let (429, Some((0, 5..=20))) = told(&status.http(ask("ana")).await?) else { panic!("too early or too late") };
    // 25 more pass for the first two alone: they make room for two, not for a new window of five.
    let made = log(&mut redis, "ana").await?;
    age(&mut redis, "ana", &made[..2], 25).await?;
    let status = app.function("campaigns-status")?;
    assert_eq!(statuses(&status, "ana", 4).await?, [200, 200, 429, 429]);
    // What has left the window is forgotten, and a user who comes no more is forgotten altogether.
    assert_eq!(log(&mut redis, "ana").await?.len(), 5);
    let left: i64 = redis::cmd("PTTL").arg(key("ana")).query_async(&mut redis).await?;
    assert!((1..=60_000).contains(&left), "{left} ms");
    Ok(())
}

#[tokio::test]
async fn a_limit_that_was_lowered_holds_for_what_was_let_through_before() -> Result<()> {
    let app = limited(5).await?;
    assert_eq!(statuses(&app.function("campaigns-status")?, "ana", 5).await?, [200; 5]);
    let lowered = || app.function_with("campaigns-status", "API_RATE_LIMIT_PER_MINUTE", "2");
    let mut redis = app.stores.redis().await?;
    let made = log(&mut redis, "ana").await?;
    age(&mut redis, "ana", &made[..3], 50).await?;
    // The first three leave within 10 seconds, but only when the fourth does there is one of two left.
    let (429, Some((0, 20..=60))) = told(&lowered()?.http(ask("ana")).await?) else { panic!("not by the lower limit") };
    age(&mut redis, "ana", &made[3..4], 61).await?;
    let made = log(&mut redis, "ana").await?;
    age(&mut redis, "ana", &made[1..4], 11).await?;
    assert!(matches!(told(&lowered()?.http(ask("ana")).await?), (200, Some((0, _)))));
    Ok(())
}

#[tokio::test]
async fn a_clock_that_was_set_back_neither_loses_a_request_nor_locks_a_user_out() -> Result<()> {
    let app = limited(3).await?;
    let status = app.function("campaigns-status")?;
    let mut redis = app.stores.redis().await?;
    assert_eq!(statuses(&status, "ana", 2).await?, [200; 2]);
    // Set back by 30 seconds: what was let through counts on.
    let made = log(&mut redis, "ana").await?;
    age(&mut redis, "ana", &made, -30).await?;
    assert_eq!(statuses(&status, "ana", 2).await?, [200, 429]);
    // Set back by an hour: those times mean nothing any more.
    let made = log(&mut redis, "ana").await?;
    age(&mut redis, "ana", &made, -3_600).await?;
    let status = app.function("campaigns-status")?;
    assert_eq!(statuses(&status, "ana", 4).await?, [200, 200, 200, 429]);
    Ok(())
}

/// Redis is not asked about a denial that is known, so what becomes of the log there is not heard of.
#[tokio::test]
async fn a_denial_is_remembered_by_the_process_that_was_told_it_until_its_end() -> Result<()> {
    let app = limited(1).await?;
    let status = app.function("campaigns-status")?;
    assert_eq!(status.http(ask("ana")).await?.status, 200);
    let mut redis = app.stores.redis().await?;
    let made = log(&mut redis, "ana").await?;
    age(&mut redis, "ana", &made, 55).await?;
    let told_at = Instant::now();
    let (429, Some((0, wait @ 1..=5))) = told(&status.http(ask("ana")).await?) else { panic!("no denial") };

    redis::cmd("DEL").arg(key("ana")).exec_async(&mut redis).await?;
    assert_eq!(statuses(&status, "ana", 2).await?, [429; 2]);
    assert_eq!(statuses(&status, "bob", 2).await?, [200, 429], "a denial is one user's");
    let counted_down = eventually(BOUND, async || {
        let answer = told(&status.http(ask("ana")).await?);
        ensure!(matches!(answer, (429, Some((0, left))) if left < wait), "{answer:?}");
        Ok(())
    });
    counted_down.await?;
    let let_through = eventually(BOUND, async || {
        let answer = told(&status.http(ask("ana")).await?);
        ensure!(answer.0 == 200, "{answer:?}");
        Ok(())
    });
    let_through.await?;
    let after = told_at.elapsed();
    assert!(after >= Duration::from_secs(wait - 1), "let through {after:?} after a denial of {wait} s");
    Ok(())
}

fn warnings(function: &Function) -> usize {
    function.stdout().lines().filter(|line| line.contains("the API limit is not known")).count()
}

#[tokio::test]
async fn without_redis_a_request_is_let_through_and_says_nothing_of_a_limit() -> Result<()> {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let app = limited(1).await?.set("REDIS_URL", format!("redis://{closed}"));
    let status = app.function("campaigns-status")?;
    for requests in 1..=3 {
        let response = status.http(ask("ana")).await?;
        assert_eq!((told(&response), response.header("ratelimit-policy")), ((200, None), ""));
        let said = eventually(BOUND, async || {
            ensure!(warnings(&status) == requests, "{}", status.logs());
            Ok(())
        });
        said.await?;
    }
    Ok(())
}

/// A Redis that takes connections and never answers, and when it was asked for one.
#[expect(clippy::disallowed_methods, reason = "no Lambda function: nothing freezes it")]
async fn silent_redis() -> Result<(SocketAddr, Arc<Mutex<Vec<Instant>>>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (addr, asked) = (listener.local_addr()?, Arc::new(Mutex::new(Vec::new())));
    let times = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            held.push(connection);
            times.lock().unwrap().push(Instant::now());
        }
    });
    Ok((addr, asked))
}

#[tokio::test]
async fn a_redis_that_does_not_answer_is_left_alone_for_a_while() -> Result<()> {
    let (addr, asked) = silent_redis().await?;
    let app = limited(1).await?.set("REDIS_URL", format!("redis://{addr}"));
    let status = app.function("campaigns-status")?;
    // One request after another, until one of them asks again.
    let asked = eventually(BOUND, async || {
        assert_eq!(status.http(ask("ana")).await?.status, 200);
        let asked = asked.lock().unwrap().clone();
        ensure!(asked.len() > 1, "not asked again");
        Ok(asked)
    });
    let asked = asked.await?;
    let between = asked[1].duration_since(asked[0]);
    assert!(between >= Duration::from_secs(2), "asked again after {between:?}");
    Ok(())
}

#[tokio::test]
async fn a_connection_to_redis_that_died_is_opened_again_by_the_same_request() -> Result<()> {
    let app = limited(5).await?;
    let mut url = reqwest::Url::parse(&app.env()["REDIS_URL"])?;
    let target = tokio::net::lookup_host((url.host_str().unwrap(), url.port().unwrap())).await?.next().unwrap();
    let proxy = Proxy::to(target).await?;
    url.set_port(Some(proxy.addr().port())).unwrap();
    let app = app.set("REDIS_URL", url.as_str());
    let status = app.function("campaigns-status")?;
    assert!(matches!(told(&status.http(ask("ana")).await?), (200, Some((4, _)))));
    // A firewall forgot it while the environment was frozen.
    proxy.silence();
    assert!(matches!(told(&status.http(ask("ana")).await?), (200, Some((3, _)))));
    // It breaks behind the request: nobody knows that it was counted, and it is counted again.
    proxy.lose_the_next_answer();
    assert!(matches!(told(&status.http(ask("ana")).await?), (200, Some((1, _)))));
    Ok(())
}
