//! Disguises of a text as people make them, by machine. Which characters look like which comes from Unicode's own data (UTS 39, by unicode-security), and
//! not from the tables that they are tried against.

use std::collections::BTreeMap;

use unicode_normalization::UnicodeNormalization as _;
use unicode_security::confusable_detection::skeleton;

/// SplitMix64: the same disguises in every run.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.next() % of.len() as u64).unwrap_or_default()]
    }

    /// One in so many.
    fn hits(&mut self, one_in: u64) -> bool {
        self.next().is_multiple_of(one_in)
    }
}

/// The ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Confusables,
    MixedScripts,
    Styled,
    ZeroWidth,
    Leet,
    Spaced,
    Marks,
    Repeated,
    Accents,
}

impl Way {
    pub(crate) const ALL: [Self; 9] = [
        Self::Confusables,
        Self::MixedScripts,
        Self::Styled,
        Self::ZeroWidth,
        Self::Leet,
        Self::Spaced,
        Self::Marks,
        Self::Repeated,
        Self::Accents,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Confusables => "confusables (UTS 39)",
            Self::MixedScripts => "Cyrillic and Greek in between",
            Self::Styled => "styled letters (full width, mathematical, circled)",
            Self::ZeroWidth => "nothing visible in between",
            Self::Leet => "digits and signs for letters",
            Self::Spaced => "spaced out",
            Self::Marks => "marks in between",
            Self::Repeated => "letters repeated",
            Self::Accents => "accents and capitals",
        }
    }
}

/// Which characters look like each letter.
pub(crate) struct Lookalikes {
    confusable: BTreeMap<char, Vec<char>>,
    foreign: BTreeMap<char, Vec<char>>,
    styled: BTreeMap<char, Vec<char>>,
}

impl Lookalikes {
    pub(crate) fn new() -> Self {
        let prototype = |character: char| skeleton(&character.to_string()).collect::<String>();
        let letters: BTreeMap<String, char> = ('a'..='z').map(|letter| (prototype(letter), letter)).collect();
        let (mut confusable, mut foreign, mut styled) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for character in '\u{80}'..='\u{1FFFF}' {
            let compatible: String = character.nfkd().collect();
            if let Some(letter) =
                compatible.chars().next().filter(|letter| compatible.len() == 1 && letter.is_ascii_alphabetic())
            {
                styled.entry(letter.to_ascii_lowercase()).or_insert_with(Vec::new).push(character);
                continue;
            }
            let Some(letter) = letters.get(&prototype(character)) else { continue };
            confusable.entry(*letter).or_insert_with(Vec::new).push(character);
            if matches!(u32::from(character), 0x0370..=0x052F) {
                foreign.entry(*letter).or_insert_with(Vec::new).push(character);
            }
        }
        Self { confusable, foreign, styled }
    }

    /// A text in a disguise; `None` where this way changes nothing of it.
    pub(crate) fn disguise(&self, text: &str, way: Way, chance: &mut Chance) -> Option<String> {
        let replaced = |table: &BTreeMap<char, Vec<char>>, chance: &mut Chance, one_in: u64| {
            let one = |character: char| match table.get(&character) {
                Some(like) if one_in == 1 || !chance.hits(one_in) => *chance.one(like),
                _ => character,
            };
            text.chars().map(one).collect::<String>()
        };
        let disguised = match way {
            Way::Confusables => replaced(&self.confusable, chance, 3),
            Way::MixedScripts => replaced(&self.foreign, chance, 4),
            Way::Styled => replaced(&self.styled, chance, 1),
            Way::ZeroWidth => between(
                text,
                &["\u{200b}", "\u{200c}", "\u{200d}", "\u{2060}", "\u{feff}", "\u{ad}", "\u{34f}"],
                1,
                chance,
            ),
            Way::Leet => leet(text, chance),
            Way::Spaced => spaced(text, chance),
            Way::Marks => between(text, &[".", "-", "_", "*", "~", "·", "|"], 1, chance).replace('|', "."),
            Way::Repeated => text
                .chars()
                .flat_map(|letter| {
                    std::iter::repeat_n(
                        letter,
                        if letter.is_alphabetic() { 1 + usize::from(!chance.hits(3)) * 2 } else { 1 },
                    )
                })
                .collect(),
            Way::Accents => accents(text, chance),
        };
        (disguised != text).then_some(disguised)
    }
}

/// Something between the letters of each word.
fn between(text: &str, marks: &[&str], one_in: u64, chance: &mut Chance) -> String {
    let mut shown = String::new();
    let mut letters = text.chars().peekable();
    let mark = *chance.one(marks);
    while let Some(letter) = letters.next() {
        shown.push(letter);
        if letter.is_alphanumeric() && letters.peek().is_some_and(|next| next.is_alphanumeric()) && chance.hits(one_in)
        {
            shown.push_str(mark);
        }
    }
    shown
}

/// A space between the letters, and more between the words.
fn spaced(text: &str, chance: &mut Chance) -> String {
    let gap = *chance.one(&["  ", "   ", " / "]);
    let words = text.split(' ').map(|word| {
        word.chars().filter(|letter| letter.is_alphanumeric()).map(String::from).collect::<Vec<_>>().join(" ")
    });
    words.collect::<Vec<_>>().join(gap)
}

fn leet(text: &str, chance: &mut Chance) -> String {
    let one = |letter: char| {
        let like: &[char] = match letter {
            'a' => &['4', '@'],
            'e' => &['3'],
            'i' => &['1', '!'],
            'o' => &['0'],
            's' => &['5', '$'],
            't' => &['7'],
            'b' => &['8'],
            'g' => &['9'],
            _ => return letter,
        };
        if chance.hits(4) { letter } else { *chance.one(like) }
    };
    text.chars().map(one).collect()
}

fn accents(text: &str, chance: &mut Chance) -> String {
    let mut shown = String::new();
    for letter in text.chars() {
        if chance.hits(2) {
            shown.extend(letter.to_uppercase())
        } else {
            shown.push(letter)
        }
        if letter.is_alphabetic() && chance.hits(2) {
            shown.push(*chance.one(&['\u{300}', '\u{301}', '\u{302}', '\u{308}', '\u{327}', '\u{335}', '\u{489}']));
        }
    }
    shown
}
