//! The score as a whole, and its laws.

use proptest::prelude::*;

use super::*;

const ENGLISH: &str = "Hey you! I spent the whole day at the beach, and all I could think of was tonight. This summer the nights are ours: \
                       stay with me until the end of the week, and I will show you a little more each evening. Are you in? 😘";
const FRENCH: &str = "Coucou toi ! J'ai passé la journée à la plage et je n'ai pensé qu'à ce soir. Cet été, les nuits sont à nous : reste avec moi \
                      jusqu'à la fin de la semaine et je t'en montre un peu plus chaque soir. Tu viens ? 😘";

fn asked<'a>(language: &'a str, about: &'a [&'a str]) -> Brief<'a> {
    Brief {
        language: Some(language),
        words: Some(45),
        most_characters: Some(900),
        about,
        tone: Some("flirty"),
        truncated: false,
    }
}

#[test]
fn a_good_text_has_a_good_score_and_each_fault_costs_its_weight() {
    let (english, french) = (asked("en", &["summer nights", "beach"]), asked("fr", &["nuits d'été", "la plage"]));
    for (text, brief, other) in [(ENGLISH, english, french), (FRENCH, french, english)] {
        let good = quality(text, &brief);
        assert_eq!(good.parts(), [Some(1.0); 7], "{text}");
        assert_eq!(good.score, 1.0);
        let score = |text: &str, brief: &Brief<'_>| quality(text, brief).score * 14.0;
        assert_eq!(score(&format!("[name], {text}"), &brief).round(), 11.0);
        assert_eq!(score(text, &Brief { truncated: true, ..brief }).round(), 12.0);
        assert_eq!(score(text, &Brief { words: Some(400), ..brief }).round(), 13.0);
        assert_eq!(score(text, &Brief { about: &["halloween", "pumpkin"], ..brief }).round(), 12.0);
        assert_eq!(score(text, &Brief { language: other.language, ..brief }).round(), 11.0);
        assert_eq!(score(&format!("{text} {text} {text}"), &Brief { words: None, ..brief }).round(), 12.0);
    }
}

#[test]
fn it_is_as_long_as_was_asked_for() {
    let text = |words: usize| "mot ".repeat(words);
    for (written, words, most, part) in [
        (100, Some(100), None, Some(1.0)),
        (120, Some(100), None, Some(1.0)),
        (84, Some(100), None, Some(1.0)),
        (160, Some(100), None, Some(0.5)),
        (50, Some(100), None, Some(0.0)),
        (200, Some(100), None, Some(0.0)),
        (0, Some(100), None, Some(0.0)),
        // 400 characters, without the last space 399.
        (100, None, Some(399), Some(1.0)),
        (100, None, Some(380), Some(0.5)),
        (100, None, Some(300), Some(0.0)),
        (100, Some(100), Some(380), Some(0.5)),
        (50, Some(100), Some(380), Some(0.0)),
        (100, None, None, None),
        (100, Some(0), Some(0), None),
    ] {
        let brief = Brief { words, most_characters: most, ..Brief::default() };
        let length = length(&text(written), &text(written), &brief);
        assert_eq!(length.map(|part| (part * 100.0).round() / 100.0), part, "{written} words of {words:?}, {most:?}");
    }
    // As who asks counts them.
    let brief = Brief { words: Some(6), ..Brief::default() };
    for text in ["L'été, c'est là ! Don't be shy 😘 …", "It's the well-known tip: stay up"] {
        assert_eq!(quality(text, &brief).length, Some(1.0), "{text}");
    }
}

#[test]
fn a_whole_text_has_an_end() {
    for (text, part) in [
        ("See you tonight.", 1.0),
        ("À ce soir !", 1.0),
        ("Tu viens ?\n", 1.0),
        ("And then…", 1.0),
        ("See you 😘", 1.0),
        ("See you ❤️", 1.0),
        ("À bientôt 👋🏽", 1.0),
        ("« À ce soir »", 1.0),
        ("“See you”", 1.0),
        ("(see you)", 1.0),
        ("**See you tonight!**", 1.0),
        ("See you tonight! #summer #nights", 1.0),
        ("À ce soir ! @mia #été", 1.0),
        ("See you tonight xx", 1.0),
        ("À ce soir, bisous", 1.0),
        ("See you <3", 1.0),
        ("All of it: https://example.com/mia", 1.0),
        ("See you tonight", 0.5),
        ("À ce soir, et", 0.5),
        ("It is for you,", 0.5),
        ("Here:", 0.5),
        ("See you #summer", 0.5),
        ("#summer", 0.5),
        // What has to be filled in is not its end.
        ("See you at [place name]", 0.5),
        ("À ce soir {{prenom}}", 0.5),
        ("", 0.5),
    ] {
        assert_eq!(quality(text, &Brief::default()).whole, part, "{text}");
        assert_eq!(quality(text, &Brief { truncated: true, ..Brief::default() }).whole, 0.0, "{text}");
    }
}

#[test]
fn only_what_was_asked_for_is_judged() {
    let shown = |quality: Quality| {
        let known = quality.parts().into_iter().zip(WEIGHTS).filter_map(|(part, (name, _))| part.map(|_| name));
        known.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(shown(quality(ENGLISH, &Brief::default())), "placeholders repetition whole");
    assert_eq!(shown(quality("", &Brief::default())), "placeholders repetition whole");
    let all = "language length brief tone placeholders repetition whole";
    assert_eq!(shown(quality(ENGLISH, &asked("en", &["beach"]))), all);
    assert_eq!(shown(quality(ENGLISH, &asked("es", &["you"]))), "length tone placeholders repetition whole");
    for nothing in ["", " \n", "❤️❤️❤️", "...", "[name]"] {
        assert_eq!(quality(nothing, &Brief::default()).score, 0.0, "{nothing}");
    }
}

#[test]
fn the_weights_are_those_that_are_documented() {
    let source = include_str!("../quality.rs");
    let rows = source.lines().filter_map(|line| line.strip_prefix("//! | `")?.strip_suffix(" |")?.split_once("` | "));
    let table: Vec<(&str, f64)> = rows.map(|(name, weight)| (name, weight.parse().unwrap())).collect();
    assert_eq!(table, WEIGHTS);
    for (name, weight) in WEIGHTS {
        let (before, _) = source.rsplit_once(&format!("    pub {name}: ")).expect(name);
        let (_, documented) = before.rsplit_once(" Weight ").expect(name);
        assert!(documented.starts_with(&format!("{weight}.\n")), "{name}");
    }
}

#[test]
fn a_hostile_text_costs_no_more_than_a_long_one() {
    const BYTES: usize = 64 * 1024;
    for piece in [
        "[", "[a", "[[name", "{{name}}", "[name]", "<a>", "%a", "%abc%", "(insert", "# ", "#a ", "a ", "é", "e\u{301}",
        "a b c ", "X", "XX ", "\u{200D}", "😘", "lorem ",
    ] {
        let text = piece.repeat(BYTES / piece.len());
        let about = [text.as_str()];
        let brief = Brief { tone: Some(&text), ..asked("en", &about) };
        let quality = quality(&text, &brief);
        assert!((0.0..=1.0).contains(&quality.score), "{piece}");
    }
}

/// What texts are made of, and what may break them.
fn text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "the",
        "you",
        "et",
        "vous",
        "été",
        "beach",
        "plage",
        "nights",
        "Hey",
        "COME",
        "don't",
        "j'ai",
        "tu",
        " ",
        " ",
        " ",
        "\n",
        ".",
        "!",
        "?",
        "…",
        "😘",
        "❤️",
        "[",
        "]",
        "{",
        "}",
        "{{",
        "<",
        ">",
        "<3",
        "(",
        ")",
        "%",
        "$",
        "XX",
        "name",
        "insert",
        "lorem",
        "ipsum",
        "link",
        "[name]",
        "%NAME%",
        "TODO",
        "#a",
        "@b",
        "*",
        "_",
        "\u{301}",
        "\u{200D}",
        "привет",
        "ñ",
    ]);
    let joined = prop::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat());
    prop_oneof![joined, any::<String>(), ".{0,200}"]
}

prop_compose! {
    fn brief()(
        language in prop::option::of(prop::sample::select(vec!["en", "fr-FR", "es", ""])), words in prop::option::of(any::<u32>()),
        few in prop::option::of(0..60_u32), most in prop::option::of(0..400_u32), about in text(), has_about in any::<bool>(),
        tone in prop::option::of(prop::sample::select(vec!["formal", "warm and playful", "coquin", "calme", "x"])), truncated in any::<bool>(),
    ) -> (Option<&'static str>, Option<u32>, Option<u32>, Vec<String>, Option<&'static str>, bool) {
        (language, few.or(words), most, has_about.then_some(about).into_iter().collect(), tone, truncated)
    }
}

proptest! {
    #[test]
    fn all_parts_are_within_their_bounds_and_always_the_same(text in text(), brief in brief()) {
        let (language, words, most_characters, about, tone, truncated) = brief;
        let about: Vec<&str> = about.iter().map(String::as_str).collect();
        let brief = Brief { language, words, most_characters, about: &about, tone, truncated };
        let judged = quality(&text, &brief);
        // A NaN is in no range.
        for part in judged.parts().into_iter().flatten().chain([judged.score]) {
            prop_assert!((0.0..=1.0).contains(&part), "{:?}", judged);
        }
        prop_assert_eq!(judged, quality(&text, &brief));
    }

    #[test]
    fn a_placeholder_at_the_end_never_raises_the_score_nor_changes_another_part(
        text in text(), brief in brief(),
        placeholder in prop::sample::select(vec![
            "[Name]", "{{name}}", "{fan}", "<name>", "[insert link here]", "[votre prénom]", "%NAME%", "XXXX", "Lorem ipsum", "TODO", "[your beach]",
        ]),
    ) {
        let (language, words, most_characters, about, tone, truncated) = brief;
        let about: Vec<&str> = about.iter().map(String::as_str).collect();
        let brief = Brief { language, words, most_characters, about: &about, tone, truncated };
        let (before, after) = (quality(&text, &brief), quality(&format!("{text} {placeholder}"), &brief));
        prop_assert!(after.score <= before.score, "{:?} {:?}", before, after);
        prop_assert_eq!(after.placeholders, 0.0);
        // It may be too long now.
        prop_assert!(after.length <= before.length);
        prop_assert_eq!(Quality { score: 0.0, length: None, placeholders: 0.0, ..before }, Quality { score: 0.0, length: None, ..after });
    }

    #[test]
    fn a_text_that_was_cut_is_no_better(text in text()) {
        let whole = quality(&text, &Brief::default());
        let cut = quality(&text, &Brief { truncated: true, ..Brief::default() });
        prop_assert!(cut.score <= whole.score);
    }
}
