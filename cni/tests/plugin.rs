//! The plugin, called as a runtime calls it, on hosts and containers that are network namespaces, with a real etcd.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use netlink::{Connection, Mac, table};
use serde_json::{Value, json};
use support::{Host, NETWORK, NamedNs, Outcome};

const HOST_MAC: Mac = Mac([0xee; 6]);

fn addresses(outcome: &Outcome) -> Vec<IpNet> {
    let ips = outcome.json["ips"]
        .as_array()
        .unwrap_or_else(|| panic!("{outcome:?}"));
    ips.iter()
        .map(|ip| ip["address"].as_str().unwrap().parse().unwrap())
        .collect()
}

fn code(outcome: &Outcome) -> u64 {
    assert!(!outcome.ok, "{outcome:?}");
    outcome.json["code"].as_u64().unwrap()
}

/// Nothing of any workload is left on the host.
fn assert_clean(host: &Host) {
    assert!(host.endpoints().is_empty());
    assert_eq!(host.allocated(), 0);
    let links: Vec<String> = host
        .kernel()
        .links()
        .unwrap()
        .into_iter()
        .map(|link| link.name)
        .collect();
    assert_eq!(links, ["lo"]);
}

#[test]
fn a_container_lives() {
    let host = Host::new();
    let (container, config) = (host.container(), host.config(&json!({})));
    let added = host.add("c1", &container, "", &config);
    assert!(added.ok, "{added:?}");
    let ips = addresses(&added);
    assert_eq!(ips.len(), 2);
    assert!(ips.iter().all(|ip| ip.prefix_len() == ip.max_prefix_len()));
    assert!(support::POOL_V4.parse::<IpNet>().unwrap().contains(&ips[0]));
    assert!(support::POOL_V6.parse::<IpNet>().unwrap().contains(&ips[1]));
    assert_eq!(added.json["cniVersion"], "1.0.0");
    assert_eq!(added.json["interfaces"][0], json!({"name": "calic1"}));
    assert_eq!(added.json["interfaces"][1]["sandbox"], container.path());

    // The container's side.
    let mut inside = Connection::open_in(&container.ns).unwrap();
    let link = inside.link("eth0").unwrap().unwrap();
    assert_eq!(
        added.json["interfaces"][1]["mac"],
        link.mac.unwrap().0.map(|b| format!("{b:02x}")).join(":")
    );
    let has: Vec<IpNet> = inside
        .addresses()
        .unwrap()
        .into_iter()
        .filter(|a| a.interface == link.index)
        .map(|a| a.address)
        .collect();
    assert!(ips.iter().all(|ip| has.contains(ip)), "{has:?}");
    for (gateway, everything) in [
        ("169.254.1.1", "0.0.0.0/0"),
        ("fe80::ecee:eeff:feee:eeee", "::/0"),
    ] {
        let gateway: IpAddr = gateway.parse().unwrap();
        let neighbours = inside.neighbours().unwrap();
        assert!(
            neighbours
                .iter()
                .any(|n| n.address == gateway && n.permanent && n.mac == Some(HOST_MAC)),
            "{neighbours:?}"
        );
        let routes = inside
            .routes_to(everything.parse().unwrap(), table::MAIN)
            .unwrap();
        assert!(
            routes
                .iter()
                .flat_map(|r| &r.hops)
                .any(|hop| hop.gateway == Some(gateway)),
            "{routes:?}"
        );
    }

    // The host's side.
    let mut kernel = host.kernel();
    let veth = kernel.link("calic1").unwrap().unwrap();
    assert_eq!(veth.mac, Some(HOST_MAC));
    for ip in &ips {
        let routes = kernel.routes_to(*ip, table::MAIN).unwrap();
        assert!(
            routes.iter().any(|r| r.metric == 1024 && r.protocol == 3),
            "{routes:?}"
        );
    }
    for (setting, value) in [
        ("net/ipv4/conf/calic1/proxy_arp", "1"),
        ("net/ipv4/conf/calic1/forwarding", "1"),
        ("net/ipv4/conf/calic1/route_localnet", "1"),
        ("net/ipv6/conf/calic1/forwarding", "1"),
        ("net/ipv6/conf/calic1/proxy_ndp", "1"),
        ("net/ipv6/conf/calic1/accept_ra", "0"),
    ] {
        assert_eq!(
            host.in_host(|| netlink::sysctl::read(setting)).unwrap(),
            value,
            "{setting}"
        );
    }

    // The store.
    let endpoints = host.endpoints();
    let [endpoint] = endpoints.as_slice() else {
        panic!("{endpoints:?}")
    };
    assert_eq!(endpoint.metadata.name, "node--1-cni-c1-eth0");
    assert_eq!(endpoint.metadata.namespace, "default");
    assert_eq!(endpoint.spec.profiles, [NETWORK]);
    assert_eq!(endpoint.spec.interface_name, "calic1");
    let profile = host.with_store(async |r| r.get::<api::Profile>("", NETWORK).await.unwrap());
    assert_eq!(profile.spec.ingress[0].source.selector, "has(net1)");
    assert_eq!(host.allocated(), 2);

    // CHECK agrees, then sees each thing that is taken away.
    let with_result = host.config(&json!({"prevResult": added.json}));
    let check = |config: &Value| host.call("CHECK", "c1", &container.path(), "", config);
    let checked = check(&with_result);
    assert!(checked.ok && checked.json.is_null(), "{checked:?}");
    let mut wrong = added.json.clone();
    wrong["ips"][0]["address"] = json!("10.77.0.250/32");
    assert!(
        check(&host.config(&json!({"prevResult": wrong}))).json["details"]
            .as_str()
            .unwrap()
            .contains("10.77.0.250")
    );
    kernel
        .delete_route(&kernel_route(&mut host.kernel(), ips[0]))
        .unwrap();
    let missing = check(&with_result);
    assert_eq!(code(&missing), 104);
    assert!(
        missing.json["details"]
            .as_str()
            .unwrap()
            .contains("the host has no route"),
        "{missing:?}"
    );
    inside.delete_address(link.index, ips[0]).unwrap();
    assert!(
        check(&with_result).json["details"]
            .as_str()
            .unwrap()
            .contains("is missing on eth0")
    );

    // DEL takes everything, and a second one has nothing to do.
    for _ in 0..2 {
        let deleted = host.call("DEL", "c1", &container.path(), "", &config);
        assert!(deleted.ok && deleted.json.is_null(), "{deleted:?}");
        assert_clean(&host);
    }
    assert!(inside.link("eth0").unwrap().is_none());
    assert_eq!(code(&check(&with_result)), 3);
}

fn kernel_route(kernel: &mut Connection, to: IpNet) -> netlink::Route {
    kernel.routes_to(to, table::MAIN).unwrap().remove(0)
}

#[test]
fn two_containers_talk_over_the_host() {
    let host = Host::new();
    let config = host.config(&json!({}));
    let containers: Vec<(NamedNs, Vec<IpNet>)> = ["c1", "c2"]
        .into_iter()
        .map(|id| {
            let container = host.container();
            let added = host.add(id, &container, "", &config);
            assert!(added.ok, "{added:?}");
            (container, addresses(&added))
        })
        .collect();
    let [(client, _), (server, ips)] = containers.as_slice() else {
        panic!()
    };
    for ip in ips {
        let listener = server
            .ns
            .run(|| TcpListener::bind(SocketAddr::new(ip.addr(), 80)).unwrap())
            .unwrap();
        let served = std::thread::spawn(move || {
            let (mut stream, peer) = listener.accept().unwrap();
            stream.write_all(b"hello").unwrap();
            peer.ip()
        });
        let target = SocketAddr::new(ip.addr(), 80);
        let connect = || TcpStream::connect_timeout(&target, Duration::from_secs(5));
        let mut stream = client.ns.run(connect).unwrap().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        let seen = served.join().unwrap();
        assert!(
            containers[0].1.iter().any(|own| own.addr() == seen),
            "no address was translated: {seen}"
        );
    }
}

#[test]
fn without_an_agent_nothing_stays() {
    let host = Host::new();
    let container = host.container();
    let config = host.config(&json!({"policy_setup_timeout_seconds": 1}));
    let start = Instant::now();
    let outcome = host.call("ADD", "c1", &container.path(), "", &config);
    assert_eq!(code(&outcome), 103);
    assert!(
        outcome.json["details"]
            .as_str()
            .unwrap()
            .contains("cni default%2Fc1 eth0"),
        "{outcome:?}"
    );
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_clean(&host);
    assert!(
        Connection::open_in(&container.ns)
            .unwrap()
            .link("eth0")
            .unwrap()
            .is_none()
    );
    // The same container may be tried again.
    assert!(host.add("c1", &container, "", &host.config(&json!({}))).ok);
}

#[test]
fn a_status_file_without_the_link_up_is_not_believed() {
    let host = Host::new();
    let container = host.container();
    std::fs::create_dir_all(host.status_dir()).unwrap();
    std::fs::write(host.status_dir().join("cni default%2Fc1 eth0"), "{}").unwrap();
    let config = host.config(&json!({"policy_setup_timeout_seconds": 1}));
    let outcome = host.call("ADD", "c1", &container.path(), "", &config);
    assert_eq!(code(&outcome), 103);
    assert!(
        outcome.json["details"]
            .as_str()
            .unwrap()
            .contains("calic1 is down"),
        "{outcome:?}"
    );
    assert_clean(&host);
}

#[test]
fn del_with_the_namespace_gone() {
    let host = Host::new();
    let config = host.config(&json!({}));
    let container = host.container();
    assert!(host.add("c1", &container, "", &config).ok);
    let path = container.path();
    drop(container);
    assert!(host.call("DEL", "c1", &path, "", &config).ok);
    assert_clean(&host);
    // And with no namespace named at all.
    let container = host.container();
    assert!(host.add("c2", &container, "", &config).ok);
    assert!(host.call("DEL", "c2", "", "", &config).ok);
    assert_clean(&host);
    assert!(
        Connection::open_in(&container.ns)
            .unwrap()
            .link("eth0")
            .unwrap()
            .is_none()
    );
}

#[test]
fn add_again_joins_a_further_network() {
    let host = Host::new();
    let container = host.container();
    let first = host.add("c1", &container, "", &host.config(&json!({})));
    let second = host.call(
        "ADD",
        "c1",
        &container.path(),
        "",
        &host.config(&json!({"name": "net2"})),
    );
    assert!(second.ok, "{second:?}");
    assert_eq!(addresses(&first), addresses(&second));
    assert_eq!(host.endpoints()[0].spec.profiles, ["net1", "net2"]);
    assert_eq!(host.allocated(), 2);
}

#[test]
fn pods_and_their_newer_sandboxes() {
    let host = Host::new();
    let config = host.config(&json!({}));
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=blue;K8S_POD_NAME=a-b;K8S_POD_INFRA_CONTAINER_ID=old1";
    let (old, new) = (host.container(), host.container());
    let added = host.add("old1", &old, args, &config);
    assert!(added.ok, "{added:?}");
    let endpoints = host.endpoints();
    assert_eq!(endpoints[0].metadata.name, "node--1-k8s-a--b-eth0");
    assert_eq!(
        (
            endpoints[0].metadata.namespace.as_str(),
            endpoints[0].spec.pod.as_str()
        ),
        ("blue", "a-b")
    );
    let interface = endpoints[0].spec.interface_name.clone();

    let again = host.add("new1", &new, args, &config);
    assert!(again.ok, "{again:?}");
    assert_ne!(addresses(&added), addresses(&again));
    // The late DEL of the old sandbox takes its addresses and nothing else.
    let late = host.call("DEL", "old1", &old.path(), args, &config);
    assert!(late.ok, "{late:?}");
    let endpoints = host.endpoints();
    assert_eq!(endpoints[0].spec.container_id, "new1");
    assert_eq!(host.allocated(), 2);
    assert!(
        host.kernel()
            .link(&interface)
            .unwrap()
            .is_some_and(|link| link.up)
    );
    assert!(host.call("DEL", "new1", &new.path(), args, &config).ok);
    assert_clean(&host);
}

#[test]
fn addresses_by_request_and_by_pool() {
    let host = Host::new();
    let v4 = json!({"type": "calico-ipam", "ipv4_pools": ["v4"]});
    let config = host.config(&json!({"ipam": v4}));
    let (one, two) = (host.container(), host.container());
    let added = host.add("c1", &one, "IP=10.77.0.77", &config);
    assert_eq!(addresses(&added), ["10.77.0.77/32".parse().unwrap()]);
    // Taken; and outside of any pool.
    for (args, container) in [("IP=10.77.0.77", "c2"), ("IP=192.0.2.1", "c2")] {
        let outcome = host.call("ADD", container, &two.path(), args, &config);
        assert_eq!(code(&outcome), 101, "{outcome:?}");
    }
    let unknown = host.config(&json!({"ipam": {"type": "calico-ipam", "ipv4_pools": ["nowhere"]}}));
    let outcome = host.call("ADD", "c2", &two.path(), "", &unknown);
    assert!(
        !outcome.ok && outcome.json["details"].as_str().unwrap().contains("nowhere"),
        "{outcome:?}"
    );
    assert_eq!(host.allocated(), 1);
    // IPv6 alone.
    let v6 = json!({"type": "margay-ipam", "assign_ipv4": "false", "assign_ipv6": "true"});
    let added = host.add("c2", &two, "", &host.config(&json!({"ipam": v6})));
    assert!(
        added.ok && addresses(&added).iter().all(|ip| ip.addr().is_ipv6()),
        "{added:?}"
    );
}

#[test]
fn one_family_without_addresses_gives_the_other_back() {
    let host = Host::new();
    let config = host.config(&json!({}));
    host.with_store(async |resources| {
        let disable = |pool: &mut api::IpPool| {
            pool.spec.disabled = true;
            true
        };
        resources.modify::<api::IpPool>("", "v6", disable).await.unwrap();
    });
    let outcome = host.call("ADD", "c1", &host.container().path(), "", &config);
    assert_eq!(code(&outcome), 101);
    assert_clean(&host);
}

#[test]
fn versions_and_results() {
    let host = Host::new();
    let versions = host.call("VERSION", "", "", "", &json!({"cniVersion": "0.4.0"}));
    assert!(versions.ok);
    assert_eq!(
        versions.json,
        json!({"cniVersion": "0.4.0", "supportedVersions": ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"]})
    );
    for (id, version) in [("c1", "0.3.1"), ("c2", "0.4.0"), ("c3", "0.2.0")] {
        let container = host.container();
        let added = host.add(id, &container, "", &host.config(&json!({"cniVersion": version})));
        assert!(added.ok, "{added:?}");
        assert_eq!(added.json["cniVersion"], version);
        if version == "0.2.0" {
            assert!(added.json["ip4"]["ip"].is_string() && added.json["ip6"]["ip"].is_string());
        } else {
            assert_eq!(
                (&added.json["ips"][0]["version"], &added.json["ips"][1]["version"]),
                (&json!("4"), &json!("6"))
            );
        }
        assert!(
            host.call(
                "DEL",
                id,
                &container.path(),
                "",
                &host.config(&json!({"cniVersion": version}))
            )
            .ok
        );
    }
    assert_clean(&host);
}

#[test]
fn mesos_labels_become_endpoint_labels() {
    let host = Host::new();
    let labels = json!([{"key": "app", "value": "web server"}, {"key": "projectcalico.org/namespace", "value": "blue"}]);
    let args = json!({"org.apache.mesos": {"network_info": {"labels": {"labels": labels}}}});
    let config = host.config(&json!({"args": args}));
    let container = host.container();
    let added = host.add("c1", &container, "", &config);
    assert!(added.ok, "{added:?}");
    let endpoint = host.endpoints().remove(0);
    assert_eq!(endpoint.metadata.namespace, "blue");
    assert_eq!(endpoint.metadata.labels["app"], "web-server");
}

#[test]
fn refusals_have_codes_and_change_nothing() {
    let host = Host::new();
    let container = host.container();
    let path = container.path();
    let good = host.config(&json!({}));
    let with = |extra: Value| host.config(&extra);
    let cases: Vec<(&str, &str, &str, &str, Value, u64)> = vec![
        ("ADD", "c1", &path, "", with(json!({"cniVersion": "2.0.0"})), 1),
        ("ADD", "c1", "/nonexistent/ns", "", good.clone(), 3),
        ("ADD", "", &path, "", good.clone(), 4),
        ("ADD", "c1", "", "", good.clone(), 4),
        ("ADD", "c1", &path, "novalue", good.clone(), 4),
        ("ADD", "-c1", &path, "", good.clone(), 4),
        ("CHECK", "c1", &path, "", with(json!({"cniVersion": "0.3.1"})), 1),
        ("GC", "c1", &path, "", good.clone(), 4),
        ("ADD", "c1", &path, "", with(json!({"name": ""})), 7),
        (
            "ADD",
            "c1",
            &path,
            "",
            with(json!({"datastore_type": "kubernetes"})),
            7,
        ),
        (
            "ADD",
            "c1",
            &path,
            "",
            with(json!({"policy_setup_timeout_seconds": -1})),
            7,
        ),
        ("ADD", "c1", &path, "IP=nonsense", good.clone(), 4),
        (
            "ADD",
            "c1",
            &path,
            "",
            with(json!({"nodename": "", "nodename_file": "/nonexistent"})),
            11,
        ),
        (
            "ADD",
            "c1",
            &path,
            "",
            with(json!({"etcd_endpoints": "http://127.0.0.1:1"})),
            11,
        ),
        (
            "DEL",
            "c1",
            &path,
            "",
            with(json!({"etcd_endpoints": "http://127.0.0.1:1"})),
            11,
        ),
    ];
    for (command, id, netns, args, config, expected) in cases {
        let outcome = host.call(command, id, netns, args, &config);
        assert_eq!(
            code(&outcome),
            expected,
            "{command} {id} {args} {config}: {outcome:?}"
        );
        assert!(
            !outcome.json["msg"].as_str().unwrap().is_empty()
                && !outcome.json["details"].as_str().unwrap().is_empty()
        );
    }
    assert_eq!(code(&host.call_text("ADD", "c1", &path, "", "{\"name\": ")), 6);
    // A cluster that is being migrated takes no requests.
    let ready = |ready| {
        host.with_store(async move |resources| {
            let change = |information: &mut api::ClusterInformation| {
                information.spec.datastore_ready = Some(ready);
                true
            };
            resources
                .modify::<api::ClusterInformation>("", "default", change)
                .await
                .unwrap();
        });
    };
    ready(false);
    assert_eq!(code(&host.call("ADD", "c1", &path, "", &good)), 11);
    ready(true);
    assert_clean(&host);
    assert!(
        Connection::open_in(&container.ns)
            .unwrap()
            .link("eth0")
            .unwrap()
            .is_none()
    );
}

#[test]
fn many_at_once_get_addresses_of_their_own() {
    let host = Host::new();
    let config = host.config(&json!({}));
    let ids: Vec<String> = (0..8).map(|i| format!("c{i}")).collect();
    let containers: Vec<NamedNs> = ids.iter().map(|_| host.container()).collect();
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let (host, config) = (&host, &config);
        let calls: Vec<_> = ids
            .iter()
            .zip(&containers)
            .map(|(id, container)| scope.spawn(move || host.add(id, container, "", config)))
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let given: std::collections::BTreeSet<IpNet> = outcomes.iter().flat_map(addresses).collect();
    assert_eq!(given.len(), 16);
    assert_eq!((host.allocated(), host.endpoints().len()), (16, 8));
    for (id, container) in ids.iter().zip(&containers) {
        assert!(host.call("DEL", id, &container.path(), "", &config).ok);
    }
    assert_clean(&host);
}

#[test]
fn a_step_that_fails_takes_back_the_others() {
    let host = Host::new();
    let ipam = json!({"type": "calico-ipam"});
    let config = host.config(&json!({"ipam": ipam}));
    // The container has an interface of that name.
    let taken = host.container();
    Connection::open_in(&taken.ns)
        .unwrap()
        .create_bridge("eth0")
        .unwrap();
    let outcome = host.call("ADD", "c1", &taken.path(), "", &config);
    assert_eq!(code(&outcome), 102, "{outcome:?}");
    assert_clean(&host);
    assert!(
        Connection::open_in(&taken.ns)
            .unwrap()
            .link("eth0")
            .unwrap()
            .is_some()
    );

    // Another interface of the host has a route to the address: seen last of all.
    let mut kernel = host.kernel();
    let lo = kernel.index_of("lo").unwrap();
    let address: IpNet = "10.77.0.9/32".parse().unwrap();
    kernel.add_route(&netlink::Route::new(address).dev(lo)).unwrap();
    let container = host.container();
    let outcome = host.add("c1", &container, "IP=10.77.0.9", &config);
    assert_eq!(code(&outcome), 102, "{outcome:?}");
    assert!(
        outcome.json["details"]
            .as_str()
            .unwrap()
            .contains("lo has a route"),
        "{outcome:?}"
    );
    assert_clean(&host);
    assert!(
        Connection::open_in(&container.ns)
            .unwrap()
            .link("eth0")
            .unwrap()
            .is_none()
    );
}

#[test]
fn what_a_killed_add_left_is_no_obstacle() {
    let host = Host::new();
    let container = host.container();
    let config = host.config(&json!({}));
    // Killed while it waited for policy: link, endpoint and addresses are there.
    let mut child = host.start("ADD", "c1", &container.path(), &config);
    let deadline = Instant::now() + Duration::from_secs(20);
    while host.endpoints().is_empty() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(host.allocated(), 2);
    let added = host.add("c1", &container, "", &config);
    assert!(added.ok, "{added:?}");
    assert_eq!((host.allocated(), host.endpoints().len()), (2, 1));
    assert!(host.call("DEL", "c1", &container.path(), "", &config).ok);
    assert_clean(&host);
}
