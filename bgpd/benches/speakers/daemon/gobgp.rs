//! GoBGP.

use std::fmt::Write;
use std::path::Path;

use super::Setup;
use crate::fabric::{DAEMON, DAEMON_AS};

pub(super) fn prepare(program: &Path, directory: &Path, setup: &Setup) -> anyhow::Result<Vec<String>> {
    let mut text = format!("[global.config]\nas = {DAEMON_AS}\nrouter-id = \"{DAEMON}\"\n");
    for neighbor in &setup.neighbors {
        let identity = neighbor.identity;
        write!(
            text,
            "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{}\"\npeer-as = {}\n\
             [neighbors.transport.config]\npassive-mode = true\n\
             [neighbors.timers.config]\nhold-time = {}\nkeepalive-interval = {}\n",
            identity.address,
            identity.asn,
            identity.hold_time_s,
            identity.hold_time_s / 3
        )?;
        if neighbor.client {
            write!(
                text,
                "[neighbors.route-reflector.config]\nroute-reflector-client = true\n\
                 route-reflector-cluster-id = \"{DAEMON}\"\n"
            )?;
        }
        anyhow::ensure!(
            neighbor.export,
            "a neighbor without export is not configured for GoBGP"
        );
    }
    let file = directory.join("gobgp.toml");
    std::fs::write(&file, text)?;
    Ok(vec![format!(
        "{} -t toml -f {} -l warn --api-hosts 127.0.0.1:50051",
        program.display(),
        file.display()
    )])
}
