//! What the platform remembers: who wrote what to whom, and whose sessions are good.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::calls;

/// The id before the first message's: ids are larger than what a test might take for a count.
const BEFORE_FIRST: u64 = 4_000_000_000;

/// A message that reached a fan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FanMessage {
    /// The platform's id of it.
    pub id: u64,
    /// The creator's account, as its session names it.
    pub account: String,
    /// The fan.
    pub recipient: String,
    /// What it says.
    pub text: String,
    /// `X-Request-Id` of the call that brought it.
    pub request_id: Option<String>,
    /// `Idempotency-Key` of that call.
    pub idempotency_key: Option<String>,
    /// When it was accepted.
    pub at: Timestamp,
}

/// Who wrote a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Author {
    /// The system under test, by the API.
    Gateway,
    /// The creator, by hand.
    Creator,
    /// The fan.
    Fan,
}

/// What an account signs in with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnlyFansSession {
    /// The value of the header `Cookie`.
    pub cookie: String,
    /// The account's user id on the platform.
    pub user_id: String,
}

/// A message in a conversation.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) message: FanMessage,
    pub(crate) author: Author,
}

/// Unlike the calls, messages are never forgotten before a reset: a load test counts them all.
#[derive(Debug, Default)]
pub(crate) struct Chats {
    inner: Mutex<Inner>,
    /// How many messages reached a fan.
    reached: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    lines: Vec<Line>,
    /// The first generation of each account's sessions that is still good.
    good_from: HashMap<String, u32>,
}

impl Chats {
    pub(crate) fn accept(
        &self,
        account: String,
        recipient: &str,
        text: String,
        request_id: Option<String>,
        idempotency_key: Option<String>,
    ) -> Line {
        let mut inner = self.lock();
        let recipient = recipient.to_owned();
        let message =
            FanMessage { id: inner.next_id(), account, recipient, text, request_id, idempotency_key, at: calls::now() };
        let line = Line { message, author: Author::Gateway };
        inner.lines.push(line.clone());
        self.reached.send_modify(|reached| *reached += 1);
        line
    }

    /// Adds what was written past the system under test.
    pub(crate) fn write(&self, account: &str, recipient: &str, author: Author, text: &str, at: Timestamp) -> u64 {
        let mut inner = self.lock();
        let id = inner.next_id();
        let message = FanMessage {
            id,
            account: account.to_owned(),
            recipient: recipient.to_owned(),
            text: text.to_owned(),
            request_id: None,
            idempotency_key: None,
            at,
        };
        inner.lines.push(Line { message, author });
        id
    }

    /// What the system under test has sent, oldest first.
    pub(crate) fn sent(&self) -> Vec<FanMessage> {
        let inner = self.lock();
        let sent = inner.lines.iter().filter(|line| line.author == Author::Gateway);
        sent.map(|line| line.message.clone()).collect()
    }

    /// The number of what it has sent, and every change of it.
    pub(crate) fn reached(&self) -> watch::Receiver<u64> {
        self.reached.subscribe()
    }

    /// A conversation, oldest first.
    pub(crate) fn of(&self, account: &str, recipient: &str) -> Vec<Line> {
        let inner = self.lock();
        let own = |line: &&Line| line.message.account == account && line.message.recipient == recipient;
        let mut lines: Vec<_> = inner.lines.iter().filter(own).cloned().collect();
        lines.sort_by_key(|line| (line.message.at, line.message.id));
        lines
    }

    /// An account's good session. An account is there as soon as somebody asks for it.
    pub(crate) fn session(&self, account: &str) -> OnlyFansSession {
        let generation = self.lock().generation(account);
        OnlyFansSession {
            cookie: format!("sess=world.{generation}.{account}"),
            user_id: user_id("creator", account).to_string(),
        }
    }

    /// Ends the sessions that an account has so far.
    pub(crate) fn expire(&self, account: &str) {
        *self.lock().good_from.entry(account.to_owned()).or_default() += 1;
    }

    /// Whose session a cookie is, if it is good.
    pub(crate) fn account_of(&self, cookie: &str) -> Option<String> {
        let (generation, account) = cookie.strip_prefix("sess=world.")?.split_once('.')?;
        let generation: u32 = generation.parse().ok()?;
        (!account.is_empty() && generation == self.lock().generation(account)).then(|| account.to_owned())
    }

    pub(crate) fn reset(&self) {
        *self.lock() = Inner::default();
        self.reached.send_replace(0);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing here is left half done by a panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn next_id(&self) -> u64 {
        self.lines.last().map_or(BEFORE_FIRST, |line| line.message.id) + 1
    }

    fn generation(&self, account: &str) -> u32 {
        self.good_from.get(account).copied().unwrap_or_default()
    }
}

/// The same for the same name in every process.
pub(crate) fn user_id(role: &str, name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (role, name).hash(&mut hasher);
    10_000_000 + hasher.finish() % 90_000_000
}
