//! What text costs: prices, attempts and their settlement, the ledger and its roll-ups.
//!
//! PostgreSQL is the truth for money in flight; the DynamoDB ledger is a projection of settled attempts. The rules are
//! pure ([`price`], [`attempt`]); the stores beside them are [`ledger`] (DynamoDB) and [`sweep`] (both).

pub mod attempt;
pub mod budget;
pub mod ledger;
pub mod price;
pub mod sweep;
