//! Checks of resources, each naming the field, its value and the reason.

use std::fmt;

use crate::kinds::Kind;
use crate::meta::ObjectMeta;

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

/// Checks of metadata that hold for every kind.
pub fn metadata(_kind: Kind, _metadata: &ObjectMeta, _errors: &mut Vec<FieldError>) {}
