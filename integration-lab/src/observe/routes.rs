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
}

/// Main table of a node, one family.
pub fn read(lab: &RunningLab, node: &str, family: Family) -> anyhow::Result<Vec<Route>> {
    let flag = match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    };
    parse(&lab.run(node, &["ip", "-json", flag, "route", "show"])?, family)
}

fn parse(text: &str, family: Family) -> anyhow::Result<Vec<Route>> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let routes: Vec<IpRoute> = serde_json::from_str(text).context("ip's JSON")?;
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
            {"dst":"10.65.0.1","dev":"cali1","scope":"link","flags":[]}]"#;
        let routes = parse(text, Family::V4).unwrap();
        let shown: Vec<String> = routes.iter().map(|r| r.destination.to_string()).collect();
        assert_eq!(
            shown,
            ["0.0.0.0/0", "10.1.1.0/31", "10.65.0.0/26", "10.65.0.1/32"]
        );
        assert!(
            routes[2].text.starts_with("blackhole 10.65.0.0/26") && routes[2].text.ends_with("metric 1024")
        );
        assert!(parse("", Family::V6).unwrap().is_empty());
    }
}
