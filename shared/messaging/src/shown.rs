//! The tables that show messages: `huntaze-of-messages`, `huntaze-of-threads` and `huntaze-of-aggregates` in DynamoDB.
//!
//! | table | hash | range | an item |
//! |---|---|---|---|
//! | messages | `accountId` | `messageId` | a message: text, fan, status, times |
//! | threads | `accountId` | `recipientId` | a conversation: how many messages, and the last one |
//! | aggregates | `accountId` | `day`, UTC | how many messages of that day stand where, to how many fans |
//!
//! They are made from PostgreSQL, which is the truth, and each item has the version of what it was made of: an older one never
//! takes the place of a newer one, so it does not matter who writes when. What could not be written is written by the sweep.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::DisplayErrorContext;
use aws_sdk_dynamodb::types::AttributeValue;
use huntaze_domain::env::Env;
use huntaze_domain::ids::MessageId;
use serde_json::Value;

use crate::outbox::{Outbox, OutboxError};

/// Why an item was not written.
#[derive(Debug, thiserror::Error)]
pub enum ShownError {
    /// PostgreSQL.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// DynamoDB, in its own words, for the log only.
    #[error("DynamoDB did not take an item: {0}")]
    Table(String),
}

type Item = HashMap<String, AttributeValue>;

/// The three tables.
#[derive(Debug, Clone)]
pub struct Shown {
    client: Client,
    messages: String,
    threads: String,
    aggregates: String,
}

impl Shown {
    /// Reads `DYNAMODB_OF_MESSAGES_TABLE`, `DYNAMODB_OF_THREADS_TABLE` and `DYNAMODB_OF_AGGREGATES_TABLE`; nothing is called.
    #[must_use]
    pub fn from_env(env: &Env, client: Client) -> Self {
        Self {
            client,
            messages: env.or("DYNAMODB_OF_MESSAGES_TABLE", "huntaze-of-messages"),
            threads: env.or("DYNAMODB_OF_THREADS_TABLE", "huntaze-of-threads"),
            aggregates: env.or("DYNAMODB_OF_AGGREGATES_TABLE", "huntaze-of-aggregates"),
        }
    }

    /// Writes what is to be shown of a message, its conversation and its account's day. What fails is left to the sweep.
    pub async fn project(&self, outbox: &Outbox, message: &MessageId) {
        if let Err(error) = self.try_project(outbox, message).await {
            tracing::warn!(%error, "what is shown of a message is left to the sweep");
        }
    }

    /// The same.
    ///
    /// # Errors
    /// [`ShownError`]
    pub async fn try_project(&self, outbox: &Outbox, message: &MessageId) -> Result<(), ShownError> {
        let Some(truth) = outbox.projection(message).await? else { return Ok(()) };
        let (row, thread, day) = (&truth["message"], &truth["thread"], &truth["day"]);
        tokio::try_join!(
            self.put(&self.messages, shown(row), &row["version"]),
            self.put(&self.threads, conversation(row, thread), &thread["version"]),
            self.put(&self.aggregates, aggregate(row, day), &day["version"]),
        )?;
        outbox.projected(message, row["version"].as_i64().unwrap_or_default()).await?;
        Ok(())
    }

    /// Puts an item unless a newer one is there.
    async fn put(&self, table: &str, item: Item, version: &Value) -> Result<(), ShownError> {
        let number = AttributeValue::N(version.to_string());
        let put = self.client.put_item().table_name(table).set_item(Some(item)).item("version", number.clone());
        let put = put.condition_expression("attribute_not_exists(version) OR version < :version");
        match put.expression_attribute_values(":version", number).send().await {
            Ok(_) => Ok(()),
            Err(error)
                if error.as_service_error().is_some_and(|error| error.is_conditional_check_failed_exception()) =>
            {
                Ok(())
            }
            Err(error) => Err(ShownError::Table(DisplayErrorContext(error).to_string())),
        }
    }
}

/// A message as apps read it.
fn shown(row: &Value) -> Item {
    texts(
        row,
        &[
            ("accountId", "account_id"),
            ("messageId", "id"),
            ("userId", "user_id"),
            ("recipientId", "recipient_id"),
            ("content", "content"),
            ("messageType", "message_type"),
            ("priority", "priority"),
            ("failure", "failure"),
            ("platformId", "platform_id"),
            ("workflowId", "workflow_id"),
            ("status", "status"),
            ("createdAt", "created_at"),
            ("settledAt", "settled_at"),
        ],
    )
}

fn conversation(row: &Value, thread: &Value) -> Item {
    let mut item = texts(row, &[("accountId", "account_id"), ("recipientId", "recipient_id"), ("userId", "user_id")]);
    let names = ["lastMessageId", "lastStatus", "lastMessageAt", "lastSentAt"];
    item.extend(texts(thread, &names.map(|name| (name, name))));
    item.extend(numbers(thread, &["messages", "sent"]));
    item
}

fn aggregate(row: &Value, day: &Value) -> Item {
    let mut item = texts(row, &[("accountId", "account_id"), ("userId", "user_id")]);
    item.extend(texts(day, &[("day", "day")]));
    item.extend(numbers(day, &["messages", "recipients"]));
    let statuses = day["byStatus"].as_object().into_iter().flatten();
    let counts = statuses.map(|(status, count)| (status.clone(), AttributeValue::N(count.to_string())));
    item.insert("byStatus".to_owned(), AttributeValue::M(counts.collect()));
    item
}

/// The texts of some members, under other names. What is null is left out.
fn texts(of: &Value, names: &[(&str, &str)]) -> Item {
    let texts = names.iter().filter_map(|(name, member)| Some((*name, of[*member].as_str()?)));
    texts.map(|(name, text)| (name.to_owned(), AttributeValue::S(text.to_owned()))).collect()
}

fn numbers(of: &Value, names: &[&str]) -> Item {
    let numbers = names.iter().filter(|name| of[**name].is_number());
    numbers.map(|name| ((*name).to_owned(), AttributeValue::N(of[*name].to_string()))).collect()
}
