//! Route, reserve, call, settle: the main job.
//!
//! | module | what it knows |
//! |---|---|
//! | [`config`] | what the environment says of it |
//! | [`route`] | pure: the steps of a request, and who may serve each at which price |
//! | [`machine`] | pure: what follows what: calls, retries, fallbacks, and why |
//! | [`prompt`] | pure: what is said to a model |
//! | [`answer`] | pure: what a provider's answer means, and what is known of its billing |
//! | [`provider`] | the wire of Azure OpenAI and OpenAI |
//! | [`workflow`] | what the row of a workflow says |
//! | [`store`] | the workflow in PostgreSQL: each transaction is one statement |
//! | [`run`] | one request: accepted once, driven to its end, answered |
//! | `drive` | drives the machine: waits, calls, settles, reserves |
//! | [`status`] | what a workflow looks like from outside |

pub mod answer;
pub mod config;
mod drive;
pub mod machine;
pub mod prompt;
pub mod provider;
pub mod route;
pub mod run;
pub mod status;
pub mod store;
pub mod workflow;
