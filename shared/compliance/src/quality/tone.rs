//! Whether a text has the marks of a tone.

use super::lexicon::{FLIRTY, POLITE, READER, SHORT, SPOKEN, STIFF, TU, WARM};
use super::words::Words;

/// What is seen of a tone.
struct Marks {
    emoji: usize,
    exclamations: usize,
    loud_words: usize,
    /// `n't`, `'re`, `gonna`, `coucou`, or French `tu`.
    is_casual: bool,
    is_polite: bool,
    is_stiff: bool,
    is_warm: bool,
    is_flirty: bool,
    to_the_reader: bool,
    asks: bool,
}

impl Marks {
    fn of(words: &Words) -> Self {
        let is_short = words.all.iter().any(|word| word.is_joined && word.kinds & SHORT != 0);
        Self {
            emoji: words.emoji,
            exclamations: words.exclamations,
            loud_words: words.all.iter().filter(|word| word.is_loud).count(),
            is_casual: is_short || words.has(SPOKEN | TU),
            is_polite: words.has(POLITE),
            is_stiff: words.has(STIFF),
            is_warm: words.has(WARM),
            is_flirty: words.has(FLIRTY) || words.flirty_emoji > 0,
            to_the_reader: words.has(READER),
            asks: words.questions > 0,
        }
    }
}

/// The three marks of a tone.
type Has = fn(&Marks) -> [bool; 3];

/// What the names of each tone begin with, in both languages, and its marks.
const TONES: [(&str, Has); 7] = [
    ("formal formel profession serious serieu polite poli elegan", |marks| {
        [marks.emoji == 0, marks.exclamations <= 1, !marks.is_casual]
    }),
    (
        "friend warm tender personal caring sincer grateful gentle kind amical chaleur tendre personnel affect reconnaiss bienveill",
        |marks| [marks.is_warm || marks.emoji > 0, marks.to_the_reader, !marks.is_stiff],
    ),
    ("playful fun humor humour cheek teas joueu ludique drole taquin espiegl malicieu", |marks| {
        [marks.emoji > 0 || marks.exclamations > 0, marks.is_casual || marks.asks, !marks.is_stiff]
    }),
    ("flirt seduc sensual sensuel intima intime sexy naughty aguich coquin sedui", |marks| {
        [marks.is_flirty, marks.to_the_reader, !marks.is_stiff]
    }),
    ("energ enthous enthus excit hype dynam upbeat bold", |marks| {
        [marks.exclamations > 0, marks.emoji > 0 || marks.exclamations > 1 || marks.loud_words > 0, !marks.is_stiff]
    }),
    ("calm soft sooth seren serein doux douce pose apais", |marks| {
        [marks.exclamations <= 1, marks.loud_words == 0, marks.emoji <= 2]
    }),
    ("casual informal relax chill convers decontract familier detendu", |marks| {
        [marks.is_casual, !marks.is_polite, !marks.is_stiff]
    }),
];

/// See [`super::Quality::tone`].
pub(super) fn part(words: &Words, asked: &str) -> Option<f64> {
    let asked = Words::of(asked);
    let names: Vec<&str> = asked.all.iter().map(|word| asked.text(word)).collect();
    let is_asked = |begins: &str| begins.split(' ').any(|begin| names.iter().any(|name| name.starts_with(begin)));
    let marks = Marks::of(words);
    let shares: Vec<f64> =
        TONES.iter().filter(|(begins, _)| is_asked(begins)).map(|(_, has)| share(has(&marks))).collect();
    (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
}

fn share(marks: [bool; 3]) -> f64 {
    marks.iter().filter(|mark| **mark).count() as f64 / marks.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_has_its_marks() {
        let thirds = |thirds: u8| Some(f64::from(thirds) / 3.0);
        for (tone, text, hoped) in [
            ("formal", "Thank you for your subscription. The new collection is available.", thirds(3)),
            ("formal", "OMG babe!! You're gonna love it 😍", thirds(0)),
            ("formel", "Je vous remercie de votre fidélité.", thirds(3)),
            ("professionnelle", "Coucou toi ! Tu as vu ?", thirds(2)),
            ("warm", "Thanks a lot, it means so much to me.", thirds(2)),
            ("warm", "Thank you, you made my day.", thirds(3)),
            ("chaleureux", "Merci d'être là, vous êtes dans mon cœur.", thirds(3)),
            ("chaleureux", "Veuillez trouver le programme.", thirds(0)),
            ("playful", "Guess what I did today? 😜", thirds(3)),
            ("playful", "The collection is available.", thirds(1)),
            ("ludique", "Devine ce que je t'ai préparé !", thirds(2)),
            ("ludique", "Devine ce que j'ai préparé, tu vas rire !", thirds(3)),
            ("flirty", "I want to whisper you a secret.", thirds(3)),
            ("séducteur", "J'ai envie de toi 😏", thirds(3)),
            ("intimate", "The shop is open.", thirds(1)),
            ("energetic", "It is HERE! Come and see it!", thirds(3)),
            ("enthousiaste", "La collection est là.", thirds(1)),
            ("calm", "The sea is still, and the evening is ours.", thirds(3)),
            ("doux", "VITE !!! 🔥🔥🔥", thirds(0)),
            ("casual", "Hey, it's me.", thirds(3)),
            ("décontracté", "Veuillez agréer, Madame, mes salutations. Je vous attends.", thirds(0)),
            // Two tones: the mean of both.
            ("warm and playful", "Thank you, you made my day. Guess why!", Some(1.0)),
            ("warm, formal", "The shop is open.", Some((1.0 + 1.0 / 3.0) / 2.0)),
            // None that is known.
            ("mysterious", "The shop is open.", None),
            ("", "The shop is open.", None),
        ] {
            assert_eq!(part(&Words::of(text), tone), hoped, "{tone}: {text}");
        }
    }
}
