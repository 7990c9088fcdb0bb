//! docs/chaos.md: its table is held against what is played, or written anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::books::Ends;
use super::load::{Seen, What};
use super::setting::{Dependency, Wrong};

const HEAD: &str = "| what | is | clients saw | taken on | not done | lost | served again after, s | settled after, s | skipped, s |\n\
    |---|---|---|---:|---|---:|---:|---:|---:|\n";
/// Where in a row it stands how much was lost.
const LOST: usize = 5;
/// How the answers of one kind of request begin, and end.
const KIND: (&str, &str) = (": ", "; ");

/// What came of a row.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) dependency: Dependency,
    pub(super) wrong: Wrong,
    pub(super) seen: Seen,
    pub(super) ends: Ends,
    /// What was lost, or done twice.
    pub(super) losses: Vec<String>,
    /// Seconds from its mending until a request that needs it was served well.
    pub(super) served: f64,
    /// Seconds from its mending until everything had ended.
    pub(super) settled: f64,
    /// Seconds that were let pass beside these.
    pub(super) skipped: u64,
}

impl Played {
    fn place(&self) -> (&'static str, &'static str) {
        (self.dependency.name(), self.wrong.name())
    }

    /// What was lost, with where.
    pub(super) fn faults(&self) -> Vec<String> {
        let (what, is) = self.place();
        self.losses.iter().map(|loss| format!("{what} {is}: {loss}")).collect()
    }

    /// Each kind of request with the answers that it had.
    fn saw(&self) -> BTreeSet<(String, String)> {
        let each = |(what, seen): (&What, &BTreeMap<String, _>)| {
            seen.keys().map(|one| (what.name().to_owned(), one.clone())).collect::<Vec<_>>()
        };
        self.seen.iter().flat_map(each).collect()
    }
}

/// A row of the table as it stands there.
struct Told {
    place: (String, String),
    saw: BTreeSet<(String, String)>,
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/chaos.md")
}

fn table(page: &str) -> Result<Vec<Told>> {
    let (_, table) = page.split_once(HEAD).context("docs/chaos.md has lost its table")?;
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    rows.map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [what, is, saw, ..] = cells[..] else { anyhow::bail!("no row: {line}") };
        ensure!(cells.get(LOST) == Some(&"0"), "docs/chaos.md says that something is lost: {line}");
        let mut pairs = BTreeSet::new();
        for part in saw.split(KIND.1) {
            let (kind, answers) = part.split_once(KIND.0).with_context(|| format!("no answers: {line}"))?;
            pairs.extend(answers.split(", ").map(|answer| (kind.to_owned(), answer.to_owned())));
        }
        Ok(Told { place: (what.to_owned(), is.to_owned()), saw: pairs })
    })
    .collect()
}

/// The table has every row, and clients saw nothing that it does not say of what was bad: which of its faults shows what is a matter of
/// moments.
pub(super) fn hold(played: &[&Played]) -> Result<()> {
    let told = table(&fs::read_to_string(page())?)?;
    let places: Vec<_> = told.iter().map(|row| (row.place.0.as_str(), row.place.1.as_str())).collect();
    let all: Vec<_> =
        Dependency::ALL.iter().flat_map(|one| Wrong::ALL.iter().map(|wrong| (one.name(), wrong.name()))).collect();
    ensure!(places == all, "docs/chaos.md is not complete (`make chaos` writes it): {places:?}");
    for row in played {
        let of_it = told.iter().filter(|told| told.place.0 == row.place().0);
        let said: BTreeSet<_> = of_it.flat_map(|told| told.saw.clone()).collect();
        let untold: Vec<_> = row.saw().difference(&said).cloned().collect();
        ensure!(untold.is_empty(), "docs/chaos.md is not true any more (`make chaos` writes it): {untold:?}: {row:?}");
    }
    Ok(())
}

/// Writes the table anew. What clients saw in earlier runs stays: not every run sees all that may be.
pub(super) fn write(played: &[&Played]) -> Result<()> {
    let page = fs::read_to_string(self::page())?;
    let told = table(&page)?;
    let (before, _) = page.split_once(HEAD).context("docs/chaos.md has lost its table")?;
    let mut text = format!("{before}{HEAD}");
    for row in played {
        let earlier = told.iter().filter(|told| (told.place.0.as_str(), told.place.1.as_str()) == row.place());
        let saw: BTreeSet<_> = row.saw().into_iter().chain(earlier.flat_map(|told| told.saw.clone())).collect();
        let kinds: BTreeSet<_> = saw.iter().map(|(kind, _)| kind.as_str()).collect();
        let answers = |of: &str| {
            saw.iter().filter(|(kind, _)| kind == of).map(|(_, one)| one.as_str()).collect::<Vec<_>>().join(", ")
        };
        let saw: Vec<_> = kinds.iter().map(|kind| format!("{kind}{}{}", KIND.0, answers(kind))).collect();
        let ((what, is), Played { ends, losses, served, settled, skipped, .. }) = (row.place(), row);
        let lost = losses.len();
        writeln!(
            text,
            "| {what} | {is} | {} | {} | {} | {lost} | {served:.1} | {settled:.1} | {skipped} |",
            saw.join(KIND.1),
            ends.taken_on,
            ends.not_done
        )?;
    }
    Ok(fs::write(self::page(), text)?)
}
