//! Address families (RFC 4760).

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A route destination, with its host bits zero.
pub type Prefix = IpNet;

/// AFI 1, IANA "Address Family Numbers".
const AFI_IPV4: u16 = 1;
/// AFI 2.
const AFI_IPV6: u16 = 2;
/// SAFI 1, unicast forwarding.
const SAFI_UNICAST: u8 = 1;

/// An address family whose routes this speaker carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Family {
    /// AFI 1, SAFI 1.
    #[serde(rename = "ipv4", alias = "ipv4-unicast")]
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    #[serde(rename = "ipv6", alias = "ipv6-unicast")]
    Ipv6Unicast,
}

impl Family {
    /// Every family, in the order in which they are advertised.
    pub const ALL: [Self; 2] = [Self::Ipv4Unicast, Self::Ipv6Unicast];

    /// The address family number on the wire.
    pub const fn afi(self) -> u16 {
        match self {
            Self::Ipv4Unicast => AFI_IPV4,
            Self::Ipv6Unicast => AFI_IPV6,
        }
    }

    /// The subsequent address family number on the wire.
    pub const fn safi(self) -> u8 {
        SAFI_UNICAST
    }

    /// The family of these numbers, if it is one that we carry.
    pub const fn from_wire(afi: u16, safi: u8) -> Option<Self> {
        match (afi, safi) {
            (AFI_IPV4, SAFI_UNICAST) => Some(Self::Ipv4Unicast),
            (AFI_IPV6, SAFI_UNICAST) => Some(Self::Ipv6Unicast),
            _ => None,
        }
    }

    /// The unicast family of a prefix.
    pub const fn of(prefix: &Prefix) -> Self {
        match prefix {
            IpNet::V4(_) => Self::Ipv4Unicast,
            IpNet::V6(_) => Self::Ipv6Unicast,
        }
    }

    /// The unicast family of an address.
    pub const fn of_address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4Unicast,
            IpAddr::V6(_) => Self::Ipv6Unicast,
        }
    }

    /// The longest prefix of the family, in bits.
    pub const fn address_bits(self) -> u8 {
        match self {
            Self::Ipv4Unicast => 32,
            Self::Ipv6Unicast => 128,
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Ipv4Unicast => 1,
            Self::Ipv6Unicast => 2,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4Unicast => "ipv4",
            Self::Ipv6Unicast => "ipv6",
        })
    }
}

/// A small set of families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<Family>", into = "Vec<Family>")]
pub struct FamilySet(u8);

impl FamilySet {
    /// No family.
    pub const EMPTY: Self = Self(0);

    /// Adds a family; true if it was not there.
    pub fn insert(&mut self, family: Family) -> bool {
        let new = !self.contains(family);
        self.0 |= family.bit();
        new
    }

    /// Removes a family; true if it was there.
    pub fn remove(&mut self, family: Family) -> bool {
        let had = self.contains(family);
        self.0 &= !family.bit();
        had
    }

    /// Whether the family is in the set.
    pub const fn contains(self, family: Family) -> bool {
        self.0 & family.bit() != 0
    }

    /// Whether the set has no family.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Families that are in both sets.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The families, in wire order.
    pub fn iter(self) -> impl Iterator<Item = Family> {
        Family::ALL
            .into_iter()
            .filter(move |family| self.contains(*family))
    }
}

impl Extend<Family> for FamilySet {
    fn extend<I: IntoIterator<Item = Family>>(&mut self, families: I) {
        for family in families {
            self.insert(family);
        }
    }
}

impl FromIterator<Family> for FamilySet {
    fn from_iter<I: IntoIterator<Item = Family>>(families: I) -> Self {
        let mut set = Self::EMPTY;
        set.extend(families);
        set
    }
}

impl From<Vec<Family>> for FamilySet {
    fn from(families: Vec<Family>) -> Self {
        families.into_iter().collect()
    }
}

impl From<FamilySet> for Vec<Family> {
    fn from(set: FamilySet) -> Self {
        set.iter().collect()
    }
}
