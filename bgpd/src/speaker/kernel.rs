//! The RIB's owner and the kernel's driver: selections go down, the state of next hops comes up.

use std::collections::HashSet;
use std::sync::Arc;

use crate::fib::Fib;
use crate::monitor::Monitors;
use crate::rib::{Gateway, NextHopInterest, NextHopState, Rib};
use crate::wire::{Family, FamilySet};

/// Changes of the selection given to the driver at once.
const CHANGES_PER_CALL: usize = 4096;

/// The driver, if learned routes are installed at all.
pub(super) struct Kernel {
    fib: Option<Arc<Fib>>,
    /// Next hops that the driver was asked for and has not answered yet.
    unresolved: HashSet<Gateway>,
    /// The RIB has more to tell than the driver has room for.
    waits: bool,
    /// Families to sweep as soon as the driver has been told everything.
    to_sweep: FamilySet,
}

impl Kernel {
    pub(super) fn new(fib: Option<Arc<Fib>>) -> Self {
        Self {
            fib,
            unresolved: HashSet::new(),
            waits: false,
            to_sweep: FamilySet::EMPTY,
        }
    }

    /// From these metrics on, learned routes give way to workloads of this host.
    pub(super) fn set_normal_metrics(&self, metrics: [u32; 2]) {
        if let Some(fib) = &self.fib {
            fib.set_normal_metrics(metrics);
        }
    }

    /// Passes on what the RIB wants, as far as the driver has room: the RIB keeps the rest, and is asked again
    /// after [`Kernel::room`]. Never waits.
    pub(super) fn program(&mut self, rib: &mut Rib, monitors: &mut Monitors) {
        let interests = rib.poll_next_hops();
        if let Some(fib) = &self.fib {
            for interest in &interests {
                match interest {
                    NextHopInterest::Resolve(gateway) => self.unresolved.insert(*gateway),
                    NextHopInterest::Forget(gateway) => self.unresolved.remove(gateway),
                };
            }
            if !interests.is_empty() {
                fib.track(interests);
            }
        }
        if self.fib.is_none() && !monitors.interest().selected {
            return rib.skip_fib();
        }
        loop {
            let room = self.fib.as_ref().map_or(CHANGES_PER_CALL, |fib| fib.room());
            self.waits = room == 0;
            if self.waits {
                return;
            }
            let changes = rib.poll_fib(room.min(CHANGES_PER_CALL));
            if changes.is_empty() {
                break;
            }
            if monitors.interest().selected {
                monitors.selected(&changes, rib);
            }
            if let Some(fib) = &self.fib {
                fib.apply(changes);
            }
        }
        // Everything is told: what the driver has besides is of an earlier process.
        if let Some(fib) = &self.fib {
            std::mem::take(&mut self.to_sweep)
                .iter()
                .for_each(|family| fib.sweep(family));
        }
    }

    /// Waits until the driver has room again for what it could not be told; for ever if it was told everything.
    /// Cancel-safe.
    pub(super) async fn room(&self) {
        match self.fib.as_ref().filter(|_| self.waits) {
            Some(fib) => fib.has_room().await,
            None => std::future::pending().await,
        }
    }

    /// What the driver found out. Cancel-safe; waits for ever without a driver.
    pub(super) async fn next_hop_changes(&self) -> Vec<(Gateway, NextHopState)> {
        match &self.fib {
            Some(fib) => fib.next_hop_changes().await,
            None => std::future::pending().await,
        }
    }

    /// Tells the RIB what the driver found out.
    pub(super) fn resolved(&mut self, changes: Vec<(Gateway, NextHopState)>, rib: &mut Rib) {
        for (gateway, _) in &changes {
            self.unresolved.remove(gateway);
        }
        rib.set_next_hops(changes);
    }

    /// Whether all next hops asked for are answered.
    pub(super) fn is_resolved(&self) -> bool {
        self.unresolved.is_empty()
    }

    /// Routes of an earlier process that were not selected again go, once [`Kernel::program`] has told of all that
    /// were.
    pub(super) fn sweep(&mut self, family: Family) {
        self.to_sweep.insert(family);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use netlink::{Connection, Event, Group, Monitor, NetNs, VethSpec};

    use super::*;
    use crate::config::NeighborKey;
    use crate::fib::{FibSettings, INBOX_CHANGES_MAX};
    use crate::rib::{PeerSettings, RibSettings};
    use crate::wire::{AsPath, Attributes, NextHop, Prefix};

    const LIMIT: Duration = Duration::from_secs(60);

    /// A host with a link to a router; both end with the namespaces.
    fn host() -> (NetNs, NetNs) {
        let (host, router) = (NetNs::unnamed().unwrap(), NetNs::unnamed().unwrap());
        let mut netlink = Connection::open_in(&host).unwrap();
        let link = VethSpec {
            peer_netns: Some(&router),
            ..VethSpec::new("up0", "down")
        };
        netlink.create_veth(&link).unwrap();
        for (netlink, name, address) in [
            (&mut netlink, "up0", "10.0.0.1/24"),
            (&mut Connection::open_in(&router).unwrap(), "down", "10.0.0.2/24"),
        ] {
            let index = netlink.index_of(name).unwrap();
            netlink.set_up(index).unwrap();
            netlink.add_address(index, address.parse().unwrap()).unwrap();
        }
        (host, router)
    }

    /// What a peer has announced, selected.
    fn rib(prefixes: impl Iterator<Item = Prefix>) -> Rib {
        let address: IpAddr = "10.0.0.2".parse().unwrap();
        let mut rib = Rib::new(RibSettings::new(64512, Ipv4Addr::new(192, 0, 2, 1)));
        let mut settings = PeerSettings::new(NeighborKey::new(address, 179), 64513, 64512);
        settings.import = crate::policy::Policy::Accept;
        let peer = rib.peer_up(settings);
        let mut attributes = Attributes::originated(NextHop::from(address));
        attributes.as_path = AsPath::sequence([64513]);
        rib.update(peer, attributes, prefixes.collect::<Vec<_>>());
        rib
    }

    /// Until all is told and done, as the RIB's owner does it.
    async fn tell_everything(kernel: &mut Kernel, rib: &mut Rib, monitors: &mut Monitors) {
        kernel.program(rib, monitors);
        while kernel.waits {
            kernel.room().await;
            kernel.program(rib, monitors);
        }
        if let Some(fib) = &kernel.fib {
            fib.settled().await;
        }
    }

    #[test]
    fn routes_of_an_earlier_run_that_are_wanted_survive_the_sweep() {
        let count = 3 * INBOX_CHANGES_MAX as u32;
        let prefix = |n: u32| Prefix::new(Ipv4Addr::from(0x2000_0000 + (n << 8)).into(), 24).unwrap();
        let (host, _router) = host();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut monitors = Monitors::new(crate::monitor::Wanted::default());
        let mut run = |prefixes: std::ops::Range<u32>, sweep: bool| {
            let fib = Arc::new(Fib::start_in(FibSettings::default(), &host).unwrap());
            let mut kernel = Kernel::new(Some(Arc::clone(&fib)));
            let mut rib = rib(prefixes.map(prefix));
            if sweep {
                kernel.sweep(Family::Ipv4Unicast);
            }
            let told = tell_everything(&mut kernel, &mut rib, &mut monitors);
            runtime
                .block_on(async { tokio::time::timeout(LIMIT, told).await })
                .unwrap();
            fib.status()
        };
        // The last one is not wanted again.
        assert_eq!(run(0..count + 1, false).installed, count as usize + 1);
        let mut monitor = Monitor::open_in(&host, &[Group::RoutesV4]).unwrap();
        let status = run(0..count, true);
        assert_eq!((status.installed, status.stale), (count as usize, 0));
        let mut gone = Vec::new();
        while let Some(event) = monitor.next_within(Duration::from_millis(100)).unwrap() {
            match event {
                Event::RouteGone(route) => gone.push(route.destination),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(gone, [prefix(count)]);
    }
}
