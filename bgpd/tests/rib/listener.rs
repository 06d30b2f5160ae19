//! The other side of the RIB: what peers and the kernel have after applying all that came out of it.

use std::collections::BTreeMap;

use bgpd::rib::{Gateway, Outgoing, PeerId, Rib};
use bgpd::wire::{Attributes, Family, Prefix, RefreshKind};

/// Tables built from the RIB's output alone.
#[derive(Default)]
pub(crate) struct Listener {
    pub(crate) peers: BTreeMap<PeerId, BTreeMap<Prefix, Attributes>>,
    /// What peers with add-path have, by path identifier.
    pub(crate) paths: BTreeMap<PeerId, BTreeMap<(Prefix, u32), Attributes>>,
    pub(crate) ends_of_rib: BTreeMap<(PeerId, Family), usize>,
    pub(crate) refreshes: Vec<(PeerId, Family, RefreshKind)>,
    /// Next hops of what is to be installed, the best first.
    pub(crate) fib: BTreeMap<Prefix, Vec<Gateway>>,
    /// Messages that told a peer what it knew: announcements of the same, withdrawals of nothing.
    pub(crate) idle_messages: usize,
}

impl Listener {
    /// Take one message from the RIB; false if there is none.
    pub(crate) fn hear_one(&mut self, rib: &mut Rib) -> bool {
        let Some(transmit) = rib.poll_transmit() else {
            return false;
        };
        assert!(!transmit.peers.is_empty());
        for peer in transmit.peers {
            let table = self.peers.entry(peer).or_default();
            let paths = self.paths.entry(peer).or_default();
            match &transmit.outgoing {
                Outgoing::Announce {
                    attributes,
                    prefixes,
                    path_ids,
                } if !path_ids.is_empty() => {
                    assert_eq!(prefixes.len(), path_ids.len());
                    for (prefix, path_id) in prefixes.iter().zip(path_ids) {
                        let known = paths.insert((*prefix, *path_id), Attributes::clone(attributes));
                        self.idle_messages += usize::from(known.as_ref() == Some(&**attributes));
                    }
                }
                Outgoing::Withdraw { prefixes, path_ids } if !path_ids.is_empty() => {
                    assert_eq!(prefixes.len(), path_ids.len());
                    for (prefix, path_id) in prefixes.iter().zip(path_ids) {
                        self.idle_messages += usize::from(paths.remove(&(*prefix, *path_id)).is_none());
                    }
                }
                Outgoing::Announce {
                    attributes, prefixes, ..
                } => {
                    for prefix in prefixes {
                        assert_eq!(Family::of(prefix), transmit.family);
                        let known = table.insert(*prefix, Attributes::clone(attributes));
                        self.idle_messages += usize::from(known.as_ref() == Some(&**attributes));
                    }
                }
                Outgoing::Withdraw { prefixes, .. } => {
                    for prefix in prefixes {
                        self.idle_messages += usize::from(table.remove(prefix).is_none());
                    }
                }
                Outgoing::Refresh(kind) => self.refreshes.push((peer, transmit.family, *kind)),
                Outgoing::EndOfRib => *self.ends_of_rib.entry((peer, transmit.family)).or_default() += 1,
            }
        }
        true
    }

    pub(crate) fn hear_all(&mut self, rib: &mut Rib) {
        while self.hear_one(rib) {}
        for change in rib.poll_fib(usize::MAX) {
            match change.route {
                None => self.fib.remove(&change.prefix),
                Some(route) => self.fib.insert(change.prefix, route.next_hops().to_vec()),
            };
        }
    }

    pub(crate) fn forget(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
        self.paths.remove(&peer);
        self.ends_of_rib.retain(|(id, _), _| *id != peer);
    }
}
