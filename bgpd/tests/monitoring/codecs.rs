//! What is written reads as it was written, and no octets make a reader panic.

use std::time::Duration;

use bgpd::bmp::{self, DownReason, Message, PeerHeader, PeerUp, Statistic, Tlv};
use bgpd::mrt::{
    self, Ends, MessageRecord, PeerEntry, PeerIndexTable, Record, Records, Replay, RibEntry, RibRecord,
};
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;

fn bgp_message() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..60).prop_map(|body| {
        let mut message = vec![0xff; 16];
        message.extend(u16::try_from(19 + body.len()).unwrap().to_be_bytes());
        message.push(1);
        message.extend(body);
        message
    })
}

fn tlvs() -> impl Strategy<Value = Vec<Tlv>> {
    vec(
        (any::<u16>(), vec(any::<u8>(), 0..40)).prop_map(|(kind, value)| Tlv { kind, value }),
        0..4,
    )
}

fn instant() -> impl Strategy<Value = Duration> {
    (any::<u32>(), 0..1_000_000u32).prop_map(|(s, us)| Duration::new(s.into(), us * 1000))
}

fn ip(ipv6: bool) -> BoxedStrategy<std::net::IpAddr> {
    if ipv6 {
        any::<[u8; 16]>().prop_map(Into::into).boxed()
    } else {
        any::<[u8; 4]>().prop_map(Into::into).boxed()
    }
}

fn peer(ipv6: bool) -> impl Strategy<Value = PeerHeader> {
    (
        0..3u8,
        0..0x80u8,
        any::<u64>(),
        ip(ipv6),
        any::<u32>(),
        any::<[u8; 4]>(),
        instant(),
    )
        .prop_map(
            move |(kind, flags, distinguisher, address, asn, router_id, at)| PeerHeader {
                kind,
                flags: flags | if ipv6 { 0x80 } else { 0 },
                distinguisher,
                address,
                asn,
                router_id: router_id.into(),
                at,
            },
        )
}

fn bmp_message() -> impl Strategy<Value = Message> {
    let reason = prop_oneof![
        bgp_message().prop_map(DownReason::LocalNotification),
        any::<u16>().prop_map(DownReason::LocalClosed),
        bgp_message().prop_map(DownReason::RemoteNotification),
        Just(DownReason::RemoteClosed),
        Just(DownReason::NotMonitored),
        tlvs().prop_map(DownReason::LocRib),
    ];
    let statistic = prop_oneof![
        any::<(u16, u32)>().prop_map(|(kind, value)| Statistic::Counter(kind, value)),
        any::<(u16, u64)>().prop_map(|(kind, value)| Statistic::Gauge(kind, value)),
        any::<(u16, u16, u8, u64)>()
            .prop_map(|(kind, afi, safi, value)| Statistic::FamilyGauge(kind, afi, safi, value)),
    ];
    let up = any::<bool>().prop_flat_map(|ipv6| {
        (
            peer(ipv6),
            ip(ipv6),
            any::<(u16, u16)>(),
            bgp_message(),
            bgp_message(),
            tlvs(),
        )
    });
    let up = up.prop_map(
        |(peer, local, (local_port, remote_port), sent_open, received_open, information)| {
            let up = PeerUp {
                local,
                local_port,
                remote_port,
                sent_open,
                received_open,
                information,
            };
            Message::PeerUp(peer, Box::new(up))
        },
    );
    let any_peer = any::<bool>().prop_flat_map(peer).boxed();
    prop_oneof![
        (any_peer.clone(), bgp_message()).prop_map(|(peer, update)| Message::RouteMonitoring(peer, update)),
        (any_peer.clone(), vec(statistic, 0..6)).prop_map(|(peer, all)| Message::StatisticsReport(peer, all)),
        (any_peer.clone(), reason).prop_map(|(peer, reason)| Message::PeerDown(peer, reason)),
        up,
        tlvs().prop_map(Message::Initiation),
        tlvs().prop_map(Message::Termination),
        (any_peer, tlvs()).prop_map(|(peer, tlvs)| Message::RouteMirroring(peer, tlvs)),
    ]
}

fn prefix() -> impl Strategy<Value = IpNet> {
    any::<bool>().prop_flat_map(|ipv6| {
        let bits = if ipv6 { 128u8 } else { 32 };
        (ip(ipv6), 0..=bits).prop_map(|(address, length)| IpNet::new(address, length).unwrap().trunc())
    })
}

fn mrt_record() -> impl Strategy<Value = Record> {
    let entry = any::<bool>().prop_flat_map(ip).prop_flat_map(|address| {
        any::<([u8; 4], u32)>().prop_map(move |(router_id, asn)| PeerEntry {
            router_id: router_id.into(),
            address,
            asn,
        })
    });
    let table = (any::<[u8; 4]>(), "[a-z]{0,9}", vec(entry, 0..5)).prop_map(|(collector, view, peers)| {
        Record::PeerIndexTable(PeerIndexTable {
            collector: collector.into(),
            view,
            peers,
        })
    });
    let paths = any::<bool>().prop_flat_map(|with_ids| {
        let path = (any::<(u16, u32, u32)>(), vec(any::<u8>(), 0..50));
        vec(path, 1..5).prop_map(move |paths| {
            let entry = |((peer, originated_s, id), attributes)| RibEntry {
                peer,
                originated_s,
                path_id: with_ids.then_some(id),
                attributes,
            };
            paths.into_iter().map(entry).collect::<Vec<_>>()
        })
    });
    let rib = (any::<u32>(), prefix(), paths).prop_map(|(sequence, prefix, entries)| {
        Record::Rib(RibRecord {
            sequence,
            prefix,
            entries,
        })
    });
    let ends = any::<bool>().prop_flat_map(|ipv6| (any::<(u16, u16, u16)>(), ip(ipv6), ip(ipv6)));
    let ends = ends.prop_map(|((peer_as, local_as, interface), peer, local)| Ends {
        peer_as: peer_as.into(),
        local_as: local_as.into(),
        interface,
        peer,
        local,
    });
    let message = (ends.clone(), any::<[bool; 3]>(), bgp_message()).prop_map(
        |(ends, [four_octet_as, sent, add_path], message)| {
            Record::Message(MessageRecord {
                ends,
                four_octet_as,
                sent,
                add_path,
                message,
            })
        },
    );
    let change = (ends, any::<(u16, u16)>())
        .prop_map(|(ends, (old, new))| Record::StateChange(mrt::StateChange { ends, old, new }));
    prop_oneof![table, rib, message, change]
}

proptest! {
    #[test]
    fn bmp_reads_as_it_was_written(message in bmp_message()) {
        let mut octets = Vec::new();
        message.encode(&mut octets);
        prop_assert_eq!(bmp::frame(&octets), Ok(Some(octets.len())));
        prop_assert_eq!(bmp::decode(&octets), Ok(message));
        for cut in 0..octets.len() {
            prop_assert_eq!(bmp::frame(&octets[..cut]), Ok(None));
        }
    }

    #[test]
    fn mrt_reads_as_it_was_written(record in mrt_record(), at in instant()) {
        let mut octets = Vec::new();
        record.encode(at, &mut octets);
        prop_assert_eq!(mrt::frame(&octets), Ok(Some(octets.len())));
        let (read_at, read) = mrt::decode(&octets).unwrap();
        prop_assert_eq!(read_at.as_secs(), at.as_secs());
        prop_assert_eq!(read, record);
    }

    #[test]
    fn no_octets_confuse_a_reader(
        mut bmp_octets in bmp_message().prop_map(|message| { let mut out = Vec::new(); message.encode(&mut out); out }),
        mut mrt_octets in mrt_record().prop_map(|record| { let mut out = Vec::new(); record.encode(Duration::ZERO, &mut out); out }),
        changes in vec((any::<usize>(), any::<u8>()), 1..8),
        cut in any::<usize>(),
    ) {
        for octets in [&mut bmp_octets, &mut mrt_octets] {
            for (at, value) in &changes {
                let at = at % octets.len();
                octets[at] = *value;
            }
            octets.truncate(cut % (octets.len() + 1));
        }
        let _ = bmp::frame(&bmp_octets);
        let _ = bmp::decode(&bmp_octets);
        let _ = mrt::decode(&mrt_octets);
        let mut replay = Replay::new(65000);
        for (_, record) in Records::new(mrt_octets.as_slice()).flatten() {
            replay.record(record);
        }
    }
}
