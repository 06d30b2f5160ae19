use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::BuildHasher;

/// Labels that a selector is evaluated over.
pub trait Labels {
    /// The value of a label.
    fn label(&self, name: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

impl<S: BuildHasher> Labels for HashMap<String, String, S> {
    fn label(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

/// A node of a selector's syntax tree. `Not` never holds another `Not`; `And` and `Or` hold two or more.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Expression {
    /// `all()`
    All,
    /// `global()`; evaluates as `all()`, rewriting gives it its meaning.
    Global,
    /// `has(label)`
    Has(String),
    /// `label == "value"`
    Equal(String, String),
    /// `label != "value"`; true where the label is absent.
    NotEqual(String, String),
    /// `label contains "value"`
    Contains(String, String),
    /// `label starts with "value"`
    StartsWith(String, String),
    /// `label ends with "value"`
    EndsWith(String, String),
    /// `label in {"a", "b"}`; sorted, without duplicates.
    In(String, Vec<String>),
    /// `label not in {"a", "b"}`; sorted, without duplicates; true where the label is absent.
    NotIn(String, Vec<String>),
    /// `!x`
    Not(Box<Expression>),
    /// `(x && y)`
    And(Vec<Expression>),
    /// `(x || y)`
    Or(Vec<Expression>),
}

impl Expression {
    pub(super) fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        let holds = |name: &str, test: &dyn Fn(&str) -> bool| labels.label(name).is_some_and(test);
        let member = |values: &[String], v: &str| values.binary_search_by(|x| x.as_str().cmp(v)).is_ok();
        match self {
            Self::All | Self::Global => true,
            Self::Has(l) => labels.label(l).is_some(),
            Self::Equal(l, value) => holds(l, &|v| v == value),
            Self::NotEqual(l, value) => !holds(l, &|v| v == value),
            Self::Contains(l, value) => holds(l, &|v| v.contains(value.as_str())),
            Self::StartsWith(l, value) => holds(l, &|v| v.starts_with(value.as_str())),
            Self::EndsWith(l, value) => holds(l, &|v| v.ends_with(value.as_str())),
            Self::In(l, values) => holds(l, &|v| member(values, v)),
            Self::NotIn(l, values) => !holds(l, &|v| member(values, v)),
            Self::Not(operand) => !operand.matches(labels),
            Self::And(operands) => operands.iter().all(|operand| operand.matches(labels)),
            Self::Or(operands) => operands.iter().any(|operand| operand.matches(labels)),
        }
    }

    pub(super) fn for_each_label(&mut self, visit: &mut dyn FnMut(&mut String)) {
        match self {
            Self::All | Self::Global => {}
            Self::Has(l)
            | Self::Equal(l, _)
            | Self::NotEqual(l, _)
            | Self::Contains(l, _)
            | Self::StartsWith(l, _)
            | Self::EndsWith(l, _)
            | Self::In(l, _)
            | Self::NotIn(l, _) => visit(l),
            Self::Not(operand) => operand.for_each_label(visit),
            Self::And(operands) | Self::Or(operands) => {
                for operand in operands {
                    operand.for_each_label(visit);
                }
            }
        }
    }

    /// How many levels of `Not`, `And` and `Or` lie above its deepest leaf.
    pub(super) fn depth(&self) -> usize {
        match self {
            Self::Not(operand) => 1 + operand.depth(),
            Self::And(operands) | Self::Or(operands) => {
                1 + operands.iter().map(Self::depth).max().unwrap_or(0)
            }
            _ => 0,
        }
    }
}

/// The canonical form.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all()"),
            Self::Global => f.write_str("global()"),
            Self::Has(l) => write!(f, "has({l})"),
            Self::Equal(l, v) => write!(f, "{l} == {}", Quoted(v)),
            Self::NotEqual(l, v) => write!(f, "{l} != {}", Quoted(v)),
            Self::Contains(l, v) => write!(f, "{l} contains {}", Quoted(v)),
            Self::StartsWith(l, v) => write!(f, "{l} starts with {}", Quoted(v)),
            Self::EndsWith(l, v) => write!(f, "{l} ends with {}", Quoted(v)),
            Self::In(l, values) => {
                write!(f, "{l} in {{")?;
                join(f, values.iter().map(|v| Quoted(v)), ", ")?;
                f.write_str("}")
            }
            Self::NotIn(l, values) => {
                write!(f, "{l} not in {{")?;
                join(f, values.iter().map(|v| Quoted(v)), ", ")?;
                f.write_str("}")
            }
            Self::Not(operand) => write!(f, "!{operand}"),
            Self::And(operands) => {
                f.write_str("(")?;
                join(f, operands, " && ")?;
                f.write_str(")")
            }
            Self::Or(operands) => {
                f.write_str("(")?;
                join(f, operands, " || ")?;
                f.write_str(")")
            }
        }
    }
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains('"') { '\'' } else { '"' };
        write!(f, "{quote}{}{quote}", self.0)
    }
}

fn join<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    items: impl IntoIterator<Item = T>,
    separator: &str,
) -> fmt::Result {
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            f.write_str(separator)?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}
