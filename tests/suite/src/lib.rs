//! The harness of the suite: built functions run as Lambda runs them, on real stores, beside a world of their own.
//!
//! ```no_run
//! # use huntaze_tests::{App, Request, Session};
//! # use serde_json::json;
//! # async fn test() -> anyhow::Result<()> {
//! let app = App::start().await?.set("REQUEST_DEADLINE_MS", "3000");
//! let hybrid = app.function("campaigns-hybrid")?;
//! let token = Session::user("ana").v4();
//! let response = hybrid.http(Request::post("/api/v2/campaigns/hybrid").bearer(&token).json(&json!({}))).await?;
//! assert_eq!(response.status, 400);
//! # Ok(())
//! # }
//! ```

mod app;
mod aws;
pub mod gateway;
mod link;
mod meter;
mod poll;
mod pool;
pub mod post;
mod process;
mod proxy;
pub mod runtime;
mod source;
pub mod stores;
pub mod tokens;

pub use crate::app::{App, ORIGIN};
pub use crate::gateway::{Request, Response, load_event};
pub use crate::link::{Bad, Link};
pub use crate::meter::{Meter, Passed};
pub use crate::poll::eventually;
pub use crate::pool::Pool;
pub use crate::post::Post;
pub use crate::proxy::Proxy;
pub use crate::runtime::{Fleet, Function, Invocation, InvokeError, Timed};
pub use crate::source::Source;
pub use crate::stores::Stores;
pub use crate::tokens::Session;

/// The wall clock of the tests, which stand at the edge of what they test.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place where the harness reads the clock")]
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
