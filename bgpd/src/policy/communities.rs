//! Patterns over communities, as text: `65000:1`, `65000:*`, `no-export`; `65000:1:*`; `rt:65000:*`.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::wire::{Community, ExtendedCommunity, LargeCommunity};

/// A text that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: {reason}")]
pub struct PatternError {
    text: String,
    reason: &'static str,
}

impl PatternError {
    pub(super) fn new(text: &str, reason: &'static str) -> Self {
        Self {
            text: text.to_owned(),
            reason,
        }
    }
}

/// Names for well-known communities (the IANA registry of RFC 1997).
const NAMES: [(&str, Community); 7] = [
    ("no-export", Community::NO_EXPORT),
    ("no-advertise", Community::NO_ADVERTISE),
    ("no-export-subconfed", Community::NO_EXPORT_SUBCONFED),
    ("graceful-shutdown", Community::GRACEFUL_SHUTDOWN),
    ("blackhole", Community::BLACKHOLE),
    ("llgr-stale", Community::LLGR_STALE),
    ("no-llgr", Community::NO_LLGR),
];

/// A part that may be a wildcard.
fn part<T: FromStr>(text: &str) -> Option<Option<T>> {
    match text {
        "*" => Some(None),
        _ => text.parse().ok().map(Some),
    }
}

/// A part as it is written.
struct Part<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for Part<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("*"),
        }
    }
}

/// Communities of RFC 1997: each half a number or anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommunityPattern {
    /// The first half.
    pub high: Option<u16>,
    /// The second half.
    pub low: Option<u16>,
}

impl CommunityPattern {
    /// Every community.
    pub const ANY: Self = Self {
        high: None,
        low: None,
    };

    /// Whether the community is one of these.
    pub fn matches(&self, community: Community) -> bool {
        let [high, low] = [community.0 >> 16, community.0 & 0xffff];
        self.high.is_none_or(|part| u32::from(part) == high)
            && self.low.is_none_or(|part| u32::from(part) == low)
    }

    /// The community, if the pattern stands for one alone.
    pub fn exact(&self) -> Option<Community> {
        Some(Community::new(self.high?, self.low?))
    }
}

impl From<Community> for CommunityPattern {
    fn from(community: Community) -> Self {
        let [a, b, c, d] = community.0.to_be_bytes();
        Self {
            high: Some(u16::from_be_bytes([a, b])),
            low: Some(u16::from_be_bytes([c, d])),
        }
    }
}

impl FromStr for CommunityPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if let Some((_, community)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok((*community).into());
        }
        let parts = text
            .split_once(':')
            .and_then(|(high, low)| Some((part(high)?, part(low)?)));
        let (high, low) = parts.ok_or_else(|| {
            PatternError::new(
                text,
                "must be a community such as 65000:1 or 65000:*, or the name of a well-known one such as no-export",
            )
        })?;
        Ok(Self { high, low })
    }
}

impl fmt::Display for CommunityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", Part(self.high), Part(self.low))
    }
}

/// Large communities of RFC 8092: each part a number or anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LargeCommunityPattern {
    /// Global administrator.
    pub global: Option<u32>,
    /// First local part.
    pub local1: Option<u32>,
    /// Second local part.
    pub local2: Option<u32>,
}

impl LargeCommunityPattern {
    /// Every large community.
    pub const ANY: Self = Self {
        global: None,
        local1: None,
        local2: None,
    };

    /// Whether the community is one of these.
    pub fn matches(&self, community: LargeCommunity) -> bool {
        self.global.is_none_or(|part| part == community.global)
            && self.local1.is_none_or(|part| part == community.local1)
            && self.local2.is_none_or(|part| part == community.local2)
    }

    /// The community, if the pattern stands for one alone.
    pub fn exact(&self) -> Option<LargeCommunity> {
        Some(LargeCommunity {
            global: self.global?,
            local1: self.local1?,
            local2: self.local2?,
        })
    }
}

impl From<LargeCommunity> for LargeCommunityPattern {
    fn from(community: LargeCommunity) -> Self {
        Self {
            global: Some(community.global),
            local1: Some(community.local1),
            local2: Some(community.local2),
        }
    }
}

impl FromStr for LargeCommunityPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let mut parts = text.split(':').map(part);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Some(global)), Some(Some(local1)), Some(Some(local2)), None) => Ok(Self {
                global,
                local1,
                local2,
            }),
            _ => Err(PatternError::new(
                text,
                "must be a large community such as 65000:1:2 or 65000:*:*",
            )),
        }
    }
}

impl fmt::Display for LargeCommunityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}:{}",
            Part(self.global),
            Part(self.local1),
            Part(self.local2)
        )
    }
}

/// Extended communities of RFC 4360: bits of the eight octets that must be as given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExtendedCommunityPattern {
    value: u64,
    mask: u64,
}

/// Sub-types with a name: route target and route origin (RFC 4360 sections 4 and 5).
const SUB_TYPES: [(&str, u8); 2] = [("rt", 0x02), ("ro", 0x03)];
/// Types whose value is a two-octet AS and a number, an IPv4 address and a number (RFC 4360 section 3), a
/// four-octet AS and a number (RFC 5668).
const TWO_OCTET_AS: u8 = 0x00;
const IPV4: u8 = 0x01;
const FOUR_OCTET_AS: u8 = 0x02;

impl ExtendedCommunityPattern {
    /// Every extended community.
    pub const ANY: Self = Self { value: 0, mask: 0 };

    /// Whether the community is one of these.
    pub fn matches(&self, community: ExtendedCommunity) -> bool {
        u64::from_be_bytes(community.0) & self.mask == self.value
    }

    /// The community, if the pattern stands for one alone.
    pub fn exact(&self) -> Option<ExtendedCommunity> {
        (self.mask == u64::MAX).then(|| ExtendedCommunity(self.value.to_be_bytes()))
    }

    /// `rt:` and `ro:`: what stands before the last part decides on the type.
    fn named(sub_type: u8, administrator: &str, number: &str) -> Option<Self> {
        let number: Option<u32> = part(number)?;
        let head = |kind: u8| (u64::from(kind) << 56) | (u64::from(sub_type) << 48);
        // The administrator's value, and how many bits the number has after it.
        let (kind, administrator, bits) = match administrator.parse::<u32>() {
            Ok(asn) if asn <= u16::MAX.into() => (TWO_OCTET_AS, asn, 32),
            Ok(asn) => (FOUR_OCTET_AS, asn, 16),
            Err(_) => (IPV4, administrator.parse::<Ipv4Addr>().ok()?.to_bits(), 16),
        };
        let tail_mask: u64 = (1 << bits) - 1;
        let value = head(kind) | (u64::from(administrator) << bits);
        match number {
            None => Some(Self {
                value,
                mask: !tail_mask,
            }),
            Some(number) => (u64::from(number) <= tail_mask).then(|| Self {
                value: value | u64::from(number),
                mask: u64::MAX,
            }),
        }
    }
}

impl From<ExtendedCommunity> for ExtendedCommunityPattern {
    fn from(community: ExtendedCommunity) -> Self {
        Self {
            value: u64::from_be_bytes(community.0),
            mask: u64::MAX,
        }
    }
}

impl FromStr for ExtendedCommunityPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let hex = |digits: &str| -> Option<Self> {
            let (value, mask) = digits.split_once('/').unwrap_or((digits, "ffffffffffffffff"));
            let [value, mask] = [value, mask].map(|part| u64::from_str_radix(part, 16).ok());
            let (value, mask) = (value?, mask?);
            Some(Self {
                value: value & mask,
                mask,
            })
        };
        let named = || {
            let (name, rest) = text.split_once(':')?;
            let (administrator, number) = rest.split_once(':')?;
            let (_, sub_type) = SUB_TYPES.iter().find(|(known, _)| *known == name)?;
            Self::named(*sub_type, administrator, number)
        };
        let found = match text.strip_prefix("0x") {
            _ if text == "*" => Some(Self::ANY),
            Some(digits) => hex(digits),
            None => named(),
        };
        found.ok_or_else(|| {
            PatternError::new(
                text,
                "must be an extended community such as rt:65000:1, ro:10.0.0.1:*, 0x0002fde800000001, or *",
            )
        })
    }
}

impl fmt::Display for ExtendedCommunityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mask {
            0 => f.write_str("*"),
            u64::MAX => write!(f, "0x{:016x}", self.value),
            mask => write!(f, "0x{:016x}/{mask:016x}", self.value),
        }
    }
}

macro_rules! as_text {
    ($($pattern:ty),*) => {$(
        impl TryFrom<String> for $pattern {
            type Error = PatternError;

            fn try_from(text: String) -> Result<Self, PatternError> {
                text.parse()
            }
        }

        impl From<$pattern> for String {
            fn from(pattern: $pattern) -> Self {
                pattern.to_string()
            }
        }
    )*};
}

as_text!(CommunityPattern, LargeCommunityPattern, ExtendedCommunityPattern);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard() {
        let pattern: CommunityPattern = "65000:*".parse().unwrap();
        assert!(pattern.matches(Community::new(65000, 7)) && !pattern.matches(Community::new(65001, 7)));
        assert_eq!((pattern.exact(), pattern.to_string().as_str()), (None, "65000:*"));
        let one: CommunityPattern = "blackhole".parse().unwrap();
        assert_eq!(
            (one.exact(), one.to_string().as_str()),
            (Some(Community::BLACKHOLE), "65535:666")
        );
        assert!("*:*".parse::<CommunityPattern>().unwrap().matches(Community(77)));
        for text in ["", "1", "1:", "65536:1", "1:2:3", "no-exports", "-1:1"] {
            assert!(text.parse::<CommunityPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn large() {
        let community = LargeCommunity {
            global: 4_200_000_000,
            local1: 1,
            local2: 2,
        };
        for (text, matches) in [
            ("4200000000:*:2", true),
            ("*:*:*", true),
            ("4200000000:1:3", false),
            ("1:1:2", false),
        ] {
            let pattern: LargeCommunityPattern = text.parse().unwrap();
            assert_eq!(
                (pattern.matches(community), pattern.to_string().as_str()),
                (matches, text)
            );
        }
        assert_eq!(LargeCommunityPattern::from(community).exact(), Some(community));
        for text in ["1:2", "1:2:3:4", "1:2:4294967296", "a:b:c"] {
            assert!(text.parse::<LargeCommunityPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn extended() {
        let cases = [
            ("rt:65000:1", "0x0002fde800000001"),
            ("ro:65000:4294967295", "0x0003fde8ffffffff"),
            ("rt:70000:1", "0x0202000111700001"),
            ("rt:192.0.2.1:9", "0x0102c00002010009"),
            ("rt:65000:*", "0x0002fde800000000/ffffffff00000000"),
            ("*", "*"),
        ];
        for (text, shown) in cases {
            let pattern: ExtendedCommunityPattern = text.parse().unwrap();
            assert_eq!(pattern.to_string(), shown);
            assert_eq!(shown.parse::<ExtendedCommunityPattern>().unwrap(), pattern);
        }
        let target = ExtendedCommunity([0, 2, 0xfd, 0xe8, 0, 0, 0, 9]);
        for (text, matches) in [
            ("rt:65000:*", true),
            ("rt:65000:9", true),
            ("ro:65000:*", false),
            ("*", true),
        ] {
            let pattern: ExtendedCommunityPattern = text.parse().unwrap();
            assert_eq!(pattern.matches(target), matches, "{text}");
        }
        for text in ["", "rt", "rt:1", "rt:70000:65536", "xx:1:1", "0xzz", "rt:*:1"] {
            assert!(text.parse::<ExtendedCommunityPattern>().is_err(), "{text}");
        }
    }
}
