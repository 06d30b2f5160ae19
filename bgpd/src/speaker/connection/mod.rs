//! One TCP connection: a task that reads and decodes, and a task that writes.

mod reader;
mod writer;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::reader::Reader;
use self::writer::Writer;
use super::counts::MessageCounters;
use super::refresh::RefreshAsked;
use super::rib_queue::{RibSender, SessionId};
use super::write_queue::{PeerOut, write_queue};
use crate::config::NeighborKey;
use crate::session::{ConnectionId, Event};
use crate::wire::{Codec, Notification, Update};

/// How long a closed connection may take to deliver what was sent on it.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// What the writer is to do.
pub(super) enum Write {
    /// A message of the session.
    Message(Vec<u8>),
    /// Write what is there, then close.
    Finish,
}

/// What the reader is to do after a message of the handshake.
pub(super) enum Go {
    /// Read on.
    On(Codec),
    /// Read on and send UPDATEs to the RIB.
    Established(Codec, SessionId, Scope),
}

/// The interface that a session runs over, as far as next hops are concerned.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scope {
    /// Its index.
    pub(super) interface: Option<u32>,
    /// The session itself has link-local addresses: of two addresses in a next hop, the link-local one is taken.
    pub(super) is_link_local: bool,
}

impl Scope {
    /// Says on which link the next hops are that are to be taken there.
    fn apply(self, update: &mut Update) {
        let Some(interface) = self.interface else { return };
        for announced in &mut update.announced {
            let next_hop = announced.attributes.next_hop;
            let only = next_hop.link_local_address().map(IpAddr::V6) == Some(next_hop.address());
            if only || self.is_link_local && next_hop.link_local_address().is_some() {
                announced.attributes.interface = Some(interface);
            }
        }
    }
}

/// What the session keeps of a connection.
pub(super) struct Connection {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// The socket itself, whose options may change while it is in use.
    pub(super) socket: OwnedFd,
    pub(super) out: PeerOut,
    write: mpsc::UnboundedSender<Write>,
    go: mpsc::UnboundedSender<Go>,
    cancel: CancellationToken,
    reader: tokio::task::JoinHandle<()>,
    writer: tokio::task::JoinHandle<()>,
}

impl Connection {
    /// Starts the tasks of a connection.
    pub(super) fn spawn(
        id: ConnectionId,
        stream: TcpStream,
        key: NeighborKey,
        events: mpsc::UnboundedSender<FromConnection>,
        rib: RibSender,
        counters: Arc<MessageCounters>,
    ) -> std::io::Result<Self> {
        let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
        let socket = stream.as_fd().try_clone_to_owned()?;
        let (read, write_half) = stream.into_split();
        let (write, commands) = mpsc::unbounded_channel();
        let (go, verdicts) = mpsc::unbounded_channel();
        let (out, queue) = write_queue();
        let cancel = CancellationToken::new();
        let reader = Reader {
            id,
            key,
            stream: read,
            buffer: BytesMut::new(),
            codec: Codec::default(),
            session: None,
            scope: Scope::default(),
            verdicts,
            events: events.clone(),
            rib: rib.clone(),
            reported: Instant::now(),
            mirror: None,
            mirrored: None,
            asked: RefreshAsked::default(),
            counters: Arc::clone(&counters),
            faulty: false,
        };
        let reader = tokio::spawn(reader.run(cancel.clone()));
        let writer = Writer {
            id,
            key,
            stream: write_half,
            commands,
            queue,
            events,
            rib,
            counters,
        };
        let writer = tokio::spawn(writer.run());
        Ok(Self {
            local,
            remote,
            socket,
            out,
            write,
            go,
            cancel,
            reader,
            writer,
        })
    }

    pub(super) fn send(&self, message: Vec<u8>) {
        // The writer is gone once the connection failed, which it has reported.
        let _ = self.write.send(Write::Message(message));
    }

    pub(super) fn go(&self, go: Go) {
        let _ = self.go.send(go);
    }

    /// Closes the connection once everything is written. With the result, the neighbour has closed it, too, and so
    /// knows of it; or it has taken too long.
    pub(super) fn close(self) -> tokio::task::JoinHandle<()> {
        let _ = self.write.send(Write::Finish);
        self.cancel.cancel();
        let (reader, writer) = (self.reader, self.writer);
        tokio::spawn(async move {
            // A task that panicked has nothing more to do.
            let _ = tokio::join!(reader, writer);
        })
    }
}

/// What a connection tells its neighbour's task.
pub(super) enum FromConnection {
    Event(Event),
    /// An OPEN as it came; what it says follows.
    Open(ConnectionId, Bytes),
    Malformed(Malformed),
}

/// Something came in that is no message.
pub(super) struct Malformed {
    pub(super) id: ConnectionId,
    /// To be answered.
    pub(super) notification: Notification,
    /// The first octets of it, for the log.
    pub(super) octets: Vec<u8>,
}
