//! Tracked flows seen from user space: reclaiming memory, and showing them.

use std::net::IpAddr;
use std::time::Duration;

use aya::maps::{HashMap, MapData};
use ebpf_common::conntrack::{Flow, FlowKey, Settings, TCP, flag};
use rustc_hash::FxHashSet;

use crate::address::from_map;
use crate::kernel::{Maps, absent_is_fine, on};
use crate::status::{FlowEntry, Sweep};
use crate::{Error, sys};

/// The clock that the programs note in flows.
fn now() -> u64 {
    sys::monotonic_ns(libc::CLOCK_MONOTONIC_COARSE)
}

/// Removes flows that have expired, and those of addresses that no workload has any more.
pub(crate) fn sweep(maps: &mut Maps, gone: &FxHashSet<IpAddr>) -> Result<Sweep, Error> {
    let settings = maps.settings()?;
    let (flows, removed) = sweep_map(&mut maps.flows, "FLOWS", &settings, gone)?;
    let (new_flows, removed_new) = sweep_map(&mut maps.new_flows, "NEW_FLOWS", &settings, gone)?;
    Ok(Sweep {
        flows,
        new_flows,
        removed: removed + removed_new,
    })
}

fn sweep_map(
    map: &mut HashMap<MapData, FlowKey, Flow>,
    name: &'static str,
    settings: &Settings,
    gone: &FxHashSet<IpAddr>,
) -> Result<(u64, u64), Error> {
    let (mut stay, mut go) = (0, Vec::new());
    for entry in map.iter() {
        // A flow that the programs remove while it is listed ends the listing's order, not the listing.
        let Ok((key, flow)) = entry else { continue };
        let orphan = !gone.is_empty() && (gone.contains(&from_map(key.a)) || gone.contains(&from_map(key.b)));
        if orphan || flow.is_expired(key.protocol, settings, now()) {
            go.push((key, orphan));
        } else {
            stay += 1;
        }
    }
    let mut removed = 0;
    for (key, orphan) in go {
        // It may have begun anew.
        let expired = |flow: Flow| flow.is_expired(key.protocol, settings, now());
        if orphan || map.get(&key, 0).is_ok_and(expired) {
            absent_is_fine(map.remove(&key)).map_err(on(name, "erase"))?;
            removed += 1;
        } else {
            stay += 1;
        }
    }
    Ok((stay, removed))
}

/// Flows that have not expired, at most `limit`.
pub(crate) fn list(maps: &Maps, limit: usize) -> Result<Vec<FlowEntry>, Error> {
    let settings = maps.settings()?;
    let now = now();
    let all = maps.flows.iter().chain(maps.new_flows.iter());
    let live = all
        .flatten()
        .filter(|(key, flow)| !flow.is_expired(key.protocol, &settings, now));
    Ok(live
        .take(limit)
        .map(|(key, flow)| entry(&key, &flow, now))
        .collect())
}

fn entry(key: &FlowKey, flow: &Flow, now: u64) -> FlowEntry {
    let (mut source, mut destination) = ((key.a, key.port_a), (key.b, key.port_b));
    if flow.flags & flag::OPENED_BY_A == 0 {
        std::mem::swap(&mut source, &mut destination);
    }
    let needed = if key.protocol == TCP {
        flag::ESTABLISHED
    } else {
        flag::REPLIED
    };
    FlowEntry {
        source: from_map(source.0),
        destination: from_map(destination.0),
        protocol: key.protocol,
        source_port: source.1,
        destination_port: destination.1,
        packets: flow.packets,
        bytes: flow.bytes,
        idle: Duration::from_nanos(now.saturating_sub(flow.last_seen)),
        age: Duration::from_nanos(now.saturating_sub(flow.created)),
        established: flow.flags & needed != 0,
    }
}
