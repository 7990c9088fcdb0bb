//! What is held when everything has ended: nothing that was taken on is lost, nothing is done twice, and all books agree.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use huntaze_domain::money::Usd;
use huntaze_tests::{Request, Session};
use huntaze_world::{Outcome, REMEMBERED_CALLS};
use jiff::Timestamp;
use serde_json::Value;

use super::setting::{MOST, WINDOW};
use super::stage::{Accepted, Stage};
use crate::support::{MESSAGES, entries_and_rollups, rollups_of, status_of, summed, text, usd};

/// What has not ended yet, in numbers.
const OPEN: &str = "SELECT
    (SELECT count(*) FROM orchestrator.workflows WHERE status IN ('queued', 'running')) AS workflows,
    (SELECT count(*) FROM orchestrator.messages
      WHERE status IN ('awaiting_approval', 'queued', 'claimed', 'sending') OR status = 'unknown' AND look_at IS NOT NULL) AS messages,
    (SELECT count(*) FROM orchestrator.reservations WHERE settled_at IS NULL) AS reservations,
    (SELECT count(*) FROM orchestrator.attempts WHERE settled_at IS NULL OR projected_at IS NULL) AS entries,
    (SELECT count(*) FROM orchestrator.messages WHERE projected < version) AS shown";

/// How what was taken on ended, in words.
#[derive(Debug)]
pub(super) struct Ends {
    /// Campaigns and messages.
    pub(super) taken_on: usize,
    /// Those of them that ended otherwise than was wanted, by how.
    pub(super) not_done: String,
}

impl Stage<'_> {
    /// How it all ended.
    pub(super) async fn ends(&self) -> Result<Ends> {
        let Accepted { campaigns, messages } = self.accepted();
        let ids = campaigns.iter().map(|(_, id, _)| id).chain(messages.iter().map(|(_, id)| id)).collect::<Vec<_>>();
        let sql = "SELECT what, status, count(*)::text AS n FROM (
                SELECT 'campaign' AS what, id, status FROM orchestrator.workflows
                UNION ALL SELECT 'message', id, status FROM orchestrator.messages) every
             WHERE id = ANY ($1) AND status NOT IN ('completed', 'sent') GROUP BY what, status ORDER BY what, status";
        let rows = self.app.stores.rows(sql, &[&ids]).await?;
        let words = rows.iter().map(|row| {
            let n = text(&row["n"]);
            format!("{n} {}{} {}", text(&row["what"]), if n == "1" { "" } else { "s" }, text(&row["status"]))
        });
        Ok(Ends { taken_on: ids.len(), not_done: words.collect::<Vec<_>>().join(", ") })
    }

    /// How much of each has not ended yet.
    pub(super) async fn open(&self) -> Result<Vec<i64>> {
        let row = self.app.stores.row(OPEN, &[]).await?;
        row.as_object().context("counts")?.values().map(|count| count.as_i64().context("a count")).collect()
    }

    /// Everything that is wrong with how it ended; each is something lost, or done twice.
    pub(super) async fn losses(&self) -> Result<Vec<String>> {
        let mut losses = self.wrongs();
        losses.extend(self.logs().iter().flat_map(|log| log.lines()).filter(|line| is_fault(line)).map(str::to_owned));
        let accepted = self.accepted();
        losses.extend(self.lost_campaigns(&accepted).await?);
        losses.extend(self.lost_messages(&accepted).await?);
        losses.extend(self.paid_twice().await?);
        losses.extend(self.uneven_books().await?);
        Ok(losses)
    }

    /// Every campaign that was taken on has an end with a reason, and is shown with it.
    async fn lost_campaigns(&self, accepted: &Accepted) -> Result<Vec<String>> {
        let mut losses = Vec::new();
        for (user, id, answered) in &accepted.campaigns {
            let shown = self.status.http(status_of(user, id)).await??.body["data"].take();
            let ended = match text(&shown["status"]) {
                "completed" => text(&shown["content"]).contains(' '),
                "failed" => shown["error"]["detail"].is_string() && !answered,
                "manual_review" => !answered,
                _ => false,
            };
            if !ended {
                losses.push(format!("campaign {id} (answered: {answered}) ended as {shown}"));
            }
        }
        let every = "SELECT id, status FROM orchestrator.workflows
            WHERE status NOT IN ('completed', 'failed', 'withdrawn', 'manual_review') OR status = 'failed' AND error IS NULL";
        losses.extend(self.app.stores.rows(every, &[]).await?.iter().map(|row| format!("workflow {row}")));
        Ok(losses)
    }

    /// Every message that was taken on has an end that is shown; none is twice at its fan, and what is `sent` is there.
    async fn lost_messages(&self, accepted: &Accepted) -> Result<Vec<String>> {
        let mut losses = Vec::new();
        let rows = self.app.stores.rows("SELECT id, status FROM orchestrator.messages", &[]).await?;
        let rows: BTreeMap<_, _> = rows.iter().map(|row| (text(&row["id"]), text(&row["status"]))).collect();
        for (user, id) in &accepted.messages {
            let request = Request::get(MESSAGES).bearer(&Session::user(user).v4()).query("messageId", id);
            let shown = self.messages.http(request).await??.body["data"].take();
            if !rows.contains_key(id.as_str()) || shown["status"] != rows[id.as_str()] {
                losses.push(format!("message {id} is shown as {shown}"));
            }
        }
        losses.extend(self.too_many_at_once());
        let mut reached: BTreeMap<String, usize> = BTreeMap::new();
        for message in self.app.world.fan_messages() {
            // Only the world knows the messages by it: nothing of ours relies on it.
            *reached.entry(message.idempotency_key.context("a message without its id")?).or_default() += 1;
        }
        for (id, status) in &rows {
            let times = reached.remove(*id).unwrap_or_default();
            let right = match *status {
                "sent" => times == 1,
                "failed" => times == 0,
                "unknown" => times <= 1,
                _ => false,
            };
            if !right {
                losses.push(format!("message {id} ended as {status}, {times} times at its fan"));
            }
        }
        losses.extend(reached.keys().map(|id| format!("message {id} is at its fan and was never taken on")));
        let [shown, ..] = self.app.stores.shown_items().await?;
        let shown: BTreeMap<_, _> =
            shown.iter().map(|item| (text(&item["messageId"]), text(&item["status"]))).collect();
        let unlike = rows.iter().filter(|(id, status)| shown.get(*id) != Some(*status));
        losses
            .extend(unlike.map(|(id, status)| format!("message {id} is {status}, and the apps' table says otherwise")));
        Ok(losses)
    }

    /// No window has more of an account's messages than its limit, whatever was known of it.
    fn too_many_at_once(&self) -> Vec<String> {
        let mut arrivals: BTreeMap<String, Vec<Timestamp>> = BTreeMap::new();
        for message in self.app.world.fan_messages() {
            arrivals.entry(message.account).or_default().push(message.at);
        }
        let over = |times: &[Timestamp]| times[MOST].duration_since(times[0]).unsigned_abs() < WINDOW;
        let over = arrivals.iter().filter(|(_, times)| times.windows(MOST + 1).any(over));
        over.map(|(account, times)| format!("more than {MOST} of {account} within {WINDOW:?}: {times:?}")).collect()
    }

    /// No step that was finished is called again.
    async fn paid_twice(&self) -> Result<Vec<String>> {
        let sql = "SELECT workflow_id, step, outcome FROM orchestrator.attempts ORDER BY workflow_id, sequence";
        let (mut finished, mut losses) = (BTreeSet::new(), Vec::new());
        for attempt in self.app.stores.rows(sql, &[]).await? {
            let step = (text(&attempt["workflow_id"]).to_owned(), text(&attempt["step"]).to_owned());
            if finished.contains(&step) {
                losses.push(format!("{step:?} was finished, and called again"));
            }
            if attempt["outcome"] == "succeeded" {
                finished.insert(step);
            }
        }
        Ok(losses)
    }

    /// What the providers were paid for is in the ledger; what it has beyond that is an estimate; and ledger, roll-ups, workflows and
    /// budgets have the same sum.
    async fn uneven_books(&self) -> Result<Vec<String>> {
        let mut losses = Vec::new();
        let (entries, rollups) = entries_and_rollups(self.app.stores.cost_items().await?);
        let by_id: BTreeMap<_, _> = entries.iter().map(|entry| (text(&entry["id"]), entry)).collect();
        let (calls, mut seen) = (self.app.world.calls(), BTreeSet::new());
        anyhow::ensure!(calls.len() < REMEMBERED_CALLS, "the world has forgotten calls");
        for call in calls {
            let id = ["x-ms-client-request-id", "x-client-request-id"].iter().find_map(|name| call.headers.get(*name));
            let id = id.context("a call without an attempt's id")?.clone();
            let paid = !matches!(call.outcome, Outcome::Answered { status } if status != 200);
            if paid && by_id.get(id.as_str()).is_none_or(|entry| usd(&entry["cost"]) == Usd::ZERO) {
                losses.push(format!("{id} was paid for, and is in no ledger or costs nothing there"));
            }
            if !seen.insert(id.clone()) {
                losses.push(format!("{id} was called twice"));
            }
        }
        let beyond = by_id.iter().filter(|(id, entry)| !seen.contains(**id) && !is_owed(entry));
        losses
            .extend(beyond.map(|(id, entry)| format!("{id} never reached its provider, and costs something: {entry}")));

        let ledger: Usd = entries.iter().map(|entry| usd(&entry["cost"])).sum();
        let sums = self.app.stores.row(
            "SELECT (SELECT coalesce(sum(cost), 0)::text FROM orchestrator.attempts) AS attempts,
                    (SELECT coalesce(sum(cost), 0)::text FROM orchestrator.workflows) AS workflows,
                    (SELECT coalesce(sum(p.spent), 0)::text FROM orchestrator.budget_periods p
                       JOIN orchestrator.budgets b ON b.id = p.budget_id WHERE b.scope = 'user') AS users,
                    (SELECT coalesce(sum(p.spent), 0)::text FROM orchestrator.budget_periods p
                       JOIN orchestrator.budgets b ON b.id = p.budget_id WHERE b.scope = 'global') AS everybody,
                    (SELECT coalesce(sum(reserved), 0)::text FROM orchestrator.budget_periods) AS reserved",
            &[],
        );
        let sums = sums.await?;
        for (book, sum) in sums.as_object().context("sums")? {
            let expected = if book == "reserved" { Usd::ZERO } else { ledger };
            if usd(sum) != expected {
                losses.push(format!("{book} has {sum}, and the ledger {ledger}"));
            }
        }
        for grain in ["hour", "day", "month"] {
            let sum = summed(&rollups_of(&rollups, None, grain), "cost");
            if sum != ledger {
                losses.push(format!("the roll-ups of a {grain} have {sum}, and the ledger {ledger}"));
            }
        }
        Ok(losses)
    }
}

/// Nobody knows, or it was refused on its way, which costs nothing.
fn is_owed(entry: &Value) -> bool {
    entry["estimated"] == true || usd(&entry["cost"]) == Usd::ZERO
}

/// A line of the log that whatever goes wrong outside must not lead to: a panic, or an error that a library writes past us.
fn is_fault(line: &str) -> bool {
    let Ok(entry) = serde_json::from_str::<Value>(line) else { return line.contains("panicked at") };
    entry["level"] == "ERROR" && (entry["message"] == "panic" || text(&entry["target"]).starts_with("aws_"))
}
