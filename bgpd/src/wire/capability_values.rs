//! Values of those capabilities that are lists of address families.

use super::reader::Reader;
use super::{AddPath, Family, FamilySet, GracefulRestart, LongLivedFamily, STALE_TIME_MAX_S};

/// R bit of the graceful-restart capability, in its first octet.
const RESTARTED: u16 = 0x8000;
/// N bit (RFC 8538).
const NOTIFICATION: u16 = 0x4000;
/// The restart time's twelve bits.
const RESTART_TIME_MASK: u16 = 0x0fff;
/// F bit of a family.
const FORWARDING_PRESERVED: u8 = 0x80;
/// Send/Receive field of add-path (RFC 7911 section 4): the sender takes several paths, or sends them.
const ADD_PATH_RECEIVE: u8 = 1;
const ADD_PATH_SEND: u8 = 2;

fn family(reader: &mut Reader<'_>) -> Option<Option<Family>> {
    let (afi, safi) = (reader.u16()?, reader.u8()?);
    Some(Family::from_wire(afi, safi))
}

fn put_family(family: Family, out: &mut Vec<u8>) {
    out.extend(family.afi().to_be_bytes());
    out.push(family.safi());
}

const fn preserved_flag(preserved: bool) -> u8 {
    if preserved { FORWARDING_PRESERVED } else { 0 }
}

pub(super) fn decode_graceful_restart(value: &[u8]) -> Option<GracefulRestart> {
    let mut reader = Reader::new(value);
    let head = reader.u16()?;
    let mut restart = GracefulRestart {
        restarted: head & RESTARTED != 0,
        notification: head & NOTIFICATION != 0,
        restart_time_s: head & RESTART_TIME_MASK,
        ..GracefulRestart::default()
    };
    while !reader.is_empty() {
        let (family, flags) = (family(&mut reader)?, reader.u8()?);
        if let Some(family) = family {
            restart.families.insert(family);
            if flags & FORWARDING_PRESERVED != 0 {
                restart.preserved.insert(family);
            }
        }
    }
    Some(restart)
}

pub(super) fn encode_graceful_restart(restart: &GracefulRestart, out: &mut Vec<u8>) {
    let mut head = restart.restart_time_s & RESTART_TIME_MASK;
    head |= if restart.restarted { RESTARTED } else { 0 };
    head |= if restart.notification { NOTIFICATION } else { 0 };
    out.extend(head.to_be_bytes());
    for family in restart.families.iter() {
        put_family(family, out);
        out.push(preserved_flag(restart.preserved.contains(family)));
    }
}

/// RFC 9494 section 3. Where a family occurs twice, the last one counts.
pub(super) fn decode_long_lived(value: &[u8]) -> Option<Vec<LongLivedFamily>> {
    let mut families: Vec<LongLivedFamily> = Vec::new();
    let mut reader = Reader::new(value);
    while !reader.is_empty() {
        let (family, flags) = (family(&mut reader)?, reader.u8()?);
        let [high, middle, low] = reader.array::<3>()?;
        let Some(family) = family else { continue };
        // Never more than there are families.
        families.retain(|other| other.family != family);
        families.push(LongLivedFamily {
            family,
            preserved: flags & FORWARDING_PRESERVED != 0,
            stale_time_s: u32::from_be_bytes([0, high, middle, low]),
        });
    }
    Some(families)
}

pub(super) fn encode_long_lived(families: &[LongLivedFamily], out: &mut Vec<u8>) {
    for long_lived in families {
        put_family(long_lived.family, out);
        out.push(preserved_flag(long_lived.preserved));
        let [_, time @ ..] = long_lived.stale_time_s.min(STALE_TIME_MAX_S).to_be_bytes();
        out.extend(time);
    }
}

/// RFC 7911 section 4. Where a family occurs twice, the last one counts; a Send/Receive field that is
/// none of 1, 2, 3 is passed over.
pub(super) fn decode_add_path(value: &[u8], add_path: &mut AddPath) -> Option<()> {
    let mut offered = *add_path;
    let mut reader = Reader::new(value);
    while !reader.is_empty() {
        let (family, how) = (family(&mut reader)?, reader.u8()?);
        let both = ADD_PATH_RECEIVE | ADD_PATH_SEND;
        let Some(family) = family.filter(|_| (ADD_PATH_RECEIVE..=both).contains(&how)) else {
            continue;
        };
        for (set, bit) in [
            (&mut offered.receive, ADD_PATH_RECEIVE),
            (&mut offered.send, ADD_PATH_SEND),
        ] {
            if how & bit == 0 {
                set.remove(family);
            } else {
                set.insert(family);
            }
        }
    }
    *add_path = offered;
    Some(())
}

pub(super) fn encode_add_path(add_path: AddPath, out: &mut Vec<u8>) {
    for family in Family::ALL {
        let receive = add_path.receive.contains(family);
        let send = add_path.send.contains(family);
        if receive || send {
            put_family(family, out);
            let receive = if receive { ADD_PATH_RECEIVE } else { 0 };
            out.push(receive | if send { ADD_PATH_SEND } else { 0 });
        }
    }
}

/// RFC 8950 section 4: the families whose routes may have a next hop of another family that we know.
pub(super) fn decode_extended_next_hop(value: &[u8]) -> Option<FamilySet> {
    let mut families = FamilySet::EMPTY;
    let mut reader = Reader::new(value);
    while !reader.is_empty() {
        let (afi, safi, next_hop_afi) = (reader.u16()?, reader.u16()?, reader.u16()?);
        let family = u8::try_from(safi)
            .ok()
            .and_then(|safi| Family::from_wire(afi, safi));
        if next_hop_afi == Family::Ipv6Unicast.afi() {
            families.extend(family.filter(|family| *family == Family::Ipv4Unicast));
        }
    }
    Some(families)
}

pub(super) fn encode_extended_next_hop(out: &mut Vec<u8>) {
    let (routes, next_hops) = (Family::Ipv4Unicast, Family::Ipv6Unicast);
    out.extend(routes.afi().to_be_bytes());
    out.extend([0, routes.safi()]);
    out.extend(next_hops.afi().to_be_bytes());
}
