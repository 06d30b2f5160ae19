//! The messages at the end of a command.

use api::Kind;

use crate::failure::{Failure, print};

/// What was done to the resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    Apply,
    Replace,
    Delete,
    Validate,
}

impl Verb {
    fn infinitive(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Apply => "apply",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::Validate => "validate",
        }
    }

    fn past(self) -> &'static str {
        match self {
            Self::Create => "created",
            Self::Apply => "applied",
            Self::Replace => "replaced",
            Self::Delete => "deleted",
            Self::Validate => "validated",
        }
    }
}

/// What came of a command's resources.
#[derive(Debug)]
pub(super) struct Report {
    verb: Verb,
    /// The kind, if all resources are of one.
    kind: Option<Kind>,
    total: usize,
    succeeded: usize,
    errors: Vec<String>,
}

impl Report {
    pub(super) fn new(verb: Verb, kinds: impl Iterator<Item = Kind>) -> Self {
        let kinds: Vec<Kind> = kinds.collect();
        let one = kinds
            .first()
            .copied()
            .filter(|first| kinds.iter().all(|kind| kind == first));
        Self {
            verb,
            kind: one,
            total: kinds.len(),
            succeeded: 0,
            errors: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.succeeded += 1,
            Err(error) => self.errors.push(error),
        }
    }

    /// A document that could not be read, so that nothing behind it was looked at.
    pub(super) fn add_unread(&mut self, error: String) {
        self.total += 1;
        self.errors.push(error);
    }

    /// Prints what went well and gives what did not.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let (out, failure) = self.messages();
        let printed = out.map_or(Ok(()), |out| print(&(out + "\n")));
        failure.map_or(printed, |failure| Err(Failure::new(failure)))
    }

    /// ` 'Kind'`, or nothing when kinds are mixed.
    fn quoted_kind(&self) -> String {
        self.kind.map_or_else(String::new, |kind| format!(" '{kind}'"))
    }

    fn success(&self, count: usize) -> String {
        format!(
            "Successfully {} {count}{} resource(s)",
            self.verb.past(),
            self.quoted_kind()
        )
    }

    fn partial(&self, count: usize) -> String {
        format!(
            "Partial success: {} the first {count} out of {}{} resources:",
            self.verb.past(),
            self.total,
            self.quoted_kind()
        )
    }

    /// What goes to standard output, and what to standard error.
    fn messages(&self) -> (Option<String>, Option<String>) {
        let Some(last) = self.errors.last() else {
            return (Some(self.success(self.succeeded)), None);
        };
        let errors = format!("[{}]", self.errors.join(" "));
        match self.verb {
            // A replace counts what it tried.
            Verb::Replace => {
                let tried = self.succeeded + self.errors.len();
                (
                    Some(self.partial(tried.min(self.total))),
                    Some(format!("hit error: {last}")),
                )
            }
            Verb::Delete if self.succeeded > 0 => {
                let kind = self.kind.map_or_else(String::new, |kind| format!("'{kind}' "));
                let lines: Vec<String> = self
                    .errors
                    .iter()
                    .map(|error| format!("Failed to delete {kind}resource: {error}"))
                    .collect();
                (Some(self.success(self.succeeded)), Some(lines.join("\n")))
            }
            _ if self.succeeded > 0 => (
                Some(self.partial(self.succeeded)),
                Some(format!("hit error: {errors}")),
            ),
            verb => {
                let what = match (self.total, self.kind) {
                    (0 | 1, kind) => {
                        let kind = kind.map_or_else(String::new, |kind| format!("'{kind}' "));
                        format!("{kind}resource")
                    }
                    (_, Some(kind)) => format!("any '{kind}' resources"),
                    (_, None) => "any resources".to_owned(),
                };
                (
                    None,
                    Some(format!("failed to {} {what}: {errors}", verb.infinitive())),
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(verb: Verb, kinds: &[Kind], errors: &[&str]) -> (String, String) {
        let mut report = Report::new(verb, kinds.iter().copied());
        for _ in errors.len()..kinds.len() {
            report.add(Ok(()));
        }
        for error in errors {
            report.add(Err((*error).to_owned()));
        }
        let (out, err) = report.messages();
        (out.unwrap_or_default(), err.unwrap_or_default())
    }

    #[test]
    fn as_the_reference_prints_them() {
        use Kind::{IpPool, Tier};
        let pair = |out: &str, err: &str| (out.to_owned(), err.to_owned());
        for (verb, kinds, errors, expected) in [
            (
                Verb::Apply,
                &[IpPool, IpPool] as &[_],
                &[] as &[_],
                pair("Successfully applied 2 'IPPool' resource(s)", ""),
            ),
            (
                Verb::Apply,
                &[IpPool, Tier, Tier],
                &[],
                pair("Successfully applied 3 resource(s)", ""),
            ),
            (
                Verb::Create,
                &[IpPool],
                &["e"],
                pair("", "failed to create 'IPPool' resource: [e]"),
            ),
            (
                Verb::Create,
                &[IpPool, IpPool],
                &["e", "f"],
                pair("", "failed to create any 'IPPool' resources: [e f]"),
            ),
            (
                Verb::Create,
                &[IpPool, Tier],
                &["e", "f"],
                pair("", "failed to create any resources: [e f]"),
            ),
            (
                Verb::Create,
                &[IpPool, IpPool, IpPool],
                &["e"],
                pair(
                    "Partial success: created the first 2 out of 3 'IPPool' resources:",
                    "hit error: [e]",
                ),
            ),
            (
                Verb::Apply,
                &[IpPool, Tier],
                &["e"],
                pair(
                    "Partial success: applied the first 1 out of 2 resources:",
                    "hit error: [e]",
                ),
            ),
            (
                Verb::Replace,
                &[IpPool],
                &["e"],
                pair(
                    "Partial success: replaced the first 1 out of 1 'IPPool' resources:",
                    "hit error: e",
                ),
            ),
            (
                Verb::Delete,
                &[IpPool, IpPool, IpPool],
                &["e", "f"],
                pair(
                    "Successfully deleted 1 'IPPool' resource(s)",
                    "Failed to delete 'IPPool' resource: e\nFailed to delete 'IPPool' resource: f",
                ),
            ),
            (
                Verb::Validate,
                &[Tier],
                &[],
                pair("Successfully validated 1 'Tier' resource(s)", ""),
            ),
        ] {
            assert_eq!(messages(verb, kinds, errors), expected);
        }
    }

    #[test]
    fn an_unread_document_counts() {
        let mut report = Report::new(Verb::Apply, [Kind::IpPool].into_iter());
        report.add(Ok(()));
        report.add_unread("f.yaml:9: bad".to_owned());
        assert_eq!(
            report.messages(),
            (
                Some("Partial success: applied the first 1 out of 2 'IPPool' resources:".to_owned()),
                Some("hit error: [f.yaml:9: bad]".to_owned())
            )
        );
    }
}
