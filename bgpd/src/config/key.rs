//! What tells neighbours apart.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::BGP_PORT;

/// What tells neighbours apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NeighborKey {
    /// The neighbour's address.
    pub address: IpAddr,
    /// The port that we connect to.
    pub port: u16,
}

impl NeighborKey {
    /// The neighbour at an address, and the port that we connect to.
    pub const fn new(address: IpAddr, port: u16) -> Self {
        Self { address, port }
    }
}

impl fmt::Display for NeighborKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            BGP_PORT => self.address.fmt(f),
            port => SocketAddr::new(self.address, port).fmt(f),
        }
    }
}
