//! Which terms stand in a text, however they are written: letters repeated, spaced out, or with marks between them.
//!
//! A term is letters, ` ` where a gap must be, `'` where one may be, and `*` where a word may go on. The terms are sorted, so those that begin alike
//! are neighbours, and a whole range of them is followed at once.

use crate::fold::{Gap, Letters, Unit};

/// So many repetitions that the term does not have are meant: one alone makes `meet` of `met`.
const MEANT: u8 = 2;
/// A letter is repeated no more often than this: the same one is folded to fewer, and what only may be the same goes on for ever.
const MOST: u8 = 6;
/// No term is written with more units than these: what goes on for ever is not followed for ever.
const LONGEST: usize = 160;

/// Terms in their order.
pub(crate) trait Terms {
    /// How many there are.
    fn len(&self) -> usize;
    /// One of them.
    fn term(&self, number: usize) -> &[u8];
    /// Those whose first byte this is.
    fn first(&self, byte: u8) -> (usize, usize) {
        narrowed(self, (0, self.len()), 0, byte)
    }
}

/// Terms that are still possible, and how far they are matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    terms: (usize, usize),
    depth: usize,
    /// How many letters were repeated.
    repeated: u8,
    /// How often the last one was.
    here: u8,
}

/// Calls with each term that stands at a unit, and the first unit behind it.
pub(crate) fn each_at(all: &(impl Terms + ?Sized), units: &[Unit], from: usize, found: &mut impl FnMut(usize, usize)) {
    let mut states = Vec::with_capacity(8);
    let mut next = Vec::with_capacity(8);
    states.push(State { terms: (0, all.len()), depth: 0, repeated: 0, here: 0 });
    for (at, unit) in units.iter().enumerate().skip(from).take(LONGEST) {
        next.clear();
        for state in &states {
            step(all, *state, unit, at == from, &mut next);
        }
        std::mem::swap(&mut states, &mut next);
        if states.is_empty() {
            return;
        }
        let ends = units.get(at + 1).is_none_or(|unit| unit.gap > Gap::None || unit.is_mark || unit.is_spaced);
        for state in states.iter().filter(|state| state.repeated == 0 || state.repeated == MEANT) {
            whole(all, *state, ends, &mut |term| {
                if is_written(&units[from..=at]) {
                    found(term, at + 1);
                }
            });
        }
    }
}

/// Those of a range of terms that go on with a byte.
fn narrowed(all: &(impl Terms + ?Sized), (from, to): (usize, usize), depth: usize, byte: u8) -> (usize, usize) {
    let part = |from: usize, to: usize, is_before: &dyn Fn(u8) -> bool| {
        let (mut low, mut high) = (from, to);
        while low < high {
            let middle = low.midpoint(high);
            // One that ends here is before all that go on.
            if all.term(middle).get(depth).is_none_or(|one| is_before(*one)) { low = middle + 1 } else { high = middle }
        }
        low
    };
    let first = part(from, to, &|one| one < byte);
    (first, part(first, to, &|one| one == byte))
}

fn push(next: &mut Vec<State>, state: State) {
    if state.terms.0 < state.terms.1 && !next.contains(&state) {
        next.push(state);
    }
}

/// What follows from one more unit where so much of some terms is matched.
fn step(all: &(impl Terms + ?Sized), state: State, unit: &Unit, is_first: bool, next: &mut Vec<State>) {
    let within = unit.gap <= Gap::Mark || unit.is_spaced;
    let State { terms, depth, repeated, here } = state;
    if is_first {
        for letter in unit.letters.each() {
            push(next, State { terms: all.first(letter), depth: 1, repeated, here: 0 });
        }
        return;
    }
    if within
        && here < MOST
        && all.term(terms.0).get(depth - 1).is_some_and(|last| unit.letters.meets(Letters::of(*last)))
    {
        push(next, State { terms, depth, repeated: (repeated + 1).min(MEANT), here: here + 1 });
    }
    go_on(all, state, unit, within, next);
}

/// The letter of a unit, behind the gaps that a term has there.
fn go_on(
    all: &(impl Terms + ?Sized),
    State { terms, depth, repeated, .. }: State,
    unit: &Unit,
    may: bool,
    next: &mut Vec<State>,
) {
    if may {
        for letter in unit.letters.each() {
            push(next, State { terms: narrowed(all, terms, depth, letter), depth: depth + 1, repeated, here: 0 });
        }
    }
    let mut rest = terms.0;
    while rest < terms.1 {
        // Gaps are sorted before letters.
        let separator = match all.term(rest).get(depth) {
            None => {
                rest += 1;
                continue;
            }
            Some(separator @ (b' ' | b'\'' | b'*')) => *separator,
            Some(_) => break,
        };
        let behind = narrowed(all, (rest, terms.1), depth, separator);
        let may = match separator {
            b' ' => unit.gap >= Gap::Mark || unit.is_spaced,
            b'\'' => unit.gap < Gap::Line || unit.is_spaced,
            _ => may,
        };
        if separator == b'*' && unit.gap == Gap::None {
            push(next, State { terms: behind, depth, repeated, here: 0 });
        }
        go_on(all, State { terms: behind, depth: depth + 1, repeated, here: 0 }, unit, may, next);
        rest = behind.1;
    }
}

/// Calls with each term that is matched as a whole; `ends` says that a word does.
fn whole(all: &(impl Terms + ?Sized), State { terms, depth, .. }: State, ends: bool, found: &mut impl FnMut(usize)) {
    let mut each = |(from, to): (usize, usize), length: usize| {
        (from..to).take_while(|term| all.term(*term).len() == length).for_each(&mut *found)
    };
    // What ends here is before all that go on.
    if ends {
        each(terms, depth);
    }
    each(narrowed(all, terms, depth, b'*'), depth + 1);
}

/// Whether it is written in letters, most of it, or in words of letters with digits and signs among them: `505` is no call for help.
fn is_written(units: &[Unit]) -> bool {
    let letters = units.iter().filter(|unit| unit.is_letter).count();
    if letters * 2 >= units.len() {
        return true;
    }
    // A word that begins with a letter or goes on with one behind a sign.
    let is_mixed = |pair: &[Unit]| pair[1].gap == Gap::None && pair[0].is_letter != pair[1].is_letter;
    letters >= 2 && letters * 4 >= units.len() && units.windows(2).any(is_mixed)
}

/// Whether a word begins at a unit.
pub(crate) fn begins(units: &[Unit], at: usize) -> bool {
    let unit = &units[at];
    unit.gap > Gap::None || unit.is_spaced || at.checked_sub(1).is_some_and(|before| units[before].is_mark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::fold;

    impl Terms for &[&str] {
        fn len(&self) -> usize {
            <[&str]>::len(self)
        }

        fn term(&self, number: usize) -> &[u8] {
            self[number].as_bytes()
        }
    }

    /// Which of some sorted terms stand in a text, and where they end.
    fn standing<'a>(mut terms: &[&'a str], text: &str) -> Vec<(&'a str, usize)> {
        let (units, mut found) = (fold(text), Vec::new());
        let all: &mut &[&str] = &mut terms;
        for at in (0..units.len()).filter(|at| begins(&units, *at)) {
            each_at(all, &units, at, &mut |term, end| found.push((all[term], units[end - 1].end as usize)));
        }
        found
    }

    fn stands(term: &str, text: &str) -> bool {
        !standing(&[term], text).is_empty()
    }

    #[test]
    fn a_term_is_found_however_it_is_written() {
        for text in [
            "meet up",
            "Meet  up!",
            "MEET-UP",
            "m e e t u p",
            "m.e.e.t  u.p",
            "meeeeet uuup",
            "m33t up",
            "m€€t üp",
            "mee\u{200b}t up",
            "me.et up",
            "mмeet up?".trim_start_matches('m'),
            "let's meet up tonight",
            "(meet up)",
            "mmeett uupp",
        ] {
            assert!(stands("meet up", text), "{text}");
        }
        for text in ["met up", "meet uppercase", "meetup", "meet me up", "cameet up", "m e e"] {
            assert!(!stands("meet up", text), "{text}");
        }
    }

    #[test]
    fn one_letter_more_is_another_word() {
        assert!(
            !stands("met you", "meet you")
                && stands("met you", "meeet you")
                && !stands("bot", "boot")
                && stands("bot", "bbott")
        );
    }

    #[test]
    fn a_word_goes_on_where_it_may_and_parts_where_it_may() {
        assert!(
            stands("minor*", "minors")
                && !stands("minor", "minority")
                && stands("self'harm", "selfharm")
                && stands("self'harm", "self harm")
        );
        assert!(stands("meet* you", "meeting you") && !stands("meet* you", "meeting with you"));
        assert!(!stands("sos", "505") && stands("sos", "s0s"));
    }
}
