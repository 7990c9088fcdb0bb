//! What a step's text is held against: the brief, as far as it says how the text is to be. Pure.

use huntaze_compliance::Brief;
use huntaze_domain::intent::WorkflowIntent;
use serde_json::{Map, Value};

use crate::route::Step;

/// Members of a brief that say what it is about.
const ABOUT: [&str; 9] = ["theme", "topic", "subject", "audience", "product", "offer", "keywords", "goal", "title"];
const LANGUAGE: [&str; 3] = ["language", "lang", "locale"];
const WORDS: [&str; 3] = ["words", "wordCount", "length"];
const CHARACTERS: [&str; 3] = ["maxLength", "maxCharacters", "characters"];

/// Gives what is asked of a text. A plan speaks of more than what its texts are to say, and is as long as it has to be.
pub(crate) fn of<T>(intent: &WorkflowIntent, step: &Step, truncated: bool, with: impl FnOnce(&Brief<'_>) -> T) -> T {
    let data = &intent.data;
    let mut about = Vec::new();
    ABOUT.iter().filter_map(|name| data.get(*name)).for_each(|value| texts(value, &mut about));
    let bound = step.is_for_fans();
    with(&Brief {
        language: text(data, &LANGUAGE),
        words: number(data, &WORDS).filter(|_| bound),
        most_characters: number(data, &CHARACTERS).filter(|_| bound),
        about: &about,
        tone: text(data, &["tone", "style", "mood"]),
        truncated,
    })
}

fn text<'a>(data: &'a Map<String, Value>, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| data.get(*name)?.as_str())
}

fn number(data: &Map<String, Value>, names: &[&str]) -> Option<u32> {
    names.iter().find_map(|name| data.get(*name)?.as_u64()?.try_into().ok())
}

fn texts<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::route::steps;

    #[test]
    fn what_the_brief_says_of_the_text_is_asked_of_it() {
        let body = json!({"type": "message_generation", "platforms": ["onlyfans"],
            "data": {"theme": "beach day", "keywords": ["sun", 7, "sea"], "language": "fr", "words": 40, "maxLength": "x", "tone": "flirty"}});
        let intent = WorkflowIntent::parse(body.to_string().as_bytes()).unwrap().intent;
        let asked = of(&intent, &steps(&intent)[0], true, |brief| format!("{brief:?}"));
        for part in [
            "Some(\"fr\")",
            "Some(40)",
            "most_characters: None",
            "[\"beach day\", \"sun\", \"sea\"]",
            "Some(\"flirty\")",
            "truncated: true",
        ] {
            assert!(asked.contains(part), "{part}: {asked}");
        }
    }
}
