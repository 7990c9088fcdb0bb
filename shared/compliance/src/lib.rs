//! Whether a text may be sent: findings that say what, where and why, a verdict by the level, and a score. Pure: no clock, no store, no network.
//!
//! A text is folded into what whoever reads it sees (`fold`), the terms of the rules are looked for in it (`term`), and patterns in its plain form
//! (`plain`). The rules are data (`rules/*.toml`), made into tables when the crate is built.

mod fold;
pub mod history;
mod judge;
mod markup;
pub mod opinion;
mod own;
#[cfg(test)]
mod page;
mod plain;
mod quality;
mod rule;
mod term;

pub use judge::{Finding, Judgement, judge, judge_for};
pub use own::{MAX_WORDS, Own, WORD, is_word};
pub use quality::{Brief, Quality, quality};
pub use rule::{Action, Severity, VERSION};

#[cfg(test)]
mod tests;
