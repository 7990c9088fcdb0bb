//! What text costs: prices, attempts and their settlement, the ledger and its roll-ups.
//!
//! PostgreSQL is the truth for money in flight; the DynamoDB ledger is a projection of settled attempts. The rules are
//! pure ([`price`], [`attempt`], [`rollup`]); the stores beside them are [`ledger`] and [`spend`] (DynamoDB) and [`sweep`]
//! (both).

pub mod attempt;
pub mod config;
pub mod ledger;
pub mod period;
pub mod price;
pub mod rollup;
pub mod spend;
pub mod sweep;
