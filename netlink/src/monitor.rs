//! What changes in the kernel, as it happens.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use socket2::{SockFilter, SockRef};
use std::os::fd::AsFd;
use tokio::io::unix::AsyncFd;

use crate::{
    Address, Error, Link, Neighbour, NetNs, NextHop, Route,
    connection::{RECEIVE_BUFFER_BYTES, for_each_message, receive_queue},
    link::{RTM_DELLINK, RTM_NEWLINK},
    request::{
        RTM_DELADDR, RTM_DELNEIGH, RTM_DELNEXTHOP, RTM_DELROUTE, RTM_NEWADDR, RTM_NEWNEIGH, RTM_NEWNEXTHOP,
        RTM_NEWROUTE,
    },
};

/// A kind of change to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Links.
    Links,
    /// Addresses of both families.
    Addresses,
    /// Neighbours of both families.
    Neighbours,
    /// IPv4 routes.
    RoutesV4,
    /// IPv6 routes.
    RoutesV6,
    /// Next-hop objects. The kernel does not tell of all losses here: look again on link changes.
    NextHops,
}

impl Group {
    /// The RTNLGRP_ numbers.
    fn numbers(self) -> &'static [u32] {
        match self {
            Group::Links => &[1],
            Group::Neighbours => &[3],
            Group::Addresses => &[5, 9],
            Group::RoutesV4 => &[7],
            Group::RoutesV6 => &[11],
            Group::NextHops => &[32],
        }
    }
}

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A link is new or changed.
    Link(Link),
    /// A link is gone (from this namespace).
    LinkGone(Link),
    /// An address is new or changed.
    Address(Address),
    /// An address is gone.
    AddressGone(Address),
    /// A route is new or changed.
    Route(Route),
    /// A route is gone.
    RouteGone(Route),
    /// A neighbour is new or changed.
    Neighbour(Neighbour),
    /// A neighbour is gone.
    NeighbourGone(Neighbour),
    /// A next-hop object is new or changed.
    NextHop(NextHop),
    /// A next-hop object is gone.
    NextHopGone(NextHop),
    /// Events were lost because they came faster than they were read: read the state again.
    Resync,
}

/// A subscription. Nothing is lost in silence: see [`Event::Resync`].
pub struct Monitor {
    socket: Socket,
    received: Vec<u8>,
    pending: VecDeque<Event>,
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor")
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

impl Monitor {
    /// Subscribe in the calling thread's namespace. Subscribe first and read the state after it,
    /// so that nothing falls between.
    pub fn open(groups: &[Group]) -> Result<Monitor, Error> {
        let io = |e| Error::io("subscribe to kernel events", e);
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(io)?;
        socket.bind_auto().map_err(io)?;
        socket.set_non_blocking(true).map_err(io)?;
        receive_queue(&socket)?;
        for number in groups.iter().flat_map(|group| group.numbers()) {
            socket.add_membership(*number).map_err(io)?;
        }
        Ok(Monitor {
            socket,
            received: Vec::with_capacity(RECEIVE_BUFFER_BYTES),
            pending: VecDeque::new(),
        })
    }

    /// Subscribe in another namespace.
    pub fn open_in(netns: &NetNs, groups: &[Group]) -> Result<Monitor, Error> {
        netns.run(|| Monitor::open(groups))?
    }

    /// Leave out what the connections with these ports change. The kernel does it, before events take room in the
    /// queue.
    pub fn ignore(&self, ports: [u32; 2]) -> Result<(), Error> {
        // struct nlmsghdr, nlmsg_pid: of the socket whose request made the change. Loads are in network order.
        const PORT_AT: u32 = 12;
        const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
        const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
        let [first, second] = ports;
        let program = [
            SockFilter::new(LOAD_WORD, 0, 0, PORT_AT),
            SockFilter::new(JUMP_IF_EQUAL, 2, 0, first.to_be()),
            SockFilter::new(JUMP_IF_EQUAL, 1, 0, second.to_be()),
            SockFilter::new(RETURN, 0, 0, u32::MAX),
            SockFilter::new(RETURN, 0, 0, 0),
        ];
        SockRef::from(&self.socket)
            .attach_filter(&program)
            .map_err(|e| Error::io("filter kernel events", e))
    }

    /// The next event, waiting for it at most `limit`.
    pub fn next_within(&mut self, limit: Duration) -> Result<Option<Event>, Error> {
        let io = |e: Errno| Error::io("wait for kernel events", e);
        let until = Instant::now() + limit;
        loop {
            if let Some(event) = self.poll_event()? {
                return Ok(Some(event));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            // A millisecond more than what is left, so that the last wait does not become a spin.
            let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(io(e)),
            }
        }
    }

    /// For an asynchronous caller, inside a tokio runtime.
    pub fn into_async(self) -> Result<AsyncMonitor, Error> {
        let Monitor {
            socket,
            received,
            pending,
        } = self;
        let socket = crate::sys::watch(socket).map_err(|e| Error::io("register with the runtime", e))?;
        Ok(AsyncMonitor {
            socket,
            received,
            pending,
        })
    }

    fn poll_event(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(Some(event));
            }
            if !read_events(&self.socket, &mut self.received, &mut self.pending)? {
                return Ok(None);
            }
        }
    }
}

/// A [`Monitor`] that can be awaited.
#[derive(Debug)]
pub struct AsyncMonitor {
    socket: AsyncFd<Socket>,
    received: Vec<u8>,
    pending: VecDeque<Event>,
}

impl AsyncMonitor {
    /// The next event, if it has come already.
    pub fn try_next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(Some(event));
            }
            if !read_events(self.socket.get_ref(), &mut self.received, &mut self.pending)? {
                return Ok(None);
            }
        }
    }

    /// The next event. Cancel-safe.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(event);
            }
            let mut ready = self
                .socket
                .readable()
                .await
                .map_err(|e| Error::io("wait for kernel events", e))?;
            if !read_events(ready.get_inner(), &mut self.received, &mut self.pending)? {
                ready.clear_ready();
            }
        }
    }
}

/// Read one datagram; false when there is none.
fn read_events(
    socket: &Socket,
    received: &mut Vec<u8>,
    pending: &mut VecDeque<Event>,
) -> Result<bool, Error> {
    received.clear();
    if let Err(e) = socket.recv(received, 0) {
        match e.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EAGAIN) => return Ok(false),
            Some(Errno::EINTR) => return Ok(true),
            Some(Errno::ENOBUFS) => {
                pending.push_back(Event::Resync);
                return Ok(true);
            }
            _ => return Err(Error::io("read kernel events", e)),
        }
    }
    let outcome = for_each_message(received, |header, payload| {
        match event(header.kind, payload) {
            Ok(event) => pending.extend(event),
            // What cannot be read may be what the caller waits for.
            Err(error) => {
                tracing::warn!(%error, "a kernel event cannot be read: the state is read again");
                pending.push_back(Event::Resync);
            }
        }
        Ok(())
    });
    if outcome.is_err() {
        pending.push_back(Event::Resync);
    }
    Ok(true)
}

fn event(kind: u16, payload: &[u8]) -> Result<Option<Event>, Error> {
    Ok(match kind {
        RTM_NEWLINK => Some(Event::Link(Link::parse(payload)?)),
        RTM_DELLINK => Some(Event::LinkGone(Link::parse(payload)?)),
        RTM_NEWADDR => Address::parse(payload)?.map(Event::Address),
        RTM_DELADDR => Address::parse(payload)?.map(Event::AddressGone),
        RTM_NEWROUTE => Route::parse(payload)?.map(Event::Route),
        RTM_DELROUTE => Route::parse(payload)?.map(Event::RouteGone),
        RTM_NEWNEIGH => Neighbour::parse(payload)?.map(Event::Neighbour),
        RTM_DELNEIGH => Neighbour::parse(payload)?.map(Event::NeighbourGone),
        RTM_NEWNEXTHOP => NextHop::parse(payload)?.map(Event::NextHop),
        RTM_DELNEXTHOP => NextHop::parse(payload)?.map(Event::NextHopGone),
        _ => None,
    })
}
