//! What the dataplane is told at start.

use std::path::PathBuf;
use std::time::Duration;

/// How programs are attached to an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Attach {
    /// TCX where the kernel has it (6.6), clsact filters otherwise.
    #[default]
    Auto,
    /// TCX links, pinned.
    Tcx,
    /// Filters of the clsact qdisc with a fixed handle and priority.
    Clsact,
}

/// What happens to packets from a workload to its own host that the workload's egress policy allows
/// (`defaultEndpointToHostAction`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EndpointToHost {
    /// They are dropped all the same.
    #[default]
    Drop,
    /// They go on to the host.
    Return,
    /// They go on to the host; no host endpoint policy may object.
    Accept,
}

/// Idle lifetimes of tracked flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP before the handshake is complete.
    pub tcp_handshake: Duration,
    /// TCP after it.
    pub tcp_established: Duration,
    /// TCP after a FIN from both ends.
    pub tcp_closed: Duration,
    /// TCP after a RST.
    pub tcp_reset: Duration,
    /// UDP.
    pub udp: Duration,
    /// ICMP echo.
    pub icmp: Duration,
    /// Every other protocol.
    pub generic: Duration,
    /// From a datagram's first fragment to its last.
    pub fragment: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_handshake: Duration::from_secs(20),
            tcp_established: Duration::from_secs(3600),
            tcp_closed: Duration::from_secs(30),
            tcp_reset: Duration::from_secs(40),
            udp: Duration::from_secs(60),
            icmp: Duration::from_secs(5),
            generic: Duration::from_secs(600),
            fragment: Duration::from_secs(30),
        }
    }
}

/// Entries of the maps whose size depends on the place. A map that exists keeps its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Established flows.
    pub flows: u32,
    /// Half-open flows; the least recently used give way.
    pub new_flows: u32,
    /// Addresses with an identity.
    pub identities: u32,
    /// Prefixes with an identity.
    pub identity_nets: u32,
    /// Distinct bit vectors of all programs, 520 bytes each.
    pub vectors: u32,
    /// Rules of all programs.
    pub rules: u32,
    /// (program, identity or ICMP type) pairs.
    pub classes: u32,
    /// (program, prefix) pairs.
    pub nets: u32,
    /// (program, port prefix) pairs.
    pub ports: u32,
    /// (program, address, protocol, port) tuples of named ports and services.
    pub tuples: u32,
    /// Bytes of the event ring; a power of two.
    pub events_bytes: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            flows: 262_144,
            new_flows: 65_536,
            identities: 262_144,
            identity_nets: 65_536,
            vectors: 32_768,
            rules: 131_072,
            classes: 524_288,
            nets: 262_144,
            ports: 65_536,
            tuples: 262_144,
            events_bytes: 1 << 20,
        }
    }
}

/// Configuration of [`Dataplane::open`](crate::Dataplane::open).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Directory below a bpffs for maps and links; made if it is missing.
    pub pin_dir: PathBuf,
    /// How programs are attached.
    pub attach: Attach,
    /// Interfaces whose name begins so are workloads'; one without an endpoint drops everything.
    pub interface_prefix: String,
    /// Idle lifetimes of flows.
    pub timeouts: Timeouts,
    /// Sizes of maps at their creation.
    pub sizes: Sizes,
    /// Drop TCP packets in the middle of a connection that is not known.
    pub strict_midflow: bool,
    /// Packets from a workload to its host.
    pub endpoint_to_host: EndpointToHost,
    /// Protocol number of workload routes (`deviceRouteProtocol`).
    pub route_protocol: u8,
    /// Metric of workload routes (`ipv4NormalRoutePriority`).
    pub route_metric: u32,
    /// Protocol number of blackhole routes of blocks.
    pub block_route_protocol: u8,
    /// Metric of blackhole routes.
    pub block_route_metric: u32,
    /// Protocol number of routes learned by BGP: those that lead to a workload which is a BGP peer are not ours.
    pub learned_route_protocol: u8,
    /// Take over routes that others put on workload interfaces (`removeExternalRoutes`).
    pub remove_external_routes: bool,
    /// Write the sysctls of workload interfaces and switch forwarding on.
    pub sysctls: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            pin_dir: PathBuf::from("/sys/fs/bpf/margay"),
            attach: Attach::default(),
            interface_prefix: "cali".to_owned(),
            timeouts: Timeouts::default(),
            sizes: Sizes::default(),
            strict_midflow: false,
            endpoint_to_host: EndpointToHost::default(),
            route_protocol: 3,
            route_metric: 1024,
            block_route_protocol: 80,
            block_route_metric: 1024,
            learned_route_protocol: 201,
            remove_external_routes: true,
            sysctls: true,
        }
    }
}
