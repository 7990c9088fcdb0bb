//! What a workflow that has all its texts answers, and what of it a fan can be sent. Pure.

use huntaze_compliance::{Action, Quality, quality};
use huntaze_domain::ids::{AccountId, MessageId, UserId, WorkflowId};
use huntaze_domain::intent::{ComplianceLevel, MessageType, WorkflowIntent, WorkflowType};
use huntaze_domain::money::Usd;
use huntaze_judge::Judged;
use huntaze_messaging::message;
use huntaze_messaging::outbox::{NewMessage, Rules};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::brief;
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
    /// A person has looked at the texts.
    pub(crate) approved: bool,
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
        if let Some(score) =
            self.texts.iter().filter_map(|(_, text)| Some(text.judged.as_ref()?.score)).reduce(f64::min)
        {
            result["data"]["complianceScore"] = score.into();
        }
        // A campaign is as good as the weakest of its texts.
        if let Some(score) =
            self.texts.iter().filter_map(|(step, text)| Some(self.quality(step, text)?.score)).reduce(f64::min)
        {
            result["data"]["qualityScore"] = score.into();
        }
        if let Some(cache) = self.cache() {
            result["data"]["cached"] = true.into();
            result["data"]["cache"] = cache;
        }
        result
    }

    fn content(&self, step: &Step, text: &Text) -> Value {
        let Text { content, truncated, made, judged } = text;
        let mut item = json!({"step": step.name, "content": content, "truncated": truncated});
        if let Some(made) = made {
            item["cache"] = made.to_json(self.now);
        }
        if let Some(judged) = judged {
            item["compliance"] = judged.to_json();
        }
        if let Some(quality) = self.quality(step, text) {
            item["quality"] = json!(quality);
        }
        item
    }

    /// How well a text does what the brief asks for; nothing is said of a validation, which is about another text.
    fn quality(&self, step: &Step, text: &Text) -> Option<Quality> {
        let validates = step.prompt == WorkflowType::ContentValidation;
        (!validates).then(|| brief::of(self.intent, step, text.truncated, |brief| quality(&text.content, brief)))
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
        let (text, judged) = match self.for_fan() {
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
            judged: &judged,
            approved: asked.approved,
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

    /// The text for the fan with what its account adds to it, and what was said of it.
    pub(crate) fn for_fan(&self) -> Result<(String, Judged), &'static str> {
        let mut texts = self.texts.iter().filter(|(step, _)| step.is_for_fans());
        let (_, Text { content, truncated, judged, .. }) = texts.next().ok_or("there is no text for a fan")?;
        if *truncated {
            return Err("the text was cut short");
        }
        let judged = judged.clone().unwrap_or_else(|| huntaze_judge::unread(content));
        if judged.verdict == Action::Block {
            return Err("the text breaks the rules");
        }
        let content = content.trim();
        let content = match &judged.disclosure {
            Some(disclosure) if !content.contains(disclosure.as_str()) => format!("{content}\n\n{disclosure}"),
            _ => content.to_owned(),
        };
        let content = message::content(&content);
        Ok((content.ok_or("the text is empty, or longer than 1000 characters with its disclosure")?, judged))
    }
}
