//! What tells neighbours apart.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::BGP_PORT;

/// Longest name of an interface, in bytes (IFNAMSIZ without its terminating zero).
pub const INTERFACE_NAME_MAX_BYTES: usize = 15;

/// The name of a network interface.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName {
    octets: [u8; INTERFACE_NAME_MAX_BYTES],
    length: u8,
}

/// Not a name that Linux gives to interfaces.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of an interface: 1 to 15 bytes without spaces and slashes")]
pub struct InterfaceNameError(String);

impl InterfaceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        let octets = self.octets.get(..usize::from(self.length)).unwrap_or_default();
        std::str::from_utf8(octets).unwrap_or_default()
    }
}

impl FromStr for InterfaceName {
    type Err = InterfaceNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || InterfaceNameError(text.to_owned());
        let strange = |c: char| c == '/' || c.is_whitespace() || c.is_control();
        if text.is_empty() || text.chars().any(strange) {
            return Err(error());
        }
        let mut octets = [0; INTERFACE_NAME_MAX_BYTES];
        octets
            .get_mut(..text.len())
            .ok_or_else(error)?
            .copy_from_slice(text.as_bytes());
        let length = u8::try_from(text.len()).map_err(|_| error())?;
        Ok(Self { octets, length })
    }
}

impl TryFrom<String> for InterfaceName {
    type Error = InterfaceNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<InterfaceName> for String {
    fn from(name: InterfaceName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// What tells neighbours apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NeighborKey {
    /// The neighbour's address; unspecified for one that is known by its interface alone.
    pub address: IpAddr,
    /// The port that we connect to.
    pub port: u16,
    /// The interface that it is at, if that is needed to reach it: link-local and unnumbered neighbours.
    pub interface: Option<InterfaceName>,
}

impl NeighborKey {
    /// A neighbour that its address alone tells from others.
    pub const fn new(address: IpAddr, port: u16) -> Self {
        Self {
            address,
            port,
            interface: None,
        }
    }
}

impl fmt::Display for NeighborKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.interface, self.port) {
            (Some(interface), BGP_PORT) if self.address.is_unspecified() => interface.fmt(f),
            (Some(interface), port) if self.address.is_unspecified() => write!(f, "{interface}:{port}"),
            (Some(interface), BGP_PORT) => write!(f, "{}%{interface}", self.address),
            (Some(interface), port) => write!(f, "[{}%{interface}]:{port}", self.address),
            (None, BGP_PORT) => self.address.fmt(f),
            (None, port) => SocketAddr::new(self.address, port).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_shown_as_they_are_written() {
        let eth0 = Some("eth0".parse().unwrap());
        let cases = [
            ("10.0.0.2", 179, None, "10.0.0.2"),
            ("10.0.0.2", 1179, None, "10.0.0.2:1179"),
            ("2001:db8::2", 1179, None, "[2001:db8::2]:1179"),
            ("::", 179, eth0, "eth0"),
            ("fe80::2", 179, eth0, "fe80::2%eth0"),
            ("fe80::2", 1179, eth0, "[fe80::2%eth0]:1179"),
        ];
        for (address, port, interface, expected) in cases {
            let address = address.parse().unwrap();
            let key = NeighborKey {
                address,
                port,
                interface,
            };
            assert_eq!(key.to_string(), expected);
        }
    }

    #[test]
    fn names_of_interfaces_are_checked() {
        for good in ["eth0", "a", "cali12345678901", "br-x.100"] {
            assert_eq!(good.parse::<InterfaceName>().unwrap().as_str(), good);
        }
        for bad in ["", "a/b", "a b", "sixteen-bytes-xx"] {
            assert!(bad.parse::<InterfaceName>().is_err(), "{bad}");
        }
    }
}
