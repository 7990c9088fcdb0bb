//! Many who ask at once, each on a connection of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use futures_util::stream::{StreamExt as _, TryStreamExt as _, iter};
use huntaze_breaker::{Breaker, Denied, Keeper, Name, Permit, Report, State};
use huntaze_tests::{App, eventually};
use tokio::runtime::{Builder, Runtime};

use super::{BOUND, asked, breaker, name, open, told};

const THREADS: usize = 4;
const CLIENTS: usize = 24;
const ROUNDS: usize = 10_000;
/// So many circuits are raced for at once.
const CIRCUITS: usize = 20;
/// And each client has so many questions under way, so that several go with one packet.
const UNDER_WAY: usize = 10;

/// The clients of one thread.
struct Group {
    runtime: Runtime,
    clients: Vec<(usize, Breaker)>,
}

impl Group {
    fn new(app: &App, thread: usize) -> Result<Self> {
        let clients = (0..CLIENTS).filter(|client| client % THREADS == thread);
        let clients = clients.map(|client| Ok((client, breaker(app, &[("BREAKER_OPEN_MS", "1")])?)));
        Ok(Self {
            runtime: Builder::new_current_thread().enable_all().build()?,
            clients: clients.collect::<Result<_>>()?,
        })
    }

    /// Each of them asks every circuit, the first of them last the next time: who was let through, by which.
    fn race(&mut self, circuits: &[Name]) -> Result<Vec<(usize, usize, Permit)>> {
        self.clients.rotate_left(1);
        let racing = self.clients.iter().map(|(client, breaker)| ask_all(*client, breaker, circuits));
        Ok(self.runtime.block_on(try_join_all(racing))?.into_iter().flatten().collect())
    }
}

/// One client asks every circuit, beginning with another than the next client does.
async fn ask_all(client: usize, breaker: &Breaker, circuits: &[Name]) -> Result<Vec<(usize, usize, Permit)>> {
    let asking = (0..CIRCUITS).map(async |n| {
        let which = (client * 7 + n) % CIRCUITS;
        let said = asked(breaker, &circuits[which]).await?;
        match said.permit {
            Ok(permit) => {
                ensure!(permit.is_probe(), "let through by a circuit that is open");
                Ok(Some((which, client, permit)))
            }
            Err(Denied::Open { retry_after }) if !retry_after.is_zero() => Ok(None),
            Err(denied) => Err(denied.into()),
        }
    });
    let asked: Vec<_> = iter(asking).buffer_unordered(UNDER_WAY).try_collect().await?;
    Ok(asked.into_iter().flatten().collect())
}

/// All threads race: who was let through by each circuit.
fn race(groups: &mut [Group], circuits: &[Name]) -> Result<Vec<Vec<(usize, Permit)>>> {
    let mut probes = vec![Vec::new(); CIRCUITS];
    std::thread::scope(|scope| {
        // All are off before the first is waited for.
        let racing: Vec<_> = groups.iter_mut().map(|group| scope.spawn(|| group.race(circuits))).collect();
        for raced in racing {
            for (which, client, permit) in raced.join().map_err(|_| anyhow::anyhow!("a thread has panicked"))?? {
                probes[which].push((client, permit));
            }
        }
        Ok(probes)
    })
}

/// Until each of them may be probed.
async fn may_be_probed(breaker: &Breaker, circuits: &[Name]) -> Result<()> {
    eventually(BOUND, async || {
        let peeked = breaker.peek(circuits).await;
        ensure!(peeked.by == Keeper::Redis);
        let open = |state| state == State::Open { left: Duration::ZERO };
        ensure!(peeked.standings.iter().all(|circuit| open(circuit.state)), "{peeked:?}");
        Ok(())
    })
    .await
}

/// Each probe of a batch, which has to be the only one, ends; gives who they were.
async fn end(reporter: &Breaker, probes: Vec<Vec<(usize, Permit)>>, report: Report) -> Result<Vec<usize>> {
    let ends = probes.iter().map(async |probes| {
        let [(client, permit)] = &probes[..] else { panic!("let through are {probes:?}") };
        let said = told(reporter, permit, report).await?.standing;
        ensure!(said.epoch > permit.epoch());
        Ok(*client)
    });
    try_join_all(ends).await
}

async fn open_all(breaker: &Breaker, circuits: &[Name]) -> Result<()> {
    try_join_all(circuits.iter().map(|name| open(breaker, name))).await.map(|_| ())
}

#[test]
fn design_of_24_clients_racing_for_the_half_open_probe_exactly_one_is_let_through() -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let app = runtime.block_on(App::start())?;
    let mut groups = (0..THREADS).map(|thread| Group::new(&app, thread)).collect::<Result<Vec<_>>>()?;
    let reporter = breaker(&app, &[("BREAKER_OPEN_MS", "1")])?;
    let circuits: Vec<_> = (0..CIRCUITS).map(|n| name(&format!("azure:raced-{n}"))).collect();
    runtime.block_on(open_all(&reporter, &circuits))?;
    let (mut rounds, mut winners) = (0, BTreeSet::new());
    for batch in 1..=ROUNDS / CIRCUITS {
        runtime.block_on(may_be_probed(&reporter, &circuits))?;
        let probes = race(&mut groups, &circuits).with_context(|| format!("batch {batch}"))?;
        // One batch of five ends well, and five failures open its circuits again.
        let report = if batch % 5 == 0 { Report::Success } else { Report::Failure };
        winners.extend(runtime.block_on(end(&reporter, probes, report))?);
        if report == Report::Success {
            runtime.block_on(open_all(&reporter, &circuits))?;
        }
        rounds += CIRCUITS;
    }
    println!("{rounds} rounds of {CLIENTS} clients: one probe each, won by {} of them", winners.len());
    assert!(rounds == ROUNDS && winners.len() > CLIENTS / 2, "{rounds} rounds, {winners:?}");
    Ok(())
}
