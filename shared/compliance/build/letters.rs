//! Which Latin letters and digits a character looks like or stands for: its compatibility decomposition (NFKD), without marks, and where
//! that is none, the prototype of Unicode's confusables (UTS 39).

use std::fmt::Write as _;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;
use unicode_security::confusable_detection::skeleton;

/// Small capitals and other prototypes of UTS 39 that are no letters of ASCII, and what they look like.
#[rustfmt::skip]
const LOOKALIKES: &[(char, &str)] = &[
    ('ᴀ', "a"), ('ʙ', "b"), ('ᴄ', "c"), ('ᴅ', "d"), ('ᴇ', "e"), ('ꜰ', "f"), ('ɢ', "g"), ('ʜ', "h"), ('ɪ', "i"), ('ᴊ', "j"), ('ᴋ', "k"),
    ('ʟ', "l"), ('ᴍ', "m"), ('ɴ', "n"), ('ᴏ', "o"), ('ᴘ', "p"), ('ꞯ', "q"), ('ʀ', "r"), ('ꜱ', "s"), ('ᴛ', "t"), ('ᴜ', "u"), ('ᴠ', "v"),
    ('ᴡ', "w"), ('ʏ', "y"), ('ᴢ', "z"), ('ʋ', "u"), ('ß', "b"), ('ɛ', "e"), ('ᴎ', "n"), ('ᴙ', "r"), ('ʃ', "s"), ('ə', "e"), ('ɐ', "a"),
    ('ı', "i"), ('ȷ', "j"), ('ø', "o"), ('đ', "d"), ('ħ', "h"), ('ł', "l"), ('ŧ', "t"), ('æ', "ae"), ('œ', "oe"), ('þ', "p"), ('и', "n"),
    ('я', "r"), ('ш', "w"), ('щ', "w"), ('з', "3"), ('э', "3"), ('ч', "4"), ('ц', "u"), ('ю', "io"), ('ф', "o"), ('л', "n"), ('д', "a"),
    ('ж', "x"), ('б', "6"), ('г', "r"), ('п', "n"), ('т', "t"), ('м', "m"), ('н', "h"), ('к', "k"), ('в', "b"), ('λ', "a"), ('σ', "o"),
    ('ω', "w"), ('μ', "u"), ('π', "n"), ('θ', "o"), ('δ', "o"), ('ψ', "w"), ('ξ', "e"), ('ζ', "z"), ('ε', "e"), ('β', "b"), ('κ', "k"),
    ('η', "n"), ('χ', "x"), ('τ', "t"), ('乇', "e"), ('卂', "a"), ('丅', "t"), ('尺', "r"), ('工', "i"), ('口', "o"), ('丨', "i"),
];

/// A regular block of letters that has no decomposition: negative circled and squared ones, and regional indicators.
const BLOCKS: &[(u32, u32)] = &[(0x1F150, 26), (0x1F170, 26), (0x1F1E6, 26)];

/// The table as source: characters above ASCII in their order, each with what it stands for, at most four letters and digits.
pub(crate) fn table() -> String {
    let mut source = String::from("pub(crate) static LETTERS: &[(u32, [u8; 4])] = &[\n");
    // Ideographs and syllables stand for no letters, and are most of all characters.
    let is_one = |character: &char| {
        !matches!(u32::from(*character), 0x3400..0xA000 | 0xAC00..0xD7A4 | 0xE000..0xF900 | 0x20000..)
            || LOOKALIKES.iter().any(|(like, _)| like == character)
    };
    // A mark that looks like a letter when it stands alone, as the vowel signs of India that are a circle, is read as one.
    for character in ('\u{80}'..=char::MAX).filter(|character| is_one(character) && !is_joined(*character)) {
        if let Some(letters) = stands_for(character).filter(|letters| letters.len() <= 4) {
            let mut four = [0; 4];
            four[..letters.len()].copy_from_slice(letters.as_bytes());
            writeln!(source, "({:#x}, {four:?}),", u32::from(character)).expect("a text takes it");
        }
    }
    source + "];\n"
}

pub(crate) fn stands_for(character: char) -> Option<String> {
    let code = u32::from(character);
    if let Some((first, _)) = BLOCKS.iter().find(|(first, many)| (*first..first + many).contains(&code)) {
        let letter = char::from_u32(u32::from('a') + code - first)?;
        return Some(letter.to_string());
    }
    let decomposed = plain(&character.to_string());
    let letters: Option<String> =
        decomposed.chars().map(looks_like).collect::<Option<String>>().filter(|letters| !letters.is_empty());
    letters.or_else(|| looks_like(character)).filter(|letters| !letters.is_empty())
}

/// Whether it is shown on the letter before: a mark of Latin, Greek, Cyrillic, Hebrew or Arabic, or of all scripts.
fn is_joined(character: char) -> bool {
    is_combining_mark(character)
        && matches!(u32::from(character), 0..0x0900 | 0x1AB0..0x1B00 | 0x1DC0..0x1E00 | 0x20D0..0x2100 | 0xFE00..0xFE30)
}

/// Decomposed, without marks. As it is written: a capital may look like another letter than its small one.
fn plain(text: &str) -> String {
    text.nfkd().filter(|character| !is_combining_mark(*character)).collect()
}

fn looks_like(character: char) -> Option<String> {
    let known =
        |text: &str| text.chars().all(|character| character.is_ascii_alphanumeric()).then(|| text.to_lowercase());
    let listed = |text: &str| {
        let mut characters = text.chars();
        let (one, rest) = (characters.next()?, characters.next());
        let small = one.to_lowercase().next()?;
        LOOKALIKES.iter().find(|(like, _)| rest.is_none() && *like == small).map(|(_, letters)| (*letters).to_owned())
    };
    let own = character.to_string();
    if character.is_ascii() {
        return known(&own);
    }
    let prototype: String = skeleton(&own).collect();
    let prototype = if prototype == own { prototype } else { plain(&prototype) };
    // The prototype of an m is r and n.
    if prototype == "rn" {
        return Some("m".to_owned());
    }
    known(&prototype).filter(|text| !text.is_empty()).or_else(|| listed(&prototype)).or_else(|| listed(&own))
}
