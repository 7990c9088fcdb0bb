//! What a workflow's row says: where it stands, what was decided, and what it failed of.

use std::collections::BTreeMap;

use huntaze_domain::error::ErrorCode;
use huntaze_domain::ids::AttemptId;
use huntaze_domain::provider::Provider;
use huntaze_judge::Judged;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answer::Failure;
use crate::cache::Maker;

/// The states of a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkflowStatus {
    /// Accepted, not begun.
    Queued,
    /// Under way, or interrupted and not yet swept.
    Running,
    /// Ended with an answer.
    Completed,
    /// Ended without one.
    Failed,
    /// Waits for a person.
    ManualReview,
    /// Ended by its owner.
    Cancelled,
}

impl WorkflowStatus {
    /// Every state, in the order of the contract.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Completed, Self::Failed, Self::ManualReview, Self::Cancelled];

    /// The name on the wire and in the stores.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::ManualReview => "manual_review",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the name.
    #[must_use]
    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// One change of provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallback {
    /// Who failed.
    pub from: Provider,
    /// Who was asked instead.
    pub to: Provider,
    /// What the first failed of.
    pub reason: String,
    /// When.
    pub timestamp: Timestamp,
}

/// One decision of a workflow, as it is logged, kept and shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionRecord {
    /// When.
    pub at: Timestamp,
    /// For which step.
    pub step: String,
    /// `skip`, `call`, `retry`, `fall_back`, `use_kept`, `hand_over` or `stop`.
    pub action: &'static str,
    /// Why.
    pub reason: &'static str,
    /// Why it is no retry, where a retry was thinkable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_retry: Option<&'static str>,
    /// Who is called or passed over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// Which of its models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The call that it leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<AttemptId>,
    /// How long that call waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

/// The text of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Text {
    /// What the model wrote.
    pub content: String,
    /// It met its bound of tokens and is not whole.
    pub truncated: bool,
    /// Who made it before, where no provider was called for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<Maker>,
    /// What was said of it; nothing of one that was made before texts were judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<Judged>,
}

/// Where a step stands that has no text yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Whose turn it is.
    pub provider: Provider,
    /// By which of its names on the wire.
    pub deployment: String,
    /// How often it may be asked.
    pub tries_left: u16,
    /// How often it was asked again.
    pub retried: u16,
}

/// What whoever takes the workflow up need not do again.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Checkpoint {
    /// What is made and paid for, by the names of the steps.
    pub texts: BTreeMap<String, Text>,
    /// Where the other steps stand.
    pub standings: BTreeMap<String, Standing>,
    /// How many calls were made again.
    pub retries: u16,
    /// Which texts that were made before its client takes.
    pub reuse: Reuse,
}

/// Which texts that were made before may serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reuse {
    /// Fresh ones in a call's place, kept ones as the last of the chain.
    #[default]
    Fresh,
    /// Kept ones, where no provider makes one.
    Last,
    /// None, and none is kept of this one.
    Never,
}

/// What the workflow's row says; its fields are the row's columns.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct State {
    /// Where it stands.
    pub status: WorkflowStatus,
    /// Who is being asked, or was last.
    pub current_provider: Option<Provider>,
    /// Where each part stands.
    pub provider_states: ProviderStates,
    /// Every change of provider.
    pub fallback_history: Vec<Fallback>,
    /// Every [`DecisionRecord`], those of earlier drivers first.
    pub decisions: Vec<Value>,
    /// The answer.
    pub result: Option<Value>,
    /// Why there is none.
    pub error: Option<WorkflowError>,
    /// What need not be done again, while there is something to be done.
    pub checkpoint: Option<Checkpoint>,
    /// Where it is queued: in how many milliseconds it is due.
    pub due_in_ms: Option<i64>,
}

/// What a workflow failed of. Kept with it, and said again to whoever repeats the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowError {
    /// The contract's error type.
    pub code: ErrorCode,
    /// For a person; nothing of the prompt, the text, or a provider's own words.
    pub detail: String,
    /// The limit that was met, where one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Value>,
    /// Seconds until a provider wants to be asked again, where it said so.
    #[serde(default, rename = "retryAfter", skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// The rules that the text breaks, where it does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Value>,
}

impl WorkflowError {
    /// An error that met no limit and names no time.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), limit: None, retry_after: None, findings: Vec::new() }
    }
}

/// Where a provider stands in a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderState {
    /// Not called yet, or not needed.
    Pending,
    /// Being called.
    Executing,
    /// Gave a text.
    Completed,
    /// Gave none.
    Failed,
    /// Did not answer in time.
    Timeout,
}

/// The `providerStates` of the contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderStates {
    /// Azure OpenAI.
    pub azure: ProviderState,
    /// OpenAI.
    pub openai: ProviderState,
    /// The send's limiter; it has its own states, none of which is reached yet.
    pub rate_limiter: ProviderState,
    /// The send itself; as above.
    pub only_fans: ProviderState,
}

impl Default for ProviderStates {
    fn default() -> Self {
        let pending = ProviderState::Pending;
        Self { azure: pending, openai: pending, rate_limiter: pending, only_fans: pending }
    }
}

impl ProviderStates {
    /// Sets a provider's state.
    pub fn set(&mut self, provider: Provider, state: ProviderState) {
        match provider {
            Provider::Azure => self.azure = state,
            Provider::OpenAi => self.openai = state,
        }
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            status: WorkflowStatus::Running,
            current_provider: None,
            provider_states: ProviderStates::default(),
            fallback_history: Vec::new(),
            decisions: Vec::new(),
            result: None,
            error: None,
            checkpoint: None,
            due_in_ms: None,
        }
    }
}

impl State {
    pub(crate) fn calling(&mut self, provider: Provider) {
        self.current_provider = Some(provider);
        self.provider_states.set(provider, ProviderState::Executing);
    }

    pub(crate) fn ended(&mut self, provider: Provider, failure: Option<Failure>, others_under_way: &[Provider]) {
        let state = match failure {
            _ if others_under_way.contains(&provider) => ProviderState::Executing,
            // It gave a text, whatever we think of it.
            None | Some(Failure::Blocked) => ProviderState::Completed,
            Some(Failure::Timeout) => ProviderState::Timeout,
            Some(_) => ProviderState::Failed,
        };
        self.provider_states.set(provider, state);
    }
}
