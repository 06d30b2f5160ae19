//! Stores in this process and in others, and short ways to ask them.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use datastore::server::pb::etcdserverpb::kv_client::KvClient;
use datastore::server::pb::etcdserverpb::{PutRequest, RangeRequest, RangeResponse};
use datastore::server::{RunningServer, Server, ServerOptions, StartError};
use tonic::transport::Channel;

const EXIT_WITHIN: Duration = Duration::from_secs(10);

/// A store in this process.
pub(crate) async fn start(data: &Path) -> Result<RunningServer, StartError> {
    Server::start(ServerOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)), data)).await
}

pub(crate) async fn channel(url: &str) -> Channel {
    Channel::from_shared(url.to_owned())
        .expect("a URL")
        .connect()
        .await
        .expect("a server")
}

pub(crate) async fn client(server: &RunningServer) -> KvClient<Channel> {
    KvClient::new(channel(&server.urls()[0]).await)
}

pub(crate) fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    }
}

pub(crate) fn range(key: &str) -> RangeRequest {
    RangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    }
}

pub(crate) async fn all(kv: &mut KvClient<Channel>, revision: i64) -> RangeResponse {
    let request = RangeRequest {
        range_end: vec![0].into(),
        revision,
        ..range("\0")
    };
    kv.range(request).await.expect("a range").into_inner()
}

/// `margay-store` as a process of its own; killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) addresses: Vec<String>,
}

impl Process {
    /// Starts it with these arguments and waits for as many addresses as it was told to listen on.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let listens = arguments
            .iter()
            .filter(|argument| **argument == "--listen")
            .count();
        Self::spawn(command(arguments), listens)
    }

    /// Starts it through another program, which becomes it.
    pub(crate) fn start_by(program: &str, arguments: &[&str], listens: usize) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        Self::spawn(command, listens)
    }

    fn spawn(mut command: Command, listens: usize) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("margay-store");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut addresses = Vec::new();
        while addresses.len() < listens {
            let line = lines.next().expect("an address is printed").expect("text");
            if let Some(address) = line.strip_prefix("listening on ") {
                addresses.push(address.to_owned());
            }
        }
        Self { child, addresses }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addresses[0])
    }

    /// Kills it as a crash would.
    pub(crate) fn crash(&mut self) {
        self.child.kill().expect("a kill");
        self.child.wait().expect("its end");
    }

    pub(crate) fn signal(&self, name: &str) {
        let done = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(done.expect("kill").success());
    }

    /// Waits for its end and gives its exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let end = Instant::now() + EXIT_WITHIN;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("its state") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("margay-store did not end within {EXIT_WITHIN:?}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_margay-store"));
    command.args(arguments).stdin(Stdio::null());
    command
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path in ASCII")
}
