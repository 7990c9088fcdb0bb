//! What text costs: prices, attempts and their settlement, the ledger and its roll-ups, thresholds and alerts, budgets.
//!
//! PostgreSQL is the truth for money in flight; the DynamoDB ledger is a projection of settled attempts. The rules are
//! pure ([`price`], [`attempt`], [`rollup`], [`range`], [`breakdown`], [`savings`], [`stats`], [`spike`], and what [`threshold`] and
//! [`alert`] say themselves); the stores beside them are [`budget`] and [`correction`] (PostgreSQL), [`ledger`], [`spend`] and [`usage`] (DynamoDB), [`sweep`]
//! (both), and those of thresholds and alerts (DynamoDB). [`watch`] holds costs against thresholds.

pub mod alert;
pub mod attempt;
mod body;
pub mod breakdown;
pub mod budget;
pub mod config;
pub mod correction;
pub mod ledger;
pub mod owner;
pub mod period;
pub mod price;
pub mod range;
pub mod report;
pub mod rollup;
pub mod savings;
pub mod spend;
pub mod spike;
pub mod stats;
pub mod sweep;
pub mod threshold;
pub mod usage;
pub mod watch;

pub use huntaze_dynamodb::TableError;
