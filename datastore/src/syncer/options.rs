//! What a syncer follows.

use std::path::PathBuf;
use std::time::Duration;

use api::Kind;

use super::view::CLUSTER_INFORMATION;
use crate::client::KeyRange;
use crate::key::{AffinityList, BlockList, List, RESOURCE_ROOT};

/// How often the last good view is saved, if it changed.
pub const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(60);
/// How often a frozen view asks whether the reason is gone.
pub const FREEZE_POLL: Duration = Duration::from_secs(2);
/// How many batches wait for the consumer in the channel; what comes after is merged key by key.
pub const CHANNEL_BATCHES: usize = 16;
/// How many updates one batch has at most.
pub const BATCH_UPDATES_MAX: usize = 1000;

/// The settings of a [`Syncer`](super::Syncer).
#[derive(Debug, Clone)]
pub struct Options {
    /// What is followed. ClusterInformation is, in any case.
    pub ranges: Vec<KeyRange>,
    /// The file of the last good view: read at the start, written now and then and at the end.
    pub snapshot: Option<PathBuf>,
    /// See [`SNAPSHOT_INTERVAL`].
    pub snapshot_interval: Duration,
    /// See [`FREEZE_POLL`].
    pub freeze_poll: Duration,
    /// See [`CHANNEL_BATCHES`].
    pub channel_batches: usize,
    /// See [`BATCH_UPDATES_MAX`].
    pub batch_updates_max: usize,
}

/// What policy and routing of workloads need.
const FELIX_KINDS: [Kind; 12] = [
    Kind::BgpConfiguration,
    Kind::ClusterInformation,
    Kind::GlobalNetworkPolicy,
    Kind::GlobalNetworkSet,
    Kind::HostEndpoint,
    Kind::IpPool,
    Kind::NetworkPolicy,
    Kind::NetworkSet,
    Kind::Node,
    Kind::Profile,
    Kind::Tier,
    Kind::WorkloadEndpoint,
];

/// What BGP needs.
const BGP_KINDS: [Kind; 6] = [
    Kind::BgpConfiguration,
    Kind::BgpFilter,
    Kind::BgpPeer,
    Kind::ClusterInformation,
    Kind::IpPool,
    Kind::Node,
];

impl Options {
    /// Follows these ranges.
    pub fn ranges(ranges: impl IntoIterator<Item = KeyRange>) -> Self {
        let mut ranges: Vec<KeyRange> = ranges.into_iter().collect();
        if !ranges.iter().any(|range| range.contains(CLUSTER_INFORMATION)) {
            ranges.push(KeyRange::Exact(CLUSTER_INFORMATION.to_owned()));
        }
        // A range inside another would be listed twice.
        ranges.sort();
        ranges.dedup();
        let outer = ranges.clone();
        ranges.retain(|range| {
            !outer
                .iter()
                .any(|other| other != range && other.contains(range.start()))
        });
        Self {
            ranges,
            snapshot: None,
            snapshot_interval: SNAPSHOT_INTERVAL,
            freeze_poll: FREEZE_POLL,
            channel_batches: CHANNEL_BATCHES,
            batch_updates_max: BATCH_UPDATES_MAX,
        }
    }

    /// Follows these kinds.
    pub fn kinds(kinds: impl IntoIterator<Item = Kind>) -> Self {
        Self::ranges(kinds.into_iter().map(kind_range))
    }

    /// Policies, endpoints, sets, profiles, nodes, pools and all blocks.
    pub fn felix() -> Self {
        Self::ranges(
            FELIX_KINDS
                .map(kind_range)
                .into_iter()
                .chain([BlockList::default().range()]),
        )
    }

    /// Peers, BGP configuration, nodes, pools, and the blocks and affinities of `host`.
    pub fn bgp(host: &str) -> Self {
        Self::ranges(BGP_KINDS.map(kind_range).into_iter().chain(ipam_ranges(host)))
    }

    /// What an agent on `host` needs: both of the above.
    pub fn agent(host: &str) -> Self {
        let kinds = FELIX_KINDS.into_iter().chain(BGP_KINDS).map(kind_range);
        Self::ranges(kinds.chain(ipam_ranges(host)))
    }

    /// Keeps the last good view in this file.
    #[must_use]
    pub fn with_snapshot(mut self, path: impl Into<PathBuf>) -> Self {
        self.snapshot = Some(path.into());
        self
    }
}

fn kind_range(kind: Kind) -> KeyRange {
    KeyRange::Prefix(format!("{RESOURCE_ROOT}{}/", kind.plural()))
}

fn ipam_ranges(host: &str) -> [KeyRange; 2] {
    let affinities = AffinityList {
        host: Some(host.to_owned()),
        ..AffinityList::default()
    };
    [BlockList::default().range(), affinities.range()]
}

/// The smallest range that holds all of them: the key it starts at, and the first key after it.
///
/// One watch over it has one order of events and one resume point, and shows the end of a cluster (a revision that
/// removes ClusterInformation with everything else) as one answer; keys between the ranges are passed over.
pub(super) fn envelope(ranges: &[KeyRange]) -> (Vec<u8>, Vec<u8>) {
    let start = ranges.iter().map(|r| r.start().as_bytes().to_vec()).min();
    let end = ranges.iter().map(KeyRange::end).max();
    (
        start.unwrap_or_else(|| b"/calico/".to_vec()),
        end.unwrap_or_else(|| b"/calico0".to_vec()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_information_is_always_followed_and_nothing_twice() {
        let options = Options::ranges([]);
        assert!(options.ranges.iter().any(|r| r.contains(CLUSTER_INFORMATION)));
        let options = Options::ranges([
            KeyRange::Prefix(RESOURCE_ROOT.into()),
            kind_range(Kind::Node),
            KeyRange::Prefix(RESOURCE_ROOT.into()),
        ]);
        assert_eq!(options.ranges, [KeyRange::Prefix(RESOURCE_ROOT.into())]);
    }

    #[test]
    fn the_envelope_holds_every_range() {
        let options = Options::agent("node-1");
        let (start, end) = envelope(&options.ranges);
        for range in &options.ranges {
            assert!(start.as_slice() <= range.start().as_bytes() && range.end() <= end);
        }
        assert_eq!(start, b"/calico/ipam/v2/assignment/");
    }
}
