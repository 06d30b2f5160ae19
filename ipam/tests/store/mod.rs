//! The stores that every test runs on: a real etcd, and the embedded server.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use api::{IpPool, Node, ObjectMeta};
use datastore::server::{RunningServer, Server, ServerOptions};
use datastore::{Client, ClientConfig, Resources};
use ipam::Ipam;
use jiff::Timestamp;

const START_ATTEMPTS: usize = 100;
const START_PAUSE: Duration = Duration::from_millis(100);
/// Where the tests' clock starts: 2026-08-22T10:11:12Z.
const START_SECONDS: i64 = 1_787_393_472;

pub enum Store {
    Etcd {
        child: Child,
        url: String,
        _directory: tempfile::TempDir,
    },
    Embedded {
        server: RunningServer,
        _directory: tempfile::TempDir,
    },
}

impl Store {
    pub async fn etcd() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = || {
            TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port()
        };
        let (client, peer) = (
            format!("http://127.0.0.1:{}", port()),
            format!("http://127.0.0.1:{}", port()),
        );
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(directory.path().join("data"))
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
        let store = Self::Etcd {
            child,
            url: client,
            _directory: directory,
        };
        let client = store.client().await;
        for _ in 0..START_ATTEMPTS {
            if client.etcd().get("/x", None).await.is_ok() {
                return store;
            }
            tokio::time::sleep(START_PAUSE).await;
        }
        panic!("etcd did not come up");
    }

    pub async fn embedded() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = ServerOptions::new(
            "127.0.0.1:0".parse().unwrap(),
            directory.path().join("store.redb"),
        );
        Self::Embedded {
            server: Server::start(options).await.unwrap(),
            _directory: directory,
        }
    }

    pub async fn client(&self) -> Client {
        let url = match self {
            Self::Etcd { url, .. } => url.clone(),
            Self::Embedded { server, .. } => server.urls()[0].clone(),
        };
        Client::connect(&ClientConfig::new([url])).await.unwrap()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Self::Etcd { child, .. } = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A clock that the test moves.
#[derive(Clone, Default)]
pub struct Clock(Arc<AtomicI64>);

impl Clock {
    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_second(START_SECONDS + self.0.load(Ordering::SeqCst)).unwrap()
    }
}

/// A store with these nodes and pools, and IPAM on it.
pub struct Fabric {
    pub ipam: Ipam,
    pub resources: Resources,
    pub client: Client,
    pub clock: Clock,
    _store: Store,
}

impl Fabric {
    pub async fn new(store: Store) -> Self {
        let client = store.client().await;
        let clock = Clock::default();
        let ipam = {
            let clock = clock.clone();
            Ipam::with_clock(client.clone(), move || clock.now())
        };
        Self {
            ipam,
            resources: Resources::new(client.clone()),
            client,
            clock,
            _store: store,
        }
    }

    pub async fn node(&self, name: &str, labels: &[(&str, &str)]) {
        let mut node = Node {
            metadata: ObjectMeta::named(name),
            ..Node::default()
        };
        node.metadata.labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        self.resources.create(node).await.unwrap();
    }

    pub async fn pool(&self, name: &str, cidr: &str, change: impl FnOnce(&mut IpPool)) {
        let mut pool = IpPool {
            metadata: ObjectMeta::named(name),
            ..IpPool::default()
        };
        pool.spec.cidr = cidr.into();
        change(&mut pool);
        self.resources.create(pool).await.unwrap();
    }
}

/// Runs a scenario on both stores, one after the other.
#[macro_export]
macro_rules! on_both_stores {
    ($($name:ident),+ $(,)?) => {
        mod etcd {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&$crate::store::Fabric::new($crate::store::Store::etcd().await).await).await;
            })+
        }
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&$crate::store::Fabric::new($crate::store::Store::embedded().await).await).await;
            })+
        }
    };
}
