//! Messages to fans: who may send, how many, in which order, and what became of each.
//!
//! | module | what it knows |
//! |---|---|
//! | `limiter` | how many messages an account, a fan, a user and everyone may be sent, over any window |
//! | `platform` | the platform's API: one call, and what its end means |
//! | `session` | an account's session with the platform, kept encrypted |

pub mod platform;
pub mod session;
