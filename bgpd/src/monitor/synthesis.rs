//! UPDATE messages made from routes of the RIB, for those who are shown what no peer has sent in this form.

use std::sync::Arc;

use super::ShownRoute;
use crate::wire::{self, Attributes, Codec, EncodeError, Family, FamilySet, Nlri, Prefix};

/// Nothing is hidden, and AS numbers have four octets.
pub(crate) fn codec() -> Codec {
    let all: FamilySet = Family::ALL.into_iter().collect();
    Codec {
        four_octet_as: true,
        families: all,
        extended_message_offered: true,
        extended_next_hop: all,
        as_sets: true,
        ..Codec::default()
    }
}

/// Writes UPDATEs for routes: those that are gone first, then the others by attributes. Messages are of at most
/// 4096 octets where the attributes leave the choice. Families in `add_path` have path identifiers, as on the
/// session that the reader knows of. What cannot be written is logged and left out.
pub(crate) fn updates(routes: &[ShownRoute], add_path: FamilySet, out: &mut Vec<u8>) {
    let codec = Codec {
        add_path_send: add_path,
        ..codec()
    };
    for family in Family::ALL {
        let of_family = routes.iter().filter(|route| Family::of(&route.prefix) == family);
        let mut gone = Told::default();
        let mut sets: indexmap::IndexMap<*const Attributes, (&Attributes, Told)> = indexmap::IndexMap::new();
        for route in of_family {
            match &route.attributes {
                None => gone.push(route),
                Some(attributes) => {
                    let set = sets.entry(Arc::as_ptr(attributes));
                    set.or_insert_with(|| (attributes, Told::default())).1.push(route);
                }
            }
        }
        wire::encode_withdrawal(gone.nlri(), codec, out);
        for (attributes, told) in sets.values() {
            announce(attributes, told.nlri(), codec, out);
        }
    }
}

/// Routes of one message.
#[derive(Default)]
struct Told {
    prefixes: Vec<Prefix>,
    path_ids: Vec<u32>,
}

impl Told {
    fn push(&mut self, route: &ShownRoute) {
        self.prefixes.push(route.prefix);
        self.path_ids.push(route.path_id.unwrap_or(0));
    }

    fn nlri(&self) -> Nlri<'_> {
        Nlri {
            prefixes: &self.prefixes,
            path_ids: &self.path_ids,
        }
    }
}

fn announce(attributes: &Attributes, routes: Nlri<'_>, codec: Codec, out: &mut Vec<u8>) {
    let start = out.len();
    let mut written = wire::encode_announcement(attributes, routes, codec, out);
    if matches!(written, Err(EncodeError::TooLong { .. })) {
        out.truncate(start);
        let extended = Codec {
            extended_message: true,
            ..codec
        };
        written = wire::encode_announcement(attributes, routes, extended, out);
    }
    if let Err(error) = written {
        out.truncate(start);
        let prefixes = routes.prefixes;
        let first = prefixes.first().map(ToString::to_string).unwrap_or_default();
        tracing::warn!(%error, first, count = prefixes.len(), "routes cannot be shown");
    }
}

/// The messages that follow each other in `bytes`; what is cut off at the end is left out.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = bytes
            .get(16..18)
            .and_then(|field| <[u8; 2]>::try_from(field).ok())?;
        let length = usize::from(u16::from_be_bytes(length)).max(wire::HEADER_BYTES);
        let (message, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        Some(message)
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::wire::{Message, NextHop};

    /// RFC 7854 section 5, RFC 7911: as on the session, whose OPENs the reader knows.
    #[test]
    fn path_identifiers_are_written_where_the_session_has_them() {
        let attributes = Arc::new(Attributes::originated(NextHop::V4(Ipv4Addr::new(10, 0, 0, 1))));
        let route = |path_id, attributes| ShownRoute {
            prefix: "10.9.0.0/16".parse().unwrap(),
            path_id,
            attributes,
        };
        let routes = [
            route(Some(1), Some(Arc::clone(&attributes))),
            route(Some(2), Some(attributes)),
            route(Some(3), None),
        ];
        let all: FamilySet = Family::ALL.into_iter().collect();
        for (add_path, ids, gone) in [(all, vec![1, 2], vec![3]), (FamilySet::EMPTY, vec![], vec![])] {
            let mut octets = Vec::new();
            updates(&routes, add_path, &mut octets);
            let codec = Codec {
                add_path_receive: add_path,
                ..codec()
            };
            let decoded: Vec<Message> = messages(&octets)
                .map(|message| wire::decode(message, codec).unwrap())
                .collect();
            let [Message::Update(withdrawal), Message::Update(announcement)] = decoded.as_slice() else {
                panic!("{decoded:?}")
            };
            assert_eq!(withdrawal.withdrawn_path_ids, gone);
            assert_eq!(announcement.announced[0].path_ids, ids);
            assert_eq!(announcement.announced[0].prefixes.len(), 2);
        }
    }
}
