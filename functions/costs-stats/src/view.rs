//! The contract's shape. Dollars become JSON numbers here.

use huntaze_costs::rollup::Spent;
use huntaze_costs::stats::Stats;
use huntaze_domain::ids::UserId;
use huntaze_domain::money::Usd;
use huntaze_domain::provider::Provider;
use rust_decimal::Decimal;
use serde_json::{Map, Value, json};

pub(crate) fn stats(stats: &Stats, top: Option<&[(UserId, Usd, Usd)]>) -> Value {
    let standing = &stats.standing;
    let (day, hour, month) = (&standing.day, &standing.hour, &standing.month);
    let ratio = stats.ratio.iter().map(|(provider, share)| (provider.as_str().to_owned(), number(*share)));
    let mut data = json!({
        "realTime": {
            "todayTotal": day.total.cost.to_json_number(),
            "thisHourTotal": hour.total.cost.to_json_number(),
            "providerBreakdown": by_provider(day.spent),
            "todayRequests": day.total.requests,
            "todayTokens": day.total.usage.total(),
        },
        "monthly": {
            "totalCost": month.total.cost.to_json_number(),
            "providers": by_provider(month.spent),
            "savings": month.total.saved.to_json_number(),
            "daysInMonth": stats.days_in_month,
            "requests": month.total.requests,
        },
        "trends": {
            "dailyAverage": stats.daily_average.to_json_number(),
            "hourlyAverage": stats.hourly_average.to_json_number(),
            "providerRatio": ratio.collect::<Map<_, _>>(),
        },
        "alerts": {
            "todayThresholdStatus": stats.today.as_str(),
            "monthlyThresholdStatus": stats.monthly.as_str(),
        },
    });
    if let Some(top) = top {
        data["realTime"]["topUsers"] = top.iter().map(user).collect();
    }
    data
}

fn by_provider(spent: Spent) -> Value {
    let costs = Provider::ALL.map(|who| (who.as_str().to_owned(), json!(spent.of(Some(who)).to_json_number())));
    costs.into_iter().collect::<Map<_, _>>().into()
}

fn user((user, today, month): &(UserId, Usd, Usd)) -> Value {
    json!({"userId": user, "cost": today.to_json_number(), "monthCost": month.to_json_number()})
}

/// A share as a JSON number; its text is always one.
fn number(share: Decimal) -> Value {
    share.normalize().to_string().parse::<f64>().unwrap_or_default().into()
}
