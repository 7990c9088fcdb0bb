//! What holds of all rules, and of any text.

use std::time::{Duration, Instant};

use huntaze_domain::intent::ComplianceLevel::{self, Moderate, Relaxed, Strict};
use proptest::prelude::*;

use crate::fold::fold;
use crate::judge::{Judgement, judge};
use crate::rule::{Action, CATEGORIES, Clause, RULES};

/// Ages under 18 as they are said, of whoever is here, and what is no age: prices, things, times, memories, other people's children.
mod ages;

/// What no level lets pass.
const NEVER: [&str; 9] = [
    "minors",
    "non_consent",
    "incest",
    "bestiality",
    "trafficking",
    "off_platform_payment",
    "meeting",
    "personal_data",
    "false_human",
];

const LEVELS: [ComplianceLevel; 3] = [Strict, Moderate, Relaxed];

/// Of each grave category one that is plainly named.
const PLAIN: [(&str, &str); 9] = [
    ("minors", "i am 15 years old"),
    ("non_consent", "i drugged her drink and fucked her"),
    ("incest", "i had sex with my brother"),
    ("bestiality", "sex with a dog"),
    ("trafficking", "we keep the girls' passports until they have paid"),
    ("off_platform_payment", "pay me on paypal"),
    ("meeting", "let's meet at your hotel tonight"),
    ("personal_data", "send me your home address"),
    ("false_human", "i am a real person, not a bot"),
];

fn finds(judged: &Judgement, category: &str) -> bool {
    judged.findings.iter().any(|finding| finding.category == category)
}

#[test]
fn no_level_is_stricter_than_the_one_above_it_and_the_gravest_block_at_all() {
    for category in CATEGORIES {
        let [strict, moderate, relaxed] = category.levels;
        assert!(strict >= moderate && moderate >= relaxed && strict > Action::Allow, "{}", category.name);
    }
    for name in NEVER {
        let category = CATEGORIES.iter().find(|category| category.name == name);
        assert_eq!(category.map(|category| category.levels), Some([Action::Block; 3]), "{name}");
    }
}

#[test]
fn every_rule_is_of_a_category_has_a_name_of_its_own_and_says_why() {
    for (at, rule) in RULES.iter().enumerate() {
        let category = CATEGORIES[rule.category].name;
        assert!(rule.id.strip_prefix(category).is_some_and(|name| name.starts_with('.')), "{}", rule.id);
        assert!(RULES[..at].iter().all(|other| other.id != rule.id), "{} is there twice", rule.id);
        assert!(!rule.reason.is_empty() && !rule.suggestion.is_empty() && !rule.clauses.is_empty(), "{}", rule.id);
        assert!(rule.within <= 40, "{}: what is so far apart says nothing together", rule.id);
        let patterns = rule.clauses.iter().filter(|clause| matches!(clause, Clause::Pattern(_))).count();
        assert!(patterns <= 1, "{}", rule.id);
    }
    assert!(CATEGORIES.iter().enumerate().all(|(number, _)| RULES.iter().any(|rule| rule.category == number)));
}

#[test]
fn what_is_plainly_named_is_blocked_at_all_levels() {
    for (category, text) in PLAIN {
        for level in LEVELS {
            let judged = judge(text, level);
            assert!(finds(&judged, category) && judged.verdict == Action::Block, "{text}: {judged:?}");
        }
    }
}

#[test]
fn a_word_of_a_story_or_a_joke_excuses_nothing_that_is_said_to_somebody_or_elsewhere() {
    let far = "and then we all had a lovely day at the beach. ".repeat(6);
    for (category, text) in PLAIN {
        for excuse in
            ["this is a documentary:", "lol jk, the police said:", "chapter 1 of my novel.", "according to the law,"]
        {
            for text in [
                format!("{excuse} {far}{text}"),
                format!("{text}. {far}{excuse}"),
                format!("{excuse} baby, do you want it? {text}"),
            ] {
                assert!(finds(&judge(&text, Relaxed), category), "{text}");
            }
        }
    }
    for told in [
        "The police arrested a man who drugged women and raped them.",
        "A documentary about child marriage: she was 15 years old.",
    ] {
        assert_eq!(judge(told, Strict).verdict, Action::Allow, "{told}");
    }
}

#[test]
fn the_gravest_finding_is_kept_however_many_there_are() {
    let many = "hurry, last chance. text me on telegram. buy weed from me. i have a gun for you. ".repeat(200);
    let judged = judge(&format!("{many}{}", PLAIN[0].1), Relaxed);
    assert!(judged.verdict == Action::Block && finds(&judged, PLAIN[0].0), "{judged:?}");
}

/// A text of a mebibyte is read to its end, and no text takes more than the time that its length does.
#[test]
fn hostile_texts_end() {
    const LENGTH: usize = if cfg!(debug_assertions) { 1 << 15 } else { 1 << 20 };
    let long = |part: &str| part.repeat(LENGTH / part.len());
    let all_terms =
        "you pay me meet tonight she 16 girl dog sex sister asleep kill hotel paypal i'm not pills passport ";
    for part in [
        "a",
        "!",
        "1",
        "i ",
        "m i n o r s ",
        "you ",
        "you!",
        "pay paypal ",
        "a\u{301}",
        "\u{301}\u{489}",
        "\u{202e}ronim\u{202c} ",
        "\u{202e}",
        "\u{202e}a",
        "\u{200b}",
        "i am 16, ",
        "i am ",
        "dix ",
        "dix-",
        "dix-sept ",
        "@.",
        "a.b.c.",
        "a@",
        "06 ",
        "0",
        "1!|l",
        "!l1 ",
        "sexx",
        "東京",
        "ﷺ",
        "🅰",
        "            ",
        "\n",
        "not you never ",
        "lol ",
        all_terms,
    ] {
        let (text, began) = (long(part), Instant::now());
        let judged = judge(&format!("{text}. {}", PLAIN[3].1), Strict);
        let took = began.elapsed();
        assert!(finds(&judged, "bestiality"), "{part:?}: {:?}", judged.findings);
        assert!(took < Duration::from_secs(120), "{part:?} took {took:?}");
    }
}

/// The windows in which patterns are looked for hide nothing, wherever it stands.
#[test]
fn a_long_text_hides_no_pattern() {
    for length in (1700..2200).step_by(7) {
        let text = format!("{} i am 15 years old", "blue sky ".repeat(length / 9) + &"x".repeat(length % 9));
        assert!(finds(&judge(&text, Relaxed), "minors"), "behind {length} bytes");
    }
    for gap in [" ", "\n", " \n", "\t\u{200b}\r\n"] {
        assert!(finds(&judge(&format!("i am{}15 years old", gap.repeat(3000)), Relaxed), "minors"), "{gap:?}");
    }
    let host = format!("{}.", "a".repeat(40)).repeat(5);
    for length in (1500..2100).step_by(3) {
        let text =
            format!("{} {host}mypage.com/{}", "blue ".repeat(length / 5) + &"x".repeat(length % 5), "x".repeat(60));
        assert!(finds(&judge(&text, Relaxed), "links"), "behind {length} bytes");
    }
    for length in [0, 1500, 1900, 2040, 3000] {
        let text = format!("{}mypage.com/{}", "blue ".repeat(length / 5), "x".repeat(600));
        assert!(finds(&judge(&text, Relaxed), "links"), "behind {length} bytes");
        let text = format!("{}me@mail{}", "blue ".repeat(length / 5), ".com".repeat(100));
        assert!(finds(&judge(&text, Relaxed), "contact"), "behind {length} bytes");
    }
}

proptest! {
    #[test]
    fn findings_are_parts_of_the_text(
        text in prop_oneof![any::<String>(), "(i am|\u{202e}|\u{202c}|1[0-9]|dix|-| |sept|ans|m\u{301}|tel|@|[.]|com|é|🅰|東|paypal|pay me|!|\n){0,40}"],
    ) {
        for finding in judge(&text, Strict).findings {
            prop_assert!(text.get(finding.start..finding.end).is_some_and(|part| !part.is_empty()), "{finding:?}");
        }
    }

    /// The words that a rule has are not among these.
    #[test]
    fn what_stands_before_hides_nothing(
        words in prop::collection::vec("(blue|lovely|morning|sunshine|purple|garden|mountain|[.]|,)", 0..60), which in 0..PLAIN.len(),
    ) {
        let (category, plain) = PLAIN[which];
        for text in [format!("{} {plain}", words.join(" ")), format!("{}. {plain}", words.join(" "))] {
            prop_assert!(finds(&judge(&text, Relaxed), category), "{text}");
        }
    }

    #[test]
    fn units_are_never_more_than_the_letters_that_are_there(text in any::<String>()) {
        prop_assert!(fold(&text).len() <= 4 * text.chars().count());
    }
}
