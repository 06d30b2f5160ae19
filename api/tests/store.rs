//! The tolerant decoder and the way back: byte forms as Calico writes them, and unknown fields that survive.

#![expect(clippy::unwrap_used, reason = "a test that stops here has failed")]

use api::ipam_model::{Affinity, AffinityState, AllocationBlock, Handle, IpamConfig};
use api::{AnyResource, Kind, Node, Resource, store};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Written by Calico 3.3x, as the layout of its etcd values has them.
const NETWORK_POLICY: &str = r#"{"kind":"NetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"allow-web","namespace":"default","uid":"2b0f","creationTimestamp":"2026-08-22T10:11:12Z","labels":{"projectcalico.org/tier":"default"},"annotations":{"projectcalico.org/metadata":"{\"name\":\"allow-web\"}"}},"spec":{"tier":"default","order":100,"ingress":[{"action":"Allow","protocol":"TCP","source":{"selector":"role == \"fe\" \u0026\u0026 has(x)"},"destination":{"ports":[80,"8000:8080","http"]}}],"selector":"app == \"web\"","types":["Ingress"]}}"#;
const IP_POOL: &str = r#"{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"pool-a","uid":"8f1d2c7e-7a55-4a5f-9a38-0f6c6f0a1b11","creationTimestamp":"2026-08-22T10:11:12Z","labels":{"zone":"a"},"annotations":{"note":"x"}},"spec":{"cidr":"10.0.0.0/16","vxlanMode":"Never","ipipMode":"Always","natOutgoing":true,"blockSize":26,"nodeSelector":"all()","allowedUses":["Workload","Tunnel"],"assignmentMode":"Automatic"},"status":{"conditions":[{"type":"Allocatable","status":"True","lastTransitionTime":"2026-08-22T10:11:13Z","reason":"OK","message":""}]}}"#;
const NODE: &str = r#"{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"node-1","uid":"u","creationTimestamp":"2026-08-22T10:11:12Z","labels":{"rack":"r1"}},"spec":{"bgp":{"asNumber":64512,"ipv4Address":"192.168.1.10/24","ipv6Address":"fd01::10/64","ipv4IPIPTunnelAddr":"10.0.0.1","routeReflectorClusterID":"224.0.0.1"},"ipv4VXLANTunnelAddr":"10.0.0.2","vxlanTunnelMACAddr":"66:aa:bb:cc:dd:ee","ipv6VXLANTunnelAddr":"fd00::2","vxlanTunnelMACAddrV6":"66:aa:bb:cc:dd:ef","orchRefs":[{"nodeName":"node-1","orchestrator":"k8s"}],"wireguard":{"interfaceIPv4Address":"10.0.0.3","interfaceIPv6Address":"fd00::3"},"addresses":[{"address":"192.168.1.10/24","type":"CalicoNodeIP"},{"address":"192.168.1.10","type":"InternalIP"}],"interfaces":[{"name":"eth0","addresses":["192.168.1.10"]}]},"status":{"wireguardPublicKey":"a","wireguardPublicKeyV6":"b","podCIDRs":["10.244.0.0/24"]}}"#;
const WORKLOAD_ENDPOINT: &str = r#"{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3","metadata":{"name":"node--1-k8s-pod--a-eth0","generateName":"pod-","namespace":"default","uid":"u","creationTimestamp":"2026-08-22T10:11:12Z","labels":{"app":"web","projectcalico.org/namespace":"default","projectcalico.org/orchestrator":"k8s","projectcalico.org/serviceaccount":"default"}},"spec":{"orchestrator":"k8s","node":"node-1","containerID":"0123abcd","pod":"pod-a","endpoint":"eth0","serviceAccountName":"default","ipNetworks":["10.0.0.5/32","fd00::5/128"],"ipNATs":[{"internalIP":"10.0.0.5","externalIP":"172.16.0.9"}],"ipv4Gateway":"169.254.1.1","profiles":["kns.default","ksa.default.default"],"interfaceName":"cali0123456789a","mac":"ee:ee:ee:ee:ee:ee","ports":[{"name":"http","protocol":"TCP","port":8080,"hostPort":0,"hostIP":""}],"allowSpoofedSourcePrefixes":["192.0.2.0/24"],"qosControls":{"ingressBandwidth":1000000,"ingressBurst":4294967296,"dscp":"EF"}}}"#;
const CLUSTER_INFORMATION: &str = r#"{"kind":"ClusterInformation","apiVersion":"projectcalico.org/v3","metadata":{"name":"default","uid":"u"},"spec":{"clusterGUID":"0123456789abcdef0123456789abcdef","clusterType":"k8s,bgp","calicoVersion":"v3.32.0","datastoreReady":true,"variant":"Calico"}}"#;
const BLOCK_AFFINITY: &str = r#"{"kind":"BlockAffinity","apiVersion":"projectcalico.org/v3","metadata":{"name":"node-1-10-0-0-0-26"},"spec":{"state":"confirmed","node":"node-1","type":"host","cidr":"10.0.0.0/26","deleted":"false"}}"#;
const TIER: &str = r#"{"kind":"Tier","apiVersion":"projectcalico.org/v3","metadata":{"name":"t"},"spec":{"order":1000000,"defaultAction":"Pass"},"status":{}}"#;
const BLOCK: &str = r#"{"cidr":"10.0.0.0/29","affinity":"host:node-1","affinity_claim_time":"2026-08-22T10:11:12Z","allocations":[0,1,null,2,null,null,null,null],"unallocated":[2,4,5,6,7],"attributes":[{"handle_id":"ipip-tunnel-addr-node-1","secondary":{"node":"node-1","type":"ipipTunnelAddress"}},{"handle_id":"k8s-pod-network.0123abcd","secondary":{"namespace":"default","node":"node-1","pod":"pod-a","timestamp":"2026-08-22 10:11:12.345 +0000 UTC"},"alternateOwnerAttrs":{"namespace":"default","node":"node-2","pod":"pod-b"}},{"releasedAt":"2026-08-22T10:20:00Z"}],"sequenceNumber":1756030272000000003,"sequenceNumberForAllocation":{"0":1756030272000000000,"1":1756030272000000001,"3":1756030272000000002},"deleted":false,"hostAffinity":"node-1"}"#;

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn round_trip(kind: Kind, stored: &str) -> String {
    let any = store::decode_any(kind, stored.as_bytes()).unwrap();
    macro_rules! encode {
        ($($variant:ident),+) => {
            match any { $(AnyResource::$variant(object) => text(store::encode(&*object).unwrap()),)+ _ => String::new() }
        };
    }
    encode!(
        NetworkPolicy,
        IpPool,
        Node,
        WorkloadEndpoint,
        ClusterInformation,
        BlockAffinity,
        Tier
    )
}

#[test]
fn resources_keep_their_bytes() {
    for (kind, stored) in [
        (Kind::NetworkPolicy, NETWORK_POLICY),
        (Kind::IpPool, IP_POOL),
        (Kind::Node, NODE),
        (Kind::WorkloadEndpoint, WORKLOAD_ENDPOINT),
        (Kind::ClusterInformation, CLUSTER_INFORMATION),
        (Kind::BlockAffinity, BLOCK_AFFINITY),
        (Kind::Tier, TIER),
    ] {
        assert_eq!(round_trip(kind, stored), stored);
    }
}

#[test]
fn ipam_values_keep_their_bytes() {
    let block: AllocationBlock = store::decode_value(BLOCK.as_bytes()).unwrap();
    assert_eq!(block.sequence_number, 1_756_030_272_000_000_003);
    assert_eq!(text(store::encode_value(&block).unwrap()), BLOCK);

    let unowned = r#"{"cidr":"fd00::/122","affinity":null,"allocations":[],"unallocated":null,"attributes":null,"sequenceNumber":1,"sequenceNumberForAllocation":null,"deleted":false}"#;
    let block: AllocationBlock = store::decode_value(unowned.as_bytes()).unwrap();
    assert_eq!(block.affinity, None);
    assert_eq!(
        text(store::encode_value(&block).unwrap()),
        r#"{"cidr":"fd00::/122","affinity":null,"allocations":[],"unallocated":[],"attributes":[],"sequenceNumber":1,"sequenceNumberForAllocation":{},"deleted":false}"#
    );

    let affinity: Affinity = store::decode_value(br#"{"state":"pendingDeletion","deleted":false}"#).unwrap();
    assert_eq!(affinity.state(), AffinityState::PendingDeletion);
    for legacy in ["", "{}", r#"{"state":""}"#] {
        let affinity: Affinity = store::decode_value(legacy.as_bytes()).unwrap();
        assert_eq!(affinity.state(), AffinityState::Confirmed);
    }
    let confirmed = Affinity::new(AffinityState::Confirmed);
    assert_eq!(
        text(store::encode_value(&confirmed).unwrap()),
        r#"{"state":"confirmed","deleted":false}"#
    );

    let handle = r#"{"block":{"10.0.0.0/26":1,"fd00::/122":1},"deleted":false}"#;
    let decoded: Handle = store::decode_value(handle.as_bytes()).unwrap();
    assert_eq!(text(store::encode_value(&decoded).unwrap()), handle);

    let config = r#"{"strict_affinity":true,"auto_allocate_blocks":true,"maxBlocksPerHost":4,"kubeVirtVMAddressPersistence":"Enabled","ipCooldownSeconds":30}"#;
    let decoded: IpamConfig = store::decode_value(config.as_bytes()).unwrap();
    assert_eq!(text(store::encode_value(&decoded).unwrap()), config);
    let empty: IpamConfig = store::decode_value(b"{}").unwrap();
    assert!(!empty.auto_allocate_blocks && IpamConfig::default().auto_allocate_blocks);
}

#[test]
fn resource_version_is_not_stored() {
    let mut node: Node = store::decode(NODE.as_bytes()).unwrap();
    node.metadata.resource_version = "17".to_owned();
    node.metadata.self_link = "/x".to_owned();
    assert_eq!(text(store::encode(&node).unwrap()), NODE);
}

#[test]
fn invented_fields_of_a_node_survive_a_status_update() {
    let mut raw: Value = serde_json::from_str(NODE).unwrap();
    raw["invented"] = json!({"deep": [1, 2]});
    raw["metadata"]["invented"] = json!(true);
    raw["spec"]["invented"] = json!("x");
    raw["spec"]["bgp"]["invented"] = json!(1.5);
    raw["spec"]["addresses"][1]["invented"] = json!([null]);
    raw["spec"]["interfaces"][0]["invented"] = json!({});
    raw["status"]["invented"] = json!(0);
    let raw = serde_json::to_vec(&raw).unwrap();

    let mut node: Node = store::decode(&raw).unwrap();
    node.status.wireguard_public_key = "new".to_owned();
    node.status.pod_cidrs.clear();
    node.spec.bgp.as_mut().unwrap().as_number = None;
    // The first address goes: the second one keeps what it had.
    node.spec.addresses.remove(0);
    let written: Value = serde_json::from_slice(&store::encode_update(&raw, &node).unwrap()).unwrap();

    assert_eq!(written["invented"], json!({"deep": [1, 2]}));
    assert_eq!(written["metadata"]["invented"], json!(true));
    assert_eq!(written["spec"]["invented"], json!("x"));
    assert_eq!(written["spec"]["bgp"]["invented"], json!(1.5));
    assert_eq!(
        written["spec"]["addresses"],
        json!([{"address": "192.168.1.10", "type": "InternalIP", "invented": [null]}])
    );
    assert_eq!(written["spec"]["interfaces"][0]["invented"], json!({}));
    assert_eq!(written["status"]["invented"], json!(0));
    assert_eq!(written["status"]["wireguardPublicKey"], json!("new"));
    assert_eq!(written["status"].get("podCIDRs"), None);
    assert_eq!(written["spec"]["bgp"].get("asNumber"), None);

    // A known object that empties keeps only what we do not know of it.
    node.spec.bgp = None;
    let written: Value = serde_json::from_slice(&store::encode_update(&raw, &node).unwrap()).unwrap();
    assert_eq!(written["spec"]["bgp"], json!({"invented": 1.5}));
}

#[test]
fn invented_fields_of_a_block_survive_assign_and_release() {
    let mut raw: Value = serde_json::from_str(BLOCK).unwrap();
    raw["invented"] = json!({"a": 1});
    raw["attributes"][0]["invented"] = json!("first");
    raw["attributes"][1]["invented"] = json!("second");
    let raw = serde_json::to_vec(&raw).unwrap();
    let decode = |bytes: &[u8]| store::decode_value::<AllocationBlock>(bytes).unwrap();

    // Assign: one more attribute.
    let mut block = decode(&raw);
    block.allocations[2] = Some(3);
    block.unallocated.remove(0);
    block.attributes.push(api::ipam_model::AllocationAttribute {
        handle_id: Some("new".to_owned()),
        ..Default::default()
    });
    block.sequence_number += 1;
    let assigned = store::encode_value_update(&raw, &block).unwrap();
    let value: Value = serde_json::from_slice(&assigned).unwrap();
    assert_eq!(value["invented"], json!({"a": 1}));
    assert_eq!(value["attributes"][0]["invented"], json!("first"));
    assert_eq!(value["attributes"][1]["invented"], json!("second"));
    assert_eq!(value["attributes"][3], json!({"handle_id": "new"}));
    assert_eq!(value["allocations"], json!([0, 1, 3, 2, null, null, null, null]));
    assert_eq!(value["sequenceNumber"], json!(1_756_030_272_000_000_004_u64));

    // Release of the first: the others move down and keep what is theirs.
    let mut block = decode(&assigned);
    block.attributes.remove(0);
    let released = store::encode_value_update(&assigned, &block).unwrap();
    let value: Value = serde_json::from_slice(&released).unwrap();
    assert_eq!(value["invented"], json!({"a": 1}));
    assert_eq!(value["attributes"][0]["invented"], json!("second"));
    assert_eq!(
        value["attributes"][0]["handle_id"],
        json!("k8s-pod-network.0123abcd")
    );
    assert_eq!(value["attributes"].as_array().map(Vec::len), Some(3));
    assert_eq!(value["attributes"][1].get("invented"), None);
}

#[test]
fn bad_values_name_their_field() {
    let error = |kind, bytes: &str| store::decode_any(kind, bytes.as_bytes()).unwrap_err().to_string();
    assert!(
        error(Kind::Node, r#"{"spec":{"bgp":{"asNumber":"x"}}}"#).starts_with("field spec.bgp.asNumber: ")
    );
    assert!(error(Kind::Node, "{").starts_with("field (whole value): "));
    assert!(
        error(Kind::Node, &NODE.replace("\"Node\"", "\"IPPool\""))
            .contains("expected kind Node, found IPPool")
    );
}

#[test]
fn policy_names_follow_the_annotation() {
    let read = |stored: &str| {
        let any = store::decode_any(Kind::GlobalNetworkPolicy, stored.as_bytes()).unwrap();
        (
            any.metadata().name.clone(),
            any.metadata().labels["projectcalico.org/tier"].clone(),
        )
    };
    let annotated = r#"{"metadata":{"name":"default.a","annotations":{"projectcalico.org/metadata":"{\"name\":\"a.b\"}"}},"spec":{"tier":"default"}}"#;
    assert_eq!(read(annotated), ("a.b".to_owned(), "default".to_owned()));
    assert_eq!(read(r#"{"metadata":{"name":"default.a"}}"#).0, "a");
    assert_eq!(
        read(r#"{"metadata":{"name":"default.a"},"spec":{"tier":"t"}}"#).0,
        "default.a"
    );
    assert_eq!(
        read(r#"{"metadata":{"name":"t.a"},"spec":{"tier":"t"}}"#).0,
        "t.a"
    );
}

#[test]
fn nulls_and_empty_enumerations_are_absent() {
    let stored = r#"{"kind":"IPPool","metadata":{"name":"p","creationTimestamp":null,"labels":null},"spec":{"cidr":"10.0.0.0/16","ipipMode":"","allowedUses":null},"status":null}"#;
    let mut pool: api::IpPool = store::decode(stored.as_bytes()).unwrap();
    assert_eq!(pool.spec.block_size, 26);
    assert_eq!(pool.spec.node_selector, "all()");
    pool.default_on_write();
    assert_eq!(pool.validate(), []);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3_u8).prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// What a type knows that has never heard of the keys `c` and `d`.
fn typed(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(k, _)| *k < &"c".to_owned())
                .map(|(k, v)| (k.clone(), typed(v)))
                .collect(),
        ),
        Value::Array(items) => items.iter().map(typed).collect(),
        other => other.clone(),
    }
}

proptest! {
    #[test]
    fn writing_back_what_was_read_changes_nothing(raw in any_json()) {
        let known = typed(&raw);
        prop_assert_eq!(api::unknown::merge(&raw, &known, &known), raw);
    }

    #[test]
    fn what_is_written_is_what_is_read_again(raw in any_json(), new in any_json()) {
        let new = typed(&new);
        let merged = api::unknown::merge(&raw, &typed(&raw), &new);
        // A known object that emptied may stay as the holder of unknown fields; nothing else of the old value does.
        fn covers(found: &Value, wanted: &Value) -> bool {
            match (found, wanted) {
                (Value::Object(found), Value::Object(wanted)) => {
                    wanted.iter().all(|(k, v)| found.get(k).is_some_and(|f| covers(f, v)))
                        && found.iter().filter(|(k, _)| !wanted.contains_key(*k)).all(|(_, f)| hollow(f))
                }
                (Value::Array(found), Value::Array(wanted)) => {
                    found.len() == wanted.len() && found.iter().zip(wanted).all(|(f, w)| covers(f, w))
                }
                (found, wanted) => found == wanted,
            }
        }
        fn hollow(value: &Value) -> bool {
            value.as_object().is_some_and(|map| map.values().all(hollow))
        }
        prop_assert!(covers(&typed(&merged), &new), "{} over {} gave {}", new, raw, merged);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for kind in Kind::ALL {
            let _ = store::decode_any(*kind, &bytes);
        }
        let _ = store::decode_value::<AllocationBlock>(&bytes);
    }

    #[test]
    fn random_values_never_panic(value in any_json(), field in "spec|metadata|status|cidr|allocations") {
        let bytes = serde_json::to_vec(&json!({field: value})).unwrap();
        for kind in Kind::ALL {
            if let Ok(mut object) = store::decode_any(*kind, &bytes) {
                object.default_on_write();
                let _ = object.validate();
            }
        }
    }
}
