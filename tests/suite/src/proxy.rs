//! A way to a store that can be cut: the faults of a network, over the wire.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to the connections that are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// Bytes pass.
    Open,
    /// Nothing passes and nobody is told: a firewall has forgotten the connection.
    Silent,
    /// Requests pass; the first answer ends the connection.
    LosesTheAnswer,
}

/// Listens on loopback and passes connections on.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    line: Arc<watch::Sender<Line>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A way to `target`.
    ///
    /// # Errors
    /// If no port is free.
    #[expect(clippy::disallowed_methods, reason = "no Lambda function: nothing freezes it")]
    pub async fn to(target: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let line = Arc::new(watch::Sender::new(Line::Open));
        let lines = Arc::clone(&line);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(target).await {
                    // A connection that is opened after a cut is good.
                    let _ = lines.send_replace(Line::Open);
                    tokio::spawn(pass(client, server, lines.subscribe()));
                }
            }
        });
        Ok(Self { addr, line, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on the open connections are silent; new ones are good.
    pub fn silence(&self) {
        let _ = self.line.send_replace(Line::Silent);
    }

    /// The next request on an open connection arrives, and its answer is lost with the connection.
    pub fn lose_the_next_answer(&self) {
        let _ = self.line.send_replace(Line::LosesTheAnswer);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(client: TcpStream, server: TcpStream, mut line: watch::Receiver<Line>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let cut = {
        let both =
            async { tokio::join!(copy(&mut from_client, &mut to_server), copy(&mut from_server, &mut to_client)) };
        tokio::select! {
            _ = both => return,
            cut = line.wait_for(|line| *line != Line::Open) => cut.map(|line| *line),
        }
    };
    match cut {
        Ok(Line::LosesTheAnswer) => {
            let (mut request, mut answer) = (vec![0; 65_536], vec![0; 1]);
            while let Ok(read) = tokio::select! {
                read = from_client.read(&mut request) => read,
                // The answer is there, so the server has done it. Both ends are dropped.
                _ = from_server.read(&mut answer) => return,
            } {
                if read == 0 || to_server.write_all(&request[..read]).await.is_err() {
                    return;
                }
            }
        }
        // Held open, and nothing passes.
        _ => std::future::pending().await,
    }
}
