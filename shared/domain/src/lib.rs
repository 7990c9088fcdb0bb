//! The vocabulary: ids, money, intent, results and error types. No IO, no clock, no SDK.

pub mod env;
pub mod error;
pub mod ids;
pub mod intent;
pub mod json;
pub mod money;
pub mod notification;
pub mod principal;
pub mod provider;
pub mod retry_after;
pub mod trace;
