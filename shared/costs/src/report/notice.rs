//! How operators are told of a day: the totals, and the parts that matter most. Everything is in the files.

use huntaze_domain::money::Usd;
use huntaze_domain::notification::{Audience, Channel, Fact, Notification, Severity};
use jiff::Timestamp;

use super::{BudgetUse, Compared, Costs, DailyReport};
use crate::alert::{dollars, provider_name};
use crate::budget::Period;
use crate::savings::readable;
use crate::stats::ThresholdStatus;

/// Models that are named, and types of requests: a notification has at most 40 facts.
const MOST_NAMED: usize = 5;
/// More budgets than there can be: of a day and a month, of either provider and of both.
const MOST_BUDGETS: usize = 6;
/// A fact's name has at most so many characters, which a model's name may pass.
const LONGEST_NAME: usize = 100;

impl DailyReport {
    /// The report as a notification, under the same id whenever the day is reported. `files` is where all of it is.
    #[must_use]
    pub fn notification(&self, files: &[String], now: Timestamp) -> Notification {
        let status = self.budgets.iter().map(|one| ThresholdStatus::of(one.spent, Some(one.limit)));
        let near = status.into_iter().any(|status| status != ThresholdStatus::Normal);
        let day = self.day.day;
        Notification {
            id: format!("cost-daily-report:{day}"),
            kind: "cost_daily_report".to_owned(),
            severity: if near { Severity::Warning } else { Severity::Info },
            audience: Audience::Operators,
            channels: vec![Channel::Email, Channel::Slack],
            title: format!("Costs of {day}: {}", money(self.total.day.cost)),
            text: self.text(files),
            facts: self.facts(),
            link: None,
            timestamp: now,
        }
    }

    fn text(&self, files: &[String]) -> String {
        let day = self.day.day;
        let Compared { day: total, .. } = &self.total;
        let spent = if total.requests == 0 {
            format!("Nothing was spent on {day} (UTC): no model was called.")
        } else {
            let (requests, users) = (counted(total.requests, "request"), counted(self.users as u64, "user"));
            let (tokens, cost) = (counted(total.usage.total(), "token"), money(total.cost));
            format!("{cost} was spent on {day} (UTC), by {users}, for {requests} and {tokens}.")
        };
        let estimated = (total.estimated > 0).then(|| {
            let requests = counted(total.estimated, "request");
            format!("Booked at the upper bound, for the provider's numbers are not known: {requests}.")
        });
        let kept = format!("The whole report: {}", files.join(" "));
        let lines = [Some(spent), Some(self.against_the_day_before()), estimated, Some(kept)];
        lines.into_iter().flatten().collect::<Vec<_>>().join("\n")
    }

    fn against_the_day_before(&self) -> String {
        let costs = self.total.costs();
        format!("The day before: {}, a change of {}.", money(costs.before), change(costs))
    }

    fn facts(&self) -> Vec<Fact> {
        let Compared { day, before } = &self.total;
        let (failed, estimated) = (counted(day.failed, "request"), counted(day.estimated, "request"));
        let totals = [
            ("Cost", compared(self.total.costs())),
            ("Requests", format!("{} ({} the day before)", day.requests, before.requests)),
            ("Tokens", format!("{} ({} the day before)", day.usage.total(), before.usage.total())),
            ("Failed", failed),
            ("Estimated", estimated),
            ("Saved by caches", money(day.saved)),
            ("Month to date", money(self.month.cost)),
        ];
        let totals = totals.map(|(name, value)| fact(name, value));
        let budgets = self.budgets.iter().take(MOST_BUDGETS).map(budget);
        let providers = self.providers.iter().map(|(who, part)| fact(provider_name(*who), compared(part.costs())));
        let models = self.models.iter().take(MOST_NAMED);
        let models =
            models.map(|((who, model), part)| fact(&format!("{} {model}", who.as_str()), compared(part.costs())));
        let types = self.request_types.iter().take(MOST_NAMED);
        let types = types.map(|(kind, part)| fact(&format!("Type {kind}"), compared(part.costs())));
        let users = self.top_users.iter().zip(1..);
        // In the value, where the longest id has room.
        let users =
            users.map(|((user, costs), place)| fact(&format!("User {place}"), format!("{user}: {}", compared(*costs))));
        totals.into_iter().chain(budgets).chain(providers).chain(models).chain(types).chain(users).collect()
    }
}

fn fact(name: &str, value: String) -> Fact {
    Fact { name: one_line(name), value }
}

fn budget(budget: &BudgetUse) -> Fact {
    let period = match budget.period {
        Period::Day => "day",
        Period::Month => "month",
    };
    let provider = budget.provider.map_or_else(String::new, |who| format!(", {}", provider_name(who)));
    let used = budget.used_percent().map_or_else(String::new, |percent| format!(" ({percent} %)"));
    let open = match budget.reserved {
        Usd::ZERO => String::new(),
        reserved => format!(", {} reserved", money(reserved)),
    };
    let value = format!("{} of {}{used}{open}", money(budget.spent), money(budget.limit));
    fact(&format!("Budget of the {period}{provider}"), value)
}

fn compared(costs: Costs) -> String {
    format!("{} ({} the day before, {})", money(costs.day), money(costs.before), change(costs))
}

fn change(costs: Costs) -> String {
    let change = costs.change();
    let amount =
        if change < Usd::ZERO { format!("-{}", money(Usd::ZERO - change)) } else { format!("+{}", money(change)) };
    costs.change_percent().map_or(amount.clone(), |percent| format!("{amount}, {percent} %"))
}

/// An amount for a person: to the millionth of a dollar.
fn money(amount: Usd) -> String {
    dollars(readable(amount))
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// A name that the operator's configuration made, cut to fit; what ends or turns a line is replaced.
fn one_line(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let plain = text.chars().map(|c| if c.is_control() || turns(c) { char::REPLACEMENT_CHARACTER } else { c });
    if text.chars().count() <= LONGEST_NAME {
        return plain.collect();
    }
    plain.take(LONGEST_NAME - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use huntaze_domain::provider::Provider;
    use jiff::civil::date;

    use super::super::Reported;
    use super::super::tests::{budget, of_model, usage, usd, user};
    use super::*;
    use crate::ledger::LedgerEntry;

    fn told(entries: &[LedgerEntry], users: &[String], limit: &str) -> Notification {
        let users: Vec<_> = users.iter().map(|id| (user(id), usd("1"))).collect();
        let providers = [None, Some(Provider::Azure), Some(Provider::OpenAi)];
        let budgets: Vec<_> = [Period::Day, Period::Month]
            .into_iter()
            .flat_map(|period| providers.map(|provider| budget(period, provider, limit)))
            .collect();
        let report =
            DailyReport::of(Reported { day: date(2026, 11, 21) }, &usage(entries), users.clone(), users, &budgets);
        let files = [".json", ".csv"].map(|ending| format!("s3://{}/{}{ending}", "b".repeat(63), report.day.key()));
        report.notification(&files, "2026-11-22T00:15:00Z".parse().unwrap())
    }

    fn value<'a>(told: &'a Notification, name: &str) -> &'a str {
        told.facts.iter().find(|fact| fact.name == name).map_or("", |fact| fact.value.as_str())
    }

    #[test]
    fn a_day_is_told_in_plain_words() {
        let entries = [
            of_model(Provider::Azure, "gpt-4o", "1.5", "2026-11-21T10:00:00Z"),
            LedgerEntry { estimated: true, ..of_model(Provider::OpenAi, "o3", "0.25", "2026-11-21T11:00:00Z") },
            of_model(Provider::Azure, "gpt-4o", "2", "2026-11-20T10:00:00Z"),
        ];
        let told = told(&entries, &["ana".to_owned()], "7");
        assert_eq!((told.id.as_str(), told.kind.as_str()), ("cost-daily-report:2026-11-21", "cost_daily_report"));
        assert_eq!((told.title.as_str(), told.severity), ("Costs of 2026-11-21: $1.75", Severity::Info));
        let lines: Vec<_> = told.text.lines().collect();
        assert_eq!(lines[0], "$1.75 was spent on 2026-11-21 (UTC), by 1 user, for 2 requests and 622 tokens.");
        assert_eq!(lines[1], "The day before: $2.00, a change of -$0.25, -12.5 %.");
        assert_eq!(lines[2], "Booked at the upper bound, for the provider's numbers are not known: 1 request.");
        assert!(lines[3].ends_with("/cost-reports/2026/11/2026-11-21.csv"), "{}", lines[3]);
        assert_eq!(value(&told, "Cost"), "$1.75 ($2.00 the day before, -$0.25, -12.5 %)");
        assert_eq!(value(&told, "Month to date"), "$3.75");
        assert_eq!(value(&told, "Budget of the day"), "$1.75 of $7.00 (25 %), $0.25 reserved");
        assert_eq!(value(&told, "Budget of the month, Azure OpenAI"), "$3.50 of $7.00 (50 %), $0.25 reserved");
        assert_eq!(value(&told, "openai o3"), "$0.25 ($0.00 the day before, +$0.25)");
        assert_eq!(value(&told, "User 1"), "ana: $1.00 ($1.00 the day before, +$0.00, 0 %)");
    }

    #[test]
    fn a_day_without_costs_is_told_as_such() {
        let told = told(&[], &[], "7");
        assert_eq!(told.title, "Costs of 2026-11-21: $0.00");
        assert!(
            told.text.starts_with("Nothing was spent on 2026-11-21 (UTC): no model was called.\n"),
            "{}",
            told.text
        );
        assert_eq!(value(&told, "Cost"), "$0.00 ($0.00 the day before, +$0.00)");
    }

    #[test]
    fn a_budget_that_is_nearly_used_up_is_a_warning() {
        let entries = [of_model(Provider::Azure, "gpt-4o", "4", "2026-11-21T10:00:00Z")];
        assert_eq!(told(&entries, &[], "5").severity, Severity::Warning);
        assert_eq!(told(&entries, &[], "5.000001").severity, Severity::Info);
    }

    #[test]
    fn the_largest_report_keeps_every_bound_of_a_notification() {
        let most = "999999999999.999999999999";
        let entries: Vec<_> = (0..20)
            .flat_map(|n| {
                let odd = format!("{n}\u{202e}\n{}", "é".repeat(300));
                let of = |cost: &str, day: u8| LedgerEntry {
                    request_type: odd.clone(),
                    ..of_model(Provider::Azure, &odd, cost, &format!("2026-11-{day}T10:00:00Z"))
                };
                [of(most, 21), of("0.000000000001", 20)]
            })
            .collect();
        let users: Vec<_> = (0..20).map(|n| format!("{n:0>128}")).collect();
        let told = told(&entries, &users, "0.000000000001");
        let is_line = |text: &str, longest: usize| {
            let turns = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
            (1..=longest).contains(&text.chars().count()) && text.trim() == text && !text.contains(turns)
        };
        assert!(is_line(&told.title, 200) && told.text.chars().count() <= 4_000, "{told:?}");
        assert!((30..=40).contains(&told.facts.len()), "{}", told.facts.len());
        for fact in &told.facts {
            assert!(is_line(&fact.name, 100) && is_line(&fact.value, 300), "{fact:?}");
        }
    }
}
