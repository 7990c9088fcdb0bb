//! Accounts: whose they are, whether they send, and by which limits.

use huntaze_compliance::{Action, MAX_WORDS, WORD, is_word, judge};
use huntaze_domain::env::Env;
use huntaze_domain::error::FieldFault;
use huntaze_domain::ids::{AccountId, UserId};
use huntaze_domain::intent::ComplianceLevel;
use huntaze_domain::json::{Fields, parse_object};
use huntaze_postgres::{Database, DatabaseError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio_postgres::types::Type;

use crate::limiter::Overrides;
use crate::outbox::{Wake, wake};
use crate::session::{Session, SessionParts};

const LIST: &str = include_str!("../sql/accounts.sql");
const STOPPED: &str = include_str!("../sql/stopped_accounts.sql");
const KEEP: &str = "SELECT outcome, to_jsonb(account) AS account, wake_ms FROM orchestrator.keep_account($1, $2, $3, $4, $5, $6, $7, $8)";
/// Why an account without a session that can be used is paused.
pub(crate) const NO_SESSION: &str = "no_session";
/// Who sent in between found no session, and paused it for that: it is there now.
const SESSION_KEPT: &str = "UPDATE orchestrator.accounts a
    SET session_at = now(), status = CASE WHEN $2 AND NOT a.held AND a.paused_reason = $3 THEN 'active' ELSE a.status END
    WHERE a.id = $1 RETURNING to_jsonb(a) AS account";
/// The longest reason, in characters.
const MAX_REASON: usize = 500;
/// The longest disclosure, in characters: it is a part of the message.
const MAX_DISCLOSURE: usize = 95;
const DISCLOSURE: &str = "a text of 1 to 95 characters that breaks no rule itself";
/// What a session has as long as the platform was not asked whose it is.
const NOBODY_YET: &str = "unknown";

/// Whether an account sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountStatus {
    /// It does.
    Active,
    /// What is to be sent waits.
    Paused,
}

/// An account as its row has it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Whose it is.
    pub user_id: UserId,
    /// How strictly its messages are judged at least.
    pub compliance_floor: ComplianceLevel,
    /// Whether it sends.
    pub status: AccountStatus,
    /// Why it is paused, or was last.
    pub paused_reason: Option<String>,
    /// An administrator paused it: only an administrator lets it go on.
    pub held: bool,
    /// Limits in place of the configuration's.
    pub limits: Map<String, Value>,
    /// Words that no text of it may have.
    #[serde(default)]
    pub custom_words: Vec<String>,
    /// Words that it may use although a rule has them.
    #[serde(default)]
    pub allowed_words: Vec<String>,
    /// What is added to a text that a machine wrote.
    pub ai_disclosure: Option<String>,
    /// Nothing is sent before.
    pub resume_at: Option<Timestamp>,
    /// When its session was kept last.
    pub session_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When somebody changed it last.
    pub updated_at: Timestamp,
}

impl Account {
    /// As the API shows it: never anything of its session.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut shown = json!({
            "accountId": self.id,
            "userId": self.user_id,
            "status": self.status,
            "held": self.held,
            "complianceFloor": self.compliance_floor,
            "limits": self.limits,
            "customWords": self.custom_words,
            "allowedWords": self.allowed_words,
            "aiDisclosure": self.ai_disclosure,
            "hasSession": self.session_at.is_some(),
            "createdAt": self.created_at,
            "updatedAt": self.updated_at,
        });
        let known = [
            ("reason", self.paused_reason.as_ref().map(|reason| json!(reason))),
            ("resumeAt", self.resume_at.map(|at| json!(at))),
            ("sessionUpdatedAt", self.session_at.map(|at| json!(at))),
        ];
        for (name, value) in known {
            if let Some(value) = value {
                shown[name] = value;
            }
        }
        shown
    }

    /// Its own limits. What cannot be read counts as none, and is told loudly.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        overrides(&self.limits)
    }
}

/// The limits of an account's row.
#[must_use]
pub fn overrides(limits: &Map<String, Value>) -> Overrides {
    Overrides::parse(limits, "").unwrap_or_else(|_| {
        tracing::error!("the account's own limits cannot be read; the configuration's hold");
        Overrides::default()
    })
}

/// A session as it is handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    parts: SessionParts,
    /// Whose it is said to be.
    stated: bool,
}

impl NewSession {
    fn read(map: &Map<String, Value>, faults: &mut Vec<FieldFault>) -> Option<Self> {
        let mut fields = Fields::new(map, "/session", faults);
        let text = |v: &Value| v.as_str().map(str::to_owned);
        let cookie = fields.required("cookie", "a text", text);
        let headers = fields.optional("headers", "an object of texts", |v| {
            v.as_object()?.iter().map(|(name, value)| Some((name.clone(), text(value)?))).collect()
        });
        let user_agent = fields.optional("userAgent", "a text", text);
        let stated = fields.optional("platformUserId", "a text", text);
        let new = Self {
            stated: stated.is_some(),
            parts: SessionParts {
                platform_user_id: stated.unwrap_or_else(|| NOBODY_YET.to_owned()),
                user_agent,
                cookie: cookie?,
                headers: headers.unwrap_or_default(),
            },
        };
        let found = Session::from_parts(new.parts.clone()).err().unwrap_or_default();
        faults.extend(
            found.into_iter().map(|fault| FieldFault { pointer: format!("/session{}", fault.pointer), ..fault }),
        );
        Some(new)
    }

    /// The session, to be tried on the platform.
    ///
    /// # Errors
    /// Its faults; there are none in a [`AccountChange`].
    pub fn to_try(&self) -> Result<Session, Vec<FieldFault>> {
        Session::from_parts(self.parts.clone())
    }

    /// The session of the user whom the platform names.
    ///
    /// # Errors
    /// It was said to be another's.
    pub fn of(mut self, platform_user: &str) -> Result<Session, Vec<FieldFault>> {
        let fault =
            |detail: &str| FieldFault { pointer: "/session/platformUserId".to_owned(), detail: detail.to_owned() };
        if self.stated && self.parts.platform_user_id != platform_user {
            return Err(vec![fault("the platform says that it is another user's session")]);
        }
        platform_user.clone_into(&mut self.parts.platform_user_id);
        Session::from_parts(self.parts)
    }
}

/// What is to become of an account: what it does not name stays.
#[derive(Debug, Clone, PartialEq)]
pub struct AccountChange {
    /// Which.
    pub account_id: AccountId,
    /// Whose it is, where an administrator names a user.
    pub user_id: Option<UserId>,
    /// Whether it sends.
    pub status: Option<AccountStatus>,
    /// Why, in a person's words.
    pub reason: Option<String>,
    /// How strictly its messages are judged at least. Administrators only.
    pub compliance_floor: Option<ComplianceLevel>,
    /// Its own limits, in place of all that it had. Administrators only.
    pub limits: Option<Map<String, Value>>,
    /// Words that no text of it may have, in place of all that it had.
    pub custom_words: Option<Vec<String>>,
    /// Words that it may use although a rule has them, in place of all that it had. Administrators only.
    pub allowed_words: Option<Vec<String>>,
    /// What is added to a text that a machine wrote; `Some(None)`: nothing any more.
    pub ai_disclosure: Option<Option<String>>,
    /// Its session with the platform.
    pub session: Option<NewSession>,
}

impl AccountChange {
    /// Reads a request's body.
    ///
    /// # Errors
    /// Every fault that was found, each with its JSON pointer. Nothing of a session is repeated.
    pub fn parse(body: &[u8]) -> Result<Self, Vec<FieldFault>> {
        let map = parse_object(body)?;
        let mut faults = Vec::new();
        let mut fields = Fields::new(&map, "", &mut faults);
        let account_id = fields.required("accountId", "an account id", |v| AccountId::parse(v.as_str()?).ok());
        let user_id = fields.optional("userId", "a user id", |v| UserId::parse(v.as_str()?).ok());
        let status = fields.optional("status", "`active` or `paused`", |v| AccountStatus::deserialize(v).ok());
        let reason = fields.optional("reason", "a text of 1 to 500 characters", |v| v.as_str().and_then(reason));
        let floor = fields.optional("complianceFloor", ComplianceLevel::EXPECTED, ComplianceLevel::read);
        let limits = fields.optional("limits", "an object of limits by their names", |v| v.as_object().cloned());
        let custom_words = fields.optional("customWords", WORD, words);
        let allowed_words = fields.optional("allowedWords", WORD, words);
        let disclosure = fields.optional("aiDisclosure", DISCLOSURE, |v| v.as_str().and_then(disclosure));
        let disclosure = map.get("aiDisclosure").map(|_| disclosure);
        let session = fields.optional("session", "an object", |v| v.as_object().cloned());
        if let Some(found) = limits.as_ref().and_then(|limits| Overrides::parse(limits, "/limits").err()) {
            faults.extend(found);
        }
        let session = session.and_then(|session| NewSession::read(&session, &mut faults));
        match account_id {
            Some(account_id) if faults.is_empty() => Ok(Self {
                account_id,
                user_id,
                status,
                reason,
                compliance_floor: floor,
                // What is `null` is none.
                limits: limits.map(|limits| limits.into_iter().filter(|(_, limit)| !limit.is_null()).collect()),
                custom_words,
                allowed_words,
                ai_disclosure: disclosure,
                session,
            }),
            _ => Err(faults),
        }
    }

    /// What only administrators may set of it: a fault each.
    #[must_use]
    pub fn administrators(&self) -> Vec<FieldFault> {
        let named = [
            ("/complianceFloor", self.compliance_floor.is_some()),
            ("/limits", self.limits.is_some()),
            ("/allowedWords", self.allowed_words.is_some()),
        ];
        let fault =
            |pointer: &str| FieldFault { pointer: pointer.to_owned(), detail: "is set by administrators".to_owned() };
        named.into_iter().filter(|(_, named)| *named).map(|(pointer, _)| fault(pointer)).collect()
    }

    /// As `orchestrator.set_account` reads it.
    fn columns(&self) -> Value {
        let columns = [
            ("status", json!(self.status)),
            ("paused_reason", json!(self.reason)),
            ("compliance_floor", json!(self.compliance_floor)),
            ("limits", json!(self.limits)),
            ("custom_words", json!(self.custom_words)),
            ("allowed_words", json!(self.allowed_words)),
        ];
        let set = columns.into_iter().filter(|(_, value)| !value.is_null());
        // What is `null` is taken away.
        set.chain(self.ai_disclosure.as_ref().map(|text| ("ai_disclosure", json!(text))))
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

fn words(value: &Value) -> Option<Vec<String>> {
    let words = value.as_array().filter(|words| words.len() <= MAX_WORDS)?;
    words.iter().map(|word| word.as_str().filter(|word| is_word(word)).map(str::to_owned)).collect()
}

/// It is added to what was judged without it, so it is judged itself, and strictly.
fn disclosure(text: &str) -> Option<String> {
    let fits = !text.trim().is_empty() && text.chars().count() <= MAX_DISCLOSURE;
    let is_fine = || judge(text, ComplianceLevel::Strict).verdict == Action::Allow;
    (fits && is_fine()).then(|| text.trim().to_owned())
}

/// A person's reason: not empty, and bounded.
#[must_use]
pub fn reason(text: &str) -> Option<String> {
    let fits = !text.trim().is_empty() && text.chars().count() <= MAX_REASON;
    fits.then(|| text.to_owned())
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq)]
pub enum Kept {
    /// The account as it is now; whether it was made.
    Done {
        /// The account.
        account: Box<Account>,
        /// It was not there before.
        created: bool,
        /// When to look at it.
        wake: Wake,
    },
    /// It is another user's.
    Foreign,
    /// Another account is of that user of the platform.
    Taken,
    /// The account is of another user of the platform: what was sent and limited under it is not that one's.
    Another,
    /// An administrator paused it, and none lets it go on.
    Held,
    /// The user has as many as they may have.
    Full,
}

/// Why accounts cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// PostgreSQL.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A row that the schema should not allow.
    #[error("a row of an account cannot be read")]
    Row,
}

/// Accounts, the newest first: a user's or everybody's, behind a place, at most so many.
///
/// # Errors
/// [`AccountError`]
pub async fn list(
    database: &Database,
    owner: Option<&UserId>,
    after: Option<&(Timestamp, String)>,
    most: i64,
) -> Result<Vec<Account>, AccountError> {
    select(database, owner, None, after, most).await
}

/// An account.
///
/// # Errors
/// [`AccountError`]
pub async fn find(database: &Database, id: &AccountId) -> Result<Option<Account>, AccountError> {
    Ok(select(database, None, Some(id), None, 1).await?.pop())
}

/// The accounts whose breaker is not closed, in the order of their ids, at most so many, as an administrator is shown them: so many
/// failures in a row stopped them, and their next message finds out whether the platform is well again.
///
/// # Errors
/// [`AccountError`]
pub async fn stopped(database: &Database, failures: i64, most: i64) -> Result<Vec<Value>, AccountError> {
    let rows = database.query(STOPPED, &[(&failures, Type::INT8), (&most, Type::INT8)]).await?;
    Ok(rows.iter().map(|row| row.get("account")).collect())
}

async fn select(
    database: &Database,
    owner: Option<&UserId>,
    id: Option<&AccountId>,
    after: Option<&(Timestamp, String)>,
    most: i64,
) -> Result<Vec<Account>, AccountError> {
    let (owner, id) = (owner.map(UserId::as_str), id.map(AccountId::as_str));
    let (at, last) = (after.map(|(at, _)| *at), after.map(|(_, id)| id.as_str()));
    let params = [
        (&owner as _, Type::TEXT),
        (&id as _, Type::TEXT),
        (&at as _, Type::TIMESTAMPTZ),
        (&last as _, Type::TEXT),
        (&most as _, Type::INT8),
    ];
    let rows = database.query(LIST, &params).await?;
    rows.iter().map(|row| read(row.get("account"))).collect()
}

/// How many accounts a user may make: `ONLYFANS_ACCOUNTS_PER_USER`.
#[must_use]
pub fn most_from_env(env: &Env) -> i64 {
    let most = env.parsed("ONLYFANS_ACCOUNTS_PER_USER", 100);
    if !(1..=100_000).contains(&most) {
        env.fault("ONLYFANS_ACCOUNTS_PER_USER", "must be 1 to 100000");
    }
    most
}

/// Who makes or changes an account.
#[derive(Debug, Clone, Copy)]
pub struct Keeper<'a> {
    /// Who.
    pub actor: &'a UserId,
    /// With an administrator's rights.
    pub administrator: bool,
    /// So many accounts may its owner have; `None`: any number.
    pub most: Option<i64>,
    /// The request's id.
    pub request_id: &'a str,
}

/// Makes an account, or changes what the request names of it. `platform_user`: whom the platform says that its new session is of.
///
/// # Errors
/// [`AccountError`]; asking again is safe.
pub async fn keep(
    database: &Database,
    change: &AccountChange,
    owner: &UserId,
    platform_user: Option<&str>,
    keeper: &Keeper<'_>,
) -> Result<Kept, AccountError> {
    let columns = change.columns();
    let params = [
        (&change.account_id.as_str() as _, Type::TEXT),
        (&owner.as_str() as _, Type::TEXT),
        (&columns as _, Type::JSONB),
        (&platform_user as _, Type::TEXT),
        (&keeper.actor.as_str() as _, Type::TEXT),
        (&keeper.administrator as _, Type::BOOL),
        (&keeper.most as _, Type::INT8),
        (&keeper.request_id as _, Type::TEXT),
    ];
    let rows = database.query(KEEP, &params).await?;
    let row = rows.first().ok_or(AccountError::Row)?;
    let outcome: &str = row.get("outcome");
    match outcome {
        "created" | "changed" | "same" => {
            let account = Box::new(read(row.get("account"))?);
            Ok(Kept::Done { account, created: outcome == "created", wake: wake(row) })
        }
        "foreign" => Ok(Kept::Foreign),
        "taken" => Ok(Kept::Taken),
        "another" => Ok(Kept::Another),
        "held" => Ok(Kept::Held),
        "full" => Ok(Kept::Full),
        _ => Err(AccountError::Row),
    }
}

/// Notes that an account's session is kept; `active`: the account was active before it was, and is to be.
///
/// # Errors
/// [`AccountError`]
pub async fn session_kept(database: &Database, id: &AccountId, active: bool) -> Result<Account, AccountError> {
    let params = [(&id.as_str() as _, Type::TEXT), (&active as _, Type::BOOL), (&NO_SESSION as _, Type::TEXT)];
    let rows = database.query(SESSION_KEPT, &params).await?;
    read(rows.first().ok_or(AccountError::Row)?.get("account"))
}

fn read(row: Value) -> Result<Account, AccountError> {
    serde_json::from_value(row).map_err(|_| AccountError::Row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers(body: &Value) -> Vec<String> {
        let faults = AccountChange::parse(body.to_string().as_bytes()).expect_err("faulty");
        assert!(faults.iter().all(|fault| !fault.detail.contains("s3cret")), "{faults:?}");
        faults.into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let body = json!({"status": "gone", "reason": " ", "complianceFloor": 1, "limits": {"account_minute": 0, "x": 1},
            "session": {"cookie": "s3cret\n", "headers": {"Host": "s3cret"}, "userAgent": 1}, "userId": "a b"});
        let mut found = pointers(&body);
        found.sort();
        let all = "/accountId /complianceFloor /limits/account_minute /limits/x /reason /session/cookie /session/headers/Host \
                   /session/userAgent /status /userId";
        assert_eq!(found, all.split_whitespace().collect::<Vec<_>>());
        assert_eq!(pointers(&json!({"accountId": "a", "session": {}})), ["/session/cookie"]);
    }

    #[test]
    fn what_is_not_named_is_not_changed() {
        let read = |body: Value| AccountChange::parse(body.to_string().as_bytes()).unwrap();
        assert_eq!(read(json!({"accountId": "a"})).columns(), json!({}));
        let all =
            read(json!({"accountId": "a", "status": "paused", "reason": "a holiday", "complianceFloor": "relaxed",
            "limits": {"account_minute": 3, "account_hour": null}}));
        assert_eq!(
            all.columns(),
            json!({"status": "paused", "paused_reason": "a holiday", "compliance_floor": "relaxed", "limits": {"account_minute": 3}})
        );
        assert_eq!(all.administrators().len(), 2);
    }

    #[test]
    fn a_session_is_of_whom_the_platform_names() {
        let session = |stated: Option<&str>| {
            let body = json!({"accountId": "a", "session": {"cookie": "c", "platformUserId": stated}});
            AccountChange::parse(body.to_string().as_bytes()).unwrap().session.unwrap()
        };
        assert_eq!(session(None).of("17").unwrap().platform_user_id(), "17");
        assert_eq!(session(Some("17")).of("17").unwrap().platform_user_id(), "17");
        assert_eq!(session(Some("18")).of("17").unwrap_err()[0].pointer, "/session/platformUserId");
    }
}
