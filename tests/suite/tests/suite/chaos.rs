//! docs/chaos.md: what clients see, what is lost and how long it takes to recover when something outside goes bad under load and is mended.

mod books;
mod load;
mod page;
mod setting;
mod stage;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::{try_join, try_join_all};
use futures_util::{StreamExt as _, stream};
use huntaze_tests::Request;
use tokio::time::{Instant, sleep, timeout};

use self::load::{CLIENTS, What, Wish};
use self::page::Played;
use self::setting::{Dependency, Wrong, behind_a_link};
use self::stage::Stage;
use crate::support::{MESSAGES, status_of, text, user};

/// How many rows are played at once.
const SIDE_BY_SIDE: usize = 2;
/// A row is well for so long before it is not.
const WELL: Duration = Duration::from_millis(1_500);
/// How long something is bad, and how long it is gone: longer than anybody waits for a store.
const BAD: Duration = Duration::from_millis(2_500);
const GONE: Duration = Duration::from_secs(6);
/// Between two probes.
const PROBING: Duration = Duration::from_millis(100);
/// Where nothing has ended for so long, what is left waits for time to pass.
const IDLE: Duration = Duration::from_millis(1_500);
/// Whoever is not served so long after the end of the load waits for what time ends.
const LEASED: Duration = Duration::from_secs(6);
/// Whatever has not ended by then never will.
const SETTLING: Duration = Duration::from_secs(90);
/// Longer than all of it together.
const BOUND: Duration = Duration::from_secs(240);

impl Stage<'_> {
    /// Asks, of what needs the dependency, until it is served well.
    async fn probe(&self) -> Result<()> {
        for number in 0.. {
            if self.is_served(number).await? {
                break;
            }
            sleep(PROBING).await;
        }
        Ok(())
    }

    async fn is_served(&self, number: usize) -> Result<bool> {
        let kind = match self.dependency {
            Dependency::Azure => 10,
            Dependency::OpenAi => 11,
            Dependency::PostgreSql | Dependency::Redis => 0,
            Dependency::DynamoDb => 5,
            Dependency::Sqs => 2,
            Dependency::OnlyFans => 1,
        };
        let wish = Wish::probe(format!("probe-{number}"), kind);
        let (_, answer) = self.ask(&wish, 0).await?;
        let Some(answer) = answer else { return Ok(false) };
        let data = &answer.body["data"];
        match self.dependency {
            Dependency::Sqs => self.ends_well(What::Campaign, text(&data["workflowId"])).await,
            Dependency::OnlyFans => self.ends_well(What::Message, text(&data["messageId"])).await,
            // It is known again how many more there may be.
            Dependency::Redis => Ok(answer.status == 200 && !answer.header("ratelimit").is_empty()),
            _ => Ok(answer.status == 200),
        }
    }

    /// Whether what was taken on is done, whenever that is.
    async fn ends_well(&self, what: What, id: &str) -> Result<bool> {
        let request = match what {
            What::Message => user(Request::get(MESSAGES), setting::USERS[0]).query("messageId", id),
            _ => status_of(setting::USERS[0], id),
        };
        let functions = if what == What::Message { &self.messages } else { &self.status };
        loop {
            let shown = functions.http(request.clone()).await??.body["data"].take();
            match text(&shown["status"]) {
                "completed" | "sent" => return Ok(true),
                "failed" | "unknown" => return Ok(false),
                _ => sleep(PROBING).await,
            }
        }
    }

    /// Lets time pass now and then when the load is over: whoever still waits for an answer may wait for somebody's lease.
    async fn while_time_passes<T>(&self, served: impl Future<Output = Result<T>>) -> Result<T> {
        let passing = async {
            loop {
                sleep(LEASED).await;
                if self.load_is_over() {
                    self.let_time_pass().await?;
                }
            }
        };
        tokio::select! {
            served = served => served,
            stopped = passing => stopped,
        }
    }

    /// Waits until everything has ended, and lets time pass where nothing goes on without.
    async fn settle(&self) -> Result<()> {
        let (mut last, mut since) = (self.open().await?, Instant::now());
        while last.iter().any(|count| *count > 0) {
            sleep(PROBING).await;
            let open = self.open().await?;
            if open != last {
                (last, since) = (open, Instant::now());
            } else if since.elapsed() > IDLE {
                self.approve().await?;
                self.let_time_pass().await?;
                since = Instant::now();
            }
        }
        Ok(())
    }
}

async fn play(dependency: Dependency, wrong: Wrong) -> Result<Played> {
    let (app, link) = behind_a_link(dependency).await?;
    let stage = Stage::new(&app, &link, dependency);
    let load = try_join_all((0..CLIENTS).map(|client| stage.client(client)));
    let course = async {
        let going_bad = async {
            sleep(WELL).await;
            stage.spoil(wrong.of(dependency));
            sleep(if wrong == Wrong::Gone { GONE } else { BAD }).await;
            stage.mend();
            let mended = Instant::now();
            stage.probe().await?;
            anyhow::Ok((mended, mended.elapsed()))
        };
        let (_, (mended, first)) = stage.while_time_passes(try_join(load, going_bad)).await?;
        if let Ok(settled) = timeout(SETTLING, stage.settle()).await {
            settled?;
        } else {
            stage.wrong(format!("{:?} never end", stage.open().await?));
        }
        let settled = mended.elapsed();
        stage.end();
        anyhow::Ok((first, settled))
    };
    let played = timeout(BOUND, try_join(course, stage.work())).await;
    let place = format!("{} {}", dependency.name(), wrong.name());
    let Ok(played) = played else {
        anyhow::bail!("{place} never ends: {:?}, {:#?}", stage.open().await?, stage.wrongs());
    };
    let ((served, settled), ()) = played.with_context(|| place.clone())?;
    let losses = stage.losses().await.with_context(|| place.clone())?;
    let (seen, skipped, ends) = (stage.seen(), stage.skipped(), stage.ends().await?);
    ensure!(seen.len() >= 4, "{place}: too little was asked for: {seen:?}");
    let (served, settled) = (served.as_secs_f64(), settled.as_secs_f64());
    Ok(Played { dependency, wrong, seen, ends, losses, served, settled, skipped })
}

fn from_environment(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "what is played is chosen where the tests are started")]
    std::env::var(name).ok()
}

/// Every row of the table; `CHAOS_ROWS` names some, such as `Redis gone,Azure`, to play those alone.
fn rows() -> Vec<(Dependency, Wrong)> {
    let all = Dependency::ALL.into_iter().flat_map(|one| Wrong::ALL.into_iter().map(move |wrong| (one, wrong)));
    let named = from_environment("CHAOS_ROWS").unwrap_or_default();
    let is_named = |(dependency, wrong): &(Dependency, Wrong)| {
        let name = format!("{} {}", dependency.name(), wrong.name());
        named.split(',').any(|part| name.contains(part.trim()))
    };
    all.filter(is_named).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "what goes bad is to be the only thing that does: `make test` plays it when the other tests have ended"]
async fn design_whatever_goes_bad_outside_nothing_that_was_accepted_is_lost_or_done_twice() -> Result<()> {
    let playing = stream::iter(rows()).map(|(dependency, wrong)| play(dependency, wrong)).buffered(SIDE_BY_SIDE);
    let played: Vec<_> = playing.inspect(|row| println!("{row:?}")).collect().await;
    // All that is wrong is told, and not the first of it alone: another run may not see it.
    let of = |row: &Result<Played>| row.as_ref().map_or_else(|error| vec![format!("{error:#}")], Played::faults);
    let faults: Vec<_> = played.iter().flat_map(of).collect();
    ensure!(faults.is_empty(), "{faults:#?}");
    let played: Vec<_> = played.iter().flatten().collect();
    if from_environment("WRITE_CHAOS").is_some() { page::write(&played) } else { page::hold(&played) }
}
