//! Route, reserve, call, settle: the main job.
//!
//! | module | what it knows |
//! |---|---|
//! | [`config`] | what the environment says of it |
//! | [`route`] | pure: the steps of a request, who is asked in which order, and what happens after a failure |
//! | [`prompt`] | pure: what is said to a model |
//! | [`provider`] | the wire of Azure OpenAI and OpenAI: one call, one typed end |
//! | [`store`] | the workflow in PostgreSQL: each transaction is one statement |
//! | [`run`] | drives the above under one deadline |
//! | [`status`] | what a workflow looks like from outside |

pub mod config;
pub mod prompt;
pub mod provider;
pub mod route;
pub mod run;
pub mod status;
pub mod store;
