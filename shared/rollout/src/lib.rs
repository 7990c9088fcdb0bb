//! Feature flags: who is served by what, and why.
//!
//! | module | what it knows |
//! |---|---|
//! | [`bucket`] | where a user stands in a rollout |
//! | [`flag`] | a flag, and how it is read from a request |
//! | [`evaluate`] | which rule of a flag decides about whom |
//! | [`guard`] | when a rollout is taken back |
//!
//! All of it is pure: a flag is evaluated in memory, without a round trip.

mod body;
pub mod bucket;
pub mod evaluate;
pub mod flag;
pub mod guard;
