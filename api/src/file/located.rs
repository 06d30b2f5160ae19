//! A YAML or JSON tree that knows the line of every node.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// The most nodes of a document; a full [`super::DOCUMENT_BYTES_MAX`] of resources stays below it.
const NODES_MAX: usize = 4_000_000;
/// How deep a document may nest; no resource comes near, and a thread with a small stack can take it.
const DEPTH_MAX: usize = 32;

/// A node.
#[derive(Debug, Clone)]
pub(super) struct Located {
    /// From 1.
    pub(super) line: u64,
    node: Node,
}

#[derive(Debug, Clone)]
enum Node {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    Sequence(Vec<Located>),
    Mapping(Vec<Entry>),
}

#[derive(Debug, Clone)]
struct Entry {
    key: String,
    /// Line of the key.
    line: u64,
    value: Located,
}

/// Why a text is neither YAML nor JSON.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) line: u64,
    pub(super) reason: String,
}

impl Located {
    /// Parses one document that starts on `first_line`; `None` when it is empty.
    pub(super) fn parse(text: &str, first_line: u64) -> Result<Option<Self>, SyntaxError> {
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_nodes: NODES_MAX,
                max_events: 2 * NODES_MAX,
                max_depth: DEPTH_MAX,
                flow_nesting_limit: DEPTH_MAX,
            },
            // `n`, `on` and `yes` are texts (YAML 1.2): a label or name may be spelled so.
            strict_booleans: true,
            with_snippet: false,
        };
        let mut root: Self = match serde_saphyr::from_str_with_options(text, options) {
            Ok(root) => root,
            Err(error) => {
                let offset = error
                    .location()
                    .map_or(0, |location| location.line().saturating_sub(1));
                return Err(SyntaxError {
                    line: first_line + offset,
                    reason: format!("syntax error: {error}"),
                });
            }
        };
        root.shift(first_line - 1);
        Ok(Some(root).filter(|root| !matches!(root.node, Node::Null)))
    }

    fn shift(&mut self, lines: u64) {
        self.line += lines;
        match &mut self.node {
            Node::Sequence(items) => items.iter_mut().for_each(|item| item.shift(lines)),
            Node::Mapping(entries) => {
                for entry in entries {
                    entry.line += lines;
                    entry.value.shift(lines);
                }
            }
            _ => {}
        }
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.node, Node::Mapping(_))
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.node {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.node {
            Node::Mapping(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub(super) fn text_at(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Self::as_text)
    }

    /// The value of a key, `null` counting as absent.
    pub(super) fn take(self, key: &str) -> Option<Self> {
        match self.node {
            Node::Mapping(entries) => entries
                .into_iter()
                .find(|entry| entry.key == key)
                .map(|entry| entry.value)
                .filter(|value| !matches!(value.node, Node::Null)),
            _ => None,
        }
    }

    /// The first key that is none of `known`, and its line.
    pub(super) fn key_not_in(&self, known: &[&str]) -> Option<(String, u64)> {
        match &self.node {
            Node::Mapping(entries) => entries
                .iter()
                .find(|entry| !known.contains(&entry.key.as_str()))
                .map(|entry| (entry.key.clone(), entry.line)),
            _ => None,
        }
    }

    /// The elements of a sequence; anything else comes back as it is.
    pub(super) fn into_items(self) -> Result<Vec<Self>, Self> {
        match self.node {
            Node::Sequence(items) => Ok(items),
            node => Err(Self {
                line: self.line,
                node,
            }),
        }
    }

    pub(super) fn to_value(&self) -> Value {
        match &self.node {
            Node::Null => Value::Null,
            Node::Bool(v) => Value::Bool(*v),
            Node::Number(v) => Value::Number(v.clone()),
            Node::Text(v) => Value::String(v.clone()),
            Node::Sequence(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Node::Mapping(entries) => Value::Object(
                entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.value.to_value()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }

    /// The line of `a.b[0].c`, or of the deepest part of that path that is there; `None` if nothing of it is. Case does
    /// not matter.
    pub(super) fn line_of(&self, path: &str) -> Option<u64> {
        let path = path.strip_prefix('.').unwrap_or(path);
        if let Some((index, rest)) = path.strip_prefix('[').and_then(|path| path.split_once(']')) {
            let Node::Sequence(items) = &self.node else {
                return None;
            };
            let item = items.get(index.parse::<usize>().ok()?)?;
            return Some(item.line_of(rest).unwrap_or(item.line));
        }
        let Node::Mapping(entries) = &self.node else {
            return None;
        };
        // Keys may hold dots, as labels do: the longest that fits is meant.
        let (entry, rest) = entries
            .iter()
            .filter_map(|entry| {
                // The datastore's errors spell fields as Go does: Spec.CIDR.
                let (head, rest) = path.split_at_checked(entry.key.len())?;
                if !head.eq_ignore_ascii_case(&entry.key) {
                    return None;
                }
                (rest.is_empty() || rest.starts_with(['.', '['])).then_some((entry, rest))
            })
            .max_by_key(|(entry, _)| entry.key.len())?;
        Some(entry.value.line_of(rest).unwrap_or(entry.line))
    }
}

impl<'de> Deserialize<'de> for Located {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Node>::deserialize(deserializer)?;
        Ok(Self {
            line: spanned.referenced.line().max(1),
            node: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML or JSON value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Node, E> {
        Ok(Node::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Node, E> {
        Ok(Node::Number(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Node, E> {
        Ok(Node::Number(v.into()))
    }

    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Node, E> {
        Number::from_f64(v)
            .map(Node::Number)
            .ok_or_else(|| E::custom(format!("the number {v} is not finite")))
    }

    fn visit_str<E>(self, v: &str) -> Result<Node, E> {
        Ok(Node::Text(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Node, E> {
        Ok(Node::Text(v))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = access.next_entry::<Spanned<String>, Located>()? {
            entries.push(Entry {
                line: key.referenced.line().max(1),
                key: key.value,
                value,
            });
        }
        Ok(Node::Mapping(entries))
    }
}
