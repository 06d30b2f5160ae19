//! The two namespaces of a run: the daemon's and that of all its peers, joined by a link.

use std::net::Ipv4Addr;

use anyhow::Context;
use netlink::{Address, Connection, Request};

use crate::net::Netns;

/// The daemon's address.
pub(crate) const DAEMON: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
/// The daemon's AS.
pub(crate) const DAEMON_AS: u32 = 65000;
/// The interface at both ends.
pub(crate) const INTERFACE: &str = "eth0";
/// AS of peer 0 of those in ASes of their own; the others follow.
pub(crate) const FIRST_PEER_AS: u32 = 4_200_000_001;

/// A peer's address.
pub(crate) fn peer_address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 1 + (index / 250) as u8, 1 + (index % 250) as u8)
}

/// The namespaces. They end with this.
pub(crate) struct Fabric {
    pub(crate) daemon: Netns,
    pub(crate) peers: Netns,
}

impl Fabric {
    pub(crate) fn new(peers: usize) -> anyhow::Result<Self> {
        let (daemon, others) = Netns::pair();
        add_addresses(&daemon, &[DAEMON])?;
        let addresses: Vec<_> = (0..peers).map(peer_address).collect();
        add_addresses(&others, &addresses)?;
        Ok(Self {
            daemon,
            peers: others,
        })
    }
}

fn add_addresses(netns: &Netns, addresses: &[Ipv4Addr]) -> anyhow::Result<()> {
    let mut connection = netns.inside(Connection::open)?;
    let link = connection
        .link(INTERFACE)?
        .context("the link between the namespaces")?;
    let requests: Vec<_> = addresses
        .iter()
        .map(|address| {
            Ok(Request::AddAddress(Address::new(
                link.index,
                format!("{address}/16").parse()?,
            )))
        })
        .collect::<anyhow::Result<_>>()?;
    for (request, outcome) in requests.iter().zip(connection.batch(&requests)?) {
        outcome.with_context(|| request.to_string())?;
    }
    Ok(())
}
