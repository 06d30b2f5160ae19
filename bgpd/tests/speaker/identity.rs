//! AS numbers: two of ours on one session, and sets of them in paths.

use bgpd::speaker::{RouteView, SpeakerHandle};
use bgpd::wire::{AsPath, Attributes, NextHop, Segment, SegmentKind};

use crate::raw::RawPeer;
use crate::{address, best, hub, is_established, key, listen_address, network, peer, spoke, start, wait_for};

async fn received(speaker: &SpeakerHandle, last: u8) -> Vec<String> {
    let view = RouteView::Received(key(address(last), 179));
    let routes = speaker.routes(view).await.unwrap();
    routes.iter().map(|route| route.prefix.to_string()).collect()
}

/// The neighbour knows us by the AS that we had before.
#[tokio::test]
async fn a_neighbor_may_know_us_by_either_as() {
    for expected in [64999, 65010] {
        let mut config = hub(121, [122], expected);
        config.networks = vec![network("10.1.0.0/24")];
        let hub = start(config);
        let mut config = spoke(122, 65010, listen_address(&hub).await);
        config.networks = vec![network("10.2.0.0/24")];
        let neighbor = &mut config.neighbors[0];
        (neighbor.local_as, neighbor.dual_as) = (Some(64999), true);
        let spoke = start(config);
        wait_for("the routes", async || {
            best(&hub).await.len() == 2 && best(&spoke).await.len() == 2
        })
        .await;
        let route = hub
            .routes_of(RouteView::Best, "10.2.0.0/24".parse().unwrap())
            .await
            .unwrap();
        assert_eq!(route[0].attributes.as_path.to_string(), expected.to_string());
        let of_spoke = spoke.peers().await.unwrap();
        assert_eq!(of_spoke[0].local_as, expected);
    }
}

/// RFC 9774 section 3, and its exception by configuration.
#[tokio::test]
async fn as_sets_are_taken_where_that_is_asked() {
    for (as_sets, expected) in [(false, vec![]), (true, vec!["10.3.0.0/16".to_owned()])] {
        let mut config = hub(123, [124], 65000);
        config.neighbors[0].as_sets = as_sets;
        let speaker = start(config);
        let mut peer_of = RawPeer::open(124, listen_address(&speaker).await, 90).await;
        peer_of.table().await;
        let mut attributes = Attributes::originated(NextHop::from(address(124)));
        attributes.local_pref = Some(100);
        attributes.as_path = AsPath::sequence([65020]);
        attributes.as_path.segments.push(Segment {
            kind: SegmentKind::Set,
            ases: [65021, 65022].into_iter().collect(),
        });
        peer_of.announce_attributes(&attributes, &["10.3.0.0/16"]).await;
        peer_of.announce(&["10.4.0.0/16"]).await;
        let expected = [expected, vec!["10.4.0.0/16".to_owned()]].concat();
        wait_for("the routes", async || received(&speaker, 124).await == expected).await;
        assert!(is_established(&speaker, address(124)).await);
        assert_eq!(peer(&speaker, address(124)).await.flaps, 0);
    }
}
