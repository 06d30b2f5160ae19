//! The connection to one station: a task that connects, shows the tables, and then what happens.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

use super::exporter::{Exporter, PeerNumbers, back_off, interest};
use super::message::termination;
use crate::config::{BmpStation, NeighborKey};
use crate::monitor::{self, Event, MonitoredPeer, Observed, Part, Request, RibAccess, Subscription};
use crate::wire::Family;

/// How long an attempt to connect may take.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// A station that takes nothing in for this long is given up.
const WRITE_TIME: Duration = Duration::from_secs(60);
/// How long the last message may take.
const LAST_WRITE_TIME: Duration = Duration::from_secs(1);
/// Octets gathered for one write.
const WRITE_BYTES: usize = 64 * 1024;
/// A connection that held this long was no failure.
const STABLE_TIME: Duration = Duration::from_secs(60);

/// Numbers for subscriptions.
static SUBSCRIPTIONS: AtomicU64 = AtomicU64::new(1);

/// A number that no other subscription has.
pub(crate) fn subscription_number() -> u64 {
    SUBSCRIPTIONS.fetch_add(1, Ordering::Relaxed)
}

/// How a station fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StationStatus {
    /// Whether it is connected.
    pub connected: bool,
    /// How often it was connected.
    pub connections: u64,
    /// How often it was too slow for its queue, so that it was connected again and shown everything.
    pub resyncs: u64,
    /// Octets sent.
    pub bytes_sent: u64,
    /// Why the last connection, or attempt at one, ended.
    pub last_error: Option<String>,
}

/// A station's task from outside.
#[derive(Debug)]
pub(crate) struct StationHandle {
    cancel: CancellationToken,
    task: JoinHandle<()>,
    status: Arc<Mutex<StationStatus>>,
}

impl StationHandle {
    /// Starts a station's task.
    pub(crate) fn start(
        station: BmpStation,
        local_as: u32,
        router_id: Ipv4Addr,
        rib: Arc<dyn RibAccess>,
    ) -> Self {
        let cancel = CancellationToken::new();
        let status = Arc::new(Mutex::new(StationStatus::default()));
        let task = StationTask {
            exporter: Exporter::new(local_as, router_id, interest(&station)),
            station,
            rib,
            cancel: cancel.clone(),
            status: Arc::clone(&status),
        };
        Self {
            cancel,
            task: tokio::spawn(task.run()),
            status,
        }
    }

    /// How it fares.
    pub(crate) fn status(&self) -> StationStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says Termination and ends. Wait for the result to be sure of it.
    pub(crate) fn stop(self) -> JoinHandle<()> {
        self.cancel.cancel();
        self.task
    }
}

struct StationTask {
    station: BmpStation,
    exporter: Exporter,
    rib: Arc<dyn RibAccess>,
    cancel: CancellationToken,
    status: Arc<Mutex<StationStatus>>,
}

/// How a connection ended.
enum End {
    Stopped,
    /// The queue was full, or the speaker is stopping.
    CutOff,
    Lost(String),
}

impl From<std::io::Error> for End {
    fn from(error: std::io::Error) -> Self {
        Self::Lost(error.to_string())
    }
}

impl StationTask {
    async fn run(self) {
        let mut failures = 0;
        loop {
            let started = Instant::now();
            let end = tokio::select! {
                () = self.cancel.cancelled() => return,
                connected = timeout(CONNECT_TIME, TcpStream::connect(self.station.address)) => match connected {
                    Ok(Ok(stream)) => {
                        self.note(|status| {
                            status.connected = true;
                            status.connections += 1;
                        });
                        tracing::info!(station = %self.station.address, "BMP station connected");
                        self.serve(stream).await
                    }
                    Ok(Err(error)) => error.into(),
                    Err(_) => End::Lost("no answer".to_owned()),
                },
            };
            let reason = match end {
                End::Stopped => return,
                End::CutOff => {
                    self.note(|status| status.resyncs += 1);
                    "it was too slow; it is connected again and shown everything".to_owned()
                }
                End::Lost(reason) => reason,
            };
            failures = if started.elapsed() >= STABLE_TIME {
                0
            } else {
                failures + 1
            };
            tracing::warn!(station = %self.station.address, reason, "BMP station not connected");
            self.note(|status| {
                status.connected = false;
                status.last_error = Some(reason);
            });
            tokio::select! {
                () = self.cancel.cancelled() => return,
                () = tokio::time::sleep(back_off(failures)) => {}
            }
        }
    }

    fn note(&self, change: impl FnOnce(&mut StationStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    async fn serve(&self, stream: TcpStream) -> End {
        let id = subscription_number();
        let (subscriber, subscription) = monitor::queue(interest(&self.station));
        self.rib.monitor(Request::Subscribe(id, subscriber));
        let mut session = Session {
            task: self,
            id,
            stream,
            subscription,
            parts: VecDeque::new(),
            peers: HashMap::new(),
        };
        let end = session.run().await;
        self.rib.monitor(Request::Unsubscribe(id));
        let reason = match end {
            End::Stopped => termination::REASON_ADMINISTRATIVE,
            End::CutOff => termination::REASON_OUT_OF_RESOURCES,
            End::Lost(_) => return end,
        };
        let mut last = Vec::new();
        Exporter::termination(reason, &mut last);
        // A station that takes nothing in learns of it by the connection's end.
        let _ = timeout(LAST_WRITE_TIME, session.stream.write_all(&last)).await;
        let _ = timeout(LAST_WRITE_TIME, session.stream.shutdown()).await;
        end
    }
}

/// One connection.
struct Session<'a> {
    task: &'a StationTask,
    id: u64,
    stream: TcpStream,
    subscription: Subscription,
    /// What is still to be shown of the tables.
    parts: VecDeque<Part>,
    /// The sessions that the station knows of.
    peers: HashMap<NeighborKey, Arc<MonitoredPeer>>,
}

impl Session<'_> {
    async fn run(&mut self) -> End {
        let mut out = Vec::new();
        let name = nix::unistd::gethostname().unwrap_or_default();
        self.task.exporter.initiation(&name.to_string_lossy(), &mut out);
        let interval = Duration::from_secs(self.task.station.stats_interval_s.max(1).into());
        let mut statistics = tokio::time::interval_at(Instant::now() + interval, interval);
        statistics.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unexpected = [0; 64];
        loop {
            if let Err(end) = self.write(&mut out).await {
                return end;
            }
            tokio::select! {
                biased;
                () = self.task.cancel.cancelled() => return End::Stopped,
                // A station says nothing (RFC 7854 section 3.2); what it says all the same is passed over.
                read = self.stream.read(&mut unexpected) => match read {
                    Ok(0) => return End::Lost("closed by the station".to_owned()),
                    Ok(_) => {}
                    Err(error) => return error.into(),
                },
                observed = self.subscription.next() => match observed {
                    Some(observed) => {
                        self.event(&observed, &mut out).await;
                        while out.len() < WRITE_BYTES {
                            let Some(observed) = self.subscription.try_next() else { break };
                            self.event(&observed, &mut out).await;
                        }
                    }
                    None => return End::CutOff,
                },
                _ = statistics.tick(), if self.task.station.stats_interval_s > 0 => {
                    self.statistics(&mut out).await;
                }
            }
        }
    }

    async fn write(&mut self, out: &mut Vec<u8>) -> Result<(), End> {
        if out.is_empty() {
            return Ok(());
        }
        let written = tokio::select! {
            () = self.task.cancel.cancelled() => return Err(End::Stopped),
            written = timeout(WRITE_TIME, self.stream.write_all(out)) => written,
        };
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(End::Lost("it takes nothing in".to_owned())),
        }
        self.task.note(|status| status.bytes_sent += out.len() as u64);
        out.clear();
        Ok(())
    }

    async fn event(&mut self, observed: &Observed, out: &mut Vec<u8>) {
        self.task.exporter.event(observed, out);
        match &observed.event {
            Event::Subscribed(peers) => {
                self.peers = peers.iter().map(|peer| (peer.key, Arc::clone(peer))).collect();
                self.plan();
                self.show_next();
            }
            Event::PeerUp(peer) => {
                self.peers.insert(peer.key, Arc::clone(peer));
            }
            Event::PeerDown(peer, _) => {
                self.peers.remove(&peer.key);
            }
            Event::Shown(rest) => {
                if let Some(rest) = rest {
                    self.parts.push_front(rest.clone());
                }
                self.show_next();
            }
            Event::Messages(..) | Event::Routes(..) | Event::EndOfRib(..) | Event::Mirror(_) => {}
        }
    }

    /// What there is to show: the tables as they are now; what changes from now on is told by itself.
    fn plan(&mut self) {
        let interest = interest(&self.task.station);
        for family in Family::ALL {
            if interest.received || interest.accepted || interest.selected {
                self.parts.push_back(Part::Routes(family, 0));
            }
            if interest.advertised {
                self.parts
                    .extend(self.peers.keys().map(|key| Part::Advertised(*key, family, 0)));
            }
            self.parts.push_back(Part::End(family));
        }
    }

    fn show_next(&mut self) {
        if let Some(part) = self.parts.pop_front() {
            self.task.rib.monitor(Request::Show(self.id, part));
        }
    }

    async fn statistics(&self, out: &mut Vec<u8>) {
        let now = SystemTime::now();
        let counted = monitor::count(&*self.task.rib).await.unwrap_or_default();
        for (key, peer) in &self.peers {
            let numbers = counted.get(key).copied().unwrap_or_default();
            Exporter::statistics(peer, &PeerNumbers(numbers), now, out);
        }
        let selected = monitor::ask(&*self.task.rib, |rib| {
            Family::ALL.map(|family| rib.selected_count(family))
        });
        if let Some(selected) = selected.await {
            self.task.exporter.loc_rib_statistics(selected, now, out);
        }
    }
}
