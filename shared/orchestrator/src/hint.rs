//! Hints: what is on `huntaze-hybrid-workflows`. A hint names a workflow that is due; PostgreSQL is the truth, so one that comes twice,
//! late or too early does no harm, and one that is lost is made up for by the sweep.

use std::time::Duration;

use huntaze_domain::env::Env;
use huntaze_domain::ids::{UserId, WorkflowId};
use huntaze_sqs::{Queue, QueueError, Sqs};
use serde_json::{Map, Value, json};

/// The name of its one member.
const WORKFLOW: &str = "workflowId";

/// The queue of workflows that are due.
pub struct Workflows(Queue);

impl Workflows {
    /// Reads `SQS_WORKFLOW_QUEUE`, a name or a URL; nothing is called.
    #[must_use]
    pub fn from_env(env: &Env, sqs: Sqs) -> Self {
        Self(Queue::from_env(env, "SQS_WORKFLOW_QUEUE", "huntaze-hybrid-workflows", sqs))
    }

    /// Has a workflow taken up when it is due. Where that fails, the sweep makes up for it within a minute or two.
    pub async fn put(&self, workflow: &WorkflowId, user: &UserId, delay: Duration) {
        if let Err(error) = self.try_put(workflow, user, delay).await {
            tracing::warn!(%error, %workflow, "a workflow is left to the sweep");
        }
    }

    /// Puts a hint. Beyond the quarter of an hour that the queue can hold, it comes early, and the sweep puts another one.
    ///
    /// # Errors
    /// [`QueueError`]
    pub async fn try_put(&self, workflow: &WorkflowId, user: &UserId, delay: Duration) -> Result<(), QueueError> {
        // The group is the user: one with many workflows does not hold up the others.
        let group: String = user.as_str().chars().take(128).collect();
        self.0.put(json!({ WORKFLOW: workflow }).to_string(), delay, Some(&group)).await
    }
}

/// Reads a hint's body.
#[must_use]
pub fn read(body: &Map<String, Value>) -> Option<WorkflowId> {
    body.get(WORKFLOW)?.as_str().and_then(|text| WorkflowId::parse(text).ok())
}
