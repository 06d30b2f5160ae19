//! Address → identity, changed so that a packet sees all of a batch or nothing of it.
//!
//! An entry holds two identities and the epoch from which the second counts. Endpoints' generations carry the epoch
//! that they see, so writing entries changes nothing until an endpoint is published with the new epoch.

use aya::maps::lpm_trie::Key;
use ebpf_common::program::{IDENTITY_NET_KEY_BITS, Identity, IdentityNetKey};
use ipnet::IpNet;
use rustc_hash::FxHashMap;

use crate::Error;
use crate::address::{is_host, net_from_map, net_to_map, to_map};
use crate::kernel::{Maps, absent_is_fine, on};

const UNKNOWN: u32 = 0;

/// What addresses' identities are and were.
#[derive(Debug, Default)]
pub(crate) struct Identities {
    desired: FxHashMap<IpNet, u32>,
    /// Entries of an earlier process that no batch has named yet.
    adopted: FxHashMap<IpNet, u32>,
    /// Entries of either, and of those whose removal waits, that are prefixes: how many of each length.
    prefixes: FxHashMap<(bool, u8), usize>,
    /// Entries in the two maps, with those whose removal waits.
    hosts_used: u32,
    nets_used: u32,
}

/// Changes of one batch; [`UNKNOWN`] removes.
pub(crate) type Changes = FxHashMap<IpNet, u32>;

fn seen_at(identity: &Identity, epoch: u32) -> u32 {
    if epoch.wrapping_sub(identity.since) < 1 << 31 {
        identity.after
    } else {
        identity.before
    }
}

impl Identities {
    /// Reads what an earlier process left, as its endpoints of `epoch` see it.
    pub(crate) fn adopt(maps: &Maps, epoch: u32) -> Result<Self, Error> {
        let mut identities = Self::default();
        for entry in maps.identities.iter() {
            let (address, value) = entry.map_err(on("IDENTITIES", "list"))?;
            if let Some(net) = net_from_map(128, address) {
                identities.insert_adopted(net, seen_at(&value, epoch));
            }
        }
        for entry in maps.identity_nets.iter() {
            let (key, value) = entry.map_err(on("IDENTITY_NETS", "list"))?;
            let length = key.prefix_len().saturating_sub(IDENTITY_NET_KEY_BITS);
            if let Some(net) = net_from_map(length, key.data().address) {
                identities.insert_adopted(net, seen_at(&value, epoch));
            }
        }
        Ok(identities)
    }

    fn insert_adopted(&mut self, net: IpNet, identity: u32) {
        self.adopted.insert(net, identity);
        self.count(&net, true);
    }

    fn count(&mut self, net: &IpNet, more: bool) {
        let used = if is_host(net) {
            &mut self.hosts_used
        } else {
            &mut self.nets_used
        };
        *used = if more { *used + 1 } else { used.saturating_sub(1) };
        if !is_host(net) {
            let count = self
                .prefixes
                .entry((net.addr().is_ipv4(), net.prefix_len()))
                .or_default();
            *count = if more { *count + 1 } else { count.saturating_sub(1) };
        }
    }

    pub(crate) fn hosts_used(&self) -> u32 {
        self.hosts_used
    }

    pub(crate) fn nets_used(&self) -> u32 {
        self.nets_used
    }

    fn current(&self, net: &IpNet) -> Option<u32> {
        self.desired.get(net).or_else(|| self.adopted.get(net)).copied()
    }

    /// What the longest prefix that covers `net` (and is shorter) says, before or with `changes`.
    fn covering(&self, net: &IpNet, changes: Option<&Changes>) -> u32 {
        for length in (0..net.prefix_len()).rev() {
            let used = self
                .prefixes
                .get(&(net.addr().is_ipv4(), length))
                .is_some_and(|&count| count > 0);
            if !used && changes.is_none() {
                continue;
            }
            let Ok(prefix) = IpNet::new(net.addr(), length) else {
                continue;
            };
            let prefix = prefix.trunc();
            let found = match changes.and_then(|changes| changes.get(&prefix)) {
                Some(&UNKNOWN) => None,
                Some(&identity) => Some(identity),
                None => self.current(&prefix),
            };
            if let Some(identity) = found {
                return identity;
            }
        }
        UNKNOWN
    }

    /// The changes that remove every adopted entry that no batch has named.
    pub(crate) fn orphans(&self) -> Changes {
        self.adopted.keys().map(|net| (*net, UNKNOWN)).collect()
    }

    /// How many entries `changes` add: hosts and prefixes.
    pub(crate) fn additions(&self, changes: &Changes) -> (u32, u32) {
        let added = changes
            .iter()
            .filter(|(net, identity)| **identity != UNKNOWN && self.current(net).is_none());
        added.fold((0, 0), |(hosts, nets), (net, _)| {
            if is_host(net) {
                (hosts + 1, nets)
            } else {
                (hosts, nets + 1)
            }
        })
    }

    /// Writes `changes` so that they are seen from `epoch` on.
    pub(crate) fn stage(&mut self, maps: &mut Maps, changes: &Changes, epoch: u32) -> Result<(), Error> {
        let any_prefix = changes.keys().any(|net| !is_host(net));
        let with = any_prefix.then_some(changes);
        for (net, &new) in changes {
            let current = self.current(net);
            if current.is_none() && new == UNKNOWN {
                continue;
            }
            let before = current.unwrap_or_else(|| self.covering(net, None));
            let after = if new == UNKNOWN {
                self.covering(net, with)
            } else {
                new
            };
            write(
                maps,
                net,
                Identity {
                    before,
                    after,
                    since: epoch,
                },
            )?;
        }
        Ok(())
    }

    /// Puts the entries of `changes` back to what they were, after a batch that failed before anything was published.
    pub(crate) fn unstage(&mut self, maps: &mut Maps, changes: &Changes) -> Result<(), Error> {
        for net in changes.keys() {
            match self.current(net) {
                Some(identity) => write(
                    maps,
                    net,
                    Identity {
                        before: identity,
                        after: identity,
                        since: 0,
                    },
                )?,
                None => erase(maps, net)?,
            }
        }
        Ok(())
    }

    /// The staged `changes` are published. Gives back the entries to erase once no packet sees the old epoch.
    pub(crate) fn commit(&mut self, changes: Changes) -> Vec<IpNet> {
        let mut gone = Vec::new();
        for (net, identity) in changes {
            let known = self.adopted.remove(&net).is_some() | self.desired.contains_key(&net);
            if identity == UNKNOWN {
                if known {
                    self.desired.remove(&net);
                    gone.push(net);
                }
            } else {
                self.desired.insert(net, identity);
                if !known {
                    self.count(&net, true);
                }
            }
        }
        gone
    }

    /// Erases an entry of [`Identities::commit`], unless it has come back.
    pub(crate) fn erase(&mut self, maps: &mut Maps, net: &IpNet) -> Result<(), Error> {
        self.count(net, false);
        if self.desired.contains_key(net) {
            // It was counted again when it came back.
            return Ok(());
        }
        erase(maps, net)
    }
}

fn net_key(net: &IpNet) -> Key<IdentityNetKey> {
    let (bits, address) = net_to_map(*net);
    let family = if net.addr().is_ipv4() { 4 } else { 6 };
    Key::new(IDENTITY_NET_KEY_BITS + bits, IdentityNetKey { family, address })
}

fn write(maps: &mut Maps, net: &IpNet, identity: Identity) -> Result<(), Error> {
    if is_host(net) {
        return maps
            .identities
            .insert(to_map(net.addr()), identity, 0)
            .map_err(on("IDENTITIES", "write"));
    }
    maps.identity_nets
        .insert(&net_key(net), identity, 0)
        .map_err(on("IDENTITY_NETS", "write"))
}

fn erase(maps: &mut Maps, net: &IpNet) -> Result<(), Error> {
    if is_host(net) {
        let outcome = maps.identities.remove(&to_map(net.addr()));
        return absent_is_fine(outcome).map_err(on("IDENTITIES", "erase"));
    }
    let outcome = maps.identity_nets.remove(&net_key(net));
    absent_is_fine(outcome).map_err(on("IDENTITY_NETS", "erase"))
}
