//! When a service wants to be asked again, in every form that those whom we call say it. Pure.
//!
//! | form | example | who says it |
//! |---|---|---|
//! | `retry-after-ms` | `1500` | Azure OpenAI |
//! | `retry-after` | `20`, `Wed, 21 Oct 2026 07:28:00 GMT` | all (RFC 9110, all three forms of a date) |
//! | words in the error | `Please retry after 20 seconds`, `Please try again in 6m0s` | Azure OpenAI, OpenAI |
//! | `x-ratelimit-reset-requests`, `-tokens` | `1s`, `6m0s`, `120ms`, `20` | OpenAI, Azure OpenAI |
//!
//! The first that can be read counts, in this order: from the most exact to the vaguest.

use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;

/// A longer wait is no wait: whoever says so is taken for saying this.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How long to wait; a day at most. `limited`: a limit was met (services tell the state of their limits with every answer, which says
/// nothing of another failure). `message` are the error's own words, `now` the wall clock at the answer.
#[must_use]
pub fn retry_after(headers: &HeaderMap, limited: bool, message: Option<&str>, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let wait = text("retry-after-ms")
        .and_then(|text| amount(text, 1))
        .or_else(|| text("retry-after").and_then(|text| seconds_or_date(text, text_date(headers), now)))
        .or_else(|| message.and_then(in_words))
        .or_else(|| reset(&text).filter(|_| limited));
    wait.map(|wait| wait.min(LONGEST))
}

/// The limits whose rest is 0 decide; where no rest is said, all of them do. Of several the longest.
fn reset<'a>(text: &impl Fn(&str) -> Option<&'a str>) -> Option<Duration> {
    let limits = ["requests", "tokens"].map(|what| {
        let used_up =
            text(&format!("x-ratelimit-remaining-{what}")).map(|rest| rest.parse::<i64>().is_ok_and(|n| n <= 0));
        let wait =
            text(&format!("x-ratelimit-reset-{what}")).and_then(|text| span(text).or_else(|| amount(text, 1_000)));
        (used_up, wait)
    });
    let decides = |wanted: &[Option<bool>]| {
        limits.iter().filter(|(used_up, _)| wanted.contains(used_up)).filter_map(|(_, wait)| *wait).max()
    };
    decides(&[Some(true)]).or_else(|| decides(&[None])).or_else(|| decides(&[Some(false)]))
}

fn text_date(headers: &HeaderMap) -> Option<Timestamp> {
    headers.get(http::header::DATE).and_then(|value| value.to_str().ok()).and_then(http_date)
}

/// A date counts from the answer's own `Date` where there is one: the two clocks may differ.
fn seconds_or_date(text: &str, answered: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    amount(text, 1_000).or_else(|| {
        let wait = http_date(text)?.duration_since(answered.unwrap_or(now));
        Some(Duration::try_from(wait).unwrap_or_default())
    })
}

fn http_date(text: &str) -> Option<Timestamp> {
    httpdate::parse_http_date(text).ok()?.try_into().ok()
}

/// A plain decimal number of units of `millis` each; what is shorter than a millisecond is rounded up.
fn amount(text: &str, millis: u64) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    // More digits than this are a time that nobody waits for.
    let whole: u64 = whole.parse().unwrap_or(u64::MAX);
    let thousandths = fraction.bytes().chain(*b"000").take(3).fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    let micros = whole.saturating_mul(millis).saturating_mul(1_000).saturating_add(thousandths * millis);
    Some(Duration::from_millis(micros.div_ceil(1_000)))
}

/// A span such as `1h2m3.5s`, `6m0s` or `120ms`.
fn span(text: &str) -> Option<Duration> {
    let (mut rest, mut sum) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (digits, tail) = rest.split_at(number);
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (name, tail) = tail.split_at(unit);
        sum = sum.saturating_add(match name {
            "us" | "µs" | "ns" => amount(digits, 1).map(|_| Duration::from_millis(1))?,
            name => amount(digits, millis_of(name)?)?,
        });
        rest = tail;
    }
    (!text.is_empty()).then_some(sum)
}

fn millis_of(unit: &str) -> Option<u64> {
    match unit {
        "ms" | "millisecond" | "milliseconds" => Some(1),
        "s" | "sec" | "secs" | "second" | "seconds" => Some(1_000),
        "m" | "min" | "mins" | "minute" | "minutes" => Some(60_000),
        "h" | "hour" | "hours" => Some(3_600_000),
        _ => None,
    }
}

/// `… retry after 20 seconds …`, `… try again in 6m0s.`
fn in_words(message: &str) -> Option<Duration> {
    let lower = message.to_ascii_lowercase();
    let after = ["retry after ", "try again in ", "retry in "];
    let (start, opening) = after.iter().filter_map(|opening| Some((lower.find(opening)?, opening))).min()?;
    let mut words =
        lower[start + opening.len()..].split_whitespace().map(|word| word.trim_end_matches(['.', ',', ';', '!']));
    let first = words.next()?;
    span(first).or_else(|| amount(first, millis_of(words.next()?)?))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T10:00:00Z".parse().unwrap()
    }

    fn wait(headers: &[(&str, &str)], message: Option<&str>) -> Option<u128> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap()));
        retry_after(&headers.collect(), true, message, now()).map(|wait| wait.as_millis())
    }

    #[test]
    fn every_form_is_understood() {
        for (name, value, millis) in [
            ("retry-after-ms", "1500", 1_500),
            ("retry-after-ms", "0.2", 1),
            ("retry-after", "20", 20_000),
            ("retry-after", "1.5", 1_500),
            ("retry-after", "0", 0),
            ("retry-after", "Sat, 21 Nov 2026 10:00:30 GMT", 30_000),
            ("retry-after", "Saturday, 21-Nov-26 10:00:30 GMT", 30_000),
            ("retry-after", "Sat Nov 21 10:00:30 2026", 30_000),
            ("retry-after", "Sat, 21 Nov 2026 09:59:00 GMT", 0),
            ("x-ratelimit-reset-requests", "6m0s", 360_000),
            ("x-ratelimit-reset-tokens", "120ms", 120),
            ("x-ratelimit-reset-tokens", "1h0m1.5s", 3_601_500),
            ("x-ratelimit-reset-requests", "20", 20_000),
            ("x-ratelimit-reset-requests", "900µs", 1),
            ("retry-after", "99999999999999999999999", LONGEST.as_millis()),
        ] {
            // A header's bytes need not be text that we read.
            if value.is_ascii() {
                assert_eq!(wait(&[(name, value)], None), Some(millis), "{name}: {value}");
            }
        }
        for (message, millis) in [
            ("… exceeded token rate limit. Please retry after 20 seconds. Please go here: …", 20_000),
            ("Rate limit reached for gpt-4o. Please try again in 6m0s. Visit …", 360_000),
            ("Please try again in 120ms.", 120),
            ("Rate limit is exceeded. Try again in 1 minute.", 60_000),
            ("Please retry after 1 second.", 1_000),
        ] {
            assert_eq!(wait(&[], Some(message)), Some(millis), "{message}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_said() {
        for value in ["", "soon", "-1", "1e3", "20 seconds", "NaN", "0x10", ".5"] {
            assert_eq!(wait(&[("retry-after", value)], None), None, "{value}");
        }
        for message in ["", "retry after", "retry after lunch", "try again in 5 parsecs", "try again in s"] {
            assert_eq!(wait(&[], Some(message)), None, "{message}");
        }
    }

    #[test]
    fn the_exact_form_wins_and_a_date_counts_from_the_answers_own() {
        assert_eq!(
            wait(&[("retry-after", "2"), ("retry-after-ms", "1800")], Some("retry after 9 seconds")),
            Some(1_800)
        );
        let skewed = [("date", "Sat, 21 Nov 2026 12:00:00 GMT"), ("retry-after", "Sat, 21 Nov 2026 12:00:07 GMT")];
        assert_eq!(wait(&skewed, None), Some(7_000));
    }

    #[test]
    fn the_limit_that_is_used_up_says_when() {
        let limits = |requests: &'static str, tokens: &'static str| {
            [
                ("x-ratelimit-remaining-requests", requests),
                ("x-ratelimit-reset-requests", "9s"),
                ("x-ratelimit-remaining-tokens", tokens),
                ("x-ratelimit-reset-tokens", "3s"),
            ]
        };
        assert_eq!(wait(&limits("12", "0"), None), Some(3_000));
        assert_eq!(wait(&limits("0", "0"), None), Some(9_000));
        assert_eq!(wait(&limits("12", "12"), None), Some(9_000));
    }

    #[test]
    fn the_state_of_the_limits_is_no_wait_for_another_failure() {
        let headers: HeaderMap =
            [(HeaderName::from_static("x-ratelimit-reset-requests"), HeaderValue::from_static("6m0s"))]
                .into_iter()
                .collect();
        assert_eq!(retry_after(&headers, false, None, now()), None);
        assert_eq!(retry_after(&headers, false, Some("retry after 2 seconds"), now()), Some(Duration::from_secs(2)));
    }

    proptest! {
        #[test]
        fn no_text_is_misread_for_longer_than_a_day(header in "[ -~]{0,40}", message in ".{0,60}") {
            for name in ["retry-after", "retry-after-ms", "x-ratelimit-reset-tokens"] {
                prop_assert!(wait(&[(name, &header)], Some(&message)).is_none_or(|wait| wait <= LONGEST.as_millis()));
            }
        }
    }
}
