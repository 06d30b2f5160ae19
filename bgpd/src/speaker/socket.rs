//! TCP sockets as BGP wants them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use ipnet::IpNet;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{sys, tcp_ao};
use crate::config::{Config, InterfaceName, Neighbor, TcpAoKey};

/// TTL towards neighbours in our AS, and of what must prove that it came from near.
const TTL_MAX: u8 = 255;
/// TTL towards neighbours in another AS, which are on the same link unless `ttl` says otherwise.
const TTL_EXTERNAL: u8 = 1;
/// DSCP CS6, for routing protocols (RFC 4594 section 3.1).
const TRAFFIC_CLASS: u32 = 0xc0;
/// What the kernel takes from us before the neighbour takes it from the kernel: what lies there can
/// neither be replaced by what is newer nor be overtaken by a keepalive.
const UNSENT_MAX_BYTES: u32 = 128 * 1024;
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;

/// What the sockets of a neighbour need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SocketSettings {
    pub(super) remote: SocketAddr,
    /// The link that a link-local neighbour is on.
    pub(super) interface: Option<InterfaceName>,
    pub(super) source: Option<IpAddr>,
    pub(super) ttl: u8,
    pub(super) minimum_ttl: Option<u8>,
    pub(super) password: Option<String>,
    pub(super) tcp_ao: Vec<TcpAoKey>,
}

impl SocketSettings {
    pub(super) fn new(neighbor: &Neighbor, config: &Config) -> Self {
        let default = if neighbor.is_ebgp(config) {
            TTL_EXTERNAL
        } else {
            TTL_MAX
        };
        let hops = neighbor.ttl_security_hops;
        Self {
            remote: SocketAddr::new(neighbor.address, neighbor.port),
            interface: neighbor.interface,
            source: neighbor.source,
            ttl: if hops.is_some() {
                TTL_MAX
            } else {
                neighbor.ttl.unwrap_or(default)
            },
            // A packet over one hop arrives with 255, and each router on the way takes one off.
            minimum_ttl: hops.map(|hops| TTL_MAX - (hops - 1).min(TTL_MAX - 1)),
            password: neighbor.password.clone(),
            tcp_ao: neighbor.tcp_ao.clone(),
        }
    }

    fn prepare(&self, socket: &SockRef<'_>) -> io::Result<()> {
        match self.remote {
            SocketAddr::V4(_) => {
                socket.set_ttl_v4(self.ttl.into())?;
                socket.set_tos_v4(TRAFFIC_CLASS)?;
            }
            SocketAddr::V6(_) => {
                socket.set_unicast_hops_v6(self.ttl.into())?;
                socket.set_tclass_v6(TRAFFIC_CLASS)?;
            }
        }
        // Zero lets everything through.
        sys::set_minimum_ttl(socket.as_fd(), self.remote.ip(), self.minimum_ttl.unwrap_or(0))?;
        socket.set_tcp_notsent_lowat(UNSENT_MAX_BYTES)?;
        socket.set_tcp_nodelay(true)
    }

    /// Connects to the neighbour, who is at this address now.
    pub(super) async fn dial(&self, remote: SocketAddr) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(remote), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        self.prepare(&SockRef::from(&socket))?;
        if let Some(password) = &self.password {
            sys::set_md5_key(socket.as_fd(), remote.ip().into(), password.as_bytes())?;
        }
        tcp_ao::set_keys(socket.as_fd(), remote.ip().into(), &[], &self.tcp_ao, false)?;
        if let Some(source) = self.source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        TcpSocket::from_std_stream(socket.into()).connect(remote).await
    }

    /// Gives a connection in use other settings: TTL, and TCP MD5 or TCP-AO keys where there were such before.
    pub(super) fn adjust(&self, before: &Self, socket: &OwnedFd, remote: IpAddr) -> io::Result<()> {
        self.prepare(&SockRef::from(socket))?;
        match &self.password {
            Some(password) => sys::set_md5_key(socket.as_fd(), remote.into(), password.as_bytes()),
            None => tcp_ao::set_keys(socket.as_fd(), remote.into(), &before.tcp_ao, &self.tcp_ao, false),
        }
    }

    /// The TTL with which a connection of the neighbour's began, if it is less than what comes from near has (RFC 5082).
    /// From then on the kernel looks at each segment.
    pub(super) fn came_from_afar(&self, stream: &TcpStream) -> Option<u8> {
        let minimum = self.minimum_ttl?;
        // What the kernel has not kept is not known to be wrong.
        let ttl = sys::syn_ttl(stream.as_fd()).ok().flatten();
        ttl.filter(|ttl| *ttl < minimum)
    }

    /// Prepares a connection that the neighbour made.
    pub(super) fn adopt(&self, stream: &TcpStream) -> io::Result<()> {
        self.prepare(&SockRef::from(stream))
    }
}

/// Listens at an address; an IPv6 one takes no IPv4 connections, so that both can have the same port.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    // So that the first answer to a neighbour with RFC 5082 passes.
    match address {
        SocketAddr::V4(_) => socket.set_ttl_v4(TTL_MAX.into())?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_unicast_hops_v6(TTL_MAX.into())?;
        }
    }
    // So that it is seen from how far a connection comes.
    sys::save_syn(socket.as_fd())?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Sets or removes the key of neighbours on a listener.
pub(super) fn set_listener_key(
    listener: &TcpListener,
    neighbors: IpNet,
    password: Option<&str>,
) -> io::Result<()> {
    let same_family = listener
        .local_addr()
        .is_ok_and(|local| local.is_ipv4() == neighbors.addr().is_ipv4());
    if !same_family {
        return Ok(());
    }
    match sys::set_md5_key(
        listener.as_fd(),
        neighbors,
        password.unwrap_or_default().as_bytes(),
    ) {
        // There was none to remove.
        Err(error) if password.is_none() && error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

/// Goes over to other TCP-AO keys of neighbours on a listener.
pub(super) fn set_listener_ao_keys(
    listener: &TcpListener,
    neighbors: IpNet,
    old: &[TcpAoKey],
    new: &[TcpAoKey],
) -> io::Result<()> {
    let same_family = listener
        .local_addr()
        .is_ok_and(|local| local.is_ipv4() == neighbors.addr().is_ipv4());
    if !same_family {
        return Ok(());
    }
    tcp_ao::set_keys(listener.as_fd(), neighbors, old, new, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel keeps the headers of either family, and gives them once.
    #[tokio::test]
    async fn the_ttl_of_a_connection_is_that_of_its_first_segment() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = listen(address.parse().unwrap()).unwrap();
            let to = listener.local_addr().unwrap();
            let socket = match to {
                SocketAddr::V4(_) => TcpSocket::new_v4().unwrap(),
                SocketAddr::V6(_) => TcpSocket::new_v6().unwrap(),
            };
            match to {
                SocketAddr::V4(_) => SockRef::from(&socket).set_ttl_v4(77).unwrap(),
                SocketAddr::V6(_) => SockRef::from(&socket).set_unicast_hops_v6(77).unwrap(),
            }
            let (stream, accepted) = tokio::join!(socket.connect(to), listener.accept());
            let (_stream, (accepted, _)) = (stream.unwrap(), accepted.unwrap());
            // What comes later has another one.
            assert_eq!(sys::syn_ttl(accepted.as_fd()).unwrap(), Some(77), "{address}");
            assert_eq!(
                sys::syn_ttl(accepted.as_fd()).unwrap(),
                None,
                "{address}: only once"
            );
        }
    }
}
