//! Keys of the IPAM: blocks, affinities, handles and the configuration.

use std::fmt;
use std::str::FromStr;

use api::ipam_model::{Affinity, AllocationBlock, Handle, IpamConfig};
use ipnet::IpNet;

use super::{Key, KeyRange, List, plain_json_value};

const BLOCK_ROOT: &str = "/calico/ipam/v2/assignment/";
const HANDLE_ROOT: &str = "/calico/ipam/v2/handle/";
const CONFIG_PATH: &str = "/calico/ipam/v2/config";
const IPAM_ROOT: &str = "/calico/ipam/v2/";

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// Both, in the order in which Calico serves them.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of a prefix.
    pub fn of(cidr: &IpNet) -> Self {
        match cidr {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(_) => Self::V6,
        }
    }

    /// The family of an address.
    pub fn of_address(address: &std::net::IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// 4 or 6.
    pub fn number(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }

    /// 32 or 128.
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    fn segment(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    fn parse_segment(segment: &str) -> Option<Self> {
        match segment {
            "ipv4" => Some(Self::V4),
            "ipv6" => Some(Self::V6),
            _ => None,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IPv{}", self.number())
    }
}

/// `10.0.0.0/26` → `10.0.0.0-26`.
fn cidr_segment(cidr: &IpNet) -> String {
    format!("{}-{}", cidr.addr(), cidr.prefix_len())
}

/// `10.0.0.0-26` → `10.0.0.0/26`; host bits are masked, as keys are made of masked prefixes only.
fn parse_cidr_segment(segment: &str, family: Family) -> Option<IpNet> {
    let cidr = IpNet::from_str(&segment.replacen('-', "/", 1)).ok()?;
    (Family::of(&cidr) == family && cidr.trunc() == cidr).then_some(cidr)
}

/// An allocation block.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockKey {
    /// Its addresses.
    pub cidr: IpNet,
}

impl BlockKey {
    /// The key of this block.
    pub fn new(cidr: IpNet) -> Self {
        Self { cidr: cidr.trunc() }
    }
}

impl fmt::Display for BlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockKey(cidr={})", self.cidr)
    }
}

impl Key for BlockKey {
    type Value = AllocationBlock;

    plain_json_value!();

    fn path(&self) -> String {
        format!(
            "{BLOCK_ROOT}{}/block/{}",
            Family::of(&self.cidr).segment(),
            cidr_segment(&self.cidr)
        )
    }

    fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix(BLOCK_ROOT)?;
        let mut segments = rest.split('/');
        let family = Family::parse_segment(segments.next()?)?;
        (segments.next()? == "block").then_some(())?;
        let cidr = parse_cidr_segment(segments.next()?, family)?;
        segments.next().is_none().then_some(Self { cidr })
    }
}

/// All blocks, or those of one family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockList {
    /// Only these.
    pub family: Option<Family>,
}

impl List for BlockList {
    type Key = BlockKey;

    fn range(&self) -> KeyRange {
        KeyRange::Prefix(match self.family {
            None => BLOCK_ROOT.to_owned(),
            Some(family) => format!("{BLOCK_ROOT}{}/", family.segment()),
        })
    }

    fn matches(&self, key: &BlockKey) -> bool {
        self.family.is_none_or(|family| family == Family::of(&key.cidr))
    }
}

/// What holds a block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AffinityType {
    /// A node.
    #[default]
    Host,
    /// Something else, today only `load-balancer`.
    Virtual,
}

impl AffinityType {
    /// `host` or `virtual`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Virtual => "virtual",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "host" => Some(Self::Host),
            "virtual" => Some(Self::Virtual),
            _ => None,
        }
    }
}

/// The holder in a block's affinity text: `host:node-1`.
pub fn affinity_of(text: &str) -> Option<(AffinityType, &str)> {
    let (kind, host) = text.split_once(':')?;
    (!host.is_empty()).then_some((AffinityType::parse(kind)?, host))
}

/// A host's claim on a block.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AffinityKey {
    /// What the host is.
    pub kind: AffinityType,
    /// Its name.
    pub host: String,
    /// The block.
    pub cidr: IpNet,
}

impl AffinityKey {
    /// The claim of a node.
    pub fn host(host: impl Into<String>, cidr: IpNet) -> Self {
        Self {
            kind: AffinityType::Host,
            host: host.into(),
            cidr: cidr.trunc(),
        }
    }

    /// The text that the block carries: `host:node-1`.
    pub fn affinity_text(&self) -> String {
        format!("{}:{}", self.kind.as_str(), self.host)
    }
}

impl fmt::Display for AffinityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "BlockAffinityKey(cidr={}, host={}, affinityType={})",
            self.cidr,
            self.host,
            self.kind.as_str()
        )
    }
}

impl Key for AffinityKey {
    type Value = Affinity;

    plain_json_value!();

    fn path(&self) -> String {
        format!(
            "{IPAM_ROOT}{}/{}/{}/block/{}",
            self.kind.as_str(),
            self.host,
            Family::of(&self.cidr).segment(),
            cidr_segment(&self.cidr)
        )
    }

    fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix(IPAM_ROOT)?;
        let mut segments = rest.split('/');
        let kind = AffinityType::parse(segments.next()?)?;
        let host = segments.next().filter(|host| !host.is_empty())?.to_owned();
        let family = Family::parse_segment(segments.next()?)?;
        (segments.next()? == "block").then_some(())?;
        let cidr = parse_cidr_segment(segments.next()?, family)?;
        segments.next().is_none().then_some(Self { kind, host, cidr })
    }
}

/// The claims of one type: of all hosts, or of one, or of one and a family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AffinityList {
    /// Which type; Calico's own readers default to `host`.
    pub kind: AffinityType,
    /// Only this host's.
    pub host: Option<String>,
    /// Only these.
    pub family: Option<Family>,
}

impl List for AffinityList {
    type Key = AffinityKey;

    fn range(&self) -> KeyRange {
        let kind = self.kind.as_str();
        KeyRange::Prefix(match (&self.host, self.family) {
            (None, _) => format!("{IPAM_ROOT}{kind}/"),
            (Some(host), None) => format!("{IPAM_ROOT}{kind}/{host}/"),
            (Some(host), Some(family)) => format!("{IPAM_ROOT}{kind}/{host}/{}/block/", family.segment()),
        })
    }

    fn matches(&self, key: &AffinityKey) -> bool {
        self.kind == key.kind
            && self.host.as_ref().is_none_or(|host| *host == key.host)
            && self.family.is_none_or(|family| family == Family::of(&key.cidr))
    }
}

/// All addresses of one owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HandleKey {
    /// The owner's id, verbatim.
    pub id: String,
}

impl HandleKey {
    /// The key of this handle.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into() }
    }
}

impl fmt::Display for HandleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IPAMHandleKey(id={})", self.id)
    }
}

impl Key for HandleKey {
    type Value = Handle;

    plain_json_value!();

    fn path(&self) -> String {
        format!("{HANDLE_ROOT}{}", self.id)
    }

    fn parse(path: &str) -> Option<Self> {
        let id = path.strip_prefix(HANDLE_ROOT)?;
        (!id.is_empty() && !id.contains('/')).then(|| Self::new(id))
    }
}

/// All handles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HandleList;

impl List for HandleList {
    type Key = HandleKey;

    fn range(&self) -> KeyRange {
        KeyRange::Prefix(HANDLE_ROOT.to_owned())
    }

    fn matches(&self, _: &HandleKey) -> bool {
        true
    }
}

/// The IPAM's settings: the one that IPAM obeys, not the `IPAMConfiguration` resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpamConfigKey;

impl fmt::Display for IpamConfigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IPAMConfigKey()")
    }
}

impl Key for IpamConfigKey {
    type Value = IpamConfig;

    plain_json_value!();

    fn path(&self) -> String {
        CONFIG_PATH.to_owned()
    }

    fn parse(path: &str) -> Option<Self> {
        (path == CONFIG_PATH).then_some(Self)
    }
}
