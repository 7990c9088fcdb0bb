//! A request's body that either a connection takes, once, or nobody ever.
//!
//! Whether a request that failed can have been delivered is decided by whether its text can have left. An HTTP client does not
//! say that: a deadline may pass while the connection is still being made, or a microsecond after the last byte was written. So
//! the body itself is asked. It has three states, and one atomic step decides which of the other two follows the first:
//!
//! ```text
//! waiting ── a connection takes it ──▶ taken
//!    └────── the sender revokes it ──▶ revoked: whoever takes it now gets an error and not a byte
//! ```
//!
//! A body that was taken may be on its way, in whole or in part; what then fails is ambiguous. None is taken at its deadline or
//! behind it: the connection runs beside its sender, and a process that stood still may wake up there first.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const REVOKED: u8 = 2;

/// The body of one request, and the sender's hold on it. No connection takes it from the deadline on.
pub(super) fn once(bytes: Bytes, deadline: Instant) -> (reqwest::Body, Writing) {
    let (body, writing) = pair(bytes, deadline);
    (reqwest::Body::wrap(body), writing)
}

fn pair(bytes: Bytes, deadline: Instant) -> (Once, Writing) {
    let state = Arc::new(AtomicU8::new(WAITING));
    let writing = Writing(Arc::clone(&state));
    (Once { bytes: Some(bytes), deadline, state }, writing)
}

/// What the sender knows of its request's body.
pub(super) struct Writing(Arc<AtomicU8>);

impl Writing {
    /// Makes sure that the body never leaves. `false` where it is too late for that.
    pub(super) fn revoke(self) -> bool {
        decide(&self.0, REVOKED) == REVOKED
    }
}

/// The one step out of `waiting`; gives the state that it is in from now on, whoever decided it.
fn decide(state: &AtomicU8, wanted: u8) -> u8 {
    match state.compare_exchange(WAITING, wanted, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => wanted,
        Err(decided) => decided,
    }
}

struct Once {
    bytes: Option<Bytes>,
    deadline: Instant,
    state: Arc<AtomicU8>,
}

/// The sender has given up.
#[derive(Debug, thiserror::Error)]
#[error("the request was revoked")]
struct Revoked;

impl Body for Once {
    type Data = Bytes;
    type Error = Revoked;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Revoked>>> {
        Poll::Ready(self.bytes.take().map(|bytes| {
            let wanted = if Instant::now() < self.deadline { TAKEN } else { REVOKED };
            (decide(&self.state, wanted) == TAKEN).then(|| Frame::data(bytes)).ok_or(Revoked)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    /// Exact, so that the request has a length and is not chunked.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::Duration;

    use super::*;

    fn take(body: &mut Once) -> Option<Result<Bytes, Revoked>> {
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(body).poll_frame(&mut context) {
            Poll::Ready(frame) => frame.map(|frame| frame.map(|frame| frame.into_data().unwrap())),
            Poll::Pending => panic!("a body that is there waits for nothing"),
        }
    }

    fn body() -> (Once, Writing) {
        pair(Bytes::from_static(b"text"), Instant::now() + Duration::from_secs(60))
    }

    #[test]
    fn what_was_taken_cannot_be_revoked() {
        let (mut body, writing) = body();
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(4), false));
        assert_eq!(take(&mut body).unwrap().unwrap(), "text");
        assert!(!writing.revoke());
        assert!(body.is_end_stream() && take(&mut body).is_none());
    }

    #[test]
    fn what_was_revoked_gives_not_a_byte() {
        let (mut body, writing) = body();
        assert!(writing.revoke());
        assert!(take(&mut body).unwrap().is_err());
        assert!(take(&mut body).is_none());
    }

    #[test]
    fn from_its_deadline_on_nobody_takes_it() {
        let (mut body, writing) = pair(Bytes::from_static(b"text"), Instant::now());
        assert!(take(&mut body).unwrap().is_err());
        assert!(writing.revoke(), "certainly not delivered");
    }

    #[test]
    fn of_two_threads_one_wins() {
        for _ in 0..2_000 {
            let (mut body, writing) = body();
            let (taken, revoked) = std::thread::scope(|threads| {
                let taker = threads.spawn(move || take(&mut body).unwrap().is_ok());
                let revoked = writing.revoke();
                (taker.join().unwrap(), revoked)
            });
            assert_ne!(taken, revoked);
        }
    }
}
