//! A host of its own for a test: a network namespace, a directory, and the processes in them.
#![expect(dead_code, reason = "each test file uses a part")]
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use netlink::{Connection, NetNs};

pub(crate) const WAIT_MAX: Duration = Duration::from_secs(20);
const HEALTH: &str = "127.0.0.1:9099";

/// A namespace with loopback and one address, a directory, and what runs in them.
pub(crate) struct Host {
    pub(crate) netns: NetNs,
    dir: tempfile::TempDir,
    running: Vec<Child>,
    /// Holds a mount namespace with a bpffs of the host's own.
    holder: Option<Child>,
    /// Further lines of `[dataplane]`.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) dataplane_config: &'static str,
}

impl Host {
    pub(crate) fn new() -> Self {
        let netns = NetNs::unnamed().unwrap();
        let mut connection = Connection::open_in(&netns).unwrap();
        let loopback = connection.index_of("lo").unwrap();
        connection.set_up(loopback).unwrap();
        connection
            .add_address(loopback, "192.0.2.7/32".parse().unwrap())
            .unwrap();
        Self {
            netns,
            dir: tempfile::tempdir().unwrap(),
            running: Vec::new(),
            holder: None,
            dataplane_config: "",
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn spawn(&mut self, program: &str, args: &[&str]) -> usize {
        let log = std::fs::File::create(self.path(&format!("log-{}", self.running.len()))).unwrap();
        let child = self
            .netns
            .run(|| {
                Command::new(program)
                    .args(args)
                    .stdin(Stdio::null())
                    .stdout(log.try_clone().unwrap())
                    .stderr(log)
                    .spawn()
            })
            .unwrap()
            .unwrap();
        self.running.push(child);
        self.running.len() - 1
    }

    pub(crate) fn start_agent(&mut self, endpoints: &str) -> usize {
        let at = |name: &str| self.path(name).display().to_string();
        let dataplane = match &self.holder {
            Some(_) => format!("pin-dir = '{}'\n{}", at("bpf/margay"), self.dataplane_config),
            None => "enabled = false".to_owned(),
        };
        let config = format!(
            "node-name = 'n1'\n[dataplane]\n{dataplane}\n[node]\nipv4-address = '192.0.2.7/24'\n\
             [datastore]\nendpoints = [{endpoints}]\n[datastore.embedded]\ndata = '{}'\n[api]\nsocket = '{}'\n\
             [paths]\nnodename-file = '{}'\nendpoint-status-dir = '{}'\nsnapshot = '{}'\nrun-dir = '{}'\n",
            at("store.redb"),
            at("agent.sock"),
            at("nodename"),
            at("endpoint-status"),
            at("snapshot.json"),
            at("run"),
        );
        let path = self.path("agent.toml");
        std::fs::write(&path, config).unwrap();
        let agent = env!("CARGO_BIN_EXE_margay-agent");
        let path = path.display().to_string();
        match self.holder.as_ref().map(Child::id) {
            Some(pid) => {
                let mount = format!("--mount=/proc/{pid}/ns/mnt");
                self.spawn("nsenter", &[&mount, "--", agent, "--config", &path])
            }
            None => self.spawn(agent, &["--config", &path]),
        }
    }

    pub(crate) fn start_etcd(&mut self) -> usize {
        let data = self.path("etcd").display().to_string();
        let url = "http://127.0.0.1:2379";
        let peer = "http://127.0.0.1:2380";
        self.spawn(
            "etcd",
            &[
                "--data-dir",
                &data,
                "--listen-client-urls",
                url,
                "--advertise-client-urls",
                url,
                "--listen-peer-urls",
                peer,
                "--initial-advertise-peer-urls",
                peer,
                "--initial-cluster",
                &format!("default={peer}"),
            ],
        )
    }

    /// Gives the host a bpffs that no other mount namespace sees; from then on agents run with a dataplane.
    pub(crate) fn with_dataplane(&mut self) {
        let mount = self.path("bpf");
        std::fs::create_dir(&mount).unwrap();
        let script = "mount -t bpf bpf \"$0\" && echo ready && exec sleep 600";
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script])
            .arg(&mount)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 6];
        holder.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        self.holder = Some(holder);
    }

    pub(crate) fn kill(&mut self, number: usize) {
        self.running[number].kill().unwrap();
        self.running[number].wait().unwrap();
    }

    pub(crate) fn terminate(&mut self, number: usize) -> Option<i32> {
        let child = &mut self.running[number];
        let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let until = Instant::now() + WAIT_MAX;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "did not stop within {WAIT_MAX:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        self.netns
            .run(|| {
                let address: SocketAddr = HEALTH.parse().ok()?;
                let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
                stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
                write!(
                    stream,
                    "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                )
                .ok()?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer).ok()?;
                let status = answer.split(' ').nth(1)?.parse().ok()?;
                let body = answer.split_once("\r\n\r\n")?.1.to_owned();
                Some((status, body))
            })
            .unwrap()
    }

    /// Waits until the readiness is such, and gives its text.
    pub(crate) fn wait_ready(&self, ready: bool, about: &str) -> String {
        let until = Instant::now() + WAIT_MAX;
        loop {
            let last = self.get("/readiness");
            if let Some((status, body)) = &last
                && (*status == 200) == ready
                && body.contains(about)
            {
                return body.clone();
            }
            assert!(Instant::now() < until, "readiness {last:?}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub(crate) fn logs(&self) -> String {
        let read =
            |number: usize| std::fs::read_to_string(self.path(&format!("log-{number}"))).unwrap_or_default();
        (0..self.running.len())
            .map(|number| format!("--- {number}\n{}", read(number)))
            .collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for child in self.running.iter_mut().chain(&mut self.holder) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
