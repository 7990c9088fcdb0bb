//! How long a text takes to be judged: of 1,000 characters as creators write them and as they are disguised, and 1 MiB of what is written to
//! take long.

use std::fs;
use std::hint::black_box;
use std::io::{Write as _, stdout};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use huntaze_compliance::{Brief, Own, judge_for, quality};
use huntaze_domain::intent::ComplianceLevel;
use serde_json::Value;

use crate::heading;
use crate::stats::{Sample, mib, ms};

const LENGTH: usize = 1_000;
const TEXTS: usize = 2_000;
const MIB: usize = 1 << 20;
const TARGET: Duration = Duration::from_millis(5);
/// As many words as an account may have of its own.
const OWN_WORDS: usize = 200;

pub(crate) fn run() -> anyhow::Result<()> {
    let (own, plain) = (own(), texts()?);
    let mut table = String::from("| 1,000 characters | p50 / p99 | target | |\n|---|---:|---|---|\n");
    for (name, disguise) in DISGUISES {
        let texts = plain.iter().map(|text| text.chars().flat_map(disguise).take(LENGTH).collect::<String>());
        let judged: Sample = texts.map(|text| judging(&text, &own)).collect();
        let verdict = if judged.percentile(99) < TARGET { "✓" } else { "✗" };
        table += &format!("| {name} | {} | p99 < 5 ms | {verdict} |\n", judged.spread());
    }
    table += "\n| hostile | 64 KiB | 1 MiB | as many times longer (16 × is linear) |\n|---|---:|---:|---:|\n";
    for (name, part) in HOSTILE {
        let of = |bytes: usize| {
            let text = part.repeat(bytes / part.len());
            (0..3).map(|_| judging(&text, &own)).min().unwrap_or_default()
        };
        let (short, long) = (of(MIB / 16), of(MIB));
        table +=
            &format!("| {name} | {} | {} | {:.1} × |\n", ms(short), ms(long), long.as_secs_f64() / short.as_secs_f64());
    }
    let held = format!("Memory at its highest: {}.", mib(peak()?));
    writeln!(stdout(), "{}\n\n{table}\n{held}", heading("make bench-texts"))?;
    Ok(())
}

/// Judges a text and how well it does what it was asked for.
fn judging(text: &str, own: &Own) -> Duration {
    let brief = Brief {
        language: Some("en"),
        words: Some(150),
        tone: Some("warm"),
        about: &["a week at the sea"],
        ..Brief::default()
    };
    let started = Instant::now();
    black_box(judge_for(black_box(text), ComplianceLevel::Strict, own));
    black_box(quality(black_box(text), &brief));
    started.elapsed()
}

fn own() -> Own {
    let words: Vec<_> = (0..OWN_WORDS as u32)
        .map(|n| [n % 26, n / 26 % 26, n % 7, 3, n % 11].map(|letter| char::from(b'a' + letter as u8)).iter().collect())
        .collect();
    Own::new(&words, &words)
}

/// The labelled texts, one after the other, in parts of 1,000 characters.
fn texts() -> anyhow::Result<Vec<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../eval/texts");
    let mut all = String::new();
    for name in ["harmless.jsonl", "violations.jsonl"] {
        for line in fs::read_to_string(folder.join(name))?.lines() {
            let labelled: Value = serde_json::from_str(line)?;
            all += labelled["text"].as_str().context("a text")?;
            all.push('\n');
        }
    }
    let characters: Vec<_> = all.chars().collect();
    // Each begins somewhere else.
    let from = |number: usize| number * 389 % characters.len();
    Ok((0..TEXTS).map(|number| characters.iter().cycle().skip(from(number)).take(LENGTH).collect()).collect())
}

type Disguise = (&'static str, fn(char) -> Vec<char>);

const DISGUISES: [Disguise; 5] = [
    ("as they are written", |letter| vec![letter]),
    ("with something unseen behind each letter", |letter| vec![letter, '\u{200b}']),
    ("spaced out", |letter| vec![letter, ' ']),
    ("mathematical letters", |letter| match letter {
        'a'..='z' => char::from_u32(0x1D41A + u32::from(letter) - 97).into_iter().collect(),
        other => vec![other],
    }),
    ("digits for letters", |letter| match letter {
        'a' => vec!['4'],
        'e' => vec!['3'],
        'i' => vec!['1'],
        'o' => vec!['0'],
        's' => vec!['5'],
        't' => vec!['7'],
        other => vec![other],
    }),
];

const HOSTILE: [(&str, &str); 11] = [
    ("one letter", "a"),
    ("letters that stand alone", "a b "),
    ("signs that may be letters", "!|1l$5"),
    ("letters with marks", "e\u{301}\u{300}\u{308}"),
    ("turned round again and again", "\u{202e}add me\u{202c} "),
    ("nothing seen", "\u{200b}\u{e0061}"),
    ("terms of rules", "animal sex telegram "),
    ("beginnings of terms", "telegra whatsap bestialit "),
    ("beginnings of addresses", "a.b-c_d@e.f-"),
    ("digits", "06 12 3 45 "),
    ("other scripts", "ｔе𝔩ⓔ🅶東"),
];

/// The most that this process has held.
fn peak() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
