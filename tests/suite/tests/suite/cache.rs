//! The cache of texts: fresh and kept by Redis' own clock, made by one at a time, and never in a request's way.

use std::iter::repeat_with;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::{join_all, try_join_all};
use huntaze_costs::attempt::{AttemptIntent, Billing};
use huntaze_costs::price::Catalogue;
use huntaze_domain::env::Env;
use huntaze_domain::ids::{AttemptId, UserId, WorkflowId};
use huntaze_domain::intent::WorkflowIntent;
use huntaze_domain::provider::{Provider, TokenUsage};
use huntaze_orchestrator::answer::{CallEnd, Failure};
use huntaze_orchestrator::cache::{Cache, Cached, Followed, Joined, Key};
use huntaze_orchestrator::{prompt, route};
use huntaze_redis::Redis;
use huntaze_tests::{App, Proxy, eventually, now};
use redis::ToSingleRedisArg;
use redis::aio::MultiplexedConnection;
use serde_json::json;
use tokio::time::Instant;

use crate::support::closed_port;

const BOUND: Duration = Duration::from_secs(30);
/// Longer than any test.
const LEASE: Duration = Duration::from_secs(600);
/// By default, in milliseconds: how long a plan is fresh, and kept.
const FRESH: i64 = 600_000;
const KEPT: i64 = 86_400_000;

/// What a process has, with settings of its own.
fn cache(app: &App, settings: &[(&str, &str)]) -> Result<Cache> {
    let own = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let env = Env::from_pairs(own).over(app.env().clone());
    Ok(env.finish(Cache::from_env(&env, Redis::from_env(&env).map(Arc::new)))?)
}

/// The key of a request's first step.
fn key_of(kind: &str, theme: &str) -> Key {
    let body = json!({"type": kind, "platforms": ["x"], "data": {"theme": theme}});
    let intent = WorkflowIntent::parse(body.to_string().as_bytes()).unwrap().intent;
    let step = route::steps(&intent).swap_remove(0);
    let chat = prompt::chat(step.prompt, &intent, &step.platforms, None);
    Key::of(&UserId::parse("ana").unwrap(), &intent, &step, &chat)
}

fn plan() -> Key {
    key_of("content_planning", "summer")
}

/// A text that a call has ended with.
fn made(text: &str) -> Cached {
    let (workflow_id, started_at) = (WorkflowId::generate(), now());
    let attempt = AttemptIntent {
        id: AttemptId::of(&workflow_id, 1),
        workflow_id,
        sequence: 1,
        user_id: UserId::parse("ana").unwrap(),
        step: "plan".to_owned(),
        request_type: "content_planning",
        provider: Provider::Azure,
        model: "gpt-4o".to_owned(),
        price: Catalogue::built_in().unwrap().price(Provider::Azure, "gpt-4o", started_at).unwrap().clone(),
        bound: TokenUsage { input_tokens: 1_000, cached_input_tokens: 0, output_tokens: 900 },
        trace_id: String::new(),
        started_at,
    };
    let billing = Billing::Usage(TokenUsage { input_tokens: 300, cached_input_tokens: 0, output_tokens: 200 });
    let end = CallEnd { result: Ok(text.to_owned()), ..CallEnd::failed(Failure::Server, billing) };
    Cached::of(&end, &attempt, attempt.settle(end.outcome(), billing), started_at).unwrap()
}

/// The names of what is in Redis, in order.
async fn names(redis: &mut MultiplexedConnection) -> Result<Vec<String>> {
    let mut names: Vec<String> = redis::cmd("KEYS").arg("*").query_async(redis).await?;
    names.sort_unstable();
    Ok(names)
}

/// The one text that is kept: its name.
async fn name(redis: &mut MultiplexedConnection) -> Result<String> {
    let names = names(redis).await?;
    names.into_iter().find(|name| !name.ends_with(":flight")).context("nothing is kept")
}

/// Sets what is left of a text's time, in milliseconds: as though the rest had passed.
async fn leave(redis: &mut MultiplexedConnection, left: i64) -> Result<()> {
    let name = name(redis).await?;
    Ok(redis::cmd("PEXPIRE").arg(name).arg(left).exec_async(redis).await?)
}

/// Asks until Redis answers: on a busy machine it may be late.
async fn joined(cache: &Cache, key: &Key, token: &str, lease: Duration) -> Result<Joined> {
    eventually(BOUND, async || {
        let joined = cache.join(key, token, lease).await;
        ensure!(joined != Joined::Alone, "Redis was late");
        Ok(joined)
    })
    .await
}

/// Waits for a text, however late Redis is.
async fn followed(cache: &Cache, key: &Key, token: &str, lease: Duration) -> Result<Followed> {
    let until = Instant::now() + BOUND;
    eventually(BOUND * 2, async || {
        let followed = cache.follow(key, token, lease, until).await;
        ensure!(followed != Followed::Alone, "Redis was late, or nothing came");
        Ok(followed)
    })
    .await
}

async fn looked(cache: &Cache, key: &Key) -> Result<Cached> {
    eventually(BOUND, async || cache.look(key).await.context("nothing is kept")).await
}

/// Keeps a text, however late Redis is.
async fn keep(cache: &Cache, key: &Key, text: &Cached) -> Result<()> {
    eventually(BOUND, async || {
        cache.put(key, text).await;
        ensure!(cache.look(key).await.as_ref() == Some(text), "not kept");
        Ok(())
    })
    .await
}

/// Keeps a text and gives the lead back, however late Redis is.
async fn finish(cache: &Cache, key: &Key, token: &str, text: &Cached) -> Result<()> {
    eventually(BOUND, async || {
        cache.put_and_release(key, token, text).await;
        ensure!(cache.look(key).await.as_ref() == Some(text), "not kept");
        Ok(())
    })
    .await
}

fn waits(joined: &Joined) -> bool {
    matches!(joined, Joined::Wait { .. })
}

fn tokens(count: usize) -> Vec<String> {
    let mut number = 0;
    let next = || {
        number += 1;
        format!("wf-{number}")
    };
    repeat_with(next).take(count).collect()
}

#[tokio::test]
async fn a_text_is_served_while_it_is_fresh_and_found_while_it_is_kept() -> Result<()> {
    let app = App::start().await?.caching();
    let (cache, key, text) = (cache(&app, &[])?, plan(), made("A plan."));
    let mut redis = app.stores.redis().await?;
    assert_eq!(cache.look(&key).await, None, "nobody has made it");
    keep(&cache, &key, &text).await?;
    assert_eq!(joined(&cache, &key, "a", LEASE).await?, Joined::Hit(text.clone()));
    assert_eq!(cache.look(&key_of("content_planning", "winter")).await, None, "another's");
    let left: i64 = redis::cmd("PTTL").arg(name(&mut redis).await?).query_async(&mut redis).await?;
    assert!((KEPT - FRESH + 1..=KEPT).contains(&left), "{left}");

    // Just within its time, and at the end of it.
    leave(&mut redis, KEPT - FRESH + 60_000).await?;
    assert_eq!(joined(&cache, &key, "a", LEASE).await?, Joined::Hit(text.clone()));
    leave(&mut redis, KEPT - FRESH).await?;
    assert_eq!(joined(&cache, &key, "a", LEASE).await?, Joined::Lead);
    assert!(waits(&joined(&cache, &key, "b", LEASE).await?));
    assert_eq!(looked(&cache, &key).await?, text, "it stands in where no provider answers");
    leave(&mut redis, 0).await?;
    assert_eq!(cache.look(&key).await, None);
    Ok(())
}

#[tokio::test]
async fn a_configuration_with_other_times_does_not_make_an_old_text_fresh() -> Result<()> {
    let app = App::start().await?.caching();
    let (long, key, text) = (cache(&app, &[])?, plan(), made("A plan."));
    let short = cache(&app, &[("CACHE_KEPT_SECONDS_CONTENT_PLANNING", "1200")])?;
    let mut redis = app.stores.redis().await?;
    // Of a day ten minutes are gone, and much more is left than the other keeps anything.
    keep(&long, &key, &text).await?;
    leave(&mut redis, KEPT - FRESH).await?;
    assert_eq!(joined(&short, &key, "a", LEASE).await?, Joined::Lead);
    assert_eq!(looked(&short, &key).await?, text);
    leave(&mut redis, KEPT - 1_200_000).await?;
    assert_eq!(short.look(&key).await, None, "it would not have been kept for so long");
    assert_eq!(looked(&long, &key).await?, text);
    // Of twenty minutes none are gone, and less is left than the other keeps a stale one.
    keep(&short, &key, &text).await?;
    assert_eq!(joined(&long, &key, "b", LEASE).await?, Joined::Hit(text));
    Ok(())
}

#[tokio::test]
async fn a_message_is_not_served_twice_and_stands_in_all_the_same() -> Result<()> {
    let app = App::start().await?.caching();
    let (cache, key, text) = (cache(&app, &[])?, key_of("message_generation", "thanks"), made("Thank you!"));
    keep(&cache, &key, &text).await?;
    for token in ["a", "b"] {
        assert_eq!(cache.join(&key, token, LEASE).await, Joined::Alone);
        assert_eq!(cache.follow(&key, token, LEASE, Instant::now() + BOUND).await, Followed::Alone);
        finish(&cache, &key, token, &made("Thanks!")).await?;
    }
    let mut redis = app.stores.redis().await?;
    assert_eq!(names(&mut redis).await?.len(), 1, "nobody waits for anybody");
    Ok(())
}

#[tokio::test]
async fn what_is_switched_off_is_neither_kept_nor_found() -> Result<()> {
    let app = App::start().await?.caching();
    let off = [("CACHE_FRESH_SECONDS_CONTENT_PLANNING", "0"), ("CACHE_KEPT_SECONDS_CONTENT_PLANNING", "0")];
    let (off, on, key) = (cache(&app, &off)?, cache(&app, &[])?, plan());
    off.put(&key, &made("A plan.")).await;
    off.put_and_release(&key, "a", &made("A plan.")).await;
    assert_eq!(off.join(&key, "a", LEASE).await, Joined::Alone);
    assert!(names(&mut app.stores.redis().await?).await?.is_empty());
    keep(&on, &key, &made("A plan.")).await?;
    assert_eq!(off.look(&key).await, None);
    Ok(())
}

async fn set(redis: &mut MultiplexedConnection, name: &str, value: impl ToSingleRedisArg, left: i64) -> Result<()> {
    Ok(redis::cmd("SET").arg(name).arg(value).arg("PX").arg(left).exec_async(redis).await?)
}

#[tokio::test]
async fn a_value_that_cannot_be_read_is_a_miss_and_is_made_again_by_one() -> Result<()> {
    let app = App::start().await?.caching();
    let (cache, key, text) = (cache(&app, &[])?, plan(), made("A plan."));
    let mut redis = app.stores.redis().await?;
    keep(&cache, &key, &text).await?;
    let name = name(&mut redis).await?;
    let whole: String = redis::cmd("GET").arg(&name).query_async(&mut redis).await?;
    set(&mut redis, &name, &whole, KEPT).await?;
    assert_eq!(looked(&cache, &key).await?, text, "what is written as ours is read");

    let (too_large, unknown_provider) = (whole.replace("A plan.", &"a".repeat(70_000)), whole.replace("azure", "me"));
    let (halved, nameless) = (&whole[..whole.len() - 1], format!("{KEPT}:{{}}"));
    let texts = ["", "A plan.", ":", "1", "-1:{}", "86400000:", &too_large, &unknown_provider, halved, &nameless];
    let bytes = texts.into_iter().map(|text| text.as_bytes().to_vec());
    for garbage in bytes.chain([b"86400000:\xff\xfe\0".to_vec(), vec![0; 70_000]]) {
        set(&mut redis, &name, garbage, KEPT).await?;
        assert_eq!(cache.look(&key).await, None);
        assert_eq!(joined(&cache, &key, "a", LEASE).await?, Joined::Lead);
        assert!(waits(&joined(&cache, &key, "b", LEASE).await?));
        finish(&cache, &key, "a", &text).await?;
        assert_eq!(followed(&cache, &key, "b", LEASE).await?, Followed::Hit(text.clone()));
    }
    // One that does not expire is not ours, and one of another type is no text: both are written over.
    redis::cmd("PERSIST").arg(&name).exec_async(&mut redis).await?;
    assert_eq!(cache.look(&key).await, None);
    redis::cmd("DEL").arg(&name).exec_async(&mut redis).await?;
    redis::cmd("RPUSH").arg(&name).arg(&whole).exec_async(&mut redis).await?;
    assert_eq!((cache.look(&key).await, cache.join(&key, "c", LEASE).await), (None, Joined::Alone));
    keep(&cache, &key, &text).await
}

#[tokio::test]
async fn what_is_too_large_is_not_kept_and_holds_nobody_up() -> Result<()> {
    let app = App::start().await?.caching();
    let (cache, key) = (cache(&app, &[])?, plan());
    assert_eq!(joined(&cache, &key, "a", LEASE).await?, Joined::Lead);
    eventually(BOUND, async || {
        cache.put_and_release(&key, "a", &made(&"a".repeat(64 * 1024))).await;
        ensure!(names(&mut app.stores.redis().await?).await?.is_empty(), "something is kept, or held");
        Ok(())
    })
    .await?;
    assert_eq!(joined(&cache, &key, "b", LEASE).await?, Joined::Lead);
    Ok(())
}

#[tokio::test]
async fn of_64_that_ask_for_the_same_text_one_makes_it_and_all_others_get_it() -> Result<()> {
    let app = App::start().await?.caching();
    let caches = repeat_with(|| cache(&app, &[])).take(16).collect::<Result<Vec<_>>>()?;
    let (key, text, tokens) = (plan(), made("A plan."), tokens(64));
    let askers: Vec<_> = tokens.iter().zip(caches.iter().cycle()).collect();
    let all = try_join_all(askers.iter().map(|(token, cache)| joined(cache, &key, token, LEASE))).await?;
    let leads = |joined: &&Joined| **joined == Joined::Lead;
    assert_eq!((all.iter().filter(leads).count(), all.iter().filter(|joined| waits(joined)).count()), (1, 63));

    // It is made while all others wait, and what is somebody else's is nobody's concern.
    let (leader, cache) = askers[all.iter().position(|joined| leads(&joined)).context("nobody leads")?];
    assert_eq!(joined(cache, &key_of("content_planning", "winter"), "other", LEASE).await?, Joined::Lead);
    let waiting = askers.iter().filter(|(token, _)| *token != leader);
    let waiting = try_join_all(waiting.map(|(token, cache)| followed(cache, &key, token, LEASE)));
    let making = async {
        assert_eq!(joined(cache, &key, leader, LEASE).await?, Joined::Lead, "who leads leads on");
        finish(cache, &key, leader, &text).await
    };
    let (served, ()) = tokio::try_join!(waiting, making)?;
    assert_eq!(served.len(), 63);
    assert!(served.iter().all(|served| *served == Followed::Hit(text.clone())), "{served:?}");
    Ok(())
}

/// All ask; who is given the lead says so, and makes the text. How many led.
async fn all_follow(caches: &[Cache], key: &Key, tokens: &[String], text: &Cached) -> Result<usize> {
    let asking = tokens.iter().zip(caches.iter().cycle()).map(async |(token, cache)| {
        let followed = followed(cache, key, token, LEASE).await?;
        match &followed {
            Followed::Lead => finish(cache, key, token, text).await?,
            other => assert_eq!(*other, Followed::Hit(text.clone())),
        }
        anyhow::Ok(usize::from(followed == Followed::Lead))
    });
    Ok(try_join_all(asking).await?.into_iter().sum())
}

#[tokio::test]
async fn one_takes_over_from_a_leader_that_died_when_its_lease_is_over() -> Result<()> {
    let app = App::start().await?.caching();
    let caches = repeat_with(|| cache(&app, &[])).take(4).collect::<Result<Vec<_>>>()?;
    let (key, text, mut redis) = (plan(), made("A plan."), app.stores.redis().await?);
    assert_eq!(joined(&caches[0], &key, "dead", LEASE).await?, Joined::Lead);
    let Joined::Wait { lease_left } = joined(&caches[1], &key, "other", LEASE).await? else {
        anyhow::bail!("nobody is making it")
    };
    assert!(!lease_left.is_zero() && lease_left <= LEASE, "{lease_left:?}");
    // It asked for a lease that is over while the others are waiting.
    let flight = names(&mut redis).await?.pop().context("no flight")?;
    redis::cmd("PEXPIRE").arg(&flight).arg(700).exec_async(&mut redis).await?;
    assert_eq!(all_follow(&caches, &key, &tokens(24), &text).await?, 1);
    assert_eq!(names(&mut redis).await?.len(), 1, "nothing is held any more");
    Ok(())
}

#[tokio::test]
async fn one_takes_over_at_once_from_a_leader_that_failed() -> Result<()> {
    let app = App::start().await?.caching();
    let caches = repeat_with(|| cache(&app, &[])).take(4).collect::<Result<Vec<_>>>()?;
    let (key, text, mut redis) = (plan(), made("A plan."), app.stores.redis().await?);
    assert_eq!(joined(&caches[0], &key, "failing", LEASE).await?, Joined::Lead);
    assert!(waits(&joined(&caches[1], &key, "first", LEASE).await?));
    eventually(BOUND, async || {
        caches[0].release(&key, "failing").await;
        ensure!(names(&mut redis).await?.is_empty(), "still held");
        Ok(())
    })
    .await?;
    // Of a lease of ten minutes nothing had passed.
    assert_eq!(all_follow(&caches, &key, &tokens(24), &text).await?, 1);
    Ok(())
}

#[tokio::test]
async fn who_has_waited_long_enough_goes_on_alone() -> Result<()> {
    let app = App::start().await?.caching();
    let (cache, key) = (cache(&app, &[])?, plan());
    assert_eq!(joined(&cache, &key, "slow", LEASE).await?, Joined::Lead);
    for patience in [Duration::ZERO, Duration::from_millis(200)] {
        assert_eq!(cache.follow(&key, "hasty", LEASE, Instant::now() + patience).await, Followed::Alone);
    }
    // What it made is for all, and the slow one's lead is not its to give back.
    let text = made("A plan.");
    finish(&cache, &key, "hasty", &text).await?;
    assert_eq!(joined(&cache, &key, "late", LEASE).await?, Joined::Hit(text));
    assert_eq!(names(&mut app.stores.redis().await?).await?.len(), 2, "a text and a flight");
    Ok(())
}

#[tokio::test]
async fn without_redis_everybody_goes_on_alone() -> Result<()> {
    let app = App::start().await?.caching();
    let away = format!("redis://{}", closed_port()?);
    let (away, key) = (cache(&app, &[("REDIS_URL", &away)])?, plan());
    away.warm_up().await;
    assert_eq!(away.look(&key).await, None);
    // Who waited for it would wait for longer than any test.
    let until = Instant::now() + LEASE;
    let tokens = tokens(8);
    let followed = join_all(tokens.iter().map(|token| away.follow(&key, token, LEASE, until))).await;
    assert_eq!(followed, vec![Followed::Alone; 8]);
    assert_eq!(away.join(&key, "a", LEASE).await, Joined::Alone);
    away.put(&key, &made("A plan.")).await;
    away.put_and_release(&key, "a", &made("A plan.")).await;
    away.release(&key, "a").await;
    Ok(())
}

#[tokio::test]
async fn an_answer_that_is_lost_changes_nothing() -> Result<()> {
    let app = App::start().await?.caching();
    let mut url = reqwest::Url::parse(&app.env()["REDIS_URL"])?;
    let target = tokio::net::lookup_host((url.host_str().unwrap(), url.port().unwrap())).await?.next().unwrap();
    let proxy = Proxy::to(target).await?;
    url.set_port(Some(proxy.addr().port())).unwrap();
    let (cache, direct) = (cache(&app, &[("REDIS_URL", url.as_str())])?, cache(&app, &[])?);
    let (key, text, mut redis) = (plan(), made("A plan."), app.stores.redis().await?);
    // The connection is open, and the server knows the scripts.
    let winter = key_of("content_planning", "winter");
    let _ = joined(&cache, &winter, "w", LEASE).await?;
    finish(&cache, &winter, "w", &text).await?;
    redis::cmd("FLUSHDB").exec_async(&mut redis).await?;

    // The script runs, its answer is lost, and it is sent again.
    proxy.lose_the_next_answer();
    assert_eq!(joined(&cache, &key, "a", LEASE).await?, Joined::Lead);
    assert!(waits(&joined(&direct, &key, "b", LEASE).await?));
    proxy.lose_the_next_answer();
    finish(&cache, &key, "a", &text).await?;
    assert_eq!(names(&mut redis).await?.len(), 1, "a text and no flight");
    Ok(())
}

#[tokio::test]
async fn what_is_said_late_or_twice_takes_nobodys_lead() -> Result<()> {
    let app = App::start().await?.caching();
    let (cache, key, text) = (cache(&app, &[])?, plan(), made("A plan."));
    let mut redis = app.stores.redis().await?;
    assert_eq!(joined(&cache, &key, "a", LEASE).await?, Joined::Lead);
    assert_eq!(joined(&cache, &key, "a", LEASE).await?, Joined::Lead);
    for _ in 0..2 {
        cache.release(&key, "b").await;
        assert!(waits(&joined(&cache, &key, "b", LEASE).await?));
    }
    // It died in the eyes of the others, and was only slow.
    redis::cmd("FLUSHDB").exec_async(&mut redis).await?;
    assert_eq!(joined(&cache, &key, "b", LEASE).await?, Joined::Lead);
    cache.release(&key, "a").await;
    assert!(waits(&joined(&cache, &key, "c", LEASE).await?));
    for _ in 0..2 {
        // Scripts that the server has lost are sent again.
        redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut redis).await?;
        finish(&cache, &key, "a", &text).await?;
        let leader: String =
            redis::cmd("GET").arg(format!("{}:flight", name(&mut redis).await?)).query_async(&mut redis).await?;
        assert_eq!(leader, "b");
    }
    Ok(())
}
