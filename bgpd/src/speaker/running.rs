//! What there is while the speaker runs, and how it follows the configuration.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::PoisonError;

use ipnet::IpNet;
use tokio::sync::mpsc;

use super::bfd::BfdPlan;
use super::dynamic::{Dynamic, Stranger};
use super::listener::{Directory, Expected, Listener, Origin};
use super::monitoring::Monitoring;
use super::neighbor::{Command, NeighborHandle, NeighborSettings, NeighborTask, Shared};
use super::rib_queue::RibControl;
use super::socket::SocketSettings;
use super::{PeerStatus, SpeakerError, StartOptions};
use crate::config::{Config, ConfigDiff, DynamicNeighbors, Neighbor, NeighborChange, NeighborKey, TcpAoKey};
use crate::session::{Settings, StopReason};

/// What there is while the speaker runs.
pub(super) struct Running {
    /// What is in force.
    pub(super) config: Config,
    /// The same as it was given, without what draining adds.
    pub(super) given: Config,
    draining: bool,
    options: StartOptions,
    neighbors: HashMap<NeighborKey, NeighborHandle>,
    /// By the address asked for.
    pub(super) listeners: HashMap<SocketAddr, Listener>,
    directory: Directory,
    dynamic: Dynamic,
    /// Neighbours whose TCP-AO keys the kernel did not take: nobody may connect from there.
    unprotected: HashSet<IpNet>,
    shared: Shared,
    pub(super) monitoring: Monitoring,
}

impl Running {
    /// Nothing yet: what stays as it is of `config`, without neighbours and listeners.
    pub(super) fn new(
        config: &Config,
        options: StartOptions,
        shared: Shared,
        strangers: mpsc::Sender<Stranger>,
    ) -> Self {
        let config = Config {
            neighbors: Vec::new(),
            listen: Vec::new(),
            ..config.clone()
        };
        Self {
            given: config.clone(),
            config,
            draining: false,
            options,
            neighbors: HashMap::new(),
            listeners: HashMap::new(),
            directory: Directory::new(strangers),
            dynamic: Dynamic::default(),
            unprotected: HashSet::new(),
            monitoring: Monitoring::new(shared.rib.clone()),
            shared,
        }
    }

    /// Goes over to another configuration. If a listener cannot be opened, nothing has changed.
    pub(super) fn apply(&mut self, config: Config) -> Result<ConfigDiff, SpeakerError> {
        let given = config.clone();
        let dynamic = self.dynamic.under(&config);
        let mut config = config.with_dynamic(dynamic.keys());
        if self.draining {
            config.neighbors.iter_mut().for_each(drain);
        }
        let diff = ConfigDiff::between(&self.config, &config);
        diff.log();
        let mut opened = Vec::new();
        for address in &diff.listen_added {
            let listener =
                Listener::start(*address, self.directory.clone()).map_err(|source| SpeakerError::Listen {
                    address: *address,
                    source,
                })?;
            opened.push((*address, listener));
        }
        self.listeners.extend(opened);
        self.listeners
            .retain(|address, _| !diff.listen_removed.contains(address));
        self.set_keys(&config)?;
        self.set_ao_keys(&config);
        self.dynamic = dynamic;
        for key in &diff.removed {
            self.stop_neighbor(*key, StopReason::Deconfigured);
        }
        // What waits for a restart keeps its old value until then.
        for (kept, new) in [(&mut self.given, given), (&mut self.config, config)] {
            *kept = Config {
                fib: kept.fib,
                api: kept.api.clone(),
                record: kept.record.clone(),
                ..new
            };
        }
        self.shared
            .rib
            .control(RibControl::Configure(Box::new(self.config.clone())));
        self.monitoring.apply(&self.config);
        let changes: HashMap<NeighborKey, NeighborChange> = diff
            .changed
            .iter()
            .map(|changed| (changed.key, changed.change))
            .collect();
        let added: HashSet<NeighborKey> = diff.added.iter().copied().collect();
        for neighbor in &self.config.neighbors {
            let key = neighbor.key();
            if let (Some(change), Some(handle)) = (changes.get(&key), self.neighbors.get(&key)) {
                let settings = self.neighbor_settings(neighbor, *change);
                // The task ends before its neighbour does only when the speaker stops.
                let _ = handle.commands.send(Command::Configure(Box::new(settings)));
            } else if added.contains(&key) {
                self.neighbors.insert(key, self.start_neighbor(neighbor));
            }
        }
        for neighbor in self
            .config
            .neighbors
            .iter()
            .filter(|neighbor| !added.contains(&neighbor.key()))
        {
            if let Some(handle) = self.neighbors.get(&neighbor.key()) {
                let plan = BfdPlan::new(neighbor, &self.config);
                let _ = handle.commands.send(Command::Bfd(plan));
            }
        }
        self.publish_directory();
        Ok(diff)
    }

    fn set_keys(&self, config: &Config) -> Result<(), SpeakerError> {
        let wanted: HashMap<IpNet, &str> = passwords(config).collect();
        let gone = passwords(&self.config).filter(|(neighbors, _)| !wanted.contains_key(neighbors));
        for listener in self.listeners.values() {
            for (neighbors, _) in gone.clone() {
                // The listener may be newer than the key.
                let _ = listener.set_key(neighbors, None);
            }
            for (neighbors, password) in &wanted {
                listener
                    .set_key(*neighbors, Some(password))
                    .map_err(|source| SpeakerError::Password {
                        neighbors: *neighbors,
                        source,
                    })?;
            }
        }
        Ok(())
    }

    /// Where the kernel does not take a key, the session is not started without it: see `unprotected`, and dialling fails
    /// likewise.
    fn set_ao_keys(&mut self, config: &Config) {
        let (before, wanted): (HashMap<_, _>, HashMap<_, _>) =
            (ao_keys(&self.config).collect(), ao_keys(config).collect());
        self.unprotected.clear();
        for listener in self.listeners.values() {
            for (neighbors, keys) in before
                .iter()
                .filter(|(neighbors, _)| !wanted.contains_key(*neighbors))
            {
                // The listener may be newer than the key.
                let _ = listener.set_ao_keys(*neighbors, keys, &[]);
            }
            for (neighbors, keys) in &wanted {
                let old = before.get(neighbors).copied().unwrap_or_default();
                if let Err(error) = listener.set_ao_keys(*neighbors, old, keys)
                    && self.unprotected.insert(*neighbors)
                {
                    tracing::error!(%neighbors, %error, "no session with this neighbor");
                }
            }
        }
    }

    fn start_neighbor(&self, neighbor: &Neighbor) -> NeighborHandle {
        let settings = self.neighbor_settings(neighbor, NeighborChange::None);
        let bfd = BfdPlan::new(neighbor, &self.config);
        NeighborTask::spawn(neighbor.key(), settings, bfd, self.shared.clone(), rand::random())
    }

    fn neighbor_settings(&self, neighbor: &Neighbor, change: NeighborChange) -> NeighborSettings {
        let restarting = self.options.restarting && !*self.shared.restart_complete.borrow();
        let restart_time = neighbor.restart_time.unwrap_or(self.config.restart_time);
        let session = Settings {
            local_as: neighbor.session_as(&self.config),
            alternative_as: neighbor.dual_as.then_some(self.config.local_as),
            bfd_strict: neighbor.bfd.as_ref().and_then(|bfd| bfd.strict),
            as_sets: neighbor.as_sets,
            router_id: self.config.router_id,
            remote_as: neighbor.remote_as.clone(),
            passive: neighbor.passive,
            families: neighbor.families,
            extended_next_hop: neighbor.offers_extended_next_hop(),
            hold_time: neighbor.hold_time,
            keepalive: neighbor.keepalive,
            delay_open: neighbor.delay_open,
            role: neighbor.role,
            role_strict: neighbor.role_strict,
            route_refresh: neighbor.route_refresh,
            graceful_restart: neighbor.graceful_restart,
            add_path: neighbor.add_paths.capability(),
            long_lived_stale_time: neighbor.long_lived_stale_time,
            restart_time_s: u16::try_from(restart_time.as_secs()).unwrap_or(u16::MAX),
            forwarding_preserved: self.options.forwarding_preserved || self.config.fib,
            restarting,
            shutdown_message: neighbor.shutdown_message.clone(),
        };
        NeighborSettings {
            session,
            socket: SocketSettings::new(neighbor, &self.config),
            enabled: neighbor.enabled,
            is_dynamic: self.dynamic.contains(neighbor.key()),
            change,
        }
    }

    /// Whether traffic is being moved away (RFC 8326).
    pub(super) const fn is_draining(&self) -> bool {
        self.draining
    }

    /// Begins or ends that.
    pub(super) fn set_draining(&mut self, draining: bool) -> Result<(), SpeakerError> {
        self.draining = draining;
        self.apply(self.given.clone()).map(drop)
    }

    /// Ends a neighbour's session and starts it again. False if there is no such neighbour.
    pub(super) fn reset(&self, key: NeighborKey) -> bool {
        let neighbor = self.neighbors.get(&key);
        neighbor.is_some_and(|neighbor| neighbor.commands.send(Command::Reset).is_ok())
    }

    /// Asks a neighbour to send its routes again. False if there is no such neighbour.
    pub(super) fn ask_again(&self, key: NeighborKey) -> bool {
        let neighbor = self.neighbors.get(&key);
        neighbor.is_some_and(|neighbor| neighbor.commands.send(Command::AskAgain).is_ok())
    }

    /// Somebody has connected who may become a neighbour.
    pub(super) fn admit(&mut self, stranger: Stranger) {
        let key = stranger.key();
        self.take_in(key);
        match self.neighbors.get(&key) {
            Some(neighbor) => {
                let _ = neighbor.commands.send(Command::Accepted(stranger.stream));
            }
            None => self.directory.refuse(stranger.stream),
        }
    }

    /// Makes a neighbour of who may be one and is none. Nothing else is gone through for it.
    fn take_in(&mut self, key: NeighborKey) {
        if self.neighbors.contains_key(&key) {
            return;
        }
        let Some(mut neighbor) = self.dynamic.admit(key, &self.given) else {
            return;
        };
        if self.draining {
            drain(&mut neighbor);
        }
        tracing::info!(neighbor = %key, impact = "added", "connected");
        self.shared
            .rib
            .control(RibControl::Neighbor(Box::new(neighbor.clone())));
        // Listeners have the keys of its range.
        let handle = self.start_neighbor(&neighbor);
        self.directory
            .add(origin_of(&neighbor), Expected::new(&neighbor, &handle));
        self.neighbors.insert(key, handle);
        self.config.neighbors.push(neighbor);
    }

    /// The session of a neighbour that had connected is over.
    pub(super) fn forget(&mut self, key: NeighborKey) {
        let configured = self.config.neighbors.len() - self.dynamic.len();
        let Some(at) = self.dynamic.remove(key) else {
            return;
        };
        tracing::info!(neighbor = %key, impact = "removed", "its session is over");
        let neighbor = self.config.neighbors.swap_remove(configured + at);
        self.directory.remove(origin_of(&neighbor), key);
        self.stop_neighbor(key, StopReason::Deconfigured);
        self.shared.rib.control(RibControl::Forget(key));
    }

    fn stop_neighbor(&mut self, key: NeighborKey, reason: StopReason) {
        if let Some(neighbor) = self.neighbors.remove(&key) {
            // The task ends by itself once its last message is written.
            let _ = neighbor.commands.send(Command::Stop(reason));
        }
    }

    fn publish_directory(&self) {
        let mut expected: HashMap<Origin, Vec<Expected>> = HashMap::new();
        let protected = |neighbor: &&Neighbor| !self.unprotected.contains(&neighbor.connects_from());
        for neighbor in self.config.neighbors.iter().filter(protected) {
            if let Some(handle) = self.neighbors.get(&neighbor.key()) {
                let expected = expected.entry(origin_of(neighbor)).or_default();
                expected.push(Expected::new(neighbor, handle));
            }
        }
        let ranges = self.config.dynamic_neighbors.iter();
        let ranges = ranges.filter(|range| !self.unprotected.contains(&range.prefix));
        self.directory
            .publish(expected, ranges.map(DynamicNeighbors::name).collect());
    }

    pub(super) fn peers(&self) -> Vec<PeerStatus> {
        let peer = |neighbor: &Neighbor| {
            let handle = self.neighbors.get(&neighbor.key())?;
            let status = handle.status.lock().unwrap_or_else(PoisonError::into_inner);
            let (messages_sent, messages_received) = status.counters.read();
            Some(PeerStatus {
                messages_sent,
                messages_received,
                address: neighbor.address,
                port: neighbor.port,
                interface: neighbor.interface,
                remote_address: status.remote_address,
                remote_as: status.remote_as,
                local_as: status.local_as,
                state: status.state,
                since: status.since,
                last_error: status.last_error.clone(),
                prefixes_received: 0,
                prefixes_accepted: 0,
                prefixes_dampened: 0,
                prefixes_advertised: 0,
                flaps: status.flaps,
                far_connections: status.far_connections,
                remote_id: status.remote_id,
                bfd: status
                    .bfd
                    .as_ref()
                    .map(|bfd| bfd.lock().unwrap_or_else(PoisonError::into_inner).clone()),
                negotiated: status.negotiated.clone(),
                local_address: status.local_address,
                description: neighbor.description.clone(),
            })
        };
        self.config.neighbors.iter().filter_map(peer).collect()
    }

    pub(super) async fn stop(self, reason: StopReason) {
        for listener in self.listeners.into_values() {
            listener.stop().await;
        }
        for neighbor in self.neighbors.values() {
            let _ = neighbor.commands.send(Command::Stop(reason));
        }
        for neighbor in self.neighbors.into_values() {
            // A task that panicked has nothing more to say.
            let _ = neighbor.task.await;
        }
        self.monitoring.stop().await;
    }
}

const fn origin_of(neighbor: &Neighbor) -> Origin {
    (neighbor.address, neighbor.interface)
}

/// Has a session drained (RFC 8326 section 4.2).
const fn drain(neighbor: &mut Neighbor) {
    neighbor.routing.drain = true;
}

/// The TCP MD5 keys that listeners need.
fn passwords(config: &Config) -> impl Iterator<Item = (IpNet, &str)> + Clone {
    let ranges = config.dynamic_neighbors.iter();
    let ranges = ranges.filter_map(|range| Some((range.prefix, range.template.password.as_deref()?)));
    config
        .neighbors
        .iter()
        .filter(|neighbor| !config.has_key_of_range(neighbor))
        .filter_map(|neighbor| Some((neighbor.connects_from(), neighbor.password.as_deref()?)))
        .chain(ranges)
}

/// The TCP-AO keys that listeners need.
fn ao_keys(config: &Config) -> impl Iterator<Item = (IpNet, &[TcpAoKey])> {
    let ranges = config.dynamic_neighbors.iter();
    let ranges = ranges.map(|range| (range.prefix, range.template.tcp_ao.as_slice()));
    let neighbors = config.neighbors.iter();
    let neighbors = neighbors.filter(|neighbor| !config.has_key_of_range(neighbor));
    let neighbors = neighbors.map(|neighbor| (neighbor.connects_from(), neighbor.tcp_ao.as_slice()));
    neighbors.chain(ranges).filter(|(_, keys)| !keys.is_empty())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::atomic::AtomicU64;
    use std::sync::{Arc, Weak};
    use std::time::Instant;

    use tokio::sync::{broadcast, watch};

    use super::*;
    use crate::bfd::Bfd;
    use crate::config::BGP_PORT;

    /// The most that a range of this test takes in.
    const NEIGHBORS: u32 = 2000;

    fn key(n: u32) -> NeighborKey {
        NeighborKey::new(Ipv4Addr::from(0x0a00_0001 + n).into(), BGP_PORT)
    }

    fn config() -> Config {
        let mut config = Config::new(65001, Ipv4Addr::new(192, 0, 2, 1));
        let template = Neighbor::new(Ipv4Addr::UNSPECIFIED.into(), 65002, 65001);
        let configured = IpAddr::from([192, 0, 2, 2]);
        config.neighbors.push(Neighbor {
            passive: true,
            ..Neighbor::new(configured, 65002, 65001)
        });
        config.dynamic_neighbors.push(DynamicNeighbors {
            prefix: "10.0.0.0/16".parse().unwrap(),
            interface: None,
            limit: NEIGHBORS as usize,
            template,
        });
        config
    }

    fn running() -> (Running, mpsc::UnboundedReceiver<RibControl>) {
        let (control, told) = mpsc::unbounded_channel();
        let rib = super::super::rib_queue::RibSender {
            control,
            updates: mpsc::channel(1).0,
            wanted: crate::monitor::Wanted::default(),
        };
        let shared = Shared {
            rib,
            bfd: Bfd::start().unwrap(),
            fib: Weak::new(),
            gone: mpsc::unbounded_channel().0,
            peer_events: broadcast::channel(1).0,
            restart_complete: watch::channel(true).1,
            numbers: Arc::new(AtomicU64::new(1)),
            recorder: None,
            epoch: Instant::now(),
        };
        let options = StartOptions::default();
        (Running::new(&config(), options, shared, mpsc::channel(1).0), told)
    }

    /// What one neighbour costs does not depend on how many there are: the RIB is told of it alone, and is not
    /// configured anew.
    #[tokio::test]
    async fn neighbors_of_a_range_come_and_go_one_by_one() {
        let (mut running, mut told) = running();
        running.apply(config()).unwrap();
        while told.try_recv().is_ok() {}
        for n in 0..NEIGHBORS + 10 {
            running.take_in(key(n));
            // A second connection makes no second neighbour.
            running.take_in(key(n));
        }
        let added: Vec<NeighborKey> = std::iter::from_fn(|| told.try_recv().ok())
            .map(|control| match control {
                RibControl::Neighbor(neighbor) => neighbor.key(),
                _ => panic!("the RIB is told of something else than a neighbour"),
            })
            .collect();
        let within: Vec<NeighborKey> = (0..NEIGHBORS).map(key).collect();
        assert_eq!(added, within, "all of them once, and none beyond the limit");
        assert_eq!(running.peers().len(), 1 + within.len());

        let mut removed = 0;
        for n in (0..NEIGHBORS).step_by(3) {
            running.forget(key(n));
            running.forget(key(n));
            removed += 1;
        }
        let forgotten = std::iter::from_fn(|| told.try_recv().ok());
        let forgotten = forgotten.filter(|control| matches!(control, RibControl::Forget(_)));
        assert_eq!(forgotten.count(), removed);
        let mut left: Vec<NeighborKey> = running.config.neighbors.iter().map(Neighbor::key).collect();
        left.sort_unstable();
        let mut expected: Vec<NeighborKey> = (0..NEIGHBORS).filter(|n| n % 3 != 0).map(key).collect();
        expected.push(config().neighbors[0].key());
        assert_eq!(left, expected);
        // There is room again; and to go through all of it finds nothing that differs.
        running.take_in(key(NEIGHBORS));
        assert_eq!(running.peers().len(), expected.len() + 1);
        assert!(running.apply(config()).unwrap().is_empty());
    }

    /// A range that is taken away and comes back has none of its former neighbours.
    #[tokio::test]
    async fn a_range_that_goes_takes_its_neighbors_along() {
        let (mut running, _told) = running();
        running.apply(config()).unwrap();
        running.take_in(key(1));
        running.take_in(key(2));
        // One of them gets an entry of its own.
        let mut own = config();
        own.neighbors.push(Neighbor {
            passive: true,
            ..Neighbor::new(key(1).address, 65002, 65001)
        });
        running.apply(own.clone()).unwrap();
        running.forget(key(1));
        assert_eq!(running.peers().len(), 3);
        own.dynamic_neighbors.clear();
        let diff = running.apply(own).unwrap();
        assert_eq!(diff.removed, [key(2)]);
        running.apply(config()).unwrap();
        assert_eq!(running.peers().len(), 1);
    }
}
