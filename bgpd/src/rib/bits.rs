//! A set of small numbers, a bit each: places in a table that wait for something.

const WORD_BITS: usize = u64::BITS as usize;

/// A set of places. Its memory is a bit for each place up to the highest ever in it.
#[derive(Clone, Debug, Default)]
pub(super) struct BitSet {
    words: Vec<u64>,
    len: usize,
    /// No word before this one has a bit.
    low: usize,
}

impl BitSet {
    /// Add a place; true if it was not there.
    pub(super) fn insert(&mut self, place: u32) -> bool {
        let (word, bit) = split(place);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let Some(octets) = self.words.get_mut(word) else {
            return false;
        };
        let new = *octets & bit == 0;
        *octets |= bit;
        self.len += usize::from(new);
        self.low = self.low.min(word);
        new
    }

    /// Remove a place; true if it was there.
    pub(super) fn remove(&mut self, place: u32) -> bool {
        let (word, bit) = split(place);
        let Some(octets) = self.words.get_mut(word) else {
            return false;
        };
        let was = *octets & bit != 0;
        *octets &= !bit;
        self.len -= usize::from(was);
        was
    }

    /// Whether a place is in the set.
    pub(super) fn contains(&self, place: u32) -> bool {
        let (word, bit) = split(place);
        self.words.get(word).is_some_and(|octets| octets & bit != 0)
    }

    /// Take the lowest place.
    pub(super) fn pop(&mut self) -> Option<u32> {
        if self.len == 0 {
            self.clear();
            return None;
        }
        let ahead = self.words.get(self.low..)?;
        self.low += ahead.iter().position(|octets| *octets != 0)?;
        let octets = self.words.get_mut(self.low)?;
        let bit = octets.trailing_zeros();
        *octets &= *octets - 1;
        self.len -= 1;
        Some((self.low * WORD_BITS) as u32 + bit)
    }

    /// How many places are in the set.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Remove all, and give the memory back.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What the set takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }
}

impl Iterator for BitSet {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.pop()
    }
}

const fn split(place: u32) -> (usize, u64) {
    (place as usize / WORD_BITS, 1 << (place as usize % WORD_BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_out_once_and_the_lowest_first() {
        let mut set = BitSet::default();
        assert_eq!((set.pop(), set.contains(7), set.remove(7)), (None, false, false));
        for place in [200, 3, 64, 3, 63] {
            set.insert(place);
        }
        assert!(!set.insert(64) && set.insert(65) && set.remove(65));
        assert_eq!((set.len(), set.contains(63), set.contains(62)), (4, true, false));
        assert_eq!((set.pop(), set.pop()), (Some(3), Some(63)));
        assert!(set.insert(1), "below what was taken");
        let rest: Vec<u32> = set.collect();
        assert_eq!(rest, [1, 64, 200]);
    }
}
