//! The price catalogue: effective-dated rows of `data/prices.json`.

use std::cmp::Reverse;
use std::collections::HashMap;

use huntaze_domain::money::{InvalidUsd, TokenPrice, Usd};
use huntaze_domain::provider::{Provider, TokenUsage};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::Deserialize;

const BUILT_IN: &str = include_str!("../data/prices.json");

/// What a model costs from a day on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// Names the row for ever: `<provider>/<model>@<day of effect>`.
    pub version: String,
    input: TokenPrice,
    cached_input: TokenPrice,
    output: TokenPrice,
    /// The most input tokens that the model takes.
    pub max_input_tokens: u64,
    /// The most output tokens that the model makes.
    pub max_output_tokens: u64,
}

impl Price {
    /// The exact cost of a call.
    #[must_use]
    pub fn cost(&self, usage: TokenUsage) -> Usd {
        let full = usage.input_tokens.saturating_sub(usage.cached_input_tokens);
        self.input.of(full) + self.cached_input.of(usage.cached_input_tokens) + self.output.of(usage.output_tokens)
    }

    /// What the provider's own cache took off a call's cost: exact as the cost is.
    #[must_use]
    pub fn saved(&self, usage: TokenUsage) -> Usd {
        let cached = usage.cached_input_tokens.min(usage.input_tokens);
        self.input.of(cached) - self.cached_input.of(cached)
    }
}

/// The model has no price, and none is configured in its place. A call would be free, so it is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the model `{model}` of {} has no price in the catalogue", provider.as_str())]
pub struct UnknownModel {
    /// Whose model.
    pub provider: Provider,
    /// Its name.
    pub model: String,
}

/// A catalogue that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// It is no JSON of the expected shape.
    #[error("the price catalogue cannot be read")]
    Json(#[from] serde_json::Error),
    /// A price is not exact.
    #[error("the price of {model} is not exact")]
    Price {
        /// The model.
        model: String,
        /// Why.
        #[source]
        source: InvalidUsd,
    },
}

#[derive(Deserialize)]
struct File {
    prices: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    provider: Provider,
    model: String,
    effective_from: Date,
    input_per_million: String,
    cached_input_per_million: Option<String>,
    output_per_million: String,
    max_input_tokens: u64,
    max_output_tokens: u64,
}

impl Entry {
    fn price(&self) -> Result<Price, InvalidUsd> {
        let input = TokenPrice::per_million(&self.input_per_million)?;
        // Without a price of their own, cached tokens cost what all input costs; and no more, for a call's bound is reserved
        // at the input's price.
        let cached_input = self.cached_input_per_million.as_deref().map_or(Ok(input), TokenPrice::per_million)?;
        if cached_input > input {
            return Err(InvalidUsd);
        }
        Ok(Price {
            version: format!("{}/{}@{}", self.provider.as_str(), self.model, self.effective_from),
            input,
            cached_input,
            output: TokenPrice::per_million(&self.output_per_million)?,
            max_input_tokens: self.max_input_tokens,
            max_output_tokens: self.max_output_tokens,
        })
    }
}

/// Every known price, newest row first.
#[derive(Debug)]
pub struct Catalogue {
    rows: HashMap<(Provider, String), Vec<(Date, Price)>>,
    fallback: Option<Price>,
}

impl Catalogue {
    /// The catalogue that comes with the program.
    ///
    /// # Errors
    /// [`CatalogueError`]; a test keeps it from happening.
    pub fn built_in() -> Result<Self, CatalogueError> {
        Self::from_json(BUILT_IN)
    }

    fn from_json(text: &str) -> Result<Self, CatalogueError> {
        let file: File = serde_json::from_str(text)?;
        let mut rows: HashMap<_, Vec<_>> = HashMap::new();
        for entry in file.prices {
            let price = entry.price().map_err(|source| CatalogueError::Price { model: entry.model.clone(), source })?;
            rows.entry((entry.provider, entry.model)).or_default().push((entry.effective_from, price));
        }
        rows.values_mut().for_each(|list| list.sort_by_key(|(from, _)| Reverse(*from)));
        Ok(Self { rows, fallback: None })
    }

    /// Prices models that have no row, by dollars per million tokens. Their calls are bounded by `max_tokens` each way.
    ///
    /// # Errors
    /// [`InvalidUsd`] if a price is not exact.
    pub fn with_fallback(mut self, input: &str, output: &str, max_tokens: u64) -> Result<Self, InvalidUsd> {
        let input = TokenPrice::per_million(input)?;
        self.fallback = Some(Price {
            version: "fallback".to_owned(),
            input,
            cached_input: input,
            output: TokenPrice::per_million(output)?,
            max_input_tokens: max_tokens,
            max_output_tokens: max_tokens,
        });
        Ok(self)
    }

    /// The price that applies at a moment (days are UTC). Before a model's first row, that row applies: older prices are
    /// not known, and nothing is free.
    ///
    /// # Errors
    /// [`UnknownModel`]
    pub fn price(&self, provider: Provider, model: &str, at: Timestamp) -> Result<&Price, UnknownModel> {
        let day = at.to_zoned(TimeZone::UTC).date();
        let rows = self.rows.get(&(provider, model.to_owned()));
        let row = rows.and_then(|rows| rows.iter().find(|(from, _)| *from <= day).or(rows.last()));
        row.map(|(_, price)| price)
            .or(self.fallback.as_ref())
            .ok_or_else(|| UnknownModel { provider, model: model.to_owned() })
    }

    /// The row that an attempt was priced by, by its [`Price::version`]. Rows are never taken out of the catalogue.
    #[must_use]
    pub fn version(&self, version: &str) -> Option<&Price> {
        let mut rows = self.rows.values().flatten().map(|(_, price)| price).chain(&self.fallback);
        rows.find(|price| price.version == version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_built_in_catalogue_is_exact_and_complete() {
        let catalogue = Catalogue::built_in().unwrap();
        let price = catalogue.price(Provider::OpenAi, "gpt-4o-mini", at("2026-11-21T00:00:00Z")).unwrap();
        assert_eq!(price.version, "openai/gpt-4o-mini@2026-11-21");
        let usage = TokenUsage { input_tokens: 1_000, cached_input_tokens: 128, output_tokens: 7 };
        // 872 × $0.15 + 128 × $0.075 + 7 × $0.60, each a million tokens.
        assert_eq!(price.cost(usage).to_string(), "0.0001446");
        assert_eq!(price.saved(usage).to_string(), "0.0000096");
        let uncached = TokenUsage { cached_input_tokens: 0, ..usage };
        assert_eq!(price.cost(usage) + price.saved(usage), price.cost(uncached));
        assert_eq!(catalogue.version(&price.version), Some(price));
        assert_eq!(catalogue.version("openai/gpt-4o-mini@2020-01-01"), None);
    }

    #[test]
    fn an_unknown_model_is_never_free() {
        let catalogue = Catalogue::built_in().unwrap();
        let unknown = catalogue.price(Provider::Azure, "gpt-99", at("2026-11-21T00:00:00Z")).unwrap_err();
        assert_eq!(unknown.to_string(), "the model `gpt-99` of azure has no price in the catalogue");
        let catalogue = catalogue.with_fallback("20", "60", 4096).unwrap();
        let price = catalogue.price(Provider::Azure, "gpt-99", at("2026-11-21T00:00:00Z")).unwrap();
        assert_eq!(price.version, "fallback");
        assert!(price.cost(TokenUsage { input_tokens: 1, ..TokenUsage::default() }) > Usd::ZERO);
    }

    #[test]
    fn the_row_of_the_day_applies() {
        let row = |from: &str, price: &str| {
            format!(
                r#"{{"provider":"azure","model":"m","effectiveFrom":"{from}","inputPerMillion":"{price}",
                "cachedInputPerMillion":null,"outputPerMillion":"1","maxInputTokens":1,"maxOutputTokens":1}}"#
            )
        };
        let text = format!(r#"{{"prices":[{},{}]}}"#, row("2026-02-01", "2"), row("2026-01-01", "3"));
        let catalogue = Catalogue::from_json(&text).unwrap();
        let version = |moment: &str| &catalogue.price(Provider::Azure, "m", at(moment)).unwrap().version;
        assert_eq!(version("2025-06-01T00:00:00Z"), "azure/m@2026-01-01");
        assert_eq!(version("2026-01-31T23:59:59Z"), "azure/m@2026-01-01");
        assert_eq!(version("2026-02-01T00:00:00Z"), "azure/m@2026-02-01");
    }
}
