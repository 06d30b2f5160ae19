//! The selector language: `app == "web" && has(zone)`.
//!
//! [`Selector::parse`] reads it, [`Selector::matches`] evaluates it over labels, its [`std::fmt::Display`] is the
//! canonical form, and [`Selector::unique_id`] the id that Calico derives from that. [`effective`] builds the
//! selectors that policies and rules mean once namespaces and service accounts are taken into account.

mod ast;
pub mod effective;
mod parse;
mod restrictions;
mod token;

pub use ast::{Expression, Labels};
pub use parse::{NESTING_MAX, SelectorError};
pub use restrictions::LabelRestriction;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha224};

/// A parsed selector.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector {
    root: Expression,
}

impl Selector {
    /// The selector that matches everything.
    #[must_use]
    pub fn all() -> Self {
        Self {
            root: Expression::All,
        }
    }

    /// Parses `text`; empty text selects everything.
    ///
    /// # Errors
    /// When it is no selector, or nested deeper than [`NESTING_MAX`].
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        parse::parse(text).map(|root| Self { root })
    }

    /// The syntax tree.
    #[must_use]
    pub fn expression(&self) -> &Expression {
        &self.root
    }

    /// Whether it selects an object with these labels.
    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        self.root.matches(labels)
    }

    /// `s:` and 38 characters that depend on the canonical form alone.
    #[must_use]
    pub fn unique_id(&self) -> String {
        unique_id("s", &self.to_string())
    }

    /// The same selector with `prefix` before every label name.
    #[must_use]
    pub fn with_label_prefix(&self, prefix: &str) -> Self {
        let mut root = self.root.clone();
        root.for_each_label(&mut |label| label.insert_str(0, prefix));
        Self { root }
    }

    /// The names of all labels that it looks at.
    #[must_use]
    pub fn labels(&self) -> std::collections::BTreeSet<String> {
        let mut names = std::collections::BTreeSet::new();
        self.root.clone().for_each_label(&mut |label| {
            names.insert(label.clone());
        });
        names
    }

    /// What must hold of single labels for the selector to match; for an index.
    #[must_use]
    pub fn restrictions(&self) -> BTreeMap<String, LabelRestriction> {
        restrictions::restrictions(&self.root)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Self::parse(text)
    }
}

/// `<prefix>:` and the unpadded URL-safe base64 of the SHA-224 of `<prefix>:<content>`.
#[must_use]
pub fn unique_id(prefix: &str, content: &str) -> String {
    let digest = Sha224::digest(format!("{prefix}:{content}"));
    format!("{prefix}:{}", URL_SAFE_NO_PAD.encode(digest))
}

/// The canonical form; text that is no selector comes back trimmed.
#[must_use]
pub fn normalise(text: &str) -> String {
    let text = text.trim();
    Selector::parse(text).map_or_else(|_| text.to_owned(), |selector| selector.to_string())
}
