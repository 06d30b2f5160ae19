//! The stream of events.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bgpd_proto::v1::event::What;
use bgpd_proto::v1::{Event, PeerEvent, RouteEvent};
use futures::Stream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{SpeakerSlot, convert};
use crate::speaker::{RouteChange, RouteChanges, SpeakerHandle};

/// Events that wait for the connection to take them.
const EVENTS_WAITING_MAX: usize = 256;
/// How often it is looked whether the speaker is still the same one.
const SPEAKER_POLL: Duration = Duration::from_millis(500);

/// Events of the speaker in the slot; it ends with that speaker.
pub(super) fn stream(
    slot: SpeakerSlot,
    peers: bool,
    routes: bool,
) -> impl Stream<Item = Result<Event, Status>> + Send {
    let (events, stream) = mpsc::channel(EVENTS_WAITING_MAX);
    tokio::spawn(async move {
        if let Ok(speaker) = slot.get() {
            let weak = speaker.downgrade();
            let peer_events = speaker.subscribe();
            let changes = routes.then(|| speaker.watch_routes());
            drop(speaker);
            let watch = Watch {
                slot,
                speaker: weak,
                peer_events: peers.then_some(peer_events),
                changes,
                events,
            };
            watch.run().await;
        }
    });
    ReceiverStream::new(stream)
}

struct Watch {
    slot: SpeakerSlot,
    speaker: crate::speaker::WeakSpeaker,
    peer_events: Option<tokio::sync::broadcast::Receiver<crate::speaker::PeerEvent>>,
    changes: Option<RouteChanges>,
    events: mpsc::Sender<Result<Event, Status>>,
}

impl Watch {
    async fn run(mut self) {
        let mut poll = tokio::time::interval(SPEAKER_POLL);
        loop {
            let peers = async {
                match &mut self.peer_events {
                    Some(events) => events.recv().await,
                    None => std::future::pending().await,
                }
            };
            let routes = async {
                match &mut self.changes {
                    Some(changes) => changes.next().await,
                    None => std::future::pending().await,
                }
            };
            let sent = tokio::select! {
                () = self.events.closed() => return,
                _ = poll.tick() => {
                    if self.is_replaced() {
                        return;
                    }
                    continue;
                }
                event = peers => match event {
                    Ok(event) => {
                        let what = What::Peer(PeerEvent {
                            peer: event.neighbor.to_string(),
                            state: event.state.to_string(),
                        });
                        send(&self.events, event.since, what).await
                    }
                    Err(RecvError::Lagged(lost)) => send(&self.events, SystemTime::now(), What::Lost(lost)).await,
                    Err(RecvError::Closed) => return,
                },
                changes = routes => match changes {
                    Some(changes) => send_routes(&self.events, changes).await,
                    None => {
                        // Cut off, or the speaker ends. How many events are missing is not known.
                        let Some(speaker) = self.speaker.upgrade().filter(|_| !self.is_replaced()) else {
                            return;
                        };
                        self.changes = Some(speaker.watch_routes());
                        send(&self.events, SystemTime::now(), What::Lost(0)).await
                    }
                },
            };
            if sent.is_none() {
                return;
            }
        }
    }

    fn is_replaced(&self) -> bool {
        let current: Option<SpeakerHandle> = self.slot.get().ok();
        !current.is_some_and(|current| self.speaker.is(&current))
    }
}

/// None once nobody takes events any more.
async fn send(events: &mpsc::Sender<Result<Event, Status>>, at: SystemTime, what: What) -> Option<()> {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let event = Event {
        time_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        what: Some(what),
    };
    events.send(Ok(event)).await.ok()
}

async fn send_routes(events: &mpsc::Sender<Result<Event, Status>>, changes: Vec<RouteChange>) -> Option<()> {
    for change in changes {
        let best = change.best.as_ref();
        let what = What::Route(RouteEvent {
            prefix: change.prefix.to_string(),
            best: best.map(|best| convert::attributes(&change.prefix, best)),
        });
        send(events, change.at, what).await?;
    }
    Some(())
}
