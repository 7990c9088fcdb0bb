//! The thresholds that were made, in DynamoDB: key `owner` (hash) and `id` (range).
//!
//! | item | `owner` | `id` |
//! |---|---|---|
//! | a threshold | `global`, or `user#<id>` | `thr_<UUID>`, or `thr_<UUID>~<user id>` |
//! | how many an owner has | the same | `count` |
//!
//! A threshold and the count are written in one transaction, so that an owner's are bounded also where they are made side by side. A
//! change writes the fields that it names and no others: of two at the same time none is lost.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::types::{AttributeValue, Put, ReturnValue, TransactWriteItem, Update};
use huntaze_domain::env::Env;
use huntaze_domain::ids::UserId;
use jiff::Timestamp;

use super::{NewThreshold, Threshold, ThresholdChange, ThresholdId, ThresholdKind};
use crate::owner::Owner;
use huntaze_dynamodb::{self as dynamo, Item, Members, TableError, number, reasons, text, transact};

/// An owner has at most so many: each is looked at with every request.
pub const MAX_THRESHOLDS: usize = 50;
/// The range key of the count.
const COUNT: &str = "count";
/// Pages of a scan: 100 MB of thresholds, some 300,000.
const MAX_PAGES: usize = 100;

/// Why a threshold was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Its owner has [`MAX_THRESHOLDS`].
    #[error("there are {MAX_THRESHOLDS} thresholds already; change one of them")]
    Full,
    /// The table.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// The table of thresholds.
#[derive(Debug, Clone)]
pub struct Thresholds {
    client: Client,
    table: String,
}

impl Thresholds {
    /// Reads `DYNAMODB_THRESHOLDS_TABLE`; nothing is called.
    #[must_use]
    pub fn from_env(env: &Env, client: Client) -> Self {
        Self { client, table: env.or("DYNAMODB_THRESHOLDS_TABLE", "huntaze-cost-thresholds-production") }
    }

    /// What an owner's alerts go by, the defaults included.
    ///
    /// # Errors
    /// [`TableError`]
    pub async fn in_force(&self, owner: &Owner) -> Result<Vec<Threshold>, TableError> {
        // An owner's bound keeps them on one page.
        let query = self.client.query().table_name(&self.table).consistent_read(true);
        let query = query.key_condition_expression("#owner = :owner").expression_attribute_names("#owner", "owner");
        let answer =
            query.expression_attribute_values(":owner", text(owner.key())).send().await.map_err(TableError::of)?;
        Ok(Threshold::in_force(owner, answer.items().iter().filter_map(read).collect()))
    }

    /// Every threshold that was made, by its owner. Read in whole pages, because one query an owner would cost more.
    ///
    /// # Errors
    /// [`TableError`]
    pub async fn all(&self) -> Result<HashMap<Owner, Vec<Threshold>>, TableError> {
        let mut found: HashMap<_, Vec<_>> = HashMap::new();
        let mut after = None;
        for _ in 0..MAX_PAGES {
            let scan = self.client.scan().table_name(&self.table).consistent_read(true).set_exclusive_start_key(after);
            let page = scan.send().await.map_err(TableError::of)?;
            for threshold in page.items().iter().filter_map(read) {
                found.entry(threshold.owner.clone()).or_default().push(threshold);
            }
            after = page.last_evaluated_key;
            if after.is_none() {
                return Ok(found);
            }
        }
        Err(TableError::because("there are more thresholds than are read at once"))
    }

    /// Makes a threshold.
    ///
    /// # Errors
    /// [`CreateError`]
    pub async fn create(&self, owner: Owner, new: NewThreshold, now: Timestamp) -> Result<Threshold, CreateError> {
        let threshold = Threshold {
            id: Some(ThresholdId::generate(&owner)),
            owner,
            kind: new.kind,
            amount: new.amount,
            severity: new.severity,
            channels: new.channels,
            provider: new.provider,
            enabled: new.enabled,
            created_at: Some(now),
            updated_at: Some(now),
        };
        let items = self.transaction(&threshold).map_err(TableError::of)?;
        match transact(&self.client, items).await {
            Ok(()) => Ok(threshold),
            // Only the count's can fail: the id is new.
            Err(error) if reasons(&error).contains(&"ConditionalCheckFailed") => Err(CreateError::Full),
            Err(error) => Err(TableError::of(error).into()),
        }
    }

    fn transaction(&self, threshold: &Threshold) -> Result<Vec<TransactWriteItem>, BuildError> {
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item(threshold)))
            .condition_expression("attribute_not_exists(id)")
            .build()?;
        let count = Update::builder()
            .table_name(&self.table)
            .key("owner", text(threshold.owner.key()))
            .key("id", text(COUNT))
            .update_expression("ADD thresholds :one")
            .condition_expression("attribute_not_exists(thresholds) OR thresholds < :most")
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":most", number(MAX_THRESHOLDS))
            .build()?;
        Ok(vec![TransactWriteItem::builder().put(put).build(), TransactWriteItem::builder().update(count).build()])
    }

    /// Changes a threshold; gives it as it is then, or `None` where there is none of this id.
    ///
    /// # Errors
    /// [`TableError`]
    pub async fn change(&self, change: &ThresholdChange, now: Timestamp) -> Result<Option<Threshold>, TableError> {
        let Some((id, owner)) = ThresholdId::parse(&change.id) else { return Ok(None) };
        let fields = [
            ("enabled", change.enabled.map(AttributeValue::Bool)),
            ("amount", change.amount.map(number)),
            ("channels", change.channels.as_deref().map(dynamo::channels)),
            ("updatedAt", Some(text(now.to_string()))),
        ];
        let named: Vec<_> = fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let sets: Vec<_> = named.iter().map(|(name, _)| format!("#{name} = :{name}")).collect();
        let mut update = self.client.update_item().table_name(&self.table);
        for (name, value) in named {
            update = update.expression_attribute_names(format!("#{name}"), name);
            update = update.expression_attribute_values(format!(":{name}"), value);
        }
        let update = update
            .key("owner", text(owner.key()))
            .key("id", text(id.as_str()))
            .update_expression(format!("SET {}", sets.join(", ")))
            .condition_expression("attribute_exists(id)")
            .return_values(ReturnValue::AllNew);
        match update.send().await {
            Ok(answer) => match answer.attributes.as_ref().and_then(read) {
                Some(threshold) => Ok(Some(threshold)),
                None => Err(TableError::because("a threshold that was changed cannot be read")),
            },
            Err(error) if dynamo::condition_failed(&error) => Ok(None),
            Err(error) => Err(TableError::of(error)),
        }
    }
}

fn item(threshold: &Threshold) -> Item {
    let optional = [
        ("userId", threshold.owner.user().map(UserId::as_str).map(text)),
        ("createdAt", threshold.created_at.map(|at| text(at.to_string()))),
        ("updatedAt", threshold.updated_at.map(|at| text(at.to_string()))),
    ];
    let always = [
        ("owner", text(threshold.owner.key())),
        ("id", text(threshold.name())),
        ("kind", text(threshold.kind.as_str())),
        ("amount", number(threshold.amount)),
        ("severity", text(threshold.severity.as_str())),
        ("channels", dynamo::channels(&threshold.channels)),
        ("provider", dynamo::provider(threshold.provider)),
        ("enabled", AttributeValue::Bool(threshold.enabled)),
    ];
    let there = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
    always.into_iter().chain(there).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A threshold's item. The count is none; one that cannot be read is left out, for it must not hide the others.
fn read(item: &Item) -> Option<Threshold> {
    let members = Members(item);
    let id = members.text("id").filter(|id| *id != COUNT)?;
    let read = || {
        let (id, owner) = ThresholdId::parse(id)?;
        Some(Threshold {
            owner,
            id: Some(id),
            kind: ThresholdKind::from_name(members.text("kind")?)?,
            amount: members.usd("amount")?,
            severity: members.severity("severity")?,
            channels: members.channels("channels")?,
            provider: members.provider("provider")?,
            enabled: members.flag("enabled")?,
            created_at: members.time("createdAt"),
            updated_at: members.time("updatedAt"),
        })
    };
    let threshold = read();
    if threshold.is_none() {
        tracing::error!("a threshold cannot be read");
    }
    threshold
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_read_as_it_was_written_and_the_count_is_none() {
        let owner = Owner::from(UserId::parse("ana").ok());
        let mut threshold = Threshold::default_of(&owner, ThresholdKind::Monthly).unwrap();
        threshold.id = Some(ThresholdId::generate(&owner));
        threshold.created_at = "2026-11-21T10:20:30.456Z".parse().ok();
        assert_eq!(read(&item(&threshold)), Some(threshold.clone()));
        let count = Item::from([("owner".to_owned(), text("user#ana")), ("id".to_owned(), text(COUNT))]);
        assert_eq!(read(&count), None);
    }
}
