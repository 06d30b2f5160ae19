//! Addresses and ranges as the API's string fields hold them.

use std::net::IpAddr;

use ipnet::IpNet;

/// A CIDR, or a bare address as a /32 or /128. Host bits are kept.
#[must_use]
pub fn parse_net(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// `ip`, `ipv4:port` or `[ipv6]:port`.
#[must_use]
pub fn parse_peer_address(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some((address, None));
    }
    let endpoint = text.parse::<std::net::SocketAddr>().ok()?;
    // A zone would be lost.
    if let std::net::SocketAddr::V6(v6) = endpoint
        && v6.scope_id() != 0
    {
        return None;
    }
    Some((endpoint.ip(), Some(endpoint.port())))
}

/// A MAC address of six bytes, separated by `:` or `-`.
#[must_use]
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let separator = if text.contains('-') { '-' } else { ':' };
    let mut mac = [0; 6];
    let mut parts = text.split(separator);
    for byte in &mut mac {
        let part = parts
            .next()
            .filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers() {
        for (text, expected) in [
            ("10.0.0.1", Some(("10.0.0.1", None))),
            ("10.0.0.1:1790", Some(("10.0.0.1", Some(1790)))),
            ("fd00::1", Some(("fd00::1", None))),
            ("[fd00::1]:1790", Some(("fd00::1", Some(1790)))),
            ("[fe80::1%3]:1790", None),
            ("10.0.0.1:", None),
            ("host:1", None),
        ] {
            let expected = expected.map(|(ip, port)| (ip.parse::<IpAddr>().unwrap(), port));
            assert_eq!(parse_peer_address(text), expected, "{text}");
        }
    }

    #[test]
    fn macs() {
        assert_eq!(parse_mac("ee:EE:0a:00:00:01"), Some([0xee, 0xee, 0x0a, 0, 0, 1]));
        for bad in [
            "",
            "ee:ee:ee:ee:ee",
            "ee:ee:ee:ee:ee:ee:ee",
            "e:ee:ee:ee:ee:eee",
            "+1:00:00:00:00:00",
        ] {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
    }
}
