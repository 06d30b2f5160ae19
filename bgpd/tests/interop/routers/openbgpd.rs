//! OpenBGPD, which is three processes.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Router, write};
use crate::net::{Netns, Process, wait_for};

pub(crate) struct OpenBgpd {
    netns: Netns,
    control: PathBuf,
    process: Process,
}

impl OpenBgpd {
    /// Starts it with a configuration, which gets the path of the control socket.
    pub(crate) fn start(netns: &Netns, directory: &Path, config: &str) -> Self {
        let (file, control) = (directory.join("openbgpd.conf"), directory.join("openbgpd.sock"));
        let _ = std::fs::remove_file(&control);
        write(&file, &format!("socket \"{}\"\n{config}", control.display()));
        // It refuses a file that others may write or read.
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        // Its processes shut themselves into the home directory of their user, /run/openbgpd: here that is in a
        // mount namespace of its own. When the first process ends, the others do.
        let script = directory.join("openbgpd.sh");
        let start = format!(
            "set -e\nmount -t tmpfs none /run\nmkdir -m 755 /run/openbgpd\nexec /usr/sbin/bgpd -d -v -f {}\n",
            file.display()
        );
        write(&script, &start);
        let line = format!("unshare --mount -- sh {}", script.display());
        let process = netns.spawn(&line, &directory.join("openbgpd.log"));
        let openbgpd = Self {
            netns: netns.clone(),
            control,
            process,
        };
        wait_for("OpenBGPD's control socket", Duration::from_secs(10), || {
            openbgpd.ask("show summary terse").contains(' ')
        });
        openbgpd
    }

    pub(crate) fn ask(&self, command: &str) -> String {
        let line = format!("bgpctl -s {} {command}", self.control.display());
        String::from_utf8_lossy(&self.netns.output(&line).stdout).into_owned()
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }
}

impl Router for OpenBgpd {
    fn is_established(&self, peer: &str) -> bool {
        self.ask(&format!("show neighbor {peer}"))
            .contains("BGP state = Established")
    }

    fn route(&self, prefix: &str) -> Option<String> {
        let shown = self.ask(&format!("show rib detail {prefix}"));
        shown
            .contains(&format!("BGP routing table entry for {prefix}"))
            .then_some(shown)
    }
}
