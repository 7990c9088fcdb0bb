//! What a day cost: by provider, model, request type and user, against the day before and everyone's budgets, and how
//! the month stands. Pure.

mod files;
mod notice;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use huntaze_domain::error::FieldFault;
use huntaze_domain::ids::UserId;
use huntaze_domain::money::Usd;
use huntaze_domain::provider::Provider;
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use rust_decimal::Decimal;
use serde_json::Value;

use crate::breakdown::Breakdown;
use crate::budget::{Budget, Period};
use crate::period::{Month, day_of};
use crate::range::{FIRST_DAY, Range};
use crate::rollup::{Figures, Spent};
use crate::usage::Usage;

/// So many users are listed, of those that spent most.
pub const TOP_USERS: usize = 10;

/// A day of UTC that is over, and the ranges that its report is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reported {
    /// The day.
    pub day: Date,
}

impl Reported {
    /// The day that an event asks for (`{"day": "2026-11-21"}`), or else the day before `now`.
    ///
    /// # Errors
    /// What is wrong with `day`: it is no date, or the day is not over.
    pub fn asked(event: &Value, now: Timestamp) -> Result<Self, FieldFault> {
        let today = day_of(now);
        let asked = event.get("day").filter(|asked| !asked.is_null());
        let Some(asked) = asked else { return Ok(Self { day: the_day_before(today) }) };
        let fault = |detail: String| FieldFault { pointer: "/day".to_owned(), detail };
        // The parser takes more than RFC 3339.
        let is_plain = |text: &&str| text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        let day: Option<Date> = asked.as_str().filter(is_plain).and_then(|text| text.parse().ok());
        let day = day.ok_or_else(|| fault("must be a date, such as 2026-11-21".to_owned()))?;
        if (FIRST_DAY..today).contains(&day) {
            Ok(Self { day })
        } else {
            Err(fault(format!("must be a day that is over in UTC, from {FIRST_DAY}: before {today}")))
        }
    }

    /// The day that it is held against.
    #[must_use]
    pub fn before(self) -> Date {
        the_day_before(self.day)
    }

    /// The day itself.
    #[must_use]
    pub fn range(self) -> Range {
        Range::of_days(self.day, self.day)
    }

    /// The day before.
    #[must_use]
    pub fn range_before(self) -> Range {
        Range::of_days(self.before(), self.before())
    }

    /// The days that are added up: the month until this day, and the day before.
    #[must_use]
    pub fn range_read(self) -> Range {
        Range::of_days(self.before().min(self.day.first_of_month()), self.day)
    }

    /// A moment of the day, for what is counted by periods.
    #[must_use]
    pub fn moment(self) -> Timestamp {
        self.range().start()
    }
}

fn the_day_before(day: Date) -> Date {
    day.saturating_sub(1.day())
}

/// What something cost on the day, and on the day before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Costs {
    /// On the day.
    pub day: Usd,
    /// On the day before.
    pub before: Usd,
}

impl Costs {
    /// How much more it cost; less is below zero.
    #[must_use]
    pub fn change(self) -> Usd {
        self.day - self.before
    }

    /// The same in per cent of the day before, to two places; absent where that cost nothing.
    #[must_use]
    pub fn change_percent(self) -> Option<Decimal> {
        percent(self.change(), self.before)
    }
}

/// What was counted on the day, and on the day before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compared {
    /// On the day.
    pub day: Figures,
    /// On the day before.
    pub before: Figures,
}

impl Compared {
    /// Its costs.
    #[must_use]
    pub fn costs(&self) -> Costs {
        Costs { day: self.day.cost, before: self.before.cost }
    }
}

/// How much of one of everyone's budgets was used, by the roll-ups: a budget that is younger than the day counted nothing then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetUse {
    /// In which time: the day, or the month until then.
    pub period: Period,
    /// At which provider; `None`: at both together.
    pub provider: Option<Provider>,
    /// The limit as it is set now.
    pub limit: Usd,
    /// What was spent.
    pub spent: Usd,
    /// What calls of the period that are not settled yet may cost.
    pub reserved: Usd,
}

impl BudgetUse {
    /// How much of it is spent, in per cent to two places; absent for a limit of nothing.
    #[must_use]
    pub fn used_percent(&self) -> Option<Decimal> {
        percent(self.spent, self.limit)
    }
}

fn percent(part: Usd, whole: Usd) -> Option<Decimal> {
    let hundredfold = part.to_decimal().checked_mul(Decimal::ONE_HUNDRED)?;
    Some(hundredfold.checked_div(whole.to_decimal())?.round_dp(2).normalize())
}

/// What operators are told of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DailyReport {
    /// Which day.
    pub day: Reported,
    /// Over everything.
    pub total: Compared,
    /// By provider; both are there.
    pub providers: BTreeMap<Provider, Compared>,
    /// By model, dearest first; those of the day before are among them.
    pub models: Vec<((Provider, String), Compared)>,
    /// By the workflow's type, as the models.
    pub request_types: Vec<(String, Compared)>,
    /// Those who spent most on the day, at most [`TOP_USERS`].
    pub top_users: Vec<(UserId, Costs)>,
    /// How many users spent something on the day.
    pub users: usize,
    /// The month until the day's end.
    pub month: Figures,
    /// Everyone's budgets, those of a day first.
    pub budgets: Vec<BudgetUse>,
}

impl DailyReport {
    /// Of the days of [`Reported::range_read`], the users of the day and of the day before, dearest first, and the budgets of
    /// [`Reported::moment`].
    #[must_use]
    pub fn of(
        day: Reported,
        usage: &Usage,
        users: Vec<(UserId, Usd)>,
        users_before: Vec<(UserId, Usd)>,
        budgets: &[Budget],
    ) -> Self {
        let (of_day, before) = (breakdown(usage, day.day), breakdown(usage, day.before()));
        let mut month = Figures::default();
        let mut spent_in_month = Spent::default();
        for (_, rollup) in usage.range(Month::of(day.day).first_day()..=day.day) {
            month += rollup.total;
            spent_in_month += rollup.spent;
        }
        let spent_on_day = usage.get(&day.day).map(|rollup| rollup.spent).unwrap_or_default();
        let used = |budget: &Budget| {
            let spent = match budget.key.period {
                Period::Day => spent_on_day,
                Period::Month => spent_in_month,
            };
            let (period, provider) = (budget.key.period, budget.key.provider);
            BudgetUse { period, provider, limit: budget.limit, spent: spent.of(provider), reserved: budget.reserved }
        };
        let before_of: HashMap<_, _> = users_before.into_iter().collect();
        let spenders = users.len();
        let costs = |(user, cost): (UserId, Usd)| {
            let before = before_of.get(&user).copied().unwrap_or_default();
            (user, Costs { day: cost, before })
        };
        Self {
            day,
            total: Compared { day: of_day.total, before: before.total },
            providers: compared(of_day.providers, before.providers).into_iter().collect(),
            models: compared(of_day.models, before.models),
            request_types: compared(of_day.request_types, before.request_types),
            top_users: users.into_iter().take(TOP_USERS).map(costs).collect(),
            users: spenders,
            month,
            budgets: budgets.iter().map(used).collect(),
        }
    }
}

fn breakdown(usage: &Usage, day: Date) -> Breakdown {
    Breakdown::of(&usage.get(&day).map(|rollup| (day, rollup.clone())).into_iter().collect())
}

/// What is in one or the other, dearest first.
fn compared<K: Ord>(
    day: impl IntoIterator<Item = (K, Figures)>,
    before: impl IntoIterator<Item = (K, Figures)>,
) -> Vec<(K, Compared)> {
    let mut parts: BTreeMap<K, Compared> = BTreeMap::new();
    day.into_iter().for_each(|(part, figures)| parts.entry(part).or_default().day = figures);
    before.into_iter().for_each(|(part, figures)| parts.entry(part).or_default().before = figures);
    let mut parts: Vec<_> = parts.into_iter().collect();
    // Stable: what cost the same stays in the order of its names.
    parts.sort_by_key(|(_, compared)| Reverse((compared.day.cost, compared.before.cost)));
    parts
}

#[cfg(test)]
mod tests {
    use huntaze_domain::provider::TokenUsage;
    use jiff::civil::date;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::budget::BudgetKey;
    use crate::ledger::LedgerEntry;
    use crate::owner::Owner;
    use crate::rollup::rollups_of;
    use crate::rollup::tests::entry;

    pub(super) fn usd(text: &str) -> Usd {
        Usd::parse(text).unwrap()
    }

    pub(super) fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    pub(super) fn usage(entries: &[LedgerEntry]) -> Usage {
        let mut usage = Usage::new();
        for entry in entries {
            *usage.entry(day_of(entry.started_at)).or_default() += &rollups_of(entry)[1].1;
        }
        usage
    }

    pub(super) fn budget(period: Period, provider: Option<Provider>, limit: &str) -> Budget {
        Budget {
            key: BudgetKey { owner: Owner::Everyone, period, provider },
            limit: usd(limit),
            spent: Usd::ZERO,
            reserved: usd("0.25"),
            starts_on: date(2026, 11, 1),
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    /// An entry of a model of a provider.
    pub(super) fn of_model(provider: Provider, model: &str, cost: &str, at: &str) -> LedgerEntry {
        LedgerEntry { provider, model: model.to_owned(), cost: usd(cost), ..entry("wf.1", "ana", at) }
    }

    fn asked(event: &Value) -> Result<Date, String> {
        let now = "2026-11-22T00:15:00Z".parse().unwrap();
        Reported::asked(event, now).map(|asked| asked.day).map_err(|fault| fault.pointer)
    }

    #[test]
    fn yesterday_is_reported_or_a_day_that_is_over() {
        for event in [json!({}), json!(null), json!({"day": null}), json!({"source": "aws.scheduler", "detail": "{}"})]
        {
            assert_eq!(asked(&event), Ok(date(2026, 11, 21)), "{event}");
        }
        for day in ["2026-11-21", "2026-11-01", "2000-01-01"] {
            assert_eq!(asked(&json!({ "day": day })), Ok(day.parse().unwrap()));
        }
        for bad in [
            json!("2026-11-22"),
            json!("2026-11-23"),
            json!("1999-12-31"),
            json!("2026-02-30"),
            json!("20261121"),
            json!("2026-11-21T00:00:00Z"),
            json!("+02026-11-21"),
            json!("yesterday"),
            json!(""),
            json!(20_261_121),
            json!(["2026-11-21"]),
        ] {
            assert_eq!(asked(&json!({ "day": bad })), Err("/day".to_owned()), "{bad}");
        }
    }

    #[test]
    fn the_month_until_the_day_and_the_day_before_are_read() {
        let read = |day: &str| {
            let range = Reported { day: day.parse().unwrap() }.range_read();
            assert_eq!(range.hours(), []);
            let (first, last) = range.touched();
            [first.to_string(), last.to_string()]
        };
        assert_eq!(read("2026-11-21"), ["2026-11-01", "2026-11-21"]);
        assert_eq!(read("2026-11-01"), ["2026-10-31", "2026-11-01"]);
        assert_eq!(read("2026-01-01"), ["2025-12-31", "2026-01-01"]);
    }

    #[test]
    fn a_change_is_exact_and_has_no_per_cent_where_there_was_nothing() {
        let change = |day: &str, before: &str| {
            let costs = Costs { day: usd(day), before: usd(before) };
            (costs.change().to_string(), costs.change_percent().map(|percent| percent.to_string()))
        };
        assert_eq!(change("3", "2"), ("1".to_owned(), Some("50".to_owned())));
        assert_eq!(
            change("0.000000000001", "0.000000000003"),
            ("-0.000000000002".to_owned(), Some("-66.67".to_owned()))
        );
        assert_eq!(change("0", "2"), ("-2".to_owned(), Some("-100".to_owned())));
        assert_eq!(change("2", "0"), ("2".to_owned(), None));
        assert_eq!(change("0", "0"), ("0".to_owned(), None));
        let most = change("1000000000000", "0.000000000001");
        assert_eq!(most.1.as_deref(), Some("99999999999999999999999900"));
    }

    #[test]
    fn parts_of_both_days_are_listed_dearest_first_and_budgets_by_their_period() {
        use Provider::{Azure, OpenAi};
        let usage = usage(&[
            of_model(Azure, "gpt-4o", "1.5", "2026-11-21T10:00:00Z"),
            of_model(OpenAi, "gpt-4o-mini", "2", "2026-11-21T23:59:59.999Z"),
            of_model(OpenAi, "o3", "4", "2026-11-20T00:00:00Z"),
            of_model(Azure, "gpt-4o", "0.5", "2026-11-20T12:00:00Z"),
            of_model(Azure, "gpt-4o", "8", "2026-11-01T12:00:00Z"),
        ]);
        let budgets = [
            budget(Period::Day, None, "7"),
            budget(Period::Month, Some(Azure), "20"),
            budget(Period::Month, None, "0"),
        ];
        let users = vec![(user("ana"), usd("3")), (user("bob"), usd("0.5"))];
        let before = vec![(user("cyd"), usd("4")), (user("bob"), usd("0.5"))];
        let report = DailyReport::of(Reported { day: date(2026, 11, 21) }, &usage, users, before, &budgets);
        assert_eq!(report.total.costs(), Costs { day: usd("3.5"), before: usd("4.5") });
        assert_eq!(report.month.cost, usd("16"));
        let models: Vec<_> = report.models.iter().map(|((_, model), part)| (model.as_str(), part.costs())).collect();
        let costs = |day, before| Costs { day: usd(day), before: usd(before) };
        let expected = [("gpt-4o-mini", costs("2", "0")), ("gpt-4o", costs("1.5", "0.5")), ("o3", costs("0", "4"))];
        assert_eq!(models, expected);
        assert_eq!(report.top_users, [(user("ana"), costs("3", "0")), (user("bob"), costs("0.5", "0.5"))]);
        let used: Vec<_> = report.budgets.iter().map(|one| (one.spent, one.used_percent())).collect();
        let expected = [("3.5", Some("50")), ("10", Some("50")), ("16", None)];
        assert_eq!(used, expected.map(|(spent, percent)| (usd(spent), percent.map(|text| text.parse().unwrap()))));
    }

    prop_compose! {
        fn any_entry()(day in 18..22, provider in 0_usize..2, model in 0..3, kind in 0..3, tokens in 0_u64..9_999,
            picos in 0_i64..1_000_000_000_000
        ) -> LedgerEntry {
            LedgerEntry {
                request_type: format!("kind_{kind}"),
                usage: TokenUsage { input_tokens: tokens, cached_input_tokens: tokens / 2, output_tokens: tokens / 3 },
                cost: Usd::try_from(Decimal::new(picos, 12)).unwrap(),
                ..of_model(Provider::ALL[provider], &format!("model-{model}"), "0", &format!("2026-11-{day}T12:30:00Z"))
            }
        }
    }

    proptest! {
        #[test]
        fn every_side_adds_up_to_both_days(entries in prop::collection::vec(any_entry(), 0..40)) {
            let report = DailyReport::of(Reported { day: date(2026, 11, 21) }, &usage(&entries), vec![], vec![], &[]);
            let on = |day: &str| {
                let mut total = Figures::default();
                let of_day = entries.iter().filter(|entry| entry.started_at.to_string().starts_with(day));
                of_day.for_each(|entry| total += Figures::of(entry));
                total
            };
            let total = Compared { day: on("2026-11-21"), before: on("2026-11-20") };
            let sum = |parts: &mut dyn Iterator<Item = Compared>| parts.fold(Compared::default(), |mut sum, part| {
                sum.day += part.day;
                sum.before += part.before;
                sum
            });
            prop_assert_eq!(report.total, total);
            prop_assert_eq!(sum(&mut report.providers.values().copied()), total);
            prop_assert_eq!(sum(&mut report.models.iter().map(|(_, part)| *part)), total);
            prop_assert_eq!(sum(&mut report.request_types.iter().map(|(_, part)| *part)), total);
            prop_assert_eq!(report.month, on("2026-11"));
        }
    }
}
