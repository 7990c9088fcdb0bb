//! Whether a text speaks of what it was to speak of.

use std::collections::HashSet;

use super::language::told;
use super::lexicon::{EMPTY, FUNCTION};
use super::words::{Word, Words};

/// From this share of the brief's words on all is well: a good text says things in its own words.
const ENOUGH: f64 = 0.6;

/// Endings of French and English, the longer ones first, each with how many letters have to be left: what comes before is the same word.
const ENDINGS: &[(&str, usize)] = &[
    ("euse", 4),
    ("ante", 4),
    ("ente", 4),
    ("ing", 3),
    ("eur", 4),
    ("ant", 4),
    ("ent", 4),
    ("ait", 4),
    ("ie", 3),
    ("ee", 3),
    ("ed", 3),
    ("er", 3),
    ("ez", 3),
    ("eu", 4),
    ("e", 3),
    ("y", 3),
];

/// See [`super::Quality::brief`].
pub(super) fn part(words: &Words, about: &[&str]) -> Option<f64> {
    // A full stop between them, so that two of them are never one word.
    let about = Words::of(&about.join(". "));
    let asked: HashSet<&str> = telling(&about).collect();
    let (of, of_brief) = (told(words), told(&about));
    if asked.is_empty() || of.is_some() && of_brief.is_some() && of != of_brief {
        return None;
    }
    let said: HashSet<&str> = telling(words).filter(|stem| asked.contains(stem)).collect();
    Some((said.len() as f64 / asked.len() as f64 / ENOUGH).min(1.0))
}

/// The stems of the words that say something: no function word, no letter or digit alone, no word of two letters.
fn telling(words: &Words) -> impl Iterator<Item = &str> {
    let is_telling = |word: &&Word| {
        let text = words.text(word);
        let is_number = text.len() > 1 && text.bytes().all(|byte| byte.is_ascii_digit());
        word.kinds & (FUNCTION | EMPTY) == 0 && (is_number || text.chars().nth(2).is_some())
    };
    words.all.iter().filter(is_telling).map(|word| stem(words.text(word)))
}

/// What is left of a word without its plural, then its ending, then the second of two same letters.
fn stem(word: &str) -> &str {
    let single = word.strip_suffix(['s', 'x']).filter(|left| left.len() >= 3 && !left.ends_with('s')).unwrap_or(word);
    let fits = |(ending, least): &(&str, usize)| {
        single.strip_suffix(ending).filter(|left| left.len() >= *least && has_vowel(left))
    };
    let bare = ENDINGS.iter().find_map(fits).unwrap_or(single);
    match bare.as_bytes() {
        [.., one, two] if one == two && one.is_ascii_alphabetic() && bare.len() > 3 => &bare[..bare.len() - 1],
        _ => bare,
    }
}

fn has_vowel(word: &str) -> bool {
    word.contains(['a', 'e', 'i', 'o', 'u', 'y'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_one_family_have_one_stem() {
        for family in [
            "night nights",
            "fan fans",
            "dance dances danced dancing dancer dancers",
            "danse danser dansez dansent danseuse",
            "party parties",
            "beach beaches",
            "love loves loved loving lover",
            "run running runs",
            "kiss kisses kissing kissed",
            "story stories",
            "hike hiking",
            "soir soirs soiree soirees",
            "plage plages",
            "bateau bateaux",
            "belle bel belles",
            "nouveau nouveaux",
            "ete",
            "heureux heureuse",
            "charmant charmante charmants",
            "mer mers",
            "family families",
            "spring springs",
            "abonne abonnes abonnee abonnees",
        ] {
            let stems: HashSet<&str> = family.split(' ').map(stem).collect();
            assert_eq!(stems.len(), 1, "{family}: {stems:?}");
        }
        for (one, other) in [
            ("night", "nigh"),
            ("event", "evening"),
            ("moment", "mom"),
            ("spring", "spray"),
            ("plage", "plan"),
            ("24", "25"),
        ] {
            assert_ne!(stem(one), stem(other));
        }
    }

    #[test]
    fn a_text_speaks_of_its_brief() {
        for (about, text, covered) in [
            (
                &["summer nights", "loyal fans"][..],
                "To my most loyal fans: this summer we dance all night long.",
                Some(1.0),
            ),
            // Three of four are enough, one of four is not.
            (&["summer nights", "loyal fans"], "Summer night, and I think of my fans.", Some(1.0)),
            (&["summer nights", "loyal fans"], "It was a long winter, my loyal friend.", Some(0.25 / ENOUGH)),
            (&["summer nights", "loyal fans"], "Here is something else.", Some(0.0)),
            (&["les nuits d'été à la plage"], "Cet été, retrouve-moi la nuit sur les plages du sud", Some(1.0)),
            (&["abonnés fidèles", "anniversaire"], "Merci à chaque abonnée : un an déjà !", Some(1.0 / 3.0 / ENOUGH)),
            (&["20% off, 14 July"], "20 % off until July 14!", Some(1.0)),
            // It asks for nothing.
            (&[], "Hey you", None),
            (&["", "for you and me"], "Hey you", None),
            // What is asked in one language is not to be found in another.
            (
                &["Write to the fans who are with me for a year, and thank them"],
                "Merci à vous, je suis heureuse que vous soyez avec moi",
                None,
            ),
        ] {
            assert_eq!(part(&Words::of(text), about), covered, "{about:?}: {text}");
        }
    }
}
