//! What text costs: prices, attempts and their settlement, the ledger and its roll-ups.
//!
//! PostgreSQL is the truth for money in flight; the DynamoDB ledger is a projection of settled attempts. The rules are
//! pure ([`price`], [`attempt`], [`rollup`], [`range`], [`breakdown`], [`savings`], [`stats`]); the stores beside them are [`ledger`],
//! [`spend`] and [`usage`] (DynamoDB) and [`sweep`] (both).

pub mod attempt;
pub mod breakdown;
pub mod config;
pub mod ledger;
pub mod period;
pub mod price;
pub mod range;
pub mod rollup;
pub mod savings;
pub mod spend;
pub mod stats;
pub mod sweep;
pub mod usage;
