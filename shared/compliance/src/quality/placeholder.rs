//! What a model leaves for somebody to fill in. One pass over the brackets and one over the words; both are linear.

use std::borrow::Cow;
use std::ops::Range;

use super::lexicon::{FIELD, INSERT, NAME, WHOSE};
use super::words::Words;

/// What is longer than this within brackets is text, in bytes.
const LONGEST: usize = 80;
const MOST_WORDS: usize = 8;

/// Without brackets, with nothing but white space between the words.
const PHRASES: &[&[&str]] = &[
    &["lorem", "ipsum"],
    &["insert", "name"],
    &["insert", "link"],
    &["your", "name", "here"],
    &["your", "link", "here"],
    &["votre", "nom", "ici"],
    &["votre", "lien", "ici"],
];

/// Where placeholders are in a text, in their order; none overlaps another.
pub(super) fn places(text: &str) -> Vec<Range<usize>> {
    let mut found = bracketed(text);
    found.extend(bare(text));
    found.sort_unstable_by_key(|place| (place.start, place.end));
    found.dedup_by(|next, place| {
        let overlaps = next.start < place.end;
        if overlaps {
            place.end = place.end.max(next.end);
        }
        overlaps
    });
    found
}

/// The text with a space for each placeholder.
pub(super) fn without<'a>(text: &'a str, places: &[Range<usize>]) -> Cow<'a, str> {
    if places.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len());
    let mut from = 0;
    for place in places {
        kept.push_str(&text[from..place.start]);
        kept.push(' ');
        from = place.end;
    }
    kept.push_str(&text[from..]);
    Cow::Owned(kept)
}

/// `[name]`, `{name}`, `<name>`, `(insert name here)`, `%NAME%`. Of brackets of one kind only the innermost are looked into.
fn bracketed(text: &str) -> Vec<Range<usize>> {
    const OPENING: &[u8; 4] = b"[{<(";
    let bytes = text.as_bytes();
    let mut open = [None; 4];
    let mut percent = None;
    let mut found = Vec::new();
    for (at, byte) in bytes.iter().enumerate() {
        if *byte == b'%' {
            match percent.filter(|from| is_variable(bytes, *from, at)) {
                Some(from) => found.push(from..at + 1),
                None => percent = Some(at),
            }
        } else if let Some(kind) = OPENING.iter().position(|opening| opening == byte) {
            open[kind] = Some(at);
        } else if let Some(kind) = b"]}>)".iter().position(|closing| closing == byte)
            && let Some(from) = open[kind].take().filter(|from| at - from <= LONGEST)
            && is_placeholder(OPENING[kind], &text[from + 1..at], &bytes[at + 1..])
        {
            // `{{name}}` and `[[name]]` go as a whole: what stays of them would look like the end of a sentence.
            let before = bytes[..from].iter().rev().take_while(|other| **other == bytes[from]).count();
            let behind = bytes[at..].iter().take_while(|other| *other == byte).count();
            found.push(from - before..at + behind);
        }
    }
    found
}

/// `%NAME%`, and not `100%NAME%` or `%C3%`.
fn is_variable(bytes: &[u8], from: usize, to: usize) -> bool {
    let inner = &bytes[from + 1..to];
    let is_free = from.checked_sub(1).is_none_or(|before| !bytes[before].is_ascii_alphanumeric());
    let fits = (3..=LONGEST).contains(&inner.len()) && inner[0].is_ascii_alphabetic();
    is_free && fits && inner.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

fn is_placeholder(opening: u8, inner: &str, behind: &[u8]) -> bool {
    let is_link = matches!(behind, [b'(' | b'[', ..]) || behind.starts_with(b": http");
    match opening {
        _ if inner.contains(['\n', '=', '"']) || inner.contains("://") => false,
        b'{' => is_identifier(inner, behind.first() == Some(&b'}')),
        b'[' => !is_link && is_slot(inner),
        b'<' => {
            inner.starts_with(char::is_alphabetic) && !matches!(inner, "title" | "time" | "address") && is_slot(inner)
        }
        _ => is_request(inner),
    }
}

/// `fan`, `first_name`, `user.name`: nothing else is written within braces. A letter or two may be a face: `{o_o}`; not if the braces are double.
fn is_identifier(inner: &str, is_double: bool) -> bool {
    let name = inner.trim().trim_start_matches(['#', '/', '^', '&', '$', '%']);
    let letters = name.chars().filter(|character| character.is_alphabetic()).count();
    let is_of_it = |character: char| character.is_alphanumeric() || " _.-'’|/".contains(character);
    letters >= if is_double { 1 } else { 3 } && name.starts_with(char::is_alphabetic) && name.chars().all(is_of_it)
}

/// Whether what is within brackets asks for something to be put there.
fn is_slot(inner: &str) -> bool {
    let words = Words::of(inner);
    let [first, rest @ ..] = words.all.as_slice() else { return false };
    let last = rest.last().unwrap_or(first);
    let of = |next| matches!(words.text(next), "of" | "du" | "de" | "des" | "d" | "s" | "here" | "ici");
    let has_low_line = inner.contains('_');
    let is_constant =
        has_low_line && inner.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    let is_named = last.kinds & NAME != 0 || first.kinds & NAME != 0 && rest.first().is_some_and(of);
    let is_field = last.kinds & FIELD != 0 && (rest.is_empty() || has_low_line);
    let is_asked = words.has(INSERT) || first.kinds & WHOSE != 0;
    words.all.len() <= MOST_WORDS && (is_constant || is_named || is_field || is_asked)
}

/// `insert … here`: round brackets are read out, and hold much else.
fn is_request(inner: &str) -> bool {
    let words = Words::of(inner);
    let ends = |last| matches!(words.text(last), "here" | "ici") || last.kinds & NAME != 0;
    words.all.first().is_some_and(|first| first.kinds & INSERT != 0) && words.all.last().is_some_and(ends)
}

/// `TODO`, `XXXX`, `$XX`, `Lorem ipsum`.
fn bare(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut last: [Range<usize>; 3] = [0..0, 0..0, 0..0];
    let mut start = None;
    for (at, character) in text.char_indices().chain([(text.len(), ' ')]) {
        match (start, character.is_alphanumeric() || character == '_') {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                start = None;
                last.rotate_left(1);
                last[2] = from..at;
                if is_mark(text, from..at) {
                    found.push(from..at);
                }
                found.extend(PHRASES.iter().find_map(|phrase| ends_with(text, &last, phrase)));
            }
            _ => {}
        }
    }
    found
}

/// A word in capitals that stands for something else. `xxxx` are kisses.
fn is_mark(text: &str, place: Range<usize>) -> bool {
    let word = &text[place.clone()];
    let is_price = || {
        let behind = text[place.end..].trim_start_matches([' ', '\u{A0}', '\u{202F}']);
        // `XX %NAME%`: kisses stand before another placeholder, no price.
        let percent = text.len() - behind.len();
        let is_name = |other: usize| is_variable(text.as_bytes(), percent, percent + 1 + other);
        let is_percent = behind.strip_prefix('%').is_some_and(|rest| !rest.find('%').is_some_and(is_name));
        text[..place.start].ends_with(['$', '€', '£']) || behind.starts_with(['$', '€', '£']) || is_percent
    };
    match word {
        "TODO" | "TBD" | "FIXME" => true,
        _ if !word.bytes().all(|byte| byte == b'X') => false,
        _ => word.len() >= 4 || word.len() >= 2 && is_price(),
    }
}

/// Where the phrase is, if the last words are it.
fn ends_with(text: &str, last: &[Range<usize>; 3], phrase: &[&str]) -> Option<Range<usize>> {
    let words = &last[last.len() - phrase.len()..];
    let is_same = words.iter().zip(phrase).all(|(place, word)| text[place.clone()].eq_ignore_ascii_case(word));
    let is_apart = |pair: &[Range<usize>]| text[pair[0].end..pair[1].start].chars().all(char::is_whitespace);
    (is_same && words.windows(2).all(is_apart)).then(|| words[0].start..words[words.len() - 1].end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_filled_in_is_found_as_a_whole() {
        for (text, place) in [
            ("Hey [Name], how are you?", "[Name]"),
            ("Hey [first_name]!", "[first_name]"),
            ("Hey [FAN_NICKNAME]!", "[FAN_NICKNAME]"),
            ("Hey [Fan's Name]!", "[Fan's Name]"),
            ("Hey {{name}}!", "{{name}}"),
            ("Hey {{ user.first_name }}!", "{{ user.first_name }}"),
            ("Hey {fan}!", "{fan}"),
            ("Hey {first_name}!", "{first_name}"),
            ("Hey <name>!", "<name>"),
            ("Hey <insert name>!", "<insert name>"),
            ("Hey %NAME%!", "%NAME%"),
            ("Only 5% left, %first_name%", "%first_name%"),
            ("Love, XX %first_name%", "%first_name%"),
            ("Here: [insert link here]", "[insert link here]"),
            ("Here: [insert a short and spicy teaser]", "[insert a short and spicy teaser]"),
            ("Here: (insert link here)", "(insert link here)"),
            ("Here: [link]", "[link]"),
            ("Here: [payment link]", "[payment link]"),
            ("On [date] in [your city]", "[date]|[your city]"),
            ("Coucou [votre prénom] !", "[votre prénom]"),
            ("Coucou [Prénom] !", "[Prénom]"),
            ("Coucou [prénom du fan] !", "[prénom du fan]"),
            ("Le lien : [insérez le lien ici]", "[insérez le lien ici]"),
            ("Coucou <prénom> !", "<prénom>"),
            ("Coucou {prénom} !", "{prénom}"),
            ("À [ville] le [date]", "[ville]|[date]"),
            ("[[name]]", "[[name]]"),
            ("[{name}]", "[{name}]"),
            ("[a [name]", "[name]"),
            ("It costs XXXX today", "XXXX"),
            ("It costs $XX today", "XX"),
            ("XX % off", "XX"),
            ("Get XX%OFF", "XX"),
            ("XX%off and 5%back", "XX"),
            ("XX % of 50%", "XX"),
            ("XX\u{A0}€ de moins", "XX"),
            ("Lorem ipsum dolor", "Lorem ipsum"),
            ("LOREM\nIPSUM", "LOREM\nIPSUM"),
            ("Love, your name here", "your name here"),
            ("Signé : votre nom ici", "votre nom ici"),
            ("TODO: a better end", "TODO"),
            ("See you at TBD", "TBD"),
        ] {
            let found: Vec<&str> = places(text).into_iter().map(|place| &text[place]).collect();
            assert_eq!(found.join("|"), place, "{text}");
        }
    }

    #[test]
    fn what_looks_like_one_is_left() {
        for text in [
            "[18+] New set",
            "[F25] hello",
            "[OC] me at the beach",
            "[x] done",
            "[ ] open",
            "[1] see below",
            "[...] and then",
            "[NSFW][video]",
            "[laughs] you are funny",
            "[Link in bio]",
            "[lien en bio]",
            "[date night] set",
            "[Day 1] Instagram",
            "[Jour 2] Reddit",
            "[New] [Free trial]",
            "[XXX] clip",
            "[my page](https://example.com)",
            "[name](https://example.com/name)",
            "[link][1] and [link]: https://example.com",
            "![name](a.png)",
            "I <3 you and your name >:)",
            "<3 <3 <3",
            "a < b and your name > c",
            ">_< your name >_<",
            "<b>your</b> <i>night</i>",
            "<a name=\"x\">",
            "<br/>",
            "<https://example.com/name>",
            "(.)(.)",
            "( . Y . )",
            "{}",
            "{o_o}",
            "{ ^_^ }",
            "{\"name\": \"x\"}",
            "(your name is lovely)",
            "(insert coin)",
            "100%natural and 50%off%",
            "a%20name%20b",
            "50% of you, 30% of me",
            "/caf%C3%A9",
            "%%%",
            "xxxx Mia",
            "love you xx",
            "size XXL, Super Bowl XXX, XX",
            "todo mi amor",
            "Todo bien",
            "ipsum lorem",
            "your name, here",
            "insert [18+] name",
            "What is your name?",
            "Quel est ton prénom ?",
            "  /\\_/\\\n ( o.o )\n  > ^ <",
            "¯\\_(ツ)_/¯",
            "(づ｡◕‿‿◕｡)づ",
            "]name[",
            "[]",
            "[",
            "<>",
            "[name\nhere]",
            "",
        ] {
            let found: Vec<&str> = places(text).into_iter().map(|place| &text[place]).collect();
            assert_eq!(found, Vec::<&str>::new(), "{text}");
        }
    }

    #[test]
    fn they_are_taken_out() {
        let text = "Hey [name], {{x}} see %LINK% TODO";
        assert_eq!(without(text, &places(text)), "Hey  ,   see    ");
        assert!(matches!(without("Hey", &[]), Cow::Borrowed("Hey")));
    }
}
