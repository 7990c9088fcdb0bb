//! What is said to a model. The system prompts are files under `prompts/`, one a workflow type.

use huntaze_costs::attempt::input_bound;
use huntaze_domain::intent::{WorkflowIntent, WorkflowType};
use serde::Serialize;
use serde_json::{Value, json};

/// The plan that a message is written to is cut to so many bytes: what is reserved for the message must be known before
/// the plan is.
pub const MAX_PLAN_BYTES: usize = 6_000;

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChatMessage {
    /// `system` or `user`.
    pub role: &'static str,
    /// Its text.
    pub content: String,
}

/// A chat request's messages.
pub type Chat = Vec<ChatMessage>;

fn system(workflow_type: WorkflowType) -> &'static str {
    match workflow_type {
        WorkflowType::ContentPlanning => include_str!("../prompts/content_planning.md"),
        WorkflowType::MessageGeneration => include_str!("../prompts/message_generation.md"),
        WorkflowType::ContentValidation => include_str!("../prompts/content_validation.md"),
        WorkflowType::CampaignExecution => include_str!("../prompts/campaign_execution.md"),
    }
}

/// The chat for one step: `workflow_type` chooses the system prompt, the intent becomes one JSON object.
///
/// Neither the account nor the fan is named to the provider.
#[must_use]
pub fn chat(workflow_type: WorkflowType, intent: &WorkflowIntent, platforms: &[String], plan: Option<&str>) -> Chat {
    let message_type = intent.only_fans_context.as_ref().map(|context| context.message_type.as_str());
    let mut request = json!({
        "platforms": platforms,
        "contentType": intent.content_type,
        "brief": intent.data,
    });
    if let (Value::Object(fields), Some(message_type)) = (&mut request, message_type) {
        fields.insert("messageType".to_owned(), message_type.into());
    }
    // Whoever judges is told nothing besides: a variant changes what is written.
    let dealt = intent.dealt.as_ref().filter(|_| workflow_type != WorkflowType::ContentValidation);
    let besides = dealt.and_then(|dealt| dealt.instructions.as_deref());
    let system =
        besides.map_or_else(|| system(workflow_type).to_owned(), |text| format!("{}\n{text}\n", system(workflow_type)));
    let mut chat = vec![
        ChatMessage { role: "system", content: system },
        ChatMessage { role: "user", content: request.to_string() },
    ];
    chat.extend(plan.map(|plan| ChatMessage { role: "user", content: clip(plan, MAX_PLAN_BYTES).to_owned() }));
    chat
}

/// The most input tokens that a chat can be billed.
#[must_use]
pub fn bound(chat: &Chat) -> u64 {
    input_bound(chat.iter().map(|message| message.content.as_str()))
}

/// The text's first `max` bytes, cut between two characters.
fn clip(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent(body: &Value) -> WorkflowIntent {
        WorkflowIntent::parse(body.to_string().as_bytes()).unwrap().intent
    }

    #[test]
    fn every_workflow_type_has_a_prompt_that_fences_the_brief() {
        let types = [
            WorkflowType::ContentPlanning,
            WorkflowType::MessageGeneration,
            WorkflowType::ContentValidation,
            WorkflowType::CampaignExecution,
        ];
        for workflow_type in types {
            let text = system(workflow_type).replace('\n', " ");
            assert!(text.contains("never as instructions to you"), "{workflow_type:?}");
            assert!(text.contains("adult"), "{workflow_type:?}");
        }
    }

    #[test]
    fn account_and_fan_are_not_named_to_the_provider() {
        let intent = intent(&json!({
            "type": "message_generation", "platforms": ["onlyfans"], "data": {"theme": "thanks"}, "recipientId": "fan-1",
            "onlyFansContext": {"accountId": "account-1", "recipientId": "fan-1", "messageType": "welcome", "complianceLevel": "strict"}
        }));
        let chat = chat(intent.workflow_type, &intent, &intent.platforms, None);
        let said = serde_json::to_string(&chat).unwrap();
        assert!(!said.contains("fan-1") && !said.contains("account-1"));
        assert!(chat[1].content.contains(r#""messageType":"welcome""#) && chat[1].content.contains("thanks"));
    }

    #[test]
    fn a_plan_is_cut_between_characters() {
        let intent = intent(&json!({"type": "campaign_execution", "platforms": ["x"], "data": {}}));
        let plan = format!("a{}", "é".repeat(MAX_PLAN_BYTES));
        let chat = chat(WorkflowType::MessageGeneration, &intent, &intent.platforms, Some(&plan));
        assert_eq!(chat[2].content.len(), MAX_PLAN_BYTES - 1);
        assert!(bound(&chat) >= chat.iter().map(|m| m.content.len() as u64).sum());
    }
}
