//! What an earlier process left in the maps: read at the start, collected after the initial sync.

use std::collections::BTreeSet;

use ebpf_common::endpoint::{Generation, Publication};
use ebpf_common::program::dimension;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::Error;
use crate::kernel::{Maps, absent_is_fine, on};
use crate::programs::Demand;
use crate::slots::Ranges;

/// An earlier process's state.
#[derive(Debug, Default)]
pub(crate) struct Adopted {
    /// Interface → generation.
    pub(crate) publications: FxHashMap<u32, u32>,
    /// Programs, with their stretch of rules.
    programs: FxHashMap<u32, (u32, u32)>,
    generations: FxHashSet<u32>,
    /// Sets of sources.
    sources: FxHashSet<u32>,
    /// Slots of vectors that its tables name.
    pub(crate) vectors: BTreeSet<u32>,
    /// Entries of its tables.
    pub(crate) used: Demand,
    /// The newest epoch that an endpoint has seen.
    pub(crate) epoch: u32,
}

impl Adopted {
    /// Reads all tables.
    pub(crate) fn read(maps: &Maps) -> Result<Self, Error> {
        let mut adopted = Self {
            epoch: 1,
            ..Self::default()
        };
        for entry in maps.interfaces.iter() {
            let (ifindex, Publication { generation, .. }) = entry.map_err(on("INTERFACES", "list"))?;
            adopted.publications.insert(ifindex, generation);
        }
        for entry in maps.generations.iter() {
            let (id, Generation { epoch, sources, .. }) = entry.map_err(on("GENERATIONS", "list"))?;
            adopted.generations.insert(id);
            if sources != 0 {
                adopted.sources.insert(sources);
            }
            if epoch.wrapping_sub(adopted.epoch) < 1 << 31 {
                adopted.epoch = epoch;
            }
        }
        for entry in maps.sources.iter() {
            let (key, _) = entry.map_err(on("SOURCES", "list"))?;
            adopted.sources.insert(key.data().set >> 1);
        }
        for entry in maps.programs.iter() {
            let (id, program) = entry.map_err(on("PROGRAMS", "list"))?;
            adopted.programs.insert(id, (program.rules, program.rule_count));
            adopted.used.rules = adopted.used.rules.saturating_add(program.rule_count);
            for (at, slot) in (0..).zip(program.defaults) {
                if program.dimensions & 1 << at != 0 {
                    adopted.vectors.insert(slot);
                }
            }
            if program.dimensions & 1 << dimension::ICMP != 0 {
                adopted.vectors.insert(program.icmp_other);
            }
        }
        for entry in maps.classes.iter() {
            adopted.vectors.insert(entry.map_err(on("CLASSES", "list"))?.1);
            adopted.used.classes += 1;
        }
        for entry in maps.nets.iter() {
            adopted.vectors.insert(entry.map_err(on("NETS", "list"))?.1);
            adopted.used.nets += 1;
        }
        for entry in maps.ports.iter() {
            adopted.vectors.insert(entry.map_err(on("PORTS", "list"))?.1);
            adopted.used.ports += 1;
        }
        for entry in maps.tuples.iter() {
            adopted.vectors.insert(entry.map_err(on("TUPLES", "list"))?.1);
            adopted.used.tuples += 1;
        }
        Ok(adopted)
    }

    /// The rules' slots, with those in use taken.
    pub(crate) fn rules(&self, size: u32) -> Ranges {
        let mut ranges = Ranges::new(size);
        for &(start, count) in self.programs.values() {
            ranges.reserve(start, count);
        }
        ranges
    }

    /// Erases everything that was adopted. Nothing may be published that refers to it, and no packet be looking at it.
    pub(crate) fn collect(&self, maps: &mut Maps, rules: &mut Ranges) -> Result<(), Error> {
        for id in &self.generations {
            absent_is_fine(maps.generations.remove(id)).map_err(on("GENERATIONS", "erase"))?;
        }
        for (id, &(start, count)) in &self.programs {
            absent_is_fine(maps.programs.remove(id)).map_err(on("PROGRAMS", "erase"))?;
            rules.give(start, count);
        }
        let programs: FxHashSet<u32> = self.programs.keys().copied().collect();
        // A process that died while it installed a program left entries without the program.
        let known = |id: u32, maps: &Maps| !programs.contains(&id) && maps.programs.get(&id, 0).is_ok();

        macro_rules! erase {
            ($map:ident, $name:literal, |$key:ident| $id:expr) => {
                let keys: Vec<_> = maps
                    .$map
                    .keys()
                    .collect::<Result<_, _>>()
                    .map_err(on($name, "list"))?;
                for $key in keys {
                    if !known($id, maps) {
                        absent_is_fine(maps.$map.remove(&$key)).map_err(on($name, "erase"))?;
                    }
                }
            };
        }
        erase!(classes, "CLASSES", |key| key.program);
        erase!(tuples, "TUPLES", |key| key.program);
        erase!(nets, "NETS", |key| key.data().program);
        erase!(ports, "PORTS", |key| key.data().program);

        let sources: Vec<_> = maps
            .sources
            .keys()
            .collect::<Result<_, _>>()
            .map_err(on("SOURCES", "list"))?;
        for key in sources
            .iter()
            .filter(|key| self.sources.contains(&(key.data().set >> 1)))
        {
            absent_is_fine(maps.sources.remove(key)).map_err(on("SOURCES", "erase"))?;
        }
        Ok(())
    }
}
