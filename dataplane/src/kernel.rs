//! The maps and programs in the kernel, pinned.

use std::fs;
use std::path::{Path, PathBuf};

use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, Map, MapData, MapInfo, PerCpuArray};
use aya::programs::{ProgramError, SchedClassifier, loaded_programs};
use aya::{Ebpf, EbpfLoader};
use ebpf_common::conntrack::{Flow, FlowKey, Settings};
use ebpf_common::endpoint::{Generation, Publication, SOURCES_ID_MAX, SourceKey};
use ebpf_common::program::{
    ClassKey, Hits, Identity, IdentityNetKey, NetKey, PortKey, Program, Rule, TupleKey, Vector,
};
use ebpf_common::{Address, LAYOUT_VERSION};

use crate::config::{Config, Timeouts};
use crate::{Error, object};

/// Endpoints and interfaces.
const INTERFACES_MAX: u32 = 4096;
/// Two generations of each endpoint, and some.
const GENERATIONS_MAX: u32 = 4 * INTERFACES_MAX;
/// Further source prefixes of all endpoints.
const SOURCES_MAX: u32 = 65_536;
/// Programs of all generations.
const PROGRAMS_MAX: u32 = 32_768;
/// Slot of `STATE` that holds the next free id.
const STATE_NEXT_ID: u32 = 0;
const STATE_SLOTS: u32 = 4;
/// Lines of the verifier's log that an error shows.
const VERIFIER_LINES: usize = 12;

type Hash<K, V> = HashMap<MapData, K, V>;
type Trie<K, V> = LpmTrie<MapData, K, V>;

/// All maps that user space touches.
pub(crate) struct Maps {
    pub(crate) interfaces: Hash<u32, Publication>,
    pub(crate) generations: Hash<u32, Generation>,
    pub(crate) sources: Trie<SourceKey, u32>,
    pub(crate) programs: Hash<u32, Program>,
    pub(crate) vectors: Array<MapData, Vector>,
    pub(crate) rules: Array<MapData, Rule>,
    pub(crate) rule_hits: PerCpuArray<MapData, Hits>,
    pub(crate) identities: Hash<Address, Identity>,
    pub(crate) identity_nets: Trie<IdentityNetKey, Identity>,
    pub(crate) classes: Hash<ClassKey, u32>,
    pub(crate) nets: Trie<NetKey, u32>,
    pub(crate) ports: Trie<PortKey, u32>,
    pub(crate) tuples: Hash<TupleKey, u32>,
    pub(crate) flows: Hash<FlowKey, Flow>,
    pub(crate) new_flows: Hash<FlowKey, Flow>,
    settings: Array<MapData, Settings>,
    pub(crate) counters: PerCpuArray<MapData, u64>,
    state: Array<MapData, u32>,
    /// The kernel's id of `INTERFACES`.
    interfaces_id: u32,
    sizes: Vec<(&'static str, u32)>,
}

impl std::fmt::Debug for Maps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Maps")
            .field("sizes", &self.sizes)
            .finish_non_exhaustive()
    }
}

/// The programs and where things are pinned.
pub(crate) struct Kernel {
    object: Ebpf,
    /// Directory of pinned links, shared by all layout versions.
    pub(crate) links_dir: PathBuf,
    pin_dir: PathBuf,
    /// An earlier process's maps have another layout: its programs stay until endpoints are published in ours.
    pub(crate) other_layouts: Vec<PathBuf>,
    /// Path of the pinned event ring.
    pub(crate) events_path: PathBuf,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel")
            .field("pin_dir", &self.pin_dir)
            .finish_non_exhaustive()
    }
}

/// The two hooks of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Hook {
    /// Packets that the workload sends.
    FromWorkload,
    /// Packets that it receives.
    ToWorkload,
}

impl Hook {
    pub(crate) const BOTH: [Hook; 2] = [Hook::FromWorkload, Hook::ToWorkload];

    /// The program's name in the object.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Hook::FromWorkload => "from_workload",
            Hook::ToWorkload => "to_workload",
        }
    }
}

fn sizes(config: &Config) -> Vec<(&'static str, u32)> {
    let s = &config.sizes;
    vec![
        ("INTERFACES", INTERFACES_MAX),
        ("GENERATIONS", GENERATIONS_MAX),
        ("SOURCES", SOURCES_MAX),
        ("PROGRAMS", PROGRAMS_MAX),
        ("VECTORS", s.vectors),
        ("RULES", s.rules),
        ("RULE_HITS", s.rules),
        ("IDENTITIES", s.identities),
        ("IDENTITY_NETS", s.identity_nets),
        ("CLASSES", s.classes),
        ("NETS", s.nets),
        ("PORTS", s.ports),
        ("TUPLES", s.tuples),
        ("FLOWS", s.flows),
        ("NEW_FLOWS", s.new_flows),
        ("FRAGMENTS", 8192),
        ("SETTINGS", 1),
        ("COUNTERS", ebpf_common::event::COUNTERS),
        ("EVENTS", s.events_bytes),
    ]
}

pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let action = action.into();
    move |source| Error::Io { action, source }
}

/// For `map_err` on map operations.
pub(crate) fn on(map: &'static str, action: &'static str) -> impl Fn(aya::maps::MapError) -> Error {
    move |error| {
        let cause = std::error::Error::source(&error)
            .map(|e| format!(": {e}"))
            .unwrap_or_default();
        Error::Map {
            map,
            action,
            reason: format!("{error}{cause}"),
        }
    }
}

/// A removal of something that is not there has done its work.
pub(crate) fn absent_is_fine(outcome: Result<(), aya::maps::MapError>) -> Result<(), aya::maps::MapError> {
    match outcome {
        Err(aya::maps::MapError::SyscallError(e)) if e.io_error.raw_os_error() == Some(libc::ENOENT) => {
            Ok(())
        }
        other => other,
    }
}

/// Creates or opens everything. Nothing is attached or changed.
pub(crate) fn open(config: &Config) -> Result<(Kernel, Maps), Error> {
    let pin_dir = config.pin_dir.clone();
    let unusable = |reason: String| Error::PinDir {
        path: pin_dir.clone(),
        reason,
    };
    let maps_name = format!("maps_v{LAYOUT_VERSION}");
    let (maps_dir, links_dir) = (pin_dir.join(&maps_name), pin_dir.join("links"));
    for dir in [&maps_dir, &links_dir] {
        fs::create_dir_all(dir).map_err(|e| unusable(e.to_string()))?;
    }
    let kind = nix::sys::statfs::statfs(&pin_dir).map_err(|e| unusable(e.to_string()))?;
    if kind.filesystem_type() != nix::sys::statfs::FsType(libc::BPF_FS_MAGIC as _) {
        return Err(unusable("it is not on a bpffs".to_owned()));
    }
    let other_layouts = fs::read_dir(&pin_dir)
        .map_err(|e| unusable(e.to_string()))?
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            name.to_string_lossy().starts_with("maps_v") && name.to_string_lossy() != maps_name
        })
        .map(|entry| entry.path())
        .collect();

    let mut sizes = sizes(config);
    let mut loader = EbpfLoader::new();
    for (name, size) in &mut sizes {
        let path = maps_dir.join(*name);
        // A map that exists keeps its size.
        if let Ok(info) = MapInfo::from_pin(&path) {
            *size = info.max_entries();
        }
        loader.map_max_entries(name, *size).map_pin_path(name, path);
    }
    let mut object = loader.load(object::OBJECT).map_err(|e| Error::Program {
        name: "margay",
        reason: trimmed(&e),
    })?;
    for hook in Hook::BOTH {
        let program = program(&mut object, hook)?;
        program.load().map_err(|e| Error::Program {
            name: hook.program(),
            reason: trimmed(&e),
        })?;
    }
    let state = state(&maps_dir)?;
    let interfaces_id = MapInfo::from_pin(maps_dir.join("INTERFACES"))
        .map_err(on("INTERFACES", "look at"))?
        .id();
    let maps = Maps {
        interfaces: take(&mut object, "INTERFACES")?,
        generations: take(&mut object, "GENERATIONS")?,
        sources: take(&mut object, "SOURCES")?,
        programs: take(&mut object, "PROGRAMS")?,
        vectors: take(&mut object, "VECTORS")?,
        rules: take(&mut object, "RULES")?,
        rule_hits: take(&mut object, "RULE_HITS")?,
        identities: take(&mut object, "IDENTITIES")?,
        identity_nets: take(&mut object, "IDENTITY_NETS")?,
        classes: take(&mut object, "CLASSES")?,
        nets: take(&mut object, "NETS")?,
        ports: take(&mut object, "PORTS")?,
        tuples: take(&mut object, "TUPLES")?,
        flows: take(&mut object, "FLOWS")?,
        new_flows: take(&mut object, "NEW_FLOWS")?,
        settings: take(&mut object, "SETTINGS")?,
        counters: take(&mut object, "COUNTERS")?,
        state,
        interfaces_id,
        sizes,
    };
    let events_path = maps_dir.join("EVENTS");
    let kernel = Kernel {
        object,
        links_dir,
        pin_dir,
        other_layouts,
        events_path,
    };
    Ok((kernel, maps))
}

fn take<M>(object: &mut Ebpf, name: &'static str) -> Result<M, Error>
where
    M: TryFrom<Map, Error = aya::maps::MapError>,
{
    let missing = || Error::Map {
        map: name,
        action: "open",
        reason: "it is not in the object".to_owned(),
    };
    object
        .take_map(name)
        .ok_or_else(missing)?
        .try_into()
        .map_err(on(name, "open"))
}

fn program(object: &mut Ebpf, hook: Hook) -> Result<&mut SchedClassifier, Error> {
    let name = hook.program();
    let wrong = |reason: &str| Error::Program {
        name,
        reason: reason.to_owned(),
    };
    let program = object
        .program_mut(name)
        .ok_or_else(|| wrong("it is not in the object"))?;
    program
        .try_into()
        .map_err(|e: ProgramError| wrong(&e.to_string()))
}

/// User space's own map: counters that outlive processes.
fn state(maps_dir: &Path) -> Result<Array<MapData, u32>, Error> {
    let path = maps_dir.join("STATE");
    if path.exists() {
        let pinned = MapData::from_pin(&path).map_err(on("STATE", "open"))?;
        return Map::from_map_data(pinned)
            .and_then(Array::try_from)
            .map_err(on("STATE", "open"));
    }
    let mut state = Array::create(STATE_SLOTS, 0).map_err(on("STATE", "create"))?;
    state.set(STATE_NEXT_ID, 1, 0).map_err(on("STATE", "write"))?;
    let pin = |reason: aya::pin::PinError| Error::Map {
        map: "STATE",
        action: "pin",
        reason: reason.to_string(),
    };
    state.pin(&path).map_err(pin)?;
    let pinned = MapData::from_pin(&path).map_err(on("STATE", "open"))?;
    Map::from_map_data(pinned)
        .and_then(Array::try_from)
        .map_err(on("STATE", "open"))
}

/// An error with its causes, without most of the verifier's log.
fn trimmed(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    let lines: Vec<_> = text.lines().collect();
    let first = lines.first().copied().unwrap_or_default();
    if lines.len() <= VERIFIER_LINES {
        return text;
    }
    format!(
        "{first} [...] {}",
        lines
            .get(lines.len() - VERIFIER_LINES..)
            .unwrap_or_default()
            .join("; ")
    )
}

impl Kernel {
    /// A loaded program.
    pub(crate) fn program(&mut self, hook: Hook) -> Result<&mut SchedClassifier, Error> {
        program(&mut self.object, hook)
    }

    /// Removes the maps of other layouts; their programs have been replaced.
    pub(crate) fn remove_other_layouts(&mut self) -> Result<(), Error> {
        for dir in std::mem::take(&mut self.other_layouts) {
            let failed = || io(format!("remove {}", dir.display()));
            for entry in fs::read_dir(&dir).map_err(failed())?.flatten() {
                fs::remove_file(entry.path()).map_err(failed())?;
            }
            fs::remove_dir(&dir).map_err(failed())?;
        }
        Ok(())
    }
}

impl Maps {
    /// Entries that a map holds.
    pub(crate) fn size(&self, map: &str) -> u32 {
        self.sizes
            .iter()
            .find(|(name, _)| *name == map)
            .map_or(0, |&(_, size)| size)
    }

    /// Whether a loaded program works on these maps.
    pub(crate) fn are_used_by(&self, program: u32) -> bool {
        loaded_programs()
            .flatten()
            .find(|info| info.id() == program)
            .is_some_and(|info| {
                info.map_ids()
                    .is_ok_and(|ids| ids.is_some_and(|ids| ids.contains(&self.interfaces_id)))
            })
    }

    /// An id that nothing uses: of a program, a generation, a set of sources.
    pub(crate) fn next_id(&mut self) -> Result<u32, Error> {
        let mut next = self.state.get(&STATE_NEXT_ID, 0).map_err(on("STATE", "read"))?;
        let id = loop {
            // 0 is no id, and the highest ones have meanings.
            let id = if next == 0 || next > SOURCES_ID_MAX {
                1
            } else {
                next
            };
            next = id + 1;
            // After two thousand million ids they begin anew; some may still be in use.
            if self.programs.get(&id, 0).is_err() && self.generations.get(&id, 0).is_err() {
                break id;
            }
        };
        self.state
            .set(STATE_NEXT_ID, next, 0)
            .map_err(on("STATE", "write"))?;
        Ok(id)
    }

    /// Puts the configured lifetimes into force.
    pub(crate) fn write_settings(&mut self, config: &Config) -> Result<(), Error> {
        let settings = settings(&config.timeouts, config.strict_midflow);
        self.settings.set(0, settings, 0).map_err(on("SETTINGS", "write"))
    }

    /// The lifetimes in force.
    pub(crate) fn settings(&self) -> Result<Settings, Error> {
        self.settings.get(&0, 0).map_err(on("SETTINGS", "read"))
    }
}

fn settings(timeouts: &Timeouts, strict: bool) -> Settings {
    let ns = |duration: std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Settings {
        tcp_handshake: ns(timeouts.tcp_handshake),
        tcp_established: ns(timeouts.tcp_established),
        tcp_closed: ns(timeouts.tcp_closed),
        tcp_reset: ns(timeouts.tcp_reset),
        udp: ns(timeouts.udp),
        icmp: ns(timeouts.icmp),
        generic: ns(timeouts.generic),
        fragment: ns(timeouts.fragment),
        strict: strict.into(),
        padding: 0,
    }
}
