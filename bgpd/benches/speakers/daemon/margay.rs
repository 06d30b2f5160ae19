//! The speaker of this repository.

use std::fmt::Write;
use std::path::Path;

use super::Setup;
use crate::fabric::{DAEMON, DAEMON_AS};

pub(super) fn prepare(program: &Path, directory: &Path, setup: &Setup) -> anyhow::Result<Vec<String>> {
    let mut text = format!(
        "[global]\nas = {DAEMON_AS}\nrouter-id = \"{DAEMON}\"\nlisten = [\"0.0.0.0:179\"]\nfib = {}\n",
        setup.fib
    );
    for neighbor in &setup.neighbors {
        let identity = neighbor.identity;
        write!(
            text,
            "[[neighbor]]\naddress = \"{}\"\nas = {}\npassive = true\nhold-time = {}\nroute-reflector-client = {}\n\
             import = \"accept\"\nexport = \"{}\"\n",
            identity.address,
            identity.asn,
            identity.hold_time_s,
            neighbor.client,
            if neighbor.export { "accept" } else { "reject" },
        )?;
    }
    let file = directory.join("bgpd.toml");
    std::fs::write(&file, text)?;
    Ok(vec![format!(
        "{} --log warn --config {}",
        program.display(),
        file.display()
    )])
}
