//! The runtime edge: what every function needs to be a function, and nothing of what any of them is for.
//!
//! | module | what it knows |
//! |---|---|
//! | [`config`] | the environment and the secret, read once; every fault reported at once |
//! | [`clients`] | TLS, AWS, HTTP and Redis clients, built once in INIT |
//! | [`session`] | who asks: NextAuth and service tokens, origins |
//! | [`problem`] | RFC 9457 problems in the contract's envelope |
//! | [`limit`] | the API's own limit, counted in Redis |
//! | [`page`] | lists in pages: `limit` and `cursor` |
//! | [`api`] | an HTTP function: event in, reply or problem out, one log line |
//! | `afterwards` | work that follows the answer, inside its invocation |
//! | [`queue`] | a function behind an SQS queue: each record for itself, and when it comes again |
//! | [`scheduled`] | a function without HTTP: the schedule's and the deployment's |
//! | [`logs`] | JSON lines, each with the ids of its request |
//! | [`metrics`] | CloudWatch metrics as log lines |

mod afterwards;
pub mod api;
pub mod clients;
pub mod config;
pub mod limit;
pub mod logs;
pub mod metrics;
pub mod page;
pub mod problem;
pub mod queue;
pub mod scheduled;
mod scope;
pub mod session;
