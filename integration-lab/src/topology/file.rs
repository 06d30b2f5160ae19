//! The text of a containerlab file: the part of its schema that the lab gives a meaning to. Everything
//! else is refused by name, so that a topology never silently does less than it says.

use indexmap::IndexMap;
use serde::Deserialize;
use serde_saphyr::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClabFile {
    pub(super) name: Spanned<String>,
    /// Prefix of container names: no containers here.
    #[serde(default)]
    pub(super) prefix: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) mgmt: Mgmt,
    pub(super) topology: Body,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Mgmt {
    #[serde(default)]
    pub(super) network: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) ipv4_subnet: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) ipv6_subnet: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    #[serde(default)]
    pub(super) defaults: NodeText,
    #[serde(default)]
    pub(super) kinds: IndexMap<String, NodeText>,
    pub(super) nodes: IndexMap<String, Spanned<NodeText>>,
    #[serde(default)]
    pub(super) links: Vec<Spanned<LinkText>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct NodeText {
    #[serde(default)]
    pub(super) kind: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) image: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) entrypoint: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) cmd: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) binds: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) exec: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) env: IndexMap<String, String>,
    #[serde(default)]
    pub(super) labels: IndexMap<String, String>,
    #[serde(default)]
    pub(super) mgmt_ipv4: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) mgmt_ipv6: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkText {
    pub(super) endpoints: Vec<String>,
    #[serde(default)]
    pub(super) mtu: Option<u32>,
    /// Free text, without meaning here.
    #[serde(default, rename = "labels")]
    pub(super) _labels: IndexMap<String, String>,
}
