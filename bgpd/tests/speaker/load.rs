//! Many sessions and many routes at once.

use std::time::Duration;

use bgpd::session::State;

use crate::{address, hub, listen_address, network, spoke, start, wait_for};

const SPOKES: u8 = 15;
const ROUTES: u32 = 5_000;

/// Sessions with the shortest hold time survive that a large table changes again and again.
#[tokio::test]
async fn keepalives_do_not_wait_for_routes() {
    let others: Vec<u8> = (101..101 + SPOKES).collect();
    let mut config = hub(100, others.clone(), 65000);
    for neighbor in &mut config.neighbors {
        neighbor.hold_time = Duration::from_secs(3);
        neighbor.route_reflector_client = true;
    }
    let center = start(config);
    let to = listen_address(&center).await;
    let spokes: Vec<_> = others.iter().map(|last| start(spoke(*last, 65000, to))).collect();
    let all_up = async || {
        let peers = center.peers().await.unwrap();
        peers.iter().all(|peer| peer.state == State::Established)
    };
    wait_for("every session", all_up).await;
    for round in 0..4 {
        let networks = (0..ROUTES).map(|n| {
            let mut network = network(&format!("{}/32", std::net::Ipv4Addr::from(0x0a80_0000 + n)));
            network.local_pref = Some(100 + round);
            network
        });
        spokes[0].set_networks(networks.collect()).await.unwrap();
        wait_for("the routes everywhere", async || {
            let mut received = 0;
            for spoke in &spokes[1..] {
                let routes = spoke.routes(bgpd::speaker::RouteView::Best).await.unwrap();
                let current = routes
                    .iter()
                    .filter(|r| r.attributes.local_pref == Some(100 + round));
                received += current.count();
            }
            received == ROUTES as usize * (spokes.len() - 1)
        })
        .await;
    }
    let flaps: u64 = center.peers().await.unwrap().iter().map(|peer| peer.flaps).sum();
    assert_eq!(flaps, 0);
    let reflected = spokes[1].routes(bgpd::speaker::RouteView::Best).await.unwrap();
    assert_eq!(
        reflected[0].attributes.originator_id,
        Some([10, 0, 0, 101].into())
    );
    assert_eq!(reflected[0].attributes.next_hop.address(), address(101));
}
