//! The two servers, each on an address of its own, both gone when dropped.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use datastore::server::pb::etcdserverpb::RangeRequest;
use datastore::server::pb::etcdserverpb::kv_client::KvClient;
use datastore::server::{RunningServer, Server, ServerOptions};
use tempfile::TempDir;

const ETCD: &str = "/usr/bin/etcd";
const ETCD_STARTS_MAX: usize = 3;
const READY_WITHIN: Duration = Duration::from_secs(20);
/// Of both servers, so that the cases that wait for a notice are short.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// A real etcd with a directory of its own.
pub(crate) struct Etcd {
    process: Child,
    pub(crate) url: String,
    directory: TempDir,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Etcd {
    pub(crate) async fn start() -> Self {
        for _ in 0..ETCD_STARTS_MAX {
            let mut etcd = Self::spawn();
            if etcd.ready().await {
                return etcd;
            }
            // Somebody else took a port between our choosing and its binding.
            eprintln!("etcd did not come up:\n{}", etcd.log());
        }
        panic!("etcd did not start in {ETCD_STARTS_MAX} attempts");
    }

    fn spawn() -> Self {
        let directory = directory();
        let (client, peer) = (free_address(), free_address());
        let (url, peer) = (format!("http://{client}"), format!("http://{peer}"));
        let log = File::create(directory.path().join("log")).expect("etcd's log");
        let process = Command::new(ETCD)
            .arg("--data-dir")
            .arg(directory.path().join("data"))
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args([
                "--experimental-watch-progress-notify-interval",
                &format!("{}ms", PROGRESS_INTERVAL.as_millis()),
            ])
            .stdout(log.try_clone().expect("etcd's log"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("etcd is installed (etcd-server)");
        Self {
            process,
            url,
            directory,
        }
    }

    async fn ready(&mut self) -> bool {
        let end = Instant::now() + READY_WITHIN;
        while Instant::now() < end {
            if self.process.try_wait().expect("etcd's state").is_some() {
                return false;
            }
            if let Ok(mut kv) = KvClient::connect(self.url.clone()).await {
                let request = RangeRequest {
                    key: "ready".into(),
                    ..Default::default()
                };
                if tokio::time::timeout(Duration::from_secs(5), kv.range(request))
                    .await
                    .is_ok_and(|r| r.is_ok())
                {
                    return true;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

/// In memory where the system has such a place: the cases are about answers, not about disks.
pub(crate) fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a directory")
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
}

/// An embedded store with a directory of its own.
pub(crate) struct Embedded {
    pub(crate) server: RunningServer,
    pub(crate) url: String,
    _directory: TempDir,
}

impl Embedded {
    pub(crate) async fn start() -> Self {
        let directory = directory();
        let data: PathBuf = directory.path().join("store.redb");
        let mut options = ServerOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)), data);
        options.progress_interval = PROGRESS_INTERVAL;
        let server = Server::start(options).await.expect("the store starts");
        let url = server.urls().remove(0);
        Self {
            server,
            url,
            _directory: directory,
        }
    }
}
