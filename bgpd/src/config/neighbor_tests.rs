//! Neighbours on links, neighbours by range, and what authenticates them, as the file has them.

use std::path::Path;

use super::*;

const GLOBAL: &str = "[global]\nas = 65001\nrouter-id = \"10.0.0.1\"\n";

fn parse(more: &str) -> Result<Config, String> {
    parse_file(Path::new("bgpd.toml"), &format!("{GLOBAL}{more}")).map_err(|error| error.to_string())
}

fn neighbor(keys: &str) -> Result<Neighbor, String> {
    parse(&format!("[[neighbor]]\n{keys}\n")).map(|mut config| config.neighbors.remove(0))
}

#[test]
fn neighbors_on_links_are_known_by_address_or_by_interface() {
    let by_interface = neighbor("interface = \"eth0\"\nas = \"external\"").unwrap();
    assert_eq!(by_interface.key().to_string(), "eth0");
    assert_eq!(by_interface.families.iter().collect::<Vec<_>>(), Family::ALL);
    assert!(by_interface.offers_extended_next_hop() && by_interface.is_unnumbered());
    assert_eq!(by_interface.import, Policy::Reject, "RFC 8212");
    for keys in [
        "address = \"fe80::2%eth0\"",
        "address = \"fe80::2\"\ninterface = \"eth0\"",
    ] {
        let neighbor = neighbor(&format!("{keys}\nas = \"internal\"")).unwrap();
        assert_eq!(neighbor.key().to_string(), "fe80::2%eth0");
        assert!(!neighbor.is_unnumbered() && !neighbor.offers_extended_next_hop());
        assert_eq!(neighbor.import, Policy::Accept);
    }
}

#[test]
fn extended_next_hops_are_offered_over_ipv6() {
    let offers = |keys: &str| {
        neighbor(&format!("{keys}\nas = 65002"))
            .unwrap()
            .offers_extended_next_hop()
    };
    assert!(!offers("address = \"10.0.0.2\""));
    assert!(offers("address = \"10.0.0.2\"\nextended-next-hop = true"));
    assert!(!offers("address = \"fd00::2\""), "no IPv4 routes at all");
    assert!(offers("address = \"fd00::2\"\nfamilies = [\"ipv4\", \"ipv6\"]"));
    assert!(!offers(
        "address = \"fd00::2\"\nfamilies = [\"ipv4\", \"ipv6\"]\nextended-next-hop = false"
    ));
}

#[test]
fn the_as_may_be_a_kind_or_a_list() {
    let remote_as = |asn: &str| neighbor(&format!("address = \"10.0.0.2\"\nas = {asn}")).map(|n| n.remote_as);
    assert_eq!(remote_as("65002"), Ok(PeerAs::Number(65002)));
    assert_eq!(remote_as("[65002, 65003]"), Ok(PeerAs::OneOf(vec![65002, 65003])));
    assert_eq!(remote_as("\"external\""), Ok(PeerAs::External));
    for (asn, accepted, refused) in [
        (PeerAs::External, 65002, 65001),
        (PeerAs::Internal, 65001, 65002),
        (PeerAs::OneOf(vec![65002]), 65002, 65003),
    ] {
        assert!(
            asn.accepts(accepted, 65001) && !asn.accepts(refused, 65001),
            "{asn}"
        );
        let text = serde_json::to_string(&asn).unwrap();
        assert_eq!(serde_json::from_str::<PeerAs>(&text).unwrap(), asn);
    }
}

#[test]
fn what_is_wrong_is_named() {
    let ao = |keys: &str| format!("address = \"10.0.0.2\"\nas = 65002\ntcp-ao = [{keys}]");
    let key = "{ send-id = 1, receive-id = 1, algorithm = \"hmac-sha-1-96\", key = \"k\" }";
    let cases = [
        (
            "as = 65002".to_owned(),
            "bgpd.toml:4: a neighbor needs an address or an interface",
        ),
        (
            "address = \"fe80::2\"\nas = 65002".to_owned(),
            "bgpd.toml:4: neighbor fe80::2 address: is link-local: say on which interface, as in \"fe80::2%eth0\"",
        ),
        (
            "address = \"10.0.0.2\"\ninterface = \"eth0\"\nas = 65002".to_owned(),
            "bgpd.toml:4: neighbor 10.0.0.2%eth0 interface: is for neighbors with a link-local address",
        ),
        (
            "address = \"fe80::2%eth0\"\ninterface = \"eth1\"\nas = 65002".to_owned(),
            "bgpd.toml:4: neighbor address and interface name two interfaces: eth0 and eth1",
        ),
        (
            "interface = \"eth0\"\nas = 65002\nsource = \"fe80::1\"".to_owned(),
            "bgpd.toml:4: neighbor eth0 source: is our link-local address",
        ),
        (
            "interface = \"eth0\"\nas = 65002\nbfd = { multihop = true }".to_owned(),
            "bgpd.toml:4: neighbor eth0 bfd multihop:",
        ),
        (
            "interface = \"eth0/1\"\nas = 65002".to_owned(),
            "bgpd.toml:5: \"eth0/1\" is no name of an interface",
        ),
        (
            "address = \"10.0.0.2\"\nas = \"outside\"".to_owned(),
            "bgpd.toml:6: expected an AS number, a list of them, \"external\" or \"internal\"",
        ),
        (
            "address = \"10.0.0.2\"\nas = [65001, 65002]".to_owned(),
            "bgpd.toml:4: neighbor 10.0.0.2 as: our own AS cannot be in a list of others",
        ),
        (
            "address = \"fd00::2\"\nas = 65002\nextended-next-hop = true".to_owned(),
            "bgpd.toml:4: neighbor fd00::2 extended-next-hop: is about IPv4 routes",
        ),
        (
            "address = \"10.0.0.2\"\nas = 65002\nlimit = 3".to_owned(),
            "bgpd.toml:4: neighbor prefix and limit are for [[dynamic-neighbors]]",
        ),
        (
            ao(&format!("{key}, {key}")),
            "bgpd.toml:4: neighbor 10.0.0.2 tcp-ao: send-id 1 receive-id 1: another key has one of these ids",
        ),
        (
            ao(&key.replace("\"k\"", "\"\"")),
            "bgpd.toml:4: neighbor 10.0.0.2 tcp-ao: send-id 1 receive-id 1: key must have 1..80 bytes",
        ),
        (
            format!("{}\npassword = \"sesame\"", ao(key)),
            "bgpd.toml:4: neighbor 10.0.0.2 password: cannot be set together with tcp-ao",
        ),
        (
            ao(&key.replace("sha-1", "sha-9")),
            "bgpd.toml:7: unknown variant `hmac-sha-9-96`",
        ),
    ];
    for (keys, expected) in cases {
        let error = neighbor(&keys).unwrap_err();
        assert!(
            error.starts_with(expected),
            "{error:?} does not start with {expected:?}"
        );
    }
}

#[test]
fn ranges_have_a_template() {
    let config = parse(
        "[[dynamic-neighbors]]\nprefix = \"10.0.0.0/8\"\nas = \"external\"\n\
         [[dynamic-neighbors]]\nprefix = \"10.1.0.0/16\"\nas = 65002\nlimit = 3\nhold-time = 9\n\
         [[dynamic-neighbors]]\nprefix = \"fe80::/10\"\ninterface = \"eth0\"\nas = 65002\n",
    )
    .unwrap();
    let of = |address: &str, interface: Option<&str>| {
        let interface = interface.map(|name| name.parse().unwrap());
        config
            .dynamic(address.parse().unwrap(), interface)
            .map(|range| (range.name().to_string(), range.limit))
    };
    assert_eq!(of("10.1.2.3", None), Some(("10.1.0.0/16".to_owned(), 3)));
    assert_eq!(
        of("10.2.2.3", None),
        Some(("10.0.0.0/8".to_owned(), DYNAMIC_LIMIT_DEFAULT))
    );
    assert_eq!(of("11.0.0.1", None), None);
    assert_eq!(
        of("fe80::2", Some("eth0")),
        Some(("fe80::/10%eth0".to_owned(), DYNAMIC_LIMIT_DEFAULT))
    );
    assert_eq!(of("fe80::2", Some("eth1")), None);
    let key = NeighborKey::new("10.1.2.3".parse().unwrap(), BGP_PORT);
    let there = config.with_dynamic([key, NeighborKey::new("11.0.0.1".parse().unwrap(), BGP_PORT)]);
    let [only] = there.neighbors.as_slice() else {
        panic!("{:?}", there.neighbors)
    };
    assert_eq!(
        (only.key(), only.passive, only.hold_time.as_secs()),
        (key, true, 9)
    );

    for (range, expected) in [
        ("as = 65002", "bgpd.toml:4: dynamic-neighbors need a prefix"),
        (
            "prefix = \"10.0.0.1/8\"\nas = 65002",
            "bgpd.toml:4: dynamic-neighbors 10.0.0.1/8 prefix: has host bits set: write 10.0.0.0/8",
        ),
        (
            "prefix = \"10.0.0.0/8\"\nas = 65002\nlimit = 0",
            "bgpd.toml:4: dynamic-neighbors 10.0.0.0/8 limit: must be 1..10000",
        ),
        (
            "prefix = \"10.0.0.0/8\"\nas = 65002\nport = 1179",
            "bgpd.toml:4: dynamic-neighbors have a prefix instead of address and port",
        ),
        (
            "prefix = \"10.0.0.0/8\"\nas = 65002\nhold-time = 1",
            "bgpd.toml:4: dynamic-neighbors 10.0.0.0/8 hold-time:",
        ),
        (
            "prefix = \"10.0.0.0/8\"\nas = 65002\ninterface = \"eth0\"",
            "bgpd.toml:4: dynamic-neighbors 10.0.0.0/8%eth0 interface: is for link-local ranges",
        ),
    ] {
        let error = parse(&format!("[[dynamic-neighbors]]\n{range}\n")).unwrap_err();
        assert!(
            error.starts_with(expected),
            "{error:?} does not start with {expected:?}"
        );
    }
}

#[test]
fn one_key_of_the_kernel_is_for_all_that_it_covers() {
    let unnumbered = |name: &str, password: &str| {
        format!("[[neighbor]]\ninterface = \"{name}\"\nas = 65002\n{password}\n")
    };
    let sesame = "password = \"sesame\"";
    assert!(parse(&(unnumbered("eth0", sesame) + &unnumbered("eth1", sesame))).is_ok());
    assert!(parse(&(unnumbered("eth0", "") + &unnumbered("eth1", ""))).is_ok());
    let range = "[[dynamic-neighbors]]\nprefix = \"10.0.0.0/8\"\nas = 65002\npassword = \"sesame\"\n";
    let inside =
        |password: &str| format!("{range}[[neighbor]]\naddress = \"10.0.0.2\"\nas = 65002\n{password}\n");
    assert!(parse(&inside("password = \"its own\"")).is_ok());
    for (text, expected) in [
        (
            unnumbered("eth0", sesame) + &unnumbered("eth1", ""),
            "bgpd.toml:8: neighbor eth1 password: must be that of the others at fe80::/10",
        ),
        (
            unnumbered("eth0", sesame) + "[[neighbor]]\naddress = \"fe80::2%eth1\"\nas = 65002\n",
            "bgpd.toml:8: neighbor fe80::2%eth1 password: is needed",
        ),
        (
            inside(""),
            "bgpd.toml:8: neighbor 10.0.0.2 password: is needed: the kernel asks for one from all of 10.0.0.0/8",
        ),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(
            error.starts_with(expected),
            "{error:?} does not start with {expected:?}"
        );
    }
}

/// RFC 5925 section 3.1: keys come and go by their ids; what changes under its name cannot.
#[test]
fn keys_change_without_a_reset_where_they_can() {
    let key = |id, text: &str| TcpAoKey {
        send_id: id,
        receive_id: id,
        algorithm: TcpAoAlgorithm::Aes128Cmac,
        key: text.to_owned(),
    };
    let config = |keys: &[TcpAoKey]| {
        let mut config = parse("[[neighbor]]\naddress = \"10.0.0.2\"\nas = 65002\n").unwrap();
        config.neighbors[0].tcp_ao = keys.to_vec();
        config.validate().unwrap();
        config
    };
    let (one, two) = (key(1, "one"), key(2, "two"));
    for (old, new, expected) in [
        (
            vec![one.clone()],
            vec![two.clone(), one.clone()],
            NeighborChange::None,
        ),
        (
            vec![two.clone(), one.clone()],
            vec![two.clone()],
            NeighborChange::None,
        ),
        (vec![one.clone()], vec![key(1, "other")], NeighborChange::Reset),
        (vec![], vec![one.clone()], NeighborChange::Reset),
        (vec![one.clone()], vec![], NeighborChange::Reset),
    ] {
        let diff = ConfigDiff::between(&config(&old), &config(&new));
        let changed = diff.changed.first().unwrap();
        assert_eq!(
            (changed.change, changed.fields.as_slice()),
            (expected, ["tcp-ao"].as_slice()),
            "{old:?}"
        );
    }
    assert!(!format!("{one:?}").contains("one"), "secrets are not shown");
}

#[test]
fn a_default_route_is_for_families_of_the_session() {
    let export = |keys: &str| {
        neighbor(&format!("address = \"fd00::2\"\nas = 65002\n{keys}"))
            .map(|neighbor| neighbor.routing.export)
    };
    let both = "families = [\"ipv4\", \"ipv6\"]";
    assert!(export("").unwrap().default_originate.is_empty());
    assert!(
        export("default-originate = false")
            .unwrap()
            .default_originate
            .is_empty()
    );
    let originated = |keys: &str| export(keys).unwrap().default_originate.iter().collect::<Vec<_>>();
    assert_eq!(originated("default-originate = true"), [Family::Ipv6Unicast]);
    assert_eq!(
        originated(&format!("{both}\ndefault-originate = true")),
        Family::ALL
    );
    assert_eq!(
        originated(&format!("{both}\ndefault-originate = [\"ipv4\"]")),
        [Family::Ipv4Unicast]
    );
    for (keys, error) in [
        (
            "default-originate = [\"ipv4\"]",
            "neighbor fd00::2 default-originate: names ipv4, which is not among the session's families",
        ),
        (
            "default-originate-policy = \"reject\"",
            "neighbor fd00::2 default-originate-policy: is for the route of default-originate",
        ),
        (
            "default-originate = 7",
            "default-originate must be true, false, or a list",
        ),
        (
            "default-originate = true\ndefault-originate-policy = \"none such\"",
            "none such",
        ),
    ] {
        let said = export(keys).unwrap_err();
        assert!(said.contains(error), "{said}");
    }
}

#[test]
fn dampening_is_off_or_as_recommended_or_set() {
    let dampening = |keys: &str| {
        neighbor(&format!("address = \"10.0.0.2\"\nas = 65002\n{keys}"))
            .map(|neighbor| neighbor.routing.import.dampening)
    };
    assert_eq!(dampening(""), Ok(None));
    assert_eq!(dampening("dampening = false"), Ok(None));
    assert_eq!(dampening("dampening = true"), Ok(Some(Dampening::default())));
    let recommended = Dampening {
        half_life: Duration::from_secs(900),
        suppress: 6000,
        reuse: 750,
        suppress_time: Duration::from_secs(3600),
    };
    assert_eq!(Dampening::default(), recommended);
    assert_eq!(
        dampening("dampening = { half-life = 60, suppress = 2000, reuse = 700, suppress-time = 180 }"),
        Ok(Some(Dampening {
            half_life: Duration::from_secs(60),
            suppress: 2000,
            reuse: 700,
            suppress_time: Duration::from_secs(180),
        }))
    );
    for (keys, error) in [
        (
            "dampening = { half-life = 0 }",
            "neighbor 10.0.0.2 dampening half-life: must be 1..86400 s",
        ),
        (
            "dampening = { suppress-time = 86401 }",
            "dampening suppress-time: must be 1..86400 s",
        ),
        (
            "dampening = { reuse = 6000 }",
            "dampening reuse: must be at least 1, and less than suppress",
        ),
        (
            "dampening = { suppress = 12000 }",
            "dampening suppress: is never reached: penalties are at most 12000",
        ),
        ("dampening = 7", "dampening must be true, false, or a table"),
    ] {
        let said = dampening(keys).unwrap_err();
        assert!(said.contains(error), "{said}");
    }
    let internal = neighbor("address = \"10.0.0.2\"\nas = 65001\ndampening = true").unwrap_err();
    assert!(
        internal.contains("dampening: is for neighbors in other ASes"),
        "{internal}"
    );
}
