//! What is measured: release binaries, started and asked as Lambda does it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use huntaze_tests::runtime::{GATEWAY_DEADLINE, Timed};
use huntaze_tests::{Function, Request};

/// A function with its environment and the request that it is asked.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    name: &'static str,
    env: BTreeMap<String, String>,
    request: Request,
}

impl Subject {
    pub(crate) fn new(name: &'static str, env: BTreeMap<String, String>, request: Request) -> Self {
        Self { name, env, request }
    }

    /// The same with other values of some variables.
    pub(crate) fn with<const N: usize>(&self, variables: [(&str, String); N]) -> Self {
        let mut other = self.clone();
        other.env.extend(variables.map(|(name, value)| (name.to_owned(), value)));
        other
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn env(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str)
    }

    /// The release binary, beside the folder that this program is in.
    pub(crate) fn binary(&self) -> anyhow::Result<PathBuf> {
        let binary = target_folder()?.join("release").join(self.name);
        ensure!(binary.is_file(), "{} is missing: `make bench` builds it", binary.display());
        Ok(binary)
    }

    /// A process that has asked for its first event.
    pub(crate) async fn start(&self) -> anyhow::Result<Function> {
        self.start_by(Command::new(self.binary()?)).await
    }

    /// The same as the last argument of another command.
    pub(crate) async fn start_under(&self, mut command: Command) -> anyhow::Result<Function> {
        command.arg(self.binary()?);
        self.start_by(command).await
    }

    async fn start_by(&self, command: Command) -> anyhow::Result<Function> {
        let function = Function::run(self.name, command, self.env.clone())?;
        function.ready().await?;
        Ok(function)
    }

    /// Asks once, and waits until the invocation has ended. The answer's time is what the client of the Runtime API sees.
    pub(crate) async fn ask(&self, function: &Function) -> anyhow::Result<Asked> {
        let mut invocation = function.start_invoke(&self.request.event(), GATEWAY_DEADLINE);
        let Timed { answer, took, at } = invocation.timed().await?;
        ensure!(answer["statusCode"] == 200, "{} answers {answer}", self.name);
        invocation.ended().await;
        Ok(Asked { took, at })
    }
}

/// An answered request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// How long the answer took.
    pub(crate) took: Duration,
    /// When it was there.
    pub(crate) at: Instant,
}

/// Cargo's `target`: this program is in the folder of a profile there.
pub(crate) fn target_folder() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.ancestors().nth(2).context("this program is not in a target folder")?.to_owned())
}
