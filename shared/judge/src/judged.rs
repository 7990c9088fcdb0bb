//! What was said of a text, as it is kept and shown.

use huntaze_compliance::opinion::Opinion;
use huntaze_compliance::{Action, Judgement, VERSION};
use huntaze_domain::ids::{AccountId, MessageId, UserId, WorkflowId, random};
use huntaze_domain::intent::ComplianceLevel;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::profile::Profile;

/// A judgement that was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Judged {
    id: String,
    /// What is done about the text.
    pub verdict: Action,
    /// How strictly it was judged.
    pub level: ComplianceLevel,
    /// From 0 to 1, in thousandths.
    #[serde(rename = "complianceScore")]
    pub score: f64,
    /// The day of the rules' last change.
    pub rule_version: String,
    /// `not_asked`, `passed`, `flagged` or `missing`.
    pub second_opinion: String,
    /// What is wrong with it, each with its place in UTF-16 units, as texts are counted in browsers.
    pub findings: Vec<Value>,
    /// What its account wants to be added where a machine wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disclosure: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account: Option<AccountId>,
    text_hash: String,
}

/// Where a text came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A model wrote it.
    Generated,
    /// A person edited it, or wrote what a model did not.
    Edited,
    /// A person approves it as it is.
    Approved,
    /// A person wrote it to be sent.
    Direct,
    /// It was to be validated.
    Validated,
}

/// What a judgement is about.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// Where the text came from.
    pub origin: Origin,
    /// Whose it is.
    pub user: &'a UserId,
    /// Who asked for it.
    pub actor: &'a UserId,
    /// Of which workflow,
    pub workflow: Option<&'a WorkflowId>,
    /// and which of its steps.
    pub step: Option<&'a str>,
    /// Which message it is.
    pub message: Option<&'a MessageId>,
    /// The request's id.
    pub request_id: &'a str,
}

impl Judged {
    #[expect(clippy::float_arithmetic, reason = "a score is rounded")]
    pub(crate) fn new(text: &str, profile: &Profile, opinion: &Opinion, judgement: &Judgement) -> Self {
        let shown = judgement.findings.iter().map(|finding| {
            let mut shown = json!(finding);
            (shown["start"], shown["end"]) = (utf16(text, finding.start).into(), utf16(text, finding.end).into());
            shown
        });
        Self {
            id: format!("jdg_{:016x}{:016x}", random(), random()),
            verdict: judgement.verdict,
            level: profile.level,
            score: (judgement.score * 1_000.0).round() / 1_000.0,
            rule_version: VERSION.to_owned(),
            second_opinion: opinion.as_str().to_owned(),
            findings: shown.collect(),
            disclosure: profile.disclosure.clone(),
            account: profile.account.clone(),
            text_hash: Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    /// As clients see it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let Self { verdict, level, score, rule_version, second_opinion, findings, .. } = self;
        json!({
            "verdict": verdict, "level": level, "complianceScore": score, "ruleVersion": rule_version,
            "secondOpinion": second_opinion, "findings": findings,
        })
    }

    /// What is said of a text that nobody is shown: the rules, without places.
    #[must_use]
    pub fn reasons(&self) -> Vec<Value> {
        let bare = |finding: &Value| {
            let mut finding = finding.clone();
            finding.as_object_mut().map(|members| (members.remove("start"), members.remove("end")));
            finding
        };
        self.findings.iter().map(bare).collect()
    }

    /// The rules that it breaks.
    pub fn rules(&self) -> impl Iterator<Item = &str> {
        self.findings.iter().filter_map(|finding| finding["rule"].as_str())
    }

    /// Why it is not sent, in one line.
    #[must_use]
    pub fn refusal(&self) -> String {
        let rules: Vec<_> = self.rules().collect();
        format!("the text breaks the rules ({}); see `findings`", rules.join(", "))
    }

    /// As the audit log keeps it: nothing of the text but its hash.
    #[must_use]
    pub fn row(&self, about: &About<'_>) -> Value {
        let origin = match about.origin {
            Origin::Generated => "generated",
            Origin::Edited => "edited",
            Origin::Approved => "approved",
            Origin::Direct => "direct",
            Origin::Validated => "validated",
        };
        json!({
            "id": self.id, "origin": origin, "user_id": about.user, "actor": about.actor, "account_id": self.account,
            "workflow_id": about.workflow, "step": about.step, "message_id": about.message, "level": self.level,
            "rule_version": self.rule_version, "verdict": self.verdict, "score": self.score,
            "second_opinion": self.second_opinion, "findings": self.reasons(), "text_hash": self.text_hash,
            "request_id": about.request_id,
        })
    }
}

/// The place of a byte, counted as browsers count.
fn utf16(text: &str, byte: usize) -> usize {
    text.get(..byte).map_or(0, |before| before.encode_utf16().count())
}
