//! What is asked before a call is made: whether its text is there already, or is being made by somebody else, and whether its circuit
//! lets it through. Both are one round trip, side by side.

use std::time::Duration;

use huntaze_breaker::{Breaker, Denied, Permit};
use tokio::time::Instant;

use crate::cache::{Cache, Cached, Followed, Joined, Key};
use crate::circuit::{self, Verdict};
use crate::route::Candidate;

/// What stands before one call.
pub(crate) struct Gate<'a> {
    pub(crate) breaker: Option<&'a Breaker>,
    /// Where a fresh text would be; `None` where none is wanted.
    pub(crate) cache: Option<&'a Cache>,
    pub(crate) key: Key,
    /// The attempt's id.
    pub(crate) token: String,
    pub(crate) candidate: &'a Candidate,
    /// How long the call takes at the most.
    pub(crate) time: Duration,
}

/// What the two said.
pub(crate) struct Asked {
    verdict: Verdict,
    joined: Joined,
}

/// How a call is to be made, or why it is not.
pub(crate) enum Passed {
    /// It is made.
    Called(Option<Permit>),
    /// It is not: its text is there.
    Served(Cached),
    /// It may not be.
    Denied(Denied),
}

impl Gate<'_> {
    /// Asks both.
    pub(crate) async fn ask(&self) -> Asked {
        let (verdict, joined) = tokio::join!(circuit::ask(self.breaker, self.candidate), self.join());
        Asked { verdict, joined }
    }

    /// Takes back what was asked for a call that is not made.
    pub(crate) async fn give_back(&self, Asked { verdict, joined }: Asked) {
        let lead = async {
            if joined == Joined::Lead {
                self.release().await;
            }
        };
        tokio::join!(circuit::give_back(self.breaker, verdict), lead);
    }

    /// Goes through with what was asked, or is asked now. Waits for a text that somebody else is making, until `until`.
    pub(crate) async fn pass(&self, asked: Option<Asked>, until: Instant) -> Passed {
        let Asked { verdict, joined } = match asked {
            Some(asked) => asked,
            None => self.ask().await,
        };
        let verdict = match (joined, self.cache) {
            (Joined::Hit(cached), _) => {
                circuit::give_back(self.breaker, verdict).await;
                return Passed::Served(cached);
            }
            (Joined::Wait { .. }, Some(cache)) => {
                circuit::give_back(self.breaker, verdict).await;
                match cache.follow(&self.key, &self.token, self.time, until).await {
                    Followed::Hit(cached) => return Passed::Served(cached),
                    // What the circuit said is as old as the wait.
                    Followed::Lead | Followed::Alone => circuit::ask(self.breaker, self.candidate).await,
                }
            }
            _ => verdict,
        };
        match verdict.transpose() {
            Ok(permit) => Passed::Called(permit),
            Err(denied) => {
                self.release().await;
                Passed::Denied(denied)
            }
        }
    }

    async fn join(&self) -> Joined {
        match self.cache {
            Some(cache) => cache.join(&self.key, &self.token, self.time).await,
            None => Joined::Alone,
        }
    }

    /// Gives back the lead, where it has it: the next of those who wait makes the text.
    async fn release(&self) {
        if let Some(cache) = self.cache {
            cache.release(&self.key, &self.token).await;
        }
    }
}
