//! The judgement of a text.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::cmp::Reverse;
use std::iter;
use std::ops::Range;
use std::sync::LazyLock;

use huntaze_domain::intent::ComplianceLevel;
use regex_lite::{Captures, Regex, RegexBuilder};
use serde::Serialize;

use crate::fold::{Gap, Unit, as_written, fold};
use crate::markup;
use crate::own::Own;
use crate::plain::Plain;
use crate::rule::{
    ADDRESSED, Action, CATEGORIES, CONDITION, CONTRAST, Clause, FIRST, GROUPS, JOKE, Meant, NEGATION, NEGATION_BEHIND,
    NEGATION_BESIDE, NO_NEGATION, OFFER, PATTERNS, Pattern, REPORTED, RULED_OUT, RULES, Rule, SPOKEN, Severity,
    TERM_GROUPS, TERM_TEXT, TERMS, TOLD,
};
use crate::term::{Terms, begins, each_at};

/// More of one text help nobody.
const MAX_FINDINGS: usize = 50;
/// So many places of a group are looked at on each side of another: what is nearest is a neighbour, and no text makes it slow.
const NEIGHBOURS: usize = 32;
/// A pattern sees so many bytes at once, and the last ones of these again: what it finds is shorter.
const WINDOW: usize = 2048;
const OVERLAP: usize = 512;
/// The end of a sentence, and of a line, is as far as so many words.
const STOP_WORDS: u32 = 3;
const LINE_WORDS: u32 = 3;
/// A negation is so many words before what it denies, at the most.
const NEGATION_REACHES: u32 = 4;
const RULED_OUT_REACHES: u32 = 6;
/// The parts of a list are fewer words apart.
const LISTED: u32 = 3;
/// A report, a story or a joke is about what stands so many words from what says that it is one: a word of it elsewhere excuses nothing.
const TOLD_REACHES: u32 = 25;
const JOKE_REACHES: u32 = 12;
/// Whoever speaks to somebody so near to a grave finding tells no story.
const ADDRESS_REACHES: u32 = 6;

/// One thing that is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule's name: `category.rule`.
    pub rule: &'static str,
    /// What it is about.
    pub category: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What is done about it at this level.
    #[serde(skip)]
    pub action: Action,
    /// The first byte of the place in the text.
    pub start: usize,
    /// The byte behind it.
    pub end: usize,
    /// Why it may not be sent.
    pub reason: &'static str,
    /// How to mend it.
    pub suggestion: &'static str,
}

/// What is said of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// What is done about it: the gravest of its findings'.
    pub verdict: Action,
    /// 1 where nothing was found, 0 where it could not be worse.
    pub score: f64,
    /// In the order of their places.
    pub findings: Vec<Finding>,
}

impl Judgement {
    /// What follows from such findings.
    #[must_use]
    pub fn of(mut findings: Vec<Finding>) -> Self {
        let verdict = findings.iter().map(|finding| finding.action).max().unwrap_or(Action::Allow);
        // The gravest are kept.
        findings.sort_by_key(|finding| (Reverse((finding.action, finding.severity)), finding.start));
        findings.truncate(MAX_FINDINGS);
        findings.sort_by_key(|finding| (finding.start, finding.end));
        Self { verdict, score: score(&findings, verdict), findings }
    }
}

/// Where something was found: in bytes, and in words.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The number of its first unit, and of the one behind its last.
    at: u32,
    behind: u32,
    start: u32,
    end: u32,
    /// The numbers of its first word and its last.
    word: u32,
    last_word: u32,
    /// The number of its clause.
    clause: u32,
    /// It begins with letters that stand alone: `m i n o r` has a `no`, which denies nothing.
    is_spaced: bool,
}

impl Place {
    /// How many words lie between two.
    fn words_to(&self, other: &Self) -> u32 {
        other.word.saturating_sub(self.last_word).max(self.word.saturating_sub(other.last_word))
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.at < other.behind && other.at < self.behind
    }

    /// One word is not two, but two terms may share one: `tell your` and `your wife`.
    fn is_other(&self, other: &Self) -> bool {
        let holds = |one: &Self, other: &Self| one.at <= other.at && other.behind <= one.behind;
        !holds(self, other) && !holds(other, self)
    }
}

/// The number of the word and of the clause that a unit is of.
#[derive(Debug, Clone, Copy, Default)]
struct Number {
    word: u32,
    clause: u32,
}

static REGEXES: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let build = |Pattern { regex, .. }: &Pattern| {
        let built = RegexBuilder::new(regex).size_limit(1 << 22).build();
        built.unwrap_or_else(|error| unreachable!("{regex}: {error}"))
    };
    PATTERNS.iter().map(build).collect()
});

/// Judges a text at a level.
#[must_use]
pub fn judge(text: &str, level: ComplianceLevel) -> Judgement {
    judge_for(text, level, &Own::NONE)
}

/// Judges a text at a level, with an account's own words.
#[must_use]
pub fn judge_for(text: &str, level: ComplianceLevel, own: &Own) -> Judgement {
    let mut findings: Vec<Finding> = Vec::new();
    // Each is another way to show the same text, in the same bytes.
    for shown in iter::once(Cow::Borrowed(text)).chain(markup::without(text).map(Cow::Owned)) {
        let patterns = Matches::new(&shown);
        for units in iter::once(fold(&shown)).chain(as_written(&shown)) {
            let found = read_as(&units, &patterns, level, own);
            let new: Vec<_> =
                found.into_iter().filter(|one| findings.iter().all(|known| known.rule != one.rule)).collect();
            findings.extend(new);
        }
    }
    Judgement::of(findings)
}

/// What is wrong with a text in one order of its letters.
fn read_as(units: &[Unit], patterns: &Matches, level: ComplianceLevel, own: &Own) -> Vec<Finding> {
    let read = Read::new(units, own.allowed(units));
    let patterns =
        |number: usize| patterns.of(number).iter().filter_map(|place| read.place(*place)).collect::<Vec<Place>>();
    let finding = |rule: &Rule| {
        let (start, end) = read.broken(rule, &patterns)?;
        let (Rule { id, severity, reason, suggestion, .. }, category) = (*rule, &CATEGORIES[rule.category]);
        let action = category.levels[level_number(level)];
        let (start, end) = (start as usize, end as usize);
        Some(Finding { rule: id, category: category.name, severity, action, start, end, reason, suggestion })
    };
    RULES.iter().filter_map(finding).chain(own.unwanted(units)).collect()
}

/// Where the patterns are in a text, in bytes of the original: each is looked for once, and only if it is asked for.
struct Matches {
    plain: Plain,
    found: Vec<OnceCell<Vec<(u32, u32)>>>,
}

impl Matches {
    fn new(text: &str) -> Self {
        Self { plain: Plain::new(text), found: vec![OnceCell::new(); PATTERNS.len()] }
    }

    fn of(&self, number: usize) -> &[(u32, u32)] {
        self.found[number].get_or_init(|| match self.plain.has(PATTERNS[number].needs) {
            true => {
                let found = matches(&REGEXES[number], &self.plain.text);
                found.filter_map(|found| self.plain.place(found.place)).collect()
            }
            false => Vec::new(),
        })
    }
}

/// What a pattern found in a text: all of it, and the place of it: what its group takes, if it has one.
struct Match {
    whole: Range<usize>,
    place: Range<usize>,
}

/// What a pattern finds in a text of ASCII. It is searched for in windows: in the whole, each match may look at all of the rest.
fn matches<'a>(regex: &'static Regex, text: &'a str) -> impl Iterator<Item = Match> + 'a {
    let is_last = |from: usize| from + WINDOW >= text.len();
    let starts = iter::successors(Some(0), move |from| (!is_last(*from)).then(|| from + WINDOW - OVERLAP));
    starts.flat_map(move |from| {
        let part = text.get(from..text.len().min(from + WINDOW)).unwrap_or_default();
        // What touches a cut may go on behind it, and is found as a whole in the window beside.
        let is_cut = move |at: &Range<usize>| at.start == 0 && from > 0 || at.end == part.len() && !is_last(from);
        let in_text = move |at: Range<usize>| from + at.start..from + at.end;
        let found = found_in(regex, part).into_iter().filter(move |found| !is_cut(&found.whole));
        found.map(move |Match { whole, place }| Match { whole: in_text(whole), place: in_text(place) })
    })
}

/// What a pattern finds in one window.
fn found_in(regex: &Regex, part: &str) -> Vec<Match> {
    let in_group = |found: Captures<'_>| {
        let whole = found.get(0)?.range();
        let group = found.iter().skip(1).flatten().next();
        Some(Match { place: group.map_or(whole.clone(), |group| group.range()), whole })
    };
    regex.captures_iter(part).filter_map(in_group).collect()
}

pub(crate) fn level_number(level: ComplianceLevel) -> usize {
    match level {
        ComplianceLevel::Strict => 0,
        ComplianceLevel::Moderate => 1,
        ComplianceLevel::Relaxed => 2,
    }
}

/// Each finding leaves a share of it; of a text that a person has to look at no more than three quarters is left, of one that is not sent a
/// quarter.
fn score(findings: &[Finding], verdict: Action) -> f64 {
    let left = |finding: &Finding| match finding.severity {
        Severity::Low => 0.9,
        Severity::Medium => 0.7,
        Severity::High => 0.4,
        Severity::Critical => 0.0,
    };
    let most = match verdict {
        Action::Allow => 1.0,
        Action::Review => 0.75,
        Action::Block => 0.25,
    };
    findings.iter().map(left).product::<f64>().min(most)
}

/// The numbers of each unit.
fn numbers(units: &[Unit]) -> Vec<Number> {
    let mut number = Number::default();
    let of = |unit: &Unit| {
        // What stands in another sentence is farther away than the words say.
        let (words, clauses) = match unit.gap {
            _ if unit.is_spaced => (0, 0),
            Gap::None | Gap::Mark => (0, 0),
            Gap::Space => (1, 0),
            Gap::Pause => (1, 1),
            Gap::Stop => (STOP_WORDS, 1),
            Gap::Line => (LINE_WORDS, 1),
        };
        number.word += words;
        number.clause += clauses;
        number
    };
    units.iter().map(of).collect()
}

/// The terms of all rules.
struct AllTerms;

impl Terms for AllTerms {
    fn len(&self) -> usize {
        TERMS.len() - 1
    }

    fn term(&self, number: usize) -> &[u8] {
        &TERM_TEXT.as_bytes()[TERMS[number].0 as usize..TERMS[number + 1].0 as usize]
    }

    fn first(&self, byte: u8) -> (usize, usize) {
        let at = if byte.is_ascii_digit() { byte - b'0' } else { byte - b'a' + 10 };
        (usize::from(FIRST[usize::from(at)]), usize::from(FIRST[usize::from(at) + 1]))
    }
}

/// A text that is read: where the terms of each group stand.
struct Read<'a> {
    units: &'a [Unit],
    numbers: Vec<Number>,
    groups: Vec<Vec<Place>>,
    /// Where words stand that the account may use, in bytes.
    allowed: Vec<(u32, u32)>,
}

impl<'a> Read<'a> {
    fn new(units: &'a [Unit], allowed: Vec<(u32, u32)>) -> Self {
        let mut read = Self { units, numbers: numbers(units), groups: vec![Vec::new(); GROUPS], allowed };
        for at in (0..units.len()).filter(|at| begins(units, *at)) {
            each_at(&AllTerms, units, at, &mut |term, end| {
                for group in &TERM_GROUPS[usize::from(TERMS[term].1)..usize::from(TERMS[term + 1].1)] {
                    let found = &mut read.groups[usize::from(*group)];
                    if found.last().is_none_or(|last| last.at as usize != at) {
                        found.extend(place(units, &read.numbers, at, end));
                    }
                }
            });
        }
        read
    }

    /// What stands at a part of the text.
    fn place(&self, (start, end): (u32, u32)) -> Option<Place> {
        let last = self.units.len().checked_sub(1)?;
        let first = self.units.partition_point(|unit| unit.end <= start).min(last);
        let behind = self.units.partition_point(|unit| unit.start < end);
        let mut place = place(self.units, &self.numbers, first, behind.max(first + 1))?;
        (place.start, place.end) = (start, end);
        Some(place)
    }

    /// The places of a group before another, the nearest first.
    fn before(&self, group: usize, place: &Place) -> impl Iterator<Item = &Place> {
        let found = &self.groups[group];
        found[..found.partition_point(|one| one.at < place.at)].iter().rev().take(NEIGHBOURS)
    }

    fn has(&self, group: usize) -> bool {
        !self.groups[group].is_empty()
    }

    /// Where a rule is broken, if it is.
    fn broken(&self, rule: &Rule, patterns: &dyn Fn(usize) -> Vec<Place>) -> Option<(u32, u32)> {
        let (first, rest) = rule.clauses.split_first()?;
        let Meant { negated, told, spoken, joked } = rule.meant;
        if rule.with.iter().any(|group| !self.has(*group)) || spoken && !self.has(SPOKEN) {
            return None;
        }
        let is_grave = CATEGORIES[rule.category].is_never_allowed();
        let found = |clause| self.found(clause, patterns, !is_grave);
        let rest: Vec<_> = rest.iter().map(found).collect();
        // What is cheap is asked first: a pattern only where the terms are there.
        if rest.iter().any(|found| found.is_empty()) {
            return None;
        }
        let within = u32::from(rule.within);
        let mut denied: Option<Place> = None;
        for place in found(first).iter() {
            let is_listed = denied.is_some_and(|before| self.is_listed(&before, place));
            denied = (negated && (is_listed || self.is_negated(place))).then_some(*place);
            let nearest =
                |others: &Cow<'_, [Place]>| nearest(others, place).filter(|other| place.words_to(other) <= within);
            let Some(near) = rest.iter().map(nearest).collect::<Option<Vec<_>>>() else { continue };
            let all = || near.iter().chain([place]);
            let first = all().min_by_key(|one| one.at)?;
            let is_excused = denied.is_some()
                || negated && self.is_negated(first)
                || rule.unless.is_some_and(|unless| self.is_near(unless, place, within))
                || told && self.is_told(place, is_grave)
                || joked && !self.has(CONDITION) && self.is_near(JOKE, place, JOKE_REACHES);
            if !is_excused {
                return Some((all().map(|one| one.start).min()?, all().map(|one| one.end).max()?));
            }
        }
        None
    }

    /// Where a clause is met; `spares`: what the account may use is nothing.
    fn found(&self, clause: &Clause, patterns: &dyn Fn(usize) -> Vec<Place>, spares: bool) -> Cow<'_, [Place]> {
        let found = match clause {
            Clause::Group(group) => Cow::Borrowed(&*self.groups[*group]),
            Clause::Pattern(pattern) => Cow::Owned(patterns(*pattern)),
        };
        if !spares || self.allowed.is_empty() {
            return found;
        }
        let is_allowed = |place: &Place| {
            // They stand in their order.
            let behind = self.allowed.partition_point(|(start, _)| *start < place.end);
            self.allowed[..behind].last().is_some_and(|(_, end)| *end > place.start)
        };
        Cow::Owned(found.iter().filter(|place| !is_allowed(place)).copied().collect())
    }

    /// Whether one of a group is no more words away.
    fn is_near(&self, group: usize, place: &Place, words: u32) -> bool {
        beside(&self.groups[group], place).any(|other| !other.is_spaced && place.words_to(other) <= words)
    }

    /// Whether it is part of a report, a lesson or a story that offers nothing to whoever reads it.
    fn is_told(&self, place: &Place, is_grave: bool) -> bool {
        if is_grave {
            let is_addressed = self.is_near(ADDRESSED, place, ADDRESS_REACHES);
            return !self.has(OFFER) && !is_addressed && self.is_near(REPORTED, place, TOLD_REACHES);
        }
        !self.has(OFFER) && self.is_near(TOLD, place, TOLD_REACHES)
    }

    /// Whether one is the next of a list that another is of: what is denied is the whole list.
    fn is_listed(&self, before: &Place, place: &Place) -> bool {
        let between = |other: &Place| before.behind <= other.at && other.behind <= place.at;
        before.words_to(place) < LISTED && !self.before(CONTRAST, place).any(between)
    }

    /// Whether it is said that it is not so.
    fn is_negated(&self, place: &Place) -> bool {
        let is_one = |one: &&Place| {
            let denies_nothing = beside(&self.groups[NO_NEGATION], one).any(|other| one.overlaps(other));
            one.clause == place.clause && !one.is_spaced && !one.overlaps(place) && !denies_nothing
        };
        // Not where a "but" stands between.
        let is_opposed =
            |one: &Place| self.before(CONTRAST, place).any(|other| one.behind <= other.at && other.behind <= place.at);
        let is_before = |group: usize, words: u32| {
            let near = self.before(group, place).take_while(|one| one.words_to(place) <= words);
            near.filter(is_one).any(|one| one.behind <= place.at && !is_opposed(one))
        };
        let is_behind = |one: &&Place| one.at >= place.behind && place.words_to(one) <= 1;
        let is_ruled_out = |one: &Place| {
            let is_opposed = self.before(CONTRAST, one).any(|other| place.behind <= other.at);
            let is_behind = one.at >= place.behind && place.words_to(one) <= RULED_OUT_REACHES;
            one.clause == place.clause && !one.is_spaced && is_behind && !is_opposed
        };
        is_before(NEGATION, NEGATION_REACHES)
            || is_before(NEGATION_BESIDE, 2)
            || beside(&self.groups[NEGATION_BEHIND], place).filter(is_behind).any(|one| is_one(&one))
            || beside(&self.groups[RULED_OUT], place).any(is_ruled_out)
    }
}

/// What some units are.
fn place(units: &[Unit], numbers: &[Number], at: usize, behind: usize) -> Option<Place> {
    let (part, first, last) = (units.get(at..behind)?, numbers.get(at)?, numbers.get(behind - 1)?);
    // Where letters are shown from right to left the last one is the first.
    let start = part.iter().map(|unit| unit.start).min()?;
    let end = part.iter().map(|unit| unit.end).max()?;
    let (at, behind) = (at.try_into().ok()?, behind.try_into().ok()?);
    Some(Place {
        at,
        behind,
        start,
        end,
        word: first.word,
        last_word: last.word,
        clause: first.clause,
        is_spaced: part.first()?.is_spaced,
    })
}

/// The neighbours of a place among others, which stand in the order of the text.
fn beside<'a>(others: &'a [Place], place: &Place) -> impl Iterator<Item = &'a Place> {
    let (before, behind) = others.split_at(others.partition_point(|other| other.at < place.at));
    before.iter().rev().take(NEIGHBOURS).chain(behind.iter().take(NEIGHBOURS))
}

/// The nearest other place.
fn nearest(others: &[Place], place: &Place) -> Option<Place> {
    beside(others, place).filter(|other| place.is_other(other)).min_by_key(|other| place.words_to(other)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each labelled text that rules are written with, as it is and with its words for numbers as digits: no pattern finds what it says it cannot.
    #[test]
    fn a_pattern_finds_nothing_without_what_it_needs() {
        let texts = concat!(
            include_str!("../../../tests/eval/texts/violations.jsonl"),
            include_str!("../../../tests/eval/texts/harmless.jsonl")
        );
        let mut found = vec![0; PATTERNS.len()];
        for plain in texts.lines().map(Plain::new) {
            for (number, pattern) in PATTERNS.iter().enumerate() {
                for one in matches(&REGEXES[number], &plain.text) {
                    let part = &plain.text[one.whole];
                    assert!(Plain::new(part).has(pattern.needs), "{pattern:?}: {part}");
                    found[number] += 1;
                }
            }
        }
        assert!(found.iter().filter(|found| **found > 0).count() * 4 >= PATTERNS.len() * 3, "{found:?}");
    }
}
