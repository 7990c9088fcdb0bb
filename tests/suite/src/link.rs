//! A way to a service that can go bad for everybody who uses it, and be mended: the faults of a dependency, over the wire.
//!
//! [`Proxy`](crate::Proxy) spoils the connections that are there; a link spoils all of them, new ones too, until it is mended.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// A connection is cut at a place below this, another one each time: within a greeting, or within an answer.
const CUT_BELOW: u64 = 400;
/// A step between two such places that visits all of them.
const CUT_STEP: u64 = 37;

/// What is wrong with the service. HTTP answers are whole, with their headers, and say `connection: close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// Everything that it says is late by so much.
    Slow(Duration),
    /// Nobody listens, and what was connected is reset.
    Closed,
    /// HTTP: this is the answer to every request, and none is passed on.
    Refuses(&'static str),
    /// Requests are passed on; the connection is reset within what it answers.
    Cut,
    /// Requests are passed on; bytes without a meaning come in place of what it answers.
    Noise,
    /// HTTP: requests are passed on, and this comes in place of each answer.
    Lies(&'static str),
    /// Connections are accepted, and then nothing is passed on or said. Those that it happened to stay silent behind its end.
    Gone,
}

/// Listens on loopback and passes connections on, as well as it may.
#[derive(Debug)]
pub struct Link {
    addr: SocketAddr,
    bad: Arc<watch::Sender<Option<Bad>>>,
    task: JoinHandle<()>,
    /// Keeps the port while nobody listens.
    _port: TcpSocket,
}

impl Link {
    /// A good way to `target`.
    ///
    /// # Errors
    /// If no port is free.
    #[expect(clippy::disallowed_methods, reason = "no Lambda function: nothing freezes it")]
    pub fn to(target: SocketAddr) -> std::io::Result<Self> {
        let port = socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let addr = port.local_addr()?;
        let listener = socket(addr)?.listen(BACKLOG)?;
        let bad = Arc::new(watch::Sender::new(None));
        let task = tokio::spawn(listen(listener, target, Arc::clone(&bad)));
        Ok(Self { addr, bad, task, _port: port })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on the service is bad.
    pub fn spoil(&self, bad: Bad) {
        self.bad.send_replace(Some(bad));
    }

    /// From now on it is good again.
    pub fn mend(&self) {
        self.bad.send_replace(None);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A socket at an address that others may listen at as well, one of them at a time.
fn socket(addr: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

#[expect(clippy::disallowed_methods, reason = "no Lambda function: nothing freezes it")]
async fn listen(first: TcpListener, target: SocketAddr, bad: Arc<watch::Sender<Option<Bad>>>) {
    let (mut listener, mut changes, mut number) = (Some(first), bad.subscribe(), 0);
    let Some(addr) = listener.as_ref().and_then(|listener| listener.local_addr().ok()) else { return };
    loop {
        match (&listener, *changes.borrow_and_update() == Some(Bad::Closed)) {
            (Some(_), true) => listener = None,
            (None, false) => listener = socket(addr).and_then(|socket| socket.listen(BACKLOG)).ok(),
            _ => {}
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await.ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = accepted => if let Some((client, _)) = accepted {
                number += 1;
                tokio::spawn(serve(client, target, bad.subscribe(), number));
            },
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// How a connection ends for its client.
enum End {
    Closed,
    Reset,
}

async fn serve(mut client: TcpStream, target: SocketAddr, bad: watch::Receiver<Option<Bad>>, number: u64) {
    if let Ok(End::Reset) = pass(&mut client, target, bad, number).await {
        // With a linger of zero, closing sends RST instead of FIN.
        let _ = client.set_zero_linger();
    }
}

async fn pass(
    client: &mut TcpStream,
    target: SocketAddr,
    mut bad: watch::Receiver<Option<Bad>>,
    number: u64,
) -> std::io::Result<End> {
    if *bad.borrow() == Some(Bad::Gone) {
        return silence(client).await;
    }
    let mut server = TcpStream::connect(target).await?;
    let (mut asked, mut said) = (vec![0; 65_536], vec![0; 65_536]);
    let (mut request, mut left) = (Vec::new(), number * CUT_STEP % CUT_BELOW + 1);
    loop {
        let now = *bad.borrow_and_update();
        match now {
            Some(Bad::Gone) => return silence(client).await,
            Some(Bad::Closed) => return Ok(End::Reset),
            _ => {}
        }
        tokio::select! {
            changed = bad.changed() => if changed.is_err() { return Ok(End::Closed) },
            read = client.read(&mut asked) => {
                let asked = &asked[..read?];
                match now {
                    _ if asked.is_empty() => return Ok(End::Closed),
                    Some(Bad::Refuses(answer)) => {
                        request.extend_from_slice(asked);
                        if is_whole(&request) {
                            client.write_all(answer.as_bytes()).await?;
                            return Ok(End::Closed);
                        }
                    }
                    _ => server.write_all(asked).await?,
                }
            }
            read = server.read(&mut said) => {
                let said = &mut said[..read?];
                match now {
                    _ if said.is_empty() => return Ok(End::Closed),
                    Some(Bad::Slow(delay)) => {
                        sleep(delay).await;
                        client.write_all(said).await?;
                    }
                    Some(Bad::Cut) => {
                        let passed = said.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                        client.write_all(&said[..passed]).await?;
                        left -= passed as u64;
                        if left == 0 {
                            return Ok(End::Reset);
                        }
                    }
                    Some(Bad::Noise) => {
                        noise(said, number);
                        client.write_all(said).await?;
                    }
                    Some(Bad::Lies(answer)) => {
                        client.write_all(answer.as_bytes()).await?;
                        return Ok(End::Closed);
                    }
                    _ => client.write_all(said).await?,
                }
            }
        }
    }
}

/// Says nothing until the client gives up; what it asks is read and forgotten.
async fn silence(client: &mut TcpStream) -> std::io::Result<End> {
    let mut forgotten = vec![0; 65_536];
    while client.read(&mut forgotten).await? > 0 {}
    Ok(End::Closed)
}

/// Whether an HTTP request has come to its end: its headers, and as much of a body as they say.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    body.len() >= length.unwrap_or(0)
}

/// Another noise for each connection, the same for the same number.
fn noise(bytes: &mut [u8], seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for byte in bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = state.to_le_bytes()[0];
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::time::timeout;

    use super::*;

    const BOUND: Duration = Duration::from_secs(10);
    const REFUSAL: &str = "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

    /// A service that says what it hears, a thousand times over, and a link to it.
    async fn echo() -> Link {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        #[expect(clippy::disallowed_methods, reason = "no Lambda function: nothing freezes it")]
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut heard = [0; 1];
                    while let Ok(1) = stream.read(&mut heard).await {
                        if stream.write_all(&heard.repeat(1_000)).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Link::to(target).unwrap()
    }

    /// What comes back for a byte, up to the whole of it; or how the connection ended.
    async fn say(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
        stream.write_all(b"a").await?;
        let mut heard = vec![0; 1_000];
        timeout(BOUND, stream.read_exact(&mut heard)).await.unwrap_or(Err(ErrorKind::TimedOut.into()))?;
        Ok(heard)
    }

    #[tokio::test]
    async fn a_good_link_passes_everything_and_is_good_again_when_it_is_mended() {
        let link = echo().await;
        let mut stream = TcpStream::connect(link.addr()).await.unwrap();
        assert_eq!(say(&mut stream).await.unwrap(), [b'a'; 1_000]);
        link.spoil(Bad::Closed);
        assert!(say(&mut stream).await.is_err());
        assert_eq!(TcpStream::connect(link.addr()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        link.mend();
        let mut stream = crate::eventually(BOUND, async || Ok(TcpStream::connect(link.addr()).await?)).await.unwrap();
        assert_eq!(say(&mut stream).await.unwrap(), [b'a'; 1_000]);
    }

    #[tokio::test]
    async fn a_cut_comes_within_the_answer_and_noise_in_place_of_it() {
        let link = echo().await;
        let mut stream = TcpStream::connect(link.addr()).await.unwrap();
        link.spoil(Bad::Cut);
        assert_eq!(say(&mut stream).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        link.spoil(Bad::Noise);
        let mut stream = TcpStream::connect(link.addr()).await.unwrap();
        assert_ne!(say(&mut stream).await.unwrap(), [b'a'; 1_000]);
        link.mend();
        assert_eq!(say(&mut stream).await.unwrap(), [b'a'; 1_000]);
    }

    #[tokio::test]
    async fn a_refusal_is_answered_to_a_whole_request_and_nothing_is_passed_on() {
        let link = echo().await;
        let mut stream = TcpStream::connect(link.addr()).await.unwrap();
        link.spoil(Bad::Refuses(REFUSAL));
        stream.write_all(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab").await.unwrap();
        stream.write_all(b"c").await.unwrap();
        let mut heard = String::new();
        timeout(BOUND, stream.read_to_string(&mut heard)).await.unwrap().unwrap();
        assert_eq!(heard, REFUSAL);
        link.spoil(Bad::Lies(REFUSAL));
        let mut stream = TcpStream::connect(link.addr()).await.unwrap();
        stream.write_all(b"a").await.unwrap();
        let mut heard = String::new();
        timeout(BOUND, stream.read_to_string(&mut heard)).await.unwrap().unwrap();
        assert_eq!(heard, REFUSAL);
    }

    #[tokio::test]
    async fn what_it_was_gone_for_stays_silent_and_what_comes_later_is_good() {
        let link = echo().await;
        let mut before = TcpStream::connect(link.addr()).await.unwrap();
        assert!(say(&mut before).await.is_ok());
        link.spoil(Bad::Gone);
        before.write_all(b"a").await.unwrap();
        let mut meanwhile = TcpStream::connect(link.addr()).await.unwrap();
        meanwhile.write_all(b"a").await.unwrap();
        let mut heard = [0; 1];
        assert!(timeout(Duration::from_millis(200), meanwhile.read(&mut heard)).await.is_err());
        link.mend();
        assert!(timeout(Duration::from_millis(200), before.read(&mut heard)).await.is_err());
        let mut later = TcpStream::connect(link.addr()).await.unwrap();
        assert!(say(&mut later).await.is_ok());
    }

    #[tokio::test]
    async fn a_slow_link_says_the_same_later() {
        let link = echo().await;
        let mut stream = TcpStream::connect(link.addr()).await.unwrap();
        link.spoil(Bad::Slow(Duration::from_millis(100)));
        let asked = tokio::time::Instant::now();
        assert_eq!(say(&mut stream).await.unwrap(), [b'a'; 1_000]);
        assert!(asked.elapsed() >= Duration::from_millis(100));
    }
}
