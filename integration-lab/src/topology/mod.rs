//! A containerlab topology file: `file` is its text, [`Topology`] what it means.

mod file;
mod resolve;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use resolve::{MGMT_INTERFACE, SWITCH};

/// Largest topology file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A topology with defaults applied and every reference checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// The lab's name, as in the file unless the command line gave another.
    pub name: String,
    /// The topology file.
    pub file: PathBuf,
    /// Prefix lengths and networks of the management network.
    pub mgmt: Vec<IpNet>,
    /// In the order of the file.
    pub nodes: IndexMap<String, Node>,
    /// In the order of the file.
    pub links: Vec<Link>,
    /// What was read and has no meaning here, one sentence each.
    pub notes: Vec<String>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The process to run in the background before the `exec` lines: entrypoint and cmd, split into words.
    pub command: Vec<String>,
    /// Files and directories of the machine to show in the node.
    pub binds: Vec<Bind>,
    /// Commands to run one after the other once the links are there, split into words.
    pub exec: Vec<Vec<String>>,
    /// Environment of everything that runs in the node.
    pub env: IndexMap<String, String>,
    /// Free text, carried for the reader.
    pub labels: IndexMap<String, String>,
    /// Addresses on the management network.
    pub mgmt: Vec<IpAddr>,
}

/// A file or directory of the machine, shown at a path of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Absolute path on the machine.
    pub source: PathBuf,
    /// Absolute path in the node.
    pub target: PathBuf,
    /// Whether the node may write to it.
    pub read_only: bool,
}

/// A veth pair between two nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its two ends.
    pub ends: [LinkEnd; 2],
    /// Set on both ends; the kernel's default when absent.
    pub mtu: Option<u32>,
}

/// One end of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkEnd {
    /// The node's name.
    pub node: String,
    /// The interface's name in that node.
    pub interface: String,
}

/// Why a topology is refused: always with its file, with line and field where there is one.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The file cannot be read.
    #[error("{file}: {reason}")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The text is not YAML, or not of the shape of a topology.
    #[error("{file}:{line}: {reason}")]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What is wrong, with the field.
        reason: String,
    },
    /// A value that is well formed means nothing here.
    #[error("{file}:{line}: {field}: {reason}")]
    Value {
        /// The file.
        file: PathBuf,
        /// Line, from 1; 0 where the value has none of its own.
        line: u64,
        /// Path of the field.
        field: String,
        /// What is wrong and what is expected.
        reason: String,
    },
}

impl Topology {
    /// Reads and checks a topology file; `name` replaces the file's name for the lab.
    pub fn load(file: &Path, name: Option<&str>) -> Result<Self, TopologyError> {
        let unreadable = |reason: String| TopologyError::Unreadable {
            file: file.to_path_buf(),
            reason,
        };
        let path = file.canonicalize().map_err(|e| unreadable(e.to_string()))?;
        let size = std::fs::metadata(&path)
            .map_err(|e| unreadable(e.to_string()))?
            .len();
        if size > FILE_BYTES_MAX {
            return Err(unreadable(format!(
                "{size} bytes, more than the {FILE_BYTES_MAX} that a topology may have"
            )));
        }
        let text = std::fs::read_to_string(&path).map_err(|e| unreadable(e.to_string()))?;
        Self::parse(&path, &text, name)
    }

    /// The same from a text; `file` is only named and its directory used for relative paths.
    pub fn parse(file: &Path, text: &str, name: Option<&str>) -> Result<Self, TopologyError> {
        let parsed = serde_saphyr::from_str::<file::ClabFile>(text).map_err(|e| TopologyError::Syntax {
            file: file.to_path_buf(),
            line: e.location().map_or(0, |l| l.line()),
            reason: e.without_snippet().to_string(),
        })?;
        resolve::resolve(file, parsed, name)
    }
}

#[cfg(test)]
mod tests;
