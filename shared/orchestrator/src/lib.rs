//! Route, reserve, call, settle: the main job.
//!
//! | module | what it knows |
//! |---|---|
//! | [`config`] | what the environment says of it |
//! | [`route`] | pure: the steps of a request, and who may serve each at which price |
//! | [`matrix`] | pure: what may follow what stands in the way of a text |
//! | [`machine`] | pure: what follows what: calls, retries, fallbacks, and why |
//! | [`prompt`] | pure: what is said to a model |
//! | [`answer`] | pure: what a provider's answer means, and what is known of its billing |
//! | [`cache`] | texts that were made before, and who makes one for all that wait for it |
//! | [`provider`] | the wire of Azure OpenAI and OpenAI |
//! | [`circuit`] | which circuit a call belongs to |
//! | `gate` | what is asked before a call: its text, its circuit |
//! | [`workflow`] | what the row of a workflow says |
//! | [`store`] | the workflow in PostgreSQL: each transaction is one statement |
//! | [`claimed`] | a workflow as whoever goes on with it finds it |
//! | [`review`] | workflows that a person decides about |
//! | [`run`] | one request: accepted once, driven to its end, answered |
//! | `drive` | drives the machine: waits, calls, settles, reserves |
//! | `result` | pure: what a workflow answers that has all its texts |
//! | [`experiment`] | what came of each variant of an experiment |
//! | [`hint`] | what is on the queue of workflows |
//! | [`aftermath`] | what follows when nobody waits any more |
//! | [`dead`] | what was given up, and what people are told of it |
//! | [`status`] | what a workflow looks like from outside |

pub mod aftermath;
pub mod answer;
mod brief;
pub mod cache;
pub mod circuit;
pub mod claimed;
pub mod config;
pub mod dead;
mod drive;
pub mod experiment;
mod gate;
pub mod hint;
mod judging;
pub mod machine;
pub mod matrix;
pub mod prompt;
pub mod provider;
mod result;
pub mod review;
pub mod route;
pub mod run;
pub mod status;
pub mod store;
pub mod workflow;
