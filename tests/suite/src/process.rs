//! A child process with its output, killed when dropped.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context as _, ensure};
use tokio::sync::watch;

/// How much of each output stream is kept: the end of it.
const KEPT_OUTPUT: usize = 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    child: Arc<Mutex<Child>>,
    stdout: Output,
    stderr: Output,
    /// How it ended, in words, once it has.
    exit: watch::Receiver<Option<String>>,
}

impl Process {
    /// Starts a program and reads what it writes.
    pub(crate) fn spawn(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let pid = child.id();
        let (stdout, stderr) = (Output::default(), Output::default());
        let readers = (
            stdout.follow(child.stdout.take().context("no standard output")?),
            stderr.follow(child.stderr.take().context("no standard error")?),
        );
        let child = Arc::new(Mutex::new(child));
        let (ended, exit) = watch::channel(None);
        let waited = Arc::clone(&child);
        thread::spawn(move || {
            // Both streams end when the process does; only then is it waited for, so that killing it never has to wait
            // for the lock.
            let _ = (readers.0.join(), readers.1.join());
            let exit = lock(&waited).wait().map_or_else(|error| error.to_string(), |status| status.to_string());
            ended.send_replace(Some(exit));
        });
        Ok(Self { pid, child, stdout, stderr, exit })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends SIGKILL. A process that has ended already is left alone.
    pub(crate) fn kill(&self) -> io::Result<()> {
        lock(&self.child).kill()
    }

    /// Waits for its end, and says how it ended: `exit status: 3`, `signal: 9 (SIGKILL)`.
    pub(crate) async fn exited(&self) -> String {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone());
        ended.unwrap_or_default()
    }

    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What cannot be killed has ended.
        let _ = self.kill();
    }
}

/// The end of what a process wrote.
#[derive(Clone, Debug, Default)]
struct Output(Arc<Mutex<VecDeque<u8>>>);

impl Output {
    fn follow(&self, mut stream: impl Read + Send + 'static) -> thread::JoinHandle<()> {
        let kept = self.clone();
        thread::spawn(move || {
            let mut buffer = [0; 8 * 1024];
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                let mut kept = lock(&kept.0);
                kept.extend(&buffer[..read]);
                let surplus = kept.len().saturating_sub(KEPT_OUTPUT);
                kept.drain(..surplus);
            }
        })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(lock(&self.0).make_contiguous()).into_owned()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The binary of a function: Cargo puts those of the workspace beside the folder of the test executables.
pub(crate) fn built_binary(name: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe().context("the test executable has no path")?;
    let profile = test.ancestors().nth(2).context("the test executable is not in a target folder")?;
    let binary = profile.join(name);
    ensure!(binary.is_file(), "{} is missing: `cargo build --workspace` makes it (`make test` does)", binary.display());
    Ok(binary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Process::spawn(command).unwrap()
    }

    #[tokio::test]
    async fn output_and_exit_code_are_kept() {
        let process = shell("echo out; echo err >&2; exit 3");
        assert_eq!(process.exited().await, "exit status: 3");
        assert_eq!((process.stdout().as_str(), process.stderr().as_str()), ("out\n", "err\n"));
    }

    #[tokio::test]
    async fn a_killed_process_has_ended() {
        let process = shell("exec sleep 60");
        process.kill().unwrap();
        assert_eq!(process.exited().await, "signal: 9 (SIGKILL)");
        process.kill().unwrap();
    }

    #[tokio::test]
    async fn only_the_end_of_a_long_output_is_kept() {
        let process = shell("head -c 3000000 /dev/zero | tr '\\0' 'x'; echo; echo end");
        process.exited().await;
        let output = process.stdout();
        assert!(output.len() == KEPT_OUTPUT && output.ends_with("x\nend\n"));
    }

    #[test]
    fn a_missing_binary_is_named_with_what_makes_it() {
        let error = built_binary("no-such-function").unwrap_err().to_string();
        assert!(error.contains("no-such-function is missing") && error.contains("cargo build"), "{error}");
    }
}
