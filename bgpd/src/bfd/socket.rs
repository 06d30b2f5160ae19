//! UDP sockets as BFD wants them (RFC 5881 sections 4 and 5, RFC 5883 section 4).

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::wire::PACKET_MAX_BYTES;

/// The port of single-hop sessions (RFC 5881 section 4).
pub const PORT_SINGLE_HOP: u16 = 3784;
/// The port of multihop sessions (RFC 5883 section 5).
pub const PORT_MULTIHOP: u16 = 4784;
/// Ports that packets come from (RFC 5881 section 4).
const SOURCE_PORTS: RangeInclusive<u16> = 49152..=65535;
/// Ports to try before giving up for now.
const SOURCE_PORT_TRIES_MAX: u16 = 256;
/// The TTL or hop limit of what we send, and of single-hop packets that come in (RFC 5881 section 5).
pub(super) const TTL: u8 = 255;
/// DSCP CS6, for routing protocols (RFC 4594 section 3.1).
const TRAFFIC_CLASS: u32 = 0xc0;
/// What the kernel holds until we run: a detection time of packets of a thousand fast sessions.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// A packet's way to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    /// Its source address.
    pub(super) remote: IpAddr,
    /// Its destination address.
    pub(super) local: IpAddr,
    /// The index of the interface that it came in at.
    pub(super) interface: u32,
    /// Its TTL or hop limit.
    pub(super) ttl: u8,
    /// Whether it came to the port of multihop sessions.
    pub(super) is_multihop: bool,
}

/// Which of the four receiving sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    pub(super) is_v6: bool,
    pub(super) is_multihop: bool,
}

impl Kind {
    fn address(self) -> SocketAddr {
        let port = if self.is_multihop {
            PORT_MULTIHOP
        } else {
            PORT_SINGLE_HOP
        };
        let any: IpAddr = if self.is_v6 {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        SocketAddr::new(any, port)
    }
}

/// A socket that takes in packets of one kind.
#[derive(Debug)]
pub(super) struct Receiver {
    socket: UdpSocket,
    kind: Kind,
    control: Vec<u8>,
}

impl Receiver {
    pub(super) fn open(kind: Kind) -> io::Result<Self> {
        let address = kind.address();
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if kind.is_v6 {
            socket.set_only_v6(true)?;
            setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        }
        // Beyond the limit of the system only with CAP_NET_ADMIN; less will do.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
            socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        }
        socket.bind(&address.into())?;
        Ok(Self {
            socket: socket.into(),
            kind,
            control: nix::cmsg_space!(libc::in6_pktinfo, libc::c_int),
        })
    }

    /// The next packet, into `buffer`; none if there is none.
    pub(super) fn receive<'a>(
        &mut self,
        buffer: &'a mut [u8; PACKET_MAX_BYTES],
    ) -> io::Result<Option<(&'a [u8], Arrival)>> {
        let (length, arrival) = {
            let mut slices = [IoSliceMut::new(buffer)];
            let socket = self.socket.as_raw_fd();
            let flags = MsgFlags::MSG_DONTWAIT;
            let message =
                match recvmsg::<SockaddrStorage>(socket, &mut slices, Some(&mut self.control), flags) {
                    Ok(message) => message,
                    Err(nix::Error::EAGAIN) => return Ok(None),
                    Err(error) => return Err(error.into()),
                };
            let mut arrival = Arrival {
                remote: message
                    .address
                    .as_ref()
                    .and_then(ip)
                    .unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
                local: Ipv4Addr::UNSPECIFIED.into(),
                interface: 0,
                ttl: 0,
                is_multihop: self.kind.is_multihop,
            };
            for control in message.cmsgs()? {
                match control {
                    ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => {
                        arrival.ttl = u8::try_from(ttl).unwrap_or(0);
                    }
                    ControlMessageOwned::Ipv4PacketInfo(packet) => {
                        arrival.local = Ipv4Addr::from(packet.ipi_addr.s_addr.to_ne_bytes()).into();
                        arrival.interface = u32::try_from(packet.ipi_ifindex).unwrap_or(0);
                    }
                    ControlMessageOwned::Ipv6PacketInfo(packet) => {
                        arrival.local = Ipv6Addr::from(packet.ipi6_addr.s6_addr).into();
                        arrival.interface = packet.ipi6_ifindex;
                    }
                    _ => {}
                }
            }
            (message.bytes, arrival)
        };
        Ok(Some((buffer.get(..length).unwrap_or_default(), arrival)))
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

/// The socket that one session sends from, with a port of its own.
#[derive(Debug)]
pub(super) struct Sender {
    socket: UdpSocket,
    to: SocketAddr,
}

impl Sender {
    /// `first_port` is where the search for a free port begins, counted from the first one allowed.
    pub(super) fn open(
        remote: IpAddr,
        interface: Option<u32>,
        local: Option<IpAddr>,
        is_multihop: bool,
        first_port: u16,
    ) -> io::Result<Self> {
        let port = if is_multihop {
            PORT_MULTIHOP
        } else {
            PORT_SINGLE_HOP
        };
        let to = match remote {
            IpAddr::V4(_) => SocketAddr::new(remote, port),
            IpAddr::V6(remote) => SocketAddrV6::new(remote, port, 0, interface.unwrap_or(0)).into(),
        };
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        let any: IpAddr = match to {
            SocketAddr::V4(_) => {
                socket.set_ttl_v4(TTL.into())?;
                socket.set_tos_v4(TRAFFIC_CLASS)?;
                Ipv4Addr::UNSPECIFIED.into()
            }
            SocketAddr::V6(_) => {
                socket.set_only_v6(true)?;
                socket.set_unicast_hops_v6(TTL.into())?;
                socket.set_tclass_v6(TRAFFIC_CLASS)?;
                Ipv6Addr::UNSPECIFIED.into()
            }
        };
        let local = local.unwrap_or(any);
        let count = SOURCE_PORTS.end() - SOURCE_PORTS.start() + 1;
        let mut result = Err(io::ErrorKind::AddrInUse.into());
        for attempt in 0..SOURCE_PORT_TRIES_MAX {
            let port = SOURCE_PORTS.start() + first_port.wrapping_add(attempt) % count;
            result = socket.bind(&SocketAddr::new(local, port).into());
            match &result {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                _ => break,
            }
        }
        result?;
        Ok(Self {
            socket: socket.into(),
            to,
        })
    }

    pub(super) fn send(&self, octets: &[u8]) -> io::Result<()> {
        self.socket.send_to(octets, self.to).map(|_| ())
    }
}
