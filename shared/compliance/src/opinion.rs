//! What a second opinion comes to: the categories that a moderation model flags, held against the levels. Pure: who asks the model is elsewhere.

use huntaze_domain::intent::ComplianceLevel;

use crate::judge::{Finding, level_number};
use crate::rule::{Action, Severity};

/// Where a second opinion stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Opinion {
    /// The level asks for none, or none is configured.
    NotAsked,
    /// It was given: of each category that is known its score, and whether it is flagged.
    Given(Vec<(String, f64, bool)>),
    /// It was asked for, and there is none.
    Missing,
}

impl Opinion {
    /// The name in the stores and on the wire.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NotAsked => "not_asked",
            Self::Given(categories) if categories.iter().any(|(.., flagged)| *flagged) => "flagged",
            Self::Given(_) => "passed",
            Self::Missing => "missing",
        }
    }
}

/// A category of the model: its name, what it is worth at the strict, the moderate and the relaxed level, how much it matters, and why.
type Row = (&'static str, &'static str, [Action; 3], Severity, &'static str);

use Action::{Allow, Block, Review};

/// The thirteen categories of OpenAI's moderation (`omni-moderation`), of which older models know eleven.
pub(crate) const CATEGORIES: [Row; 13] = [
    ("sexual", "second_opinion.sexual", [Allow; 3], Severity::Low, "is sexual, which is allowed between adults"),
    ("sexual/minors", "second_opinion.sexual_minors", [Block; 3], Severity::Critical, "may be about minors"),
    ("harassment", "second_opinion.harassment", [Review, Review, Allow], Severity::Medium, "may harass somebody"),
    (
        "harassment/threatening",
        "second_opinion.harassment_threatening",
        [Block, Review, Review],
        Severity::High,
        "may threaten somebody",
    ),
    ("hate", "second_opinion.hate", [Review, Review, Review], Severity::High, "may be hateful"),
    (
        "hate/threatening",
        "second_opinion.hate_threatening",
        [Block, Block, Review],
        Severity::High,
        "may threaten a group of people",
    ),
    (
        "illicit",
        "second_opinion.illicit",
        [Review, Review, Allow],
        Severity::Medium,
        "may help with what is against the law",
    ),
    (
        "illicit/violent",
        "second_opinion.illicit_violent",
        [Block, Review, Review],
        Severity::High,
        "may help with violence",
    ),
    ("self-harm", "second_opinion.self_harm", [Review; 3], Severity::High, "may be about self-harm"),
    (
        "self-harm/intent",
        "second_opinion.self_harm_intent",
        [Review; 3],
        Severity::High,
        "may speak of an intent to self-harm",
    ),
    (
        "self-harm/instructions",
        "second_opinion.self_harm_instructions",
        [Block; 3],
        Severity::Critical,
        "may tell how to self-harm",
    ),
    ("violence", "second_opinion.violence", [Review, Review, Allow], Severity::Medium, "may be about violence"),
    (
        "violence/graphic",
        "second_opinion.violence_graphic",
        [Review, Review, Allow],
        Severity::Medium,
        "may show violence",
    ),
];

/// The model's own threshold is high where an error costs most: from this score on a person looks.
const MINORS_SCORE: f64 = 0.2;

/// The findings of a second opinion at a level: what is flagged goes by the table above; a category that is not known is looked at by a
/// person; and an opinion that was asked for and is missing lets nothing through by itself. `unfiltered`: the provider said that its own
/// filter did not run, which counts where no opinion was given.
#[must_use]
pub fn findings(
    opinion: &Opinion,
    unfiltered: bool,
    must: bool,
    level: ComplianceLevel,
    length: usize,
) -> Vec<Finding> {
    let whole = |rule, severity, action, reason| Finding {
        rule,
        category: "second_opinion",
        severity,
        action,
        start: 0,
        end: length,
        reason,
        suggestion: "write it in other words, or have a person look at it",
    };
    let missing = |rule, reason| vec![whole(rule, Severity::Low, Review, reason)];
    match opinion {
        Opinion::Missing => {
            missing("second_opinion.missing", "was not seen by the second opinion that its level asks for")
        }
        Opinion::NotAsked if unfiltered && must => {
            missing("second_opinion.not_filtered", "was not seen by its provider's content filter, which failed")
        }
        Opinion::NotAsked => Vec::new(),
        Opinion::Given(categories) => {
            let known = |name: &str| CATEGORIES.iter().find(|row| row.0 == name);
            let finding = |(name, score, flagged): &(String, f64, bool)| match (known(name), flagged) {
                (Some(&(_, rule, actions, severity, reason)), true) => {
                    Some(whole(rule, severity, actions[level_number(level)], reason))
                        .filter(|found| found.action > Allow)
                }
                (Some(&("sexual/minors", rule, ..)), false) if *score >= MINORS_SCORE => {
                    Some(whole(rule, Severity::High, Review, "may be about minors"))
                }
                (None, true) => Some(whole(
                    "second_opinion.other",
                    Severity::Medium,
                    Review,
                    "was flagged for what is not known here",
                )),
                (_, false) => None,
            };
            categories.iter().filter_map(finding).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(name: &str, score: f64, flagged: bool) -> Opinion {
        Opinion::Given(vec![("sexual".to_owned(), 0.99, true), (name.to_owned(), score, flagged)])
    }

    fn action(opinion: &Opinion, unfiltered: bool, level: ComplianceLevel) -> Action {
        let found = findings(opinion, unfiltered, level != ComplianceLevel::Relaxed, level, 9);
        found.iter().map(|found| found.action).max().unwrap_or(Allow)
    }

    #[test]
    fn what_is_flagged_goes_by_the_level() {
        use ComplianceLevel::{Moderate, Relaxed, Strict};
        let at = |opinion: &Opinion| [Strict, Moderate, Relaxed].map(|level| action(opinion, false, level));
        for (name, _, actions, ..) in CATEGORIES {
            assert_eq!(at(&given(name, 0.9, true)), actions, "{name}");
            assert_eq!(at(&given(name, 0.1, false)), [Allow; 3], "{name}");
        }
        assert_eq!(at(&given("sexual/minors", 0.2, false)), [Review; 3]);
        assert_eq!(at(&given("something/new", 0.9, true)), [Review; 3]);
    }

    #[test]
    fn who_did_not_look_has_passed_nothing() {
        use ComplianceLevel::{Relaxed, Strict};
        assert_eq!(action(&Opinion::Missing, false, Relaxed), Review);
        assert_eq!(action(&Opinion::NotAsked, true, Strict), Review);
        assert_eq!(action(&Opinion::NotAsked, true, Relaxed), Allow);
        // Whoever was asked has looked, whatever became of the provider's own.
        assert_eq!(action(&given("violence", 0.1, false), true, Strict), Allow);
    }
}
