//! Tables of the translation: resources in, sessions and networks out.

mod policies;

use super::*;
use api::AsNumber;
use api::v3::node::NodeBgpSpec;
use api::v3::{BgpConfigurationSpec, BgpPeerSpec, IpPoolSpec, NodeSpec};
use api::{Object, ObjectMeta};
use bgpd::policy::{Decision, Route};
use bgpd::wire::{Attributes, Family, NextHop};

fn node(labels: &[(&str, &str)], v4: &str, v6: &str, asn: Option<u32>, cluster: &str) -> Node {
    let metadata = ObjectMeta {
        labels: labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        ..ObjectMeta::default()
    };
    let bgp = NodeBgpSpec {
        as_number: asn.map(AsNumber),
        ipv4_address: v4.into(),
        ipv6_address: v6.into(),
        route_reflector_cluster_id: cluster.into(),
        ..NodeBgpSpec::default()
    };
    Object::new(
        metadata,
        NodeSpec {
            bgp: Some(bgp),
            ..NodeSpec::default()
        },
    )
}

fn peer(spec: BgpPeerSpec) -> BgpPeer {
    Object::new(ObjectMeta::default(), spec)
}

fn workload(interface: &str, addresses: &[&str], labels: &[(&str, &str)]) -> Workload {
    Workload {
        interface: interface.into(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        labels: labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
    }
}

fn settings() -> Settings {
    Settings {
        hold_time: Duration::from_secs(9),
        restart_time: Duration::from_secs(120),
        install_routes: true,
        router_id: None,
    }
}

/// Three nodes in two racks; the first one is ours.
fn fabric() -> Resources {
    let mut resources = Resources::default();
    for (name, rack, v4, v6) in [
        ("a", "r1", "10.0.0.9/24", "fd00::9/64"),
        ("b", "r1", "10.0.0.10/24", "fd00::10/64"),
        ("c", "r2", "10.0.1.1/24", ""),
    ] {
        resources
            .nodes
            .insert(name.into(), node(&[("rack", rack)], v4, v6, None, ""));
    }
    resources
}

fn configuration(change: impl FnOnce(&mut BgpConfigurationSpec)) -> BgpConfiguration {
    let mut spec = BgpConfigurationSpec::default();
    change(&mut spec);
    Object::new(ObjectMeta::default(), spec)
}

fn without_mesh(mut resources: Resources) -> Resources {
    resources.configurations.insert(
        "default".into(),
        configuration(|spec| spec.node_to_node_mesh_enabled = Some(false)),
    );
    resources
}

/// `address as type[ passive][ client]` for each session.
fn sessions(translation: &Translation) -> Vec<String> {
    let config = translation.config.as_ref().expect("a configuration");
    config
        .neighbors
        .iter()
        .map(|n| {
            let flags = [(n.passive, " passive"), (n.route_reflector_client, " client")];
            let flags: String = flags
                .into_iter()
                .filter_map(|(set, text)| set.then_some(text))
                .collect();
            format!(
                "{} {} {}{flags}",
                n.key(),
                n.remote_as,
                translation.origins[&n.key()].peer_type.text()
            )
        })
        .collect()
}

#[test]
fn mesh_by_default_in_both_families_and_one_side_waits() {
    let resources = fabric();
    let translation = translate(&resources, "a", &settings());
    assert_eq!(
        sessions(&translation),
        [
            // Compared as text: "10.0.0.9" > "10.0.0.10".
            "10.0.0.10 64512 node-to-node mesh",
            "10.0.1.1 64512 node-to-node mesh passive",
            "fd00::10 64512 node-to-node mesh",
        ]
    );
    assert_eq!(translation.problems, Vec::<String>::new());
    let seen_from_b = sessions(&translate(&resources, "b", &settings()));
    assert!(
        seen_from_b.contains(&"10.0.0.9 64512 node-to-node mesh passive".to_owned()),
        "{seen_from_b:?}"
    );
    let config = translation.config.unwrap();
    assert_eq!(config.router_id, Ipv4Addr::new(10, 0, 0, 9));
    assert_eq!(
        config.listen,
        ["0.0.0.0:179".parse().unwrap(), "[::]:179".parse().unwrap()]
    );
    assert!(
        config
            .neighbors
            .iter()
            .all(|n| n.hold_time == Duration::from_secs(9) && n.source.is_some())
    );
}

#[test]
fn a_reflector_leaves_the_mesh_and_reflects() {
    let mut resources = fabric();
    resources.nodes.insert(
        "rr".into(),
        node(&[("rr", "yes")], "10.0.2.1/24", "", None, "224.0.0.1"),
    );
    resources.nodes.insert(
        "rr2".into(),
        node(&[("rr", "yes")], "10.0.2.2/24", "", None, "224.0.0.1"),
    );
    resources.peers.insert(
        "to-reflectors".into(),
        peer(BgpPeerSpec {
            peer_selector: "rr == 'yes'".into(),
            ..BgpPeerSpec::default()
        }),
    );
    assert_eq!(
        sessions(&translate(&resources, "rr", &settings())),
        [
            "10.0.0.9 64512 node specific client",
            "10.0.0.10 64512 node specific client",
            "10.0.1.1 64512 node specific client",
            // The other reflector of the same cluster is no client.
            "10.0.2.2 64512 global",
        ]
    );
    let on_host = sessions(&translate(&resources, "c", &settings()));
    assert_eq!(
        on_host,
        [
            "10.0.0.9 64512 node-to-node mesh",
            "10.0.0.10 64512 node-to-node mesh",
            "10.0.2.1 64512 global",
            "10.0.2.2 64512 global",
        ]
    );
}

#[test]
fn explicit_peers_by_node_and_selector() {
    let mut resources = without_mesh(fabric());
    let tor = |selector: &str, ip: &str, asn: u32| {
        peer(BgpPeerSpec {
            node_selector: selector.into(),
            peer_ip: ip.into(),
            as_number: AsNumber(asn),
            ..BgpPeerSpec::default()
        })
    };
    resources
        .peers
        .insert("tor1".into(), tor("rack == 'r1'", "10.0.0.1", 65001));
    resources
        .peers
        .insert("tor1-v6".into(), tor("rack == 'r1'", "[fd00::1]:1179", 65001));
    resources
        .peers
        .insert("tor2".into(), tor("rack == 'r2'", "10.0.1.254", 65002));
    assert_eq!(
        sessions(&translate(&resources, "a", &settings())),
        [
            "10.0.0.1 65001 node specific",
            "[fd00::1]:1179 65001 node specific"
        ]
    );
    // A node without an IPv6 address has no IPv6 session.
    resources
        .peers
        .insert("all-v6".into(), tor("all()", "fd00::2", 65003));
    assert_eq!(
        sessions(&translate(&resources, "c", &settings())),
        ["10.0.1.254 65002 node specific"]
    );
}

#[test]
fn a_bad_peer_is_named_and_the_others_stay() {
    let mut resources = without_mesh(fabric());
    let spec = |ip: &str, selector: &str| BgpPeerSpec {
        peer_ip: ip.into(),
        node_selector: selector.into(),
        as_number: AsNumber(65001),
        ..BgpPeerSpec::default()
    };
    resources
        .peers
        .insert("bad-ip".into(), peer(spec("10.0.0.300", "")));
    resources
        .peers
        .insert("bad-selector".into(), peer(spec("10.0.0.3", "rack ==")));
    resources.peers.insert("good".into(), peer(spec("10.0.0.1", "")));
    resources
        .peers
        .insert("twice".into(), peer(spec("10.0.0.1", "has(rack)")));
    let translation = translate(&resources, "a", &settings());
    assert_eq!(sessions(&translation), ["10.0.0.1 65001 global"]);
    for wanted in [
        "BGPPeer(bad-ip) spec.peerIP",
        "BGPPeer(bad-selector) spec.nodeSelector",
        "BGPPeer(twice): 10.0.0.1 already",
    ] {
        assert!(
            translation.problems.iter().any(|p| p.starts_with(wanted)),
            "{wanted}: {:?}",
            translation.problems
        );
    }
}

#[test]
fn a_peer_that_is_a_node_peers_back() {
    let mut resources = without_mesh(fabric());
    let spec = BgpPeerSpec {
        node: "a".into(),
        peer_ip: "10.0.1.1".into(),
        as_number: AsNumber(64512),
        local_as_number: Some(AsNumber(65100)),
        ..BgpPeerSpec::default()
    };
    resources.peers.insert("a-to-c".into(), peer(spec.clone()));
    assert_eq!(
        sessions(&translate(&resources, "c", &settings())),
        ["10.0.0.9 64512 node specific"]
    );
    let mirrored = translate(&resources, "c", &settings()).config.unwrap();
    assert_eq!(
        mirrored.neighbors[0].local_as, None,
        "a mirror does not inherit localASNumber"
    );
    let original = translate(&resources, "a", &settings()).config.unwrap();
    assert_eq!(original.neighbors[0].local_as, Some(65100));
    let manual = BgpPeerSpec {
        reverse_peering: Some(api::v3::bgp_peer::ReversePeering::Manual),
        ..spec
    };
    resources.peers.insert("a-to-c".into(), peer(manual));
    assert_eq!(
        sessions(&translate(&resources, "c", &settings())),
        Vec::<String>::new()
    );
}

#[test]
fn own_as_comes_from_node_then_configuration_then_default() {
    let mut resources = fabric();
    assert_eq!(
        translate(&resources, "a", &settings()).config.unwrap().local_as,
        64512
    );
    resources.configurations.insert(
        "default".into(),
        configuration(|spec| spec.as_number = Some(AsNumber(65000))),
    );
    assert_eq!(
        translate(&resources, "a", &settings()).config.unwrap().local_as,
        65000
    );
    resources
        .nodes
        .insert("a".into(), node(&[], "10.0.0.9/24", "", Some(65077), ""));
    let translation = translate(&resources, "a", &settings());
    // A mesh peer without an AS of its own is taken to be in ours.
    assert!(
        sessions(&translation).iter().all(|s| s.contains(" 65077 ")),
        "{:?}",
        sessions(&translation)
    );
}

#[test]
fn ports_of_nodes_follow_their_configuration() {
    let mut resources = fabric();
    resources
        .configurations
        .insert("default".into(), configuration(|spec| spec.listen_port = 1790));
    resources
        .configurations
        .insert("node.b".into(), configuration(|spec| spec.listen_port = 1791));
    let translation = translate(&resources, "a", &settings());
    assert_eq!(translation.config.as_ref().unwrap().listen[0].port(), 1790);
    let ports: Vec<String> = translation.origins.keys().map(ToString::to_string).collect();
    assert_eq!(ports, ["10.0.0.10:1791", "10.0.1.1:1790", "[fd00::10]:1791"]);
}

#[test]
fn no_node_or_no_address_is_no_bgp_and_says_why() {
    let mut resources = fabric();
    resources.blocks = ["10.65.0.64/26".parse().unwrap()].into();
    let translation = translate(&resources, "nobody", &settings());
    assert!(translation.config.is_none() && translation.problems[0].contains("Node(nobody)"));
    assert_eq!(translation.blackholes.len(), 1);
    resources.nodes.insert("a".into(), node(&[], "", "", None, ""));
    assert!(
        translate(&resources, "a", &settings()).problems[0].contains("neither ipv4Address nor ipv6Address")
    );
}

#[test]
fn router_id_of_a_node_without_ipv4_is_the_hash_of_its_name() {
    let mut resources = fabric();
    resources
        .nodes
        .insert("a".into(), node(&[], "", "fd00::9/64", None, ""));
    let id = translate(&resources, "a", &settings()).config.unwrap().router_id;
    // printf a | sha256sum | head -c 8: ca978112, and 0xca = 202 is below 224.
    assert_eq!(id, Ipv4Addr::new(0xca, 0x97, 0x81, 0x12));
    let wrong = Settings {
        router_id: Some("x".into()),
        ..settings()
    };
    assert!(translate(&resources, "a", &wrong).problems[0].contains("CALICO_ROUTER_ID"));
}

#[test]
fn a_missing_password_is_loud() {
    use api::v3::bgp_configuration::{BgpPassword, SecretKeyRef};
    let mut resources = without_mesh(fabric());
    let reference = SecretKeyRef {
        name: "bgp".into(),
        key: "tor".into(),
        optional: None,
    };
    let spec = BgpPeerSpec {
        peer_ip: "10.0.0.1".into(),
        as_number: AsNumber(64512),
        password: Some(BgpPassword {
            secret_key_ref: Some(reference),
        }),
        ..BgpPeerSpec::default()
    };
    resources.peers.insert("tor".into(), peer(spec));
    let translation = translate(&resources, "a", &settings());
    assert!(
        translation.problems[0].contains("NO password"),
        "{:?}",
        translation.problems
    );
    resources
        .secrets
        .insert(("bgp".into(), "tor".into()), "hunter2".into());
    let translation = translate(&resources, "a", &settings());
    assert_eq!(
        translation.config.unwrap().neighbors[0].password.as_deref(),
        Some("hunter2")
    );
    assert_eq!(translation.problems, Vec::<String>::new());
}

/// A filter from its YAML-like JSON.
fn filter(spec: serde_json::Value) -> BgpFilter {
    Object::new(ObjectMeta::default(), serde_json::from_value(spec).unwrap())
}

/// One session of node `a` with an external router at 10.0.0.1, and the pool 10.65.0.0/16 with an own block.
fn with_tor(filters: &[&str]) -> Resources {
    let mut resources = without_mesh(fabric());
    let pool = IpPoolSpec {
        cidr: "10.65.0.0/16".into(),
        ..IpPoolSpec::default()
    };
    resources
        .pools
        .insert("p".into(), Object::new(ObjectMeta::default(), pool));
    resources.blocks = ["10.65.0.64/26".parse().unwrap()].into();
    let spec = BgpPeerSpec {
        peer_ip: "10.0.0.1".into(),
        as_number: AsNumber(65001),
        filters: filters.iter().map(|name| (*name).to_owned()).collect(),
        ..BgpPeerSpec::default()
    };
    resources.peers.insert("tor".into(), peer(spec));
    resources
}

fn tor(resources: &Resources) -> bgpd::config::Neighbor {
    let config = translate(resources, "a", &settings()).config.unwrap();
    config.neighbors.into_iter().next().unwrap()
}

/// What a policy makes of a route: `reject by RULE`, or `accept by RULE`, with the changed attributes.
fn judged(policy: &bgpd::policy::Policy, prefix: &str, attributes: &Attributes) -> (String, Attributes) {
    let prefix = prefix.parse().unwrap();
    let route = bgpd::policy::Route::new(attributes);
    let why = policy.explain(&prefix, &route).to_string();
    let after = match policy.decide(&prefix, &route) {
        Decision::Changed(changed) => *changed,
        Decision::Reject | Decision::Unchanged => attributes.clone(),
    };
    (why, after)
}

fn learned(path: &[u32]) -> Attributes {
    let mut attributes = Attributes::originated(NextHop::from(IpAddr::from([10, 0, 0, 1])));
    attributes.as_path = bgpd::wire::AsPath::sequence(path.iter().copied());
    attributes
}

#[test]
fn bfd_is_asked_for_by_an_annotation() {
    let mut resources = with_tor(&[]);
    let mut with = |text: &str| {
        let tor = resources.peers.get_mut("tor").unwrap();
        tor.metadata
            .annotations
            .insert("margay.io/bfd".into(), text.into());
        let translation = translate(&resources, "a", &settings());
        let bfd = translation.config.unwrap().neighbors[0].bfd.clone();
        (
            bfd.map(|bfd| {
                (
                    bfd.interval.as_millis(),
                    bfd.multiplier,
                    bfd.passive,
                    bfd.multihop,
                )
            }),
            translation.problems,
        )
    };
    // In the subnet of the node: one hop.
    assert_eq!(with("on"), (Some((300, 3, false, Some(false))), vec![]));
    assert_eq!(
        with("interval=50ms, multiplier=5,passive,multi-hop"),
        (Some((50, 5, true, Some(true))), vec![])
    );
    assert_eq!(with("off"), (None, vec![]));
    for bad in [
        "",
        "yes",
        "interval=5ms",
        "interval=fast",
        "multiplier=0",
        "multiplier=300",
    ] {
        let (bfd, problems) = with(bad);
        assert_eq!(bfd, None, "{bad}");
        assert!(
            problems[0].starts_with("BGPPeer(tor) metadata.annotations[margay.io/bfd]"),
            "{problems:?}"
        );
    }
    let tor = resources.peers.get_mut("tor").unwrap();
    tor.metadata
        .annotations
        .insert("margay.io/bfd".into(), "on".into());
    tor.spec.peer_ip = "10.9.9.9".into();
    assert_eq!(super::tests::tor(&resources).bfd.unwrap().multihop, Some(true));
}

#[test]
fn a_peer_behind_a_gateway_gets_a_route() {
    let mut resources = with_tor(&[]);
    let mut by = |gateway: &str| {
        resources.peers.get_mut("tor").unwrap().spec.reachable_by = gateway.into();
        translate(&resources, "a", &settings())
    };
    let translation = by("10.0.0.254");
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!(
        translation.peer_routes,
        [(address("10.0.0.1"), address("10.0.0.254"))].into()
    );
    assert_eq!(translation.problems, Vec::<String>::new());
    for wrong in ["fd00::254", "router"] {
        let translation = by(wrong);
        assert!(translation.peer_routes.is_empty() && translation.config.unwrap().neighbors.is_empty());
        let expected = format!("BGPPeer(tor) spec.reachableBy = '{wrong}'");
        assert!(
            translation.problems[0].starts_with(&expected),
            "{:?}",
            translation.problems
        );
    }
}

#[test]
fn workloads_are_peers_by_their_labels() {
    let mut resources = without_mesh(fabric());
    for (name, interface, addresses, labels) in [
        (
            "router",
            "cali1",
            &["10.65.0.7", "fd00:65::7", "10.65.0.8"][..],
            &[("role", "router")][..],
        ),
        ("six", "cali2", &["fd00:65::9"], &[("role", "router")]),
        ("web", "cali3", &["10.65.0.10"], &[("role", "web")]),
    ] {
        let key = ("default".to_owned(), name.to_owned());
        resources
            .workloads
            .insert(key, workload(interface, addresses, labels));
    }
    let spec = BgpPeerSpec {
        local_workload_selector: "role == 'router'".into(),
        as_number: AsNumber(65100),
        local_as_number: Some(AsNumber(65101)),
        filters: vec!["f".into()],
        // None of these is for workloads.
        source_address: Some(api::v3::bgp_peer::SourceAddress::UseNodeIp),
        keepalive_time: Some("7s".parse().unwrap()),
        max_restart_time: Some("7s".parse().unwrap()),
        ..BgpPeerSpec::default()
    };
    resources.peers.insert("routers".into(), peer(spec.clone()));
    resources.filters.insert(
        "f".into(),
        filter(serde_json::json!({"importV4": [{"action": "Reject"}]})),
    );
    // Nothing without an address of ours, and that is said.
    let translation = translate(&resources, "a", &settings());
    assert_eq!(
        translation.problems,
        [
            "BGPConfiguration(default) spec.localWorkloadPeeringIPV4 is not set: no such sessions by BGPPeer(routers)",
            "BGPConfiguration(default) spec.localWorkloadPeeringIPV6 is not set: no such sessions by BGPPeer(routers)",
        ]
    );
    assert_eq!(sessions(&translation), Vec::<String>::new());

    resources.configurations.insert(
        "default".into(),
        configuration(|spec| {
            spec.node_to_node_mesh_enabled = Some(false);
            spec.local_workload_peering_ip_v4 = "169.254.2.1".into();
            spec.local_workload_peering_ip_v6 = "fd00:ffff::1".into();
        }),
    );
    let translation = translate(&resources, "a", &settings());
    assert_eq!(translation.problems, Vec::<String>::new());
    assert_eq!(
        sessions(&translation),
        [
            "10.65.0.7 65100 local workload passive",
            "fd00:65::7 65100 local workload passive",
            "fd00:65::9 65100 local workload passive",
        ]
    );
    let side: Vec<String> = translation
        .workload_side
        .iter()
        .map(|(interface, addresses)| format!("{interface} {addresses:?}"))
        .collect();
    assert_eq!(
        side,
        ["cali1 {169.254.2.1, fd00:ffff::1}", "cali2 {fd00:ffff::1}"]
    );
    let config = translation.config.unwrap();
    let router = &config.neighbors[0];
    assert_eq!(
        (
            router.source,
            router.keepalive,
            router.restart_time,
            router.local_as
        ),
        (None, None, None, Some(65101))
    );
    let (why, _) = judged(&router.import, "198.51.100.0/24", &learned(&[65100]));
    assert_eq!(why, "rejected by rule 1 \"BGPFilter(f) importV4[0]\"");

    // Only on the nodes that are meant, and never as a mirror.
    assert!(
        translate(&resources, "b", &settings())
            .config
            .unwrap()
            .neighbors
            .len()
            == 3,
        "the workloads of whichever node this is"
    );
    let elsewhere = BgpPeerSpec {
        node_selector: "rack == 'r2'".into(),
        ..spec.clone()
    };
    resources.peers.insert("routers".into(), peer(elsewhere));
    assert_eq!(
        sessions(&translate(&resources, "a", &settings())),
        Vec::<String>::new()
    );
    let bad = BgpPeerSpec {
        local_workload_selector: "role ==".into(),
        ..spec
    };
    resources.peers.insert("routers".into(), peer(bad));
    let problems = translate(&resources, "a", &settings()).problems;
    assert!(
        problems.len() == 1
            && problems[0].starts_with("BGPPeer(routers) spec.localWorkloadSelector = 'role =='"),
        "{problems:?}"
    );
}

#[test]
fn a_configuration_of_no_node_is_named() {
    let mut resources = fabric();
    resources.configurations.insert(
        "other".into(),
        configuration(|spec| spec.as_number = Some(AsNumber(1))),
    );
    let translation = translate(&resources, "a", &settings());
    assert_eq!(
        translation.problems,
        ["BGPConfiguration(other): neither 'default' nor 'node.NAME': ignored"]
    );
    assert_eq!(translation.config.unwrap().local_as, 64512);
}

#[test]
fn a_peer_says_how_its_session_is() {
    use bgpd::config::NextHopMode::{Auto, Keep, SelfAddress};
    let neighbor = |spec: serde_json::Value| {
        let mut resources = with_tor(&[]);
        let mut whole = serde_json::json!({"peerIP": "10.0.0.1", "asNumber": 65001});
        whole
            .as_object_mut()
            .unwrap()
            .extend(spec.as_object().unwrap().clone());
        let spec: BgpPeerSpec = serde_json::from_value(whole).unwrap();
        resources.peers.insert("tor".into(), peer(spec));
        tor(&resources)
    };
    let plain = neighbor(serde_json::json!({}));
    let own: IpAddr = "10.0.0.9".parse().unwrap();
    assert_eq!(
        (plain.source, plain.ttl, plain.ttl_security_hops),
        (Some(own), Some(255), None)
    );
    assert_eq!(
        (plain.keepalive, plain.restart_time, plain.allow_own_as),
        (None, None, 0)
    );
    assert_eq!(plain.next_hop, Auto);

    let by_kernel = neighbor(serde_json::json!({"sourceAddress": "None"}));
    assert_eq!(by_kernel.source, None);
    assert_eq!(neighbor(serde_json::json!({"sourceAddress": "UseNodeIP"})), plain);
    let near = neighbor(serde_json::json!({"ttlSecurity": 2}));
    assert_eq!((near.ttl, near.ttl_security_hops), (None, Some(2)));
    assert_eq!(neighbor(serde_json::json!({"ttlSecurity": 0})), plain);
    // Whole seconds, the nearest ones.
    let timed = neighbor(serde_json::json!({"keepaliveTime": "2600ms", "maxRestartTime": "61.4s"}));
    let seconds = |s| Some(Duration::from_secs(s));
    assert_eq!((timed.keepalive, timed.restart_time), (seconds(3), seconds(61)));
    assert_eq!(
        neighbor(serde_json::json!({"numAllowedLocalASNumbers": 3})).allow_own_as,
        3
    );
    for (spec, mode) in [
        (serde_json::json!({"nextHopMode": "Self"}), SelfAddress),
        (serde_json::json!({"nextHopMode": "Keep"}), Keep),
        (serde_json::json!({"nextHopMode": "Auto"}), Auto),
        // The older field counts where the newer one is not there, towards another AS.
        (serde_json::json!({"keepOriginalNextHop": true}), Keep),
        (
            serde_json::json!({"keepOriginalNextHop": true, "asNumber": 64512}),
            Auto,
        ),
        (
            serde_json::json!({"keepOriginalNextHop": true, "localASNumber": 65001}),
            Auto,
        ),
        (
            serde_json::json!({"keepOriginalNextHop": true, "nextHopMode": "Self"}),
            SelfAddress,
        ),
    ] {
        assert_eq!(neighbor(spec.clone()).next_hop, mode, "{spec}");
    }

    // For nodes by selector some of it does not count.
    let mut resources = without_mesh(fabric());
    let spec = serde_json::json!({"peerSelector": "rack == 'r2'", "localASNumber": 65100, "ttlSecurity": 1,
        "numAllowedLocalASNumbers": 3, "reversePeering": "Manual"});
    let spec: BgpPeerSpec = serde_json::from_value(spec).unwrap();
    resources.peers.insert("tor".into(), peer(spec));
    let by_selector = tor(&resources);
    assert_eq!((by_selector.local_as, by_selector.allow_own_as), (None, 0));
    assert_eq!(by_selector.ttl_security_hops, Some(1));
}

#[test]
fn the_mesh_has_a_password_and_a_restart_time() {
    let mut resources = fabric();
    let spec = serde_json::json!({"nodeMeshMaxRestartTime": "90s", "bindMode": "NodeIP",
        "nodeMeshPassword": {"secretKeyRef": {"name": "bgp", "key": "mesh"}}});
    let spec: BgpConfigurationSpec = serde_json::from_value(spec).unwrap();
    resources
        .configurations
        .insert("default".into(), Object::new(ObjectMeta::default(), spec));
    resources
        .secrets
        .insert(("bgp".into(), "mesh".into()), "secret".into());
    let config = translate(&resources, "a", &settings()).config.unwrap();
    assert_eq!(config.neighbors.len(), 3);
    for neighbor in &config.neighbors {
        assert_eq!(
            (neighbor.password.as_deref(), neighbor.restart_time),
            (Some("secret"), Some(Duration::from_secs(90)))
        );
    }
    let listen: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["10.0.0.9:179", "[fd00::9]:179"], "bindMode NodeIP");
}

#[test]
fn tunnels_and_who_programs_them_are_named() {
    let mut resources = with_tor(&[]);
    resources.pools.get_mut("p").unwrap().spec.ipip_mode = Some(api::v3::ip_pool::EncapMode::CrossSubnet);
    let spec = serde_json::json!({"nodeToNodeMeshEnabled": false, "programClusterRoutes": "Disabled"});
    let spec: BgpConfigurationSpec = serde_json::from_value(spec).unwrap();
    resources
        .configurations
        .insert("default".into(), Object::new(ObjectMeta::default(), spec));
    let problems = translate(&resources, "a", &settings()).problems;
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with("IPPool(p) spec.ipipMode = CrossSubnet: there are no tunnels"));
    assert!(problems[1].starts_with("BGPConfiguration(default) spec.programClusterRoutes = Disabled"));
}
