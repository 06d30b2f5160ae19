//! Whatever the order in which resources come, change and go, the speaker is told the same as from scratch.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use agent::fabric::{Settings, Translation, translate};
use agent::world::World;
use api::AnyResource;
use api::ipam_model::{Affinity, AffinityState};
use bgpd::config::ConfigDiff;
use datastore::key::{AffinityKey, AnyKey, AnyValue};
use datastore::syncer::Update;
use proptest::collection::vec;
use proptest::prelude::*;

/// The host whose speaker it is.
const HOST: &str = "a";

type Value = Option<Result<AnyValue, String>>;

/// A resource in one of its states.
fn resource(kind: &str, namespace: &str, name: &str, more: &str, spec: &str) -> (AnyKey, Value) {
    let text = format!(
        "apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: {name}, namespace: '{namespace}'{more}}}\n\
         spec: {spec}\n"
    );
    let decoded = api::file::decode("test", &text);
    assert!(decoded.error.is_none(), "{text}: {:?}", decoded.error);
    let resource: AnyResource = decoded.resources.into_iter().next().unwrap().resource;
    let key = AnyKey::resource(resource.kind(), namespace, name);
    (key, Some(Ok(AnyValue::Resource(resource))))
}

fn node(name: &str, labels: &str, bgp: &str) -> (AnyKey, Value) {
    resource(
        "Node",
        "",
        name,
        &format!(", labels: {{{labels}}}"),
        &format!("{{bgp: {{{bgp}}}}}"),
    )
}

fn workload(name: &str, node: &str, addresses: &str, labels: &str) -> (AnyKey, Value) {
    let spec = format!(
        "{{node: {node}, orchestrator: cni, containerID: c{name}, endpoint: eth0, interfaceName: cali{name}, \
         ipNetworks: [{addresses}]}}"
    );
    let name = format!("{node}-cni-c{name}-eth0");
    resource(
        "WorkloadEndpoint",
        "default",
        &name,
        &format!(", labels: {{{labels}}}"),
        &spec,
    )
}

fn affinity(cidr: &str, state: AffinityState) -> (AnyKey, Value) {
    let affinity = Affinity {
        state: Some(state),
        ..Affinity::default()
    };
    let key = AnyKey::Affinity(AffinityKey::host(HOST, cidr.parse().unwrap()));
    (key, Some(Ok(AnyValue::Affinity(affinity))))
}

/// Every state that something may be in, but for absence and unreadable text.
fn states() -> Vec<(AnyKey, Value)> {
    let r1 = "rack: r1";
    let mut states = vec![
        node("a", r1, "ipv4Address: 10.0.0.1/24, ipv6Address: 'fd00::1/64'"),
        node("a", r1, "ipv4Address: 10.0.0.1/24, asNumber: 65001"),
        node(
            "a",
            "rack: r2",
            "ipv4Address: 10.0.0.1/24, routeReflectorClusterID: 224.0.0.1",
        ),
        node("b", r1, "ipv4Address: 10.0.0.2/24, ipv6Address: 'fd00::2/64'"),
        node("b", "rack: r2", "ipv4Address: 10.0.0.3/24, asNumber: 65002"),
        node(
            "c",
            r1,
            "ipv4Address: 10.0.1.1/24, routeReflectorClusterID: 224.0.0.2",
        ),
        affinity("10.65.0.0/26", AffinityState::Confirmed),
        affinity("10.65.0.0/26", AffinityState::Pending),
        affinity("10.65.0.64/26", AffinityState::Confirmed),
        workload("1", "a", "10.65.0.1/32", "role: web"),
        workload("1", "a", "10.65.9.1/32, 'fd00:65::1/128'", "role: router"),
        workload("2", "a", "10.65.9.2/32", "role: router"),
        workload("3", "b", "10.65.9.3/32", "role: router"),
    ];
    for (kind, name, spec) in [
        ("BGPConfiguration", "default", "{}"),
        (
            "BGPConfiguration",
            "default",
            "{nodeToNodeMeshEnabled: false, asNumber: 64999}",
        ),
        (
            "BGPConfiguration",
            "default",
            "{localWorkloadPeeringIPV4: 169.254.2.1, listenPort: 1790, \
             prefixAdvertisements: [{cidr: 10.65.0.0/16, communities: ['65000:1']}]}",
        ),
        ("BGPConfiguration", "node.b", "{listenPort: 1791}"),
        (
            "BGPConfiguration",
            "node.a",
            "{prefixAdvertisements: [{cidr: 10.65.0.0/16, communities: ['65000:2']}]}",
        ),
        ("IPPool", "p", "{cidr: 10.65.0.0/16}"),
        ("IPPool", "p", "{cidr: 10.65.0.0/16, disableBGPExport: true}"),
        ("IPPool", "q", "{cidr: 'fd00:65::/48'}"),
        ("BGPFilter", "f", "{exportV4: [{action: Reject}]}"),
        (
            "BGPFilter",
            "f",
            "{importV4: [{cidr: 10.0.0.0/8, matchOperator: In, action: Accept}]}",
        ),
        ("BGPPeer", "tor", "{peerIP: 10.0.0.254, asNumber: 65000}"),
        (
            "BGPPeer",
            "tor",
            "{peerIP: 10.0.0.254, asNumber: 65000, filters: [f], nodeSelector: \"rack == 'r1'\"}",
        ),
        ("BGPPeer", "also", "{peerIP: 10.0.0.254, asNumber: 65009}"),
        (
            "BGPPeer",
            "reflectors",
            "{peerSelector: \"rack == 'r1'\", nodeSelector: 'all()'}",
        ),
        ("BGPPeer", "to-b", "{node: c, peerIP: 10.0.0.2, asNumber: 64512}"),
        (
            "BGPPeer",
            "workloads",
            "{localWorkloadSelector: \"role == 'router'\", asNumber: 65100}",
        ),
    ] {
        states.push(resource(kind, "", name, "", spec));
    }
    states
}

/// A history: which state is taken, and whether it is rather removed (0) or unreadable (1).
fn history() -> impl Strategy<Value = Vec<(usize, u8)>> {
    vec((0..states().len(), 0..8_u8), 1..80)
}

fn translated(world: &World) -> Translation {
    let settings = Settings {
        hold_time: Duration::from_secs(90),
        restart_time: Duration::from_secs(120),
        install_routes: true,
        router_id: None,
    };
    translate(world.fabric(), HOST, &settings)
}

fn update((key, value): (AnyKey, Value)) -> Update {
    Update {
        key,
        value,
        revision: 1,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_updates_does_not_matter(history in history(), seed in any::<prop::sample::Index>()) {
        let states = states();
        let mut world = World::new(HOST);
        let mut current = translated(&world);
        let mut last: BTreeMap<AnyKey, Value> = BTreeMap::new();
        for (state, fate) in history {
            let (key, value) = states[state].clone();
            let value = match fate {
                0 => None,
                1 => Some(Err("spec: not an object".to_owned())),
                _ => value,
            };
            // As the agent does it: translated again only where something has changed that is translated.
            world.update(update((key.clone(), value.clone())));
            if world.take_fabric_change() {
                current = translated(&world);
            }
            // What cannot be read leaves what was there.
            if fate != 1 {
                last.insert(key, value);
            }
        }
        let mut rest: Vec<(AnyKey, Value)> = last.into_iter().filter(|(_, value)| value.is_some()).collect();
        if !rest.is_empty() {
            let turn = seed.index(rest.len());
            rest.rotate_left(turn);
            rest[turn..].reverse();
        }
        let mut scratch = World::new(HOST);
        for state in rest {
            scratch.update(update(state));
        }
        let expected = translated(&scratch);
        prop_assert_eq!(&current, &expected);
        if let (Some(current), Some(expected)) = (&current.config, &expected.config) {
            prop_assert!(ConfigDiff::between(current, expected).is_empty());
            prop_assert_eq!(expected.validate(), Ok(()));
        }
    }
}
