//! What tells neighbours apart.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::BGP_PORT;

/// Longest name of a network interface (IFNAMSIZ without the zero), in bytes.
const INTERFACE_NAME_MAX_BYTES: usize = 15;

/// The name of a network interface.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName {
    /// Zeros behind the name.
    octets: [u8; INTERFACE_NAME_MAX_BYTES],
}

/// A text that is no name of an interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of an interface: it has 1..15 bytes, and neither blanks nor any of / : %")]
pub struct InterfaceNameError(String);

impl InterfaceName {
    /// The name.
    pub fn as_str(&self) -> &str {
        let end = self.octets.iter().position(|octet| *octet == 0);
        let octets = self.octets.get(..end.unwrap_or(INTERFACE_NAME_MAX_BYTES));
        // It was made of a text.
        std::str::from_utf8(octets.unwrap_or_default()).unwrap_or_default()
    }
}

impl FromStr for InterfaceName {
    type Err = InterfaceNameError;

    fn from_str(text: &str) -> Result<Self, InterfaceNameError> {
        let wrong = || InterfaceNameError(text.to_owned());
        let is_foreign = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '%');
        if text.is_empty() || text.contains(is_foreign) || matches!(text, "." | "..") {
            return Err(wrong());
        }
        let mut octets = [0; INTERFACE_NAME_MAX_BYTES];
        let place = octets.get_mut(..text.len()).ok_or_else(wrong)?;
        place.copy_from_slice(text.as_bytes());
        Ok(Self { octets })
    }
}

impl TryFrom<String> for InterfaceName {
    type Error = InterfaceNameError;

    fn try_from(text: String) -> Result<Self, InterfaceNameError> {
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
        self.as_str().fmt(f)
    }
}

/// What tells neighbours apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NeighborKey {
    /// The neighbour's address; `::` for one that is known by its interface alone.
    pub address: IpAddr,
    /// The port that we connect to.
    pub port: u16,
    /// The interface that it is on, where its address is link-local or not known beforehand.
    #[serde(default)]
    pub interface: Option<InterfaceName>,
}

impl NeighborKey {
    /// The neighbour at an address, and the port that we connect to.
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
        let Self {
            address,
            port,
            interface,
        } = *self;
        match (interface, port) {
            (None, BGP_PORT) => address.fmt(f),
            (None, port) => SocketAddr::new(address, port).fmt(f),
            (Some(interface), BGP_PORT) if address.is_unspecified() => interface.fmt(f),
            (Some(interface), port) if address.is_unspecified() => write!(f, "{interface}:{port}"),
            (Some(interface), BGP_PORT) => write!(f, "{address}%{interface}"),
            (Some(interface), port) => write!(f, "[{address}%{interface}]:{port}"),
        }
    }
}

/// An address as it is written in a configuration: a link-local one has its interface behind `%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct ScopedAddress {
    pub(super) address: IpAddr,
    pub(super) interface: Option<InterfaceName>,
}

impl TryFrom<String> for ScopedAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (address, interface) = match text.split_once('%') {
            Some((address, interface)) => (address, Some(interface)),
            None => (text.as_str(), None),
        };
        let interface = interface.map(InterfaceName::from_str).transpose();
        Ok(Self {
            address: address.parse().map_err(|_| {
                format!("{address:?} is no IP address: write it as 10.0.0.2, 2001:db8::2 or fe80::2%eth0")
            })?,
            interface: interface.map_err(|error| error.to_string())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_as_they_are_written() {
        let eth0 = Some("eth0".parse().unwrap());
        let key = |address: &str, port, interface| {
            let address = address.parse().unwrap();
            NeighborKey {
                address,
                port,
                interface,
            }
            .to_string()
        };
        assert_eq!(key("10.0.0.2", 179, None), "10.0.0.2");
        assert_eq!(key("fd00::2", 1179, None), "[fd00::2]:1179");
        assert_eq!(key("fe80::2", 179, eth0), "fe80::2%eth0");
        assert_eq!(key("fe80::2", 1179, eth0), "[fe80::2%eth0]:1179");
        assert_eq!(key("::", 179, eth0), "eth0");
        assert_eq!(key("::", 1179, eth0), "eth0:1179");
    }

    #[test]
    fn names_of_interfaces_are_what_the_kernel_takes() {
        for good in ["e", "eth0", "cali12345678901", "eth0.100"] {
            assert_eq!(good.parse::<InterfaceName>().unwrap().to_string(), good);
        }
        for bad in ["", "a b", "a/b", "1234567890123456", "..", "eth0:1", "a%b"] {
            assert!(bad.parse::<InterfaceName>().is_err(), "{bad}");
        }
    }
}
