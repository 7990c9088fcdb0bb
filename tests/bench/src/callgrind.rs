//! Instructions, counted by callgrind: a number that a busy machine does not change.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use nix::sys::signal::{Signal, kill};

use crate::process::pid_of;
use crate::subject::Subject;

/// Invocations of the shorter of two runs, whose difference is that of so many warm ones.
const INVOCATIONS: u64 = 20;

/// Instructions of a function, in user space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instructions {
    /// From its start, the dynamic linker's part included, up to its first poll.
    pub(crate) init: u64,
    /// Of one warm invocation.
    pub(crate) warm: u64,
}

/// Counts; the profiles stay in `folder`, for `callgrind_annotate`.
pub(crate) async fn count(subject: &Subject, folder: &Path) -> anyhow::Result<Instructions> {
    let init = run(subject, folder, 0).await?;
    let (some, twice) = (run(subject, folder, INVOCATIONS).await?, run(subject, folder, 2 * INVOCATIONS).await?);
    Ok(Instructions { init, warm: twice.saturating_sub(some) / INVOCATIONS })
}

async fn run(subject: &Subject, folder: &Path, invocations: u64) -> anyhow::Result<u64> {
    let profile = folder.join(format!("callgrind.{}.{invocations}.out", subject.name()));
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--quiet"]).arg(format!("--callgrind-out-file={}", profile.display()));
    let function = subject.start_under(valgrind).await.context("valgrind")?;
    for _ in 0..invocations {
        subject.ask(&function).await?;
    }
    // It writes its profile when the program ends, and not when it is killed.
    kill(pid_of(function.pid())?, Signal::SIGTERM)?;
    let exit = function.exited().await;
    ensure!(exit == "signal: 15 (SIGTERM)", "valgrind ended with {exit}\n{}", function.logs());
    total(&fs::read_to_string(&profile).with_context(|| profile.display().to_string())?)
}

fn total(profile: &str) -> anyhow::Result<u64> {
    let total = profile.lines().find_map(|line| line.strip_prefix("summary: ").or(line.strip_prefix("totals: ")));
    total.context("a profile without a total")?.trim().parse().context("a profile's total")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_of_a_profile_is_read() {
        assert_eq!(total("# callgrind format\nevents: Ir\nsummary: 12345\n\nfn=(1) main\n16 400\n").unwrap(), 12_345);
        assert_eq!(total("events: Ir\nfn=(1) main\n16 400\ntotals: 400\n").unwrap(), 400);
        assert!(total("events: Ir\n").is_err());
    }
}
