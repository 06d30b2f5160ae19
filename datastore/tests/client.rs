//! The typed client and the resource layer against a real etcd and our own store.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod store;

use api::{
    ClusterInformation, GlobalNetworkPolicy, IpPool, Kind, NetworkPolicy, Node, ObjectMeta, Profile, Tier,
    WorkloadEndpoint,
};
use datastore::client::etcd::PAGE_KEYS;
use datastore::key::{BlockKey, BlockList, HandleKey, IpamConfigKey, KeyRange, ResourceKey, ResourceList};
use datastore::{Error, Key, Resources};
use futures::StreamExt;
use store::Store;

on_both_stores!(
    single_key_compare_and_swap,
    lists_are_whole_and_pass_over_what_cannot_be_read,
    resources_carry_calicos_metadata,
    pools_may_not_overlap_or_change,
    tiers_and_policies,
    the_static_profile_is_read_but_never_written,
    unknown_members_outlive_updates,
    creating_a_node_initialises_the_datastore,
    workload_endpoints_are_listed_by_prefix,
    a_store_that_is_away_is_an_error_that_names_it,
    two_endpoints_of_which_one_is_dead
);

fn pool(name: &str, cidr: &str) -> IpPool {
    let mut pool = IpPool {
        metadata: ObjectMeta::named(name),
        ..IpPool::default()
    };
    pool.spec.cidr = cidr.into();
    pool
}

async fn single_key_compare_and_swap(store: Store) {
    let client = store.client().await;
    let key = HandleKey::new("net.0123");
    assert!(client.is_clean().await.unwrap());

    let mut handle = api::ipam_model::Handle::default();
    handle.block.insert("10.0.0.0/26".into(), 1);
    let created = client.create(key.clone(), &handle).await.unwrap();
    assert_eq!(
        store
            .etcdctl(&["get", "--print-value-only", "/calico/ipam/v2/handle/net.0123"])
            .trim(),
        r#"{"block":{"10.0.0.0/26":1},"deleted":false}"#
    );
    let again = client.create(key.clone(), &handle).await.unwrap_err();
    assert_eq!(
        again.to_string(),
        "resource already exists: IPAMHandleKey(id=net.0123) with error: <nil>"
    );

    let mut first = client.get(&key).await.unwrap();
    assert_eq!(first.revision, created.revision);
    let mut second = first.clone();
    first.value.block.insert("10.0.0.0/26".into(), 2);
    let written = client.update(&first).await.unwrap();
    assert!(written.revision > first.revision);
    assert_eq!(client.get(&key).await.unwrap().revision, written.revision);
    second.value.block.clear();
    assert_eq!(
        client.update(&second).await.unwrap_err().to_string(),
        "update conflict: IPAMHandleKey(id=net.0123)"
    );
    assert_eq!(
        client.get_at(&key, Some(created.revision)).await.unwrap().value,
        handle
    );

    assert!(
        client
            .delete(&key, Some(created.revision))
            .await
            .unwrap_err()
            .is_conflict()
    );
    assert_eq!(
        client.delete(&key, Some(written.revision)).await.unwrap().value,
        first.value
    );
    assert!(client.delete(&key, None).await.unwrap_err().is_does_not_exist());
    assert!(client.update(&first).await.unwrap_err().is_does_not_exist());
    assert!(client.get(&key).await.unwrap_err().is_does_not_exist());

    client
        .apply(IpamConfigKey, &api::ipam_model::IpamConfig::default(), None)
        .await
        .unwrap();
    assert!(!client.is_clean().await.unwrap());
    client.clean().await.unwrap();
    assert!(client.is_clean().await.unwrap());
}

async fn lists_are_whole_and_pass_over_what_cannot_be_read(store: Store) {
    let client = store.client().await;
    let blocks = usize::try_from(PAGE_KEYS).unwrap() * 2 + 7;
    futures::stream::iter(0..blocks)
        .map(|i| {
            let cidr = format!("10.{}.{}.0/26", i / 256, i % 256);
            let path = BlockKey::new(cidr.parse().unwrap()).path();
            let client = client.clone();
            async move {
                let value = format!(r#"{{"cidr":"{cidr}"}}"#);
                client.etcd().put(&path, value.as_bytes(), None).await.unwrap();
            }
        })
        .buffer_unordered(128)
        .count()
        .await;
    let bad = "/calico/ipam/v2/assignment/ipv4/block/11.0.0.0-26";
    client.etcd().put(bad, b"{\"cidr\":17}", None).await.unwrap();
    client
        .etcd()
        .put("/calico/ipam/v2/assignment/ipv4/elsewhere", b"{}", None)
        .await
        .unwrap();

    let listed = client.list(&BlockList::default()).await.unwrap();
    assert_eq!(listed.items.len(), blocks);
    assert!(listed.items.is_sorted_by_key(|kv| kv.key.path()));
    let error = client.get(&BlockKey::parse(bad).unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Unreadable { .. }), "{error}");
    assert!(
        error.to_string().contains(bad) && error.to_string().contains("cidr"),
        "{error}"
    );

    let (_, raw) = client
        .etcd()
        .list(&KeyRange::Prefix("/calico/".into()), None)
        .await
        .unwrap();
    assert_eq!(raw.len(), blocks + 2);
}

async fn resources_carry_calicos_metadata(store: Store) {
    let resources = Resources::new(store.client().await);
    let created = resources.create(pool("pool-a", "10.0.0.0/16")).await.unwrap();
    assert_eq!(created.metadata.uid.len(), 36);
    assert!(created.metadata.creation_timestamp.is_some());
    assert_eq!(created.spec.block_size, 26);
    let stored: serde_json::Value = serde_json::from_str(&store.etcdctl(&[
        "get",
        "--print-value-only",
        "/calico/resources/v3/projectcalico.org/ippools/pool-a",
    ]))
    .unwrap();
    assert_eq!(stored["kind"], "IPPool");
    assert_eq!(stored["apiVersion"], "projectcalico.org/v3");
    assert!(stored["metadata"].get("resourceVersion").is_none());

    let mut again = pool("pool-a", "10.0.0.0/16");
    assert_eq!(
        resources.create(again.clone()).await.unwrap_err().to_string(),
        "resource already exists: IPPool(pool-a) with error: <nil>"
    );
    again.metadata.resource_version = "7".into();
    assert!(
        resources
            .create(again.clone())
            .await
            .unwrap_err()
            .to_string()
            .contains("field must not be set for a Create request")
    );
    let error = resources.update(again).await.unwrap_err().to_string();
    assert!(
        error.contains("Metadata.UID") && error.contains("Metadata.CreationTimestamp"),
        "{error}"
    );

    let mut changed = created.clone();
    changed.spec.nat_outgoing = true;
    let updated = resources.update(changed.clone()).await.unwrap();
    assert_ne!(
        updated.metadata.resource_version,
        created.metadata.resource_version
    );
    assert_eq!(
        resources.update(changed).await.unwrap_err().to_string(),
        "update conflict: IPPool(pool-a)"
    );
    let read: IpPool = resources.get("", "pool-a").await.unwrap();
    assert_eq!(read, updated);

    assert!(
        resources
            .delete::<IpPool>("", "pool-a", &created.metadata.resource_version)
            .await
            .unwrap_err()
            .is_conflict()
    );
    assert!(
        resources
            .delete::<IpPool>("", "pool-a", "x")
            .await
            .unwrap_err()
            .to_string()
            .contains("ResourceVersion")
    );
    resources
        .delete::<IpPool>("", "pool-a", &updated.metadata.resource_version)
        .await
        .unwrap();
    assert_eq!(
        resources
            .get::<IpPool>("", "pool-a")
            .await
            .unwrap_err()
            .to_string(),
        "resource does not exist: IPPool(pool-a) with error: <nil>"
    );
}

async fn pools_may_not_overlap_or_change(store: Store) {
    let resources = Resources::new(store.client().await);
    let a = resources.create(pool("a", "10.0.0.0/16")).await.unwrap();
    let error = resources
        .create(pool("b", "10.0.1.0/24"))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("IPPool(b) CIDR overlaps with IPPool(a) CIDR 10.0.0.0/16"),
        "{error}"
    );

    let mut moved = a.clone();
    moved.spec.cidr = "10.1.0.0/16".into();
    moved.spec.block_size = 28;
    let error = resources.update(moved).await.unwrap_err().to_string();
    assert!(
        error.contains("IPPool CIDR cannot be modified")
            && error.contains("IPPool BlockSize cannot be modified"),
        "{error}"
    );

    let block = "/calico/ipam/v2/assignment/ipv4/block/10.2.0.0-28";
    resources
        .client()
        .etcd()
        .put(block, b"{\"cidr\":\"10.2.0.0/28\"}", None)
        .await
        .unwrap();
    let error = resources
        .create(pool("c", "10.2.0.0/16"))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error
            .contains("IPPool blocksSize conflicts with existing allocations that use a different blockSize"),
        "{error}"
    );
}

async fn tiers_and_policies(store: Store) {
    let resources = Resources::new(store.client().await);
    resources.ensure_initialized("v3.32.0", "bgp").await.unwrap();
    resources.ensure_initialized("", "").await.unwrap();
    let information: ClusterInformation = resources.get("", "default").await.unwrap();
    assert_eq!(information.spec.datastore_ready, Some(true));
    assert_eq!(information.spec.cluster_guid.len(), 32);
    assert_eq!(resources.list_all::<Tier>().await.unwrap().len(), 3);

    let mut policy = GlobalNetworkPolicy {
        metadata: ObjectMeta::named("allow-web"),
        ..GlobalNetworkPolicy::default()
    };
    policy.spec.tier = "security".into();
    let error = resources.create(policy.clone()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "resource does not exist: Tier(security) with error: <nil>"
    );
    let mut tier = Tier {
        metadata: ObjectMeta::named("security"),
        ..Tier::default()
    };
    tier.spec.order = Some(100.0);
    resources.create(tier).await.unwrap();
    let created = resources.create(policy).await.unwrap();
    assert_eq!(created.metadata.labels["projectcalico.org/tier"], "security");
    assert!(created.metadata.annotations.is_empty());
    let stored = store.etcdctl(&[
        "get",
        "--print-value-only",
        "/calico/resources/v3/projectcalico.org/globalnetworkpolicies/allow-web",
    ]);
    assert!(
        stored.contains(r#""projectcalico.org/metadata":"{\"name\":\"allow-web\"}""#),
        "{stored}"
    );

    let error = resources
        .delete::<Tier>("", "security", "")
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("Cannot delete a non-empty tier"), "{error}");
    let error = resources
        .delete::<Tier>("", "default", "")
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("Cannot delete default tier"), "{error}");
    resources
        .delete::<GlobalNetworkPolicy>("", "allow-web", "")
        .await
        .unwrap();
    resources.delete::<Tier>("", "security", "").await.unwrap();

    let mut namespaced = NetworkPolicy {
        metadata: ObjectMeta::named("x"),
        ..NetworkPolicy::default()
    };
    assert_eq!(
        resources
            .create(namespaced.clone())
            .await
            .unwrap_err()
            .to_string(),
        "insufficient identifiers, missing 'Namespace'"
    );
    namespaced.metadata.namespace = "ns".into();
    resources.apply(namespaced.clone()).await.unwrap();
    namespaced.spec.order = Some(5.0);
    let applied = resources.apply(namespaced).await.unwrap();
    assert_eq!(applied.spec.order, Some(5.0));
    let listed = resources
        .list_any(Kind::NetworkPolicy, Some("ns"), None)
        .await
        .unwrap();
    assert_eq!(listed.items.len(), 1);
    assert!(
        resources
            .list(&ResourceList::<NetworkPolicy>::in_namespace("other"))
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

async fn the_static_profile_is_read_but_never_written(store: Store) {
    let resources = Resources::new(store.client().await);
    let profile: Profile = resources.get("", "projectcalico-default-allow").await.unwrap();
    assert_eq!(profile.spec.egress.len(), 1);
    assert_eq!(resources.list_all::<Profile>().await.unwrap().len(), 1);
    assert!(
        resources
            .create(profile.clone())
            .await
            .unwrap_err()
            .is_already_exists()
    );
    assert!(matches!(
        resources.update(profile).await.unwrap_err(),
        Error::Unsupported { .. }
    ));
    let deleted = resources
        .delete::<Profile>("", "projectcalico-default-allow", "")
        .await;
    assert!(matches!(deleted.unwrap_err(), Error::Unsupported { .. }));
}

async fn unknown_members_outlive_updates(store: Store) {
    let resources = Resources::new(store.client().await);
    let path = ResourceKey::<Node>::named("n").path();
    let value = r#"{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"n","uid":"u",
        "creationTimestamp":"2026-08-22T10:11:12Z","novel":{"a":[1]}},
        "spec":{"bgp":{"ipv4Address":"10.0.0.1/24","flavour":"sweet"},"speed":18446744073709551615},"status":{"mood":"good"}}"#;
    resources
        .client()
        .etcd()
        .put(&path, value.as_bytes(), None)
        .await
        .unwrap();

    let mut node: Node = resources.get("", "n").await.unwrap();
    node.spec.bgp.as_mut().unwrap().ipv4_address = "10.0.0.2/24".into();
    resources.update(node).await.unwrap();
    resources
        .modify::<Node>("", "n", |node| {
            node.status.wireguard_public_key = "bm90IGEga2V5IGJ1dCAzMiBieXRlcyBsb25nISEhISE=".into();
            true
        })
        .await
        .unwrap();
    let (_, kv) = resources.client().etcd().get(&path, None).await.unwrap();
    let stored: serde_json::Value = serde_json::from_slice(&kv.unwrap().value).unwrap();
    assert_eq!(stored["metadata"]["novel"]["a"][0], 1);
    assert_eq!(stored["spec"]["bgp"]["flavour"], "sweet");
    assert_eq!(stored["spec"]["bgp"]["ipv4Address"], "10.0.0.2/24");
    assert_eq!(
        stored["spec"]["speed"],
        serde_json::json!(18_446_744_073_709_551_615_u64)
    );
    assert_eq!(stored["status"]["mood"], "good");
    assert!(stored["status"]["wireguardPublicKey"].is_string());
}

async fn creating_a_node_initialises_the_datastore(store: Store) {
    let resources = Resources::new(store.client().await);
    let node = Node {
        metadata: ObjectMeta::named("host1"),
        ..Node::default()
    };
    resources.create(node).await.unwrap();
    assert!(resources.get::<ClusterInformation>("", "default").await.is_ok());
}

async fn workload_endpoints_are_listed_by_prefix(store: Store) {
    let resources = Resources::new(store.client().await);
    for (node, pod) in [("node-1", "a"), ("node-1", "b"), ("node-10", "c")] {
        let mut endpoint = WorkloadEndpoint {
            metadata: ObjectMeta::namespaced("ns", ""),
            ..WorkloadEndpoint::default()
        };
        endpoint.spec.orchestrator = "k8s".into();
        endpoint.spec.node = node.into();
        endpoint.spec.pod = pod.into();
        endpoint.spec.endpoint = "eth0".into();
        endpoint.spec.interface_name = format!("cali{pod}");
        endpoint.spec.ip_networks = vec!["10.0.0.1/32".into()];
        let created = resources.create(endpoint).await.unwrap();
        assert_eq!(created.metadata.labels["projectcalico.org/namespace"], "ns");
    }
    let listed = resources
        .list(&ResourceList::<WorkloadEndpoint>::with_prefix(
            "ns",
            "node--1-k8s-",
        ))
        .await
        .unwrap();
    let names: Vec<_> = listed.items.iter().map(|e| e.metadata.name.as_str()).collect();
    assert_eq!(names, ["node--1-k8s-a-eth0", "node--1-k8s-b-eth0"]);
}

async fn a_store_that_is_away_is_an_error_that_names_it(store: Store) {
    let mut store = store;
    let client = store.client().await;
    client.get(&IpamConfigKey).await.unwrap_err();
    store.kill();
    let error = client.get(&IpamConfigKey).await.unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
    let error = client
        .create(IpamConfigKey, &api::ipam_model::IpamConfig::default())
        .await
        .unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
    store.run().await;
    client
        .create(IpamConfigKey, &api::ipam_model::IpamConfig::default())
        .await
        .unwrap();
}

async fn two_endpoints_of_which_one_is_dead(store: Store) {
    let config = datastore::ClientConfig::new(["http://127.0.0.1:1".to_owned(), store.endpoint()]);
    let client = datastore::Client::connect(&config).await.unwrap();
    for i in 0..20 {
        client
            .create(
                HandleKey::new(format!("h{i}")),
                &api::ipam_model::Handle::default(),
            )
            .await
            .unwrap();
    }
}
