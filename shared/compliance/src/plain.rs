//! A text in small letters, digits and the marks that addresses and numbers are written with, each with its place in the original: what the patterns
//! of the rules are matched against.

use std::ops::Range;

use crate::fold::{is_unseen, plain_letters};

#[rustfmt::skip]
/// Number words, and what they are in digits; the longer ones first where one begins with another.
const NUMBERS: &[(&str, &str)] = &[
    ("zero", "0"), ("oh", "0"), ("one", "1"), ("two", "2"), ("three", "3"), ("four", "4"), ("five", "5"), ("six", "6"), ("seven", "7"),
    ("eight", "8"), ("nine", "9"), ("ten", "10"), ("eleven", "11"), ("twelve", "12"), ("thirteen", "13"), ("fourteen", "14"),
    ("fifteen", "15"), ("sixteen", "16"), ("seventeen", "17"), ("eighteen", "18"), ("nineteen", "19"), ("twenty", "20"), ("thirty", "30"),
    ("forty", "40"), ("fifty", "50"), ("sixty", "60"), ("seventy", "70"), ("eighty", "80"), ("ninety", "90"),
    ("deux", "2"), ("trois", "3"), ("quatre", "4"), ("cinq", "5"), ("sept", "7"), ("huit", "8"), ("neuf", "9"), ("dix", "10"),
    ("onze", "11"), ("douze", "12"), ("treize", "13"), ("quatorze", "14"), ("quinze", "15"), ("seize", "16"), ("vingt", "20"),
    ("trente", "30"), ("quarante", "40"), ("cinquante", "50"), ("soixante", "60"),
];

/// Of French, where `dix-sept` is one number.
const AFTER_TEN: &[(&str, &str)] = &[("sept", "17"), ("huit", "18"), ("neuf", "19")];

/// A sign that is neither a letter nor a mark of ASCII, such as an emoji: a blank to the patterns, and a pause to those that ask for it.
const SIGN: u8 = 0x0B;
/// The weakest first.
const BLANKS: [u8; 3] = [b' ', SIGN, b'\n'];

/// Such a text.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    pub(crate) text: String,
    /// Of each byte, where it is in the original.
    places: Vec<(u32, u32)>,
    has: Has,
}

/// What many patterns need.
#[derive(Debug, Default)]
struct Has {
    digit: bool,
    /// A number from 6 to 19.
    age: bool,
    /// A dot within a word.
    dotted: bool,
}

impl Has {
    fn of(text: &str) -> Self {
        let is_age = |digits: &str| digits.len() <= 2 && digits.parse().is_ok_and(|number| (6..=19).contains(&number));
        let is_dotted =
            |three: &[u8]| matches!(three, [a, b'.', b] if a.is_ascii_alphanumeric() && b.is_ascii_alphanumeric());
        Self {
            digit: text.bytes().any(|byte| byte.is_ascii_digit()),
            age: text.split(|letter: char| !letter.is_ascii_digit()).any(is_age),
            dotted: text.as_bytes().windows(3).any(is_dotted),
        }
    }
}

impl Plain {
    pub(crate) fn new(original: &str) -> Self {
        let mut letters = Self::default();
        for (start, character) in original.char_indices().filter(|(_, character)| !is_unseen(*character)) {
            let place = (start as u32, (start + character.len_utf8()) as u32);
            let mut four = [0; 4];
            match character {
                ' '..='~' => letters.push(character.to_ascii_lowercase() as u8, place),
                '\n' | '\r' => letters.push(b'\n', place),
                '’' | '‘' | 'ʼ' => letters.push(b'\'', place),
                '‐'..='―' => letters.push(b'-', place),
                '．' | '。' | '․' | '·' | '•' => letters.push(b'.', place),
                '＠' => letters.push(b'@', place),
                '／' => letters.push(b'/', place),
                '€' | '£' | '¥' => letters.push(b'$', place),
                _ if character.is_whitespace() => letters.push(b' ', place),
                _ => match plain_letters(character, &mut four) {
                    b" " => letters.push(SIGN, place),
                    plain => plain.iter().for_each(|letter| letters.push(*letter, place)),
                },
            }
        }
        letters.numbered()
    }

    fn push(&mut self, letter: u8, place: (u32, u32)) {
        // Any number of blanks is one, the strongest: what they part stays near.
        let strength = |letter: u8| BLANKS.iter().position(|blank| *blank == letter);
        if let Some((new, last)) = strength(letter).zip(self.text.bytes().next_back().and_then(strength)) {
            if new > last {
                self.text.pop();
                self.text.push(char::from(letter));
            }
            return;
        }
        self.text.push(char::from(letter));
        self.places.push(place);
    }

    /// With number words as digits.
    fn numbered(self) -> Self {
        let mut numbered = Self {
            text: String::with_capacity(self.text.len()),
            places: Vec::with_capacity(self.places.len()),
            has: Has::default(),
        };
        let bytes = self.text.as_bytes();
        let (mut at, mut after_ten) = (0, false);
        while at < bytes.len() {
            let length = bytes[at..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
            let word = &self.text[at..at + length];
            let known = |table: &'static [(&str, &'static str)]| {
                table.iter().find(|(name, _)| *name == word).map(|(_, digits)| *digits)
            };
            // Its ten is taken back: two digits and what parts them.
            let ten = numbered.text.len().checked_sub(3).filter(|_| after_ten && length > 0);
            if let Some((digits, ten)) = known(AFTER_TEN).zip(ten) {
                numbered.text.truncate(ten);
                let place = (numbered.places[ten].0, self.places[at + length - 1].1);
                numbered.places.truncate(ten);
                digits.bytes().for_each(|digit| numbered.push(digit, place));
            } else if let Some(digits) = known(NUMBERS) {
                let place = (self.places[at].0, self.places[at + length - 1].1);
                digits.bytes().for_each(|digit| numbered.push(digit, place));
            } else {
                (at..at + length).for_each(|at| numbered.push(bytes[at], self.places[at]));
            }
            at += length;
            after_ten = word == "dix" && bytes.get(at).is_some_and(|byte| matches!(byte, b' ' | b'-'));
            if let Some(byte) = bytes.get(at).filter(|byte| !byte.is_ascii_alphabetic()) {
                numbered.push(*byte, self.places[at]);
                at += 1;
            }
        }
        Self { has: Has::of(&numbered.text), ..numbered }
    }

    /// Whether it has one of these in it; `0-9` is a digit, `6-19` such a number, `a.a` a dot within a word.
    pub(crate) fn has(&self, needs: &[&str]) -> bool {
        let is_there = |need: &&str| match *need {
            "0-9" => self.has.digit,
            "6-19" => self.has.age,
            "a.a" => self.has.dotted,
            need => self.text.contains(need),
        };
        needs.iter().any(is_there)
    }

    /// Where a part of it is in the original.
    pub(crate) fn place(&self, part: Range<usize>) -> Option<(u32, u32)> {
        let (first, last) = (self.places.get(part.start)?, self.places.get(part.end.checked_sub(1)?)?);
        Some((first.0, last.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits_and_what_is_not_seen_is_gone() {
        for (text, plain) in [
            ("Sixteen, SEIZE ans", "16, 16 ans"),
            ("dix-sept ans et dix huit", "17 ans et 18"),
            ("oh six twelve", "0 6 12"),
            ("ｅxample\u{200b}．ｃｏｍ", "example.com"),
            ("someone often", "someone often"),
            ("l’âge", "l'age"),
            ("a  b \n \r\n c\t\n", "a b\nc\n"),
            ("a 😘 b😘😘c \n😘 d", "a\u{b}b\u{b}c\nd"),
        ] {
            assert_eq!(Plain::new(text).text, plain, "{text}");
        }
        let plain = Plain::new("j'ai dix-sept ans");
        assert_eq!(plain.place(5..7), Some((5, 13)));
    }
}
