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

use super::router_messages::{
    HOP_LIMIT, ROUTER_ADVERTISEMENT, ROUTER_SOLICITATION, RouterMessage, advertisement, read, solicitation,
};
use super::sys;
use crate::config::InterfaceName;

/// Longest message that is taken in, in octets: what a link with large frames holds.
const RECEIVED_BYTES: usize = 9216;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Shortest time between two answers to solicitations.
const ANSWER_INTERVAL_MIN: Duration = Duration::from_millis(100);

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
                Ok(Some((RouterMessage::Advertisement, router))) => return Ok(router),
                Ok(Some((RouterMessage::Solicitation, asker))) => {
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
fn receive(socket: &Socket) -> io::Result<Option<(RouterMessage, Ipv6Addr)>> {
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
