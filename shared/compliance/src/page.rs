//! Holds docs/compliance.md against the rules and weights that it shows.

use crate::rule::{Action, CATEGORIES};
use crate::{history, opinion, quality};

const PAGE: &str = include_str!("../../../docs/compliance.md");

fn name(action: Action) -> &'static str {
    match action {
        Action::Allow => "–",
        Action::Review => "review",
        Action::Block => "block",
    }
}

#[test]
fn the_page_of_compliance_is_what_the_levels_and_weights_are() {
    let rules = CATEGORIES.iter().map(|category| (category.name, category.levels));
    let others = [("repetition", history::LEVELS), ("account", [Action::Block; 3])];
    let opinions = opinion::CATEGORIES.iter().map(|row| (row.0, row.2));
    let levels = rules.chain(others).chain(opinions);
    let levels = levels.map(|(category, [strict, moderate, relaxed])| {
        format!("\n| `{category}` | {} | {} | {} |", name(strict), name(moderate), name(relaxed))
    });
    let weights = quality::WEIGHTS.iter().map(|(part, weight)| format!("\n| `{part}` | {weight} |"));
    let absent: Vec<_> = levels.chain(weights).filter(|row| !PAGE.contains(row)).collect();
    assert!(absent.is_empty(), "docs/compliance.md should have:{}", absent.concat());
}
