//! The task that writes: the session's messages first, then UPDATEs as the RIB queues them.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use smallvec::SmallVec;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::counts::MessageCounters;
use super::super::rib_queue::{RibControl, RibSender};
use super::super::write_queue::PieceQueue;
use super::{FromConnection, LINGER_TIME, Write};
use crate::config::NeighborKey;
use crate::session::{ConnectionId, Event};

/// Most pieces of UPDATEs that one call writes.
const WRITE_PIECES_MAX: usize = 64;
/// With so many bytes in hand, no more pieces are added to a call.
const WRITE_BYTES: usize = 64 * 1024;
/// A write that takes longer is reported to the session.
const STALL_TIME: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    pub(super) id: ConnectionId,
    pub(super) key: NeighborKey,
    pub(super) stream: OwnedWriteHalf,
    pub(super) commands: mpsc::UnboundedReceiver<Write>,
    pub(super) queue: PieceQueue,
    pub(super) events: mpsc::UnboundedSender<FromConnection>,
    pub(super) rib: RibSender,
    pub(super) counters: Arc<MessageCounters>,
}

impl Writer {
    fn event(&self, event: Event) {
        let _ = self.events.send(FromConnection::Event(event));
    }

    pub(super) async fn run(mut self) {
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
