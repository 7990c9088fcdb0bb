//! Whether a text says the same again and again.

use std::collections::{HashMap, HashSet};

use super::words::Words;

/// Shorter texts have too few runs to tell.
const LEAST_WORDS: usize = 8;
/// A shorter sentence may be said twice: `Oh yes!`
const LEAST_OF_SENTENCE: usize = 3;
/// So much is natural, and so much more is nothing else.
const NATURAL: f64 = 0.1;
const ALL_OF_IT: f64 = 0.5;

/// See [`super::Quality::repetition`].
pub(super) fn part(words: &Words) -> f64 {
    if words.all.len() < LEAST_WORDS {
        return 1.0;
    }
    let mut numbers = HashMap::new();
    let number = |word| {
        let next = numbers.len();
        *numbers.entry(words.text(word)).or_insert(next)
    };
    let numbered: Vec<usize> = words.all.iter().map(number).collect();
    let sentences =
        words.sentences().map(|(from, to)| &numbered[from..to]).filter(|sentence| sentence.len() >= LEAST_OF_SENTENCE);
    let again = again(numbered.windows(3)).max(again(sentences));
    1.0 - ((again - NATURAL) / (ALL_OF_IT - NATURAL)).clamp(0.0, 1.0)
}

/// The share of those that were there before.
fn again<'a>(runs: impl Iterator<Item = &'a [usize]>) -> f64 {
    let mut seen = HashSet::new();
    let (mut all, mut again) = (0_usize, 0_usize);
    for run in runs {
        all += 1;
        again += usize::from(!seen.insert(run));
    }
    again as f64 / all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_again_counts() {
        let once = "I spent the whole day at the beach and all I could think of was tonight. Are you ready for a little surprise?";
        let french = "J'ai passé la journée à la plage en pensant à ce soir. Tu es prêt pour une petite surprise ?";
        for (text, from, to) in [
            (once.to_owned(), 1.0, 1.0),
            (french.to_owned(), 1.0, 1.0),
            (format!("{once} {once}"), 0.0, 0.05),
            (format!("{french}\n{french}\n{french}"), 0.0, 0.0),
            // One of three sentences is the first again, whatever its case.
            (format!("Come and see me. {once} COME and see me!"), 0.5, 0.7),
            ("tu me manques ".repeat(20), 0.0, 0.0),
            ("I love you, I love you, I love you!".to_owned(), 0.0, 0.3),
            // Too short to tell.
            ("No, no, no, no, no!".to_owned(), 1.0, 1.0),
            (String::new(), 1.0, 1.0),
        ] {
            let part = part(&Words::of(&text));
            assert!((from..=to).contains(&part), "{text}: {part}");
        }
    }
}
