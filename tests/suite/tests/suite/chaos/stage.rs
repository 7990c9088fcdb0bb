//! Everything that runs while a row is played: the functions, the queues' and schedules' part of AWS, and the notes of what was seen.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::{try_join, try_join_all};
use huntaze_tests::{App, Bad, InvokeError, Link, Pool, Request, Source};
use serde_json::{Value, json};
use tokio::sync::{RwLock, RwLockReadGuard};
use tokio::time::sleep;

use super::load::{Seen, What, Wish};
use super::setting::Dependency;
use crate::support::{MESSAGES, text, user};

/// The schedules run every minute in production.
const SCHEDULE: Duration = Duration::from_millis(500);
/// How often a queue that is empty is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// What a function takes from a queue nobody else gets for so long, in seconds: six times its time-out in production.
const HIDDEN: u32 = 10;
/// The time-out of whatever nobody waits for.
const DEADLINE: Duration = Duration::from_secs(60);
/// So many processes of each consumer at once.
const CONSUMERS: usize = 2;
/// As much time passes at once.
const STEP_SECONDS: u32 = 60;

/// What clients were told that it is taken on.
#[derive(Clone, Debug, Default)]
pub(super) struct Accepted {
    /// User, workflow, and whether it was answered at once.
    pub(super) campaigns: Vec<(&'static str, String, bool)>,
    /// User and message.
    pub(super) messages: Vec<(&'static str, String)>,
}

/// One row being played.
pub(super) struct Stage<'a> {
    pub(super) app: &'a App,
    pub(super) link: &'a Link,
    pub(super) dependency: Dependency,
    pub(super) hybrid: Pool<'a>,
    pub(super) messages: Pool<'a>,
    pub(super) status: Pool<'a>,
    stats: Pool<'a>,
    breakdown: Pool<'a>,
    consumer: Pool<'a>,
    sender: Pool<'a>,
    sweepers: [Pool<'a>; 3],
    /// Held to read by whoever drives a workflow or a message, to write by time.
    turns: RwLock<()>,
    /// SQS hands out nothing while it is bad.
    spoiled: AtomicBool,
    load_is_over: AtomicBool,
    all_is_over: AtomicBool,
    skipped: AtomicU64,
    seen: Mutex<Seen>,
    accepted: Mutex<Accepted>,
    /// What must not be.
    wrongs: Mutex<Vec<String>>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(app: &'a App, link: &'a Link, dependency: Dependency) -> Self {
        let pool = |name| Pool::new(app, name);
        Self {
            app,
            link,
            dependency,
            hybrid: pool("campaigns-hybrid"),
            messages: pool("onlyfans-messages"),
            status: pool("campaigns-status"),
            stats: pool("costs-stats"),
            breakdown: pool("costs-breakdown"),
            consumer: pool("workflow-consumer"),
            sender: pool("message-sender"),
            sweepers: ["workflow-sweeper", "message-sweeper", "ledger-sweeper"].map(pool),
            turns: RwLock::default(),
            spoiled: AtomicBool::default(),
            load_is_over: AtomicBool::default(),
            all_is_over: AtomicBool::default(),
            skipped: AtomicU64::default(),
            seen: Mutex::default(),
            accepted: Mutex::default(),
            wrongs: Mutex::default(),
        }
    }

    pub(super) fn spoil(&self, bad: Bad) {
        self.spoiled.store(true, Ordering::Relaxed);
        self.link.spoil(bad);
    }

    pub(super) fn mend(&self) {
        self.link.mend();
        self.spoiled.store(false, Ordering::Relaxed);
        self.load_is_over.store(true, Ordering::Relaxed);
    }

    pub(super) fn load_is_over(&self) -> bool {
        self.load_is_over.load(Ordering::Relaxed)
    }

    pub(super) fn end(&self) {
        self.all_is_over.store(true, Ordering::Relaxed);
    }

    fn goes_on(&self) -> bool {
        !self.all_is_over.load(Ordering::Relaxed)
    }

    pub(super) async fn turn(&self) -> RwLockReadGuard<'_, ()> {
        self.turns.read().await
    }

    pub(super) fn pool(&self, wish: &Wish) -> &Pool<'a> {
        match wish.what {
            What::Campaign | What::Forced => &self.hybrid,
            What::Message => &self.messages,
            What::Status => &self.status,
            What::Costs if wish.is_breakdown() => &self.breakdown,
            What::Costs => &self.stats,
        }
    }

    pub(super) fn see(&self, what: What, status: String, body: &Value) {
        lock(&self.seen).entry(what).or_default().entry(status).or_insert_with(|| body.clone());
    }

    pub(super) fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    pub(super) fn wrong(&self, what: String) {
        lock(&self.wrongs).push(what);
    }

    pub(super) fn wrongs(&self) -> Vec<String> {
        lock(&self.wrongs).clone()
    }

    pub(super) fn accepted_campaign(&self, user: &'static str, id: &str, answered: bool) {
        lock(&self.accepted).campaigns.push((user, id.to_owned(), answered));
    }

    pub(super) fn accepted_message(&self, user: &'static str, id: &str) {
        lock(&self.accepted).messages.push((user, id.to_owned()));
    }

    pub(super) fn accepted(&self) -> Accepted {
        lock(&self.accepted).clone()
    }

    /// What AWS does: runs the schedules, and hands what is on the queues to their consumers.
    pub(super) async fn work(&self) -> Result<()> {
        let (workflows, hints) = (self.app.stores.workflow_source(), self.app.stores.message_source());
        let consume = try_join_all((0..CONSUMERS).map(|_| self.consume(&workflows, &self.consumer)));
        let send = try_join_all((0..CONSUMERS).map(|_| self.consume(&hints, &self.sender)));
        try_join(try_join_all(self.sweepers.iter().map(|sweeper| self.sweep(sweeper))), try_join(consume, send))
            .await
            .map(drop)
    }

    async fn consume(&self, source: &Source, consumer: &Pool<'_>) -> Result<()> {
        while self.goes_on() {
            let is_bad = self.dependency == Dependency::Sqs && self.spoiled.load(Ordering::Relaxed);
            let Some(batch) = (if is_bad { None } else { source.receive(HIDDEN).await? }) else {
                sleep(LOOK).await;
                continue;
            };
            let _turn = self.turn().await;
            if let Some(answer) = self.heard(consumer.invoke(&batch, DEADLINE).await?) {
                source.delete_done(&batch, &answer).await?;
            }
        }
        Ok(())
    }

    async fn sweep(&self, sweeper: &Pool<'_>) -> Result<()> {
        while self.goes_on() {
            self.heard(sweeper.invoke(&json!({}), DEADLINE).await?);
            sleep(SCHEDULE).await;
        }
        Ok(())
    }

    /// To fail is what a function may do that nobody waits for; to end, or to hang, is not.
    fn heard(&self, answer: Result<Value, InvokeError>) -> Option<Value> {
        match answer {
            Ok(answer) => Some(answer),
            Err(InvokeError::Failed { .. }) => None,
            Err(other) => {
                self.wrong(other.to_string());
                None
            }
        }
    }

    /// A minute passes for all that waits in PostgreSQL, while nobody drives anything: whoever still holds a lease has died.
    pub(super) async fn let_time_pass(&self) -> Result<()> {
        let _all = self.turns.write().await;
        for sql in [
            "UPDATE orchestrator.reservations SET expires_at = expires_at - $1 * interval '1 second' WHERE settled_at IS NULL",
            "UPDATE orchestrator.workflows SET due_at = due_at - $1 * interval '1 second',
                hinted_at = hinted_at - $1 * interval '1 second',
                started_at = CASE WHEN handed_over THEN started_at ELSE started_at - $1 * interval '1 second' END
              WHERE status IN ('queued', 'running')",
            "UPDATE orchestrator.messages SET not_before = not_before - $1 * interval '1 second',
                look_at = look_at - $1 * interval '1 second', claimed_until = claimed_until - $1 * interval '1 second'
              WHERE status IN ('queued', 'claimed', 'sending') OR look_at IS NOT NULL",
            "UPDATE orchestrator.accounts SET resume_at = resume_at - $1 * interval '1 second',
                limited_until = limited_until - $1 * interval '1 second', wake_at = wake_at - $1 * interval '1 second'",
        ] {
            self.app.stores.execute(sql, &[&f64::from(STEP_SECONDS)]).await?;
        }
        self.skipped.fetch_add(STEP_SECONDS.into(), Ordering::Relaxed);
        Ok(())
    }

    /// Everybody approves what waits for them: what was judged while its account could not be read does.
    pub(super) async fn approve(&self) -> Result<()> {
        let waiting = "SELECT id, user_id FROM orchestrator.messages WHERE status = 'awaiting_approval'";
        for row in self.app.stores.rows(waiting, &[]).await? {
            let approval = json!({"messageId": row["id"], "reason": "it is what was wanted"});
            let request = user(Request::post(&format!("{MESSAGES}/approve")), text(&row["user_id"])).json(&approval);
            let response = self.messages.http(request).await??;
            ensure!(response.status == 200, "{}", response.body);
        }
        Ok(())
    }

    /// How much time has been let pass, in seconds.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// What every process that is still there has written.
    pub(super) fn logs(&self) -> Vec<String> {
        let served =
            [&self.hybrid, &self.messages, &self.status, &self.stats, &self.breakdown, &self.consumer, &self.sender];
        served.into_iter().chain(&self.sweepers).flat_map(Pool::logs).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
