//! Kernel routes of a node.

use std::net::IpAddr;

use anyhow::Context;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;

use crate::fabric::Family;
use crate::running::RunningLab;

/// A route of the main table, as far as it is compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// Who wrote it, as `ip` names it.
    pub protocol: String,
    /// `ip`'s line of it.
    pub text: String,
}

#[derive(Deserialize)]
struct IpRoute {
    dst: String,
    #[serde(default)]
    protocol: String,
    #[serde(default)]
    gateway: Option<String>,
    #[serde(default)]
    dev: Option<String>,
    #[serde(default)]
    metric: Option<u32>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    nhid: Option<u32>,
    #[serde(default)]
    nexthops: Vec<IpNextHop>,
    #[serde(default)]
    flags: Vec<String>,
}

/// A next-hop object: a hop, or a group of others.
#[derive(Deserialize)]
struct IpNextHopObject {
    id: u32,
    #[serde(default)]
    group: Vec<IpNextHopId>,
    #[serde(flatten)]
    hop: IpNextHop,
}

#[derive(Deserialize)]
struct IpNextHopId {
    id: u32,
}

#[derive(Clone, Deserialize)]
struct IpNextHop {
    #[serde(default)]
    gateway: Option<String>,
    #[serde(default)]
    dev: Option<String>,
    #[serde(default)]
    flags: Vec<String>,
}

/// Flags of a route or next hop that packets cannot take.
const UNUSABLE: [&str; 2] = ["dead", "linkdown"];

fn unusable(flags: &[String]) -> String {
    let words = flags.iter().filter(|flag| UNUSABLE.contains(&flag.as_str()));
    words.map(|flag| format!(" {flag}")).collect()
}

impl IpNextHop {
    fn text(&self) -> String {
        let gateway = self.gateway.as_ref().map(|gateway| format!(" via {gateway}"));
        let device = self.dev.as_ref().map(|dev| format!(" dev {dev}"));
        let words = gateway.into_iter().chain(device).collect::<String>();
        format!(" nexthop{words}{}", unusable(&self.flags))
    }
}

/// Main table of a node, one family.
pub fn read(lab: &RunningLab, node: &str, family: Family) -> anyhow::Result<Vec<Route>> {
    let flag = match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    };
    let routes = lab.run(node, &["ip", "-json", flag, "route", "show"])?;
    // A route by a next-hop object shows nothing but its id (where `nexthop_compat_mode` is 0).
    let objects = if routes.contains("nhid") {
        lab.run(node, &["ip", "-json", "nexthop", "show"])?
    } else {
        String::new()
    };
    parse(&routes, &objects, family)
}

fn list<T: serde::de::DeserializeOwned>(text: &str) -> anyhow::Result<Vec<T>> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(text).context("ip's JSON")
}

fn parse(text: &str, objects: &str, family: Family) -> anyhow::Result<Vec<Route>> {
    let routes: Vec<IpRoute> = list(text)?;
    let objects: Vec<IpNextHopObject> = list(objects)?;
    let object = |id: u32| objects.iter().find(|object| object.id == id);
    let mut parsed = Vec::new();
    for route in routes {
        let destination =
            destination(&route.dst, family).with_context(|| format!("route to {:?}", route.dst))?;
        let mut line = String::new();
        if let Some(kind) = route.kind.as_deref().filter(|k| *k != "unicast") {
            line.push_str(kind);
            line.push(' ');
        }
        line.push_str(&route.dst);
        for (word, value) in [
            ("via", route.gateway),
            ("dev", route.dev),
            ("proto", Some(route.protocol.clone()).filter(|p| !p.is_empty())),
        ] {
            if let Some(value) = value {
                line.push_str(&format!(" {word} {value}"));
            }
        }
        if let Some(metric) = route.metric {
            line.push_str(&format!(" metric {metric}"));
        }
        line.push_str(&unusable(&route.flags));
        let by_object = route
            .nhid
            .and_then(object)
            .map(|whole| match whole.group.as_slice() {
                [] => vec![whole.hop.clone()],
                members => members
                    .iter()
                    .filter_map(|member| Some(object(member.id)?.hop.clone()))
                    .collect(),
            });
        let hops = by_object.unwrap_or(route.nexthops);
        let mut hops: Vec<String> = hops.iter().map(IpNextHop::text).collect();
        hops.sort();
        line.extend(hops);
        parsed.push(Route {
            destination,
            protocol: route.protocol,
            text: line,
        });
    }
    parsed.sort();
    Ok(parsed)
}

fn destination(text: &str, family: Family) -> Option<IpNet> {
    if text == "default" {
        return Some(match family {
            Family::V4 => IpNet::V4(Ipv4Net::default()),
            Family::V6 => IpNet::V6(Ipv6Net::default()),
        });
    }
    text.parse::<IpNet>()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_of_every_shape_are_read() {
        let text = r#"[{"dst":"default","gateway":"10.1.1.0","dev":"eth1","flags":[]},
            {"dst":"10.1.1.0/31","dev":"eth1","protocol":"kernel","scope":"link","prefsrc":"10.1.1.1","flags":[]},
            {"type":"blackhole","dst":"10.65.0.0/26","dev":"lo","protocol":"80","metric":1024,"flags":[]},
            {"dst":"10.65.0.1","dev":"cali1","scope":"link","flags":["linkdown"]},
            {"dst":"10.65.0.64/26","protocol":"bird","metric":32,"flags":[],
             "nexthops":[{"gateway":"10.2.1.0","dev":"eth2","weight":1,"flags":["dead","linkdown"]},
                         {"gateway":"10.1.1.0","dev":"eth1","weight":1,"flags":[]}]},
            {"dst":"10.65.0.128/26","nhid":7,"protocol":"201","metric":1024,"flags":[]},
            {"dst":"10.65.0.192/26","nhid":1,"protocol":"201","metric":1024,"flags":[]}]"#;
        let objects = r#"[{"id":1,"gateway":"10.1.1.0","dev":"eth1","scope":"link","protocol":"201","flags":[]},
            {"id":2,"gateway":"10.2.1.0","dev":"eth2","scope":"link","protocol":"201","flags":[]},
            {"id":7,"group":[{"id":2},{"id":1}],"protocol":"201","flags":[]}]"#;
        let routes = parse(text, objects, Family::V4).unwrap();
        let shown: Vec<String> = routes.iter().map(|r| r.destination.to_string()).collect();
        assert_eq!(
            shown,
            [
                "0.0.0.0/0",
                "10.1.1.0/31",
                "10.65.0.0/26",
                "10.65.0.1/32",
                "10.65.0.64/26",
                "10.65.0.128/26",
                "10.65.0.192/26"
            ]
        );
        assert_eq!(routes[3].text, "10.65.0.1 dev cali1 linkdown");
        assert_eq!(
            routes[4].text,
            "10.65.0.64/26 proto bird metric 32 nexthop via 10.1.1.0 dev eth1 \
             nexthop via 10.2.1.0 dev eth2 dead linkdown"
        );
        assert_eq!(
            routes[5].text,
            "10.65.0.128/26 proto 201 metric 1024 nexthop via 10.1.1.0 dev eth1 nexthop via 10.2.1.0 dev eth2"
        );
        assert_eq!(
            routes[6].text,
            "10.65.0.192/26 proto 201 metric 1024 nexthop via 10.1.1.0 dev eth1"
        );
        assert!(
            routes[2].text.starts_with("blackhole 10.65.0.0/26") && routes[2].text.ends_with("metric 1024")
        );
        assert!(parse("", "", Family::V6).unwrap().is_empty());
    }
}
