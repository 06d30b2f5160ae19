//! Speakers as a library, with each other and with peers of the tests' own, on loopback addresses and
//! ports that the kernel chooses.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod dampening;
mod fabric;
mod identity;
mod keep;
mod listing;
mod load;
mod operate;
mod raw;
mod refresh;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bgpd::config::{Config, Neighbor, NeighborKey, Network};
use bgpd::policy::Policy;
use bgpd::session::State;
use bgpd::speaker::{PeerStatus, RouteView, Speaker, SpeakerHandle, StartOptions};

const TIME_MAX: Duration = Duration::from_secs(20);

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 77, last).into()
}

fn network(text: &str) -> Network {
    Network::from(text.parse::<ipnet::IpNet>().unwrap())
}

/// A speaker at 127.0.77.`last` that waits for neighbours at 127.0.77.x, which are in `asn`.
fn hub(last: u8, neighbors: impl IntoIterator<Item = u8>, asn: u32) -> Config {
    let mut config = Config::new(65000, Ipv4Addr::new(10, 0, 0, last));
    config.fib = false;
    config.listen = vec![SocketAddr::new(address(last), 0)];
    for other in neighbors {
        let mut neighbor = Neighbor::new(address(other), asn, 65000);
        neighbor.passive = true;
        (neighbor.import, neighbor.export) = (Policy::Accept, Policy::Accept);
        config.neighbors.push(neighbor);
    }
    config
}

/// A speaker at 127.0.77.`last` in AS `asn` that connects to a hub.
fn spoke(last: u8, asn: u32, hub: SocketAddr) -> Config {
    let mut config = Config::new(asn, Ipv4Addr::new(10, 0, 0, last));
    config.fib = false;
    let mut neighbor = Neighbor::new(hub.ip(), 65000, asn);
    neighbor.port = hub.port();
    neighbor.source = Some(address(last));
    (neighbor.import, neighbor.export) = (Policy::Accept, Policy::Accept);
    config.neighbors.push(neighbor);
    config
}

fn start(config: Config) -> SpeakerHandle {
    Speaker::start(config, StartOptions::default()).unwrap()
}

async fn listen_address(speaker: &SpeakerHandle) -> SocketAddr {
    speaker.listen_addresses().await.unwrap()[0]
}

async fn peer(speaker: &SpeakerHandle, address: IpAddr) -> PeerStatus {
    let peers = speaker.peers().await.unwrap();
    peers.into_iter().find(|peer| peer.address == address).unwrap()
}

async fn is_established(speaker: &SpeakerHandle, address: IpAddr) -> bool {
    peer(speaker, address).await.state == State::Established
}

async fn best(speaker: &SpeakerHandle) -> Vec<String> {
    let routes = speaker.routes(RouteView::Best).await.unwrap();
    routes.iter().map(|route| route.prefix.to_string()).collect()
}

fn key(address: IpAddr, port: u16) -> NeighborKey {
    NeighborKey::new(address, port)
}

/// Waits until `done`, or fails.
async fn wait_for(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + TIME_MAX;
    while !done().await {
        assert!(Instant::now() < deadline, "{what}: not within {TIME_MAX:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
