//! The contract's shape. Dollars become JSON numbers here.

use huntaze_costs::breakdown::Breakdown;
use huntaze_costs::range::Range;
use huntaze_costs::savings::Potential;
use huntaze_domain::ids::UserId;
use huntaze_domain::money::Usd;
use jiff::civil::Date;
use serde_json::{Map, Value, json};

pub(crate) fn breakdown(range: &Range, breakdown: &Breakdown, potential: &Potential) -> Value {
    let providers = breakdown.providers.iter().map(|(provider, of_it)| (provider.as_str().to_owned(), of_it.to_json()));
    let models = breakdown.models.iter().map(|((provider, model), of_it)| {
        with(json!({"provider": provider.as_str(), "model": model}), of_it.to_json())
    });
    let request_types =
        breakdown.request_types.iter().map(|(kind, of_it)| with(json!({"type": kind}), of_it.to_json()));
    let daily = breakdown.daily.iter().map(
        |(date, provider, cost)| json!({"date": date, "provider": provider.as_str(), "cost": cost.to_json_number()}),
    );
    let hourly = breakdown.hourly.iter().map(|(date, hour, used)| {
        json!({"hour": moment(*date, *hour), "tokens": used.tokens, "cost": used.cost.to_json_number()})
    });
    json!({
        "timeRange": {"start": range.start(), "end": range.end()},
        "totalCost": breakdown.total.cost.to_json_number(),
        "totalRequests": breakdown.total.requests,
        "providers": providers.collect::<Map<_, _>>(),
        "models": models.collect::<Vec<_>>(),
        "requestTypes": request_types.collect::<Vec<_>>(),
        "savings": {
            "actualSavings": breakdown.total.saved.to_json_number(),
            "potentialSavings": potential.savings.to_json_number(),
            "optimizationRecommendations": potential.recommendations,
        },
        "trends": {"dailyCosts": daily.collect::<Vec<_>>(), "hourlyUsage": hourly.collect::<Vec<_>>()},
    })
}

pub(crate) fn users(users: &[(UserId, Usd)]) -> Value {
    users.iter().map(|(user, cost)| json!({"userId": user, "cost": cost.to_json_number()})).collect()
}

fn with(mut names: Value, figures: Value) -> Value {
    if let (Value::Object(names), Value::Object(figures)) = (&mut names, figures) {
        names.extend(figures);
    }
    names
}

fn moment(date: Date, hour: u8) -> String {
    format!("{date}T{hour:02}:00:00Z")
}
