//! What an embedding program does with a speaker.

use std::time::Duration;

use bgpd::config::{BGP_PORT, NeighborChange};
use bgpd::policy::{Changes, Number, Policy, Rule, RuleAction, Verdict};
use bgpd::session::State;
use bgpd::speaker::{RouteView, Speaker, SpeakerError, StartOptions, StopMode};
use bgpd::wire::Community;

use crate::{address, best, hub, is_established, key, listen_address, network, peer, spoke, start, wait_for};

#[tokio::test]
async fn networks_and_policies_change_without_a_flap() {
    let left = start(hub(1, [2], 65000));
    let mut events = left.subscribe();
    let mut config = spoke(2, 65000, listen_address(&left).await);
    config.networks = vec![network("10.1.0.0/24"), network("10.1.1.0/24")];
    let right = start(config.clone());
    wait_for("two networks", async || {
        best(&left).await == ["10.1.0.0/24", "10.1.1.0/24"]
    })
    .await;

    right
        .set_networks(vec![network("10.1.1.0/24"), network("10.1.2.0/24")])
        .await
        .unwrap();
    wait_for("other networks", async || {
        best(&left).await == ["10.1.1.0/24", "10.1.2.0/24"]
    })
    .await;

    let mut tagged = Rule::inside("10.1.2.0/24".parse().unwrap(), RuleAction::Accept);
    tagged.changes = Changes {
        local_pref: Some(Number::Set(500)),
        add_communities: vec![Community::new(65000, 7)],
        ..Changes::default()
    };
    config.networks = right.config().await.unwrap().networks;
    config.neighbors[0].export = Policy::rules([tagged], Verdict::Reject);
    let diff = right.reconfigure(config.clone()).await.unwrap();
    assert_eq!(diff.changed.len(), 1);
    assert_eq!(
        diff.change_of(config.neighbors[0].key()),
        Some(NeighborChange::Refresh)
    );
    assert!(diff.added.is_empty() && diff.removed.is_empty() && !diff.networks);
    wait_for("one network", async || best(&left).await == ["10.1.2.0/24"]).await;
    let route = &left
        .routes(RouteView::Received(key(address(2), BGP_PORT)))
        .await
        .unwrap()[0];
    assert_eq!(route.attributes.local_pref, Some(500));
    assert_eq!(route.attributes.communities, [Community::new(65000, 7)]);
    assert_eq!(route.attributes.next_hop.address(), address(2));
    let advertised = right
        .routes(RouteView::Advertised(config.neighbors[0].key()))
        .await
        .unwrap();
    assert_eq!(advertised.len(), 1);

    assert!(
        right.reconfigure(config).await.unwrap().is_empty(),
        "the same is no change"
    );
    let there = peer(&left, address(2)).await;
    assert_eq!(
        (there.state, there.flaps, there.prefixes_received),
        (State::Established, 0, 1)
    );
    assert_eq!(
        (there.remote_as, there.remote_id),
        (65000, Some([10, 0, 0, 2].into()))
    );
    let mut states = Vec::new();
    while let Ok(event) = events.try_recv() {
        assert_eq!(event.neighbor, key(address(2), BGP_PORT));
        states.push(event.state);
    }
    assert_eq!(states.last(), Some(&State::Established));
    assert_eq!(
        states
            .iter()
            .filter(|state| **state == State::Established)
            .count(),
        1
    );
}

#[tokio::test]
async fn only_what_changed_is_reset() {
    let center = start(hub(11, [12, 13], 65000));
    let to = listen_address(&center).await;
    let spokes = [start(spoke(12, 65000, to)), start(spoke(13, 65000, to))];
    for last in [12, 13] {
        wait_for("a session", async || is_established(&center, address(last)).await).await;
    }
    let mut config = center.config().await.unwrap();
    config.neighbors[0].hold_time = Duration::from_secs(30);
    let diff = center.reconfigure(config.clone()).await.unwrap();
    assert_eq!(diff.changed.len(), 1);
    assert_eq!(
        diff.change_of(key(address(12), BGP_PORT)),
        Some(NeighborChange::Reset)
    );
    wait_for("the session again", async || {
        is_established(&center, address(12)).await
    })
    .await;
    wait_for("its loss at the other end", async || {
        peer(&spokes[0], to.ip()).await.flaps == 1
    })
    .await;
    let error = peer(&spokes[0], to.ip()).await.last_error.unwrap();
    assert!(error.contains("other configuration change"), "{error}");
    assert_eq!(peer(&spokes[1], to.ip()).await.flaps, 0);

    config.neighbors.remove(1);
    let diff = center.reconfigure(config).await.unwrap();
    assert_eq!(diff.removed, [key(address(13), BGP_PORT)]);
    wait_for("the end of the other", async || {
        let there = peer(&spokes[1], to.ip()).await;
        there.state != State::Established
            && there.last_error.is_some_and(|e| e.contains("peer de-configured"))
    })
    .await;
    assert_eq!(center.peers().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_stop_tells_the_neighbors_and_ends_everything() {
    for (mode, told) in [
        (StopMode::Shutdown, "administrative shutdown"),
        (StopMode::Restart, "connection lost"),
    ] {
        let left = start(hub(21, [22], 65001));
        let listen = listen_address(&left).await;
        let right = start(spoke(22, 65001, listen));
        wait_for("the session", async || is_established(&left, address(22)).await).await;
        right.stop(mode).await;
        assert!(matches!(right.peers().await, Err(SpeakerError::Stopped)));
        wait_for("its end", async || !is_established(&left, address(22)).await).await;
        let error = peer(&left, address(22)).await.last_error.unwrap();
        assert!(error.contains(told), "{error}");
        left.stop(StopMode::Shutdown).await;
        left.stop(StopMode::Shutdown).await;
        let mut config = hub(21, [22], 65001);
        config.listen = vec![listen];
        let next = Speaker::start(config, StartOptions::default());
        assert!(next.is_ok(), "the address is free: {next:?}");
        assert!(matches!(
            left.reconfigure(hub(21, [22], 65001)).await,
            Err(SpeakerError::Stopped)
        ));
    }
}

/// After a restart, nothing is selected or sent before the neighbours have sent their routes.
#[tokio::test]
async fn a_restart_waits_for_the_neighbors() {
    let left = start(hub(31, [32, 33], 65000));
    let to = listen_address(&left).await;
    let mut config = spoke(32, 65000, to);
    config.networks = vec![network("10.3.0.0/24")];
    config.restart_time = Duration::from_secs(3);
    // A neighbour that is not there: its End-of-RIB never comes.
    config
        .neighbors
        .push(bgpd::config::Neighbor::new(address(39), 65000, 65000));
    config.neighbors[1].source = Some(address(32));
    let options = StartOptions {
        restarting: true,
        forwarding_preserved: true,
        ..StartOptions::default()
    };
    let right = Speaker::start(config, options).unwrap();
    wait_for("the session", async || is_established(&left, address(32)).await).await;
    assert!(!right.is_restart_complete() && best(&left).await.is_empty());
    right.restart_complete().await;
    wait_for("the network", async || best(&left).await == ["10.3.0.0/24"]).await;

    let mut config = spoke(33, 65000, to);
    config.networks = vec![network("10.3.1.0/24")];
    let options = StartOptions {
        restarting: true,
        ..StartOptions::default()
    };
    let begin = std::time::Instant::now();
    let third = Speaker::start(config, options).unwrap();
    third.restart_complete().await;
    assert!(
        begin.elapsed() < Duration::from_secs(60),
        "not by the timer of 120 s"
    );
    wait_for("its network", async || {
        best(&left).await.contains(&"10.3.1.0/24".to_owned())
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_changes_nothing() {
    let speaker = start(hub(41, [42], 65000));
    let taken = listen_address(&speaker).await;
    let error = Speaker::start(
        {
            let mut config = hub(41, [], 65000);
            config.listen = vec![taken];
            config
        },
        StartOptions::default(),
    )
    .unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("global listen {taken}: ")),
        "{error}"
    );

    let mut wrong = speaker.config().await.unwrap();
    wrong.neighbors.push(wrong.neighbors[0].clone());
    let error = speaker.reconfigure(wrong).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("127.0.77.42 address: is configured twice"),
        "{error}"
    );
    let error = speaker
        .set_networks(vec![network("10.0.0.1/8")])
        .await
        .unwrap_err();
    assert!(error.to_string().contains("write 10.0.0.0/8"), "{error}");
    let config = speaker.config().await.unwrap();
    assert_eq!((config.neighbors.len(), config.networks.len()), (1, 0));
}

#[tokio::test]
async fn a_dropped_handle_ends_the_speaker() {
    let left = start(hub(51, [52], 65000));
    let right = start(spoke(52, 65000, listen_address(&left).await));
    wait_for("the session", async || is_established(&left, address(52)).await).await;
    drop(right);
    wait_for("its end", async || !is_established(&left, address(52)).await).await;
}

/// RFC 5082: what may have come from afar does not get through.
#[tokio::test]
async fn ttl_security_keeps_distant_senders_out() {
    let mut config = hub(71, [72], 65001);
    config.neighbors[0].ttl_security_hops = Some(1);
    let left = start(config);
    let mut config = spoke(72, 65001, listen_address(&left).await);
    config.neighbors[0].ttl = Some(254);
    let right = start(config.clone());
    wait_for("refused connections", async || {
        peer(&left, address(72)).await.far_connections >= 2
    })
    .await;
    assert!(
        !is_established(&left, address(72)).await,
        "254 has come over a router"
    );
    // Nothing was read of them, and nothing answered.
    let counted = peer(&left, address(72)).await;
    assert_eq!(counted.messages_received, Default::default());
    assert_eq!(counted.messages_sent, Default::default());
    let told = &right.peers().await.unwrap()[0];
    assert_eq!(told.messages_received, Default::default());
    (config.neighbors[0].ttl, config.neighbors[0].ttl_security_hops) = (None, Some(1));
    right.reconfigure(config).await.unwrap();
    wait_for("the session", async || is_established(&left, address(72)).await).await;
}
