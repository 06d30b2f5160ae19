//! BIRD 2.

use std::fmt::Write;
use std::path::Path;

use super::Setup;
use crate::fabric::{DAEMON, DAEMON_AS};

pub(super) fn prepare(program: &Path, directory: &Path, setup: &Setup) -> anyhow::Result<Vec<String>> {
    let mut text = format!("router id {DAEMON};\nprotocol device {{}}\n");
    if setup.fib {
        text.push_str("protocol kernel { ipv4 { import none; export all; }; }\n");
    }
    for (number, neighbor) in setup.neighbors.iter().enumerate() {
        let identity = neighbor.identity;
        write!(
            text,
            "protocol bgp p{number} {{ local {DAEMON} as {DAEMON_AS}; neighbor {} as {}; passive; hold time {};{}\n\
             \x20ipv4 {{ import all; export {}; }}; }}\n",
            identity.address,
            identity.asn,
            identity.hold_time_s,
            if neighbor.client { " rr client;" } else { "" },
            if neighbor.export { "all" } else { "none" },
        )?;
    }
    let file = directory.join("bird.conf");
    std::fs::write(&file, text)?;
    Ok(vec![format!(
        "{} -f -c {} -s {} -P {}",
        program.display(),
        file.display(),
        directory.join("bird.ctl").display(),
        directory.join("bird.pid").display()
    )])
}
