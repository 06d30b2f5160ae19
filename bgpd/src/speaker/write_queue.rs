//! Encoded UPDATEs on their way from the RIB to a connection's writer: bounded in bytes, and without
//! ever making the RIB wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

/// With more than this in the queue, the RIB is to pause. What it has prepared still comes.
const QUEUE_MAX_BYTES: usize = 256 * 1024;
/// With less than this, it may go on.
const QUEUE_RESUME_BYTES: usize = QUEUE_MAX_BYTES / 2;

#[derive(Debug, Default)]
struct Level {
    queued_bytes: AtomicUsize,
    /// The RIB has paused.
    paused: AtomicBool,
}

/// The RIB's end.
#[derive(Clone, Debug)]
pub(super) struct PeerOut {
    pieces: mpsc::UnboundedSender<Bytes>,
    level: Arc<Level>,
}

/// The writer's end.
#[derive(Debug)]
pub(super) struct PieceQueue {
    pieces: mpsc::UnboundedReceiver<Bytes>,
    level: Arc<Level>,
}

/// A queue for one connection.
pub(super) fn write_queue() -> (PeerOut, PieceQueue) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let level = Arc::new(Level::default());
    (
        PeerOut {
            pieces: sender,
            level: Arc::clone(&level),
        },
        PieceQueue {
            pieces: receiver,
            level,
        },
    )
}

impl PeerOut {
    /// Queues a piece; false if the RIB must prepare no more until the writer says that there is room.
    pub(super) fn send(&self, piece: Bytes) -> bool {
        let bytes = piece.len();
        self.level.queued_bytes.fetch_add(bytes, Ordering::SeqCst);
        if self.pieces.send(piece).is_err() {
            // The connection is gone; its session's end is on its way to the RIB.
            return true;
        }
        if self.level.queued_bytes.load(Ordering::SeqCst) < QUEUE_MAX_BYTES {
            return true;
        }
        self.level.paused.store(true, Ordering::SeqCst);
        // The writer may have taken the last piece just before: then nobody would tell us.
        let room = self.level.queued_bytes.load(Ordering::SeqCst) < QUEUE_RESUME_BYTES;
        room && self.level.paused.swap(false, Ordering::SeqCst)
    }
}

impl PieceQueue {
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        self.pieces.recv().await
    }

    /// The next piece, if it is there already.
    pub(super) fn try_next(&mut self) -> Option<Bytes> {
        self.pieces.try_recv().ok()
    }

    /// So much has been written; true if the RIB is to hear that there is room.
    pub(super) fn written(&self, bytes: usize) -> bool {
        let before = self.level.queued_bytes.fetch_sub(bytes, Ordering::SeqCst);
        before.saturating_sub(bytes) < QUEUE_RESUME_BYTES && self.level.paused.swap(false, Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_queue_says_when_to_pause_and_when_to_go_on() {
        let (out, mut queue) = write_queue();
        let piece = Bytes::from(vec![0; 100 * 1024]);
        assert!(out.send(piece.clone()) && out.send(piece.clone()));
        assert!(!out.send(piece.clone()), "300 KiB");
        assert!(!out.send(piece.clone()), "what was prepared still comes");
        let mut told = Vec::new();
        for _ in 0..4 {
            let piece = queue.next().await.unwrap();
            told.push(queue.written(piece.len()));
        }
        assert_eq!(told, [false, false, true, false], "once, below 128 KiB");
        assert!(out.send(piece));
        drop(queue);
        assert!(out.send(Bytes::from_static(b"late")), "to nobody");
    }
}
