//! OpenBGPD, which is three processes.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Setup;
use crate::fabric::{DAEMON, DAEMON_AS};

pub(super) fn prepare(program: &Path, directory: &Path, setup: &Setup) -> anyhow::Result<Vec<String>> {
    let mut text = format!(
        "AS {DAEMON_AS}\nrouter-id {DAEMON}\nlisten on {DAEMON}\nfib-update no\nsocket \"{}\"\n",
        directory.join("openbgpd.sock").display()
    );
    let mut filter = String::from("allow from any\nallow to any\n");
    for neighbor in &setup.neighbors {
        let identity = neighbor.identity;
        write!(
            text,
            "neighbor {} {{\n remote-as {}\n passive\n announce IPv4 unicast\n holdtime {}\n{}}}\n",
            identity.address,
            identity.asn,
            identity.hold_time_s,
            if neighbor.client { " route-reflector\n" } else { "" },
        )?;
        if !neighbor.export {
            writeln!(filter, "deny to {}", identity.address)?;
        }
    }
    text.push_str(&filter);
    let file = directory.join("openbgpd.conf");
    std::fs::write(&file, text)?;
    // It refuses a file that others may write or read.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
    // Its processes shut themselves into the home directory of their user, /run/openbgpd, which its service
    // makes; here, in a mount namespace of its own.
    let script = directory.join("openbgpd.sh");
    let start = format!(
        "set -e\nmount -t tmpfs none /run\nmkdir -m 755 /run/openbgpd\nexec {} -d -f {}\n",
        program.display(),
        file.display()
    );
    std::fs::write(&script, start)?;
    Ok(vec![format!("unshare --mount -- sh {}", script.display())])
}
