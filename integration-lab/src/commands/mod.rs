//! The command line's subcommands, one function each.

mod logs;
mod status;
mod up;

use std::path::Path;

use anyhow::bail;

pub use logs::logs;
pub use status::status;
pub use up::up;

use crate::state::StateDir;
use crate::topology::Topology;

/// Which lab is meant: the named one, that of a topology file, or the only one there is.
pub fn lab_name(state: &StateDir, name: Option<&str>, topology: Option<&Path>) -> anyhow::Result<String> {
    if let Some(name) = name {
        return Ok(name.to_string());
    }
    if let Some(file) = topology {
        return Ok(Topology::load(file, None)?.name);
    }
    match state.names()?.as_slice() {
        [one] => Ok(one.clone()),
        [] => bail!("no lab is up: `lab up TOPOLOGY` first"),
        several => bail!(
            "several labs are up ({}): say which with --lab",
            several.join(", ")
        ),
    }
}
