//! The tables in pages are the tables.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use bgpd::config::Network;
use bgpd::rib::PeerId;
use bgpd::wire::{Family, Prefix};

use crate::cases::{drain, rib, route, settings};

const V4: Family = Family::Ipv4Unicast;

fn prefix(n: u32) -> Prefix {
    Prefix::new(Ipv4Addr::from(0x0a40_0000 + n * 256).into(), 24).unwrap()
}

#[test]
fn pages_make_up_the_table() {
    let mut rib = rib();
    let peers: [PeerId; 3] = [2, 3, 4].map(|last| rib.peer_up(settings(last, 65000 + u32::from(last))));
    let [one, two, three] = peers;
    rib.update(one, route(2, &[65002, 7]), (0..3000).map(prefix));
    rib.update(two, route(3, &[65003]), (1000..4000).map(prefix));
    (4000..4100).for_each(|n| rib.originate(&Network::from(prefix(n))));
    rib.withdraw(one, (500..700).map(prefix));
    drain(&mut rib);
    for size in [1, 7, 1000, 100_000] {
        let pages = || {
            (0..rib.places(V4))
                .step_by(size as usize)
                .map(|from| from..from + size)
        };
        let mut best: Vec<_> = pages().flat_map(|page| rib.best_in(V4, page)).collect();
        best.sort_by_key(|view| view.prefix);
        assert_eq!(best, rib.best(V4));
        assert_eq!(best.len(), 3900);
        for peer in peers {
            let mut received: Vec<_> = pages().flat_map(|page| rib.received_in(peer, V4, page)).collect();
            received.sort_by_key(|view| view.prefix);
            assert_eq!(received, rib.received(peer, V4));
            let mut told: Vec<_> = pages()
                .flat_map(|page| rib.advertised_in(peer, V4, page))
                .collect();
            told.sort_by_key(|route| route.prefix);
            assert_eq!(told, rib.advertised(peer, V4));
        }
        let mut counted = HashMap::default();
        pages().for_each(|page| rib.count_in(V4, page, &mut counted));
        for peer in peers {
            let counters = counted[&peer];
            assert_eq!(counters.received, rib.received(peer, V4).len());
            assert_eq!(counters.advertised, rib.advertised(peer, V4).len());
            assert_eq!(counters, rib.counters(peer, V4));
        }
        assert_eq!(
            [one, two, three].map(|peer| (
                counted[&peer].received,
                counted[&peer].selected,
                counted[&peer].advertised
            )),
            [(2800, 800, 3100), (3000, 3000, 900), (0, 0, 3900)]
        );
    }
    let place = rib.place_of_prefix(&prefix(4001)).unwrap();
    assert_eq!(rib.best_in(V4, place..place + 1)[0].prefix, prefix(4001));
    assert_eq!(rib.place_of_prefix(&prefix(9000)), None);
}
