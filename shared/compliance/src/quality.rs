//! How well a text does what it was asked for, by features that are stated and can be seen: no model judges it. Pure, and linear in the text.
//!
//! Each part is from 0 to 1. The score is the mean of the parts that apply, by these weights; a text without any letter or digit has 0.
//!
//! | Part | Weight |
//! |---|---|
//! | `language` | 3 |
//! | `length` | 1 |
//! | `brief` | 2 |
//! | `tone` | 1 |
//! | `placeholders` | 3 |
//! | `repetition` | 2 |
//! | `whole` | 2 |
//!
//! All parts but the number of characters are of the text without its placeholders: one more of them helps no part.
#![expect(clippy::float_arithmetic, reason = "shares and weights; nothing is booked by them")]

mod covered;
mod language;
mod lexicon;
mod placeholder;
mod repetition;
mod tone;
mod words;

use serde::Serialize;

use words::{Words, is_emoji, is_unseen};

/// How much each part counts, in the order of [`Quality::parts`].
pub(crate) const WEIGHTS: [(&str, f64); 7] = [
    ("language", 3.0),
    ("length", 1.0),
    ("brief", 2.0),
    ("tone", 1.0),
    ("placeholders", 3.0),
    ("repetition", 2.0),
    ("whole", 2.0),
];

/// What was asked for, as far as it was said.
#[derive(Debug, Clone, Copy, Default)]
pub struct Brief<'a> {
    /// `en` or `fr`, with or without a country, or the language's name in either; no other can be told.
    pub language: Option<&'a str>,
    /// So many words.
    pub words: Option<u32>,
    /// No more characters than this.
    pub most_characters: Option<u32>,
    /// What it is about: theme, audience, key words.
    pub about: &'a [&'a str],
    /// The tone in a word or some: `formal`, `warm and playful`, `coquin`, …
    pub tone: Option<&'a str>,
    /// It met its bound of tokens.
    pub truncated: bool,
}

/// The parts of a score, each from 0 to 1; absent where nothing was asked for that it could be held against.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Quality {
    /// All parts that apply together: their mean, by their weights. 0 of a text without any letter or digit.
    pub score: f64,
    /// It is in the language that was asked for. Weight 3.
    ///
    /// A function word of one language only (`the`, `vous`) is worth two signs, as is a word of another script; a word with letters of French
    /// only, or with Latin ones that it has not (`ñ`), is worth one. Of the share of the language's own signs: `(share - 0.5) / 0.4` within 0
    /// and 1, so 1 from nine tenths on and 0 up to a half. Absent below six signs. 0 where of 20 words or more less than one in 20 is a
    /// function word of either language.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<f64>,
    /// It is as long as was asked for. Weight 1.
    ///
    /// Of words, with `off` the greater of asked ÷ written and written ÷ asked: `(2 - off) / 0.8` within 0 and 1, so 1 up to a fifth more and
    /// 0 from twice or half on. Of characters: 1 up to the bound, 0 from a tenth above it on, and a line between. The lesser, if both were
    /// asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<f64>,
    /// It speaks of what it was to speak of. Weight 2.
    ///
    /// The share of the brief's different stems that the text has, ÷ 0.6, at most 1: six of ten are all. A stem is what is left of a word
    /// without its plural (`-s`, `-x`), one ending (`-ing`, `-ed`, `-er`, `-ez`, `-e`, …: those of `covered.rs`; three or four letters have to
    /// stay) and the second of two same letters. Function words, words of less than three letters and of briefs themselves (`campaign`,
    /// `theme`) do not count; numbers from two digits on do. Absent where no word is left, or where both are long enough to tell that the
    /// brief is in another language than the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brief: Option<f64>,
    /// It is in the tone that was asked for. Weight 1.
    ///
    /// The share of a tone's three marks that it has, and the mean of these if several tones were named. Absent if none is known.
    ///
    /// - formal: no emoji, at most one `!`, no contraction, slang or `tu`
    /// - warm: a warm word or an emoji, speaks to the reader, nothing stiff (`sincerely`, `veuillez`)
    /// - playful: an emoji or a `!`, a contraction, slang, `tu` or a question, nothing stiff
    /// - flirty: a flirty word or emoji, speaks to the reader, nothing stiff
    /// - energetic: a `!`, a second one or an emoji or a word in capitals, nothing stiff
    /// - calm: at most one `!`, no word in capitals, at most two emoji
    /// - casual: a contraction, slang or `tu`, no `vous` or `please`, nothing stiff
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tone: Option<f64>,
    /// Nothing was left in it to be filled in. Weight 3.
    ///
    /// 0 with one such as `[name]`, `{{name}}`, `<name>`, `%NAME%`, `[insert … here]`, `XXXX`, `$XX`, `TODO`, `Lorem ipsum`; else 1.
    pub placeholders: f64,
    /// It does not say the same again and again. Weight 2.
    ///
    /// The greater of two shares: runs of three words that were there before, and sentences of three words or more that were. 1 up to a
    /// tenth, 0 from a half on, and a line between: `1 - (share - 0.1) / 0.4`. 1 below eight words.
    pub repetition: f64,
    /// It has an end. Weight 2.
    ///
    /// 0 where it met its bound of tokens. 1 where it ends with `.`, `!`, `?`, `…`, an emoji or emoticon, a closing quote or bracket, kisses
    /// (`xx`) or an address, whatever hashtags, names (`@mia`) and marks of Markdown come behind. Else a half.
    pub whole: f64,
}

impl Quality {
    /// In the order of [`WEIGHTS`].
    fn parts(&self) -> [Option<f64>; 7] {
        let always = [self.placeholders, self.repetition, self.whole].map(Some);
        [self.language, self.length, self.brief, self.tone, always[0], always[1], always[2]]
    }

    /// In thousandths: more of it says nothing.
    fn rounded(self) -> Self {
        let round = |share: f64| (share * 1_000.0).round() / 1_000.0;
        Self {
            score: round(self.score),
            language: self.language.map(round),
            length: self.length.map(round),
            brief: self.brief.map(round),
            tone: self.tone.map(round),
            placeholders: round(self.placeholders),
            repetition: round(self.repetition),
            whole: round(self.whole),
        }
    }

    fn mean(&self) -> f64 {
        let known = self.parts().into_iter().zip(WEIGHTS).filter_map(|(part, (_, weight))| Some((part?, weight)));
        let (sum, weights) =
            known.fold((0.0, 0.0), |(sum, weights), (part, weight)| (sum + part * weight, weights + weight));
        sum / weights
    }
}

/// Judges a text by what was asked for.
#[must_use]
pub fn quality(text: &str, brief: &Brief<'_>) -> Quality {
    let places = placeholder::places(text);
    let filled = placeholder::without(text, &places);
    let words = Words::of(&filled);
    let parts = Quality {
        score: 0.0,
        language: brief.language.and_then(|language| language::part(&words, language)),
        length: length(text, &filled, brief),
        brief: covered::part(&words, brief.about),
        tone: brief.tone.and_then(|tone| tone::part(&words, tone)),
        placeholders: if places.is_empty() { 1.0 } else { 0.0 },
        repetition: repetition::part(&words),
        whole: whole(&filled, brief.truncated),
    };
    Quality { score: if words.all.is_empty() { 0.0 } else { parts.mean() }, ..parts }.rounded()
}

/// See [`Quality::length`]. A word is what has white space around it, as who asks for words counts them: `don't` and `l'été` are one.
fn length(text: &str, filled: &str, brief: &Brief<'_>) -> Option<f64> {
    let words = brief.words.filter(|asked| *asked > 0).map(|asked| {
        let written = filled.split_whitespace().filter(|word| word.contains(char::is_alphanumeric)).count();
        let ratio = written.max(1) as f64 / f64::from(asked);
        ((2.0 - ratio.max(1.0 / ratio)) / 0.8).clamp(0.0, 1.0)
    });
    let characters = brief.most_characters.filter(|most| *most > 0).map(|most| {
        let over = text.trim().chars().count() as f64 / f64::from(most) - 1.0;
        (1.0 - over / 0.1).clamp(0.0, 1.0)
    });
    match (words, characters) {
        (Some(words), Some(characters)) => Some(words.min(characters)),
        (one, other) => one.or(other),
    }
}

/// Ends of messages that have no mark.
const GOODBYES: [&str; 15] =
    ["<3", ":d", ":p", ";p", ":*", ":-*", "xd", ":3", "^^", "^_^", "xx", "xxx", "xoxo", "bisous", "bises"];

/// See [`Quality::whole`].
fn whole(text: &str, truncated: bool) -> f64 {
    let mut rest = text.trim_end();
    // What may come behind the end.
    while let Some(last) = rest.split_whitespace().next_back() {
        if !last.starts_with(['#', '@']) || last.len() < 2 {
            break;
        }
        rest = rest[..rest.len() - last.len()].trim_end();
    }
    let last = rest.split_whitespace().next_back().unwrap_or_default();
    let is_goodbye = last.contains("://")
        || last.starts_with("www.")
        || last.len() < 8 && GOODBYES.contains(&last.to_lowercase().as_str());
    let mark =
        last.trim_end_matches(|mark| matches!(mark, '*' | '_' | '~' | '`') || is_unseen(mark)).chars().next_back();
    let is_end = mark.is_some_and(|mark| is_emoji(mark) || ".!?…‼。！？\"'”’»)]}›」".contains(mark));
    match () {
        () if truncated => 0.0,
        () if is_goodbye || is_end => 1.0,
        () => 0.5,
    }
}

#[cfg(test)]
mod tests;
