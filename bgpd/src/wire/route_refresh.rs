//! ROUTE-REFRESH (RFC 2918) with the subtypes of RFC 7313.

use serde::{Deserialize, Serialize};

use super::notification::{self, Notification};
use super::{Codec, Family};

/// What a ROUTE-REFRESH says: its subtype octet (RFC 7313 section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RefreshKind {
    /// Send all routes of the family again.
    #[default]
    Request,
    /// Beginning of Route Refresh: what follows is all of them.
    Begin,
    /// End of Route Refresh: what was not sent since the beginning is gone.
    End,
}

impl RefreshKind {
    /// The subtype octet.
    pub const fn code(self) -> u8 {
        match self {
            Self::Request => 0,
            Self::Begin => 1,
            Self::End => 2,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Request),
            1 => Some(Self::Begin),
            2 => Some(Self::End),
            _ => None,
        }
    }
}

/// A ROUTE-REFRESH that we understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RouteRefresh {
    /// What it says.
    pub kind: RefreshKind,
    /// Of which routes.
    pub family: Family,
}

impl RouteRefresh {
    /// Reads `body`, the part of `message` after its header. `None` is a message to pass over: of a
    /// family that we do not carry, or of a subtype that nobody has defined (RFC 7313 section 5).
    pub(super) fn decode(body: &[u8], message: &[u8], codec: Codec) -> Result<Option<Self>, Notification> {
        match body {
            [afi_high, afi_low, subtype, safi] => {
                // Without RFC 7313 the octet is reserved, and ignored (RFC 2918 section 3).
                let subtype = if codec.enhanced_route_refresh { *subtype } else { 0 };
                let family = Family::from_wire(u16::from_be_bytes([*afi_high, *afi_low]), *safi);
                let kind = RefreshKind::from_code(subtype);
                Ok(family.zip(kind).map(|(family, kind)| Self { kind, family }))
            }
            // RFC 7313 section 5.
            [_, _, 1 | 2, ..] if codec.enhanced_route_refresh => Err(Notification::with_data(
                notification::ROUTE_REFRESH,
                notification::route_refresh::INVALID_LENGTH,
                message,
            )),
            [_, _, 3..=u8::MAX, ..] if codec.enhanced_route_refresh => Ok(None),
            // Outbound route filters (RFC 5291) would follow here; we do not offer them.
            _ => Err(super::message::bad_length(message.len())),
        }
    }

    pub(super) fn encode(self, out: &mut Vec<u8>) {
        out.extend(self.family.afi().to_be_bytes());
        out.extend([self.kind.code(), self.family.safi()]);
    }
}
