//! A message's place among those of its account.

use huntaze_domain::ids::MessageId;
use huntaze_postgres::Database;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio_postgres::types::Type;

use crate::account::overrides;
use crate::limiter::{Limiter, Overrides, Subject};
use crate::outbox::{Message, MessageStatus, OutboxError};
use crate::room::{Ahead, Room, after};

const PLACE: &str = include_str!("../sql/place.sql");

/// Where a message stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// How many of its account go before it, one that is being sent included.
    position: u32,
    ahead: Ahead,
    account_sends: bool,
    /// The account sends nothing before.
    resume_at: Option<Timestamp>,
    /// The account's own limits.
    overrides: Overrides,
}

impl Place {
    /// Where a message stands now.
    ///
    /// # Errors
    /// [`OutboxError`]
    pub async fn of(database: &Database, id: &MessageId) -> Result<Self, OutboxError> {
        let rows = database.query(PLACE, &[(&id.as_str() as _, Type::TEXT)]).await?;
        let row = rows.first().ok_or(OutboxError::Row)?;
        let count = |name: &str| u32::try_from(row.get::<_, i64>(name)).unwrap_or(u32::MAX);
        let limits: Value = row.get("limits");
        let limits: Map<String, Value> = limits.as_object().cloned().unwrap_or_default();
        Ok(Self {
            position: count("position"),
            ahead: Ahead {
                messages: count("messages"),
                to_the_fan: count("to_the_fan"),
                of_the_type: count("of_the_type"),
                other_fans: count("other_fans"),
            },
            account_sends: row.get::<_, &str>("account_status") == "active",
            resume_at: row.get("resume_at"),
            overrides: overrides(&limits),
        })
    }

    /// What the limits leave for a message.
    pub async fn room(&self, limiter: &Limiter, message: &Message) -> Room {
        let subject = Subject {
            account: &message.account_id,
            user: &message.user_id,
            recipient: Some(message.recipient_id.as_str()),
            kind: Some(message.message_type),
            overrides: &self.overrides,
        };
        Room::of(limiter, &subject).await
    }

    /// As the API shows it: while a message waits, its position and the earliest moment at which it can go by what is before it and
    /// by the limits. What is tried again, or comes in between with a higher priority, makes it later. Where a person has to do
    /// something first there is no such moment.
    #[must_use]
    pub fn to_json(&self, message: &Message, room: &Room, now: Timestamp) -> Value {
        let waits = match message.status {
            MessageStatus::Queued | MessageStatus::Claimed => None,
            MessageStatus::AwaitingApproval => Some("approval"),
            _ => return json!({"estimated": false}),
        };
        let mut shown = json!({"estimated": true, "position": self.position, "notBefore": message.not_before});
        match waits.or((!self.account_sends).then_some("account")) {
            Some(whom) => shown["waitsFor"] = json!(whom),
            None => shown["expectedAt"] = json!(self.expected_at(message, room, now)),
        }
        shown
    }

    fn expected_at(&self, message: &Message, room: &Room, now: Timestamp) -> Timestamp {
        let by_the_limits = after(now, room.wait(&self.ahead));
        by_the_limits.max(message.not_before).max(self.resume_at.unwrap_or(now))
    }
}
