//! Bit vectors over a program's rules, and the pool that shares equal ones.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::output::{BitVector, VectorIndex};

/// Bits of a word.
const WORD_BITS: usize = 64;

/// A vector that is being worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// A vector for `rules` rules with no bit set.
    pub(crate) fn zeros(rules: usize) -> Self {
        Self {
            words: vec![0; rules.div_ceil(WORD_BITS)],
        }
    }

    /// Sets a bit; true if it was clear. A bit beyond the end is ignored.
    pub(crate) fn set(&mut self, bit: usize) -> bool {
        let Some(word) = self.words.get_mut(bit / WORD_BITS) else {
            return false;
        };
        let mask = 1 << (bit % WORD_BITS);
        let was_clear = *word & mask == 0;
        *word |= mask;
        was_clear
    }

    /// Clears a bit.
    pub(crate) fn clear(&mut self, bit: usize) {
        if let Some(word) = self.words.get_mut(bit / WORD_BITS) {
            *word &= !(1 << (bit % WORD_BITS));
        }
    }

    /// The words.
    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    /// Writes `self & !other` to `into`.
    pub(crate) fn and_not(&self, other: &Self, into: &mut Vec<u64>) {
        into.clear();
        into.extend(self.words.iter().zip(&other.words).map(|(a, b)| a & !b));
    }
}

/// More distinct vectors than a [`VectorIndex`] can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolFull;

/// The distinct vectors of a program.
#[derive(Debug, Clone, Default)]
pub(crate) struct VectorPool {
    vectors: Vec<BitVector>,
    index: FxHashMap<BitVector, VectorIndex>,
}

impl VectorPool {
    /// The index of a vector with these words.
    pub(crate) fn intern(&mut self, words: &[u64]) -> Result<VectorIndex, PoolFull> {
        if let Some(&index) = self.index.get(words) {
            return Ok(index);
        }
        let index = VectorIndex::try_from(self.vectors.len()).map_err(|_| PoolFull)?;
        let vector: BitVector = Arc::from(words);
        self.vectors.push(Arc::clone(&vector));
        self.index.insert(vector, index);
        Ok(index)
    }

    /// All vectors, by index.
    pub(crate) fn vectors(&self) -> &[BitVector] {
        &self.vectors
    }
}
