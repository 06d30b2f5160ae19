//! BMP and MRT: what stations and files say is what the speaker knows, as others read it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod bmp;
mod capture;
mod codecs;
mod commands;
mod mrt;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bgpd::config::{Config, Neighbor, Network};
use bgpd::policy::{Policy, Rule, RuleAction, Verdict};
use bgpd::speaker::{RouteView, Speaker, SpeakerHandle, StartOptions};
use bgpd::wire::Family;

const TIME_MAX: Duration = Duration::from_secs(20);

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 78, last).into()
}

fn network(text: &str) -> Network {
    Network::from(text.parse::<ipnet::IpNet>().unwrap())
}

/// A speaker in AS 65000 at 127.0.78.`last` with a passive neighbour in AS 65001 at 127.0.78.`other`, of which
/// it takes everything but 10.66.0.0/16. It has networks of its own.
fn hub(last: u8, other: u8) -> Config {
    let mut config = Config::new(65000, Ipv4Addr::new(10, 0, 0, last));
    config.fib = false;
    config.listen = vec![SocketAddr::new(address(last), 0)];
    let mut neighbor = Neighbor::new(address(other), 65001, 65000);
    neighbor.passive = true;
    neighbor.families = Family::ALL.into_iter().collect();
    let not_this = Rule::inside("10.66.0.0/16".parse().unwrap(), RuleAction::Reject);
    neighbor.import = Policy::rules([not_this], Verdict::Accept);
    neighbor.export = Policy::Accept;
    config.neighbors.push(neighbor);
    config.networks = vec![network("10.1.0.0/24"), network("10.1.1.0/24")];
    config
}

/// Its neighbour, which connects.
fn spoke(last: u8, hub: SocketAddr) -> Config {
    let mut config = Config::new(65001, Ipv4Addr::new(10, 0, 0, last));
    config.fib = false;
    let mut neighbor = Neighbor::new(hub.ip(), 65000, 65001);
    neighbor.port = hub.port();
    neighbor.source = Some(address(last));
    neighbor.families = Family::ALL.into_iter().collect();
    (neighbor.import, neighbor.export) = (Policy::Accept, Policy::Accept);
    config.neighbors.push(neighbor);
    config.networks = vec![
        network("10.2.0.0/24"),
        network("10.2.1.0/24"),
        network("10.66.0.0/24"),
    ];
    config
}

fn start(config: Config) -> SpeakerHandle {
    Speaker::start(config, StartOptions::default()).unwrap()
}

async fn best(speaker: &SpeakerHandle) -> Vec<String> {
    let routes = speaker.routes(RouteView::Best).await.unwrap();
    routes.into_iter().map(|route| route.prefix.to_string()).collect()
}

async fn wait_for(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + TIME_MAX;
    while !condition().await {
        assert!(Instant::now() < end, "{what} did not come within {TIME_MAX:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
