//! What a workload may send at all: its own sources, and no messages that are a router's or a server's.

use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::programs::TcContext;
use ebpf_common::conntrack::UDP;
use ebpf_common::endpoint::{Generation, SOURCE_KEY_BITS, SourceKey, source_set};
use ebpf_common::event::Reason;
use ebpf_common::{Address, V4_MAPPED};

use crate::Hook;
use crate::event::count;
use crate::maps::SOURCES;
use crate::packet::{ETHERNET, FIRST_FRAGMENT, LATER_FRAGMENT, Packet, Tuple};
use crate::sys;

/// The packet needs no policy.
pub const ACCEPT: u32 = u32::MAX;

const ND_HOP_LIMIT: u8 = 255;
const FIB_FORWARDING_DISABLED: i64 = 5;
const FIB_NOT_FORWARDED: i64 = 4;

/// ARP from the workload: its sender must be the workload, or nobody (a probe).
#[inline(never)]
pub fn check_arp(ctx: &TcContext, generation: &Generation) -> u32 {
    let Ok(arp) = ctx.load::<[u8; 28]>(ETHERNET) else {
        return Reason::Malformed as u32;
    };
    let sender = u32::from_ne_bytes([arp[14], arp[15], arp[16], arp[17]]);
    let address = [0, 0, V4_MAPPED, sender];
    if sender == 0 || is_own(generation, &address, false) {
        count(Reason::LinkLocal as u32);
        0
    } else {
        Reason::SpoofedArp as u32
    }
}

/// 0 if policy decides, [`ACCEPT`], or why the packet is dropped.
#[inline(never)]
pub fn check_from_workload(ctx: &TcContext, hook: &Hook, generation: &Generation, packet: &Packet) -> u32 {
    let tuple = &packet.tuple;
    let own = is_own(generation, &tuple.source, tuple.family == 6);
    if tuple.is_icmp() && packet.fragment != LATER_FRAGMENT {
        let code = if tuple.family == 6 {
            check_icmpv6(ctx, hook, packet, own)
        } else if matches!(tuple.icmp_type, 5 | 9) {
            Reason::RouterMessage as u32
        } else {
            0
        };
        if code != 0 {
            return code;
        }
    }
    if tuple.protocol == UDP && packet.fragment != LATER_FRAGMENT {
        let (server, client) = if tuple.family == 4 { (67, 68) } else { (547, 546) };
        if tuple.source_port == server && tuple.destination_port == client {
            return Reason::DhcpServer as u32;
        }
    }
    if own { 0 } else { Reason::Spoofed as u32 }
}

#[inline(always)]
fn check_icmpv6(ctx: &TcContext, hook: &Hook, packet: &Packet, own: bool) -> u32 {
    let tuple = &packet.tuple;
    let discovery = matches!(tuple.icmp_type, 133 | 135 | 136);
    match tuple.icmp_type {
        134 | 137 => return Reason::RouterMessage as u32,
        130..=133 | 135 | 136 => {}
        _ => return 0,
    }
    // RFC 4861 section 6.1, and no fragments (RFC 6980).
    if discovery && (packet.hop_limit != ND_HOP_LIMIT || packet.fragment == FIRST_FRAGMENT) {
        return Reason::NeighbourDiscovery as u32;
    }
    if !own && !is_link_local(&tuple.source) && !is_unspecified(&tuple.source) {
        return Reason::Spoofed as u32;
    }
    // To another workload's address it is an ordinary packet.
    if is_link_local(&tuple.destination) || to_host(ctx, hook.ifindex, tuple) {
        ACCEPT
    } else {
        0
    }
}

/// Whether an address is the endpoint's.
#[inline(never)]
pub fn is_own(generation: &Generation, address: &Address, is_v6: bool) -> bool {
    let mut own = false;
    for (at, candidate) in generation.addresses.iter().enumerate() {
        own |= (at as u32) < generation.address_count
            && candidate[3] == address[3]
            && candidate[2] == address[2]
            && candidate[1] == address[1]
            && candidate[0] == address[0];
    }
    if own || generation.sources == 0 {
        return own;
    }
    let key = SourceKey {
        set: source_set(generation.sources, is_v6),
        address: *address,
    };
    SOURCES.get(&Key::new(SOURCE_KEY_BITS + 128, key)).is_some()
}

#[inline(always)]
fn is_unspecified(address: &Address) -> bool {
    address[0] | address[1] | address[2] | address[3] == 0
}

#[inline(always)]
fn is_link_local(address: &Address) -> bool {
    address[0] & 0xffc0_0000_u32.to_be() == 0xfe80_0000_u32.to_be()
}

/// Link-local messages to a link-local group, as every IPv6 node sends them by itself: counted, but no event.
#[inline(always)]
pub fn is_chatter(tuple: &Tuple) -> bool {
    let group = tuple.destination[0] & 0xffff_0000_u32.to_be() == 0xff02_0000_u32.to_be();
    tuple.family == 6 && group && (is_link_local(&tuple.source) || is_unspecified(&tuple.source))
}

/// Whether a packet from the workload is for its host: by the routing tables, or because it is for a group.
#[inline(always)]
pub fn to_host(ctx: &TcContext, ifindex: u32, tuple: &Tuple) -> bool {
    if is_group(tuple) {
        return true;
    }
    let found = sys::fib(ctx, ifindex, tuple.family, &tuple.source, &tuple.destination);
    found < 0 || found == FIB_NOT_FORWARDED || found == FIB_FORWARDING_DISABLED
}

/// Multicast, or the limited broadcast.
#[inline(always)]
fn is_group(tuple: &Tuple) -> bool {
    let destination = &tuple.destination;
    if tuple.family == 4 {
        destination[3] == u32::MAX || destination[3] & 0xf000_0000_u32.to_be() == 0xe000_0000_u32.to_be()
    } else {
        destination[0] & 0xff00_0000_u32.to_be() == 0xff00_0000_u32.to_be()
    }
}
