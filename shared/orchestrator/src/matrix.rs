//! What may follow what stands in the way of a text: the whole matrix, in one table. Pure.
//!
//! [`crate::machine`] goes by it, `docs/matrix.md` shows it, and `docs/failures.md` plays it over the wire. In a line: the provider
//! (Azure → OpenAI → a kept text), the cost (a cheaper model → a kept text → a person), the rate (another → wait → another way), and a
//! refusal, which nobody else is asked to overrule.

use huntaze_domain::error::ErrorCode;

use crate::answer::Failure;

/// What stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// A call's end.
    Failed(Failure),
    /// The call's bound passes the request's `maxCost`.
    MaxCost,
    /// The call does not fit into the time that is left.
    Deadline,
    /// The model has no price: it is never taken for free.
    NoPrice,
}

/// Whether the same provider is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It would say the same.
    Never,
    /// Only where no other is left.
    Alone,
    /// Once, after a wait, before another is asked; where no other is left, as often as budget, time and money allow.
    Once,
}

/// Who else is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    /// Nobody.
    Nobody,
    /// Whoever costs less, or is of another budget.
    Cheaper,
    /// Whoever is next, at most so often.
    Next {
        /// The calls it gets.
        tries: u16,
    },
}

/// What there is where no provider is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// The text of the same request, made before and kept.
    Kept,
    /// Everybody is asked again later, where nobody waits for the answer and the workflow's time allows.
    Later,
    /// A person decides, for the types of work that are reviewed.
    Review,
}

/// What may follow, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alternatives {
    /// The same once more.
    pub again: Again,
    /// Another.
    pub other: Other,
    /// Where none is left.
    pub last: &'static [Last],
    /// What the client is told in the end.
    pub code: ErrorCode,
}

/// So often that other limits are met first.
const EVERY: u16 = u16::MAX;
/// The contract's fallback scenarios: how many calls the other provider gets.
const AFTER_TIMEOUT: u16 = 2;
const AFTER_RATE_LIMIT: u16 = 1;

impl Trigger {
    /// Its row of the matrix.
    #[must_use]
    pub fn alternatives(self) -> Alternatives {
        use Failure as F;
        use Last::{Kept, Later, Review};
        use Other::{Cheaper, Next, Nobody};
        let row = |again, other, last, code| Alternatives { again, other, last, code };
        let (unavailable, too_dear) = (ErrorCode::ProviderUnavailable, ErrorCode::CostLimitExceeded);
        let passes: &[Last] = &[Kept, Later, Review];
        let stays: &[Last] = &[Kept, Review];
        let next = |tries| Next { tries };
        match self {
            Self::Failed(F::Connect | F::Connection | F::Server) => row(Again::Once, next(EVERY), passes, unavailable),
            Self::Failed(F::Timeout) => row(Again::Alone, next(AFTER_TIMEOUT), passes, unavailable),
            Self::Failed(F::RateLimited | F::Paced) => row(Again::Alone, next(AFTER_RATE_LIMIT), passes, unavailable),
            Self::Failed(F::CircuitOpen) => row(Again::Never, next(EVERY), passes, unavailable),
            Self::Failed(F::QuotaExhausted | F::Misconfigured | F::InvalidAnswer | F::NoText | F::NotConfigured) => {
                row(Again::Never, next(EVERY), stays, unavailable)
            }
            Self::Failed(F::OverBudget) | Self::MaxCost => row(Again::Never, Cheaper, stays, too_dear),
            // Another might write what this one will not: it is not asked to.
            Self::Failed(F::Filtered | F::Declined) => {
                row(Again::Never, Nobody, &[Review], ErrorCode::ComplianceViolation)
            }
            // The rules have the last word, and the text is paid for.
            Self::Failed(F::Blocked) => row(Again::Never, Nobody, &[], ErrorCode::ComplianceViolation),
            Self::Failed(F::Rejected) => row(Again::Never, Nobody, &[], ErrorCode::InvalidRequest),
            Self::Failed(F::NotSent) | Self::Deadline => row(Again::Never, Nobody, stays, unavailable),
            // What was in the way before that goes on to be.
            Self::Failed(F::NotKept) => row(Again::Never, Nobody, &[], unavailable),
            // Found before anything is kept or called: a fault of the configuration, and said as one.
            Self::NoPrice => row(Again::Never, next(EVERY), &[], unavailable),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// The table of `docs/matrix.md`.
    fn table() -> String {
        let failures = Failure::ALL.into_iter().filter(|failure| *failure != Failure::NotKept);
        let mut triggers: Vec<_> = failures.map(Trigger::Failed).collect();
        triggers.extend([Trigger::MaxCost, Trigger::Deadline, Trigger::NoPrice]);
        let mut table = String::from(
            "| what stands in the way | the same again | another | where none is left | in the end |\n|---|---|---|---|---|\n",
        );
        for trigger in triggers {
            let name = match trigger {
                Trigger::Failed(failure) => format!("`{}`", failure.as_str()),
                Trigger::MaxCost => "over `maxCost`".to_owned(),
                Trigger::Deadline => "the deadline".to_owned(),
                Trigger::NoPrice => "no price is known".to_owned(),
            };
            let Alternatives { again, other, last, code } = trigger.alternatives();
            let again = match again {
                Again::Never => "no",
                Again::Alone => "only where no other is left",
                Again::Once => "once; more where no other is left",
            };
            let other = match other {
                Other::Nobody => "no".to_owned(),
                Other::Cheaper => "a cheaper one".to_owned(),
                Other::Next { tries: EVERY } => "the next".to_owned(),
                Other::Next { tries } => format!("the next, {tries} {}", if tries == 1 { "call" } else { "calls" }),
            };
            let last = last.iter().map(|last| match last {
                Last::Kept => "a kept text",
                Last::Later => "later, where nobody waits",
                Last::Review => "a person",
            });
            let last = last.collect::<Vec<_>>().join(", then ");
            let last = if last.is_empty() { "nothing" } else { &last };
            writeln!(table, "| {name} | {again} | {other} | {last} | `{}` |", code.as_str()).unwrap();
        }
        table
    }

    #[test]
    fn the_page_of_the_matrix_is_the_matrix() {
        let page = include_str!("../../../docs/matrix.md");
        let table = table();
        assert!(page.contains(&table), "docs/matrix.md should have:\n{table}");
    }

    #[test]
    fn a_refusal_is_nobody_elses_to_overrule() {
        for failure in [Failure::Filtered, Failure::Declined, Failure::Blocked, Failure::Rejected] {
            let Alternatives { again, other, last, .. } = Trigger::Failed(failure).alternatives();
            assert_eq!((again, other), (Again::Never, Other::Nobody), "{failure:?}");
            assert!(!last.contains(&Last::Kept) && !last.contains(&Last::Later), "{failure:?}");
        }
    }
}
