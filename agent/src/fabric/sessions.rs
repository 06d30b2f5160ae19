//! Which sessions this node has: explicit peers, their mirrors, and the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use api::selector::Selector;
use api::v3::BgpPeerSpec;
use api::v3::bgp_configuration::BgpPassword;
use api::v3::bgp_peer::{NextHopMode, ReversePeering, SourceAddress};
use api::{BgpPeer, GoDuration, Node};
use bgpd::config::{AddPaths, BGP_PORT, BfdSettings, Neighbor};
use bgpd::policy::Policy;

use super::bfd;
use super::export::{self, BaseRules};
use super::{
    Local, PeerType, Resources, SessionOrigin, Settings, Workload, address_of, cluster_id_of, default_as,
    default_configuration, is_reflector, listen_port, node_as,
};

/// The TTL of a session that may cross any number of hops, as Calico configures each one.
const TTL_ANY_HOPS: u8 = 255;

/// What the sessions are built from.
struct Builder<'a> {
    resources: &'a Resources,
    local: &'a Local<'a>,
    settings: &'a Settings,
    base: &'a BaseRules,
    /// Import and export policy by family (is it IPv4?) and filters: sessions with the same ones share them.
    policies: BTreeMap<(bool, Vec<String>), (Policy, Policy)>,
    problems: &'a mut Vec<String>,
    sessions: BTreeMap<IpAddr, (SessionOrigin, Neighbor)>,
    gateways: BTreeMap<IpAddr, IpAddr>,
    workload_side: BTreeMap<String, BTreeSet<IpAddr>>,
}

/// The remote end of a session.
struct Remote {
    address: IpAddr,
    port: u16,
    remote_as: u32,
    cluster_id: Option<std::net::Ipv4Addr>,
}

/// The sessions of a node.
pub(super) struct Sessions {
    /// By address.
    pub(super) neighbors: Vec<(SessionOrigin, Neighbor)>,
    /// Peers that are reached by a gateway.
    pub(super) gateways: BTreeMap<IpAddr, IpAddr>,
    /// This host's addresses at interfaces of workloads.
    pub(super) workload_side: BTreeMap<String, BTreeSet<IpAddr>>,
}

/// Every session of the node, by address. Global peers come first, then node-specific ones, then mirrors, then the
/// mesh; within each by name. The first session to an address is kept, because what a peer opens is told apart by
/// address alone.
pub(super) fn sessions(
    resources: &Resources,
    local: &Local<'_>,
    settings: &Settings,
    base: &BaseRules,
    problems: &mut Vec<String>,
) -> Sessions {
    let mut builder = Builder {
        resources,
        local,
        settings,
        base,
        policies: BTreeMap::new(),
        problems,
        sessions: BTreeMap::new(),
        gateways: BTreeMap::new(),
        workload_side: BTreeMap::new(),
    };
    let is_global = |peer: &BgpPeer| peer.spec.node.is_empty() && peer.spec.node_selector.is_empty();
    for global in [true, false] {
        for (name, peer) in resources
            .peers
            .iter()
            .filter(|(_, peer)| is_global(peer) == global)
        {
            builder.explicit(name, peer, global);
        }
    }
    for (name, peer) in &resources.peers {
        builder.mirror(name, peer);
    }
    builder.mesh();
    Sessions {
        neighbors: builder.sessions.into_values().collect(),
        gateways: builder.gateways,
        workload_side: builder.workload_side,
    }
}

impl Builder<'_> {
    /// The sessions of a BGPPeer whose local side this node is on.
    fn explicit(&mut self, name: &str, peer: &BgpPeer, global: bool) {
        if !self.selects(
            name,
            "nodeSelector",
            &peer.spec.node_selector,
            &peer.spec.node,
            self.local.name,
            self.local.node,
        ) {
            return;
        }
        if !peer.spec.local_workload_selector.is_empty() {
            return self.workloads(name, peer);
        }
        let peer_type = if global {
            PeerType::Global
        } else {
            PeerType::NodeSpecific
        };
        for remote in self.remotes(name, peer) {
            let passive = global && peer.spec.peer_selector.is_empty() && self.defers_to(&remote);
            self.add(name, peer, peer_type, remote, passive, false);
        }
    }

    /// Sessions with this host's workloads: they connect, to the address that the configuration has for that, from
    /// the first address of the family that they have.
    fn workloads(&mut self, name: &str, peer: &BgpPeer) {
        let spec = &peer.spec;
        let selector = match Selector::parse(&spec.local_workload_selector) {
            Ok(selector) => selector,
            Err(error) => {
                return self.problems.push(format!(
                    "BGPPeer({name}) spec.localWorkloadSelector = '{}': {error}: selects no workload",
                    spec.local_workload_selector
                ));
            }
        };
        let chosen = self.resources.workloads.values();
        let chosen: Vec<&Workload> = chosen.filter(|w| selector.matches(&w.labels)).collect();
        for v4 in [true, false] {
            let of_family = |workload: &&Workload| workload.addresses.iter().any(|a| a.is_ipv4() == v4);
            if self.local.address(v4).is_none() || !chosen.iter().any(of_family) {
                continue;
            }
            let own = match peering_address(self.resources, v4) {
                Ok(own) => own,
                Err(reason) => {
                    let reason = format!("{reason}: no such sessions by BGPPeer({name})");
                    self.problems.push(reason);
                    continue;
                }
            };
            for workload in &chosen {
                let Some(address) = workload.addresses.iter().find(|a| a.is_ipv4() == v4) else {
                    continue;
                };
                let remote = Remote {
                    address: *address,
                    port: BGP_PORT,
                    remote_as: spec.as_number.0,
                    cluster_id: None,
                };
                self.workload(name, peer, &remote);
                let side = self.workload_side.entry(workload.interface.clone());
                side.or_default().insert(own);
            }
        }
    }

    fn workload(&mut self, name: &str, peer: &BgpPeer, remote: &Remote) {
        let mut neighbor = self.neighbor(remote, &peer.spec.filters);
        neighbor.description = format!("BGPPeer({name}), a local workload");
        neighbor.passive = true;
        neighbor.local_as = peer.spec.local_as_number.map(|number| number.0);
        neighbor.bfd = self.bfd(name, peer, remote.address).map(|settings| BfdSettings {
            multihop: Some(false),
            ..settings
        });
        let ebgp = self.set_next_hop(&mut neighbor, &peer.spec);
        self.reflect(&mut neighbor, remote, ebgp);
        self.insert(name, PeerType::LocalWorkload, neighbor, false);
    }

    /// The mirror of a BGPPeer for which this node is the remote side (Calico's reverse peering).
    fn mirror(&mut self, name: &str, peer: &BgpPeer) {
        let spec = &peer.spec;
        if spec.reverse_peering == Some(ReversePeering::Manual) || !spec.local_workload_selector.is_empty() {
            return;
        }
        let families: &[bool] = if spec.peer_selector.is_empty() {
            let Some((address, port)) = parse_peer_ip(&spec.peer_ip) else {
                return;
            };
            let own = self.local.address(address.is_ipv4());
            let port_fits = port.is_none_or(|port| port == listen_port(self.resources, self.local.name));
            if own != Some(address) || spec.as_number.0 != self.local.local_as || !port_fits {
                return;
            }
            if address.is_ipv4() { &[true] } else { &[false] }
        } else {
            if !self.selects(
                name,
                "peerSelector",
                &spec.peer_selector,
                "",
                self.local.name,
                self.local.node,
            ) {
                return;
            }
            &[true, false]
        };
        let nodes: Vec<(&String, &Node)> = self.resources.nodes.iter().collect();
        for (node_name, node) in nodes {
            if node_name == self.local.name
                || !self.selects(
                    name,
                    "nodeSelector",
                    &spec.node_selector,
                    &spec.node,
                    node_name,
                    node,
                )
            {
                continue;
            }
            for &v4 in families {
                if let Some(remote) = self.node_remote(node_name, node, v4, default_as(self.resources)) {
                    self.add(name, peer, PeerType::NodeSpecific, remote, false, true);
                }
            }
        }
    }

    /// Sessions to every node that is no reflector, unless the mesh is off or this node is one.
    fn mesh(&mut self) {
        let spec = default_configuration(self.resources);
        if spec.and_then(|s| s.node_to_node_mesh_enabled) == Some(false) || is_reflector(self.local.node) {
            return;
        }
        let password = spec.and_then(|s| s.node_mesh_password.clone());
        let restart_time = spec.and_then(|s| s.node_mesh_max_restart_time);
        let nodes: Vec<(&String, &Node)> = self.resources.nodes.iter().collect();
        for (node_name, node) in nodes.into_iter().filter(|(_, node)| !is_reflector(node)) {
            for v4 in [true, false] {
                // The peer's AS, where it has none of its own, is the local node's, not the global one.
                let Some(remote) = self.node_remote(node_name, node, v4, self.local.local_as) else {
                    continue;
                };
                let (Some(own), address) = (self.local.address(v4), remote.address) else {
                    continue;
                };
                if own == address {
                    continue;
                }
                let mut neighbor = self.neighbor(&remote, &[]);
                neighbor.description = format!("node-to-node mesh with {node_name}");
                neighbor.source = Some(own);
                neighbor.passive = self.defers_to(&remote);
                neighbor.password = self.password(
                    "BGPConfiguration(default) spec.nodeMeshPassword",
                    password.as_ref(),
                );
                neighbor.restart_time = restart_time.map(whole_seconds);
                let origin = SessionOrigin {
                    peer_type: PeerType::Mesh,
                    resource: String::new(),
                };
                self.sessions.entry(address).or_insert((origin, neighbor));
            }
        }
    }

    fn add(
        &mut self,
        name: &str,
        peer: &BgpPeer,
        peer_type: PeerType,
        remote: Remote,
        passive: bool,
        mirrored: bool,
    ) {
        let spec = &peer.spec;
        let Some(own) = self.local.address(remote.address.is_ipv4()) else {
            return;
        };
        if own == remote.address {
            return;
        }
        let gateway = match gateway_of(spec, remote.address) {
            Ok(gateway) => gateway,
            Err(reason) => {
                let reason = format!("BGPPeer({name}) spec.reachableBy = {reason}: the peer is left out");
                return self.problems.push(reason);
            }
        };
        let mut neighbor = self.neighbor(&remote, &spec.filters);
        neighbor.description = format!("BGPPeer({name})");
        neighbor.bfd = self.bfd(name, peer, remote.address);
        neighbor.passive = passive;
        if spec.source_address != Some(SourceAddress::None) {
            neighbor.source = Some(own);
        }
        neighbor.password = self.password(&format!("BGPPeer({name}) spec.password"), spec.password.as_ref());
        neighbor.restart_time = spec.max_restart_time.map(whole_seconds);
        neighbor.keepalive = spec.keepalive_time.map(whole_seconds);
        if let Some(hops) = spec.ttl_security.filter(|hops| *hops > 0) {
            neighbor.ttl = None;
            neighbor.ttl_security_hops = Some(hops);
        }
        // A mirror inherits neither of these.
        if spec.peer_selector.is_empty() && !mirrored {
            neighbor.local_as = spec.local_as_number.map(|number| number.0);
            let allowed = spec.num_allowed_local_as_numbers.unwrap_or(0);
            neighbor.allow_own_as = u8::try_from(allowed.max(0)).unwrap_or(u8::MAX);
        }
        let ebgp = self.set_next_hop(&mut neighbor, spec);
        self.reflect(&mut neighbor, &remote, ebgp);
        if self.insert(name, peer_type, neighbor, mirrored) {
            self.gateways
                .extend(gateway.map(|gateway| (remote.address, gateway)));
        }
    }

    /// Sets how next hops are announced; says whether the session is with another AS.
    fn set_next_hop(&self, neighbor: &mut Neighbor, spec: &BgpPeerSpec) -> bool {
        let session_as = neighbor.local_as.unwrap_or(self.local.local_as);
        let ebgp = neighbor.remote_as.is_external(session_as);
        neighbor.next_hop = match spec.next_hop_mode {
            Some(NextHopMode::SelfAddress) => bgpd::config::NextHopMode::SelfAddress,
            Some(NextHopMode::Keep) => bgpd::config::NextHopMode::Keep,
            None if spec.keep_original_next_hop && ebgp => bgpd::config::NextHopMode::Keep,
            _ => bgpd::config::NextHopMode::Auto,
        };
        ebgp
    }

    /// Takes in a session, unless there is one with that address; says whether it did.
    fn insert(&mut self, name: &str, peer_type: PeerType, neighbor: Neighbor, mirrored: bool) -> bool {
        let address = neighbor.address;
        match self.sessions.get(&address) {
            None => {
                let origin = SessionOrigin {
                    peer_type,
                    resource: name.to_owned(),
                };
                self.sessions.insert(address, (origin, neighbor));
                true
            }
            Some((kept, _)) if !mirrored && kept.resource != name => {
                self.problems.push(format!(
                    "BGPPeer({name}): {address} already is a peer by BGPPeer({}): the earlier one is kept",
                    kept.resource
                ));
                false
            }
            Some(_) => false,
        }
    }

    /// Everything that all sessions have alike.
    fn neighbor(&mut self, remote: &Remote, filters: &[String]) -> Neighbor {
        let mut neighbor = Neighbor::new(remote.address, remote.remote_as, self.local.local_as);
        neighbor.port = remote.port;
        neighbor.ttl = Some(TTL_ANY_HOPS);
        neighbor.hold_time = self.settings.hold_time;
        // Calico has `add paths on` on every session.
        neighbor.add_paths = AddPaths {
            receive: neighbor.families,
            send: neighbor.families,
            limit: None,
        };
        (neighbor.import, neighbor.export) = self.policies(filters, remote.address.is_ipv4());
        neighbor
    }

    fn policies(&mut self, filters: &[String], v4: bool) -> (Policy, Policy) {
        let Self {
            resources,
            base,
            problems,
            policies,
            ..
        } = self;
        policies
            .entry((v4, filters.to_vec()))
            .or_insert_with(|| {
                let import = export::import(resources, filters, v4, problems);
                (import, base.export(resources, filters, v4, problems))
            })
            .clone()
    }

    /// BFD as the peer's annotation asks for it.
    fn bfd(&mut self, name: &str, peer: &BgpPeer, address: IpAddr) -> Option<BfdSettings> {
        match bfd::settings(&peer.metadata.annotations) {
            Ok(settings) => settings.map(|settings| bfd::towards(&settings, self.local.node, address)),
            Err(reason) => {
                let problem = format!("BGPPeer({name}) {reason}: no BFD");
                if !self.problems.contains(&problem) {
                    self.problems.push(problem);
                }
                None
            }
        }
    }

    /// RFC 4456: clients are iBGP peers outside our own cluster.
    fn reflect(&self, neighbor: &mut Neighbor, remote: &Remote, ebgp: bool) {
        if let (Some(own), false) = (self.local.cluster_id, ebgp) {
            neighbor.route_reflector_client = remote.cluster_id != Some(own);
            neighbor.cluster_id = Some(own);
        }
    }

    /// To avoid collisions the side whose address is the smaller text waits for the other one.
    fn defers_to(&self, remote: &Remote) -> bool {
        let Some(own) = self.local.address(remote.address.is_ipv4()) else {
            return false;
        };
        let is_node = self
            .resources
            .nodes
            .values()
            .any(|node| address_of(node, own.is_ipv4()) == Some(remote.address));
        is_node && remote.address.to_string() > own.to_string()
    }

    fn node_remote(&self, name: &str, node: &Node, v4: bool, fallback_as: u32) -> Option<Remote> {
        Some(Remote {
            address: address_of(node, v4)?,
            port: listen_port(self.resources, name),
            remote_as: node_as(node).unwrap_or(fallback_as),
            cluster_id: cluster_id_of(node),
        })
    }

    /// The remote ends that a BGPPeer names.
    fn remotes(&mut self, name: &str, peer: &BgpPeer) -> Vec<Remote> {
        let spec = &peer.spec;
        if !spec.peer_selector.is_empty() {
            let nodes: Vec<(&String, &Node)> = self.resources.nodes.iter().collect();
            let mut remotes = Vec::new();
            for (node_name, node) in nodes {
                if self.selects(name, "peerSelector", &spec.peer_selector, "", node_name, node) {
                    let fallback = default_as(self.resources);
                    remotes.extend(
                        [true, false]
                            .into_iter()
                            .filter_map(|v4| self.node_remote(node_name, node, v4, fallback)),
                    );
                }
            }
            return remotes;
        }
        let Some((address, port)) = parse_peer_ip(&spec.peer_ip) else {
            self.problems.push(format!(
                "BGPPeer({name}) spec.peerIP = '{}': write ip, ipv4:port or [ipv6]:port: the peer is left out",
                spec.peer_ip
            ));
            return Vec::new();
        };
        let port = port.unwrap_or_else(|| {
            let same = |node: &Node| {
                address_of(node, address.is_ipv4()) == Some(address)
                    && node_as(node).unwrap_or_else(|| default_as(self.resources)) == spec.as_number.0
            };
            let node = self.resources.nodes.iter().find(|(_, node)| same(node));
            node.map_or(BGP_PORT, |(node_name, _)| listen_port(self.resources, node_name))
        });
        vec![Remote {
            address,
            port,
            remote_as: spec.as_number.0,
            cluster_id: None,
        }]
    }

    /// Whether a node is chosen: by the selector where there is one, else by name, else because neither is set.
    fn selects(
        &mut self,
        name: &str,
        field: &str,
        selector: &str,
        by_name: &str,
        node_name: &str,
        node: &Node,
    ) -> bool {
        if selector.is_empty() {
            return by_name.is_empty() || by_name == node_name;
        }
        match Selector::parse(selector) {
            Ok(parsed) => parsed.matches(&node.metadata.labels),
            Err(error) => {
                let problem =
                    format!("BGPPeer({name}) spec.{field} = '{selector}': {error}: selects no node");
                if !self.problems.contains(&problem) {
                    self.problems.push(problem);
                }
                false
            }
        }
    }

    /// A password that is asked for but not there leaves the session without one, as in Calico, but not silently.
    fn password(&mut self, field: &str, password: Option<&BgpPassword>) -> Option<String> {
        let reference = password?.secret_key_ref.as_ref()?;
        let key = (reference.name.clone(), reference.key.clone());
        let found = self.resources.secrets.get(&key).cloned();
        if found.is_none() {
            let problem = format!(
                "{field}: secret {}, key {} is not there: the session has NO password",
                key.0, key.1
            );
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
        found
    }
}

/// This host's address at the interfaces of workloads that are peers.
fn peering_address(resources: &Resources, v4: bool) -> Result<IpAddr, String> {
    let spec = default_configuration(resources);
    let (field, text) = match v4 {
        true => (
            "localWorkloadPeeringIPV4",
            spec.map(|s| &s.local_workload_peering_ip_v4),
        ),
        false => (
            "localWorkloadPeeringIPV6",
            spec.map(|s| &s.local_workload_peering_ip_v6),
        ),
    };
    let text = text.map_or("", String::as_str);
    let wrong = |reason: &str| Err(format!("BGPConfiguration(default) spec.{field} {reason}"));
    if text.is_empty() {
        return wrong("is not set");
    }
    match text.parse::<IpAddr>() {
        Ok(address) if address.is_ipv4() == v4 => Ok(address),
        _ => wrong(&format!("= '{text}': must be an address of the family")),
    }
}

/// The gateway by which a peer is reached; of the peer's family.
fn gateway_of(spec: &BgpPeerSpec, peer: IpAddr) -> Result<Option<IpAddr>, String> {
    if spec.reachable_by.is_empty() {
        return Ok(None);
    }
    let wrong = |reason: &str| format!("'{}': {reason}", spec.reachable_by);
    let gateway: IpAddr = spec
        .reachable_by
        .parse()
        .map_err(|_| wrong("must be an IP address"))?;
    if gateway.is_ipv4() == peer.is_ipv4() {
        Ok(Some(gateway))
    } else {
        Err(wrong("must be of the same family as peerIP"))
    }
}

/// `ip`, `ipv4:port` or `[ipv6]:port`.
fn parse_peer_ip(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some((address, None));
    }
    let socket: SocketAddr = text.parse().ok()?;
    (socket.port() != 0).then_some((socket.ip(), Some(socket.port())))
}

fn whole_seconds(duration: GoDuration) -> std::time::Duration {
    let whole = duration
        .to_std()
        .saturating_add(std::time::Duration::from_millis(500));
    std::time::Duration::from_secs(whole.as_secs())
}
