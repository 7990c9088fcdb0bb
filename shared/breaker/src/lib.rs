//! A circuit breaker and pacer over all instances: who may call a service that failed, and who may not yet.
//!
//! Whoever is about to call asks for a [`Permit`] and reports how the call ended. A circuit is one name, of whatever is called:
//!
//! | state | begins | who is let through |
//! |---|---|---|
//! | closed | | everybody |
//! | open | with the fifth failure in 60 s, or that of a probe | nobody, for 30 s |
//! | half-open | with the first who asks then | exactly one, the probe, for its lease; its end decides what follows |
//!
//! Each state is an epoch, and a report that is of an older one changes nothing. A rate limit (429) is no failure: it *paces*, nobody
//! is let through before the time that was told. When that has passed, everybody is: a pacer spreads nothing.
//!
//! | module | what it knows |
//! |---|---|
//! | [`machine`] | the rules, pure: a circuit, what is asked and what is reported of it |
//! | [`rules`] | the configuration |
//! | [`breaker`] | the circuits in Redis, and those of the process while Redis is away |
//!
//! The same rules stand in `lua/`; the suite holds both against each other (ADR 0017).

pub mod breaker;
mod local;
pub mod machine;
mod name;
pub mod rules;
mod token;
mod wire;

pub use breaker::{Asked, Breaker, Keeper, Peeked, Permit, Told};
pub use machine::{Denied, Report, Standing, State};
pub use name::{InvalidName, Name};
pub use rules::Rules;
pub use token::Token;
