//! The bare loop that the daemons' way into the kernel is measured against: requests encoded
//! beforehand, sent in batches, one acknowledgement each.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{bail, ensure};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

use crate::feed;

/// Requests in one send: below 64 KiB, which any socket's send buffer holds.
const BATCH_REQUESTS: usize = 1000;
const RTM_NEWROUTE: u16 = 24;
/// NLM_F_REQUEST, NLM_F_CREATE and NLM_F_EXCL.
const FLAGS: u16 = 0x1 | 0x400 | 0x200;
const NLM_F_ACK: u16 = 0x4;
const NLMSG_ERROR: u16 = 2;
/// The protocol and metric of bgpd's routes.
const PROTOCOL: u8 = 201;
const METRIC: u32 = 1024;

/// Sends what [`encode`] has made, in the calling thread's namespace.
pub(crate) fn add_routes(batches: &[Vec<u8>]) -> anyhow::Result<()> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    for batch in batches {
        let sent = send(netlink.as_raw_fd(), batch, MsgFlags::empty())?;
        ensure!(sent == batch.len(), "{sent} of {} octets sent", batch.len());
        acknowledged(&netlink)?;
    }
    Ok(())
}

/// Only the last request of a batch asks for an acknowledgement, so the first answer is that or a refusal.
fn acknowledged(netlink: &OwnedFd) -> anyhow::Result<()> {
    let mut answer = [0; 4096];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    match &answer[..length] {
        [
            _,
            _,
            _,
            _,
            k0,
            k1,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            e0,
            e1,
            e2,
            e3,
            ..,
        ] if u16::from_ne_bytes([*k0, *k1]) == NLMSG_ERROR => {
            match i32::from_ne_bytes([*e0, *e1, *e2, *e3]) {
                0 => Ok(()),
                code => bail!(
                    "the kernel refuses a route: {}",
                    nix::errno::Errno::from_raw(-code)
                ),
            }
        }
        _ => bail!("an answer of {length} octets that is no acknowledgement"),
    }
}

/// Batches of requests for these slots, in their order.
pub(crate) fn encode(slots: &[usize], gateway: Ipv4Addr, interface: u32) -> Vec<Vec<u8>> {
    let batch = |slots: &[usize]| {
        let mut octets = Vec::new();
        for (at, slot) in slots.iter().enumerate() {
            let last = at + 1 == slots.len();
            request(*slot, gateway, interface, last, &mut octets);
        }
        octets
    };
    slots.chunks(BATCH_REQUESTS).map(batch).collect()
}

/// A route as bgpd writes it: destination, metric, interface and gateway, in the main table.
fn request(slot: usize, gateway: Ipv4Addr, interface: u32, acknowledge: bool, out: &mut Vec<u8>) {
    const BYTES: u32 = 16 + 12 + 4 * 8;
    out.extend(BYTES.to_ne_bytes());
    out.extend(RTM_NEWROUTE.to_ne_bytes());
    out.extend((FLAGS | if acknowledge { NLM_F_ACK } else { 0 }).to_ne_bytes());
    out.extend([0; 8]);
    // struct rtmsg: IPv4, the main table, a unicast route.
    let family = AddressFamily::Inet as i32 as u8;
    out.extend([
        family,
        feed::slot_length(slot),
        0,
        0,
        254,
        PROTOCOL,
        0,
        1,
        0,
        0,
        0,
        0,
    ]);
    let mut attribute = |kind: u16, value: [u8; 4]| {
        out.extend(8_u16.to_ne_bytes());
        out.extend(kind.to_ne_bytes());
        out.extend(value);
    };
    attribute(1, feed::slot_address(slot).octets());
    attribute(6, METRIC.to_ne_bytes());
    attribute(4, interface.to_ne_bytes());
    attribute(5, gateway.octets());
}
