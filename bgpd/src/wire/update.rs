//! UPDATE (RFC 4271 section 4.3, RFC 4760), read with the error handling of RFC 7606.

use serde::{Deserialize, Serialize};

use super::attribute_table::{
    AS_PATH, EXTENDED_LENGTH, ErrorClass, MP_REACH, MP_UNREACH, NEXT_HOP, OPTIONAL, ORIGIN, PARTIAL, Scope,
    TRANSITIVE, row,
};
use super::draft::{Draft, Reach};
use super::nlri::Routes;
use super::notification::{self, Notification};
use super::reader::Reader;
use super::{Attributes, Codec, Family, Prefix};

/// What an UPDATE says about routes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// Routes that are gone, those of a message that had to be treated as a withdrawal among them.
    pub withdrawn: Vec<Prefix>,
    /// Path identifiers of `withdrawn`, in the same order (RFC 7911); empty if no route of the message has one.
    /// Where only one of two families has them, they are 0 for the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withdrawn_path_ids: Vec<u32>,
    /// Routes that are new or changed: at most one announcement a family.
    pub announced: Vec<Announcement>,
    /// The family whose initial routes are complete (RFC 4724 section 2).
    pub end_of_rib: Option<Family>,
    /// Attributes that were wrong, and what came of it: the first [`FAULTS_MAX`] of them, and one that withdrew
    /// the routes if any did.
    pub faults: Vec<AttributeFault>,
}

/// Routes with common attributes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// The attributes.
    pub attributes: Attributes,
    /// The prefixes, of one family, never empty.
    pub prefixes: Vec<Prefix>,
    /// Their path identifiers, in the same order (RFC 7911); empty if the family has none on this session.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path_ids: Vec<u32>,
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
        let with_path_ids = codec.add_path_receive.contains(Family::Ipv4Unicast);
        let read = |bytes| Routes::decode(Family::Ipv4Unicast, bytes, with_path_ids).ok_or_else(invalid);
        let (mut withdrawn, mut nlri) = (read(withdrawn)?, read(nlri)?);
        let reachable = !nlri.prefixes.is_empty();
        if !carried {
            withdrawn.clear();
            nlri.clear();
        }
        let walk = Walk::over(attributes, codec)?;
        walk.finish(withdrawn, nlri, reachable)
    }
}

/// Most faults that are told of one message.
pub const FAULTS_MAX: usize = 16;

/// The pass over a message's attributes.
#[derive(Default)]
struct Walk {
    draft: Draft,
    /// A bit for each type code seen.
    seen: [u128; 2],
    /// Attributes other than MP_UNREACH_NLRI.
    attributes: bool,
    /// A fault makes the routes count as withdrawn.
    withdraw: bool,
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
                walk.fault(0, true, || "the attributes' lengths do not add up".to_owned());
                break;
            };
            let length = whole.len() - reader.rest().len();
            let octets = whole.get(..length).unwrap_or_default();
            walk.attribute(flags, code, value, octets, codec)?;
        }
        Ok(walk)
    }

    /// `reason` is asked for as long as there is room for it: a message may have thousands of faults.
    fn fault(&mut self, code: u8, withdrawn: bool, reason: impl FnOnce() -> String) {
        let first_withdrawal = withdrawn && !self.withdraw;
        self.withdraw |= withdrawn;
        let fault = |reason| AttributeFault {
            code,
            reason,
            withdrawn,
        };
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault(reason()));
        } else if let Some(last) = self.faults.last_mut().filter(|_| first_withdrawal) {
            *last = fault(reason());
        }
    }

    const fn seen(&self, code: u8) -> bool {
        let [low, high] = self.seen;
        let word = if code < 128 { low } else { high };
        word >> (code % 128) & 1 != 0
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
            self.fault(code, false, || "occurs twice".to_owned());
            return Ok(());
        }
        let Some(row) = row(code) else {
            return self.unknown(flags, code, value, reset);
        };
        if row.scope == Scope::Internal && codec.external {
            // RFC 7606 sections 7.5, 7.9, 7.10.
            return Ok(());
        }
        if flags & (OPTIONAL | TRANSITIVE) != row.flags {
            // RFC 7606 section 3 (c).
            let withdraw = row.on_flags != ErrorClass::Discard;
            self.fault(code, withdraw, || format!("{} has flags {flags:#04x}", row.name));
            // The value may hold routes, and those are to be withdrawn.
            if !matches!(code, MP_REACH | MP_UNREACH) {
                return Ok(());
            }
        }
        match ((row.decode)(&mut self.draft, value, codec), row.on_error) {
            (Some(()), _) => {
                if flags & PARTIAL != 0 {
                    self.draft.mark_partial(code);
                }
            }
            (None, ErrorClass::Reset) => return Err(reset(notification::update::OPTIONAL_ATTRIBUTE)),
            (None, class) => {
                let reason = || format!("{} is malformed: {}", row.name, hex(value));
                self.fault(code, class == ErrorClass::Withdraw, reason);
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
            (true, true) => {
                self.draft.keep(code, value);
                self.draft.mark_partial(code);
            }
            (true, false) => {}
        }
        Ok(())
    }

    fn finish(
        mut self,
        mut withdrawn: Routes,
        nlri: Routes,
        reachable: bool,
    ) -> Result<Update, Notification> {
        let mut update = Update::default();
        let reach = self.draft.reach.take();
        if let Some((family, routes)) = self.draft.unreach.take() {
            let empty = |routes: &Routes| routes.prefixes.is_empty();
            let nothing_else = !self.attributes && empty(&withdrawn) && empty(&nlri);
            update.end_of_rib = (empty(&routes) && nothing_else).then_some(family);
            withdrawn.append(routes);
        }
        let reachable = reachable || reach.is_some() || self.draft.other_reach;
        if reachable {
            self.check_mandatory(!nlri.prefixes.is_empty(), reach.as_ref());
        }
        if self.draft.forbidden_set && reachable {
            // RFC 9774 section 3. The attribute was readable: without routes, nothing can have been lost.
            self.fault(AS_PATH, true, || "AS_PATH has an AS_SET".to_owned());
        }
        if self.withdraw {
            if !reachable {
                // RFC 7606 section 5.2: the routes may have been lost with the fault.
                let subcode = notification::update::MALFORMED_ATTRIBUTES;
                return Err(Notification::new(notification::UPDATE, subcode));
            }
            withdrawn.append(nlri);
            withdrawn.append(reach.map(|reach| reach.routes).unwrap_or_default());
        } else if reachable {
            self.draft.merge_four_octet_ases();
            self.draft.unknown.sort_by_key(|attribute| attribute.code);
            update.announced = self.draft.announcements(nlri, reach);
        }
        update.withdrawn = withdrawn.prefixes;
        update.withdrawn_path_ids = withdrawn.path_ids;
        update.faults = self.faults;
        Ok(update)
    }

    /// RFC 7606 section 3 (d). LOCAL_PREF is not asked for: without one a route has the default.
    fn check_mandatory(&mut self, nlri: bool, reach: Option<&Reach>) {
        for (code, reason, wanted) in [
            (ORIGIN, "ORIGIN is missing", true),
            (AS_PATH, "AS_PATH is missing", true),
            (NEXT_HOP, "NEXT_HOP is missing", nlri),
        ] {
            if wanted && !self.seen(code) {
                self.fault(code, true, || reason.to_owned());
            }
        }
        if reach.is_some_and(|reach| reach.next_hop.is_none()) {
            self.fault(MP_REACH, true, || {
                "MP_REACH_NLRI names no host as next hop".to_owned()
            });
        }
    }
}

impl Draft {
    fn announcements(self, nlri: Routes, reach: Option<Reach>) -> Vec<Announcement> {
        let classic = self.next_hop.map(|next_hop| (next_hop, nlri));
        let multiprotocol = reach.and_then(|reach| Some((reach.next_hop?, reach.routes)));
        let mut parts = [classic, multiprotocol]
            .into_iter()
            .flatten()
            .filter(|(_, routes)| !routes.prefixes.is_empty());
        let Some((next_hop, routes)) = parts.next() else {
            return Vec::new();
        };
        let second = parts.next();
        let attributes = Attributes {
            origin: self.origin.unwrap_or_default(),
            as_path: self.as_path.unwrap_or_default(),
            next_hop,
            med: self.med,
            local_pref: self.local_pref,
            atomic_aggregate: self.atomic_aggregate,
            aggregator: self.aggregator,
            communities: self.communities,
            originator_id: self.originator_id,
            cluster_list: self.cluster_list,
            extended_communities: self.extended_communities,
            large_communities: self.large_communities,
            otc: self.otc,
            partial: self.partial,
            unknown: self.unknown,
            weight: None,
            interface: None,
        };
        let announce = |attributes, routes: Routes| Announcement {
            attributes,
            prefixes: routes.prefixes,
            path_ids: routes.path_ids,
        };
        match second {
            None => vec![announce(attributes, routes)],
            Some((next_hop, more)) => {
                let other = Attributes {
                    next_hop,
                    ..attributes.clone()
                };
                vec![announce(attributes, routes), announce(other, more)]
            }
        }
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
