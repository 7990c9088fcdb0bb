//! One call of one provider: what is reserved for it, and what it is settled at.

use huntaze_domain::ids::{AttemptId, UserId, WorkflowId};
use huntaze_domain::money::Usd;
use huntaze_domain::provider::{Provider, TokenUsage};
use jiff::Timestamp;

use crate::price::Price;

/// A call that is about to be made. It is stored, with its bound reserved, before its bytes leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptIntent {
    /// Also the id of its ledger entry.
    pub id: AttemptId,
    /// The operation that it belongs to.
    pub workflow_id: WorkflowId,
    /// Its place among the workflow's attempts, from 1.
    pub sequence: u16,
    /// Who pays.
    pub user_id: UserId,
    /// Which step of the workflow: `plan`, `message:<platform>`, …
    pub step: String,
    /// The workflow's type, for the roll-ups.
    pub request_type: &'static str,
    /// Who is called.
    pub provider: Provider,
    /// The model that is priced.
    pub model: String,
    /// The price that holds for this attempt for ever.
    pub price: Price,
    /// No more tokens than these can be billed.
    pub bound: TokenUsage,
    /// Passed on to the provider and the ledger.
    pub trace_id: String,
    /// When it was intended; the period that its cost is booked in.
    pub started_at: Timestamp,
}

impl AttemptIntent {
    /// What is reserved for it.
    #[must_use]
    pub fn bound_cost(&self) -> Usd {
        self.price.cost(self.bound)
    }

    /// What it costs, by what is known of its billing.
    #[must_use]
    pub fn settle(&self, outcome: Outcome, billing: Billing) -> Settlement {
        let (usage, estimated) = match billing {
            Billing::Usage(usage) if usage.within(self.bound) => (usage, false),
            Billing::Nothing => (TokenUsage::default(), false),
            // A usage over the bound is wrong, for the bound counts a token a byte. What is known is the bound.
            Billing::Usage(_) | Billing::Unknown => (self.bound, true),
        };
        Settlement { outcome, usage, cost: self.price.cost(usage), estimated }
    }
}

/// What is known of a call's billing when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Billing {
    /// The provider's own numbers.
    Usage(TokenUsage),
    /// The provider says that it did not do the work, or never got the request.
    Nothing,
    /// It may have done the work: no answer, or one without usable numbers. Never taken for free.
    Unknown,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With a text.
    Succeeded,
    /// Without a text, and it is known why.
    Failed,
    /// Nobody knows whether the provider did the work.
    Unknown,
}

impl Outcome {
    /// The name in the stores.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// Reads the name.
    #[must_use]
    pub fn from_name(text: &str) -> Option<Self> {
        [Self::Succeeded, Self::Failed, Self::Unknown].into_iter().find(|outcome| outcome.as_str() == text)
    }
}

/// The end of an attempt, in money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// How it ended.
    pub outcome: Outcome,
    /// The tokens that are booked; their price is the cost.
    pub usage: TokenUsage,
    /// Exact, and never over the attempt's bound.
    pub cost: Usd,
    /// The bound was booked because the provider's numbers are not known. An admin may correct it.
    pub estimated: bool,
}

/// The bound of a chat request's input in tokens: its UTF-8 bytes (a token is at least one byte) and the framing.
///
/// OpenAI documents 3 tokens a message and 3 for the reply's priming in its chat format; 16 and 16 leave room for
/// Azure's variants and for role names.
#[must_use]
pub fn input_bound<'a>(messages: impl IntoIterator<Item = &'a str>) -> u64 {
    messages.into_iter().fold(16, |sum, text| sum + 16 + text.len() as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::price::Catalogue;

    fn intent(bound: TokenUsage) -> AttemptIntent {
        let workflow_id = WorkflowId::parse("wf").unwrap();
        let at = Timestamp::UNIX_EPOCH;
        let catalogue = Catalogue::built_in().unwrap();
        AttemptIntent {
            id: AttemptId::of(&workflow_id, 1),
            workflow_id,
            sequence: 1,
            user_id: UserId::parse("u").unwrap(),
            step: "plan".to_owned(),
            request_type: "content_planning",
            provider: Provider::Azure,
            model: "gpt-4o".to_owned(),
            price: catalogue.price(Provider::Azure, "gpt-4o", at).unwrap().clone(),
            bound,
            trace_id: String::new(),
            started_at: at,
        }
    }

    prop_compose! {
        fn usage()(input in 0_u64..10_000, cached in 0_u64..10_000, output in 0_u64..10_000) -> TokenUsage {
            TokenUsage { input_tokens: input, cached_input_tokens: cached, output_tokens: output }
        }
    }

    proptest! {
        #[test]
        fn a_settlement_never_passes_the_bound(bound in usage(), billed in usage(), kind in 0..3) {
            let bound = TokenUsage { cached_input_tokens: 0, ..bound };
            let intent = intent(bound);
            let billing = match kind { 0 => Billing::Usage(billed), 1 => Billing::Nothing, _ => Billing::Unknown };
            let settled = intent.settle(Outcome::Failed, billing);
            prop_assert!(settled.cost <= intent.bound_cost());
            prop_assert_eq!(settled.cost, intent.price.cost(settled.usage));
        }

        #[test]
        fn an_unknown_outcome_settles_at_the_full_bound(bound in usage()) {
            let bound = TokenUsage { cached_input_tokens: 0, ..bound };
            let settled = intent(bound).settle(Outcome::Unknown, Billing::Unknown);
            prop_assert_eq!(settled.cost, intent(bound).bound_cost());
            prop_assert!(settled.estimated);
        }
    }

    #[test]
    fn usage_over_the_bound_is_wrong_usage() {
        let bound = TokenUsage { input_tokens: 10, cached_input_tokens: 0, output_tokens: 10 };
        let over = TokenUsage { input_tokens: 11, ..bound };
        assert!(intent(bound).settle(Outcome::Succeeded, Billing::Usage(over)).estimated);
        let impossible = TokenUsage { input_tokens: 5, cached_input_tokens: 6, output_tokens: 1 };
        assert!(intent(bound).settle(Outcome::Succeeded, Billing::Usage(impossible)).estimated);
    }

    #[test]
    fn the_input_bound_counts_bytes() {
        assert_eq!(input_bound([]), 16);
        assert_eq!(input_bound(["é", "ab"]), 16 + 16 + 2 + 16 + 2);
    }
}
