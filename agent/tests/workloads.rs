//! The daemon with its dataplane: two real workloads, real packets, policy, restart and stop.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use netlink::{Connection, Mac, Neighbour, NetNs, VethSpec};
use support::{Host, WAIT_MAX};

const HOST_MAC: Mac = Mac([0xee; 6]);

/// Workload `number` has 10.65.0.`number`, behind an interface whose host end is down, as the CNI plugin leaves it.
fn workload(host: &Host, number: u8) -> NetNs {
    let netns = NetNs::unnamed().unwrap();
    let interface = format!("cali{number}");
    let mut outside = Connection::open_in(&host.netns).unwrap();
    outside
        .create_veth(&VethSpec {
            peer_netns: Some(&netns),
            ..VethSpec::new(&interface, "eth0")
        })
        .unwrap();
    let index = outside.index_of(&interface).unwrap();
    outside.set_mac(index, HOST_MAC).unwrap();
    let mut inside = Connection::open_in(&netns).unwrap();
    let eth0 = inside.index_of("eth0").unwrap();
    inside.set_up(eth0).unwrap();
    inside
        .add_address(eth0, format!("10.65.0.{number}/32").parse().unwrap())
        .unwrap();
    let gateway = "169.254.1.1".parse().unwrap();
    inside
        .set_neighbour(&Neighbour::permanent(eth0, gateway, HOST_MAC))
        .unwrap();
    netns
        .run(|| {
            for route in [
                ["route", "add", "169.254.1.1", "dev", "eth0"].as_slice(),
                &["route", "add", "default", "via", "169.254.1.1"],
            ] {
                assert!(Command::new("ip").args(route).status().unwrap().success());
            }
        })
        .unwrap();
    netns
}

fn endpoint(number: u8, more: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: WorkloadEndpoint\nmetadata:\n  name: n1-cni-c{number}-eth0\n  \
         namespace: default\n  labels: {{number: w{number}}}\nspec:\n  node: n1\n  orchestrator: cni\n  \
         containerID: c{number}\n  endpoint: eth0\n  interfaceName: cali{number}\n  \
         ipNetworks: [10.65.0.{number}/32{more}]\n"
    )
}

fn policy(name: &str, order: u32, selector: &str, action: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata:\n  name: {name}\nspec:\n  \
         order: {order}\n  selector: {selector}\n  types: [Ingress, Egress]\n  ingress: [{{action: {action}}}]\n  \
         egress: [{{action: Allow}}]\n"
    )
}

/// Writes documents into the agent's own store.
fn apply(host: &Host, documents: &[String]) {
    let decoded = api::file::decode("test", &documents.join("---\n"));
    assert!(decoded.error.is_none(), "{:?}", decoded.error);
    host.netns
        .run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let config = datastore::ClientConfig::new(["http://127.0.0.1:2379"]);
                let client = datastore::Client::connect(&config).await.unwrap();
                let resources = datastore::Resources::new(client);
                for document in decoded.resources {
                    let mut object = document.resource;
                    match resources.create_any(object.clone()).await {
                        Err(error) if error.is_already_exists() => {
                            let (namespace, name) = {
                                let metadata = object.metadata();
                                (metadata.namespace.clone(), metadata.name.clone())
                            };
                            let stored = resources.get_any(object.kind(), &namespace, &name).await.unwrap();
                            let labels = std::mem::take(&mut object.metadata_mut().labels);
                            *object.metadata_mut() = stored.metadata().clone();
                            object.metadata_mut().labels = labels;
                            resources.update_any(object).await.unwrap();
                        }
                        other => drop(other.unwrap()),
                    }
                }
            });
        })
        .unwrap();
}

fn pings(from: &NetNs, to: &str) -> bool {
    let ping = || {
        Command::new("ping")
            .args(["-c1", "-W1", to])
            .stdout(Stdio::null())
            .status()
    };
    from.run(ping).unwrap().unwrap().success()
}

fn wait_for(host: &Host, what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + WAIT_MAX;
    while !condition() {
        assert!(Instant::now() < until, "{what}\n{}", host.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn workloads_talk_as_policy_says_also_while_the_agent_is_killed_restarted_and_stopped() {
    let mut host = Host::new();
    host.with_dataplane();
    let (one, two) = (workload(&host, 1), workload(&host, 2));
    let agent = host.start_agent("");
    host.wait_ready(true, "dataplane: ok");
    apply(
        &host,
        &[
            policy("allow", 100, "all()", "Allow"),
            endpoint(1, ""),
            endpoint(2, ""),
        ],
    );
    let file = host.path("endpoint-status").join("cni default%2Fc2 eth0");
    wait_for(&host, "the endpoint's status file", || file.exists());
    wait_for(&host, "a ping", || {
        pings(&one, "10.65.0.2") && pings(&two, "10.65.0.1")
    });

    // A policy of a lower order denies, and is changed again.
    apply(&host, &[policy("deny", 1, "number == 'w2'", "Deny")]);
    wait_for(&host, "the denial", || !pings(&one, "10.65.0.2"));
    assert!(pings(&two, "10.65.0.1"), "the other direction goes on");
    apply(&host, &[policy("deny", 1, "number == 'w2'", "Allow")]);
    wait_for(&host, "a ping again", || pings(&one, "10.65.0.2"));

    // An endpoint that stays up gets a further address: its file says so.
    apply(&host, &[endpoint(2, ", 10.65.0.22/32")]);
    let says = || std::fs::read_to_string(&file).unwrap_or_default();
    wait_for(&host, "the new address in the file", || {
        says().contains("10.65.0.22/32")
    });

    // Killed and started again, under traffic.
    let stream = one
        .run(|| {
            Command::new("ping")
                .args(["-i", "0.02", "-c", "400", "10.65.0.2"])
                .stdout(Stdio::piped())
                .spawn()
        })
        .unwrap()
        .unwrap();
    host.kill(agent);
    std::thread::sleep(Duration::from_secs(1));
    let agent = host.start_agent("");
    host.wait_ready(true, "dataplane: ok");
    let output = stream.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("400 received"), "{text}\n{}", host.logs());

    assert_eq!(host.terminate(agent), Some(0), "{}", host.logs());
    assert!(
        pings(&one, "10.65.0.2") && pings(&two, "10.65.0.1"),
        "everything stays"
    );
}

/// A process that a test has started.
struct Process(std::process::Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn bgp(kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata:\n  name: {name}\nspec:\n{spec}")
}

/// BIRD in a workload is a peer of its host by its label: its routes lead to it, as the filter lets them, and stay
/// when routes on workload interfaces are repaired.
#[test]
fn a_workload_that_speaks_bgp_is_a_peer_of_its_host() {
    let mut host = Host::new();
    host.with_dataplane();
    host.dataplane_config = "endpoint-to-host-action = 'Accept'\nresync-interval-s = 1";
    let (one, two) = (workload(&host, 1), workload(&host, 2));
    host.start_agent("");
    host.wait_ready(true, "dataplane: ok");
    apply(
        &host,
        &[
            policy("allow", 100, "all()", "Allow"),
            endpoint(1, ""),
            endpoint(2, ""),
            bgp(
                "BGPConfiguration",
                "default",
                "  localWorkloadPeeringIPV4: 169.254.2.1\n",
            ),
            bgp(
                "BGPFilter",
                "some",
                "  importV4: [{cidr: 203.0.113.0/24, matchOperator: In, action: Reject}]\n",
            ),
            bgp(
                "BGPPeer",
                "routers",
                "  localWorkloadSelector: number == 'w1'\n  asNumber: 65100\n  filters: [some]\n",
            ),
        ],
    );
    let at = |name: &str| host.path(name).display().to_string();
    let config = "router id 10.65.0.1;\nprotocol device {}\n\
                  protocol static { ipv4; route 198.51.100.0/24 blackhole; route 203.0.113.0/24 blackhole; }\n\
                  protocol bgp host {\n local 10.65.0.1 as 65100; neighbor 169.254.2.1 as 64512; multihop;\n\
                  hold time 9; connect delay time 1; connect retry time 1; error wait time 1, 2;\n\
                  ipv4 { import all; export where source = RTS_STATIC; };\n}\n";
    std::fs::write(host.path("bird.conf"), config).unwrap();
    let (config, control, pid) = (at("bird.conf"), at("bird.ctl"), at("bird.pid"));
    let arguments = ["-f", "-c", &config, "-s", &control, "-P", &pid];
    let start = || {
        Command::new("bird")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    };
    let bird = Process(one.run(start).unwrap().unwrap());
    let routes = || {
        let list = || Command::new("ip").args(["-4", "route"]).output();
        let output = host.netns.run(list).unwrap().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let learned = || {
        let routes = routes();
        let found = routes
            .lines()
            .find(|line| line.starts_with("198.51.100.0/24 via 10.65.0.1 dev cali1 proto 201"));
        found.is_some() && !routes.contains("203.0.113.0")
    };
    wait_for(&host, "the workload's route", learned);
    // Over two repairs of what is on workload interfaces.
    let until = Instant::now() + Duration::from_millis(2500);
    while Instant::now() < until {
        assert!(learned(), "{}\n{}", routes(), host.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
    drop((bird, two));
    wait_for(&host, "the end of the route", || !routes().contains("198.51.100"));
    // What is no peer any more loses the address.
    let addresses = || {
        let list = || Command::new("ip").args(["-4", "addr", "show", "cali1"]).output();
        let output = host.netns.run(list).unwrap().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(addresses().contains("169.254.2.1/32"), "{}", addresses());
    let nobody = "  localWorkloadSelector: number == 'w9'\n  asNumber: 65100\n";
    apply(&host, &[bgp("BGPPeer", "routers", nobody)]);
    wait_for(&host, "the address's end", || {
        !addresses().contains("169.254.2.1")
    });
}
