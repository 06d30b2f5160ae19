//! What a station is told of what happens to the RIB.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use super::message::{
    DownReason, Message, PeerHeader, PeerUp, Statistic, Tlv, information, mirroring, peer_flag, peer_type,
    route_monitoring, since_epoch, statistic, termination,
};
use crate::config::{BmpStation, BmpView};
use crate::monitor::synthesis;
use crate::monitor::{Event, Interest, Mirror, MonitoredPeer, Observed, View};
use crate::rib::Counters;
use crate::session;
use crate::wire::{self, Capabilities, Family, FamilySet, Open};

/// ManualStop of RFC 4271 section 8.1.2.
const EVENT_MANUAL_STOP: u16 = 2;

/// Writes the messages for one station.
#[derive(Debug)]
pub(super) struct Exporter {
    local_as: u32,
    router_id: Ipv4Addr,
    interest: Interest,
}

/// The views of a station.
pub(super) fn interest(station: &BmpStation) -> Interest {
    let wants = |view| station.monitor.contains(&view);
    Interest {
        received: wants(BmpView::PrePolicy),
        accepted: wants(BmpView::PostPolicy),
        advertised: wants(BmpView::AdjRibOut),
        selected: wants(BmpView::LocRib),
        mirrored: station.mirror,
    }
}

impl Exporter {
    pub(super) const fn new(local_as: u32, router_id: Ipv4Addr, interest: Interest) -> Self {
        Self {
            local_as,
            router_id,
            interest,
        }
    }

    /// The first messages: who we are, and that there is a Loc-RIB if it is shown.
    pub(super) fn initiation(&self, name: &str, out: &mut Vec<u8>) {
        let description = concat!("margay bgpd ", env!("CARGO_PKG_VERSION"));
        let tlvs = vec![
            Tlv::text(information::SYS_DESCR, description),
            Tlv::text(information::SYS_NAME, name),
        ];
        Message::Initiation(tlvs).encode(out);
        if self.interest.selected {
            let open = wire::encode_open(&self.loc_rib_open());
            let up = PeerUp {
                local: Ipv4Addr::UNSPECIFIED.into(),
                local_port: 0,
                remote_port: 0,
                sent_open: open.clone(),
                received_open: open,
                // The table's name, which RFC 9069 section 4.4 leaves to choice, is one that tshark 4.0 stumbles over.
                information: Vec::new(),
            };
            Message::PeerUp(self.loc_rib(SystemTime::now()), Box::new(up)).encode(out);
        }
    }

    /// RFC 9069 section 4.4: no OPEN is exchanged with the Loc-RIB; this one says how to read its UPDATEs.
    fn loc_rib_open(&self) -> Open {
        Open {
            asn: self.local_as,
            hold_time_s: 0,
            router_id: self.router_id,
            capabilities: Capabilities {
                families: Family::ALL.into_iter().collect(),
                four_octet_as: Some(self.local_as),
                ..Capabilities::default()
            },
        }
    }

    /// The last message.
    pub(super) fn termination(reason: u16, out: &mut Vec<u8>) {
        let reason = Tlv {
            kind: termination::REASON,
            value: reason.to_be_bytes().to_vec(),
        };
        Message::Termination(vec![reason]).encode(out);
    }

    /// What follows from an event.
    pub(super) fn event(&self, observed: &Observed, out: &mut Vec<u8>) {
        let at = observed.at;
        match &observed.event {
            Event::Subscribed(peers) => peers.iter().for_each(|peer| peer_up(peer, out)),
            Event::PeerUp(peer) => peer_up(peer, out),
            Event::PeerDown(peer, reason) => {
                Message::PeerDown(header(peer, 0, at), down_reason(reason)).encode(out);
            }
            Event::Messages(view, peer, messages) => {
                let header = header(peer, flags(*view) | width(peer), at);
                for message in synthesis::messages(messages) {
                    route_monitoring(&header, message, out);
                }
            }
            Event::Routes(view, peer, routes) => {
                let mut updates = Vec::new();
                let add_path = peer
                    .as_ref()
                    .map_or(FamilySet::EMPTY, |peer| peer.add_path(*view));
                synthesis::updates(routes, add_path, &mut updates);
                let header = self.whose(peer.as_deref(), *view, at);
                for message in synthesis::messages(&updates) {
                    route_monitoring(&header, message, out);
                }
            }
            Event::EndOfRib(view, peer, family) => {
                let mut end = Vec::new();
                wire::encode_end_of_rib(*family, &mut end);
                route_monitoring(&self.whose(peer.as_deref(), *view, at), &end, out);
            }
            Event::Mirror(mirror) => route_mirroring(mirror, at, out),
            Event::Shown(_) => {}
        }
    }

    fn whose(&self, peer: Option<&MonitoredPeer>, view: View, at: SystemTime) -> PeerHeader {
        match peer {
            Some(peer) => header(peer, flags(view), at),
            None => self.loc_rib(at),
        }
    }

    /// RFC 9069 section 4.1.
    fn loc_rib(&self, at: SystemTime) -> PeerHeader {
        PeerHeader {
            kind: peer_type::LOC_RIB,
            flags: 0,
            distinguisher: 0,
            address: Ipv4Addr::UNSPECIFIED.into(),
            asn: self.local_as,
            router_id: self.router_id,
            at: since_epoch(at),
        }
    }

    /// Numbers about a peer.
    pub(super) fn statistics(peer: &MonitoredPeer, numbers: &PeerNumbers, at: SystemTime, out: &mut Vec<u8>) {
        Message::StatisticsReport(header(peer, 0, at), numbers.statistics()).encode(out);
    }

    /// Numbers about the Loc-RIB, if it is shown.
    pub(super) fn loc_rib_statistics(&self, routes: [usize; 2], at: SystemTime, out: &mut Vec<u8>) {
        if self.interest.selected {
            let total = routes.iter().sum::<usize>() as u64;
            let mut statistics = vec![Statistic::Gauge(statistic::LOC_RIB, total)];
            statistics.extend(by_family(statistic::LOC_RIB_FAMILY, routes));
            Message::StatisticsReport(self.loc_rib(at), statistics).encode(out);
        }
    }
}

/// What the RIB counts of a peer, by family.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PeerNumbers(pub(super) [Counters; 2]);

impl PeerNumbers {
    fn statistics(&self) -> Vec<Statistic> {
        let received = self.0.map(|counters| counters.received);
        let advertised = self.0.map(|counters| counters.advertised);
        let rejected: usize = self
            .0
            .iter()
            .map(|counters| counters.received.saturating_sub(counters.accepted))
            .sum();
        let sum = |numbers: [usize; 2]| numbers.iter().sum::<usize>() as u64;
        let mut statistics = vec![
            Statistic::Counter(statistic::REJECTED, u32::try_from(rejected).unwrap_or(u32::MAX)),
            Statistic::Gauge(statistic::ADJ_RIB_IN, sum(received)),
            Statistic::Gauge(statistic::ADJ_RIB_OUT, sum(advertised)),
        ];
        statistics.extend(by_family(statistic::ADJ_RIB_IN_FAMILY, received));
        statistics.extend(by_family(statistic::ADJ_RIB_OUT_FAMILY, advertised));
        statistics
    }
}

fn by_family(kind: u16, numbers: [usize; 2]) -> impl Iterator<Item = Statistic> {
    let families = Family::ALL.into_iter().zip(numbers);
    families
        .map(move |(family, count)| Statistic::FamilyGauge(kind, family.afi(), family.safi(), count as u64))
}

/// RFC 7854 section 4.2, RFC 8671 section 4.
const fn flags(view: View) -> u8 {
    match view {
        View::Received | View::Selected => 0,
        View::Accepted => peer_flag::POST_POLICY,
        View::Advertised => peer_flag::ADJ_RIB_OUT | peer_flag::POST_POLICY,
    }
}

fn header(peer: &MonitoredPeer, flags: u8, at: SystemTime) -> PeerHeader {
    PeerHeader {
        kind: peer_type::GLOBAL,
        flags,
        distinguisher: 0,
        address: address(peer.remote.ip()),
        asn: peer.remote_as,
        router_id: peer.remote_id,
        at: since_epoch(at),
    }
}

fn address(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

fn peer_up(peer: &MonitoredPeer, out: &mut Vec<u8>) {
    let up = PeerUp {
        local: address(peer.local.ip()),
        local_port: peer.local.port(),
        remote_port: peer.remote.port(),
        sent_open: peer.sent_open.to_vec(),
        received_open: peer.received_open.to_vec(),
        information: Vec::new(),
    };
    Message::PeerUp(header(peer, 0, peer.since), Box::new(up)).encode(out);
}

/// RFC 7854 section 4.7: one message each, which comes last in its TLVs.
fn route_mirroring(mirror: &Mirror, at: SystemTime, out: &mut Vec<u8>) {
    let information = |code: u16| Tlv {
        kind: mirroring::INFORMATION,
        value: code.to_be_bytes().to_vec(),
    };
    match mirror {
        Mirror::Messages(peer, mirrored) => {
            let header = header(peer, width(peer), at);
            for (message, is_errored) in mirrored.messages() {
                let mut tlvs = Vec::new();
                if is_errored {
                    tlvs.push(information(mirroring::ERRORED_PDU));
                }
                tlvs.push(Tlv {
                    kind: mirroring::BGP_MESSAGE,
                    value: message.to_vec(),
                });
                Message::RouteMirroring(header, tlvs).encode(out);
            }
        }
        Mirror::Lost(peer) => {
            let lost = vec![information(mirroring::MESSAGES_LOST)];
            Message::RouteMirroring(header(peer, width(peer), at), lost).encode(out);
        }
    }
}

/// Says of messages as they came how wide their AS numbers are.
const fn width(peer: &MonitoredPeer) -> u8 {
    if peer.codec.four_octet_as {
        0
    } else {
        peer_flag::TWO_OCTET_AS
    }
}

/// RFC 7854 section 4.9.
fn down_reason(reason: &session::DownReason) -> DownReason {
    use session::DownReason as Session;
    match reason {
        Session::Stopped(reason) => match reason.notification(None) {
            Some(notification) => DownReason::LocalNotification(wire::encode_notification(&notification)),
            None => DownReason::LocalClosed(EVENT_MANUAL_STOP),
        },
        Session::Sent(notification) => DownReason::LocalNotification(wire::encode_notification(notification)),
        Session::Received(notification) => {
            DownReason::RemoteNotification(wire::encode_notification(notification))
        }
        Session::Closed(_) | Session::PeerRestarted => DownReason::RemoteClosed,
    }
}

/// How long the next attempt to connect waits: doubled with each failure in a row.
pub(super) fn back_off(failures: u32) -> Duration {
    const FIRST: Duration = Duration::from_secs(1);
    /// RFC 7854 section 3.2 asks for a limit of the rate.
    const LONGEST: Duration = Duration::from_secs(30);
    FIRST.saturating_mul(1 << failures.min(5)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::bmp::decode;
    use crate::config::NeighborKey;

    /// RFC 7854 section 4.7: an Information TLV alone.
    #[test]
    fn a_station_is_told_of_mirrored_messages_that_were_left_out() {
        let address: IpAddr = [10, 0, 0, 2].into();
        let peer = MonitoredPeer {
            key: NeighborKey::new(address, 179),
            local: (address, 179).into(),
            remote: (address, 179).into(),
            local_as: 65001,
            remote_as: 65002,
            remote_id: [10, 0, 0, 2].into(),
            codec: wire::Codec::default(),
            sent_open: Default::default(),
            received_open: Default::default(),
            since: SystemTime::UNIX_EPOCH,
        };
        let mut out = Vec::new();
        route_mirroring(&Mirror::Lost(Arc::new(peer)), SystemTime::UNIX_EPOCH, &mut out);
        let Ok(Message::RouteMirroring(header, tlvs)) = decode(&out) else {
            panic!("{out:?}")
        };
        assert_eq!((header.asn, header.flags), (65002, peer_flag::TWO_OCTET_AS));
        let lost = Tlv {
            kind: mirroring::INFORMATION,
            value: vec![0, 1],
        };
        assert_eq!(tlvs, [lost]);
    }
}
