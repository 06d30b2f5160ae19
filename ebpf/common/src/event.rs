//! Flow events and the reasons of verdicts.

use crate::Address;

/// Pass rules that an event can name.
pub const PASSES_MAX: usize = 8;

/// [`FlowRecord::rule`] where no rule decided.
pub const NO_RULE: u16 = u16::MAX;

/// An entry of the `EVENTS` ring buffer: a new flow, a denied packet, a rule's log.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// Monotonic clock, nanoseconds.
    pub time: u64,
    /// Source of the flow as it was judged (the opener).
    pub source: Address,
    /// Destination of the flow.
    pub destination: Address,
    /// Host byte order; the identifier of an ICMP echo.
    pub source_port: u16,
    /// Host byte order.
    pub destination_port: u16,
    /// IP protocol.
    pub protocol: u8,
    /// 4 or 6; 0 if the packet was not IP.
    pub family: u8,
    /// ICMP type.
    pub icmp_type: u8,
    /// ICMP code.
    pub icmp_code: u8,
    /// [`VERDICT_ALLOW`], [`VERDICT_DENY`], [`VERDICT_LOG`].
    pub verdict: u8,
    /// [`DIRECTION_INGRESS`] or [`DIRECTION_EGRESS`]: the leg that was judged, from the endpoint's view.
    pub direction: u8,
    /// [`Reason`].
    pub reason: u8,
    /// How many of `passes` count.
    pub pass_count: u8,
    /// Rule index in the program, or [`NO_RULE`].
    pub rule: u16,
    /// 0.
    pub padding: u16,
    /// Program id, or 0.
    pub program: u32,
    /// Endpoint number, or 0.
    pub endpoint: u32,
    /// The workload's interface.
    pub ifindex: u32,
    /// Bytes of the packet without its link header.
    pub length: u32,
    /// Pass rules on the way to the verdict.
    pub passes: [u16; PASSES_MAX],
}

/// The packet passed this leg.
pub const VERDICT_ALLOW: u8 = 1;
/// The packet was dropped.
pub const VERDICT_DENY: u8 = 2;
/// A Log rule matched; the verdict follows in another event.
pub const VERDICT_LOG: u8 = 3;

/// Towards the endpoint.
pub const DIRECTION_INGRESS: u8 = 0;
/// From the endpoint.
pub const DIRECTION_EGRESS: u8 = 1;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $value:literal, $text:literal;)+) => {
        /// Why a packet passed or not; also the index in `COUNTERS`.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name = $value,)+
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Reason] = &[$(Reason::$name),+];

            /// A name for metrics and logs.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Reason::$name => $text,)+
                }
            }

            /// The reverse of `as u8`.
            pub const fn from_number(number: u8) -> Option<Reason> {
                match number {
                    $($value => Some(Reason::$name),)+
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    /// A rule allowed a new flow.
    PolicyAllow = 0, "policy_allow";
    /// A rule, a tier's end or the profiles' end dropped the packet.
    PolicyDeny = 1, "policy_deny";
    /// The interface has no endpoint.
    NoEndpoint = 2, "no_endpoint";
    /// The endpoint's program is not in the maps.
    NoProgram = 3, "no_program";
    /// The source address is not the workload's.
    Spoofed = 4, "spoofed_source";
    /// An ARP message whose sender is not the workload.
    SpoofedArp = 5, "spoofed_arp";
    /// A frame that is neither ARP nor IP.
    NotIp = 6, "not_ip";
    /// A header that contradicts itself or ends early.
    Malformed = 7, "malformed";
    /// IPv4 options.
    IpOptions = 8, "ip_options";
    /// A routing header, or more extension headers than are followed.
    ExtensionHeaders = 9, "extension_headers";
    /// A later fragment whose first one was not seen or not allowed.
    FragmentWithoutFirst = 10, "fragment_without_first";
    /// Neighbour discovery with a hop limit other than 255.
    NeighbourDiscovery = 11, "neighbour_discovery";
    /// A router advertisement or a redirect from a workload.
    RouterMessage = 12, "router_message";
    /// An answer of a DHCP server from a workload.
    DhcpServer = 13, "dhcp_server";
    /// The workload's policy allowed it, but workloads may not talk to their host.
    EndpointToHost = 14, "endpoint_to_host";
    /// TCP in the middle of an unknown connection that neither direction's policy allows.
    MidflowDenied = 15, "midflow_denied";
    /// The same in strict mode, without asking the policy.
    MidflowStrict = 16, "midflow_strict";
    /// TCP in the middle of an unknown connection that the policy allows.
    MidflowAllowed = 17, "midflow_allowed";
    /// Opened by the host itself.
    FromHost = 18, "from_host";
    /// A Log rule.
    Log = 19, "log";
    /// An event that found no room in the ring buffer.
    EventLost = 20, "event_lost";
    /// An established flow that found no room in `FLOWS` and stays among the half-open ones.
    FlowsFull = 21, "flows_full";
    /// A rule list that could not be evaluated to its end.
    ProgramLimit = 22, "program_limit";
    /// An ICMP error of a known flow.
    IcmpRelated = 23, "icmp_related";
    /// A live flow judged again after a change.
    Reevaluated = 24, "reevaluated";
    /// Neighbour discovery, multicast listener reports or ARP that always passes.
    LinkLocal = 25, "link_local";
}

/// Slots of `COUNTERS`.
pub const COUNTERS: u32 = 32;
