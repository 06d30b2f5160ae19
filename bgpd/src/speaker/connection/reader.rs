//! The task that reads and decodes.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::counts::MessageCounters;
use super::super::refresh::RefreshAsked;
use super::super::rib_queue::{Gone, RibControl, RibSender, SessionId, Updates};
use super::{FromConnection, Go, LINGER_TIME, Malformed, Scope};
use crate::config::NeighborKey;
use crate::monitor::Mirrored;
use crate::session::{ConnectionId, Event, Received};
use crate::wire::{self, Codec, Message, Notification, RefreshKind, RouteRefresh, Update};

/// Room for what one read takes in, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// Most UPDATEs that go to the RIB in one piece.
const BATCH_UPDATES_MAX: usize = 128;
/// How often the session is told that something came in.
const ACTIVITY_INTERVAL: Duration = Duration::from_millis(200);
/// Octets of a malformed message that are logged.
const LOGGED_OCTETS_MAX: usize = 128;

thread_local! {
    /// Where a thread reads into. Only what is left of a message goes from here to the session's own buffer for
    /// longer than it takes to decode.
    static RECEIVED: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

pub(super) struct Reader {
    pub(super) id: ConnectionId,
    pub(super) key: NeighborKey,
    pub(super) stream: OwnedReadHalf,
    pub(super) buffer: BytesMut,
    pub(super) codec: Codec,
    /// While established.
    pub(super) session: Option<SessionId>,
    pub(super) scope: Scope,
    pub(super) verdicts: mpsc::UnboundedReceiver<Go>,
    pub(super) events: mpsc::UnboundedSender<FromConnection>,
    pub(super) rib: RibSender,
    pub(super) reported: Instant,
    /// The UPDATEs of the batch that is being read, as they came, if somebody watches.
    pub(super) mirror: Option<BytesMut>,
    /// All messages of that batch, if somebody watches these.
    pub(super) mirrored: Option<Mirrored>,
    /// What it has asked to be sent again.
    pub(super) asked: RefreshAsked,
    pub(super) counters: Arc<MessageCounters>,
    /// An UPDATE of this session had a wrong attribute, which was logged.
    pub(super) faulty: bool,
}

/// Nothing more is to be read.
struct Done;

impl From<Gone> for Done {
    fn from(_: Gone) -> Self {
        Self
    }
}

impl Reader {
    pub(super) async fn run(mut self, cancel: CancellationToken) {
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
