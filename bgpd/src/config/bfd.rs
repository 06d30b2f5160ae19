//! Settings of BFD with a neighbour.

use std::fmt;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Config, Neighbor};
use crate::bfd::{Authentication, KEY_MAX_BYTES};

/// Interval of packets where none is set, in milliseconds.
pub const BFD_INTERVAL_DEFAULT_MS: u64 = 300;
/// Shortest interval of packets, in milliseconds: a shorter one takes a host's pauses for failures.
pub const BFD_INTERVAL_MIN_MS: u64 = 10;
/// Longest interval of packets, in milliseconds.
pub const BFD_INTERVAL_MAX_MS: u64 = 60_000;
/// Packets in a row that may be lost where nothing is set.
pub const BFD_MULTIPLIER_DEFAULT: u8 = 3;
/// How long a session waits for BFD in strict mode where nothing is set, in seconds.
const BFD_STRICT_HOLD_TIME_DEFAULT_S: u16 = 30;

/// BFD with a neighbour (RFC 5882 section 10.2): when it says that the path has failed, the session ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BfdSettings {
    /// How often to send, and how often packets may come.
    pub interval: Duration,
    /// How many intervals without a packet are a failure; not zero.
    pub multiplier: u8,
    /// Send nothing until the neighbour does.
    pub passive: bool,
    /// Whether there may be routers in between (RFC 5883). Without it, this follows from the TTL of the
    /// session: more than one hop is allowed, or not.
    pub multihop: Option<bool>,
    /// How often the neighbour may send Echo packets, which this host's forwarding loops back. Without it,
    /// not at all.
    pub echo_receive: Option<Duration>,
    /// How packets are authenticated, if they are.
    pub authentication: Option<Authentication>,
    /// The session waits for BFD before it is established, at most so long, if the neighbour does the same
    /// (draft-ietf-idr-bgp-bfd-strict-mode). At least a second.
    pub strict: Option<Duration>,
}

impl Default for BfdSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(BFD_INTERVAL_DEFAULT_MS),
            multiplier: BFD_MULTIPLIER_DEFAULT,
            passive: false,
            multihop: None,
            echo_receive: None,
            authentication: None,
            strict: None,
        }
    }
}

impl BfdSettings {
    /// Whether there may be routers between us and the neighbour.
    pub fn is_multihop(&self, neighbor: &Neighbor, config: &Config) -> bool {
        self.multihop.unwrap_or_else(|| {
            if neighbor.interface.is_some() {
                return false;
            }
            let hops = neighbor.ttl_security_hops.or(neighbor.ttl);
            hops.map_or(!neighbor.is_ebgp(config), |hops| hops > 1)
        })
    }

    /// What is wrong with it: the setting, and what would be right.
    pub(super) fn check(&self, neighbor: &Neighbor, config: &Config) -> Result<(), (&'static str, String)> {
        let interval =
            Duration::from_millis(BFD_INTERVAL_MIN_MS)..=Duration::from_millis(BFD_INTERVAL_MAX_MS);
        let range = || format!("must be {BFD_INTERVAL_MIN_MS}..{BFD_INTERVAL_MAX_MS}");
        if !interval.contains(&self.interval) {
            return Err(("bfd interval-ms", range()));
        }
        if self.multiplier == 0 {
            return Err(("bfd multiplier", "must be 1..255".to_owned()));
        }
        if let Some(echo) = self.echo_receive {
            if !interval.contains(&echo) {
                return Err(("bfd echo-receive-ms", range()));
            }
            if self.is_multihop(neighbor, config) {
                let reason = "is only for neighbors on the same link (RFC 5883): leave it out".to_owned();
                return Err(("bfd echo-receive-ms", reason));
            }
        }
        if self.strict.is_some_and(|time| time.is_zero()) {
            return Err(("bfd strict-hold-time", "must be at least 1 s".to_owned()));
        }
        if neighbor.interface.is_some() && self.multihop == Some(true) {
            let reason = "is not for neighbors on a link: leave it out".to_owned();
            return Err(("bfd multihop", reason));
        }
        match &self.authentication {
            Some(authentication) if !(1..=KEY_MAX_BYTES).contains(&authentication.key.len()) => Err((
                "bfd authentication key",
                format!("must have 1..{KEY_MAX_BYTES} bytes (RFC 5880)"),
            )),
            _ => Ok(()),
        }
    }
}

/// `bfd` in the file: true or false, or a table.
#[derive(Clone, Debug)]
pub(super) struct FileBfd(pub(super) Option<BfdSettings>);

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Table {
    interval_ms: Option<u64>,
    multiplier: Option<u8>,
    #[serde(default)]
    passive: bool,
    multihop: Option<bool>,
    echo_receive_ms: Option<u64>,
    authentication: Option<AuthenticationTable>,
    #[serde(default)]
    strict: bool,
    strict_hold_time: Option<u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct AuthenticationTable {
    r#type: AuthenticationType,
    key_id: u8,
    key: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AuthenticationType {
    KeyedSha1,
    MeticulousKeyedSha1,
}

impl From<Table> for BfdSettings {
    fn from(table: Table) -> Self {
        let default = Self::default();
        Self {
            interval: table.interval_ms.map_or(default.interval, Duration::from_millis),
            multiplier: table.multiplier.unwrap_or(default.multiplier),
            passive: table.passive,
            multihop: table.multihop,
            echo_receive: table.echo_receive_ms.map(Duration::from_millis),
            authentication: table.authentication.map(|table| Authentication {
                meticulous: table.r#type == AuthenticationType::MeticulousKeyedSha1,
                key_id: table.key_id,
                key: table.key,
            }),
            strict: (table.strict || table.strict_hold_time.is_some()).then(|| {
                let seconds = table.strict_hold_time.unwrap_or(BFD_STRICT_HOLD_TIME_DEFAULT_S);
                Duration::from_secs(seconds.into())
            }),
        }
    }
}

impl<'de> Deserialize<'de> for FileBfd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BoolOrTable;

        impl<'de> Visitor<'de> for BoolOrTable {
            type Value = FileBfd;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or a table")
            }

            fn visit_bool<E>(self, wanted: bool) -> Result<FileBfd, E> {
                Ok(FileBfd(wanted.then(BfdSettings::default)))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FileBfd, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(FileBfd(Some(table.into())))
            }
        }

        deserializer.deserialize_any(BoolOrTable)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{ConfigDiff, parse_file};

    const FILE: &str = "[global]\nas = 65001\nrouter-id = \"10.0.0.1\"\n\
         [[neighbor]]\naddress = \"10.0.0.2\"\nas = 65002\n";

    fn parse(more: &str) -> Result<Config, String> {
        parse_file(Path::new("bgpd.toml"), &format!("{FILE}{more}")).map_err(|error| error.to_string())
    }

    fn bfd(more: &str) -> Option<BfdSettings> {
        parse(more).unwrap().neighbors[0].bfd.clone()
    }

    #[test]
    fn one_word_is_enough_and_every_setting_has_a_key() {
        assert_eq!(bfd(""), None);
        assert_eq!(bfd("bfd = false\n"), None);
        assert_eq!(bfd("bfd = true\n"), Some(BfdSettings::default()));
        let all = "[neighbor.bfd]\ninterval-ms = 50\nmultiplier = 5\npassive = true\nmultihop = false\n\
             echo-receive-ms = 20\nstrict-hold-time = 5\nauthentication = { type = \"meticulous-keyed-sha1\", key-id = 7, key = \"k\" }\n";
        let expected = BfdSettings {
            interval: Duration::from_millis(50),
            multiplier: 5,
            passive: true,
            multihop: Some(false),
            echo_receive: Some(Duration::from_millis(20)),
            authentication: Some(Authentication {
                meticulous: true,
                key_id: 7,
                key: "k".to_owned(),
            }),
            strict: Some(Duration::from_secs(5)),
        };
        assert_eq!(bfd(all), Some(expected));
        let strict = |more: &str| bfd(more).unwrap().strict;
        assert_eq!(
            strict("[neighbor.bfd]\nstrict = true\n"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(strict("[neighbor.bfd]\nstrict = false\n"), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("bfd = 3\n", "expected true, false or a table"),
            ("[neighbor.bfd]\ninterval = 50\n", "unknown field `interval`"),
            (
                "[neighbor.bfd]\ninterval-ms = 9\n",
                "bfd interval-ms: must be 10..60000",
            ),
            (
                "[neighbor.bfd]\nstrict-hold-time = 0\n",
                "bfd strict-hold-time: must be at least 1 s",
            ),
            (
                "[neighbor.bfd]\nmultiplier = 0\n",
                "bfd multiplier: must be 1..255",
            ),
            (
                "[neighbor.bfd]\nmultihop = true\necho-receive-ms = 50\n",
                "bfd echo-receive-ms: is only for neighbors on the same link",
            ),
            (
                "[neighbor.bfd.authentication]\ntype = \"keyed-sha1\"\nkey-id = 1\nkey = \"123456789012345678901\"\n",
                "bfd authentication key: must have 1..20 bytes",
            ),
            (
                "[neighbor.bfd.authentication]\ntype = \"md5\"\nkey-id = 1\nkey = \"1\"\n",
                "unknown variant `md5`",
            ),
            (
                "bfd = true\n[[neighbor]]\naddress = \"10.0.0.2\"\nport = 1179\nas = 65002\nbfd = true\n",
                "bfd: another neighbor has the same address",
            ),
        ];
        for (more, expected) in cases {
            let error = parse(more).unwrap_err();
            assert!(
                error.contains(expected),
                "{error:?} does not contain {expected:?}"
            );
        }
    }

    #[test]
    fn the_ttl_says_how_far_a_neighbor_is() {
        let is_multihop = |more: &str| {
            let config = parse(more).unwrap();
            let neighbor = &config.neighbors[0];
            neighbor.bfd.as_ref().unwrap().is_multihop(neighbor, &config)
        };
        assert!(!is_multihop("bfd = true\n"), "another AS, on the link");
        assert!(is_multihop("bfd = true\nttl = 3\n"));
        assert!(!is_multihop("ttl = 3\n[neighbor.bfd]\nmultihop = false\n"));
        let internal = FILE.replace("65002", "65001");
        let config = parse_file(Path::new("bgpd.toml"), &format!("{internal}bfd = true\n")).unwrap();
        let neighbor = &config.neighbors[0];
        assert!(neighbor.bfd.as_ref().unwrap().is_multihop(neighbor, &config));
    }

    /// BFD follows a change by itself: the BGP session stays.
    #[test]
    fn a_change_touches_no_session() {
        let (without, with) = (parse("").unwrap(), parse("bfd = true\n").unwrap());
        let diff = ConfigDiff::between(&without, &with);
        assert!(diff.added.is_empty() && diff.removed.is_empty(), "{diff:?}");
        assert!(
            diff.changed
                .iter()
                .all(|changed| changed.change == crate::config::NeighborChange::None),
            "{diff:?}"
        );
    }
}
