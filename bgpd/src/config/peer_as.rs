//! Which AS a neighbour may be in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which AS a neighbour may be in: what its OPEN names must fit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerAs {
    /// Any other than ours.
    External,
    /// Ours.
    Internal,
    /// This one.
    #[serde(untagged)]
    Number(u32),
    /// One of these, none of them ours.
    #[serde(untagged)]
    OneOf(Vec<u32>),
}

impl PeerAs {
    /// Whether a neighbour may be in this AS, where ours is `local_as`.
    pub fn accepts(&self, asn: u32, local_as: u32) -> bool {
        match self {
            Self::Number(number) => *number == asn,
            Self::OneOf(numbers) => numbers.contains(&asn),
            Self::External => asn != local_as,
            Self::Internal => asn == local_as,
        }
    }

    /// Whether the neighbour is in another AS than ours.
    pub fn is_external(&self, local_as: u32) -> bool {
        match self {
            Self::Number(number) => *number != local_as,
            Self::OneOf(_) | Self::External => true,
            Self::Internal => false,
        }
    }

    /// The one AS that it can be in, if there is but one.
    pub fn number(&self, local_as: u32) -> Option<u32> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Internal => Some(local_as),
            Self::OneOf(_) | Self::External => None,
        }
    }

    /// What is wrong with it where our AS is `local_as`.
    pub(super) fn check(&self, local_as: u32) -> Result<(), &'static str> {
        match self {
            Self::Number(0) => Err("0 is reserved (RFC 7607): give the AS number"),
            Self::OneOf(numbers) if numbers.is_empty() => {
                Err("is an empty list: give AS numbers, or \"external\"")
            }
            Self::OneOf(numbers) if numbers.contains(&0) => {
                Err("0 is reserved (RFC 7607): leave it out of the list")
            }
            Self::OneOf(numbers) if numbers.contains(&local_as) => {
                Err("our own AS cannot be in a list of others: leave it out, or give it alone")
            }
            _ => Ok(()),
        }
    }
}

impl From<u32> for PeerAs {
    fn from(number: u32) -> Self {
        Self::Number(number)
    }
}

impl fmt::Display for PeerAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::OneOf(numbers) => write!(f, "one of {numbers:?}"),
            Self::External => f.write_str("external"),
            Self::Internal => f.write_str("internal"),
        }
    }
}
