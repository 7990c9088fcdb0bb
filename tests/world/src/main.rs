//! The world as a program: `huntaze-world --listen 127.0.0.1:4010`. Runs until SIGINT or SIGTERM.

use std::env;
use std::io::{self, Write as _};
use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use huntaze_world::World;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let listen = listen_address(env::args().skip(1))?;
    let mut terminated = signal(SignalKind::terminate())?;
    let world = World::start(listen).with_context(|| format!("cannot listen on {listen}"))?;
    writeln!(io::stdout(), "the world listens on {}", world.url())?;
    tokio::select! {
        _ = terminated.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}

fn listen_address(arguments: impl Iterator<Item = String>) -> anyhow::Result<SocketAddr> {
    let arguments: Vec<_> = arguments.collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(huntaze_world::ANY_PORT),
        ["--listen", address] => address.parse().with_context(|| format!("{address} is not an address with a port")),
        _ => bail!("usage: huntaze-world [--listen 127.0.0.1:PORT]"),
    }
}
