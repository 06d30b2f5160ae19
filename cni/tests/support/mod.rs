//! A host in a network namespace: an etcd, the plugin, and what an agent does when an endpoint appears.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use api::{IpPool, ObjectMeta, WorkloadEndpoint};
use datastore::{Client, ClientConfig, Resources};
use netlink::{Connection, NetNs};
use serde_json::{Value, json};

pub const NODE: &str = "node-1";
pub const NETWORK: &str = "net1";
pub const POOL_V4: &str = "10.77.0.0/24";
pub const POOL_V6: &str = "fd77::/112";
/// No step of a test may take longer.
const STEP_MAX: Duration = Duration::from_secs(20);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A namespace that has a path, until it is dropped.
pub struct NamedNs {
    directory: PathBuf,
    name: String,
    pub ns: NetNs,
}

impl NamedNs {
    fn new(directory: &Path, kind: &str) -> Self {
        let name = format!(
            "{kind}-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let ns = NetNs::create(directory, &name).unwrap();
        Self {
            directory: directory.to_owned(),
            name,
            ns,
        }
    }

    pub fn path(&self) -> String {
        self.directory.join(&self.name).display().to_string()
    }
}

impl Drop for NamedNs {
    fn drop(&mut self) {
        netlink::netns::remove(&self.directory, &self.name).ok();
    }
}

struct Etcd(Child);

impl Drop for Etcd {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A host. Its parts go in the order in which they stand here.
pub struct Host {
    etcd: Etcd,
    host: NamedNs,
    pub directory: tempfile::TempDir,
}

/// What the plugin left: exit status, standard output as JSON.
#[derive(Debug)]
pub struct Outcome {
    pub ok: bool,
    pub json: Value,
    pub log: String,
}

impl Host {
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("margay-cni-").tempdir().unwrap();
        let host = NamedNs::new(directory.path(), "host");
        let mut kernel = Connection::open_in(&host.ns).unwrap();
        let lo = kernel.index_of("lo").unwrap();
        kernel.set_up(lo).unwrap();
        // The agent switches forwarding on.
        let forwarding = [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
        ];
        netlink::sysctl::write_in(&host.ns, &forwarding).unwrap();
        let data = directory.path().join("etcd");
        let spawn = || {
            Command::new("etcd")
                .args([
                    "--data-dir",
                    data.to_str().unwrap(),
                    "--log-level",
                    "error",
                    "--unsafe-no-fsync",
                ])
                .args(["--listen-client-urls", "http://127.0.0.1:2379"])
                .args(["--advertise-client-urls", "http://127.0.0.1:2379"])
                .args(["--listen-peer-urls", "http://127.0.0.1:2380"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("etcd is installed")
        };
        let etcd = Etcd(host.ns.run(spawn).unwrap());
        let this = Self {
            etcd,
            host,
            directory,
        };
        this.wait_for("etcd", || {
            this.host
                .ns
                .run(|| std::net::TcpStream::connect("127.0.0.1:2379").is_ok())
                .unwrap()
        });
        this.with_store(async |resources| {
            resources.ensure_initialized("test", "test").await.unwrap();
            for (name, cidr) in [("v4", POOL_V4), ("v6", POOL_V6)] {
                let mut pool = IpPool::new(ObjectMeta::named(name), Default::default());
                pool.spec.cidr = cidr.to_owned();
                resources.create(pool).await.unwrap();
            }
            let mut node = api::Node::new(ObjectMeta::named(NODE), Default::default());
            node.metadata.name = NODE.to_owned();
            resources.create(node).await.unwrap();
        });
        this
    }

    /// Runs something against the store, on a thread in the host's namespace.
    pub fn with_store<T: Send>(&self, work: impl AsyncFnOnce(&Resources) -> T + Send) -> T {
        self.in_host(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let client = Client::connect(&ClientConfig::new(["http://127.0.0.1:2379"]))
                    .await
                    .unwrap();
                work(&Resources::new(client)).await
            })
        })
    }

    pub fn in_host<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.host.ns.run(work).unwrap()
    }

    pub fn kernel(&self) -> Connection {
        Connection::open_in(&self.host.ns).unwrap()
    }

    pub fn container(&self) -> NamedNs {
        NamedNs::new(self.directory.path(), "container")
    }

    pub fn status_dir(&self) -> PathBuf {
        self.directory.path().join("endpoint-status")
    }

    /// The configuration of a network, with `extra` keys put over the usual ones.
    pub fn config(&self, extra: &Value) -> Value {
        let mut config = json!({
            "cniVersion": "1.0.0",
            "name": NETWORK,
            "type": "calico",
            "nodename": NODE,
            "datastore_type": "etcdv3",
            "etcd_endpoints": "http://127.0.0.1:2379",
            "log_level": "debug",
            "ipam": {"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true"},
            "ipam_lock_file": self.directory.path().join("ipam.lock"),
            "endpoint_status_dir": self.status_dir(),
            "policy_setup_timeout_seconds": 10,
        });
        for (key, value) in extra.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    }

    /// Calls the plugin as a runtime does.
    pub fn call(&self, command: &str, container: &str, netns: &str, args: &str, config: &Value) -> Outcome {
        self.call_text(command, container, netns, args, &config.to_string())
    }

    pub fn call_text(
        &self,
        command: &str,
        container: &str,
        netns: &str,
        args: &str,
        config: &str,
    ) -> Outcome {
        let child = self.spawn(command, container, netns, args, config);
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        let json = if text.trim().is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text:?}\n{log}"))
        };
        Outcome {
            ok: output.status.success(),
            json,
            log,
        }
    }

    /// Calls the plugin and does not wait for it.
    pub fn start(&self, command: &str, container: &str, netns: &str, config: &Value) -> Child {
        self.spawn(command, container, netns, "", &config.to_string())
    }

    fn spawn(&self, command: &str, container: &str, netns: &str, args: &str, config: &str) -> Child {
        self.in_host(|| {
            let mut child = Command::new(env!("CARGO_BIN_EXE_margay-cni"))
                .env_clear()
                .env("CNI_COMMAND", command)
                .env("CNI_CONTAINERID", container)
                .env("CNI_NETNS", netns)
                .env("CNI_IFNAME", "eth0")
                .env("CNI_ARGS", args)
                .env("CNI_PATH", "/opt/cni/bin")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            // A plugin that refuses its parameters may not read its input.
            child.stdin.take().unwrap().write_all(config.as_bytes()).ok();
            child
        })
    }

    /// ADD, with an agent that does its part.
    pub fn add(&self, container: &str, netns: &NamedNs, args: &str, config: &Value) -> Outcome {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| self.agent(container, &done));
            let outcome = self.call("ADD", container, &netns.path(), args, config);
            done.store(true, Ordering::Relaxed);
            outcome
        })
    }

    /// As the agent: when the endpoint appears, checks that nothing could have passed until then, sets the link up and
    /// says so.
    fn agent(&self, container: &str, done: &AtomicBool) {
        let deadline = Instant::now() + STEP_MAX;
        while Instant::now() < deadline && !done.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
            let endpoints = self.endpoints();
            let Some(endpoint) = endpoints.iter().find(|e| e.spec.container_id == container) else {
                continue;
            };
            let spec = &endpoint.spec;
            let mut kernel = self.kernel();
            let link = kernel
                .link(&spec.interface_name)
                .unwrap()
                .expect("the link is made before the endpoint");
            if !link.up {
                kernel.set_up(link.index).unwrap();
                let workload = if spec.orchestrator == "k8s" {
                    &spec.pod
                } else {
                    &spec.container_id
                };
                let name = format!(
                    "{} {}%2F{workload} {}",
                    spec.orchestrator, endpoint.metadata.namespace, spec.endpoint
                );
                let of = |v4| -> Vec<&String> {
                    spec.ip_networks
                        .iter()
                        .filter(|n| n.contains('.') == v4)
                        .collect()
                };
                let status =
                    json!({"ifaceName": spec.interface_name, "ipv4Nets": of(true), "ipv6Nets": of(false)});
                std::fs::create_dir_all(self.status_dir()).unwrap();
                std::fs::write(self.status_dir().join(name), status.to_string()).unwrap();
                return;
            }
        }
    }

    pub fn endpoints(&self) -> Vec<WorkloadEndpoint> {
        self.with_store(async |resources| resources.list_all::<WorkloadEndpoint>().await.unwrap())
    }

    /// Addresses that blocks have given out.
    pub fn allocated(&self) -> usize {
        self.with_store(async |resources| {
            let (_, values) = resources.client().etcd().list(&blocks(), None).await.unwrap();
            let used = |value: &[u8]| {
                let block: Value = serde_json::from_slice(value).unwrap();
                block["allocations"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|a| a.is_u64())
                    .count()
            };
            values.iter().map(|raw| used(&raw.value)).sum()
        })
    }

    fn wait_for(&self, what: &str, mut ready: impl FnMut() -> bool) {
        let deadline = Instant::now() + STEP_MAX;
        while !ready() {
            assert!(Instant::now() < deadline, "{what} is not ready");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn blocks() -> datastore::client::KeyRange {
    datastore::client::KeyRange::Prefix("/calico/ipam/v2/assignment/".to_owned())
}
