//! What a workflow that has all its texts answers, and what of it a fan can be sent. Pure.

use huntaze_domain::ids::{AccountId, MessageId, UserId, WorkflowId};
use huntaze_domain::intent::{ComplianceLevel, MessageType, WorkflowIntent};
use huntaze_domain::money::Usd;
use huntaze_messaging::message;
use huntaze_messaging::outbox::{NewMessage, Rules};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cache::Maker;
use crate::drive::Booked;
use crate::route::Step;
use crate::status::booked_summary;
use crate::store::Outgoing;
use crate::workflow::{Text, WorkflowStatus};

/// A workflow with its texts.
pub(crate) struct Written<'a> {
    pub(crate) id: &'a WorkflowId,
    pub(crate) intent: &'a WorkflowIntent,
    /// Each step that has one, in their order.
    pub(crate) texts: Vec<(&'a Step, &'a Text)>,
    pub(crate) booked: &'a [Booked],
    pub(crate) begun_at: Timestamp,
    pub(crate) now: Timestamp,
}

/// Who asked for it, and how it is found again.
pub(crate) struct Asked<'a> {
    pub(crate) owner: &'a UserId,
    pub(crate) requested_by: &'a UserId,
    pub(crate) body_hash: [u8; 32],
    pub(crate) request_id: &'a str,
    pub(crate) trace_id: &'a str,
}

impl Written<'_> {
    /// `{"data", "metrics"}` of the contract.
    pub(crate) fn result(&self) -> Value {
        let summary = booked_summary(self.booked);
        let spent: Usd = self.booked.iter().map(|call| call.settlement.cost).sum();
        let duration = (self.now.as_millisecond() - self.begun_at.as_millisecond()).max(0);
        let content: Vec<_> = self
            .texts
            .iter()
            .map(|(step, text)| match step.name.strip_prefix("message:") {
                Some(platform) => format!("## {platform}\n\n{}", text.content),
                None => text.content.clone(),
            })
            .collect();
        let mut result = json!({
            "data": {
                "workflowId": self.id,
                "content": content.join("\n\n"),
                "contents": self.texts.iter().map(|(step, text)| self.content(step, text)).collect::<Vec<_>>(),
                "provider": summary.provider,
                "platforms": self.intent.platforms,
                "status": WorkflowStatus::Completed,
                "detailedCosts": summary.detailed_costs,
            },
            "metrics": {
                "duration": duration,
                "provider": summary.provider,
                "cost": {"tokens": summary.tokens, "cost": spent.to_json_number(), "duration": duration},
            },
        });
        if let Some(cache) = self.cache() {
            result["data"]["cached"] = true.into();
            result["data"]["cache"] = cache;
        }
        result
    }

    fn content(&self, step: &Step, Text { content, truncated, made }: &Text) -> Value {
        let mut item = json!({"step": step.name, "content": content, "truncated": truncated});
        if let Some(made) = made {
            item["cache"] = made.to_json(self.now);
        }
        item
    }

    /// How old the oldest of the texts is that were made before, and what they saved together.
    fn cache(&self) -> Option<Value> {
        let made: Vec<&Maker> = self.texts.iter().filter_map(|(_, text)| text.made.as_ref()).collect();
        let oldest = made.iter().map(|made| made.age(self.now)).max()?;
        let saved: Usd = made.iter().map(|made| made.cost()).sum();
        Some(json!({"ageSeconds": oldest.as_secs(), "savedCost": saved.to_json_number(), "texts": made.len()}))
    }

    /// What is said of the message, and the message, where there is a text that a fan can be sent.
    pub(crate) fn message(&self, asked: &Asked<'_>, account: &AccountId, sending: &Rules) -> (Value, Option<Outgoing>) {
        let failed = |reason| (json!({"status": "failed", "accountId": account, "error": reason}), None);
        let Some(recipient_id) = &self.intent.recipient_id else { return failed("there is no recipient") };
        let text = match self.for_fan() {
            Ok(text) => text,
            Err(reason) => return failed(reason),
        };
        let id = MessageId::generate();
        let context = self.intent.only_fans_context.as_ref();
        let message = NewMessage {
            id: &id,
            account_id: Some(account),
            user_id: asked.owner,
            requested_by: asked.requested_by,
            workflow_id: Some(self.id),
            idempotency_key: None,
            body_hash: asked.body_hash,
            recipient_id,
            content: &text,
            message_type: context.map_or(MessageType::Custom, |context| context.message_type),
            priority: self.intent.priority,
            compliance_level: context.map_or(ComplianceLevel::Relaxed, |context| context.compliance_level),
            not_before: self.now,
            metadata: None,
            request_id: asked.request_id,
            trace_id: asked.trace_id,
        };
        let (approval, priority_step) = (sending.approval, sending.priority_step);
        let outgoing = Outgoing { row: message.row(sending.retries), approval, priority_step };
        (json!({"messageId": id, "accountId": account}), Some(outgoing))
    }

    /// The text for the fan.
    pub(crate) fn for_fan(&self) -> Result<String, &'static str> {
        let mut texts = self.texts.iter().filter(|(step, _)| step.is_for_fans());
        let (_, Text { content, truncated, .. }) = texts.next().ok_or("there is no text for a fan")?;
        if *truncated {
            return Err("the text was cut short");
        }
        message::content(content.trim()).ok_or("the text is empty, or longer than 1000 characters")
    }
}
