//! The programs in the kernel against the reference interpreter, on random programs and packets.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use common::programs::{frame, policy_rule, transport, update};
use common::{as_host, drain, sys};
use dataplane::{Attach, Dataplane, Verdict};
use ipnet::IpNet;
use policy_engine::output::{
    Action, BitVector, Delta, IcmpKey, IdentityChange, IdentityId, PortPrefix, Program, ProgramKey, Rule,
    Table, TupleKey,
};
use policy_engine::{Packet, evaluate};

const PROGRAMS: usize = 24;
const PACKETS: usize = 150;
/// `DROP` of the programs.
const DROP: i32 = 2;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as u32 % n
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    /// Few distinct ones, so that tables hit.
    fn address(&mut self, v4: bool) -> IpAddr {
        let (a, b) = (self.below(3) as u8, self.below(12) as u8);
        if v4 {
            Ipv4Addr::new(10, a, b % 2, b).into()
        } else {
            Ipv6Addr::new(0xfd00, a.into(), 0, 0, 0, 0, u16::from(b % 2), b.into()).into()
        }
    }

    fn net(&mut self, v4: bool) -> IpNet {
        let lengths: &[u8] = if v4 {
            &[0, 8, 15, 16, 23, 24, 31, 32]
        } else {
            &[0, 7, 16, 32, 48, 112, 127, 128]
        };
        let length = lengths[self.below(8) as usize];
        IpNet::new(self.address(v4), length).unwrap().trunc()
    }

    fn port(&mut self) -> u16 {
        [0, 53, 80, 443, 5000, 5001, 65535][self.below(7) as usize]
    }

    fn protocol(&mut self, v4: bool) -> u8 {
        [6, 17, if v4 { 1 } else { 58 }, 132, 47][self.below(5) as usize]
    }

    fn table<K: Ord + Clone>(
        &mut self,
        percent: u32,
        vectors: usize,
        entries: u32,
        mut key: impl FnMut(&mut Self) -> K,
    ) -> Option<Table<K>> {
        if !self.chance(percent) {
            return None;
        }
        let mut table = BTreeMap::new();
        for _ in 0..self.below(entries) {
            table.insert(key(self), self.below(vectors as u32) as u16);
        }
        Some(Table {
            entries: table.into_iter().collect(),
            default: self.below(vectors as u32) as u16,
        })
    }

    fn program(&mut self, v4: bool) -> Program {
        let most = [1, 3, 63, 64, 65, 200, 4096][self.below(7) as usize];
        let count = (1 + self.below(most)) as usize;
        let mut rules: Vec<Rule> = (0..count)
            .map(|at| {
                let action = match self.below(100) {
                    0..45 => Action::Allow,
                    45..80 => Action::Deny,
                    80..95 => {
                        // A jump of any length, but never past the last rule.
                        let left = (count - 1 - at) as u32;
                        if left == 0 {
                            Action::Deny
                        } else {
                            Action::Pass {
                                next: (at as u32 + 1 + self.below(left)) as u16,
                            }
                        }
                    }
                    _ => Action::Log,
                };
                Rule {
                    action,
                    id: policy_rule("random", at as u32),
                }
            })
            .collect();
        rules[count - 1].action = if self.chance(50) {
            Action::Allow
        } else {
            Action::Deny
        };
        let words = count.div_ceil(64);
        let mut vectors: Vec<BitVector> = (0..12)
            .map(|_| {
                // Sparse and dense ones.
                let density = [2, 30, 80, 100][self.below(4) as usize];
                let mut vector = vec![0u64; words];
                for bit in 0..count {
                    if self.chance(density) {
                        vector[bit / 64] |= 1 << (bit % 64);
                    }
                }
                vector[(count - 1) / 64] |= 1 << ((count - 1) % 64);
                BitVector::from(vector)
            })
            .collect();
        let mut all = vec![0u64; words];
        (0..count).for_each(|bit| all[bit / 64] |= 1 << (bit % 64));
        vectors.push(BitVector::from(all));
        let n = vectors.len();
        Program {
            rules,
            vectors,
            source_identity: self.table(60, n, 8, |r| IdentityId(r.below(6))),
            destination_identity: self.table(60, n, 8, |r| IdentityId(r.below(6))),
            source_net: self.table(50, n, 12, |r| r.net(v4)),
            destination_net: self.table(50, n, 12, |r| r.net(v4)),
            destination_port: self.table(60, n, 12, |r| r.port_prefix(v4)),
            source_port: self.table(30, n, 12, |r| r.port_prefix(v4)),
            icmp: self.table(50, n, 8, |r| IcmpKey {
                r#type: r.icmp_type(v4),
                code: r.chance(50).then_some(r.below(3) as u8),
            }),
            icmp_other: self.below(n as u32) as u16,
            source_tuple: self.table(30, n, 20, |r| r.tuple(v4)),
            destination_tuple: self.table(30, n, 20, |r| r.tuple(v4)),
        }
    }

    fn port_prefix(&mut self, v4: bool) -> PortPrefix {
        let bits = [0, 1, 8, 15, 16][self.below(5) as usize];
        let mask = u16::MAX.checked_shl(16 - u32::from(bits)).unwrap_or(0);
        PortPrefix {
            protocol: self.protocol(v4),
            port: self.port() & mask,
            bits,
        }
    }

    /// Neither errors, which follow flows, nor what is a router's.
    fn icmp_type(&mut self, v4: bool) -> u8 {
        if v4 {
            [8, 13, 17, 200][self.below(4) as usize]
        } else {
            [128, 139, 144, 200][self.below(4) as usize]
        }
    }

    fn tuple(&mut self, v4: bool) -> TupleKey {
        TupleKey {
            address: self.address(v4),
            protocol: self.protocol(v4),
            port: self.port(),
        }
    }

    fn packet(&mut self, v4: bool) -> Packet {
        let protocol = self.protocol(v4);
        let ports = matches!(protocol, 6 | 17 | 132);
        Packet {
            source: self.address(v4),
            destination: self.address(v4),
            protocol,
            source_port: if ports { self.port() } else { 0 },
            destination_port: if ports { self.port() } else { 0 },
            icmp: (self.icmp_type(v4), self.below(4) as u8),
        }
    }
}

fn bytes(packet: &Packet) -> Vec<u8> {
    let (source, destination) = match packet.icmp() {
        Some((kind, code)) => (kind.into(), code.into()),
        None => (packet.source_port, packet.destination_port),
    };
    frame(
        packet.source,
        packet.destination,
        packet.protocol,
        &transport(packet.protocol, source, destination, 2),
    )
}

fn changed_identities(random: &mut Random, identities: &mut BTreeMap<IpNet, IdentityId>) -> Vec<Delta> {
    let mut deltas = Vec::new();
    for _ in 0..10 {
        let v4 = random.chance(50);
        let net = if random.chance(60) {
            IpNet::from(random.address(v4))
        } else {
            random.net(v4)
        };
        let identity = IdentityId(random.below(6));
        if identity == IdentityId::UNKNOWN {
            identities.remove(&net);
        } else {
            identities.insert(net, identity);
        }
        deltas.push(Delta::Identity { net, identity });
    }
    deltas
}

fn identity_of(identities: &BTreeMap<IpNet, IdentityId>, address: IpAddr) -> IdentityId {
    let covering = identities.iter().filter(|(net, _)| net.contains(&address));
    covering
        .max_by_key(|(net, _)| net.prefix_len())
        .map_or(IdentityId::UNKNOWN, |(_, identity)| *identity)
}

#[test]
fn the_kernel_agrees_with_the_reference_interpreter() {
    as_host(|mut host| {
        let seed = std::env::var("SEED")
            .ok()
            .and_then(|s| s.parse().ok())
            .unwrap_or_else(std::process::id);
        println!("SEED={seed}");
        let mut random = Random(seed.into());
        let workload = host.workload("d", &["10.200.0.1", "fd00:200::1"]);
        // Nothing is left to conntrack: each packet is judged.
        let mut config = host.config(Attach::Tcx);
        // Two generations of four programs with 4,096 rules, in stretches that may not fit where others were.
        config.sizes.rules = 65_536;
        let none = std::time::Duration::ZERO;
        config.timeouts = dataplane::Timeouts {
            tcp_handshake: none,
            tcp_established: none,
            tcp_closed: none,
            tcp_reset: none,
            udp: none,
            icmp: none,
            generic: none,
            fragment: none,
        };
        let mut dataplane = Dataplane::open(config).unwrap();
        let mut events = dataplane.take_flow_events().unwrap().unwrap();
        let mut identities = BTreeMap::new();
        let (mut matched, mut passes) = (0, 0);
        for round in 0..PROGRAMS {
            let mut programs = [random.program(true), random.program(false)];
            let mut deltas = changed_identities(&mut random, &mut identities);
            let keys: Vec<_> = (0..4).map(|n| (round * 4 + n) as u64).collect();
            for (n, key) in keys.iter().enumerate() {
                deltas.push(update(*key, Arc::new(programs[n / 2].clone())));
            }
            let mut endpoint = workload.endpoint(keys[0], keys[1]);
            endpoint.programs.ingress_v6 = ProgramKey(keys[2]);
            endpoint.programs.egress_v6 = ProgramKey(keys[3]);
            endpoint.allowed_sources = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
            deltas.push(Delta::EndpointUpdate(Box::new(endpoint)));
            for old in (round > 0)
                .then(|| (round * 4 - 4)..round * 4)
                .into_iter()
                .flatten()
            {
                deltas.push(Delta::ProgramRemove {
                    key: ProgramKey(old as u64),
                });
            }
            let report = dataplane.apply(&deltas).unwrap();
            assert_eq!(report.errors, Vec::<String>::new());
            if round == 0 {
                dataplane.end_of_initial_sync().unwrap();
            }
            // New members taught to programs in force.
            let mut lessons = Vec::new();
            for (n, key) in keys.iter().enumerate() {
                let program = &programs[n / 2];
                let change = IdentityChange {
                    vectors: vec![program.vectors[0].clone(), BitVector::from(vec![u64::MAX; 1])],
                    source: vec![
                        (IdentityId(100 + round as u32), 3),
                        (IdentityId(1000), program.vectors.len() as u16),
                    ],
                    destination: vec![(IdentityId(100 + round as u32), program.vectors.len() as u16)],
                    removed: Vec::new(),
                };
                lessons.push(Delta::ProgramIdentities {
                    key: ProgramKey(*key),
                    change: Arc::new(change.clone()),
                });
                if n % 2 == 1 {
                    programs[n / 2].apply(&change);
                }
            }
            let late = IpNet::from(random.address(round % 2 == 0));
            identities.insert(late, IdentityId(100 + round as u32));
            lessons.push(Delta::Identity {
                net: late,
                identity: IdentityId(100 + round as u32),
            });
            dataplane.apply(&lessons).unwrap();
            dataplane.sweep().unwrap();
            drain(&mut events);

            let hooks = common::programs_at(&workload.interface);
            let mut sent = BTreeSet::new();
            for _ in 0..PACKETS {
                let v4 = random.chance(50);
                let packet = random.packet(v4);
                // A flow without a lifetime still lives for the rest of its clock's tick: its replies are not judged.
                let ends = [
                    (packet.source, packet.source_port),
                    (packet.destination, packet.destination_port),
                ];
                let is_reply = sent.contains(&(packet.protocol, [ends[1], ends[0]]));
                if packet.source == packet.destination || is_reply {
                    continue;
                }
                sent.insert((packet.protocol, ends));
                let expected = evaluate(&programs[usize::from(!v4)], &packet, |a| {
                    identity_of(&identities, a)
                });
                let hook = random.below(2) as usize;
                let (code, _) = sys::test_run(&hooks[hook], &bytes(&packet), workload.ifindex, 1, 1);
                let told: Vec<_> = drain(&mut events)
                    .into_iter()
                    .filter(|e| e.verdict != Verdict::Log)
                    .collect();
                let said = format!("{packet:?} {expected:?} {code} {told:?}");
                assert_eq!(code != DROP, expected.allowed, "{said}");
                if let [event] = told.as_slice() {
                    let index = |rule: &policy_engine::output::RuleId| match rule {
                        policy_engine::output::RuleId::Policy { index, .. } => *index as usize,
                        _ => usize::MAX,
                    };
                    assert_eq!(event.rule.as_ref().map(index), expected.rule, "{said}");
                    let passed: Vec<_> = event.passes.iter().map(index).collect();
                    assert_eq!(passed, expected.passed[..expected.passed.len().min(8)], "{said}");
                    matched += 1;
                    passes += passed.len();
                }
            }
        }
        assert!(
            matched > PROGRAMS * PACKETS / 3 && passes > 50,
            "{matched} verdicts and {passes} passes say too little"
        );
    });
}
