//! The daemon as a process, in a network namespace of its own, against real stores.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use netlink::{Connection, NetNs};

const WAIT_MAX: Duration = Duration::from_secs(20);
const HEALTH: &str = "127.0.0.1:9099";

/// A namespace with loopback and one address, a directory, and what runs in them.
struct Host {
    netns: NetNs,
    dir: tempfile::TempDir,
    running: Vec<Child>,
}

impl Host {
    fn new() -> Self {
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
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn spawn(&mut self, program: &str, args: &[&str]) -> usize {
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

    fn start_agent(&mut self, endpoints: &str) -> usize {
        let at = |name: &str| self.path(name).display().to_string();
        let config = format!(
            "node-name = 'n1'\n[dataplane]\nenabled = false\n[node]\nipv4-address = '192.0.2.7/24'\n\
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
        self.spawn(
            env!("CARGO_BIN_EXE_margay-agent"),
            &["--config", path.to_str().unwrap()],
        )
    }

    fn start_etcd(&mut self) -> usize {
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

    fn terminate(&mut self, number: usize) -> Option<i32> {
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

    fn get(&self, path: &str) -> Option<(u16, String)> {
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
    fn wait_ready(&self, ready: bool, about: &str) -> String {
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

    fn logs(&self) -> String {
        let read =
            |number: usize| std::fs::read_to_string(self.path(&format!("log-{number}"))).unwrap_or_default();
        (0..self.running.len())
            .map(|number| format!("--- {number}\n{}", read(number)))
            .collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn alone_it_runs_its_own_store_registers_and_stops_cleanly() {
    let mut host = Host::new();
    let agent = host.start_agent("");
    host.wait_ready(true, "datastore: ok");
    assert_eq!(host.get("/liveness").unwrap().0, 200);
    assert_eq!(std::fs::read_to_string(host.path("nodename")).unwrap(), "n1");
    assert_eq!(host.terminate(agent), Some(0), "{}", host.logs());

    // The second start finds its own node and goes on.
    host.start_agent("");
    host.wait_ready(true, "node: ok");
}

#[test]
fn a_store_that_is_away_is_waited_for_and_the_last_good_view_serves_meanwhile() {
    let mut host = Host::new();
    let agent = host.start_agent("'http://127.0.0.1:2379'");
    let body = host.wait_ready(false, "node: failing: not registered");
    assert!(body.contains("datastore: failing"), "{body}");
    assert_eq!(
        host.get("/liveness").unwrap().0,
        200,
        "an agent without its store is alive"
    );

    let etcd = host.start_etcd();
    host.wait_ready(true, "datastore: ok");
    // The view is saved at the stop.
    assert_eq!(host.terminate(agent), Some(0), "{}", host.logs());
    host.terminate(etcd);

    host.start_agent("'http://127.0.0.1:2379'");
    let body = host.wait_ready(false, "bgp: ok");
    assert!(
        body.contains("datastore: failing"),
        "BGP runs from the saved view: {body}"
    );
}

#[test]
fn a_wrong_key_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    std::fs::write(&path, "[bgp]\nhold-time = 9\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_margay-agent"))
        .arg("--config")
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("agent.toml") && error.contains("line 2") && error.contains("hold-time"),
        "{error}"
    );
}
