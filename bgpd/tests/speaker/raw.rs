//! A peer that the test plays itself.

use std::net::SocketAddr;

use bgpd::wire::{
    Attributes, Capabilities, Codec, Community, Family, HEADER_BYTES, Message, NextHop, Open, Prefix,
    RefreshKind, decode, encode_announcement, encode_keepalive, encode_open, encode_route_refresh, frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::{TIME_MAX, address, hub, is_established, listen_address, network, peer, start, wait_for};

pub(crate) struct RawPeer {
    pub(crate) stream: TcpStream,
    codec: Codec,
}

impl RawPeer {
    /// Connects from 127.0.77.`last` and opens a session in AS 65000 with little room to receive.
    pub(crate) async fn open(last: u8, to: SocketAddr, hold_time_s: u16) -> Self {
        Self::open_with(last, to, hold_time_s, Capabilities::default()).await
    }

    /// Offers more than a session needs.
    pub(crate) async fn open_with(last: u8, to: SocketAddr, hold_time_s: u16, more: Capabilities) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind(SocketAddr::new(address(last), 0)).unwrap();
        let stream = timeout(TIME_MAX, socket.connect(to)).await.unwrap().unwrap();
        let families = [Family::Ipv4Unicast].into_iter().collect();
        let codec = Codec {
            four_octet_as: true,
            extended_message: false,
            families,
            enhanced_route_refresh: more.enhanced_route_refresh,
            ..Codec::default()
        };
        let mut peer = Self { stream, codec };
        let capabilities = Capabilities {
            families,
            route_refresh: true,
            four_octet_as: Some(65000),
            ..more
        };
        let open = Open {
            asn: 65000,
            hold_time_s,
            router_id: [10, 0, 0, last].into(),
            capabilities,
        };
        peer.send(&encode_open(&open)).await;
        peer.send(&encode_keepalive()).await;
        peer
    }

    /// Announces routes with itself as next hop.
    pub(crate) async fn announce(&mut self, prefixes: &[&str]) {
        self.announce_with(prefixes, &[]).await;
    }

    /// Announces routes with communities.
    pub(crate) async fn announce_with(&mut self, prefixes: &[&str], communities: &[Community]) {
        let next_hop = self.stream.local_addr().unwrap().ip();
        let mut attributes = Attributes::originated(NextHop::from(next_hop));
        attributes.local_pref = Some(100);
        attributes.communities = communities.to_vec();
        self.announce_attributes(&attributes, prefixes).await;
    }

    /// Announces routes with any attributes, AS_SETs among them.
    pub(crate) async fn announce_attributes(&mut self, attributes: &Attributes, prefixes: &[&str]) {
        let prefixes: Vec<Prefix> = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
        let codec = Codec {
            as_sets: true,
            ..self.codec
        };
        let mut octets = Vec::new();
        encode_announcement(attributes, prefixes.as_slice(), codec, &mut octets).unwrap();
        self.send(&octets).await;
    }

    pub(crate) async fn send(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).await.unwrap();
    }

    pub(crate) async fn message(&mut self) -> Message {
        let mut octets = vec![0; HEADER_BYTES];
        let read = async {
            self.stream.read_exact(&mut octets).await.unwrap();
            octets.resize(usize::from(u16::from_be_bytes([octets[16], octets[17]])), 0);
            self.stream.read_exact(&mut octets[HEADER_BYTES..]).await.unwrap();
        };
        timeout(TIME_MAX, read).await.expect("a message");
        assert_eq!(frame(&octets, self.codec), Ok(Some(octets.len())));
        decode(&octets, self.codec).unwrap()
    }

    /// The type octet of the first message; nothing if the connection ends before.
    pub(crate) async fn first_message_kind(&mut self) -> Option<u8> {
        let mut header = [0; HEADER_BYTES];
        let read = timeout(TIME_MAX, self.stream.read_exact(&mut header)).await;
        read.ok()?.ok().map(|_| header[HEADER_BYTES - 1])
    }

    /// Routes up to and with End-of-RIB.
    pub(crate) async fn table(&mut self) -> Vec<Prefix> {
        let mut prefixes = Vec::new();
        loop {
            let Message::Update(update) = self.message().await else {
                continue;
            };
            prefixes.extend(
                update
                    .announced
                    .into_iter()
                    .flat_map(|announcement| announcement.prefixes),
            );
            if update.end_of_rib.is_some() {
                prefixes.sort_unstable();
                return prefixes;
            }
        }
    }
}

#[tokio::test]
async fn a_refresh_is_answered_with_the_table() {
    let mut config = hub(61, [62], 65000);
    config.networks = vec![network("10.6.0.0/24"), network("10.6.1.0/24")];
    let speaker = start(config);
    let mut peer = RawPeer::open(62, listen_address(&speaker).await, 90).await;
    let table = peer.table().await;
    assert_eq!(table.len(), 2);
    peer.send(&encode_route_refresh(Family::Ipv4Unicast, RefreshKind::Request))
        .await;
    let mut again = Vec::new();
    while again.len() < 2 {
        if let Message::Update(update) = peer.message().await {
            again.extend(
                update
                    .announced
                    .into_iter()
                    .flat_map(|announcement| announcement.prefixes),
            );
        }
    }
    again.sort_unstable();
    assert_eq!(again, table);
}

/// A peer that reads nothing slows nobody, keeps its session, and has everything once it reads, each
/// route once and as it is then.
#[tokio::test]
async fn a_slow_peer_is_coalesced() {
    let speaker = start(hub(63, [64, 65], 65000));
    let to = listen_address(&speaker).await;
    let mut slow = RawPeer::open(64, to, 90).await;
    let mut fast = RawPeer::open(65, to, 90).await;
    for last in [64, 65] {
        wait_for("a session", async || {
            is_established(&speaker, address(last)).await
        })
        .await;
    }
    assert!(fast.table().await.is_empty());
    let networks: Vec<_> = (0..60_000u32)
        .map(|n| network(&format!("{}/32", std::net::Ipv4Addr::from(0x0a80_0000 + n))))
        .collect();
    let final_round = 4;
    for round in 0..=final_round {
        let mut networks = networks.clone();
        networks
            .iter_mut()
            .for_each(|network| network.local_pref = Some(1000 + round));
        speaker.set_networks(networks).await.unwrap();
        let mut seen = 0;
        while seen < 60_000 {
            let Message::Update(update) = fast.message().await else {
                continue;
            };
            let current = update
                .announced
                .iter()
                .filter(|a| a.attributes.local_pref == Some(1000 + round));
            seen += current
                .map(|announcement| announcement.prefixes.len())
                .sum::<usize>();
        }
    }
    assert!(
        is_established(&speaker, address(64)).await,
        "only reading is slow"
    );
    let mut last_round = std::collections::HashSet::new();
    let mut updates = 0;
    while last_round.len() < 60_000 {
        let Message::Update(update) = slow.message().await else {
            continue;
        };
        for announcement in update.announced {
            updates += announcement.prefixes.len();
            if announcement.attributes.local_pref == Some(1000 + final_round) {
                last_round.extend(announcement.prefixes);
            }
        }
    }
    assert!(
        updates < 3 * 60_000,
        "{updates} routes sent instead of all five rounds"
    );
    assert_eq!(peer(&speaker, address(64)).await.flaps, 0);
}

/// A peer that never reads gets no more than the send hold time, but its silence ends it before.
#[tokio::test]
async fn a_dead_peer_ends_with_its_hold_time() {
    let mut config = hub(66, [67], 65000);
    config.networks = (0..20_000u32)
        .map(|n| network(&format!("{}/32", std::net::Ipv4Addr::from(0x0a80_0000 + n))))
        .collect();
    let speaker = start(config);
    let _dead = RawPeer::open(67, listen_address(&speaker).await, 3).await;
    wait_for("the session", async || {
        is_established(&speaker, address(67)).await
    })
    .await;
    wait_for("its end", async || !is_established(&speaker, address(67)).await).await;
    let error = peer(&speaker, address(67)).await.last_error.unwrap();
    assert!(error.contains("hold timer expired"), "{error}");
}
