//! What follows a driver's part of a workflow, when nobody waits any more: the ledger, what watches it, and the hints of what is due.
//! All of it is found and done again by a schedule where it is lost.

use huntaze_costs::alert::Alert;
use huntaze_costs::budget::Refusal;
use huntaze_costs::ledger::{Ledger, LedgerEntry};
use huntaze_costs::watch::Watch;
use huntaze_domain::ids::{AccountId, UserId, WorkflowId};
use huntaze_messaging::hint::Hints;
use jiff::Timestamp;
use std::time::Duration;

use crate::circuit::Change;
use crate::hint::Workflows;

/// What is left to be done for a workflow.
#[derive(Debug, Default)]
pub struct Left {
    /// Every attempt that was settled: to be counted, and to be projected into the ledger.
    pub entries: Vec<LedgerEntry>,
    /// Circuits that were opened or closed: to be counted.
    pub changes: Vec<Change>,
    /// The budget that refused a call, also where another way was found.
    pub refusal: Option<Refusal>,
    /// The account that has a message to send now, and when its hint has to be on the queue.
    pub wake: Option<(AccountId, Duration)>,
    /// The workflow that goes on from the queue, whose it is, and when its hint has to be seen.
    pub handed_over: Option<(WorkflowId, UserId, Duration)>,
}

impl Left {
    /// Whether there is nothing to be done.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.entries.is_empty() && self.refusal.is_none() && self.wake.is_none() && self.handed_over.is_none()
    }
}

/// Who does it.
pub struct Aftermath {
    /// The ledger.
    pub ledger: Ledger,
    /// What watches it.
    pub watch: Watch,
    /// The queue of accounts with messages that are due.
    pub messages: Hints,
    /// The queue of workflows that are due.
    pub workflows: Workflows,
}

impl Aftermath {
    /// Does what is left. `now` is read when the entries are written; `told` hears of each alert that fired.
    pub async fn follow(&self, left: Left, now: impl Fn() -> Timestamp, mut told: impl FnMut(&Alert, Timestamp)) {
        let Left { entries, refusal, wake, handed_over, .. } = left;
        // The hints first: somebody waits for what they wake.
        if let Some((workflow, user, due)) = handed_over {
            self.workflows.put(&workflow, &user, due).await;
        }
        if let Some((account, delay)) = wake {
            self.messages.put(&account, Some(delay)).await;
        }
        if !entries.is_empty() {
            self.ledger.project_all(&entries).await;
            let now = now();
            self.watch.settled(&entries, now, |alert| told(alert, now)).await;
        }
        if let Some(refusal) = refusal {
            let now = now();
            self.watch.budget_exceeded(&refusal, now, |alert| told(alert, now)).await;
        }
    }
}
