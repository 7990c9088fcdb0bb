//! What an account adds to the rules: words that its owner will not have in a text, and words that an administrator lets it use.

use crate::fold::{Gap, Letters, Unit, fold};
use crate::judge::Finding;
use crate::rule::{Action, Severity};
use crate::term::{Terms, begins, each_at};

/// More words of an account help nobody.
pub const MAX_WORDS: usize = 200;
/// The longest, in characters.
const MAX_WORD: usize = 60;

/// What such a word must be.
pub const WORD: &str = "words of 2 to 60 letters of the Latin alphabet, no more than 200 of them";

/// The words of one account.
#[derive(Debug, Clone, Default)]
pub struct Own {
    words: Words,
    allowed: Words,
}

/// Terms in their order.
#[derive(Debug, Clone, Default)]
struct Words(Vec<Vec<u8>>);

impl Own {
    /// No words.
    pub const NONE: Self = Self { words: Words(Vec::new()), allowed: Words(Vec::new()) };

    /// Words that are none are passed over: whoever keeps them has asked [`is_word`].
    #[must_use]
    pub fn new(words: &[String], allowed: &[String]) -> Self {
        Self { words: Words::new(words), allowed: Words::new(allowed) }
    }

    /// Where words stand that may be used, in bytes, in their order.
    pub(crate) fn allowed(&self, units: &[Unit]) -> Vec<(u32, u32)> {
        let mut places: Vec<_> = self.allowed.places(units).map(|(_, start, end)| (start, end)).collect();
        places.sort_unstable();
        // Of several that begin before a place the last is asked: it has to reach as far as any of them.
        let mut reached = 0;
        for (_, end) in &mut places {
            reached = reached.max(*end);
            *end = reached;
        }
        places
    }

    /// The words that its owner will not have, each where it stands first.
    pub(crate) fn unwanted(&self, units: &[Unit]) -> impl Iterator<Item = Finding> {
        let mut found = vec![None; self.words.0.len()];
        self.words.places(units).for_each(|(word, start, end)| {
            found[word].get_or_insert((start, end));
        });
        found.into_iter().flatten().map(|(start, end)| Finding {
            rule: "account.word",
            category: "account",
            severity: Severity::Medium,
            action: Action::Block,
            start: start as usize,
            end: end as usize,
            reason: "is a word that this account does not use",
            suggestion: "leave it out, or take it off the account's own words",
        })
    }
}

impl Words {
    fn new(texts: &[String]) -> Self {
        let mut terms: Vec<_> = texts.iter().take(MAX_WORDS).filter_map(|text| term(text)).collect();
        terms.sort_unstable();
        terms.dedup();
        Self(terms)
    }

    /// Each place of one: its number, its first byte and the one behind it.
    fn places(&self, units: &[Unit]) -> impl Iterator<Item = (usize, u32, u32)> {
        let mut places = Vec::new();
        for at in (0..units.len()).filter(|at| !self.0.is_empty() && begins(units, *at)) {
            each_at(self, units, at, &mut |word, end| {
                let part = &units[at..end];
                let start = part.iter().map(|unit| unit.start).min().unwrap_or_default();
                places.push((word, start, part.iter().map(|unit| unit.end).max().unwrap_or_default()));
            });
        }
        places.into_iter()
    }
}

impl Terms for Words {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn term(&self, number: usize) -> &[u8] {
        &self.0[number]
    }
}

/// Whether a text can be a word of an account's own.
#[must_use]
pub fn is_word(text: &str) -> bool {
    (2..=MAX_WORD).contains(&text.chars().count()) && term(text).is_some()
}

/// A text as a term: its letters, with a gap where there is one.
fn term(text: &str) -> Option<Vec<u8>> {
    let mut term = Vec::new();
    let mut letters = 0;
    for unit in fold(text) {
        if unit.gap >= Gap::Mark && !term.is_empty() {
            term.push(if unit.gap == Gap::Mark { b'\'' } else { b' ' });
        }
        let is = |byte: &u8| unit.letters.meets(Letters::of(*byte));
        let range = if unit.is_letter { b'a'..=b'z' } else { b'0'..=b'9' };
        term.push(range.into_iter().find(|byte| is(byte))?);
        letters += usize::from(unit.is_letter);
    }
    (term.len() <= MAX_WORD && letters >= 2 && letters * 2 >= term.len()).then_some(term)
}

#[cfg(test)]
mod tests {
    use huntaze_domain::intent::ComplianceLevel;

    use super::*;
    use crate::judge::judge_for;

    fn own(words: &[&str], allowed: &[&str]) -> Own {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Own::new(&texts(words), &texts(allowed))
    }

    fn rules(text: &str, own: &Own) -> Vec<&'static str> {
        judge_for(text, ComplianceLevel::Strict, own).findings.iter().map(|found| found.rule).collect()
    }

    #[test]
    fn a_word_of_the_account_is_found_however_it_is_written_and_only_for_that_account() {
        let ours = own(&["Ex-Mari", "loser"], &[]);
        for text in ["what a loser", "what a l0ser", "L O S E R", "mon ex mari", "mon ex‑marí"] {
            let judged = judge_for(text, ComplianceLevel::Relaxed, &ours);
            assert_eq!((judged.verdict, rules(text, &ours)), (Action::Block, vec!["account.word"]), "{text}");
            assert_eq!(rules(text, &Own::default()), Vec::<&str>::new(), "{text}");
        }
        assert!(rules("a closer look", &ours).is_empty());
        let judged = judge_for("you l\u{200b}oser", ComplianceLevel::Relaxed, &ours);
        assert_eq!((judged.findings[0].start, judged.findings[0].end), (4, "you l\u{200b}oser".len()));
    }

    #[test]
    fn what_no_level_lets_pass_no_list_does() {
        let text = "have a look at my telegram channel";
        assert!(!rules(text, &Own::default()).is_empty());
        assert!(rules(text, &own(&[], &["telegram"])).is_empty());
        // It says nothing of what stands elsewhere in the text.
        for (allowed, text) in [
            ("telegram", "my telegram stickers are cute. add me on whatsapp sweetie"),
            ("fansite", "fan@fansite.com is support. Write to ana.rose@example.com"),
            ("mysite", "see www.mysite.com and www.evil-elsewhere.com"),
        ] {
            assert!(!rules(text, &own(&[], &[allowed])).is_empty(), "{text}");
        }
        let text = "a video with bestiality";
        assert!(!rules(text, &own(&[], &["bestiality"])).is_empty());
    }

    #[test]
    fn what_is_no_word_is_none() {
        for text in ["", "a", "4711", "東京", "…", &"a".repeat(61)] {
            assert!(!is_word(text), "{text}");
        }
        assert!(is_word("écolo") && is_word("no way") && is_word("sos24"));
    }
}
