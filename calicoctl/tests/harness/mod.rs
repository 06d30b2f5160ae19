//! The real binary against a real store: the embedded server in this process, or etcd as a process of its own.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that stops here has failed"
)]

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use datastore::server::{Durability, RunningServer, Server, ServerOptions};

const START_TIME_MAX: Duration = Duration::from_secs(20);
const START_PAUSE: Duration = Duration::from_millis(50);

/// Which server a test talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    Embedded,
    Etcd,
}

impl StoreKind {
    pub const BOTH: [Self; 2] = [Self::Embedded, Self::Etcd];
}

enum Process {
    Embedded(Option<RunningServer>),
    Etcd(Child),
}

/// A store of its own for one test, and a folder for the test's files.
pub struct Fixture {
    pub directory: tempfile::TempDir,
    pub endpoint: String,
    process: Process,
}

/// What a command printed, and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl Fixture {
    pub async fn start(kind: StoreKind) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (process, endpoint) = match kind {
            StoreKind::Embedded => {
                let mut options = ServerOptions::new(
                    SocketAddr::from(([127, 0, 0, 1], 0)),
                    directory.path().join("store.redb"),
                );
                options.durability = Durability::Relaxed;
                let server = Server::start(options).await.unwrap();
                let endpoint = server.urls().remove(0);
                (Process::Embedded(Some(server)), endpoint)
            }
            StoreKind::Etcd => start_etcd(directory.path()),
        };
        let fixture = Self {
            directory,
            endpoint,
            process,
        };
        fixture.write(
            "calicoctl.cfg",
            &format!(
                "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nmetadata:\nspec:\n  datastoreType: etcdv3\n  \
                 etcdEndpoints: {}\n",
                fixture.endpoint
            ),
        );
        fixture
    }

    /// Stops the embedded server; does nothing to etcd.
    pub async fn stop(&mut self) {
        if let Process::Embedded(server) = &mut self.process
            && let Some(server) = server.take()
        {
            server.shutdown().await;
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file and gives its path as text.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs calicoctl in the fixture's folder, with its connection file.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with_input(arguments, "")
    }

    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> Ran {
        let config = self.path("calicoctl.cfg");
        run_calicoctl(
            self.directory.path(),
            arguments,
            &["-c", config.to_str().unwrap()],
            input,
        )
    }

    /// What `etcdctl` says is stored under a key.
    pub fn stored(&self, key: &str) -> String {
        let output = self.etcdctl(&["get", "--print-value-only", key]);
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end_matches('\n')
            .to_owned()
    }

    pub fn keys(&self) -> Vec<String> {
        let output = self.etcdctl(&["get", "--prefix", "--keys-only", "/calico/"]);
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    }

    pub fn put(&self, key: &str, value: &str) {
        assert!(self.etcdctl(&["put", key, value]).status.success());
    }

    fn etcdctl(&self, arguments: &[&str]) -> Output {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.endpoint])
            .args(arguments)
            .output()
            .expect("etcdctl is installed");
        assert!(
            output.status.success(),
            "etcdctl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Process::Etcd(child) = &mut self.process {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn start_etcd(directory: &Path) -> (Process, String) {
    let (client, peer) = (free_port(), free_port());
    let (client, peer) = (
        format!("http://127.0.0.1:{client}"),
        format!("http://127.0.0.1:{peer}"),
    );
    let child = Command::new("etcd")
        .arg("--data-dir")
        .arg(directory.join("etcd"))
        .args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ])
        .args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ])
        .args([
            "--initial-cluster",
            &format!("default={peer}"),
            "--log-level",
            "error",
            "--unsafe-no-fsync",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("etcd is installed");
    let process = Process::Etcd(child);
    let deadline = Instant::now() + START_TIME_MAX;
    loop {
        let healthy = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &client, "--command-timeout=1s", "get", "x"])
            .output()
            .is_ok_and(|output| output.status.success());
        if healthy {
            return (process, client);
        }
        assert!(Instant::now() < deadline, "etcd did not come up");
        std::thread::sleep(START_PAUSE);
    }
}

/// Runs the binary without the caller's environment.
pub fn run_calicoctl(directory: &Path, arguments: &[&str], more: &[&str], input: &str) -> Ran {
    use std::io::Write;
    let mut child = Command::new(env!("CARGO_BIN_EXE_calicoctl"))
        .current_dir(directory)
        .env_clear()
        .env("TZ", "UTC")
        .args(arguments)
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ran {
    /// Success with this output and nothing on standard error.
    #[track_caller]
    pub fn printed(&self, out: &str) {
        assert_eq!(
            (self.code, self.out.as_str(), self.err.as_str()),
            (Some(0), out, "")
        );
    }

    /// Exit code 1 with these outputs.
    #[track_caller]
    pub fn failed(&self, out: &str, err: &str) {
        assert_eq!(
            (self.code, self.out.as_str(), self.err.as_str()),
            (Some(1), out, err)
        );
    }
}
