//! Routers that others wrote.

mod exabgp;
mod openbgpd;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::net::{Netns, Process, wait_for};

pub(crate) use exabgp::ExaBgp;
pub(crate) use openbgpd::OpenBgpd;

/// What a test asks of any of them.
pub(crate) trait Router {
    /// Whether its session with an address is established.
    fn is_established(&self, peer: &str) -> bool;
    /// What it shows of a route, if it has it.
    fn route(&self, prefix: &str) -> Option<String>;
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

/// BIRD 2.
pub(crate) struct Bird {
    netns: Netns,
    control: PathBuf,
    process: Process,
}

impl Bird {
    pub(crate) fn start(netns: &Netns, directory: &Path, config: &str) -> Self {
        Self::start_with(netns, directory, config, "")
    }

    pub(crate) fn start_with(netns: &Netns, directory: &Path, config: &str, options: &str) -> Self {
        let (file, control) = (directory.join("bird.conf"), directory.join("bird.ctl"));
        write(&file, config);
        let line = format!(
            "bird -f -c {} -s {} -P {} {options}",
            file.display(),
            control.display(),
            directory.join("bird.pid").display()
        );
        let process = netns.spawn(&line, &directory.join("bird.log"));
        wait_for("BIRD's control socket", Duration::from_secs(5), || {
            control.exists()
        });
        Self {
            netns: netns.clone(),
            control,
            process,
        }
    }

    pub(crate) fn ask(&self, command: &str) -> String {
        let line = format!("birdc -r -s {} {command}", self.control.display());
        String::from_utf8_lossy(&self.netns.output(&line).stdout).into_owned()
    }
}

impl Bird {
    /// A command that changes something.
    pub(crate) fn ask_writing(&self, command: &str) -> String {
        let line = format!("birdc -s {} {command}", self.control.display());
        String::from_utf8_lossy(&self.netns.output(&line).stdout).into_owned()
    }
}

impl Bird {
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }
}

impl Router for Bird {
    fn is_established(&self, peer: &str) -> bool {
        let all = self.ask("show protocols all");
        let mut blocks = all.split("\n\n");
        let block = blocks.find(|block| block.contains(&format!("Neighbor address: {peer}\n")));
        block.is_some_and(|block| block.contains("BGP state:          Established"))
    }

    fn route(&self, prefix: &str) -> Option<String> {
        let shown = self.ask(&format!("show route {prefix} all"));
        shown.contains("BGP.as_path").then_some(shown)
    }
}

/// FRR's bgpd, without zebra.
pub(crate) struct Frr {
    netns: Netns,
    directory: PathBuf,
    process: Process,
}

impl Frr {
    pub(crate) fn start(netns: &Netns, directory: &Path, config: &str) -> Self {
        let file = directory.join("frr.conf");
        write(&file, config);
        let line = format!(
            "/usr/lib/frr/bgpd -S -Z -n -f {} -i {} --vty_socket {} -P 0 -l 0.0.0.0 -l :: --log stdout",
            file.display(),
            directory.join("frr.pid").display(),
            directory.display()
        );
        let process = netns.spawn(&line, &directory.join("frr.log"));
        wait_for("FRR's vty socket", Duration::from_secs(10), || {
            directory.join("bgpd.vty").exists()
        });
        Self {
            netns: netns.clone(),
            directory: directory.to_owned(),
            process,
        }
    }

    pub(crate) fn ask(&self, command: &str) -> String {
        let mut vtysh = self.netns.command("vtysh --vty_socket");
        vtysh.arg(&self.directory).args(["-d", "bgpd", "-c", command]);
        String::from_utf8_lossy(&vtysh.output().expect("vtysh").stdout).into_owned()
    }
}

impl Frr {
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Configures something of its BGP instance.
    pub(crate) fn configure(&self, lines: &[&str]) {
        let running = self.ask("show running-config");
        let instance = running.lines().find(|line| line.starts_with("router bgp"));
        let mut vtysh = self.netns.command("vtysh --vty_socket");
        vtysh.arg(&self.directory).args(["-d", "bgpd"]);
        for line in ["configure terminal", instance.expect("a BGP instance")]
            .iter()
            .chain(lines)
        {
            vtysh.args(["-c", line]);
        }
        assert!(vtysh.output().expect("vtysh").status.success(), "{lines:?}");
    }
}

/// FRR's bgpd with zebra and bfdd, which it needs for BFD.
pub(crate) struct FrrWithBfd {
    pub(crate) bgp: Frr,
    _others: [Process; 2],
}

impl FrrWithBfd {
    /// Each daemon reads the part of the configuration that is its own.
    pub(crate) fn start(netns: &Netns, directory: &Path, bgp: &str, bfd: &str) -> Self {
        // The daemons give up root for a user of their own.
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o777)).unwrap();
        write(&directory.join("zebra.conf"), "");
        write(&directory.join("bfdd.conf"), bfd);
        write(&directory.join("frr.conf"), bgp);
        let start = |daemon: &str, more: &str| {
            let config = if daemon == "bgpd" { "frr" } else { daemon };
            let path = directory.display();
            let line = format!(
                "/usr/lib/frr/{daemon} -f {path}/{config}.conf -i {path}/{daemon}.pid -z {path}/zserv.api \
                 --vty_socket {path} -P 0 --log stdout {more}"
            );
            let process = netns.spawn(&line, &directory.join(format!("{daemon}.log")));
            wait_for(daemon, Duration::from_secs(10), || {
                directory.join(format!("{daemon}.vty")).exists()
            });
            process
        };
        let zebra = start("zebra", "");
        let bfdd = start("bfdd", &format!("--bfdctl {}/bfdd.sock", directory.display()));
        let bgp = Frr {
            netns: netns.clone(),
            directory: directory.to_owned(),
            process: start("bgpd", "-n -l 0.0.0.0 -l ::"),
        };
        Self {
            bgp,
            _others: [zebra, bfdd],
        }
    }

    /// Commands to bfdd.
    pub(crate) fn ask(&self, commands: &[&str]) -> String {
        let mut vtysh = self.bgp.netns.command("vtysh --vty_socket");
        vtysh.arg(&self.bgp.directory).args(["-d", "bfdd"]);
        for command in commands {
            vtysh.args(["-c", command]);
        }
        String::from_utf8_lossy(&vtysh.output().expect("vtysh").stdout).into_owned()
    }
}

impl Router for Frr {
    fn is_established(&self, peer: &str) -> bool {
        self.ask(&format!("show bgp neighbors {peer}"))
            .contains("BGP state = Established")
    }

    fn route(&self, prefix: &str) -> Option<String> {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        let shown = self.ask(&format!("show bgp {family} unicast {prefix}"));
        shown.contains("best").then_some(shown)
    }
}

/// GoBGP.
pub(crate) struct GoBgp {
    netns: Netns,
    process: Process,
}

impl GoBgp {
    pub(crate) fn start(netns: &Netns, directory: &Path, config: &str) -> Self {
        let file = directory.join("gobgp.toml");
        write(&file, config);
        let line = format!("gobgpd -t toml -f {} --api-hosts 127.0.0.1:50051", file.display());
        let process = netns.spawn(&line, &directory.join("gobgp.log"));
        let gobgp = Self {
            netns: netns.clone(),
            process,
        };
        wait_for("GoBGP's API", Duration::from_secs(10), || {
            gobgp
                .netns
                .output("gobgp -u 127.0.0.1 -p 50051 global")
                .status
                .success()
        });
        gobgp
    }

    pub(crate) fn ask(&self, command: &str) -> String {
        let output = self
            .netns
            .output(&format!("gobgp -u 127.0.0.1 -p 50051 {command}"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl GoBgp {
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }
}

impl Router for GoBgp {
    fn is_established(&self, peer: &str) -> bool {
        self.ask(&format!("neighbor {peer}"))
            .contains("BGP state = ESTABLISHED")
    }

    fn route(&self, prefix: &str) -> Option<String> {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        let shown = self.ask(&format!("global rib -a {family} {prefix}"));
        shown.contains("*>").then_some(shown)
    }
}
