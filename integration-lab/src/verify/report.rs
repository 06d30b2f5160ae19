//! What was compared, and how it is shown.

use std::fmt::{self, Write as _};

use serde::Serialize;

/// One comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which part of the fabric.
    pub area: &'static str,
    /// What was looked at.
    pub subject: String,
    /// What must be.
    pub expected: String,
    /// What is.
    pub seen: String,
    /// Whether they agree.
    pub ok: bool,
}

/// All comparisons of a run, with the text that shows the fabric.
#[derive(Debug, Default)]
pub struct Report {
    checks: Vec<Check>,
    sections: Vec<(String, String)>,
}

impl Report {
    /// Adds a comparison of two texts.
    pub fn compare(&mut self, area: &'static str, subject: impl Into<String>, expected: &str, seen: &str) {
        self.add(area, subject, expected, seen, expected == seen);
    }

    /// Adds a comparison made elsewhere.
    pub fn add(
        &mut self,
        area: &'static str,
        subject: impl Into<String>,
        expected: &str,
        seen: &str,
        ok: bool,
    ) {
        let (expected, seen) = (expected.to_string(), seen.to_string());
        self.checks.push(Check {
            area,
            subject: subject.into(),
            expected,
            seen,
            ok,
        });
    }

    /// Adds a text to show.
    pub fn section(&mut self, title: impl Into<String>, text: impl Into<String>) {
        self.sections.push((title.into(), text.into()));
    }

    /// Everything that was compared.
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// Comparisons that do not agree.
    pub fn differences(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|c| !c.ok)
    }

    /// The last line of every run.
    pub fn summary(&self) -> String {
        format!(
            "verify: {} checks, {} differences",
            self.checks.len(),
            self.differences().count()
        )
    }

    /// The same as JSON, with every check.
    pub fn to_json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(&serde_json::json!({
            "checks": self.checks.len(),
            "differences": self.differences().count(),
            "list": self.checks,
            "sections": self.sections.iter().map(|(t, s)| (t.clone(), s.clone())).collect::<indexmap::IndexMap<_, _>>(),
        }))?)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (title, text) in &self.sections {
            writeln!(f, "== {title}\n{}\n", text.trim_end())?;
        }
        let mut areas = indexmap::IndexMap::<&str, (usize, usize)>::new();
        for check in &self.checks {
            let (all, bad) = areas.entry(check.area).or_default();
            *all += 1;
            *bad += usize::from(!check.ok);
        }
        let mut line = String::new();
        for (area, (all, bad)) in &areas {
            write!(line, "{}{area} {all}", if line.is_empty() { "" } else { ", " })?;
            if *bad > 0 {
                write!(line, " ({bad} differ)")?;
            }
        }
        writeln!(f, "== Checks\n{line}")?;
        for check in self.differences() {
            writeln!(
                f,
                "DIFFERENCE {}: {}\n    expected: {}\n    seen:     {}",
                check.area, check.subject, check.expected, check.seen
            )?;
        }
        write!(f, "{}", self.summary())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts_checks_and_differences() {
        let mut report = Report::default();
        report.compare("routes", "tor1 v4", "a", "a");
        report.compare("verdicts", "a to b", "allow", "deny");
        let text = report.to_string();
        assert_eq!(text.lines().last(), Some("verify: 2 checks, 1 differences"));
        assert!(text.contains("routes 1, verdicts 1 (1 differ)"), "{text}");
        assert!(
            text.contains("DIFFERENCE verdicts: a to b\n    expected: allow\n    seen:     deny"),
            "{text}"
        );
        let json: serde_json::Value = serde_json::from_str(&report.to_json().unwrap()).unwrap();
        assert_eq!(
            (json["checks"].as_u64(), json["differences"].as_u64()),
            (Some(2), Some(1))
        );
    }
}
