//! What an e-mail looks like: one column that a phone shows without zooming, and the same as plain text. Pure.

use huntaze_domain::notification::{Fact, Severity};

use crate::message::Content;

/// `{{name}}` is replaced by what is made of the content.
const PAGE: &str = include_str!("../../templates/email.html");

impl Content {
    /// The HTML part. Everything in it that came from outside is escaped.
    #[must_use]
    pub fn html(&self) -> String {
        let part = |name: &str| match name {
            "title" => escaped(&self.title),
            "color" => color(self.severity).to_owned(),
            "severity" => self.severity.as_str().to_owned(),
            "text" => escaped(&self.text).replace('\n', "<br>\n"),
            "facts" => self.facts_html(),
            "link" => self.link.as_deref().map(link_html).unwrap_or_default(),
            "when" => self.when(),
            _ => String::new(),
        };
        filled(PAGE, part)
    }

    /// The plain part.
    #[must_use]
    pub fn plain(&self) -> String {
        let facts: Vec<_> = self.facts.iter().map(|Fact { name, value }| format!("{name}: {value}")).collect();
        let foot = format!("{} · {}", self.severity.as_str(), self.when());
        let parts =
            [self.title.clone(), self.text.clone(), facts.join("\n"), self.link.clone().unwrap_or_default(), foot];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n") + "\n"
    }

    fn when(&self) -> String {
        self.timestamp.strftime("%Y-%m-%d %H:%M UTC").to_string()
    }

    fn facts_html(&self) -> String {
        if self.facts.is_empty() {
            return String::new();
        }
        let row = |Fact { name, value }: &Fact| {
            format!(
                "<tr><th scope=\"row\" class=\"line\" style=\"text-align:left;font-weight:normal;padding:8px 12px 8px 0;\
                 border-bottom:1px solid #e3e5e8;\">{}</th><td class=\"line\" style=\"text-align:right;font-weight:600;\
                 padding:8px 0;border-bottom:1px solid #e3e5e8;word-break:break-word;\">{}</td></tr>\n",
                escaped(name),
                escaped(value)
            )
        };
        let rows: String = self.facts.iter().map(row).collect();
        format!(
            "<table width=\"100%\" cellpadding=\"0\" cellspacing=\"0\" style=\"border-collapse:collapse;margin:0 0 20px;\
             font-size:15px;\">\n{rows}</table>\n"
        )
    }
}

fn link_html(link: &str) -> String {
    format!(
        "<p style=\"margin:0 0 20px;\"><a href=\"{}\" style=\"display:inline-block;padding:12px 20px;border-radius:6px;\
         background:#3b5bdb;color:#ffffff;text-decoration:none;font-weight:600;\">Open</a></p>\n",
        escaped(link)
    )
}

/// Dark enough for white text on it (WCAG AA).
fn color(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "#1864ab",
        Severity::Warning => "#a65300",
        Severity::Critical => "#b42318",
    }
}

/// Safe as the text of an element and inside a quoted attribute.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The template with its names replaced, in one pass: what is filled in is not looked at again.
fn filled(template: &str, part: impl Fn(&str) -> String) -> String {
    let mut pieces = template.split("{{");
    let mut filled = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, rest) = piece.split_once("}}").unwrap_or(("", piece));
        filled.push_str(&part(name));
        filled.push_str(rest);
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> Content {
        Content {
            kind: "cost_alert".to_owned(),
            severity: Severity::Critical,
            title: "Today's costs passed $50".to_owned(),
            text: "Everyone together spent $50.01 today.\nNothing is blocked by this.".to_owned(),
            facts: vec![
                Fact { name: "Threshold".to_owned(), value: "$50.00".to_owned() },
                Fact { name: "Top model".to_owned(), value: "gpt-4o <beta> & more".to_owned() },
            ],
            link: Some("https://app.huntaze.test/costs?a=1&b=2".to_owned()),
            timestamp: "2026-11-22T04:05:06Z".parse().unwrap(),
        }
    }

    #[test]
    fn an_email_is_as_the_golden_files_have_it() {
        let bare = Content { facts: Vec::new(), link: None, severity: Severity::Info, ..content() };
        for (made, golden) in [
            (content().html(), include_str!("../../tests/golden/alert.html")),
            (content().plain(), include_str!("../../tests/golden/alert.txt")),
            (bare.html(), include_str!("../../tests/golden/bare.html")),
            (bare.plain(), include_str!("../../tests/golden/bare.txt")),
        ] {
            assert_eq!(made, golden, "{made}");
        }
    }

    #[test]
    fn what_came_from_outside_is_text_and_no_markup() {
        let bad = "<script>alert(1)</script>\"' onload=x {{title}} &amp;".to_owned();
        let fact = Fact { name: bad.clone(), value: bad.clone() };
        let html = Content { title: bad.clone(), text: bad, facts: vec![fact], ..content() }.html();
        assert!(!html.contains("<script") && !html.contains("\"' onload"), "{html}");
        let shown = "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39; onload=x {{title}} &amp;amp;";
        // In the head, as the heading, as text, and twice in the table.
        assert_eq!(html.matches(shown).count(), 5, "{html}");
    }

    #[test]
    fn a_phone_shows_it_in_one_column_and_in_the_dark() {
        let html = content().html();
        for needed in [
            "width=device-width",
            "max-width:600px",
            "prefers-color-scheme: dark",
            "lang=\"en\"",
            "role=\"presentation\"",
        ] {
            assert!(html.contains(needed), "{needed}");
        }
        // Longer lines are broken by servers, in the middle of a tag.
        assert!(html.lines().all(|line| line.len() < 998));
    }
}
