//! What other models would have cost for the same tokens. Pure.

use std::collections::BTreeMap;

use huntaze_domain::money::Usd;
use huntaze_domain::provider::Provider;
use rust_decimal::Decimal;

use crate::price::Price;
use crate::rollup::{Detail, Figures};

/// The most recommendations of one answer.
const MOST: usize = 10;

/// A model that could have been asked, at its price of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alternative {
    /// Whose.
    pub provider: Provider,
    /// The model.
    pub model: String,
    /// What it costs.
    pub price: Price,
}

/// What could be saved, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Potential {
    /// If every detail's tokens were the cheapest alternative's: at least zero.
    pub savings: Usd,
    /// In words, what saves most first.
    pub recommendations: Vec<String>,
}

impl Potential {
    /// Prices the tokens of each detail as the cheapest of its alternatives does. The same tokens, so many of them cached: what
    /// another model would have said in their place is not known.
    #[must_use]
    pub fn of(details: &BTreeMap<Detail, Figures>, alternatives: impl Fn(&Detail) -> Vec<Alternative>) -> Self {
        let mut cheaper = Vec::new();
        for (detail, figures) in details {
            let priced = alternatives(detail).into_iter().map(|other| (other.price.cost(figures.usage), other));
            let cheapest = priced.min_by_key(|(cost, _)| *cost).filter(|(cost, _)| *cost < figures.cost);
            cheaper.extend(cheapest.map(|(cost, other)| (figures.cost - cost, detail, figures, other)));
        }
        cheaper.sort_by_key(|(saving, ..)| std::cmp::Reverse(*saving));
        let estimated: u64 = details.values().map(|figures| figures.estimated).sum();
        let sentences = cheaper.iter().map(|(saving, detail, figures, other)| {
            format!(
                "Asking {} of {} first for {} in place of {} of {} would have cost ${} less of ${}.",
                other.model,
                other.provider.as_str(),
                detail.request_type,
                detail.model,
                detail.provider.as_str(),
                readable(*saving),
                readable(figures.cost),
            )
        });
        let unknown = (estimated > 0).then(|| {
            format!("{estimated} calls are booked at their upper bounds, for the provider's numbers are not known: hold them against its bill.")
        });
        Self {
            savings: cheaper.iter().map(|(saving, ..)| *saving).sum(),
            recommendations: sentences.take(MOST).chain(unknown).collect(),
        }
    }
}

/// For a person: to the millionth of a dollar.
pub(crate) fn readable(amount: Usd) -> Decimal {
    amount.to_decimal().round_dp(6).normalize()
}

#[cfg(test)]
mod tests {
    use huntaze_domain::provider::TokenUsage;
    use jiff::Timestamp;

    use super::*;
    use crate::price::Catalogue;

    fn alternative(provider: Provider, model: &str) -> Alternative {
        let catalogue = Catalogue::built_in().unwrap();
        let price = catalogue.price(provider, model, Timestamp::UNIX_EPOCH).unwrap().clone();
        Alternative { provider, model: model.to_owned(), price }
    }

    #[test]
    fn the_cheapest_alternative_decides() {
        let usage = TokenUsage { input_tokens: 1_000_000, cached_input_tokens: 0, output_tokens: 0 };
        let detail = |model: &str| Detail {
            provider: Provider::OpenAi,
            model: model.into(),
            request_type: "content_planning".into(),
        };
        let own = |model: &str| alternative(Provider::OpenAi, model).price.cost(usage);
        let details = ["gpt-4o", "gpt-4o-mini"]
            .map(|model| (detail(model), Figures { usage, cost: own(model), estimated: 1, ..Figures::default() }));
        let potential = Potential::of(&details.into(), |_| {
            vec![alternative(Provider::OpenAi, "gpt-4o"), alternative(Provider::OpenAi, "gpt-4o-mini")]
        });
        assert_eq!(potential.savings, own("gpt-4o") - own("gpt-4o-mini"));
        assert_eq!(
            potential.recommendations[0],
            "Asking gpt-4o-mini of openai first for content_planning in place of gpt-4o of openai would have cost $2.35 less of $2.5."
        );
        assert!(potential.recommendations[1].starts_with("2 calls are booked"));
        assert_eq!(Potential::of(&BTreeMap::new(), |_| Vec::new()), Potential::default());
    }
}
