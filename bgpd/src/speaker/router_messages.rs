//! Router advertisements and solicitations as octets (RFC 4861 section 4).

use std::net::Ipv6Addr;

use netlink::Mac;

/// RFC 4861 section 4.1.
pub(super) const ROUTER_SOLICITATION: u8 = 133;
/// RFC 4861 section 4.2.
pub(super) const ROUTER_ADVERTISEMENT: u8 = 134;
/// Option: source link-layer address (RFC 4861 section 4.6.1).
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
/// Every message of neighbour discovery is sent with it, and dropped without it (RFC 4861 section 3.1).
pub(super) const HOP_LIMIT: u8 = 255;
/// Octets of an advertisement without options.
const ADVERTISEMENT_BYTES: usize = 16;
/// Octets of a solicitation without options.
const SOLICITATION_BYTES: usize = 8;
/// Lengths of options count these (RFC 4861 section 4.6).
const OPTION_UNIT_BYTES: usize = 8;

/// What came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterMessage {
    /// A router says that it is there.
    Advertisement,
    /// Somebody wants to know which routers there are.
    Solicitation,
}

/// RFC 4861 sections 6.1.1 and 6.1.2: what is valid, but for the checksum, which the kernel checks. None: it is to be
/// passed over.
pub fn read(octets: &[u8], source: Ipv6Addr, hop_limit: u8) -> Option<RouterMessage> {
    if hop_limit != HOP_LIMIT {
        return None;
    }
    let (message, options) = match *octets {
        [ROUTER_ADVERTISEMENT, 0, ..] if source.is_unicast_link_local() => {
            (RouterMessage::Advertisement, octets.get(ADVERTISEMENT_BYTES..)?)
        }
        [ROUTER_SOLICITATION, 0, ..] => (RouterMessage::Solicitation, octets.get(SOLICITATION_BYTES..)?),
        _ => return None,
    };
    let mut kinds = Options(options);
    let names_sender = kinds.any(|kind| kind == SOURCE_LINK_LAYER_ADDRESS);
    kinds.by_ref().for_each(drop);
    // Who has no address yet has none to tell.
    let is_valid = kinds.is_whole() && !(names_sender && source.is_unspecified());
    is_valid.then_some(message)
}

/// The types of options (RFC 4861 section 4.6). It ends at the first one that is not whole.
struct Options<'a>(&'a [u8]);

impl Options<'_> {
    const fn is_whole(&self) -> bool {
        self.0.is_empty()
    }
}

impl Iterator for Options<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let [kind, length, ..] = *self.0 else { return None };
        // In units of eight octets; none of it has zero.
        let length = usize::from(length) * OPTION_UNIT_BYTES;
        self.0 = self.0.get(length..).filter(|_| length > 0)?;
        Some(kind)
    }
}

/// RFC 4861 section 4.2: nothing is said of hop limits and timers, and nobody is to take us as default router.
/// The kernel puts the checksum in.
pub fn advertisement(mac: Option<Mac>) -> Vec<u8> {
    let mut octets = vec![0; ADVERTISEMENT_BYTES];
    if let Some(kind) = octets.first_mut() {
        *kind = ROUTER_ADVERTISEMENT;
    }
    put_link_layer_address(mac, &mut octets);
    octets
}

/// RFC 4861 section 4.1.
pub fn solicitation(mac: Option<Mac>) -> Vec<u8> {
    let mut octets = vec![0; SOLICITATION_BYTES];
    if let Some(kind) = octets.first_mut() {
        *kind = ROUTER_SOLICITATION;
    }
    put_link_layer_address(mac, &mut octets);
    octets
}

fn put_link_layer_address(mac: Option<Mac>, octets: &mut Vec<u8>) {
    if let Some(Mac(mac)) = mac {
        // Its length is one unit.
        octets.extend([SOURCE_LINK_LAYER_ADDRESS, 1]);
        octets.extend(mac);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

    #[test]
    fn an_advertisement_says_no_more_than_that_we_are_there() {
        let octets = advertisement(Some(Mac([2, 0, 0, 0, 0, 9])));
        let mut expected = vec![134, 0, 0, 0];
        // Hop limit, flags, lifetime, reachable time and retransmission timer: none.
        expected.extend([0; 12]);
        expected.extend([1, 1, 2, 0, 0, 0, 0, 9]);
        assert_eq!(octets, expected);
        assert_eq!(read(&octets, ROUTER, 255), Some(RouterMessage::Advertisement));
        assert_eq!(
            read(&solicitation(None), Ipv6Addr::UNSPECIFIED, 255),
            Some(RouterMessage::Solicitation)
        );
    }

    #[test]
    fn what_may_come_from_afar_is_not_heard() {
        let good = advertisement(None);
        assert_eq!(read(&good, ROUTER, 254), None, "it came over a router");
        assert_eq!(read(&good, "2001:db8::2".parse().unwrap(), 255), None);
        assert_eq!(read(&good[..15], ROUTER, 255), None);
        let mut coded = good.clone();
        coded[1] = 1;
        assert_eq!(read(&coded, ROUTER, 255), None);
        let mut other = good;
        other[0] = 135;
        assert_eq!(read(&other, ROUTER, 255), None);
        assert_eq!(read(&[], ROUTER, 255), None);
    }

    #[test]
    fn options_have_to_be_whole() {
        let with = |options: &[u8]| [advertisement(None).as_slice(), options].concat();
        let mtu = [5, 1, 0, 0, 0, 0, 5, 220];
        let prefix = [[3, 4].as_slice(), &[0; 30]].concat();
        for options in [mtu.to_vec(), prefix.clone(), [prefix, mtu.to_vec()].concat()] {
            assert_eq!(
                read(&with(&options), ROUTER, 255),
                Some(RouterMessage::Advertisement)
            );
            for cut in 1..8 {
                let cut = options.get(..options.len() - cut).unwrap();
                assert_eq!(read(&with(cut), ROUTER, 255), None, "{cut:?}");
            }
        }
        assert_eq!(
            read(&with(&[1, 0, 0, 0, 0, 0, 0, 0]), ROUTER, 255),
            None,
            "RFC 4861 section 6.1.2"
        );
        // RFC 4861 section 6.1.1.
        let asked = solicitation(Some(Mac([2, 0, 0, 0, 0, 9])));
        assert_eq!(read(&asked, ROUTER, 255), Some(RouterMessage::Solicitation));
        assert_eq!(read(&asked, Ipv6Addr::UNSPECIFIED, 255), None);
    }
}
