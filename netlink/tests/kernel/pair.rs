//! Namespaces for tests: unnamed ones, so that nothing is left however a test ends.

use netlink::{Connection, NetNs, VethSpec};

/// Two namespaces joined by a veth pair `east` and `west`, both ends up with addresses.
pub(crate) struct Pair {
    pub(crate) east: NetNs,
    pub(crate) west: NetNs,
    pub(crate) east_link: u32,
    pub(crate) west_link: u32,
}

impl Pair {
    pub(crate) fn new() -> Pair {
        let east = NetNs::unnamed().unwrap();
        let west = NetNs::unnamed().unwrap();
        let mut nl = Connection::open_in(&east).unwrap();
        nl.create_veth(&VethSpec {
            peer_netns: Some(&west),
            ..VethSpec::new("east", "west")
        })
        .unwrap();
        set_up(&mut nl, "lo", &[]);
        let east_link = set_up(&mut nl, "east", &["10.0.0.1/24", "fd00::1/64"]);
        let mut nl = Connection::open_in(&west).unwrap();
        set_up(&mut nl, "lo", &[]);
        let west_link = set_up(&mut nl, "west", &["10.0.0.2/24", "fd00::2/64"]);
        Pair {
            east,
            west,
            east_link,
            west_link,
        }
    }
}

pub(crate) fn set_up(nl: &mut Connection, name: &str, addresses: &[&str]) -> u32 {
    let index = nl.index_of(name).unwrap();
    nl.set_up(index).unwrap();
    for address in addresses {
        nl.add_address(index, address.parse().unwrap()).unwrap();
    }
    index
}
