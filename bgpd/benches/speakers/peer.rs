//! One of the daemon's peers: a connection, what is still to be written on it, and a tally of what comes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::fabric::DAEMON;
use crate::message::{self, HEADER_BYTES, MESSAGE_MAX_BYTES};
use crate::tally::Tally;

/// Longest time for TCP's handshake, once somebody listens.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Most octets written at a time, so that no peer starves others.
const WRITE_MAX_BYTES: usize = 256 * 1024;

/// What a peer is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerIdentity {
    pub(crate) address: Ipv4Addr,
    pub(crate) asn: u32,
    pub(crate) hold_time_s: u16,
}

/// How far a session has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    OpenSent,
    OpenConfirm,
    Established,
}

pub(crate) struct Peer {
    pub(crate) identity: PeerIdentity,
    pub(crate) stream: TcpStream,
    state: State,
    /// The octets at the end of the last read that are no whole message.
    partial: Vec<u8>,
    /// To be written from an offset on, one after the other.
    queue: std::collections::VecDeque<(Arc<[u8]>, usize)>,
    /// `None`: what comes is not looked at.
    pub(crate) tally: Option<Tally>,
    /// When something came last.
    pub(crate) heard: Instant,
    /// Registered for writing.
    pub(crate) waits_for_room: bool,
    pub(crate) is_lost: bool,
}

/// Whether everything that was to be written is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    All,
    /// There is more: the socket is full, or it is others' turn.
    Part,
}

impl Peer {
    /// Connects from the calling thread's namespace and sends OPEN. `None` if nobody listens yet.
    pub(crate) fn connect(identity: PeerIdentity) -> anyhow::Result<Option<Self>> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((identity.address, 0)).into())?;
        let to = SocketAddr::from((DAEMON, 179)).into();
        match socket.connect_timeout(&to, CONNECT_TIME) {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset
                ) =>
            {
                return Ok(None);
            }
            outcome => outcome.with_context(|| format!("connect from {}", identity.address))?,
        }
        let mut stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let open = message::open(identity.asn, identity.hold_time_s, identity.address);
        if stream.write_all(&open).is_err() {
            return Ok(None);
        }
        Ok(Some(Self {
            identity,
            stream,
            state: State::OpenSent,
            partial: Vec::new(),
            queue: [].into(),
            tally: None,
            heard: Instant::now(),
            waits_for_room: false,
            is_lost: false,
        }))
    }

    pub(crate) fn is_established(&self) -> bool {
        self.state == State::Established
    }

    pub(crate) fn enqueue(&mut self, octets: Arc<[u8]>) {
        self.queue.push_back((octets, 0));
    }

    pub(crate) fn has_written_all(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn write(&mut self) -> std::io::Result<Written> {
        let mut budget = WRITE_MAX_BYTES;
        while let Some((octets, offset)) = self.queue.front_mut() {
            if budget == 0 {
                return Ok(Written::Part);
            }
            let rest = &octets[*offset..];
            match self.stream.write(&rest[..rest.len().min(budget)]) {
                Ok(count) => {
                    *offset += count;
                    budget -= count;
                    if *offset == octets.len() {
                        self.queue.pop_front();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Written::Part),
                Err(error) => return Err(error),
            }
        }
        Ok(Written::All)
    }

    /// Reads once, by way of a buffer that all peers share. An error is the session's end.
    pub(crate) fn read(&mut self, buffer: &mut [u8], now: Instant) -> anyhow::Result<()> {
        let held = self.partial.len();
        buffer[..held].copy_from_slice(&self.partial);
        let count = match self.stream.read(&mut buffer[held..]) {
            Ok(0) => bail!("the daemon closed the connection"),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.heard = now;
        let mut octets = &buffer[..held + count];
        while let Some(header) = octets.first_chunk::<HEADER_BYTES>() {
            let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
            if !(HEADER_BYTES..=MESSAGE_MAX_BYTES).contains(&length) {
                bail!("a message of {length} octets");
            }
            let Some((message, rest)) = octets.split_at_checked(length) else {
                break;
            };
            self.message(header[18], &message[HEADER_BYTES..])?;
            octets = rest;
        }
        self.partial.clear();
        self.partial.extend_from_slice(octets);
        Ok(())
    }

    fn message(&mut self, kind: u8, body: &[u8]) -> anyhow::Result<()> {
        match (kind, self.state) {
            (message::UPDATE, State::Established) => match &mut self.tally {
                Some(tally) => tally.update(body).context("an UPDATE that cannot be read"),
                None => Ok(()),
            },
            (message::KEEPALIVE | message::ROUTE_REFRESH, State::Established) => Ok(()),
            (message::OPEN, State::OpenSent) => {
                self.state = State::OpenConfirm;
                self.enqueue(message::keepalive().into());
                Ok(())
            }
            (message::KEEPALIVE, State::OpenConfirm) => {
                self.state = State::Established;
                Ok(())
            }
            (message::NOTIFICATION, _) => bail!("NOTIFICATION {:?}", &body[..body.len().min(2)]),
            _ => bail!("a message of type {kind} that is not due"),
        }
    }
}
