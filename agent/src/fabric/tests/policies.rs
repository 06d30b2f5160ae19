//! What is taken and told: filters, own networks, communities.

use super::*;

#[test]
fn own_blocks_leave_as_aggregates_and_borrowed_addresses_alone() {
    let mut resources = without_mesh(fabric());
    let pool = |cidr: &str, disable: bool| {
        let spec = IpPoolSpec {
            cidr: cidr.into(),
            disable_bgp_export: disable,
            ..IpPoolSpec::default()
        };
        Object::new(ObjectMeta::default(), spec)
    };
    resources.pools.insert("p4".into(), pool("10.65.0.0/16", false));
    resources.pools.insert("p6".into(), pool("fd00:65::/48", false));
    resources
        .pools
        .insert("hidden".into(), pool("10.66.0.0/16", true));
    resources.blocks = ["10.65.0.64/26", "fd00:65::40/122", "10.66.0.0/26", "10.65.9.9/32"]
        .map(|b| b.parse().unwrap())
        .into();
    let addresses = [
        "10.65.0.65",
        "10.65.7.7",
        "fd00:65::41",
        "fd00:65::ffff",
        "192.0.2.1",
    ];
    resources
        .workloads
        .insert(("default".into(), "w".into()), workload("cali1", &addresses, &[]));
    resources.peers.insert(
        "tor".into(),
        peer(BgpPeerSpec {
            peer_ip: "10.0.0.1".into(),
            as_number: AsNumber(64512),
            ..BgpPeerSpec::default()
        }),
    );
    resources.peers.insert(
        "tor6".into(),
        peer(BgpPeerSpec {
            peer_ip: "fd00::1".into(),
            as_number: AsNumber(64512),
            ..BgpPeerSpec::default()
        }),
    );
    let translation = translate(&resources, "a", &settings());
    let config = translation.config.unwrap();
    let networks: Vec<String> = config.networks.iter().map(|n| n.prefix.to_string()).collect();
    assert_eq!(
        networks,
        [
            "10.65.0.64/26",
            "10.65.9.9/32",
            "10.66.0.0/26",
            "fd00:65::40/122",
            "10.65.7.7/32",
            "fd00:65::ffff/128"
        ]
    );
    assert!(
        config
            .networks
            .iter()
            .all(|n| n.local_pref == Some(2_147_482_623))
    );
    let blackholes: Vec<String> = translation.blackholes.iter().map(ToString::to_string).collect();
    assert_eq!(
        blackholes,
        ["10.65.0.64/26", "10.66.0.0/26", "fd00:65::40/122"],
        "no blackhole for a full-length block"
    );

    for (prefix, passes) in [
        ("10.65.0.64/26", true),
        ("10.65.0.65/32", false),
        ("10.65.7.7/32", true),
        ("10.65.3.0/26", true),
        ("fd00:65::40/122", true),
        ("fd00:65::41/128", false),
        ("10.66.0.0/26", false),
        ("10.0.0.0/24", false),
        ("0.0.0.0/0", false),
    ] {
        let attributes = Attributes::originated(NextHop::unspecified(Family::Ipv4Unicast));
        let same_family = |n: &&bgpd::config::Neighbor| n.address.is_ipv6() == prefix.contains(':');
        let export = &config.neighbors.iter().find(same_family).unwrap().export;
        let decision = export.decide(&prefix.parse().unwrap(), &Route::new(&attributes));
        assert_eq!(decision != Decision::Reject, passes, "{prefix}");
    }
}

#[test]
fn import_filters_are_asked_in_order_and_everything_else_is_taken() {
    let mut resources = with_tor(&["first", "missing", "second"]);
    resources.filters.insert(
        "first".into(),
        filter(serde_json::json!({"importV4": [
            {"cidr": "10.0.0.0/8", "matchOperator": "In", "prefixLength": {"min": 25}, "action": "Reject"},
            {"cidr": "192.0.2.0/24", "matchOperator": "Equal", "action": "Accept",
             "operations": [{"addCommunity": {"value": "65000:1"}}, {"addCommunity": {"value": "65000:1:2"}},
                            {"setPriority": {"value": 512}},
                            {"prependASPath": {"prefix": [2, 3]}}, {"prependASPath": {"prefix": [1]}}]},
        ]})),
    );
    resources.filters.insert(
        "second".into(),
        filter(serde_json::json!({"importV4": [
            {"communities": {"values": ["65009:9"]}, "action": "Reject"},
            {"asPathPrefix": [65001, 65002], "action": "Reject"},
            {"priority": 100, "action": "Reject"},
            {"peerType": "iBGP", "cidr": "203.0.113.0/24", "matchOperator": "In", "action": "Reject"},
            {"cidr": "192.0.0.0/8", "matchOperator": "NotIn", "source": "RemotePeers", "peerType": "eBGP",
             "asPathPrefix": [65001, 65003], "action": "Reject"},
            {"cidr": "198.51.100.0/24", "matchOperator": "NotEqual", "asPathPrefix": [65001, 65004], "action": "Reject"},
        ]})),
    );
    let translation = translate(&resources, "a", &settings());
    assert_eq!(
        translation.problems,
        ["BGPFilter(missing) is not there: peers that name it go without it"]
    );
    let import = translation.config.unwrap().neighbors[0].import.clone();
    let mut tagged = learned(&[65001]);
    tagged.communities.push(bgpd::wire::Community::new(65009, 9));
    let mut urgent = learned(&[65001]);
    urgent.local_pref = Some(PRIORITY_SCALE - 100);
    for (prefix, attributes, expected) in [
        (
            "10.1.1.128/25",
            &learned(&[65001]),
            "rejected by rule 1 \"BGPFilter(first) importV4[0]\"",
        ),
        ("10.1.1.0/24", &learned(&[65001]), "accepted by default"),
        (
            "192.0.2.0/24",
            &tagged,
            "accepted by rule 2 \"BGPFilter(first) importV4[1]\"",
        ),
        (
            "192.0.2.0/25",
            &tagged,
            "rejected by rule 3 \"BGPFilter(second) importV4[0]\"",
        ),
        (
            "10.2.0.0/16",
            &learned(&[65001, 65002, 7]),
            "rejected by rule 4 \"BGPFilter(second) importV4[1]\"",
        ),
        ("10.2.0.0/16", &learned(&[7, 65001, 65002]), "accepted by default"),
        (
            "10.2.0.0/16",
            &urgent,
            "rejected by rule 5 \"BGPFilter(second) importV4[2]\"",
        ),
        ("203.0.113.0/24", &learned(&[65001]), "accepted by default"),
        (
            "10.2.0.0/16",
            &learned(&[65001, 65003]),
            "rejected by rule 7 \"BGPFilter(second) importV4[4]\"",
        ),
        ("192.1.0.0/16", &learned(&[65001, 65003]), "accepted by default"),
        (
            "198.51.100.0/24",
            &learned(&[65001, 65004]),
            "accepted by default",
        ),
        (
            "198.51.100.0/25",
            &learned(&[65001, 65004]),
            "rejected by rule 8 \"BGPFilter(second) importV4[5]\"",
        ),
    ] {
        assert_eq!(judged(&import, prefix, attributes).0, expected, "{prefix}");
    }
    let (_, changed) = judged(&import, "192.0.2.0/24", &learned(&[65001]));
    assert_eq!(
        changed.as_path.to_string(),
        "1 2 3 65001",
        "the last prepended prefix comes first"
    );
    assert_eq!(changed.local_pref, Some(PRIORITY_SCALE - 512));
    assert_eq!(changed.communities, [bgpd::wire::Community::new(65000, 1)]);
    assert_eq!(changed.large_communities.len(), 1);
    // Without filters, and for the other family, everything is taken.
    assert_eq!(tor(&with_tor(&[])).import, bgpd::policy::Policy::Accept);
}

#[test]
fn an_export_filter_that_accepts_overrides_everything_that_follows() {
    let mut resources = with_tor(&["f"]);
    resources.filters.insert(
        "f".into(),
        filter(serde_json::json!({"exportV4": [
            {"cidr": "10.65.0.64/26", "matchOperator": "In", "prefixLength": {"min": 32}, "action": "Accept"},
            {"cidr": "10.65.0.0/16", "matchOperator": "Equal", "action": "Reject"},
        ], "exportV6": [{"action": "Reject"}]})),
    );
    let export = tor(&resources).export;
    let own = Attributes::originated(NextHop::unspecified(Family::Ipv4Unicast));
    for (prefix, expected) in [
        // Aggregation would hold it back.
        ("10.65.0.65/32", "accepted by rule 1 \"BGPFilter(f) exportV4[0]\""),
        ("10.65.0.0/16", "rejected by rule 2 \"BGPFilter(f) exportV4[1]\""),
        ("10.65.0.64/26", "accepted by rule 6 \"own block 10.65.0.64/26\""),
        (
            "10.65.0.64/27",
            "rejected by rule 8 \"part of own block 10.65.0.64/26\"",
        ),
        ("10.65.1.0/26", "accepted by rule 9 \"IPPool(p)\""),
        ("192.0.2.0/24", "rejected by default"),
    ] {
        assert_eq!(judged(&export, prefix, &own).0, expected, "{prefix}");
    }
    // What is moving here is announced out of its block.
    let mut moving = own.clone();
    moving.local_pref = Some(PRIORITY_SCALE - 1023);
    let (why, _) = judged(&export, "10.65.0.66/31", &moving);
    assert!(why.contains("with raised priority"), "{why}");
}

#[test]
fn prefix_advertisements_add_communities_and_a_nodes_own_replace_the_fabrics() {
    let mut resources = with_tor(&[]);
    let with = |advertised: serde_json::Value| {
        let spec: BgpConfigurationSpec = serde_json::from_value(advertised).unwrap();
        Object::new(ObjectMeta::default(), spec)
    };
    resources.configurations.insert(
        "default".into(),
        with(serde_json::json!({
            "nodeToNodeMeshEnabled": false,
            "communities": [{"name": "bgp-large", "value": "65000:7:7"}],
            "prefixAdvertisements": [
                {"cidr": "10.65.0.0/16", "communities": ["65000:2", "bgp-large", "65000:1", "65000:2", "nonsense"]},
                {"cidr": "10.0.0.0/8", "communities": ["65000:3"]},
                {"cidr": "fd00::/8", "communities": ["65000:6"]},
            ],
        })),
    );
    let own = Attributes::originated(NextHop::unspecified(Family::Ipv4Unicast));
    let communities = |resources: &Resources| {
        let (_, told) = judged(&tor(resources).export, "10.65.0.64/26", &own);
        let standard = told.communities.iter().map(ToString::to_string);
        let large = told.large_communities.iter().map(ToString::to_string);
        standard.chain(large).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(communities(&resources), "65000:1 65000:2 65000:3 65000:7:7");
    let problems = translate(&resources, "a", &settings()).problems;
    assert!(
        problems.len() == 1
            && problems[0].contains("prefixAdvertisements[0].communities: community 'nonsense'"),
        "{problems:?}"
    );
    // For a family that it says nothing of, the fabric's stay.
    resources.configurations.insert(
        "node.a".into(),
        with(serde_json::json!({"prefixAdvertisements": [{"cidr": "fd00::/8", "communities": ["65000:9"]}]})),
    );
    assert_eq!(communities(&resources), "65000:1 65000:2 65000:3 65000:7:7");
    resources.configurations.insert(
        "node.a".into(),
        with(serde_json::json!({"prefixAdvertisements": [{"cidr": "10.65.0.0/16", "communities": ["65000:8"]}]})),
    );
    assert_eq!(communities(&resources), "65000:8");
}

#[test]
fn reflectors_pass_on_service_addresses() {
    let mut resources = with_tor(&[]);
    resources.configurations.insert(
        "default".into(),
        configuration(|spec| {
            spec.service_load_balancer_ips = vec![api::v3::bgp_configuration::CidrBlock {
                cidr: "192.0.2.0/24".into(),
            }];
        }),
    );
    let told = |resources: &Resources| judged(&tor(resources).export, "192.0.2.7/32", &learned(&[1])).0;
    assert_eq!(told(&resources), "rejected by default");
    resources
        .nodes
        .insert("a".into(), node(&[], "10.0.0.9/24", "", None, "224.0.0.9"));
    assert_eq!(
        told(&resources),
        "accepted by rule 7 \"serviceLoadBalancerIPs 192.0.2.0/24\""
    );
}

#[test]
fn sessions_with_the_same_filters_share_their_policies() {
    let translation = translate(&fabric(), "a", &settings());
    let config = translation.config.unwrap();
    let shared: Vec<_> = config
        .neighbors
        .iter()
        .filter(|neighbor| neighbor.address.is_ipv4())
        .map(|neighbor| match &neighbor.export {
            bgpd::policy::Policy::Rules(rules) => rules.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(std::sync::Arc::ptr_eq(&shared[0], &shared[1]));
    assert_eq!(config.neighbors[0].description, "node-to-node mesh with b");
}

#[test]
fn a_rule_that_cannot_be_is_left_out_and_named() {
    let mut resources = with_tor(&["f"]);
    let long: Vec<u32> = (1..=10).collect();
    let prepend = serde_json::json!({"prependASPath": {"prefix": long}});
    resources.filters.insert(
        "f".into(),
        filter(serde_json::json!({"exportV4": [
            {"cidr": "10.0.0.0/8", "matchOperator": "In", "prefixLength": {"min": 24, "max": 16}, "action": "Reject"},
            {"cidr": "nonsense", "matchOperator": "In", "action": "Reject"},
            {"action": "Accept", "operations": [prepend, prepend, prepend, prepend]},
            {"interface": "an-interface-of-long-name", "action": "Reject"},
            {"cidr": "198.51.100.0/24", "matchOperator": "In", "action": "Accept"},
        ]})),
    );
    let translation = translate(&resources, "a", &settings());
    let expected = [
        "BGPFilter(f) exportV4[0]: min-length must be at most max-length: the rule is left out",
        "BGPFilter(f) exportV4[1]: cidr 'nonsense': invalid IP address syntax: the rule is left out",
        "BGPFilter(f) exportV4[2]: puts more than 32 ASes in front of AS_PATH: the rule is left out",
        "BGPFilter(f) exportV4[3]: \"an-interface-of-long-name\": must have 1 to 15 characters: the rule is left out",
    ];
    assert_eq!(translation.problems, expected);
    let config = translation.config.unwrap();
    assert_eq!(config.validate(), Ok(()));
    let (why, _) = judged(&config.neighbors[0].export, "198.51.100.0/25", &learned(&[1]));
    assert_eq!(why, "accepted by rule 1 \"BGPFilter(f) exportV4[4]\"");
}

#[test]
fn the_normal_priority_is_the_metric_of_own_networks() {
    let mut resources = with_tor(&[]);
    let spec = serde_json::json!({"nodeToNodeMeshEnabled": false, "ipv4NormalRoutePriority": 2000});
    let spec: BgpConfigurationSpec = serde_json::from_value(spec).unwrap();
    resources
        .configurations
        .insert("default".into(), Object::new(ObjectMeta::default(), spec));
    resources.blocks.insert("fd00:65::/122".parse().unwrap());
    let config = translate(&resources, "a", &settings()).config.unwrap();
    let preferences: Vec<Option<u32>> = config.networks.iter().map(|n| n.local_pref).collect();
    assert_eq!(
        preferences,
        [Some(PRIORITY_SCALE - 2000), Some(PRIORITY_SCALE - 1024)]
    );
    assert_eq!(config.normal_metrics, [2000, 1024]);
    // Raised over that: out of its block.
    let export = &config.neighbors[0].export;
    let mut moving = Attributes::originated(NextHop::unspecified(Family::Ipv4Unicast));
    for (priority, expected) in [(1999, "with raised priority"), (2000, "part of own block")] {
        moving.local_pref = Some(PRIORITY_SCALE - priority);
        let (why, _) = judged(export, "10.65.0.66/32", &moving);
        assert!(why.contains(expected), "{priority}: {why}");
    }
}
