//! Where paths come from: a peer, or, with add-path (RFC 7911), one of the paths that a peer has of a prefix.
//!
//! A path is stored with a small number. A peer without add-path is its own source, and costs nothing here;
//! of one with it, each path identifier in use is a source, whichever prefixes it occurs with.

use hashbrown::HashMap;

use super::PeerId;

/// Names a source. It means the same as long as a reference to it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SourceId(u32);

/// Of a source that is not a peer as a whole; the rest is its slot. Peers' numbers stay below: they count sessions.
const WITH_PATH_ID: u32 = 1 << 31;

impl SourceId {
    /// The origin of our own prefixes.
    pub(super) const LOCAL: Self = Self::of_peer(PeerId::LOCAL);

    /// A peer that sends no path identifiers.
    pub(super) const fn of_peer(peer: PeerId) -> Self {
        Self(peer.0)
    }

    /// The identifier that we give its paths towards peers with add-path: stable as long as there are any, and
    /// different for all paths of a prefix (RFC 7911 section 3). Never 0, which some take for none.
    pub(super) const fn path_id(self) -> u32 {
        self.0.wrapping_add(1)
    }

    const fn slot(self) -> Option<usize> {
        if self.0 & WITH_PATH_ID == 0 {
            None
        } else {
            Some((self.0 & !WITH_PATH_ID) as usize)
        }
    }
}

#[derive(Debug)]
struct Slot {
    peer: PeerId,
    path_id: u32,
    references: u32,
}

/// Counted sources.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// By peer and path identifier, which the peer chooses: the hash must not be one that it knows.
    ids: HashMap<(PeerId, u32), u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Sources {
    /// The source of a peer's path with this identifier, with one more reference to it.
    pub(super) fn hold(&mut self, peer: PeerId, path_id: u32) -> SourceId {
        if let Some(slot) = self.ids.get(&(peer, path_id)) {
            let source = SourceId(slot | WITH_PATH_ID);
            self.retain(source);
            return source;
        }
        let new = Slot {
            peer,
            path_id,
            references: 1,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.slots.get_mut(slot as usize) {
                    *place = new;
                }
                slot
            }
            None => {
                self.slots.push(new);
                (self.slots.len() - 1) as u32
            }
        };
        self.ids.insert((peer, path_id), slot);
        SourceId(slot | WITH_PATH_ID)
    }

    /// The source of a peer's path with this identifier, if any path has it.
    pub(super) fn find(&self, peer: PeerId, path_id: u32) -> Option<SourceId> {
        let slot = self.ids.get(&(peer, path_id))?;
        Some(SourceId(slot | WITH_PATH_ID))
    }

    fn slot(&self, source: SourceId) -> Option<&Slot> {
        self.slots.get(source.slot()?)
    }

    /// One more reference.
    pub(super) fn retain(&mut self, source: SourceId) {
        if let Some(slot) = source.slot().and_then(|slot| self.slots.get_mut(slot)) {
            slot.references += 1;
        }
    }

    /// One reference less; what the source was named goes with the last.
    pub(super) fn release(&mut self, source: SourceId) {
        let Some(at) = source.slot() else { return };
        let Some(slot) = self.slots.get_mut(at) else {
            return;
        };
        slot.references -= 1;
        if slot.references > 0 {
            return;
        }
        self.ids.remove(&(slot.peer, slot.path_id));
        if self.ids.is_empty() {
            // Whatever it took goes back.
            *self = Self::default();
        } else {
            self.free.push(at as u32);
        }
    }

    /// The peer.
    pub(super) fn peer(&self, source: SourceId) -> PeerId {
        self.slot(source).map_or(PeerId(source.0), |slot| slot.peer)
    }

    /// The identifier that the peer has given the path; none of a peer without add-path.
    pub(super) fn path_id(&self, source: SourceId) -> Option<u32> {
        self.slot(source).map(|slot| slot.path_id)
    }

    /// What it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.ids.allocation_size()
            + self.slots.capacity() * size_of::<Slot>()
            + self.free.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_identifier_in_use_is_one_source_and_peers_are_their_own() {
        let mut sources = Sources::default();
        let (one, two) = (PeerId(1), PeerId(2));
        let plain = SourceId::of_peer(one);
        assert_eq!((sources.peer(plain), sources.path_id(plain)), (one, None));
        let first = sources.hold(one, 7);
        assert_eq!(sources.hold(one, 7), first);
        let other = sources.hold(two, 7);
        assert!(first != other && first != plain);
        assert_eq!((sources.peer(other), sources.path_id(other)), (two, Some(7)));
        assert_eq!((sources.find(one, 7), sources.find(one, 8)), (Some(first), None));
        sources.release(first);
        sources.release(plain);
        assert_eq!(sources.find(one, 7), Some(first), "it is held once more");
        sources.release(first);
        assert_eq!(sources.find(one, 7), None);
        assert_eq!(sources.hold(two, 9), first, "the number is used again");
        sources.release(first);
        sources.release(other);
        assert_eq!(sources.bytes(), 0);
    }
}
