//! What a campaign request asks for: a type that cannot hold an invalid request.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::error::FieldFault;
use crate::ids::{RECIPIENT, RecipientId, UserId};
use crate::json::{Fields, parse_object};
use crate::money::Usd;
use crate::provider::Provider;

/// A request names at most so many platforms: each may cost a call.
pub const MAX_PLATFORMS: usize = 10;
/// `maxCost` is at most this many dollars; a larger one is a slip of the keyboard.
const MAX_MAX_COST: f64 = 1_000_000.0;

macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant,)* }

        impl $name {
            /// What a value has to be, for a fault.
            pub const EXPECTED: &'static str = concat!("one of", $(" `", $text, "`",)*);

            /// The name on the wire and in the stores.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Reads the name on the wire.
            #[must_use]
            pub fn from_name(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }

            /// Reads a JSON value.
            #[must_use]
            pub fn read(value: &Value) -> Option<Self> {
                value.as_str().and_then(Self::from_name)
            }
        }
    };
}

wire_enum! {
    /// What kind of work is asked for.
    WorkflowType {
        /// A content plan.
        ContentPlanning = "content_planning",
        /// A message to a fan.
        MessageGeneration = "message_generation",
        /// A judgement of a given text.
        ContentValidation = "content_validation",
        /// A plan and, on several platforms, a message for each.
        CampaignExecution = "campaign_execution",
    }
}
wire_enum! {
    /// How urgent the request is.
    Priority {
        /// When there is nothing else.
        Low = "low",
        /// As usual.
        Medium = "medium",
        /// Before the usual.
        High = "high",
        /// First.
        Critical = "critical",
    }
}
wire_enum! {
    /// Which provider is tried first.
    Preference {
        /// Azure OpenAI.
        Azure = "azure",
        /// OpenAI.
        OpenAi = "openai",
        /// The role's own order.
        Auto = "auto",
    }
}
wire_enum! {
    /// What kind of message goes to a fan.
    MessageType {
        /// The first message to a new fan.
        Welcome = "welcome",
        /// A message in a conversation.
        FollowUp = "follow_up",
        /// An offer.
        Promotional = "promotional",
        /// Anything else.
        Custom = "custom",
    }
}
wire_enum! {
    /// How strictly a text is judged.
    ComplianceLevel {
        /// The default floor of an account.
        Strict = "strict",
        /// Between the two.
        Moderate = "moderate",
        /// What is never allowed stays forbidden.
        Relaxed = "relaxed",
    }
}

impl MessageType {
    /// How urgent a message of this kind is where nobody says so.
    #[must_use]
    pub fn priority(self) -> Priority {
        match self {
            Self::Welcome => Priority::High,
            Self::FollowUp | Self::Custom => Priority::Medium,
            Self::Promotional => Priority::Low,
        }
    }
}

/// The account and the fan that a text is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OnlyFansContext {
    /// The creator's account.
    pub account_id: String,
    /// The fan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipient_id: Option<String>,
    /// The kind of message.
    pub message_type: MessageType,
    /// How strictly the text is judged.
    pub compliance_level: ComplianceLevel,
}

/// A valid campaign request. Serializes to what is stored with the workflow.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowIntent {
    /// For whom, where an admin names another user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// The kind of work.
    #[serde(rename = "type")]
    pub workflow_type: WorkflowType,
    /// 1 to [`MAX_PLATFORMS`] different platforms.
    pub platforms: Vec<String>,
    /// The creative brief.
    pub data: Map<String, Value>,
    /// The kind of content, `post` by default.
    pub content_type: String,
    /// Whether the text is to be sent.
    pub send_to_only_fans: bool,
    /// To whom it is to be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipient_id: Option<RecipientId>,
    /// This provider or an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_provider: Option<Provider>,
    /// This provider first.
    pub preferred_provider: Preference,
    /// How urgent it is.
    pub priority: Priority,
    /// The most that the whole request may cost, exact decimal text in the store.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub max_cost: Option<Usd>,
    /// The client's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_version: Option<String>,
    /// The flags that the client knows.
    pub feature_flags: Vec<String>,
    /// Account and fan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_fans_context: Option<OnlyFansContext>,
    /// What its user was dealt of an experiment. No client says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dealt: Option<Dealt>,
}

/// A variant of an experiment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dealt {
    /// The experiment's name.
    pub experiment: String,
    /// The variant's.
    pub variant: String,
    /// What the model is told besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn as_text<S: serde::Serializer>(amount: &Option<Usd>, serializer: S) -> Result<S::Ok, S::Error> {
    amount.map(|usd| usd.to_string()).serialize(serializer)
}

/// A request as it was read: what it asks for, and which body it was.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedRequest {
    /// What it asks for.
    pub intent: WorkflowIntent,
    /// SHA-256 of the body's JSON with its names in order: the same for the same request, however it was spaced.
    pub body_hash: [u8; 32],
}

impl WorkflowIntent {
    /// Reads a request's body.
    ///
    /// # Errors
    /// Every fault that was found, each with its JSON pointer.
    pub fn parse(body: &[u8]) -> Result<ParsedRequest, Vec<FieldFault>> {
        let map = parse_object(body)?;
        let mut faults = Vec::new();
        match Self::read(&map, &mut faults) {
            Some(intent) if faults.is_empty() => {
                let canonical = Value::Object(map).to_string();
                Ok(ParsedRequest { intent, body_hash: Sha256::digest(canonical).into() })
            }
            _ => Err(faults),
        }
    }

    /// Reads what a valid request was stored as. `None`: it was not.
    #[must_use]
    pub fn restore(stored: &Value) -> Option<Self> {
        let mut map = stored.as_object()?.clone();
        let max_cost = match map.remove("maxCost") {
            Some(text) => Some(Usd::parse(text.as_str()?).ok()?),
            None => None,
        };
        let dealt = match map.remove("dealt") {
            Some(dealt) => Some(serde_json::from_value(dealt).ok()?),
            None => None,
        };
        let mut faults = Vec::new();
        let intent = Self::read(&map, &mut faults).filter(|_| faults.is_empty())?;
        Some(Self { max_cost, dealt, ..intent })
    }

    fn read(map: &Map<String, Value>, faults: &mut Vec<FieldFault>) -> Option<Self> {
        let only_fans_context = match map.get("onlyFansContext") {
            Some(Value::Object(context)) => read_context(context, faults),
            _ => None,
        };
        let mut fields = Fields::new(map, "", faults);
        fields.optional("onlyFansContext", "an object", Value::as_object);
        let workflow_type = fields.required("type", WorkflowType::EXPECTED, WorkflowType::read);
        let platforms = fields.required("platforms", "a list of 1 to 10 platform names", Value::as_array);
        let platforms = platforms.and_then(|list| read_platforms(list, &mut fields));
        let data = fields.required("data", "an object, the creative brief", Value::as_object);
        let send_to_only_fans = fields.optional("sendToOnlyFans", "true or false", Value::as_bool).unwrap_or(false);
        let recipient_id = fields.optional("recipientId", RECIPIENT, recipient);
        if send_to_only_fans && !writes_to_fans(workflow_type, platforms.as_deref()) {
            let expected = "only what writes a message can be sent: `message_generation`, or a `campaign_execution` on \
                            several platforms of which one is `onlyfans`";
            fields.fault("sendToOnlyFans", expected);
        }
        if send_to_only_fans && map.get("recipientId").is_none_or(Value::is_null) {
            fields.fault("recipientId", "is required where `sendToOnlyFans` is true");
        }
        let provider = |v: &Value| v.as_str().and_then(Provider::from_name);
        let max_cost = |v: &Value| {
            let dollars = v.as_f64().filter(|dollars| *dollars > 0.0 && *dollars <= MAX_MAX_COST)?;
            Usd::limit_from_json_number(dollars).ok().filter(|limit| *limit > Usd::ZERO)
        };
        let flags = |v: &Value| {
            let list = v.as_array().filter(|list| list.len() <= 100)?;
            list.iter().map(|item| short_text(item, 128)).collect::<Option<Vec<_>>>()
        };
        Some(Self {
            user_id: fields.optional("userId", "a user id", |v| v.as_str().and_then(|t| UserId::parse(t).ok())),
            content_type: fields
                .optional("contentType", "a text of 1 to 64 characters", |v| short_text(v, 64))
                .unwrap_or_else(|| "post".to_owned()),
            force_provider: fields.optional("forceProvider", "`azure` or `openai`", provider),
            preferred_provider: fields
                .optional("preferredProvider", Preference::EXPECTED, Preference::read)
                .unwrap_or(Preference::Auto),
            priority: fields.optional("priority", Priority::EXPECTED, Priority::read).unwrap_or(Priority::Medium),
            max_cost: fields.optional("maxCost", "dollars: at least 10^-12, at most 1000000", max_cost),
            client_version: fields.optional("clientVersion", "a text of 1 to 64 characters", |v| short_text(v, 64)),
            feature_flags: fields
                .optional("featureFlags", "a list of at most 100 texts of 1 to 128 characters", flags)
                .unwrap_or_default(),
            workflow_type: workflow_type?,
            platforms: platforms?,
            data: data?.clone(),
            send_to_only_fans,
            recipient_id,
            only_fans_context,
            dealt: None,
        })
    }
}

impl From<Provider> for Preference {
    fn from(provider: Provider) -> Self {
        match provider {
            Provider::Azure => Self::Azure,
            Provider::OpenAi => Self::OpenAi,
        }
    }
}

/// Whether a request leads to a message that a fan can be sent. What is faulty is no further fault.
fn writes_to_fans(workflow_type: Option<WorkflowType>, platforms: Option<&[String]>) -> bool {
    match (workflow_type, platforms) {
        (Some(WorkflowType::ContentPlanning | WorkflowType::ContentValidation), _) => false,
        (Some(WorkflowType::CampaignExecution), Some(platforms)) => {
            platforms.len() > 1 && platforms.iter().any(|platform| platform == "onlyfans")
        }
        _ => true,
    }
}

fn short_text(value: &Value, max: usize) -> Option<String> {
    value.as_str().filter(|text| (1..=max).contains(&text.chars().count())).map(str::to_owned)
}

/// The names in lower case, each once.
fn read_platforms(list: &[Value], fields: &mut Fields<'_>) -> Option<Vec<String>> {
    let mut platforms: Vec<String> = Vec::new();
    for (index, item) in list.iter().enumerate().take(MAX_PLATFORMS + 1) {
        // The list is open (the contract ends it with "…"), so a name is bounded by its form.
        let name = item.as_str().map(str::to_ascii_lowercase).filter(|name| {
            (1..=32).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
        });
        match name {
            Some(name) if platforms.contains(&name) => {}
            Some(name) => platforms.push(name),
            None => fields.fault_at("platforms", index, "must be a platform name: 1 to 32 of a-z, 0-9, `_` and `-`"),
        }
    }
    if !(1..=MAX_PLATFORMS).contains(&list.len()) {
        fields.fault("platforms", "must be a list of 1 to 10 platform names");
    }
    Some(platforms)
}

/// Reads a fan's id.
#[must_use]
pub fn recipient(value: &Value) -> Option<RecipientId> {
    value.as_str().and_then(|text| RecipientId::parse(text).ok())
}

fn read_context(map: &Map<String, Value>, faults: &mut Vec<FieldFault>) -> Option<OnlyFansContext> {
    let mut fields = Fields::new(map, "/onlyFansContext", faults);
    let id = |v: &Value| short_text(v, 128);
    let account_id = fields.required("accountId", "a text of 1 to 128 characters", id);
    let recipient_id = fields.optional("recipientId", "a text of 1 to 128 characters", id);
    let message_type = fields.required("messageType", MessageType::EXPECTED, MessageType::read);
    let compliance_level = fields.required("complianceLevel", ComplianceLevel::EXPECTED, ComplianceLevel::read);
    Some(OnlyFansContext {
        account_id: account_id?,
        recipient_id,
        message_type: message_type?,
        compliance_level: compliance_level?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(body: &Value) -> Result<ParsedRequest, Vec<FieldFault>> {
        WorkflowIntent::parse(body.to_string().as_bytes())
    }

    fn pointers(body: &Value) -> Vec<String> {
        parse(body).expect_err("faulty").into_iter().map(|fault| fault.pointer).collect()
    }

    fn minimal() -> Value {
        json!({"type": "content_planning", "platforms": ["onlyfans"], "data": {"theme": "summer"}})
    }

    fn with(name: &str, value: Value) -> Value {
        let mut body = minimal();
        body[name] = value;
        body
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let intent = parse(&minimal()).unwrap().intent;
        assert_eq!(intent.content_type, "post");
        assert_eq!(intent.priority, Priority::Medium);
        assert_eq!(intent.preferred_provider, Preference::Auto);
        assert!(!intent.send_to_only_fans);
        assert_eq!((intent.force_provider, intent.max_cost), (None, None));
    }

    #[test]
    fn what_was_stored_is_restored() {
        let body = json!({
            "type": "campaign_execution", "platforms": ["OnlyFans", "x"], "data": {"theme": "été", "n": 1.5}, "maxCost": 0.1,
            "sendToOnlyFans": true, "recipientId": "fan", "priority": "high", "forceProvider": "azure", "userId": "ana",
            "featureFlags": ["a"], "clientVersion": "1", "contentType": "story",
            "onlyFansContext": {"accountId": "a", "messageType": "welcome", "complianceLevel": "strict", "recipientId": "fan"}
        });
        for body in [body, minimal()] {
            let intent = parse(&body).unwrap().intent;
            assert_eq!(WorkflowIntent::restore(&serde_json::to_value(&intent).unwrap()), Some(intent));
        }
        for odd in [json!(1), json!({}), with("maxCost", json!("x"))] {
            assert_eq!(WorkflowIntent::restore(&odd), None, "{odd}");
        }
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        assert_eq!(pointers(&json!({})), ["/type", "/platforms", "/data"]);
        let body = json!({
            "type": "x", "platforms": ["onlyfans", 3, "A b", "é"], "data": [], "maxCost": 0, "priority": "urgent",
            "sendToOnlyFans": true, "onlyFansContext": {"accountId": "", "messageType": "x"}
        });
        let mut found = pointers(&body);
        found.sort();
        assert_eq!(
            found,
            [
                "/data",
                "/maxCost",
                "/onlyFansContext/accountId",
                "/onlyFansContext/complianceLevel",
                "/onlyFansContext/messageType",
                "/platforms/1",
                "/platforms/2",
                "/platforms/3",
                "/priority",
                "/recipientId",
                "/type"
            ]
        );
    }

    #[test]
    fn each_field_has_one_type() {
        for (name, bad) in [
            ("type", json!("other")),
            ("type", json!(["content_planning"])),
            ("platforms", json!([])),
            ("platforms", json!("onlyfans")),
            ("data", json!("x")),
            ("contentType", json!(1)),
            ("contentType", json!("")),
            ("sendToOnlyFans", json!("true")),
            ("forceProvider", json!("auto")),
            ("preferredProvider", json!("Azure")),
            ("maxCost", json!("1")),
            ("maxCost", json!(-1)),
            ("maxCost", json!(1e-13)),
            ("maxCost", json!(1e300)),
            ("featureFlags", json!(["a", 1])),
            ("clientVersion", json!({})),
            ("onlyFansContext", json!([])),
            ("userId", json!("a b")),
        ] {
            assert_eq!(pointers(&with(name, bad.clone())), [format!("/{name}")], "{bad}");
        }
    }

    #[test]
    fn platforms_are_named_once_in_lower_case() {
        let body = with("platforms", json!(["OnlyFans", "instagram", "onlyfans"]));
        assert_eq!(parse(&body).unwrap().intent.platforms, ["onlyfans", "instagram"]);
    }

    #[test]
    fn null_counts_as_absent_and_unknown_fields_are_let_through() {
        let mut body = with("maxCost", Value::Null);
        body["onlyFansContext"] = Value::Null;
        body["somethingNew"] = json!({"a": 1});
        assert_eq!(parse(&body).unwrap().intent.max_cost, None);
    }

    #[test]
    fn the_hash_is_of_the_request_not_of_its_spacing() {
        let hash = |text: &str| WorkflowIntent::parse(text.as_bytes()).unwrap().body_hash;
        let a = r#"{"type":"content_planning","platforms":["x"],"data":{"a":1,"b":2}}"#;
        let b = r#"{ "data": {"b": 2, "a": 1}, "platforms": ["x"], "type": "content_planning" }"#;
        let c = r#"{"type":"content_planning","platforms":["x"],"data":{"a":1,"b":3}}"#;
        assert_eq!(hash(a), hash(b));
        assert_ne!(hash(a), hash(c));
    }

    #[test]
    fn a_brief_is_the_same_when_it_is_read_from_what_it_was_written_as() {
        let body = minimal().to_string().replace(r#""summer""#, "123456789012345680000.0");
        let intent = WorkflowIntent::parse(body.as_bytes()).unwrap().intent;
        assert_eq!(intent.data["theme"].to_string(), "1.2345678901234568e+20");
        assert_eq!(parse(&serde_json::to_value(&intent).unwrap()).unwrap().intent, intent);
    }

    #[test]
    fn max_cost_is_exact() {
        let intent = parse(&with("maxCost", json!(0.0023))).unwrap().intent;
        assert_eq!(intent.max_cost.unwrap().to_string(), "0.0023");
        assert_eq!(serde_json::to_value(intent).unwrap()["maxCost"], "0.0023");
    }

    proptest! {
        #[test]
        fn any_value_of_any_field_is_read_or_refused(
            name in "(type|platforms|data|contentType|recipientId|maxCost|onlyFansContext|featureFlags)",
            text in ".{0,40}", number in any::<f64>(), kind in 0..5
        ) {
            let value = match kind { 0 => json!(text), 1 => json!(number), 2 => json!([text]), 3 => json!({"a": text}), _ => json!(true) };
            let _ = parse(&with(&name, value));
        }
    }
}
