//! `node status` and `flows` over the agent's contract, on a Unix socket.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

mod harness;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api_proto::v1::agent_server::{Agent, AgentServer};
use api_proto::v1::{
    AcceptDatastoreRequest, AcceptDatastoreResponse, BgpPeer, BgpSpeaker, Flow, GetStatusRequest,
    GetStatusResponse, ListBgpPeersRequest, ListBgpPeersResponse, ListEndpointsRequest,
    ListEndpointsResponse, ListFlowsRequest, ListFlowsResponse, WatchFlowsRequest,
};
use harness::run_calicoctl;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

/// A server of the contract with given answers: what is tested is the client.
#[derive(Clone)]
struct Answers {
    v6_runs: bool,
    peers: Vec<BgpPeer>,
    flows: Vec<Flow>,
    watched: Vec<Flow>,
    frozen: bool,
    /// Somebody has confirmed it.
    accepted: Arc<AtomicBool>,
}

fn selected(flows: &[Flow], action: &str) -> Vec<Flow> {
    flows
        .iter()
        .filter(|flow| action.is_empty() || flow.action == action)
        .cloned()
        .collect()
}

#[tonic::async_trait]
impl Agent for Answers {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let speaker = |running| {
            Some(BgpSpeaker {
                running,
                ..BgpSpeaker::default()
            })
        };
        Ok(Response::new(GetStatusResponse {
            bgp_v4: speaker(true),
            bgp_v6: speaker(self.v6_runs),
            ..GetStatusResponse::default()
        }))
    }

    async fn list_bgp_peers(
        &self,
        _: Request<ListBgpPeersRequest>,
    ) -> Result<Response<ListBgpPeersResponse>, Status> {
        Ok(Response::new(ListBgpPeersResponse {
            peers: self.peers.clone(),
        }))
    }

    async fn list_endpoints(
        &self,
        _: Request<ListEndpointsRequest>,
    ) -> Result<Response<ListEndpointsResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn list_flows(
        &self,
        request: Request<ListFlowsRequest>,
    ) -> Result<Response<ListFlowsResponse>, Status> {
        let request = request.into_inner();
        let mut flows = selected(&self.flows, &request.action);
        flows.retain(|flow| flow.sequence > request.after_sequence);
        if request.limit > 0 {
            let surplus = flows.len().saturating_sub(request.limit as usize);
            flows.drain(..surplus);
        }
        Ok(Response::new(ListFlowsResponse { flows, lost: 0 }))
    }

    type WatchFlowsStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<Flow, Status>> + Send>>;

    async fn watch_flows(
        &self,
        request: Request<WatchFlowsRequest>,
    ) -> Result<Response<Self::WatchFlowsStream>, Status> {
        let flows = selected(&self.watched, &request.into_inner().action);
        Ok(Response::new(Box::pin(tokio_stream::iter(
            flows.into_iter().map(Ok),
        ))))
    }

    async fn accept_datastore(
        &self,
        request: Request<AcceptDatastoreRequest>,
    ) -> Result<Response<AcceptDatastoreResponse>, Status> {
        if !self.frozen {
            return Err(Status::failed_precondition("there is nothing to accept"));
        }
        let confirmed = request.into_inner().confirmed;
        self.accepted.fetch_or(confirmed, Ordering::Relaxed);
        Ok(Response::new(AcceptDatastoreResponse {
            reason: "the revision went back".to_owned(),
        }))
    }
}

fn flow(sequence: u64, action: &str, rule: i32) -> Flow {
    Flow {
        sequence,
        time: format!("2026-08-22T10:11:1{sequence}Z"),
        source: "10.0.0.1".to_owned(),
        destination: "10.0.1.1".to_owned(),
        protocol: 6,
        source_port: 40000,
        destination_port: 81,
        action: action.to_owned(),
        direction: "ingress".to_owned(),
        interface: "cali1".to_owned(),
        endpoint: "k8s/default/web/eth0".to_owned(),
        reason: if rule < 0 { "end-of-tier" } else { "policy" }.to_owned(),
        tier: "default".to_owned(),
        policy_kind: if rule < 0 { "" } else { "NetworkPolicy" }.to_owned(),
        policy_namespace: if rule < 0 { "" } else { "default" }.to_owned(),
        policy: if rule < 0 { "" } else { "web" }.to_owned(),
        rule,
    }
}

fn answers() -> Answers {
    let peer = |address: &str, kind: &str, state: &str, info: &str| BgpPeer {
        address: address.to_owned(),
        ip_version: if address.contains(':') { 6 } else { 4 },
        peer_type: kind.to_owned(),
        state: state.to_owned(),
        since: "2020-01-02T03:04:05Z".to_owned(),
        info: info.to_owned(),
        ..BgpPeer::default()
    };
    Answers {
        v6_runs: true,
        peers: vec![
            peer("192.0.2.1", "global", "Established", ""),
            peer(
                "192.0.2.2",
                "node specific",
                "Active",
                "Socket: Connection refused",
            ),
        ],
        flows: vec![flow(1, "allow", 0), flow(2, "deny", -1), flow(3, "deny", 2)],
        watched: vec![flow(3, "deny", 2), flow(4, "allow", 0), flow(5, "deny", -1)],
        frozen: false,
        accepted: Arc::default(),
    }
}

fn serve(answers: Answers, socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(AgentServer::new(answers))
            .serve_with_incoming(UnixListenerStream::new(listener)),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn node_status() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent.sock");
    let path = socket.to_str().unwrap();
    let status = || {
        run_calicoctl(
            directory.path(),
            &["node", "status"],
            &["--agent-socket", path],
            "",
        )
    };
    status().failed("", "Calico process is not running.\n");
    serve(answers(), &socket);
    status().printed(
        "Calico process is running.\n\
         \n\
         IPv4 BGP status\n\
         +--------------+---------------+-------+------------+-----------------------------------+\n\
         | PEER ADDRESS | PEER TYPE     | STATE | SINCE      | INFO                              |\n\
         +--------------+---------------+-------+------------+-----------------------------------+\n\
         | 192.0.2.1    | global        | up    | 2020-01-02 | Established                       |\n\
         | 192.0.2.2    | node specific | start | 2020-01-02 | Active Socket: Connection refused |\n\
         +--------------+---------------+-------+------------+-----------------------------------+\n\
         \n\
         IPv6 BGP status\n\
         No IPv6 peers found.\n\
         \n",
    );
    std::fs::remove_file(&socket).unwrap();
    serve(
        Answers {
            v6_runs: false,
            peers: Vec::new(),
            ..answers()
        },
        &socket,
    );
    status().printed(
        "Calico process is running.\n\nINFO: BIRDv6 process: 'bird6' is not running.\n\nIPv4 BGP status\nNo IPv4 peers \
         found.\n\n",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datastore_is_accepted_only_with_a_flag() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent.sock");
    let path = socket.to_str().unwrap();
    let accept = |more: &[&str]| {
        let arguments = [&["node", "accept-datastore"], more].concat();
        run_calicoctl(directory.path(), &arguments, &["--agent-socket", path], "")
    };
    serve(answers(), &socket);
    accept(&["--yes"]).failed("", "there is nothing to accept\n");
    std::fs::remove_file(&socket).unwrap();
    let frozen = Answers {
        frozen: true,
        ..answers()
    };
    let accepted = Arc::clone(&frozen.accepted);
    serve(frozen, &socket);
    let only_asked = accept(&[]);
    assert!(
        only_asked
            .err
            .starts_with("Nothing is done without --yes: the revision went back. "),
        "{}",
        only_asked.err
    );
    assert!(!accepted.load(Ordering::Relaxed));
    accept(&["--yes"]).printed(
        "Accepted. The agent now takes the datastore for the truth; until now: the revision went back\n",
    );
    assert!(accepted.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "multi_thread")]
async fn flows() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent.sock");
    let path = socket.to_str().unwrap();
    serve(answers(), &socket);
    let flows = |more: &[&str]| {
        let arguments = [&["flows"], more].concat();
        run_calicoctl(directory.path(), &arguments, &["--agent-socket", path], "")
    };
    let denied = flows(&["--action", "deny"]);
    let words: Vec<Vec<&str>> = denied
        .out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        words,
        [
            vec![
                "TIME",
                "ACTION",
                "DIRECTION",
                "PROTOCOL",
                "SOURCE",
                "DESTINATION",
                "ENDPOINT",
                "TIER",
                "POLICY",
                "RULE",
                "REASON"
            ],
            vec![
                "2026-08-22T10:11:12Z",
                "deny",
                "ingress",
                "tcp",
                "10.0.0.1:40000",
                "10.0.1.1:81",
                "k8s/default/web/eth0",
                "default",
                "-",
                "-",
                "end-of-tier"
            ],
            vec![
                "2026-08-22T10:11:13Z",
                "deny",
                "ingress",
                "tcp",
                "10.0.0.1:40000",
                "10.0.1.1:81",
                "k8s/default/web/eth0",
                "default",
                "NetworkPolicy(default/web)",
                "2",
                "policy"
            ],
        ]
    );
    let json: serde_json::Value =
        serde_json::from_str(&flows(&["-o", "json", "--after", "1", "--limit", "1"]).out).unwrap();
    assert_eq!(json.as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&json[0]["sequence"], &json[0]["policy"], &json[0]["rule"]),
        (&3.into(), &"web".into(), &2.into())
    );
    flows(&["-o", "xml"]).failed("", "unrecognized output format 'xml', use ps or json\n");
    assert_eq!(flows(&["--action", "maybe"]).code, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn followed_flows_come_once_each() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent.sock");
    serve(answers(), &socket);
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_calicoctl"))
        .args(["flows", "--follow", "-o", "json", "--agent-socket"])
        .arg(&socket)
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut sequences = Vec::new();
    let read = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            let flow: serde_json::Value = serde_json::from_str(&line).unwrap();
            sequences.push(flow["sequence"].as_u64().unwrap_or_default());
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.unwrap();
    assert_eq!(sequences, [1, 2, 3, 4, 5]);
    // The server closed the stream, which a running agent does not.
    assert_eq!(child.wait().await.unwrap().code(), Some(1));
}

/// Someone who is neither root nor in the group is told which group it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_is_not_ours() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // A copy that the other user can reach.
    let binary = directory.path().join("calicoctl");
    std::fs::copy(env!("CARGO_BIN_EXE_calicoctl"), &binary).unwrap();
    let socket = directory.path().join("agent.sock");
    serve(answers(), &socket);
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    std::fs::set_permissions(
        &socket,
        std::fs::Permissions::from_mode(if root { 0o660 } else { 0 }),
    )
    .unwrap();
    let mut command = Command::new(&binary);
    command
        .args(["node", "status", "--agent-socket"])
        .arg(&socket)
        .env_clear();
    if root {
        command.uid(65534).gid(65534);
    }
    let output = command.output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(
        err.starts_with("permission denied on the agent's socket "),
        "{err}"
    );
    if root {
        assert!(
            err.contains("members of group root may: run as root, or join it (usermod -aG root USER)"),
            "{err}"
        );
    }
}

#[test]
fn bgp_commands_take_the_agents_socket() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("nobody.sock");
    let nowhere = nowhere.to_str().unwrap();
    for command in [
        &["bgp", "peers"][..],
        &["bgp", "explain", "10.0.0.0/8"],
        &["bgp", "drain"],
    ] {
        let ran = run_calicoctl(directory.path(), command, &["--agent-socket", nowhere], "");
        assert!(
            ran.err.contains("no agent is running"),
            "{command:?}: {}",
            ran.err
        );
        assert_eq!(ran.code, Some(1));
    }
    let help = run_calicoctl(directory.path(), &["bgp", "--help"], &[], "");
    for verb in [
        "peers", "routes", "explain", "summary", "drain", "undrain", "reset", "watch",
    ] {
        assert!(help.out.contains(verb), "{verb}: {}", help.out);
    }
}
