//! A real etcd, or our own store's program, on loopback and in a directory of its own, that can be killed, started again
//! and emptied.

#![allow(
    dead_code,
    unused_macros,
    unreachable_pub,
    reason = "each test file uses a part"
)]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use datastore::{Client, ClientConfig, Pem};

const START_ATTEMPTS: usize = 100;
const START_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Etcd,
    Margay,
}

pub struct Store {
    pub program: Program,
    directory: tempfile::TempDir,
    client_port: u16,
    peer_port: u16,
    child: Option<Child>,
    name: String,
    /// The members' names and peer URLs, of all.
    members: String,
    /// Has ca.pem, cert.pem and key.pem, for both sides.
    certificates: Option<std::path::PathBuf>,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl Store {
    fn new(program: Program, name: &str) -> Self {
        let peer_port = free_port();
        Self {
            program,
            directory: tempfile::tempdir().unwrap(),
            client_port: free_port(),
            peer_port,
            child: None,
            name: name.to_owned(),
            members: format!("{name}=http://127.0.0.1:{peer_port}"),
            certificates: None,
        }
    }

    pub async fn start(program: Program) -> Self {
        let mut store = Self::new(program, "default");
        store.run().await;
        store
    }

    /// An etcd that wants client certificates.
    pub async fn start_with_tls(certificates: &Path) -> Self {
        let mut store = Self::new(Program::Etcd, "default");
        store.certificates = Some(certificates.to_owned());
        store.run().await;
        store
    }

    /// An etcd of three members.
    pub async fn start_cluster() -> Vec<Self> {
        let mut members: Vec<Self> = ["a", "b", "c"].map(|name| Self::new(Program::Etcd, name)).into();
        let all: Vec<String> = members.iter().map(|m| m.members.clone()).collect();
        for member in &mut members {
            member.members = all.join(",");
            member.spawn();
        }
        for member in &members {
            member.wait_until_up().await;
        }
        members
    }

    /// Starts the process on what is in the directory.
    pub async fn run(&mut self) {
        self.spawn();
        self.wait_until_up().await;
    }

    /// As [`Store::run`], without waiting until it answers.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none());
        let mut command = match self.program {
            Program::Etcd => self.etcd(),
            Program::Margay => self.margay(),
        };
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.child = Some(child.expect("the store's program is there"));
    }

    /// Sends the process a signal: `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        let status = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status()
            .unwrap();
        assert!(status.success());
    }

    fn etcd(&self) -> Command {
        let client = self.endpoint();
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let mut command = Command::new("etcd");
        command
            .arg("--data-dir")
            .arg(self.data())
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
            .args(["--name", &self.name, "--initial-cluster", &self.members])
            .args(["--log-level", "error", "--unsafe-no-fsync"]);
        if let Some(certificates) = &self.certificates {
            command
                .current_dir(certificates)
                .args([
                    "--cert-file",
                    "cert.pem",
                    "--key-file",
                    "key.pem",
                    "--client-cert-auth",
                ])
                .args(["--trusted-ca-file", "ca.pem"]);
        }
        command
    }

    fn margay(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_margay-store"));
        command
            .args(["--listen", &format!("127.0.0.1:{}", self.client_port)])
            .arg("--data")
            .arg(self.data());
        command
    }

    pub async fn wait_until_up(&self) {
        let mut config = self.config();
        if let Some(certificates) = &self.certificates {
            let file = |name: &str| Some(Pem::File(certificates.join(name)));
            (config.ca, config.cert, config.key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
        }
        let client = Client::connect(&config).await.unwrap();
        for _ in 0..START_ATTEMPTS {
            if client.etcd().get("/x", None).await.is_ok() {
                return;
            }
            tokio::time::sleep(START_PAUSE).await;
        }
        panic!("{:?} did not come up", self.program);
    }

    fn data(&self) -> std::path::PathBuf {
        self.directory.path().join("data")
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn endpoint(&self) -> String {
        let scheme = if self.certificates.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://127.0.0.1:{}", self.client_port)
    }

    pub fn config(&self) -> ClientConfig {
        ClientConfig {
            request_timeout: Duration::from_secs(3),
            ..ClientConfig::new([self.endpoint()])
        }
    }

    pub async fn client(&self) -> Client {
        Client::connect(&self.config()).await.unwrap()
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Removes everything that it stored; it must not run.
    pub fn empty(&self) {
        assert!(self.child.is_none());
        match self.program {
            Program::Etcd => std::fs::remove_dir_all(self.data()).unwrap(),
            Program::Margay => std::fs::remove_file(self.data()).unwrap(),
        }
    }

    pub fn etcdctl(&self, arguments: &[&str]) -> String {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.endpoint()])
            .args(arguments)
            .output()
            .expect("etcdctl is installed");
        assert!(
            output.status.success(),
            "etcdctl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a scenario on both programs.
#[macro_export]
macro_rules! on_both_stores {
    ($($name:ident),+ $(,)?) => {
        mod etcd {
            $(#[tokio::test]
            async fn $name() {
                super::$name($crate::store::Store::start($crate::store::Program::Etcd).await).await;
            })+
        }
        mod margay {
            $(#[tokio::test]
            async fn $name() {
                super::$name($crate::store::Store::start($crate::store::Program::Margay).await).await;
            })+
        }
    };
}
