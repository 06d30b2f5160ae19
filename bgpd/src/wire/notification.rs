//! NOTIFICATION (RFC 4271 section 4.5), its codes and what its data may hold.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Family;

/// Message Header Error.
pub const HEADER: u8 = 1;
/// OPEN Message Error.
pub const OPEN: u8 = 2;
/// UPDATE Message Error.
pub const UPDATE: u8 = 3;
/// Hold Timer Expired.
pub const HOLD_TIMER: u8 = 4;
/// Finite State Machine Error (subcodes of RFC 6608).
pub const FSM: u8 = 5;
/// Cease (subcodes of RFC 4486).
pub const CEASE: u8 = 6;
/// ROUTE-REFRESH Message Error (RFC 7313).
pub const ROUTE_REFRESH: u8 = 7;
/// Send Hold Timer Expired (RFC 9687).
pub const SEND_HOLD_TIMER: u8 = 8;

/// Subcodes of [`HEADER`].
pub mod header {
    /// The marker is not all ones.
    pub const NOT_SYNCHRONIZED: u8 = 1;
    /// The length is out of range for the type; the data is the length.
    pub const BAD_LENGTH: u8 = 2;
    /// The type is not known; the data is the type.
    pub const BAD_TYPE: u8 = 3;
}

/// Subcodes of [`OPEN`].
pub mod open {
    /// The message makes no sense.
    pub const UNSPECIFIC: u8 = 0;
    /// The data is the version that we speak.
    pub const UNSUPPORTED_VERSION: u8 = 1;
    /// Not the AS that was configured.
    pub const BAD_PEER_AS: u8 = 2;
    /// Zero, or our own.
    pub const BAD_IDENTIFIER: u8 = 3;
    /// An optional parameter that is not known.
    pub const UNSUPPORTED_PARAMETER: u8 = 4;
    /// One or two seconds.
    pub const UNACCEPTABLE_HOLD_TIME: u8 = 6;
    /// RFC 5492: the data is the capability that is missing.
    pub const UNSUPPORTED_CAPABILITY: u8 = 7;
    /// RFC 9234: the two ends' roles do not go together.
    pub const ROLE_MISMATCH: u8 = 11;
}

/// Subcodes of [`UPDATE`].
pub mod update {
    /// The lengths contradict each other.
    pub const MALFORMED_ATTRIBUTES: u8 = 1;
    /// A well-known attribute that is not known; the data is the attribute.
    pub const UNRECOGNIZED_WELL_KNOWN: u8 = 2;
    /// A well-known attribute is not there; the data is its type code.
    pub const MISSING_WELL_KNOWN: u8 = 3;
    /// Flags that the attribute must not have; the data is the attribute.
    pub const ATTRIBUTE_FLAGS: u8 = 4;
    /// An attribute of the wrong length; the data is the attribute.
    pub const ATTRIBUTE_LENGTH: u8 = 5;
    /// ORIGIN is none of its three values; the data is the attribute.
    pub const INVALID_ORIGIN: u8 = 6;
    /// NEXT_HOP is not the address of a host; the data is the attribute.
    pub const INVALID_NEXT_HOP: u8 = 8;
    /// MP_REACH_NLRI or MP_UNREACH_NLRI cannot be read; the data is the attribute.
    pub const OPTIONAL_ATTRIBUTE: u8 = 9;
    /// A prefix that cannot be read.
    pub const INVALID_NETWORK: u8 = 10;
    /// AS_PATH cannot be read.
    pub const MALFORMED_AS_PATH: u8 = 11;
}

/// Subcodes of [`FSM`] (RFC 6608): a message that the state does not expect; the data is its type.
pub mod fsm {
    /// In OpenSent.
    pub const OPEN_SENT: u8 = 1;
    /// In OpenConfirm.
    pub const OPEN_CONFIRM: u8 = 2;
    /// In Established.
    pub const ESTABLISHED: u8 = 3;
}

/// Subcodes of [`ROUTE_REFRESH`] (RFC 7313 section 5).
pub mod route_refresh {
    /// The data is the whole message.
    pub const INVALID_LENGTH: u8 = 1;
}

/// Subcodes of [`CEASE`] (RFC 4486, RFC 8538, RFC 9384).
pub mod cease {
    /// The data may be the family and its limit: see [`super::Notification::max_prefixes`].
    pub const MAX_PREFIXES: u8 = 1;
    /// Stopped by an operator.
    pub const ADMIN_SHUTDOWN: u8 = 2;
    /// The neighbour was removed from the configuration.
    pub const DECONFIGURED: u8 = 3;
    /// To be opened again at once.
    pub const ADMIN_RESET: u8 = 4;
    /// The connection is not wanted now.
    pub const CONNECTION_REJECTED: u8 = 5;
    /// The session's settings changed.
    pub const CONFIGURATION_CHANGE: u8 = 6;
    /// The other connection to the same neighbour stays (RFC 4271 section 6.8).
    pub const COLLISION: u8 = 7;
    /// No memory or the like.
    pub const OUT_OF_RESOURCES: u8 = 8;
    /// RFC 8538: routes are not to be retained; the data is the notification that says why.
    pub const HARD_RESET: u8 = 9;
    /// RFC 9384: BFD says that the neighbour cannot be reached.
    pub const BFD_DOWN: u8 = 10;
}

/// Longest shutdown communication, in octets of UTF-8 (RFC 9003 section 2).
pub const COMMUNICATION_MAX_BYTES: usize = 255;

/// Longest data that we keep or send, in bytes.
pub const DATA_MAX_BYTES: usize = 4096 - 21;

/// Why a session ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode, 0 for unspecific.
    pub subcode: u8,
    /// What the receiver needs to find the fault.
    pub data: Vec<u8>,
}

impl Notification {
    /// Without data.
    pub const fn new(code: u8, subcode: u8) -> Self {
        Self {
            code,
            subcode,
            data: Vec::new(),
        }
    }

    /// With data, cut to what a message can hold.
    pub fn with_data(code: u8, subcode: u8, data: &[u8]) -> Self {
        Self {
            code,
            subcode,
            data: data.iter().copied().take(DATA_MAX_BYTES).collect(),
        }
    }

    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let [code, subcode, data @ ..] = body else {
            return None;
        };
        Some(Self::with_data(*code, *subcode, data))
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend([self.code, self.subcode]);
        out.extend(self.data.iter().take(DATA_MAX_BYTES));
    }

    /// Cease with a text for the neighbour's operator (RFC 9003), cut at a character's boundary to
    /// [`COMMUNICATION_MAX_BYTES`]. `subcode` is one that may carry it: administrative shutdown or reset.
    pub fn with_communication(subcode: u8, text: &str) -> Self {
        let text = text
            .get(..text.floor_char_boundary(COMMUNICATION_MAX_BYTES))
            .unwrap_or(text);
        let mut data = vec![text.len() as u8];
        data.extend(text.as_bytes());
        Self {
            code: CEASE,
            subcode,
            data,
        }
    }

    /// RFC 9003: the text that an operator gave for a shutdown or reset, also inside of a hard reset.
    /// `None` if there is none, or if it is not UTF-8.
    pub fn shutdown_communication(&self) -> Option<&str> {
        let (subcode, data) = self.innermost_cease()?;
        if !matches!(subcode, cease::ADMIN_SHUTDOWN | cease::ADMIN_RESET) {
            return None;
        }
        let (length, text) = data.split_first()?;
        std::str::from_utf8(text.get(..usize::from(*length))?)
            .ok()
            .filter(|text| !text.is_empty())
    }

    /// Subcode and data of a Cease, or of the Cease that a hard reset carries.
    fn innermost_cease(&self) -> Option<(u8, &[u8])> {
        match (self.code, self.subcode, self.data.as_slice()) {
            (CEASE, cease::HARD_RESET, [CEASE, subcode, data @ ..]) => Some((*subcode, data)),
            (CEASE, cease::HARD_RESET, _) => None,
            (CEASE, subcode, data) => Some((subcode, data)),
            _ => None,
        }
    }

    /// RFC 8538 section 3.1: the same reason, in a form that makes the neighbour drop our routes at once.
    pub fn hard_reset(&self) -> Self {
        let mut data = vec![self.code, self.subcode];
        data.extend(self.data.iter().take(DATA_MAX_BYTES - data.len()));
        Self {
            code: CEASE,
            subcode: cease::HARD_RESET,
            data,
        }
    }

    /// Whether routes are not to be retained (RFC 8538 section 4).
    pub const fn is_hard_reset(&self) -> bool {
        self.code == CEASE && self.subcode == cease::HARD_RESET
    }

    /// RFC 8538 section 3.1: the reason that a hard reset carries.
    pub fn hard_reset_reason(&self) -> Option<Self> {
        self.is_hard_reset().then(|| Self::decode(&self.data)).flatten()
    }

    /// RFC 4486 section 4: the limit of a family was passed.
    pub fn max_prefixes(family: Family, limit: u32) -> Self {
        let mut data = family.afi().to_be_bytes().to_vec();
        data.push(family.safi());
        data.extend(limit.to_be_bytes());
        Self {
            code: CEASE,
            subcode: cease::MAX_PREFIXES,
            data,
        }
    }

    const fn name(&self) -> &'static str {
        match (self.code, self.subcode) {
            (HEADER, header::NOT_SYNCHRONIZED) => "connection not synchronized",
            (HEADER, header::BAD_LENGTH) => "bad message length",
            (HEADER, header::BAD_TYPE) => "bad message type",
            (HEADER, _) => "message header error",
            (OPEN, open::UNSUPPORTED_VERSION) => "unsupported version number",
            (OPEN, open::BAD_PEER_AS) => "bad peer AS",
            (OPEN, open::BAD_IDENTIFIER) => "bad BGP identifier",
            (OPEN, open::UNSUPPORTED_PARAMETER) => "unsupported optional parameter",
            (OPEN, open::UNACCEPTABLE_HOLD_TIME) => "unacceptable hold time",
            (OPEN, open::UNSUPPORTED_CAPABILITY) => "unsupported capability",
            (OPEN, open::ROLE_MISMATCH) => "role mismatch",
            (OPEN, _) => "OPEN message error",
            (UPDATE, update::MALFORMED_ATTRIBUTES) => "malformed attribute list",
            (UPDATE, update::UNRECOGNIZED_WELL_KNOWN) => "unrecognized well-known attribute",
            (UPDATE, update::OPTIONAL_ATTRIBUTE) => "optional attribute error",
            (UPDATE, update::INVALID_NETWORK) => "invalid network field",
            (UPDATE, update::MISSING_WELL_KNOWN) => "missing well-known attribute",
            (UPDATE, update::ATTRIBUTE_FLAGS) => "attribute flags error",
            (UPDATE, update::ATTRIBUTE_LENGTH) => "attribute length error",
            (UPDATE, update::INVALID_ORIGIN) => "invalid ORIGIN attribute",
            (UPDATE, update::INVALID_NEXT_HOP) => "invalid NEXT_HOP attribute",
            (UPDATE, update::MALFORMED_AS_PATH) => "malformed AS_PATH",
            (UPDATE, _) => "UPDATE message error",
            (HOLD_TIMER, _) => "hold timer expired",
            (FSM, fsm::OPEN_SENT) => "unexpected message in OpenSent",
            (FSM, fsm::OPEN_CONFIRM) => "unexpected message in OpenConfirm",
            (FSM, fsm::ESTABLISHED) => "unexpected message in Established",
            (FSM, _) => "finite state machine error",
            (CEASE, cease::MAX_PREFIXES) => "maximum number of prefixes reached",
            (CEASE, cease::ADMIN_SHUTDOWN) => "administrative shutdown",
            (CEASE, cease::DECONFIGURED) => "peer de-configured",
            (CEASE, cease::ADMIN_RESET) => "administrative reset",
            (CEASE, cease::CONNECTION_REJECTED) => "connection rejected",
            (CEASE, cease::CONFIGURATION_CHANGE) => "other configuration change",
            (CEASE, cease::COLLISION) => "connection collision resolution",
            (CEASE, cease::OUT_OF_RESOURCES) => "out of resources",
            (CEASE, cease::HARD_RESET) => "hard reset",
            (CEASE, cease::BFD_DOWN) => "BFD down",
            (CEASE, _) => "cease",
            (ROUTE_REFRESH, route_refresh::INVALID_LENGTH) => "invalid ROUTE-REFRESH length",
            (ROUTE_REFRESH, _) => "ROUTE-REFRESH message error",
            (SEND_HOLD_TIMER, _) => "send hold timer expired",
            _ => "unknown error",
        }
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}/{})", self.name(), self.code, self.subcode)?;
        if let Some(reason) = self.hard_reset_reason() {
            // What a hard reset carries is not taken apart again.
            write!(f, ": {} ({}/{})", reason.name(), reason.code, reason.subcode)?;
        }
        if let Some(text) = self.shutdown_communication() {
            return write!(f, ": {text:?}");
        }
        if !self.data.is_empty() {
            f.write_str(", data ")?;
            for byte in self.data.iter().take(32) {
                write!(f, "{byte:02x}")?;
            }
            if self.data.len() > 32 {
                f.write_str("...")?;
            }
        }
        Ok(())
    }
}
