//! For whom a text is judged: the account's floor, words and disclosure, and what the fan was sent.

use huntaze_compliance::history::{self, History};
use huntaze_compliance::{Action, Finding, Own, Severity};
use huntaze_domain::ids::{AccountId, MessageId, RecipientId, UserId};
use huntaze_domain::intent::ComplianceLevel;
use huntaze_postgres::{Database, DatabaseError};
use serde::Deserialize;
use serde_json::Value;
use tokio_postgres::types::Type;

const PROFILE: &str = "SELECT orchestrator.judging($1, $2, $3, $4, $5, $6) AS judging";

/// Whose text it is, and for whom.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Whose it is.
    pub user: &'a UserId,
    /// By which account; `None`: the user's only one.
    pub account: Option<&'a AccountId>,
    /// For which fan.
    pub recipient: Option<&'a RecipientId>,
    /// Which message it is to be, where that is kept already: it is none of those that its fan was sent.
    pub but_for: Option<&'a MessageId>,
    /// At which level at least.
    pub level: Option<ComplianceLevel>,
}

/// What an account says about its texts.
#[derive(Debug, Clone)]
pub struct Profile {
    /// How strictly they are judged.
    pub level: ComplianceLevel,
    /// Its words.
    pub own: Own,
    /// What is added to a text that a machine wrote.
    pub disclosure: Option<String>,
    /// What the fan was sent.
    pub history: History,
    /// Which account it is, where there is one.
    pub account: Option<AccountId>,
    /// The account that was named is another's.
    pub is_foreign: bool,
    is_unread: bool,
}

/// As `orchestrator.judging` gives it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Found {
    Foreign { foreign: bool },
    Own(Row),
}

#[derive(Deserialize)]
struct Row {
    account: AccountId,
    floor: ComplianceLevel,
    words: Vec<String>,
    allowed: Vec<String>,
    disclosure: Option<String>,
    texts: Vec<String>,
    today: i64,
}

impl Profile {
    /// Of an account that cannot be read.
    pub(crate) const UNREAD: Self = Self {
        level: ComplianceLevel::Strict,
        own: Own::NONE,
        disclosure: None,
        history: History { texts: Vec::new(), today: 0 },
        account: None,
        is_foreign: false,
        is_unread: true,
    };

    /// Of a text that is no account's.
    #[must_use]
    pub fn at(level: Option<ComplianceLevel>) -> Self {
        Self { level: level.unwrap_or(ComplianceLevel::Moderate), is_unread: false, ..Self::UNREAD }
    }

    /// Whether its account could not be read.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.is_unread
    }

    /// A person looks at what could not be judged as its account wants it.
    pub(crate) fn unread(&self, length: usize) -> Option<Finding> {
        self.is_unread.then_some(Finding {
            rule: "account.unread",
            category: "account",
            severity: Severity::Low,
            action: Action::Review,
            start: 0,
            end: length,
            reason: "was not judged by its account's own rules, which could not be read",
            suggestion: "try again, or have a person look at it",
        })
    }

    fn read(row: Row, asked: Option<ComplianceLevel>) -> Self {
        Self {
            // The first of the levels is the strictest; without a wish the account's floor decides.
            level: asked.map_or(row.floor, |asked| asked.min(row.floor)),
            own: Own::new(&row.words, &row.allowed),
            disclosure: row.disclosure,
            history: History { texts: row.texts, today: row.today },
            account: Some(row.account),
            is_foreign: false,
            is_unread: false,
        }
    }
}

pub(crate) async fn of(database: &Database, subject: &Subject<'_>) -> Result<Profile, DatabaseError> {
    let (user, account) = (subject.user.as_str(), subject.account.map(AccountId::as_str));
    let (recipient, but_for) = (subject.recipient.map(RecipientId::as_str), subject.but_for.map(MessageId::as_str));
    let params = [
        (&user as _, Type::TEXT),
        (&account as _, Type::TEXT),
        (&recipient as _, Type::TEXT),
        (&history::DAYS as _, Type::INT8),
        (&history::MOST as _, Type::INT8),
        (&but_for as _, Type::TEXT),
    ];
    let rows = database.query(PROFILE, &params).await?;
    let Some(row) = rows.first().and_then(|row| row.get::<_, Option<Value>>("judging")) else {
        return Ok(Profile::at(subject.level));
    };
    Ok(serde_json::from_value(row).map_or_else(
        |error| {
            tracing::error!(%error, "a row of an account cannot be read");
            Profile::UNREAD
        },
        |found| match found {
            Found::Foreign { foreign } => Profile { is_foreign: foreign, ..Profile::at(subject.level) },
            Found::Own(row) => Profile::read(row, subject.level),
        },
    ))
}
