//! A text as whoever reads it sees it: the letters that its characters stand for, without case, accents and what is not seen, each with the place
//! where it stands in the original.

include!(concat!(env!("OUT_DIR"), "/letters.rs"));

/// A set of letters and digits: bit 0 is `a`, bit 26 is `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Letters(u64);

impl Letters {
    /// That of one; of anything else than a letter or a digit the empty set.
    pub(crate) const fn of(byte: u8) -> Self {
        Self(match byte {
            b'a'..=b'z' => 1 << (byte - b'a'),
            b'A'..=b'Z' => 1 << (byte - b'A'),
            b'0'..=b'9' => 1 << (26 + byte - b'0'),
            _ => 0,
        })
    }

    const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The letters and digits that are in it.
    pub(crate) fn each(self) -> impl Iterator<Item = u8> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let place = u8::try_from(rest.trailing_zeros()).ok().filter(|place| *place < 36)?;
            rest &= rest - 1;
            Some(if place < 26 { b'a' + place } else { b'0' + place - 26 })
        })
    }
}

/// What stands between a unit and the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Gap {
    /// Nothing that is seen.
    None,
    /// Marks of punctuation, emoji.
    Mark,
    /// A space, with or without marks.
    Space,
    /// A space and a mark that parts clauses: a comma, a colon, a dash, an emoji.
    Pause,
    /// A space and a mark that ends a sentence.
    Stop,
    /// The end of a line, or the beginning of the text.
    Line,
}

/// One letter or digit, or a character that may stand for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unit {
    /// What it may be; the empty set of letters that are none of ours.
    pub(crate) letters: Letters,
    /// It is a letter, and not a digit or a mark that stands for one.
    pub(crate) is_letter: bool,
    /// It is a mark that may stand for a letter, and may be just a mark.
    pub(crate) is_mark: bool,
    /// It is one of several that stand alone: `m i n o r`.
    pub(crate) is_spaced: bool,
    pub(crate) gap: Gap,
    /// Where it is in the text, in bytes.
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// So many letters that stand alone in a row are a word that is spaced out.
const SPACED: usize = 4;

/// More of the same letter in a row say no more, and would be tried again from each of them.
const SAME: usize = 4;

/// What a mark parts, where a space is beside it.
fn parts(character: char) -> Gap {
    match character {
        '.' | '!' | '?' | '…' | '‽' | '。' | '！' | '？' => Gap::Stop,
        '\'' | '"' | '’' | '‘' | '“' | '”' | '-' | '_' | '*' | '~' | '·' | '•' | '#' | '&' | '%' | '@' | '$' | '+' => {
            Gap::Mark
        }
        _ => Gap::Pause,
    }
}

/// What a digit or a mark may stand for.
const fn stands_for(byte: u8) -> Letters {
    let letters: &[u8] = match byte {
        b'0' => b"o",
        b'1' | b'|' | b'!' => b"il",
        b'2' => b"z",
        b'3' => b"e",
        b'4' | b'@' => b"a",
        b'5' | b'$' => b"s",
        b'6' => b"gb",
        b'7' => b"t",
        b'8' => b"b",
        b'9' => b"gq",
        b'+' => b"t",
        _ => b"",
    };
    let (mut set, mut at) = (Letters(0), 0);
    while at < letters.len() {
        set = set.or(Letters::of(letters[at]));
        at += 1;
    }
    set
}

/// Signs of money that stand for letters.
fn sign(character: char) -> Letters {
    match character {
        '€' | '£' => Letters::of(b'e').or(Letters::of(b'l')),
        '¢' | '©' => Letters::of(b'c'),
        '¥' => Letters::of(b'y'),
        '®' => Letters::of(b'r'),
        _ => Letters(0),
    }
}

/// What is not seen: of no width, for direction, variation, or tags; and marks on the letter before.
pub(crate) fn is_unseen(character: char) -> bool {
    matches!(u32::from(character),
        0x00AD | 0x034F | 0x061C | 0x115F | 0x1160 | 0x17B4 | 0x17B5 | 0x180B..=0x180F | 0x200B..=0x200F | 0x202A..=0x202E | 0x2060..=0x206F
        | 0x2800 | 0x3164 | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0 | 0xFFF9..=0xFFFB | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A | 0xE0000..=0xE0FFF
        | 0x0300..=0x036F | 0x0483..=0x0489 | 0x0591..=0x05BD | 0x0610..=0x061A | 0x064B..=0x065F | 0x1AB0..=0x1AFF | 0x1DC0..=0x1DFF
        | 0x20D0..=0x20F0 | 0xFE20..=0xFE2F)
        || character.is_ascii_control() && !character.is_ascii_whitespace()
}

fn known(character: char) -> Option<&'static [u8; 4]> {
    let code = u32::from(character);
    LETTERS.binary_search_by_key(&code, |(one, _)| *one).ok().map(|at| &LETTERS[at].1)
}

/// The letters and digits of a character that is none of ASCII; `?` for another letter, a space for anything else.
pub(crate) fn plain_letters(character: char, four: &mut [u8; 4]) -> &[u8] {
    *four = known(character).copied().unwrap_or([if character.is_alphanumeric() { b'?' } else { b' ' }, 0, 0, 0]);
    let length = four.iter().position(|byte| *byte == 0).unwrap_or(four.len());
    &four[..length]
}

/// The units of a text, in the order in which they are shown.
pub(crate) fn fold(text: &str) -> Vec<Unit> {
    units(text, true)
}

/// The units in the order in which they are written, where that is another: a site may leave out the marks of direction.
pub(crate) fn as_written(text: &str) -> Option<Vec<Unit>> {
    text.contains(REVERSED).then(|| units(text, false))
}

/// What follows is shown from right to left.
const REVERSED: char = '\u{202E}';

fn units(text: &str, turns: bool) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::with_capacity(text.len());
    let (mut gap, mut parted, mut reversed_from) = (Gap::Line, Gap::None, None);
    for (start, character) in text.char_indices() {
        let end = start + character.len_utf8();
        let mut push = |letters: Letters, is_letter, is_mark| {
            // No request is as long as 4 GiB.
            let (Ok(start), Ok(end)) = (start.try_into(), end.try_into()) else { return };
            let seen = if gap == Gap::Space { gap.max(parted) } else { gap };
            (gap, parted) = (Gap::None, if is_mark { parts(character) } else { Gap::None });
            if reversed_from.is_none() && is_one_of_many(&units, letters, seen) {
                if let Some(last) = units.last_mut() {
                    last.end = end;
                }
                return;
            }
            units.push(Unit { letters, is_letter, is_mark, is_spaced: false, gap: seen, start, end });
        };
        match character {
            REVERSED if turns => reversed_from = reversed_from.or(Some(units.len())),
            '\u{202C}' | '\u{2069}' => reverse(&mut units, reversed_from.take()),
            'a'..='z' | 'A'..='Z' => push(Letters::of(character as u8), true, false),
            '0'..='9' => push(Letters::of(character as u8).or(stands_for(character as u8)), false, false),
            '@' | '$' | '!' | '|' | '+' => push(stands_for(character as u8), false, true),
            '\n' | '\r' | '\u{2028}' | '\u{2029}' => gap = Gap::Line,
            _ if character.is_whitespace() => gap = gap.max(Gap::Space),
            _ if is_unseen(character) => {}
            _ if !sign(character).is_empty() => push(sign(character), false, true),
            _ => match known(character) {
                Some(letters) => {
                    for byte in letters.iter().take_while(|byte| **byte != 0) {
                        let is_letter = byte.is_ascii_alphabetic();
                        let digit = if is_letter { Letters(0) } else { stands_for(*byte) };
                        push(Letters::of(*byte).or(digit), is_letter, false);
                    }
                }
                None if character.is_alphanumeric() => push(Letters(0), true, false),
                None => (gap, parted) = (gap.max(Gap::Mark), parted.max(parts(character))),
            },
        }
    }
    reverse(&mut units, reversed_from);
    mark_spaced(&mut units);
    units
}

/// Whether as many of the same letter as matter are there already.
fn is_one_of_many(units: &[Unit], letters: Letters, gap: Gap) -> bool {
    let same = |unit: &Unit| unit.letters == letters && unit.gap == gap;
    units.len() >= SAME && units[units.len() - SAME..].iter().all(same)
}

/// Turns the units from there on round.
fn reverse(units: &mut [Unit], from: Option<usize>) {
    let Some(turned) = from.and_then(|from| units.get_mut(from..)).filter(|turned| !turned.is_empty()) else { return };
    let first = turned[0].gap;
    let gaps: Vec<_> = turned.iter().map(|unit| unit.gap).collect();
    turned.reverse();
    // What stood before a unit stands before the one that followed it.
    for (unit, gap) in turned.iter_mut().zip(std::iter::once(first).chain(gaps.into_iter().skip(1).rev())) {
        unit.gap = gap;
    }
}

fn mark_spaced(units: &mut [Unit]) {
    let mut from = 0;
    while from < units.len() {
        let stands_alone = |at: usize| {
            units[at].gap > Gap::None
                && units.get(at + 1).is_none_or(|next| next.gap > Gap::None)
                && !units[at].letters.is_empty()
        };
        let many = (from..units.len()).take_while(|at| stands_alone(*at)).count();
        if many >= SPACED {
            units[from..from + many].iter_mut().for_each(|unit| unit.is_spaced = true);
        }
        from += many.max(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is read: the first letter that each unit may be.
    fn read(text: &str) -> String {
        let mut shown = String::new();
        for unit in fold(text) {
            if unit.gap > Gap::None && !shown.is_empty() {
                shown.push(' ');
            }
            let letter = (b'a'..=b'z').chain(b'0'..=b'9').find(|byte| unit.letters.meets(Letters::of(*byte)));
            shown.push(letter.map_or('?', char::from));
        }
        shown
    }

    #[test]
    fn what_looks_like_a_letter_is_one() {
        for (text, expected) in [
            ("Minor", "minor"),
            ("mínòr", "minor"),
            ("ｍｉｎｏｒ", "minor"),
            ("𝓶𝕚𝖓𝗈𝚛", "minor"),
            ("ⓜⓘⓝⓞⓡ", "minor"),
            ("🅼🅸🅽🅾🆁", "minor"),
            ("ᴍɪɴᴏʀ", "minor"),
            ("mіnоr", "minor"),
            ("МІΝОR", "minor"),
            ("m\u{200b}i\u{200d}n\u{2060}o\u{feff}r", "minor"),
            ("m\u{e0041}inor", "minor"),
            ("\u{202e}ronim\u{202c}", "minor"),
            ("ﬁlm", "film"),
            ("cœur", "coeur"),
            ("東京", "??"),
            ("a-b  c\nd", "a b c d"),
        ] {
            // A digit or a mark is read as the first of its letters.
            assert_eq!(read(text).replace('l', "i"), expected.replace('l', "i"), "{text}");
        }
    }

    #[test]
    fn letters_that_stand_alone_are_a_word_that_is_spaced_out() {
        let spaced = |text: &str| fold(text).iter().filter(|unit| unit.is_spaced).count();
        assert_eq!(["m i n o r", "m.i.n.o.r", "a b c", "I am a cat", "so m i n o r s!"].map(spaced), [5, 5, 0, 0, 5]);
    }

    proptest! {
        #[test]
        fn every_unit_is_where_it_says(text in any::<String>()) {
            for unit in fold(&text) {
                prop_assert!(text.get(unit.start as usize..unit.end as usize).is_some_and(|part| !part.is_empty()));
            }
        }
    }
}
