//! Add-path (RFC 7911): two origins of the same prefixes tell both us and a router of another make, and each of
//! these tells the other of both paths.

use std::time::Duration;

use bgpd_proto::v1::Route;

use crate::net::{Netns, wait_for};
use crate::ours::Bgpd;
use crate::routers::{Bird, ExaBgp, Frr, GoBgp, OpenBgpd, Router};

const SESSION_TIME: Duration = Duration::from_secs(30);
const ROUTE_TIME: Duration = Duration::from_secs(20);
const PREFIXES: [(&str, &str, &str); 2] = [
    ("198.51.100.0/24", "10.0.0.1", "10.0.0.2"),
    ("2001:db8:2::/48", "fd00::1", "fd00::2"),
];
/// AS numbers of the origins, which are the last octets of their addresses too.
const ORIGINS: [u32; 2] = [3, 4];

/// Us at .1, the router at .2, and the origins' .3 and .4, on one network.
fn network() -> [Netns; 3] {
    let nets = [Netns::new(), Netns::new(), Netns::new()];
    let [a, b, origins] = &nets;
    origins.run("ip link add br0 type bridge");
    for (netns, last) in [(a, 1), (b, 2)] {
        origins.run(&format!(
            "ip link add port{last} type veth peer name eth0 netns {}",
            netns.pid()
        ));
        origins.run(&format!("ip link set port{last} master br0 up"));
        netns.run(&format!("ip addr add 10.0.0.{last}/24 dev eth0"));
        netns.run(&format!("ip addr add fd00::{last}/64 dev eth0 nodad"));
        netns.run("ip link set eth0 up");
    }
    for last in ORIGINS {
        origins.run(&format!("ip addr add 10.0.0.{last}/24 dev br0"));
        origins.run(&format!("ip addr add fd00::{last}/64 dev br0 nodad"));
    }
    origins.run("ip link set br0 up");
    nets
}

fn neighbor(address: &str, peer_as: u32, import: &str, more: &str) -> String {
    format!(
        "[[neighbor]]\naddress = \"{address}\"\nas = {peer_as}\nhold-time = 30\n\
         import = \"{import}\"\nexport = \"accept\"\n{more}\n"
    )
}

fn origin_config(last: u32, announces: bool) -> String {
    let mut config = format!(
        "[global]\nas = {last}\nrouter-id = \"10.0.0.{last}\"\nfib = false\n\
         listen = [\"10.0.0.{last}:179\", \"[fd00::{last}]:179\"]\n"
    );
    for net in ["10.0.0.", "fd00::"] {
        for (to, peer_as) in [(1, 65001), (2, 65002)] {
            let source = format!("source = \"{net}{last}\"");
            // They pass nothing on.
            config.push_str(&neighbor(&format!("{net}{to}"), peer_as, "reject", &source));
        }
    }
    for (prefix, ..) in PREFIXES.iter().filter(|_| announces) {
        config.push_str(&format!("[[network]]\nprefix = \"{prefix}\"\n"));
    }
    config
}

fn our_config() -> String {
    let mut config =
        "[global]\nas = 65001\nrouter-id = \"10.0.0.1\"\nlisten = [\"0.0.0.0:179\", \"[::]:179\"]\n\
                      fib = false\n"
            .to_owned();
    for net in ["10.0.0.", "fd00::"] {
        config.push_str(&neighbor(
            &format!("{net}2"),
            65002,
            "accept",
            "add-paths = \"both\"",
        ));
        for last in ORIGINS {
            config.push_str(&neighbor(
                &format!("{net}{last}"),
                last,
                "accept",
                "passive = true",
            ));
        }
    }
    config
}

/// AS_PATHs of a prefix's routes.
fn paths(routes: &[Route], prefix: &str) -> Vec<String> {
    let of_prefix = routes.iter().filter(|route| route.prefix == prefix);
    let mut paths: Vec<String> = of_prefix.map(|route| route.as_path.clone()).collect();
    paths.sort_unstable();
    paths
}

fn both_ways(start: impl FnOnce(&Netns, &std::path::Path) -> Box<dyn Router>) {
    let [a, b, origins] = network();
    let directories = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [directory, others @ ..] = &directories;
    let router = start(&b, directory.path());
    let ours = Bgpd::start(&a, directory.path(), &our_config(), "");
    let [_third, fourth] = [0, 1].map(|at| {
        let config = origin_config(ORIGINS[at], true);
        Bgpd::start(&origins, others[at].path(), &config, "")
    });
    for (_, local, remote) in PREFIXES {
        wait_for(remote, SESSION_TIME, || ours.is_established(remote));
        wait_for(local, SESSION_TIME, || router.is_established(local));
        let session = ours.peer(remote).unwrap().session.unwrap();
        for capability in ["add-path-receive", "add-path-send"] {
            assert!(
                session.capabilities.iter().any(|other| other == capability),
                "{session:?}"
            );
        }
    }
    let expect = |own: &[u32]| {
        for (prefix, _, remote) in PREFIXES {
            let wanted: Vec<String> = own.iter().map(|asn| format!("65002 {asn}")).collect();
            wait_for(
                &format!("{prefix} from the router: {wanted:?}"),
                ROUTE_TIME,
                || {
                    let routes = ours.routes("received", remote);
                    let mut received = paths(&routes, prefix);
                    // Some send back what we said.
                    received.retain(|path| !path.contains("65001"));
                    received == wanted && routes.iter().all(|route| route.has_path_id)
                },
            );
            let told: Vec<String> = own.iter().map(|asn| format!("65001 {asn}")).collect();
            wait_for(&format!("{prefix} to the router: {told:?}"), ROUTE_TIME, || {
                let shown = router.route(prefix).unwrap_or_default();
                ORIGINS
                    .iter()
                    .all(|asn| shown.contains(&format!("65001 {asn}")) == own.contains(asn))
            });
            let routes = ours.routes("advertised", remote);
            assert_eq!(paths(&routes, prefix), told);
            let of_prefix = routes.iter().filter(|route| route.prefix == prefix);
            let mut ids: Vec<u32> = of_prefix.map(|route| route.path_id).collect();
            ids.dedup();
            assert_eq!(ids.len(), own.len(), "{routes:?}");
        }
    };
    expect(&ORIGINS);
    fourth.reload(&origin_config(ORIGINS[1], false));
    expect(&ORIGINS[..1]);
    fourth.reload(&origin_config(ORIGINS[1], true));
    expect(&ORIGINS);
    for (_, _, remote) in PREFIXES {
        assert_eq!(ours.peer(remote).unwrap().flaps, 0);
    }
}

#[test]
pub(crate) fn bird_with_add_paths() {
    both_ways(|netns, directory| {
        let session = |name: &str, family: &str, local: &str, remote: &str, peer_as: u32, more: &str| {
            format!(
                "protocol bgp {name} {{ local {local} as 65002; neighbor {remote} as {peer_as}; hold time 30;\n\
                   connect retry time 1; error wait time 1, 2; {family} {{ import all; {more} }}; }}\n"
            )
        };
        let mut config = "router id 10.0.0.2;\nprotocol device {}\n".to_owned();
        for (family, net) in [("ipv4", "10.0.0."), ("ipv6", "fd00::")] {
            let (local, ours) = (format!("{net}2"), format!("{net}1"));
            let more = "export all; add paths on;";
            config.push_str(&session(
                &format!("ours_{family}"),
                family,
                &local,
                &ours,
                65001,
                more,
            ));
            for last in ORIGINS {
                let (name, remote) = (format!("origin{last}_{family}"), format!("{net}{last}"));
                config.push_str(&session(&name, family, &local, &remote, last, "export none;"));
            }
        }
        Box::new(Bird::start(netns, directory, &config))
    });
}

#[test]
pub(crate) fn frr_with_addpath_tx_all_paths() {
    both_ways(|netns, directory| {
        let mut config = "router bgp 65002\n bgp router-id 10.0.0.2\n no bgp ebgp-requires-policy\n \
                          timers bgp 10 30\n"
            .to_owned();
        let (mut v4, mut v6) = (String::new(), String::new());
        for (net, family) in [("10.0.0.", &mut v4), ("fd00::", &mut v6)] {
            for (last, peer_as) in [(1, 65001), (3, 3), (4, 4)] {
                config.push_str(&format!(" neighbor {net}{last} remote-as {peer_as}\n"));
                config.push_str(&format!(" neighbor {net}{last} timers connect 1\n"));
                family.push_str(&format!("  neighbor {net}{last} activate\n"));
                config.push_str(&match net {
                    "fd00::" => format!(
                        " address-family ipv4 unicast\n  no neighbor {net}{last} activate\n exit-address-family\n"
                    ),
                    _ => String::new(),
                });
            }
            family.push_str(&format!("  neighbor {net}1 addpath-tx-all-paths\n"));
        }
        config.push_str(&format!(
            " address-family ipv4 unicast\n{v4} exit-address-family\n\
             \x20address-family ipv6 unicast\n{v6} exit-address-family\n"
        ));
        Box::new(Frr::start(netns, directory, &config))
    });
}

#[test]
pub(crate) fn gobgp_with_add_paths() {
    both_ways(|netns, directory| {
        let mut config = "[global.config]\nas = 65002\nrouter-id = \"10.0.0.2\"\n".to_owned();
        for (net, family) in [("10.0.0.", "ipv4-unicast"), ("fd00::", "ipv6-unicast")] {
            for (last, peer_as) in [(1, 65001), (3, 3), (4, 4)] {
                config.push_str(&format!(
                    "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{net}{last}\"\npeer-as = {peer_as}\n\
                     [neighbors.timers.config]\nhold-time = 30\nkeepalive-interval = 10\nconnect-retry = 1\n\
                     [[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}\"\n"
                ));
                if last == 1 {
                    config.push_str("[neighbors.afi-safis.add-paths.config]\nreceive = true\nsend-max = 8\n");
                }
            }
        }
        Box::new(GoBgp::start(netns, directory, &config))
    });
}

#[test]
pub(crate) fn openbgpd_with_add_paths() {
    both_ways(|netns, directory| {
        let mut config =
            "AS 65002\nrouter-id 10.0.0.2\nfib-update no\nconnect-retry 1\nlisten on 0.0.0.0\nlisten on ::\n\
                          nexthop qualify via default\n"
                .to_owned();
        for (net, family) in [("10.0.0.", "IPv4"), ("fd00::", "IPv6")] {
            for (last, peer_as) in [(1, 65001), (3, 3), (4, 4)] {
                let add_path = match last {
                    1 => " announce add-path recv yes\n announce add-path send all\n",
                    _ => "",
                };
                config.push_str(&format!(
                    "neighbor {net}{last} {{\n remote-as {peer_as}\n local-address {net}2\n holdtime 30\n \
                     announce {family} unicast\n{add_path}}}\n"
                ));
            }
        }
        config.push_str("allow from any\nallow to any\n");
        Box::new(OpenBgpd::start(netns, directory, &config))
    });
}

/// ExaBGP has no table: it tells two paths of its own, and hears of ours.
#[test]
pub(crate) fn exabgp_with_add_paths() {
    let [a, b, origins] = network();
    let directories = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [directory, others @ ..] = &directories;
    let mut config = String::new();
    for ((prefix, ours, local), family) in PREFIXES.into_iter().zip(["ipv4", "ipv6"]) {
        let paths: String = [(1, 7), (2, 8)]
            .map(|(id, asn)| {
                format!(
                    "unicast {prefix} next-hop {local} path-information 0.0.0.{id} as-path [ 65002 {asn} ]; "
                )
            })
            .concat();
        config.push_str(&format!(
            "neighbor {ours} {{\n router-id 10.0.0.2;\n local-address {local};\n local-as 65002;\n peer-as 65001;\n \
             hold-time 30;\n passive false;\n capability {{ add-path send/receive; route-refresh disable; }}\n \
             family {{ {family} unicast; }}\n add-path {{ {family} unicast; }}\n {}\n announce {{ {family} {{ {paths} }} }}\n}}\n",
            ExaBgp::API
        ));
    }
    let router = ExaBgp::start(&b, directory.path(), &config);
    let ours = Bgpd::start(&a, directory.path(), &our_config(), "");
    let _origins = [0, 1].map(|at| {
        let config = origin_config(ORIGINS[at], true);
        Bgpd::start(&origins, others[at].path(), &config, "")
    });
    for (prefix, local, remote) in PREFIXES {
        wait_for(remote, SESSION_TIME, || {
            ours.is_established(remote) && router.is_established(local)
        });
        wait_for(&format!("both paths of {prefix}"), ROUTE_TIME, || {
            let routes = ours.routes("received", remote);
            let of_prefix = routes.iter().filter(|route| route.prefix == prefix);
            let mut ids: Vec<_> = of_prefix
                .map(|route| (route.path_id, route.as_path.clone()))
                .collect();
            ids.sort_unstable();
            ids == [(1, "65002 7".to_owned()), (2, "65002 8".to_owned())]
        });
        wait_for(&format!("our paths of {prefix}"), ROUTE_TIME, || {
            let heard: Vec<String> = router.heard().iter().map(ToString::to_string).collect();
            ORIGINS.iter().all(|asn| {
                heard.iter().any(|event| {
                    event.contains(prefix)
                        && event.contains("path-information")
                        && event.contains(&format!("65001,{asn}]"))
                })
            })
        });
    }
}

/// The daemon on the other side.
struct Ourselves(Bgpd);

impl Router for Ourselves {
    fn is_established(&self, peer: &str) -> bool {
        self.0.is_established(peer)
    }

    fn route(&self, prefix: &str) -> Option<String> {
        let peer = if prefix.contains(':') {
            "fd00::1"
        } else {
            "10.0.0.1"
        };
        let paths = paths(&self.0.routes("received", peer), prefix);
        (!paths.is_empty()).then(|| paths.join("\n"))
    }
}

#[test]
fn ourselves_with_add_paths() {
    both_ways(|netns, directory| {
        let directory = directory.join("router");
        std::fs::create_dir(&directory).unwrap();
        let ours = our_config();
        let config = ours
            .replace("as = 65001", "as = 0")
            .replace("as = 65002", "as = 65001")
            .replace("as = 0", "as = 65002")
            .replace("\"10.0.0.1\"", "\"10.0.0.254\"")
            .replace("\"10.0.0.2\"", "\"10.0.0.1\"")
            .replace("\"fd00::2\"", "\"fd00::1\"");
        Box::new(Ourselves(Bgpd::start(netns, &directory, &config, "")))
    });
}
