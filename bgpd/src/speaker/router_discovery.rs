//! Router advertisements and solicitations (RFC 4861 section 4), by which routers on an unnumbered link learn
//! each other's link-local address. Ours say that we are no default router (lifetime 0).

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use netlink::Mac;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::sys;
use crate::config::InterfaceName;

/// RFC 4861 section 4.1.
pub(super) const ROUTER_SOLICITATION: u8 = 133;
/// RFC 4861 section 4.2.
pub(super) const ROUTER_ADVERTISEMENT: u8 = 134;
/// Option: source link-layer address (RFC 4861 section 4.6.1).
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
/// Every message of neighbour discovery is sent with it, and dropped without it (RFC 4861 section 3.1).
const HOP_LIMIT: u8 = 255;
/// Octets of an advertisement without options.
const ADVERTISEMENT_BYTES: usize = 16;
/// Octets of a solicitation without options.
const SOLICITATION_BYTES: usize = 8;
/// Octets of a message that are looked at: what matters stands in front.
const RECEIVED_BYTES: usize = 256;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Shortest time between two answers to solicitations.
const ANSWER_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// What came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A router says that it is there.
    Advertisement,
    /// Somebody wants to know which routers there are.
    Solicitation,
}

/// RFC 4861 sections 6.1.1 and 6.1.2: what is valid, but for the checksum, which the kernel checks.
pub(super) fn read(octets: &[u8], source: Ipv6Addr, hop_limit: u8) -> Option<Heard> {
    if hop_limit != HOP_LIMIT {
        return None;
    }
    match *octets {
        [ROUTER_ADVERTISEMENT, 0, ..]
            if octets.len() >= ADVERTISEMENT_BYTES && source.is_unicast_link_local() =>
        {
            Some(Heard::Advertisement)
        }
        [ROUTER_SOLICITATION, 0, ..] if octets.len() >= SOLICITATION_BYTES => Some(Heard::Solicitation),
        _ => None,
    }
}

/// RFC 4861 section 4.2: nothing is said of hop limits and timers, and nobody is to take us as default router.
/// The kernel puts the checksum in.
pub(super) fn advertisement(mac: Option<Mac>) -> Vec<u8> {
    let mut octets = vec![0; ADVERTISEMENT_BYTES];
    if let Some(kind) = octets.first_mut() {
        *kind = ROUTER_ADVERTISEMENT;
    }
    put_link_layer_address(mac, &mut octets);
    octets
}

/// RFC 4861 section 4.1.
pub(super) fn solicitation(mac: Option<Mac>) -> Vec<u8> {
    let mut octets = vec![0; SOLICITATION_BYTES];
    if let Some(kind) = octets.first_mut() {
        *kind = ROUTER_SOLICITATION;
    }
    put_link_layer_address(mac, &mut octets);
    octets
}

fn put_link_layer_address(mac: Option<Mac>, octets: &mut Vec<u8>) {
    if let Some(Mac(mac)) = mac {
        // In units of eight octets.
        octets.extend([SOURCE_LINK_LAYER_ADDRESS, 1]);
        octets.extend(mac);
    }
}

/// Tells an interface's link of us and listens to others there.
#[derive(Debug)]
pub(super) struct Discovery {
    socket: AsyncFd<Socket>,
    index: u32,
    mac: Option<Mac>,
    answered: Option<Instant>,
}

impl Discovery {
    /// Begins on an interface that is up. It fails as long as that has no link-local address that is ready to use.
    pub(super) fn open(name: InterfaceName, index: u32, mac: Option<Mac>) -> io::Result<Self> {
        let local = link_local_address(name).ok_or_else(|| {
            let reason = format!("{name} has no IPv6 link-local address");
            io::Error::new(io::ErrorKind::AddrNotAvailable, reason)
        })?;
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.set_nonblocking(true)?;
        sys::pass_only_icmpv6(socket.as_fd(), &[ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT])?;
        setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
        socket.set_multicast_hops_v6(HOP_LIMIT.into())?;
        socket.set_unicast_hops_v6(HOP_LIMIT.into())?;
        socket.set_multicast_loop_v6(false)?;
        socket.set_multicast_if_v6(index)?;
        socket.join_multicast_v6(&ALL_ROUTERS, index)?;
        // It hears this interface alone, and sends from this address.
        socket.bind(&SocketAddrV6::new(local, 0, 0, index).into())?;
        Ok(Self {
            socket: sys::watch(socket)?,
            index,
            mac,
            answered: None,
        })
    }

    /// Says that we are there.
    pub(super) fn advertise(&self) -> io::Result<()> {
        self.send(&advertisement(self.mac), ALL_NODES)
    }

    /// Asks who else is there.
    pub(super) fn solicit(&self) -> io::Result<()> {
        self.send(&solicitation(self.mac), ALL_ROUTERS)
    }

    fn send(&self, octets: &[u8], to: Ipv6Addr) -> io::Result<()> {
        let to = SocketAddrV6::new(to, 0, 0, self.index);
        self.socket.get_ref().send_to(octets, &to.into()).map(|_| ())
    }

    /// Waits until a router is heard of; answers those who ask. Cancel-safe.
    pub(super) async fn next_router(&mut self) -> io::Result<Ipv6Addr> {
        loop {
            let mut ready = self.socket.readable().await?;
            match receive(ready.get_inner()) {
                Ok(Some((Heard::Advertisement, router))) => return Ok(router),
                Ok(Some((Heard::Solicitation, asker))) => {
                    drop(ready);
                    self.answer(asker)?;
                }
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Err(error),
            }
        }
    }

    /// RFC 4861 section 6.2.6: to the one who asked, or to all if it has no address yet. Not more often than is
    /// good for us.
    fn answer(&mut self, asker: Ipv6Addr) -> io::Result<()> {
        let now = Instant::now();
        let too_soon = |then: Instant| now.duration_since(then) < ANSWER_INTERVAL_MIN;
        if self.answered.is_some_and(too_soon) {
            return Ok(());
        }
        self.answered = Some(now);
        let to = if asker.is_unicast_link_local() {
            asker
        } else {
            ALL_NODES
        };
        self.send(&advertisement(self.mac), to)
    }
}

/// The next message, if it is one of ours to know.
fn receive(socket: &Socket) -> io::Result<Option<(Heard, Ipv6Addr)>> {
    let mut buffer = [0; RECEIVED_BYTES];
    let mut control = nix::cmsg_space!(libc::c_int);
    let (length, source, hop_limit) = {
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
        let source = message
            .address
            .as_ref()
            .and_then(SockaddrStorage::as_sockaddr_in6);
        let source = source.map_or(Ipv6Addr::UNSPECIFIED, |source| source.ip());
        let mut hop_limit = 0;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::Ipv6HopLimit(limit) = control {
                hop_limit = u8::try_from(limit).unwrap_or(0);
            }
        }
        (message.bytes, source, hop_limit)
    };
    let octets = buffer.get(..length).unwrap_or_default();
    Ok(read(octets, source, hop_limit).map(|heard| (heard, source)))
}

/// The link-local address of an interface.
fn link_local_address(name: InterfaceName) -> Option<Ipv6Addr> {
    let addresses = getifaddrs()
        .ok()?
        .filter(|entry| entry.interface_name == name.as_str());
    addresses
        .filter_map(|entry| super::interface::ip(entry.address.as_ref()?))
        .find_map(|address| match address {
            IpAddr::V6(address) if address.is_unicast_link_local() => Some(address),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

    #[test]
    fn an_advertisement_says_no_more_than_that_we_are_there() {
        let octets = advertisement(Some(Mac([2, 0, 0, 0, 0, 9])));
        let mut expected = vec![134, 0, 0, 0];
        // Hop limit, flags, lifetime, reachable time and retransmission timer: none.
        expected.extend([0; 12]);
        expected.extend([1, 1, 2, 0, 0, 0, 0, 9]);
        assert_eq!(octets, expected);
        assert_eq!(read(&octets, ROUTER, 255), Some(Heard::Advertisement));
        assert_eq!(
            read(&solicitation(None), Ipv6Addr::UNSPECIFIED, 255),
            Some(Heard::Solicitation)
        );
    }

    #[test]
    fn what_may_come_from_afar_is_not_heard() {
        let good = advertisement(None);
        assert_eq!(read(&good, ROUTER, 254), None, "it came over a router");
        assert_eq!(read(&good, "2001:db8::2".parse().unwrap(), 255), None);
        assert_eq!(read(&good[..15], ROUTER, 255), None);
        let mut coded = good.clone();
        coded[1] = 1;
        assert_eq!(read(&coded, ROUTER, 255), None);
        let mut other = good;
        other[0] = 135;
        assert_eq!(read(&other, ROUTER, 255), None);
        assert_eq!(read(&[], ROUTER, 255), None);
    }
}
