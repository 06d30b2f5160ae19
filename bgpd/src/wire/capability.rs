//! Capabilities (RFC 5492): what a speaker offers in its OPEN.

use serde::{Deserialize, Serialize};

use super::capability_values::{
    decode_add_path, decode_extended_next_hop, decode_graceful_restart, decode_long_lived, encode_add_path,
    encode_extended_next_hop, encode_graceful_restart, encode_long_lived,
};
use super::notification::{self, Notification};
use super::reader::Reader;
use super::{Family, FamilySet};

const MULTIPROTOCOL: u8 = 1;
const ROUTE_REFRESH: u8 = 2;
const EXTENDED_NEXT_HOP: u8 = 5;
const EXTENDED_MESSAGE: u8 = 6;
const ROLE: u8 = 9;
const GRACEFUL_RESTART: u8 = 64;
const FOUR_OCTET_AS: u8 = 65;
const ADD_PATH: u8 = 69;
const ENHANCED_ROUTE_REFRESH: u8 = 70;
/// draft-ietf-idr-bgp-bfd-strict-mode.
const BFD_STRICT: u8 = 74;
const LONG_LIVED: u8 = 71;

/// The graceful-restart capability (RFC 4724 section 3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GracefulRestart {
    /// R bit: the sender has restarted, so nobody must wait for its End-of-RIB.
    pub restarted: bool,
    /// N bit (RFC 8538): NOTIFICATION does not end the retention of routes.
    pub notification: bool,
    /// Seconds within which the sender will be back.
    pub restart_time_s: u16,
    /// Families whose routes are retained over a restart.
    pub families: FamilySet,
    /// F bit: of these, those whose forwarding state was preserved.
    pub preserved: FamilySet,
}

/// Longest long-lived stale time, in seconds: 24 bits (RFC 9494 section 3).
pub const STALE_TIME_MAX_S: u32 = 0x00ff_ffff;

/// One family of the long-lived graceful restart capability (RFC 9494 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LongLivedFamily {
    /// The family.
    pub family: Family,
    /// F bit: its forwarding state was preserved.
    pub preserved: bool,
    /// Seconds for which its stale routes may be kept after the restart time, at most [`STALE_TIME_MAX_S`].
    pub stale_time_s: u32,
}

/// The add-path capability (RFC 7911 section 4), from its sender's point of view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AddPath {
    /// Families whose path identifiers the sender is able to take.
    pub receive: FamilySet,
    /// Families whose path identifiers the sender is willing to send.
    pub send: FamilySet,
}

/// A BGP role (RFC 9234 section 4.1): what the sender is on this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Its neighbour is its customer.
    Provider,
    /// A route server.
    RouteServer,
    /// A client of a route server.
    RouteServerClient,
    /// Its neighbour is its provider.
    Customer,
    /// Neither pays the other.
    Peer,
    /// A value that nobody has assigned; it goes with no other role.
    Unassigned(u8),
}

impl Role {
    /// The value on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Self::Provider => 0,
            Self::RouteServer => 1,
            Self::RouteServerClient => 2,
            Self::Customer => 3,
            Self::Peer => 4,
            Self::Unassigned(code) => code,
        }
    }

    /// The role with this value.
    pub const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Provider,
            1 => Self::RouteServer,
            2 => Self::RouteServerClient,
            3 => Self::Customer,
            4 => Self::Peer,
            code => Self::Unassigned(code),
        }
    }

    /// Whether both roles may be the two ends of a session (RFC 9234 section 4.2, table 2).
    pub const fn corresponds(self, other: Self) -> bool {
        matches!(
            (self, other),
            (Self::Provider, Self::Customer)
                | (Self::Customer, Self::Provider)
                | (Self::RouteServer, Self::RouteServerClient)
                | (Self::RouteServerClient, Self::RouteServer)
                | (Self::Peer, Self::Peer)
        )
    }
}

/// A capability that is not ours to understand, or whose value is not what its RFC says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UnknownCapability {
    /// Its code.
    pub code: u8,
    /// Its value, at most 255 octets.
    pub value: Box<[u8]>,
}

/// What a speaker offers in its OPEN.
///
/// New fields may come with new RFCs: build it as `Capabilities { .., ..Capabilities::default() }`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// RFC 4760. If none is offered, IPv4 unicast is meant.
    pub families: FamilySet,
    /// RFC 2918.
    pub route_refresh: bool,
    /// RFC 7313.
    pub enhanced_route_refresh: bool,
    /// RFC 8950: families whose routes may have an IPv6 next hop. Only IPv4 is written.
    pub extended_next_hop: FamilySet,
    /// RFC 8654.
    pub extended_message: bool,
    /// RFC 9234.
    pub role: Option<Role>,
    /// RFC 6793: the sender's AS number.
    pub four_octet_as: Option<u32>,
    /// RFC 4724.
    pub graceful_restart: Option<GracefulRestart>,
    /// RFC 9494: means something only together with graceful restart. Empty if not offered; an offer
    /// without families is no different.
    pub long_lived: Vec<LongLivedFamily>,
    /// RFC 7911.
    pub add_path: AddPath,
    /// The session waits for BFD (draft-ietf-idr-bgp-bfd-strict-mode).
    pub bfd_strict: bool,
    /// Others, in the order received.
    pub unknown: Vec<UnknownCapability>,
}

impl Capabilities {
    /// Reads the value of one capabilities parameter into `self`.
    ///
    /// A known capability of the wrong length counts as an unknown one, as if it had not been offered.
    pub(super) fn decode(&mut self, parameter: &[u8]) -> Result<(), Notification> {
        let malformed = || Notification::new(notification::OPEN, notification::open::UNSPECIFIC);
        let mut reader = Reader::new(parameter);
        while !reader.is_empty() {
            let code = reader.u8().ok_or_else(malformed)?;
            let length = reader.u8().ok_or_else(malformed)?;
            let value = reader.take(length.into()).ok_or_else(malformed)?;
            if let (ROLE, [role]) = (code, value) {
                self.decode_role(Role::from_code(*role))?;
            } else if self.decode_known(code, value).is_none() {
                self.unknown.push(UnknownCapability {
                    code,
                    value: value.into(),
                });
            }
        }
        Ok(())
    }

    /// RFC 9234 section 4.2: several roles must be the same one.
    fn decode_role(&mut self, role: Role) -> Result<(), Notification> {
        if self.role.is_some_and(|first| first != role) {
            return Err(Notification::new(
                notification::OPEN,
                notification::open::ROLE_MISMATCH,
            ));
        }
        self.role = Some(role);
        Ok(())
    }

    /// `None` if there is no capability of this code and length.
    fn decode_known(&mut self, code: u8, value: &[u8]) -> Option<()> {
        match (code, value) {
            (MULTIPROTOCOL, [afi_high, afi_low, _, safi]) => {
                let afi = u16::from_be_bytes([*afi_high, *afi_low]);
                self.families.extend(Family::from_wire(afi, *safi));
            }
            (ROUTE_REFRESH, []) => self.route_refresh = true,
            (EXTENDED_NEXT_HOP, value) => {
                let families = decode_extended_next_hop(value)?;
                self.extended_next_hop.extend(families.iter());
            }
            (EXTENDED_MESSAGE, []) => self.extended_message = true,
            // The last one counts (RFC 4724 section 3).
            (GRACEFUL_RESTART, value) => self.graceful_restart = Some(decode_graceful_restart(value)?),
            (FOUR_OCTET_AS, [a, b, c, d]) => {
                self.four_octet_as = Some(u32::from_be_bytes([*a, *b, *c, *d]));
            }
            (ADD_PATH, value) => decode_add_path(value, &mut self.add_path)?,
            (ENHANCED_ROUTE_REFRESH, []) => self.enhanced_route_refresh = true,
            (BFD_STRICT, []) => self.bfd_strict = true,
            (LONG_LIVED, value) => self.long_lived = decode_long_lived(value)?,
            _ => return None,
        }
        Some(())
    }

    /// Writes every capability, without the parameter's header.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for family in self.families.iter() {
            let [afi_high, afi_low] = family.afi().to_be_bytes();
            out.extend([MULTIPROTOCOL, 4, afi_high, afi_low, 0, family.safi()]);
        }
        let flags = [
            (ROUTE_REFRESH, self.route_refresh),
            (ENHANCED_ROUTE_REFRESH, self.enhanced_route_refresh),
            (EXTENDED_MESSAGE, self.extended_message),
            (BFD_STRICT, self.bfd_strict),
        ];
        for (code, _) in flags.into_iter().filter(|(_, offered)| *offered) {
            out.extend([code, 0]);
        }
        // An IPv6 route has an IPv6 next hop anyhow.
        if self.extended_next_hop.contains(Family::Ipv4Unicast) {
            put(EXTENDED_NEXT_HOP, out, encode_extended_next_hop);
        }
        if let Some(role) = self.role {
            out.extend([ROLE, 1, role.code()]);
        }
        if let Some(restart) = &self.graceful_restart {
            put(GRACEFUL_RESTART, out, |out| encode_graceful_restart(restart, out));
        }
        if let Some(asn) = self.four_octet_as {
            out.extend([FOUR_OCTET_AS, 4]);
            out.extend(asn.to_be_bytes());
        }
        if self.add_path != AddPath::default() {
            put(ADD_PATH, out, |out| encode_add_path(self.add_path, out));
        }
        if !self.long_lived.is_empty() {
            put(LONG_LIVED, out, |out| encode_long_lived(&self.long_lived, out));
        }
        for unknown in &self.unknown {
            put(unknown.code, out, |out| out.extend(&unknown.value));
        }
    }

    /// The families offered: IPv4 unicast where the capability is missing (RFC 4760 section 8).
    pub fn offered_families(&self) -> FamilySet {
        if self.families.is_empty() {
            [Family::Ipv4Unicast].into_iter().collect()
        } else {
            self.families
        }
    }
}

/// Longest value of a capability, in octets.
const VALUE_MAX_BYTES: usize = 255;

/// Code, length and value; a value that is too long is left out with its code.
fn put(code: u8, out: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([code, 0]);
    value(out);
    let length = out.len() - start - 2;
    if length > VALUE_MAX_BYTES {
        out.truncate(start);
    } else if let Some(field) = out.get_mut(start + 1) {
        *field = length as u8;
    }
}
