//! The daemon's TOML file.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::neighbor_file::FileNeighbor;
use super::policy_file::{Fault, FilePolicy, One, Policies};
use super::{Aggregate, BmpStation, Config, ConfigError, Mrt, MrtSource, Network, Selection};
use crate::wire::{Community, LargeCommunity, Prefix};

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
pub(super) struct Global {
    pub(super) r#as: u32,
    router_id: Ipv4Addr,
    #[serde(default)]
    listen: Vec<SocketAddr>,
    fib: Option<bool>,
    restart_time: Option<u16>,
    max_paths: Option<u32>,
    api: Option<PathBuf>,
    record: Option<PathBuf>,
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
        config.max_paths = global.max_paths;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::*;
    use crate::policy::Policy;
    use crate::wire::*;

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
    fn limits_and_refreshes_are_read() {
        let parse = |global: &str, more: &str| {
            let file = format!(
                "[global]\nas = 65001\nrouter-id = \"10.0.0.1\"\n{global}\
                 [[neighbor]]\naddress = \"10.0.0.2\"\nas = 65002\n{more}"
            );
            parse_file(Path::new("bgpd.toml"), &file).map_err(|error| error.to_string())
        };
        let config = parse("max-paths = 7\n", "route-refresh = \"plain\"\n").unwrap();
        assert_eq!(config.max_paths, Some(7));
        assert_eq!(
            config.neighbors[0].route_refresh,
            crate::config::RouteRefreshMode::Plain
        );
        let default = parse("", "").unwrap();
        assert_eq!(
            default.neighbors[0].route_refresh,
            crate::config::RouteRefreshMode::Enhanced
        );
        let error = parse("max-paths = 0\n", "").unwrap_err();
        assert!(error.contains("global max-paths: must be at least 1"), "{error}");
        assert!(parse("", "route-refresh = true\n").is_err());
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
