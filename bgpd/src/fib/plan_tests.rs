//! The plan against a kernel made of a map: whatever is wanted and whoever else writes there, the end is the
//! same, and nothing foreign is touched.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use netlink::{Address, Link, Request, Route};
use proptest::prelude::*;
use proptest::sample::select;

use super::objects::Objects;
use super::plan::{Change, Guard, Plan, Task, Wanted};
use super::resolve::Resolver;
use super::status::{FibStatus, Refusal};
use crate::rib::Gateway;
use crate::wire::{Family, Prefix};

const OURS: u8 = 201;
const TABLE: u32 = netlink::table::MAIN;
const PREFIXES: [&str; 4] = ["10.1.0.0/16", "10.2.0.0/16", "10.3.0.1/32", "fd00::/64"];
/// Rounds after which everything must have settled.
const ROUNDS_MAX: usize = 20;

fn prefix(at: usize) -> Prefix {
    PREFIXES[at].parse().unwrap()
}

fn next_hop(at: usize) -> Gateway {
    IpAddr::from(Ipv4Addr::new(10, 0, at as u8, 2)).into()
}

/// Three links with a router each.
fn resolver() -> Resolver {
    let mut resolver = Resolver::default();
    let link = |index: u32| Link {
        index,
        name: format!("up{index}"),
        kind: None,
        mac: None,
        mtu: 1500,
        up: true,
        carrier: true,
        running: true,
        loopback: false,
        master: None,
        peer: None,
    };
    let address = |index: u32| Address::new(index, format!("10.0.{}.1/24", index - 1).parse().unwrap());
    resolver.set_links(&[1, 2, 3].map(link), &[1, 2, 3].map(address));
    for at in 0..3 {
        resolver.track(next_hop(at));
        resolver.set(next_hop(at), resolver.connected(next_hop(at)).unwrap());
    }
    resolver
}

/// Routes by prefix and metric, as the kernel keeps them, and next-hop objects by id.
#[derive(Clone, Default)]
struct Kernel {
    routes: BTreeMap<(Prefix, u32), Route>,
    objects: BTreeMap<u32, netlink::NextHop>,
}

impl Kernel {
    /// False: refused.
    fn apply(&mut self, request: &Request) -> bool {
        match request {
            Request::AddRoute(route) => {
                let key = (route.destination, route.metric);
                if self.routes.contains_key(&key) {
                    return false;
                }
                self.routes.insert(key, route.clone()).is_none()
            }
            Request::ReplaceRoute(route) => {
                let before = self
                    .routes
                    .insert((route.destination, route.metric), route.clone());
                before.is_some_and(|before| {
                    assert_eq!(before.protocol, OURS, "a foreign route was replaced");
                    true
                })
            }
            Request::DeleteRoute(route) => {
                let key = (route.destination, route.metric);
                let ours = self
                    .routes
                    .get(&key)
                    .is_some_and(|held| held.protocol == route.protocol);
                ours && self.routes.remove(&key).is_some()
            }
            Request::AddNextHop(object) => self.objects.insert(object.id, object.clone()).is_none(),
            Request::ReplaceNextHop(object) => self.objects.insert(object.id, object.clone()).is_some(),
            Request::DeleteNextHop(id) => {
                let used = self.routes.values().any(|route| route.next_hop_id == Some(*id));
                assert!(!used, "a group in use was deleted");
                self.objects.remove(id).is_some()
            }
            _ => false,
        }
    }

    fn ours(&self) -> Vec<Route> {
        self.routes
            .values()
            .filter(|route| route.protocol == OURS)
            .cloned()
            .collect()
    }

    fn foreign(&self) -> Vec<Route> {
        self.routes
            .values()
            .filter(|route| route.protocol != OURS)
            .cloned()
            .collect()
    }
}

struct World {
    kernel: Kernel,
    plan: Plan,
    objects: Objects,
    resolver: Resolver,
    /// On their way to the kernel.
    under_way: Vec<Task>,
}

impl World {
    fn new(kernel: Kernel) -> World {
        let mut world = World {
            plan: Plan::new(OURS, TABLE),
            objects: Objects::new(1000, OURS),
            resolver: resolver(),
            under_way: Vec::new(),
            kernel,
        };
        world.read_back();
        world
    }

    fn read_back(&mut self) {
        self.objects
            .read_back(self.kernel.objects.values().cloned().collect());
        let ours = self.kernel.ours();
        let all = |each: &mut dyn FnMut(&Route)| {
            ours.iter().for_each(each);
            Ok::<(), std::convert::Infallible>(())
        };
        self.plan.read_back(all).unwrap();
    }

    /// As the driver does it: one batch is prepared while the one before is under way.
    fn step(&mut self) {
        let tasks = self.plan.step(&self.resolver, Some(&mut self.objects), 3);
        for request in self.objects.missing() {
            assert!(self.kernel.apply(&request), "{request}");
            self.objects.done(&request);
        }
        self.land();
        self.under_way = tasks;
    }

    fn land(&mut self) {
        let tasks = std::mem::take(&mut self.under_way);
        tasks.iter().for_each(|task| self.carry_out(task));
    }

    /// What is under way gets there, and no word of it comes back.
    fn land_unheard(&mut self) {
        let tasks = std::mem::take(&mut self.under_way);
        for task in &tasks {
            let _ = self.kernel.apply(&self.plan.request(task, true));
        }
        self.plan.landed(tasks.iter());
        self.plan.look_at_tasks(tasks.iter());
        self.read_back();
    }

    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.step();
            if self.plan.is_idle() && self.under_way.is_empty() {
                break;
            }
        }
        assert!(self.plan.is_idle() && self.under_way.is_empty());
        let unused = self
            .objects
            .unused(|id| self.plan.uses_group(id), self.plan.is_swept());
        self.plan.forget_groups();
        for request in unused {
            assert!(self.kernel.apply(&request), "{request}");
            self.objects.done(&request);
        }
    }

    fn carry_out(&mut self, task: &Task) {
        let request = self.plan.request(task, true);
        self.plan.landed(std::iter::once(task));
        if self.kernel.apply(&request) {
            self.plan.done(task, true);
            return;
        }
        let Change::Install { metric, .. } = task.change else {
            panic!("{request}")
        };
        let holder = self.kernel.routes[&(task.prefix, metric)].clone();
        if holder.protocol == OURS {
            self.plan.found(&holder);
        } else {
            self.plan.refuse(
                task.prefix,
                Refusal::Foreign {
                    protocol: holder.protocol,
                },
            );
        }
    }

    fn status(&self) -> FibStatus {
        let mut status = FibStatus::default();
        self.plan.report(&mut status);
        status
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// Without settling, if the last is true: more may be wanted while the change is under way.
    Want(usize, Vec<usize>, u32, bool),
    /// Answers are lost.
    Unheard,
    Foreign(usize, u32, bool),
    /// Somebody removes a route of ours.
    Lose(usize, u32),
    Guard(usize, bool),
    ReadBack,
    Restart,
    Sweep,
}

fn op() -> impl Strategy<Value = Op> {
    let at = || 0..PREFIXES.len();
    let metric = || select(vec![512u32, 1024, 2048]);
    prop_oneof![
        8 => (at(), prop::collection::btree_set(0..3usize, 0..3), metric(), any::<bool>())
            .prop_map(|(at, hops, metric, hurry)| Op::Want(at, hops.into_iter().collect(), metric, hurry)),
        1 => Just(Op::Unheard),
        2 => (at(), metric(), any::<bool>()).prop_map(|(at, metric, there)| Op::Foreign(at, metric, there)),
        1 => (at(), metric()).prop_map(|(at, metric)| Op::Lose(at, metric)),
        1 => (at(), any::<bool>()).prop_map(|(at, there)| Op::Guard(at, there)),
        1 => Just(Op::ReadBack),
        1 => Just(Op::Restart),
        1 => Just(Op::Sweep),
    ]
}

#[test]
fn a_learned_route_gives_way_to_a_workload_unless_its_metric_is_better_than_normal() {
    let mut world = World::new(Kernel::default());
    let workload = Guard::Workload {
        interface: "cali1".into(),
    };
    for (at, metric) in [(0, 1500), (2, 1023), (3, 1500)] {
        world.plan.add_guard(prefix(at), workload.clone());
        let next_hops = [next_hop(0)].into_iter().collect();
        world.plan.want(prefix(at), Some(Wanted { next_hops, metric }));
    }
    for (metrics, installed) in [
        ([1024, 1024], &[2][..]),
        ([2000, 1024], &[0, 2]),
        ([1000, 2000], &[3]),
        ([1024, 1024], &[2]),
    ] {
        world.plan.set_normal_metrics(metrics);
        world.settle();
        let ours: Vec<Prefix> = world
            .kernel
            .ours()
            .iter()
            .map(|route| route.destination)
            .collect();
        let expected: Vec<Prefix> = installed.iter().map(|at| prefix(*at)).collect();
        assert_eq!(ours, expected, "{metrics:?}");
        assert_eq!(world.status().refused, 3 - installed.len());
    }
}

#[test]
fn a_prefix_waits_for_its_last_change_to_land() {
    let mut world = World::new(Kernel::default());
    let want = |world: &mut World, at: usize, hop: usize| {
        let next_hops = [next_hop(hop)].into_iter().collect();
        let metric = 1024;
        world.plan.want(prefix(at), Some(Wanted { next_hops, metric }));
    };
    let step = |world: &mut World| {
        let tasks = world.plan.step(&world.resolver, Some(&mut world.objects), 3);
        let changes = tasks.iter().map(|task| task.prefix).collect::<Vec<_>>();
        world.under_way.extend(tasks);
        changes
    };
    want(&mut world, 0, 0);
    assert_eq!(step(&mut world), [prefix(0)]);
    want(&mut world, 0, 1);
    want(&mut world, 1, 1);
    assert_eq!(step(&mut world), []);
    assert!(!world.plan.is_idle());
    world.land();
    assert_eq!(step(&mut world), [prefix(0), prefix(1)]);
    let replaces = |task: &Task| matches!(task.change, Change::Install { replaces: true, .. });
    assert_eq!(
        world.under_way.iter().map(replaces).collect::<Vec<_>>(),
        [true, false]
    );
    // No answer: both are looked at again, and are as they should be.
    world.land_unheard();
    world.settle();
    assert_eq!(world.kernel.ours().len(), 2);
    assert_eq!((world.status().installed, world.status().refused), (2, 0));
}

proptest! {
    #[test]
    fn the_kernel_ends_as_wanted(ops in prop::collection::vec(op(), 1..40)) {
        let mut world = World::new(Kernel::default());
        let mut wanted: BTreeMap<Prefix, (Vec<usize>, u32)> = BTreeMap::new();
        let mut guards: rustc_hash::FxHashMap<Prefix, Guard> = Default::default();
        for op in ops {
            let foreign = world.kernel.foreign();
            // What others do is looked at when nothing is under way.
            if !matches!(op, Op::Want(..) | Op::Foreign(..) | Op::Unheard) {
                world.land();
            }
            match op {
                Op::Unheard => world.land_unheard(),
                Op::Want(at, hops, metric, hurry) => {
                    let prefix = prefix(at);
                    let next_hops = hops.iter().map(|at| next_hop(*at)).collect();
                    let route = (!hops.is_empty()).then_some(Wanted { next_hops, metric });
                    world.plan.want(prefix, route);
                    wanted.insert(prefix, (hops, metric));
                    if hurry {
                        world.step();
                        prop_assert_eq!(world.kernel.foreign(), foreign);
                        continue;
                    }
                }
                Op::Foreign(at, metric, true) => {
                    let route = Route::new(prefix(at)).protocol(4).metric(metric).blackhole();
                    world.kernel.routes.entry((prefix(at), metric)).or_insert(route);
                    continue;
                }
                Op::Foreign(at, metric, false) => {
                    let key = (prefix(at), metric);
                    if world.kernel.routes.get(&key).is_some_and(|route| route.protocol != OURS) {
                        world.kernel.routes.remove(&key);
                    }
                    continue;
                }
                Op::Lose(at, metric) => {
                    let key = (prefix(at), metric);
                    if world.kernel.routes.get(&key).is_some_and(|route| route.protocol == OURS)
                        && let Some(lost) = world.kernel.routes.remove(&key)
                    {
                        world.plan.changed_by_others(&lost, true);
                    }
                }
                Op::Guard(at, there) => {
                    match there {
                        true => guards.insert(prefix(at), Guard::Workload { interface: "cali1".into() }),
                        false => guards.remove(&prefix(at)),
                    };
                    world.plan.set_guards(guards.clone());
                }
                Op::ReadBack => world.read_back(),
                Op::Restart => {
                    world = World::new(world.kernel.clone());
                    world.plan.set_guards(guards.clone());
                    let before = world.kernel.ours().len();
                    world.settle();
                    prop_assert_eq!(world.kernel.ours().len(), before, "adopted routes stay");
                    for (prefix, (hops, metric)) in &wanted {
                        let next_hops = hops.iter().map(|at| next_hop(*at)).collect();
                        let route = (!hops.is_empty()).then_some(Wanted { next_hops, metric: *metric });
                        world.plan.want(*prefix, route);
                    }
                }
                Op::Sweep => Family::ALL.into_iter().for_each(|family| world.plan.sweep(family)),
            }
            world.settle();
            prop_assert_eq!(world.kernel.foreign(), foreign);
        }
        // With all known and swept, ours are exactly the wanted ones that nobody stands in the way of.
        Family::ALL.into_iter().for_each(|family| world.plan.sweep(family));
        world.read_back();
        world.settle();
        let mut expected = BTreeMap::new();
        let mut refused = 0;
        for (prefix, (hops, metric)) in wanted.iter().filter(|(_, (hops, _))| !hops.is_empty()) {
            let holder = world.kernel.routes.get(&(*prefix, *metric));
            let is_free = holder.is_none_or(|route| route.protocol == OURS);
            if is_free && !(guards.contains_key(prefix) && *metric >= super::METRIC_NORMAL) {
                let gateways: Vec<IpAddr> = hops.iter().map(|at| next_hop(*at).address).collect();
                expected.insert((*prefix, *metric), gateways);
            } else {
                refused += 1;
            }
        }
        let gateways = |route: &Route| -> Vec<IpAddr> {
            let Some(id) = route.next_hop_id else {
                return route.hops.iter().filter_map(|hop| hop.gateway).collect();
            };
            let netlink::NextHopKind::Group { members } = &world.kernel.objects[&id].kind else {
                panic!("{id} is not a group")
            };
            let member = |(id, _): &(u32, u16)| match &world.kernel.objects[id].kind {
                netlink::NextHopKind::Gateway { gateway, .. } => *gateway,
                other => panic!("{other:?}"),
            };
            let mut gateways: Vec<IpAddr> = members.iter().map(member).collect();
            gateways.sort();
            gateways
        };
        let ours = world.kernel.ours();
        let ours: BTreeMap<_, _> = ours.iter().map(|r| ((r.destination, r.metric), gateways(r))).collect();
        let groups = ours.values().filter(|gateways| gateways.len() > 1);
        prop_assert_eq!(groups.count() == 0, world.kernel.objects.is_empty());
        prop_assert_eq!(&ours, &expected);
        let status = world.status();
        prop_assert_eq!((status.installed, status.refused, status.stale), (expected.len(), refused, 0));
    }
}
