//! Who uses which slots of the array maps.

use std::collections::BTreeMap;

/// Free stretches of an array; first fit.
#[derive(Debug)]
pub(crate) struct Ranges {
    free: BTreeMap<u32, u32>,
    size: u32,
    used: u32,
}

impl Ranges {
    /// An array of `size` free slots.
    pub(crate) fn new(size: u32) -> Self {
        let free = if size == 0 {
            BTreeMap::new()
        } else {
            BTreeMap::from([(0, size)])
        };
        Self { free, size, used: 0 }
    }

    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    pub(crate) fn used(&self) -> u32 {
        self.used
    }

    /// `length` adjacent slots.
    pub(crate) fn take(&mut self, length: u32) -> Option<u32> {
        let (&start, _) = self.free.iter().find(|&(_, &free)| free >= length)?;
        self.reserve(start, length).then_some(start)
    }

    /// Takes a stretch that is known to be in use; false if part of it is taken already.
    pub(crate) fn reserve(&mut self, start: u32, length: u32) -> bool {
        if length == 0 {
            return true;
        }
        let Some((&at, &free)) = self.free.range(..=start).next_back() else {
            return false;
        };
        let (end, free_end) = (start.saturating_add(length), at + free);
        if end > free_end {
            return false;
        }
        self.free.remove(&at);
        if at < start {
            self.free.insert(at, start - at);
        }
        if end < free_end {
            self.free.insert(end, free_end - end);
        }
        self.used += length;
        true
    }

    /// Gives a stretch back.
    pub(crate) fn give(&mut self, start: u32, length: u32) {
        if length == 0 {
            return;
        }
        self.used = self.used.saturating_sub(length);
        let (mut start, mut length) = (start, length);
        if let Some((&before, &free)) = self.free.range(..start).next_back()
            && before + free == start
        {
            self.free.remove(&before);
            (start, length) = (before, length + free);
        }
        if let Some(free) = self.free.remove(&(start + length)) {
            length += free;
        }
        self.free.insert(start, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn adjacent_stretches_merge() {
        let mut ranges = Ranges::new(10);
        let (a, b, c) = (ranges.take(3), ranges.take(3), ranges.take(3));
        assert_eq!((a, b, c), (Some(0), Some(3), Some(6)));
        assert_eq!(ranges.take(2), None);
        ranges.give(0, 3);
        ranges.give(6, 3);
        ranges.give(3, 3);
        assert_eq!(ranges.take(10), Some(0));
        assert_eq!(ranges.used(), 10);
    }

    #[test]
    fn what_is_taken_cannot_be_reserved() {
        let mut ranges = Ranges::new(10);
        assert!(ranges.reserve(4, 2));
        assert!(!ranges.reserve(5, 1));
        assert!(!ranges.reserve(3, 2));
        assert!(!ranges.reserve(9, 2));
        assert!(ranges.reserve(6, 4));
        assert_eq!(ranges.take(4), Some(0));
    }

    proptest! {
        #[test]
        fn stretches_never_overlap(steps in proptest::collection::vec((any::<bool>(), 1u32..20), 1..200)) {
            let mut ranges = Ranges::new(128);
            let mut taken: Vec<(u32, u32)> = Vec::new();
            for (take, n) in steps {
                if take {
                    if let Some(start) = ranges.take(n) {
                        prop_assert!(start + n <= 128);
                        prop_assert!(taken.iter().all(|&(s, l)| start + n <= s || s + l <= start));
                        taken.push((start, n));
                    }
                } else if !taken.is_empty() {
                    let (start, length) = taken.swap_remove(n as usize % taken.len());
                    ranges.give(start, length);
                }
                prop_assert_eq!(ranges.used(), taken.iter().map(|t| t.1).sum::<u32>());
            }
            for (start, length) in taken {
                ranges.give(start, length);
            }
            prop_assert_eq!(ranges.take(128), Some(0));
        }
    }
}
