//! The bodies of `POST /api/campaigns/hybrid`, which old clients speak: read as those of `POST /api/v2/campaigns/hybrid`, and its answers in
//! the shape that they know.
//!
//! | old | new |
//! |---|---|
//! | `userId`, `user_id`; both the same | `userId` |
//! | `type`, or `action` by [`ACTIONS`]; neither is a plan | `type` |
//! | `platforms`, a list or one; `platform`; neither is `onlyfans` | `platforms` |
//! | `data`, `payload`; neither is `{}` | `data` |
//! | anything else | the same |
//!
//! What an action's payload says of the request itself (`recipientId`, `contentType`, `sendToOnlyFans`, `onlyFansContext`, with underscores
//! as well) counts where the body does not say it.

use std::fmt;

use huntaze_domain::error::FieldFault;
use huntaze_domain::ids::UserId;
use huntaze_domain::json::parse_object;
use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value, json};

/// What the actions are called now.
pub const ACTIONS: [(&str, &str); 6] = [
    ("content_planning", "content_planning"),
    ("generate_content", "content_planning"),
    ("create_post", "content_planning"),
    ("plan_campaign", "campaign_execution"),
    ("send_message", "message_generation"),
    ("validate_content", "content_validation"),
];

/// Of the request, and in a payload all the same; the other name is that of older clients.
const OF_THE_REQUEST: [(&str, &str); 4] = [
    ("recipientId", "recipient_id"),
    ("contentType", "content_type"),
    ("sendToOnlyFans", "send_to_only_fans"),
    ("onlyFansContext", "only_fans_context"),
];

/// The body of the new route that asks for the same.
///
/// # Errors
/// The faults: it is no JSON object, or its action is not known. What else is wrong with it is the new route's to say.
pub fn to_new(body: &[u8]) -> Result<Vec<u8>, Vec<FieldFault>> {
    let mut old = parse_object(body)?;
    let mut take = |names: &[&str]| {
        let values: Vec<_> = names.iter().filter_map(|name| old.remove(*name)).collect();
        values.into_iter().find(|value| !value.is_null())
    };
    let (user, older, kind, action) = (take(&["userId"]), take(&["user_id"]), take(&["type"]), take(&["action"]));
    // The old system may act for the other one.
    if user.is_some() && older.is_some() && user != older {
        return Err(fault("/user_id", "must be the same as `userId`".to_owned()));
    }
    let user = user.or(older).ok_or_else(|| fault("/userId", "is required: a user id".to_owned()))?;
    let (platforms, data) = (take(&["platforms", "platform"]), take(&["data", "payload"]));
    let action = action.map(|action| type_of(&action)).transpose()?;
    let platforms = platforms.map(|platforms| if platforms.is_string() { json!([platforms]) } else { platforms });
    let data = data.unwrap_or_else(|| json!({}));
    let mut new = within(&data);
    new.extend(old);
    let named = [
        ("userId", Some(user)),
        ("type", Some(action.or(kind).unwrap_or_else(|| "content_planning".into()))),
        ("platforms", Some(platforms.unwrap_or_else(|| json!(["onlyfans"])))),
        ("data", Some(data)),
    ];
    new.extend(named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    Ok(Value::Object(new).to_string().into_bytes())
}

/// Whom a body names, by either name and however often, also one that is not read otherwise.
#[must_use]
pub fn users(body: &[u8]) -> Vec<UserId> {
    // What came before a fault was named.
    let mut named = Named::default();
    let _ = serde_json::Deserializer::from_slice(body).deserialize_map(&mut named);
    named.0
}

/// The users that an object names.
#[derive(Default)]
struct Named(Vec<UserId>);

impl<'de> Visitor<'de> for &mut Named {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<String>()? {
            if name == "userId" || name == "user_id" {
                let user = members.next_value::<Value>()?;
                self.0.extend(user.as_str().and_then(|user| UserId::parse(user).ok()));
            } else {
                // However deep it is.
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

fn type_of(action: &Value) -> Result<Value, Vec<FieldFault>> {
    let found = ACTIONS.iter().find(|(name, _)| action == name).map(|(_, kind)| Value::from(*kind));
    let names = || ACTIONS.map(|(name, _)| format!("`{name}`")).join(", ");
    found.ok_or_else(|| fault("/action", format!("must be one of {}", names())))
}

fn fault(pointer: &str, detail: String) -> Vec<FieldFault> {
    vec![FieldFault { pointer: pointer.to_owned(), detail }]
}

/// What a payload says of the request itself.
fn within(data: &Value) -> Map<String, Value> {
    let said = |(name, older): (&str, &str)| {
        let value = data.get(name).or_else(|| data.get(older)).filter(|value| !value.is_null())?;
        Some((name.to_owned(), value.clone()))
    };
    OF_THE_REQUEST.into_iter().filter_map(said).collect()
}

/// A new answer as old clients know it, who asked so.
#[must_use]
pub fn answer(new: &Value, asked: &[u8]) -> Value {
    let mut data = new["data"].clone();
    // What the old system calls it, and what it says of what it was asked for.
    data["campaignId"] = data["workflowId"].clone();
    let asked = parse_object(asked).unwrap_or_default();
    for name in ["action", "type"] {
        if let Some(said) = asked.get(name).filter(|said| said.is_string()) {
            data[name] = said.clone();
        }
    }
    let message = match data["status"].as_str() {
        Some("queued" | "running") => "The campaign is being made; its status is at `data.statusUrl`",
        Some("manual_review") => "The campaign waits for a person; its status is at `data.statusUrl`",
        _ => "The campaign was made",
    };
    json!({"status": "success", "result": data["content"], "message": message, "data": data})
}

/// An error as old clients know it.
#[must_use]
pub fn error(message: &str) -> Value {
    json!({"status": "error", "result": null, "message": message, "data": null})
}

#[cfg(test)]
mod tests {
    use huntaze_domain::intent::WorkflowIntent;
    use proptest::prelude::*;

    use super::*;

    fn new(old: &Value) -> Value {
        serde_json::from_slice(&to_new(old.to_string().as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn both_old_bodies_ask_for_the_same() {
        let expected =
            json!({"userId": "ana", "type": "campaign_execution", "platforms": ["reddit"], "data": {"theme": "t"}});
        for old in [
            json!({"userId": "ana", "type": "campaign_execution", "platforms": ["reddit"], "data": {"theme": "t"}}),
            json!({"user_id": "ana", "action": "plan_campaign", "payload": {"theme": "t"}, "platform": "reddit"}),
            json!({"userId": "ana", "action": "plan_campaign", "payload": {"theme": "t"}, "platforms": "reddit"}),
            json!({"userId": "ana", "user_id": "ana", "action": "plan_campaign", "payload": {"theme": "t"}, "platform": "reddit"}),
            json!({"userId": null, "user_id": "ana", "type": "x", "action": "plan_campaign", "data": null,
                "payload": {"theme": "t"}, "platforms": ["reddit"]}),
        ] {
            assert_eq!(new(&old), expected, "{old}");
        }
    }

    #[test]
    fn what_an_old_body_leaves_out_is_a_plan_for_onlyfans() {
        let least = json!({"userId": "ana"});
        let plan = json!({"userId": "ana", "type": "content_planning", "platforms": ["onlyfans"], "data": {}});
        assert_eq!(new(&least), plan);
        WorkflowIntent::parse(&to_new(least.to_string().as_bytes()).unwrap()).unwrap();
        assert_eq!(to_new(b"{}").unwrap_err()[0].pointer, "/userId");
    }

    #[test]
    fn whom_a_body_names_is_known_whatever_else_is_wrong_with_it() {
        let deep = "[".repeat(5_000);
        for (body, named) in [
            (r#"{"userId": "ana", "user_id": "bob", "action": "destroy"}"#.to_owned(), &["ana", "bob"][..]),
            (r#"{"userId": "ana", "userId": "bob"}"#.to_owned(), &["ana", "bob"]),
            (r#"{"user\u0049d": "bob", "platforms": []"#.to_owned(), &["bob"]),
            (format!(r#"{{"data": {deep}1{}, "user_id": "bob"}}"#, "]".repeat(5_000)), &["bob"]),
            (r#"{"userId": ["bob"], "data": {"userId": "bob"}}"#.to_owned(), &[]),
            ("userId=bob".to_owned(), &[]),
        ] {
            assert_eq!(users(body.as_bytes()).iter().map(UserId::as_str).collect::<Vec<_>>(), named, "{body:.80}");
        }
        let both = br#"{"userId": "ana", "user_id": "bob"}"#;
        assert_eq!(to_new(both).unwrap_err()[0].pointer, "/user_id");
    }

    #[test]
    fn every_action_is_a_type_and_another_is_a_fault() {
        for (action, kind) in ACTIONS {
            let old = json!({"userId": "ana", "action": action, "payload": {}, "platform": "onlyfans"});
            assert_eq!(new(&old)["type"], kind);
            WorkflowIntent::parse(&to_new(old.to_string().as_bytes()).unwrap()).unwrap();
        }
        for odd in [json!("delete_everything"), json!(7), json!({})] {
            let faults = to_new(json!({"userId": "ana", "action": odd}).to_string().as_bytes()).unwrap_err();
            assert_eq!(faults[0].pointer, "/action", "{odd}");
        }
    }

    #[test]
    fn a_payload_speaks_for_the_request_where_the_body_does_not() {
        let payload = json!({"recipient_id": "fan-1", "contentType": "story", "sendToOnlyFans": true});
        let shown =
            new(&json!({"userId": "ana", "action": "send_message", "payload": payload, "contentType": "message"}));
        assert_eq!((&shown["recipientId"], &shown["sendToOnlyFans"]), (&json!("fan-1"), &json!(true)));
        assert_eq!((&shown["contentType"], &shown["data"]), (&json!("message"), &payload));
        assert_eq!(new(&json!({"userId": "ana", "maxCost": 0.5, "odd": 1}))["maxCost"], json!(0.5));
    }

    #[test]
    fn answers_have_the_four_members_that_old_clients_know() {
        let asked = br#"{"userId": "ana", "action": "create_post", "type": 7}"#;
        let made =
            answer(&json!({"success": true, "data": {"content": "c", "status": "completed"}, "metrics": {}}), asked);
        assert_eq!((&made["data"]["action"], made["data"].get("type")), (&json!("create_post"), None));
        assert_eq!(
            (&made["status"], &made["result"], &made["data"]["status"]),
            (&json!("success"), &json!("c"), &json!("completed"))
        );
        let later = answer(&json!({"data": {"status": "queued", "statusUrl": "/s", "workflowId": "w"}}), b"");
        assert_eq!(later["data"]["campaignId"], "w");
        assert_eq!((&later["result"], &later["data"]["statusUrl"]), (&Value::Null, &json!("/s")));
        for shown in [made, later, error("no")] {
            assert_eq!(shown.as_object().unwrap().keys().collect::<Vec<_>>(), ["data", "message", "result", "status"]);
        }
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body in any::<String>(), bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = to_new(body.as_bytes());
            let _ = to_new(&bytes);
        }
    }
}
