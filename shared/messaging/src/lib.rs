//! Messages to fans: who may send, how many, in which order, and what became of each.
//!
//! | module | what it knows |
//! |---|---|
//! | [`limiter`] | how many messages an account, a fan, a user and everyone may be sent, over any window |
//! | `platform` | the platform's API: one call, and what its end means |
//! | `session` | an account's session with the platform, kept encrypted |
//! | [`message`] | what is asked to be sent |
//! | [`outbox`] | a message's way in PostgreSQL |
//! | [`ending`] | what follows from the end of a call |

pub mod ending;
pub mod limiter;
pub mod message;
pub mod outbox;
