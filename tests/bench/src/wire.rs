//! Round trips, counted where nobody can be mistaken about them: on the wire.
//!
//! A round trip is a burst of bytes to a server followed by bytes from it. Round trips that overlap in time are a wave: what
//! a request waits for is the number of its waves. Opening a TCP connection is none: no bytes pass.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A way to a server that writes down when bytes pass.
#[derive(Debug)]
pub(crate) struct Tap {
    server: &'static str,
    addr: SocketAddr,
    passed: Passed,
    task: JoinHandle<()>,
}

/// When bytes passed, by connection.
type Passed = Arc<Mutex<Vec<Vec<(Instant, Way)>>>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ToServer,
    FromServer,
}

/// One round trip: from the first byte of the question to the last of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RoundTrip {
    pub(crate) server: &'static str,
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
}

impl RoundTrip {
    pub(crate) fn duration(&self) -> Duration {
        self.ended - self.begun
    }
}

impl Tap {
    /// A way to `target`, which is called `server` from now on.
    #[expect(clippy::disallowed_methods, reason = "no Lambda function: nothing freezes it")]
    pub(crate) async fn to(server: &'static str, target: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let passed = Passed::default();
        let kept = Arc::clone(&passed);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(target).await {
                    tokio::spawn(pass(client, server, Arc::clone(&kept)));
                }
            }
        });
        Ok(Self { server, addr, passed, task })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The round trips since this was asked last.
    pub(crate) fn take(&self) -> Vec<RoundTrip> {
        let mut connections = lock(&self.passed);
        connections.iter_mut().flat_map(|passed| round_trips(self.server, &std::mem::take(passed))).collect()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(client: TcpStream, server: TcpStream, passed: Passed) {
    // As the function's own sockets are, or this one would wait where they do not.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let connection = {
        let mut connections = lock(&passed);
        connections.push(Vec::new());
        connections.len() - 1
    };
    let note = |way: Way| lock(&passed)[connection].push((Instant::now(), way));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::join!(
        pass_on(from_client, to_server, || note(Way::ToServer)),
        pass_on(from_server, to_client, || note(Way::FromServer)),
    );
}

async fn pass_on(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, note: impl Fn()) {
    let mut bytes = vec![0; 65_536];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        note();
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
    // The end of one way is passed on; the other way may go on.
    let _ = to.shutdown().await;
}

fn round_trips(server: &'static str, passed: &[(Instant, Way)]) -> Vec<RoundTrip> {
    let mut trips: Vec<RoundTrip> = Vec::new();
    let mut asked: Option<Instant> = None;
    for &(at, way) in passed {
        match way {
            Way::ToServer => asked = asked.or(Some(at)),
            Way::FromServer => match asked.take() {
                Some(begun) => trips.push(RoundTrip { server, begun, ended: at }),
                // The answer goes on.
                None => trips.iter_mut().last().into_iter().for_each(|trip| trip.ended = at),
            },
        }
    }
    trips
}

/// The round trips in groups that overlap in time, in the order of their beginning.
pub(crate) fn waves(mut trips: Vec<RoundTrip>) -> Vec<Vec<RoundTrip>> {
    trips.sort_unstable_by_key(|trip| trip.begun);
    let mut waves: Vec<Vec<RoundTrip>> = Vec::new();
    let mut end = None;
    for trip in trips {
        match waves.last_mut() {
            Some(wave) if end.is_some_and(|end| trip.begun < end) => wave.push(trip),
            _ => waves.push(vec![trip]),
        }
        end = end.max(Some(trip.ended));
    }
    waves
}

/// How long at least one round trip was under way.
pub(crate) fn waited(waves: &[Vec<RoundTrip>]) -> Duration {
    let length = |wave: &Vec<RoundTrip>| {
        let begun = wave.iter().map(|trip| trip.begun).min()?;
        Some(wave.iter().map(|trip| trip.ended).max()? - begun)
    };
    waves.iter().filter_map(length).sum()
}

/// The servers of each wave: `PostgreSQL → provider → PostgreSQL → DynamoDB`.
pub(crate) fn shape(waves: &[Vec<RoundTrip>]) -> String {
    let wave = |wave: &Vec<RoundTrip>| wave.iter().map(|trip| trip.server).collect::<Vec<_>>().join(" ∥ ");
    waves.iter().map(wave).collect::<Vec<_>>().join(" → ")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    fn trip(server: &'static str, start: Instant, begun: u64, ended: u64) -> RoundTrip {
        RoundTrip { server, begun: at(start, begun), ended: at(start, ended) }
    }

    #[test]
    fn a_burst_and_what_answers_it_is_one_round_trip() {
        let start = Instant::now();
        let passed = [
            (0, Way::FromServer), // The end of what was asked before the tap was emptied.
            (1, Way::ToServer),
            (2, Way::ToServer),
            (5, Way::FromServer),
            (6, Way::FromServer),
            (9, Way::ToServer),
            (12, Way::FromServer),
            (13, Way::ToServer), // Not answered.
        ];
        let passed: Vec<_> = passed.into_iter().map(|(ms, way)| (at(start, ms), way)).collect();
        assert_eq!(round_trips("a", &passed), [trip("a", start, 1, 6), trip("a", start, 9, 12)]);
    }

    #[test]
    fn what_overlaps_is_one_wave() {
        let start = Instant::now();
        let trips = vec![
            trip("d", start, 30, 40),
            trip("a", start, 0, 10),
            trip("b", start, 2, 4),
            trip("c", start, 8, 14),
            trip("b", start, 14, 20),
        ];
        let waves = waves(trips);
        assert_eq!(shape(&waves), "a ∥ b ∥ c → b → d");
        assert_eq!(waited(&waves), Duration::from_millis(14 + 6 + 10));
    }

    #[tokio::test]
    async fn a_tap_passes_bytes_on_and_counts() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tap = Tap::to("echo", server.local_addr().unwrap()).await.unwrap();
        let talk = async {
            let mut client = TcpStream::connect(tap.addr()).await.unwrap();
            for _ in 0..2 {
                client.write_all(b"ping").await.unwrap();
                client.read_exact(&mut [0; 4]).await.unwrap();
            }
        };
        let echo = async {
            let (mut stream, _) = server.accept().await.unwrap();
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await.unwrap();
        };
        tokio::join!(talk, echo);
        let trips = tap.take();
        assert_eq!(trips.len(), 2);
        assert!(trips.iter().all(|trip| trip.server == "echo" && trip.begun <= trip.ended));
        assert!(tap.take().is_empty());
    }
}
