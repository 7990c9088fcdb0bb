//! Sending: an account's messages, one after the other, as long as the limiter, the platform and the time let them.
//!
//! ```text
//! claim (PostgreSQL) → session → permit (Redis) → begin (PostgreSQL) → call → settle (PostgreSQL) ∥ ended (Redis)
//! ```
//!
//! Until `begin` nothing has happened, and whoever dies leaves a lease that runs out. From there on the message is never sent
//! again but where the platform definitely has not got it: an end that nobody knows is looked for in the conversation.

use std::sync::Arc;
use std::time::Duration;

use huntaze_domain::env::Env;
use huntaze_domain::ids::{AccountId, MessageId, random};
use huntaze_postgres::Database;
use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::time::Instant;
use uuid::Uuid;

use crate::account::{NO_SESSION, overrides};
use crate::dead::DeadQueue;
use crate::ending;
use crate::hint::Hints;
use crate::limiter::{Acquired, Generations, LayerVerdict, Limiter, Permit, Verdict};
use crate::outbox::{Begun, Claim, Look, Message, MessageStatus, Outbox, OutboxError, Settled, Wait, Wake};
use crate::platform::{Found, Platform, ReadError, SendCall, SendEnd, Wanted};
use crate::session::{Session, SessionError, Sessions};
use crate::tell::Teller;

/// What a permit's hold has beyond the call's own time: for the way to PostgreSQL between them.
const HOLD_MARGIN: Duration = Duration::from_secs(6);
/// What a lease has beyond what it is for: the settlement.
const LEASE_MARGIN_MS: u64 = 10_000;
/// The account waits so long where a store that is needed before a call does not answer.
const STORE_REST: Duration = Duration::from_secs(10);
/// A call is not begun with less time than this left of its permit.
const LEAST_CALL: Duration = Duration::from_millis(200);
/// How often the limiter is asked again for one message whose permit was forgotten.
const ROUNDS: usize = 3;

/// The wall clock, told from outside.
pub type Clock = fn() -> Timestamp;

/// What was done for an account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages that reached their fan, found later included.
    pub sent: u64,
    /// Messages that will not.
    pub failed: u64,
    /// Messages whose end nobody knows yet.
    pub unknown: u64,
    /// Attempts that will be followed by another.
    pub retried: u64,
    /// Messages that the limiter held back, or would have.
    pub throttled: u64,
    /// Messages whose state has changed: what is shown of them has to follow.
    pub touched: Vec<MessageId>,
}

/// Everything that a send needs.
pub struct Sender {
    /// The outbox.
    pub outbox: Outbox,
    /// The database, from which the limiter restores its memory.
    pub database: Arc<Database>,
    /// The limiter.
    pub limiter: Limiter,
    /// The accounts' sessions.
    pub sessions: Sessions,
    /// The platform.
    pub platform: Platform,
    /// The queue of hints.
    pub hints: Hints,
    /// Where what is given up goes.
    pub dead: DeadQueue,
    /// Who tells people.
    pub teller: Teller,
    /// The time.
    pub clock: Clock,
    /// How long a call may take to reach the fan, from before its permit is asked for.
    pub hold: Duration,
    /// What a lease lasts beyond the hold; then what a process left behind is taken up by another.
    pub lease_margin: Duration,
}

impl Sender {
    /// The hold of a configuration: the call's own time, and what lies between the permit and the call.
    #[must_use]
    pub fn hold_from_env(env: &Env, platform: &Platform) -> Duration {
        let margin = env.millis("MESSAGE_HOLD_MARGIN_MS", u64::try_from(HOLD_MARGIN.as_millis()).unwrap_or(6_000));
        platform.timeout() + margin
    }

    /// The lease margin of a configuration.
    #[must_use]
    pub fn lease_margin_from_env(env: &Env) -> Duration {
        env.millis("MESSAGE_LEASE_MARGIN_MS", LEASE_MARGIN_MS)
    }

    /// How much time one message takes at most: it is not claimed with less.
    #[must_use]
    pub fn one_message(&self) -> Duration {
        self.hold + self.lease_margin
    }

    /// Does what is due of an account, as long as there is time for another message, and has the queue say when there is more.
    ///
    /// # Errors
    /// [`OutboxError`]; what was in hand comes free with its lease.
    pub async fn serve(&self, account: &AccountId, until: Instant, tally: &mut Tally) -> Result<(), OutboxError> {
        // Read once for all of its messages, and again where the platform has refused it.
        let mut session = None;
        loop {
            if Instant::now() + self.one_message() > until {
                self.hints.put(account, Some(Duration::ZERO)).await;
                return Ok(());
            }
            let wake = match self.step(account, &mut session, tally).await? {
                Step::Idle => return Ok(()),
                Step::Done(wake) => wake,
            };
            match wake {
                None => return Ok(()),
                Some(Duration::ZERO) => {}
                later => {
                    self.hints.put(account, later).await;
                    return Ok(());
                }
            }
        }
    }

    /// One look or one message of an account.
    async fn step(
        &self,
        account: &AccountId,
        session: &mut Option<Session>,
        tally: &mut Tally,
    ) -> Result<Step, OutboxError> {
        if let Some(look) = self.outbox.claim_look(account, self.one_message()).await? {
            tally.touched.push(look.message.id.clone());
            return self.look(&look, tally).await.map(Step::Done);
        }
        let claimant = Uuid::now_v7().to_string();
        match self.outbox.claim(account, &claimant, self.one_message()).await? {
            Claim::Busy => Ok(Step::Idle),
            Claim::Nothing(wake) => Ok(Step::Done(wake)),
            Claim::Message(message, limits) => {
                tally.touched.push(message.id.clone());
                self.turn(&message, &limits, session, tally).await.map(Step::Done)
            }
        }
    }

    /// A message that was claimed: sent, or given back.
    async fn turn(
        &self,
        message: &Message,
        limits: &Map<String, Value>,
        session: &mut Option<Session>,
        tally: &mut Tally,
    ) -> Result<Wake, OutboxError> {
        let session = match session.take().filter(|_| !message.session_refreshed) {
            Some(kept) => session.insert(kept),
            None => match self.sessions.load(message.account_id.as_str()).await {
                Ok(read) => session.insert(read),
                Err(error) => return self.without_session(message, &error).await,
            },
        };
        let overrides = overrides(limits);
        let permit = Permit {
            account: &message.account_id,
            user: &message.user_id,
            recipient: message.recipient_id.as_str(),
            kind: message.message_type,
            message: &message.id,
            attempt: message.attempts + 1,
            overrides: &overrides,
        };
        let mut refused = Generations::default();
        for _ in 0..ROUNDS {
            // The permit counts from its grant, which is later than this: what ends by then ends within it.
            let until = Instant::now() + self.hold;
            let (generations, watched) = match self.limiter.acquire(&self.database, &permit, self.hold, &refused).await
            {
                Acquired::Granted { verdict, generations } => {
                    // While the limiter only watches it lets through what it would deny, and that is counted.
                    tally.throttled += u64::from(verdict.throttled());
                    (generations, names(&verdict))
                }
                Acquired::Denied(verdict) => {
                    tally.throttled += 1;
                    return self.outbox.release(message, &denied(&verdict)).await;
                }
                Acquired::Unknown(_) => return self.rest(message).await,
            };
            let begun =
                self.outbox.begin(message, &generations.to_json(), self.hold, self.one_message(), &watched).await?;
            match begun {
                Begun::Sending => return self.call(message, session, &permit, until, tally).await,
                Begun::Forgotten => refused = generations,
                Begun::Paused => return self.outbox.release(message, &Wait::default()).await,
                // Whoever has it now goes on.
                Begun::Fenced => return Ok(None),
            }
        }
        self.rest(message).await
    }

    /// The call itself, and what its end means.
    async fn call(
        &self,
        message: &Message,
        session: &Session,
        permit: &Permit<'_>,
        until: Instant,
        tally: &mut Tally,
    ) -> Result<Wake, OutboxError> {
        let call = SendCall {
            message_id: message.id.as_str(),
            attempt: permit.attempt,
            recipient: message.recipient_id.as_str(),
            text: &message.content,
        };
        let end = if Instant::now() + LEAST_CALL < until {
            self.platform.send(session, &call, until, (self.clock)()).await
        } else {
            SendEnd::NotDelivered { reason: crate::platform::Reason::NoTime }
        };
        let ending = ending::of(&end, message, random());
        let (settled, ended) = tokio::join!(self.outbox.settle(message, &ending), self.limiter.ended(permit));
        if let Err(error) = ended {
            tracing::warn!(%error, "the permit counts out by itself");
        }
        let settled = settled?;
        tracing::info!(
            message = %message.id, attempt = permit.attempt, status = settled.status.as_str(), reason = ending.reason(), "attempt"
        );
        count(&settled, tally);
        if let Some(letter) = &settled.letter
            && let Err(error) = self.dead.put(letter, message, ending.reason()).await
        {
            tracing::error!(%error, "nobody is told of a dead letter, which is kept all the same");
        }
        if settled.noted {
            self.teller.tell_of(&self.outbox, &message.id).await;
        }
        Ok(settled.wake)
    }

    /// Looks for a message whose end is not known.
    async fn look(&self, look: &Look, tally: &mut Tally) -> Result<Wake, OutboxError> {
        let message = &look.message;
        let mut pace = None;
        let seen = match self.sessions.load(message.account_id.as_str()).await {
            Ok(session) => {
                let wanted = Wanted {
                    recipient: message.recipient_id.as_str(),
                    text: &message.content,
                    since: look.began_at,
                    known: &look.known,
                };
                let deadline = Instant::now() + self.platform.timeout();
                match self.platform.find(&session, &wanted, deadline, (self.clock)()).await {
                    Ok(Found::Sent { platform_id }) => Ok(Some(platform_id)),
                    Ok(Found::Absent) => Ok(None),
                    Ok(Found::NotAllShown) => Err("not all was shown".to_owned()),
                    Err(error @ ReadError::Unaddressable) => {
                        tracing::warn!(%error, "nothing can be looked for");
                        Ok(None)
                    }
                    Err(error) => {
                        if let ReadError::Paced { retry_after } = error {
                            pace = Some(retry_after);
                        }
                        Err(error.to_string())
                    }
                }
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = &seen {
            tracing::warn!(message = %message.id, error, "a look that saw nothing");
        }
        let seen = seen.as_ref().map(Option::as_deref).map_err(|_| ());
        let end = self.outbox.settle_look(message, seen, pace).await?;
        tally.sent += u64::from(end.status == MessageStatus::Sent);
        tracing::info!(message = %message.id, status = end.status.as_str(), undecided = end.undecided, "look");
        if end.undecided {
            self.teller.tell_of(&self.outbox, &message.id).await;
        }
        Ok(end.wake)
    }

    /// A message whose account has no session that can be used.
    async fn without_session(&self, message: &Message, error: &SessionError) -> Result<Wake, OutboxError> {
        tracing::warn!(%error, "without a session nothing is sent");
        if error.is_passing() {
            return self.rest(message).await;
        }
        // Nothing mends it but a person, and nothing is sent until then.
        let wake = self.outbox.pause(message, NO_SESSION).await?;
        self.teller.tell_of(&self.outbox, &message.id).await;
        Ok(wake)
    }

    /// Something that is needed before a call does not answer: later, and never without it.
    async fn rest(&self, message: &Message) -> Result<Wake, OutboxError> {
        let wait = Wait { account: Some(STORE_REST), ..Wait::default() };
        self.outbox.release(message, &wait).await
    }
}

enum Step {
    /// Another worker goes on with the account.
    Idle,
    Done(Wake),
}

/// Who waits for how long: the account only for the layers that its other messages would meet too. A fan who has enough for today
/// holds up no other.
fn denied(verdict: &Verdict) -> Wait {
    let wait = |of_account: bool| {
        let layers = verdict.denied().filter(|layer| layer.layer.of.holds_up_the_account() == of_account);
        layers.filter_map(LayerVerdict::retry_after).max()
    };
    Wait { message: wait(false), account: wait(true), denied: names(verdict) }
}

fn names(verdict: &Verdict) -> Vec<String> {
    verdict.denied().map(|layer| layer.layer.name.to_owned()).collect()
}

fn count(settled: &Settled, tally: &mut Tally) {
    if !settled.settled {
        return;
    }
    match settled.status {
        MessageStatus::Sent => tally.sent += 1,
        MessageStatus::Failed => tally.failed += 1,
        MessageStatus::Unknown => tally.unknown += 1,
        _ => tally.retried += 1,
    }
}
