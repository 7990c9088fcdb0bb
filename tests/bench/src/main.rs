//! What campaigns-hybrid costs, beside the least that a function can cost; or, with the argument `costs`, what reading costs
//! takes with few and with many entries; or, with `texts`, how long a text takes to be judged. docs/benchmarks.md says how it is measured.
//!
//! A program, no test: it prints a table and holds it against its targets, and a slow machine fails nothing.

#![expect(clippy::float_arithmetic, reason = "statistics; no money is here")]

mod callgrind;
mod costs;
mod flag;
mod measure;
mod process;
mod report;
mod setting;
mod stats;
mod subject;
mod texts;
mod tls;
mod wire;

use std::fs;
use std::io::{Write as _, stdout};
use std::thread::available_parallelism;
use std::time::Duration;

use huntaze_tests::now;

use crate::callgrind::{Instructions, count};
use crate::measure::{Rounds, Starts, Watched, rounds, starts};
use crate::report::{Report, Target, ratio, ratio_of};
use crate::setting::{PROVIDER, Setting};
use crate::stats::{mib, millions, ms};
use crate::subject::target_folder;

const MIB: u64 = 1 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        None => main_job().await,
        Some("costs") => costs::run().await,
        Some("texts") => texts::run(),
        Some(other) => {
            anyhow::bail!("there is no benchmark `{other}`: none is named for the main job, or `costs` or `texts`")
        }
    }
}

async fn main_job() -> anyhow::Result<()> {
    let folder = target_folder()?.join("bench");
    fs::create_dir_all(&folder)?;
    let setting = Setting::new(&folder).await?;
    let starts = starts(&setting).await?;
    let rounds = rounds(&setting).await?;
    let instructions = (count(&setting.hello, &folder).await?, count(&setting.direct, &folder).await?);

    let mut report = Report::default();
    initialisation(&mut report, &starts, instructions);
    invocations(&mut report, &starts, &rounds, instructions);
    first_tls_call(&mut report, &starts);
    let decisions = flag::decisions()?;
    let target = Target::new("< 10 µs", decisions.percentile(99) < Duration::from_micros(10));
    report.row("a flag's decision, p50 / p99", "", decisions.spread_in_micros(), "", Some(target));
    footprint(&mut report, &setting, &rounds)?;
    writeln!(
        stdout(),
        "{}\n\n{report}\n{}",
        heading("make bench"),
        round_trips(&starts.opened.shape, &rounds.watched)
    )?;
    Ok(())
}

/// What was run, when and where.
fn heading(command: &str) -> String {
    let processors = available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let (day, machine) = (now().strftime("%Y-%m-%d"), std::env::consts::ARCH);
    format!("`{command}`, {day}, {processors} processors ({machine}), load {load} at its end")
}

fn initialisation(report: &mut Report, starts: &Starts, (hello, hybrid): (Instructions, Instructions)) {
    let (base, direct, opened) = (&starts.hello, &starts.direct, &starts.opened);
    let median = base.init.median();
    report.row(
        "start to first poll, connections opened",
        ms(median),
        ms(direct.init.median()),
        ratio(direct.init.median(), median),
        None,
    );
    report.row("– of it in the connections' round trips", "", ms(opened.waited.median()), "", None);
    report.row(
        "– of it the function's own",
        ms(median),
        ms(opened.own.median()),
        ratio(opened.own.median(), median),
        Some(Target::new("≤ 3 ×", opened.own.median() <= 3 * median)),
    );
    report.row(
        "CPU until the first poll",
        ms(base.init_cpu.median()),
        ms(direct.init_cpu.median()),
        ratio(direct.init_cpu.median(), base.init_cpu.median()),
        None,
    );
    report.row(
        "instructions until the first poll",
        millions(hello.init),
        millions(hybrid.init),
        ratio_of(hybrid.init, hello.init),
        Some(Target::new("≤ 6 ×", hybrid.init <= 6 * hello.init)),
    );
}

fn invocations(report: &mut Report, starts: &Starts, rounds: &Rounds, (hello, hybrid): (Instructions, Instructions)) {
    let (cold, warm, base, watched) = (&starts.direct, &rounds.direct, &rounds.hello, &rounds.watched);
    report.row("first invocation, p50 / p99", starts.hello.first.spread(), cold.first.spread(), "", None);
    report.row("– without the provider's own time", "", cold.first_overhead.spread(), "", None);
    report.row("warm invocation, p50 / p99", base.took.spread(), warm.took.spread(), "", None);
    report.row(
        "– without the provider's own time",
        "",
        warm.overhead.spread(),
        ratio(warm.overhead.median(), base.took.median()),
        Some(Target::new("p50 ≤ 4 ms", warm.overhead.median() <= Duration::from_millis(4))),
    );
    report.row("– the same, every connection watched", "", watched.overhead.spread(), "", None);
    report.row("– – of it the stores' round trips", "", watched.stores.spread(), "", None);
    report.row("– – without any round trip: the function and the Runtime API", "", watched.own.spread(), "", None);
    report.row("behind the answer: the ledger, in DynamoDB's emulator", "", watched.behind.spread(), "", None);
    report.row("CPU of a warm invocation", ms(base.cpu), ms(warm.cpu), ratio(warm.cpu, base.cpu), None);
    report.row(
        "instructions of a warm invocation",
        millions(hello.warm),
        millions(hybrid.warm),
        ratio_of(hybrid.warm, hello.warm),
        None,
    );
}

fn first_tls_call(report: &mut Report, starts: &Starts) {
    let (http, https) = (starts.direct.first_cpu.median(), starts.https.first_cpu.median());
    let more = https.saturating_sub(http);
    report.row("CPU of a first invocation, provider over HTTP", "", ms(http), "", None);
    report.row("– what TLS adds to it", "", ms(more), "", Some(Target::new("< 3 ms", more < Duration::from_millis(3))));
}

fn footprint(report: &mut Report, setting: &Setting, rounds: &Rounds) -> anyhow::Result<()> {
    let (base, memory) = (rounds.hello.memory, rounds.direct.memory);
    let target = Target::new("≤ 24 MiB", memory <= 24 * MIB);
    report.row("peak memory, warm", mib(base), mib(memory), ratio_of(memory, base), Some(target));
    let size = |subject: &subject::Subject| Ok::<_, anyhow::Error>(fs::metadata(subject.binary()?)?.len());
    let (base, size) = (size(&setting.hello)?, size(&setting.direct)?);
    let target = Target::new("< 10 MiB", size < 10 * MIB);
    report.row("binary, stripped", mib(base), mib(size), ratio_of(size, base), Some(target));
    Ok(())
}

/// What a warm invocation waits for: one wave before the provider's call, and one that settles it.
fn round_trips(opening: &str, watched: &Watched) -> String {
    let waves = &watched.typical.waited_for;
    let at = waves.iter().position(|wave| wave.iter().any(|trip| trip.server == PROVIDER)).unwrap_or(waves.len());
    let (before, after) = (&waves[..at], waves.get(at + 1..).unwrap_or_default());
    let trips = |waves: &[Vec<_>]| waves.iter().map(Vec::len).sum::<usize>();
    let verdict = if before.len() == 1 && after.len() == 1 { "✓" } else { "✗" };
    let (alike, all) = watched.alike;
    format!(
        "Round trips of the initialisation: {opening}.\n\n\
         Round trips of a warm invocation: {} ({alike} of {all} alike).\n\n\
         Before the provider's call: {} in {} wave(s); between it and the answer: {} in {} wave(s). Target: one wave each {verdict}",
        watched.typical.shape(),
        trips(before),
        before.len(),
        trips(after),
        after.len(),
    )
}
