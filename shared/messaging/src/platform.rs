//! The platform's API: one call, and what its end means.
//!
//! The platform publishes none. `ONLYFANS_API_URL` is the user's own gateway in front of it, which signs for the platform; here
//! the `Signer` adds the account's session and nothing else.
//!
//! What the end of a send means, all of it ([`SendEnd`]):
//!
//! | end | means |
//! |---|---|
//! | 200 or 201 with an id | sent |
//! | no connection took the request's body: refused, no such host, TLS, no time | not delivered, certainly |
//! | 429 | not delivered: later |
//! | 400, 404, 413, 422 | not delivered: never |
//! | 401; 403 | not delivered: the session, or the account |
//! | anything else | **ambiguous**: it may have reached the fan |
//!
//! Anything else is: 5xx and 408; a connection that is lost, or a deadline that passes, after the body was taken, if only the last byte
//! of the answer is missing; 200 or 201 without an id or with what cannot be read; every status that is not named above. A redirect is
//! one of those: 302 and 303 are what servers say behind a form that they took. So are 202 and 204 (taken, but nothing to know it by)
//! and 409 (which may say that it was there already). A look at the conversation costs one call; a message that a fan got twice
//! cannot be taken back.
//!
//! That no connection took the body is proved and not guessed (`platform/body.rs`): the body is there once, and either a connection
//! takes it or it is revoked, and then no byte of the text ever leaves.

mod answer;
mod body;
mod conversation;
mod end;
mod sign;

use std::time::Duration;

use huntaze_domain::env::Env;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use self::answer::Answer;
pub use self::answer::Me;
use self::conversation::Conversation;
pub use self::conversation::{Found, SKEW, Wanted};
pub use self::end::{DEFAULT_PACE, ReadError, Reason, SendEnd};
use self::sign::Signer;
use crate::session::Session;

/// Nothing longer is read of an answer to a send, in bytes. A real one has a few hundred.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The same of a conversation: twenty texts of 1,000 characters, each of which JSON may write as twelve bytes, twice over.
pub const MAX_CONVERSATION_BYTES: usize = 512 * 1024;
/// So many messages of a conversation are looked at.
pub const LOOKED_AT: usize = 20;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What stays itself in a segment of a path (RFC 3986, unreserved).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The platform.
pub struct Platform {
    http: Client,
    /// Without a slash at its end.
    base: String,
    signer: Signer,
    timeout: Duration,
}

/// One attempt to send a message.
#[derive(Clone, Copy)]
pub struct SendCall<'a> {
    /// The message.
    pub message_id: &'a str,
    /// Which attempt of it this is, from 1.
    pub attempt: i16,
    /// The fan, as the platform names them.
    pub recipient: &'a str,
    /// What the fan is to read.
    pub text: &'a str,
}

impl Platform {
    /// Reads `ONLYFANS_API_URL`, `ONLYFANS_USER_AGENT` and `ONLYFANS_TIMEOUT_MS`; nothing is called. `None` where one of them is
    /// faulty. `http` must follow no redirects and make no retries of its own.
    #[must_use]
    pub fn from_env(env: &Env, http: Client) -> Option<Self> {
        let url = env.or("ONLYFANS_API_URL", "https://onlyfans.com/api2/v2");
        let base = env.check("ONLYFANS_API_URL", base_of(&url));
        let user_agent = env.required_as("ONLYFANS_USER_AGENT", HeaderValue::from_str);
        let timeout = env.millis("ONLYFANS_TIMEOUT_MS", 10_000);
        Some(Self { http, base: base?, signer: Signer { user_agent: user_agent? }, timeout })
    }

    /// No call takes longer, whatever its deadline.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends a message, once. It ends by the deadline. `now` is the wall clock.
    pub async fn send(&self, session: &Session, call: &SendCall<'_>, deadline: Instant, now: Timestamp) -> SendEnd {
        let Some(url) = self.messages_of(call.recipient) else {
            return SendEnd::Refused { reason: Reason::Unaddressable };
        };
        let started = Instant::now();
        let deadline = deadline.min(started + self.timeout);
        if deadline <= started {
            return SendEnd::NotDelivered { reason: Reason::NoTime };
        }
        let text = json!({"text": call.text, "price": 0, "mediaFiles": []}).to_string();
        let (body, writing) = body::once(text.into(), deadline);
        let request = self
            .prepared(self.http.post(url), session)
            .header(REQUEST_ID, format!("{}.{}", call.message_id, call.attempt))
            .header(IDEMPOTENCY_KEY, call.message_id)
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        let sent = timeout_at(deadline, request.send()).await;
        let (in_time, response) = (sent.is_ok(), sent.ok().and_then(Result::ok));
        let Some(response) = response else {
            return match (writing.revoke(), in_time) {
                (true, true) => SendEnd::NotDelivered { reason: Reason::NoConnection },
                (true, false) => SendEnd::NotDelivered { reason: Reason::NoTime },
                (false, true) => SendEnd::Ambiguous { reason: Reason::Lost },
                (false, false) => SendEnd::Ambiguous { reason: Reason::NoAnswer },
            };
        };
        let answer = read(response, MAX_ANSWER_BYTES, deadline).await;
        answer.send_end(call.recipient, after(now, started))
    }

    /// Looks for a message in its conversation. It ends by the deadline. `now` is the wall clock.
    ///
    /// # Errors
    /// [`ReadError`]: nothing is known.
    pub async fn find(
        &self,
        session: &Session,
        wanted: &Wanted<'_>,
        deadline: Instant,
        now: Timestamp,
    ) -> Result<Found, ReadError> {
        let Some(url) = self.messages_of(wanted.recipient) else { return Err(ReadError::Unaddressable) };
        let url = format!("{url}?limit={LOOKED_AT}&order=desc");
        let conversation: Conversation = self.ask(url, session, MAX_CONVERSATION_BYTES, deadline, now).await?;
        Ok(conversation::find(&conversation, wanted, session.platform_user_id()))
    }

    /// Whose session it is. It ends by the deadline. `now` is the wall clock.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn me(&self, session: &Session, deadline: Instant, now: Timestamp) -> Result<Me, ReadError> {
        self.ask(format!("{}/users/me", self.base), session, MAX_ANSWER_BYTES, deadline, now).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        url: String,
        session: &Session,
        most: usize,
        deadline: Instant,
        now: Timestamp,
    ) -> Result<T, ReadError> {
        let started = Instant::now();
        let deadline = deadline.min(started + self.timeout);
        let sent = timeout_at(deadline, self.prepared(self.http.get(url), session).send()).await;
        let response = sent.map_err(|_| ReadError::NoAnswer)?.map_err(|_| ReadError::Unreachable)?;
        read(response, most, deadline).await.read(after(now, started))
    }

    /// Signed, and on a connection of its own. One that is kept may have died while the environment was frozen, and what is then
    /// written on it is ambiguous: that costs a look, and perhaps a person's time; a handshake costs milliseconds.
    fn prepared(&self, request: RequestBuilder, session: &Session) -> RequestBuilder {
        self.signer.sign(request, session).header(CONNECTION, "close")
    }

    /// Where a fan's messages are. `None` where a path cannot name the fan: `.` and `..` are other places of it, however they are
    /// written.
    fn messages_of(&self, recipient: &str) -> Option<String> {
        let named = !matches!(recipient, "" | "." | "..");
        named.then(|| format!("{}/chats/{}/messages", self.base, utf8_percent_encode(recipient, SEGMENT)))
    }
}

/// The wall clock, so much later.
fn after(now: Timestamp, started: Instant) -> Timestamp {
    now.saturating_add(started.elapsed()).unwrap_or(now)
}

/// A session goes over no network in the clear; what plays the platform on this machine may be told it.
fn base_of(text: &str) -> Result<String, &'static str> {
    let url = Url::parse(text.trim()).map_err(|_| "must be an address")?;
    let loopback = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    let safe = url.scheme() == "https" || (url.scheme() == "http" && loopback);
    let bare =
        url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    if !url.has_host() || !safe {
        Err("must be an https address (http on loopback)")
    } else if !bare {
        Err("must have no query, fragment or user")
    } else {
        Ok(url.as_str().trim_end_matches('/').to_owned())
    }
}

/// Reads an answer as far as it goes. Its status is known also where its body is lost.
async fn read(mut response: Response, most: usize, deadline: Instant) -> Answer {
    let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
    let body = timeout_at(deadline, huntaze_http::read(response, most)).await.ok().and_then(Result::ok);
    Answer { status, headers, body }
}
