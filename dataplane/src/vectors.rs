//! Bit vectors: equal ones of all programs share a slot.

use std::sync::Arc;

use ebpf_common::program::{VECTOR_ALL, VECTOR_WORDS, Vector};
use policy_engine::output::BitVector;
use rustc_hash::FxHashMap;

use crate::Error;
use crate::kernel::{Maps, on};
use crate::slots::Ranges;

/// The vectors in the kernel.
#[derive(Debug)]
pub(crate) struct Vectors {
    by_content: FxHashMap<Arc<[u64]>, u32>,
    slots: FxHashMap<u32, (Arc<[u64]>, u32)>,
    free: Ranges,
}

/// The words up to the last that is not 0: vectors of programs of different lengths can be equal.
fn content(vector: &[u64]) -> &[u64] {
    let length = vector.iter().rposition(|word| *word != 0).map_or(0, |at| at + 1);
    vector.get(..length).unwrap_or_default()
}

impl Vectors {
    /// Nothing but the vector of all bits is in use, and the slots of an earlier process.
    pub(crate) fn new(maps: &mut Maps, adopted: impl Iterator<Item = u32>) -> Result<Self, Error> {
        let mut vectors = Self {
            by_content: FxHashMap::default(),
            slots: FxHashMap::default(),
            free: Ranges::new(maps.size("VECTORS")),
        };
        let all = Vector {
            summary: u64::MAX,
            words: [u64::MAX; VECTOR_WORDS],
        };
        maps.vectors
            .set(VECTOR_ALL, all, 0)
            .map_err(on("VECTORS", "write"))?;
        vectors.free.reserve(VECTOR_ALL, 1);
        for slot in adopted {
            vectors.free.reserve(slot, 1);
        }
        Ok(vectors)
    }

    pub(crate) fn used(&self) -> u32 {
        self.free.used()
    }

    pub(crate) fn size(&self) -> u32 {
        self.free.size()
    }

    /// How many of these vectors need a slot of their own; an upper bound.
    pub(crate) fn missing<'v>(&self, vectors: impl Iterator<Item = &'v BitVector>) -> u32 {
        let missing = vectors
            .filter(|vector| !self.by_content.contains_key(content(vector)))
            .count();
        u32::try_from(missing).unwrap_or(u32::MAX)
    }

    /// The slot of a vector, which is kept until it is released as often as it was asked for.
    pub(crate) fn acquire(&mut self, maps: &mut Maps, vector: &BitVector) -> Result<u32, Error> {
        let words = content(vector);
        if let Some(&slot) = self.by_content.get(words) {
            if let Some((_, users)) = self.slots.get_mut(&slot) {
                *users += 1;
            }
            return Ok(slot);
        }
        let full = Error::Full {
            map: "VECTORS",
            key: "vectors",
            used: self.used(),
            size: self.size(),
            wanted: 1,
        };
        let slot = self.free.take(1).ok_or(full)?;
        let mut value = Vector {
            summary: 0,
            words: [0; VECTOR_WORDS],
        };
        for (at, (to, from)) in value.words.iter_mut().zip(words).enumerate() {
            *to = *from;
            value.summary |= u64::from(*from != 0) << at;
        }
        if let Err(error) = maps.vectors.set(slot, value, 0) {
            self.free.give(slot, 1);
            return Err(on("VECTORS", "write")(error));
        }
        let words: Arc<[u64]> = words.into();
        self.by_content.insert(Arc::clone(&words), slot);
        self.slots.insert(slot, (words, 1));
        Ok(slot)
    }

    /// The reverse of [`Vectors::acquire`], when no packet can be looking at the slot any more.
    pub(crate) fn release(&mut self, slot: u32) {
        let Some((words, users)) = self.slots.get_mut(&slot) else {
            return;
        };
        *users = users.saturating_sub(1);
        if *users == 0 {
            self.by_content.remove(words);
            self.slots.remove(&slot);
            self.free.give(slot, 1);
        }
    }

    /// Gives back the slots of an earlier process that are in no use here.
    pub(crate) fn release_adopted(&mut self, adopted: impl Iterator<Item = u32>) {
        for slot in adopted {
            if slot != VECTOR_ALL && !self.slots.contains_key(&slot) {
                self.free.give(slot, 1);
            }
        }
    }
}
