//! Links, addresses, neighbours, namespaces and sysctls against the kernel.

use std::net::IpAddr;

use crate::pair::{Pair, set_up};
use netlink::{Address, Connection, Mac, Neighbour, NetNs, Request, VethSpec, netns, sysctl};

#[test]
fn a_veth_pair_spans_namespaces_with_its_addresses_and_mtu() {
    let host = NetNs::unnamed().unwrap();
    let workload = NetNs::unnamed().unwrap();
    let mac = Mac([0xee; 6]);
    let peer_mac: Mac = "02:00:00:00:00:07".parse().unwrap();
    let mut nl = Connection::open_in(&host).unwrap();
    nl.create_veth(&VethSpec {
        peer_netns: Some(&workload),
        mac: Some(mac),
        peer_mac: Some(peer_mac),
        mtu: Some(1450),
        ..VethSpec::new("cali1", "eth0")
    })
    .unwrap();
    let end = nl.link("cali1").unwrap().unwrap();
    assert_eq!(
        (end.mac, end.mtu, end.kind.as_deref(), end.up),
        (Some(mac), 1450, Some("veth"), false)
    );
    let mut inside = Connection::open_in(&workload).unwrap();
    let other = inside.link("eth0").unwrap().unwrap();
    assert_eq!(
        (other.mac, other.mtu, other.peer),
        (Some(peer_mac), 1450, Some(end.index))
    );
    assert_eq!(nl.link("eth0").unwrap(), None);

    let again = nl.create_veth(&VethSpec::new("cali1", "other")).unwrap_err();
    assert!(again.is_exists(), "{again}");
    assert_eq!(again.to_string(), "create veth pair cali1 and other: File exists");

    nl.rename(end.index, "cali2").unwrap();
    nl.set_mtu(end.index, 1400).unwrap();
    nl.set_mac(end.index, peer_mac).unwrap();
    nl.set_up(end.index).unwrap();
    inside.set_up(other.index).unwrap();
    let end = nl.link_by_index(end.index).unwrap().unwrap();
    assert_eq!(
        (end.name.as_str(), end.mtu, end.mac, end.up),
        ("cali2", 1400, Some(peer_mac), true)
    );
    assert!(end.carrier && end.running);
    nl.set_down(end.index).unwrap();
    let end = nl.link("cali2").unwrap().unwrap();
    assert!(!end.up && !end.running);

    nl.delete_link(end.index).unwrap();
    assert_eq!(nl.link("cali2").unwrap(), None);
    assert_eq!(inside.link("eth0").unwrap(), None);
    assert!(nl.delete_link(end.index).unwrap_err().is_not_found());
}

#[test]
fn a_link_moves_and_joins_a_bridge() {
    let one = NetNs::unnamed().unwrap();
    let two = NetNs::unnamed().unwrap();
    let mut nl = Connection::open_in(&one).unwrap();
    nl.create_veth(&VethSpec::new("a", "b")).unwrap();
    nl.create_bridge("br0").unwrap();
    let bridge = nl.index_of("br0").unwrap();
    let (a, b) = (nl.index_of("a").unwrap(), nl.index_of("b").unwrap());
    nl.set_master(a, Some(bridge)).unwrap();
    assert_eq!(nl.link("a").unwrap().unwrap().master, Some(bridge));
    nl.set_master(a, None).unwrap();
    assert_eq!(nl.link("a").unwrap().unwrap().master, None);
    assert_eq!(nl.link("br0").unwrap().unwrap().kind.as_deref(), Some("bridge"));
    nl.move_to(b, &two).unwrap();
    assert_eq!(nl.link("b").unwrap(), None);
    let names: Vec<_> = Connection::open_in(&two)
        .unwrap()
        .links()
        .unwrap()
        .into_iter()
        .map(|l| (l.name, l.loopback))
        .collect();
    assert_eq!(names, [("lo".to_owned(), true), ("b".to_owned(), false)]);
}

#[test]
fn names_that_the_kernel_would_refuse_are_refused_with_a_reason() {
    let netns = NetNs::unnamed().unwrap();
    let mut nl = Connection::open_in(&netns).unwrap();
    for name in ["", "..", "a b", "a/b", "sixteen-bytes-xx"] {
        let error = nl.create_bridge(name).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("interface name `{name}`: an interface's name has")),
            "{error}"
        );
    }
    let error = nl.index_of("missing").unwrap_err().to_string();
    assert_eq!(
        error,
        "interface name `missing`: there is no such interface in this namespace"
    );
}

#[test]
fn addresses_and_neighbours_are_read_back() {
    let pair = Pair::new();
    let mut nl = Connection::open_in(&pair.east).unwrap();
    let mine: Vec<_> = nl
        .addresses()
        .unwrap()
        .into_iter()
        .filter(|a| a.interface == pair.east_link)
        .collect();
    for address in ["10.0.0.1/24", "fd00::1/64"] {
        let found = mine
            .iter()
            .find(|a| a.address == address.parse().unwrap())
            .unwrap();
        assert!(!found.tentative, "{found}");
    }
    assert!(
        nl.add_address(pair.east_link, "10.0.0.1/24".parse().unwrap())
            .unwrap_err()
            .is_exists()
    );
    let point = Address {
        peer: Some("192.0.2.1".parse().unwrap()),
        no_prefix_route: true,
        protocol: 202,
        ..Address::new(pair.east_link, "169.254.1.1/32".parse().unwrap())
    };
    nl.apply(&Request::AddAddress(point.clone())).unwrap();
    let found = nl
        .addresses()
        .unwrap()
        .into_iter()
        .find(|a| a.address == point.address)
        .unwrap();
    assert_eq!(
        (found.peer, found.no_prefix_route, found.protocol),
        (point.peer, true, 202)
    );
    nl.delete_address(pair.east_link, "10.0.0.1/24".parse().unwrap())
        .unwrap();
    assert!(
        nl.addresses()
            .unwrap()
            .iter()
            .all(|a| a.address != "10.0.0.1/24".parse().unwrap())
    );

    for address in ["169.254.1.1", "fe80::1"] {
        let address: IpAddr = address.parse().unwrap();
        let neighbour = Neighbour::permanent(pair.east_link, address, Mac([0xee; 6]));
        nl.set_neighbour(&neighbour).unwrap();
        nl.set_neighbour(&neighbour).unwrap();
        assert!(nl.neighbours().unwrap().contains(&neighbour), "{neighbour}");
        nl.delete_neighbour(&neighbour).unwrap();
        assert!(!nl.neighbours().unwrap().contains(&neighbour), "{neighbour}");
    }
}

#[test]
fn packets_pass_between_namespaces() {
    let pair = Pair::new();
    let server = pair
        .west
        .run(|| std::net::UdpSocket::bind("10.0.0.2:0"))
        .unwrap()
        .unwrap();
    let to = server.local_addr().unwrap();
    let client = pair
        .east
        .run(|| std::net::UdpSocket::bind("10.0.0.1:0"))
        .unwrap()
        .unwrap();
    server
        .set_read_timeout(Some(std::time::Duration::from_secs(5)))
        .unwrap();
    client.send_to(b"hello", to).unwrap();
    let mut buffer = [0; 16];
    let (length, from) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(
        (&buffer[..length], from),
        (&b"hello"[..], client.local_addr().unwrap())
    );
}

#[test]
fn a_named_namespace_is_made_entered_and_removed() {
    let directory = tempfile_directory("named");
    let made = NetNs::create(&directory.0, "one").unwrap();
    set_up(&mut Connection::open_in(&made).unwrap(), "lo", &["127.0.0.9/8"]);
    let path = directory.0.join("one");
    let found = netns::run_in(&path, || Connection::open().unwrap().addresses().unwrap()).unwrap();
    assert!(found.iter().any(|a| a.address == "127.0.0.9/8".parse().unwrap()));
    assert!(NetNs::create(&directory.0, "one").unwrap_err().is_exists());
    let error = NetNs::create(&directory.0, "../two").unwrap_err().to_string();
    assert_eq!(
        error,
        "namespace name `../two`: a namespace's name is one path component"
    );
    netns::remove(&directory.0, "one").unwrap();
    assert!(!path.exists());
    netns::remove(&directory.0, "one").unwrap();
    let error = NetNs::open(&path).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!(
            "open network namespace {}: No such file",
            path.display()
        )),
        "{error}"
    );
    let error = netns::run_in("/proc/self/status", || ()).unwrap_err().to_string();
    assert_eq!(error, "enter a network namespace: Invalid argument (os error 22)");
}

#[test]
fn sysctls_are_of_the_namespace() {
    let netns = NetNs::unnamed().unwrap();
    let before = sysctl::read("net/ipv4/ip_forward").unwrap();
    sysctl::write_in(&netns, &[("net/ipv4/ip_forward", "0")]).unwrap();
    sysctl::write_in(
        &netns,
        &[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/lo/forwarding", "1")],
    )
    .unwrap();
    assert_eq!(sysctl::read_in(&netns, "net/ipv4/ip_forward").unwrap(), "1");
    assert_eq!(sysctl::read("net/ipv4/ip_forward").unwrap(), before);
    for bad in ["", "/net", "net/../kernel/hostname", "net/./x"] {
        match sysctl::read(bad) {
            Err(netlink::Error::Invalid { value, .. }) => assert_eq!(value, bad),
            other => assert!(bad == "net/./x" && other.is_err(), "{bad}: {other:?}"),
        }
    }
    let error = sysctl::write_in(&netns, &[("net/ipv4/conf/missing/rp_filter", "0")]).unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("set sysctl net/ipv4/conf/missing/rp_filter to 0: "),
        "{error}"
    );
}

struct Directory(std::path::PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = netns::remove(&self.0, "one");
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn tempfile_directory(name: &str) -> Directory {
    let path = std::env::temp_dir().join(format!("margay-netlink-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    Directory(path)
}
