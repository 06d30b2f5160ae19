//! OPEN (RFC 4271 section 4.2) with extended optional parameters (RFC 9072).

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::notification::{self, Notification};
use super::reader::Reader;
use super::{AS_TRANS, Capabilities};

/// The only version there is.
pub const VERSION: u8 = 4;
/// The optional parameter that carries capabilities.
const PARAMETER_CAPABILITIES: u8 = 2;
/// RFC 9072: this length, or this first parameter type, announces the extended format.
const EXTENDED: u8 = 255;

/// The first message of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The sender's AS; from the four-octet capability where there is one.
    pub asn: u32,
    /// Proposed hold time in seconds.
    pub hold_time_s: u16,
    /// The sender's BGP identifier.
    pub router_id: Ipv4Addr,
    /// What the sender offers.
    pub capabilities: Capabilities,
}

const fn error(subcode: u8) -> Notification {
    Notification::new(notification::OPEN, subcode)
}

impl Open {
    pub(super) fn decode(body: &[u8]) -> Result<Self, Notification> {
        let malformed = || error(notification::open::UNSPECIFIC);
        let mut reader = Reader::new(body);
        let version = reader.u8().ok_or_else(malformed)?;
        if version != VERSION {
            let ours = u16::from(VERSION).to_be_bytes();
            return Err(Notification::with_data(
                notification::OPEN,
                notification::open::UNSUPPORTED_VERSION,
                &ours,
            ));
        }
        let asn = reader.u16().ok_or_else(malformed)?;
        let hold_time_s = reader.u16().ok_or_else(malformed)?;
        let router_id = reader.array::<4>().map(Ipv4Addr::from).ok_or_else(malformed)?;
        let capabilities = decode_parameters(&mut reader)?;
        let asn = capabilities.four_octet_as.unwrap_or(asn.into());
        if asn == 0 {
            // RFC 7607 section 2.
            return Err(error(notification::open::BAD_PEER_AS));
        }
        Ok(Self {
            asn,
            hold_time_s,
            router_id,
            capabilities,
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let asn = u16::try_from(self.asn).unwrap_or(AS_TRANS as u16);
        out.push(VERSION);
        out.extend(asn.to_be_bytes());
        out.extend(self.hold_time_s.to_be_bytes());
        out.extend(self.router_id.octets());
        let mut capabilities = Vec::new();
        self.capabilities.encode(&mut capabilities);
        match u8::try_from(capabilities.len()) {
            Ok(0) => out.push(0),
            Ok(length) if length <= EXTENDED - 3 => {
                out.extend([length + 2, PARAMETER_CAPABILITIES, length]);
                out.extend(capabilities);
            }
            // RFC 9072 section 2.
            _ => {
                // What exceeds an OPEN of 4096 octets is refused by the neighbour; our own offers never do.
                let length = u16::try_from(capabilities.len()).unwrap_or(u16::MAX - 3);
                out.extend([EXTENDED, EXTENDED]);
                out.extend((length + 3).to_be_bytes());
                out.push(PARAMETER_CAPABILITIES);
                out.extend(length.to_be_bytes());
                out.extend(capabilities);
            }
        }
    }
}

fn decode_parameters(reader: &mut Reader<'_>) -> Result<Capabilities, Notification> {
    let malformed = || error(notification::open::UNSPECIFIC);
    let length = reader.u8().ok_or_else(malformed)?;
    // RFC 9072 section 2: the type octet decides; a sender should, but need not, set the length to 255.
    let extended = length != 0 && reader.rest().first() == Some(&EXTENDED);
    let total = if extended {
        reader.u8().ok_or_else(malformed)?;
        usize::from(reader.u16().ok_or_else(malformed)?)
    } else {
        usize::from(length)
    };
    let mut parameters = Reader::new(reader.take(total).ok_or_else(malformed)?);
    if !reader.is_empty() {
        return Err(malformed());
    }
    let mut capabilities = Capabilities::default();
    while !parameters.is_empty() {
        let kind = parameters.u8().ok_or_else(malformed)?;
        let value = if extended {
            parameters.block16()
        } else {
            parameters.u8().and_then(|length| parameters.take(length.into()))
        };
        let value = value.ok_or_else(malformed)?;
        if kind != PARAMETER_CAPABILITIES {
            return Err(error(notification::open::UNSUPPORTED_PARAMETER));
        }
        capabilities.decode(value)?;
    }
    Ok(capabilities)
}
