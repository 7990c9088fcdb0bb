//! What the costs of a range are made of. Pure.

use std::collections::BTreeMap;

use huntaze_domain::money::Usd;
use huntaze_domain::provider::Provider;
use jiff::civil::Date;

use crate::rollup::{Detail, Figures, HourUse};
use crate::usage::Usage;

/// The costs of a range, from several sides. Every side adds up to the same total.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Breakdown {
    /// Over everything.
    pub total: Figures,
    /// By provider; both are there.
    pub providers: BTreeMap<Provider, Figures>,
    /// By model, dearest first.
    pub models: Vec<((Provider, String), Figures)>,
    /// By the workflow's type, dearest first.
    pub request_types: Vec<(String, Figures)>,
    /// By everything that is told apart.
    pub details: BTreeMap<Detail, Figures>,
    /// What each provider cost on each day that it was called, by date.
    pub daily: Vec<(Date, Provider, Usd)>,
    /// The hours in which tokens were used, in order.
    pub hourly: Vec<(Date, u8, HourUse)>,
}

impl Breakdown {
    /// Takes the days of a range apart.
    #[must_use]
    pub fn of(usage: &Usage) -> Self {
        let mut breakdown =
            Self { providers: Provider::ALL.map(|who| (who, Figures::default())).into(), ..Self::default() };
        let (mut models, mut request_types) = (BTreeMap::new(), BTreeMap::new());
        for (day, rollup) in usage {
            breakdown.total += rollup.total;
            let mut daily: BTreeMap<Provider, Figures> = BTreeMap::new();
            for (detail, figures) in &rollup.details {
                *breakdown.providers.entry(detail.provider).or_default() += *figures;
                *models.entry((detail.provider, detail.model.clone())).or_default() += *figures;
                *request_types.entry(detail.request_type.clone()).or_default() += *figures;
                *breakdown.details.entry(detail.clone()).or_default() += *figures;
                *daily.entry(detail.provider).or_default() += *figures;
            }
            breakdown.daily.extend(daily.into_iter().map(|(provider, figures)| (*day, provider, figures.cost)));
            let used = rollup.hours.iter().filter(|(_, used)| **used != HourUse::default());
            breakdown.hourly.extend(used.map(|(hour, used)| (*day, *hour, *used)));
        }
        breakdown.models = dearest_first(models);
        breakdown.request_types = dearest_first(request_types);
        breakdown
    }
}

fn dearest_first<K>(parts: BTreeMap<K, Figures>) -> Vec<(K, Figures)> {
    let mut parts: Vec<_> = parts.into_iter().collect();
    // Stable: what cost the same stays in the order of its names.
    parts.sort_by_key(|(_, figures)| std::cmp::Reverse(figures.cost));
    parts
}

/// A range as a table: CSV by RFC 4180, a row a day, provider, model and request type, in that order.
#[must_use]
pub fn csv(usage: &Usage) -> String {
    let mut csv = "date,provider,model,requestType,requests,failedRequests,estimatedRequests,\
                   inputTokens,cachedInputTokens,outputTokens,cost,saved\r\n"
        .to_owned();
    for (day, rollup) in usage {
        for (Detail { provider, model, request_type }, figures) in &rollup.details {
            let Figures { requests, failed, estimated, usage, cost, saved } = figures;
            let (input, cached, output) = (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens);
            let (provider, model, request_type) = (provider.as_str(), cell(model), cell(request_type));
            csv += &format!(
                "{day},{provider},{model},{request_type},{requests},{failed},{estimated},{input},{cached},{output},{cost},{saved}\r\n"
            );
        }
    }
    csv
}

/// A text that no program takes for a formula, quoted where it has to be.
pub(crate) fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use huntaze_domain::provider::TokenUsage;
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::LedgerEntry;
    use crate::period::day_of;
    use crate::rollup::rollups_of;
    use crate::rollup::tests::entry;

    fn usage(entries: &[LedgerEntry]) -> Usage {
        let mut usage = Usage::new();
        for entry in entries {
            *usage.entry(day_of(entry.started_at)).or_default() += &rollups_of(entry)[1].1;
        }
        usage
    }

    prop_compose! {
        fn any_entry()(day in 1..28, hour in 0..24, provider in 0_usize..2, model in 0..3, kind in 0..3, tokens in 0_u64..9_999,
            picos in 0_i64..1_000_000_000_000
        ) -> LedgerEntry {
            LedgerEntry {
                provider: Provider::ALL[provider],
                model: format!("model-{model}"),
                request_type: format!("kind_{kind}"),
                usage: TokenUsage { input_tokens: tokens, cached_input_tokens: tokens / 2, output_tokens: tokens / 3 },
                cost: Usd::try_from(rust_decimal::Decimal::new(picos, 12)).unwrap(),
                ..entry("wf.1", "ana", &format!("2026-02-{day:02}T{hour:02}:30:00Z"))
            }
        }
    }

    proptest! {
        #[test]
        fn every_side_adds_up_to_the_entries(entries in prop::collection::vec(any_entry(), 0..40)) {
            let breakdown = Breakdown::of(&usage(&entries));
            let mut total = Figures::default();
            entries.iter().for_each(|entry| total += Figures::of(entry));
            let sum = |figures: &mut dyn Iterator<Item = Figures>| figures.fold(Figures::default(), |mut sum, one| { sum += one; sum });
            prop_assert_eq!(breakdown.total, total);
            prop_assert_eq!(sum(&mut breakdown.providers.values().copied()), total);
            prop_assert_eq!(sum(&mut breakdown.models.iter().map(|(_, figures)| *figures)), total);
            prop_assert_eq!(sum(&mut breakdown.request_types.iter().map(|(_, figures)| *figures)), total);
            prop_assert_eq!(sum(&mut breakdown.details.values().copied()), total);
            prop_assert_eq!(breakdown.daily.iter().map(|(_, _, cost)| *cost).sum::<Usd>(), total.cost);
            prop_assert_eq!(breakdown.hourly.iter().map(|(_, _, used)| used.cost).sum::<Usd>(), total.cost);
            prop_assert_eq!(breakdown.hourly.iter().map(|(_, _, used)| used.tokens).sum::<u64>(), total.usage.total());
            prop_assert!(breakdown.models.is_sorted_by(|(_, a), (_, b)| a.cost >= b.cost));
            prop_assert!(breakdown.daily.is_sorted_by_key(|(day, provider, _)| (*day, *provider)));
        }
    }

    #[test]
    fn a_table_has_a_row_a_detail_and_no_formulas() {
        let odd = LedgerEntry {
            model: "=cmd(\"x\"),1".to_owned(),
            request_type: "+1".to_owned(),
            ..entry("wf.1", "ana", "2026-11-21T00:00:00Z")
        };
        let text = csv(&usage(&[entry("wf.1", "ana", "2026-11-21T01:00:00Z"), odd]));
        let rows: Vec<_> = text.split("\r\n").collect();
        assert_eq!(
            rows[0],
            "date,provider,model,requestType,requests,failedRequests,estimatedRequests,inputTokens,cachedInputTokens,outputTokens,cost,saved"
        );
        assert_eq!(rows[1], "2026-11-21,azure,\"'=cmd(\"\"x\"\"),1\",'+1,1,0,0,300,256,11,0.00054,0.00032");
        assert_eq!(rows[2], "2026-11-21,azure,gpt-4o,content_planning,1,0,0,300,256,11,0.00054,0.00032");
        assert_eq!(rows[3..], [""]);
    }
}
