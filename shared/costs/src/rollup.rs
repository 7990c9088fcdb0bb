//! Roll-ups: what an entry counts in, what is counted, and how it is written and read. Pure.
//!
//! A roll-up is one item a period, and everything that is counted in the period is an attribute of it, so that each of an
//! entry's roll-ups is one update and a day is one read, whatever was spent in it (ADR 0011).
//!
//! | attribute | what | hour | day | month | a user's month |
//! |---|---|---|---|---|---|
//! | `<figure>` | the sum over everything | ✓ | ✓ | ✓ | ✓ |
//! | `cost#<provider>` | what a provider cost | ✓ | ✓ | ✓ | ✓ |
//! | `<provider>#<model>#<request type>#<figure>` | the same by detail | ✓ | ✓ | | |
//! | `hour#<HH>#cost`, `hour#<HH>#tokens` | its hours | | ✓ | | |
//! | `day#<DD>` | what a day cost | | | | ✓ |
//!
//! Figures are `requests`, `failedRequests`, `estimatedRequests`, `inputTokens`, `cachedInputTokens`, `outputTokens`, `cost` and
//! `saved`. What is zero is not written.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::num::NonZeroU64;
use std::ops::AddAssign;

use aws_sdk_dynamodb::types::AttributeValue;
use huntaze_domain::money::Usd;
use huntaze_domain::provider::{Provider, TokenUsage};
use jiff::civil::Date;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::ledger::LedgerEntry;
use crate::period::Month;

/// Everyone's roll-ups are spread over so many items, for one item takes 1,000 writes a second; and so are the users of a
/// month.
pub const SHARDS: u8 = 8;

/// What one provider and the other cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// At Azure OpenAI.
    pub azure: Usd,
    /// At OpenAI.
    pub openai: Usd,
}

impl Spent {
    /// This much at one provider.
    #[must_use]
    pub fn at(provider: Provider, cost: Usd) -> Self {
        let mut spent = Self::default();
        *spent.of_mut(provider) = cost;
        spent
    }

    /// At both together.
    #[must_use]
    pub fn total(&self) -> Usd {
        self.azure + self.openai
    }

    /// At one provider, or at both where none is named.
    #[must_use]
    pub fn of(&self, provider: Option<Provider>) -> Usd {
        match provider {
            Some(Provider::Azure) => self.azure,
            Some(Provider::OpenAi) => self.openai,
            None => self.total(),
        }
    }

    fn of_mut(&mut self, provider: Provider) -> &mut Usd {
        match provider {
            Provider::Azure => &mut self.azure,
            Provider::OpenAi => &mut self.openai,
        }
    }
}

impl AddAssign for Spent {
    fn add_assign(&mut self, other: Self) {
        self.azure = self.azure + other.azure;
        self.openai = self.openai + other.openai;
    }
}

/// What is counted of attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Attempts.
    pub requests: u64,
    /// Those that ended without a text.
    pub failed: u64,
    /// Those booked at their bound.
    pub estimated: u64,
    /// Their tokens.
    pub usage: TokenUsage,
    /// What they cost.
    pub cost: Usd,
    /// What they would have cost more without a cache.
    pub saved: Usd,
}

impl Figures {
    /// Those of one entry.
    #[must_use]
    pub fn of(entry: &LedgerEntry) -> Self {
        Self {
            // A text that was made before is no request of a provider.
            requests: u64::from(!entry.cache_hit),
            failed: u64::from(entry.outcome != "succeeded"),
            estimated: u64::from(entry.estimated),
            usage: entry.usage,
            cost: entry.cost,
            saved: entry.saved,
        }
    }

    /// As the contract shows them.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let average = NonZeroU64::new(self.requests).map_or(Usd::ZERO, |requests| self.cost.divided_by(requests));
        json!({
            "cost": self.cost.to_json_number(),
            "tokens": self.usage.total(),
            "requests": self.requests,
            "avgCostPerRequest": average.to_json_number(),
            "inputTokens": self.usage.input_tokens,
            "cachedInputTokens": self.usage.cached_input_tokens,
            "outputTokens": self.usage.output_tokens,
            "failedRequests": self.failed,
            "estimatedRequests": self.estimated,
            "saved": self.saved.to_json_number(),
        })
    }

    fn named(&self) -> [(&'static str, String); 8] {
        [
            ("requests", self.requests.to_string()),
            ("failedRequests", self.failed.to_string()),
            ("estimatedRequests", self.estimated.to_string()),
            ("inputTokens", self.usage.input_tokens.to_string()),
            ("cachedInputTokens", self.usage.cached_input_tokens.to_string()),
            ("outputTokens", self.usage.output_tokens.to_string()),
            ("cost", self.cost.to_string()),
            ("saved", self.saved.to_string()),
        ]
    }

    /// Takes one figure. A name that is none changes nothing: a later release may count more.
    fn set(&mut self, name: &str, number: &str) -> Option<()> {
        match name {
            "requests" => self.requests = count(number)?,
            "failedRequests" => self.failed = count(number)?,
            "estimatedRequests" => self.estimated = count(number)?,
            "inputTokens" => self.usage.input_tokens = count(number)?,
            "cachedInputTokens" => self.usage.cached_input_tokens = count(number)?,
            "outputTokens" => self.usage.output_tokens = count(number)?,
            "cost" => self.cost = amount(number)?,
            "saved" => self.saved = amount(number)?,
            _ => {}
        }
        Some(())
    }
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.estimated += other.estimated;
        self.usage.input_tokens += other.usage.input_tokens;
        self.usage.cached_input_tokens += other.usage.cached_input_tokens;
        self.usage.output_tokens += other.usage.output_tokens;
        self.cost = self.cost + other.cost;
        self.saved = self.saved + other.saved;
    }
}

/// What figures are told apart by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Detail {
    /// Who was called.
    pub provider: Provider,
    /// The priced model.
    pub model: String,
    /// The workflow's type.
    pub request_type: String,
}

/// What an hour of a day came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HourUse {
    /// Input and output together.
    pub tokens: u64,
    /// Their cost.
    pub cost: Usd,
}

impl AddAssign for HourUse {
    fn add_assign(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.cost = self.cost + other.cost;
    }
}

/// What was counted in one period, or is to be added to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rollup {
    /// Over everything.
    pub total: Figures,
    /// What each provider cost.
    pub spent: Spent,
    /// By provider, model and request type; those of a month are its days'.
    pub details: BTreeMap<Detail, Figures>,
    /// The hours of a day, 0 to 23.
    pub hours: BTreeMap<u8, HourUse>,
    /// What the days of a user's month cost, 1 to 31.
    pub days: BTreeMap<u8, Usd>,
}

impl AddAssign<&Self> for Rollup {
    fn add_assign(&mut self, other: &Self) {
        self.total += other.total;
        self.spent += other.spent;
        for (detail, figures) in &other.details {
            *self.details.entry(detail.clone()).or_default() += *figures;
        }
        for (hour, used) in &other.hours {
            *self.hours.entry(*hour).or_default() += *used;
        }
        for (day, cost) in &other.days {
            let sum = self.days.entry(*day).or_default();
            *sum = *sum + *cost;
        }
    }
}

/// A roll-up holds what no release has written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the roll-up's `{0}` cannot be read")]
pub struct Unreadable(String);

impl Rollup {
    /// Names and numbers of its attributes, without those that are zero.
    pub fn attributes(&self) -> impl Iterator<Item = (String, String)> {
        let total = self.total.named().map(|(name, number)| (name.to_owned(), number));
        let spent = Provider::ALL.map(|who| (format!("cost#{}", who.as_str()), self.spent.of(Some(who)).to_string()));
        let details = self.details.iter().flat_map(|(detail, figures)| {
            let Detail { provider, model, request_type } = detail;
            let named = figures.named();
            named.map(|(figure, number)| (format!("{}#{model}#{request_type}#{figure}", provider.as_str()), number))
        });
        let hours = self.hours.iter().flat_map(|(hour, used)| {
            [
                (format!("hour#{hour:02}#cost"), used.cost.to_string()),
                (format!("hour#{hour:02}#tokens"), used.tokens.to_string()),
            ]
        });
        let days = self.days.iter().map(|(day, cost)| (format!("day#{day:02}"), cost.to_string()));
        let all = total.into_iter().chain(spent).chain(details).chain(hours).chain(days);
        all.filter(|(_, number)| number != "0")
    }

    /// What is to be added to `was` so that it is this one, by attribute; what does not differ is not there.
    #[must_use]
    pub fn less(&self, was: &Self) -> Vec<(String, String)> {
        let mut change: BTreeMap<String, Decimal> = BTreeMap::new();
        let read = |(name, number): (String, String)| Some((name, decimal(&number)?));
        for (name, number) in self.attributes().filter_map(read) {
            *change.entry(name).or_default() += number;
        }
        for (name, number) in was.attributes().filter_map(read) {
            *change.entry(name).or_default() -= number;
        }
        change.into_iter().filter(|(_, n)| !n.is_zero()).map(|(name, n)| (name, n.normalize().to_string())).collect()
    }

    /// Reads an item, or a part of its attributes.
    ///
    /// # Errors
    /// [`Unreadable`]
    pub fn read(item: &HashMap<String, AttributeValue>) -> Result<Self, Unreadable> {
        let mut rollup = Self::default();
        for (name, value) in item.iter().filter(|(name, _)| !["id", "timestamp"].contains(&name.as_str())) {
            let taken = value.as_n().ok().and_then(|number| rollup.take(name, number));
            taken.ok_or_else(|| Unreadable(name.clone()))?;
        }
        Ok(rollup)
    }

    fn take(&mut self, name: &str, number: &str) -> Option<()> {
        match name.split_once('#') {
            None => self.total.set(name, number)?,
            Some(("cost", provider)) => *self.spent.of_mut(Provider::from_name(provider)?) = amount(number)?,
            Some(("day", day)) => drop(self.days.insert(day.parse().ok()?, amount(number)?)),
            Some(("hour", rest)) => {
                let (hour, figure) = rest.split_once('#')?;
                let used = self.hours.entry(hour.parse().ok()?).or_default();
                match figure {
                    "cost" => used.cost = amount(number)?,
                    _ => used.tokens = count(number)?,
                }
            }
            Some((provider, rest)) => {
                let provider = Provider::from_name(provider)?;
                // From the end: a model's name is the operator's.
                let (rest, figure) = rest.rsplit_once('#')?;
                let (model, request_type) = rest.rsplit_once('#')?;
                let (model, request_type) = (model.to_owned(), request_type.to_owned());
                let figures = self.details.entry(Detail { provider, model, request_type }).or_default();
                figures.set(figure, number)?;
            }
        }
        Some(())
    }
}

fn count(number: &str) -> Option<u64> {
    number.parse().ok().or_else(|| decimal(number)?.normalize().to_string().parse().ok())
}

fn amount(number: &str) -> Option<Usd> {
    decimal(number)?.try_into().ok()
}

/// DynamoDB may write a number with an exponent.
fn decimal(number: &str) -> Option<Decimal> {
    Decimal::from_str_exact(number).or_else(|_| Decimal::from_scientific(number)).ok()
}

/// Where an item is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The hash key.
    pub id: String,
    /// The range key.
    pub timestamp: String,
}

impl Key {
    pub(crate) fn attributes(&self) -> HashMap<String, AttributeValue> {
        let text = |value: &str| AttributeValue::S(value.to_owned());
        HashMap::from([("id".to_owned(), text(&self.id)), ("timestamp".to_owned(), text(&self.timestamp))])
    }

    /// That of an item that was read.
    pub(crate) fn of(item: &HashMap<String, AttributeValue>) -> Option<Self> {
        let text = |name: &str| item.get(name)?.as_s().ok().cloned();
        Some(Self { id: text("id")?, timestamp: text("timestamp")? })
    }
}

/// How long a period is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A month.
    Month,
}

impl Grain {
    /// All.
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Month];
}

/// Whose roll-ups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Series<'a> {
    /// A user's.
    User(&'a str),
    /// Everyone's, of one shard.
    Everyone(u8),
}

impl fmt::Display for Series<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "rollup#user#{user}"),
            Self::Everyone(shard) => write!(f, "rollup#global#{shard}"),
        }
    }
}

impl Series<'_> {
    /// The hash key of the days of a month.
    #[must_use]
    pub fn days(self, month: Month) -> String {
        format!("{self}#day#{month}")
    }

    /// The hash key of the hours of a day.
    #[must_use]
    pub fn hours(self, day: Date) -> String {
        format!("{self}#hour#{day}")
    }

    /// The key of the period that a moment lies in, by the moment's text in RFC 3339.
    pub(crate) fn key(self, grain: Grain, moment: &str) -> Key {
        let (month, day, hour) = (&moment[..7], &moment[..10], &moment[..13]);
        match (grain, self) {
            (Grain::Hour, _) => Key { id: format!("{self}#hour#{day}"), timestamp: hour.to_owned() },
            (Grain::Day, _) => Key { id: format!("{self}#day#{month}"), timestamp: day.to_owned() },
            // Beside the others', so that one query finds many users.
            (Grain::Month, Self::User(user)) => {
                Key { id: users_of_month(shard(user), month), timestamp: user.to_owned() }
            }
            (Grain::Month, Self::Everyone(_)) => Key { id: format!("{self}#month"), timestamp: month.to_owned() },
        }
    }
}

/// The hash key of the users of a month, of one shard.
pub(crate) fn users_of_month(shard: u8, month: impl fmt::Display) -> String {
    format!("rollup#users#{shard}#month#{month}")
}

/// Where a text is kept.
pub(crate) fn shard(text: &str) -> u8 {
    text.bytes().fold(0_u8, u8::wrapping_add) % SHARDS
}

/// Every roll-up that an entry counts in, with what it adds there.
#[must_use]
pub fn rollups_of(entry: &LedgerEntry) -> Vec<(Key, Rollup)> {
    let moment = entry.started_at.to_string();
    let series = [Series::User(&entry.user_id), Series::Everyone(shard(&entry.id))];
    let periods = series.into_iter().flat_map(|series| Grain::ALL.map(|grain| (series, grain)));
    periods.map(|(series, grain)| (series.key(grain, &moment), counted(entry, series, grain))).collect()
}

/// What an entry adds to a roll-up.
fn counted(entry: &LedgerEntry, series: Series<'_>, grain: Grain) -> Rollup {
    let total = Figures::of(entry);
    let mut rollup = Rollup { total, spent: Spent::at(entry.provider, entry.cost), ..Rollup::default() };
    let at = entry.started_at.to_zoned(jiff::tz::TimeZone::UTC);
    if grain != Grain::Month {
        let (model, request_type) = (entry.model.clone(), entry.request_type.clone());
        rollup.details.insert(Detail { provider: entry.provider, model, request_type }, total);
    }
    match (grain, series) {
        (Grain::Day, _) => {
            let used = HourUse { tokens: entry.usage.total(), cost: entry.cost };
            rollup.hours.insert(at.hour().unsigned_abs(), used);
        }
        (Grain::Month, Series::User(_)) => drop(rollup.days.insert(at.day().unsigned_abs(), entry.cost)),
        _ => {}
    }
    rollup
}

#[cfg(test)]
pub(crate) mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    /// An entry of a user, of which only what is counted matters.
    pub(crate) fn entry(id: &str, user: &str, at: &str) -> LedgerEntry {
        LedgerEntry {
            id: id.to_owned(),
            operation_id: "wf".to_owned(),
            user_id: user.to_owned(),
            provider: Provider::Azure,
            model: "gpt-4o".to_owned(),
            request_type: "content_planning".to_owned(),
            outcome: "succeeded".to_owned(),
            usage: TokenUsage { input_tokens: 300, cached_input_tokens: 256, output_tokens: 11 },
            cost: Usd::parse("0.00054").unwrap(),
            saved: Usd::parse("0.00032").unwrap(),
            cache_hit: false,
            estimated: false,
            price_version: "azure/gpt-4o@2026-11-21".to_owned(),
            trace_id: String::new(),
            duration_ms: Some(7),
            started_at: at.parse::<Timestamp>().unwrap(),
        }
    }

    fn written(rollup: &Rollup) -> HashMap<String, AttributeValue> {
        rollup.attributes().map(|(name, number)| (name, AttributeValue::N(number))).collect()
    }

    #[test]
    fn an_entry_counts_in_its_hour_day_and_month_for_its_user_and_for_everyone() {
        let keys: Vec<_> = rollups_of(&entry("wf.1", "ana", "2026-11-30T23:59:59.999Z")).into_iter().collect();
        let shard = shard("wf.1");
        let keys: Vec<_> = keys.iter().map(|(key, _)| (key.id.as_str(), key.timestamp.as_str())).collect();
        let (hour, day) =
            (format!("rollup#global#{shard}#hour#2026-11-30"), format!("rollup#global#{shard}#day#2026-11"));
        let (month, users) = (format!("rollup#global#{shard}#month"), users_of_month(super::shard("ana"), "2026-11"));
        let expected = [
            ("rollup#user#ana#hour#2026-11-30", "2026-11-30T23"),
            ("rollup#user#ana#day#2026-11", "2026-11-30"),
            (users.as_str(), "ana"),
            (hour.as_str(), "2026-11-30T23"),
            (day.as_str(), "2026-11-30"),
            (month.as_str(), "2026-11"),
        ];
        assert_eq!(keys, expected);
        assert_eq!(Series::User("ana").days(Month::at("2026-11-30T00:00:00Z".parse().unwrap())), expected[1].0);
    }

    #[test]
    fn a_day_is_written_by_name() {
        let (_, day) = rollups_of(&entry("wf.1", "ana", "2026-11-30T05:00:00Z")).swap_remove(1);
        let item: BTreeMap<_, _> = day.attributes().collect();
        let expected = [
            ("azure#gpt-4o#content_planning#cachedInputTokens", "256"),
            ("azure#gpt-4o#content_planning#cost", "0.00054"),
            ("azure#gpt-4o#content_planning#inputTokens", "300"),
            ("azure#gpt-4o#content_planning#outputTokens", "11"),
            ("azure#gpt-4o#content_planning#requests", "1"),
            ("azure#gpt-4o#content_planning#saved", "0.00032"),
            ("cachedInputTokens", "256"),
            ("cost", "0.00054"),
            ("cost#azure", "0.00054"),
            ("hour#05#cost", "0.00054"),
            ("hour#05#tokens", "311"),
            ("inputTokens", "300"),
            ("outputTokens", "11"),
            ("requests", "1"),
            ("saved", "0.00032"),
        ];
        assert_eq!(item, expected.map(|(name, number)| (name.to_owned(), number.to_owned())).into());
    }

    #[test]
    fn numbers_are_read_in_every_notation() {
        assert_eq!(amount("5.4E-4"), amount("0.00054"));
        assert_eq!((count("1E+3"), count("1.5"), amount("x")), (Some(1000), None, None));
        let odd = HashMap::from([("cost".to_owned(), AttributeValue::S("1".to_owned()))]);
        assert_eq!(Rollup::read(&odd), Err(Unreadable("cost".to_owned())));
        let later = HashMap::from([("cacheHits".to_owned(), AttributeValue::N("1".to_owned()))]);
        assert_eq!(Rollup::read(&later), Ok(Rollup::default()));
    }

    prop_compose! {
        fn any_entry()(
            provider in 0_usize..2, model in "[a-z#.-]{1,6}", kind in "[a-z_]{1,4}", failed: bool, estimated: bool,
            tokens in 0_u64..1_000_000, picos in 0_i64..i64::MAX, saved in 0_i64..1_000_000, second in 0_i64..4_000_000_000,
        ) -> LedgerEntry {
            LedgerEntry {
                provider: Provider::ALL[provider],
                model,
                request_type: kind,
                outcome: if failed { "failed" } else { "succeeded" }.to_owned(),
                estimated,
                usage: TokenUsage { input_tokens: tokens, cached_input_tokens: tokens / 3, output_tokens: tokens / 2 },
                cost: Usd::try_from(Decimal::new(picos, 12)).unwrap(),
                saved: Usd::try_from(Decimal::new(saved, 12)).unwrap(),
                started_at: Timestamp::from_second(second).unwrap(),
                ..entry("wf.1", "ana", "2026-11-30T05:00:00Z")
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_to_the_last_digit(entries in prop::collection::vec(any_entry(), 1..12)) {
            for period in 0..6 {
                let mut sum = Rollup::default();
                for entry in &entries {
                    sum += &rollups_of(entry)[period].1;
                }
                // What is zero is not written; a detail of which all is zero cannot be, for it has a request.
                let read = Rollup::read(&written(&sum)).unwrap();
                prop_assert_eq!(read.total, sum.total);
                prop_assert_eq!(&read.details, &sum.details);
                prop_assert_eq!(read.spent.total(), sum.total.cost);
                let nonzero = |rollup: &Rollup| rollup.attributes().collect::<BTreeMap<_, _>>();
                prop_assert_eq!(nonzero(&read), nonzero(&sum));
            }
        }
    }
}
