//! Longest-prefix tables: the pre-order walk with push-down.

use ipnet::IpNet;

use crate::bits::{Bits, PoolFull, VectorPool};
use crate::output::{PortPrefix, Table};

/// A key whose order is the pre-order of its prefix tree.
pub(super) trait Prefix: Copy + Ord {
    fn covers(&self, other: &Self) -> bool;
}

impl Prefix for IpNet {
    fn covers(&self, other: &Self) -> bool {
        self.contains(other)
    }
}

impl Prefix for PortPrefix {
    fn covers(&self, other: &Self) -> bool {
        let mask = u16::MAX
            .checked_shl(u32::from(16u8.saturating_sub(self.bits)))
            .unwrap_or(0);
        self.protocol == other.protocol && self.bits <= other.bits && other.port & mask == self.port
    }
}

/// Which rules start to hold, or stop holding for good, at a prefix. Both are monotone towards longer prefixes:
/// a rule holds where one of its positive prefixes covers the value and none of its negative ones does.
#[derive(Debug)]
pub(super) struct PrefixWalk<K> {
    accepted: Bits,
    refused: Bits,
    events: Vec<Event<K>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Event<K> {
    key: K,
    bit: usize,
    refuse: bool,
}

struct Level<K> {
    key: K,
    vector: crate::output::VectorIndex,
    undo_from: usize,
}

impl<K: Prefix> PrefixWalk<K> {
    pub(super) fn new(rules: usize) -> Self {
        Self {
            accepted: Bits::zeros(rules),
            refused: Bits::zeros(rules),
            events: Vec::new(),
        }
    }

    /// The rule does not constrain the value, but for what it refuses.
    pub(super) fn accept_everywhere(&mut self, bit: usize) {
        self.accepted.set(bit);
    }

    /// The rule holds under `key`.
    pub(super) fn accept(&mut self, bit: usize, key: K) {
        self.events.push(Event {
            key,
            bit,
            refuse: false,
        });
    }

    /// The rule does not hold under `key`.
    pub(super) fn refuse(&mut self, bit: usize, key: K) {
        self.events.push(Event {
            key,
            bit,
            refuse: true,
        });
    }

    /// Whether any prefix was named.
    pub(super) fn constrains(&self) -> bool {
        !self.events.is_empty()
    }

    /// The table; entries that would say what their covering entry says are left out.
    pub(super) fn table(mut self, pool: &mut VectorPool) -> Result<Table<K>, PoolFull> {
        let mut words = Vec::new();
        self.accepted.and_not(&self.refused, &mut words);
        let default = pool.intern(&words)?;
        self.events.sort_unstable();
        let mut entries = Vec::new();
        let mut levels: Vec<Level<K>> = Vec::new();
        let mut undo: Vec<(usize, bool)> = Vec::new();
        let mut events = self.events.iter().peekable();
        while let Some(first) = events.next() {
            while let Some(level) = levels.pop_if(|level| !level.key.covers(&first.key)) {
                for (bit, refuse) in undo.drain(level.undo_from..) {
                    if refuse {
                        self.refused.clear(bit)
                    } else {
                        self.accepted.clear(bit)
                    }
                }
            }
            let undo_from = undo.len();
            let mut event = first;
            loop {
                let bits = if event.refuse {
                    &mut self.refused
                } else {
                    &mut self.accepted
                };
                if bits.set(event.bit) {
                    undo.push((event.bit, event.refuse));
                }
                match events.next_if(|next| next.key == first.key) {
                    Some(next) => event = next,
                    None => break,
                }
            }
            self.accepted.and_not(&self.refused, &mut words);
            let vector = pool.intern(&words)?;
            if vector != levels.last().map_or(default, |level| level.vector) {
                entries.push((first.key, vector));
            }
            levels.push(Level {
                key: first.key,
                vector,
                undo_from,
            });
        }
        Ok(Table { entries, default })
    }
}
