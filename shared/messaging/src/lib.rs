//! Messages to fans: who may send, how many, in which order, and what became of each.
//!
//! | module | what it knows |
//! |---|---|
//! | [`account`] | who sends: accounts, and what is set of them |
//! | [`limiter`] | how many messages an account, a fan, a user and everyone may be sent, over any window |
//! | [`platform`] | the platform's API: one call, and what its end means |
//! | [`session`] | an account's session with the platform, kept encrypted |
//! | [`message`] | what is asked to be sent |
//! | [`outbox`] | a message's way in PostgreSQL |
//! | [`view`] | messages as their owner sees them |
//! | [`room`], [`place`] | what the limits leave, and when a message is expected to go |
//! | [`stats`] | what was sent and denied, and what waits |
//! | [`choice`] | what a person says about a message |
//! | [`ending`] | what follows from the end of a call |
//! | [`hint`] | the queue's hints |
//! | [`shown`] | the tables in DynamoDB that show messages |
//! | [`tell`] | what people are told |
//! | [`dead`] | what was given up |
//! | [`sender`] | all of it together |

pub mod account;
pub mod choice;
pub mod dead;
pub mod ending;
pub mod hint;
pub mod limiter;
pub mod message;
pub mod outbox;
pub mod place;
pub mod platform;
pub mod room;
pub mod sender;
pub mod session;
pub mod shown;
pub mod stats;
pub mod tell;
pub mod view;
