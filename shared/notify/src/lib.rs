//! Telling people: a notification goes over each of its channels, and each delivery is made once.
//!
//! | module | what it knows |
//! |---|---|
//! | [`message`] | what stands in the queues, read with every bound |
//! | [`fanout`] | a notification to its channels, side by side |
//! | [`delivery`] | the record of each delivery: claimed, sent, skipped, failed |
//! | [`slack`], [`sns`] | two channels |
//! | [`email`] | the third: jobs, recipients, rendering, SES |
//! | [`feedback`] | what SES says later: addresses that are not written to again |
//!
//! A delivery is made **at least once**. Told twice under one id, by whichever processes, a notification is delivered once a
//! channel; a second time only where a process dies, or the store fails, between the sending and its record. An alert that is
//! lost is worse than one that is told twice.

pub mod delivery;
pub mod email;
pub mod fanout;
pub mod fault;
pub mod feedback;
pub mod message;
pub mod slack;
pub mod sns;
