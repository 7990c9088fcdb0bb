//! What came of an experiment, by variant.
//!
//! Users were dealt variants, not requests, and the requests of one user are alike: so a user is what is counted. A mean is the ratio of
//! two sums over users, and its variance is that of their residuals (the delta method; Cochran, Sampling Techniques, 6.5). Its 95 % interval
//! is Student's; that of a share is Wilson's, with as many requests as would have had that variance had each been of another user.

#![expect(clippy::float_arithmetic, reason = "means and intervals; nothing is booked by them")]

use std::collections::BTreeMap;

use huntaze_postgres::Database;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio_postgres::types::Type;

use crate::store::StoreError;

const EXPERIMENT: &str = include_str!("../sql/experiment.sql");
/// What is a share of requests; the others are means.
const SHARES: [&str; 4] = ["completed", "manualReview", "blocked", "fellBack"];
/// The normal distribution's 97.5th percentile.
const Z: f64 = 1.959_963_984_540_054;

/// Sums over a variant's users of one metric.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sums {
    users: i64,
    requests: f64,
    value: f64,
    values_squared: f64,
    products: f64,
    requests_squared: f64,
}

/// A mean or a share, and where it is with 95 % confidence; not said of fewer than two users.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Estimate {
    value: f64,
    bounds: Option<(f64, f64)>,
}

impl Sums {
    fn mean(self) -> f64 {
        self.value / self.requests
    }

    /// The variance of the mean; `None` of one user.
    fn variance(self) -> Option<f64> {
        let (users, mean) = (self.users as f64, self.mean());
        let residuals = self.values_squared - 2.0 * mean * self.products + mean * mean * self.requests_squared;
        // A sum of squares; what is below zero is rounding.
        (users > 1.0).then(|| users / (users - 1.0) * residuals.max(0.0) / (self.requests * self.requests))
    }

    fn estimate(self, is_share: bool) -> Estimate {
        let (mean, users) = (self.mean(), self.users as f64);
        let bounds = self.variance().map(|variance| match is_share {
            // Where all were alike, there may be as many who are not as users allow.
            true if variance == 0.0 => wilson(mean, users),
            true => wilson(mean, mean * (1.0 - mean) / variance),
            false => {
                let margin = students_t(users - 1.0) * variance.sqrt();
                (mean - margin, mean + margin)
            }
        });
        Estimate { value: mean, bounds }
    }
}

fn wilson(share: f64, of: f64) -> (f64, f64) {
    let (squared, of) = (Z * Z, of.max(1.0));
    let middle = (share + squared / (2.0 * of)) / (1.0 + squared / of);
    let margin = Z / (1.0 + squared / of) * (share * (1.0 - share) / of + squared / (4.0 * of * of)).sqrt();
    ((middle - margin).max(0.0), (middle + margin).min(1.0))
}

/// The 97.5th percentile of Student's t: exact for one and two degrees of freedom, by the Cornish-Fisher expansion above, which is within
/// 1 % from three on (Abramowitz and Stegun, 26.7.5).
fn students_t(freedom: f64) -> f64 {
    if freedom < 1.5 {
        return 12.706;
    }
    if freedom < 2.5 {
        return 4.303;
    }
    let odd = |power: i32| Z.powi(power);
    let first = (odd(3) + Z) / 4.0;
    let second = (5.0 * odd(5) + 16.0 * odd(3) + 3.0 * Z) / 96.0;
    let third = (3.0 * odd(7) + 19.0 * odd(5) + 17.0 * odd(3) - 15.0 * Z) / 384.0;
    Z + first / freedom + second / freedom.powi(2) + third / freedom.powi(3)
}

impl Estimate {
    fn to_json(self) -> Value {
        let (lower, upper) = self.bounds.unzip();
        json!({"value": self.value, "lower": lower, "upper": upper})
    }
}

/// `{<variant>: {users, requests, metrics: {<metric>: {value, lower, upper}}}}`; costs are in dollars, durations in milliseconds.
///
/// # Errors
/// [`StoreError`]
pub async fn outcomes(
    database: &Database,
    experiment: &str,
    since: Timestamp,
) -> Result<BTreeMap<String, Value>, StoreError> {
    let params = [(&experiment as _, Type::TEXT), (&since as _, Type::TIMESTAMPTZ)];
    let mut found: BTreeMap<String, (i64, i64, Map<String, Value>)> = BTreeMap::new();
    for row in database.query(EXPERIMENT, &params).await? {
        let (metric, users, requests): (String, i64, i64) = (row.get("metric"), row.get("users"), row.get("requests"));
        let sums = Sums {
            users,
            requests: requests as f64,
            value: row.get("value"),
            values_squared: row.get("values_squared"),
            products: row.get("products"),
            requests_squared: row.get("requests_squared"),
        };
        let estimate = sums.estimate(SHARES.contains(&metric.as_str())).to_json();
        let variant = found.entry(row.get("variant")).or_default();
        // Some metrics are not of every request.
        (variant.0, variant.1) = (variant.0.max(users), variant.1.max(requests));
        variant.2.insert(metric, estimate);
    }
    let shown = |(users, requests, metrics)| json!({"users": users, "requests": requests, "metrics": metrics});
    Ok(found.into_iter().map(|(variant, all)| (variant, shown(all))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(users: &[(f64, f64)]) -> Sums {
        let sum = |of: fn(&(f64, f64)) -> f64| users.iter().map(of).sum();
        Sums {
            users: i64::try_from(users.len()).unwrap(),
            requests: sum(|(_, requests)| *requests),
            value: sum(|(value, _)| *value),
            values_squared: sum(|(value, _)| value * value),
            products: sum(|(value, requests)| value * requests),
            requests_squared: sum(|(_, requests)| requests * requests),
        }
    }

    fn close(one: f64, other: f64, by: f64) {
        assert!((one - other).abs() < by, "{one} is not {other}");
    }

    #[test]
    fn students_quantiles_are_those_of_the_tables() {
        for (freedom, t) in
            [(1.0, 12.706), (2.0, 4.303), (3.0, 3.182), (5.0, 2.571), (10.0, 2.228), (30.0, 2.042), (1e9, 1.960)]
        {
            close(students_t(freedom), t, t / 100.0);
        }
    }

    #[test]
    fn a_mean_of_one_request_a_user_is_that_of_the_textbook() {
        let estimate = sums(&[(1.0, 1.0), (2.0, 1.0), (3.0, 1.0), (4.0, 1.0), (5.0, 1.0)]).estimate(false);
        close(estimate.value, 3.0, 1e-9);
        // The deviation is 1.5811, so the margin is 2.776 * 1.5811 / 5^0.5.
        let (lower, upper) = estimate.bounds.unwrap();
        close(lower, 3.0 - 1.963, 0.01);
        close(upper, 3.0 + 1.963, 0.01);
    }

    #[test]
    fn a_users_requests_count_as_one_user() {
        // Ten users with ten requests each, all alike: no more is known than of ten requests.
        let alike: Vec<_> = (0..10).map(|n| if n < 5 { (10.0, 10.0) } else { (0.0, 10.0) }).collect();
        let (lower, upper) = sums(&alike).estimate(true).bounds.unwrap();
        let (one, other) = wilson(0.5, 9.0);
        close(lower, one, 1e-6);
        close(upper, other, 1e-6);
        // Of a hundred users with one request each, much more.
        let many: Vec<_> = (0..100).map(|n| (f64::from(n % 2), 1.0)).collect();
        let (low, high) = sums(&many).estimate(true).bounds.unwrap();
        assert!(high - low < (upper - lower) / 2.0);
    }

    #[test]
    fn where_all_are_alike_it_is_not_certain() {
        let all: Vec<_> = (0..20).map(|_| (1.0, 1.0)).collect();
        let Estimate { value, bounds } = sums(&all).estimate(true);
        let (lower, upper) = bounds.unwrap();
        close(value, 1.0, 1e-9);
        close(upper, 1.0, 1e-9);
        close(lower, 0.839, 0.001);
        assert_eq!(sums(&[(1.0, 3.0)]).estimate(true).bounds, None, "one user says nothing of others");
    }
}
