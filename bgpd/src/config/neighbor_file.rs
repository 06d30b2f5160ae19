//! Neighbours, and ranges of them, as the file has them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::bfd::FileBfd;
use super::dampening::FileDampening;
use super::file::Global;
use super::key::ScopedAddress;
use super::policy_file::{CommunityKind, Fault, Policies};
use super::{
    AddPaths, BGP_PORT, DYNAMIC_LIMIT_DEFAULT, DynamicNeighbors, ExportOptions, GracefulRestartMode,
    HOLD_TIME_DEFAULT_S, ImportOptions, InterfaceName, MaxPrefix, Neighbor, NeighborKey, NextHopMode, PeerAs,
    PrivateAs, RouteRefreshMode, Routing, TcpAoKey,
};
use crate::wire::{Family, FamilySet, Prefix, Role};

/// An entry of `[[neighbor]]` or of `[[dynamic-neighbors]]`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct FileNeighbor {
    #[serde(default)]
    description: String,
    address: Option<ScopedAddress>,
    pub(super) interface: Option<InterfaceName>,
    /// Of dynamic neighbours alone.
    pub(super) prefix: Option<Prefix>,
    limit: Option<usize>,
    enabled: Option<bool>,
    shutdown_message: Option<String>,
    port: Option<u16>,
    r#as: FileAs,
    local_as: Option<u32>,
    #[serde(default)]
    dual_as: bool,
    #[serde(default)]
    as_sets: bool,
    source: Option<IpAddr>,
    ttl: Option<u8>,
    ttl_security: Option<u8>,
    #[serde(default)]
    passive: bool,
    #[serde(default)]
    route_reflector_client: bool,
    families: Option<Vec<Family>>,
    extended_next_hop: Option<bool>,
    hold_time: Option<u16>,
    keepalive: Option<u16>,
    delay_open: Option<u16>,
    password: Option<String>,
    #[serde(default)]
    tcp_ao: Vec<TcpAoKey>,
    bfd: Option<FileBfd>,
    role: Option<FileRole>,
    #[serde(default)]
    role_strict: bool,
    route_refresh: Option<RouteRefreshMode>,
    graceful_restart: Option<GracefulRestartMode>,
    restart_time: Option<u16>,
    long_lived_stale_time: Option<u32>,
    add_paths: Option<FileAddPaths>,
    add_paths_limit: Option<u16>,
    #[serde(default)]
    max_prefix: Vec<FileMaxPrefix>,
    next_hop: Option<NextHopMode>,
    allow_own_as: Option<u8>,
    weight: Option<u32>,
    local_pref: Option<u32>,
    #[serde(default)]
    enforce_first_as: bool,
    graceful_shutdown: Option<bool>,
    #[serde(default)]
    blackhole: bool,
    dampening: Option<FileDampening>,
    #[serde(default)]
    drain: bool,
    #[serde(default)]
    prepend_local_as: bool,
    #[serde(default)]
    prepend_global_as: bool,
    #[serde(default)]
    as_override: bool,
    #[serde(default)]
    private_as: PrivateAs,
    send_communities: Option<Vec<CommunityKind>>,
    client_to_client: Option<bool>,
    #[serde(default)]
    send_long_lived_stale: bool,
    default_originate: Option<FileDefaultOriginate>,
    default_originate_policy: Option<Spanned<String>>,
    import: Option<Spanned<String>>,
    export: Option<Spanned<String>>,
}

/// The AS of a neighbour.
#[derive(Clone, Deserialize)]
#[serde(
    untagged,
    expecting = "expected an AS number, a list of them, \"external\" or \"internal\""
)]
enum FileAs {
    Number(u32),
    OneOf(Vec<u32>),
    Kind(FileAsKind),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FileAsKind {
    External,
    Internal,
}

impl From<&FileAs> for PeerAs {
    fn from(asn: &FileAs) -> Self {
        match asn {
            FileAs::Number(number) => Self::Number(*number),
            FileAs::OneOf(numbers) => Self::OneOf(numbers.clone()),
            FileAs::Kind(FileAsKind::External) => Self::External,
            FileAs::Kind(FileAsKind::Internal) => Self::Internal,
        }
    }
}

/// A role that has a name.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FileRole {
    Provider,
    RouteServer,
    RouteServerClient,
    Customer,
    Peer,
}

impl From<FileRole> for Role {
    fn from(role: FileRole) -> Self {
        match role {
            FileRole::Provider => Self::Provider,
            FileRole::RouteServer => Self::RouteServer,
            FileRole::RouteServerClient => Self::RouteServerClient,
            FileRole::Customer => Self::Customer,
            FileRole::Peer => Self::Peer,
        }
    }
}

/// Several paths of a prefix: in which directions, for all families or for each by itself.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "add-paths must be \"receive\", \"send\", \"both\", or a table with one of these by family"
)]
enum FileAddPaths {
    All(Direction),
    ByFamily(BTreeMap<Family, Direction>),
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Direction {
    Receive,
    Send,
    Both,
}

impl FileAddPaths {
    fn of(&self, family: Family) -> Option<Direction> {
        match self {
            Self::All(direction) => Some(*direction),
            Self::ByFamily(families) => families.get(&family).copied(),
        }
    }

    /// `families` are the session's.
    fn add_paths(&self, families: FamilySet, limit: Option<u16>) -> AddPaths {
        let named = Family::ALL.into_iter().filter(|family| match self {
            Self::All(_) => families.contains(*family),
            Self::ByFamily(_) => true,
        });
        let in_direction = |direction| -> FamilySet {
            let wanted = |family: &Family| {
                let of = self.of(*family);
                of == Some(direction) || of == Some(Direction::Both)
            };
            named.clone().filter(wanted).collect()
        };
        AddPaths {
            receive: in_direction(Direction::Receive),
            send: in_direction(Direction::Send),
            limit,
        }
    }
}

/// In which families a default route is told.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "default-originate must be true, false, or a list of families: \"ipv4\", \"ipv6\""
)]
enum FileDefaultOriginate {
    All(bool),
    Families(Vec<Family>),
}

impl FileDefaultOriginate {
    /// `families` are the session's.
    fn families(&self, families: FamilySet) -> FamilySet {
        match self {
            Self::All(true) => families,
            Self::All(false) => FamilySet::EMPTY,
            Self::Families(families) => families.iter().copied().collect(),
        }
    }
}

/// A limit of received routes.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct FileMaxPrefix {
    family: Family,
    limit: u32,
    warning_percent: Option<u8>,
    restart: Option<u16>,
}

impl FileMaxPrefix {
    fn max_prefix(&self) -> MaxPrefix {
        let default = MaxPrefix::new(self.family, self.limit);
        MaxPrefix {
            warning_percent: self.warning_percent.unwrap_or(default.warning_percent),
            restart: self.restart.map(seconds),
            ..default
        }
    }
}

fn seconds(seconds: u16) -> Duration {
    Duration::from_secs(seconds.into())
}

impl FileNeighbor {
    /// What tells it from the others, or what is missing for that.
    pub(super) fn key(&self) -> Result<NeighborKey, String> {
        if self.prefix.is_some() || self.limit.is_some() {
            return Err("neighbor prefix and limit are for [[dynamic-neighbors]]".to_owned());
        }
        let behind_address = self.address.and_then(|address| address.interface);
        let interface = match (behind_address, self.interface) {
            (Some(one), Some(other)) if one != other => {
                return Err(format!(
                    "neighbor address and interface name two interfaces: {one} and {other}"
                ));
            }
            (one, other) => one.or(other),
        };
        let address = match (self.address, interface) {
            (Some(scoped), _) => scoped.address,
            (None, Some(_)) => Ipv6Addr::UNSPECIFIED.into(),
            (None, None) => return Err("a neighbor needs an address or an interface".to_owned()),
        };
        Ok(NeighborKey {
            address,
            port: self.port.unwrap_or(BGP_PORT),
            interface,
        })
    }

    /// Read as a range of neighbours.
    pub(super) fn range(
        &self,
        global: &Global,
        policies: &Policies,
        wrong: impl Fn(&str) -> Fault,
    ) -> Result<DynamicNeighbors, Fault> {
        let Some(prefix) = self.prefix else {
            return Err(wrong("need a prefix, such as \"10.0.0.0/24\""));
        };
        if self.address.is_some() || self.port.is_some() || self.passive {
            return Err(wrong(
                "have a prefix instead of address and port, and are always passive",
            ));
        }
        let template = self.neighbor(NeighborKey::new(prefix.addr(), BGP_PORT), global, policies)?;
        Ok(DynamicNeighbors {
            prefix,
            interface: self.interface,
            limit: self.limit.unwrap_or(DYNAMIC_LIMIT_DEFAULT),
            template: Neighbor {
                passive: true,
                ..template
            },
        })
    }

    pub(super) fn neighbor(
        &self,
        key: NeighborKey,
        global: &Global,
        policies: &Policies,
    ) -> Result<Neighbor, Fault> {
        let local_as = self.local_as.unwrap_or(global.r#as);
        let mut neighbor = Neighbor::new(key.address, &self.r#as, local_as);
        neighbor.interface = key.interface;
        if neighbor.is_unnumbered() {
            neighbor.families = Family::ALL.into_iter().collect();
        }
        neighbor.extended_next_hop = self.extended_next_hop;
        neighbor.local_as = self.local_as;
        neighbor.dual_as = self.dual_as;
        neighbor.as_sets = self.as_sets;
        neighbor.description.clone_from(&self.description);
        neighbor.port = key.port;
        neighbor.source = self.source;
        neighbor.ttl = self.ttl;
        neighbor.ttl_security_hops = self.ttl_security;
        neighbor.passive = self.passive;
        neighbor.route_reflector_client = self.route_reflector_client;
        if let Some(families) = &self.families {
            neighbor.families = families.iter().copied().collect();
        }
        neighbor.enabled = self.enabled.unwrap_or(true);
        neighbor.shutdown_message.clone_from(&self.shutdown_message);
        neighbor.hold_time = seconds(self.hold_time.unwrap_or(HOLD_TIME_DEFAULT_S));
        neighbor.keepalive = self.keepalive.map(seconds);
        neighbor.delay_open = self.delay_open.map(seconds);
        neighbor.password.clone_from(&self.password);
        neighbor.tcp_ao.clone_from(&self.tcp_ao);
        neighbor.bfd = self.bfd.as_ref().and_then(|bfd| bfd.0.clone());
        neighbor.role = self.role.map(Role::from);
        neighbor.role_strict = self.role_strict;
        neighbor.route_refresh = self.route_refresh.unwrap_or_default();
        neighbor.graceful_restart = self.graceful_restart.unwrap_or_default();
        neighbor.restart_time = self.restart_time.map(seconds);
        neighbor.long_lived_stale_time =
            Duration::from_secs(self.long_lived_stale_time.unwrap_or_default().into());
        neighbor.add_paths = match &self.add_paths {
            Some(add_paths) => add_paths.add_paths(neighbor.families, self.add_paths_limit),
            None => AddPaths {
                limit: self.add_paths_limit,
                ..AddPaths::default()
            },
        };
        neighbor.max_prefixes = self.max_prefix.iter().map(FileMaxPrefix::max_prefix).collect();
        neighbor.next_hop = self.next_hop.unwrap_or_default();
        neighbor.allow_own_as = self.allow_own_as.unwrap_or_default();
        neighbor.routing = self.routing();
        let export = &mut neighbor.routing.export;
        if let Some(originate) = &self.default_originate {
            export.default_originate = originate.families(neighbor.families);
        }
        if let Some(name) = &self.default_originate_policy {
            export.default_policy = policies.find(name)?;
        }
        if let Some(name) = &self.import {
            neighbor.import = policies.find(name)?;
        }
        if let Some(name) = &self.export {
            neighbor.export = policies.find(name)?;
        }
        Ok(neighbor)
    }

    fn routing(&self) -> Routing {
        let sends = |kind| {
            self.send_communities
                .as_ref()
                .is_none_or(|kinds| kinds.contains(&kind))
        };
        Routing {
            import: ImportOptions {
                weight: self.weight,
                local_pref: self.local_pref,
                enforce_first_as: self.enforce_first_as,
                honor_graceful_shutdown: self.graceful_shutdown.unwrap_or(true),
                accept_blackhole: self.blackhole,
                prepend_local_as: self.prepend_local_as,
                dampening: self.dampening.and_then(FileDampening::dampening),
            },
            export: ExportOptions {
                as_override: self.as_override,
                prepend_global_as: self.prepend_global_as,
                private_as: self.private_as,
                communities: sends(CommunityKind::Standard),
                extended_communities: sends(CommunityKind::Extended),
                large_communities: sends(CommunityKind::Large),
                client_to_client: self.client_to_client.unwrap_or(true),
                long_lived_stale: self.send_long_lived_stale,
                ..ExportOptions::default()
            },
            drain: self.drain,
        }
    }
}
