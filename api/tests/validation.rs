//! Validation kind by kind: each row is a spec and the fields that it must be refused for; none means valid.

use api::{Kind, file, validate};

/// Decodes, defaults and validates; the fields that are refused.
fn refused(kind: Kind, metadata: &str, rest: &str) -> Vec<String> {
    let namespace = if kind.namespaced() { ", namespace: ns" } else { "" };
    let text = format!(
        "{{kind: {kind}, apiVersion: projectcalico.org/v3, metadata: {{{metadata}{namespace}}}, {rest}}}\n"
    );
    let decoded = file::decode("f", &text);
    if let Some(error) = decoded.error {
        return vec![format!("decode: {error}")];
    }
    decoded
        .resources
        .into_iter()
        .flat_map(|mut r| {
            r.resource.default_on_write();
            r.resource.validate()
        })
        .map(|error| error.field)
        .collect()
}

fn check(kind: Kind, rows: &[(&str, &[&str])]) {
    for (spec, fields) in rows {
        let found = refused(kind, "name: default", &format!("spec: {{{spec}}}"));
        assert_eq!(found, *fields, "{kind} {spec}");
    }
}

#[test]
fn names() {
    for (kind, name, ok) in [
        (Kind::IpPool, "a.b-c", true),
        (Kind::IpPool, "A", false),
        (Kind::IpPool, "a_b", false),
        (Kind::Tier, "a-b", true),
        (Kind::Tier, "a.b", false),
        (Kind::GlobalNetworkPolicy, "a.b", true),
        (Kind::GlobalNetworkPolicy, "a.b.c", false),
        (Kind::GlobalNetworkPolicy, "knp.default.x", false),
        (Kind::NetworkPolicy, "knp.default.x.y", true),
        (Kind::NetworkPolicy, "x.y.z", false),
        (Kind::ClusterInformation, "default", true),
        (Kind::ClusterInformation, "other", false),
        (Kind::BgpConfiguration, "node.host-1.example", true),
        (Kind::BgpConfiguration, "node.", false),
        (Kind::BgpConfiguration, "other", false),
        (Kind::Node, "", false),
    ] {
        let spec = match kind {
            Kind::IpPool => "spec: {cidr: 10.0.0.0/16}",
            _ => "spec: {}",
        };
        let found = refused(kind, &format!("name: \"{name}\""), spec);
        assert_eq!(found.is_empty(), ok, "{kind} {name}: {found:?}");
    }
    assert_eq!(
        refused(Kind::Node, "name: n, namespace: x", "spec: {}"),
        ["metadata.namespace"]
    );
    assert_eq!(
        refused(
            Kind::Node,
            "name: n, labels: {\"a b\": c, ok: \"-x\", example.com/ok: y}",
            "spec: {}"
        ),
        ["metadata.labels", "metadata.labels.ok"]
    );
    assert_eq!(
        refused(
            Kind::Node,
            "name: n, annotations: {UPPER/x: \"any text\", \"/\": y}",
            "spec: {}"
        ),
        ["metadata.annotations"]
    );
    let large = format!("name: n, annotations: {{a: \"{}\"}}", "x".repeat(262_144));
    assert_eq!(refused(Kind::Node, &large, "spec: {}"), ["metadata.annotations"]);
}

#[test]
fn ip_pools() {
    check(
        Kind::IpPool,
        &[
            ("cidr: 10.0.0.0/16", &[]),
            ("cidr: \"fd00::/64\"", &[]),
            ("cidr: 10.0.0.0/26, blockSize: 26", &[]),
            ("cidr: 10.0.0.0/28, disabled: true", &[]),
            ("cidr: 10.0.0.0/16, ipipMode: CrossSubnet, natOutgoing: true", &[]),
            ("cidr: 10.0.0.0/16, allowedUses: [LoadBalancer]", &[]),
            (
                "cidr: 10.0.0.0/16, allowedUses: [Workload], namespaceSelector: has(x)",
                &[],
            ),
            ("disabled: true", &["spec.cidr"]),
            ("cidr: 10.0.0.1", &["spec.cidr"]),
            ("cidr: 10.0.0.1/16", &["spec.cidr"]),
            ("cidr: 10.0.0.0/33", &["spec.cidr"]),
            ("cidr: 10.0.0.0/27", &["spec.cidr"]),
            ("cidr: 169.254.1.0/24", &["spec.cidr"]),
            ("cidr: 169.0.0.0/8", &["spec.cidr"]),
            ("cidr: \"fe80::/64\"", &["spec.cidr"]),
            ("cidr: 10.0.0.0/16, blockSize: 19", &["spec.blockSize"]),
            ("cidr: 10.0.0.0/16, blockSize: 33", &["spec.blockSize"]),
            ("cidr: \"fd00::/64\", blockSize: 115", &["spec.blockSize"]),
            ("cidr: \"fd00::/64\", ipipMode: Always", &["spec.ipipMode"]),
            (
                "cidr: 10.0.0.0/16, ipipMode: Always, vxlanMode: CrossSubnet",
                &["spec.vxlanMode"],
            ),
            ("cidr: 10.0.0.0/16, nodeSelector: a", &["spec.nodeSelector"]),
            (
                "cidr: 10.0.0.0/16, nodeSelector: global()",
                &["spec.nodeSelector"],
            ),
            (
                "cidr: 10.0.0.0/16, namespaceSelector: has(x)",
                &["spec.namespaceSelector"],
            ),
            (
                "cidr: 10.0.0.0/16, allowedUses: [Workload, Workload]",
                &["spec.allowedUses[1]"],
            ),
            (
                "cidr: 10.0.0.0/16, allowedUses: [Workload, LoadBalancer]",
                &["spec.allowedUses"],
            ),
            (
                "cidr: 10.0.0.0/16, allowedUses: [LoadBalancer], ipipMode: Always",
                &["spec.ipipMode"],
            ),
            (
                "cidr: 10.0.0.0/16, allowedUses: [LoadBalancer], disableBGPExport: true",
                &["spec.disableBGPExport"],
            ),
            (
                "cidr: 10.0.0.0/16, allowedUses: [LoadBalancer], nodeSelector: has(a)",
                &["spec.nodeSelector"],
            ),
        ],
    );
}

#[test]
fn rules() {
    let in_policy = |rule: &str| format!("ingress: [{{{rule}}}]");
    for (rule, fields) in [
        ("action: Allow", &[] as &[&str]),
        (
            "action: Allow, protocol: TCP, destination: {ports: [80, '8000:8080', http]}",
            &[],
        ),
        ("action: Deny, protocol: 6, source: {notPorts: [1]}", &[]),
        ("action: Allow, destination: {ports: [http]}", &[]),
        (
            "action: Pass, ipVersion: 6, protocol: ICMPv6, icmp: {type: 128, code: 0}",
            &[],
        ),
        ("action: Log, notICMP: {type: 8}", &[]),
        ("action: Allow, source: {namespaceSelector: global()}", &[]),
        ("action: Allow, source: {namespaceSelector: ' global( ) '}", &[]),
        ("action: Allow, source: {notSelector: global()}", &[]),
        ("action: Allow, source: {services: {name: s}}", &[]),
        (
            "action: Allow, http: {methods: [GET], paths: [{exact: /a}, {prefix: /b}]}",
            &[],
        ),
        (
            "action: Allow, source: {nets: [10.0.0.0/8]}, destination: {notNets: [10.1.0.0/16]}",
            &[],
        ),
        ("protocol: TCP", &["action"]),
        ("action: Allow, ipVersion: 5", &["ipVersion"]),
        ("action: Allow, protocol: tcp", &["protocol"]),
        ("action: Allow, notProtocol: 0", &["notProtocol"]),
        ("action: Allow, ipVersion: 6, protocol: ICMP", &["protocol"]),
        ("action: Allow, ipVersion: 4, protocol: 58", &["protocol"]),
        ("action: Allow, protocol: TCP, icmp: {type: 8}", &["icmp"]),
        ("action: Allow, protocol: ICMP, icmp: {type: 255}", &["icmp.type"]),
        (
            "action: Allow, protocol: ICMP, icmp: {type: 3, code: 256}",
            &["icmp.code"],
        ),
        ("action: Allow, protocol: ICMP, icmp: {code: 1}", &["icmp.code"]),
        (
            "action: Allow, destination: {ports: [80]}",
            &["destination.ports[0]"],
        ),
        (
            "action: Allow, protocol: ICMP, destination: {ports: [http]}",
            &["destination.ports[0]"],
        ),
        (
            "action: Allow, protocol: TCP, destination: {ports: [0, UPPER]}",
            &["destination.ports[0]", "destination.ports[1]"],
        ),
        ("action: Allow, source: {nets: [10.0.0.1]}", &["source.nets[0]"]),
        ("action: Allow, source: {nets: [10.0.0.1/8]}", &["source.nets[0]"]),
        (
            "action: Allow, source: {notNets: [0.0.0.0/0]}",
            &["source.notNets[0]"],
        ),
        (
            "action: Allow, ipVersion: 4, source: {nets: ['fd00::/8']}",
            &["source.nets[0]"],
        ),
        (
            "action: Allow, source: {nets: [10.0.0.0/8]}, destination: {nets: ['fd00::/8']}",
            &["destination.nets[0]"],
        ),
        ("action: Allow, source: {selector: a}", &["source.selector"]),
        (
            "action: Allow, source: {selector: global()}",
            &["source.selector"],
        ),
        (
            "action: Allow, source: {selector: 'x == \"global(\"'}",
            &["source.selector"],
        ),
        (
            "action: Allow, source: {namespaceSelector: '!global()'}",
            &["source.namespaceSelector"],
        ),
        (
            "action: Allow, source: {namespaceSelector: 'global() || has(a)'}",
            &["source.namespaceSelector"],
        ),
        (
            "action: Allow, source: {services: {namespace: n}}",
            &["source.services.name"],
        ),
        (
            "action: Allow, source: {services: {name: s}, selector: has(a)}",
            &["source.services"],
        ),
        (
            "action: Allow, destination: {services: {name: s}}",
            &["destination.services"],
        ),
        ("action: Deny, http: {methods: [GET]}", &["http"]),
        ("action: Allow, protocol: UDP, http: {methods: [GET]}", &["http"]),
        ("action: Allow, http: {methods: [GET, GET]}", &["http.methods[1]"]),
        (
            "action: Allow, http: {paths: [{exact: /a, prefix: /b}, {exact: a}, {prefix: '/?'}]}",
            &["http.paths[0]", "http.paths[1]", "http.paths[2]"],
        ),
        (
            "action: Allow, metadata: {annotations: {'a b': c}}",
            &["metadata.annotations"],
        ),
    ] {
        let found = refused(
            Kind::NetworkPolicy,
            "name: p",
            &format!("spec: {{{}}}", in_policy(rule)),
        );
        let expected: Vec<String> = fields
            .iter()
            .map(|field| format!("spec.ingress[0].{field}"))
            .collect();
        assert_eq!(found, expected, "{rule}");
    }
    let egress = |rule: &str| {
        refused(
            Kind::GlobalNetworkPolicy,
            "name: p",
            &format!("spec: {{egress: [{{{rule}}}]}}"),
        )
    };
    assert_eq!(
        egress("action: Allow, destination: {services: {name: s, namespace: n}}"),
        Vec::<String>::new()
    );
    assert_eq!(
        egress("action: Allow, destination: {services: {name: s}}"),
        ["spec.egress[0].destination.services.namespace"]
    );
    assert_eq!(
        egress("action: Allow, destination: {services: {name: s, namespace: n}, ports: [http]}"),
        ["spec.egress[0].destination.ports"]
    );
    assert_eq!(
        egress("action: Allow, source: {services: {name: s, namespace: n}}"),
        ["spec.egress[0].source.services"]
    );
    assert_eq!(
        egress("action: Allow, http: {methods: [GET]}"),
        ["spec.egress[0].http"]
    );
    let nets: Vec<String> = (0..257)
        .map(|i| format!("10.{}.{}.0/24", i / 256, i % 256))
        .collect();
    let many = format!(
        "spec: {{ingress: [{{action: Allow, source: {{nets: [{}]}}}}]}}",
        nets.join(", ")
    );
    assert_eq!(
        refused(Kind::NetworkPolicy, "name: p", &many),
        ["spec.ingress[0].source.nets"]
    );
}

#[test]
fn policies_profiles_and_tiers() {
    check(
        Kind::GlobalNetworkPolicy,
        &[
            (
                "order: -1.5, selector: has(a), namespaceSelector: all(), performanceHints: [AssumeNeededOnEveryNode]",
                &[],
            ),
            ("doNotTrack: true, applyOnForward: true", &[]),
            ("preDNAT: true, applyOnForward: true", &[]),
            ("doNotTrack: true", &["spec.applyOnForward"]),
            (
                "preDNAT: true, doNotTrack: true, applyOnForward: true",
                &["spec.preDNAT"],
            ),
            (
                "preDNAT: true, applyOnForward: true, egress: [{action: Allow}]",
                &["spec.egress", "spec.types"],
            ),
            ("types: [Ingress, Ingress]", &["spec.types[1]"]),
            ("selector: global()", &["spec.selector"]),
            ("namespaceSelector: global()", &["spec.namespaceSelector"]),
            ("serviceAccountSelector: a ==", &["spec.serviceAccountSelector"]),
            ("tier: Bad", &["spec.tier"]),
            ("performanceHints: [Other]", &["spec.performanceHints[0]"]),
        ],
    );
    let long = format!("selector: \"a == '{}'\"", "x".repeat(1024));
    check(Kind::GlobalNetworkPolicy, &[(&long, &["spec.selector"])]);
    check(
        Kind::Profile,
        &[
            ("labelsToApply: {a: b}, ingress: [{action: Allow}]", &[]),
            ("labelsToApply: {a: '-'}", &["spec.labelsToApply.a"]),
        ],
    );
    check(
        Kind::Tier,
        &[
            ("", &[]),
            ("order: 1000000", &[]),
            ("order: 1", &["spec.order"]),
            ("defaultAction: Pass", &["spec.defaultAction"]),
        ],
    );
    assert_eq!(
        refused(
            Kind::Tier,
            "name: kube-admin",
            "spec: {order: 1000, defaultAction: Pass}"
        ),
        Vec::<String>::new()
    );
    assert_eq!(
        refused(Kind::Tier, "name: other", "spec: {order: 1, defaultAction: Pass}"),
        Vec::<String>::new()
    );
}

#[test]
fn policy_defaults() {
    let types = |rules: &str| {
        let text = format!(
            "{{kind: NetworkPolicy, apiVersion: projectcalico.org/v3, metadata: {{name: p, namespace: n}}, spec: {{{rules}}}}}"
        );
        let mut resource = file::decode("f", &text).resources.remove(0).resource;
        resource.default_on_write();
        let json = serde_json::to_value(&resource).unwrap_or_default();
        (
            json["spec"]["types"].to_string(),
            json["spec"]["tier"].to_string(),
            json["metadata"]["labels"].to_string(),
        )
    };
    let tier = |tier: &str| {
        (
            format!("\"{tier}\""),
            format!("{{\"projectcalico.org/tier\":\"{tier}\"}}"),
        )
    };
    for (rules, expected) in [
        ("", "[\"Ingress\"]"),
        ("ingress: [{action: Allow}]", "[\"Ingress\"]"),
        ("egress: [{action: Allow}]", "[\"Egress\"]"),
        (
            "ingress: [{action: Allow}], egress: [{action: Allow}]",
            "[\"Ingress\",\"Egress\"]",
        ),
        ("types: [Egress]", "[\"Egress\"]"),
    ] {
        let (name, labels) = tier("default");
        assert_eq!(types(rules), (expected.to_owned(), name, labels), "{rules}");
    }
    let (name, labels) = tier("t");
    assert_eq!(types("tier: t"), ("[\"Ingress\"]".to_owned(), name, labels));
}

#[test]
fn network_sets() {
    check(
        Kind::GlobalNetworkSet,
        &[
            ("nets: [10.0.0.1/8, 10.0.0.1, 'fd00::/8']", &[]),
            ("nets: [x]", &["spec.nets[0]"]),
        ],
    );
    assert_eq!(
        refused(
            Kind::NetworkSet,
            "name: s, labels: {projectcalico.org/namespace: n}",
            "spec: {}"
        ),
        ["metadata.labels.projectcalico.org/namespace"]
    );
}

#[test]
fn endpoints() {
    check(
        Kind::HostEndpoint,
        &[
            ("node: n, interfaceName: '*'", &[]),
            (
                "node: n, expectedIPs: [10.0.0.1], ports: [{name: ssh, protocol: TCP, port: 22}]",
                &[],
            ),
            ("interfaceName: eth0", &["spec.node"]),
            ("node: n", &["spec.interfaceName"]),
            ("node: n, interfaceName: a/b", &["spec.interfaceName"]),
            ("node: n, expectedIPs: [10.0.0.1/32]", &["spec.expectedIPs[0]"]),
            (
                "node: n, interfaceName: eth0, ports: [{name: '', protocol: ICMP, port: 0}]",
                &[
                    "spec.ports[0].name",
                    "spec.ports[0].protocol",
                    "spec.ports[0].port",
                ],
            ),
        ],
    );
    let endpoint = |name: &str, rest: &str| {
        let metadata = if name.is_empty() {
            "annotations: {}".to_owned()
        } else {
            format!("name: {name}")
        };
        let spec = format!("spec: {{orchestrator: k8s, node: node-1, pod: pod-a, endpoint: eth0{rest}}}");
        refused(Kind::WorkloadEndpoint, &metadata, &spec)
    };
    let none = Vec::<String>::new();
    let base = ", interfaceName: cali1";
    assert_eq!(endpoint("", base), none);
    assert_eq!(endpoint("node--1-k8s-pod--a-eth0", base), none);
    assert_eq!(endpoint("other", base), ["metadata.name"]);
    for (rest, fields) in [
        ("", vec!["spec.interfaceName"]),
        (
            ", interfaceName: cali1, ipNetworks: [10.0.0.1/32, 'fd00::1', 10.0.0.0/24]",
            vec!["spec.ipNetworks[2]"],
        ),
        (
            ", interfaceName: cali1, ipNetworks: [10.0.0.1/32], ipNATs: [{internalIP: 10.0.0.2, externalIP: 'fd00::1'}]",
            vec!["spec.ipNATs[0].externalIP", "spec.ipNATs[0].internalIP"],
        ),
        (
            ", interfaceName: cali1, ipv4Gateway: 'fd00::1', mac: x",
            vec!["spec.ipv4Gateway", "spec.mac"],
        ),
        (
            ", interfaceName: cali1, ports: [{protocol: TCP, port: 80}]",
            vec!["spec.ports[0].name"],
        ),
        (
            ", interfaceName: cali1, ports: [{protocol: TCP, port: 80, hostPort: 80}]",
            vec![],
        ),
        (
            ", interfaceName: cali1, qosControls: {dscp: AF44}",
            vec!["spec.qosControls.dscp"],
        ),
        (
            ", interfaceName: cali1, qosControls: {dscp: ef, ingressBandwidth: 5}",
            vec![],
        ),
    ] {
        assert_eq!(endpoint("", rest), fields, "{rest}");
    }
    let missing = "spec: {orchestrator: cni, node: n, endpoint: eth0, interfaceName: cali1}";
    assert_eq!(
        refused(Kind::WorkloadEndpoint, "annotations: {}", missing),
        ["metadata.name", "spec.containerID"]
    );
}

#[test]
fn nodes() {
    check(
        Kind::Node,
        &[
            (
                "bgp: {ipv4Address: 192.168.1.10/24, asNumber: '1.1'}, addresses: [{address: 192.168.1.10/24, type: CalicoNodeIP}]",
                &[],
            ),
            ("bgp: {}", &["spec.bgp"]),
            ("bgp: {ipv4Address: 'fd00::1/64'}", &["spec.bgp.ipv4Address"]),
            ("bgp: {ipv6Address: 10.0.0.1}", &["spec.bgp.ipv6Address"]),
            (
                "bgp: {asNumber: 1, routeReflectorClusterID: x}",
                &["spec.bgp.routeReflectorClusterID"],
            ),
            (
                "vxlanTunnelMACAddr: x, ipv4VXLANTunnelAddr: 'fd00::1'",
                &["spec.ipv4VXLANTunnelAddr", "spec.vxlanTunnelMACAddr"],
            ),
            ("addresses: [{address: x}]", &["spec.addresses[0].address"]),
        ],
    );
}

#[test]
fn bgp() {
    check(
        Kind::BgpFilter,
        &[
            ("exportV4: [{action: Accept}]", &[]),
            (
                "importV4: [{cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {min: 16, max: 24}, source: RemotePeers, \
                 interface: '*.calico', peerType: eBGP, communities: {values: ['65000:1']}, asPathPrefix: [65001, '1.1'], \
                 priority: 1024, action: Reject}]",
                &[],
            ),
            (
                "exportV6: [{action: Accept, operations: [{addCommunity: {value: '1:2:3'}}, \
                 {prependASPath: {prefix: [65000, 65000]}}, {setPriority: {value: 512}}]}]",
                &[],
            ),
            ("exportV4: [{}]", &["spec.exportV4[0].action"]),
            ("exportV4: [{action: ''}]", &["spec.exportV4[0].action"]),
            (
                "exportV4: [{cidr: 10.0.0.0/8, action: Accept}]",
                &["spec.exportV4[0].cidr"],
            ),
            (
                "importV6: [{matchOperator: In, action: Accept}]",
                &["spec.importV6[0].matchOperator"],
            ),
            (
                "exportV4: [{cidr: 10.0.0.1/8, matchOperator: In, action: Accept}, \
                 {cidr: 'fd00::/8', matchOperator: In, action: Accept}]",
                &["spec.exportV4[0].cidr", "spec.exportV4[1].cidr"],
            ),
            (
                "importV6: [{cidr: 10.0.0.0/8, matchOperator: NotIn, action: Accept}]",
                &["spec.importV6[0].cidr"],
            ),
            (
                "exportV4: [{prefixLength: {min: 8}, action: Accept}]",
                &["spec.exportV4[0].prefixLength"],
            ),
            (
                "exportV4: [{cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {min: -1, max: 33}, action: Accept}]",
                &[
                    "spec.exportV4[0].prefixLength.min",
                    "spec.exportV4[0].prefixLength.max",
                ],
            ),
            (
                "exportV6: [{cidr: 'fd00::/8', matchOperator: In, prefixLength: {max: 128}, action: Accept}]",
                &[],
            ),
            (
                "exportV4: [{interface: abcdefghijklmnop, action: Accept}]",
                &["spec.exportV4[0].interface"],
            ),
            (
                "exportV4: [{communities: {values: []}, action: Accept}]",
                &["spec.exportV4[0].communities.values"],
            ),
            (
                "exportV4: [{communities: {values: ['1:65536']}, action: Accept}]",
                &["spec.exportV4[0].communities.values[0]"],
            ),
            (
                "exportV4: [{priority: 0, action: Accept}]",
                &["spec.exportV4[0].priority"],
            ),
            (
                "exportV4: [{action: Reject, operations: [{setPriority: {value: 1}}]}]",
                &["spec.exportV4[0].operations"],
            ),
            (
                "exportV4: [{action: Accept, operations: [{}, {addCommunity: {value: '1:2'}, setPriority: {value: 1}}, \
                 {addCommunity: {value: x}}, {prependASPath: {prefix: []}}, {setPriority: {value: 2147483647}}]}]",
                &[
                    "spec.exportV4[0].operations[0]",
                    "spec.exportV4[0].operations[1]",
                    "spec.exportV4[0].operations[2].addCommunity.value",
                    "spec.exportV4[0].operations[3].prependASPath.prefix",
                    "spec.exportV4[0].operations[4].setPriority.value",
                ],
            ),
        ],
    );
    check(
        Kind::BgpPeer,
        &[
            ("peerIP: 10.0.0.1, asNumber: 64512", &[]),
            (
                "peerIP: '[fd00::1]:1790', asNumber: 64512, node: n, password: {secretKeyRef: {name: a, key: b}}",
                &[],
            ),
            ("nodeSelector: has(a), peerSelector: has(b)", &[]),
            (
                "peerIP: 10.0.0.1, asNumber: 1, reachableBy: 10.0.0.2, maxRestartTime: 10s, ttlSecurity: 1",
                &[],
            ),
            ("localWorkloadSelector: has(a), asNumber: 65000", &[]),
            ("peerIP: x", &["spec.peerIP"]),
            ("peerIP: '10.0.0.1:0'", &["spec.peerIP"]),
            ("node: n, nodeSelector: has(a)", &["spec.nodeSelector"]),
            ("peerIP: 10.0.0.1, peerSelector: has(a)", &["spec.peerSelector"]),
            ("peerSelector: has(a), asNumber: 1", &["spec.asNumber"]),
            (
                "peerIP: 10.0.0.1, localWorkloadSelector: has(a), asNumber: 1",
                &["spec.localWorkloadSelector"],
            ),
            ("localWorkloadSelector: has(a)", &["spec.asNumber"]),
            (
                "peerIP: 10.0.0.1, keepOriginalNextHop: true, nextHopMode: Self",
                &["spec.nextHopMode"],
            ),
            ("peerIP: 10.0.0.1, reachableBy: 'fd00::1'", &["spec.reachableBy"]),
            (
                "peerSelector: has(a), reachableBy: 10.0.0.1",
                &["spec.reachableBy"],
            ),
            ("nodeSelector: a", &["spec.nodeSelector"]),
        ],
    );
    check(
        Kind::BgpConfiguration,
        &[
            (
                "nodeToNodeMeshEnabled: false, asNumber: 64513, listenPort: 179, serviceClusterIPs: [{cidr: 10.96.0.0/12}]",
                &[],
            ),
            (
                "communities: [{name: c, value: '1:2'}], prefixAdvertisements: [{cidr: 10.0.0.0/8, communities: [c, '1:2:3']}]",
                &[],
            ),
            ("logSeverityScreen: warning, ignoredInterfaces: ['eth*']", &[]),
            ("logSeverityScreen: Loud", &["spec.logSeverityScreen"]),
            (
                "serviceExternalIPs: [{cidr: 10.0.0.1/8}]",
                &["spec.serviceExternalIPs[0].cidr"],
            ),
            ("communities: [{name: c, value: '1:2'}]", &["spec.communities"]),
            (
                "prefixAdvertisements: [{cidr: 10.0.0.0/8, communities: [c]}]",
                &["spec.prefixAdvertisements[0].communities[0]"],
            ),
            (
                "nodeToNodeMeshEnabled: false, nodeMeshMaxRestartTime: 10s",
                &["spec.nodeMeshMaxRestartTime"],
            ),
            ("ignoredInterfaces: ['*']", &["spec.ignoredInterfaces[0]"]),
            ("ipv4NormalRoutePriority: 0", &["spec.ipv4NormalRoutePriority"]),
            (
                "localWorkloadPeeringIPV4: 'fd00::1'",
                &["spec.localWorkloadPeeringIPV4"],
            ),
        ],
    );
    assert_eq!(
        refused(Kind::BgpConfiguration, "name: node.n", "spec: {asNumber: 1}"),
        ["spec.asNumber"]
    );
    assert_eq!(
        refused(
            Kind::BgpConfiguration,
            "name: node.n",
            "spec: {logSeverityScreen: Debug}"
        ),
        Vec::<String>::new()
    );
}

#[test]
fn error_texts() {
    let text = "{kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: a}, spec: {cidr: 10.0.0.1/16, nodeSelector: b}}";
    let mut resource = file::decode("f", text).resources.remove(0).resource;
    resource.default_on_write();
    let errors = resource.validate();
    assert_eq!(
        validate::error_text(&errors),
        "error with the following fields:\n-  spec.cidr = '10.0.0.1/16' (IPPool CIDR is not strictly masked)\n-  \
         spec.nodeSelector = 'b' (invalid selector: expected == or != not: end of selector)"
    );
    assert_eq!(
        validate::error_text(&errors[..1]),
        "error with field spec.cidr = '10.0.0.1/16' (IPPool CIDR is not strictly masked)"
    );
}
