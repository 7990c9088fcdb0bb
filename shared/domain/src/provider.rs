//! The text providers and what they count.

use serde::{Deserialize, Serialize};

/// Where text comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Azure OpenAI.
    Azure,
    /// OpenAI.
    OpenAi,
}

impl Provider {
    /// Both, in the order of the contract.
    pub const ALL: [Self; 2] = [Self::Azure, Self::OpenAi];

    /// The name on the wire and in the stores.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Azure => "azure",
            Self::OpenAi => "openai",
        }
    }

    /// Reads the name on the wire.
    #[must_use]
    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.as_str() == text)
    }
}

/// What a provider billed one call by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenUsage {
    /// All input tokens, the cached ones included.
    pub input_tokens: u64,
    /// Those of the input that the provider served from its prompt cache.
    pub cached_input_tokens: u64,
    /// Output tokens, hidden reasoning included.
    pub output_tokens: u64,
}

impl TokenUsage {
    /// Input and output together.
    #[must_use]
    pub fn total(self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    /// Whether a provider's numbers are possible under the bound that was reserved for the call.
    #[must_use]
    pub fn within(self, bound: Self) -> bool {
        self.cached_input_tokens <= self.input_tokens
            && self.input_tokens <= bound.input_tokens
            && self.output_tokens <= bound.output_tokens
    }
}
