//! Links: veth pairs made from inside the lab's own switch node, with both ends created directly in the
//! namespaces of their nodes. Nothing ever passes through the machine's root namespace.

use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use ipnet::IpNet;
use nix::sched::{CloneFlags, setns};

use crate::state::ProcessIdentity;
use crate::topology::{Link, MGMT_INTERFACE};

/// The management bridge, in the switch node.
pub(super) const BRIDGE: &str = "mgmt";

/// Command lines for `ip -batch`, run in the network namespace of one process but seeing the machine's
/// process ids, by which the namespaces of the ends are named.
#[derive(Debug, Default)]
pub(super) struct Batch {
    lines: Vec<String>,
}

impl Batch {
    /// The bridge that all management links hang on. It has no address: the lab itself talks to no node.
    pub(super) fn bridge(&mut self) {
        self.lines.push(format!("link add {BRIDGE} type bridge"));
        self.lines.push(format!("link set {BRIDGE} up"));
    }

    /// A node's management interface and its port on the bridge.
    pub(super) fn management(&mut self, index: usize, node: &ProcessIdentity) {
        // The port's name is short and unique; the bridge is found by it in the switch node.
        self.lines.push(format!(
            "link add p{index} type veth peer name {MGMT_INTERFACE} netns {}",
            node.pid
        ));
        self.lines.push(format!("link set p{index} master {BRIDGE} up"));
    }

    /// One link of the topology between two nodes.
    pub(super) fn link(&mut self, link: &Link, ends: [&ProcessIdentity; 2]) {
        let [a, b] = &link.ends;
        let mtu = link.mtu.map(|m| format!("mtu {m} ")).unwrap_or_default();
        self.lines.push(format!(
            "link add {} {mtu}netns {} type veth peer name {} {mtu}netns {}",
            a.interface, ends[0].pid, b.interface, ends[1].pid
        ));
    }

    /// Addresses of a node's management interface.
    pub(super) fn addresses(&mut self, addresses: &[IpNet]) {
        for address in addresses {
            let nodad = if address.addr().is_ipv6() { " nodad" } else { "" };
            self.lines
                .push(format!("addr add {address} dev {MGMT_INTERFACE}{nodad}"));
        }
    }

    /// Sets an interface up.
    pub(super) fn set_up(&mut self, interface: &str) {
        self.lines.push(format!("link set {interface} up"));
    }

    /// Runs the lines in the network namespace of a node.
    pub(super) fn run_in(self, node: &ProcessIdentity) -> anyhow::Result<()> {
        let Self { lines } = self;
        if lines.is_empty() {
            return Ok(());
        }
        let namespace =
            std::fs::File::open(format!("/proc/{}/ns/net", node.pid)).context("opening the namespace")?;
        if !node.is_alive() {
            bail!("a node's holder process died");
        }
        // A thread of its own: its namespace ends with it, and the child inherits it.
        let thread = std::thread::spawn(move || -> anyhow::Result<()> {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).context("entering the network namespace")?;
            let mut child = Command::new("ip")
                .args(["-batch", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .context("running ip")?;
            if let Some(mut stdin) = child.stdin.take() {
                stdin
                    .write_all((lines.join("\n") + "\n").as_bytes())
                    .context("writing to ip")?;
            }
            let output = child.wait_with_output().context("running ip")?;
            if !output.status.success() {
                bail!(
                    "ip refused: {} (of: {})",
                    String::from_utf8_lossy(&output.stderr).trim(),
                    lines.join("; ")
                );
            }
            Ok(())
        });
        thread
            .join()
            .map_err(|_| anyhow::anyhow!("the thread that makes links failed"))?
    }
}
