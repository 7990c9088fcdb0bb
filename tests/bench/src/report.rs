//! The table.

use std::fmt;
use std::time::Duration;

/// Rows of figures, as Markdown.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<[String; 6]>);

/// What a figure should be.
#[derive(Debug)]
pub(crate) struct Target {
    text: String,
    met: bool,
}

impl Target {
    pub(crate) fn new(text: impl Into<String>, met: bool) -> Self {
        Self { text: text.into(), met }
    }
}

impl Report {
    /// Adds a row; what does not apply is empty.
    pub(crate) fn row(
        &mut self,
        what: &str,
        hello: impl Into<String>,
        measured: impl Into<String>,
        ratio: impl Into<String>,
        target: Option<Target>,
    ) {
        let (target, verdict) =
            target.map_or_else(Default::default, |target| (target.text, if target.met { "✓" } else { "✗" }));
        self.0.push([what.to_owned(), hello.into(), measured.into(), ratio.into(), target, verdict.to_owned()]);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| | hello | campaigns-hybrid | ratio | target | |")?;
        writeln!(f, "|---|---:|---:|---:|---|---|")?;
        self.0.iter().try_for_each(|row| writeln!(f, "| {} |", row.join(" | ")))
    }
}

/// How many times the one the other is, to the tenth.
pub(crate) fn ratio(measured: Duration, hello: Duration) -> String {
    times(measured.as_secs_f64(), hello.as_secs_f64())
}

/// The same of counts.
pub(crate) fn ratio_of(measured: u64, hello: u64) -> String {
    times(measured as f64, hello as f64)
}

fn times(measured: f64, hello: f64) -> String {
    format!("{:.1} ×", measured / hello)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_markdown() {
        let mut report = Report::default();
        report.row("size", "1", "2", ratio_of(3, 2), Some(Target::new("< 3", true)));
        report.row("time", "", "9", "", Some(Target::new("< 3", false)));
        report.row("more", "", "9", "", None);
        let text = report.to_string();
        let rows: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            rows,
            ["| size | 1 | 2 | 1.5 × | < 3 | ✓ |", "| time |  | 9 |  | < 3 | ✗ |", "| more |  | 9 |  |  |  |"]
        );
    }
}
