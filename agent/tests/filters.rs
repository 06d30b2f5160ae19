//! BGP filters in force between the agent and BIRD, and a change of one peer that leaves the other alone.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use bgpd_proto::v1::bgp_client::BgpClient;
use bgpd_proto::v1::{ListPeersRequest, ListRoutesRequest, Peer};
use support::Host;

const RESOURCES: &str = "/calico/resources/v3/projectcalico.org";
/// The routers: name, address, AS.
const ROUTERS: [(&str, &str, u32); 2] = [("a", "192.0.2.8", 65001), ("b", "192.0.2.9", 65002)];

fn bird_config(address: &str, asn: u32) -> String {
    // Only the first one announces something.
    let routes = match asn {
        65001 => "protocol static { ipv4; route 198.51.100.0/24 blackhole; route 203.0.113.0/24 blackhole; }",
        _ => "",
    };
    format!(
        "router id {address};\nprotocol device {{}}\n{routes}\nprotocol bgp node {{\n\
         local {address} as {asn}; neighbor 192.0.2.7 as 64512; strict bind yes; multihop; hold time 9;\n\
         connect retry time 1; error wait time 1, 2;\n\
         ipv4 {{ import all; export where source = RTS_STATIC; }};\n}}\n"
    )
}

/// A host with etcd, BIRD and the agent, and what the test asks them.
struct Fabric {
    host: Host,
    runtime: tokio::runtime::Runtime,
}

impl Fabric {
    fn new() -> Self {
        let mut host = Host::new();
        let mut connection = netlink::Connection::open_in(&host.netns).unwrap();
        let loopback = connection.index_of("lo").unwrap();
        host.start_etcd();
        for (name, address, asn) in ROUTERS {
            connection
                .add_address(loopback, format!("{address}/32").parse().unwrap())
                .unwrap();
            let at = |end: &str| host.path(&format!("{name}.{end}")).display().to_string();
            let (config, control, pid) = (at("conf"), at("ctl"), at("pid"));
            std::fs::write(&config, bird_config(address, asn)).unwrap();
            host.spawn("bird", &["-f", "-c", &config, "-s", &control, "-P", &pid]);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self { host, runtime }
    }

    fn output(&self, program: &str, args: &[&str]) -> std::process::Output {
        let run = || Command::new(program).env("ETCDCTL_API", "3").args(args).output();
        self.host.netns.run(run).unwrap().unwrap()
    }

    /// Writes a resource, waiting for etcd.
    fn put(&self, kind: &str, plural: &str, name: &str, spec: &str) {
        let value = format!(
            r#"{{"kind":"{kind}","apiVersion":"projectcalico.org/v3","metadata":{{"name":"{name}"}},"spec":{spec}}}"#
        );
        self.put_raw(&format!("{RESOURCES}/{plural}/{name}"), &value);
    }

    fn put_raw(&self, key: &str, value: &str) {
        self.wait("etcd", || {
            self.output("etcdctl", &["put", key, value]).status.success()
        });
    }

    fn bird(&self, router: &str, prefix: &str) -> String {
        let control = self.host.path(&format!("{router}.ctl")).display().to_string();
        let args = ["-r", "-s", &control, "show", "route", "for", prefix, "all"];
        String::from_utf8_lossy(&self.output("birdc", &args).stdout).into_owned()
    }

    fn client(&self) -> Option<BgpClient<tonic::transport::Channel>> {
        let socket = self.host.path("agent.sock");
        let channel = self.runtime.block_on(bgpd_proto::client::connect(&socket));
        channel.ok().map(BgpClient::new)
    }

    fn peers(&self) -> Vec<Peer> {
        let Some(mut client) = self.client() else {
            return Vec::new();
        };
        let peers = self.runtime.block_on(client.list_peers(ListPeersRequest {}));
        peers.map(|peers| peers.into_inner().peers).unwrap_or_default()
    }

    fn peer(&self, address: &str) -> Peer {
        let peers = self.peers();
        peers
            .into_iter()
            .find(|peer| peer.address == address)
            .unwrap_or_default()
    }

    /// What the first router told the agent, as the filters left it: prefix, AS_PATH, communities, why.
    fn received(&self, view: &str) -> Vec<(String, String, String, String)> {
        let Some(mut client) = self.client() else {
            return Vec::new();
        };
        let request = ListRoutesRequest {
            view: view.to_owned(),
            peer: "192.0.2.8".to_owned(),
            ..ListRoutesRequest::default()
        };
        let routes = self.runtime.block_on(client.list_routes(request));
        let routes = routes
            .map(|routes| routes.into_inner().routes)
            .unwrap_or_default();
        let told = |route: bgpd_proto::v1::Route| {
            (
                route.prefix,
                route.as_path,
                route.communities.join(" "),
                route.reason,
            )
        };
        routes.into_iter().map(told).collect()
    }

    fn wait(&self, what: &str, mut done: impl FnMut() -> bool) {
        let until = Instant::now() + support::WAIT_MAX;
        while !done() {
            assert!(
                Instant::now() < until,
                "{what}: {:?}\n{}\n{}",
                self.peers(),
                self.bird("a", "10.65.0.64/26"),
                self.host.logs()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

const PEER_A: &str = r#"{"peerIP":"192.0.2.8","asNumber":65001,"filters":["to-tor","missing"]"#;

#[test]
fn filters_change_and_reject_routes_of_a_real_router_and_only_of_their_peer() {
    let mut fabric = Fabric::new();
    fabric.put(
        "BGPConfiguration",
        "bgpconfigurations",
        "default",
        r#"{"nodeToNodeMeshEnabled":false,"bindMode":"NodeIP"}"#,
    );
    fabric.put(
        "IPPool",
        "ippools",
        "p",
        r#"{"cidr":"10.65.0.0/16","blockSize":26}"#,
    );
    fabric.put_raw(
        "/calico/ipam/v2/host/n1/ipv4/block/10.65.0.64-26",
        r#"{"state":"confirmed"}"#,
    );
    let filter = |export: &str| {
        format!(
            r#"{{"exportV4":[{export}],"importV4":[
            {{"cidr":"198.51.100.0/24","matchOperator":"Equal","peerType":"eBGP","action":"Accept","operations":[
                {{"addCommunity":{{"value":"65000:7"}}}},{{"setPriority":{{"value":512}}}}]}},
            {{"asPathPrefix":[65001],"action":"Reject"}}]}}"#
        )
    };
    let changes = r#"{"cidr":"10.65.0.0/16","matchOperator":"In","prefixLength":{"max":26},"action":"Accept","operations":[
        {"addCommunity":{"value":"65000:42"}},{"addCommunity":{"value":"65000:4:2"}},
        {"prependASPath":{"prefix":[64512,64512]}}]}"#;
    fabric.put("BGPFilter", "bgpfilters", "to-tor", &filter(changes));
    fabric.put("BGPPeer", "bgppeers", "a", &format!("{PEER_A}}}"));
    fabric.put(
        "BGPPeer",
        "bgppeers",
        "b",
        r#"{"peerIP":"192.0.2.9","asNumber":65002}"#,
    );
    fabric.host.start_agent("'http://127.0.0.1:2379'");

    // What goes out.
    fabric.wait("the block at the first router, changed", || {
        let route = fabric.bird("a", "10.65.0.64/26");
        ["BGP.as_path: 64512 64512 64512\n", "(65000,42)", "(65000, 4, 2)"]
            .iter()
            .all(|text| route.contains(text))
    });
    fabric.wait("the block at the second router, as it is", || {
        let route = fabric.bird("b", "10.65.0.64/26");
        route.contains("BGP.as_path: 64512\n") && !route.contains("(65000,42)")
    });
    // What comes in.
    fabric.wait("two routes judged", || {
        fabric.received("accepted").len() == 1 && fabric.received("rejected").len() == 1
    });
    let (prefix, _, communities, _) = fabric.received("accepted").remove(0);
    assert_eq!(
        (prefix.as_str(), communities.as_str()),
        ("198.51.100.0/24", "65000:7")
    );
    let (prefix, path, _, reason) = fabric.received("rejected").remove(0);
    assert_eq!((prefix.as_str(), path.as_str()), ("203.0.113.0/24", "65001"));
    assert!(reason.contains("\"BGPFilter(to-tor) importV4[1]\""), "{reason}");

    // A filter changes: its routes do, and no session ends.
    fabric.put(
        "BGPFilter",
        "bgpfilters",
        "to-tor",
        &filter(r#"{"cidr":"10.65.0.64/26","matchOperator":"Equal","action":"Reject"}"#),
    );
    fabric.wait("no block at the first router", || {
        !fabric.bird("a", "10.65.0.64/26").contains("BGP.as_path")
    });
    assert!(fabric.bird("b", "10.65.0.64/26").contains("BGP.as_path: 64512\n"));
    for address in ["192.0.2.8", "192.0.2.9"] {
        let peer = fabric.peer(address);
        assert_eq!((peer.state.as_str(), peer.flaps), ("Established", 0), "{peer:?}");
    }

    // A peer's session changes: it alone is reset.
    fabric.put(
        "BGPPeer",
        "bgppeers",
        "a",
        &format!(r#"{PEER_A},"ttlSecurity":1}}"#),
    );
    fabric.wait("the session of the changed peer to end", || {
        fabric.peer("192.0.2.8").state != "Established" || fabric.peer("192.0.2.8").flaps > 0
    });
    let other = fabric.peer("192.0.2.9");
    assert_eq!(
        (other.state.as_str(), other.flaps),
        ("Established", 0),
        "{other:?}"
    );
    // What cannot be honoured is told.
    assert!(
        fabric.host.logs().contains("BGPFilter(missing) is not there"),
        "{}",
        fabric.host.logs()
    );
}
