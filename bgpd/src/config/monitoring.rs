//! Who watches: BMP stations and MRT files; and routes that come from MRT files.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError};

/// BMP stations at most: each has a queue of its own.
pub const BMP_STATIONS_MAX: usize = 8;
/// How often a BMP station gets statistics where nothing else is set, in seconds.
pub const STATS_INTERVAL_DEFAULT_S: u32 = 60;
/// How long one file of updates is written where nothing else is set, in seconds.
pub const MRT_ROTATE_DEFAULT_S: u32 = 900;

/// Routes that a BMP station is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BmpView {
    /// Adj-RIB-In as received (RFC 7854).
    PrePolicy,
    /// Adj-RIB-In after the import policy (RFC 7854).
    PostPolicy,
    /// Adj-RIB-Out after the export policy (RFC 8671).
    AdjRibOut,
    /// Loc-RIB (RFC 9069).
    LocRib,
}

/// A BMP station: we connect to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BmpStation {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it is shown.
    #[serde(default = "default_views")]
    pub monitor: Vec<BmpView>,
    /// How often it gets statistics, in seconds; 0 for never.
    #[serde(default = "default_stats_interval", rename = "stats-interval")]
    pub stats_interval_s: u32,
    /// Whether it gets every message of neighbours exactly as it came.
    #[serde(default)]
    pub mirror: bool,
}

fn default_views() -> Vec<BmpView> {
    vec![BmpView::PrePolicy]
}

const fn default_stats_interval() -> u32 {
    STATS_INTERVAL_DEFAULT_S
}

/// MRT files that are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Mrt {
    /// The whole table, now and then.
    pub rib: Option<MrtRib>,
    /// What is received.
    pub updates: Option<MrtUpdates>,
}

/// Files with the whole table (TABLE_DUMP_V2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MrtRib {
    /// The file's name, with the conversions of strftime for the time of the dump in UTC.
    pub path: PathBuf,
    /// Time between dumps, in seconds; without it, only on request.
    #[serde(rename = "interval")]
    pub interval_s: Option<u32>,
}

/// Files with received UPDATEs and changes of sessions (BGP4MP_ET).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MrtUpdates {
    /// The file's name, with the conversions of strftime for its first moment in UTC.
    pub path: PathBuf,
    /// How long one file is written, in seconds.
    #[serde(default = "default_rotate", rename = "rotate")]
    pub rotate_s: u32,
}

const fn default_rotate() -> u32 {
    MRT_ROTATE_DEFAULT_S
}

/// When the records of a source count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Timing {
    /// As fast as they are read.
    #[default]
    Fast,
    /// With the distances that their timestamps have.
    Original,
}

/// An MRT file whose routes are taken in as from peers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MrtSource {
    /// The file: a table dump or updates.
    #[serde(rename = "mrt")]
    pub path: PathBuf,
    /// When its records count.
    #[serde(default)]
    pub timing: Timing,
}

impl Config {
    pub(super) fn validate_monitoring(&self) -> Result<(), ConfigError> {
        if self.bmp.len() > BMP_STATIONS_MAX {
            return Err(global("bmp", format!("at most {BMP_STATIONS_MAX} stations")));
        }
        let mut stations = HashSet::new();
        for station in &self.bmp {
            station.validate()?;
            if !stations.insert(station.address) {
                return Err(global(
                    "bmp address",
                    format!("{} is listed twice: remove one", station.address),
                ));
            }
        }
        self.mrt.validate()?;
        let mut sources = HashSet::new();
        for source in &self.sources {
            if !sources.insert(&source.path) {
                let path = source.path.display();
                return Err(global(
                    "source mrt",
                    format!("{path} is listed twice: remove one"),
                ));
            }
        }
        Ok(())
    }
}

impl BmpStation {
    fn validate(&self) -> Result<(), ConfigError> {
        if self.address.port() == 0 || self.address.ip().is_unspecified() {
            let reason = format!("{}: give the station's address and port", self.address);
            return Err(global("bmp address", reason));
        }
        if self.monitor.is_empty() && !self.mirror {
            let reason = format!(
                "of {} is empty: list \"pre-policy\", \"post-policy\", \"adj-rib-out\", \"loc-rib\" or some of them",
                self.address
            );
            return Err(global("bmp monitor", reason));
        }
        Ok(())
    }
}

impl Mrt {
    fn validate(&self) -> Result<(), ConfigError> {
        if let Some(rib) = &self.rib {
            validate_name("mrt rib.path", &rib.path)?;
            if rib.interval_s == Some(0) {
                return Err(global(
                    "mrt rib.interval",
                    "must be at least 1 s; without it, dumps are made on request",
                ));
            }
        }
        if let Some(updates) = &self.updates {
            validate_name("mrt updates.path", &updates.path)?;
            if updates.rotate_s == 0 {
                return Err(global("mrt updates.rotate", "must be at least 1 s"));
            }
            if !updates.path.to_string_lossy().contains('%') {
                let reason = "has no conversion like %Y%m%d.%H%M%S: each file would replace the one before";
                return Err(global("mrt updates.path", reason));
            }
        }
        Ok(())
    }
}

fn validate_name(field: &'static str, path: &Path) -> Result<(), ConfigError> {
    let name = path.to_string_lossy();
    if name.is_empty() || name.ends_with('/') {
        return Err(global(field, "must be the name of a file"));
    }
    crate::mrt::file_name(path, Duration::ZERO)
        .map(|_| ())
        .map_err(|reason| global(field, reason))
}

fn global(field: &'static str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Global {
        field,
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{ConfigDiff, parse_file};

    const GLOBAL: &str = "[global]\nas = 65001\nrouter-id = \"10.0.0.1\"\n";
    const GOOD: &str = r#"
[[bmp]]
address = "192.0.2.9:5000"
monitor = ["pre-policy", "post-policy", "adj-rib-out", "loc-rib"]
stats-interval = 30

[[bmp]]
address = "[2001:db8::9]:5000"

[mrt]
rib = { path = "/var/lib/rib.%Y%m%d.%H%M.mrt", interval = 3600 }
updates = { path = "/var/lib/updates.%Y%m%d.%H%M.mrt" }

[[source]]
mrt = "/var/lib/old.mrt"
timing = "original"
"#;

    fn parse(text: &str) -> Result<Config, String> {
        parse_file(Path::new("bgpd.toml"), &format!("{GLOBAL}{text}")).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.bmp[0].monitor.len(), 4);
        assert_eq!(config.bmp[1].monitor, [BmpView::PrePolicy]);
        assert_eq!(
            (config.bmp[0].stats_interval_s, config.bmp[1].stats_interval_s),
            (30, 60)
        );
        assert_eq!(
            config.mrt.updates.as_ref().map(|updates| updates.rotate_s),
            Some(900)
        );
        assert_eq!(config.sources[0].timing, Timing::Original);
        let without = parse("").unwrap();
        let diff = ConfigDiff::between(&without, &config);
        assert!(diff.monitoring && diff.changed.is_empty() && diff.needs_restart.is_empty());
        assert!(!ConfigDiff::between(&config, &config).monitoring);
    }

    #[test]
    fn errors_name_the_key() {
        let cases = [
            (
                "192.0.2.9:5000",
                "192.0.2.9:0",
                "global bmp address: 192.0.2.9:0: give",
            ),
            (
                "192.0.2.9:5000",
                "[2001:db8::9]:5000",
                "global bmp address: [2001:db8::9]:5000 is listed twice",
            ),
            (
                "192.0.2.9:5000",
                "192.0.2.9",
                "bgpd.toml:6: invalid socket address",
            ),
            (
                "[\"pre-policy\", \"post-policy\", \"adj-rib-out\", \"loc-rib\"]",
                "[]",
                "global bmp monitor: of 192.0.2.9:5000",
            ),
            ("\"loc-rib\"", "\"rib\"", "unknown variant `rib`"),
            ("stats-interval", "stats", "unknown field `stats`"),
            (
                "interval = 3600",
                "interval = 0",
                "global mrt rib.interval: must be at least 1 s",
            ),
            ("rib.%Y", "rib.%!%Y", "global mrt rib.path: "),
            (
                "/var/lib/updates.%Y%m%d.%H%M.mrt",
                "/var/lib/updates",
                "global mrt updates.path: has no conversion",
            ),
            (
                "/var/lib/updates.%Y%m%d.%H%M.mrt",
                "/var/lib/",
                "global mrt updates.path: must be the name of a file",
            ),
            (
                "%H%M.mrt\" }\n\n",
                "%H%M.mrt\", rotate = 0 }\n\n",
                "global mrt updates.rotate: must be at least 1 s",
            ),
            ("\"original\"", "\"slow\"", "unknown variant `slow`"),
        ];
        for (from, to, expected) in cases {
            assert!(GOOD.contains(from), "{from}");
            let error = parse(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(
                error.contains(expected),
                "{error:?} does not contain {expected:?}"
            );
        }
        let twice = format!("{GOOD}[[source]]\nmrt = \"/var/lib/old.mrt\"\n");
        assert!(
            parse(&twice)
                .unwrap_err()
                .contains("global source mrt: /var/lib/old.mrt is listed twice")
        );
    }
}
