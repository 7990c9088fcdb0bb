//! The costs' part of the configuration.

use aws_sdk_dynamodb::Client as DynamoDb;
use huntaze_domain::env::Env;

use crate::ledger::{Ledger, Retention};
use crate::price::Catalogue;

/// A year and what it takes to compare it with the one before.
const ENTRY_TTL_DAYS: u16 = 400;
/// An entry that is gone may be projected again, and would count twice: it stays until the sweep has seen it, however long that
/// was away. And an attempt is corrected for up to 90 days, in its entry too.
const LEAST_ENTRY_TTL_DAYS: u16 = 100;

/// The price catalogue, with a price for unknown models where `PRICE_FALLBACK_INPUT_PER_MILLION` and
/// `PRICE_FALLBACK_OUTPUT_PER_MILLION` set one.
#[must_use]
pub fn catalogue(env: &Env) -> Option<Catalogue> {
    const MAX_TOKENS: u64 = 128_000;
    let catalogue = env.check("price catalogue", Catalogue::built_in())?;
    let [input, output] = ["INPUT", "OUTPUT"].map(|way| env.optional(&format!("PRICE_FALLBACK_{way}_PER_MILLION")));
    match (input, output) {
        (None, None) => Some(catalogue),
        (Some(input), Some(output)) => {
            env.check("PRICE_FALLBACK_*_PER_MILLION", catalogue.with_fallback(&input, &output, MAX_TOKENS))
        }
        _ => {
            env.fault("PRICE_FALLBACK_*_PER_MILLION", "both or neither must be set");
            None
        }
    }
}

/// The costs table's ledger: `DYNAMODB_COSTS_TABLE`, whose entries are kept for `LEDGER_ENTRY_TTL_DAYS`.
#[must_use]
pub fn ledger(env: &Env, dynamodb: DynamoDb) -> Ledger {
    let retention = match env.parsed("LEDGER_ENTRY_TTL_DAYS", ENTRY_TTL_DAYS) {
        0 => Retention::Forever,
        days => {
            if days < LEAST_ENTRY_TTL_DAYS {
                let fault = format!("must be 0 (entries are kept) or at least {LEAST_ENTRY_TTL_DAYS}");
                env.fault("LEDGER_ENTRY_TTL_DAYS", fault);
            }
            Retention::Days(days)
        }
    };
    Ledger::new(dynamodb, env.or("DYNAMODB_COSTS_TABLE", "huntaze-ai-costs-production"), retention)
}
