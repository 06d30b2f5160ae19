//! UPDATE (RFC 4271 section 4.3, RFC 4760), read with the error handling of RFC 7606.

use serde::{Deserialize, Serialize};

use super::attribute_table::{
    AS_PATH, EXTENDED_LENGTH, ErrorClass, MP_REACH, MP_UNREACH, NEXT_HOP, OPTIONAL, ORIGIN, PARTIAL, Scope,
    TRANSITIVE, row,
};
use super::draft::{Draft, Reach};
use super::nlri::decode_prefixes;
use super::notification::{self, Notification};
use super::reader::Reader;
use super::{Attributes, Codec, Family, NextHop, Prefix, UnknownAttribute};

/// What an UPDATE says about routes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// Routes that are gone, those of a message that had to be treated as a withdrawal among them.
    pub withdrawn: Vec<Prefix>,
    /// Routes that are new or changed: at most one announcement a family.
    pub announced: Vec<Announcement>,
    /// The family whose initial routes are complete (RFC 4724 section 2).
    pub end_of_rib: Option<Family>,
    /// Attributes that were wrong, and what came of it.
    pub faults: Vec<AttributeFault>,
}

/// Routes with common attributes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// The attributes.
    pub attributes: Attributes,
    /// The prefixes, of one family, never empty.
    pub prefixes: Vec<Prefix>,
}

/// What was wrong with an attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttributeFault {
    /// Its type code; 0 if the list of attributes as a whole is wrong.
    pub code: u8,
    /// What is wrong.
    pub reason: String,
    /// Whether the routes of the message were withdrawn for it; else the attribute was dropped.
    pub withdrawn: bool,
}

impl Update {
    pub(super) fn decode(body: &[u8], codec: Codec) -> Result<Self, Notification> {
        let malformed =
            || Notification::new(notification::UPDATE, notification::update::MALFORMED_ATTRIBUTES);
        let invalid = || Notification::new(notification::UPDATE, notification::update::INVALID_NETWORK);
        let mut reader = Reader::new(body);
        let withdrawn = reader.block16().ok_or_else(malformed)?;
        let attributes = reader.block16().ok_or_else(malformed)?;
        let nlri = reader.rest();
        // Without IPv4 in the session its routes are passed over, but must still be readable.
        let carried = codec.families.contains(Family::Ipv4Unicast);
        if withdrawn.is_empty() && attributes.is_empty() && nlri.is_empty() {
            return Ok(Self {
                end_of_rib: carried.then_some(Family::Ipv4Unicast),
                ..Self::default()
            });
        }
        let read = |bytes| decode_prefixes(Family::Ipv4Unicast, bytes).ok_or_else(invalid);
        let (mut withdrawn, mut nlri) = (read(withdrawn)?, read(nlri)?);
        let reachable = !nlri.is_empty();
        if !carried {
            withdrawn.clear();
            nlri.clear();
        }
        let walk = Walk::over(attributes, codec)?;
        walk.finish(withdrawn, nlri, reachable)
    }
}

/// The pass over a message's attributes.
#[derive(Default)]
struct Walk {
    draft: Draft,
    /// A bit for each type code seen.
    seen: [u128; 2],
    /// Attributes other than MP_UNREACH_NLRI.
    attributes: bool,
    faults: Vec<AttributeFault>,
}

impl Walk {
    fn over(bytes: &[u8], codec: Codec) -> Result<Self, Notification> {
        let mut walk = Self::default();
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let whole = reader.rest();
            let Some((flags, code, value)) = split(&mut reader) else {
                // RFC 7606 section 4: what follows cannot be told apart, but where the NLRI start is known.
                walk.fault(0, "the attributes' lengths do not add up".to_owned(), true);
                break;
            };
            let length = whole.len() - reader.rest().len();
            let octets = whole.get(..length).unwrap_or_default();
            walk.attribute(flags, code, value, octets, codec)?;
        }
        Ok(walk)
    }

    fn fault(&mut self, code: u8, reason: String, withdrawn: bool) {
        self.faults.push(AttributeFault {
            code,
            reason,
            withdrawn,
        });
    }

    fn first_of(&mut self, code: u8) -> bool {
        let [low, high] = &mut self.seen;
        let word = if code < 128 { low } else { high };
        let bit = 1u128 << (code % 128);
        let first = *word & bit == 0;
        *word |= bit;
        first
    }

    fn attribute(
        &mut self,
        flags: u8,
        code: u8,
        value: &[u8],
        octets: &[u8],
        codec: Codec,
    ) -> Result<(), Notification> {
        let reset = |subcode| Notification::with_data(notification::UPDATE, subcode, octets);
        self.attributes |= code != MP_UNREACH;
        if !self.first_of(code) {
            // RFC 7606 section 3 (g).
            if matches!(code, MP_REACH | MP_UNREACH) {
                return Err(reset(notification::update::MALFORMED_ATTRIBUTES));
            }
            self.fault(code, "occurs twice".to_owned(), false);
            return Ok(());
        }
        let Some(row) = row(code) else {
            return self.unknown(flags, code, value, reset);
        };
        if row.scope == Scope::Internal && codec.external {
            // RFC 7606 sections 7.5, 7.9, 7.10.
            return Ok(());
        }
        let decoded = (row.decode)(&mut self.draft, value, codec);
        if flags & (OPTIONAL | TRANSITIVE) != row.flags {
            // RFC 7606 section 3 (c). The value has been read for the routes that it may hold.
            self.fault(code, format!("{} has flags {flags:#04x}", row.name), true);
        }
        match (decoded, row.on_error) {
            (Some(()), _) => {}
            (None, ErrorClass::Reset) => return Err(reset(notification::update::OPTIONAL_ATTRIBUTE)),
            (None, class) => {
                let reason = format!("{} is malformed: {}", row.name, hex(value));
                self.fault(code, reason, class == ErrorClass::TreatAsWithdraw);
            }
        }
        Ok(())
    }

    /// RFC 4271 section 5: passed on with the partial bit if transitive, else dropped.
    fn unknown(
        &mut self,
        flags: u8,
        code: u8,
        value: &[u8],
        reset: impl Fn(u8) -> Notification,
    ) -> Result<(), Notification> {
        match (flags & OPTIONAL != 0, flags & TRANSITIVE != 0) {
            (false, _) => return Err(reset(notification::update::UNRECOGNIZED_WELL_KNOWN)),
            (true, true) => self.draft.unknown.push(UnknownAttribute {
                flags: OPTIONAL | TRANSITIVE | PARTIAL,
                code,
                value: value.into(),
            }),
            (true, false) => {}
        }
        Ok(())
    }

    fn finish(
        mut self,
        withdrawn: Vec<Prefix>,
        nlri: Vec<Prefix>,
        reachable: bool,
    ) -> Result<Update, Notification> {
        let mut update = Update {
            withdrawn,
            ..Update::default()
        };
        let reach = self.draft.reach.take();
        if let Some((family, prefixes)) = self.draft.unreach.take() {
            let nothing_else = !self.attributes && update.withdrawn.is_empty() && nlri.is_empty();
            update.end_of_rib = (prefixes.is_empty() && nothing_else).then_some(family);
            update.withdrawn.extend(prefixes);
        }
        let reachable = reachable || reach.is_some() || self.draft.other_reach;
        if reachable {
            self.check_mandatory(!nlri.is_empty(), reach.as_ref());
        }
        if self.faults.iter().any(|fault| fault.withdrawn) {
            if !reachable {
                // RFC 7606 section 5.2: the routes may have been lost with the fault.
                let subcode = notification::update::MALFORMED_ATTRIBUTES;
                return Err(Notification::new(notification::UPDATE, subcode));
            }
            update.withdrawn.extend(nlri);
            update
                .withdrawn
                .extend(reach.into_iter().flat_map(|reach| reach.prefixes));
        } else if reachable {
            self.draft.merge_four_octet_ases();
            self.draft.unknown.sort_by_key(|attribute| attribute.code);
            update.announced = self.draft.announcements(nlri, reach);
        }
        update.faults = self.faults;
        Ok(update)
    }

    /// RFC 7606 section 3 (d). LOCAL_PREF is not asked for: without one a route has the default.
    fn check_mandatory(&mut self, nlri: bool, reach: Option<&Reach>) {
        let faulty = |walk: &Self, code| walk.faults.iter().any(|fault| fault.code == code);
        let missing = [
            (ORIGIN, "ORIGIN is missing", self.draft.origin.is_none()),
            (AS_PATH, "AS_PATH is missing", self.draft.as_path.is_none()),
            (
                NEXT_HOP,
                "NEXT_HOP is missing",
                nlri && self.draft.next_hop.is_none(),
            ),
            (
                MP_REACH,
                "MP_REACH_NLRI names no host as next hop",
                reach.is_some_and(|reach| reach.next_hop.is_none()),
            ),
        ];
        for (code, reason, missing) in missing {
            if missing && !faulty(self, code) {
                self.fault(code, reason.to_owned(), true);
            }
        }
    }
}

impl Draft {
    fn announcements(self, nlri: Vec<Prefix>, reach: Option<Reach>) -> Vec<Announcement> {
        let classic = self.next_hop.map(|next_hop| (next_hop, nlri));
        let multiprotocol = reach.and_then(|reach| Some((reach.next_hop?, reach.prefixes)));
        let parts: Vec<(NextHop, Vec<Prefix>)> = [classic, multiprotocol]
            .into_iter()
            .flatten()
            .filter(|(_, prefixes)| !prefixes.is_empty())
            .collect();
        let Some((first, _)) = parts.first() else {
            return Vec::new();
        };
        let common = Attributes {
            origin: self.origin.unwrap_or_default(),
            as_path: self.as_path.unwrap_or_default(),
            next_hop: *first,
            med: self.med,
            local_pref: self.local_pref,
            atomic_aggregate: self.atomic_aggregate,
            aggregator: self.aggregator,
            communities: self.communities,
            originator_id: self.originator_id,
            cluster_list: self.cluster_list,
            extended_communities: self.extended_communities,
            large_communities: self.large_communities,
            unknown: self.unknown,
            weight: None,
        };
        let announce = |(next_hop, prefixes)| Announcement {
            attributes: Attributes {
                next_hop,
                ..common.clone()
            },
            prefixes,
        };
        parts.into_iter().map(announce).collect()
    }
}

/// Flags, type code and value of the attribute at the front.
fn split<'a>(reader: &mut Reader<'a>) -> Option<(u8, u8, &'a [u8])> {
    let (flags, code) = (reader.u8()?, reader.u8()?);
    let length = if flags & EXTENDED_LENGTH == 0 {
        reader.u8()?.into()
    } else {
        reader.u16()?
    };
    Some((flags, code, reader.take(length.into())?))
}

/// Octets shown of a malformed value.
const SHOWN_OCTETS_MAX: usize = 32;

fn hex(bytes: &[u8]) -> String {
    let mut text: String = bytes
        .iter()
        .take(SHOWN_OCTETS_MAX)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if bytes.len() > SHOWN_OCTETS_MAX {
        text.push_str("...");
    }
    text
}
