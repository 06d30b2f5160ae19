//! One TCP connection: a task that reads and decodes, and a task that writes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use smallvec::SmallVec;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::counts::MessageCounters;
use super::refresh::RefreshAsked;
use super::rib_queue::{Gone, RibControl, RibSender, SessionId, Updates};
use super::write_queue::{PeerOut, PieceQueue, write_queue};
use crate::config::NeighborKey;
use crate::monitor::Mirrored;
use crate::session::{ConnectionId, Event, Received};
use crate::wire::{self, Codec, Message, Notification, RefreshKind, RouteRefresh, Update};

/// Room for what one read takes in, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// Most pieces of UPDATEs that one call writes.
const WRITE_PIECES_MAX: usize = 64;
/// With so many bytes in hand, no more pieces are added to a call.
const WRITE_BYTES: usize = 64 * 1024;
/// Most UPDATEs that go to the RIB in one piece.
const BATCH_UPDATES_MAX: usize = 128;
/// How often the session is told that something came in.
const ACTIVITY_INTERVAL: Duration = Duration::from_millis(200);
/// A write that takes longer is reported to the session.
const STALL_TIME: Duration = Duration::from_secs(1);
/// How long a closed connection may take to deliver what was sent on it.
const LINGER_TIME: Duration = Duration::from_secs(1);
/// Octets of a malformed message that are logged.
const LOGGED_OCTETS_MAX: usize = 128;

thread_local! {
    /// Where a thread reads into. Only what is left of a message goes from here to the session's own buffer for
    /// longer than it takes to decode.
    static RECEIVED: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

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

struct Reader {
    id: ConnectionId,
    key: NeighborKey,
    stream: OwnedReadHalf,
    buffer: BytesMut,
    codec: Codec,
    /// While established.
    session: Option<SessionId>,
    scope: Scope,
    verdicts: mpsc::UnboundedReceiver<Go>,
    events: mpsc::UnboundedSender<FromConnection>,
    rib: RibSender,
    reported: Instant,
    /// The UPDATEs of the batch that is being read, as they came, if somebody watches.
    mirror: Option<BytesMut>,
    /// All messages of that batch, if somebody watches these.
    mirrored: Option<Mirrored>,
    /// What it has asked to be sent again.
    asked: RefreshAsked,
    counters: Arc<MessageCounters>,
    /// An UPDATE of this session had a wrong attribute, which was logged.
    faulty: bool,
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

/// Nothing more is to be read.
struct Done;

impl From<Gone> for Done {
    fn from(_: Gone) -> Self {
        Self
    }
}

impl Reader {
    async fn run(mut self, cancel: CancellationToken) {
        let done = tokio::select! {
            biased;
            () = cancel.cancelled() => false,
            Done = self.read() => true,
        };
        if done {
            cancel.cancelled().await;
        }
        self.drain().await;
    }

    /// Takes in what still comes, so that the kernel does not answer it with a reset that would
    /// destroy our last message on its way.
    async fn drain(&mut self) {
        let drained = async {
            loop {
                self.buffer.clear();
                match self.fill().await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
            }
        };
        // Either way the connection is over.
        let _ = timeout(LINGER_TIME, drained).await;
    }

    fn event(&self, event: Event) {
        let _ = self.events.send(FromConnection::Event(event));
    }

    async fn read(&mut self) -> Done {
        loop {
            match self.fill().await {
                Ok(0) => {
                    self.event(Event::Closed(self.id, "closed by the neighbor".to_owned()));
                    return Done;
                }
                Ok(_) => {}
                Err(error) => {
                    self.event(Event::Closed(self.id, error.to_string()));
                    return Done;
                }
            }
            if let Err(Done) = self.messages().await {
                return Done;
            }
            if self.buffer.is_empty() {
                // Of most reads nothing is left: a quiet session takes no memory for it.
                self.buffer = BytesMut::new();
            }
        }
    }

    /// Waits for octets and takes them in; how many, 0 at the end.
    async fn fill(&mut self) -> std::io::Result<usize> {
        loop {
            self.stream.readable().await?;
            let read: std::io::Result<usize> = RECEIVED.with_borrow_mut(|received| {
                let count = self.stream.try_read(received)?;
                self.buffer
                    .extend_from_slice(received.get(..count).unwrap_or_default());
                Ok(count)
            });
            match read {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    /// Handles every whole message in the buffer.
    async fn messages(&mut self) -> Result<(), Done> {
        let mut batch = Vec::new();
        loop {
            let length = match wire::frame(&self.buffer, self.codec) {
                Ok(Some(length)) => length,
                Ok(None) => break,
                Err(notification) => return self.malformed(batch, notification, None).await,
            };
            let octets = self.buffer.get(..length).unwrap_or_default();
            let message = match wire::decode(octets, self.codec) {
                Ok(message) => message,
                Err(notification) => return self.malformed(batch, notification, Some(length)).await,
            };
            self.counters.received(octets);
            if self.session.is_some() {
                if is_last(&message) {
                    let last = Bytes::copy_from_slice(octets);
                    self.flush(std::mem::take(&mut batch)).await?;
                    self.mirror_last(&last, false);
                } else if let Some(mirrored) = &mut self.mirrored {
                    mirrored.push(octets, is_errored(&message));
                }
            }
            let octets = self.buffer.get(..length).unwrap_or_default();
            match &message {
                Message::Update(_) if self.session.is_some() => {
                    if let Some(mirror) = &mut self.mirror {
                        mirror.extend_from_slice(octets);
                    }
                }
                Message::Open(_) => {
                    let open = FromConnection::Open(self.id, Bytes::copy_from_slice(octets));
                    let _ = self.events.send(open);
                }
                _ => {}
            }
            if let Message::Update(update) = &message {
                self.log_faults(update);
            }
            self.buffer.advance(length);
            self.message(message, &mut batch).await?;
        }
        self.flush(batch).await
    }

    async fn message(&mut self, message: Message, batch: &mut Vec<Update>) -> Result<(), Done> {
        let received = match (message, self.session) {
            (Message::Update(mut update), Some(_)) => {
                self.scope.apply(&mut update);
                if let Some(family) = update.end_of_rib {
                    self.event(Event::Received(self.id, Received::EndOfRib(family)));
                }
                batch.push(update);
                if batch.len() >= BATCH_UPDATES_MAX {
                    self.flush(std::mem::take(batch)).await?;
                }
                self.active(Received::Update);
                return Ok(());
            }
            (Message::Keepalive, Some(_)) => {
                self.active(Received::Keepalive);
                return Ok(());
            }
            (Message::RouteRefresh(refresh), Some(session)) => {
                match refresh.filter(|refresh| self.codec.families.contains(refresh.family)) {
                    Some(refresh) => self.refresh(refresh, session, batch).await?,
                    // RFC 7313 section 5.
                    None => {
                        tracing::debug!(neighbor = %self.key, "ROUTE-REFRESH of an unknown subtype or family passed over");
                    }
                }
                self.active(Received::RouteRefresh);
                return Ok(());
            }
            (Message::Open(open), _) => Received::Open(open),
            (Message::Notification(notification), _) => Received::Notification(notification),
            (Message::Keepalive, None) => Received::Keepalive,
            (Message::Update(_), None) => Received::Update,
            (Message::RouteRefresh(_), None) => Received::RouteRefresh,
        };
        self.flush(std::mem::take(batch)).await?;
        self.event(Event::Received(self.id, received));
        // The session decides about how to read on. If it closes the connection, it cancels us.
        match self.verdicts.recv().await {
            Some(Go::On(codec)) => self.codec = codec,
            Some(Go::Established(codec, session, scope)) => {
                self.codec = codec;
                self.scope = scope;
                self.session = Some(session);
            }
            None => return Err(Done),
        }
        Ok(())
    }

    /// A request goes past the UPDATEs; a beginning or an end has its place among them.
    async fn refresh(
        &mut self,
        refresh: RouteRefresh,
        session: SessionId,
        batch: &mut Vec<Update>,
    ) -> Result<(), Done> {
        if refresh.kind != RefreshKind::Request {
            return self.flush_with(std::mem::take(batch), Some(refresh)).await;
        }
        if self.asked.ask(refresh.family) {
            self.rib.control(RibControl::Refresh {
                key: self.key,
                session,
                asked: self.asked.clone(),
            });
        }
        Ok(())
    }

    fn active(&mut self, received: Received) {
        if self.reported.elapsed() >= ACTIVITY_INTERVAL {
            self.reported = Instant::now();
            self.event(Event::Received(self.id, received));
        }
    }

    /// Sends UPDATEs to the RIB, and waits while it is behind.
    async fn flush(&mut self, batch: Vec<Update>) -> Result<(), Done> {
        self.flush_with(batch, None).await
    }

    /// The same, with what a ROUTE-REFRESH after them says.
    async fn flush_with(&mut self, batch: Vec<Update>, refresh: Option<RouteRefresh>) -> Result<(), Done> {
        let raw = self.mirror.take().map(BytesMut::freeze);
        // Only a whole batch is mirrored.
        self.mirror = self.rib.wanted.updates().then(BytesMut::new);
        let wants_everything = self.rib.wanted.everything();
        let mirrored = std::mem::replace(&mut self.mirrored, wants_everything.then(Mirrored::default));
        let mirrored = mirrored.filter(|mirrored| !mirrored.is_empty());
        let something = !batch.is_empty() || refresh.is_some() || mirrored.is_some();
        let Some(session) = self.session.filter(|_| something) else {
            return Ok(());
        };
        let updates = Updates {
            raw,
            mirrored,
            refresh,
            ..Updates::of(self.key, session, batch)
        };
        let Err(updates) = self.rib.try_updates(updates)? else {
            return Ok(());
        };
        self.event(Event::ReadPaused(self.id));
        let sent = self.rib.updates(updates).await;
        self.event(Event::ReadResumed(self.id));
        Ok(sent?)
    }

    /// Shows those who want it what ends the session: before they hear of its end, which would overtake UPDATEs.
    fn mirror_last(&self, message: &[u8], is_errored: bool) {
        let Some(session) = self.session.filter(|_| self.rib.wanted.everything()) else {
            return;
        };
        let mut mirrored = Mirrored::default();
        mirrored.push(message, is_errored);
        self.rib.control(RibControl::MirrorLast {
            key: self.key,
            session,
            mirrored,
        });
    }

    /// `length` is that of the message, if it has one.
    async fn malformed(
        &mut self,
        batch: Vec<Update>,
        notification: Notification,
        length: Option<usize>,
    ) -> Result<(), Done> {
        // What came before it counts.
        self.flush(batch).await?;
        if let Some(message) = length.and_then(|length| self.buffer.get(..length)) {
            self.mirror_last(message, true);
        }
        let shown = self.buffer.len().min(LOGGED_OCTETS_MAX);
        let octets = self.buffer.get(..shown).unwrap_or_default().into();
        let malformed = Malformed {
            id: self.id,
            notification,
            octets,
        };
        // The neighbour's task ends before its connections only when the speaker stops.
        let _ = self.events.send(FromConnection::Malformed(malformed));
        Err(Done)
    }

    fn log_faults(&mut self, update: &Update) {
        if update.faults.is_empty() || self.faulty {
            return;
        }
        self.faulty = true;
        for fault in &update.faults {
            tracing::warn!(
                neighbor = %self.key,
                attribute = fault.code,
                reason = %fault.reason,
                outcome = if fault.withdrawn { "routes withdrawn" } else { "attribute dropped" },
                "wrong attribute received; further ones of this session are not logged"
            );
        }
    }
}

/// Whether a session ends with it, once it is established.
const fn is_last(message: &Message) -> bool {
    matches!(message, Message::Open(_) | Message::Notification(_))
}

/// RFC 7854 section 4.7: whether it is of no use.
fn is_errored(message: &Message) -> bool {
    match message {
        Message::Update(update) => update.faults.iter().any(|fault| fault.withdrawn),
        _ => false,
    }
}

struct Writer {
    id: ConnectionId,
    key: NeighborKey,
    stream: OwnedWriteHalf,
    commands: mpsc::UnboundedReceiver<Write>,
    queue: PieceQueue,
    events: mpsc::UnboundedSender<FromConnection>,
    rib: RibSender,
    counters: Arc<MessageCounters>,
}

impl Writer {
    fn event(&self, event: Event) {
        let _ = self.events.send(FromConnection::Event(event));
    }

    async fn run(mut self) {
        loop {
            // Keepalives first.
            let written = tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(Write::Message(message)) => self.write(VecDeque::from([message.into()])).await,
                    Some(Write::Finish) | None => break,
                },
                Some(piece) = self.queue.next() => self.updates(piece).await,
            };
            if let Err(error) = written {
                self.event(Event::Closed(self.id, error.to_string()));
                break;
            }
        }
        // The other side may be gone already.
        let _ = timeout(LINGER_TIME, self.stream.shutdown()).await;
    }

    /// Writes a piece of UPDATEs, and what waits behind it with the same call.
    async fn updates(&mut self, first: Bytes) -> std::io::Result<()> {
        let mut bytes = first.len();
        let mut pieces = VecDeque::from([first]);
        while pieces.len() < WRITE_PIECES_MAX
            && bytes < WRITE_BYTES
            && let Some(piece) = self.queue.try_next()
        {
            bytes += piece.len();
            pieces.push_back(piece);
        }
        let written = self.write(pieces).await;
        if self.queue.written(bytes) {
            self.rib.control(RibControl::Room { key: self.key });
        }
        written
    }

    /// Writes whole messages.
    async fn write(&mut self, mut pieces: VecDeque<Bytes>) -> std::io::Result<()> {
        for piece in &pieces {
            self.counters.sent(piece);
        }
        let mut stalled = false;
        while !pieces.is_empty() {
            let result = {
                let slices = pieces.iter().map(|piece| IoSlice::new(piece));
                let slices: SmallVec<[IoSlice<'_>; 8]> = slices.collect();
                timeout(STALL_TIME, self.stream.write_vectored(&slices)).await
            };
            match result {
                Ok(Ok(0)) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(Ok(count)) => {
                    advance(&mut pieces, count);
                    if std::mem::take(&mut stalled) {
                        self.event(Event::WriteResumed(self.id));
                    }
                }
                Ok(Err(error)) => return Err(error),
                Err(_) if self.commands.is_closed() => return Err(std::io::ErrorKind::TimedOut.into()),
                Err(_) => {
                    if !std::mem::replace(&mut stalled, true) {
                        self.event(Event::WriteStalled(self.id));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Takes off what has been written.
fn advance(pieces: &mut VecDeque<Bytes>, mut count: usize) {
    while let Some(mut piece) = pieces.pop_front() {
        if count < piece.len() {
            piece.advance(count);
            pieces.push_front(piece);
            return;
        }
        count -= piece.len();
    }
}
