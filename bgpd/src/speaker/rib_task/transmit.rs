//! What peers are told: encoded once for all that are told the same, and queued for their writers.

use bytes::Bytes;

use super::RibTask;
use crate::config::NeighborKey;
use crate::rib::{Outgoing, Transmit};
use crate::wire::{self, Codec, Nlri};

impl RibTask {
    /// Encodes and queues what peers are to be told.
    pub(super) fn transmit(&mut self) {
        while let Some(transmit) = self.rib.poll_transmit() {
            let codec = transmit
                .peers
                .iter()
                .find_map(|id| self.peers.get(self.by_id.get(id)?));
            let Some(codec) = codec.map(|peer| peer.codec) else {
                continue;
            };
            let piece = self
                .staging
                .add(&transmit.peers, |out| encode(&transmit, codec, out));
            let is_update = !matches!(transmit.outgoing, Outgoing::Refresh(_));
            if is_update && self.monitors.interest().advertised {
                let keys = transmit.peers.iter().filter_map(|id| self.by_id.get(id));
                self.monitors.sent(keys.copied(), &Bytes::copy_from_slice(piece));
            }
            if self.staging.is_full() {
                self.hand_out();
            }
        }
        self.hand_out();
    }

    /// Queues what is encoded for the peers' writers.
    fn hand_out(&mut self) {
        for (id, pieces) in self.staging.take() {
            let Some(peer) = self.by_id.get(&id).and_then(|key| self.peers.get(key)) else {
                continue;
            };
            let mut goes_on = true;
            for piece in pieces {
                goes_on = peer.out.send(piece);
            }
            if !goes_on {
                self.rib.pause(id);
            }
        }
    }

    pub(super) fn send_again(&mut self, key: NeighborKey) {
        if let Some(peer) = self.peers.get(&key) {
            for family in peer.codec.families.iter() {
                self.rib.refresh(peer.id, family);
            }
        }
    }

    pub(super) fn room(&mut self, key: NeighborKey) {
        if let Some(peer) = self.peers.get(&key) {
            self.rib.resume(peer.id);
        }
    }
}

fn encode(transmit: &Transmit, codec: Codec, out: &mut Vec<u8>) {
    match &transmit.outgoing {
        Outgoing::Announce {
            attributes,
            prefixes,
            path_ids,
        } => {
            let start = out.len();
            let routes = Nlri { prefixes, path_ids };
            if let Err(error) = wire::encode_announcement(attributes, routes, codec, out) {
                tracing::warn!(
                    %error,
                    first = %prefixes.first().map(ToString::to_string).unwrap_or_default(),
                    count = prefixes.len(),
                    "routes cannot be sent and are withdrawn instead"
                );
                out.truncate(start);
                wire::encode_withdrawal(routes, codec, out);
            }
        }
        Outgoing::Withdraw { prefixes, path_ids } => {
            wire::encode_withdrawal(Nlri { prefixes, path_ids }, codec, out);
        }
        Outgoing::EndOfRib => wire::encode_end_of_rib(transmit.family, out),
        Outgoing::Refresh(kind) => out.extend(wire::encode_route_refresh(transmit.family, *kind)),
    }
}
