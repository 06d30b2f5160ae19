//! Checks of resources, each naming the field, its value and the reason.

mod bgp;
mod bgp_filter;
mod endpoint;
mod ip_pool;
mod names;
mod network;
mod node;
mod policy;
mod rule;
mod texts;

use std::collections::BTreeSet;
use std::fmt;

pub(crate) use bgp::{bgp_configuration, bgp_peer};
pub(crate) use bgp_filter::bgp_filter;
pub(crate) use endpoint::{host_endpoint, workload_endpoint};
pub(crate) use ip_pool::ip_pool;
pub use names::metadata;
pub(crate) use network::network_set;
pub(crate) use node::node;
pub(crate) use policy::{global_network_policy, network_policy, profile, tier};

use crate::selector::Selector;

/// The most characters of a selector field.
pub const SELECTOR_LEN_MAX: usize = 1024;

/// One thing that is wrong with a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field: `spec.ingress[0].source.nets[1]`.
    pub field: String,
    /// What stands there; `None` when nothing does.
    pub value: Option<String>,
    /// Why it is refused, and what would be right.
    pub reason: String,
}

impl FieldError {
    /// An error about a value.
    pub fn new(field: impl Into<String>, value: impl fmt::Display, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            value: Some(value.to_string()),
            reason: reason.into(),
        }
    }

    /// An error about a missing or composite value.
    pub fn missing(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            value: None,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "error with field {} = '{value}' ({})", self.field, self.reason),
            None => write!(f, "error with field {} ({})", self.field, self.reason),
        }
    }
}

impl std::error::Error for FieldError {}

/// All errors of one resource in one text.
#[must_use]
pub fn error_text(errors: &[FieldError]) -> String {
    match errors {
        [one] => one.to_string(),
        many => {
            let mut text = "error with the following fields:".to_owned();
            for error in many {
                let line = error.to_string();
                text.push_str("\n-  ");
                text.push_str(line.strip_prefix("error with field ").unwrap_or(&line));
            }
            text
        }
    }
}

/// The reason why a text is refused.
pub(crate) type Refusal = Result<(), String>;

/// Adds errors below one path.
pub(crate) struct Checks<'e> {
    errors: &'e mut Vec<FieldError>,
    path: String,
}

impl<'e> Checks<'e> {
    pub(crate) fn new(errors: &'e mut Vec<FieldError>, path: &str) -> Self {
        Self {
            errors,
            path: path.to_owned(),
        }
    }

    /// The same below a field or element of this path.
    pub(crate) fn below(&mut self, field: &str) -> Checks<'_> {
        Checks {
            path: self.join(field),
            errors: self.errors,
        }
    }

    fn join(&self, field: &str) -> String {
        match (self.path.as_str(), field) {
            ("", field) => field.to_owned(),
            (path, "") => path.to_owned(),
            (path, field) if field.starts_with('[') => format!("{path}{field}"),
            (path, field) => format!("{path}.{field}"),
        }
    }

    pub(crate) fn error(&mut self, field: &str, value: impl fmt::Display, reason: impl Into<String>) {
        let field = self.join(field);
        self.errors.push(FieldError::new(field, value, reason));
    }

    pub(crate) fn missing(&mut self, field: &str, reason: impl Into<String>) {
        let field = self.join(field);
        self.errors.push(FieldError::missing(field, reason));
    }

    /// Adds an error unless `ok`.
    pub(crate) fn require(&mut self, ok: bool, field: &str, value: impl fmt::Display, reason: &str) {
        if !ok {
            self.error(field, value, reason);
        }
    }

    /// A text that must be right.
    pub(crate) fn text(&mut self, field: &str, value: &str, check: impl Fn(&str) -> Refusal) {
        if let Err(reason) = check(value) {
            self.error(field, value, reason);
        }
    }

    /// A text that may be empty.
    pub(crate) fn optional(&mut self, field: &str, value: &str, check: impl Fn(&str) -> Refusal) {
        if !value.is_empty() {
            self.text(field, value, check);
        }
    }

    /// Each text of a list.
    pub(crate) fn each(&mut self, field: &str, values: &[String], check: impl Fn(&str) -> Refusal) {
        for (i, value) in values.iter().enumerate() {
            self.text(&format!("{field}[{i}]"), value, &check);
        }
    }

    /// As [`Checks::each`], where no value may come twice.
    pub(crate) fn set(&mut self, field: &str, values: &[String], check: impl Fn(&str) -> Refusal) {
        self.each(field, values, check);
        let mut seen = BTreeSet::new();
        for (i, value) in values.iter().enumerate() {
            self.require(
                seen.insert(value),
                &format!("{field}[{i}]"),
                value,
                "the value is listed twice: remove one",
            );
        }
    }

    pub(crate) fn count(&mut self, field: &str, count: usize, max: usize) {
        if count > max {
            self.error(
                field,
                format!("{count} entries"),
                format!("at most {max} entries are allowed"),
            );
        }
    }

    /// A selector in a field where `global()` means nothing.
    pub(crate) fn selector(&mut self, field: &str, value: &str) {
        if value.contains("global(") {
            self.error(
                field,
                value,
                "global() can only be used in an EntityRule namespaceSelector",
            );
        } else {
            self.selector_with_global(field, value);
        }
    }

    pub(crate) fn selector_with_global(&mut self, field: &str, value: &str) {
        if value.chars().count() > SELECTOR_LEN_MAX {
            self.error(
                field,
                value,
                format!("a selector has at most {SELECTOR_LEN_MAX} characters"),
            );
        } else if let Err(error) = Selector::parse(value) {
            self.error(field, value, format!("invalid selector: {error}"));
        }
    }
}
