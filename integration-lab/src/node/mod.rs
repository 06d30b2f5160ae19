//! A node: a holder process, pid 1 of mount, network, pid, UTS and IPC namespaces of its own, and the ways
//! into them.

pub mod enter;
pub mod holder;
mod mounts;
pub mod processes;

use std::net::IpAddr;
use std::path::PathBuf;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::topology::Bind;

/// Where the directory of the lab's own executable appears in every node.
pub const BIN_DIR: &str = "/run/lab/bin";
/// The file that tells commands entering the node which environment it has.
pub const SPEC_IN_NODE: &str = "/run/lab/node.json";

/// Everything that a holder needs to make its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Name of the lab.
    pub lab: String,
    /// Name of the node, also its host name.
    pub name: String,
    /// What to show of the machine's files.
    pub binds: Vec<Bind>,
    /// Directory of the machine that is the node's /var/log.
    pub log_dir: PathBuf,
    /// Directory of the machine with the binaries under test.
    pub bin_dir: PathBuf,
    /// Environment of everything in the node.
    pub env: IndexMap<String, String>,
    /// Names for the node's /etc/hosts.
    pub hosts: Vec<(IpAddr, String)>,
}

impl NodeSpec {
    /// Search path of everything that runs in a node, after [`BIN_DIR`].
    pub const PATH_REST: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

    /// The environment of commands in the node, search path included.
    pub fn environment(&self) -> IndexMap<String, String> {
        let mut env = self.env.clone();
        let path = match self.env.get("PATH") {
            Some(path) => format!("{BIN_DIR}:{path}"),
            None => format!("{BIN_DIR}:{}", Self::PATH_REST),
        };
        env.insert("PATH".to_string(), path);
        env
    }
}
