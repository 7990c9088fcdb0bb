//! Sessions in DynamoDB: key `accountId`.
//!
//! | attribute | kind | what |
//! |---|---|---|
//! | `accountId` | S | the account |
//! | `platformUserId` | S | its user id on the platform |
//! | `userAgent` | S, may be absent | the browser that it was opened with |
//! | `keyId`, `nonce`, `sealed` | S, B, B | cookie and headers as JSON, sealed with AES-256-GCM and bound to all of the above |
//! | `updatedAt` | S | when it was written |
//!
//! It is read once an invocation and account, and again where the platform refused it: what was refreshed a moment ago counts then.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use huntaze_domain::env::Env;
use jiff::Timestamp;

use super::seal::{Bound, Keys, SealError, Sealed};
use super::{MAX_SESSION_BYTES, Secret, Session, SessionParts};

/// A longer seal is none of ours: the session, its JSON's quotes and escapes, and the tag.
const MAX_SEALED_BYTES: usize = 3 * MAX_SESSION_BYTES;

/// Why an account's session is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// There is none.
    #[error("the account has no session")]
    Missing,
    /// The key that sealed it is not among `OF_SESSION_KEYS`.
    #[error("the account's session is sealed with a key that is not configured")]
    UnknownKey,
    /// It was changed, it is another account's, or its key is another.
    #[error("the account's session does not open: it, its account or its key was changed")]
    Refused,
    /// The item is not one that [`Sessions::store`] writes.
    #[error("the account's session cannot be read")]
    Unreadable,
    /// The table: the name of its error.
    #[error("the table of sessions did not answer: {0}")]
    Table(String),
}

impl SessionError {
    /// Whether it may be there a moment later without anybody's doing.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        // A key that is missing is a fault of the deployment: it is mended for all accounts at once, and by none of their owners.
        matches!(self, Self::Table(_) | Self::UnknownKey)
    }

    fn of_aws<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Self {
        // Names only: what the service says at length may hold an item.
        Self::Table(match error {
            SdkError::TimeoutError(_) => "no answer in time".to_owned(),
            SdkError::DispatchFailure(_) => "not reachable".to_owned(),
            SdkError::ServiceError(service) => service.err().code().unwrap_or("unnamed").chars().take(80).collect(),
            _ => "an answer that cannot be read".to_owned(),
        })
    }
}

impl From<SealError> for SessionError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::UnknownKey => Self::UnknownKey,
            SealError::Refused => Self::Refused,
        }
    }
}

/// The table of sessions, and the keys that open them.
#[derive(Debug, Clone)]
pub struct Sessions {
    client: Client,
    table: String,
    keys: Keys,
}

impl Sessions {
    /// Reads `DYNAMODB_OF_SESSIONS_TABLE` and `OF_SESSION_KEYS`; nothing is called. `None` where the keys are missing or faulty.
    #[must_use]
    pub fn from_env(env: &Env, client: Client) -> Option<Self> {
        let table = env.or("DYNAMODB_OF_SESSIONS_TABLE", "huntaze-of-sessions");
        let keys = env.required_as("OF_SESSION_KEYS", Keys::parse)?;
        Some(Self { client, table, keys })
    }

    /// The session of an account, as it is now.
    ///
    /// # Errors
    /// [`SessionError`]
    pub async fn load(&self, account: &str) -> Result<Session, SessionError> {
        let get = self.client.get_item().table_name(&self.table).consistent_read(true);
        let got = get.key("accountId", text(account)).send().await.map_err(|error| SessionError::of_aws(&error))?;
        let item = got.item.ok_or(SessionError::Missing)?;
        let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok()).cloned();
        let bytes = |name: &str| item.get(name).and_then(|value| value.as_b().ok()).map(Blob::as_ref);
        let parts = || Some((text("platformUserId")?, text("keyId")?, bytes("nonce")?, bytes("sealed")?));
        let (platform_user_id, key_id, nonce, sealed) = parts().ok_or(SessionError::Unreadable)?;
        if sealed.len() > MAX_SEALED_BYTES {
            return Err(SessionError::Unreadable);
        }
        let user_agent = text("userAgent");
        let bound = bound(account, &platform_user_id, user_agent.as_deref());
        let sealed = Sealed { key_id, nonce: nonce.to_vec(), text: sealed.to_vec() };
        let opened = self.keys.open(&sealed, bound)?;
        let Secret { cookie, headers } = serde_json::from_slice(&opened).map_err(|_| SessionError::Unreadable)?;
        let parts = SessionParts { platform_user_id, user_agent, cookie, headers };
        Session::from_parts(parts).map_err(|_| SessionError::Unreadable)
    }

    /// Keeps a session for an account, in place of the one before. `now` is the wall clock.
    ///
    /// # Errors
    /// [`SessionError`]
    pub async fn store(&self, account: &str, session: &Session, now: Timestamp) -> Result<(), SessionError> {
        let user_agent = session.user_agent.as_ref().and_then(|agent| agent.to_str().ok());
        let secret = serde_json::to_vec(&session.secret).map_err(|_| SessionError::Unreadable)?;
        let sealed = self.keys.seal(&secret, bound(account, &session.platform_user_id, user_agent))?;
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("accountId", text(account))
            .item("platformUserId", text(&session.platform_user_id))
            .item("keyId", text(&sealed.key_id))
            .item("nonce", AttributeValue::B(Blob::new(sealed.nonce)))
            .item("sealed", AttributeValue::B(Blob::new(sealed.text)))
            .item("updatedAt", text(&now.to_string()));
        let put = match user_agent {
            Some(agent) => put.item("userAgent", text(agent)),
            None => put,
        };
        put.send().await.map(drop).map_err(|error| SessionError::of_aws(&error))
    }
}

fn bound<'a>(account: &'a str, platform_user_id: &'a str, user_agent: Option<&'a str>) -> Bound<'a> {
    Bound { account, platform_user_id, user_agent: user_agent.unwrap_or_default() }
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}
