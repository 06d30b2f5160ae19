//! `lab down`: from what the state directory says, whatever state `up` left it in.

use super::up::Progress;
use crate::state::{LabDir, StateDir};

/// Ends every node of a lab and removes its files. A node that is already gone is not an error.
pub fn down(state: &StateDir, lab: &str, progress: Progress) -> anyhow::Result<()> {
    remove(state.open_locked(lab)?, progress)?;
    progress(&format!("lab {lab} is gone"));
    Ok(())
}

/// The same for a lab that is held already.
pub(super) fn remove(dir: LabDir, progress: Progress) -> anyhow::Result<()> {
    for name in dir.node_names()? {
        match dir.holder(&name) {
            Ok(Some(holder)) => {
                holder
                    .kill_and_wait()
                    .map_err(|e| e.context(format!("node {name}")))?;
            }
            Ok(None) => {}
            // Without its record a holder was never released, so it ended with its `up`.
            Err(e) => progress(&format!("note: node {name}: {e:#}")),
        }
    }
    dir.remove()
}
