//! Messages of a neighbour, by type and direction.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::wire::{HEADER_BYTES, MessageType};

/// How many messages of each type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageCounts {
    /// OPEN.
    pub open: u64,
    /// UPDATE, End-of-RIB among them.
    pub update: u64,
    /// NOTIFICATION.
    pub notification: u64,
    /// KEEPALIVE.
    pub keepalive: u64,
    /// ROUTE-REFRESH.
    pub route_refresh: u64,
}

#[derive(Debug, Default)]
struct Direction {
    open: AtomicU64,
    update: AtomicU64,
    notification: AtomicU64,
    keepalive: AtomicU64,
    route_refresh: AtomicU64,
}

impl Direction {
    /// Counts every message in `octets`, which holds whole ones.
    fn count(&self, mut octets: &[u8]) {
        while let Some([.., high, low, kind]) = octets.first_chunk::<HEADER_BYTES>() {
            let counter = match MessageType::from_code(*kind) {
                Some(MessageType::Open) => &self.open,
                Some(MessageType::Update) => &self.update,
                Some(MessageType::Notification) => &self.notification,
                Some(MessageType::Keepalive) => &self.keepalive,
                Some(MessageType::RouteRefresh) => &self.route_refresh,
                None => return,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            let length = usize::from(u16::from_be_bytes([*high, *low])).max(HEADER_BYTES);
            octets = octets.get(length..).unwrap_or_default();
        }
    }

    fn read(&self) -> MessageCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        MessageCounts {
            open: read(&self.open),
            update: read(&self.update),
            notification: read(&self.notification),
            keepalive: read(&self.keepalive),
            route_refresh: read(&self.route_refresh),
        }
    }
}

/// What a neighbour's connections count.
#[derive(Debug, Default)]
pub(super) struct MessageCounters {
    sent: Direction,
    received: Direction,
}

impl MessageCounters {
    /// Whole messages were written.
    pub(super) fn sent(&self, octets: &[u8]) {
        self.sent.count(octets);
    }

    /// Whole messages were read.
    pub(super) fn received(&self, octets: &[u8]) {
        self.received.count(octets);
    }

    /// Those sent and those received.
    pub(super) fn read(&self) -> (MessageCounts, MessageCounts) {
        (self.sent.read(), self.received.read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Family, RefreshKind, encode_end_of_rib, encode_keepalive, encode_route_refresh};

    #[test]
    fn messages_in_a_row_are_each_counted() {
        let mut octets = encode_keepalive();
        encode_end_of_rib(Family::Ipv4Unicast, &mut octets);
        encode_end_of_rib(Family::Ipv6Unicast, &mut octets);
        octets.extend(encode_route_refresh(Family::Ipv4Unicast, RefreshKind::Begin));
        let counters = MessageCounters::default();
        counters.sent(&octets);
        counters.received(&encode_keepalive());
        counters.received(&[0xff; 5]);
        let (sent, received) = counters.read();
        let expected = MessageCounts {
            update: 2,
            keepalive: 1,
            route_refresh: 1,
            ..MessageCounts::default()
        };
        assert_eq!(sent, expected);
        assert_eq!((received.keepalive, received.update), (1, 0));
    }
}
