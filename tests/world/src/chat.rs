//! Chat completions as both services share them: the request as they read it, the completion as they write it.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::calls::{Memory, OpenCall, now};
use crate::exchange::Reply;
use crate::faults::{Fault, FilterStage, Provider};
use crate::text;

/// The models that exist, by the name they are asked for, and the dated name with which they answer.
pub(crate) const MODELS: [(&str, &str); 17] = [
    ("gpt-3.5-turbo", "gpt-3.5-turbo-0125"),
    ("gpt-35-turbo", "gpt-35-turbo"),
    ("gpt-4", "gpt-4-0613"),
    ("gpt-4-turbo", "gpt-4-turbo-2024-04-09"),
    ("gpt-4o", "gpt-4o-2024-08-06"),
    ("gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
    ("gpt-4.1", "gpt-4.1-2025-04-14"),
    ("gpt-4.1-mini", "gpt-4.1-mini-2025-04-14"),
    ("gpt-4.1-nano", "gpt-4.1-nano-2025-04-14"),
    ("gpt-5", "gpt-5-2025-08-07"),
    ("gpt-5-mini", "gpt-5-mini-2025-08-07"),
    ("gpt-5-nano", "gpt-5-nano-2025-08-07"),
    ("gpt-5.1", "gpt-5.1-2025-11-13"),
    ("gpt-5.2", "gpt-5.2-2025-12-11"),
    ("gpt-5.4", "gpt-5.4"),
    ("gpt-5.4-mini", "gpt-5.4-mini"),
    ("gpt-5.5", "gpt-5.5"),
];

/// Tokens that the framing of each message and of the whole prompt costs, as the tokenizer's authors count them.
const TOKENS_PER_MESSAGE: u64 = 3;
const TOKENS_PER_PROMPT: u64 = 3;

// Both services' own words.
const NOT_JSON: &str = "\
    We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP \
    library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON. If you have \
    trouble figuring out how to fix this, please contact us through our help center at help.openai.com.)";
const NO_MESSAGES: &str = "\
    Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.";
const TWO_MAXIMA: &str = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.";
const OLD_MAXIMUM: &str = "\
    Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";

/// The dated name of a model, if it exists.
pub(crate) fn dated(model: &str) -> Option<&'static str> {
    MODELS.iter().find(|(name, _)| *name == model).map(|(_, dated)| *dated)
}

/// A valid request.
#[derive(Debug)]
pub(crate) struct Chat {
    /// What the system and developer messages say.
    instructions: String,
    /// What the user messages say.
    brief: String,
    /// Every message with its role, as the prompt cache compares them.
    prompt: String,
    prompt_tokens: u64,
    max_tokens: Option<u64>,
}

impl Chat {
    /// Reads the body of a request for `model`.
    ///
    /// # Errors
    /// The answer of both services to a body that is not valid.
    pub(crate) fn read(body: &Value, model: &str) -> Result<Self, Reply> {
        let messages = match body.get("messages") {
            None => {
                return Err(invalid(
                    "Missing required parameter: 'messages'.",
                    "messages",
                    "missing_required_parameter",
                ));
            }
            Some(Value::Array(messages)) if messages.is_empty() => {
                return Err(invalid(NO_MESSAGES, "messages", "empty_array"));
            }
            Some(Value::Array(messages)) => messages,
            Some(_) => {
                return Err(invalid(
                    "Invalid type for 'messages': expected an array of objects.",
                    "messages",
                    "invalid_type",
                ));
            }
        };
        refuse_what_is_not_played(body)?;
        let mut chat = Self {
            instructions: String::new(),
            brief: String::new(),
            prompt: String::new(),
            prompt_tokens: TOKENS_PER_PROMPT,
            max_tokens: max_tokens(body, model)?,
        };
        for (index, message) in messages.iter().enumerate() {
            let (role, content) = read_message(index, message)?;
            let to = if role == "user" || role == "assistant" { &mut chat.brief } else { &mut chat.instructions };
            to.push_str(&content);
            to.push('\n');
            chat.prompt.push_str(&format!("{role}\n{content}\n"));
            chat.prompt_tokens += text::tokens(&content) + TOKENS_PER_MESSAGE;
        }
        Ok(chat)
    }
}

/// The body of the answer to `chat`, with what is scripted for the call; each service adds its own members.
pub(crate) fn complete(memory: &Memory, call: &OpenCall, provider: Provider, dated_model: &str, chat: &Chat) -> Value {
    let fault = call.fault.as_ref();
    let mut content = match fault {
        Some(Fault::Text { text }) => text.clone(),
        _ if chat.instructions.is_empty() => text::answer(&chat.brief, &chat.brief),
        _ => text::answer(&chat.instructions, &chat.brief),
    };
    let was_cut = chat.max_tokens.is_some_and(|max| text::cut(&mut content, max));
    let completion_tokens = text::tokens(&content);
    let mut usage = usage(
        chat.prompt_tokens,
        completion_tokens,
        memory.cached_tokens(provider, dated_model, &chat.prompt).min(chat.prompt_tokens),
    );
    let mut finish_reason = if was_cut { "length" } else { "stop" };
    let mut message = json!({ "role": "assistant", "content": content, "refusal": null, "annotations": [] });
    match fault {
        Some(Fault::ContentFilter { stage: FilterStage::Completion }) => {
            finish_reason = "content_filter";
            // The service leaves the content out; what had been generated until then is in the usage.
            message = json!({ "role": "assistant" });
        }
        Some(Fault::Refusal) => {
            message["content"] = Value::Null;
            message["refusal"] = "I'm sorry, I can't help with that.".into();
        }
        Some(Fault::Usage { prompt_tokens, completion_tokens, cached_tokens }) => {
            usage = self::usage(*prompt_tokens, *completion_tokens, *cached_tokens);
        }
        _ => {}
    }
    let mut body = json!({
        "id": format!("chatcmpl-{:029}", call.id),
        "object": "chat.completion",
        "created": now().as_second(),
        "model": dated_model,
        "choices": [{ "index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason }],
        "usage": usage,
        "system_fingerprint": "fp_44709d6fcb",
    });
    match fault {
        Some(Fault::EmptyChoices) => body["choices"] = json!([]),
        Some(Fault::NoUsage) => {
            body.as_object_mut().map(|body| body.remove("usage"));
        }
        _ => {}
    }
    body
}

/// Whether the prompt itself is to be refused.
pub(crate) fn prompt_is_filtered(call: &OpenCall) -> bool {
    matches!(call.fault, Some(Fault::ContentFilter { stage: FilterStage::Prompt }))
}

/// The 400 of both services for a request that they could not take.
pub(crate) fn invalid(message: &str, param: &str, code: &str) -> Reply {
    let body =
        json!({ "error": { "message": message, "type": "invalid_request_error", "param": param, "code": code } });
    Reply::new(StatusCode::BAD_REQUEST, body)
}

/// The 400 of both services for a body that is not JSON.
pub(crate) fn not_json() -> Reply {
    let body =
        json!({ "error": { "message": NOT_JSON, "type": "invalid_request_error", "param": null, "code": null } });
    Reply::new(StatusCode::BAD_REQUEST, body)
}

fn usage(prompt: u64, completion: u64, cached: u64) -> Value {
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": { "cached_tokens": cached, "audio_tokens": 0 },
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}

/// Answering a request for more than is played as if it were less would hide a fault of the caller.
fn refuse_what_is_not_played(body: &Value) -> Result<(), Reply> {
    let unplayed = [
        ("stream", body["stream"] == true),
        ("n", body["n"].as_u64().is_some_and(|n| n != 1)),
        ("tools", body.get("tools").is_some()),
        ("response_format", body.get("response_format").is_some_and(|format| format["type"] != "text")),
    ];
    match unplayed.iter().find(|(_, asked)| *asked) {
        Some((name, _)) => {
            Err(invalid(&format!("The test world does not play '{name}'."), name, "unsupported_parameter"))
        }
        None => Ok(()),
    }
}

fn max_tokens(body: &Value, model: &str) -> Result<Option<u64>, Reply> {
    let given = |name| body.get(name).filter(|value| !value.is_null()).map(|value| (name, value));
    let (name, value) = match (given("max_tokens"), given("max_completion_tokens")) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(invalid(TWO_MAXIMA, "max_tokens", "invalid_parameter_combination"));
        }
        (Some(_), None) if model.starts_with("gpt-5") => {
            return Err(invalid(OLD_MAXIMUM, "max_tokens", "unsupported_parameter"));
        }
        (Some(one), None) | (None, Some(one)) => one,
    };
    match value.as_i64() {
        Some(max) if max >= 1 => Ok(Some(max.unsigned_abs())),
        Some(max) => Err(invalid(
            &format!("Invalid '{name}': integer below minimum value. Expected a value >= 1, but got {max} instead."),
            name,
            "integer_below_min_value",
        )),
        None => Err(invalid(&format!("Invalid type for '{name}': expected an integer."), name, "invalid_type")),
    }
}

fn read_message(index: usize, message: &Value) -> Result<(&str, String), Reply> {
    const ROLES: [&str; 4] = ["system", "developer", "user", "assistant"];
    let role = message["role"].as_str().filter(|role| ROLES.contains(role)).ok_or_else(|| {
        let param = format!("messages[{index}].role");
        invalid(&format!("Invalid value for '{param}'. Supported values are: {ROLES:?}."), &param, "invalid_value")
    })?;
    let content = match &message["content"] {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => parts.iter().map(|part| part["text"].as_str()).collect(),
        _ => None,
    };
    let content = content.ok_or_else(|| {
        let param = format!("messages[{index}].content");
        invalid(
            &format!("Invalid type for '{param}': expected a string or an array of text parts."),
            &param,
            "invalid_type",
        )
    })?;
    Ok((role, content))
}
