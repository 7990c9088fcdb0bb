//! Alerts in DynamoDB: key `id`.
//!
//! | item | `id` | what else it has |
//! |---|---|---|
//! | an alert | `alr_…` | `owner` and `month`, by which the indexes know it |
//! | when a source last fired | `state#<source>` | `lastFiredAt`, milliseconds since 1970; in no index |
//!
//! | index | hash | range | for |
//! |---|---|---|---|
//! | `byOwner` | `owner` | `timestamp` | a user's list |
//! | `byMonth` | `month`, when it fired | `timestamp` | everyone's list, and what was not told yet |
//!
//! Both items are forgotten 400 days later (`expiresAt`).

use std::collections::HashSet;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, KeysAndAttributes, Put, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use futures_util::future::try_join_all;
use huntaze_domain::env::Env;
use huntaze_domain::ids::UserId;
use huntaze_domain::notification::Severity;
use jiff::{Timestamp, tz::TimeZone};

use super::{Alert, AlertKind, Contributor, Occasion, SKEW};
use crate::owner::Owner;
use huntaze_dynamodb::{
    self as dynamo, Item, Members, TableError, cancellations, condition_failed, moment, number, reasons, text, transact,
};

/// The contract's: the same alert is not sent twice within 30 minutes.
const SILENCE_MS: u64 = 1_800_000;
/// Longer than a day, and a day's alert would silence the next day's.
const MAX_SILENCE_MS: u64 = 86_400_000;
/// How long alerts are kept: a year, and the month that it is looked at in.
const KEPT_DAYS: i64 = 400;
/// The months that alerts of [`KEPT_DAYS`] lie in.
const MONTHS: i32 = 14;
/// Alerts that one read looks at.
const CHUNK: i32 = 100;
/// Reads for one page of a list. A filter that fits few ends with a cursor where the next page goes on.
const MAX_READS: usize = 30;
/// Pages of 1 MB that are counted of one owner or month: some 7,000 alerts.
const MAX_COUNTED_PAGES: usize = 5;
/// What alerts' ids begin with, and no other item's.
pub(super) const ALERT: &str = "alr_";
/// DynamoDB answers for at most 100 keys at once.
const KEYS: usize = 100;

/// What became of an occasion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firing {
    /// It fired, here: whoever is told this has it told.
    Fired(Box<Alert>),
    /// It had fired in this period.
    Already,
    /// Its source fired too short a time ago; when, where the table says so.
    Silent(Option<Timestamp>),
}

/// Which alerts are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// One owner's, or everyone's.
    pub owner: Option<Owner>,
    /// Of this severity only.
    pub severity: Option<Severity>,
    /// Seen, or not yet, only.
    pub acknowledged: Option<bool>,
    /// Those behind this one: when it fired, and its id.
    pub after: Option<(Timestamp, String)>,
    /// At most so many.
    pub limit: usize,
}

/// Alerts, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Them.
    pub alerts: Vec<Alert>,
    /// Behind which one the next page begins.
    pub next: Option<(Timestamp, String)>,
}

/// How many alerts there are, over all pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// All of them.
    pub total: u64,
    /// Those that nobody has seen.
    pub unacknowledged: u64,
    /// As many of each severity, in the order of [`Severity::ALL`].
    pub by_severity: [u64; 3],
    /// There are more, which were not counted.
    pub more: bool,
}

/// The table of alerts.
#[derive(Debug, Clone)]
pub struct Alerts {
    client: Client,
    table: String,
    silence: Duration,
}

impl Alerts {
    /// Reads `DYNAMODB_ALERTS_TABLE` and `ALERT_SILENCE_MS`; nothing is called.
    #[must_use]
    pub fn from_env(env: &Env, client: Client) -> Self {
        let silence = env.parsed("ALERT_SILENCE_MS", SILENCE_MS);
        if silence > MAX_SILENCE_MS {
            env.fault("ALERT_SILENCE_MS", format!("must be 0 to {MAX_SILENCE_MS} milliseconds"));
        }
        let table = env.or("DYNAMODB_ALERTS_TABLE", "huntaze-cost-alerts-production");
        Self { client, table, silence: Duration::from_millis(silence) }
    }

    /// How long a source is silent after an alert.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.silence
    }

    /// Fires an alert, if its period has none yet and its source may: over all instances one of those that try is told that it did.
    ///
    /// An error says nothing about whether it fired. If it did, the scheduled check has it told.
    ///
    /// # Errors
    /// [`TableError`]
    pub async fn fire(&self, occasion: &Occasion, now: Timestamp) -> Result<Firing, TableError> {
        let alert = Alert::of(occasion.clone(), now);
        let items = self.transaction(&alert).map_err(TableError::of)?;
        let error = match transact(&self.client, items).await {
            Ok(()) => return Ok(Firing::Fired(Box::new(alert))),
            Err(error) => error,
        };
        // In the order of the transaction's items: the alert, its source.
        let failed = |reason: &str| reason == "ConditionalCheckFailed";
        match reasons(&error)[..] {
            [alert, _] if failed(alert) => Ok(Firing::Already),
            [_, source] if failed(source) => {
                let last = cancellations(&error).get(1).and_then(|reason| reason.item()).and_then(last_fired);
                Ok(Firing::Silent(last))
            }
            _ => Err(TableError::of(error)),
        }
    }

    fn transaction(&self, alert: &Alert) -> Result<Vec<TransactWriteItem>, BuildError> {
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item(alert)))
            .condition_expression("attribute_not_exists(id)")
            .build()?;
        let now = i128::from(alert.timestamp.as_millisecond());
        let millis = |duration: Duration| i128::try_from(duration.as_millis()).unwrap_or(i128::MAX);
        let source = Update::builder()
            .table_name(&self.table)
            .key("id", text(format!("state#{}", alert.source)))
            .update_expression("SET lastFiredAt = :now, expiresAt = :expires")
            .condition_expression("attribute_not_exists(lastFiredAt) OR lastFiredAt <= :heard OR lastFiredAt > :absurd")
            .expression_attribute_values(":now", number(now))
            .expression_attribute_values(":expires", expiry(alert.timestamp))
            .expression_attribute_values(":heard", number(now.saturating_sub(millis(self.silence))))
            .expression_attribute_values(":absurd", number(now.saturating_add(millis(SKEW))))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()?;
        Ok(vec![TransactWriteItem::builder().put(put).build(), TransactWriteItem::builder().update(source).build()])
    }

    /// Keeps an administrator's own alert.
    ///
    /// # Errors
    /// [`TableError`]
    pub async fn put(&self, alert: &Alert) -> Result<(), TableError> {
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item(alert)));
        put.condition_expression("attribute_not_exists(id)").send().await.map(drop).map_err(TableError::of)
    }

    /// Notes that an alert was handed over to be told.
    ///
    /// # Errors
    /// [`TableError`]; it will be handed over again, under the same id.
    pub async fn mark_notified(&self, id: &str, now: Timestamp) -> Result<(), TableError> {
        let update = self.client.update_item().table_name(&self.table).key("id", text(id));
        let update = update.update_expression("SET notifiedAt = :now").condition_expression("attribute_exists(id)");
        update.expression_attribute_values(":now", text(now.to_string())).send().await.map(drop).map_err(TableError::of)
    }

    /// An alert.
    ///
    /// # Errors
    /// [`TableError`]
    pub async fn get(&self, id: &str) -> Result<Option<Alert>, TableError> {
        if !id.starts_with(ALERT) {
            return Ok(None);
        }
        let get = self.client.get_item().table_name(&self.table).key("id", text(id)).consistent_read(true);
        Ok(get.send().await.map_err(TableError::of)?.item.as_ref().and_then(read))
    }

    /// Notes that somebody has seen an alert, or has not after all; gives it as it is then, or `None` where there is none. Who was
    /// the first to see it stays.
    ///
    /// # Errors
    /// [`TableError`]
    pub async fn acknowledge(
        &self,
        id: &str,
        acknowledged: bool,
        who: &UserId,
        now: Timestamp,
    ) -> Result<Option<Alert>, TableError> {
        let update = self.client.update_item().table_name(&self.table).key("id", text(id));
        let update = update.expression_attribute_values(":acknowledged", AttributeValue::Bool(acknowledged));
        let update = if acknowledged {
            update
                .update_expression(
                    "SET acknowledged = :acknowledged, acknowledgedBy = if_not_exists(acknowledgedBy, :who), \
                     acknowledgedAt = if_not_exists(acknowledgedAt, :now)",
                )
                .expression_attribute_values(":who", text(who.as_str()))
                .expression_attribute_values(":now", text(now.to_string()))
        } else {
            update.update_expression("SET acknowledged = :acknowledged REMOVE acknowledgedBy, acknowledgedAt")
        };
        let update = update.condition_expression("attribute_exists(id)").return_values(ReturnValue::AllNew);
        match update.send().await {
            Ok(answer) => Ok(answer.attributes.as_ref().and_then(read)),
            Err(error) if condition_failed(&error) => Ok(None),
            Err(error) => Err(TableError::of(error)),
        }
    }

    /// Which of these alerts are there.
    ///
    /// # Errors
    /// [`TableError`]
    pub async fn present(&self, ids: &[String]) -> Result<HashSet<String>, TableError> {
        let mut present = HashSet::new();
        for ids in ids.chunks(KEYS) {
            let mut wanted: Vec<_> = ids.iter().map(|id| Item::from([("id".to_owned(), text(id))])).collect();
            // The service may answer in parts; each part makes the rest smaller, so this ends.
            while !wanted.is_empty() {
                let keys = KeysAndAttributes::builder().set_keys(Some(wanted.clone())).consistent_read(true);
                let keys = keys.projection_expression("id").build().map_err(TableError::of)?;
                let batch = self.client.batch_get_item().request_items(&self.table, keys);
                let answer = batch.send().await.map_err(TableError::of)?;
                let found = answer.responses.unwrap_or_default().remove(&self.table).unwrap_or_default();
                present.extend(found.iter().filter_map(|item| Members(item).text("id").map(str::to_owned)));
                let left = answer.unprocessed_keys.unwrap_or_default().remove(&self.table).map(|rest| rest.keys);
                let left = left.unwrap_or_default();
                if left.len() >= wanted.len() {
                    return Err(TableError::because("the table is throttled"));
                }
                wanted = left;
            }
        }
        Ok(present)
    }

    /// Alerts between two moments that were not handed over to be told and that nobody has seen; the oldest first, at most some
    /// hundred.
    ///
    /// # Errors
    /// [`TableError`]
    pub async fn untold(&self, since: Timestamp, until: Timestamp) -> Result<Vec<Alert>, TableError> {
        let mut found = Vec::new();
        for month in months(since, until) {
            let mut after = None;
            for _ in 0..MAX_COUNTED_PAGES {
                let query = self.partition(&Partition::Month(month.clone())).scan_index_forward(true);
                let query = query
                    .key_condition_expression("#hash = :hash AND #timestamp BETWEEN :since AND :until")
                    .expression_attribute_names("#timestamp", "timestamp")
                    .expression_attribute_values(":since", text(moment(since)))
                    .expression_attribute_values(":until", text(moment(until)))
                    .filter_expression("attribute_not_exists(notifiedAt) AND acknowledged = :false")
                    .expression_attribute_values(":false", AttributeValue::Bool(false));
                let page = query.set_exclusive_start_key(after).send().await.map_err(TableError::of)?;
                found.extend(page.items().iter().filter_map(read));
                after = page.last_evaluated_key;
                if after.is_none() || found.len() >= KEYS {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// A page of alerts, newest first. It may be short, or empty, and still lead to a next one, where few fit.
    ///
    /// # Errors
    /// [`TableError`]
    pub async fn list(&self, query: &ListQuery, now: Timestamp) -> Result<Page, TableError> {
        let mut page = Page::default();
        let mut reads = 0;
        let newest = query.after.as_ref().map_or(now, |(at, _)| *at);
        for (number, partition) in partitions(query, newest, now).into_iter().enumerate() {
            // The place to go on from lies in the first partition only; the others are read from their beginnings.
            let mut after = query.after.as_ref().filter(|_| number == 0).map(|place| partition.key(place));
            loop {
                if reads == MAX_READS {
                    page.next = page.next.or_else(|| partition.begin());
                    return Ok(page);
                }
                reads += 1;
                let read_now = self.matching(&partition, query).limit(CHUNK).set_exclusive_start_key(after);
                let chunk = read_now.send().await.map_err(TableError::of)?;
                for alert in chunk.items().iter().filter_map(read) {
                    if page.alerts.len() == query.limit {
                        page.next = page.alerts.last().map(|last| (last.timestamp, last.id.clone()));
                        return Ok(page);
                    }
                    page.alerts.push(alert);
                }
                after = chunk.last_evaluated_key;
                match &after {
                    Some(last) => page.next = place(last),
                    None => break,
                }
            }
            page.next = None;
        }
        Ok(page)
    }

    /// How many alerts fit a query, whatever its page.
    ///
    /// # Errors
    /// [`TableError`]
    pub async fn summary(&self, query: &ListQuery, now: Timestamp) -> Result<Summary, TableError> {
        let counted = partitions(query, now, now).into_iter().map(|partition| self.count(partition, query));
        let counted = try_join_all(counted).await?;
        Ok(counted.into_iter().fold(Summary::default(), |mut sum, part| {
            sum.total += part.total;
            sum.unacknowledged += part.unacknowledged;
            sum.by_severity.iter_mut().zip(part.by_severity).for_each(|(all, of_part)| *all += of_part);
            sum.more |= part.more;
            sum
        }))
    }

    async fn count(&self, partition: Partition, query: &ListQuery) -> Result<Summary, TableError> {
        let mut summary = Summary::default();
        let mut after = None;
        for _ in 0..MAX_COUNTED_PAGES {
            let counting = self.matching(&partition, query).projection_expression("severity, acknowledged");
            let page = counting.set_exclusive_start_key(after).send().await.map_err(TableError::of)?;
            for item in page.items() {
                let members = Members(item);
                summary.total += 1;
                summary.unacknowledged += u64::from(members.flag("acknowledged") == Some(false));
                let severity = members.severity("severity");
                let counts = Severity::ALL.iter().zip(&mut summary.by_severity);
                counts.filter(|(one, _)| severity == Some(**one)).for_each(|(_, count)| *count += 1);
            }
            after = page.last_evaluated_key;
            if after.is_none() {
                return Ok(summary);
            }
        }
        Ok(Summary { more: true, ..summary })
    }

    fn partition(&self, partition: &Partition) -> QueryFluentBuilder {
        let (index, hash, value) = partition.hash();
        let query = self.client.query().table_name(&self.table).index_name(index);
        query.expression_attribute_names("#hash", hash).expression_attribute_values(":hash", text(value))
    }

    /// A partition's alerts that fit a query, newest first.
    fn matching(&self, partition: &Partition, query: &ListQuery) -> QueryFluentBuilder {
        let mut reading = self.partition(partition).key_condition_expression("#hash = :hash").scan_index_forward(false);
        let mut filters = Vec::new();
        if let Some(severity) = query.severity {
            filters.push("severity = :severity");
            reading = reading.expression_attribute_values(":severity", text(severity.as_str()));
        }
        if let Some(acknowledged) = query.acknowledged {
            filters.push("acknowledged = :acknowledged");
            reading = reading.expression_attribute_values(":acknowledged", AttributeValue::Bool(acknowledged));
        }
        reading.set_filter_expression((!filters.is_empty()).then(|| filters.join(" AND ")))
    }
}

/// One hash key of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Partition {
    Owner(Owner),
    Month(String),
}

impl Partition {
    /// The index, its hash key's name, and its value.
    fn hash(&self) -> (&'static str, &'static str, String) {
        match self {
            Self::Owner(owner) => ("byOwner", "owner", owner.key()),
            Self::Month(month) => ("byMonth", "month", month.clone()),
        }
    }

    /// An alert's whole key in this partition.
    fn key(&self, (at, id): &(Timestamp, String)) -> Item {
        let (_, hash, value) = self.hash();
        let members = [(hash, value), ("timestamp", moment(*at)), ("id", id.clone())];
        members.map(|(name, value)| (name.to_owned(), text(value))).into()
    }

    /// The place before a month's newest alert: its end.
    fn begin(&self) -> Option<(Timestamp, String)> {
        let Self::Month(month) = self else { return None };
        let first: jiff::civil::Date = format!("{month}-01").parse().ok()?;
        let end = first.last_of_month().at(23, 59, 59, 999_000_000).to_zoned(TimeZone::UTC).ok()?;
        // Behind every id.
        Some((end.timestamp(), "~".to_owned()))
    }
}

/// Where a query's alerts lie, newest first: from `newest` on, as far back as alerts are kept.
fn partitions(query: &ListQuery, newest: Timestamp, now: Timestamp) -> Vec<Partition> {
    match &query.owner {
        Some(owner) => vec![Partition::Owner(owner.clone())],
        None => {
            let oldest = now.saturating_sub(jiff::SignedDuration::from_hours(24 * KEPT_DAYS)).unwrap_or(newest);
            months(oldest, newest).into_iter().rev().map(Partition::Month).collect()
        }
    }
}

/// The months from one moment to another, oldest first; at most [`MONTHS`].
fn months(since: Timestamp, until: Timestamp) -> Vec<String> {
    let month = |at: Timestamp| at.to_zoned(TimeZone::UTC).date().first_of_month();
    let (since, until) = (month(since), month(until));
    let back = (0..MONTHS).map_while(|back| until.checked_sub(jiff::Span::new().months(back)).ok());
    let mut months: Vec<_> = back.take_while(|month| *month >= since).map(|month| month.to_string()).collect();
    months.iter_mut().for_each(|month| month.truncate(7));
    months.reverse();
    months
}

/// The place that a key names.
fn place(key: &Item) -> Option<(Timestamp, String)> {
    Some((Members(key).time("timestamp")?, Members(key).text("id")?.to_owned()))
}

fn last_fired(state: &Item) -> Option<Timestamp> {
    Timestamp::from_millisecond(state.get("lastFiredAt")?.as_n().ok()?.parse().ok()?).ok()
}

fn expiry(from: Timestamp) -> AttributeValue {
    number(from.as_second().saturating_add(KEPT_DAYS * 24 * 3_600))
}

fn item(alert: &Alert) -> Item {
    let at = moment(alert.timestamp);
    let contributor = |one: &Contributor| {
        let members = [("kind", text(&one.kind)), ("name", text(&one.name)), ("cost", number(one.cost))];
        AttributeValue::M(members.map(|(name, value)| (name.to_owned(), value)).into())
    };
    let optional = [
        ("userId", alert.owner.user().map(UserId::as_str).map(text)),
        ("acknowledgedBy", alert.acknowledged_by.as_ref().map(UserId::as_str).map(text)),
        ("acknowledgedAt", alert.acknowledged_at.map(|at| text(at.to_string()))),
        ("notifiedAt", alert.notified_at.map(|at| text(at.to_string()))),
    ];
    let always = [
        ("id", text(&alert.id)),
        ("owner", text(alert.owner.key())),
        ("month", text(&at[..7])),
        ("timestamp", text(at.as_str())),
        ("type", text(alert.kind.as_str())),
        ("severity", text(alert.severity.as_str())),
        ("threshold", number(alert.threshold)),
        ("currentValue", number(alert.current)),
        ("message", text(&alert.message)),
        ("period", text(&alert.period)),
        ("source", text(&alert.source)),
        ("channels", dynamo::channels(&alert.channels)),
        ("provider", dynamo::provider(alert.provider)),
        ("contributors", AttributeValue::L(alert.contributors.iter().map(contributor).collect())),
        ("acknowledged", AttributeValue::Bool(alert.acknowledged)),
        ("expiresAt", expiry(alert.timestamp)),
    ];
    let there = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
    always.into_iter().chain(there).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// An alert's item. One that cannot be read is left out, for it must not hide the others.
fn read(item: &Item) -> Option<Alert> {
    let members = Members(item);
    let read = || {
        let contributor = |one: &AttributeValue| {
            let members = Members(one.as_m().ok()?);
            let [kind, name] = ["kind", "name"].map(|name| members.text(name).map(str::to_owned));
            Some(Contributor { kind: kind?, name: name?, cost: members.usd("cost")? })
        };
        Some(Alert {
            id: members.text("id")?.to_owned(),
            owner: Owner::from_key(members.text("owner")?)?,
            kind: AlertKind::from_name(members.text("type")?)?,
            severity: members.severity("severity")?,
            threshold: members.usd("threshold")?,
            current: members.usd("currentValue")?,
            message: members.text("message")?.to_owned(),
            timestamp: members.time("timestamp")?,
            period: members.text("period")?.to_owned(),
            source: members.text("source")?.to_owned(),
            channels: members.channels("channels")?,
            provider: members.provider("provider")?,
            contributors: members.list("contributors")?.iter().map(contributor).collect::<Option<_>>()?,
            acknowledged: members.flag("acknowledged")?,
            acknowledged_by: members.text("acknowledgedBy").and_then(|user| UserId::parse(user).ok()),
            acknowledged_at: members.time("acknowledgedAt"),
            notified_at: members.time("notifiedAt"),
        })
    };
    let alert = read();
    if alert.is_none() {
        tracing::error!("an alert cannot be read");
    }
    alert
}

#[cfg(test)]
mod tests {
    use huntaze_domain::money::Usd;

    use super::*;
    use crate::threshold::{Crossing, Threshold, ThresholdKind};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn an_item_is_read_as_it_was_written() {
        let owner = Owner::from(UserId::parse("ana").ok());
        let threshold = Threshold::default_of(&owner, ThresholdKind::Daily).unwrap();
        let crossing = Crossing::of(&threshold, "2026-11-21".to_owned(), Usd::parse("7.000000000001").unwrap());
        let mut alert = Alert::of(crossing.unwrap().into(), at("2026-11-21T10:20:30.456Z"));
        alert.contributors =
            vec![Contributor { kind: "provider".to_owned(), name: "azure".to_owned(), cost: alert.current }];
        alert.acknowledged_by = UserId::parse("bob").ok();
        assert_eq!(read(&item(&alert)), Some(alert));
    }

    #[test]
    fn months_are_read_as_far_back_as_alerts_are_kept() {
        assert_eq!(months(at("2026-10-31T23:59:59Z"), at("2026-11-01T00:00:00Z")), ["2026-10", "2026-11"]);
        assert_eq!(months(at("2026-11-02T00:00:00Z"), at("2026-11-01T00:00:00Z")), ["2026-11"]);
        assert_eq!(months(at("2027-01-01T00:00:00Z"), at("2026-11-01T00:00:00Z")).len(), 0);
        let query = ListQuery { owner: None, severity: None, acknowledged: None, after: None, limit: 1 };
        let kept = partitions(&query, at("2026-11-30T00:00:00Z"), at("2026-11-30T00:00:00Z"));
        assert_eq!((kept.len(), &kept[0]), (14, &Partition::Month("2026-11".to_owned())));
        assert_eq!(kept.last(), Some(&Partition::Month("2025-10".to_owned())));
    }

    #[test]
    fn the_place_before_a_month_is_behind_all_that_fired_in_it() {
        let (end, id) = Partition::Month("2026-02".to_owned()).begin().unwrap();
        assert_eq!((moment(end).as_str(), id.as_str()), ("2026-02-28T23:59:59.999Z", "~"));
    }
}
