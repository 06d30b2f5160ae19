//! What peers are told in a turn of the RIB's owner: encoded once into one buffer, of which each peer gets
//! the runs that are for it.
//!
//! Members of an update group are told nearly the same, all but what they said themselves. So a peer's runs
//! are few and long, and what is queued for a peer are slices of the one buffer.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use crate::rib::PeerId;

/// With more than this in the buffer, it is handed out.
const STAGED_MAX_BYTES: usize = 128 * 1024;
/// Shorter runs than this, on average, are copied into one piece: cheaper to queue and to write.
const RUN_MIN_BYTES: usize = 2048;
/// A peer that is told less than this part of the buffer gets a copy, so that while it is slow it does not
/// hold on to all of it.
const SHARE_MIN: usize = 4;

type Runs = SmallVec<[Range<usize>; 2]>;

/// What is encoded and not handed out yet.
#[derive(Debug, Default)]
pub(super) struct Staging {
    buffer: Vec<u8>,
    runs: indexmap::IndexMap<PeerId, Runs, rustc_hash::FxBuildHasher>,
}

impl Staging {
    /// Encodes something and notes whom it is for.
    pub(super) fn add(&mut self, peers: &[PeerId], encode: impl FnOnce(&mut Vec<u8>)) -> &[u8] {
        let start = self.buffer.len();
        encode(&mut self.buffer);
        let end = self.buffer.len();
        if end > start {
            for id in peers {
                let runs = self.runs.entry(*id).or_default();
                match runs.last_mut() {
                    Some(last) if last.end == start => last.end = end,
                    _ => runs.push(start..end),
                }
            }
        }
        self.buffer.get(start..).unwrap_or_default()
    }

    /// Whether it is time to hand out.
    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() >= STAGED_MAX_BYTES
    }

    /// Takes everything: the pieces of each peer, in order.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (PeerId, SmallVec<[Bytes; 2]>)> + use<> {
        let Self { buffer, runs } = std::mem::take(self);
        let buffer = Bytes::from(buffer);
        runs.into_iter().map(move |(id, runs)| {
            let told: usize = runs.iter().map(Range::len).sum();
            if told < buffer.len() / SHARE_MIN || told < runs.len() * RUN_MIN_BYTES && runs.len() > 1 {
                let mut copy = BytesMut::with_capacity(told);
                for run in runs {
                    copy.extend_from_slice(buffer.get(run).unwrap_or_default());
                }
                return (id, SmallVec::from_iter([copy.freeze()]));
            }
            (id, runs.into_iter().map(|run| buffer.slice(run)).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NeighborKey;
    use crate::rib::{PeerSettings, Rib, RibSettings};

    fn peers() -> [PeerId; 3] {
        let mut rib = Rib::new(RibSettings::new(1, [192, 0, 2, 1].into()));
        [1, 2, 3].map(|last| {
            let key = NeighborKey::new(std::net::IpAddr::from([10, 0, 0, last]), 179);
            rib.peer_up(PeerSettings::new(key, 1, 1))
        })
    }

    #[test]
    fn members_share_the_buffer_but_for_what_is_not_for_them() {
        let [one, two, three] = peers();
        let mut staging = Staging::default();
        // Each of the first two is not told what it said itself; the third is told little.
        staging.add(&[one, two], |out| out.extend([1; 8000]));
        staging.add(&[two], |out| out.extend([2; 8000]));
        staging.add(&[one, two, three], |out| out.extend([3; 100]));
        staging.add(&[one], |out| out.extend([4; 8000]));
        staging.add(&[three], |_| {});
        assert!(!staging.is_full());
        let taken: Vec<_> = staging.take().collect();
        let lengths = |id: PeerId| -> Vec<usize> {
            let (_, pieces) = taken.iter().find(|(peer, _)| *peer == id).unwrap();
            pieces.iter().map(Bytes::len).collect()
        };
        assert_eq!(lengths(one), [8000, 8100]);
        assert_eq!(lengths(two), [16_100]);
        assert_eq!(lengths(three), [100]);
        assert_eq!(staging.take().count(), 0);
    }

    #[test]
    fn many_short_runs_become_one_piece_in_order() {
        let [one, two, _] = peers();
        let mut staging = Staging::default();
        for value in 0..100 {
            let peers = if value % 2 == 0 { &[one][..] } else { &[two][..] };
            staging.add(peers, |out| out.extend([value; 10]));
        }
        for (id, pieces) in staging.take() {
            let first = u8::from(id == two);
            let expected: Vec<u8> = (0..50).flat_map(|at| [first + 2 * at; 10]).collect();
            assert_eq!(pieces.as_slice(), [expected]);
        }
    }
}
