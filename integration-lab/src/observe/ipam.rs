//! Address management as it stands in the store, read with etcdctl: what the fabric must announce follows
//! from it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Context;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use crate::fabric::{Fabric, Family};
use crate::running::RunningLab;

const AFFINITIES: &str = "/calico/ipam/v2/host/";
const BLOCKS: &str = "/calico/ipam/v2/assignment/";
const POOLS: &str = "/calico/resources/v3/projectcalico.org/ippools/";

/// A block that a host owns or wants to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affinity {
    /// The host.
    pub host: String,
    /// The block.
    pub block: IpNet,
    /// `confirmed`, `pending` or `pendingDeletion`.
    pub state: String,
}

/// An address in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// The address.
    pub address: IpAddr,
    /// Host of the block that it is in; none if the block has none.
    pub block_host: Option<String>,
    /// Host that uses it.
    pub node: Option<String>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IpamView {
    /// Every affinity.
    pub affinities: Vec<Affinity>,
    /// Every address in use.
    pub allocations: Vec<Allocation>,
    /// Networks of the pools.
    pub pools: Vec<IpNet>,
}

impl IpamView {
    /// Reads the store from its own node.
    pub fn read(lab: &RunningLab, fabric: &Fabric) -> anyhow::Result<Self> {
        let get = |prefix: &str| -> anyhow::Result<Vec<(String, Value)>> {
            let endpoints = format!("--endpoints={}", fabric.store_endpoint);
            let text = lab.run(
                &fabric.store_node,
                &[
                    "etcdctl",
                    &endpoints,
                    "get",
                    "--prefix",
                    prefix,
                    "--write-out=fields",
                ],
            )?;
            parse_fields(&text)
        };
        let mut view = Self::default();
        for (key, value) in get(AFFINITIES)? {
            view.affinities.extend(affinity(&key, &value));
        }
        for (_, value) in get(BLOCKS)? {
            view.allocations.extend(allocations(&value)?);
        }
        for (_, value) in get(POOLS)? {
            let cidr = value["spec"]["cidr"].as_str().context("a pool without cidr")?;
            view.pools
                .push(cidr.parse().with_context(|| format!("pool {cidr:?}"))?);
        }
        Ok(view)
    }

    /// What must be in every router's table inside the pools: confirmed blocks, and the addresses that are used
    /// outside the blocks of their host.
    pub fn announced(&self, family: Family) -> BTreeSet<IpNet> {
        let blocks = self
            .affinities
            .iter()
            .filter(|a| a.state == "confirmed")
            .map(|a| a.block);
        let strays = self
            .allocations
            .iter()
            .filter(|a| a.node.is_some() && a.node != a.block_host);
        blocks
            .chain(strays.map(|a| IpNet::from(a.address)))
            .filter(|n| is_family(n, family))
            .collect()
    }

    /// Whether a route is inside a pool.
    pub fn in_pool(&self, destination: &IpNet) -> bool {
        self.pools.iter().any(|p| p.contains(destination))
    }
}

pub(crate) fn is_family(net: &IpNet, family: Family) -> bool {
    net.addr().is_ipv4() == (family == Family::V4)
}

/// `etcdctl get --write-out=fields`: lines `"Key" : "..."` and `"Value" : "..."`, quoted as Go does, which for
/// what is stored here is JSON's way.
fn parse_fields(text: &str) -> anyhow::Result<Vec<(String, Value)>> {
    let mut pairs = Vec::new();
    let mut key = None;
    for line in text.lines() {
        if let Some(quoted) = line.strip_prefix("\"Key\" : ") {
            key = Some(serde_json::from_str::<String>(quoted).context("etcdctl's key")?);
        } else if let Some(quoted) = line.strip_prefix("\"Value\" : ") {
            let value: String = serde_json::from_str(quoted).context("etcdctl's value")?;
            let key = key.take().context("etcdctl: a value without key")?;
            let value = serde_json::from_str(&value).with_context(|| format!("the value of {key}"))?;
            pairs.push((key, value));
        }
    }
    Ok(pairs)
}

/// `/calico/ipam/v2/host/<host>/ipv4/block/10.65.0.0-26`
fn affinity(key: &str, value: &Value) -> Option<Affinity> {
    let parts: Vec<&str> = key.strip_prefix(AFFINITIES)?.split('/').collect();
    let [host, "ipv4" | "ipv6", "block", block] = parts.as_slice() else {
        return None;
    };
    let (address, length) = block.rsplit_once('-')?;
    // Colons of an IPv6 address are dashes in a key.
    let address: IpAddr = match address.parse::<Ipv4Addr>() {
        Ok(v4) => v4.into(),
        Err(_) => address.replace('-', ":").parse::<Ipv6Addr>().ok()?.into(),
    };
    // An affinity without state is a confirmed one of an old writer.
    let state = value["state"]
        .as_str()
        .filter(|s| !s.is_empty())
        .unwrap_or("confirmed")
        .to_string();
    Some(Affinity {
        host: host.to_string(),
        block: IpNet::new(address, length.parse().ok()?).ok()?,
        state,
    })
}

#[derive(Deserialize)]
struct BlockText {
    cidr: IpNet,
    #[serde(default)]
    affinity: Option<String>,
    #[serde(default)]
    allocations: Vec<Option<usize>>,
    #[serde(default)]
    attributes: Vec<Value>,
}

fn allocations(value: &Value) -> anyhow::Result<Vec<Allocation>> {
    let block = BlockText::deserialize(value).context("a block")?;
    let block_host = block
        .affinity
        .as_deref()
        .and_then(|a| a.strip_prefix("host:"))
        .map(str::to_string);
    let mut allocations = Vec::new();
    for (ordinal, attribute) in block.allocations.iter().enumerate() {
        let Some(attribute) = attribute.and_then(|index| block.attributes.get(index)) else {
            continue;
        };
        // Released and not free yet: nobody's.
        if !attribute["releasedAt"].is_null() {
            continue;
        }
        let address = nth(block.cidr.network(), ordinal).context("an ordinal beyond the address space")?;
        let node = attribute["secondary"]["node"].as_str().map(str::to_string);
        allocations.push(Allocation {
            address,
            block_host: block_host.clone(),
            node,
        });
    }
    Ok(allocations)
}

fn nth(network: IpAddr, ordinal: usize) -> Option<IpAddr> {
    match network {
        IpAddr::V4(a) => Some(Ipv4Addr::from(u32::from(a).checked_add(u32::try_from(ordinal).ok()?)?).into()),
        IpAddr::V6(a) => Some(Ipv6Addr::from(u128::from(a).checked_add(ordinal as u128)?).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_be_announced_follows_from_the_store() {
        let text = r#"
"ClusterID" : 1
"Key" : "/calico/ipam/v2/host/host1/ipv4/block/10.65.0.0-26"
"Value" : "{\"state\":\"confirmed\",\"deleted\":\"false\"}"
"Lease" : 0
"Key" : "/calico/ipam/v2/host/host1/ipv4/block/10.65.200.0-26"
"Value" : "{\"state\":\"pending\"}"
"Key" : "/calico/ipam/v2/host/host2/ipv6/block/fd00-65--40-122"
"Value" : "{\"state\":\"confirmed\"}"
"#;
        let affinities: Vec<Affinity> = parse_fields(text)
            .unwrap()
            .iter()
            .filter_map(|(k, v)| affinity(k, v))
            .collect();
        assert_eq!(affinities.len(), 3);
        assert_eq!(affinities[2].block.to_string(), "fd00:65::40/122");

        let block = serde_json::json!({
            "cidr": "10.66.0.0/28", "affinity": "host:host3",
            "allocations": [0, 1, null, 2], "unallocated": [2],
            "attributes": [
                {"handle_id": "a", "secondary": {"node": "host3"}},
                {"handle_id": "b", "secondary": {"node": "host4"}},
                {"releasedAt": "2026-01-01T00:00:00Z", "secondary": {"node": "host4"}},
            ],
        });
        let view = IpamView {
            affinities,
            allocations: allocations(&block).unwrap(),
            pools: Vec::new(),
        };
        let shown = |family| {
            view.announced(family)
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(shown(Family::V4), ["10.65.0.0/26", "10.66.0.1/32"]);
        assert_eq!(shown(Family::V6), ["fd00:65::40/122"]);
    }
}
