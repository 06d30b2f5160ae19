//! What a speaker keeps: routes of a neighbour that restarts, and sessions when the configuration changes. And what
//! it does not: more routes than it was told to take.

use std::time::Duration;

use bgpd::config::{MaxPrefix, NextHopMode};
use bgpd::rib::PathStatus;
use bgpd::session::State;
use bgpd::speaker::RouteView;
use bgpd::wire::{
    Capabilities, Community, Family, FamilySet, GracefulRestart, LongLivedFamily, Message, encode_end_of_rib,
};

use crate::raw::RawPeer;
use crate::{address, best, hub, is_established, listen_address, network, peer, spoke, start, wait_for};

fn v4() -> FamilySet {
    [Family::Ipv4Unicast].into_iter().collect()
}

fn restarts(restart_time_s: u16, preserved: FamilySet) -> Capabilities {
    Capabilities {
        graceful_restart: Some(GracefulRestart {
            restart_time_s,
            families: v4(),
            preserved,
            ..GracefulRestart::default()
        }),
        ..Capabilities::default()
    }
}

fn end_of_rib() -> Vec<u8> {
    let mut octets = Vec::new();
    encode_end_of_rib(Family::Ipv4Unicast, &mut octets);
    octets
}

/// RFC 4724 section 4.2, with a neighbour that restarts, restarts again while its routes are stale, and stays away.
#[tokio::test]
async fn routes_of_a_restarting_neighbor_stay() {
    let speaker = start(hub(81, [82], 65000));
    let to = listen_address(&speaker).await;
    let stale = async || {
        let routes = speaker.routes(RouteView::Best).await.unwrap();
        let stale = routes.into_iter().filter(|route| route.stale);
        stale.map(|route| route.prefix.to_string()).collect::<Vec<_>>()
    };
    let mut first = RawPeer::open_with(82, to, 90, restarts(60, FamilySet::EMPTY)).await;
    first
        .announce(&["10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24"])
        .await;
    first.send(&end_of_rib()).await;
    wait_for("three routes", async || best(&speaker).await.len() == 3).await;
    assert!(stale().await.is_empty());
    drop(first);
    wait_for("stale routes", async || stale().await.len() == 3).await;
    assert!(!is_established(&speaker, address(82)).await);

    // It is back with two of them, and gone again before its End-of-RIB: what was stale before goes.
    let mut second = RawPeer::open_with(82, to, 90, restarts(60, v4())).await;
    second.announce(&["10.1.0.0/24", "10.2.0.0/24"]).await;
    wait_for("one route that is still stale", async || {
        is_established(&speaker, address(82)).await && stale().await == ["10.3.0.0/24"]
    })
    .await;
    drop(second);
    wait_for("the second restart", async || {
        stale().await == ["10.1.0.0/24", "10.2.0.0/24"]
    })
    .await;

    // It is back with one, and says that this is all.
    let mut third = RawPeer::open_with(82, to, 90, restarts(2, v4())).await;
    third.announce(&["10.1.0.0/24"]).await;
    third.send(&end_of_rib()).await;
    wait_for("the sweep", async || best(&speaker).await == ["10.1.0.0/24"]).await;
    assert!(stale().await.is_empty());
    // It stays away: its restart time, two seconds by now, ends the wait.
    drop(third);
    wait_for("a stale route", async || stale().await.len() == 1).await;
    wait_for("its end", async || best(&speaker).await.is_empty()).await;
}

#[tokio::test]
async fn too_many_routes_end_the_session_until_its_time() {
    let mut config = hub(83, [84], 65000);
    config.neighbors[0].max_prefixes = vec![MaxPrefix {
        restart: Some(Duration::from_secs(3)),
        ..MaxPrefix::new(Family::Ipv4Unicast, 3)
    }];
    let speaker = start(config);
    let to = listen_address(&speaker).await;
    let mut greedy = RawPeer::open(84, to, 90).await;
    greedy
        .announce(&["10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24"])
        .await;
    // The same again is no more.
    greedy.announce(&["10.1.0.0/24"]).await;
    wait_for("three routes", async || best(&speaker).await.len() == 3).await;
    greedy.announce(&["10.4.0.0/24", "10.5.0.0/24"]).await;
    let notification = loop {
        if let Message::Notification(notification) = greedy.message().await {
            break notification;
        }
    };
    assert_eq!((notification.code, notification.subcode), (6, 1));
    assert_eq!(notification.data, [0, 1, 1, 0, 0, 0, 3]);
    wait_for("the end of its routes", async || best(&speaker).await.is_empty()).await;
    // Three seconds later it is taken again: it gets an OPEN.
    let begin = std::time::Instant::now();
    while RawPeer::open(84, to, 90).await.first_message_kind().await != Some(1) {
        assert!(begin.elapsed() < crate::TIME_MAX, "it is never taken again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Whoever sent most is the one that goes, not who was the last to send something.
#[tokio::test]
async fn with_too_many_paths_the_session_with_most_of_them_ends() {
    let mut config = hub(93, [94, 95], 65000);
    config.max_paths = Some(5);
    let speaker = start(config.clone());
    let to = listen_address(&speaker).await;
    let (mut greedy, mut modest) = (RawPeer::open(94, to, 90).await, RawPeer::open(95, to, 90).await);
    greedy
        .announce(&["10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24", "10.4.0.0/24"])
        .await;
    wait_for("four routes", async || best(&speaker).await.len() == 4).await;
    modest.announce(&["10.5.0.0/24"]).await;
    wait_for("as many as there may be", async || {
        best(&speaker).await.len() == 5
    })
    .await;
    // One more path, though of no other prefix.
    modest.announce(&["10.1.0.0/24"]).await;
    let notification = loop {
        if let Message::Notification(notification) = greedy.message().await {
            break notification;
        }
    };
    assert_eq!((notification.code, notification.subcode), (6, 8));
    let left = ["10.1.0.0/24", "10.5.0.0/24"];
    wait_for("the others", async || best(&speaker).await == left).await;
    let status = peer(&speaker, address(94)).await;
    assert!(status.last_error.unwrap().contains("out of resources"));
    assert_eq!(peer(&speaker, address(95)).await.flaps, 0);
    // A lower limit counts at once, and resets nobody by itself.
    config.listen = speaker.config().await.unwrap().listen;
    config.max_paths = Some(2);
    let diff = speaker.reconfigure(config.clone()).await.unwrap();
    assert!(diff.max_paths && diff.changed.is_empty());
    assert_eq!(best(&speaker).await, left);
    config.max_paths = Some(1);
    speaker.reconfigure(config).await.unwrap();
    wait_for("an empty table", async || best(&speaker).await.is_empty()).await;
}

/// A next-hop mode, a number of own ASes, a TTL and a password change without a flap; the last one on both sides.
#[tokio::test]
async fn sessions_outlive_changes_of_their_settings() {
    let mut config = hub(85, [86, 87], 65001);
    config.networks = vec![network("10.8.0.0/24")];
    for neighbor in &mut config.neighbors {
        neighbor.hold_time = Duration::from_secs(3);
        neighbor.password = Some("old".to_owned());
    }
    let center = start(config.clone());
    let to = listen_address(&center).await;
    let mut other = spoke(86, 65001, to);
    other.neighbors[0].password = Some("old".to_owned());
    let mut third = spoke(87, 65001, to);
    third.neighbors[0].password = Some("old".to_owned());
    let (right, left) = (start(other.clone()), start(third));
    for speaker in [&right, &left] {
        wait_for("the network", async || best(speaker).await == ["10.8.0.0/24"]).await;
    }
    config.listen = center.config().await.unwrap().listen;
    config.neighbors[0].next_hop = NextHopMode::Keep;
    config.neighbors[0].allow_own_as = 3;
    config.neighbors[0].ttl = Some(9);
    config.neighbors[0].password = Some("new".to_owned());
    center.reconfigure(config.clone()).await.unwrap();
    other.neighbors[0].password = Some("new".to_owned());
    right.reconfigure(other).await.unwrap();
    // Longer than the hold time: what is said with the new password gets through.
    tokio::time::sleep(Duration::from_secs(5)).await;
    center.set_networks(vec![network("10.9.0.0/24")]).await.unwrap();
    for speaker in [&right, &left] {
        wait_for("another network", async || best(speaker).await == ["10.9.0.0/24"]).await;
    }
    for last in [86, 87] {
        assert_eq!(peer(&center, address(last)).await.flaps, 0, "{last}");
    }
}

#[tokio::test]
async fn a_disabled_neighbor_is_told_why_and_stays_down() {
    let mut config = hub(88, [89], 65001);
    let center = start(config.clone());
    let right = start(spoke(89, 65001, listen_address(&center).await));
    let to = listen_address(&center).await.ip();
    wait_for("the session", async || is_established(&right, to).await).await;
    config.listen = center.config().await.unwrap().listen;
    config.neighbors[0].enabled = false;
    config.neighbors[0].shutdown_message = Some("back at noon".to_owned());
    center.reconfigure(config.clone()).await.unwrap();
    wait_for("the reason", async || {
        let error = peer(&right, to).await.last_error.unwrap_or_default();
        // What it is told of its later attempts hides it.
        error.contains("back at noon") || error.contains("connection rejected")
    })
    .await;
    let there = peer(&center, address(89)).await;
    assert_eq!(there.state, State::Idle);
    assert!(there.last_error.unwrap().contains("administratively shut down"));
    wait_for("a refusal", async || {
        let error = peer(&right, to).await.last_error.unwrap_or_default();
        error.contains("connection rejected")
    })
    .await;
    config.neighbors[0].enabled = true;
    center.reconfigure(config).await.unwrap();
    wait_for("the session again", async || is_established(&right, to).await).await;
}

/// RFC 9494: routes of a neighbour that stays away for longer than its restart time are a last resort, are told only to
/// those who know what that is, and go where they say so themselves.
#[tokio::test]
async fn long_lived_routes_are_a_last_resort() {
    let mut config = hub(91, [92, 93, 94, 95], 65000);
    for neighbor in &mut config.neighbors {
        neighbor.long_lived_stale_time = Duration::from_secs(600);
        neighbor.route_reflector_client = true;
    }
    let speaker = start(config);
    let to = listen_address(&speaker).await;
    let mut long_lived = restarts(1, FamilySet::EMPTY);
    long_lived.long_lived = vec![LongLivedFamily {
        family: Family::Ipv4Unicast,
        preserved: false,
        stale_time_s: 600,
    }];
    let mut leaves = RawPeer::open_with(92, to, 90, long_lived.clone()).await;
    leaves.announce(&["10.1.0.0/24", "10.2.0.0/24"]).await;
    leaves
        .announce_with(&["10.3.0.0/24"], &[Community::NO_LLGR])
        .await;
    leaves.send(&end_of_rib()).await;
    let mut stays = RawPeer::open(93, to, 90).await;
    // The higher address: only a last resort is worse. As long as neither is one, both are used together.
    stays.announce(&["10.1.0.0/24"]).await;
    wait_for("four paths", async || best(&speaker).await.len() == 4).await;
    drop(leaves);
    let routes = async || {
        let routes = speaker.routes(RouteView::Best).await.unwrap();
        let shown = routes
            .into_iter()
            .filter(|route| matches!(route.status, Some(PathStatus::Best { .. })));
        shown
            .map(|route| {
                let last_resort = route.attributes.has_community(Community::LLGR_STALE);
                (
                    route.prefix.to_string(),
                    route.neighbor.unwrap().address,
                    last_resort,
                )
            })
            .collect::<Vec<_>>()
    };
    wait_for("the last resort", async || {
        routes().await
            == [
                ("10.1.0.0/24".to_owned(), address(93), false),
                ("10.2.0.0/24".to_owned(), address(92), true),
            ]
    })
    .await;
    let told = |last| {
        let view = RouteView::Advertised(crate::key(address(last), bgpd::config::BGP_PORT));
        let speaker = speaker.clone();
        async move { speaker.routes(view).await.unwrap().len() }
    };
    let _knows = RawPeer::open_with(94, to, 90, long_lived).await;
    let _does_not = RawPeer::open(95, to, 90).await;
    wait_for("what each is told", async || {
        told(94).await == 2 && told(95).await == 1
    })
    .await;
}
