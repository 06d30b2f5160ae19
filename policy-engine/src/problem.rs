//! What the engine could not do as asked, and what it did instead.

use crate::output::{Direction, EndpointId, Family};

/// A resource that cannot be enforced as it is written. It lasts until the resource changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Problem {
    /// An endpoint, set or policy is left out.
    #[error("{resource}: {field}: {reason}; the resource is ignored until it is corrected")]
    Ignored {
        /// `Kind(name)` or `Kind(namespace/name)`.
        resource: String,
        /// Path of the field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An entry of a list is left out.
    #[error("{resource}: {field}: {reason}; the entry is ignored until it is corrected")]
    EntryIgnored {
        /// `Kind(name)` or `Kind(namespace/name)`.
        resource: String,
        /// Path of the entry.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A rule is not enforced as written: one that denies or passes is mostly taken as an unconditional deny, one that
    /// allows or logs is left out.
    #[error("{resource}: {field}: {reason}; the rule {instead} until it is corrected")]
    RuleReplaced {
        /// `Kind(name)` or `Kind(namespace/name)`.
        resource: String,
        /// Path of the field.
        field: String,
        /// What is wrong with it.
        reason: String,
        /// What stands in its place.
        instead: Instead,
    },
    /// An endpoint's rules are more than a program can hold.
    #[error(
        "endpoint {endpoint:?}: its {direction:?} policy for {family:?} has {rules} rules, the limit is {limit}; \
         {kept}: merge rules or use network sets"
    )]
    TooManyRules {
        /// Whose.
        endpoint: EndpointId,
        /// Which program.
        direction: Direction,
        /// Which program.
        family: Family,
        /// How many there are.
        rules: usize,
        /// How many there may be.
        limit: usize,
        /// What is enforced.
        kept: Kept,
    },
    /// A program's rules differ in too many ways.
    #[error(
        "endpoint {endpoint:?}: its {direction:?} policy for {family:?} needs more than {limit} distinct vectors; \
         {kept}: use fewer selectors, nets or ports"
    )]
    TooManyVectors {
        /// Whose.
        endpoint: EndpointId,
        /// Which program.
        direction: Direction,
        /// Which program.
        family: Family,
        /// How many there may be.
        limit: usize,
        /// What is enforced.
        kept: Kept,
    },
}

/// What stands in place of a rule that cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instead {
    /// It denies everything.
    Denies,
    /// It is left out.
    IsLeftOut,
    /// It is enforced as if the field were not there.
    IgnoresTheField,
}

impl std::fmt::Display for Instead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Denies => "denies everything",
            Self::IsLeftOut => "is left out",
            Self::IgnoresTheField => "ignores the field",
        })
    }
}

/// What is enforced in place of a program that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    /// What was enforced before.
    Previous,
    /// There was nothing before: everything is denied.
    DenyAll,
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Previous => "the previous policy stays in force",
            Self::DenyAll => "everything is denied",
        })
    }
}
