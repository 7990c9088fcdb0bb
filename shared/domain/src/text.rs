//! Texts that people are shown: what may stand in them wherever they go, a header of an e-mail among others.

/// One line of 1 to `longest` characters, without space around it. `None` for what is none.
#[must_use]
pub fn line(text: &str, longest: usize) -> Option<&str> {
    let text = text.trim();
    let fits = (1..=longest).contains(&text.chars().count()) && !text.chars().any(is_break);
    fits.then_some(text)
}

/// Lines of 1 to `longest` characters together, without space around them. `None` for what are none.
#[must_use]
pub fn lines(text: &str, longest: usize) -> Option<&str> {
    let text = text.trim();
    let fits = (1..=longest).contains(&text.chars().count());
    let plain = !text.chars().any(|c| is_break(c) && c != '\n');
    (fits && plain).then_some(text)
}

/// Control characters, and what Unicode adds to end a line or to turn the direction of what follows.
fn is_break(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_and_lines_are_plain() {
        assert_eq!((line(" one ", 3), line("one", 2), line(" ", 3)), (Some("one"), None, None));
        assert_eq!((line("one\ntwo", 9), lines("\none\ntwo\n", 7)), (None, Some("one\ntwo")));
        for odd in ["a\tb", "a\rb", "a\u{0}b", "a\u{2028}b", "a\u{202e}b"] {
            assert_eq!((line(odd, 9), lines(odd, 9)), (None, None), "{odd:?}");
        }
    }
}
