//! Capabilities (RFC 5492) and the optional parameters of OPEN that carry them.

use serde::{Deserialize, Serialize};

use super::reader::Reader;
use super::{Family, FamilySet};

const MULTIPROTOCOL: u8 = 1;
const ROUTE_REFRESH: u8 = 2;
const EXTENDED_MESSAGE: u8 = 6;
const GRACEFUL_RESTART: u8 = 64;
const FOUR_OCTET_AS: u8 = 65;

/// R bit of the graceful-restart capability, in its first octet.
const RESTARTED: u16 = 0x8000;
/// N bit (RFC 8538).
const NOTIFICATION: u16 = 0x4000;
/// The restart time's twelve bits.
const RESTART_TIME_MASK: u16 = 0x0fff;
/// F bit of a family.
const FORWARDING_PRESERVED: u8 = 0x80;

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

/// What a speaker offers in its OPEN.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// RFC 4760. If none is offered, IPv4 unicast is meant.
    pub families: FamilySet,
    /// RFC 2918.
    pub route_refresh: bool,
    /// RFC 8654.
    pub extended_message: bool,
    /// RFC 6793: the sender's AS number.
    pub four_octet_as: Option<u32>,
    /// RFC 4724.
    pub graceful_restart: Option<GracefulRestart>,
    /// Codes of capabilities that are not ours to understand.
    pub unknown: Vec<u8>,
}

impl Capabilities {
    /// Reads the value of one capabilities parameter into `self`.
    ///
    /// `None` if it is cut off. A known capability of the wrong length is passed over, as if it had
    /// not been offered.
    pub(super) fn decode(&mut self, parameter: &[u8]) -> Option<()> {
        let mut reader = Reader::new(parameter);
        while !reader.is_empty() {
            let code = reader.u8()?;
            let length = reader.u8()?;
            let value = reader.take(length.into())?;
            match (code, value) {
                (MULTIPROTOCOL, [afi_high, afi_low, _, safi]) => {
                    let afi = u16::from_be_bytes([*afi_high, *afi_low]);
                    self.families.extend(Family::from_wire(afi, *safi));
                }
                (ROUTE_REFRESH, []) => self.route_refresh = true,
                (EXTENDED_MESSAGE, []) => self.extended_message = true,
                (FOUR_OCTET_AS, [a, b, c, d]) => {
                    self.four_octet_as = Some(u32::from_be_bytes([*a, *b, *c, *d]));
                }
                (GRACEFUL_RESTART, value) => {
                    // The last one counts (RFC 4724 section 3).
                    if let Some(restart) = decode_graceful_restart(value) {
                        self.graceful_restart = Some(restart);
                    }
                }
                (MULTIPROTOCOL | ROUTE_REFRESH | EXTENDED_MESSAGE | FOUR_OCTET_AS, _) => {}
                _ if self.unknown.contains(&code) => {}
                _ => self.unknown.push(code),
            }
        }
        Some(())
    }

    /// Writes every capability, without the parameter's header.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for family in self.families.iter() {
            let [afi_high, afi_low] = family.afi().to_be_bytes();
            out.extend([MULTIPROTOCOL, 4, afi_high, afi_low, 0, family.safi()]);
        }
        if self.route_refresh {
            out.extend([ROUTE_REFRESH, 0]);
        }
        if self.extended_message {
            out.extend([EXTENDED_MESSAGE, 0]);
        }
        if let Some(restart) = &self.graceful_restart {
            encode_graceful_restart(restart, out);
        }
        if let Some(asn) = self.four_octet_as {
            out.extend([FOUR_OCTET_AS, 4]);
            out.extend(asn.to_be_bytes());
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

fn decode_graceful_restart(value: &[u8]) -> Option<GracefulRestart> {
    let mut reader = Reader::new(value);
    let head = reader.u16()?;
    let mut restart = GracefulRestart {
        restarted: head & RESTARTED != 0,
        notification: head & NOTIFICATION != 0,
        restart_time_s: head & RESTART_TIME_MASK,
        ..GracefulRestart::default()
    };
    while !reader.is_empty() {
        let (afi, safi, flags) = (reader.u16()?, reader.u8()?, reader.u8()?);
        if let Some(family) = Family::from_wire(afi, safi) {
            restart.families.insert(family);
            if flags & FORWARDING_PRESERVED != 0 {
                restart.preserved.insert(family);
            }
        }
    }
    Some(restart)
}

fn encode_graceful_restart(restart: &GracefulRestart, out: &mut Vec<u8>) {
    let mut head = restart.restart_time_s & RESTART_TIME_MASK;
    head |= if restart.restarted { RESTARTED } else { 0 };
    head |= if restart.notification { NOTIFICATION } else { 0 };
    let families: Vec<Family> = restart.families.iter().collect();
    // Two octets and four a family: never near the length octet's end.
    out.extend([GRACEFUL_RESTART, 2 + 4 * families.len() as u8]);
    out.extend(head.to_be_bytes());
    for family in families {
        out.extend(family.afi().to_be_bytes());
        let flags = if restart.preserved.contains(family) {
            FORWARDING_PRESERVED
        } else {
            0
        };
        out.extend([family.safi(), flags]);
    }
}
