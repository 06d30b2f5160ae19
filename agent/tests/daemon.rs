//! The daemon as a process, in a network namespace of its own, against real stores.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::process::Command;
use std::time::Duration;

use support::Host;

#[test]
fn alone_it_runs_its_own_store_registers_and_stops_cleanly() {
    let mut host = Host::new();
    let agent = host.start_agent("");
    host.wait_ready(true, "datastore: ok");
    assert_eq!(host.get("/liveness").unwrap().0, 200);
    assert_eq!(std::fs::read_to_string(host.path("nodename")).unwrap(), "n1");
    assert_eq!(host.terminate(agent), Some(0), "{}", host.logs());
    assert!(
        !host.path("agent.sock").exists(),
        "the socket goes with the agent"
    );

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
fn it_stops_soon_while_the_store_is_away_and_somebody_holds_a_connection() {
    let mut host = Host::new();
    let agent = host.start_agent("'http://127.0.0.1:2379'");
    host.wait_ready(false, "node: failing: not registered");
    // A client that says nothing.
    let _idle = host
        .netns
        .run(|| std::net::TcpStream::connect("127.0.0.1:9099").unwrap())
        .unwrap();
    let started = std::time::Instant::now();
    assert_eq!(host.terminate(agent), Some(0), "{}", host.logs());
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}\n{}",
        started.elapsed(),
        host.logs()
    );
}

#[test]
fn fields_of_its_node_that_it_does_not_know_survive_its_update() {
    const KEY: &str = "/calico/resources/v3/projectcalico.org/nodes/n1";
    let mut host = Host::new();
    host.start_etcd();
    let stored = r#"{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"n1","invented":"m"},
        "spec":{"bgp":{"asNumber":64999,"inventedBgp":{"a":[1,2]}},"inventedSpec":true},"inventedTop":7}"#;
    let etcdctl = |args: &[&str]| {
        let run = || {
            Command::new("etcdctl")
                .env("ETCDCTL_API", "3")
                .args(args)
                .output()
        };
        host.netns.run(run).unwrap().unwrap()
    };
    let until = std::time::Instant::now() + support::WAIT_MAX;
    while !etcdctl(&["put", KEY, stored]).status.success() {
        assert!(std::time::Instant::now() < until, "etcd does not answer");
        std::thread::sleep(Duration::from_millis(200));
    }
    host.start_agent("'http://127.0.0.1:2379'");
    host.wait_ready(true, "node: ok");
    let output = host
        .netns
        .run(|| {
            Command::new("etcdctl")
                .env("ETCDCTL_API", "3")
                .args(["get", "--print-value-only", KEY])
                .output()
        })
        .unwrap()
        .unwrap();
    let node: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        node["spec"]["bgp"]["ipv4Address"], "192.0.2.7/24",
        "the agent's own part: {node}"
    );
    assert_eq!(node["spec"]["bgp"]["asNumber"], 64999);
    assert_eq!(
        node["spec"]["bgp"]["inventedBgp"],
        serde_json::json!({"a": [1, 2]})
    );
    assert_eq!(node["spec"]["inventedSpec"], true);
    assert_eq!(node["metadata"]["invented"], "m");
    assert_eq!(node["inventedTop"], 7);
}

/// Asks the agent to accept the datastore as it is: why it did not, or why it refuses.
fn accept_datastore(host: &Host, confirmed: bool) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let socket = host.path("agent.sock");
    runtime.block_on(async {
        let connect = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move {
                let stream = tokio::net::UnixStream::connect(socket).await;
                stream.map(hyper_util::rt::TokioIo::new)
            }
        });
        let endpoint = tonic::transport::Endpoint::from_static("http://localhost");
        let channel = endpoint.connect_with_connector(connect).await.unwrap();
        let mut client = api_proto::v1::agent_client::AgentClient::new(channel);
        let request = api_proto::v1::AcceptDatastoreRequest { confirmed };
        let answer = client.accept_datastore(request).await;
        answer
            .map(|answer| answer.into_inner().reason)
            .map_err(|status| status.message().to_owned())
    })
}

#[test]
fn a_datastore_with_another_history_is_followed_once_somebody_accepts_it() {
    const KEYS: [&str; 2] = [
        "/calico/resources/v3/projectcalico.org/clusterinformations/default",
        "/calico/resources/v3/projectcalico.org/nodes/n1",
    ];
    let mut host = Host::new();
    let etcd = host.start_etcd();
    host.start_agent("'http://127.0.0.1:2379'");
    host.wait_ready(true, "datastore: ok");
    let refusal = accept_datastore(&host, true).unwrap_err();
    assert!(refusal.contains("not frozen"), "{refusal}");

    let etcdctl = |host: &Host, args: &[&str]| {
        let run = || {
            Command::new("etcdctl")
                .env("ETCDCTL_API", "3")
                .args(args)
                .output()
        };
        host.netns.run(run).unwrap().unwrap()
    };
    let kept = KEYS.map(|key| {
        let output = etcdctl(&host, &["get", "--print-value-only", key]);
        (key, String::from_utf8(output.stdout).unwrap())
    });
    for _ in 0..10 {
        assert!(
            etcdctl(&host, &["put", kept[1].0, kept[1].1.trim()])
                .status
                .success()
        );
    }
    // The store is set up anew: the same, in fewer revisions than the agent has seen.
    std::thread::sleep(Duration::from_secs(1));
    host.kill(etcd);
    std::fs::remove_dir_all(host.path("etcd")).unwrap();
    host.start_etcd();
    let until = std::time::Instant::now() + support::WAIT_MAX;
    for (key, value) in &kept {
        while !etcdctl(&host, &["put", key, value.trim()]).status.success() {
            assert!(std::time::Instant::now() < until, "etcd does not answer");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    host.wait_ready(false, "went back from");
    let reason = accept_datastore(&host, false).unwrap();
    assert!(reason.contains("went back from"), "{reason}");
    std::thread::sleep(Duration::from_millis(1500));
    host.wait_ready(false, "went back from");
    assert_eq!(accept_datastore(&host, true).unwrap(), reason);
    host.wait_ready(true, "datastore: ok");
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
