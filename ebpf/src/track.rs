//! Connection tracking: who opened a flow, and which leg's policy has let it through.
//!
//! Elements may be removed by user space or the LRU, and their memory reused, while a program holds a pointer: what is
//! written then goes to another flow's timestamps and counters, which are approximate anyway, and an approval is only
//! written together with its program id and epoch.

use ebpf_common::conntrack::{
    APPROVED_HOST, Approval, Flow, FlowKey, FragmentKey, FragmentPorts, LEG_DESTINATION, LEG_SOURCE,
    Settings, TCP, flag,
};
use ebpf_common::event::Reason;

use crate::event::count;
use crate::maps::{FLOWS, FRAGMENTS, NEW_FLOWS, SETTINGS};
use crate::packet::{Packet, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};
use crate::sys;

/// A flow and where it is.
pub struct Found {
    pub flow: &'static mut Flow,
    /// In `FLOWS`.
    pub established: bool,
}

#[inline(always)]
pub fn find(key: &FlowKey) -> Option<Found> {
    if let Some(flow) = sys::write(&FLOWS, key) {
        return Some(Found {
            flow,
            established: true,
        });
    }
    if let Some(flow) = sys::write_lru(&NEW_FLOWS, key) {
        return Some(Found {
            flow,
            established: false,
        });
    }
    // Another CPU may have moved it between the two looks.
    sys::write(&FLOWS, key).map(|flow| Found {
        flow,
        established: true,
    })
}

#[inline(always)]
pub fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0)
}

/// A flow in its first packet.
pub struct Opening {
    pub opened_by_a: bool,
    pub original: bool,
    pub flags: u32,
    pub leg: usize,
    pub approval: Approval,
    pub rule: u16,
    pub endpoint: u32,
    pub length: u32,
}

/// Makes an entry, in the place of one that has ended.
#[inline(always)]
pub fn create(key: &FlowKey, flow: &mut Flow, packet: &Packet, opening: &Opening, now: u64) {
    *flow = Flow {
        created: now,
        last_seen: now,
        approvals: [Approval { token: 0, epoch: 0 }; 2],
        packets: [0; 2],
        bytes: [0; 2],
        flags: opening.flags | if opening.opened_by_a { flag::OPENED_BY_A } else { 0 },
        rules: [0; 2],
        endpoints: [0; 2],
    };
    let leg = opening.leg & 1;
    if leg == LEG_SOURCE {
        flow.approvals[LEG_SOURCE] = opening.approval;
        flow.rules[LEG_SOURCE] = opening.rule;
        flow.endpoints[LEG_SOURCE] = opening.endpoint;
    } else {
        flow.approvals[LEG_DESTINATION] = opening.approval;
        flow.rules[LEG_DESTINATION] = opening.rule;
        flow.endpoints[LEG_DESTINATION] = opening.endpoint;
    }
    if opening.original {
        flow.packets[0] = 1;
        flow.bytes[0] = opening.length as u64;
    } else {
        flow.packets[1] = 1;
        flow.bytes[1] = opening.length as u64;
        flow.flags |= flag::REPLIED;
    }
    if packet.tuple.protocol == TCP {
        flow.flags |= seen(packet.tcp_flags, opening.original);
    }
    // There is none in `FLOWS`, or one that has ended.
    let _ = FLOWS.remove(key);
    let _ = NEW_FLOWS.insert(key, &*flow, 0);
}

/// The TCP flags of a packet as bits of [`Flow::flags`].
#[inline(always)]
fn seen(tcp_flags: u8, original: bool) -> u32 {
    let mut bits = 0;
    if tcp_flags & TCP_SYN != 0 {
        bits |= flag::SYN;
    }
    if tcp_flags & TCP_FIN != 0 {
        bits |= flag::FIN;
    }
    if tcp_flags & TCP_RST != 0 {
        bits |= flag::RST;
    }
    if tcp_flags & TCP_ACK != 0 {
        bits |= flag::ACK;
    }
    if original { bits } else { bits << flag::REPLY_SHIFT }
}

/// Notes a packet of a known flow, and moves the flow to `FLOWS` when both sides have spoken.
#[inline(always)]
pub fn touch(
    key: &FlowKey,
    found: Found,
    packet: &Packet,
    original: bool,
    counts: bool,
    length: u32,
    now: u64,
) {
    let flow = found.flow;
    if flow.last_seen != now {
        flow.last_seen = now;
    }
    if counts {
        if original {
            flow.packets[0] += 1;
            flow.bytes[0] += length as u64;
        } else {
            flow.packets[1] += 1;
            flow.bytes[1] += length as u64;
        }
    }
    let mut flags = flow.flags;
    if !original {
        flags |= flag::REPLIED;
    }
    let tcp = packet.tuple.protocol == TCP;
    if tcp {
        flags |= seen(packet.tcp_flags, original);
        let handshake = flag::SYN | flag::ACK | flag::SYN << flag::REPLY_SHIFT;
        let midway = flag::MIDFLOW | flag::ACK | flag::ACK << flag::REPLY_SHIFT;
        if flags & handshake == handshake || flags & midway == midway {
            flags |= flag::ESTABLISHED;
        }
    }
    if flags != flow.flags {
        flow.flags = flags;
    }
    let both = if tcp {
        flags & flag::ESTABLISHED != 0
    } else {
        flags & flag::REPLIED != 0
    };
    if both && !found.established && flags & flag::NOT_MOVED == 0 {
        establish(key, flow);
    }
}

#[inline(never)]
fn establish(key: &FlowKey, flow: &mut Flow) {
    // An element of one map as the value for another.
    if FLOWS.insert(key, &*flow, 0).is_ok() {
        let _ = NEW_FLOWS.remove(key);
    } else {
        flow.flags |= flag::NOT_MOVED;
        count(Reason::FlowsFull as u32);
    }
}

/// Removes a half-open flow that a leg refused.
#[inline(always)]
pub fn forget(key: &FlowKey) {
    let _ = NEW_FLOWS.remove(key);
}

/// Whether a leg's approval holds at this hook.
#[inline(always)]
pub fn is_approved(held: Approval, wanted: Approval, reply_from_workload: bool) -> bool {
    held.token == wanted.token && held.epoch == wanted.epoch
        || reply_from_workload && held.token == APPROVED_HOST
}

#[inline(always)]
fn fragment_key(packet: &Packet) -> FragmentKey {
    FragmentKey {
        source: packet.tuple.source,
        destination: packet.tuple.destination,
        id: packet.fragment_id,
        // IPv6 keys a datagram by addresses and identification alone (RFC 8200 section 4.5); the protocol of later
        // fragments is read from the fragment header all the same.
        protocol: packet.tuple.protocol as u32,
    }
}

/// The ports of a datagram's first fragment that passed, for the later ones.
#[inline(never)]
pub fn remember_fragment(packet: &Packet) {
    let ports = FragmentPorts {
        seen: sys::coarse_ns(),
        source_port: packet.tuple.source_port,
        destination_port: packet.tuple.destination_port,
        icmp_type: packet.tuple.icmp_type,
        icmp_code: packet.tuple.icmp_code,
        padding: 0,
    };
    let _ = FRAGMENTS.insert(&fragment_key(packet), &ports, 0);
}

/// Gives a later fragment the ports of the first one. 0, or why not.
#[inline(never)]
pub fn recall_fragment(packet: &mut Packet) -> u32 {
    let key = fragment_key(packet);
    let Some(ports) = sys::write_lru(&FRAGMENTS, &key) else {
        return Reason::FragmentWithoutFirst as u32;
    };
    let Some(settings) = settings() else {
        return Reason::FragmentWithoutFirst as u32;
    };
    if sys::coarse_ns().saturating_sub(ports.seen) > settings.fragment {
        return Reason::FragmentWithoutFirst as u32;
    }
    packet.tuple.source_port = ports.source_port;
    packet.tuple.destination_port = ports.destination_port;
    packet.tuple.icmp_type = ports.icmp_type;
    packet.tuple.icmp_code = ports.icmp_code;
    0
}
