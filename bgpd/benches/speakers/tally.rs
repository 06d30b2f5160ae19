//! What a receiver counts. It reads lengths and the first octets of prefixes, and where the best
//! path is known, the AS_PATH.

use std::ops::Range;
use std::sync::Arc;

use crate::feed;
use crate::message::UpdateParts;

/// Nothing is held for this slot.
pub(crate) const NONE: u8 = u8::MAX;

/// A receiver's view of the slots.
pub(crate) struct Tally {
    kind: Kind,
    /// Slots that are as they should be when the count equals `goal`.
    pub(crate) count: usize,
    pub(crate) goal: usize,
}

enum Kind {
    /// A bit a slot: whether it is held.
    Held(Vec<u64>),
    /// Which feeder's path is held of each slot, and which should be; feeder 0 has the AS `first_as`.
    Best {
        held: Vec<u8>,
        expected: Arc<[u8]>,
        first_as: u32,
    },
}

impl Tally {
    /// Counts the slots that are held, of so many. Some are from the start.
    pub(crate) fn held(slots: usize, from_start: Range<usize>) -> Self {
        let mut tally = Self::new(Kind::Held(vec![0; slots.div_ceil(64)]));
        for slot in from_start {
            tally.set(slot, Some(0));
        }
        tally
    }

    /// Counts the slots whose path is the expected feeder's.
    pub(crate) fn best(expected: Arc<[u8]>, first_as: u32) -> Self {
        Self::new(Kind::Best {
            held: vec![NONE; expected.len()],
            expected,
            first_as,
        })
    }

    fn new(kind: Kind) -> Self {
        Self {
            kind,
            count: 0,
            goal: 0,
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.count == self.goal
    }

    /// Takes in an UPDATE's body. `None` if it is none.
    pub(crate) fn update(&mut self, body: &[u8]) -> Option<()> {
        let parts = UpdateParts::of(body)?;
        each_slot(parts.withdrawn, |slot| self.set(slot, None))?;
        if parts.announced.is_empty() {
            return Some(());
        }
        let feeder = match &self.kind {
            Kind::Held(_) => 0,
            Kind::Best { first_as, .. } => parts.second_as()?.checked_sub(*first_as)? as u8,
        };
        each_slot(parts.announced, |slot| self.set(slot, Some(feeder)))
    }

    /// Notes what is held of a slot now. `None` if there is no such slot.
    fn set(&mut self, slot: usize, feeder: Option<u8>) -> Option<()> {
        let (before, after) = match &mut self.kind {
            Kind::Held(bits) => {
                let word = bits.get_mut(slot / 64)?;
                let bit = 1 << (slot % 64);
                let before = *word & bit != 0;
                if feeder.is_some() {
                    *word |= bit
                } else {
                    *word &= !bit
                }
                (before, feeder.is_some())
            }
            Kind::Best { held, expected, .. } => {
                let (held, expected) = (held.get_mut(slot)?, *expected.get(slot)?);
                let before = std::mem::replace(held, feeder.unwrap_or(NONE));
                (before == expected, *held == expected)
            }
        };
        self.count = self.count + usize::from(after) - usize::from(before);
        Some(())
    }
}

fn each_slot(mut octets: &[u8], mut each: impl FnMut(usize) -> Option<()>) -> Option<()> {
    while let Some((length, rest)) = octets.split_first() {
        let (prefix, rest) = rest.split_at_checked(usize::from(length.div_ceil(8)))?;
        each(feed::slot_of(prefix)?)?;
        octets = rest;
    }
    Some(())
}
