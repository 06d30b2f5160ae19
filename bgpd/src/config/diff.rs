//! What changes between two configurations, and what that does to sessions.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;

use super::{Config, Neighbor, NeighborKey};

/// How hard a change hits a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NeighborChange {
    /// Nothing that the neighbour sees: it counts at once, or from the next session on.
    None,
    /// Its routes are judged again, in both directions; the session stays.
    Refresh,
    /// The session is closed and opened again.
    Reset,
}

impl fmt::Display for NeighborChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Refresh => "refresh",
            Self::Reset => "reset",
        })
    }
}

/// A neighbour that stays, with a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedNeighbor {
    /// Which one.
    pub key: NeighborKey,
    /// The hardest of its changes.
    pub change: NeighborChange,
    /// The settings that differ.
    pub fields: Vec<&'static str>,
}

/// The difference between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigDiff {
    /// Neighbours that are new.
    pub added: Vec<NeighborKey>,
    /// Neighbours that are gone.
    pub removed: Vec<NeighborKey>,
    /// Neighbours that stay, with a change.
    pub changed: Vec<ChangedNeighbor>,
    /// Listeners that are new.
    pub listen_added: Vec<SocketAddr>,
    /// Listeners that are gone.
    pub listen_removed: Vec<SocketAddr>,
    /// Whether the set of originated networks changed.
    pub networks: bool,
    /// Whether ranges of neighbours changed; what that does to those that are there is among the others.
    pub dynamic_neighbors: bool,
    /// Whether aggregates changed.
    pub aggregates: bool,
    /// Whether paths are to be selected in another way.
    pub selection: bool,
    /// Whether another number of paths is the most.
    pub max_paths: bool,
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
        let mut diff = Self {
            networks: networks_differ(old, new),
            monitoring: (&old.bmp, &old.mrt, &old.sources) != (&new.bmp, &new.mrt, &new.sources),
            selection: old.selection != new.selection,
            dynamic_neighbors: old.dynamic_neighbors != new.dynamic_neighbors,
            aggregates: old.aggregates != new.aggregates,
            max_paths: old.max_paths != new.max_paths,
            ..Self::default()
        };
        for neighbor in &new.neighbors {
            match before.get(&neighbor.key()) {
                None => diff.added.push(neighbor.key()),
                Some(previous) => diff
                    .changed
                    .extend(ChangedNeighbor::between((old, previous), (new, neighbor))),
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

    /// What becomes of a neighbour that stays.
    pub fn change_of(&self, key: NeighborKey) -> Option<NeighborChange> {
        let changed = self.changed.iter().find(|changed| changed.key == key)?;
        Some(changed.change)
    }

    /// Says what is about to change, and how hard that hits whom.
    pub fn log(&self) {
        for key in &self.removed {
            tracing::info!(neighbor = %key, impact = "removed", "configuration");
        }
        for key in &self.added {
            tracing::info!(neighbor = %key, impact = "added", "configuration");
        }
        for ChangedNeighbor { key, change, fields } in &self.changed {
            tracing::info!(neighbor = %key, impact = %change, ?fields, "configuration");
        }
        let global = [
            ("networks", self.networks),
            ("selection", self.selection),
            ("aggregates", self.aggregates),
            ("max-paths", self.max_paths),
            ("dynamic-neighbors", self.dynamic_neighbors),
            (
                "listen",
                !(self.listen_added.is_empty() && self.listen_removed.is_empty()),
            ),
        ];
        for (part, _) in global.into_iter().filter(|(_, changed)| *changed) {
            tracing::info!(part, impact = "none", "configuration");
        }
        for field in &self.needs_restart {
            tracing::info!(field, impact = "with the next start", "configuration");
        }
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

/// Every setting of a neighbour with what its change does. A setting that is missing here does not compile.
macro_rules! changes {
    ($old:expr, $new:expr, $($field:ident: $name:literal => $change:ident,)*) => {{
        let Neighbor { $($field: _),* } = $old;
        let mut changes: Vec<(&'static str, NeighborChange)> = Vec::new();
        $(if $old.$field != $new.$field {
            changes.push(($name, NeighborChange::$change));
        })*
        changes
    }};
}

impl ChangedNeighbor {
    /// Compares two neighbours with the same key, each with its configuration.
    pub fn between(
        (old_config, old): (&Config, &Neighbor),
        (new_config, new): (&Config, &Neighbor),
    ) -> Option<Self> {
        let mut changes = changes!(old, new,
            description: "description" => None,
            address: "address" => Reset,
            interface: "interface" => Reset,
            port: "port" => Reset,
            enabled: "enabled" => Reset,
            shutdown_message: "shutdown-message" => None,
            remote_as: "as" => Reset,
            local_as: "local-as" => Reset,
            dual_as: "dual-as" => None,
            as_sets: "as-sets" => Reset,
            source: "source" => Reset,
            ttl: "ttl" => None,
            ttl_security_hops: "ttl-security" => None,
            passive: "passive" => None,
            route_reflector_client: "route-reflector-client" => Refresh,
            cluster_id: "cluster-id" => Refresh,
            families: "families" => Reset,
            extended_next_hop: "extended-next-hop" => Reset,
            hold_time: "hold-time" => Reset,
            keepalive: "keepalive" => None,
            delay_open: "delay-open" => None,
            password: "password" => None,
            tcp_ao: "tcp-ao" => None,
            role: "role" => Reset,
            role_strict: "role-strict" => Reset,
            route_refresh: "route-refresh" => Reset,
            graceful_restart: "graceful-restart" => None,
            restart_time: "restart-time" => None,
            long_lived_stale_time: "long-lived-stale-time" => None,
            add_paths: "add-paths" => Refresh,
            max_prefixes: "max-prefix" => None,
            bfd: "bfd" => None,
            next_hop: "next-hop" => Refresh,
            allow_own_as: "allow-own-as" => Refresh,
            routing: "routing" => Refresh,
            import: "import" => Refresh,
            export: "export" => Refresh,
        );
        // A password that comes or goes leaves each side with segments that the other one drops; one that
        // changes on both sides within the hold time does not.
        if old.password.is_some() != new.password.is_some() {
            changes.push(("password", NeighborChange::Reset));
        }
        // What OPEN says of it; how many paths are sent is our affair.
        if old.add_paths.capability() != new.add_paths.capability() {
            changes.push(("add-paths", NeighborChange::Reset));
        }
        if !super::tcp_ao::can_change(&old.tcp_ao, &new.tcp_ao) {
            changes.push(("tcp-ao", NeighborChange::Reset));
        }
        let identity = [
            (
                "global as",
                old.session_as(old_config) != new.session_as(new_config),
            ),
            ("global router-id", old_config.router_id != new_config.router_id),
        ];
        let differs = identity.into_iter().filter(|(_, differs)| *differs);
        changes.extend(differs.map(|(field, _)| (field, NeighborChange::Reset)));
        let change = changes.iter().map(|(_, change)| *change).max()?;
        let mut fields: Vec<&'static str> = changes.into_iter().map(|(field, _)| field).collect();
        fields.dedup();
        let key = new.key();
        Some(Self { key, change, fields })
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
        let changed: Vec<_> = diff
            .changed
            .iter()
            .map(|c| (c.key, c.change, c.fields.as_slice()))
            .collect();
        assert_eq!(
            changed,
            [
                (
                    old.neighbors[0].key(),
                    NeighborChange::Refresh,
                    ["export"].as_slice()
                ),
                (
                    old.neighbors[1].key(),
                    NeighborChange::Reset,
                    ["hold-time"].as_slice()
                )
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
                .all(|changed| changed.change == NeighborChange::Reset)
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

    /// What no RFC demands a new session for does not make one.
    #[test]
    fn few_changes_reset_a_session() {
        type Change = fn(&mut Neighbor);
        let cases: [(Change, NeighborChange); 11] = [
            (
                |n| n.route_refresh = crate::config::RouteRefreshMode::Plain,
                NeighborChange::Reset,
            ),
            (
                |n| n.keepalive = Some(Duration::from_secs(5)),
                NeighborChange::None,
            ),
            (
                |n| n.restart_time = Some(Duration::from_secs(5)),
                NeighborChange::None,
            ),
            (|n| n.ttl = Some(7), NeighborChange::None),
            (|n| n.allow_own_as = 2, NeighborChange::Refresh),
            (|n| n.add_paths.limit = Some(2), NeighborChange::Refresh),
            (|n| n.add_paths.send = n.families, NeighborChange::Reset),
            (
                |n| n.next_hop = crate::config::NextHopMode::Keep,
                NeighborChange::Refresh,
            ),
            (|n| n.route_reflector_client = true, NeighborChange::Refresh),
            (|n| n.password = Some("new".to_owned()), NeighborChange::Reset),
            (|n| n.enabled = false, NeighborChange::Reset),
        ];
        for (apply, expected) in cases {
            let old = config();
            let mut new = config();
            apply(&mut new.neighbors[1]);
            let diff = ConfigDiff::between(&old, &new);
            assert_eq!(diff.change_of(old.neighbors[1].key()), Some(expected), "{diff:?}");
            assert_eq!(diff.changed.len(), 1);
        }
        let with = |password: &str| {
            let mut config = config();
            config.neighbors[0].password = Some(password.to_owned());
            config
        };
        let diff = ConfigDiff::between(&with("old"), &with("new"));
        assert_eq!(
            diff.change_of(config().neighbors[0].key()),
            Some(NeighborChange::None)
        );
    }
}
