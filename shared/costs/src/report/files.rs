//! The report as files: JSON, in which dollars are numbers, and CSV with every digit.

use rust_decimal::Decimal;
use serde_json::{Map, Value, json};

use super::{BudgetUse, Compared, Costs, DailyReport, Reported};
use crate::breakdown::cell;
use crate::rollup::Figures;
use crate::stats::ThresholdStatus;
use huntaze_dynamodb::ALL_PROVIDERS;

const COLUMNS: &str = "day,part,provider,name,requests,failedRequests,estimatedRequests,inputTokens,cachedInputTokens,outputTokens,\
                       cost,saved,costDayBefore,change,changePercent,limit,usedPercent\r\n";

impl Reported {
    /// Where its files are kept, without their endings: the same for each report of the day.
    #[must_use]
    pub fn key(self) -> String {
        format!("cost-reports/{:04}/{:02}/{}", self.day.year(), self.day.month(), self.day)
    }
}

impl DailyReport {
    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let providers = self.providers.iter().map(|(provider, part)| (provider.as_str().to_owned(), compared(part)));
        let models = self.models.iter().map(|((provider, model), part)| {
            with(json!({"provider": provider.as_str(), "model": model}), compared(part))
        });
        let request_types = self.request_types.iter().map(|(kind, part)| with(json!({"type": kind}), compared(part)));
        let users = self.top_users.iter().map(|(user, part)| {
            let costs = json!({"userId": user, "cost": part.day.to_json_number(), "dayBefore": {"cost": part.before.to_json_number()}});
            with(costs, change(*part))
        });
        json!({
            "day": self.day.day,
            "dayBefore": self.day.before(),
            "total": compared(&self.total),
            "providers": providers.collect::<Map<_, _>>(),
            "models": models.collect::<Vec<_>>(),
            "requestTypes": request_types.collect::<Vec<_>>(),
            "topUsers": users.collect::<Vec<_>>(),
            "users": self.users,
            "monthToDate": self.month.to_json(),
            "budgets": self.budgets.iter().map(budget).collect::<Vec<_>>(),
        })
    }

    /// As a table by RFC 4180: a row a part of the day. A cell that a part has nothing for is empty.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let mut table = COLUMNS.to_owned();
        let day = self.day.day;
        let mut row = |part: &str, provider: &str, name: &str, rest: String| {
            table += &format!("{day},{part},{provider},{},{rest}\r\n", cell(name));
        };
        row("total", ALL_PROVIDERS, "", compared_cells(&self.total));
        for (provider, part) in &self.providers {
            row("provider", provider.as_str(), "", compared_cells(part));
        }
        for ((provider, model), part) in &self.models {
            row("model", provider.as_str(), model, compared_cells(part));
        }
        for (kind, part) in &self.request_types {
            row("requestType", ALL_PROVIDERS, kind, compared_cells(part));
        }
        for (user, costs) in &self.top_users {
            row("user", ALL_PROVIDERS, user.as_str(), format!(",,,,,,{},,{},,", costs.day, change_cells(*costs)));
        }
        row("monthToDate", ALL_PROVIDERS, "", format!("{},,,,,", figures_cells(&self.month)));
        for budget in &self.budgets {
            let provider = budget.provider.map_or(ALL_PROVIDERS, |provider| provider.as_str());
            let used = text(budget.used_percent());
            row(
                "budget",
                provider,
                budget.period.as_str(),
                format!(",,,,,,{},,,,,{},{used}", budget.spent, budget.limit),
            );
        }
        table
    }
}

fn compared(part: &Compared) -> Value {
    with(with(part.day.to_json(), json!({"dayBefore": part.before.to_json()})), change(part.costs()))
}

fn change(costs: Costs) -> Value {
    json!({"change": costs.change().to_json_number(), "changePercent": costs.change_percent().map(number)})
}

fn budget(budget: &BudgetUse) -> Value {
    json!({
        "period": budget.period,
        "provider": budget.provider.map_or(ALL_PROVIDERS, |provider| provider.as_str()),
        "limit": budget.limit.to_json_number(),
        "spent": budget.spent.to_json_number(),
        "reserved": budget.reserved.to_json_number(),
        "usedPercent": budget.used_percent().map(number),
        "status": ThresholdStatus::of(budget.spent, Some(budget.limit)).as_str(),
    })
}

/// Per cents as a JSON number; their text is always one.
fn number(percent: Decimal) -> f64 {
    percent.to_string().parse().unwrap_or_default()
}

fn with(mut one: Value, other: Value) -> Value {
    if let (Value::Object(one), Value::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}

fn compared_cells(part: &Compared) -> String {
    format!("{},{},,", figures_cells(&part.day), change_cells(part.costs()))
}

fn figures_cells(figures: &Figures) -> String {
    let Figures { requests, failed, estimated, usage, cost, saved } = figures;
    let (input, cached, output) = (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens);
    format!("{requests},{failed},{estimated},{input},{cached},{output},{cost},{saved}")
}

fn change_cells(costs: Costs) -> String {
    format!("{},{},{}", costs.before, costs.change(), text(costs.change_percent()))
}

fn text(percent: Option<Decimal>) -> String {
    percent.map(|percent| percent.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use huntaze_domain::provider::Provider;
    use jiff::civil::date;

    use super::super::tests::{budget, of_model, usage, usd, user};
    use super::*;
    use crate::budget::Period;

    fn report() -> DailyReport {
        let usage = usage(&[
            of_model(Provider::Azure, "=cmd(\"x\"),1", "0.000000000003", "2026-11-21T10:00:00Z"),
            of_model(Provider::OpenAi, "gpt-4o", "2", "2026-11-20T10:00:00Z"),
        ]);
        let (users, before) = (vec![(user("@SUM(A1)"), usd("3"))], vec![(user("@SUM(A1)"), usd("6"))]);
        let budgets = [budget(Period::Day, None, "4"), budget(Period::Month, Some(Provider::OpenAi), "2")];
        DailyReport::of(Reported { day: date(2026, 11, 21) }, &usage, users, before, &budgets)
    }

    #[test]
    fn the_table_has_a_row_a_part_every_digit_and_no_formulas() {
        let table = report().to_csv();
        let rows: Vec<_> = table.split_terminator("\r\n").collect();
        let expected = [
            "2026-11-21,total,all,,1,0,0,300,256,11,0.000000000003,0.00032,2,-1.999999999997,-100,,",
            "2026-11-21,provider,azure,,1,0,0,300,256,11,0.000000000003,0.00032,0,0.000000000003,,,",
            "2026-11-21,provider,openai,,0,0,0,0,0,0,0,0,2,-2,-100,,",
            "2026-11-21,model,azure,\"'=cmd(\"\"x\"\"),1\",1,0,0,300,256,11,0.000000000003,0.00032,0,0.000000000003,,,",
            "2026-11-21,model,openai,gpt-4o,0,0,0,0,0,0,0,0,2,-2,-100,,",
            "2026-11-21,requestType,all,content_planning,1,0,0,300,256,11,0.000000000003,0.00032,2,-1.999999999997,-100,,",
            "2026-11-21,user,all,'@SUM(A1),,,,,,,3,,6,-3,-50,,",
            "2026-11-21,monthToDate,all,,2,0,0,600,512,22,2.000000000003,0.00064,,,,,",
            "2026-11-21,budget,all,day,,,,,,,0.000000000003,,,,,4,0",
            "2026-11-21,budget,openai,month,,,,,,,2,,,,,2,100",
        ];
        assert_eq!(rows[1..], expected);
        // None of the names here has a comma but the quoted one.
        let columns = COLUMNS.split(',').count();
        let plain = rows.iter().filter(|row| !row.contains('"'));
        plain.for_each(|row| assert_eq!(row.split(',').count(), columns, "{row}"));
    }

    #[test]
    fn json_has_both_days_and_no_per_cent_where_there_was_nothing() {
        let json = report().to_json();
        assert_eq!((&json["day"], &json["dayBefore"]), (&json!("2026-11-21"), &json!("2026-11-20")));
        assert_eq!(json["total"]["dayBefore"]["cost"], 2.0);
        assert_eq!(json["total"]["change"], -1.999_999_999_997);
        assert_eq!(json["providers"]["azure"]["changePercent"], Value::Null);
        assert_eq!(json["providers"]["openai"]["changePercent"], -100.0);
        let user = json!({"userId": "@SUM(A1)", "cost": 3.0, "dayBefore": {"cost": 6.0}, "change": -3.0, "changePercent": -50.0});
        assert_eq!(json["topUsers"], json!([user]));
        let of_day = &json["budgets"][0];
        assert_eq!(
            (&of_day["period"], &of_day["provider"], &of_day["status"]),
            (&json!("day"), &json!("all"), &json!("normal"))
        );
        let of_month = &json["budgets"][1];
        assert_eq!((&of_month["spent"], &of_month["usedPercent"]), (&json!(2.0), &json!(100.0)));
        assert_eq!((&of_month["reserved"], &of_month["status"]), (&json!(0.25), &json!("critical")));
    }

    #[test]
    fn a_day_has_one_place() {
        assert_eq!(Reported { day: date(2026, 3, 1) }.key(), "cost-reports/2026/03/2026-03-01");
    }
}
