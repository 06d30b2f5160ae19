//! Route refresh with peers that the tests play.

use bgpd::speaker::{RouteView, SpeakerHandle};
use bgpd::wire::{
    Capabilities, Family, FamilySet, GracefulRestart, Message, RefreshKind, RouteRefresh, encode_end_of_rib,
    encode_route_refresh,
};

use crate::raw::RawPeer;
use crate::{address, hub, is_established, key, listen_address, network, start, wait_for};

const V4: Family = Family::Ipv4Unicast;

fn enhanced() -> Capabilities {
    Capabilities {
        enhanced_route_refresh: true,
        ..Capabilities::default()
    }
}

async fn send(peer: &mut RawPeer, kind: RefreshKind) {
    peer.send(&encode_route_refresh(V4, kind)).await;
}

/// The next ROUTE-REFRESH, and how many routes came before it.
async fn refresh(peer: &mut RawPeer) -> (RefreshKind, usize) {
    let mut routes = 0;
    loop {
        match peer.message().await {
            Message::RouteRefresh(Some(RouteRefresh { kind, family: V4 })) => return (kind, routes),
            Message::Update(update) => {
                routes += update
                    .announced
                    .iter()
                    .map(|part| part.prefixes.len())
                    .sum::<usize>();
            }
            _ => {}
        }
    }
}

async fn received(speaker: &SpeakerHandle, last: u8) -> Vec<String> {
    let view = RouteView::Received(key(address(last), 179));
    let routes = speaker.routes(view).await.unwrap();
    routes.iter().map(|route| route.prefix.to_string()).collect()
}

/// Requests cost one flag: while an answer is under way, at most one more follows.
#[tokio::test]
async fn a_flood_of_requests_gets_few_answers() {
    const ROUTES: usize = 60_000;
    const REQUESTS: usize = 20_000;
    let mut config = hub(101, [102], 65000);
    config.networks = (0..ROUTES as u32)
        .map(|n| network(&format!("{}/32", std::net::Ipv4Addr::from(0x0a80_0000 + n))))
        .collect();
    let speaker = start(config);
    let mut peer = RawPeer::open_with(102, listen_address(&speaker).await, 90, enhanced()).await;
    assert_eq!(peer.table().await.len(), ROUTES);
    // Nothing is read meanwhile: the answer is under way for all of it, as its routes do not fit into the socket.
    send(&mut peer, RefreshKind::Request).await;
    let flood = encode_route_refresh(V4, RefreshKind::Request).repeat(REQUESTS);
    peer.send(&flood).await;
    assert_eq!(refresh(&mut peer).await.0, RefreshKind::Begin);
    assert_eq!(refresh(&mut peer).await, (RefreshKind::End, ROUTES));
    // By the time that this one is told of, every request has been taken in.
    speaker.set_networks(vec![network("10.9.0.0/16")]).await.unwrap();
    let mut seen = false;
    let mut more = 0;
    while !seen || more == 0 {
        match peer.message().await {
            Message::Update(update) => {
                let mut prefixes = update.announced.iter().flat_map(|part| &part.prefixes);
                seen |= prefixes.any(|prefix| prefix.to_string() == "10.9.0.0/16");
            }
            Message::RouteRefresh(Some(refresh)) => more += usize::from(refresh.kind == RefreshKind::End),
            _ => {}
        }
    }
    assert!(more <= 2, "{more} answers after the first to {REQUESTS} requests");
    assert!(is_established(&speaker, address(102)).await);
}

/// RFC 7313 section 4: what lies between the beginning and the end is all there is.
#[tokio::test]
async fn a_refresh_sweeps_what_it_does_not_bring() {
    let speaker = start(hub(103, [104], 65000));
    let mut peer = RawPeer::open_with(104, listen_address(&speaker).await, 90, enhanced()).await;
    peer.table().await;
    peer.announce(&["10.1.0.0/16", "10.2.0.0/16"]).await;
    // An end without a beginning, and subtypes that nobody has defined, change nothing.
    send(&mut peer, RefreshKind::End).await;
    let mut unknown = encode_route_refresh(V4, RefreshKind::Request);
    unknown[21] = 77;
    peer.send(&unknown).await;
    send(&mut peer, RefreshKind::Begin).await;
    peer.announce(&["10.2.0.0/16", "10.3.0.0/16"]).await;
    wait_for("the new route beside the stale one", async || {
        received(&speaker, 104).await == ["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"]
    })
    .await;
    send(&mut peer, RefreshKind::End).await;
    wait_for("the sweep", async || {
        received(&speaker, 104).await == ["10.2.0.0/16", "10.3.0.0/16"]
    })
    .await;
    assert!(is_established(&speaker, address(104)).await);
    let counted = crate::peer(&speaker, address(104)).await;
    let received = counted.messages_received;
    assert_eq!(
        (received.open, received.update, received.route_refresh),
        (1, 2, 4)
    );
    let sent = counted.messages_sent;
    assert_eq!(
        (sent.open, sent.update, sent.notification),
        (1, 1, 0),
        "End-of-RIB is an UPDATE"
    );
    assert!(sent.keepalive >= 1 && received.keepalive >= 1);
}

/// RFC 7313 section 4: with graceful restart, a beginning before End-of-RIB does not count.
#[tokio::test]
async fn a_refresh_before_end_of_rib_is_passed_over() {
    let speaker = start(hub(105, [106], 65000));
    let capabilities = Capabilities {
        graceful_restart: Some(GracefulRestart {
            restarted: false,
            notification: false,
            restart_time_s: 30,
            families: [V4].into_iter().collect(),
            preserved: FamilySet::EMPTY,
        }),
        ..enhanced()
    };
    let mut peer = RawPeer::open_with(106, listen_address(&speaker).await, 90, capabilities).await;
    peer.table().await;
    peer.announce(&["10.1.0.0/16"]).await;
    send(&mut peer, RefreshKind::Begin).await;
    send(&mut peer, RefreshKind::End).await;
    peer.announce(&["10.2.0.0/16"]).await;
    wait_for("both routes", async || {
        received(&speaker, 106).await == ["10.1.0.0/16", "10.2.0.0/16"]
    })
    .await;
    let mut end = Vec::new();
    encode_end_of_rib(V4, &mut end);
    peer.send(&end).await;
    send(&mut peer, RefreshKind::Begin).await;
    peer.announce(&["10.2.0.0/16"]).await;
    send(&mut peer, RefreshKind::End).await;
    wait_for("the sweep", async || {
        received(&speaker, 106).await == ["10.2.0.0/16"]
    })
    .await;
}

/// RFC 7313 section 5.
#[tokio::test]
async fn a_beginning_of_a_wrong_length_ends_the_session() {
    let speaker = start(hub(107, [108], 65000));
    let mut peer = RawPeer::open_with(108, listen_address(&speaker).await, 90, enhanced()).await;
    peer.table().await;
    let mut long = encode_route_refresh(V4, RefreshKind::Begin);
    long.push(0);
    long[17] += 1;
    peer.send(&long).await;
    let notification = loop {
        if let Message::Notification(notification) = peer.message().await {
            break notification;
        }
    };
    assert_eq!((notification.code, notification.subcode), (7, 1));
    assert_eq!(notification.data, long);
}
