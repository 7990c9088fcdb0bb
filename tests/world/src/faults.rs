//! What a test can make a provider do, and to which calls.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// Azure OpenAI.
    Azure,
    /// OpenAI.
    #[serde(rename = "openai")]
    OpenAi,
    /// Slack.
    Slack,
    /// OnlyFans.
    #[serde(rename = "onlyfans")]
    OnlyFans,
    /// The system before this one.
    Legacy,
}

/// What is asked of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// A chat completion: what costs money.
    #[default]
    Chat,
    /// The list of models: what a health check asks for.
    Models,
    /// A second opinion about a text, which costs nothing.
    Moderation,
    /// A message for a channel, by its webhook.
    Webhook,
    /// A message for a fan.
    Message,
    /// The last messages of a conversation.
    Conversation,
    /// Whose session it is.
    Me,
    /// A campaign, or whatever else the old system is asked for.
    Campaign,
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// An error of the service. Without a body it is the one that this provider really sends with that status.
    Status {
        /// The HTTP status.
        status: u16,
        /// The body in place of the provider's own.
        #[serde(default)]
        body: Option<Value>,
        /// Headers added to the provider's own, such as `retry-after`.
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
    /// The request is read and never answered.
    Hang,
    /// The normal answer, late.
    Delay {
        /// How late, in milliseconds.
        ms: u64,
    },
    /// The normal answer, once a test has released it.
    Gate,
    /// The request is read, then the connection is reset.
    Reset,
    /// The headers and half of the body, then the connection ends.
    Truncate,
    /// The normal answer: its headers at once, its body byte by byte.
    Drip {
        /// The pause before each byte, in milliseconds.
        ms: u64,
    },
    /// A 200 whose JSON is longer than anybody should read.
    Flood {
        /// How long, in bytes.
        bytes: usize,
    },
    /// A 200 whose body is not JSON.
    Garbage,
    /// A 200 with this body, byte for byte.
    Raw {
        /// The body.
        body: String,
    },
    /// The content filter refuses.
    ContentFilter {
        /// What it refuses.
        #[serde(default)]
        stage: FilterStage,
    },
    /// The model itself declines: `refusal` in place of `content`.
    Refusal,
    /// A 200 with an empty list of choices.
    EmptyChoices,
    /// A 200 without `usage`.
    NoUsage,
    /// The normal answer with these token counts.
    Usage {
        /// All tokens of the prompt.
        prompt_tokens: u64,
        /// The tokens of the answer.
        completion_tokens: u64,
        /// Those of the prompt that were cached.
        #[serde(default)]
        cached_tokens: u64,
    },
    /// The request is done as usual: a message reaches its fan. Its answer then meets with this.
    After {
        /// With what: `hang`, `reset`, `delay`, `gate`, `status`, `garbage`, `raw`, `flood`.
        then: Box<Fault>,
    },
    /// A moderation that flags these categories.
    Flagged {
        /// Their names.
        categories: Vec<String>,
    },
    /// The normal answer with this text.
    Text {
        /// What the model says.
        text: String,
    },
}

/// What the content filter refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterStage {
    /// The prompt: an error with status 400, nothing generated.
    #[default]
    Prompt,
    /// The answer: a 200 with `finish_reason: content_filter` and no content; what was generated is billed.
    Completion,
}

impl Fault {
    /// The provider's own error for `status`.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Status { status, body: None, headers: BTreeMap::new() }
    }

    /// The provider's own 429, saying when to come back.
    #[must_use]
    pub fn rate_limited(retry_after_seconds: u32) -> Self {
        // OpenAI says it in both, and the more exact one counts.
        let headers = [
            ("retry-after", u64::from(retry_after_seconds)),
            ("retry-after-ms", u64::from(retry_after_seconds) * 1_000),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_string())).into();
        Self::Status { status: 429, body: None, headers }
    }

    /// The normal answer after `delay`.
    #[must_use]
    pub fn delay(delay: Duration) -> Self {
        Self::Delay { ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX) }
    }

    /// The normal answer with this text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }

    /// A moderation that flags these categories.
    #[must_use]
    pub fn flagged(categories: &[&str]) -> Rule {
        let categories = categories.iter().map(|name| (*name).to_owned()).collect();
        Self::Flagged { categories }.on(Provider::OpenAi).of(Operation::Moderation)
    }

    /// The same, once the request is done: what was asked for has happened, and the answer is what suffers.
    #[must_use]
    pub fn after_accepting(self) -> Self {
        Self::After { then: Box::new(self) }
    }

    /// The next call of `provider` (see [`Rule`] for more than one): of Slack a webhook, of OnlyFans a message for a fan, of the
    /// old system a campaign, of the others a chat completion.
    #[must_use]
    pub fn on(self, provider: Provider) -> Rule {
        let operation = match provider {
            Provider::Azure | Provider::OpenAi => Operation::Chat,
            Provider::Slack => Operation::Webhook,
            Provider::OnlyFans => Operation::Message,
            Provider::Legacy => Operation::Campaign,
        };
        Rule { operation, ..Rule::new(provider.into(), self) }
    }

    /// The next chat completion, of whichever provider.
    #[must_use]
    pub fn on_any(self) -> Rule {
        Rule::new(Target::Any, self)
    }
}

/// A fault and the calls that it is for. Rules are tried in the order in which they were given; the first that matches
/// a call and is not used up is applied to it, and only that one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    provider: Target,
    fault: Fault,
    /// How many calls it is still for: 1 if not said, `null` for all.
    #[serde(default = "once")]
    times: Option<u32>,
    #[serde(default)]
    contains: Option<String>,
    #[serde(default)]
    operation: Operation,
}

impl Rule {
    fn new(provider: Target, fault: Fault) -> Self {
        Self { provider, fault, times: once(), contains: None, operation: Operation::Chat }
    }

    /// For this many calls.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    /// For every call, until the world is reset.
    #[must_use]
    pub fn always(self) -> Self {
        Self { times: None, ..self }
    }

    /// Only for calls whose body contains this text.
    #[must_use]
    pub fn containing(self, text: impl Into<String>) -> Self {
        Self { contains: Some(text.into()), ..self }
    }

    /// For lists of models in place of chat completions.
    #[must_use]
    pub fn for_models(self) -> Self {
        self.of(Operation::Models)
    }

    /// For calls of this operation.
    #[must_use]
    pub fn of(self, operation: Operation) -> Self {
        Self { operation, ..self }
    }

    /// The fault, if the rule is for this call; one use of it is then gone.
    pub(crate) fn apply(&mut self, provider: Provider, operation: Operation, body: &str) -> Option<Fault> {
        let text_fits = self.contains.as_deref().is_none_or(|text| body.contains(text));
        if !self.provider.covers(provider) || self.operation != operation || !text_fits {
            return None;
        }
        match &mut self.times {
            None => {}
            Some(0) => return None,
            Some(left) => *left -= 1,
        }
        Some(self.fault.clone())
    }

    /// Whether it is used up.
    pub(crate) fn is_spent(&self) -> bool {
        self.times == Some(0)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the default of a field whose None means every call")]
fn once() -> Option<u32> {
    Some(1)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Target {
    Azure,
    #[serde(rename = "openai")]
    OpenAi,
    Slack,
    #[serde(rename = "onlyfans")]
    OnlyFans,
    Legacy,
    Any,
}

impl Target {
    fn covers(self, provider: Provider) -> bool {
        match self {
            Self::Azure => provider == Provider::Azure,
            Self::OpenAi => provider == Provider::OpenAi,
            Self::Slack => provider == Provider::Slack,
            Self::OnlyFans => provider == Provider::OnlyFans,
            Self::Legacy => provider == Provider::Legacy,
            Self::Any => true,
        }
    }
}

impl From<Provider> for Target {
    fn from(provider: Provider) -> Self {
        match provider {
            Provider::Azure => Self::Azure,
            Provider::OpenAi => Self::OpenAi,
            Provider::Slack => Self::Slack,
            Provider::OnlyFans => Self::OnlyFans,
            Provider::Legacy => Self::Legacy,
        }
    }
}
