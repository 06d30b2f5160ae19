//! Path attributes as owned values. How they are read and written is in `attribute_table`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::{AsPath, Family};

/// ORIGIN (RFC 4271 section 5.1.1), in order of preference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Origin {
    /// Interior to the originating AS.
    #[default]
    Igp,
    /// Learned by EGP.
    Egp,
    /// Learned in some other way.
    Incomplete,
}

impl Origin {
    /// The value on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Self::Igp => 0,
            Self::Egp => 1,
            Self::Incomplete => 2,
        }
    }

    /// The origin with this value.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Igp),
            1 => Some(Self::Egp),
            2 => Some(Self::Incomplete),
            _ => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Igp => "igp",
            Self::Egp => "egp",
            Self::Incomplete => "incomplete",
        })
    }
}

/// Where packets for a route go, as NEXT_HOP or MP_REACH_NLRI carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NextHop {
    /// RFC 4271 section 5.1.3.
    V4(Ipv4Addr),
    /// RFC 2545 section 3.
    V6 {
        /// The global address, or the link-local one again where there is no global one.
        global: Ipv6Addr,
        /// The link-local address, where the peer shares a link with us.
        link_local: Option<Ipv6Addr>,
    },
}

impl NextHop {
    /// The IPv4 address, or the global IPv6 address where there is one; else the link-local one.
    pub const fn address(self) -> IpAddr {
        match self {
            Self::V4(address) => IpAddr::V4(address),
            Self::V6 { global, .. } => IpAddr::V6(global),
        }
    }

    /// The next hop of routes that we originate, until the export step puts an address in.
    pub const fn unspecified(family: Family) -> Self {
        match family {
            Family::Ipv4Unicast => Self::V4(Ipv4Addr::UNSPECIFIED),
            Family::Ipv6Unicast => Self::V6 {
                global: Ipv6Addr::UNSPECIFIED,
                link_local: None,
            },
        }
    }

    /// A next hop with no address but a link-local one (unnumbered links).
    pub const fn link_local(address: Ipv6Addr) -> Self {
        Self::V6 {
            global: address,
            link_local: Some(address),
        }
    }

    /// The link-local address: what makes a next hop on the link of the session.
    pub fn link_local_address(self) -> Option<Ipv6Addr> {
        match self {
            Self::V4(_) => None,
            Self::V6 { global, link_local } => {
                link_local.or_else(|| global.is_unicast_link_local().then_some(global))
            }
        }
    }

    /// Whether no address was put in.
    pub fn is_unspecified(self) -> bool {
        self.address().is_unspecified()
    }
}

impl From<IpAddr> for NextHop {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(global) => Self::V6 {
                global,
                link_local: None,
            },
        }
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().fmt(f)
    }
}

/// A community of RFC 1997.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Community(pub u32);

impl Community {
    /// Not beyond this AS or confederation.
    pub const NO_EXPORT: Self = Self(0xffff_ff01);
    /// To no other peer.
    pub const NO_ADVERTISE: Self = Self(0xffff_ff02);
    /// Not beyond this member AS.
    pub const NO_EXPORT_SUBCONFED: Self = Self(0xffff_ff03);
    /// RFC 3765: not to bilateral peers.
    pub const NO_PEER: Self = Self(0xffff_ff04);
    /// RFC 8326: prefer any other path.
    pub const GRACEFUL_SHUTDOWN: Self = Self(0xffff_0000);
    /// RFC 7611: take it although it is our own route.
    pub const ACCEPT_OWN: Self = Self(0xffff_0001);
    /// RFC 9494: kept past the restart time of who announced it.
    pub const LLGR_STALE: Self = Self(0xffff_0006);
    /// RFC 9494: not to be kept past the restart time.
    pub const NO_LLGR: Self = Self(0xffff_0007);
    /// RFC 7999: drop what goes there.
    pub const BLACKHOLE: Self = Self(0xffff_029a);

    /// `high:low`.
    pub const fn new(high: u16, low: u16) -> Self {
        Self(((high as u32) << 16) | low as u32)
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff)
    }
}

impl fmt::Debug for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A large community of RFC 8092.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LargeCommunity {
    /// Global administrator, an AS number.
    pub global: u32,
    /// First operator-defined part.
    pub local1: u32,
    /// Second operator-defined part.
    pub local2: u32,
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.global, self.local1, self.local2)
    }
}

/// An extended community of RFC 4360, uninterpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExtendedCommunity(pub [u8; 8]);

/// AGGREGATOR (RFC 4271 section 5.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Aggregator {
    /// The AS that formed the aggregate.
    pub asn: u32,
    /// Its router id.
    pub router_id: Ipv4Addr,
}

/// The attributes that came with the partial bit: a speaker on the way did not know them, and
/// nobody may take the bit off again (RFC 4271 section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PartialSet(u8);

impl PartialSet {
    /// Type codes that may be in the set: the optional transitive attributes that we know.
    const CODES: [u8; 5] = [7, 8, 16, 32, 35];

    fn bit(code: u8) -> u8 {
        let place = Self::CODES.iter().position(|other| *other == code);
        place.map_or(0, |place| 1 << place)
    }

    /// Adds an attribute by its type code. Those that are not optional transitive are passed over.
    pub fn insert(&mut self, code: u8) {
        self.0 |= Self::bit(code);
    }

    /// Whether the attribute of this type code is in the set.
    pub fn contains(self, code: u8) -> bool {
        self.0 & Self::bit(code) != 0
    }

    /// The set as a number, for [`PartialSet::from_bits`].
    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    /// The set of a number.
    pub(crate) const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }
}

/// An optional transitive attribute that we pass on as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnknownAttribute {
    /// The flag octet as received without the extended-length bit; the partial bit is set if we do not
    /// know the attribute.
    pub flags: u8,
    /// The type code.
    pub code: u8,
    /// The value.
    pub value: Box<[u8]>,
}

/// The attributes that the prefixes of an UPDATE share.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Attributes {
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH, merged with AS4_PATH.
    pub as_path: AsPath,
    /// NEXT_HOP, or the next hop of MP_REACH_NLRI.
    pub next_hop: NextHop,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE.
    pub atomic_aggregate: bool,
    /// AGGREGATOR, merged with AS4_AGGREGATOR.
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES, in the order received.
    pub communities: Vec<Community>,
    /// ORIGINATOR_ID (RFC 4456).
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST (RFC 4456), the latest reflector first.
    pub cluster_list: Vec<Ipv4Addr>,
    /// EXTENDED COMMUNITIES.
    pub extended_communities: Vec<ExtendedCommunity>,
    /// LARGE_COMMUNITY.
    pub large_communities: Vec<LargeCommunity>,
    /// ONLY_TO_CUSTOMER (RFC 9234): the AS that said so first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otc: Option<u32>,
    /// Which of the attributes above came with the partial bit.
    #[serde(default)]
    pub partial: PartialSet,
    /// Optional transitive attributes that we pass on without reading them, by type code.
    pub unknown: Vec<UnknownAttribute>,
    /// No path attribute, and never on the wire: a preference of this speaker alone, the higher the better.
    pub weight: Option<u32>,
    /// The index of the interface that the next hop's link-local address is on, where that is the way to take. Not
    /// on the wire: whoever receives a route over a link says it, and it never leaves this host.
    #[serde(default)]
    pub interface: Option<u32>,
}

impl Attributes {
    /// The attributes of a route that this speaker originates.
    pub fn originated(next_hop: NextHop) -> Self {
        Self {
            origin: Origin::Igp,
            as_path: AsPath::default(),
            next_hop,
            med: None,
            local_pref: None,
            atomic_aggregate: false,
            aggregator: None,
            communities: Vec::new(),
            originator_id: None,
            cluster_list: Vec::new(),
            extended_communities: Vec::new(),
            large_communities: Vec::new(),
            otc: None,
            partial: PartialSet::default(),
            unknown: Vec::new(),
            weight: None,
            interface: None,
        }
    }

    /// Whether the community is among the route's.
    pub fn has_community(&self, community: Community) -> bool {
        self.communities.contains(&community)
    }
}
