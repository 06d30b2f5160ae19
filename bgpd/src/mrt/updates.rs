//! Files with what is received: BGP4MP_ET records (RFC 6396 section 4.4).

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use super::attributes;
use super::files::{Unfinished, file_name};
use super::record::{Ends, MessageRecord, Record, StateChange};
use crate::bmp::{since_epoch, subscription_number};
use crate::config::MrtUpdates;
use crate::monitor::synthesis;
use crate::monitor::{self, Event, Interest, MonitoredPeer, Observed, Request, RibAccess, View};

/// Octets gathered for one write.
const WRITE_BYTES: usize = 64 * 1024;
/// How long octets wait for others.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// States as RFC 6396 section 4.4.1 numbers them.
const IDLE: u16 = 1;
const OPEN_CONFIRM: u16 = 5;
const ESTABLISHED: u16 = 6;

/// How the writing of updates fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdatesStatus {
    /// Files that were finished.
    pub files: u64,
    /// Octets written.
    pub bytes: u64,
    /// Gaps: how often the disk was too slow, so that records are missing. The file has a record of each.
    pub gaps: u64,
    /// Why something could not be written, the last time.
    pub last_error: Option<String>,
}

/// What is written for an event. Of sessions, it is told when they enter Established and leave it.
fn records(observed: &Observed, out: &mut Vec<u8>) {
    let at = since_epoch(observed.at);
    let change = |peer: &MonitoredPeer, old, new| {
        Record::StateChange(StateChange {
            ends: ends(peer),
            old,
            new,
        })
    };
    match &observed.event {
        Event::PeerUp(peer) => change(peer, OPEN_CONFIRM, ESTABLISHED).encode(at, out),
        Event::PeerDown(peer, _) => change(peer, ESTABLISHED, IDLE).encode(at, out),
        Event::Messages(View::Received, peer, messages) => {
            update_records(peer, messages, peer.codec.four_octet_as, at, out);
        }
        Event::Routes(View::Received, Some(peer), routes) => {
            let mut messages = Vec::new();
            synthesis::updates(routes, peer.add_path(View::Received), &mut messages);
            update_records(peer, &messages, true, at, out);
        }
        _ => {}
    }
}

fn update_records(
    peer: &MonitoredPeer,
    messages: &[u8],
    four_octet_as: bool,
    at: Duration,
    out: &mut Vec<u8>,
) {
    let add_path = peer.add_path(View::Received);
    for message in synthesis::messages(messages) {
        let record = Record::Message(MessageRecord {
            ends: ends(peer),
            four_octet_as,
            sent: false,
            add_path: attributes::family_of(message).is_some_and(|family| add_path.contains(family)),
            message: message.to_vec(),
        });
        record.encode(at, out);
    }
}

fn ends(peer: &MonitoredPeer) -> Ends {
    Ends {
        peer_as: peer.remote_as,
        local_as: peer.local_as,
        interface: 0,
        peer: peer.remote.ip().to_canonical(),
        local: peer.local.ip().to_canonical(),
    }
}

/// MRT has no record for it: a change of an unnamed peer's state from Idle to Idle says that records are
/// missing at this point.
fn gap(local_as: u32, at: SystemTime, out: &mut Vec<u8>) {
    let nobody = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let ends = Ends {
        peer_as: 0,
        local_as,
        interface: 0,
        peer: nobody,
        local: nobody,
    };
    Record::StateChange(StateChange {
        ends,
        old: IDLE,
        new: IDLE,
    })
    .encode(since_epoch(at), out);
}

/// What writes files of updates.
pub(crate) struct UpdateWriter {
    pub(crate) settings: MrtUpdates,
    pub(crate) local_as: u32,
    pub(crate) rib: Arc<dyn RibAccess>,
    pub(crate) cancel: CancellationToken,
    pub(crate) status: Arc<Mutex<UpdatesStatus>>,
}

impl UpdateWriter {
    /// Runs until it is cancelled; then the file at hand is finished.
    pub(crate) async fn run(self) {
        let mut file = None;
        let mut first = true;
        let mut out = Vec::new();
        while !self.cancel.is_cancelled() {
            let id = subscription_number();
            let (subscriber, mut subscription) = monitor::queue(Interest {
                received: true,
                ..Interest::default()
            });
            self.rib.monitor(Request::Subscribe(id, subscriber));
            if !std::mem::take(&mut first) {
                gap(self.local_as, SystemTime::now(), &mut out);
                self.note(|status| status.gaps += 1);
                tracing::warn!("MRT updates: the disk is too slow, records are missing");
            }
            self.follow(&mut subscription, &mut file, &mut out).await;
            self.rib.monitor(Request::Unsubscribe(id));
        }
        if let Some((_, file)) = file {
            self.finish(file, &mut out);
        }
    }

    /// Writes what is shown, until the end of the subscription or of everything.
    async fn follow(
        &self,
        subscription: &mut monitor::Subscription,
        file: &mut Option<(u64, Unfinished)>,
        out: &mut Vec<u8>,
    ) {
        loop {
            self.rotate(file, out);
            let observed = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                observed = subscription.next() => observed,
                () = tokio::time::sleep(FLUSH_INTERVAL) => {
                    self.write(file, out);
                    continue;
                }
            };
            let Some(observed) = observed else {
                // Cut off; or the speaker stops, and then we are told.
                tokio::select! {
                    () = self.cancel.cancelled() => {}
                    () = tokio::time::sleep(FLUSH_INTERVAL) => {}
                }
                return;
            };
            records(&observed, out);
            while out.len() < WRITE_BYTES {
                let Some(observed) = subscription.try_next() else {
                    break;
                };
                records(&observed, out);
            }
            if out.len() >= WRITE_BYTES {
                self.write(file, out);
            }
        }
    }

    fn note(&self, change: impl FnOnce(&mut UpdatesStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn failed(&self, error: &io::Error) {
        let path = self.settings.path.display();
        tracing::error!(%path, %error, "MRT updates cannot be written");
        self.note(|status| status.last_error = Some(error.to_string()));
    }

    /// Goes on with the next file when it is time: at multiples of the interval since the epoch.
    fn rotate(&self, file: &mut Option<(u64, Unfinished)>, out: &mut Vec<u8>) {
        let now = since_epoch(SystemTime::now());
        let period = now.as_secs() / u64::from(self.settings.rotate_s.max(1));
        if file.as_ref().is_some_and(|(of, _)| *of == period) {
            return;
        }
        if let Some((_, old)) = file.take() {
            self.finish(old, out);
        }
        let name = file_name(&self.settings.path, now).map_err(io::Error::other);
        match name.and_then(Unfinished::create) {
            Ok(new) => *file = Some((period, new)),
            Err(error) => {
                self.failed(&error);
                // Without a file there is nothing to keep records for.
                out.clear();
            }
        }
    }

    fn write(&self, file: &mut Option<(u64, Unfinished)>, out: &mut Vec<u8>) {
        if let Some((_, file)) = file {
            let written = file.write(out).and_then(|()| file.flush());
            match written {
                Ok(()) => self.note(|status| status.bytes += out.len() as u64),
                Err(error) => self.failed(&error),
            }
        }
        out.clear();
    }

    fn finish(&self, mut file: Unfinished, out: &mut Vec<u8>) {
        let written = file.write(out);
        let length = out.len() as u64;
        out.clear();
        match written.and_then(|()| file.finish()) {
            Ok(path) => {
                self.note(|status| {
                    status.files += 1;
                    status.bytes += length;
                });
                tracing::debug!(path = %path.display(), "MRT updates: file finished");
            }
            Err(error) => self.failed(&error),
        }
    }
}
