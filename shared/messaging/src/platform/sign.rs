//! The boundary to what the platform wants of a request beside its content.

use reqwest::RequestBuilder;
use reqwest::header::{HeaderValue, USER_AGENT};

use crate::session::Session;

/// Signs calls in with the account's session.
///
/// It does not compute the signature that the platform's own web application puts on its requests: that is private to the
/// platform, changes with its releases, and is the matter of the gateway that `ONLYFANS_API_URL` names. Headers that such a
/// gateway wants per account are part of the stored session.
pub(super) struct Signer {
    /// Of sessions that bring none of their own.
    pub(super) user_agent: HeaderValue,
}

impl Signer {
    pub(super) fn sign(&self, request: RequestBuilder, session: &Session) -> RequestBuilder {
        let agent = session.user_agent().unwrap_or(&self.user_agent).clone();
        request.headers(session.headers().clone()).header(USER_AGENT, agent)
    }
}
