//! From the text of a topology to its meaning: defaults and kinds merged into the nodes as containerlab
//! does (node over kind over defaults; lists appended, maps merged), every reference checked.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use ipnet::IpNet;
use serde_saphyr::Spanned;

use super::file::{ClabFile, LinkText, Mgmt, NodeText};
use super::{Bind, Link, LinkEnd, Node, Topology, TopologyError};

/// The management interface of every node, as containerlab names it.
pub const MGMT_INTERFACE: &str = "eth0";
/// The lab's own node that holds the management bridge; no node may have this name.
pub const SWITCH: &str = "mgmt-switch";
/// containerlab's default management network.
const MGMT_IPV4_DEFAULT: &str = "172.20.20.0/24";
/// Kernel limit of an interface name, without the terminating zero (IFNAMSIZ - 1).
const INTERFACE_NAME_BYTES_MAX: usize = 15;
/// Names of labs and nodes become file names and host names.
const NAME_BYTES_MAX: usize = 63;
const NODES_MAX: usize = 1000;
const MTU_MIN: u32 = 68;
const MTU_MAX: u32 = 65535;

struct At<'a> {
    file: &'a Path,
}

impl At<'_> {
    fn error(&self, line: u64, field: impl Into<String>, reason: impl Into<String>) -> TopologyError {
        TopologyError::Value {
            file: self.file.to_path_buf(),
            line,
            field: field.into(),
            reason: reason.into(),
        }
    }
}

pub(super) fn resolve(file: &Path, text: ClabFile, name: Option<&str>) -> Result<Topology, TopologyError> {
    let at = At { file };
    let mut notes = Vec::new();
    let name = match name {
        Some(name) => check_name(name)
            .map_err(|e| at.error(0, "--name", e))
            .map(|()| name.to_string())?,
        None => check_name(&text.name.value)
            .map_err(|e| at.error(text.name.defined.line(), "name", e))
            .map(|()| text.name.value.clone())?,
    };
    if text.prefix.is_some() {
        notes.push("prefix: ignored, there are no containers to name".to_string());
    }
    let mgmt = mgmt_networks(&at, &text.mgmt, &mut notes)?;
    if text.topology.nodes.is_empty() || text.topology.nodes.len() > NODES_MAX {
        return Err(at.error(0, "topology.nodes", format!("a lab has 1 to {NODES_MAX} nodes")));
    }

    let directory = file.parent().unwrap_or(Path::new("/"));
    let mut nodes = IndexMap::new();
    let mut images = false;
    for (node_name, node) in &text.topology.nodes {
        let field = format!("topology.nodes.{node_name}");
        let line = node.defined.line();
        check_name(node_name).map_err(|e| at.error(line, &field, e))?;
        if node_name == SWITCH {
            return Err(at.error(line, &field, "this name is the lab's own: choose another"));
        }
        let kind = first([&node.value.kind, &text.topology.defaults.kind]);
        let kind_name = match kind {
            None => {
                return Err(at.error(
                    line,
                    format!("{field}.kind"),
                    "missing: the lab knows the kind linux",
                ));
            }
            Some(k) if k.value == "linux" => k.value.clone(),
            Some(k) => {
                let reason = format!("{:?} is not supported: the lab runs the kind linux", k.value);
                return Err(at.error(k.defined.line(), format!("{field}.kind"), reason));
            }
        };
        let none = NodeText::default();
        let layers = [
            &text.topology.defaults,
            text.topology.kinds.get(&kind_name).unwrap_or(&none),
            &node.value,
        ];
        images |= layers.iter().any(|l| l.image.is_some());
        nodes.insert(node_name.clone(), merge(&at, &field, directory, layers)?);
    }
    if images {
        notes.push("image: ignored, nodes run what is installed on this machine".to_string());
    }
    mgmt_addresses(&at, &mgmt, &mut nodes)?;
    let links = links(&at, &text.topology.links, &nodes)?;
    Ok(Topology {
        name,
        file: file.to_path_buf(),
        mgmt,
        nodes,
        links,
        notes,
    })
}

/// The innermost value that is set.
fn first<T, const N: usize>(values: [&Option<T>; N]) -> Option<&T> {
    values.into_iter().find_map(Option::as_ref)
}

/// `layers` from the outermost to the innermost.
fn merge(at: &At, field: &str, directory: &Path, layers: [&NodeText; 3]) -> Result<Node, TopologyError> {
    let [outer, middle, inner] = layers;
    let mut command = Vec::new();
    for (part, value) in [
        (
            "entrypoint",
            first([&inner.entrypoint, &middle.entrypoint, &outer.entrypoint]),
        ),
        ("cmd", first([&inner.cmd, &middle.cmd, &outer.cmd])),
    ] {
        if let Some(value) = value {
            command.extend(words(at, &format!("{field}.{part}"), value)?);
        }
    }
    let mut node = Node {
        command,
        binds: Vec::new(),
        exec: Vec::new(),
        env: IndexMap::new(),
        labels: IndexMap::new(),
        mgmt: Vec::new(),
    };
    for layer in layers {
        for line in &layer.exec {
            let split = words(at, &format!("{field}.exec"), line)?;
            if split.is_empty() {
                return Err(at.error(line.defined.line(), format!("{field}.exec"), "an empty command"));
            }
            node.exec.push(split);
        }
        for bind in &layer.binds {
            node.binds
                .push(parse_bind(at, &format!("{field}.binds"), directory, bind)?);
        }
        node.env.extend(layer.env.clone());
        node.labels.extend(layer.labels.clone());
    }
    for (name, value) in [("mgmt-ipv4", &inner.mgmt_ipv4), ("mgmt-ipv6", &inner.mgmt_ipv6)] {
        let Some(value) = value else { continue };
        let address: IpAddr = value.value.parse().map_err(|_| {
            at.error(
                value.defined.line(),
                format!("{field}.{name}"),
                format!("{:?} is not an address", value.value),
            )
        })?;
        if address.is_ipv4() != (name == "mgmt-ipv4") {
            let reason = format!("{address} is of the other family");
            return Err(at.error(value.defined.line(), format!("{field}.{name}"), reason));
        }
        node.mgmt.push(address);
    }
    Ok(node)
}

fn words(at: &At, field: &str, line: &Spanned<String>) -> Result<Vec<String>, TopologyError> {
    shlex::split(&line.value).ok_or_else(|| {
        at.error(
            line.defined.line(),
            field,
            format!("unbalanced quotes in {:?}", line.value),
        )
    })
}

fn parse_bind(at: &At, field: &str, directory: &Path, bind: &Spanned<String>) -> Result<Bind, TopologyError> {
    let line = bind.defined.line();
    let mut parts = bind.value.split(':');
    let (Some(source), Some(target)) = (parts.next(), parts.next()) else {
        return Err(at.error(line, field, format!("{:?} is not SOURCE:TARGET[:ro]", bind.value)));
    };
    let read_only = match (parts.next(), parts.next()) {
        (None, _) | (Some("rw"), None) => false,
        (Some("ro"), None) => true,
        _ => {
            return Err(at.error(
                line,
                field,
                format!("{:?}: the only options are ro and rw", bind.value),
            ));
        }
    };
    let target = PathBuf::from(target);
    if !target.is_absolute() || target.components().any(|c| c == std::path::Component::ParentDir) {
        return Err(at.error(
            line,
            field,
            format!("{}: the path in the node must be absolute", target.display()),
        ));
    }
    let source = directory.join(source);
    let source = source
        .canonicalize()
        .map_err(|e| at.error(line, field, format!("{}: {e}", source.display())))?;
    Ok(Bind {
        source,
        target,
        read_only,
    })
}

fn mgmt_networks(at: &At, mgmt: &Mgmt, notes: &mut Vec<String>) -> Result<Vec<IpNet>, TopologyError> {
    if mgmt.network.is_some() {
        notes.push("mgmt.network: ignored, each lab has a management network of its own".to_string());
    }
    let mut networks = Vec::new();
    for (field, value, v4) in [
        ("mgmt.ipv4-subnet", &mgmt.ipv4_subnet, true),
        ("mgmt.ipv6-subnet", &mgmt.ipv6_subnet, false),
    ] {
        let Some(value) = value else { continue };
        let network = value
            .value
            .parse::<IpNet>()
            .ok()
            .filter(|n| n.addr().is_ipv4() == v4 && n.trunc() == *n);
        networks.push(network.ok_or_else(|| {
            at.error(
                value.defined.line(),
                field,
                format!("{:?} is not a network of this family", value.value),
            )
        })?);
    }
    if mgmt.ipv4_subnet.is_none() {
        networks.insert(
            0,
            MGMT_IPV4_DEFAULT
                .parse()
                .map_err(|_| at.error(0, "mgmt", "bad default"))?,
        );
    }
    Ok(networks)
}

/// Checks the addresses that were given and gives the others out, from the second of each network.
fn mgmt_addresses(
    at: &At,
    networks: &[IpNet],
    nodes: &mut IndexMap<String, Node>,
) -> Result<(), TopologyError> {
    let mut taken: HashSet<IpAddr> = HashSet::new();
    for (name, node) in nodes.iter() {
        let field = format!("topology.nodes.{name}");
        for address in &node.mgmt {
            if !networks.iter().any(|n| n.contains(address)) {
                return Err(at.error(0, field, format!("{address} is in no management network")));
            }
            if !taken.insert(*address) {
                return Err(at.error(0, field, format!("{address} is given twice")));
            }
        }
    }
    for network in networks {
        let mut free = network.hosts().skip(1);
        for (name, node) in nodes.iter_mut() {
            if node.mgmt.iter().any(|a| network.contains(a)) {
                continue;
            }
            let address = free.find(|a| !taken.contains(a)).ok_or_else(|| {
                at.error(
                    0,
                    "mgmt",
                    format!("{network} has no address left for node {name}"),
                )
            })?;
            node.mgmt.push(address);
        }
    }
    Ok(())
}

fn links(
    at: &At,
    texts: &[Spanned<LinkText>],
    nodes: &IndexMap<String, Node>,
) -> Result<Vec<Link>, TopologyError> {
    let mut seen = HashSet::new();
    let mut links = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let line = text.defined.line();
        let field = format!("topology.links[{index}].endpoints");
        let [a, b] = text.value.endpoints.as_slice() else {
            return Err(at.error(line, field, "a link has two endpoints, each NODE:INTERFACE"));
        };
        let mut ends = Vec::with_capacity(2);
        for end in [a, b] {
            let Some((node, interface)) = end.split_once(':') else {
                return Err(at.error(line, field, format!("{end:?} is not NODE:INTERFACE")));
            };
            if !nodes.contains_key(node) {
                return Err(at.error(line, field, format!("{end:?}: there is no node {node:?}")));
            }
            check_interface(interface).map_err(|e| at.error(line, &field, format!("{end:?}: {e}")))?;
            if !seen.insert((node.to_string(), interface.to_string())) {
                return Err(at.error(line, field, format!("{end:?} is used by two links")));
            }
            ends.push(LinkEnd {
                node: node.to_string(),
                interface: interface.to_string(),
            });
        }
        if let Some(mtu) = text.value.mtu
            && !(MTU_MIN..=MTU_MAX).contains(&mtu)
        {
            let field = format!("topology.links[{index}].mtu");
            return Err(at.error(line, field, format!("{mtu} is not within {MTU_MIN} to {MTU_MAX}")));
        }
        if let Ok(ends) = <[LinkEnd; 2]>::try_from(ends) {
            links.push(Link {
                ends,
                mtu: text.value.mtu,
            });
        }
    }
    Ok(links)
}

fn check_interface(name: &str) -> Result<(), String> {
    if name == MGMT_INTERFACE || name == "lo" {
        return Err(format!(
            "{name} is taken: {MGMT_INTERFACE} is the management interface"
        ));
    }
    let fits = !name.is_empty() && name.len() <= INTERFACE_NAME_BYTES_MAX && name != "." && name != "..";
    if fits
        && name
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'/' && b != b':')
    {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no interface name (1 to {INTERFACE_NAME_BYTES_MAX} printable characters)"
    ))
}

fn check_name(name: &str) -> Result<(), String> {
    let starts = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if starts && rest && name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no name: 1 to {NAME_BYTES_MAX} letters, digits, - and _, a letter or digit first"
    ))
}
