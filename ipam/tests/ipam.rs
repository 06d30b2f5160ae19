//! IPAM's behaviour, each scenario on a real etcd and on the embedded server.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod store;

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::ipam_model::{Affinity, AffinityState, IpamConfig};
use api::v3::ip_pool::AllowedUse;
use api::{BgpPeer, IpPool, Node, ObjectMeta, WorkloadEndpoint};
use datastore::Key;
use datastore::key::{AffinityKey, AffinityList, BlockKey, BlockList, HandleKey, IpamConfigKey};
use ipam::block::Release;
use ipam::{AffinityType, AssignIpRequest, AutoAssignRequest, Error, block};
use ipnet::IpNet;
use store::Fabric;

on_both_stores!(
    a_first_address_claims_a_block,
    both_families_of_one_workload,
    hosts_have_their_own_blocks,
    a_full_pool_is_borrowed_from,
    strict_affinity_does_not_borrow,
    the_block_limit_is_kept,
    one_address_in_particular,
    addresses_are_released,
    a_handle_is_released,
    blocks_outlive_their_host,
    what_a_crash_left_is_mended,
    empty_blocks_of_others_are_reclaimed,
    released_addresses_cool_down,
    unknown_members_survive,
    a_pool_that_moves_on_gets_its_blocks_back,
    a_malformed_block_is_named_and_passed_over,
    pools_and_nodes_are_deleted_with_all_that_hangs_on_them,
    figures_add_up,
    settings_are_checked,
);

fn request(host: &str, handle: &str, ipv4: usize) -> AutoAssignRequest {
    AutoAssignRequest {
        ipv4,
        attributes: BTreeMap::from([("node".to_owned(), host.to_owned())]),
        ..AutoAssignRequest::for_workload(host, handle)
    }
}

fn one(host: &str, address: &str, handle: &str) -> AssignIpRequest {
    AssignIpRequest {
        address: address.parse().unwrap(),
        handle: Some(handle.into()),
        attributes: BTreeMap::new(),
        host: host.into(),
        intended_use: Some(AllowedUse::Workload),
    }
}

async fn take(f: &Fabric, host: &str, handle: &str, count: usize) -> Vec<IpNet> {
    f.ipam
        .auto_assign(&request(host, handle, count))
        .await
        .unwrap()
        .ipv4
        .unwrap()
        .addresses
}

async fn affinities(f: &Fabric, host: &str) -> Vec<(IpNet, AffinityState)> {
    let list = AffinityList {
        host: Some(host.into()),
        ..AffinityList::default()
    };
    f.client
        .list(&list)
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|kv| (kv.key.cidr, kv.value.state()))
        .collect()
}

async fn block_of(f: &Fabric, address: IpAddr, size: u8) -> datastore::Kv<BlockKey> {
    f.client
        .get(&BlockKey::new(block::containing(address, size).unwrap()))
        .await
        .unwrap()
}

async fn raw(f: &Fabric, path: &str) -> serde_json::Value {
    let (_, kv) = f.client.etcd().get(path, None).await.unwrap();
    serde_json::from_slice(&kv.unwrap_or_else(|| panic!("{path}")).value).unwrap()
}

async fn a_first_address_claims_a_block(f: &Fabric) {
    f.node("n1", &[]).await;
    f.pool("p", "10.0.0.0/16", |_| {}).await;
    let taken = take(f, "n1", "net.c1", 1).await;
    assert_eq!(taken[0].prefix_len(), 26);
    let cidr = taken[0].trunc();
    assert_eq!(taken[0].addr(), cidr.addr(), "the first address of the block");

    assert_eq!(affinities(f, "n1").await, [(cidr, AffinityState::Confirmed)]);
    let name = cidr.to_string().replace('/', "-");
    let affinity = raw(f, &format!("/calico/ipam/v2/host/n1/ipv4/block/{name}")).await;
    assert_eq!(
        affinity,
        serde_json::json!({"state": "confirmed", "deleted": false})
    );
    let handle = raw(f, "/calico/ipam/v2/handle/net.c1").await;
    assert_eq!(
        handle,
        serde_json::json!({"block": {cidr.to_string(): 1}, "deleted": false})
    );
    let stored = raw(f, &format!("/calico/ipam/v2/assignment/ipv4/block/{name}")).await;
    assert_eq!(stored["affinity"], "host:n1");
    assert_eq!(stored["affinity_claim_time"], "2026-08-22T10:11:12Z");
    assert_eq!(stored["allocations"][0], 0);
    assert_eq!(stored["unallocated"][0], 1);
    assert_eq!(
        stored["attributes"],
        serde_json::json!([{"handle_id": "net.c1", "secondary": {"node": "n1"}}])
    );
    let born = stored["sequenceNumberForAllocation"]["0"].as_u64().unwrap();
    assert_eq!(born, 1_787_393_472_000_000_000);
    assert_eq!(stored["sequenceNumber"].as_u64().unwrap(), born + 1);

    // The second comes from the same block.
    assert_eq!(take(f, "n1", "net.c2", 1).await[0].trunc(), cidr);
    assert_eq!(f.ipam.ips_by_handle("net.c1").await.unwrap(), [taken[0].addr()]);
    assert!(f.ipam.ips_by_handle("net.none").await.unwrap_err().is_missing());
}

async fn both_families_of_one_workload(f: &Fabric) {
    f.node("n1", &[]).await;
    f.pool("p4", "10.0.0.0/16", |_| {}).await;
    f.pool("p6", "fd00::/112", |_| {}).await;
    let result = f
        .ipam
        .auto_assign(&AutoAssignRequest {
            ipv6: 2,
            ..request("n1", "net.c1", 1)
        })
        .await
        .unwrap();
    let (v4, v6) = (result.ipv4.unwrap(), result.ipv6.unwrap());
    assert_eq!((v4.addresses.len(), v6.addresses.len()), (1, 2));
    assert!(v4.shortfall().is_none() && v6.shortfall().is_none());
    assert_eq!(v6.addresses[0].prefix_len(), 122);
    assert_eq!(f.ipam.ips_by_handle("net.c1").await.unwrap().len(), 3);
    assert_eq!(f.ipam.release_by_handle("net.c1").await.unwrap(), 3);
    assert!(
        f.client
            .get(&HandleKey::new("net.c1"))
            .await
            .unwrap_err()
            .is_does_not_exist()
    );
    let missing = f
        .ipam
        .auto_assign(&request("n2", "net.c2", 1))
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(missing, "resource does not exist: Node(n2) with error: <nil>");
}

async fn hosts_have_their_own_blocks(f: &Fabric) {
    f.pool("p", "10.0.0.0/24", |_| {}).await;
    let mut blocks = Vec::new();
    for host in ["n1", "n2", "n3", "n4"] {
        f.node(host, &[]).await;
        blocks.push(take(f, host, host, 1).await[0].trunc());
    }
    blocks.sort();
    blocks.dedup();
    assert_eq!(blocks.len(), 4);
    // Every block is claimed: a fifth host borrows, and the block stays its owner's.
    f.node("n5", &[]).await;
    let borrowed = take(f, "n5", "n5", 1).await[0];
    assert!(affinities(f, "n5").await.is_empty());
    let owner = f.ipam.owner_of(borrowed.addr()).await.unwrap().unwrap();
    assert_ne!(owner.block_affinity.as_deref(), Some("host:n5"));
    assert_eq!(owner.attributes["node"], "n5");
}

async fn a_full_pool_is_borrowed_from(f: &Fabric) {
    f.node("n1", &[]).await;
    f.node("n2", &[]).await;
    f.pool("p", "10.0.0.0/29", |p| p.spec.block_size = 30).await;
    assert_eq!(take(f, "n1", "a", 1).await.len(), 1);
    let result = f
        .ipam
        .auto_assign(&request("n2", "b", 8))
        .await
        .unwrap()
        .ipv4
        .unwrap();
    assert_eq!(result.addresses.len(), 7);
    assert_eq!(
        result.shortfall().unwrap().to_string(),
        "Assigned 7 out of 8 requested IPv4 addresses; No IPs available in pools: [10.0.0.0/29]"
    );
}

async fn strict_affinity_does_not_borrow(f: &Fabric) {
    f.node("n1", &[]).await;
    f.node("n2", &[]).await;
    f.pool("p", "10.0.0.0/29", |p| p.spec.block_size = 30).await;
    f.ipam
        .set_config(&IpamConfig {
            strict_affinity: true,
            ..IpamConfig::default()
        })
        .await
        .unwrap();
    assert_eq!(take(f, "n1", "a", 1).await.len(), 1);
    let result = f
        .ipam
        .auto_assign(&request("n2", "b", 6))
        .await
        .unwrap()
        .ipv4
        .unwrap();
    assert_eq!(result.addresses.len(), 4);
    assert_eq!(
        result.shortfall().unwrap().to_string(),
        "Assigned 4 out of 6 requested IPv4 addresses; No more free affine blocks and strict affinity enabled"
    );
    let n1 = affinities(f, "n1").await[0].0;
    let theirs = n1.hosts().last().unwrap().to_string();
    assert!(matches!(
        f.ipam.assign_ip(&one("n2", &theirs, "c")).await,
        Err(Error::AffinityMismatch { .. })
    ));
    f.ipam.assign_ip(&one("n1", &theirs, "c")).await.unwrap();
}

async fn the_block_limit_is_kept(f: &Fabric) {
    f.node("n1", &[]).await;
    f.pool("p", "10.0.0.0/24", |p| p.spec.block_size = 30).await;
    f.pool("p6", "fd00::/120", |_| {}).await;
    let limited = AutoAssignRequest {
        blocks_per_host_max: 2,
        ipv6: 1,
        ..request("n1", "a", 12)
    };
    let result = f.ipam.auto_assign(&limited).await.unwrap();
    let v4 = result.ipv4.unwrap();
    assert!(v4.block_limit_reached && result.ipv6.is_none());
    assert_eq!(
        v4.shortfall().unwrap().to_string(),
        "Assigned 8 out of 12 requested IPv4 addresses; Need to allocate an IPAM block but could not - limit of 2 \
         blocks reached for this node"
    );
    // The configuration's limit, and the default of 20.
    f.ipam
        .set_config(&IpamConfig {
            strict_affinity: true,
            max_blocks_per_host: 3,
            ..IpamConfig::default()
        })
        .await
        .unwrap();
    assert_eq!(take(f, "n1", "b", 12).await.len(), 4);
    f.ipam.set_config(&IpamConfig::default()).await.unwrap();
    assert_eq!(take(f, "n1", "c", 100).await.len(), 17 * 4);
    // Without automatic claims, only what the host has.
    f.ipam
        .set_config(&IpamConfig {
            strict_affinity: true,
            auto_allocate_blocks: false,
            ..IpamConfig::default()
        })
        .await
        .unwrap();
    f.node("n2", &[]).await;
    assert!(matches!(
        f.ipam.auto_assign(&request("n2", "d", 1)).await,
        Err(Error::NoBlockClaimed)
    ));
}

async fn one_address_in_particular(f: &Fabric) {
    f.node("n1", &[]).await;
    f.node("n2", &[]).await;
    f.pool("p", "10.0.0.0/24", |p| {
        p.spec.node_selector = "nothing == 'selected'".into()
    })
    .await;
    f.pool("t", "10.0.1.0/24", |p| {
        p.spec.allowed_uses = vec![AllowedUse::Tunnel]
    })
    .await;
    f.pool("off", "10.0.2.0/24", |p| p.spec.disabled = true).await;
    f.ipam.assign_ip(&one("n1", "10.0.0.70", "a")).await.unwrap();
    assert_eq!(
        affinities(f, "n1").await,
        [("10.0.0.64/26".parse().unwrap(), AffinityState::Confirmed)]
    );
    let again = f.ipam.assign_ip(&one("n1", "10.0.0.70", "a")).await.unwrap_err();
    assert!(
        again.to_string().contains("Address already assigned in block"),
        "{again}"
    );
    // From the block of another host.
    f.ipam.assign_ip(&one("n2", "10.0.0.71", "b")).await.unwrap();
    assert!(affinities(f, "n2").await.is_empty());
    assert!(matches!(
        f.ipam.assign_ip(&one("n1", "10.0.1.1", "a")).await,
        Err(Error::UseNotAllowed { .. })
    ));
    for outside in ["10.0.2.1", "192.0.2.1", "fd00::1"] {
        assert!(
            matches!(
                f.ipam.assign_ip(&one("n1", outside, "a")).await,
                Err(Error::NotInPool(_))
            ),
            "{outside}"
        );
    }
    f.ipam
        .assign_ip(&AssignIpRequest {
            intended_use: None,
            ..one("n1", "10.0.1.1", "a")
        })
        .await
        .unwrap();
    assert_eq!(f.ipam.release_by_handle("a").await.unwrap(), 2);
}

async fn addresses_are_released(f: &Fabric) {
    f.node("n1", &[]).await;
    f.pool("p", "10.0.0.0/24", |_| {}).await;
    let taken: Vec<IpAddr> = take(f, "n1", "a", 4).await.iter().map(IpNet::addr).collect();
    let nobody: IpAddr = "10.0.0.255".parse().unwrap();
    let outside: IpAddr = "192.0.2.1".parse().unwrap();

    let wrong = Release {
        handle: Some("b".into()),
        ..Release::address(taken[0])
    };
    let result = f.ipam.release_ips(&[wrong]).await.unwrap();
    assert!(matches!(result.error, Some(Error::BadHandle { .. })));
    let stale = Release {
        sequence_number: Some(7),
        ..Release::address(taken[0])
    };
    let result = f.ipam.release_ips(&[stale]).await.unwrap();
    assert!(matches!(result.error, Some(Error::BadSequenceNumber { .. })));
    assert_eq!(f.ipam.ips_by_handle("a").await.unwrap().len(), 4);

    let sequence = block_of(f, taken[0], 26)
        .await
        .value
        .sequence_number_for_allocation["0"];
    let exact = Release {
        handle: Some("a".into()),
        sequence_number: Some(sequence),
        ..Release::address(taken[0])
    };
    let requests = [
        exact,
        Release::address(taken[1]),
        Release::address(taken[1]),
        Release::address(nobody),
        Release::address(outside),
    ];
    let mut result = f.ipam.release_ips(&requests).await.unwrap();
    assert!(result.error.is_none());
    result.released.sort();
    assert_eq!(result.released, taken[..2]);
    assert_eq!(result.unallocated.len(), 2);
    assert_eq!(f.ipam.ips_by_handle("a").await.unwrap(), taken[2..]);
    assert_eq!(
        raw(f, "/calico/ipam/v2/handle/a").await["block"]
            .as_object()
            .unwrap()
            .values()
            .next()
            .unwrap(),
        2
    );

    // What was given back comes last.
    let next = take(f, "n1", "b", 1).await[0].addr();
    assert!(!taken.contains(&next));
    f.ipam
        .release_ips(&[Release::address(taken[2]), Release::address(taken[3])])
        .await
        .unwrap();
    assert!(
        f.client
            .get(&HandleKey::new("a"))
            .await
            .unwrap_err()
            .is_does_not_exist()
    );

    // Also where the pool is gone.
    f.resources.delete::<IpPool>("", "p", "").await.unwrap();
    let result = f.ipam.release_ips(&[Release::address(next)]).await.unwrap();
    assert_eq!(result.released, [next]);
}

async fn a_handle_is_released(f: &Fabric) {
    f.node("n1", &[]).await;
    f.pool("p", "10.0.0.0/24", |p| p.spec.block_size = 30).await;
    assert_eq!(take(f, "n1", "a", 7).await.len(), 7);
    assert_eq!(f.ipam.release_by_handle("a").await.unwrap(), 7);
    assert!(f.ipam.release_by_handle("a").await.unwrap_err().is_missing());
    // Blocks with an affinity stay.
    assert_eq!(f.client.list(&BlockList::default()).await.unwrap().items.len(), 2);
    // A handle that counts too much (a writer died) is no obstacle.
    f.client
        .create(
            HandleKey::new("b"),
            &api::ipam_model::Handle {
                block: BTreeMap::from([("10.0.0.0/30".into(), 3)]),
                deleted: false,
            },
        )
        .await
        .unwrap();
    assert_eq!(f.ipam.release_by_handle("b").await.unwrap(), 0);
}

async fn blocks_outlive_their_host(f: &Fabric) {
    f.node("n1", &[]).await;
    f.pool("p", "10.0.0.0/24", |p| p.spec.block_size = 30).await;
    let taken = take(f, "n1", "a", 5).await;
    f.ipam
        .release_ips(&[Release::address(taken[4].addr())])
        .await
        .unwrap();
    let refused = f
        .ipam
        .release_host_affinities("n1", AffinityType::Host, true)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("is not empty"), "{refused}");
    // The empty one went.
    assert_eq!(affinities(f, "n1").await.len(), 1);
    f.ipam
        .release_host_affinities("n1", AffinityType::Host, false)
        .await
        .unwrap();
    assert!(affinities(f, "n1").await.is_empty());
    let stored = block_of(f, taken[0].addr(), 30).await;
    assert!(stored.value.affinity.is_none() && stored.value.affinity_claim_time.is_none());
    assert!(raw(f, &stored.key.path()).await["affinity"].is_null());
    // It goes with its last address.
    assert_eq!(f.ipam.release_by_handle("a").await.unwrap(), 4);
    assert!(
        f.client
            .list(&BlockList::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );

    // Claimed and released by hand.
    let all: IpNet = "10.0.0.0/28".parse().unwrap();
    let claimed = f
        .ipam
        .claim_affinity(all, "n1", AffinityType::Host)
        .await
        .unwrap();
    assert_eq!((claimed.claimed.len(), claimed.failed.len()), (4, 0));
    let claimed = f
        .ipam
        .claim_affinity("10.0.0.0/27".parse().unwrap(), "n2", AffinityType::Host)
        .await
        .unwrap();
    assert_eq!((claimed.claimed.len(), claimed.failed.len()), (4, 4));
    assert_eq!(
        affinities(f, "n2").await.len(),
        4,
        "the claims that failed are withdrawn"
    );
    f.ipam
        .release_affinity("10.0.0.0/27".parse().unwrap(), "n1", AffinityType::Host, true)
        .await
        .unwrap();
    assert!(affinities(f, "n1").await.is_empty());
    assert_eq!(affinities(f, "n2").await.len(), 4);
    for bad in ["10.0.0.0/31", "10.0.0.0/23", "192.0.2.0/24"] {
        let refused = f
            .ipam
            .claim_affinity(bad.parse().unwrap(), "n1", AffinityType::Host)
            .await;
        assert!(matches!(refused, Err(Error::NotAClaimableRange(_))), "{bad}");
    }
}

async fn what_a_crash_left_is_mended(f: &Fabric) {
    f.node("n1", &[]).await;
    f.pool("p", "10.0.0.0/24", |_| {}).await;
    let key = |n: u8| AffinityKey::host("n1", format!("10.0.0.{n}/26").parse().unwrap());
    let state = |state| Affinity::new(state);

    // Before the block was made.
    f.client
        .create(key(64), &state(AffinityState::Pending))
        .await
        .unwrap();
    assert_eq!(take(f, "n1", "a", 1).await[0].trunc(), key(64).cidr);
    assert_eq!(
        affinities(f, "n1").await,
        [(key(64).cidr, AffinityState::Confirmed)]
    );

    // In the middle of a release.
    f.client
        .apply(key(64), &state(AffinityState::PendingDeletion), None)
        .await
        .unwrap();
    let before = f.client.get(&BlockKey::new(key(64).cidr)).await.unwrap();
    assert_eq!(take(f, "n1", "b", 1).await[0].trunc(), key(64).cidr);
    let after = f.client.get(&BlockKey::new(key(64).cidr)).await.unwrap();
    assert_eq!(
        after.value.sequence_number,
        before.value.sequence_number + 2,
        "the block's revision is moved as well"
    );
    assert_eq!(
        affinities(f, "n1").await,
        [(key(64).cidr, AffinityState::Confirmed)]
    );

    // An affinity that the block denies.
    f.client
        .create(
            BlockKey::new(key(0).cidr),
            &block::new(key(0).cidr, Some("host:other".into()), f.clock.now()),
        )
        .await
        .unwrap();
    f.client
        .create(key(0), &state(AffinityState::Confirmed))
        .await
        .unwrap();
    assert_eq!(take(f, "n1", "c", 1).await[0].trunc(), key(64).cidr);
    assert_eq!(affinities(f, "n1").await.len(), 1, "it is removed");

    // Very old data: an empty value is a confirmed affinity.
    f.client.etcd().put(&key(64).path(), b"", None).await.unwrap();
    assert_eq!(take(f, "n1", "d", 1).await[0].trunc(), key(64).cidr);

    // A claim without a block goes with the host.
    f.client
        .create(key(128), &state(AffinityState::Pending))
        .await
        .unwrap();
    f.ipam.remove_host("n1").await.unwrap();
    assert!(affinities(f, "n1").await.is_empty());
}

async fn empty_blocks_of_others_are_reclaimed(f: &Fabric) {
    f.node("n1", &[]).await;
    f.node("n2", &[]).await;
    f.pool("p", "10.0.0.0/30", |p| p.spec.block_size = 30).await;
    take(f, "n1", "a", 1).await;
    f.ipam.release_by_handle("a").await.unwrap();
    // Too young: borrowed from.
    take(f, "n2", "b", 1).await;
    assert!(affinities(f, "n2").await.is_empty());
    f.ipam.release_by_handle("b").await.unwrap();
    f.clock.advance(59);
    take(f, "n2", "b", 1).await;
    assert!(affinities(f, "n2").await.is_empty());
    f.ipam.release_by_handle("b").await.unwrap();
    f.clock.advance(2);
    take(f, "n2", "b", 1).await;
    assert_eq!(affinities(f, "n2").await.len(), 1);
    assert!(affinities(f, "n1").await.is_empty());
}

async fn released_addresses_cool_down(f: &Fabric) {
    f.node("n1", &[]).await;
    f.pool("p", "10.0.0.0/30", |p| p.spec.block_size = 30).await;
    f.ipam
        .set_config(&IpamConfig {
            ip_cooldown_seconds: 30,
            ..IpamConfig::default()
        })
        .await
        .unwrap();
    let taken = take(f, "n1", "a", 4).await;
    assert_eq!(f.ipam.release_by_handle("a").await.unwrap(), 4);
    let stored = block_of(f, taken[0].addr(), 30).await;
    assert_eq!(stored.value.attributes.len(), 1);
    assert_eq!(
        stored.value.attributes[0].released_at.unwrap().to_string(),
        "2026-08-22T10:11:12Z"
    );
    assert!(
        f.ipam
            .owner_of(taken[0].addr())
            .await
            .unwrap()
            .unwrap()
            .cooling_down
    );
    assert_eq!(f.ipam.utilisation(&[]).await.unwrap()[0].in_use, 4);
    assert!(take(f, "n1", "b", 1).await.is_empty());
    let early = f
        .ipam
        .assign_ip(&one("n1", &taken[0].addr().to_string(), "b"))
        .await;
    assert!(matches!(early, Err(Error::AlreadyAssigned(_))));
    let again = f
        .ipam
        .release_ips(&[Release::address(taken[0].addr())])
        .await
        .unwrap();
    assert_eq!(again.unallocated, [taken[0].addr()]);
    f.clock.advance(31);
    assert_eq!(take(f, "n1", "b", 4).await.len(), 4);
}

async fn unknown_members_survive(f: &Fabric) {
    f.node("n1", &[]).await;
    f.pool("p", "10.0.0.0/24", |_| {}).await;
    let taken = take(f, "n1", "a", 1).await;
    let cidr = taken[0].trunc();
    let path = BlockKey::new(cidr).path();
    let invent = |mut value: serde_json::Value| {
        value["colour"] = serde_json::json!({"deep": [1, 18_446_744_073_709_551_615_u64]});
        value
    };
    let mut stored = invent(raw(f, &path).await);
    stored["attributes"][0]["mood"] = "good".into();
    f.client
        .etcd()
        .put(&path, stored.to_string().as_bytes(), None)
        .await
        .unwrap();
    let affinity = AffinityKey::host("n1", cidr).path();
    let handle = HandleKey::new("a").path();
    for path in [&affinity, &handle] {
        let value = invent(raw(f, path).await);
        f.client
            .etcd()
            .put(path, value.to_string().as_bytes(), None)
            .await
            .unwrap();
    }

    f.ipam.auto_assign(&request("n1", "a", 1)).await.unwrap();
    take(f, "n1", "b", 2).await;
    f.ipam.release_by_handle("b").await.unwrap();
    for path in [&path, &affinity, &handle] {
        let value = raw(f, path).await;
        assert_eq!(
            value["colour"]["deep"][1],
            serde_json::json!(18_446_744_073_709_551_615_u64),
            "{path}"
        );
    }
    let value = raw(f, &path).await;
    assert_eq!(value["attributes"][0]["mood"], "good");
    assert_eq!(value["attributes"].as_array().unwrap().len(), 1);
    assert_eq!(raw(f, &handle).await["block"][cidr.to_string()], 2);
}

async fn a_pool_that_moves_on_gets_its_blocks_back(f: &Fabric) {
    f.node("n1", &[("rack", "1")]).await;
    f.pool("a", "10.0.0.0/26", |p| {
        p.spec.node_selector = "rack == '1'".into()
    })
    .await;
    f.pool("b", "10.0.1.0/26", |p| {
        p.spec.node_selector = "rack != '1'".into()
    })
    .await;
    let first = take(f, "n1", "a", 1).await[0];
    assert!(first.addr().to_string().starts_with("10.0.0."));
    f.resources
        .modify::<Node>("", "n1", |node| {
            node.metadata.labels.insert("rack".into(), "2".into());
            true
        })
        .await
        .unwrap();
    // In use: it stays, but gives nothing more.
    assert!(
        take(f, "n1", "b", 1).await[0]
            .addr()
            .to_string()
            .starts_with("10.0.1.")
    );
    assert_eq!(affinities(f, "n1").await.len(), 2);
    // Empty: it goes with the release.
    f.ipam.release_by_handle("a").await.unwrap();
    assert_eq!(affinities(f, "n1").await.len(), 1);
    // Or with the next request.
    f.ipam.release_by_handle("b").await.unwrap();
    f.resources
        .modify::<Node>("", "n1", |node| {
            node.metadata.labels.insert("rack".into(), "1".into());
            true
        })
        .await
        .unwrap();
    take(f, "n1", "c", 1).await;
    assert_eq!(affinities(f, "n1").await.len(), 1);
}

async fn a_malformed_block_is_named_and_passed_over(f: &Fabric) {
    f.node("n1", &[]).await;
    f.pool("p", "10.0.0.0/28", |p| p.spec.block_size = 30).await;
    let taken = take(f, "n1", "a", 1).await[0];
    let key = BlockKey::new(taken.trunc());
    let mut stored = raw(f, &key.path()).await;
    stored["allocations"] = serde_json::json!([0, 9, null, null]);
    f.client
        .etcd()
        .put(&key.path(), stored.to_string().as_bytes(), None)
        .await
        .unwrap();
    let refused = f.ipam.release_by_handle("a").await.unwrap_err().to_string();
    assert!(
        refused.contains(&key.cidr.to_string()) && refused.contains("allocation 1 has attribute 9"),
        "{refused}"
    );
    let next = take(f, "n1", "b", 1).await[0];
    assert_ne!(next.trunc(), key.cidr);
    f.client
        .etcd()
        .put(&key.path(), b"no JSON at all", None)
        .await
        .unwrap();
    assert_eq!(take(f, "n1", "c", 1).await.len(), 1);
    assert_eq!(f.ipam.utilisation(&[]).await.unwrap()[0].blocks.len(), 1);
}

async fn pools_and_nodes_are_deleted_with_all_that_hangs_on_them(f: &Fabric) {
    f.node("n1", &[]).await;
    f.node("n2", &[]).await;
    f.pool("p", "10.0.0.0/24", |p| p.spec.block_size = 30).await;
    f.pool("q", "10.0.1.0/24", |p| p.spec.block_size = 30).await;
    let from = |pool: &str| AutoAssignRequest {
        ipv4_pools: vec![pool.parse().unwrap()],
        ..request("n1", "a", 1)
    };
    let p = f
        .ipam
        .auto_assign(&from("10.0.0.0/24"))
        .await
        .unwrap()
        .ipv4
        .unwrap()
        .addresses[0];
    let q = f
        .ipam
        .auto_assign(&from("10.0.1.0/24"))
        .await
        .unwrap()
        .ipv4
        .unwrap()
        .addresses[0];
    f.ipam.delete_pool("p", "").await.unwrap();
    assert!(
        f.resources
            .get::<IpPool>("", "p")
            .await
            .unwrap_err()
            .is_does_not_exist()
    );
    assert!(block_of(f, p.addr(), 30).await.value.affinity.is_none());
    assert_eq!(affinities(f, "n1").await.len(), 1);
    assert_eq!(
        f.ipam.utilisation(&[]).await.unwrap().last().unwrap().name,
        "orphaned allocation blocks"
    );
    assert!(f.ipam.delete_pool("p", "").await.unwrap_err().is_missing());

    let mut endpoint = WorkloadEndpoint {
        metadata: ObjectMeta::namespaced("ns", ""),
        ..WorkloadEndpoint::default()
    };
    endpoint.spec.orchestrator = "cni".into();
    endpoint.spec.node = "n1".into();
    endpoint.spec.container_id = "c1".into();
    endpoint.spec.endpoint = "eth0".into();
    endpoint.spec.interface_name = "cali1".into();
    endpoint.spec.ip_networks = vec![format!("{}/32", q.addr()), format!("{}/32", p.addr())];
    f.resources.create(endpoint).await.unwrap();
    for (name, node) in [("of-n1", "n1"), ("of-n2", "n2")] {
        let mut peer = BgpPeer {
            metadata: ObjectMeta::named(name),
            ..BgpPeer::default()
        };
        peer.spec.node = node.into();
        peer.spec.peer_ip = "192.0.2.1".into();
        peer.spec.as_number = "64512".parse().unwrap();
        f.resources.create(peer).await.unwrap();
    }
    f.ipam.delete_node("n1", "").await.unwrap();
    assert!(
        f.resources
            .get::<Node>("", "n1")
            .await
            .unwrap_err()
            .is_does_not_exist()
    );
    assert!(
        f.resources
            .list_all::<WorkloadEndpoint>()
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(f.resources.list_all::<BgpPeer>().await.unwrap().len(), 1);
    assert!(
        f.client
            .list(&BlockList::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(affinities(f, "n1").await.is_empty());
    assert!(
        f.client
            .get(&HandleKey::new("a"))
            .await
            .unwrap_err()
            .is_does_not_exist()
    );
}

async fn figures_add_up(f: &Fabric) {
    f.node("n1", &[]).await;
    f.pool("p4", "10.65.0.0/16", |_| {}).await;
    f.pool("p6", "fd00::/64", |_| {}).await;
    let result = f
        .ipam
        .auto_assign(&AutoAssignRequest {
            ipv6: 1,
            ..request("n1", "a", 5)
        })
        .await
        .unwrap();
    let pools = f.ipam.utilisation(&[]).await.unwrap();
    assert_eq!(pools.len(), 2);
    assert_eq!(
        (pools[0].capacity, pools[0].in_use, pools[0].available),
        (65536, 5, 65531)
    );
    assert_eq!((pools[1].capacity, pools[1].in_use), (1 << 64, 1));
    let block = &pools[0].blocks[0];
    assert_eq!((block.capacity, block.in_use, block.available), (64, 5, 59));
    assert_eq!(block.affinity.as_deref(), Some("host:n1"));
    assert_eq!(f.ipam.utilisation(&["fd00::/64".into()]).await.unwrap().len(), 1);
    assert_eq!(f.ipam.utilisation(&["p4".into()]).await.unwrap()[0].name, "p4");

    let owner = f
        .ipam
        .owner_of(result.ipv6.unwrap().addresses[0].addr())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(owner.handle.as_deref(), Some("a"));
    assert!(
        f.ipam
            .owner_of("10.65.255.255".parse().unwrap())
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        f.ipam
            .owner_of("192.0.2.1".parse().unwrap())
            .await
            .unwrap()
            .is_none()
    );
}

async fn settings_are_checked(f: &Fabric) {
    assert_eq!(f.ipam.config().await.unwrap(), IpamConfig::default());
    f.ipam.set_config(&IpamConfig::default()).await.unwrap();
    assert!(
        f.client
            .get(&IpamConfigKey)
            .await
            .unwrap_err()
            .is_does_not_exist(),
        "unchanged is not written"
    );
    let neither = IpamConfig {
        auto_allocate_blocks: false,
        ..IpamConfig::default()
    };
    let refused = f.ipam.set_config(&neither).await.unwrap_err().to_string();
    assert_eq!(
        refused,
        "Cannot disable 'StrictAffinity' and 'AutoAllocateBlocks' at the same time"
    );
    let limit = IpamConfig {
        max_blocks_per_host: 1,
        ..IpamConfig::default()
    };
    let refused = f.ipam.set_config(&limit).await.unwrap_err().to_string();
    assert_eq!(refused, "MaxBlocksPerHost requires StrictAffinity to be enabled");
    // A stored `{}` is not the default.
    f.client
        .etcd()
        .put(&IpamConfigKey.path(), b"{}", None)
        .await
        .unwrap();
    assert!(!f.ipam.config().await.unwrap().auto_allocate_blocks);
}
