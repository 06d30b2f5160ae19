//! The text of `lab.yml` and of the workloads file that it names.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_saphyr::Spanned;

use super::expect::ExpectText;
use super::{Fabric, Pools, Probe, Rack, SpeakerKind, StreamPair, check};
use crate::topology::{Topology, TopologyError};

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct LabFile {
    pub(super) store: StoreText,
    #[serde(default)]
    pub(super) resources: Vec<Spanned<PathBuf>>,
    pub(super) speakers: IndexMap<String, Spanned<SpeakerText>>,
    pub(super) sessions: Vec<Spanned<Vec<String>>>,
    #[serde(default)]
    pub(super) route_checks: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) route_prints: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) bfd_checks: Vec<Spanned<String>>,
    pub(super) hold_time_s: u64,
    #[serde(default)]
    pub(super) racks: IndexMap<String, Spanned<Rack>>,
    #[serde(default)]
    pub(super) pending_affinities: Vec<Spanned<PendingText>>,
    #[serde(default)]
    pub(super) scenarios: Option<Spanned<ScenariosText>>,
    pub(super) workloads: Spanned<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ScenariosText {
    #[serde(default)]
    pub(super) stream: Option<StreamPair>,
    #[serde(default)]
    pub(super) agent_restart: Vec<String>,
    #[serde(default)]
    pub(super) uplink_flap: Vec<String>,
    #[serde(default)]
    pub(super) tor_loss: Option<String>,
    #[serde(default)]
    pub(super) workload_readd: Option<String>,
    #[serde(default)]
    pub(super) policy_change: Option<PolicyChangeText>,
    #[serde(default)]
    pub(super) peer_change: Option<PeerChangeText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PeerChangeText {
    pub(super) host: String,
    pub(super) peer: IpAddr,
    pub(super) change: Spanned<PathBuf>,
    pub(super) revert: Spanned<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyChangeText {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) probe: Probe,
    pub(super) allow: Spanned<PathBuf>,
    pub(super) deny: Spanned<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoreText {
    pub(super) node: Spanned<String>,
    pub(super) endpoint: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SpeakerText {
    pub(super) kind: SpeakerKind,
    pub(super) processes: Vec<String>,
    pub(super) start: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PendingText {
    pub(super) host: String,
    pub(super) block: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkloadsFile {
    pub(super) cni: Spanned<PathBuf>,
    pub(super) workloads: Vec<Spanned<WorkloadText>>,
    #[serde(default)]
    pub(super) expect: Vec<Spanned<ExpectText>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkloadText {
    pub(super) name: String,
    pub(super) host: String,
    #[serde(default)]
    pub(super) labels: IndexMap<String, String>,
    #[serde(default)]
    pub(super) pools: Pools,
    #[serde(default)]
    pub(super) borrowed: bool,
}

/// Where an error is.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) file: &'a Path,
}

impl At<'_> {
    pub(super) fn error(
        self,
        line: u64,
        field: impl Into<String>,
        reason: impl Into<String>,
    ) -> TopologyError {
        TopologyError::Value {
            file: self.file.to_path_buf(),
            line,
            field: field.into(),
            reason: reason.into(),
        }
    }
}

/// A fabric like another one, with other resources.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LikeFile {
    like: Spanned<PathBuf>,
    resources: Vec<Spanned<PathBuf>>,
}

pub(super) fn load(path: &Path, topology: &Topology) -> Result<Fabric, TopologyError> {
    let text = read(path)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let keys: IndexMap<String, IgnoredAny> = parse(path, &text)?;
    if keys.contains_key("like") {
        let like: LikeFile = parse(path, &text)?;
        let base = existing(At { file: path }, directory, "like", &like.like)?;
        // One step only: a base is whole.
        let mut fabric = load_whole(&base, &read(&base)?, topology)?;
        fabric.file = path.to_path_buf();
        fabric.resources = resources(path, directory, &like.resources)?;
        return Ok(fabric);
    }
    load_whole(path, &text, topology)
}

fn load_whole(path: &Path, text: &str, topology: &Topology) -> Result<Fabric, TopologyError> {
    let lab: LabFile = parse(path, text)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let workloads_path = existing(At { file: path }, directory, "workloads", &lab.workloads)?;
    let workloads: WorkloadsFile = parse(&workloads_path, &read(&workloads_path)?)?;
    let cni_directory = workloads_path.parent().unwrap_or(directory);
    let cni_path = existing(
        At {
            file: &workloads_path,
        },
        cni_directory,
        "cni",
        &workloads.cni,
    )?;
    let cni = serde_json::from_str(&read(&cni_path)?).map_err(|e| TopologyError::Syntax {
        file: cni_path,
        line: e.line() as u64,
        reason: e.to_string(),
    })?;
    let resources = resources(path, directory, &lab.resources)?;
    check::build(path, lab, &workloads_path, workloads, cni, resources, topology)
}

fn resources(
    path: &Path,
    directory: &Path,
    texts: &[Spanned<PathBuf>],
) -> Result<Vec<PathBuf>, TopologyError> {
    texts
        .iter()
        .map(|r| existing(At { file: path }, directory, "resources", r))
        .collect()
}

pub(super) fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, TopologyError> {
    serde_saphyr::from_str(text).map_err(|e| TopologyError::Syntax {
        file: path.to_path_buf(),
        line: e.location().map_or(0, |l| l.line()),
        reason: e.without_snippet().to_string(),
    })
}

fn read(path: &Path) -> Result<String, TopologyError> {
    let unreadable = |reason: String| TopologyError::Unreadable {
        file: path.to_path_buf(),
        reason,
    };
    let size = fs::metadata(path).map_err(|e| unreadable(e.to_string()))?.len();
    if size > FILE_BYTES_MAX {
        return Err(unreadable(format!(
            "{size} bytes, more than the {FILE_BYTES_MAX} that are read"
        )));
    }
    fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))
}

/// A path relative to the file that names it, which must exist.
pub(super) fn existing(
    at: At,
    directory: &Path,
    field: &str,
    path: &Spanned<PathBuf>,
) -> Result<PathBuf, TopologyError> {
    let joined = directory.join(&path.value);
    joined
        .canonicalize()
        .map_err(|e| at.error(path.defined.line(), field, format!("{}: {e}", joined.display())))
}
