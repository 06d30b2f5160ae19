//! Whatever happens in whatever order, the end equals a computation from scratch.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use bgpd::config::{
    Aggregate, ExportOptions, ImportOptions, NeighborKey, Network, NextHopMode, PrivateAs, Routing, Selection,
};
use bgpd::policy::{Changes, Match, Number, Policy, Rule, RuleAction, Verdict};
use bgpd::rib::{NextHopInterest, NextHopState, PeerId, PeerSettings, Rib, RibSettings, Totals};
use bgpd::wire::{AsPath, Attributes, Community, Family, FamilySet, NextHop, Origin, Prefix, Role};
use proptest::prelude::*;
use proptest::sample::select;

use crate::listener::Listener;
use crate::oracle::{ACCEPT, Oracle, Session};

const LOCAL_AS: u32 = 64512;
const PEERS: usize = 5;
const PREFIXES: [&str; 5] = [
    "10.1.0.0/26",
    "10.1.0.64/26",
    "10.1.0.0/16",
    "0.0.0.0/0",
    "fd00:1::/64",
];

/// One inside another, and what neither a peer nor we have as a prefix of its own.
const AGGREGATES: [&str; 4] = ["10.0.0.0/8", "10.1.0.0/25", "10.1.0.0/17", "fd00::/16"];

fn aggregate(at: usize) -> Aggregate {
    Aggregate {
        local_pref: (at == 1).then_some(250),
        ..Aggregate::from(AGGREGATES[at].parse::<Prefix>().unwrap())
    }
}

#[derive(Clone, Debug)]
enum Op {
    Up(usize),
    Down(usize, bool),
    /// Prefixes and path identifiers.
    Update(usize, Vec<(usize, u32)>, Box<Attributes>),
    Withdraw(usize, Vec<(usize, u32)>),
    EndOfRib(usize),
    Originate(usize, Option<u32>, Vec<Community>),
    Retract(usize),
    Aggregates(Vec<usize>),
    NextHop(IpAddr, NextHopState),
    Policies(usize, usize, usize, usize),
    Pause(usize),
    Resume(usize),
    Refresh(usize),
    Finish,
    /// Take some of what waits, and so let changes pile up between.
    Hear(usize),
}

fn address(peer: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 10 + peer as u8))
}

fn prefix(at: usize) -> Prefix {
    PREFIXES[at].parse().unwrap()
}

/// Two external peers of different ASes, two clients, one more internal peer.
fn peer(at: usize) -> PeerSettings {
    let remote_as = [65001, 65002, LOCAL_AS, LOCAL_AS, LOCAL_AS][at];
    let mut settings = PeerSettings::new(NeighborKey::new(address(at), 179), remote_as, LOCAL_AS);
    settings.families = Family::ALL.into_iter().collect();
    settings.router_id = Ipv4Addr::new(192, 0, 2, [12, 11, 13, 15, 14][at]);
    settings.local_address = "10.0.0.1".parse().unwrap();
    settings.self_next_hop = [
        Some(NextHop::V4(Ipv4Addr::new(10, 0, 0, 1))),
        Some(NextHop::from("fd00::1".parse::<IpAddr>().unwrap())),
    ];
    settings.cluster_id = Ipv4Addr::new(192, 0, 2, 1);
    settings.route_reflector_client = matches!(at, 2 | 3);
    settings.shared_subnet = (at == 1).then(|| "10.0.0.8/29".parse().unwrap());
    settings.next_hop = [
        NextHopMode::Auto,
        NextHopMode::Auto,
        NextHopMode::SelfAddress,
        NextHopMode::Auto,
        NextHopMode::Keep,
    ][at];
    settings.import = ACCEPT;
    settings.export = ACCEPT;
    settings.long_lived = at.is_multiple_of(2);
    settings
}

/// What a policy may be.
const POLICIES: usize = 6;

fn policy(at: usize) -> Policy {
    let rule = |at: usize, action| Rule::inside(prefix(at), action);
    let by_link = |name: &str, action| {
        let matches = Match {
            interface: name.parse().ok(),
            ..Match::default()
        };
        Rule::new(matches, action)
    };
    let changes = Changes {
        local_pref: Some(Number::Set(150)),
        med: Some(Number::Set(5)),
        add_communities: vec![Community::new(1, 1)],
        prepend: vec![65009],
        ..Changes::default()
    };
    match at {
        0 => Policy::Accept,
        1 => Policy::Reject,
        2 => Policy::rules([rule(2, RuleAction::Reject)], Verdict::Accept),
        3 => Policy::rules([by_link("eth0", RuleAction::Accept)], Verdict::Reject),
        4 => Policy::rules([by_link("eth*", RuleAction::Reject)], Verdict::Accept),
        _ => Policy::rules(
            [
                Rule {
                    changes,
                    ..rule(0, RuleAction::Accept)
                },
                rule(3, RuleAction::Accept),
            ],
            Verdict::Reject,
        ),
    }
}

/// What else a session may be set to.
const ROUTINGS: usize = 9;

fn with_routing(mut settings: PeerSettings, at: usize) -> PeerSettings {
    let import = ImportOptions::default();
    let export = ExportOptions::default();
    let (import, export) = match at {
        1 => {
            let import = ImportOptions {
                weight: Some(5),
                local_pref: Some(120),
                accept_blackhole: true,
                ..import
            };
            let export = ExportOptions {
                as_override: true,
                communities: false,
                ..export
            };
            (import, export)
        }
        2 => {
            let import = ImportOptions {
                enforce_first_as: true,
                honor_graceful_shutdown: false,
                ..import
            };
            let export = ExportOptions {
                private_as: PrivateAs::Remove,
                client_to_client: false,
                long_lived_stale: true,
                ..export
            };
            (import, export)
        }
        3 => {
            let import = ImportOptions {
                prepend_local_as: true,
                ..import
            };
            let export = ExportOptions {
                prepend_global_as: true,
                private_as: PrivateAs::Replace,
                ..export
            };
            (import, export)
        }
        7 => {
            let export = ExportOptions {
                default_originate: Family::ALL.into_iter().collect(),
                ..export
            };
            (import, export)
        }
        8 => {
            let marked = Rule {
                changes: Changes {
                    add_communities: vec![Community::new(1, 1)],
                    ..Changes::default()
                },
                ..Rule::exact(prefix(3), RuleAction::Accept)
            };
            let export = ExportOptions {
                default_originate: [Family::Ipv4Unicast].into_iter().collect(),
                default_policy: Policy::rules([marked], Verdict::Reject),
                ..export
            };
            (import, export)
        }
        _ => (import, export),
    };
    settings.global_as = if at == 3 { 64999 } else { LOCAL_AS };
    settings.routing = Routing {
        import,
        export,
        drain: at == 4,
    };
    settings.role = [
        None,
        Some(Role::Provider),
        None,
        None,
        None,
        Some(Role::Peer),
        Some(Role::Customer),
        Some(Role::Peer),
        None,
    ][at];
    settings.summarized = if at == 5 { [prefix(2)].into() } else { [].into() };
    settings
}

fn next_hop() -> impl Strategy<Value = IpAddr> {
    let known = [
        "10.0.0.1",
        "10.0.0.10",
        "10.0.0.11",
        "10.0.0.12",
        "203.0.113.1",
        "fd00::9",
    ];
    select(known.to_vec()).prop_map(|text| text.parse().unwrap())
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let path = select(vec![
        vec![65001],
        vec![65002],
        vec![65001, 65003],
        vec![65002, 65003],
        vec![],
        vec![LOCAL_AS],
    ]);
    let few = |values: &[u32]| prop::option::weighted(0.5, select(values.to_vec()));
    let communities = select(vec![
        vec![],
        vec![],
        vec![],
        vec![Community::NO_EXPORT],
        vec![Community::NO_ADVERTISE],
        vec![Community::NO_EXPORT_SUBCONFED],
        vec![Community::new(1, 1)],
        vec![Community::GRACEFUL_SHUTDOWN],
        vec![Community::BLACKHOLE],
        vec![Community::LLGR_STALE],
    ]);
    let id = |last: u8| Ipv4Addr::new(192, 0, 2, last);
    let originator = prop::option::weighted(0.2, select(vec![id(1), id(9), id(99)]));
    let clusters = select(vec![
        vec![],
        vec![],
        vec![id(50)],
        vec![id(50), id(51)],
        vec![id(1)],
    ]);
    let origin = select(vec![Origin::Igp, Origin::Igp, Origin::Egp, Origin::Incomplete]);
    (
        path,
        few(&[0, 10, 20]),
        (
            few(&[100, 200]),
            prop::option::weighted(0.2, select(vec![65001u32, 65009])),
        ),
        communities,
        next_hop(),
        originator,
        clusters,
        origin,
    )
        .prop_map(
            |(path, med, (local_pref, otc), communities, next_hop, originator_id, cluster_list, origin)| {
                Attributes {
                    as_path: AsPath::sequence(path),
                    med,
                    local_pref,
                    otc,
                    communities,
                    originator_id,
                    cluster_list,
                    origin,
                    ..Attributes::originated(NextHop::from(next_hop))
                }
            },
        )
}

fn op() -> impl Strategy<Value = Op> {
    let peers = 0..PEERS;
    let prefixes = || prop::collection::vec((0..PREFIXES.len(), 0..3u32), 1..3);
    let state = prop_oneof![
        2 => (select(vec![0, 5, 10]), select(vec!["", "eth0", "eth1"])).prop_map(
            |(metric, interface)| NextHopState::Reachable { metric, interface: interface.parse().ok() }
        ),
        1 => Just(NextHopState::Unreachable),
    ];
    prop_oneof![
        3 => peers.clone().prop_map(Op::Up),
        1 => (peers.clone(), any::<bool>()).prop_map(|(peer, retain)| Op::Down(peer, retain)),
        12 => (peers.clone(), prefixes(), attributes()).prop_map(|(p, n, a)| Op::Update(p, n, Box::new(a))),
        4 => (peers.clone(), prefixes()).prop_map(|(p, n)| Op::Withdraw(p, n)),
        1 => peers.clone().prop_map(Op::EndOfRib),
        2 => (0..PREFIXES.len(), prop::option::of(Just(300)), select(vec![vec![], vec![Community::NO_EXPORT]]))
            .prop_map(|(n, pref, communities)| Op::Originate(n, pref, communities)),
        1 => (0..PREFIXES.len()).prop_map(Op::Retract),
        1 => prop::sample::subsequence((0..AGGREGATES.len()).collect::<Vec<_>>(), 0..=AGGREGATES.len())
            .prop_map(Op::Aggregates),
        3 => (next_hop(), state).prop_map(|(address, state)| Op::NextHop(address, state)),
        2 => (peers.clone(), 0..POLICIES, 0..POLICIES, 0..ROUTINGS).prop_map(|(p, i, e, r)| Op::Policies(p, i, e, r)),
        1 => peers.clone().prop_map(Op::Pause),
        1 => peers.clone().prop_map(Op::Resume),
        1 => peers.prop_map(Op::Refresh),
        1 => Just(Op::Finish),
        2 => (0..6usize).prop_map(Op::Hear),
    ]
}

/// The RIB, the oracle beside it and the tables built from the RIB's output.
struct Pair {
    rib: Rib,
    oracle: Oracle,
    listener: Listener,
    ids: BTreeMap<usize, PeerId>,
    policies: BTreeMap<usize, (usize, usize, usize)>,
    /// Some peers have add-path, in one direction or both.
    add_path: bool,
}

impl Pair {
    fn new(settings: RibSettings, deferred: bool, add_path: bool) -> Pair {
        let mut rib = Rib::new(settings.clone());
        if deferred {
            rib.defer_selection(Family::ALL.into_iter().collect());
        }
        let oracle = Oracle {
            settings,
            sessions: BTreeMap::new(),
            networks: BTreeMap::new(),
            aggregates: Vec::new(),
            next_hops: BTreeMap::new(),
        };
        Pair {
            rib,
            oracle,
            listener: Listener::default(),
            ids: BTreeMap::new(),
            policies: BTreeMap::new(),
            add_path,
        }
    }

    /// What path identifiers a peer's session carries.
    fn routes(&self, at: usize, routes: &[(usize, u32)]) -> Vec<(Prefix, u32)> {
        let with_ids = self.settings(at).add_path_receive;
        let path_id = |prefix: &Prefix, path_id| {
            if with_ids.contains(Family::of(prefix)) {
                path_id
            } else {
                0
            }
        };
        let routes = routes.iter().map(|(at, path_id)| (prefix(*at), *path_id));
        routes
            .map(|(prefix, id)| (prefix, path_id(&prefix, id)))
            .collect()
    }

    /// What a peer has after all messages: the attributes of the paths of each prefix, in an order of their own.
    fn heard(&self, id: PeerId) -> BTreeMap<Prefix, Vec<String>> {
        let plain = self.listener.peers.get(&id).into_iter().flatten();
        let plain = plain.map(|(prefix, attributes)| (*prefix, attributes));
        let paths = self.listener.paths.get(&id).into_iter().flatten();
        let paths = paths.map(|((prefix, _), attributes)| (*prefix, attributes));
        by_prefix(plain.chain(paths))
    }

    fn session(&mut self, at: usize) -> Option<&mut Session> {
        self.oracle.sessions.get_mut(&peer(at).key)
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Up(at) => self.up(*at),
            Op::Down(at, retain) => self.down(*at, *retain),
            Op::Update(at, prefixes, attributes) => {
                let Some(id) = self.ids.get(at) else { return };
                let routes = self.routes(*at, prefixes);
                let set = Attributes::clone(attributes);
                self.rib.update_paths(*id, set, routes.iter().copied());
                let Some(session) = self.session(*at) else { return };
                for route in routes {
                    let attributes = Attributes::clone(attributes);
                    session.routes.insert(route, (attributes, false));
                }
            }
            Op::Withdraw(at, prefixes) => {
                let Some(id) = self.ids.get(at) else { return };
                let routes = self.routes(*at, prefixes);
                self.rib.withdraw_paths(*id, routes.iter().copied());
                let Some(session) = self.session(*at) else { return };
                routes.iter().for_each(|route| {
                    session.routes.remove(route);
                });
            }
            Op::EndOfRib(at) => {
                let Some(id) = self.ids.get(at) else { return };
                self.rib.end_of_rib(*id, Family::Ipv4Unicast);
                let Some(session) = self.session(*at) else { return };
                session
                    .routes
                    .retain(|(prefix, _), (_, stale)| prefix.addr().is_ipv6() || !*stale);
            }
            Op::Originate(at, local_pref, communities) => {
                let mut network = Network::from(prefix(*at));
                network.local_pref = *local_pref;
                network.communities.clone_from(communities);
                self.rib.originate(&network);
                self.oracle.networks.insert(network.prefix, network);
            }
            Op::Retract(at) => {
                self.rib.retract(prefix(*at));
                self.oracle.networks.remove(&prefix(*at));
            }
            Op::Aggregates(which) => {
                let aggregates: Vec<Aggregate> = which.iter().map(|at| aggregate(*at)).collect();
                self.rib.set_aggregates(&aggregates);
                self.oracle.aggregates = aggregates;
            }
            Op::NextHop(address, state) => {
                self.oracle.next_hops.insert(*address, *state);
                self.rib.set_next_hops([(*address, *state)]);
            }
            Op::Policies(at, import, export, routing) => {
                self.policies.insert(*at, (*import, *export, *routing));
                let settings = self.settings(*at);
                let Some(id) = self.ids.get(at) else { return };
                self.rib.reconfigure(*id, settings.clone());
                if let Some(session) = self.session(*at) {
                    session.settings = settings;
                }
            }
            Op::Pause(at) => self.ids.get(at).into_iter().for_each(|id| self.rib.pause(*id)),
            Op::Resume(at) => self.ids.get(at).into_iter().for_each(|id| self.rib.resume(*id)),
            Op::Refresh(at) => {
                self.ids
                    .get(at)
                    .into_iter()
                    .for_each(|id| self.rib.refresh(*id, Family::Ipv4Unicast));
            }
            Op::Finish => Family::ALL
                .into_iter()
                .for_each(|family| self.rib.finish_deferral(family)),
            Op::Hear(count) => {
                for _ in 0..*count {
                    self.listener.hear_one(&mut self.rib);
                }
            }
        }
        self.tell_next_hops();
    }

    /// A peer as it is configured now.
    fn settings(&self, at: usize) -> PeerSettings {
        let mut settings = peer(at);
        if self.add_path {
            let wanted = |peers: &[usize]| {
                let families = settings.families.iter();
                families.filter(|_| peers.contains(&at)).collect::<FamilySet>()
            };
            (settings.add_path_receive, settings.add_path_send) = (wanted(&[0, 2, 4]), wanted(&[1, 2, 3]));
            let routing = self.policies.get(&at).map_or(0, |(_, _, routing)| *routing);
            settings.add_path_limit = [None, Some(2), Some(1)][routing % 3];
        }
        if let Some((import, export, routing)) = self.policies.get(&at) {
            settings.import = policy(*import);
            settings.export = policy(*export);
            settings = with_routing(settings, *routing);
        }
        settings
    }

    fn up(&mut self, at: usize) {
        if self.ids.contains_key(&at) {
            return;
        }
        let settings = self.settings(at);
        let id = self.rib.peer_up(settings.clone());
        // A new session starts with an empty table at the other end.
        self.listener.forget(id);
        self.ids.insert(at, id);
        let routes = self
            .oracle
            .sessions
            .remove(&settings.key)
            .map(|session| session.routes)
            .unwrap_or_default();
        self.oracle.sessions.insert(
            settings.key,
            Session {
                settings,
                up: true,
                routes,
            },
        );
    }

    fn down(&mut self, at: usize, retain: bool) {
        let Some(id) = self.ids.remove(&at) else { return };
        self.listener.forget(id);
        let families: FamilySet = retain.then_some(Family::Ipv4Unicast).into_iter().collect();
        self.rib.peer_down(id, families);
        let Some(session) = self.session(at) else { return };
        session.up = false;
        // RFC 4724 section 4.2: of consecutive restarts, what came before the last is gone. RFC 9494 section 4.2: but
        // for what is stale for long.
        session.routes.retain(|(prefix, _), (attributes, stale)| {
            let lasts = !*stale || attributes.has_community(Community::LLGR_STALE);
            retain && prefix.addr().is_ipv4() && lasts
        });
        session.routes.values_mut().for_each(|(_, stale)| *stale = true);
    }

    fn tell_next_hops(&mut self) {
        for interest in self.rib.poll_next_hops() {
            if let NextHopInterest::Resolve(gateway) = interest
                && let Some(state) = self.oracle.next_hops.get(&gateway.address)
            {
                self.rib.set_next_hops([(gateway, *state)]);
            }
        }
    }

    fn check(&mut self) {
        for family in Family::ALL {
            self.rib.finish_deferral(family);
        }
        for id in self.ids.values() {
            self.rib.resume(*id);
        }
        self.listener.hear_all(&mut self.rib);
        assert_eq!(self.listener.fib, self.oracle.fib(), "what is to be installed");
        for (at, id) in &self.ids {
            let with_ids = !self.settings(*at).add_path_send.is_empty();
            let told = match with_ids {
                false => by_prefix(self.oracle.told(peer(*at).key).iter().map(|(p, a)| (*p, a))),
                true => {
                    let told = self.oracle.told_paths(peer(*at).key);
                    by_prefix(told.iter().flat_map(|(p, all)| all.iter().map(|a| (*p, a))))
                }
            };
            assert_eq!(self.heard(*id), told, "what peer {at} was told");
            let paths = self.listener.paths.get(id).cloned().unwrap_or_default();
            for family in Family::ALL {
                let listed = self.rib.advertised(*id, family);
                let routes = listed.iter().map(|route| (route.prefix, &*route.attributes));
                let expected = told.iter().filter(|(p, _)| Family::of(p) == family);
                assert!(by_prefix(routes).iter().eq(expected));
                assert!(listed.iter().all(|route| route.path_id.is_some() == with_ids));
                for route in listed.iter().filter(|_| with_ids) {
                    let heard = paths.get(&(route.prefix, route.path_id.unwrap()));
                    assert_eq!(heard, Some(&*route.attributes), "by its identifier");
                }
                assert_eq!(self.rib.counters(*id, family).advertised, listed.len());
                assert_eq!(
                    self.listener.ends_of_rib.get(&(*id, family)),
                    Some(&1),
                    "End-of-RIB to {at}"
                );
            }
        }
    }

    /// With everything gone, nothing is left in store.
    fn check_empty(mut self) {
        for at in 0..PEERS {
            self.down(at, false);
            if let Some(id) = self.rib.peer(peer(at).key) {
                self.rib.peer_down(id, FamilySet::EMPTY);
            }
        }
        for at in 0..PREFIXES.len() {
            self.rib.retract(prefix(at));
        }
        self.listener.hear_all(&mut self.rib);
        assert_eq!(self.rib.totals(), Totals::default());
    }
}

fn settings() -> impl Strategy<Value = RibSettings> {
    let flags = any::<[bool; 5]>();
    (1..4usize, flags).prop_map(|(max, [reachable, relax, med, missing, eibgp])| RibSettings {
        assume_reachable: reachable,
        selection: Selection {
            multipath_max: max,
            multipath_relax: relax,
            multipath_eibgp: eibgp,
            always_compare_med: med,
            missing_med_worst: missing,
        },
        ..RibSettings::new(LOCAL_AS, Ipv4Addr::new(192, 0, 2, 1))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, ..ProptestConfig::default() })]

    #[test]
    fn any_history_ends_as_computed_from_scratch(
        settings in settings(),
        deferred in any::<bool>(),
        add_path in any::<bool>(),
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let mut pair = Pair::new(settings, deferred, add_path);
        for (at, op) in ops.iter().enumerate() {
            pair.apply(op);
            if at % 20 == 19 && !deferred {
                pair.check();
            }
        }
        pair.check();
        pair.check_empty();
    }

    #[test]
    fn the_order_of_updates_does_not_matter(
        settings in settings(),
        add_path in any::<bool>(),
        routes in prop::collection::btree_map((0..PEERS, 0..PREFIXES.len(), 0..3u32), attributes(), 1..24),
        seed in any::<u64>(),
    ) {
        let is_one = |at: usize, id: u32| id == 0 || add_path && matches!(at, 0 | 2 | 4);
        let sorted: Vec<_> = routes.iter().filter(|((at, _, id), _)| is_one(*at, *id)).collect();
        let mut shuffled = sorted.clone();
        shuffle(&mut shuffled, seed);
        let end = |routes: &[(&(usize, usize, u32), &Attributes)]| {
            let mut pair = Pair::new(settings.clone(), false, add_path);
            (0..PEERS).for_each(|at| pair.apply(&Op::Up(at)));
            for ((peer, prefix, id), attributes) in routes {
                pair.apply(&Op::Update(*peer, vec![(*prefix, *id)], Box::new((*attributes).clone())));
            }
            pair.check();
            let best = Family::ALL.map(|family| pair.rib.best(family));
            let out: Vec<_> = pair.ids.values().map(|id| pair.heard(*id)).collect();
            (best, out)
        };
        prop_assert_eq!(end(&sorted), end(&shuffled));
    }
}

/// Routes by prefix, those of one in an order that does not depend on how they were named.
fn by_prefix<'a>(routes: impl Iterator<Item = (Prefix, &'a Attributes)>) -> BTreeMap<Prefix, Vec<String>> {
    let mut all: BTreeMap<Prefix, Vec<String>> = BTreeMap::new();
    for (prefix, attributes) in routes {
        all.entry(prefix).or_default().push(format!("{attributes:?}"));
    }
    all.values_mut().for_each(|of_one| of_one.sort());
    all
}

/// Fisher and Yates, with a generator that needs no more than to be different each time.
fn shuffle<T>(items: &mut [T], mut seed: u64) {
    for at in (1..items.len()).rev() {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        items.swap(at, (seed >> 33) as usize % (at + 1));
    }
}
