//! Looking for a message in its conversation. Pure.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::answer::PlatformId;

/// How far the platform's clock may be behind ours, and how coarse: it shows whole seconds. So much earlier than the intent a
/// message may be dated and still be the one.
pub const SKEW: Duration = Duration::from_secs(30);

/// What is looked for.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// The fan, as the platform names them.
    pub recipient: &'a str,
    /// The text that was sent.
    pub text: &'a str,
    /// When it was about to be.
    pub since: Timestamp,
    /// The platform's ids of other messages of ours, which are not the one.
    pub known: &'a [String],
}

/// What a look showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The fan has it.
    Sent {
        /// The platform's id of the message.
        platform_id: String,
    },
    /// It is not there now. It may still appear.
    Absent,
    /// It is not among what was shown, and there is more since the intent than is shown.
    NotAllShown,
}

/// The last messages of a conversation, newest first.
pub(super) struct Conversation {
    messages: Vec<Message>,
    has_more: bool,
}

#[derive(Deserialize)]
struct Message {
    id: PlatformId,
    text: String,
    #[serde(rename = "createdAt")]
    created_at: Timestamp,
    #[serde(rename = "fromUser")]
    from: User,
}

#[derive(Deserialize)]
struct User {
    id: PlatformId,
}

impl<'de> Deserialize<'de> for Conversation {
    /// A message that cannot be read is none of ours: a picture without a text, or something that is new there.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire {
            list: Vec<Value>,
            #[serde(default, rename = "hasMore")]
            has_more: bool,
        }
        let Wire { list, has_more } = Wire::deserialize(deserializer)?;
        let messages = list.into_iter().filter_map(|message| serde_json::from_value(message).ok()).collect();
        Ok(Self { messages, has_more })
    }
}

/// Looks for a message of `us`. Where several could be it, it is the oldest: the others are of later attempts.
pub(super) fn find(conversation: &Conversation, wanted: &Wanted<'_>, us: &str) -> Found {
    let begin = wanted.since.saturating_sub(SKEW).unwrap_or(wanted.since);
    let is_it = |message: &&Message| {
        message.from.id.0 == us
            && message.created_at >= begin
            && !wanted.known.contains(&message.id.0)
            && is_same(&message.text, wanted.text)
    };
    // From the oldest on, because the first of those of one second is taken.
    let oldest = conversation.messages.iter().rev().filter(is_it).min_by_key(|message| message.created_at);
    if let Some(message) = oldest {
        return Found::Sent { platform_id: message.id.0.clone() };
    }
    let seen_from = conversation.messages.iter().map(|message| message.created_at).min();
    let all = !conversation.has_more || seen_from.is_some_and(|from| from < begin);
    if all { Found::Absent } else { Found::NotAllShown }
}

/// Whether the platform shows this text for ours. It may show it as it is or as HTML, and with other blanks; a text is compared by
/// its words, as it is shown and as HTML reads. Our own is never taken for HTML, so that a text that speaks of `&amp;` is
/// found as what it is.
fn is_same(shown: &str, ours: &str) -> bool {
    let same = |shown: &str| shown.split_whitespace().eq(ours.split_whitespace());
    !ours.trim().is_empty() && (same(shown) || same(&unescaped(shown)))
}

/// HTML as it reads: line breaks and paragraphs are blanks, the entities that escape a text are what they stand for. Anything else
/// stays as it is.
fn unescaped(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find(['&', '<']) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = if rest.starts_with('&') { ';' } else { '>' };
        // Nothing that is known here is longer.
        let token = rest.char_indices().take(10).find(|(_, c)| *c == end).map(|(at, _)| &rest[..=at]);
        match token.and_then(|token| meaning(token).map(|meaning| (token.len(), meaning))) {
            Some((length, meaning)) => {
                text.push(meaning);
                rest = &rest[length..];
            }
            None => {
                text.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
    }
    text + rest
}

fn meaning(token: &str) -> Option<char> {
    match token {
        "<br>" | "<br/>" | "<br />" | "<p>" | "</p>" | "&nbsp;" => Some(' '),
        "&amp;" => Some('&'),
        "&lt;" => Some('<'),
        "&gt;" => Some('>'),
        "&quot;" => Some('"'),
        "&apos;" => Some('\''),
        _ => {
            let number = token.strip_prefix("&#")?.strip_suffix(';')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const US: &str = "1";
    const SINCE: &str = "2026-11-22T10:00:00Z";

    fn message(id: u64, from: u64, text: &str, at: &str) -> Value {
        json!({"id": id, "text": text, "createdAt": format!("2026-11-22T{at}+00:00"), "fromUser": {"id": from}})
    }

    fn look(list: &[Value], has_more: bool, text: &str, known: &[&str]) -> Found {
        let conversation = serde_json::from_value(json!({"list": list, "hasMore": has_more})).unwrap();
        let known: Vec<_> = known.iter().map(|id| (*id).to_owned()).collect();
        let wanted = Wanted { recipient: "fan", text, since: SINCE.parse().unwrap(), known: &known };
        find(&conversation, &wanted, US)
    }

    fn sent(id: u64) -> Found {
        Found::Sent { platform_id: id.to_string() }
    }

    #[test]
    fn it_is_our_own_message_with_the_text_since_the_intent() {
        let list = [
            message(9, 7, "hello", "10:00:05"),
            message(8, 1, "hello!", "10:00:04"),
            message(7, 1, "hello", "10:00:03"),
            message(3, 1, "hello", "09:59:00"),
        ];
        assert_eq!(look(&list, false, "hello", &[]), sent(7));
        assert_eq!(look(&list, false, "hello", &["7"]), Found::Absent);
        assert_eq!(look(&list[..2], false, "hello", &[]), Found::Absent);
        assert_eq!(look(&[], false, "hello", &[]), Found::Absent);
    }

    #[test]
    fn clocks_may_differ_by_the_skew() {
        assert_eq!(look(&[message(1, 1, "hello", "09:59:30")], false, "hello", &[]), sent(1));
        assert_eq!(look(&[message(1, 1, "hello", "09:59:29")], false, "hello", &[]), Found::Absent);
    }

    #[test]
    fn of_several_it_is_the_oldest_that_is_not_known() {
        let list = [5, 4, 3].map(|id| message(id, 1, "hello", if id == 5 { "10:00:09" } else { "10:00:02" }));
        assert_eq!(look(&list, false, "hello", &[]), sent(3));
        assert_eq!(look(&list, false, "hello", &["3"]), sent(4));
        assert_eq!(look(&list, false, "hello", &["4", "3"]), sent(5));
    }

    #[test]
    fn what_is_not_shown_is_not_absent() {
        let newer = [message(2, 7, "hi", "10:00:01")];
        assert_eq!(look(&newer, true, "hello", &[]), Found::NotAllShown);
        assert_eq!(look(&[], true, "hello", &[]), Found::NotAllShown);
        let older = [message(2, 7, "hi", "10:00:01"), message(1, 7, "hi", "09:00:00")];
        assert_eq!(look(&older, true, "hello", &[]), Found::Absent);
    }

    #[test]
    fn a_message_that_cannot_be_read_hides_no_other() {
        let odd =
            [json!(null), json!({"id": 4}), json!({"id": 5, "text": null, "createdAt": "x", "fromUser": {"id": 1}})];
        let list: Vec<_> = odd.into_iter().chain([message(3, 1, "hello", "10:00:01")]).collect();
        assert_eq!(look(&list, false, "hello", &[]), sent(3));
    }

    #[test]
    fn a_text_is_found_as_html_and_with_other_blanks() {
        for (shown, ours) in [
            ("Tom &amp; Ana &lt;3", "Tom & Ana <3"),
            ("one<br />two<br>three<br/>four", "one\ntwo\r\nthree\nfour"),
            ("<p>it&#39;s &quot;fine&quot;</p>", "it's \"fine\""),
            ("it&#x27;s&nbsp;me", "it's me"),
            (" hello  you ", "hello you\n"),
            // A text that speaks of HTML, as it is and escaped.
            ("write &amp; for &", "write &amp; for &"),
            ("write &amp;amp; for &amp;", "write &amp; for &"),
            ("a &b; &#xzz; & <3 <hr> &", "a &b; &#xzz; & <3 <hr> &"),
            ("é&nbsp;💛", "é 💛"),
        ] {
            assert!(is_same(shown, ours), "{shown}");
        }
        for (shown, ours) in
            [("Tom &amp; Ana", "Tom &amp;amp; Ana"), ("hello", "hello!"), ("", " "), ("a b", "ab"), ("Hello", "hello")]
        {
            assert!(!is_same(shown, ours), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn what_is_escaped_is_found(text in "[a-z&<>\"' \n;#é💛]{1,60}") {
            prop_assume!(!text.trim().is_empty());
            let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
            prop_assert!(is_same(&escaped.replace('\n', "<br />"), &text));
        }

        #[test]
        fn any_text_can_be_unescaped(text in ".{0,80}", entities in "[&<>#x0-9a-z;/ é]{0,40}") {
            let _ = (unescaped(&text), unescaped(&entities));
        }
    }
}
