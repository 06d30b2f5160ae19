//! NOTIFICATION (RFC 4271 section 4.5) and its codes.

use std::fmt;

use serde::{Deserialize, Serialize};

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
}

/// Subcodes of [`UPDATE`].
pub mod update {
    /// The lengths contradict each other.
    pub const MALFORMED_ATTRIBUTES: u8 = 1;
    /// A well-known attribute that is not known; the data is the attribute.
    pub const UNRECOGNIZED_WELL_KNOWN: u8 = 2;
    /// MP_REACH_NLRI or MP_UNREACH_NLRI cannot be read; the data is the attribute.
    pub const OPTIONAL_ATTRIBUTE: u8 = 9;
    /// A prefix that cannot be read.
    pub const INVALID_NETWORK: u8 = 10;
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

/// Subcodes of [`CEASE`].
pub mod cease {
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
    /// RFC 9384: BFD says that the path has failed.
    pub const BFD_DOWN: u8 = 10;
}

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

    /// RFC 9003: the text that an operator gave for a shutdown or reset.
    pub fn shutdown_communication(&self) -> Option<&str> {
        if self.code != CEASE || !matches!(self.subcode, cease::ADMIN_SHUTDOWN | cease::ADMIN_RESET) {
            return None;
        }
        let (length, text) = self.data.split_first()?;
        std::str::from_utf8(text.get(..usize::from(*length))?)
            .ok()
            .filter(|text| !text.is_empty())
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
            (OPEN, _) => "OPEN message error",
            (UPDATE, update::MALFORMED_ATTRIBUTES) => "malformed attribute list",
            (UPDATE, update::UNRECOGNIZED_WELL_KNOWN) => "unrecognized well-known attribute",
            (UPDATE, update::OPTIONAL_ATTRIBUTE) => "optional attribute error",
            (UPDATE, update::INVALID_NETWORK) => "invalid network field",
            (UPDATE, _) => "UPDATE message error",
            (HOLD_TIMER, _) => "hold timer expired",
            (FSM, _) => "finite state machine error",
            (CEASE, 1) => "maximum number of prefixes reached",
            (CEASE, cease::ADMIN_SHUTDOWN) => "administrative shutdown",
            (CEASE, cease::DECONFIGURED) => "peer de-configured",
            (CEASE, cease::ADMIN_RESET) => "administrative reset",
            (CEASE, cease::CONNECTION_REJECTED) => "connection rejected",
            (CEASE, cease::CONFIGURATION_CHANGE) => "other configuration change",
            (CEASE, cease::COLLISION) => "connection collision resolution",
            (CEASE, 8) => "out of resources",
            (CEASE, 9) => "hard reset",
            (CEASE, cease::BFD_DOWN) => "BFD down",
            (CEASE, _) => "cease",
            (ROUTE_REFRESH, _) => "ROUTE-REFRESH message error",
            (SEND_HOLD_TIMER, _) => "send hold timer expired",
            _ => "unknown error",
        }
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}/{})", self.name(), self.code, self.subcode)?;
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
