//! Feature flags: who is served by what, and why.
//!
//! | module | what it knows |
//! |---|---|
//! | [`bucket`] | where a user stands in a rollout |
//! | [`flag`] | a flag, and how it is read from a request |
//! | [`evaluate`] | which rule of a flag decides about whom |
//! | [`experiment`] | who is given which variant |
//! | [`plan`] | when a rollout takes its next step |
//! | [`tally`] | requests of both sides, counted |
//! | [`guard`] | when a rollout is taken back |
//! | [`old`] | the old system's bodies, as the new one's |
//!
//! These are pure: a flag is evaluated in memory, without a round trip. The stores:
//!
//! | module | where |
//! |---|---|
//! | [`store`] | the flags and their history, in DynamoDB |
//! | [`sides`] | what requests came to, in Redis |
//! | [`users`] | what sessions say of users, in PostgreSQL |
//! | [`legacy`] | the old system, over HTTP |
//!
//! And what is made of both:
//!
//! | module | what it decides |
//! |---|---|
//! | [`choice`] | which system serves a request |
//! | [`watch`] | whether a rollout is taken back, or goes on |

mod body;
pub mod bucket;
pub mod choice;
pub mod evaluate;
pub mod experiment;
pub mod flag;
pub mod guard;
pub mod legacy;
pub mod old;
pub mod plan;
pub mod sides;
pub mod store;
pub mod tally;
pub mod users;
pub mod watch;
