//! The owner of the RIB: one thread, so that neither sessions nor the kernel ever wait for it, nor
//! it for them.
//!
//! UPDATEs come through a bounded queue, which slows the readers down when the RIB is behind.
//! Everything else comes through a queue of its own that is always looked at first; its senders
//! are few, and each message in it stands for a change of a session or of the configuration.

mod dampening;
mod peers;
mod refresh;
mod transmit;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::connection::FromConnection;
use super::established::{Established, peer_settings};
use super::kernel::Kernel;
use super::limits::Limits;
use super::refresh::Refreshes;
use super::restart::Deferral;
use super::rib_queue::{RibControl, RibSender, SessionId, Updates};
use super::staging::Staging;
use super::write_queue::PeerOut;
use crate::config::{Aggregate, Config, Neighbor, NeighborKey, Network};
use crate::fib::Fib;
use crate::monitor::{Monitors, Touched, Wanted};
use crate::rib::{PeerId, ReceivedUpdate, Rib, RibSettings};
use crate::session::{Event, Timestamp};
use crate::wire::{Codec, Family, FamilySet, Prefix};

/// Batches of UPDATEs that wait for the RIB.
const UPDATE_QUEUE_BATCHES: usize = 32;
/// Batches taken in before what follows from them is sent: what changes twice is sent once.
const BATCHES_PER_TURN: usize = 32;
/// With so many prefixes taken in, no more batches are.
const PREFIXES_PER_TURN: usize = 16_384;
/// Prefixes that the RIB is told to expect together, or what one UPDATE has if that is more.
const EXPECTED_PREFIXES: usize = 512;
/// How long selection after a restart waits for next hops to be resolved.
const RESOLVE_TIME_MAX: Duration = Duration::from_secs(5);

/// An established session as the RIB's owner sees it.
struct Peer {
    session: SessionId,
    id: PeerId,
    codec: Codec,
    out: PeerOut,
    /// None for a peer whose routes come from a file.
    up: Option<Established>,
    limits: Limits,
}

impl Peer {
    /// Tells the session what its routes lead to.
    fn tell(&self, event: Event) {
        if let Some(up) = &self.up {
            // A session that has just ended does not listen any more.
            let _ = up.events.send(FromConnection::Event(event));
        }
    }

    /// Has the session ended when its neighbour is past a limit of its routes.
    fn check_limits(&mut self, rib: &Rib, key: NeighborKey) {
        let events = self
            .limits
            .check(key, |family| rib.received_count(self.id, family));
        for event in events {
            self.tell(event);
        }
    }
}

/// The thread's state.
pub(super) struct RibTask {
    rib: Rib,
    /// Without the neighbours.
    config: Config,
    neighbors: HashMap<NeighborKey, Neighbor>,
    networks: HashMap<Prefix, Network>,
    peers: HashMap<NeighborKey, Peer>,
    by_id: HashMap<PeerId, NeighborKey>,
    kernel: Kernel,
    staging: Staging,
    monitors: Monitors,
    deferral: Deferral,
    refreshes: Refreshes,
    /// Families whose neighbours have all sent their routes, and how long their next hops may take.
    converging: FamilySet,
    converging_until: Option<Instant>,
    /// Whether selection waits for the deferral.
    restarting: bool,
    complete: watch::Sender<bool>,
    epoch: Instant,
    control: mpsc::UnboundedReceiver<RibControl>,
    updates: mpsc::Receiver<Updates>,
}

/// What the thread is started with.
pub(super) struct RibStart {
    pub(super) config: Config,
    pub(super) fib: Option<Arc<Fib>>,
    pub(super) restarting: bool,
    /// Set to true when our restart is complete.
    pub(super) complete: watch::Sender<bool>,
    pub(super) epoch: Instant,
}

/// Starts the thread.
pub(super) fn spawn(start: RibStart) -> std::io::Result<(RibSender, std::thread::JoinHandle<()>)> {
    let (control, control_queue) = mpsc::unbounded_channel();
    let (updates, update_queue) = mpsc::channel(UPDATE_QUEUE_BATCHES);
    let wanted = Wanted::default();
    let monitors = Monitors::new(wanted.clone());
    let task = RibTask::new(start, control_queue, update_queue, monitors);
    let run = move || {
        // The runtime begins and ends here, because its end blocks, which async callers must not.
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(task.run()),
            Err(error) => tracing::error!(%error, "no runtime for the RIB: the speaker stops"),
        }
    };
    let thread = std::thread::Builder::new()
        .name("bgp-rib".to_owned())
        .spawn(run)?;
    let sender = RibSender {
        control,
        updates,
        wanted,
    };
    Ok((sender, thread))
}

impl RibTask {
    fn new(
        start: RibStart,
        control: mpsc::UnboundedReceiver<RibControl>,
        updates: mpsc::Receiver<Updates>,
        monitors: Monitors,
    ) -> Self {
        let RibStart {
            mut config,
            fib,
            restarting,
            complete,
            epoch,
        } = start;
        let mut settings = RibSettings::new(config.local_as, config.router_id);
        settings.selection = config.selection.clone();
        settings.assume_reachable = fib.is_none();
        let mut rib = Rib::new(settings);
        if restarting {
            rib.defer_selection(Family::ALL.into_iter().collect());
        }
        let neighbors = config
            .neighbors
            .iter()
            .map(|neighbor| (neighbor.key(), neighbor.families));
        let until = Timestamp(epoch.elapsed()) + config.restart_time;
        let mut task = Self {
            kernel: Kernel::new(fib),
            staging: Staging::default(),
            monitors,
            deferral: Deferral::new(neighbors, until),
            refreshes: Refreshes::default(),
            converging: FamilySet::EMPTY,
            converging_until: None,
            rib,
            networks: HashMap::new(),
            peers: HashMap::new(),
            by_id: HashMap::new(),
            restarting,
            complete,
            epoch,
            control,
            updates,
            neighbors: by_key(std::mem::take(&mut config.neighbors)),
            config,
        };
        let networks = std::mem::take(&mut task.config.networks);
        task.set_networks(&networks);
        task.rib.set_aggregates(&task.config.aggregates);
        task.kernel.set_normal_metrics(task.config.normal_metrics);
        task
    }

    async fn run(mut self) {
        loop {
            self.kernel.program(&mut self.rib, &mut self.monitors);
            self.check_deferral();
            self.expire_refreshes();
            self.advance();
            self.transmit();
            let timers = [
                self.deferral.deadline(),
                self.refreshes.deadline(),
                self.rib.dampening_deadline(),
            ];
            let timers = timers.into_iter().flatten().map(|at| self.epoch + at.0);
            let deadline = timers.chain(self.converging_until).min();
            tokio::select! {
                biased;
                control = self.control.recv() => match control {
                    Some(control) => if self.control(control).is_break() { return },
                    None => return,
                },
                // Before UPDATEs: paths count only once their next hops are known to be reachable, and a neighbor that
                // sends without pause would keep all of them out of the kernel.
                changes = self.kernel.next_hop_changes() => self.kernel.resolved(changes, &mut self.rib),
                Some(updates) = self.updates.recv() => {
                    if self.batches(updates).is_break() {
                        return;
                    }
                }
                () = self.kernel.room() => {}
                () = sleep_until(deadline) => {}
            }
        }
    }

    /// Takes in what waits, up to a limit. What was said before an UPDATE was sent is heard first.
    fn batches(&mut self, first: Updates) -> std::ops::ControlFlow<()> {
        let mut next = Some(first);
        let mut prefixes = 0;
        for _ in 0..BATCHES_PER_TURN {
            let Some(updates) = next.or_else(|| self.updates.try_recv().ok()) else {
                break;
            };
            while let Ok(control) = self.control.try_recv() {
                self.control(control)?;
            }
            prefixes += updates
                .batch
                .iter()
                .map(ReceivedUpdate::prefix_count)
                .sum::<usize>();
            self.update(updates);
            if prefixes >= PREFIXES_PER_TURN {
                break;
            }
            next = None;
        }
        std::ops::ControlFlow::Continue(())
    }

    fn control(&mut self, control: RibControl) -> std::ops::ControlFlow<()> {
        self.advance();
        match control {
            RibControl::Configure(config) => self.configure(*config),
            RibControl::Neighbor(neighbor) => {
                self.neighbors.insert(neighbor.key(), *neighbor);
            }
            RibControl::Forget(key) => {
                self.neighbors.remove(&key);
            }
            RibControl::Networks(networks) => self.set_networks(&networks),
            RibControl::PeerUp(up) => self.peer_up(*up),
            RibControl::PeerDown {
                key,
                session,
                retain,
                reason,
            } => self.peer_down(key, session, retain, reason),
            RibControl::Refresh { key, session, asked } => {
                let families = asked.take();
                if let Some(peer) = self.peers.get(&key).filter(|peer| peer.session == session) {
                    families
                        .iter()
                        .for_each(|family| self.rib.refresh(peer.id, family));
                }
            }
            RibControl::SendAgain { key } => self.send_again(key),
            RibControl::SourceUp { session, settings } => self.source_up(session, *settings),
            RibControl::LongLivedStale { key, families } => {
                if let Some(id) = self.rib.peer(key) {
                    families
                        .iter()
                        .for_each(|family| self.rib.keep_long_lived(id, family));
                }
            }
            RibControl::Sweep { key, families } => {
                if let Some(id) = self.rib.peer(key) {
                    families
                        .iter()
                        .for_each(|family| self.rib.sweep_stale(id, family));
                }
            }
            RibControl::Room { key } => self.room(key),
            RibControl::MirrorLast {
                key,
                session,
                mirrored,
            } => {
                if self.peers.get(&key).is_some_and(|peer| peer.session == session) {
                    self.monitors.mirrored(key, mirrored);
                }
            }
            RibControl::ClearDampening {
                neighbor,
                prefix,
                answer,
            } => {
                let count = self.clear_dampening(neighbor, prefix);
                // Whoever asked may be gone.
                let _ = answer.send(count);
            }
            RibControl::Query(query) => query(&self.rib),
            RibControl::Monitor(request) => self.monitors.request(request, &self.rib),
            RibControl::Stop => return std::ops::ControlFlow::Break(()),
        }
        std::ops::ControlFlow::Continue(())
    }

    fn configure(&mut self, mut config: Config) {
        let aggregates_differ = self.config.aggregates != config.aggregates;
        if aggregates_differ {
            // A prefix may turn from an aggregate into a network: it is taken away before it is announced.
            let stays = |aggregate: &&Aggregate| config.aggregates.contains(aggregate);
            let kept: Vec<Aggregate> = self.config.aggregates.iter().filter(stays).cloned().collect();
            self.rib.set_aggregates(&kept);
        }
        self.set_networks(&std::mem::take(&mut config.networks));
        if aggregates_differ {
            self.rib.set_aggregates(&config.aggregates);
        }
        self.rib.set_selection(&config.selection);
        self.kernel.set_normal_metrics(config.normal_metrics);
        let neighbors = by_key(std::mem::take(&mut config.neighbors));
        let before = std::mem::replace(&mut self.neighbors, neighbors);
        self.config = config;
        for key in before.keys().filter(|key| !self.neighbors.contains_key(*key)) {
            self.deferral.remove(*key);
        }
        for (key, neighbor) in &self.neighbors {
            let Some(peer) = self.peers.get_mut(key) else {
                continue;
            };
            let Some(up) = &peer.up else { continue };
            let settings = peer_settings(neighbor, &self.config, up);
            peer.limits = Limits::of(neighbor);
            self.rib.reconfigure(peer.id, settings);
            peer.check_limits(&self.rib, *key);
            let differs =
                |old: &Neighbor| (&old.import, &old.routing) != (&neighbor.import, &neighbor.routing);
            if self.monitors.wants_updates() && before.get(key).is_some_and(differs) {
                self.monitors.judged_again(*key, peer.id, &self.rib);
            }
        }
        self.check_total();
    }

    fn set_networks(&mut self, networks: &[Network]) {
        let wanted: HashMap<Prefix, Network> = networks
            .iter()
            .map(|network| (network.prefix, network.clone()))
            .collect();
        for prefix in self
            .networks
            .keys()
            .filter(|prefix| !wanted.contains_key(*prefix))
        {
            self.rib.retract(*prefix);
        }
        for network in wanted.values() {
            if self.networks.get(&network.prefix) != Some(network) {
                self.rib.originate(network);
            }
        }
        self.networks = wanted;
    }

    fn update(&mut self, updates: Updates) {
        let Updates {
            key,
            session,
            batch,
            raw,
            mirrored,
            refresh,
        } = updates;
        self.advance();
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| peer.session == session) else {
            if mirrored.is_some() {
                self.monitors.mirror_lost(key);
            }
            return;
        };
        if let Some(mirrored) = mirrored {
            self.monitors.mirrored(key, mirrored);
        }
        let id = peer.id;
        let touched = self.monitors.wants_updates().then(|| Touched::by(&batch));
        let mut batch = batch.into_iter();
        while let Some(part) = batch
            .as_slice()
            .get(..ahead(batch.as_slice()))
            .filter(|part| !part.is_empty())
        {
            self.rib.expect(part);
            let part = part.len();
            for update in batch.by_ref().take(part) {
                if peer.limits.are_passed() {
                    return;
                }
                self.rib.withdraw_paths(peer.id, update.withdrawn.routes());
                for (attributes, routes) in update.announced {
                    self.rib.update_paths(peer.id, attributes, routes.routes());
                }
                if let Some(family) = update.end_of_rib {
                    self.rib.end_of_rib(peer.id, family);
                    self.deferral.end_of_rib(key, family);
                }
                peer.check_limits(&self.rib, key);
            }
        }
        self.check_total();
        if let Some(touched) = touched {
            self.monitors.updates((key, id), raw, &touched, &self.rib);
        }
        if let Some(refresh) = refresh {
            self.refreshed(key, id, refresh);
        }
    }

    /// Goes on with families whose neighbours have all sent their routes. What was learned is only
    /// selected once its next hops are known, or it would look as if there were no routes.
    fn check_deferral(&mut self) {
        let complete = self.deferral.complete(Timestamp(self.epoch.elapsed()));
        if !complete.is_empty() {
            self.converging.extend(complete.iter());
            self.converging_until = Some(Instant::now() + RESOLVE_TIME_MAX);
        }
        let over = self.converging_until.is_some_and(|until| until <= Instant::now());
        if self.converging.is_empty() || !(self.kernel.is_resolved() || over) {
            return;
        }
        for family in std::mem::take(&mut self.converging).iter() {
            if self.restarting {
                tracing::info!(%family, "restart: the neighbors have sent their routes, selection begins");
                self.rib.finish_deferral(family);
            }
            self.kernel.sweep(family);
        }
        self.kernel.program(&mut self.rib, &mut self.monitors);
        self.converging_until = None;
        if self.deferral.pending().is_empty() {
            // Nobody listens when the speaker is stopping.
            let _ = self.complete.send(true);
        }
    }
}

fn by_key(neighbors: Vec<Neighbor>) -> HashMap<NeighborKey, Neighbor> {
    let keyed = neighbors.into_iter().map(|neighbor| (neighbor.key(), neighbor));
    keyed.collect()
}

/// How many of the UPDATEs in front make up [`EXPECTED_PREFIXES`].
fn ahead(updates: &[ReceivedUpdate]) -> usize {
    let mut prefixes = 0;
    let fits = |update: &&ReceivedUpdate| {
        let fits = prefixes < EXPECTED_PREFIXES;
        prefixes += update.prefix_count();
        fits
    };
    updates.iter().take_while(fits).count()
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
