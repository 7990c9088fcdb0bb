//! What text costs: prices, attempts and their settlement, the ledger and its roll-ups, thresholds and alerts.
//!
//! PostgreSQL is the truth for money in flight; the DynamoDB ledger is a projection of settled attempts. The rules are
//! pure ([`price`], [`attempt`], [`spike`], what [`threshold`] and [`alert`] say themselves); the stores beside them are [`ledger`]
//! (DynamoDB) and [`sweep`] (both), and those of thresholds and alerts (DynamoDB).

pub mod alert;
pub mod attempt;
mod dynamo;
pub mod ledger;
pub mod notifications;
pub mod owner;
pub mod price;
pub mod spike;
pub mod sweep;
pub mod threshold;

pub use dynamo::TableError;
