//! Accepts connections and hands each to the neighbour that it comes from.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use ipnet::IpNet;
use nix::net::if_::if_indextoname;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::dynamic::{Refuser, Stranger};
use super::neighbor::{Command, NeighborHandle};
use super::socket::{listen, set_listener_ao_keys, set_listener_key};
use super::status::SessionStatus;
use crate::config::{InterfaceName, Neighbor, NeighborKey, RangeName, TcpAoKey};
use crate::session::State;

/// Wait after an accept that failed, as when there are no file descriptors left.
const ACCEPT_RETRY_TIME: Duration = Duration::from_millis(100);

/// A neighbour that may connect.
#[derive(Clone)]
pub(super) struct Expected {
    key: NeighborKey,
    /// Our address that it must connect to.
    source: Option<IpAddr>,
    commands: mpsc::UnboundedSender<Command>,
    status: Arc<Mutex<SessionStatus>>,
}

impl Expected {
    pub(super) fn new(neighbor: &Neighbor, handle: &NeighborHandle) -> Self {
        Self {
            key: neighbor.key(),
            source: neighbor.source,
            commands: handle.commands.clone(),
            status: Arc::clone(&handle.status),
        }
    }
}

/// Where a connection comes from: an address, a link-local one with its interface. `::` stands for any on that
/// interface.
pub(super) type Origin = (IpAddr, Option<InterfaceName>);

/// Those who may connect. Clones are the same.
#[derive(Clone)]
pub(super) struct Directory {
    known: Arc<RwLock<Known>>,
    /// Where those go who may become neighbours.
    strangers: mpsc::Sender<Stranger>,
    refuser: Refuser,
}

#[derive(Default)]
struct Known {
    neighbors: HashMap<Origin, Vec<Expected>>,
    ranges: Vec<RangeName>,
}

impl Directory {
    pub(super) fn new(strangers: mpsc::Sender<Stranger>) -> Self {
        Self {
            known: Arc::default(),
            strangers,
            refuser: Refuser::default(),
        }
    }

    /// Other ones from now on.
    pub(super) fn publish(&self, neighbors: HashMap<Origin, Vec<Expected>>, ranges: Vec<RangeName>) {
        let known = Known { neighbors, ranges };
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// One more.
    pub(super) fn add(&self, origin: Origin, neighbor: Expected) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.neighbors.entry(origin).or_default().push(neighbor);
    }

    /// One less.
    pub(super) fn remove(&self, origin: Origin, key: NeighborKey) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut there) = known.neighbors.entry(origin) {
            there.get_mut().retain(|neighbor| neighbor.key != key);
            if there.get().is_empty() {
                there.remove();
            }
        }
    }

    /// Refuses a connection.
    pub(super) fn refuse(&self, stream: TcpStream) {
        self.refuser.refuse(stream);
    }
}

/// A listener and its task.
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    socket: Arc<TcpListener>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Listens at `address`, port 0 standing for any free port.
    pub(super) fn start(address: SocketAddr, directory: Directory) -> std::io::Result<Self> {
        let socket = Arc::new(listen(address)?);
        let task = tokio::spawn(accept(Arc::clone(&socket), directory));
        Ok(Self {
            address: socket.local_addr()?,
            socket,
            task,
        })
    }

    /// Sets or removes the TCP MD5 key of neighbours.
    pub(super) fn set_key(&self, neighbors: IpNet, password: Option<&str>) -> std::io::Result<()> {
        set_listener_key(&self.socket, neighbors, password)
    }
}

impl Listener {
    /// Goes over to other TCP-AO keys of neighbours.
    pub(super) fn set_ao_keys(
        &self,
        neighbors: IpNet,
        old: &[TcpAoKey],
        new: &[TcpAoKey],
    ) -> std::io::Result<()> {
        set_listener_ao_keys(&self.socket, neighbors, old, new)
    }

    /// Ends it. When this is done, its address is free.
    pub(super) async fn stop(mut self) {
        self.task.abort();
        // It ends by being aborted, which is no error here.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(socket: Arc<TcpListener>, directory: Directory) {
    loop {
        match socket.accept().await {
            Ok((stream, remote)) => dispatch(stream, remote, &directory),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY_TIME).await;
            }
        }
    }
}

fn origin(remote: SocketAddr) -> Origin {
    let interface = match remote {
        SocketAddr::V6(remote) if remote.ip().is_unicast_link_local() => interface_name(remote.scope_id()),
        _ => None,
    };
    (remote.ip().to_canonical(), interface)
}

fn interface_name(index: u32) -> Option<InterfaceName> {
    if_indextoname(index).ok()?.to_str().ok()?.parse().ok()
}

fn dispatch(stream: TcpStream, remote: SocketAddr, directory: &Directory) {
    let Ok(local) = stream.local_addr() else { return };
    let local = local.ip().to_canonical();
    let known = directory.known.read().unwrap_or_else(PoisonError::into_inner);
    let origin = origin(remote);
    let (address, interface) = origin;
    let exact = known.neighbors.get(&origin);
    // On a link, whoever is there: its neighbour need not be known by an address.
    let on_link = || {
        known
            .neighbors
            .get(&(IpAddr::V6(Ipv6Addr::UNSPECIFIED), Some(interface?)))
    };
    let expected = exact.or_else(on_link).map(Vec::as_slice).unwrap_or_default();
    let mut fitting = expected
        .iter()
        .filter(|expected| expected.source.is_none_or(|source| source == local));
    let is_up = |expected: &&Expected| {
        expected
            .status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .state
            == State::Established
    };
    // Several neighbours may share an address, with different ports: the one without a session.
    let first = fitting.clone().next();
    match fitting.find(|expected| !is_up(expected)).or(first) {
        Some(expected) => {
            // If the neighbour was removed just now, the connection is closed.
            let _ = expected.commands.send(Command::Accepted(stream));
        }
        None => {
            let fits = |range: &RangeName| {
                range.prefix.contains(&address) && (range.interface.is_none() || range.interface == interface)
            };
            if expected.is_empty() && known.ranges.iter().any(fits) {
                let stranger = Stranger { stream, origin };
                let Err(full) = directory.strangers.try_send(stranger) else {
                    return;
                };
                tracing::debug!(%remote, %local, "connection refused: too many at once");
                directory.refuse(full.into_inner().stream);
            } else {
                tracing::debug!(%remote, %local, "connection from an unknown neighbor refused");
                directory.refuse(stream);
            }
        }
    }
}
