//! What must hold for any input from outside: four properties, each a function of the input's bytes.
//!
//! | property | what reads the input | what must hold |
//! |---|---|---|
//! | [`session`] | `Sessions::authenticate` | who is let in is who a model without cryptography lets in |
//! | [`body`] | `WorkflowIntent::parse` | what is accepted keeps every limit, what is refused says where |
//! | [`answer`] | `answer::read` and `AttemptIntent::settle` | a text is a text, nothing is free, nothing passes its bound |
//! | [`text`] | `judge`, `judge_for` and `quality` | findings point at characters, verdicts follow from them and from levels, nothing hides a word |
//!
//! `libfuzzer/` beside this crate calls them with what libFuzzer invents (`make fuzz`), and `tests/replay.rs` with every input of
//! `corpus/` (`make test`). A property panics where it does not hold, and says whether the input was accepted. None reads a clock.

pub mod answer;
pub mod body;
mod message;
pub mod session;
pub mod text;

/// No longer input is looked at. The readers' own bounds are larger and have tests of their own.
pub const MAX_INPUT_BYTES: usize = 64 * 1024;
