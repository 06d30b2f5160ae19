//! BFD with the peers of a BGPPeer, by an annotation: Calico has no field for it, and refuses fields that it does not
//! know, but keeps annotations.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use api::{GoDuration, Node};
use bgpd::config::{BFD_INTERVAL_MAX_MS, BFD_INTERVAL_MIN_MS, BfdSettings};
use ipnet::IpNet;

/// `on`, `off`, or settings separated by commas: `interval=300ms`, `multiplier=3`, `passive`, `single-hop`, `multi-hop`.
pub(super) const ANNOTATION: &str = "margay.io/bfd";

/// What the annotation asks for.
pub(super) fn settings(annotations: &BTreeMap<String, String>) -> Result<Option<BfdSettings>, String> {
    let Some(text) = annotations.get(ANNOTATION) else {
        return Ok(None);
    };
    let mut settings = BfdSettings::default();
    let wrong = |word: &str, reason: &str| format!("metadata.annotations[{ANNOTATION}] = '{word}': {reason}");
    for word in text.split(',').map(str::trim) {
        match word.split_once('=').unwrap_or((word, "")) {
            ("on", "") => {}
            ("off", "") => return Ok(None),
            ("passive", "") => settings.passive = true,
            ("single-hop", "") => settings.multihop = Some(false),
            ("multi-hop", "") => settings.multihop = Some(true),
            ("interval", value) => {
                let interval = value
                    .parse::<GoDuration>()
                    .map(GoDuration::to_std)
                    .unwrap_or_default();
                let range =
                    Duration::from_millis(BFD_INTERVAL_MIN_MS)..=Duration::from_millis(BFD_INTERVAL_MAX_MS);
                if !range.contains(&interval) {
                    return Err(wrong(word, "must be a duration of 10ms to 60s"));
                }
                settings.interval = interval;
            }
            ("multiplier", value) => {
                settings.multiplier = value
                    .parse()
                    .ok()
                    .filter(|multiplier| *multiplier > 0)
                    .ok_or_else(|| wrong(word, "must be 1..255"))?;
            }
            _ => {
                return Err(wrong(
                    word,
                    "write on, off, interval=300ms, multiplier=3, passive, single-hop or multi-hop",
                ));
            }
        }
    }
    Ok(Some(settings))
}

/// The settings for one peer: one in the subnet of this node's address is on the link (RFC 5881), where nothing else
/// is said.
pub(super) fn towards(settings: &BfdSettings, node: &Node, peer: IpAddr) -> BfdSettings {
    let subnet = node.spec.bgp.as_ref().and_then(|bgp| {
        let text = if peer.is_ipv4() {
            &bgp.ipv4_address
        } else {
            &bgp.ipv6_address
        };
        text.parse::<IpNet>().ok()
    });
    let on_link = subnet.is_some_and(|subnet| subnet.contains(&peer));
    BfdSettings {
        multihop: settings.multihop.or(Some(!on_link)),
        ..settings.clone()
    }
}
