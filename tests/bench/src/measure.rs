//! The runs. What is compared takes turns, so that what else the machine does meets all of it alike.

use std::time::Duration;

use anyhow::Context as _;
use huntaze_tests::Function;
use huntaze_world::World;

use crate::process::{cpu, peak_memory};
use crate::setting::{PROVIDER, Setting};
use crate::stats::Sample;
use crate::subject::Subject;
use crate::wire::{RoundTrip, shape, waited, waves};

/// Processes of each subject that are started.
const STARTS: usize = 20;
/// Warm invocations of each subject.
const WARM: u32 = 200;
/// Invocations before the warm ones.
const WARM_UP: usize = 5;

/// Starts of one subject.
#[derive(Debug, Default)]
pub(crate) struct Cold {
    /// From the start of the process to its first poll.
    pub(crate) init: Sample,
    /// Processor time until then.
    pub(crate) init_cpu: Sample,
    /// Its first invocation.
    pub(crate) first: Sample,
    /// The first invocation without the provider's own time.
    pub(crate) first_overhead: Sample,
    /// Processor time of the first invocation.
    pub(crate) first_cpu: Sample,
}

/// Starts with every connection watched.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The initialisation without the time that a round trip was under way.
    pub(crate) own: Sample,
    /// The time that one was.
    pub(crate) waited: Sample,
    /// The round trips of a typical one.
    pub(crate) shape: String,
}

/// Starts all subjects again and again.
pub(crate) struct Starts {
    pub(crate) hello: Cold,
    pub(crate) direct: Cold,
    pub(crate) https: Cold,
    pub(crate) opened: Opened,
}

/// One start with its first invocation.
struct Start {
    init: Duration,
    init_cpu: Duration,
    first: Duration,
    first_overhead: Duration,
    first_cpu: Duration,
    opening: Vec<RoundTrip>,
}

pub(crate) async fn starts(setting: &Setting) -> anyhow::Result<Starts> {
    let (mut hello, mut direct, mut https, mut tapped) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        hello.push(start(setting, &setting.hello).await?);
        direct.push(start(setting, &setting.direct).await?);
        https.push(start(setting, &setting.https).await?);
        tapped.push(start(setting, &setting.tapped).await?);
    }
    Ok(Starts { hello: cold(&hello), direct: cold(&direct), https: cold(&https), opened: opened(tapped) })
}

async fn start(setting: &Setting, subject: &Subject) -> anyhow::Result<Start> {
    setting.app.world.reset();
    // Nobody is connected through the taps: what they still hold is of the start before.
    setting.round_trips();
    let function = subject.start().await?;
    let (init, init_cpu) = (function.init_duration().context("not started")?, cpu(function.pid())?);
    let opening = setting.round_trips();
    let first = subject.ask(&function).await?.took;
    let first_cpu = cpu(function.pid())?.saturating_sub(init_cpu);
    let first_overhead = first.saturating_sub(providers_time(&setting.app.world).into_iter().sum());
    function.kill().await?;
    Ok(Start { init, init_cpu, first, first_overhead, first_cpu, opening })
}

fn cold(starts: &[Start]) -> Cold {
    let sample = |part: fn(&Start) -> Duration| starts.iter().map(part).collect();
    Cold {
        init: sample(|start| start.init),
        init_cpu: sample(|start| start.init_cpu),
        first: sample(|start| start.first),
        first_overhead: sample(|start| start.first_overhead),
        first_cpu: sample(|start| start.first_cpu),
    }
}

fn opened(starts: Vec<Start>) -> Opened {
    let (mut own, mut wait, mut shapes) = (Vec::new(), Vec::new(), Vec::new());
    for start in starts {
        let waves = waves(start.opening);
        wait.push(waited(&waves));
        own.push(start.init.saturating_sub(waited(&waves)));
        shapes.push(shape(&waves));
    }
    Opened { own: own.into_iter().collect(), waited: wait.into_iter().collect(), shape: most_frequent(shapes).0 }
}

/// Warm invocations of one subject.
#[derive(Debug)]
pub(crate) struct Warm {
    /// Event out to answer in.
    pub(crate) took: Sample,
    /// Without the provider's own time.
    pub(crate) overhead: Sample,
    /// Processor time of one.
    pub(crate) cpu: Duration,
    /// The most memory that was resident.
    pub(crate) memory: u64,
}

/// Warm invocations with every connection watched.
#[derive(Debug)]
pub(crate) struct Watched {
    /// Without the provider's round trips.
    pub(crate) overhead: Sample,
    /// The stores' share: the time that one of their round trips was under way.
    pub(crate) stores: Sample,
    /// Without any round trip: the function's own time, and the Runtime API's.
    pub(crate) own: Sample,
    /// What is done behind the answer.
    pub(crate) behind: Sample,
    /// A typical one.
    pub(crate) typical: Seen,
    /// How many of them all had this shape.
    pub(crate) alike: (usize, usize),
}

/// One watched invocation.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    took: Duration,
    /// The waves that begin before the answer is there.
    pub(crate) waited_for: Waves,
    /// Those that begin behind it.
    pub(crate) behind: Waves,
}

impl Seen {
    /// `PostgreSQL ∥ Redis → provider → PostgreSQL → answer → DynamoDB`
    pub(crate) fn shape(&self) -> String {
        format!("{} → answer → {}", shape(&self.waited_for), shape(&self.behind))
    }
}

/// Asks all subjects in turn.
pub(crate) struct Rounds {
    pub(crate) hello: Warm,
    pub(crate) direct: Warm,
    pub(crate) watched: Watched,
}

pub(crate) async fn rounds(setting: &Setting) -> anyhow::Result<Rounds> {
    let mut hello = Turn::new(&setting.hello).await?;
    let mut direct = Turn::new(&setting.direct).await?;
    let tapped = Turn::new(&setting.tapped).await?;
    let mut watched = Vec::new();
    let world = &setting.app.world;
    for _ in 0..WARM {
        hello.ask(world).await?;
        direct.ask(world).await?;
        setting.round_trips();
        let asked = tapped.subject.ask(&tapped.function).await?;
        let (waited_for, behind) = setting.round_trips().into_iter().partition(|trip| trip.begun < asked.at);
        watched.push(Seen { took: asked.took, waited_for: waves(waited_for), behind: waves(behind) });
    }
    Ok(Rounds { hello: hello.end()?, direct: direct.end()?, watched: watch(watched)? })
}

/// One of several processes that are asked in turn.
struct Turn<'a> {
    subject: &'a Subject,
    function: Function,
    begun: Duration,
    took: Vec<Duration>,
    overhead: Vec<Duration>,
}

impl<'a> Turn<'a> {
    async fn new(subject: &'a Subject) -> anyhow::Result<Self> {
        let function = subject.start().await?;
        for _ in 0..WARM_UP {
            subject.ask(&function).await?;
        }
        let begun = cpu(function.pid())?;
        Ok(Self { subject, function, begun, took: Vec::new(), overhead: Vec::new() })
    }

    async fn ask(&mut self, world: &World) -> anyhow::Result<()> {
        world.reset();
        let took = self.subject.ask(&self.function).await?.took;
        self.took.push(took);
        self.overhead.push(took.saturating_sub(providers_time(world).into_iter().sum()));
        Ok(())
    }

    fn end(self) -> anyhow::Result<Warm> {
        let pid = self.function.pid();
        let cpu = cpu(pid)?.saturating_sub(self.begun) / WARM;
        let (took, overhead) = (self.took.into_iter().collect(), self.overhead.into_iter().collect());
        Ok(Warm { took, overhead, cpu, memory: peak_memory(pid)? })
    }
}

type Waves = Vec<Vec<RoundTrip>>;

fn watch(invocations: Vec<Seen>) -> anyhow::Result<Watched> {
    let (shape, alike) = most_frequent(invocations.iter().map(Seen::shape).collect());
    let typical = invocations.iter().find(|seen| seen.shape() == shape).cloned().context("none")?;
    let provider = |seen: &Seen| -> Duration {
        let trips = seen.waited_for.iter().flatten().filter(|trip| trip.server == PROVIDER);
        trips.map(RoundTrip::duration).sum()
    };
    let sample = |of: &dyn Fn(&Seen) -> Duration| -> Sample { invocations.iter().map(of).collect() };
    Ok(Watched {
        overhead: sample(&|seen| seen.took.saturating_sub(provider(seen))),
        stores: sample(&|seen| waited(&seen.waited_for).saturating_sub(provider(seen))),
        own: sample(&|seen| seen.took.saturating_sub(waited(&seen.waited_for))),
        behind: sample(&|seen| waited(&seen.behind)),
        typical,
        alike: (alike, invocations.len()),
    })
}

/// What the provider itself took for each call since the world was reset: from the request's being read to its answer's
/// being ready to be written.
fn providers_time(world: &World) -> Vec<Duration> {
    let took = |call: huntaze_world::Call| call.ended_at.map(|ended| ended.duration_since(call.at).unsigned_abs());
    world.calls().into_iter().filter_map(took).collect()
}

/// The most frequent of them, and how often it is there.
fn most_frequent(mut all: Vec<String>) -> (String, usize) {
    all.sort_unstable();
    let groups = all.chunk_by(|one, other| one == other).map(|group| (group[0].clone(), group.len()));
    groups.max_by_key(|(_, count)| *count).unwrap_or_default()
}
