//! A text that is judged: any characters.

use huntaze_compliance::{Action, Brief, Judgement, Own, judge, judge_for, quality};
use huntaze_domain::intent::ComplianceLevel;

use crate::MAX_INPUT_BYTES;

/// A word of an account's own. It is read the same from both sides, so it stays itself where a text is turned round.
const OWN: &str = "kayak";

/// Judges a text at every level, with an account's words, and by what was asked for. Returns whether it may be sent at the strict level.
///
/// # Panics
/// If a judgement is another the second time, points where no character begins or ends, does not follow from its findings, or is stricter at a
/// laxer level; if a word of the account is not found behind the text; or if a part of its quality is no share.
pub fn check(data: &[u8]) -> bool {
    if data.len() > MAX_INPUT_BYTES {
        return false;
    }
    let text = String::from_utf8_lossy(data);
    let levels = [ComplianceLevel::Strict, ComplianceLevel::Moderate, ComplianceLevel::Relaxed];
    let judged = levels.map(|level| judge(&text, level));
    for (judgement, level) in judged.iter().zip(levels) {
        assert_eq!(*judgement, judge(&text, level), "the same text, judged again");
        follows(judgement, &text);
    }
    assert!(judged.is_sorted_by(|stricter, laxer| stricter.verdict >= laxer.verdict), "{judged:?}");
    own_words(&text);
    measured(&text);
    judged[0].verdict == Action::Allow
}

fn follows(judgement: &Judgement, text: &str) {
    let Judgement { verdict, score, findings } = judgement;
    for found in findings {
        assert!(text.get(found.start..found.end).is_some_and(|part| !part.is_empty()), "{found:?}");
        assert!([found.reason, found.suggestion].iter().all(|said| !said.is_empty()), "{found:?}");
        assert!(found.rule.starts_with(found.category), "{found:?}");
    }
    let gravest = findings.iter().map(|found| found.action).max();
    assert_eq!(*verdict, gravest.unwrap_or(Action::Allow));
    assert!((0.0..=1.0).contains(score) && (!findings.is_empty() || *score >= 1.0), "{judgement:?}");
}

/// What stands before it hides no word of the account.
fn own_words(text: &str) {
    let own = Own::new(&[OWN.to_owned()], &[]);
    let behind = format!("{text}\n\n{OWN} trip");
    let judgement = judge_for(&behind, ComplianceLevel::Relaxed, &own);
    assert!(judgement.verdict == Action::Block, "{judgement:?}");
    follows(&judgement, &behind);
}

fn measured(text: &str) {
    let about = text.get(..text.floor_char_boundary(100)).unwrap_or_default();
    let (words, most_characters) = (Some(120), Some(500));
    let brief = Brief {
        language: Some("fr"),
        words,
        most_characters,
        about: &[about],
        tone: Some("warm and formal"),
        truncated: false,
    };
    for brief in [brief, Brief::default()] {
        let measured = quality(text, &brief);
        assert_eq!(measured, quality(text, &brief), "the same text, measured again");
        let parts = [measured.language, measured.length, measured.brief, measured.tone];
        let always = [measured.score, measured.placeholders, measured.repetition, measured.whole];
        assert!(parts.into_iter().flatten().chain(always).all(|part| (0.0..=1.0).contains(&part)), "{measured:?}");
    }
}
