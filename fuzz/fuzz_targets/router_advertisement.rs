//! Whatever comes in as a router advertisement or solicitation is understood or passed over, and nothing of it that may
//! have come from afar is understood; never a panic.
#![no_main]

use std::net::Ipv6Addr;

use bgpd::speaker::router_messages::{RouterMessage, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&sender, octets)) = data.split_first() else {
        return;
    };
    let source = match sender & 3 {
        0 => Ipv6Addr::UNSPECIFIED,
        1 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
        _ => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2),
    };
    let understood = read(octets, source, 255);
    assert_eq!(read(octets, source, 254), None);
    match understood {
        Some(RouterMessage::Advertisement) => {
            assert!(source.is_unicast_link_local() && octets.len() >= 16);
        }
        Some(RouterMessage::Solicitation) => assert!(octets.len() >= 8),
        None => {}
    }
    // Options come in whole units behind the fixed part of either message.
    assert!(understood.is_none() || octets.len() % 8 == 0);
});
