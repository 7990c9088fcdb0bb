//! The logs in Redis: which there are of a subject, how they are called, and what is written into them.

use std::fmt::Write as _;
use std::time::Duration;

use huntaze_domain::ids::UserId;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Subject;
use super::layer::{Bound, Of};
use super::limits::{Limits, Mode};

/// Whose permits a log has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Account,
    User,
    Everyone,
}

impl Whose {
    fn of(of: Of) -> Self {
        match of {
            Of::Account | Of::Recipient | Of::Recipients | Of::Type(_) => Self::Account,
            Of::User => Self::User,
            Of::Everyone => Self::Everyone,
        }
    }
}

/// One log, and how PostgreSQL finds what it has to hold.
#[derive(Debug, Clone)]
pub(super) struct Log {
    whose: Whose,
    pub(super) key: String,
    /// Its name in PostgreSQL, whatever the mode: of the logs of both modes one at a time is taken at its word.
    pub(super) subject: String,
    recall: Value,
}

impl Log {
    /// What `orchestrator.recall_permits` is asked with.
    pub(super) fn recall(&self) -> &Value {
        &self.recall
    }
}

/// A subject's layers, and the logs that they read.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) clock: String,
    pub(super) logs: Vec<Log>,
    pub(super) bounds: Vec<Bound>,
    /// What each layer counts, as the scripts read it.
    pub(super) counted: Vec<(usize, &'static str, String)>,
}

impl Question {
    pub(super) fn of(limits: &Limits, subject: &Subject<'_>) -> Self {
        let bounds = limits.of(subject);
        let shard = shard(subject.user, limits.shards);
        let prefix = match limits.mode {
            Mode::Enforce => "huntaze:limiter",
            Mode::Monitor => "huntaze:limiter-monitor",
        };
        // In braces: a cluster keeps what a script reads in one slot.
        let key = |name: &str| format!("{prefix}:{{{shard}}}:{name}");
        let log = |whose: Whose| {
            let window =
                bounds.iter().filter(|bound| Whose::of(bound.layer.of) == whose).map(|bound| bound.window).max()?;
            let (name, mut recall) = match whose {
                Whose::Account => (format!("account:{}", subject.account), json!({"account": subject.account})),
                Whose::User => (format!("user:{}", subject.user), json!({"user": subject.user})),
                Whose::Everyone => (format!("global:{shard}"), json!({"shard": shard, "shards": limits.shards})),
            };
            recall["subject"] = json!(name);
            recall["window_ms"] = json!(millis(window));
            if limits.mode == Mode::Monitor {
                recall["watching"] = json!(true);
            }
            Some(Log { whose, key: key(&name), subject: name, recall })
        };
        let logs: Vec<_> = [Whose::Account, Whose::User, Whose::Everyone].into_iter().filter_map(log).collect();
        let counted = bounds.iter().map(|bound| counted(bound, &logs, subject)).collect();
        Self { clock: key("clock"), logs, bounds, counted }
    }
}

fn counted(bound: &Bound, logs: &[Log], subject: &Subject<'_>) -> (usize, &'static str, String) {
    let whose = Whose::of(bound.layer.of);
    let log = logs.iter().take_while(|log| log.whose != whose).count() + 1;
    let recipient = || subject.recipient.map(|id| recipient(subject.account.as_str(), id)).unwrap_or_default();
    let (what, value) = match bound.layer.of {
        Of::Recipient => ("recipient", recipient()),
        Of::Recipients => ("recipients", recipient()),
        Of::Type(kind) => ("type", kind.as_str().to_owned()),
        Of::Account | Of::User | Of::Everyone => ("all", String::new()),
    };
    (log, what, value)
}

/// A permit as it stands in the logs. Nobody reads in Redis who a fan is.
pub(super) fn member(message: &str, attempt: i16, kind: &str, account: &str, to: &str) -> String {
    format!("{message}.{attempt}|{kind}|{}", recipient(account, to))
}

/// A fan of an account: 16 bytes of a hash, in hexadecimal digits.
fn recipient(account: &str, id: &str) -> String {
    let hash = Sha256::new().chain_update(account).chain_update([0]).chain_update(id).finalize();
    hash.iter().take(16).fold(String::with_capacity(32), |mut text, byte| {
        // Writing to a text does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// An account is on its owner's shard, as is what the owner's accounts are limited by together. `orchestrator.limiter_shard`
/// says the same.
fn shard(user: &UserId, shards: u16) -> u16 {
    let hash = Sha256::digest(user.as_str());
    u16::from_be_bytes([hash[0], hash[1]]) % shards
}

pub(super) fn millis(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX)
}

pub(super) fn micros(time: Duration) -> u64 {
    time.as_micros().try_into().unwrap_or(u64::MAX)
}
