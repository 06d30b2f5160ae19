//! Connection tracking entries and their lifetimes.

use crate::Address;

/// Key of `FLOWS` and `NEW_FLOWS`: the ends of a flow in an order that both directions agree on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The end that sorts first by (address, port).
    pub a: Address,
    /// The other.
    pub b: Address,
    /// Port of `a`, or the identifier of an ICMP echo. Host byte order.
    pub port_a: u16,
    /// Port of `b`, or the identifier of an ICMP echo.
    pub port_b: u16,
    /// IP protocol.
    pub protocol: u8,
    /// 0, or which end asks in an ICMP echo: [`ECHO_A`], [`ECHO_B`]. A ping and one the other way are two flows.
    pub echo: u8,
    /// 0.
    pub padding: [u8; 2],
}

/// The echo requests come from `a`.
pub const ECHO_A: u8 = 1;
/// The echo requests come from `b`.
pub const ECHO_B: u8 = 2;

/// That a policy leg let a flow through: the program that said so and the epoch of its addresses.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Approval {
    /// A program id; for flows of unknown direction ([`flag::MIDFLOW`]) a generation; [`APPROVED_HOST`]; 0 for none.
    pub token: u32,
    /// [`Generation::epoch`](crate::endpoint::Generation::epoch).
    pub epoch: u32,
}

/// The approval of the destination's leg by the host having opened the flow itself.
pub const APPROVED_HOST: u32 = u32::MAX;

/// Leg of the source's egress policy, index in [`Flow::approvals`].
pub const LEG_SOURCE: usize = 0;
/// Leg of the destination's ingress policy.
pub const LEG_DESTINATION: usize = 1;

/// Value of `FLOWS` and `NEW_FLOWS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Coarse monotonic clock, nanoseconds.
    pub created: u64,
    /// Coarse monotonic clock, nanoseconds.
    pub last_seen: u64,
    /// Who let it through: [`LEG_SOURCE`], [`LEG_DESTINATION`].
    pub approvals: [Approval; 2],
    /// Packets in the original and the reply direction, counted at one hook. Approximate: two CPUs may lose counts.
    pub packets: [u64; 2],
    /// Bytes, likewise, without link headers.
    pub bytes: [u64; 2],
    /// [`flag`].
    pub flags: u32,
    /// The rule that let it through, per leg.
    pub rules: [u16; 2],
    /// Endpoint number per leg, 0 if that end is not a workload here.
    pub endpoints: [u32; 2],
}

/// Bits of [`Flow::flags`].
pub mod flag {
    /// The flow was opened by the key's `a`.
    pub const OPENED_BY_A: u32 = 1;
    /// Made from a TCP packet in the middle of a connection: the direction is a guess.
    pub const MIDFLOW: u32 = 1 << 1;
    /// A packet in the reply direction was seen.
    pub const REPLIED: u32 = 1 << 2;
    /// The TCP handshake is complete.
    pub const ESTABLISHED: u32 = 1 << 3;
    /// There was no room in `FLOWS` when the flow became established.
    pub const NOT_MOVED: u32 = 1 << 4;
    /// TCP flags seen from the opener; those of the other side are [`REPLY_SHIFT`] higher.
    pub const SYN: u32 = 1 << 8;
    /// See [`SYN`].
    pub const FIN: u32 = 1 << 9;
    /// See [`SYN`].
    pub const RST: u32 = 1 << 10;
    /// See [`SYN`].
    pub const ACK: u32 = 1 << 11;
    /// See [`SYN`].
    pub const REPLY_SHIFT: u32 = 8;
}

/// Key of `FRAGMENTS`: a datagram.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Identification field as it was on the wire.
    pub id: u32,
    /// IP protocol.
    pub protocol: u32,
}

/// Value of `FRAGMENTS`: what only a datagram's first fragment has.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentPorts {
    /// Coarse monotonic clock, nanoseconds.
    pub seen: u64,
    /// Source port or echo identifier, host byte order.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// ICMP type.
    pub icmp_type: u8,
    /// ICMP code.
    pub icmp_code: u8,
    /// 0.
    pub padding: u16,
}

/// The one value of `SETTINGS`: lifetimes in nanoseconds and switches, read by the programs at each packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// TCP before the handshake is complete.
    pub tcp_handshake: u64,
    /// TCP after it.
    pub tcp_established: u64,
    /// TCP after a FIN from both ends.
    pub tcp_closed: u64,
    /// TCP after a RST.
    pub tcp_reset: u64,
    /// UDP and UDP-Lite.
    pub udp: u64,
    /// ICMP echo.
    pub icmp: u64,
    /// Everything else.
    pub generic: u64,
    /// Between a datagram's first fragment and the last.
    pub fragment: u64,
    /// 1: TCP packets in the middle of an unknown connection are dropped.
    pub strict: u32,
    /// 0.
    pub padding: u32,
}

/// TCP's protocol number.
pub const TCP: u8 = 6;
/// UDP's protocol number.
pub const UDP: u8 = 17;
/// UDP-Lite's protocol number.
pub const UDP_LITE: u8 = 136;
/// ICMP's protocol number.
pub const ICMP: u8 = 1;
/// ICMPv6's protocol number.
pub const ICMPV6: u8 = 58;

impl Flow {
    /// Whether the connection has ended, so that a SYN opens another.
    pub const fn is_closed(&self) -> bool {
        let both = flag::FIN | flag::FIN << flag::REPLY_SHIFT;
        self.flags & (flag::RST | flag::RST << flag::REPLY_SHIFT) != 0 || self.flags & both == both
    }

    /// Nanoseconds that the flow may be idle.
    pub const fn lifetime(&self, protocol: u8, settings: &Settings) -> u64 {
        match protocol {
            TCP if self.flags & (flag::RST | flag::RST << flag::REPLY_SHIFT) != 0 => settings.tcp_reset,
            TCP if self.is_closed() => settings.tcp_closed,
            TCP if self.flags & flag::ESTABLISHED != 0 => settings.tcp_established,
            TCP => settings.tcp_handshake,
            UDP | UDP_LITE => settings.udp,
            ICMP | ICMPV6 => settings.icmp,
            _ => settings.generic,
        }
    }

    /// Whether the flow was idle for too long at `now`.
    pub const fn is_expired(&self, protocol: u8, settings: &Settings, now: u64) -> bool {
        now.saturating_sub(self.last_seen) > self.lifetime(protocol, settings)
    }
}
