//! Compiled rule lists, installed under ids of their own and never changed but for new identities.

use std::sync::Arc;

use aya::maps::PerCpuValues;
use aya::maps::lpm_trie::Key;
use ebpf_common::program::{
    ACTION_ALLOW, ACTION_DENY, ACTION_LOG, ACTION_PASS, ClassKey, Hits, ICMP_CODE_ANY, NET_KEY_BITS, NetKey,
    PORT_KEY_BITS, PortKey, Program as Header, TupleKey, dimension, icmp_class, rule,
};
use ipnet::IpNet;
use policy_engine::output::{
    Action, IdentityChange, IdentityId, PROGRAM_RULES_MAX, PortPrefix, Program, RuleId, Table, VectorIndex,
};

use crate::Error;
use crate::address::{net_to_map, to_map};
use crate::kernel::{Maps, absent_is_fine, on};
use crate::slots::Ranges;
use crate::vectors::Vectors;

/// Entries of the tables that a program needs or has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) rules: u32,
    pub(crate) classes: u32,
    pub(crate) nets: u32,
    pub(crate) ports: u32,
    pub(crate) tuples: u32,
}

impl Demand {
    /// What a program will need.
    pub(crate) fn of(program: &Program) -> Self {
        fn entries<K>(table: &Option<Table<K>>) -> u32 {
            table
                .as_ref()
                .map_or(0, |table| u32::try_from(table.entries.len()).unwrap_or(u32::MAX))
        }
        Self {
            rules: u32::try_from(program.rules.len()).unwrap_or(u32::MAX),
            classes: entries(&program.source_identity)
                .saturating_add(entries(&program.destination_identity))
                .saturating_add(entries(&program.icmp)),
            nets: entries(&program.source_net).saturating_add(entries(&program.destination_net)),
            ports: entries(&program.source_port).saturating_add(entries(&program.destination_port)),
            tuples: entries(&program.source_tuple).saturating_add(entries(&program.destination_tuple)),
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            rules: self.rules.saturating_add(other.rules),
            classes: self.classes.saturating_add(other.classes),
            nets: self.nets.saturating_add(other.nets),
            ports: self.ports.saturating_add(other.ports),
            tuples: self.tuples.saturating_add(other.tuples),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            rules: self.rules.saturating_sub(other.rules),
            classes: self.classes.saturating_sub(other.classes),
            nets: self.nets.saturating_sub(other.nets),
            ports: self.ports.saturating_sub(other.ports),
            tuples: self.tuples.saturating_sub(other.tuples),
        }
    }
}

/// A program in the kernel and everything that is to be taken away with it.
pub(crate) struct Installed {
    /// Its id there.
    pub(crate) id: u32,
    /// Who its rules are ascribed to.
    pub(crate) names: Arc<[RuleId]>,
    /// Whether it is for packets to endpoints.
    pub(crate) ingress: bool,
    rules: u32,
    /// Vector index → slot.
    slots: Vec<u32>,
    uses_source_identity: bool,
    uses_destination_identity: bool,
    classes: Vec<ClassKey>,
    nets: Vec<Key<NetKey>>,
    ports: Vec<Key<PortKey>>,
    tuples: Vec<TupleKey>,
    demand: Demand,
}

impl std::fmt::Debug for Installed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Installed")
            .field("id", &self.id)
            .field("demand", &self.demand)
            .finish_non_exhaustive()
    }
}

impl Installed {
    /// How many vectors its tables may name.
    pub(crate) fn vector_count(&self) -> usize {
        self.slots.len()
    }
}

/// All programs' room.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) vectors: Vectors,
    pub(crate) rules: Ranges,
    /// Entries in use; those of an earlier process included until they are collected.
    pub(crate) used: Demand,
    cpus: usize,
}

/// Checks what the kernel side relies on; says what is wrong.
pub(crate) fn check(program: &Program) -> Result<(), String> {
    let rules = program.rules.len();
    if rules == 0 || rules > PROGRAM_RULES_MAX {
        return Err(format!("{rules} rules; 1 to {PROGRAM_RULES_MAX} are possible"));
    }
    let words = rules.div_ceil(64);
    if let Some(vector) = program.vectors.iter().find(|vector| vector.len() > words) {
        return Err(format!("a vector of {} words for {rules} rules", vector.len()));
    }
    let vectors = program.vectors.len();
    fn highest<K>(table: &Option<Table<K>>) -> usize {
        let table = table
            .iter()
            .flat_map(|t| t.entries.iter().map(|&(_, v)| v).chain([t.default]));
        table.map(|index| usize::from(index) + 1).max().unwrap_or(0)
    }
    let needed = [
        highest(&program.source_identity),
        highest(&program.destination_identity),
        highest(&program.source_net),
        highest(&program.destination_net),
        highest(&program.source_port),
        highest(&program.destination_port),
        highest(&program.icmp),
        highest(&program.source_tuple),
        highest(&program.destination_tuple),
        if program.icmp.is_some() {
            usize::from(program.icmp_other) + 1
        } else {
            0
        },
    ];
    if needed.iter().any(|&needed| needed > vectors) {
        return Err(format!(
            "a table names a vector beyond the {vectors} that there are"
        ));
    }
    Ok(())
}

impl Programs {
    pub(crate) fn new(vectors: Vectors, rules: Ranges, used: Demand) -> Result<Self, Error> {
        let cpus = aya::util::nr_cpus().map_err(|(path, source)| Error::Io {
            action: format!("count the CPUs in {path}"),
            source,
        })?;
        Ok(Self {
            vectors,
            rules,
            used,
            cpus,
        })
    }

    /// Writes a program that passed [`check`] under a fresh id. On an error nothing of it is left.
    pub(crate) fn install(&mut self, maps: &mut Maps, program: &Program) -> Result<Installed, Error> {
        let mut installed = Installed {
            id: maps.next_id()?,
            names: program.rules.iter().map(|rule| rule.id.clone()).collect(),
            ingress: false,
            rules: 0,
            slots: Vec::with_capacity(program.vectors.len()),
            uses_source_identity: program.source_identity.is_some(),
            uses_destination_identity: program.destination_identity.is_some(),
            classes: Vec::new(),
            nets: Vec::new(),
            ports: Vec::new(),
            tuples: Vec::new(),
            demand: Demand {
                rules: Demand::of(program).rules,
                ..Demand::default()
            },
        };
        let outcome = self.write(maps, program, &mut installed);
        if let Err(error) = outcome {
            installed.demand.rules = 0;
            self.remove(maps, installed)?;
            return Err(error);
        }
        Ok(installed)
    }

    fn write(&mut self, maps: &mut Maps, program: &Program, installed: &mut Installed) -> Result<(), Error> {
        for vector in &program.vectors {
            installed.slots.push(self.vectors.acquire(maps, vector)?);
        }
        let id = installed.id;
        let slots = installed.slots.clone();
        let slot = |index: VectorIndex| slots.get(usize::from(index)).copied().unwrap_or(0);
        let mut header = Header::default();
        let mut uses = |dimension: u32, default: VectorIndex| {
            header.dimensions |= 1 << dimension;
            if let Some(place) = header.defaults.get_mut(dimension as usize) {
                *place = slot(default);
            }
        };

        for (dimension, table) in [
            (dimension::SOURCE_IDENTITY, &program.source_identity),
            (dimension::DESTINATION_IDENTITY, &program.destination_identity),
        ] {
            let Some(table) = table else { continue };
            uses(dimension, table.default);
            for &(IdentityId(value), vector) in &table.entries {
                put_class(
                    maps,
                    installed,
                    ClassKey {
                        program: id,
                        dimension,
                        value,
                    },
                    slot(vector),
                )?;
            }
        }
        if let Some(table) = &program.icmp {
            uses(dimension::ICMP, table.default);
            for (key, vector) in &table.entries {
                let value = icmp_class(key.r#type, key.code.map_or(ICMP_CODE_ANY, u32::from));
                let key = ClassKey {
                    program: id,
                    dimension: dimension::ICMP,
                    value,
                };
                put_class(maps, installed, key, slot(*vector))?;
            }
        }
        for (dimension, table) in [
            (dimension::SOURCE_NET, &program.source_net),
            (dimension::DESTINATION_NET, &program.destination_net),
        ] {
            let Some(table) = table else { continue };
            uses(dimension, table.default);
            for (net, vector) in &table.entries {
                put_net(maps, installed, dimension, net, slot(*vector))?;
            }
        }
        for (dimension, table) in [
            (dimension::SOURCE_PORT, &program.source_port),
            (dimension::DESTINATION_PORT, &program.destination_port),
        ] {
            let Some(table) = table else { continue };
            uses(dimension, table.default);
            for (prefix, vector) in &table.entries {
                put_port(maps, installed, dimension, prefix, slot(*vector))?;
            }
        }
        for (dimension, table) in [
            (dimension::SOURCE_TUPLE, &program.source_tuple),
            (dimension::DESTINATION_TUPLE, &program.destination_tuple),
        ] {
            let Some(table) = table else { continue };
            uses(dimension, table.default);
            for (tuple, vector) in &table.entries {
                let key = TupleKey {
                    program: id,
                    dimension: dimension as u8,
                    protocol: tuple.protocol,
                    port: tuple.port,
                    address: to_map(tuple.address),
                };
                maps.tuples
                    .insert(key, slot(*vector), 0)
                    .map_err(on("TUPLES", "write"))?;
                installed.tuples.push(key);
            }
        }

        let count = installed.demand.rules;
        let full = Error::Full {
            map: "RULES",
            key: "rules",
            used: self.rules.used(),
            size: self.rules.size(),
            wanted: count,
        };
        installed.rules = self.rules.take(count).ok_or(full)?;
        header.rules = installed.rules;
        header.rule_count = count;
        header.icmp_other = slot(program.icmp_other);
        let outcome = self.write_rules(maps, program, installed.rules);
        let outcome = outcome.and_then(|()| {
            maps.programs
                .insert(id, header, 0)
                .map_err(on("PROGRAMS", "write"))
        });
        if let Err(error) = outcome {
            self.rules.give(installed.rules, count);
            return Err(error);
        }
        installed.demand = Demand {
            rules: count,
            classes: length(&installed.classes),
            nets: length(&installed.nets),
            ports: length(&installed.ports),
            tuples: length(&installed.tuples),
        };
        self.used = self.used.plus(installed.demand);
        Ok(())
    }

    fn write_rules(&self, maps: &mut Maps, program: &Program, first: u32) -> Result<(), Error> {
        for (slot, entry) in (first..).zip(&program.rules) {
            let value = match entry.action {
                Action::Allow => rule(ACTION_ALLOW, 0),
                Action::Deny => rule(ACTION_DENY, 0),
                Action::Pass { next } => rule(ACTION_PASS, next),
                Action::Log => rule(ACTION_LOG, 0),
            };
            maps.rules.set(slot, value, 0).map_err(on("RULES", "write"))?;
            let zero = PerCpuValues::try_from(vec![Hits::default(); self.cpus]);
            let zero = zero.map_err(|source| Error::Io {
                action: "prepare counters".to_owned(),
                source,
            })?;
            maps.rule_hits
                .set(slot, zero, 0)
                .map_err(on("RULE_HITS", "write"))?;
        }
        Ok(())
    }

    /// Teaches a running program identities that no address has yet. Those that none has any more are given back, to be
    /// erased by [`Programs::erase_classes`] once no packet can be looking for them.
    pub(crate) fn extend(
        &mut self,
        maps: &mut Maps,
        installed: &mut Installed,
        change: &IdentityChange,
    ) -> Result<Vec<ClassKey>, Error> {
        for vector in &change.vectors {
            installed.slots.push(self.vectors.acquire(maps, vector)?);
        }
        let before = length(&installed.classes);
        for (dimension, used, added) in [
            (
                dimension::SOURCE_IDENTITY,
                installed.uses_source_identity,
                &change.source,
            ),
            (
                dimension::DESTINATION_IDENTITY,
                installed.uses_destination_identity,
                &change.destination,
            ),
        ] {
            if !used {
                continue;
            }
            for &(IdentityId(value), vector) in added {
                let slot = installed.slots.get(usize::from(vector)).copied().unwrap_or(0);
                put_class(
                    maps,
                    installed,
                    ClassKey {
                        program: installed.id,
                        dimension,
                        value,
                    },
                    slot,
                )?;
            }
        }
        let added = length(&installed.classes) - before;
        installed.demand.classes += added;
        self.used.classes += added;
        let program = installed.id;
        let gone = change.removed.iter().flat_map(|&IdentityId(value)| {
            [dimension::SOURCE_IDENTITY, dimension::DESTINATION_IDENTITY].map(|dimension| ClassKey {
                program,
                dimension,
                value,
            })
        });
        Ok(gone.collect())
    }

    /// Erases entries that [`Programs::extend`] named.
    pub(crate) fn erase_classes(
        &mut self,
        maps: &mut Maps,
        installed: Option<&mut Installed>,
        keys: &[ClassKey],
    ) -> Result<(), Error> {
        // A program that is gone has taken them along.
        let Some(installed) = installed else { return Ok(()) };
        let gone: rustc_hash::FxHashSet<_> = keys.iter().copied().collect();
        let before = length(&installed.classes);
        installed.classes.retain(|key| !gone.contains(key));
        for key in keys {
            absent_is_fine(maps.classes.remove(key)).map_err(on("CLASSES", "erase"))?;
        }
        let erased = before - length(&installed.classes);
        installed.demand.classes -= erased;
        self.used.classes = self.used.classes.saturating_sub(erased);
        Ok(())
    }

    /// The hits of a program's rules so far.
    pub(crate) fn hits(&self, maps: &Maps, installed: &Installed) -> Result<Vec<Hits>, Error> {
        (installed.rules..installed.rules + installed.demand.rules)
            .map(|slot| {
                let per_cpu = maps.rule_hits.get(&slot, 0).map_err(on("RULE_HITS", "read"))?;
                Ok(per_cpu.iter().fold(Hits::default(), |sum, hits| Hits {
                    packets: sum.packets.saturating_add(hits.packets),
                    bytes: sum.bytes.saturating_add(hits.bytes),
                }))
            })
            .collect()
    }

    /// Entries of an earlier process are gone.
    pub(crate) fn forget(&mut self, used: Demand) {
        self.used = self.used.minus(used);
    }

    /// Takes a program away that no packet can be looking at.
    pub(crate) fn remove(&mut self, maps: &mut Maps, installed: Installed) -> Result<(), Error> {
        absent_is_fine(maps.programs.remove(&installed.id)).map_err(on("PROGRAMS", "erase"))?;
        for key in &installed.classes {
            absent_is_fine(maps.classes.remove(key)).map_err(on("CLASSES", "erase"))?;
        }
        for key in &installed.nets {
            absent_is_fine(maps.nets.remove(key)).map_err(on("NETS", "erase"))?;
        }
        for key in &installed.ports {
            absent_is_fine(maps.ports.remove(key)).map_err(on("PORTS", "erase"))?;
        }
        for key in &installed.tuples {
            absent_is_fine(maps.tuples.remove(key)).map_err(on("TUPLES", "erase"))?;
        }
        for slot in &installed.slots {
            self.vectors.release(*slot);
        }
        self.rules.give(installed.rules, installed.demand.rules);
        self.used = self.used.minus(installed.demand);
        Ok(())
    }
}

fn length<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

fn put_class(maps: &mut Maps, installed: &mut Installed, key: ClassKey, slot: u32) -> Result<(), Error> {
    maps.classes
        .insert(key, slot, 0)
        .map_err(on("CLASSES", "write"))?;
    installed.classes.push(key);
    Ok(())
}

fn put_net(
    maps: &mut Maps,
    installed: &mut Installed,
    dimension: u32,
    net: &IpNet,
    slot: u32,
) -> Result<(), Error> {
    let (bits, address) = net_to_map(*net);
    let key = Key::new(
        NET_KEY_BITS + bits,
        NetKey {
            program: installed.id,
            dimension,
            address,
        },
    );
    maps.nets.insert(&key, slot, 0).map_err(on("NETS", "write"))?;
    installed.nets.push(key);
    Ok(())
}

fn put_port(
    maps: &mut Maps,
    installed: &mut Installed,
    dimension: u32,
    prefix: &PortPrefix,
    slot: u32,
) -> Result<(), Error> {
    let key = PortKey {
        program: installed.id,
        dimension: dimension as u8,
        protocol: prefix.protocol,
        port: prefix.port.to_be(),
    };
    let key = Key::new(PORT_KEY_BITS + u32::from(prefix.bits.min(16)), key);
    maps.ports.insert(&key, slot, 0).map_err(on("PORTS", "write"))?;
    installed.ports.push(key);
    Ok(())
}
