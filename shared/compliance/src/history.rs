//! What was sent to the same fan before: the same again, or too much of it.

use std::collections::BTreeSet;

use huntaze_domain::intent::ComplianceLevel;

use crate::fold::{Gap, Letters, fold};
use crate::judge::{Finding, level_number};
use crate::rule::{Action, Severity};

/// Messages of so many days are looked at,
pub const DAYS: i64 = 7;
/// and no more than so many of them.
pub const MOST: i64 = 20;

/// From so many common word pairs in ten on, two texts say the same.
const ALIKE: usize = 7;
/// So many messages to the same fan within a day are too many, at the strict and the moderate level.
const TOO_MANY: [i64; 3] = [30, 60, i64::MAX];
/// A text of fewer words is said again by anybody: `good morning`.
const SHORTEST: usize = 8;

/// At the strict, the moderate and the relaxed level.
pub(crate) const LEVELS: [Action; 3] = [Action::Review, Action::Review, Action::Allow];

/// What was sent to the same fan.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// The last texts.
    pub texts: Vec<String>,
    /// How many messages there were within a day.
    pub today: i64,
}

/// What is wrong with sending a text behind what was sent.
#[must_use]
pub fn findings(text: &str, history: &History, level: ComplianceLevel) -> Vec<Finding> {
    let number = level_number(level);
    let whole = |rule, severity, reason, suggestion| Finding {
        rule,
        category: "repetition",
        severity,
        action: LEVELS[number],
        start: 0,
        end: text.len(),
        reason,
        suggestion,
    };
    let mut found = Vec::new();
    let said = pairs(text);
    if said.len() >= SHORTEST && history.texts.iter().any(|other| alike(&said, &pairs(other))) {
        found.push(whole(
            "repetition.same_text",
            Severity::Low,
            "says what the same fan was told within a week",
            "write something new for this fan",
        ));
    }
    if history.today >= TOO_MANY[number] {
        found.push(whole(
            "repetition.too_often",
            Severity::Low,
            "is one of very many to the same fan within a day",
            "wait for an answer",
        ));
    }
    found
}

/// The pairs of words that follow each other, as they are read, and the first word: as many as there are different words, about.
fn pairs(text: &str) -> BTreeSet<(String, String)> {
    let mut words = vec![String::new()];
    for unit in fold(text) {
        let last = words.last_mut().filter(|word| unit.gap < Gap::Space || word.is_empty());
        let letter = (b'a'..=b'z').chain(b'0'..=b'9').find(|byte| unit.letters.meets(Letters::of(*byte)));
        let letter = letter.map_or('?', char::from);
        match last {
            Some(word) => word.push(letter),
            None => words.push(letter.into()),
        }
    }
    let first = [(String::new(), words[0].clone())];
    words.windows(2).map(|two| (two[0].clone(), two[1].clone())).chain(first).collect()
}

fn alike(one: &BTreeSet<(String, String)>, other: &BTreeSet<(String, String)>) -> bool {
    let common = one.intersection(other).count();
    let all = one.len() + other.len() - common;
    common * 10 >= ALIKE * all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str, texts: &[&str], today: i64, level: ComplianceLevel) -> Vec<(&'static str, Action)> {
        let history = History { texts: texts.iter().map(|text| (*text).to_owned()).collect(), today };
        findings(text, &history, level).iter().map(|found| (found.rule, found.action)).collect()
    }

    #[test]
    fn the_same_again_is_seen_also_where_a_name_or_a_letter_is_another() {
        let sent = "Hey Tom, I have a brand new video for you tonight, want to see it?";
        let strict = ComplianceLevel::Strict;
        for again in
            [sent, &sent.to_uppercase(), &sent.replace("Tom", "Max"), &sent.replace('e', "е"), &sent.replace('?', "😘")]
        {
            assert_eq!(
                rules(again, &["hello", sent], 1, strict),
                [("repetition.same_text", Action::Review)],
                "{again}"
            );
        }
        for other in ["Hey Tom, how was your day?", "I have a new photo set from the beach for you", ""] {
            assert_eq!(rules(other, &["hello", sent], 1, strict), [], "{other}");
        }
        assert_eq!(rules(sent, &[sent], 1, ComplianceLevel::Relaxed), [("repetition.same_text", Action::Allow)]);
        assert_eq!(rules("Good morning, how are you today?", &["good morning, how are you today"], 1, strict), []);
    }

    #[test]
    fn too_much_within_a_day_goes_by_the_level() {
        let often = |today, level| rules("hi", &[], today, level).len();
        use ComplianceLevel::{Moderate, Relaxed, Strict};
        assert_eq!(
            [often(29, Strict), often(30, Strict), often(30, Moderate), often(60, Moderate), often(99, Relaxed)],
            [0, 1, 0, 1, 0]
        );
    }
}
