//! Which texts are the same: those that the same user asks for with the same words, for the same recipient.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use huntaze_domain::ids::{RecipientId, UserId};
use huntaze_domain::intent::{WorkflowIntent, WorkflowType};
use huntaze_domain::provider::Provider;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::prompt::Chat;
use crate::route::{Role, Step};

/// The layout of the key and of what is kept under it. Another word, and nothing that was kept before is found.
const LAYOUT: &str = "huntaze-cache-1";

/// The name of a step's text in the cache: a digest, so that neither user nor brief is read from it.
///
/// Two steps have the same key if everything is the same of: the owner; recipient and account, where the request names them;
/// the workflow's type; the role and the most output that it may have; the forced provider; the messages of the chat. Those hold the
/// system prompt, whose own text so is its version, and the plan. The brief is taken without what no reader of it would see: the order
/// of names, and white space around words.
///
/// Which of a role's candidates is asked is no part of it, nor what it may cost or who is preferred: they stand in for each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    digest: String,
    kind: WorkflowType,
}

impl Key {
    /// The key of one step's text. `chat` is what is said to the model for it, `owner` whose workflow it is.
    #[must_use]
    pub fn of(owner: &UserId, intent: &WorkflowIntent, step: &Step, chat: &Chat) -> Self {
        let mut parts = Parts::default();
        parts.text(LAYOUT);
        parts.text(owner.as_str());
        let context = intent.only_fans_context.as_ref();
        parts.option(intent.recipient_id.as_ref().map(RecipientId::as_str));
        parts.option(context.and_then(|context| context.recipient_id.as_deref()));
        parts.option(context.map(|context| context.account_id.as_str()));
        parts.text(intent.workflow_type.as_str());
        parts.text(role(step.role));
        parts.number(step.role.max_output_tokens());
        parts.option(intent.force_provider.map(Provider::as_str));
        parts.chat(chat);
        Self { digest: parts.hex(), kind: intent.workflow_type }
    }

    /// Whose times hold for it.
    pub(super) fn kind(&self) -> WorkflowType {
        self.kind
    }

    /// Where the text is kept. In braces, so that a cluster has it in one slot with its flight.
    pub(super) fn value(&self) -> String {
        format!("huntaze:cache:{{{}}}", self.digest)
    }

    /// Where it is kept who is making the text.
    pub(super) fn flight(&self) -> String {
        format!("{}:flight", self.value())
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Planner => "planner",
        Role::ShortMessage => "short_message",
        Role::Validator => "validator",
    }
}

/// A digest of parts that no two lists of parts share: each is led by what it is and how long it is.
#[derive(Default)]
struct Parts(Sha256);

impl Parts {
    fn part(&mut self, kind: u8, bytes: &[u8]) {
        self.open(kind, bytes.len());
        self.0.update(bytes);
    }

    /// So many parts of their own follow, or bytes.
    fn open(&mut self, kind: u8, length: usize) {
        self.0.update([kind]);
        self.0.update((length as u64).to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.part(b't', text.as_bytes());
    }

    fn number(&mut self, number: u64) {
        self.part(b'u', &number.to_be_bytes());
    }

    fn option(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.open(b'-', 0),
        }
    }

    /// The first user message is the request as JSON, whose texts are a person's; every other is taken as it stands.
    fn chat(&mut self, chat: &Chat) {
        self.open(b'c', chat.len());
        let request = chat.iter().position(|message| message.role == "user");
        for (at, message) in chat.iter().enumerate() {
            self.text(message.role);
            match serde_json::from_str(&message.content) {
                Ok(json) if Some(at) == request => self.json(&json),
                _ => self.text(&message.content),
            }
        }
    }

    /// A JSON value; the names of an object are in order, whatever order a map keeps them in.
    fn json(&mut self, value: &Value) {
        match value {
            Value::Null => self.open(b'n', 0),
            Value::Bool(value) => self.part(b'b', &[u8::from(*value)]),
            Value::Number(number) => self.part(b'd', number.to_string().as_bytes()),
            Value::String(text) => self.part(b's', words(text).as_bytes()),
            Value::Array(items) => {
                self.open(b'a', items.len());
                items.iter().for_each(|item| self.json(item));
            }
            Value::Object(fields) => {
                self.open(b'o', fields.len());
                for (name, value) in fields.iter().collect::<BTreeMap<_, _>>() {
                    self.text(name);
                    self.json(value);
                }
            }
        }
    }

    fn hex(self) -> String {
        self.0.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
            // Writing into a text cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

/// The words of a text, a space between two.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;
    use crate::prompt;
    use crate::route::steps;

    fn asked_by(owner: &str, body: &str, index: usize, plan: Option<&str>) -> (Step, Chat, Key) {
        let intent = WorkflowIntent::parse(body.as_bytes()).unwrap().intent;
        let step = steps(&intent).swap_remove(index);
        let chat = prompt::chat(step.prompt, &intent, &step.platforms, plan.filter(|_| step.follows_plan));
        let key = Key::of(&UserId::parse(owner).unwrap(), &intent, &step, &chat);
        (step, chat, key)
    }

    fn key(body: &Value) -> Key {
        asked_by("ana", &body.to_string(), 0, None).2
    }

    fn request() -> Value {
        json!({
            "type": "message_generation", "platforms": ["onlyfans", "x"], "data": {"theme": "thanks"}, "recipientId": "fan-1",
            "onlyFansContext": {"accountId": "acc", "recipientId": "fan-1", "messageType": "custom", "complianceLevel": "strict"}
        })
    }

    fn with(pointer: &str, value: Value) -> Value {
        let mut body = request();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[name] = value;
        body
    }

    fn all_differ(keys: &[Key]) {
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(keys.iter().position(|other| other.digest == key.digest), Some(at));
        }
    }

    #[test]
    fn design_a_text_is_nobody_elses_and_for_nobody_else() {
        let (_, _, bobs) = asked_by("bob", &request().to_string(), 0, None);
        let mut nobodys = request();
        nobodys.as_object_mut().unwrap().remove("recipientId");
        all_differ(&[
            key(&request()),
            bobs,
            key(&nobodys),
            key(&with("/recipientId", json!("fan-2"))),
            key(&with("/recipientId", json!("fan 1"))),
            key(&with("/onlyFansContext/recipientId", json!("fan-2"))),
            key(&with("/onlyFansContext/recipientId", json!(null))),
            key(&with("/onlyFansContext/accountId", json!("acc-2"))),
        ]);
    }

    #[test]
    fn whatever_makes_it_another_text_makes_another_key() {
        let mut plain = request();
        plain.as_object_mut().unwrap().remove("onlyFansContext");
        all_differ(&[
            key(&request()),
            key(&plain),
            key(&with("/type", json!("content_planning"))),
            key(&with("/type", json!("content_validation"))),
            key(&with("/type", json!("campaign_execution"))),
            key(&with("/platforms", json!(["x", "onlyfans"]))),
            key(&with("/platforms", json!(["onlyfans"]))),
            key(&with("/contentType", json!("story"))),
            key(&with("/onlyFansContext/messageType", json!("welcome"))),
            key(&with("/forceProvider", json!("azure"))),
            key(&with("/forceProvider", json!("openai"))),
            key(&with("/data/theme", json!("Thanks"))),
            key(&with("/data/theme", json!(["thanks"]))),
            key(&with("/data/tone", json!("warm"))),
        ]);
    }

    #[test]
    fn what_decides_only_who_is_asked_or_how_makes_no_other_key() {
        for (pointer, value) in [
            ("/preferredProvider", json!("azure")),
            ("/priority", json!("critical")),
            ("/maxCost", json!(0.5)),
            ("/clientVersion", json!("2.0")),
            ("/onlyFansContext/complianceLevel", json!("relaxed")),
            ("/contentType", json!(" post\n")),
        ] {
            assert_eq!(key(&with(pointer, value)), key(&request()), "{pointer}");
        }
    }

    #[test]
    fn role_system_prompt_and_plan_are_part_of_it() {
        let body = with("/type", json!("campaign_execution")).to_string();
        let (plan, message) = (asked_by("ana", &body, 0, None), asked_by("ana", &body, 1, Some("one plan")));
        let intent = WorkflowIntent::parse(body.as_bytes()).unwrap().intent;
        let key = |step: &Step, chat: &Chat| Key::of(&UserId::parse("ana").unwrap(), &intent, step, chat);
        let judged = Step { role: Role::Validator, ..plan.0.clone() };
        let mut reworded = plan.1.clone();
        reworded[0].content.push(' ');
        all_differ(&[
            key(&judged, &plan.1),
            key(&plan.0, &reworded),
            plan.2,
            message.2,
            asked_by("ana", &body, 1, Some("one  plan")).2,
            asked_by("ana", &body, 1, None).2,
            asked_by("ana", &body, 2, Some("one plan")).2,
        ]);
    }

    #[test]
    fn a_key_shows_neither_user_nor_brief_and_is_in_one_slot_with_its_flight() {
        let key = key(&request());
        let hex =
            key.value().strip_prefix("huntaze:cache:{").and_then(|rest| rest.strip_suffix('}')).unwrap().to_owned();
        assert!(hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()), "{hex}");
        assert_eq!(key.flight(), format!("huntaze:cache:{{{hex}}}:flight"));
    }

    /// Few letters, so that briefs are often the same but for their white space, or nearly the same.
    fn brief() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..3).prop_map(Value::from),
            "[ab \n\u{a0}]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 8, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::btree_map("[ab ]{1,2}", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    /// The same value as somebody else would write it: names from last to first, white space wherever there may be some.
    fn rewritten(value: &Value, space: &str) -> String {
        let list = |items: Vec<String>| items.join(&format!("{space},{space}"));
        match value {
            Value::String(text) => {
                let text = text.split(' ').collect::<Vec<_>>().join(&format!(" {space}"));
                Value::from(format!("{space}{text} ")).to_string()
            }
            Value::Array(items) => format!("[{}]", list(items.iter().map(|item| rewritten(item, space)).collect())),
            Value::Object(map) => {
                let field = |(name, value): (&String, &Value)| {
                    format!("{}:{space}{}", Value::from(name.as_str()), rewritten(value, space))
                };
                format!("{{{}}}", list(map.iter().rev().map(field).collect()))
            }
            plain => plain.to_string(),
        }
    }

    /// What is left of a brief: its own second form, not the key's.
    fn normal(value: &Value) -> Value {
        match value {
            Value::String(text) => {
                let mut normal = text.replace(char::is_whitespace, " ");
                while normal.contains("  ") {
                    normal = normal.replace("  ", " ");
                }
                Value::from(normal.trim_matches(' '))
            }
            Value::Array(items) => items.iter().map(normal).collect(),
            Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), normal(value))).collect(),
            plain => plain.clone(),
        }
    }

    fn body_with(brief: &str) -> String {
        format!(r#"{{"type":"content_planning","platforms":["x"],"data":{{"brief":{brief}}}}}"#)
    }

    fn planned(brief: &str) -> Key {
        asked_by("ana", &body_with(brief), 0, None).2
    }

    fn digest(texts: &[&str]) -> String {
        let mut parts = Parts::default();
        texts.iter().for_each(|text| parts.text(text));
        parts.hex()
    }

    proptest! {
        #[test]
        fn white_space_and_the_order_of_names_make_no_other_key(brief in brief(), space in "[ \n\t]{0,3}") {
            prop_assert_eq!(planned(&brief.to_string()), planned(&rewritten(&brief, &space)));
        }

        #[test]
        fn any_other_difference_of_the_brief_does(one in brief(), other in brief()) {
            let same = normal(&one) == normal(&other);
            prop_assert_eq!(planned(&one.to_string()) == planned(&other.to_string()), same, "{} {}", one, other);
        }

        #[test]
        fn a_character_that_moves_to_the_next_part_makes_another_key(
            text in "[a-z]{2,12}", cut in any::<prop::sample::Index>(), other in any::<prop::sample::Index>()
        ) {
            let (cut, other) = (cut.index(text.len() + 1), other.index(text.len() + 1));
            let at = |cut: usize| digest(&[&text[..cut], &text[cut..]]);
            prop_assert_eq!(at(cut) == at(other), cut == other);
            prop_assert_ne!(at(cut), digest(&[&text]));
            // Of a request: from the fan to the account, from one platform to the next, from a name to its text.
            let moved = |cut: usize| {
                let mut body = with("/onlyFansContext/recipientId", json!(format!("f{}", &text[..cut])));
                body["onlyFansContext"]["accountId"] = json!(format!("a{}", &text[cut..]));
                let mut platforms = with("/platforms", json!([format!("p{}", &text[..cut]), format!("q{}", &text[cut..])]));
                platforms["data"] = json!({format!("n{}", &text[..cut]): format!("t{}", &text[cut..])});
                (key(&body), key(&platforms))
            };
            let (one, another) = (moved(cut), moved(other));
            prop_assert_eq!((one.0 == another.0, one.1 == another.1), (cut == other, cut == other));
        }
    }
}
