//! A route that flaps is kept from use for a while, and comes back by itself.

use std::time::Duration;

use bgpd::config::Dampening;
use bgpd::speaker::RouteView;

use crate::{address, best, hub, is_established, key, listen_address, network, peer, spoke, start, wait_for};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_that_flaps_comes_back_when_its_time_has_come() {
    let mut config = hub(51, [52], 65052);
    // Two withdrawals within 11 s are enough, for some 7 s.
    config.neighbors[0].routing.import.dampening = Some(Dampening {
        half_life: Duration::from_secs(5),
        suppress: 1200,
        reuse: 750,
        suppress_time: Duration::from_secs(15),
    });
    let hub = start(config.clone());
    let mut far = spoke(52, 65052, listen_address(&hub).await);
    far.networks = vec![network("10.1.0.0/24"), network("10.2.0.0/24")];
    let spoke = start(far.clone());
    let both = ["10.1.0.0/24", "10.2.0.0/24"];
    wait_for("both routes", async || best(&hub).await == both).await;
    for _ in 0..2 {
        spoke.set_networks(far.networks[1..].to_vec()).await.unwrap();
        wait_for("a withdrawal", async || {
            peer(&hub, address(52)).await.prefixes_received == 1
        })
        .await;
        spoke.set_networks(far.networks.clone()).await.unwrap();
        wait_for("an announcement", async || {
            peer(&hub, address(52)).await.prefixes_received == 2
        })
        .await;
    }
    assert_eq!(best(&hub).await, both[1..], "the other one alone");
    let status = peer(&hub, address(52)).await;
    assert_eq!((status.prefixes_accepted, status.prefixes_dampened), (1, 1));
    let received = hub
        .routes(RouteView::Received(key(address(52), 179)))
        .await
        .unwrap();
    let dampening = received[0].dampening.unwrap();
    assert!(
        dampening.penalty <= 2000 && dampening.reuse_in.is_some(),
        "{dampening:?}"
    );
    assert_eq!(received[1].dampening, None);
    wait_for("the route by itself", async || best(&hub).await == both).await;
    assert!(is_established(&hub, address(52)).await);
    assert_eq!(peer(&hub, address(52)).await.flaps, 0);
    // Switched off, nothing is counted any more.
    config.neighbors[0].routing.import.dampening = None;
    hub.reconfigure(config).await.unwrap();
    assert_eq!(hub.clear_dampening(None, None).await.unwrap(), 0);
}
