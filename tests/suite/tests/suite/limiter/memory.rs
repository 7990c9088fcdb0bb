//! What becomes of the limits when Redis forgets: all at once, a log, the last moments, or again while it is being restored.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use huntaze_messaging::limiter::Generations;
use huntaze_tests::{App, eventually};
use redis::aio::MultiplexedConnection;
use serde_json::json;

use super::{Ask, BOUND, ENFORCED, Sender, app, dump, sender, server_time, set_clock, to};
use crate::support::closed_port;

const LOG: &str = "huntaze:limiter:{0}:account:anas-account";
const CLOCK: &str = "huntaze:limiter:{0}:clock";

async fn run(redis: &mut MultiplexedConnection, command: &[&str]) -> Result<()> {
    let (name, args) = command.split_first().unwrap();
    Ok(redis::cmd(name).arg(args).exec_async(redis).await?)
}

/// How Redis may forget.
const LOSSES: usize = 8;

/// One of the ways, those of a failover with the log of an account as well.
async fn forget(redis: &mut MultiplexedConnection, way: usize, log: &str) -> Result<()> {
    match way {
        0 => run(redis, &["FLUSHDB"]).await,
        // Evicted.
        1 => run(redis, &["DEL", log]).await,
        2 => run(redis, &["DEL", "huntaze:limiter:{0}:global:0"]).await,
        3 => run(redis, &["DEL", CLOCK]).await,
        // TIME is set back by a minute.
        4 => {
            let ahead = server_time(redis).await? + 60_000_000;
            set_clock(redis, ENFORCED, "at", ahead.to_string()).await
        }
        // A replica took over that had not heard of all grants: at one moment the server and what it knows are others.
        5 => {
            let mut failover = redis::pipe();
            failover.atomic().cmd("ZPOPMIN").arg(log).arg(3).ignore();
            failover.cmd("HSET").arg(CLOCK).arg("life").arg("0123456789abcdef@1").ignore();
            Ok(failover.exec_async(redis).await?)
        }
        // A log without its mark.
        6 => run(redis, &["ZREMRANGEBYSCORE", log, "+inf", "+inf"]).await,
        7 => run(redis, &["SCRIPT", "FLUSH"]).await,
        _ => unreachable!(),
    }
}

async fn begun(app: &App, account: &str) -> Result<usize> {
    let sql = "SELECT message_id FROM orchestrator.message_attempts WHERE account_id = $1";
    Ok(app.stores.rows(sql, &[&account]).await?.len())
}

#[tokio::test]
async fn a_memory_that_was_lost_is_restored_before_another_message_is_sent() -> Result<()> {
    let app = app().await?;
    let sender = Sender::of(&app, &[])?;
    let mut redis = app.stores.redis().await?;
    for n in 1..=10 {
        assert!(sender.send(&to(n, &format!("m{n}"))).await?);
    }
    let whole = dump(&mut redis).await?[LOG].len();
    for way in 0..LOSSES {
        forget(&mut redis, way, LOG).await?;
        assert!(!sender.send(&to(11, "m11")).await?, "loss {way}");
        assert_eq!(dump(&mut redis).await?[LOG].len(), whole, "loss {way}");
    }
    assert_eq!(begun(&app, "anas-account").await?, 10);
    // Whom it is for is written nowhere there.
    let written = format!("{:?}", dump(&mut redis).await?);
    assert!(written.contains("m10.1|follow_up|") && !written.contains("fan-"), "{written}");
    Ok(())
}

#[tokio::test]
async fn what_is_restored_counts_for_as_long_as_it_would_have() -> Result<()> {
    let app = app().await?;
    let sender = Sender::of(&app, &[])?;
    let mut redis = app.stores.redis().await?;
    let attempt = async |n: i32, seconds: f64| {
        let sql = "INSERT INTO orchestrator.message_attempts (message_id, attempt, account_id, user_id, recipient_id,
            message_type, counts_until) VALUES ('m' || $1::int, 1, 'anas-account', 'ana', 'fan-' || $1::int, 'follow_up',
            now() - make_interval(secs => $2))";
        app.stores.execute(sql, &[&n, &seconds]).await
    };
    // Of ten, three are over since more than a minute; one is still under way.
    for (n, age) in
        [(1, 3_000.0), (2, 90.0), (3, 61.0), (4, 20.0), (5, 15.0), (6, 10.0), (7, 5.0), (8, 4.0), (9, 2.0), (10, -30.0)]
    {
        assert_eq!(attempt(n, age).await?, 1);
    }
    let (_, verdict) = sender.decided(&to(11, "m11"), &Generations::default()).await?;
    assert_eq!(verdict.layers.iter().take(2).map(|said| said.remaining).collect::<Vec<_>>(), [2, 89]);
    // The next to leave the minute is the fourth.
    let reset = verdict.layers[0].reset.as_secs();
    assert!((1..=40).contains(&reset), "{reset}");
    assert_eq!(dump(&mut redis).await?[LOG].len(), 2 * (10 + 1 + 1), "those, the new one, and the mark");
    Ok(())
}

#[tokio::test]
async fn what_was_only_watched_is_restored_for_who_enforces_and_not_for_who_watches() -> Result<()> {
    let app = app().await?;
    for (n, watched) in [(1, false), (2, true)] {
        let sql = "INSERT INTO orchestrator.message_attempts (message_id, attempt, account_id, user_id, recipient_id,
            message_type, counts_until, watched)
            VALUES ('m' || $1::int, 1, 'anas-account', 'ana', 'fan-' || $1::int, 'follow_up', now(), $2)";
        assert_eq!(app.stores.execute(sql, &[&n, &watched]).await?, 1);
    }
    for (mode, remaining) in [("monitor", 8), ("enforce", 7)] {
        let sender = Sender::of(&app, &[("RATE_LIMIT_MODE", mode)])?;
        let (_, verdict) = sender.decided(&to(3, "m3"), &Generations::default()).await?;
        assert_eq!(verdict.layers[0].remaining, remaining, "{mode}");
    }
    Ok(())
}

#[tokio::test]
async fn a_permit_of_a_memory_that_is_lost_is_not_taken_once_it_was_restored() -> Result<()> {
    let app = app().await?;
    let [first, second] = [Sender::of(&app, &[])?, Sender::of(&app, &[])?];
    let mut redis = app.stores.redis().await?;
    for n in 1..=9 {
        assert!(first.send(&to(n, &format!("m{n}"))).await?);
    }
    // Granted as the tenth, and not begun yet.
    let (granted, _) = first.decided(&to(10, "m10"), &Generations::default()).await?;
    let granted = granted.unwrap();
    run(&mut redis, &["FLUSHDB"]).await?;
    assert!(second.send(&to(11, "m11")).await?, "nobody knows of the tenth");
    assert!(!first.begin(&to(10, "m10"), &granted).await?);
    assert!(first.decided(&to(10, "m10"), &granted).await?.0.is_none());
    assert_eq!(begun(&app, "anas-account").await?, 10);

    // Where nobody has restored it since, the permit stands: whoever does finds the attempt.
    let (granted, _) = first.decided(&Ask::new("b1", sender("bobs", "bob", 1)), &Generations::default()).await?;
    run(&mut redis, &["FLUSHDB"]).await?;
    assert!(first.begin(&Ask::new("b1", sender("bobs", "bob", 1)), &granted.unwrap()).await?);
    let (_, verdict) = second.decided(&Ask::new("b2", sender("bobs", "bob", 2)), &Generations::default()).await?;
    assert_eq!(verdict.layers[0].remaining, 8);
    Ok(())
}

/// Watching keeps logs of its own, and those of before it know nothing of what was sent meanwhile.
#[tokio::test]
async fn what_was_sent_while_the_limiter_watched_counts_when_it_enforces_again() -> Result<()> {
    let app = app().await?;
    let enforcing = Sender::of(&app, &[])?;
    let watching = Sender::of(&app, &[("RATE_LIMIT_MODE", "monitor")])?;
    for n in 1..=4 {
        assert!(enforcing.send(&to(n, &format!("m{n}"))).await?);
    }
    for n in 5..=10 {
        assert!(watching.send(&to(n, &format!("m{n}"))).await?);
    }
    assert!(!enforcing.send(&to(11, "m11")).await?);
    assert!(watching.send(&to(12, "m12")).await?, "watching sends");
    let (_, verdict) = watching.decided(&to(13, "m13"), &Generations::default()).await?;
    assert!(verdict.throttled(), "and says what it thinks of it");
    Ok(())
}

/// What `restore.lua` is, with what stands before it.
fn restore_script() -> redis::Script {
    let parts = [
        include_str!("../../../../../shared/messaging/lua/clock.lua"),
        include_str!("../../../../../shared/messaging/lua/log.lua"),
        include_str!("../../../../../shared/messaging/lua/restore.lua"),
    ];
    redis::Script::new(&parts.join("\n"))
}

#[tokio::test]
async fn a_restoration_that_comes_late_or_again_changes_nothing() -> Result<()> {
    let app = app().await?;
    let sender = Sender::of(&app, &[])?;
    let mut redis = app.stores.redis().await?;
    let script = restore_script();
    let restore = async |redis: &mut MultiplexedConnection, vacancy: &str, generation: u32| -> Result<bool> {
        let mut script = script.key(CLOCK);
        script.key(LOG).arg(vacancy).arg(generation).arg(60_000).arg("old.1|follow_up|0").arg(0);
        Ok(script.invoke_async(redis).await?)
    };
    let mark = async |redis: &mut MultiplexedConnection| -> Result<String> {
        let marks: Vec<String> =
            redis::cmd("ZRANGEBYSCORE").arg(LOG).arg("+inf").arg("+inf").query_async(redis).await?;
        ensure!(marks.len() == 1, "{marks:?}");
        Ok(marks[0].clone())
    };
    assert!(sender.send(&to(1, "m1")).await?);
    let life = mark(&mut redis).await?.strip_prefix("!1|").unwrap().to_owned();
    for (vacancy, generation) in [("", 1), ("", 0), ("?1|x", 1)] {
        assert!(!restore(&mut redis, vacancy, generation).await?, "the log has that generation");
    }
    // Lost again, and nobody has noticed: nothing says that what comes is not from before.
    run(&mut redis, &["DEL", LOG]).await?;
    for vacancy in ["", "?1|x", &format!("?1|{life}")] {
        assert!(!restore(&mut redis, vacancy, 2).await?);
    }
    // Noticed: only who was told of this loss may restore it, and once.
    let noticed = format!("?77|{life}");
    run(&mut redis, &["ZADD", LOG, "+inf", &noticed]).await?;
    assert!(!restore(&mut redis, &format!("?76|{life}"), 9).await?);
    assert!(restore(&mut redis, &noticed, 2).await?);
    assert!(!restore(&mut redis, &noticed, 2).await?);
    assert_eq!(mark(&mut redis).await?, format!("!2|{life}"));
    // Two were told of it: the later generation is what PostgreSQL takes.
    assert!(restore(&mut redis, &noticed, 3).await?);
    assert!(!restore(&mut redis, &noticed, 2).await?);
    // What a server remembers of a life before is nothing.
    set_clock(&mut redis, ENFORCED, "life", "0123456789abcdef@1".to_owned()).await?;
    assert!(!restore(&mut redis, &noticed, 4).await?);
    // Nor is a log whose restoration was made by a generation that PostgreSQL has left behind: it is restored once it is refused.
    assert!(sender.send(&to(2, "m2")).await?);
    let raise = json!([{"subject": "account:anas-account", "window_ms": 1, "account": "anas-account"}]);
    let _ = app.stores.rows("SELECT * FROM orchestrator.recall_permits($1, 1)", &[&raise]).await?;
    assert!(sender.send(&to(3, "m3")).await?);
    assert_eq!(begun(&app, "anas-account").await?, 3);
    Ok(())
}

#[tokio::test]
async fn design_no_loss_of_memory_lets_an_11th_message_through_or_keeps_a_10th_back() -> Result<()> {
    const SENDERS: usize = 8;
    const MESSAGES: usize = 20;
    const ACCOUNTS: [&str; 3] = ["one", "two", "three"];
    let app = app().await?;
    // An hour outlives the test. Everyone's log is shared by all.
    let settings = [("RATE_LIMIT_ACCOUNT_PER_MINUTE", "5000"), ("RATE_LIMIT_ACCOUNT_PER_HOUR", "10")];
    let senders = (0..SENDERS).map(|_| Sender::of(&app, &settings)).collect::<Result<Vec<_>>>()?;
    let asked = AtomicUsize::new(0);
    let sending = try_join_all(senders.iter().enumerate().map(async |(s, one)| {
        for n in 0..MESSAGES {
            let who = sender(ACCOUNTS[n % ACCOUNTS.len()], "ana", s * MESSAGES + n);
            let _ = one.send(&Ask::new(&format!("m{s}-{n}"), who)).await?;
            let _ = asked.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(())
    }));
    let losing = async {
        let mut redis = app.stores.redis().await?;
        for n in 0..SENDERS * MESSAGES / 3 {
            let log = format!("huntaze:limiter:{{0}}:account:{}", ACCOUNTS[n / LOSSES % ACCOUNTS.len()]);
            forget(&mut redis, n % LOSSES, &log).await?;
            eventually(BOUND, async || {
                ensure!(asked.load(Ordering::Relaxed) >= n * 3, "nobody has asked since");
                Ok(())
            })
            .await?;
        }
        anyhow::Ok(())
    };
    let _ = tokio::try_join!(sending, losing)?;
    for account in ACCOUNTS {
        assert_eq!(begun(&app, account).await?, 10, "{account}");
    }
    Ok(())
}

/// A Redis of the test's own, which keeps what it is told to.
struct OwnRedis {
    server: Child,
    port: u16,
    folder: PathBuf,
}

impl OwnRedis {
    async fn start() -> Result<Self> {
        let port = closed_port()?.rsplit(':').next().unwrap().parse()?;
        let folder = std::env::temp_dir().join(format!("huntaze-redis-{port}"));
        fs::create_dir_all(&folder)?;
        let server = Self::serve(port, &folder)?;
        Self { server, port, folder }.answers().await
    }

    fn serve(port: u16, folder: &PathBuf) -> Result<Child> {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--port"]).arg(port.to_string()).arg("--dir").arg(folder);
        Ok(command.stdout(Stdio::null()).spawn()?)
    }

    async fn answers(self) -> Result<Self> {
        eventually(BOUND, async || Ok(redis::cmd("PING").exec_async(&mut self.connection().await?).await?)).await?;
        Ok(self)
    }

    async fn connection(&self) -> Result<MultiplexedConnection> {
        Ok(redis::Client::open(self.url())?.get_multiplexed_async_connection().await?)
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Killed, and started again with what it had written to its disk.
    async fn crash(mut self) -> Result<Self> {
        self.server.kill()?;
        let _ = self.server.wait()?;
        self.server = Self::serve(self.port, &self.folder)?;
        self.answers().await
    }
}

impl Drop for OwnRedis {
    fn drop(&mut self) {
        let _ = (self.server.kill(), self.server.wait(), fs::remove_dir_all(&self.folder));
    }
}

#[tokio::test]
async fn a_server_that_comes_back_with_an_older_memory_is_not_believed() -> Result<()> {
    let app = app().await?;
    let own = OwnRedis::start().await?;
    let sender = Sender::of(&app, &[("REDIS_URL", &own.url())])?;
    for n in 1..=5 {
        assert!(sender.send(&to(n, &format!("m{n}"))).await?);
    }
    run(&mut own.connection().await?, &["SAVE"]).await?;
    for n in 6..=10 {
        assert!(sender.send(&to(n, &format!("m{n}"))).await?);
    }
    let own = own.crash().await?;
    assert_eq!(
        dump(&mut own.connection().await?).await?[LOG].len(),
        2 * (5 + 1),
        "it knows of five, and says they are all"
    );
    assert!(!sender.send(&to(11, "m11")).await?);
    assert_eq!(begun(&app, "anas-account").await?, 10);
    Ok(())
}
