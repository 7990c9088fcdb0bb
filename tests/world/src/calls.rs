//! What the world remembers: the calls that it saw, the faults still to come, the prompts it has cached.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::HeaderMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use crate::faults::{Fault, Operation, Provider, Rule};
use crate::legacy::Legacy;
use crate::onlyfans::{Chats, Dice};
use crate::text;

/// How many calls are remembered; older ones are forgotten, but still counted.
pub const REMEMBERED_CALLS: usize = 1_000;

/// How many prompts the prompt cache holds.
const CACHED_PROMPTS: usize = 64;

/// The headers worth remembering. A key is remembered as present, never by its value.
const HEADERS: [&str; 16] = [
    "accept",
    "api-key",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "idempotency-key",
    "openai-organization",
    "openai-project",
    "traceparent",
    "transfer-encoding",
    "user-agent",
    "x-client-request-id",
    "x-ms-client-request-id",
    "x-request-id",
];
const SECRET_HEADERS: [&str; 3] = ["api-key", "authorization", "cookie"];

/// One request that a provider got.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Its number, from 1, over all providers and operations.
    pub id: u64,
    /// Who was called.
    pub provider: Provider,
    /// What was asked.
    pub operation: Operation,
    /// Path and query.
    pub path: String,
    /// The deployment (Azure) or model (OpenAI) asked for; empty where none was named.
    pub model: String,
    /// The headers of interest, lower-cased, keys redacted.
    pub headers: BTreeMap<String, String>,
    /// The body: JSON, or text where it was none.
    pub body: Value,
    /// When it had been read.
    pub at: Timestamp,
    /// When its answer was ready to be written, or it had ended otherwise.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// What was done to it, if anything.
    pub fault: Option<Fault>,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// It has not ended yet.
    InFlight,
    /// It was answered.
    Answered {
        /// With this HTTP status.
        status: u16,
    },
    /// The connection was reset, or the answer cut, as scripted.
    Broken,
    /// The caller hung up before the answer.
    Abandoned,
}

/// Shared by the handlers of the providers, the control routes and the [`crate::World`] in the test.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    inner: Mutex<Inner>,
    /// How many chat completions were ever seen.
    seen: watch::Sender<u64>,
    /// How many webhook messages were.
    webhooks_seen: watch::Sender<u64>,
    /// Raised by each release; a gated call waits for a number greater than at its arrival.
    releases: watch::Sender<u64>,
    /// What OnlyFans knows.
    pub(crate) chats: Chats,
    /// What the old system knows.
    pub(crate) legacy: Legacy,
}

#[derive(Debug, Default)]
struct Inner {
    last_id: u64,
    calls: VecDeque<Call>,
    rules: Vec<Rule>,
    dice: Option<Dice>,
    prompts: VecDeque<(Provider, String, String)>,
}

/// A call from its arrival to its end. Dropped without an end, it was abandoned by the caller.
#[derive(Debug)]
pub(crate) struct OpenCall {
    memory: Arc<Memory>,
    pub(crate) id: u64,
    pub(crate) fault: Option<Fault>,
    outcome: Outcome,
    released: watch::Receiver<u64>,
}

impl Memory {
    /// Remembers a call and takes the fault that is scripted for it, in one step: whoever has seen the call counted
    /// may rely on its fault, and on its gate being closed.
    pub(crate) fn open(
        self: &Arc<Self>,
        provider: Provider,
        operation: Operation,
        path: String,
        model: String,
        headers: &HeaderMap,
        body: &str,
    ) -> OpenCall {
        let mut inner = self.lock();
        inner.last_id += 1;
        let id = inner.last_id;
        let fault = inner.rules.iter_mut().find_map(|rule| rule.apply(provider, operation, body));
        inner.rules.retain(|rule| !rule.is_spent());
        let drawn = || inner.dice.as_mut().filter(|_| operation == Operation::Message).and_then(Dice::draw);
        let fault = fault.or_else(drawn);
        if inner.calls.len() == REMEMBERED_CALLS {
            inner.calls.pop_front();
        }
        inner.calls.push_back(Call {
            id,
            provider,
            operation,
            path,
            model,
            headers: of_interest(headers),
            body: serde_json::from_str(body).unwrap_or_else(|_| Value::from(body)),
            at: now(),
            ended_at: None,
            fault: fault.clone(),
            outcome: Outcome::InFlight,
        });
        let released = self.releases.subscribe();
        match operation {
            Operation::Chat => self.seen.send_modify(|seen| *seen += 1),
            Operation::Webhook => self.webhooks_seen.send_modify(|seen| *seen += 1),
            Operation::Models
            | Operation::Moderation
            | Operation::Message
            | Operation::Conversation
            | Operation::Me
            | Operation::Campaign => {}
        }
        OpenCall { memory: Arc::clone(self), id, fault, outcome: Outcome::Abandoned, released }
    }

    pub(crate) fn add_rule(&self, rule: Rule) {
        self.lock().rules.push(rule);
    }

    /// Has messages to fans that no rule is for meet with what is drawn.
    pub(crate) fn set_dice(&self, dice: Dice) {
        self.lock().dice = Some(dice);
    }

    pub(crate) fn rules(&self) -> Vec<Rule> {
        self.lock().rules.clone()
    }

    pub(crate) fn end_rules(&self) {
        self.lock().rules.clear();
    }

    pub(crate) fn calls(&self, operation: Operation, provider: Option<Provider>) -> Vec<Call> {
        let wanted = |call: &&Call| call.operation == operation && provider.is_none_or(|one| one == call.provider);
        self.lock().calls.iter().filter(wanted).cloned().collect()
    }

    /// The number of chat completions so far, and every change of it.
    pub(crate) fn seen(&self) -> watch::Receiver<u64> {
        self.seen.subscribe()
    }

    /// The number of webhook messages so far, and every change of it.
    pub(crate) fn webhooks_seen(&self) -> watch::Receiver<u64> {
        self.webhooks_seen.subscribe()
    }

    pub(crate) fn release(&self) {
        self.releases.send_modify(|releases| *releases += 1);
    }

    /// Forgets everything, and lets go what is held at a gate.
    pub(crate) fn reset(&self) {
        let mut inner = self.lock();
        *inner = Inner { last_id: inner.last_id, ..Inner::default() };
        self.seen.send_replace(0);
        self.webhooks_seen.send_replace(0);
        self.chats.reset();
        self.legacy.reset();
        self.release();
    }

    /// How many tokens of this prompt were in the cache; afterwards all of it is.
    pub(crate) fn cached_tokens(&self, provider: Provider, model: &str, prompt: &str) -> u64 {
        let mut inner = self.lock();
        let longest = inner
            .prompts
            .iter()
            .filter(|(of, with, _)| *of == provider && with == model)
            .map(|(_, _, earlier)| text::common_prefix(earlier, prompt))
            .max()
            .unwrap_or(0);
        if inner.prompts.len() == CACHED_PROMPTS {
            inner.prompts.pop_front();
        }
        inner.prompts.push_back((provider, model.to_owned(), prompt.to_owned()));
        text::cacheable_tokens(longest)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing here is left half done by a panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenCall {
    /// Waits until a test releases what is held.
    pub(crate) async fn gate(&mut self) {
        // The sender lives in the memory that this call holds on to, so the only end of the wait is a release.
        let _ = self.released.changed().await;
    }

    pub(crate) fn close(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let mut inner = self.memory.lock();
        if let Some(call) = inner.calls.iter_mut().rev().find(|call| call.id == self.id) {
            call.outcome = self.outcome;
            call.ended_at = Some(now());
        }
    }
}

fn of_interest(headers: &HeaderMap) -> BTreeMap<String, String> {
    HEADERS
        .iter()
        .filter_map(|name| {
            let value = headers.get(*name)?;
            let value = if SECRET_HEADERS.contains(name) {
                "redacted".into()
            } else {
                String::from_utf8_lossy(value.as_bytes())
            };
            Some(((*name).to_owned(), value.into_owned()))
        })
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "the world has a clock of its own, as the real services have")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
