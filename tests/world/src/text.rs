//! What the models say: readable text made from the brief, the same for the same prompt, and its size in tokens.

use std::hash::{DefaultHasher, Hash, Hasher};

/// A prompt is cached from this many tokens on, in steps, as both services document it.
const CACHE_FLOOR: u64 = 1024;
const CACHE_STEP: u64 = 128;

const BYTES_PER_TOKEN: usize = 4;

/// The platforms that a brief may name, as it spells them and as a sentence does.
const PLATFORMS: [(&str, &str); 9] = [
    ("onlyfans", "OnlyFans"),
    ("instagram", "Instagram"),
    ("tiktok", "TikTok"),
    ("reddit", "Reddit"),
    ("twitter", "Twitter"),
    ("threads", "Threads"),
    ("youtube", "YouTube"),
    ("snapchat", "Snapchat"),
    ("fansly", "Fansly"),
];

/// The size of a text: a token for each four bytes or part of them.
pub(crate) fn tokens(text: &str) -> u64 {
    u64::try_from(text.len().div_ceil(BYTES_PER_TOKEN)).unwrap_or(u64::MAX)
}

/// Cuts a text to at most `max` tokens; says whether anything was cut.
pub(crate) fn cut(text: &mut String, max: u64) -> bool {
    let max_bytes = usize::try_from(max).unwrap_or(usize::MAX).saturating_mul(BYTES_PER_TOKEN);
    if text.len() <= max_bytes {
        return false;
    }
    text.truncate(text.floor_char_boundary(max_bytes));
    true
}

/// How many bytes two texts share from their start.
pub(crate) fn common_prefix(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

/// How many tokens a shared start of this many bytes gives from the prompt cache.
pub(crate) fn cacheable_tokens(prefix_bytes: usize) -> u64 {
    let tokens = u64::try_from(prefix_bytes / BYTES_PER_TOKEN).unwrap_or(u64::MAX);
    if tokens < CACHE_FLOOR { 0 } else { tokens - tokens % CACHE_STEP }
}

/// The answer to a prompt: a plan, a review or a message, whichever the instructions ask for.
pub(crate) fn answer(instructions: &str, brief: &str) -> String {
    let brief = Brief::read(brief);
    match Task::read(instructions) {
        Task::Plan => brief.plan(),
        Task::Review => brief.review(),
        Task::Message => brief.message(),
    }
}

#[derive(Debug, PartialEq)]
enum Task {
    Plan,
    Review,
    Message,
}

impl Task {
    /// The first of the tasks that the instructions name.
    fn read(instructions: &str) -> Self {
        let text = instructions.to_ascii_lowercase();
        let words = [
            ("plan", Self::Plan),
            ("campaign", Self::Plan),
            ("validat", Self::Review),
            ("review", Self::Review),
            ("message", Self::Message),
        ];
        words
            .into_iter()
            .filter_map(|(word, task)| text.find(word).map(|at| (at, task)))
            .min_by_key(|(at, _)| *at)
            .map_or(Self::Message, |(_, task)| task)
    }
}

struct Brief {
    platforms: Vec<&'static str>,
    theme: String,
    audience: String,
    tone: String,
    /// Picks among the phrasings, so that two briefs do not read alike.
    variant: usize,
}

impl Brief {
    fn read(text: &str) -> Self {
        let lower = text.to_ascii_lowercase();
        let mut platforms: Vec<_> =
            PLATFORMS.iter().filter_map(|(word, name)| lower.find(word).map(|at| (at, *name))).collect();
        platforms.sort_unstable();
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let field = |names: &[&str], default: &str| {
            names.iter().find_map(|name| field(text, &lower, name)).unwrap_or(default).to_owned()
        };
        Self {
            platforms: platforms.into_iter().map(|(_, name)| name).collect(),
            theme: field(&["theme", "topic", "title"], "something new"),
            audience: field(&["targetaudience", "target audience", "audience"], "your fans"),
            tone: field(&["tone"], "warm"),
            variant: usize::try_from(hasher.finish() % 60).unwrap_or(0),
        }
    }

    fn plan(&self) -> String {
        let Self { theme, audience, tone, .. } = self;
        let opening = self.pick(["a behind-the-scenes moment", "a question to answer", "one strong picture"]);
        let middle = self.pick(["a short story told over three days", "a poll and its result", "a countdown"]);
        let close = self.pick([
            "an invitation to reply",
            "a thank-you for those who stayed",
            "a preview of what is next",
            "a reward for the first to answer",
        ]);
        let mut text = format!("The campaign is about {theme}, for {audience}.\n");
        for platform in self.platform_names() {
            text.push_str(&format!(
                "{platform}: open with {opening} on {theme}, go on with {middle}, close with {close}.\n"
            ));
        }
        text + &format!("Keep the tone {tone} from the first post to the last.")
    }

    fn review(&self) -> String {
        let Self { theme, tone, .. } = self;
        let advice = self.pick([
            "The first sentence could be shorter.",
            "It is clear who is meant.",
            "The close asks for one thing only.",
        ]);
        format!(
            "The text was read for {}. It stays with {theme} and keeps a {tone} tone. {advice} \
             Nothing in it has to change before it goes out.",
            join(&self.platform_names()),
        )
    }

    fn message(&self) -> String {
        let Self { theme, audience, tone, .. } = self;
        let greeting = self.pick(["Hey you!", "Guess what?", "I have been waiting to tell you."]);
        let close =
            self.pick(["Tell me what you think.", "Are you in?", "Reply and I will show you more.", "See you there."]);
        format!(
            "{greeting} {} is here, made for {audience}. Find it on {}, as {tone} as ever. {close}",
            capitalised(theme),
            join(&self.platform_names()),
        )
    }

    fn platform_names(&self) -> Vec<&'static str> {
        if self.platforms.is_empty() { vec!["every channel"] } else { self.platforms.clone() }
    }

    fn pick<const N: usize>(&self, phrasings: [&'static str; N]) -> &'static str {
        phrasings[self.variant % N]
    }
}

/// The value of a field of the brief, written as JSON (`"theme": "summer"`) or as a line (`Theme: summer`).
fn field<'a>(text: &'a str, lower: &str, name: &str) -> Option<&'a str> {
    // Lower-casing ASCII keeps every byte in its place, so an index into one text is one into the other.
    lower.match_indices(name).find_map(|(at, _)| {
        let rest = text[at + name.len()..].trim_start_matches(['"', '*', ' ']);
        let rest = rest.strip_prefix(':')?.trim_start_matches(['*', ' ']);
        let value = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next(),
            None => rest.split(['\n', '\r']).next(),
        };
        value.map(str::trim).filter(|value| !value.is_empty())
    })
}

fn join(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().collect::<String>() + chars.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_names_the_platforms_in_the_order_of_the_brief_and_its_theme() {
        let brief =
            r#"{"platforms":["tiktok","onlyfans"],"data":{"theme":"Summer nights","targetAudience":"night owls"}}"#;
        let text = answer("You plan campaigns.", brief);
        assert!(text.contains("Summer nights") && text.contains("night owls"), "{text}");
        assert!(text.find("TikTok:") < text.find("OnlyFans:"), "{text}");
        assert_eq!(text, answer("You plan campaigns.", brief));
    }

    #[test]
    fn the_task_is_the_first_that_the_instructions_name() {
        assert_eq!(Task::read("Write a message that follows the plan"), Task::Message);
        assert_eq!(Task::read("You validate messages"), Task::Review);
        assert_eq!(Task::read("Plan a campaign and its messages"), Task::Plan);
    }

    #[test]
    fn fields_are_read_from_lines_too() {
        let text = answer("Review this.", "Platforms: reddit, instagram\nTheme: Ünïcode & more\nTone: calm\n");
        assert!(
            text.contains("Reddit and Instagram") && text.contains("Ünïcode & more") && text.contains("a calm tone"),
            "{text}"
        );
    }

    #[test]
    fn a_cut_text_is_never_larger_than_its_bound_nor_split_inside_a_character() {
        let mut text = "né".repeat(20);
        assert!(cut(&mut text, 4));
        assert!(tokens(&text) <= 4 && !text.is_empty());
        assert!(!cut(&mut text, 4));
    }

    #[test]
    fn caching_starts_at_1024_tokens_and_goes_in_steps_of_128() {
        assert_eq!(cacheable_tokens(1023 * 4), 0);
        assert_eq!(cacheable_tokens(1024 * 4), 1024);
        assert_eq!(cacheable_tokens(1200 * 4 + 3), 1152);
    }
}
