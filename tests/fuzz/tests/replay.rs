//! Every input of the corpus, through its property. What a fuzzer once found stays found.

use std::fs;
use std::io::Result;
use std::panic::catch_unwind;
use std::path::Path;

use huntaze_fuzz::{answer, body, session, text};

/// A corpus that never gets past the first check would hold nothing.
const AT_LEAST: usize = 10;

fn replay(target: &str, property: fn(&[u8]) -> bool) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let (mut accepted, mut refused, mut failed) = (0, 0, Vec::new());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let input = fs::read(&path)?;
        match catch_unwind(|| property(&input)) {
            Ok(true) => accepted += 1,
            Ok(false) => refused += 1,
            Err(_) => failed.push(path),
        }
    }
    assert!(failed.is_empty(), "{target} does not hold for {failed:#?}");
    assert!(accepted >= AT_LEAST && refused >= AT_LEAST, "{target}: {accepted} accepted, {refused} refused");
    Ok(())
}

#[test]
fn sessions() -> Result<()> {
    replay("session", session::check)
}

#[test]
fn bodies() -> Result<()> {
    replay("body", body::check)
}

#[test]
fn answers() -> Result<()> {
    replay("answer", answer::check)
}

#[test]
fn texts() -> Result<()> {
    replay("text", text::check)
}
