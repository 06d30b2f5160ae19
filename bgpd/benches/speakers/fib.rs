//! Routes into the kernel: how fast a table, and how soon a single one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use netlink::{Connection, Event, Group, Monitor};

use crate::bare;
use crate::daemon::{Daemon, Setup};
use crate::fabric::{Fabric, INTERFACE, peer_address};
use crate::feed;
use crate::fleet::Fleet;
use crate::plan;
use crate::run::{Bench, QUIET_TIME, SETTLE_TIME, Sample};
use crate::usage;

/// The kernel takes a namespace's routes down behind our back: time for it, so that it does not
/// slow the next run.
const TEARDOWN_TIME: Duration = Duration::from_secs(4);
/// Pause between two looks at the kernel's routes.
const LOOK_PAUSE: Duration = Duration::from_millis(2);
/// Routes that are looked for one by one, before all are counted.
const SAMPLES: usize = 64;
/// Longest time for one route.
const ROUTE_TIME: Duration = Duration::from_secs(5);

/// The session gets a chance to send a KEEPALIVE after so many routes.
const KEEPALIVE_ROUTES: usize = 16;

/// One feeder, whose routes go to the kernel.
pub(crate) fn setup() -> Setup {
    Setup {
        neighbors: vec![plan::external(0)],
        fib: true,
    }
}

/// A daemon takes a table from one feeder: until the kernel has all of it.
pub(crate) fn bulk(
    bench: &Bench<'_>,
    daemon: Daemon,
    row: &'static str,
    slots: usize,
) -> anyhow::Result<Sample> {
    let setup = setup();
    let runs = feed::runs(0..slots, plan::SEED);
    let order: Vec<usize> = runs.iter().cloned().flatten().collect();
    let feed = feed::announcements(plan::sender(&setup.neighbors[0]), &runs, |_| None, plan::SEED);
    let sample = bench.with_daemon(daemon, &setup, |fabric, running| {
        let mut fleet = Fleet::establish(fabric, &[setup.neighbors[0].identity])?;
        fleet.run_for(QUIET_TIME)?;
        let goal = fabric.daemon.inside(installed)? + slots;
        let (before, own_before) = (running.usage()?, usage::own_cpu_s());
        let (done, start) = (AtomicBool::new(false), Instant::now());
        let deadline = start + bench.limit;
        let wall = std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let end = fabric
                    .daemon
                    .inside(|| wait_for_routes(&order, goal, start, deadline));
                done.store(true, Ordering::Relaxed);
                end
            });
            fleet.send(0, feed)?;
            fleet.run_until(deadline + SETTLE_TIME, |_| done.load(Ordering::Relaxed))?;
            watch
                .join()
                .unwrap_or_else(|_| bail!("the watch over the kernel's routes failed"))
        })?;
        let peers_cpu_s = usage::own_cpu_s() - own_before;
        fleet.run_for(SETTLE_TIME)?;
        let found = fabric.daemon.inside(installed)?;
        ensure!(found == goal, "{found} routes in the kernel instead of {goal}");
        let after = running.usage()?;
        let grown = after.peak_bytes.saturating_sub(before.rss_bytes) as f64;
        Ok(Sample {
            row,
            wall_s: wall.as_secs_f64(),
            cpu_s: after.cpu_s - before.cpu_s,
            peers_cpu_s,
            peak_bytes: after.peak_bytes,
            bytes_per_prefix: Some(grown / slots as f64),
        })
    });
    std::thread::sleep(TEARDOWN_TIME);
    sample
}

/// The same routes in the same order by the bare loop.
pub(crate) fn bare(bench: &Bench<'_>, row: &'static str, slots: usize) -> anyhow::Result<Sample> {
    let fabric = Fabric::new(1)?;
    let order: Vec<usize> = feed::runs(0..slots, plan::SEED).into_iter().flatten().collect();
    let sample = fabric.daemon.inside(|| {
        let link = Connection::open()?
            .link(INTERFACE)?
            .context("the link between the namespaces")?;
        let batches = bare::encode(&order, peer_address(0), link.index);
        let (goal, own_before) = (installed()? + slots, usage::own_cpu_s());
        let start = Instant::now();
        let wall = std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let deadline = start + bench.limit;
                fabric
                    .daemon
                    .inside(|| wait_for_routes(&order, goal, start, deadline))
            });
            bare::add_routes(&batches)?;
            watch
                .join()
                .unwrap_or_else(|_| bail!("the watch over the kernel's routes failed"))
        })?;
        let cpu_s = usage::own_cpu_s() - own_before;
        let found = installed()?;
        ensure!(found == goal, "{found} routes in the kernel instead of {goal}");
        Ok(Sample {
            row,
            wall_s: wall.as_secs_f64(),
            cpu_s,
            peers_cpu_s: 0.0,
            peak_bytes: 0,
            bytes_per_prefix: None,
        })
    });
    drop(fabric);
    std::thread::sleep(TEARDOWN_TIME);
    sample
}

/// How many IPv4 routes the main table of the calling thread's namespace has.
fn installed() -> anyhow::Result<usize> {
    // It shares its trie with the table of local addresses, so those count on both sides.
    let text = std::fs::read_to_string("/proc/thread-self/net/fib_triestat")?;
    let main = text.split_once("Main:").map_or("", |(_, main)| main);
    let line = main
        .lines()
        .find_map(|line| line.trim().strip_prefix("Prefixes:"));
    Ok(line
        .context("/proc/net/fib_triestat without the main table")?
        .trim()
        .parse()?)
}

/// Waits until the kernel has so many routes: how long after `start`. To count them is a walk over the trie, which keeps
/// the writer from the processor and makes the kernel wait with freeing what it has replaced: so it is done only when
/// samples from all over the feed are there.
fn wait_for_routes(
    slots: &[usize],
    goal: usize,
    start: Instant,
    deadline: Instant,
) -> anyhow::Result<Duration> {
    let mut netlink = Connection::open()?;
    let last = slots.len().saturating_sub(1);
    let mut samples = (1..=SAMPLES).filter_map(|n| slots.get(last * n / SAMPLES));
    let mut missing = samples.next();
    loop {
        let now = Instant::now();
        while let Some(slot) = missing
            && has_slot(&mut netlink, *slot)?
        {
            missing = samples.next();
        }
        if missing.is_none() && installed()? >= goal {
            return Ok(now - start);
        }
        if now > deadline {
            let found = installed()?;
            bail!("{found} of {goal} routes in the kernel after {:?}", now - start);
        }
        std::thread::sleep(LOOK_PAUSE);
    }
}

fn has_slot(netlink: &mut Connection, slot: usize) -> anyhow::Result<bool> {
    let (address, length) = (feed::slot_address(slot), feed::slot_length(slot));
    let found = netlink.lookup(address.into())?;
    Ok(found
        .is_some_and(|route| route.destination.prefix_len() == length && route.destination.addr() == address))
}

/// From an UPDATE with one route to the kernel's notice of it, one route after another: all times, sorted.
pub(crate) fn latencies(bench: &Bench<'_>, daemon: Daemon, count: usize) -> anyhow::Result<Vec<Duration>> {
    let setup = setup();
    let neighbor = &setup.neighbors[0];
    let updates: Vec<_> = (0..count)
        .map(|slot| feed::single(plan::sender(neighbor), slot))
        .collect();
    bench.with_daemon(daemon, &setup, |fabric, _| {
        let mut fleet = Fleet::establish(fabric, &[neighbor.identity])?;
        fleet.run_for(QUIET_TIME)?;
        let mut monitor = fabric.daemon.inside(|| Monitor::open(&[Group::RoutesV4]))?;
        let mut times = Vec::with_capacity(count);
        for (slot, update) in updates.into_iter().enumerate() {
            let start = Instant::now();
            fleet.send(0, update.into())?;
            loop {
                let left = ROUTE_TIME.saturating_sub(start.elapsed());
                match monitor.next_within(left)? {
                    Some(Event::Route(route)) if route.destination.addr() == feed::slot_address(slot) => {
                        break;
                    }
                    Some(_) => {}
                    None => bail!("route {slot} not in the kernel within {ROUTE_TIME:?}"),
                }
            }
            times.push(start.elapsed());
            if slot % KEEPALIVE_ROUTES == 0 {
                fleet.turn()?;
            }
        }
        times.sort();
        Ok(times)
    })
}
