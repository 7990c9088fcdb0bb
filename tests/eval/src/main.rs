//! `make eval`: how well the rules judge the labelled texts of `texts/`, and disguises of their own terms. With `--show`, what they miss of the texts
//! that rules are written with.

#![allow(clippy::print_stdout, clippy::float_arithmetic, reason = "it prints shares")]

mod disguise;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use disguise::{Chance, Lookalikes, Way};
use huntaze_compliance::{Action, judge};
use huntaze_domain::intent::ComplianceLevel;
use serde::Deserialize;

/// Texts that rules are written with, and those that nobody who writes rules reads.
const PARTS: [[&str; 2]; 2] =
    [["violations.jsonl", "harmless.jsonl"], ["held-out-violations.jsonl", "held-out-harmless.jsonl"]];
/// The most of one way: every term has its turn.
const OF_A_WAY: usize = 600;

#[derive(Deserialize)]
struct Labelled {
    lang: String,
    category: String,
    text: String,
}

/// The rules as they are written, as far as their terms are asked for.
#[derive(Deserialize)]
struct Rules {
    rule: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    #[serde(default)]
    any: Vec<String>,
    #[serde(default)]
    near: Vec<Vec<String>>,
    pattern: Option<String>,
}

fn read(name: &str) -> anyhow::Result<Vec<Labelled>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("texts").join(name);
    let text = std::fs::read_to_string(file)?;
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// How texts of both labels were judged.
#[derive(Debug, Default)]
struct Measured {
    /// Of each category: its texts, those found as such, and harmless texts that were taken for it.
    categories: BTreeMap<String, [usize; 3]>,
    /// Of the violations, those of which anything was found.
    caught: usize,
    harmless: usize,
    flagged: usize,
}

impl Measured {
    /// Judges the texts of a part; `shown`: prints what was judged wrongly.
    fn new([violations, harmless]: [&str; 2], shown: bool) -> anyhow::Result<Self> {
        let mut measured = Self::default();
        for one in read(violations)? {
            let judged = judge(&one.text, ComplianceLevel::Strict);
            let is_found = judged.findings.iter().any(|finding| finding.category == one.category);
            measured.caught += usize::from(judged.verdict > Action::Allow);
            if shown && !is_found {
                println!("MISSED {} {}: {}", one.category, one.lang, one.text);
            }
            let row = measured.categories.entry(one.category).or_default();
            row[0] += 1;
            row[1] += usize::from(is_found);
        }
        for one in read(harmless)? {
            let judged = judge(&one.text, ComplianceLevel::Strict);
            measured.harmless += 1;
            measured.flagged += usize::from(judged.verdict > Action::Allow);
            for finding in &judged.findings {
                measured.categories.entry(finding.category.to_owned()).or_default()[2] += 1;
            }
            if shown && judged.verdict > Action::Allow {
                let found: Vec<_> = judged.findings.iter().map(|f| (f.rule, &one.text[f.start..f.end])).collect();
                println!("FLAGGED {}: {} {found:?}", one.lang, one.text);
            }
        }
        Ok(measured)
    }

    /// Violations, and those that were found as what they are.
    fn found(&self) -> (usize, usize) {
        self.categories.values().fold((0, 0), |(texts, found), row| (texts + row[0], found + row[1]))
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| category | texts | recall | precision |\n|---|---:|---:|---:|")?;
        for (category, [texts, found, wrong]) in &self.categories {
            writeln!(f, "| {category} | {texts} | {} | {} |", percent(*found, *texts), percent(*found, found + wrong))?;
        }
        let (texts, found) = self.found();
        let (recall, caught) = (percent(found, texts), percent(self.caught, texts));
        writeln!(f, "| all | {texts} | {recall} (flagged at all: {caught}) | |")?;
        let Self { harmless, flagged, .. } = self;
        writeln!(f, "\nharmless texts: {harmless}, flagged: {flagged} ({:.1} %)", share(*flagged, *harmless))
    }
}

fn share(part: usize, of: usize) -> f64 {
    100.0 * part as f64 / of as f64
}

fn percent(part: usize, of: usize) -> String {
    if of == 0 { "–".to_owned() } else { format!("{:.0} %", share(part, of)) }
}

/// The terms that break a rule by themselves.
fn terms() -> anyhow::Result<Vec<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/compliance/rules");
    let mut all = Vec::new();
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let rules: Rules =
                toml::from_str(&std::fs::read_to_string(&path)?).with_context(|| path.display().to_string())?;
            let alone = rules.rule.into_iter().filter(|rule| rule.near.is_empty() && rule.pattern.is_none());
            all.extend(alone.flat_map(|rule| rule.any));
        }
    }
    all.sort();
    // A short word with a letter for each sign is anything.
    all.retain(|term| term.is_ascii() && term.chars().filter(char::is_ascii_alphabetic).count() >= 4);
    Ok(all
        .into_iter()
        .map(|term| term.replace('*', ""))
        .filter(|term| judge(term, ComplianceLevel::Strict).verdict > Action::Allow)
        .collect())
}

/// Of each way of disguise, how many terms were disguised in it and how many of these are caught.
fn disguises(shown: bool) -> anyhow::Result<Vec<(&'static str, usize, usize)>> {
    let (terms, like, mut chance) = (terms()?, Lookalikes::new(), Chance(8));
    let mut table = Vec::new();
    for way in Way::ALL {
        let (mut made, mut found) = (0, 0);
        for number in 0..OF_A_WAY {
            let term = &terms[(number * 7 + 3) % terms.len()];
            let Some(disguised) = like.disguise(term, way, &mut chance) else { continue };
            let text = format!("hey you, {disguised} tonight ok");
            let is_caught = judge(&text, ComplianceLevel::Strict).verdict > Action::Allow;
            made += 1;
            found += usize::from(is_caught);
            if shown && !is_caught {
                println!("NOT CAUGHT {}: {term}: {disguised}", way.name());
            }
        }
        table.push((way.name(), made, found));
    }
    let sum = |of: fn(&(&str, usize, usize)) -> usize| table.iter().map(of).sum();
    let all = ("all", sum(|row| row.1), sum(|row| row.2));
    table.push(all);
    Ok(table)
}

fn main() -> anyhow::Result<()> {
    let shown = std::env::args().nth(1).is_some_and(|arg| arg == "--show");
    let mut harmless = (0, 0);
    for (number, [violations, others]) in PARTS.into_iter().enumerate() {
        // What is held out is shown to nobody.
        let measured = Measured::new([violations, others], shown && number == 0)?;
        println!("\n{violations}, {others}\n\n{measured}");
        harmless = (harmless.0 + measured.harmless, harmless.1 + measured.flagged);
    }
    println!("all harmless texts: {}, flagged: {} ({:.1} %)\n", harmless.0, harmless.1, share(harmless.1, harmless.0));
    println!("| disguise | texts | caught |\n|---|---:|---:|");
    for (way, made, caught) in disguises(shown)? {
        println!("| {way} | {made} | {:.1} % |", share(caught, made));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn there_are_texts_of_every_kind_and_none_is_held_out_and_seen() {
        let [seen, held_out] = PARTS.map(|part| part.map(|name| read(name).unwrap()));
        for part in [0, 1] {
            assert!(held_out[part].len() >= seen[part].len(), "a half is held out");
        }
        for [violations, harmless] in [&seen, &held_out] {
            assert!(violations.len() >= 400 && harmless.len() >= 1_000);
            for language in ["en", "fr"] {
                let of = |texts: &[Labelled]| texts.iter().filter(|one| one.lang == language).count();
                assert!(of(violations) * 3 >= violations.len() && of(harmless) * 3 >= harmless.len(), "{language}");
            }
        }
        let texts =
            |part: &[Vec<Labelled>; 2]| part.iter().flatten().map(|one| one.text.clone()).collect::<BTreeSet<_>>();
        assert_eq!(texts(&seen).intersection(&texts(&held_out)).count(), 0);
    }

    #[test]
    fn harmless_texts_pass() {
        let [seen, held_out] = PARTS.map(|part| Measured::new(part, false).unwrap());
        let (flagged, harmless) = (seen.flagged + held_out.flagged, seen.harmless + held_out.harmless);
        assert!(share(flagged, harmless) <= 1.0, "{flagged} of {harmless}");
        assert!(share(held_out.flagged, held_out.harmless) <= 1.0, "{held_out}");
        // What is found stays found.
        for (part, least) in [(&seen, 93.0), (&held_out, 65.0)] {
            let (texts, found) = part.found();
            assert!(share(found, texts) >= least, "{part}");
        }
    }

    #[test]
    fn disguises_are_caught() {
        let table = disguises(false).unwrap();
        let (_, made, caught) = table.last().unwrap();
        assert!(*made >= 2_000 && share(*caught, *made) >= 97.0, "{table:?}");
        assert!(table.iter().all(|(_, made, caught)| share(*caught, *made) >= 95.0), "{table:?}");
    }
}
