//! BMP messages (RFC 7854 section 4, RFC 8671, RFC 9069) as owned values, and how they are written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The version that is spoken (RFC 7854 section 4.1).
pub const VERSION: u8 = 3;
/// Version, length and type.
pub const COMMON_HEADER_BYTES: usize = 6;
/// The per-peer header (RFC 7854 section 4.2).
pub const PEER_HEADER_BYTES: usize = 42;
/// Longest message that is read: a whole BGP message of RFC 8654 and two OPENs fit with room to spare.
pub const MESSAGE_MAX_BYTES: usize = 1 << 18;

/// Message types (RFC 7854 section 4.1).
pub(super) mod kind {
    pub(crate) const ROUTE_MONITORING: u8 = 0;
    pub(crate) const STATISTICS_REPORT: u8 = 1;
    pub(crate) const PEER_DOWN: u8 = 2;
    pub(crate) const PEER_UP: u8 = 3;
    pub(crate) const INITIATION: u8 = 4;
    pub(crate) const TERMINATION: u8 = 5;
    pub(crate) const ROUTE_MIRRORING: u8 = 6;
}

/// Peer types (RFC 7854 section 4.2, RFC 9069 section 4.1).
pub mod peer_type {
    /// A session in the global table.
    pub const GLOBAL: u8 = 0;
    /// Our Loc-RIB.
    pub const LOC_RIB: u8 = 3;
}

/// Peer flags (RFC 7854 section 4.2, RFC 8671 section 4).
pub mod peer_flag {
    /// The peer address is an IPv6 one.
    pub const IPV6: u8 = 0x80;
    /// After the policy.
    pub const POST_POLICY: u8 = 0x40;
    /// AS_PATH has two-octet AS numbers.
    pub const TWO_OCTET_AS: u8 = 0x20;
    /// Adj-RIB-Out.
    pub const ADJ_RIB_OUT: u8 = 0x10;
}

/// Information TLVs of Initiation (RFC 7854 section 4.3), and of Peer Up (RFC 9069 section 4.4).
pub mod information {
    /// Free text.
    pub const STRING: u16 = 0;
    /// sysDescr.
    pub const SYS_DESCR: u16 = 1;
    /// sysName.
    pub const SYS_NAME: u16 = 2;
    /// VRF/Table Name.
    pub const TABLE_NAME: u16 = 3;
}

/// TLVs of Termination (RFC 7854 section 4.5).
pub mod termination {
    /// Free text.
    pub const STRING: u16 = 0;
    /// Two octets that say why.
    pub const REASON: u16 = 1;
    /// The session is closed by an operator.
    pub const REASON_ADMINISTRATIVE: u16 = 0;
    /// The station was too slow.
    pub const REASON_OUT_OF_RESOURCES: u16 = 2;
}

/// TLVs of Route Mirroring (RFC 7854 section 4.7).
pub mod mirroring {
    /// A BGP message as it was received; it comes last.
    pub const BGP_MESSAGE: u16 = 0;
    /// Two octets that say something of the messages.
    pub const INFORMATION: u16 = 1;
    /// The message was wrong in a way that made it unusable.
    pub const ERRORED_PDU: u16 = 0;
    /// Messages were left out.
    pub const MESSAGES_LOST: u16 = 1;
}

/// Type, length, value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tlv {
    /// What it is; the meaning depends on the message.
    pub kind: u16,
    /// Its value.
    pub value: Vec<u8>,
}

impl Tlv {
    /// A text.
    pub fn text(kind: u16, text: &str) -> Self {
        Self {
            kind,
            value: text.as_bytes().to_vec(),
        }
    }
}

/// The per-peer header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerHeader {
    /// See [`peer_type`].
    pub kind: u8,
    /// See [`peer_flag`]; [`peer_flag::IPV6`] goes by the address.
    pub flags: u8,
    /// The peer distinguisher: 0 in the global table.
    pub distinguisher: u64,
    /// The neighbour; unspecified for the Loc-RIB.
    pub address: IpAddr,
    /// Its AS.
    pub asn: u32,
    /// Its BGP identifier.
    pub router_id: Ipv4Addr,
    /// Since the epoch; zero where it is not known. Microseconds count.
    pub at: Duration,
}

/// A point in time as BMP and MRT write it: since the epoch, in whole microseconds of 32-bit seconds.
pub(crate) fn since_epoch(at: SystemTime) -> Duration {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = u32::try_from(since.as_secs()).unwrap_or(u32::MAX);
    Duration::new(seconds.into(), since.subsec_micros() * 1000)
}

/// Why a peer is down (RFC 7854 section 4.9, RFC 9069 section 4.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// 1: we sent this NOTIFICATION.
    LocalNotification(Vec<u8>),
    /// 2: we closed without one, for this event of RFC 4271 section 8.1.
    LocalClosed(u16),
    /// 3: the peer sent this NOTIFICATION.
    RemoteNotification(Vec<u8>),
    /// 4: the peer closed without one.
    RemoteClosed,
    /// 5: it is monitored no longer.
    NotMonitored,
    /// 6: the Loc-RIB's, with its TLVs.
    LocRib(Vec<Tlv>),
}

/// A number in a Statistics Report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    /// A counter of 32 bits.
    Counter(u16, u32),
    /// A gauge of 64 bits.
    Gauge(u16, u64),
    /// A gauge of 64 bits for one AFI and SAFI.
    FamilyGauge(u16, u16, u8, u64),
}

/// Statistics types (RFC 7854 section 4.8, RFC 8671 section 5.2).
pub mod statistic {
    /// Prefixes rejected by the inbound policy.
    pub const REJECTED: u16 = 0;
    /// Updates invalidated by a CLUSTER_LIST loop.
    pub const CLUSTER_LIST_LOOP: u16 = 3;
    /// Updates invalidated by an AS_PATH loop.
    pub const AS_PATH_LOOP: u16 = 4;
    /// Updates invalidated by ORIGINATOR_ID.
    pub const ORIGINATOR_ID: u16 = 5;
    /// Routes in Adj-RIBs-In.
    pub const ADJ_RIB_IN: u16 = 7;
    /// Routes in Loc-RIB.
    pub const LOC_RIB: u16 = 8;
    /// Routes in Adj-RIBs-In of a family.
    pub const ADJ_RIB_IN_FAMILY: u16 = 9;
    /// Routes in Loc-RIB of a family.
    pub const LOC_RIB_FAMILY: u16 = 10;
    /// Routes in the post-policy Adj-RIB-Out.
    pub const ADJ_RIB_OUT: u16 = 15;
    /// Routes in the post-policy Adj-RIB-Out of a family.
    pub const ADJ_RIB_OUT_FAMILY: u16 = 17;
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// An UPDATE of a peer.
    RouteMonitoring(PeerHeader, Vec<u8>),
    /// Numbers about a peer.
    StatisticsReport(PeerHeader, Vec<Statistic>),
    /// A session ended.
    PeerDown(PeerHeader, DownReason),
    /// A session was established.
    PeerUp(PeerHeader, Box<PeerUp>),
    /// The first message.
    Initiation(Vec<Tlv>),
    /// The last message.
    Termination(Vec<Tlv>),
    /// Messages as they were received.
    RouteMirroring(PeerHeader, Vec<Tlv>),
}

/// What Peer Up says besides the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerUp {
    /// Our address on the session.
    pub local: IpAddr,
    /// Our port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
    /// The OPEN that we sent, a whole message.
    pub sent_open: Vec<u8>,
    /// The OPEN that we received, a whole message.
    pub received_open: Vec<u8>,
    /// Further information.
    pub information: Vec<Tlv>,
}

impl Message {
    /// Writes the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::RouteMonitoring(peer, update) => route_monitoring(peer, update, out),
            Self::StatisticsReport(peer, statistics) => {
                message(kind::STATISTICS_REPORT, Some(peer), out, |out| {
                    out.extend(u32::try_from(statistics.len()).unwrap_or(u32::MAX).to_be_bytes());
                    statistics.iter().for_each(|statistic| statistic.encode(out));
                });
            }
            Self::PeerDown(peer, reason) => {
                message(kind::PEER_DOWN, Some(peer), out, |out| reason.encode(out))
            }
            Self::PeerUp(peer, up) => message(kind::PEER_UP, Some(peer), out, |out| {
                put_address(up.local, out);
                out.extend(up.local_port.to_be_bytes());
                out.extend(up.remote_port.to_be_bytes());
                out.extend(&up.sent_open);
                out.extend(&up.received_open);
                put_tlvs(&up.information, out);
            }),
            Self::Initiation(tlvs) => message(kind::INITIATION, None, out, |out| put_tlvs(tlvs, out)),
            Self::Termination(tlvs) => message(kind::TERMINATION, None, out, |out| put_tlvs(tlvs, out)),
            Self::RouteMirroring(peer, tlvs) => {
                message(kind::ROUTE_MIRRORING, Some(peer), out, |out| put_tlvs(tlvs, out));
            }
        }
    }
}

/// Writes Route Monitoring with one UPDATE, a whole message.
pub(super) fn route_monitoring(peer: &PeerHeader, update: &[u8], out: &mut Vec<u8>) {
    message(kind::ROUTE_MONITORING, Some(peer), out, |out| out.extend(update));
}

impl DownReason {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::LocalNotification(notification) => {
                out.push(1);
                out.extend(notification);
            }
            Self::LocalClosed(event) => {
                out.push(2);
                out.extend(event.to_be_bytes());
            }
            Self::RemoteNotification(notification) => {
                out.push(3);
                out.extend(notification);
            }
            Self::RemoteClosed => out.push(4),
            Self::NotMonitored => out.push(5),
            Self::LocRib(tlvs) => {
                out.push(6);
                put_tlvs(tlvs, out);
            }
        }
    }
}

impl Statistic {
    fn encode(self, out: &mut Vec<u8>) {
        match self {
            Self::Counter(kind, value) => {
                out.extend(kind.to_be_bytes());
                out.extend(4u16.to_be_bytes());
                out.extend(value.to_be_bytes());
            }
            Self::Gauge(kind, value) => {
                out.extend(kind.to_be_bytes());
                out.extend(8u16.to_be_bytes());
                out.extend(value.to_be_bytes());
            }
            Self::FamilyGauge(kind, afi, safi, value) => {
                out.extend(kind.to_be_bytes());
                out.extend(11u16.to_be_bytes());
                out.extend(afi.to_be_bytes());
                out.push(safi);
                out.extend(value.to_be_bytes());
            }
        }
    }
}

fn message(kind: u8, peer: Option<&PeerHeader>, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([VERSION, 0, 0, 0, 0, kind]);
    if let Some(peer) = peer {
        peer.encode(out);
    }
    body(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(field) = out.get_mut(start + 1..start + 5) {
        field.copy_from_slice(&length);
    }
}

impl PeerHeader {
    fn encode(&self, out: &mut Vec<u8>) {
        let version = if self.address.is_ipv6() {
            peer_flag::IPV6
        } else {
            0
        };
        // The first bit of a Loc-RIB's flags is another one (RFC 9069 section 4.2): filtered.
        let flags = match self.kind {
            peer_type::LOC_RIB => self.flags,
            _ => self.flags & !peer_flag::IPV6 | version,
        };
        out.extend([self.kind, flags]);
        out.extend(self.distinguisher.to_be_bytes());
        put_address(self.address, out);
        out.extend(self.asn.to_be_bytes());
        out.extend(self.router_id.octets());
        out.extend(u32::try_from(self.at.as_secs()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend(self.at.subsec_micros().to_be_bytes());
    }
}

/// Sixteen octets; an IPv4 address in the last four.
fn put_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            out.extend([0; 12]);
            out.extend(address.octets());
        }
        IpAddr::V6(address) => out.extend(address.octets()),
    }
}

pub(super) fn address_of(octets: [u8; 16], ipv6: bool) -> IpAddr {
    let [.., a, b, c, d] = octets;
    if ipv6 {
        Ipv6Addr::from(octets).into()
    } else {
        Ipv4Addr::new(a, b, c, d).into()
    }
}

fn put_tlvs(tlvs: &[Tlv], out: &mut Vec<u8>) {
    for tlv in tlvs {
        let length = tlv.value.len().min(u16::MAX.into());
        out.extend(tlv.kind.to_be_bytes());
        out.extend(u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        out.extend(tlv.value.iter().take(length));
    }
}
