//! `ipam show`, on values as Calico's IPAM writes them.

mod harness;

use harness::{Fixture, StoreKind};

const BLOCK: &str = r#"{"cidr":"10.0.0.0/29","affinity":"host:node-1","affinity_claim_time":"2026-08-22T10:11:12Z","allocations":[0,1,null,2,null,null,null,null],"unallocated":[2,4,5,6,7],"attributes":[{"handle_id":"ipip-tunnel-addr-node-1","secondary":{"node":"node-1","type":"ipipTunnelAddress"}},{"handle_id":"k8s-pod-network.0123abcd","secondary":{"namespace":"default","node":"node-2","pod":"pod-a"}},{"releasedAt":"2026-08-22T10:20:00Z"}],"sequenceNumber":1756030272000000003,"sequenceNumberForAllocation":{},"deleted":false}"#;

async fn seeded() -> Fixture {
    let store = Fixture::start(StoreKind::Embedded).await;
    let pools = "kind: IPPoolList\napiVersion: projectcalico.org/v3\nitems:\n- metadata: {name: a}\n  spec: {cidr: \
                 10.0.0.0/16, blockSize: 29}\n- metadata: {name: b}\n  spec: {cidr: 'fd00::/64'}\n";
    store
        .run_with_input(&["create", "-f", "-"], pools)
        .printed("Successfully created 2 'IPPool' resource(s)\n");
    store.put("/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-29", BLOCK);
    let orphan = BLOCK
        .replace("10.0.0.0/29", "192.168.0.0/29")
        .replace("\"host:node-1\"", "null");
    store.put("/calico/ipam/v2/assignment/ipv4/block/192.168.0.0-29", &orphan);
    // Released addresses cool down for longer than this test's clock can tell.
    store.put(
        "/calico/ipam/v2/config",
        r#"{"auto_allocate_blocks":true,"ipCooldownSeconds":2000000000}"#,
    );
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_and_blocks() {
    let store = seeded().await;
    store.run(&["ipam", "show"]).printed(
        "+----------+-------------+------------+------------+--------------+-------------------+\n\
         | GROUPING | CIDR        | IPS TOTAL  | IPS IN USE | IPS RESERVED | IPS FREE          |\n\
         +----------+-------------+------------+------------+--------------+-------------------+\n\
         | IP Pool  | 10.0.0.0/16 |      65536 |     3 (0%) |       0 (0%) |      65533 (100%) |\n\
         | IP Pool  | fd00::/64   | 1.8447e+19 |     0 (0%) |       0 (0%) | 1.8447e+19 (100%) |\n\
         +----------+-------------+------------+------------+--------------+-------------------+\n",
    );
    let blocks = store.run(&["ipam", "show", "--show-blocks"]);
    let rows: Vec<&str> = blocks
        .out
        .lines()
        .filter(|line| line.starts_with("| Block"))
        .collect();
    assert_eq!(
        rows,
        [
            "| Block    | 10.0.0.0/29    |          8 |    3 (38%) |       0 (0%) |           5 (62%) |",
            "| Block    | 192.168.0.0/29 |          8 |    3 (38%) |       0 (0%) |           5 (62%) |",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address() {
    let store = seeded().await;
    let of = |ip: &str| store.run(&["ipam", "show", "--ip", ip]);
    of("10.0.0.1").printed(
        "IP 10.0.0.1 is in use\nHandle ID: k8s-pod-network.0123abcd\nActive Owner Attributes:\n  namespace: default\n  node: \
         node-2\n  pod: pod-a\n",
    );
    of("10.0.0.2").printed("10.0.0.2 is not assigned\n");
    of("fd00::1").printed("fd00::1 is not assigned\n");
    of("10.0.0.3").failed("", "address 10.0.0.3 is in cooldown\n");
    of("10.0.0.300").failed(
        "Error executing command: invalid IP address specified: 10.0.0.300\n",
        "",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn borrowed_addresses_and_settings() {
    let store = seeded().await;
    let borrowed = store.run(&["ipam", "show", "--show-borrowed"]);
    assert!(
        borrowed.out.contains("| 10.0.0.1    | node-2         | 10.0.0.0/29    | node-1      | pod               | default/pod-a |"),
        "{}",
        borrowed.out
    );
    store.put(
        "/calico/ipam/v2/config",
        r#"{"strict_affinity":true,"auto_allocate_blocks":true,"maxBlocksPerHost":4}"#,
    );
    store.run(&["ipam", "show", "--show-configuration"]).printed(
        "+------------------------------+---------+\n\
         | PROPERTY                     | VALUE   |\n\
         +------------------------------+---------+\n\
         | StrictAffinity               | true    |\n\
         | AutoAllocateBlocks           | true    |\n\
         | MaxBlocksPerHost             | 4       |\n\
         | KubeVirtVMAddressPersistence | Enabled |\n\
         | IPCooldownSeconds            | 0       |\n\
         +------------------------------+---------+\n",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_pool_gives_up_its_blocks() {
    let store = seeded().await;
    store.put(
        "/calico/ipam/v2/host/node-1/ipv4/block/10.0.0.0-29",
        r#"{"state":"confirmed","deleted":false}"#,
    );
    store
        .run(&["delete", "ippool", "a"])
        .printed("Successfully deleted 1 'IPPool' resource(s)\n");
    let keys = store.keys();
    assert!(
        !keys
            .iter()
            .any(|key| key.contains("/ipam/v2/host/") || key.ends_with("/ippools/a")),
        "{keys:?}"
    );
    // Its addresses stay with their owners, in a block of nobody.
    let block = store.stored("/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-29");
    assert!(
        block.contains("\"affinity\":null") && block.contains("k8s-pod-network.0123abcd"),
        "{block}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_node_releases_what_it_has() {
    let store = seeded().await;
    let resources = "kind: Node\napiVersion: projectcalico.org/v3\nmetadata: {name: node-1}\nspec: {bgp: \
                     {ipv4IPIPTunnelAddr: 10.0.0.0}}\n---\nkind: WorkloadEndpoint\napiVersion: \
                     projectcalico.org/v3\nspec: {orchestrator: k8s, node: node-1, pod: pod-a, endpoint: eth0, \
                     interfaceName: cali1, ipNetworks: [10.0.0.1/32]}\n---\nkind: BGPPeer\napiVersion: \
                     projectcalico.org/v3\nmetadata: {name: p}\nspec: {node: node-1, peerIP: 192.0.2.1, asNumber: 1}\n";
    store
        .run_with_input(&["create", "-f", "-"], resources)
        .printed("Successfully created 3 resource(s)\n");
    store.put("/calico/ipam/v2/config", r#"{"auto_allocate_blocks":true}"#);
    store.put(
        "/calico/ipam/v2/host/node-1/ipv4/block/10.0.0.0-29",
        r#"{"state":"confirmed","deleted":false}"#,
    );
    store
        .run(&["delete", "node", "node-1"])
        .printed("Successfully deleted 1 'Node' resource(s)\n");
    let keys = store.keys();
    for gone in [
        "/nodes/",
        "/workloadendpoints/",
        "/bgppeers/",
        "/ipam/v2/host/",
        "ipv4/block/10.0.0.0-29",
    ] {
        assert!(!keys.iter().any(|key| key.contains(gone)), "{gone}: {keys:?}");
    }
}
