//! The fabric translation: Calico's BGP resources and this host's blocks into a configuration of the speaker.
//!
//! A pure function, [`translate`]. What it does for each resource and field is what Calico's confd templates do;
//! where a setting has no counterpart yet, a problem is named and nothing else changes.

mod bfd;
mod export;
mod filters;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use api::v3::bgp_configuration::{BindMode, DEFAULT_AS_NUMBER, ProgramClusterRoutes};
use api::v3::ip_pool::EncapMode;
use api::{BgpConfiguration, BgpFilter, BgpPeer, IpPool, Node};
use bgpd::config::{BGP_PORT, Config, NeighborKey, Network};
use ipnet::IpNet;

/// Calico's scale of route priorities: LOCAL_PREF is this less the priority, so that a lower priority wins.
pub const PRIORITY_SCALE: u32 = 2_147_483_647;
/// Priority of a normal route where no resource says otherwise; also the metric of workload routes.
pub const NORMAL_ROUTE_PRIORITY: u32 = 1024;
/// Metric of learned routes that carry no LOCAL_PREF, those from another AS: as if it were 100, which is what such a
/// route counts with, and what it carries on within our AS.
pub const EXTERNAL_ROUTE_METRIC: u32 = PRIORITY_SCALE - bgpd::rib::LOCAL_PREF_DEFAULT;

/// How sessions with workloads are called; `calicoctl node status` leaves them out.
pub const LOCAL_WORKLOAD: &str = "local workload";

/// The resources that the translation reads, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resources {
    /// Every node of the fabric.
    pub nodes: BTreeMap<String, Node>,
    /// `default` and `node.<name>`.
    pub configurations: BTreeMap<String, BgpConfiguration>,
    /// Explicit peers.
    pub peers: BTreeMap<String, BgpPeer>,
    /// What explicit peers are told and what is taken from them.
    pub filters: BTreeMap<String, BgpFilter>,
    /// Address pools.
    pub pools: BTreeMap<String, IpPool>,
    /// Blocks whose affinity to this host is confirmed.
    pub blocks: BTreeSet<IpNet>,
    /// This host's workloads, by namespace and name of their endpoints.
    pub workloads: BTreeMap<(String, String), Workload>,
    /// Passwords by secret name and key.
    pub secrets: BTreeMap<(String, String), String>,
}

/// A workload of this host, as far as BGP is concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workload {
    /// Its interface on the host's side.
    pub interface: String,
    /// Its addresses, in the order of its endpoint.
    pub addresses: Vec<IpAddr>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// What the agent's own configuration adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Hold time to offer.
    pub hold_time: Duration,
    /// Restart time where no resource has one.
    pub restart_time: Duration,
    /// Whether learned routes go to the kernel.
    pub install_routes: bool,
    /// `CALICO_ROUTER_ID`: nothing, `hash`, or an address.
    pub router_id: Option<String>,
}

/// Where a session comes from; the words are those of `calicoctl node status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerType {
    /// A BGPPeer of all nodes.
    Global,
    /// A BGPPeer of some nodes, or the mirror of one.
    NodeSpecific,
    /// The node-to-node mesh.
    Mesh,
    /// A BGPPeer of local workloads.
    LocalWorkload,
}

impl PeerType {
    /// As the status command prints it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::NodeSpecific => "node specific",
            Self::Mesh => "node-to-node mesh",
            Self::LocalWorkload => LOCAL_WORKLOAD,
        }
    }
}

/// Why a session exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOrigin {
    /// Its type.
    pub peer_type: PeerType,
    /// The BGPPeer behind it; empty for the mesh.
    pub resource: String,
}

/// The outcome of a translation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translation {
    /// What the speaker is to do; `None` as long as this node has no resource or no address.
    pub config: Option<Config>,
    /// Why each session exists.
    pub origins: BTreeMap<NeighborKey, SessionOrigin>,
    /// Peers that are reached by a gateway, by address: each needs a host route.
    pub peer_routes: BTreeMap<IpAddr, IpAddr>,
    /// This host's addresses at interfaces of workloads that are peers.
    pub workload_side: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Blocks that need a blackhole route before they are announced. Full-length blocks need none.
    pub blackholes: Vec<IpNet>,
    /// What could not be honoured, each naming resource and field.
    pub problems: Vec<String>,
}

/// This node's side of every session.
#[derive(Debug, Clone)]
struct Local<'a> {
    name: &'a str,
    node: &'a Node,
    local_as: u32,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
    cluster_id: Option<Ipv4Addr>,
}

impl Local<'_> {
    fn address(&self, v4: bool) -> Option<IpAddr> {
        if v4 {
            self.v4.map(IpAddr::V4)
        } else {
            self.v6.map(IpAddr::V6)
        }
    }
}

/// Translates for the node `name`.
pub fn translate(resources: &Resources, name: &str, settings: &Settings) -> Translation {
    let mut problems = Vec::new();
    let blackholes = resources
        .blocks
        .iter()
        .copied()
        .filter(|block| block.prefix_len() < block.max_prefix_len())
        .collect();
    let none = |problem: String| Translation {
        config: None,
        origins: BTreeMap::new(),
        peer_routes: BTreeMap::new(),
        workload_side: BTreeMap::new(),
        blackholes: Vec::clone(&blackholes),
        problems: vec![problem],
    };
    let Some(node) = resources.nodes.get(name) else {
        return none(format!("Node({name}): not there yet: no BGP"));
    };
    let local = Local {
        name,
        node,
        local_as: node_as(node).unwrap_or_else(|| default_as(resources)),
        v4: address_of(node, true).and_then(|a| if let IpAddr::V4(a) = a { Some(a) } else { None }),
        v6: address_of(node, false).and_then(|a| if let IpAddr::V6(a) = a { Some(a) } else { None }),
        cluster_id: cluster_id_of(node),
    };
    if local.v4.is_none() && local.v6.is_none() {
        return none(format!(
            "Node({name}) spec.bgp: neither ipv4Address nor ipv6Address is set: no BGP"
        ));
    }
    let router_id = match router_id(&local, settings.router_id.as_deref()) {
        Ok(id) => id,
        Err(problem) => return none(problem),
    };

    name_ignored(resources, &mut problems);
    let mut config = Config::new(local.local_as, router_id);
    config.fib = settings.install_routes;
    config.normal_metrics = [true, false].map(|v4| normal_priority(resources, v4));
    config.restart_time = settings.restart_time;
    config.listen = listen_addresses(resources, &local);
    config.networks = networks(resources);
    let policy = export::BaseRules::new(resources, &local, &mut problems);
    let mut origins = BTreeMap::new();
    let sessions = sessions::sessions(resources, &local, settings, &policy, &mut problems);
    for (origin, neighbor) in sessions.neighbors {
        origins.insert(neighbor.key(), origin);
        config.neighbors.push(neighbor);
    }
    Translation {
        config: Some(config),
        origins,
        peer_routes: sessions.gateways,
        workload_side: sessions.workload_side,
        blackholes,
        problems,
    }
}

/// What is asked for and not done: configurations that are neither the fabric's nor a node's, by their names; tunnels,
/// and who programs their routes.
fn name_ignored(resources: &Resources, problems: &mut Vec<String>) {
    for (name, pool) in &resources.pools {
        for (field, mode) in [
            ("ipipMode", pool.spec.ipip_mode),
            ("vxlanMode", pool.spec.vxlan_mode),
        ] {
            if let Some(mode) = mode.filter(|mode| *mode != EncapMode::Never) {
                problems.push(format!(
                    "IPPool({name}) spec.{field} = {mode}: there are no tunnels: packets for its blocks go to the next \
                     hops that BGP tells, as they are"
                ));
            }
        }
    }
    let program = default_configuration(resources).and_then(|spec| spec.program_cluster_routes);
    if let Some(mode @ (ProgramClusterRoutes::Disabled | ProgramClusterRoutes::EnabledIpipOnly)) = program {
        problems.push(format!(
            "BGPConfiguration(default) spec.programClusterRoutes = {mode}: learned routes are installed all the same; \
             `install-routes = false` in [bgp] of the agent's configuration ends that"
        ));
    }
    let known = |name: &str| name == "default" || name.starts_with("node.");
    for name in resources.configurations.keys().filter(|name| !known(name)) {
        problems.push(format!(
            "BGPConfiguration({name}): neither 'default' nor 'node.NAME': ignored"
        ));
    }
}

fn default_configuration(resources: &Resources) -> Option<&api::v3::BgpConfigurationSpec> {
    resources
        .configurations
        .get("default")
        .map(|configuration| &configuration.spec)
}

fn default_as(resources: &Resources) -> u32 {
    default_configuration(resources)
        .and_then(|spec| spec.as_number)
        .unwrap_or(DEFAULT_AS_NUMBER)
        .0
}

fn node_as(node: &Node) -> Option<u32> {
    node.spec
        .bgp
        .as_ref()
        .and_then(|bgp| bgp.as_number)
        .map(|number| number.0)
}

/// The node's address of a family, without its prefix length.
fn address_of(node: &Node, v4: bool) -> Option<IpAddr> {
    let bgp = node.spec.bgp.as_ref()?;
    let text = if v4 { &bgp.ipv4_address } else { &bgp.ipv6_address };
    let address: IpAddr = text.split('/').next()?.parse().ok()?;
    (address.is_ipv4() == v4).then_some(address)
}

fn cluster_id_of(node: &Node) -> Option<Ipv4Addr> {
    node.spec.bgp.as_ref()?.route_reflector_cluster_id.parse().ok()
}

fn is_reflector(node: &Node) -> bool {
    node.spec
        .bgp
        .as_ref()
        .is_some_and(|bgp| !bgp.route_reflector_cluster_id.is_empty())
}

/// A node's listen port: its own, else the global one.
fn listen_port(resources: &Resources, node: &str) -> u16 {
    let own = resources
        .configurations
        .get(&format!("node.{node}"))
        .map_or(0, |c| c.spec.listen_port);
    let global = default_configuration(resources).map_or(0, |spec| spec.listen_port);
    [own, global]
        .into_iter()
        .find(|port| *port != 0)
        .unwrap_or(BGP_PORT)
}

fn listen_addresses(resources: &Resources, local: &Local<'_>) -> Vec<SocketAddr> {
    let port = listen_port(resources, local.name);
    let node_only =
        default_configuration(resources).and_then(|spec| spec.bind_mode) == Some(BindMode::NodeIp);
    let v4 = local
        .v4
        .map(|own| if node_only { own } else { Ipv4Addr::UNSPECIFIED });
    let v6 = local
        .v6
        .map(|own| if node_only { own } else { Ipv6Addr::UNSPECIFIED });
    v4.map(|a| SocketAddr::from((a, port)))
        .into_iter()
        .chain(v6.map(|a| SocketAddr::from((a, port))))
        .collect()
}

/// Unset: the node's IPv4 address, or the hash where it has none. `hash`: of the name. Else an address.
fn router_id(local: &Local<'_>, setting: Option<&str>) -> Result<Ipv4Addr, String> {
    match (setting.filter(|text| !text.is_empty()), local.v4) {
        (None, Some(address)) => Ok(address),
        (None | Some("hash"), _) => Ok(hashed_router_id(local.name)),
        (Some(text), _) => text.parse().map_err(|_| {
            format!("CALICO_ROUTER_ID = '{text}': use 'hash', an IPv4 address, or leave it unset: no BGP")
        }),
    }
}

/// The first four bytes of SHA-256 of the name, the first one kept below the multicast range.
fn hashed_router_id(name: &str) -> Ipv4Addr {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(name.as_bytes());
    let mut octets = [0_u8; 4];
    octets.copy_from_slice(digest.get(..4).unwrap_or(&[0; 4]));
    if octets[0] > 223 {
        octets[0] -= 32;
    }
    octets.into()
}

/// The metric of a normal route.
fn normal_priority(resources: &Resources, v4: bool) -> u32 {
    let set = default_configuration(resources).and_then(|spec| {
        if v4 {
            spec.ipv4_normal_route_priority
        } else {
            spec.ipv6_normal_route_priority
        }
    });
    set.and_then(|priority| u32::try_from(priority).ok())
        .unwrap_or(NORMAL_ROUTE_PRIORITY)
}

/// Own blocks as aggregates, and addresses of own workloads that lie in somebody else's block (borrowed).
fn networks(resources: &Resources) -> Vec<Network> {
    let addresses: BTreeSet<IpAddr> = resources
        .workloads
        .values()
        .flat_map(|workload| workload.addresses.iter().copied())
        .collect();
    let borrowed = addresses
        .iter()
        .filter(|address| !resources.blocks.iter().any(|block| block.contains(*address)))
        .filter(|address| export::pools(resources).any(|(_, cidr, _)| cidr.contains(*address)))
        .map(|address| IpNet::from(*address));
    let blocks = resources.blocks.iter().copied();
    blocks
        .chain(borrowed)
        .map(|prefix| {
            let priority = normal_priority(resources, prefix.addr().is_ipv4());
            Network {
                local_pref: Some(PRIORITY_SCALE.saturating_sub(priority)),
                ..Network::from(prefix)
            }
        })
        .collect()
}
