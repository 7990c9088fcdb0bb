//! `rules/*.toml` as tables: every fault in a rule is a fault of the build.
//!
//! A file is a category: what its findings are worth at each level, why, and its rules. A rule finds `any` of some terms, or one of each list of
//! `near` no more than `within` words apart (the first list is where its finding is sought), or what a `pattern` finds; `with` asks for one of each
//! list anywhere in the text, and `unless` excuses what stands as near. `negated`, `told`, `spoken` and `joked` say which frames excuse or are asked
//! for (`src/rule.rs`). A term is written in small letters: a space is a gap, `'` or `-` may be one, `*` lets a word go on. `@name` is a set of
//! `rules/sets`: words that several rules use, frames that the judge asks for, and classes of words that stand for each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::letters;

/// A file: the rules of one category.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Category {
    /// The day of its last change.
    version: String,
    /// Where it comes from.
    #[serde(rename = "source")]
    _source: String,
    severity: String,
    levels: Levels,
    /// Why a text of it may not be sent, for whoever wrote it.
    reason: String,
    /// What to do about it.
    suggestion: String,
    /// When its rules' findings are none (`src/rule.rs`).
    #[serde(default)]
    negated: bool,
    #[serde(default)]
    told: bool,
    #[serde(default)]
    spoken: bool,
    #[serde(default)]
    joked: bool,
    /// What stands for `{name}` in its patterns.
    #[serde(default)]
    fragments: BTreeMap<String, String>,
    rule: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Levels {
    strict: String,
    moderate: String,
    relaxed: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    id: String,
    /// One of these is enough.
    #[serde(default)]
    any: Vec<String>,
    /// One of each of these, near each other.
    #[serde(default)]
    near: Vec<Vec<String>>,
    /// How many words they may be apart.
    #[serde(default = "near")]
    within: u16,
    /// Not with one of these near.
    #[serde(default)]
    unless: Vec<String>,
    /// One of each of these anywhere in the text.
    #[serde(default)]
    with: Vec<Vec<String>>,
    /// In place of the category's.
    negated: Option<bool>,
    told: Option<bool>,
    spoken: Option<bool>,
    joked: Option<bool>,
    /// Or what this finds in the text in small letters, with numbers in digits (`src/plain.rs`); with `near` it is the first of them. If it has a
    /// group, only what that takes is its place: other words of the match may be its neighbours.
    pattern: Option<String>,
    /// What the pattern finds has one of these in it (`0-9`: a digit, `6-19`: such a number, `a.a`: a dot within a word): where a text has none it is not looked for.
    #[serde(default)]
    needs: Vec<String>,
    /// In place of the category's.
    severity: Option<String>,
    reason: Option<String>,
    suggestion: Option<String>,
}

fn near() -> u16 {
    8
}

/// The terms, by the group that they are of.
#[derive(Default)]
struct Terms {
    groups: Vec<Vec<String>>,
    known: BTreeMap<Vec<String>, usize>,
    /// Words that several rules ask for, as `@name`.
    sets: BTreeMap<String, Vec<String>>,
    used: BTreeSet<String>,
}

impl Terms {
    /// The number of a group of terms.
    fn group(&mut self, terms: &[String], of: &str) -> usize {
        assert_once(terms, of);
        let mut folded = Vec::new();
        let mut rest: Vec<&String> = terms.iter().collect();
        // A set may be made of others.
        while let Some(term) = rest.pop() {
            match term.strip_prefix('@') {
                None => folded.push(fold(term, of)),
                Some(name) => {
                    self.used.insert(name.to_owned());
                    rest.extend(self.sets.get(name).unwrap_or_else(|| panic!("{of}: there is no set {name}")))
                }
            }
        }
        folded.sort();
        folded.dedup();
        let next = self.groups.len();
        let number = *self.known.entry(folded.clone()).or_insert(next);
        if number == next {
            self.groups.push(folded);
        }
        number
    }
}

fn assert_once(terms: &[String], of: &str) {
    let mut known = BTreeSet::new();
    let twice: Vec<_> = terms.iter().filter(|term| !known.insert(*term)).collect();
    assert!(twice.is_empty(), "{of}: twice in one list: {twice:?}");
}

/// A term as it is matched: letters, ` ` where a gap must be, `'` where one may be, `*` where a word may go on.
fn fold(term: &str, of: &str) -> String {
    let mut folded = String::new();
    for character in term.chars() {
        match character {
            'a'..='z' | '0'..='9' | ' ' | '*' => folded.push(character),
            '\'' | '’' | '-' => folded.push('\''),
            _ => folded.push_str(
                &letters::stands_for(character).unwrap_or_else(|| panic!("{of}: {term}: {character:?} is no letter")),
            ),
        }
    }
    let letters = folded.chars().filter(char::is_ascii_alphanumeric).count();
    assert!((1..=60).contains(&letters) && folded.len() <= 62, "{of}: {term}: a term has 1 to 60 letters");
    let odd =
        folded.contains("  ") || folded.trim() != folded || folded.starts_with(['*', '\'']) || folded.contains("**");
    assert!(!odd, "{of}: {term}: is no term");
    folded
}

/// A pattern with its fragments in it, which may be made of others; `{2}` and `{0,2}` are no names.
fn whole(pattern: &str, fragments: &BTreeMap<String, String>, of: &str) -> String {
    let replaced =
        |whole: String, (name, fragment): (&String, &String)| whole.replace(&format!("{{{name}}}"), fragment);
    let once = |whole: String, _| fragments.iter().fold(whole, replaced);
    let whole = fragments.iter().fold(pattern.to_owned(), once);
    let is_whole = whole.split('{').skip(1).all(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
    assert!(is_whole, "{of}: {whole}: a fragment is not known");
    whole
}

fn variant(text: &str, of: &str, known: &[(&str, &'static str)]) -> &'static str {
    known
        .iter()
        .find(|(name, _)| *name == text)
        .map_or_else(|| panic!("{of}: {text} is unknown"), |(_, variant)| variant)
}

const SEVERITIES: &[(&str, &str)] = &[("low", "Low"), ("medium", "Medium"), ("high", "High"), ("critical", "Critical")];
const ACTIONS: &[(&str, &str)] = &[("allow", "Allow"), ("review", "Review"), ("block", "Block")];

/// Sets that the judge itself asks for.
const NAMED: &[(&str, &str)] = &[
    ("NEGATION", "negation"),
    ("NEGATION_BESIDE", "negation_beside"),
    ("NEGATION_BEHIND", "negation_behind"),
    ("RULED_OUT", "ruled_out"),
    ("NO_NEGATION", "no_negation"),
    ("CONTRAST", "contrast"),
    ("TOLD", "told"),
    ("REPORTED", "reported"),
    ("ADDRESSED", "addressed"),
    ("OFFER", "offer"),
    ("SPOKEN", "spoken"),
    ("JOKE", "joke"),
    ("CONDITION", "condition"),
];

/// The tables as source.
pub(crate) fn tables(folder: &Path) -> String {
    let is_toml = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "toml");
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("rules/ is there").map(|entry| entry.expect("it can be read").path()).collect();
    files.retain(|file| is_toml(file));
    files.sort();
    let sets = |name: &str| -> BTreeMap<String, Vec<String>> {
        let text = fs::read_to_string(folder.join("sets").join(name)).expect("it can be read");
        toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let sets = ["words.toml", "frames.toml", "classes.toml"].into_iter().flat_map(sets).collect();
    let (mut terms, mut patterns) = (Terms { sets, ..Terms::default() }, Vec::<(String, Vec<String>)>::new());
    let (mut categories, mut rules, mut version) = (String::new(), String::new(), String::new());
    for (number, file) in files.iter().enumerate() {
        let name = file.file_stem().and_then(|stem| stem.to_str()).expect("a file has a name");
        let text = fs::read_to_string(file).expect("it can be read");
        let category: Category = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        version = version.max(category.version.clone());
        let levels = [&category.levels.strict, &category.levels.moderate, &category.levels.relaxed];
        let levels = levels.map(|action| format!("Action::{}", variant(action, name, ACTIONS))).join(", ");
        writeln!(categories, "Category {{ name: {name:?}, levels: [{levels}] }},").expect("a text takes it");
        for rule in &category.rule {
            let id = format!("{name}.{}", rule.id);
            let mut clauses = Vec::new();
            assert!(rule.pattern.is_some() != rule.needs.is_empty(), "{id}: a pattern says what it needs");
            if let Some(pattern) = &rule.pattern {
                assert!(pattern.is_ascii(), "{id}: a pattern is matched against ASCII");
                // Rules may ask for the same one, which is looked for once.
                let pattern = (whole(pattern, &category.fragments, &id), rule.needs.clone());
                let known = patterns.iter().position(|known| *known == pattern);
                clauses.push(format!("Clause::Pattern({})", known.unwrap_or(patterns.len())));
                patterns.extend(known.is_none().then_some(pattern));
            }
            let groups = rule.near.iter().chain(Some(&rule.any).filter(|any| !any.is_empty()));
            clauses.extend(groups.map(|group| format!("Clause::Group({})", terms.group(group, &id))));
            assert!(!clauses.is_empty(), "{id} finds nothing");
            let mut group_if = |group: &[String]| match group {
                [] => "None".to_owned(),
                group => format!("Some({})", terms.group(group, &id)),
            };
            let unless = group_if(&rule.unless);
            let with: Vec<_> = rule.with.iter().map(|group| terms.group(group, &id).to_string()).collect();
            let meant = format!(
                "Meant {{ negated: {}, told: {}, spoken: {}, joked: {} }}",
                rule.negated.unwrap_or(category.negated),
                rule.told.unwrap_or(category.told),
                rule.spoken.unwrap_or(category.spoken),
                rule.joked.unwrap_or(category.joked),
            );
            let severity = variant(rule.severity.as_ref().unwrap_or(&category.severity), &id, SEVERITIES);
            let (reason, suggestion) = (
                rule.reason.as_ref().unwrap_or(&category.reason),
                rule.suggestion.as_ref().unwrap_or(&category.suggestion),
            );
            writeln!(
                rules,
                "Rule {{ id: {id:?}, category: {number}, severity: Severity::{severity}, reason: {reason:?}, suggestion: {suggestion:?}, \
                 clauses: &[{}], within: {}, unless: {unless}, with: &[{}], meant: {meant} }},",
                clauses.join(", "),
                rule.within,
                with.join(", "),
            )
            .expect("a text takes it");
        }
    }
    let patterns: Vec<_> = patterns
        .iter()
        .map(|(pattern, needs)| format!("Pattern {{ regex: {pattern:?}, needs: &{needs:?} }}"))
        .collect();
    let mut named = String::new();
    for (constant, set) in NAMED {
        let group = terms.group(&[format!("@{set}")], "the judge");
        writeln!(named, "pub(crate) const {constant}: usize = {group};").expect("a text takes it");
    }
    for (name, set) in &terms.sets {
        assert_once(set, name);
        assert!(terms.used.contains(name), "nobody uses the set {name}");
    }
    // A term is kept once, however many groups have it.
    let mut all: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (group, terms) in terms.groups.iter().enumerate() {
        terms.iter().for_each(|term| all.entry(term).or_default().push(group));
    }
    let (mut text, mut groups, mut begins) = (String::new(), Vec::<usize>::new(), String::new());
    for (term, of) in &all {
        write!(begins, "({}, {}), ", text.len(), groups.len()).expect("a text takes it");
        text.push_str(term);
        groups.extend(of);
    }
    write!(begins, "({}, {})", text.len(), groups.len()).expect("a text takes it");
    let first = |letter: u8| all.keys().take_while(|term| term.as_bytes()[0] < letter).count();
    let letters: Vec<_> = (b'0'..=b'9').chain(b'a'..=b'z' + 1).map(|letter| first(letter).to_string()).collect();
    format!(
        "/// The day of the last change of a rule.\npub const VERSION: &str = {version:?};\n\
         pub(crate) static CATEGORIES: &[Category] = &[\n{categories}];\n\
         pub(crate) static RULES: &[Rule] = &[\n{rules}];\n\
         pub(crate) static PATTERNS: &[Pattern] = &[{}];\n\
         {named}pub(crate) const GROUPS: usize = {};\n\
         pub(crate) static TERM_TEXT: &str = {text:?};\n\
         pub(crate) static TERM_GROUPS: &[u16] = &{groups:?};\n\
         /// Where each term, and what groups have it, begin; and where the last ones end.\n\
         pub(crate) static TERMS: &[(u32, u16)] = &[{begins}];\n\
         /// The first term of each digit and letter.\n\
         pub(crate) static FIRST: [u16; 37] = [{}];\n",
        patterns.join(", "),
        terms.groups.len(),
        letters.join(", "),
    )
}
