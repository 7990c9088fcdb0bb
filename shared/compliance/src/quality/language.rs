//! In which of the two languages a text is.

use super::lexicon::{ENGLISH, FRENCH, OTHER};
use super::words::{Letters, Words};

/// A function word is worth two, a letter of a language one: below this no language is told.
const ENOUGH: u32 = 6;
/// From so many words on a text has some of a language's function words, if it is in it: at least one in [`RARE`].
const MANY: usize = 20;
const RARE: u32 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    English,
    French,
}

impl Language {
    /// By its code, with or without a country, or by its name in either language.
    pub(super) fn named(name: &str) -> Option<Self> {
        let first = name.trim().split(['-', '_']).next()?.to_lowercase();
        match first.as_str() {
            "en" | "eng" | "english" | "anglais" => Some(Self::English),
            "fr" | "fra" | "fre" | "french" | "français" | "francais" => Some(Self::French),
            _ => None,
        }
    }
}

/// What speaks for each language.
#[derive(Debug, Clone, Copy, Default)]
struct Signs {
    english: u32,
    french: u32,
    other: u32,
}

impl Signs {
    fn of(words: &Words) -> Self {
        let mut signs = Self::default();
        for word in &words.all {
            match (word.kinds, word.letters) {
                // `thé` is not `the`.
                (kinds, Letters::Plain) if kinds & ENGLISH != 0 => signs.english += 2,
                (kinds, Letters::Plain | Letters::French) if kinds & FRENCH != 0 => signs.french += 2,
                (kinds, _) if kinds & OTHER != 0 => signs.other += 2,
                (_, Letters::OtherScript) => signs.other += 2,
                (_, Letters::OtherLatin) => signs.other += 1,
                (_, Letters::French) => signs.french += 1,
                _ => {}
            }
        }
        signs
    }

    fn all(self) -> u32 {
        self.english + self.french + self.other
    }
}

/// The language that most of a text is in, where it can be told.
pub(super) fn told(words: &Words) -> Option<Language> {
    let signs = Signs::of(words);
    match signs.all() {
        all if all < ENOUGH => None,
        all if signs.english * 2 > all => Some(Language::English),
        all if signs.french * 2 > all => Some(Language::French),
        _ => None,
    }
}

/// See [`super::Quality::language`].
pub(super) fn part(words: &Words, asked: &str) -> Option<f64> {
    let asked = Language::named(asked)?;
    let signs = Signs::of(words);
    if words.all.len() >= MANY && ((signs.english + signs.french) / 2 * RARE) < words.all.len() as u32 {
        return Some(0.0);
    }
    let own = match asked {
        Language::English => signs.english,
        Language::French => signs.french,
    };
    let share = || f64::from(own) / f64::from(signs.all());
    (signs.all() >= ENOUGH).then(|| ((share() - 0.5) / 0.4).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_named_in_several_ways() {
        for (name, language) in [
            ("en", Some(Language::English)),
            ("EN-us", Some(Language::English)),
            ("anglais", Some(Language::English)),
            ("fr_CA", Some(Language::French)),
            (" Français ", Some(Language::French)),
            ("es", None),
            ("entre", None),
            ("", None),
        ] {
            assert_eq!(Language::named(name), language, "{name}");
        }
    }

    #[test]
    fn the_language_is_the_one_that_was_asked_for() {
        const ENGLISH: &str = "Hey you, I have been thinking of the beach all day. Are you in for some fun with me?";
        const FRENCH: &str = "Coucou toi, je pense à la plage depuis ce matin. Tu viens avec moi pour la soirée ?";
        const SPANISH: &str =
            "Hola mi amor, hoy estoy muy feliz por los regalos, pero el más bonito eres tú. Para mañana una sorpresa.";
        const GERMAN: &str = "Hallo ihr Lieben, heute ist ein schöner Tag und ich freue mich auf euch, das Wetter ist nicht so schlecht.";
        const MENU: &str =
            "Mon amour, are you in the mood for a café with me? I have so much to tell you, and it is all about you.";
        const RUSSIAN: &str = "Привет, мои дорогие, сегодня вечером будет новое видео";
        for (text, english, french) in [
            (ENGLISH, Some(1.0), Some(0.0)),
            (FRENCH, Some(0.0), Some(1.0)),
            (SPANISH, Some(0.0), Some(0.0)),
            (GERMAN, Some(0.0), Some(0.0)),
            (RUSSIAN, Some(0.0), Some(0.0)),
            // A word of love, or of a menu, does not make it French.
            (MENU, Some(1.0), Some(0.0)),
            // Nothing tells.
            ("Summer sale!", None, None),
            ("Bisous ❤️", None, None),
            ("", None, None),
            // Accents may be left out, or be characters of their own.
            ("Je suis la pour toi, tu me manques deja", Some(0.0), Some(1.0)),
            ("J'ai e\u{301}te\u{301} a\u{300} la plage", Some(0.0), Some(1.0)),
        ] {
            let words = Words::of(text);
            assert_eq!((part(&words, "en"), part(&words, "fr-FR")), (english, french), "{text}");
            assert_eq!(part(&words, "es"), None);
        }
        // Half of each is in neither; some words of the other cost a part of it.
        let mixed = |text: &str| part(&Words::of(text), "fr");
        assert_eq!(mixed("I am here for you. Je suis ici pour toi."), Some(0.0));
        let some = mixed("Le live est pour ce soir, et tu as un VIP pass avec moi. See you there, ma belle !");
        assert!(some.is_some_and(|part| (0.5..1.0).contains(&part)), "{some:?}");
        // A long text that has the words of neither.
        assert_eq!(part(&Words::of(&"wakacje nad morzem ".repeat(10)), "en"), Some(0.0));
    }
}
