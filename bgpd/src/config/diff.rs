//! What changes between two configurations, and what that does to sessions.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::{Config, Neighbor, NeighborKey};

/// How hard a change hits a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NeighborChange {
    /// Its routes are judged again; the session stays.
    Refresh,
    /// The session is closed and opened again.
    Reset,
}

/// The difference between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigDiff {
    /// Neighbours that are new.
    pub added: Vec<NeighborKey>,
    /// Neighbours that are gone.
    pub removed: Vec<NeighborKey>,
    /// Neighbours that stay, with a change.
    pub changed: Vec<(NeighborKey, NeighborChange)>,
    /// Listeners that are new.
    pub listen_added: Vec<SocketAddr>,
    /// Listeners that are gone.
    pub listen_removed: Vec<SocketAddr>,
    /// Whether the set of originated networks changed.
    pub networks: bool,
    /// Whether BMP stations, MRT files or sources changed; no session is touched.
    pub monitoring: bool,
    /// Whether a change waits for the next start: `fib`, `api` and `record`.
    pub needs_restart: Vec<&'static str>,
}

impl ConfigDiff {
    /// What it takes to get from `old` to `new`.
    pub fn between(old: &Config, new: &Config) -> Self {
        let before: HashMap<NeighborKey, &Neighbor> = old.neighbors.iter().map(|n| (n.key(), n)).collect();
        let after: HashMap<NeighborKey, &Neighbor> = new.neighbors.iter().map(|n| (n.key(), n)).collect();
        let identity = old.local_as != new.local_as || old.router_id != new.router_id;
        let mut diff = Self {
            networks: networks_differ(old, new),
            monitoring: (&old.bmp, &old.mrt, &old.sources) != (&new.bmp, &new.mrt, &new.sources),
            ..Self::default()
        };
        for neighbor in &new.neighbors {
            match before.get(&neighbor.key()) {
                None => diff.added.push(neighbor.key()),
                Some(previous) => {
                    let change = match change(previous, neighbor) {
                        // The restart time of our OPEN changes with the next session.
                        change if !identity => change,
                        _ => Some(NeighborChange::Reset),
                    };
                    diff.changed.extend(change.map(|change| (neighbor.key(), change)));
                }
            }
        }
        diff.removed.extend(
            old.neighbors
                .iter()
                .map(Neighbor::key)
                .filter(|key| !after.contains_key(key)),
        );
        diff.listen_added
            .extend(new.listen.iter().filter(|listen| !old.listen.contains(listen)));
        diff.listen_removed
            .extend(old.listen.iter().filter(|listen| !new.listen.contains(listen)));
        diff.needs_restart.extend((old.fib != new.fib).then_some("fib"));
        diff.needs_restart.extend((old.api != new.api).then_some("api"));
        diff.needs_restart
            .extend((old.record != new.record).then_some("record"));
        diff
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn networks_differ(old: &Config, new: &Config) -> bool {
    let key = |network: &super::Network| network.prefix;
    let (mut before, mut after) = (old.networks.clone(), new.networks.clone());
    before.sort_by_key(key);
    after.sort_by_key(key);
    before != after
}

/// Compares two neighbours with the same key.
fn change(old: &Neighbor, new: &Neighbor) -> Option<NeighborChange> {
    let old = &Neighbor {
        description: new.description.clone(),
        ..old.clone()
    };
    if old == new {
        return None;
    }
    // What only decides about routes may differ; everything else is part of the session.
    let same_session = Neighbor {
        import: old.import.clone(),
        export: old.export.clone(),
        routing: old.routing.clone(),
        restart_time: old.restart_time,
        bfd: old.bfd.clone(),
        ..new.clone()
    } == *old;
    // The restart time changes with the next session; BFD follows by itself.
    let same_to_session_and_routes = Neighbor {
        restart_time: old.restart_time,
        bfd: old.bfd.clone(),
        ..new.clone()
    } == *old;
    match (same_session, same_to_session_and_routes) {
        (_, true) => None,
        (true, false) => Some(NeighborChange::Refresh),
        (false, false) => Some(NeighborChange::Reset),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::policy::Policy;

    fn config() -> Config {
        let mut config = Config::new(65000, Ipv4Addr::new(10, 0, 0, 1));
        for last in 2..5 {
            config
                .neighbors
                .push(Neighbor::new(Ipv4Addr::new(10, 0, 0, last).into(), 65000, 65000));
        }
        config
    }

    #[test]
    fn only_what_differs_is_named() {
        let old = config();
        let mut new = config();
        new.neighbors[0].export = Policy::Reject;
        new.neighbors[1].hold_time = Duration::from_secs(9);
        new.neighbors[2].address = Ipv4Addr::new(10, 0, 0, 9).into();
        new.networks
            .push("10.9.0.0/16".parse::<ipnet::IpNet>().unwrap().into());
        let diff = ConfigDiff::between(&old, &new);
        assert_eq!(diff.added, [new.neighbors[2].key()]);
        assert_eq!(diff.removed, [old.neighbors[2].key()]);
        assert_eq!(
            diff.changed,
            [
                (old.neighbors[0].key(), NeighborChange::Refresh),
                (old.neighbors[1].key(), NeighborChange::Reset)
            ]
        );
        assert!(diff.networks);
        assert!(ConfigDiff::between(&old, &old).is_empty());
    }

    #[test]
    fn a_new_identity_resets_every_session() {
        let mut new = config();
        new.router_id = Ipv4Addr::new(10, 0, 0, 7);
        let diff = ConfigDiff::between(&config(), &new);
        assert_eq!(diff.changed.len(), 3);
        assert!(
            diff.changed
                .iter()
                .all(|(_, change)| *change == NeighborChange::Reset)
        );
    }

    #[test]
    fn the_order_of_networks_does_not_matter() {
        let (mut old, mut new) = (config(), config());
        let networks = ["10.9.0.0/16", "10.8.0.0/16"].map(|n| n.parse::<ipnet::IpNet>().unwrap().into());
        old.networks = networks.to_vec();
        new.networks = networks.into_iter().rev().collect();
        assert!(ConfigDiff::between(&old, &new).is_empty());
    }
}
