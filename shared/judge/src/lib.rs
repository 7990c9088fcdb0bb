//! A text is judged before it goes anywhere: by the rules (`huntaze-compliance`), the words of the account that it is for, what its fan was
//! sent before, and where the level asks for it by a second opinion. What was said is kept in the audit log (`orchestrator.judgements`).
//!
//! Whoever has a text asks [`Judge::profile`] for whom it is, [`Judge::judge`] for what is to be thought of it, and keeps the [`Judged`] beside
//! the text, in the statement that keeps the text.

mod judged;
mod moderation;
mod profile;
mod report;

use std::sync::Arc;
use std::time::Duration;

use huntaze_compliance::opinion::{self, Opinion};
use huntaze_compliance::{Judgement, history, judge_for};
use huntaze_domain::env::Env;
use huntaze_domain::intent::ComplianceLevel;
use huntaze_postgres::{Database, DatabaseError};
use reqwest::Client;
use serde_json::Value;
use tokio::time::{Instant, timeout};
use tokio_postgres::types::Type;

pub use crate::judged::{About, Judged, Origin};
pub use crate::moderation::Moderation;
pub use crate::profile::{Profile, Subject};
pub use crate::report::report;

const NOTE: &str = "SELECT orchestrator.note_judgement($1)";
const PURGE: &str = "SELECT orchestrator.purge_judgements($1, $2)";
/// So long an account is waited for: its text is judged strictly then, and a person looks.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Judgements are kept for so many days, as entries of the ledger are.
const KEPT_DAYS: i64 = 400;
/// So many are forgotten at once.
const FORGOTTEN: i64 = 5_000;

/// What judges.
pub struct Judge {
    database: Arc<Database>,
    moderation: Option<Moderation>,
    /// The levels at which a machine's text needs a second opinion.
    must: Vec<ComplianceLevel>,
}

/// What is said of a text where nobody has judged it and nobody can be asked: a person looks at it.
#[must_use]
pub fn unread(text: &str) -> Judged {
    glance(text, &Profile::UNREAD)
}

/// Judges a text by nothing but the rules and the account's own words: for whoever is still writing it.
#[must_use]
pub fn glance(text: &str, profile: &Profile) -> Judged {
    let mut findings = judge_for(text, profile.level, &profile.own).findings;
    findings.extend(profile.unread(text.len()));
    Judged::new(text, profile, &Opinion::NotAsked, &Judgement::of(findings))
}

/// A text, and where it came from.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    /// Itself.
    pub text: &'a str,
    /// Its provider said that its filter did not run.
    pub unfiltered: bool,
    /// An opinion that comes later is none.
    pub by: Instant,
}

impl Judge {
    /// Reads `MODERATION_MODEL`, `MODERATION_TIME_MS` and `MODERATION_LEVELS`, and OpenAI's variables where a model is named.
    #[must_use]
    pub fn from_env(env: &Env, database: Option<Arc<Database>>, http: Option<&Client>) -> Option<Self> {
        let names = env.or("MODERATION_LEVELS", "strict,moderate");
        let names = names.split(',').map(str::trim).filter(|name| *name != "none");
        let levels: Option<Vec<_>> = names.map(ComplianceLevel::from_name).collect();
        let must = levels.unwrap_or_else(|| {
            env.fault(
                "MODERATION_LEVELS",
                "must be levels (strict, moderate, relaxed), separated by commas, or `none`",
            );
            Vec::new()
        });
        let moderation = http.and_then(|http| Moderation::from_env(env, http.clone()));
        Some(Self { database: database?, moderation, must })
    }

    /// For whom a text is judged. Where that cannot be read it is judged strictly, and a person looks at it.
    pub async fn profile(&self, subject: &Subject<'_>) -> Profile {
        let unread = |error: String| {
            tracing::error!(error, "an account's own rules cannot be read; a person looks at its text");
            Profile::UNREAD
        };
        match timeout(PATIENCE, profile::of(&self.database, subject)).await {
            Ok(read) => read.unwrap_or_else(|error| unread(error.to_string())),
            Err(_) => unread("no answer in time".to_owned()),
        }
    }

    /// Judges a text with all that there is.
    pub async fn judge(&self, text: Text<'_>, profile: &Profile) -> Judged {
        let Text { text, unfiltered, by } = text;
        let level = profile.level;
        let judgement = judge_for(text, level, &profile.own);
        let must = self.must.contains(&level);
        let mut findings = judgement.findings;
        // What is blocked is blocked: nobody is asked about it.
        let opinion = match &self.moderation {
            Some(moderation) if must && judgement.verdict < huntaze_compliance::Action::Block => {
                moderation.ask(text, by).await
            }
            _ => Opinion::NotAsked,
        };
        findings.extend(history::findings(text, &profile.history, level));
        findings.extend(opinion::findings(&opinion, unfiltered, must, level, text.len()));
        findings.extend(profile.unread(text.len()));
        Judged::new(text, profile, &opinion, &Judgement::of(findings))
    }

    /// Keeps a judgement in the audit log, where no other statement does.
    ///
    /// # Errors
    /// [`DatabaseError`]
    pub async fn note(&self, judged: &Judged, about: &About<'_>) -> Result<(), DatabaseError> {
        self.keep(&judged.row(about)).await
    }

    /// Keeps what [`Judged::row`] gave.
    ///
    /// # Errors
    /// [`DatabaseError`]
    pub async fn keep(&self, row: &Value) -> Result<(), DatabaseError> {
        self.database.query(NOTE, &[(row, Type::JSONB)]).await.map(|_| ())
    }
}

/// Forgets judgements that nobody asks for any more.
///
/// # Errors
/// [`DatabaseError`]
pub async fn purge(database: &Database) -> Result<(), DatabaseError> {
    database.query(PURGE, &[(&KEPT_DAYS as _, Type::INT8), (&FORGOTTEN as _, Type::INT8)]).await.map(|_| ())
}
