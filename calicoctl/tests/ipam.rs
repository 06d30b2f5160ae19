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
