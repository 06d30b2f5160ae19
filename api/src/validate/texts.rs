//! Checks of single texts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::Refusal;
use crate::net::{parse_mac, parse_net};

/// The longest host or resource name.
pub(super) const NAME_LEN_MAX: usize = 253;

fn refuse_unless(ok: bool, reason: &str) -> Refusal {
    if ok { Ok(()) } else { Err(reason.to_owned()) }
}

/// `[a-z0-9]([-a-z0-9]*[a-z0-9])?`
pub(super) fn is_dns_label(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

pub(super) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= NAME_LEN_MAX && text.split('.').all(is_dns_label)
}

pub(super) fn subdomain(text: &str) -> Refusal {
    refuse_unless(
        is_dns_subdomain(text),
        "a name has at most 253 lower-case letters, digits, '-' and '.', and each part starts and ends with a letter or digit",
    )
}

/// A CIDR or an address, host bits allowed.
pub(super) fn loose_net(text: &str) -> Refusal {
    refuse_unless(
        parse_net(text).is_some(),
        "must be a CIDR such as 10.0.0.0/8 or an address",
    )
}

/// A CIDR or an address, without host bits.
pub(super) fn masked_net(text: &str) -> Refusal {
    let Some(net) = parse_net(text) else {
        return Err("must be a CIDR such as 10.0.0.0/8 or an address".to_owned());
    };
    masked(net)
}

/// A CIDR with its mask, without host bits.
pub(super) fn masked_cidr(text: &str) -> Refusal {
    let Ok(net) = text.parse::<IpNet>() else {
        return Err("must be a CIDR with a prefix length, such as 10.0.0.0/8 or 10.0.0.1/32".to_owned());
    };
    masked(net)
}

fn masked(net: IpNet) -> Refusal {
    if net.addr() == net.network() {
        Ok(())
    } else {
        Err(format!(
            "the address has bits outside its prefix: write {}",
            net.trunc()
        ))
    }
}

pub(super) fn ip(text: &str) -> Refusal {
    refuse_unless(
        text.parse::<IpAddr>().is_ok(),
        "must be an IP address without prefix length",
    )
}

pub(super) fn ipv4(text: &str) -> Refusal {
    refuse_unless(
        text.parse::<Ipv4Addr>().is_ok(),
        "must be an IPv4 address without prefix length",
    )
}

pub(super) fn ipv6(text: &str) -> Refusal {
    refuse_unless(
        text.parse::<Ipv6Addr>().is_ok(),
        "must be an IPv6 address without prefix length",
    )
}

pub(super) fn net_v4(text: &str) -> Refusal {
    refuse_unless(
        matches!(parse_net(text), Some(IpNet::V4(_))),
        "must be an IPv4 address or CIDR",
    )
}

pub(super) fn net_v6(text: &str) -> Refusal {
    refuse_unless(
        matches!(parse_net(text), Some(IpNet::V6(_))),
        "must be an IPv6 address or CIDR",
    )
}

pub(super) fn mac(text: &str) -> Refusal {
    refuse_unless(
        parse_mac(text).is_some(),
        "must be a MAC address such as ee:ee:ee:ee:ee:ee",
    )
}

/// A Linux interface name, or `*` for all.
pub(super) fn interface(text: &str) -> Refusal {
    let name = (1..=15).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    refuse_unless(
        text == "*" || name,
        "must be an interface name of at most 15 letters, digits, '_', '.' and '-', or *",
    )
}

/// IANA service name (RFC 6335 section 5.1).
pub(super) fn port_name(text: &str) -> Refusal {
    let ok = (1..=15).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && text.bytes().any(|b| b.is_ascii_lowercase())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--");
    refuse_unless(
        ok,
        "a port name has at most 15 lower-case letters, digits and single '-', at least one letter, and no '-' at its ends",
    )
}

pub(super) fn container_id(text: &str) -> Refusal {
    let ok = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.is_empty();
    refuse_unless(
        ok,
        "must be letters, digits and '-', and start and end with a letter or digit",
    )
}

/// `aa:nn` (RFC 1997) or `aa:nn:mm` (RFC 8092).
pub(super) fn is_community(text: &str) -> bool {
    let digits = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = text.split(':').collect();
    match parts.len() {
        2 => parts
            .iter()
            .all(|part| digits(part) && part.parse::<u16>().is_ok()),
        3 => parts
            .iter()
            .all(|part| digits(part) && part.parse::<u32>().is_ok()),
        _ => false,
    }
}

/// Letters, digits, `-`, `_` and `.`, at most 63, starting and ending with a letter or digit.
fn is_qualified_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

/// Kubernetes' qualified name.
pub(super) fn label_key(text: &str) -> Refusal {
    let ok = match text.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_qualified_part(name),
        None => is_qualified_part(text),
    };
    refuse_unless(
        ok,
        "a label or annotation key is at most 63 letters, digits, '-', '_' and '.', with an optional DNS name and '/' before it",
    )
}

pub(super) fn label_value(text: &str) -> Refusal {
    refuse_unless(
        text.is_empty() || is_qualified_part(text),
        "a label value is empty or at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(check: impl Fn(&str) -> Refusal, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(check(text), Ok(()), "{text:?}");
        }
        for text in bad {
            assert!(check(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_and_labels() {
        all(
            subdomain,
            &["a", "a-b.c", "0.0"],
            &["", "A", "-a", "a-", "a..b", ".", "a_b", "a/b", &"a".repeat(254)],
        );
        all(
            label_key,
            &["a", "A_b.c", "example.com/x"],
            &["", "/x", "x/", "a/b/c", "A.com/x", "-a", &"a".repeat(64)],
        );
        all(label_value, &["", "x", "X.y_z-1"], &["-x", "x-", "a b", "\u{fc}"]);
        all(
            port_name,
            &["http", "a-1", "1a"],
            &["", "80", "-a", "a-", "a--b", "HTTP", "abcdefghijklmnop"],
        );
        all(
            interface,
            &["eth0", "*", "cali-1.2_x"],
            &["", "eth0/1", "abcdefghijklmnop", "a b"],
        );
        all(container_id, &["abc", "A-1"], &["", "-a", "a-", "a_b"]);
    }

    #[test]
    fn addresses() {
        all(
            masked_net,
            &["10.0.0.0/8", "10.0.0.1", "fd00::/64"],
            &["10.0.0.1/8", "", "10.0.0.0/33", "x", "010.0.0.1"],
        );
        all(masked_cidr, &["10.0.0.1/32", "::/0"], &["10.0.0.1", "fd00::1/64"]);
        all(
            loose_net,
            &["10.0.0.1/8", "fd00::1"],
            &["10.0.0.0/", "300.0.0.0/8"],
        );
        all(ipv4, &["10.0.0.1"], &["fd00::1", "10.0.0.1/32"]);
        all(ipv6, &["fd00::1"], &["10.0.0.1", "fe80::1%eth0"]);
        for (text, expected) in [
            ("1:2", true),
            ("65535:65535", true),
            ("65536:1", false),
            ("65536:1:2", true),
            ("1", false),
            ("1:2:3:4", false),
            ("a:b", false),
            (":", false),
            ("+1:2", false),
        ] {
            assert_eq!(is_community(text), expected, "{text}");
        }
    }
}
