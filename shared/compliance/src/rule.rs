//! The rules that are built in, and what they are made of.

include!(concat!(env!("OUT_DIR"), "/rules.rs"));

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Of style.
    Low,
    /// It may cost the account a warning.
    Medium,
    /// It may cost the account.
    High,
    /// People may be harmed.
    Critical,
}

/// What is done about a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It may be sent.
    Allow,
    /// A person decides.
    Review,
    /// It is not sent.
    Block,
}

/// What rules are about.
#[derive(Debug)]
pub(crate) struct Category {
    pub(crate) name: &'static str,
    /// At the strict, the moderate and the relaxed level.
    pub(crate) levels: [Action; 3],
}

impl Category {
    /// Whether no level lets it pass, and no list of an account.
    pub(crate) fn is_never_allowed(&self) -> bool {
        self.levels == [Action::Block; 3]
    }
}

/// What is looked for beside terms.
#[derive(Debug)]
pub(crate) struct Pattern {
    pub(crate) regex: &'static str,
    /// Whatever it finds has one of these in it; `0-9` is a digit, `6-19` such a number, `a.a` a dot within a word.
    pub(crate) needs: &'static [&'static str],
}

/// What a rule asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Clause {
    /// One of these terms.
    Group(usize),
    /// What this pattern finds.
    Pattern(usize),
}

/// One rule.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    pub(crate) id: &'static str,
    pub(crate) category: usize,
    pub(crate) severity: Severity,
    pub(crate) reason: &'static str,
    pub(crate) suggestion: &'static str,
    /// All of these,
    pub(crate) clauses: &'static [Clause],
    /// no more words apart than these,
    pub(crate) within: u16,
    /// none of this group as near,
    pub(crate) unless: Option<usize>,
    /// one of each of these anywhere,
    pub(crate) with: &'static [usize],
    /// and a text in which it is meant.
    pub(crate) meant: Meant,
}

/// When what a rule finds is not what it looks like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meant {
    /// Not where it is denied: `I won't meet you`.
    pub(crate) negated: bool,
    /// Not beside what says that it is a report, a lesson or a story, in a text that offers nothing to whoever reads it.
    pub(crate) told: bool,
    /// Only where somebody speaks, is spoken to, or is to be sold to.
    pub(crate) spoken: bool,
    /// Not beside what says that it is a joke.
    pub(crate) joked: bool,
}
