//! The daemon's TOML file.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::bfd::FileBfd;
use super::key::ScopedAddress;
use super::policy_file::{CommunityKind, Fault, FilePolicy, One, Policies};
use super::{
    AddPaths, Aggregate, BGP_PORT, BmpStation, Config, ConfigError, DYNAMIC_LIMIT_DEFAULT, DynamicNeighbors,
    ExportOptions, GracefulRestartMode, HOLD_TIME_DEFAULT_S, ImportOptions, InterfaceName, MaxPrefix, Mrt,
    MrtSource, Neighbor, NeighborKey, Network, NextHopMode, PeerAs, PrivateAs, Routing, Selection, TcpAoKey,
};
use crate::wire::{Community, Family, FamilySet, LargeCommunity, Prefix, Role};

/// A file that is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("{path}:{line}: {reason}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The key and what is wrong with it.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    global: Spanned<Global>,
    #[serde(default)]
    neighbor: Vec<Spanned<FileNeighbor>>,
    #[serde(default)]
    dynamic_neighbors: Vec<Spanned<FileNeighbor>>,
    #[serde(default)]
    network: Vec<Spanned<FileNetwork>>,
    #[serde(default)]
    bmp: Vec<BmpStation>,
    #[serde(default)]
    mrt: Mrt,
    #[serde(default)]
    source: Vec<MrtSource>,
    #[serde(default)]
    aggregate: Vec<Spanned<FileAggregate>>,
    #[serde(default)]
    policy: Vec<FilePolicy>,
    #[serde(default)]
    selection: FileSelection,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Global {
    r#as: u32,
    router_id: Ipv4Addr,
    #[serde(default)]
    listen: Vec<SocketAddr>,
    fib: Option<bool>,
    restart_time: Option<u16>,
    api: Option<PathBuf>,
    record: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct FileNeighbor {
    #[serde(default)]
    description: String,
    address: Option<ScopedAddress>,
    interface: Option<InterfaceName>,
    /// Of dynamic neighbours alone.
    prefix: Option<Prefix>,
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

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct FileNetwork {
    prefix: Prefix,
    local_pref: Option<u32>,
    #[serde(default)]
    communities: Vec<One<Community>>,
    #[serde(default)]
    large_communities: Vec<One<LargeCommunity>>,
}

impl FileNetwork {
    fn network(&self) -> Network {
        Network {
            local_pref: self.local_pref,
            communities: self.communities.iter().map(|one| one.0).collect(),
            large_communities: self.large_communities.iter().map(|one| one.0).collect(),
            ..Network::from(self.prefix)
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct FileAggregate {
    prefix: Prefix,
    #[serde(default)]
    summary_only: bool,
    local_pref: Option<u32>,
    #[serde(default)]
    communities: Vec<One<Community>>,
    #[serde(default)]
    large_communities: Vec<One<LargeCommunity>>,
}

impl FileAggregate {
    fn aggregate(&self) -> Aggregate {
        Aggregate {
            prefix: self.prefix,
            summary_only: self.summary_only,
            local_pref: self.local_pref,
            communities: self.communities.iter().map(|one| one.0).collect(),
            large_communities: self.large_communities.iter().map(|one| one.0).collect(),
        }
    }
}

/// How paths are selected.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct FileSelection {
    multipath: Option<usize>,
    multipath_relax: Option<bool>,
    #[serde(default)]
    multipath_eibgp: bool,
    #[serde(default)]
    always_compare_med: bool,
    #[serde(default)]
    missing_med_worst: bool,
}

impl FileSelection {
    fn selection(&self) -> Selection {
        let default = Selection::default();
        Selection {
            multipath_max: self.multipath.unwrap_or(default.multipath_max),
            multipath_relax: self.multipath_relax.unwrap_or(default.multipath_relax),
            multipath_eibgp: self.multipath_eibgp,
            always_compare_med: self.always_compare_med,
            missing_med_worst: self.missing_med_worst,
        }
    }
}

/// Reads and checks a file.
pub fn load_file(path: &Path) -> Result<Config, FileError> {
    let text = std::fs::read_to_string(path).map_err(|source| FileError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse_file(path, &text)
}

/// Checks a file's text; `path` is only for messages.
pub fn parse_file(path: &Path, text: &str) -> Result<Config, FileError> {
    let wrong = |offset: usize, reason: String| FileError::Wrong {
        path: path.to_owned(),
        line: line_of(text, offset),
        reason,
    };
    let file: File = toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        wrong(offset, error.message().to_owned())
    })?;
    let config = file.config().map_err(|(offset, reason)| wrong(offset, reason))?;
    config
        .validate()
        .map_err(|error| wrong(file.offset_of(&error), error.to_string()))?;
    Ok(config)
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

impl File {
    fn config(&self) -> Result<Config, Fault> {
        let policies = Policies::read(&self.policy)?;
        let global = self.global.get_ref();
        let mut config = Config::new(global.r#as, global.router_id);
        config.listen.clone_from(&global.listen);
        config.fib = global.fib.unwrap_or(true);
        if let Some(seconds) = global.restart_time {
            config.restart_time = Duration::from_secs(seconds.into());
        }
        config.api.clone_from(&global.api);
        config.record.clone_from(&global.record);
        config.bmp.clone_from(&self.bmp);
        config.mrt.clone_from(&self.mrt);
        config.sources.clone_from(&self.source);
        config.neighbors = self
            .neighbor
            .iter()
            .map(|entry| {
                let key = entry
                    .get_ref()
                    .key()
                    .map_err(|reason| (entry.span().start, reason))?;
                entry.get_ref().neighbor(key, global, &policies)
            })
            .collect::<Result<_, _>>()?;
        config.dynamic_neighbors = self
            .dynamic_neighbors
            .iter()
            .map(|entry| {
                let wrong = |reason: &str| (entry.span().start, format!("dynamic-neighbors {reason}"));
                entry.get_ref().range(global, &policies, wrong)
            })
            .collect::<Result<_, _>>()?;
        config.networks = self
            .network
            .iter()
            .map(|network| network.get_ref().network())
            .collect();
        config.selection = self.selection.selection();
        config.aggregates = self
            .aggregate
            .iter()
            .map(|aggregate| aggregate.get_ref().aggregate())
            .collect();
        Ok(config)
    }

    /// Where the thing stands that an error is about.
    fn offset_of(&self, error: &ConfigError) -> usize {
        let found = match error {
            ConfigError::Global { .. } => None,
            // The last one is the repeated one.
            ConfigError::Neighbor { neighbor, .. } => self
                .neighbor
                .iter()
                .rfind(|entry| entry.get_ref().key().is_ok_and(|key| key == *neighbor))
                .map(|entry| entry.span().start),
            ConfigError::Dynamic { range, .. } => self
                .dynamic_neighbors
                .iter()
                .rfind(|entry| {
                    let entry = entry.get_ref();
                    entry.prefix == Some(range.prefix) && entry.interface == range.interface
                })
                .map(|entry| entry.span().start),
            ConfigError::Aggregate { prefix, .. } => self
                .aggregate
                .iter()
                .rfind(|entry| entry.get_ref().prefix.to_string() == *prefix)
                .map(|entry| entry.span().start),
            ConfigError::Network { prefix, .. } => self
                .network
                .iter()
                .rfind(|entry| entry.get_ref().prefix.to_string() == *prefix)
                .map(|entry| entry.span().start),
        };
        found.unwrap_or(self.global.span().start)
    }
}

impl FileNeighbor {
    /// What tells it from the others, or what is missing for that.
    fn key(&self) -> Result<NeighborKey, String> {
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
    fn range(
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

    fn neighbor(&self, key: NeighborKey, global: &Global, policies: &Policies) -> Result<Neighbor, Fault> {
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
            },
            export: ExportOptions {
                as_override: self.as_override,
                prepend_global_as: self.prepend_global_as,
                private_as: self.private_as,
                communities: sends(CommunityKind::Standard),
                extended_communities: sends(CommunityKind::Extended),
                large_communities: sends(CommunityKind::Large),
                client_to_client: self.client_to_client.unwrap_or(true),
            },
            drain: self.drain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;

    const GOOD: &str = r#"
[global]
as = 65001
router-id = "10.0.0.1"
listen = ["127.0.0.1:1790", "[::1]:1790"]
fib = false

[[neighbor]]
address = "10.0.0.2"
as = 65002
ttl = 3
families = ["ipv4", "ipv6"]
hold-time = 9
export = "accept"

[[neighbor]]
address = "2001:db8::2"
port = 1179
as = 65001
route-reflector-client = true

[[network]]
prefix = "10.1.0.0/24"
"#;

    fn parse(text: &str) -> Result<Config, FileError> {
        parse_file(Path::new("bgpd.toml"), text)
    }

    #[test]
    fn a_file_gives_a_configuration_with_defaults() {
        let config = parse(GOOD).unwrap();
        assert_eq!(
            (config.local_as, config.fib, config.listen.len()),
            (65001, false, 2)
        );
        let [ebgp, ibgp] = config.neighbors.as_slice() else {
            panic!("two neighbors")
        };
        assert_eq!((ebgp.hold_time.as_secs(), ebgp.ttl, ebgp.port), (9, Some(3), 179));
        assert_eq!((&ebgp.import, &ebgp.export), (&Policy::Reject, &Policy::Accept));
        assert_eq!((&ibgp.import, &ibgp.export), (&Policy::Accept, &Policy::Accept));
        assert_eq!(ibgp.families.iter().collect::<Vec<_>>(), [Family::Ipv6Unicast]);
        assert_eq!(config.networks[0].prefix.to_string(), "10.1.0.0/24");
    }

    #[test]
    fn add_paths_are_for_all_families_or_each_by_itself() {
        let all: FamilySet = Family::ALL.into_iter().collect();
        let only = |family: Family| [family].into_iter().collect::<FamilySet>();
        let (v4, v6) = (only(Family::Ipv4Unicast), only(Family::Ipv6Unicast));
        let none = FamilySet::EMPTY;
        let with = |keys: &str| {
            let text = match keys.contains("families") {
                true => GOOD.replacen("families = [\"ipv4\", \"ipv6\"]\n", "", 1),
                false => GOOD.to_owned(),
            };
            let text = text.replacen("ttl = 3\n", &format!("ttl = 3\n{keys}\n"), 1);
            parse(&text).map(|config| config.neighbors[0].add_paths)
        };
        for (keys, receive, send, limit) in [
            ("", none, none, None),
            ("add-paths = \"both\"", all, all, None),
            ("add-paths = \"receive\"", all, none, None),
            ("add-paths = \"send\"\nadd-paths-limit = 2", none, all, Some(2)),
            (
                "add-paths = { ipv4 = \"both\", ipv6 = \"receive\" }",
                all,
                v4,
                None,
            ),
            ("add-paths = { ipv6 = \"send\" }", none, v6, None),
        ] {
            assert_eq!(with(keys).unwrap(), AddPaths { receive, send, limit }, "{keys}");
        }
        for (keys, part) in [
            (
                "add-paths-limit = 2",
                "add-paths-limit: is of paths that are sent",
            ),
            (
                "add-paths = \"send\"\nadd-paths-limit = 0",
                "add-paths-limit: must be at least 1",
            ),
            (
                "families = [\"ipv4\"]\nadd-paths = { ipv6 = \"both\" }",
                "add-paths: names ipv6",
            ),
            ("add-paths = \"all\"", "add-paths must be"),
        ] {
            let text = with(keys).map(|_| ()).unwrap_err().to_string();
            assert!(text.contains(part), "{keys}: {text}");
        }
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let cases = [
            (
                GOOD.replace("ttl = 3", "tttl = 3"),
                "bgpd.toml:11: unknown field `tttl`",
            ),
            (
                GOOD.replace("fib = false", "fibs = false"),
                "bgpd.toml:6: unknown field `fibs`",
            ),
            (
                GOOD.replace("prefix = ", "prefixes = "),
                "bgpd.toml:23: unknown field `prefixes`",
            ),
            (
                GOOD.replace("ttl = 3", "ttl = 300"),
                "bgpd.toml:11: invalid value: integer `300`",
            ),
            (
                GOOD.replace("ttl = 3", "ttl = 0"),
                "bgpd.toml:8: neighbor 10.0.0.2 ttl: must be 1..255",
            ),
            (
                GOOD.replace("hold-time = 9", "hold-time = 2"),
                "bgpd.toml:8: neighbor 10.0.0.2 hold-time:",
            ),
            (
                GOOD.replace("10.1.0.0/24", "10.1.0.1/24"),
                "bgpd.toml:22: network 10.1.0.1/24: has host bits set",
            ),
            (
                GOOD.replace("as = 65001\nrouter-id", "as = 0\nrouter-id"),
                "bgpd.toml:2: global as: 0 is reserved",
            ),
            (
                GOOD.replace("as = 65002", "as = 65001\nsource = \"::1\""),
                "bgpd.toml:8: neighbor 10.0.0.2 source:",
            ),
            (
                GOOD.replace("as = 65001\nroute-", "as = 65009\nroute-"),
                "bgpd.toml:16: neighbor [2001:db8::2]:1179 route-reflector-client:",
            ),
            (
                GOOD.replace("\"accept\"", "\"maybe\""),
                "bgpd.toml:14: must be \"accept\", \"reject\" or the name of a [[policy]], which \"maybe\" is not",
            ),
            (GOOD.replace("[global]", "[global"), "bgpd.toml:2: "),
            (String::new(), "bgpd.toml:1: missing field `global`"),
        ];
        for (text, expected) in cases {
            let message = parse(&text).unwrap_err().to_string();
            assert!(
                message.starts_with(expected),
                "{message:?} does not start with {expected:?}"
            );
        }
    }

    #[test]
    fn two_ases_of_ours_must_be_two_and_neither_the_neighbors() {
        let parse = |more: &str| {
            let file = "[global]\nas = 65001\nrouter-id = \"10.0.0.1\"\n\
                 [[neighbor]]\naddress = \"10.0.0.2\"\nas = 65002\n";
            parse_file(Path::new("bgpd.toml"), &format!("{file}{more}")).map_err(|error| error.to_string())
        };
        let two = parse("local-as = 64999\ndual-as = true\nas-sets = true\n").unwrap();
        let neighbor = &two.neighbors[0];
        assert!(neighbor.dual_as && neighbor.as_sets);
        for (more, expected) in [
            ("dual-as = true\n", "dual-as: needs local-as"),
            (
                "dual-as = true\nlocal-as = 65001\n",
                "dual-as: needs a local-as other than the global AS",
            ),
            (
                "dual-as = true\nlocal-as = 65002\n",
                "dual-as: is for neighbors that are in neither AS of ours",
            ),
        ] {
            let error = parse(more).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
