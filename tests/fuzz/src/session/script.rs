//! What may stand between angles in an input's header.
//!
//! | form | becomes |
//! |---|---|
//! | `<token NAME>` | the token of this name (of an unknown name: one of them) |
//! | `<flip NAME BIT>` | the token with this one bit changed |
//! | `<part NAME FROM TO>` | a part of it, by byte |
//! | `<base64 TEXT>` | the text in base64url |
//! | `<hs256 HEADER\|CLAIMS>` | a token of any header and claims, signed with the shared secret |
//!
//! Everything else is itself.

use super::tokens::{self, Token};

/// A request grows no further: somewhat over the longest token that is read (64 KiB).
const MAX_EXPANDED_BYTES: usize = 70_000;

/// Expands one request's headers.
#[derive(Default)]
pub(super) struct Script {
    /// The tokens that the input made itself.
    pub(super) minted: Vec<Token>,
    length: usize,
}

impl Script {
    pub(super) fn expand(&mut self, value: &[u8]) -> Vec<u8> {
        let mut expanded = Vec::new();
        let mut rest = value;
        while let Some((before, inside, after)) = angles(rest) {
            expanded.extend_from_slice(before);
            match str::from_utf8(inside).ok().and_then(|form| self.form(form)) {
                Some(text) => expanded.extend_from_slice(&text),
                None => expanded.extend_from_slice(&rest[before.len()..rest.len() - after.len()]),
            }
            rest = after;
        }
        expanded.extend_from_slice(rest);
        self.length += expanded.len();
        if self.length > MAX_EXPANDED_BYTES { Vec::new() } else { expanded }
    }

    fn form(&mut self, form: &str) -> Option<Vec<u8>> {
        let (verb, rest) = form.split_once(' ')?;
        let mut words = rest.split(' ');
        let token = named(words.next().unwrap_or_default());
        let mut number = || words.next().and_then(|word| word.parse::<usize>().ok()).unwrap_or_default();
        match verb {
            "token" => Some(token?.text.clone().into_bytes()),
            "flip" => {
                let mut text = token?.text.clone().into_bytes();
                let bit = number() % (text.len() * 8);
                text[bit / 8] ^= 1 << (bit % 8);
                Some(text)
            }
            "part" => {
                let text = token?.text.as_bytes();
                let (from, to) = (number().min(text.len()), number().min(text.len()));
                Some(text.get(from..to).unwrap_or_default().to_vec())
            }
            "base64" => Some(tokens::base64url(rest).into_bytes()),
            "hs256" => {
                let (header, claims) = rest.split_once('|')?;
                let token = tokens::hs256(header, claims)?;
                let text = token.text.clone().into_bytes();
                self.minted.push(token);
                Some(text)
            }
            _ => None,
        }
    }
}

/// What stands before the first pair of angles, between them and behind them.
fn angles(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let open = text.iter().position(|byte| *byte == b'<')?;
    let close = open + text[open..].iter().position(|byte| *byte == b'>')?;
    Some((&text[..open], &text[open + 1..close], &text[close + 1..]))
}

/// The token of a name. A name that is none is taken for a number, so that a bent input still means something.
fn named(name: &str) -> Option<&'static Token> {
    let all = tokens::all();
    let sum = || name.bytes().map(usize::from).sum::<usize>();
    all.iter().find(|token| token.name == name).or_else(|| all.get(sum() % all.len().max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(value: &str) -> String {
        String::from_utf8(Script::default().expand(value.as_bytes())).unwrap()
    }

    #[test]
    fn forms_become_tokens_and_the_rest_is_itself() {
        let token = &named("v4-valid-minimal").unwrap().text;
        assert_eq!(expand("a=<token v4-valid-minimal>; b"), format!("a={token}; b"));
        assert_eq!(expand("<part v4-valid-minimal 0 4>.<part v4-valid-minimal 4 9999>"), {
            format!("{}.{}", &token[..4], &token[4..])
        });
        assert_eq!(expand("<flip v4-valid-minimal 8>"), format!("{}x{}", &token[..1], &token[2..]));
        assert_eq!(expand("<base64 {\"a\": 1}>"), "eyJhIjogMX0");
        assert_eq!(expand("<what is this> < <"), "<what is this> < <");
    }
}
