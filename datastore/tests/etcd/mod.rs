//! A real etcd on loopback, in a directory of its own, that can be killed, started again and emptied.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use datastore::{Client, ClientConfig};

const START_ATTEMPTS: usize = 100;
const START_PAUSE: Duration = Duration::from_millis(100);

pub struct Etcd {
    directory: tempfile::TempDir,
    client_port: u16,
    peer_port: u16,
    child: Option<Child>,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl Etcd {
    pub async fn start() -> Self {
        let mut etcd = Self {
            directory: tempfile::tempdir().unwrap(),
            client_port: free_port(),
            peer_port: free_port(),
            child: None,
        };
        etcd.run().await;
        etcd
    }

    /// Starts the process on what is in the directory.
    pub async fn run(&mut self) {
        assert!(self.child.is_none());
        let client = format!("http://127.0.0.1:{}", self.client_port);
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let child = Command::new("etcd")
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
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(["--log-level", "error", "--unsafe-no-fsync"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd is installed");
        self.child = Some(child);
        self.wait_until_up().await;
    }

    async fn wait_until_up(&self) {
        let client = self.client().await;
        for _ in 0..START_ATTEMPTS {
            if client.etcd().get("/x", None).await.is_ok() {
                return;
            }
            tokio::time::sleep(START_PAUSE).await;
        }
        panic!("etcd did not come up");
    }

    fn data(&self) -> std::path::PathBuf {
        self.directory.path().join("data")
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
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
        std::fs::remove_dir_all(self.data()).unwrap();
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

impl Drop for Etcd {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
