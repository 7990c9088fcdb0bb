//! What text costs: prices, attempts and their settlement, the ledger and its roll-ups, thresholds and alerts.
//!
//! PostgreSQL is the truth for money in flight; the DynamoDB ledger is a projection of settled attempts. The rules are pure
//! ([`price`], [`attempt`], [`rollup`], [`spike`], and what [`threshold`] and [`alert`] say themselves); the stores beside them are
//! [`ledger`] (DynamoDB) and [`sweep`] (both), and those of thresholds and alerts (DynamoDB). [`spend`] is how the ledger is read for a
//! moment; [`watch`] holds it against the thresholds.

pub mod alert;
pub mod attempt;
pub mod config;
mod dynamo;
pub mod ledger;
pub mod notifications;
pub mod owner;
pub mod period;
pub mod price;
pub mod rollup;
pub mod spend;
pub mod spike;
pub mod sweep;
pub mod threshold;
pub mod watch;

pub use dynamo::TableError;
