//! The reference interpreter of programs, and a replica of the state that deltas describe. Both are slow and
//! plain: for previews, and for tests of the engine and of the dataplane.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::output::{
    Action, BitVector, Delta, Direction, Endpoint, EndpointId, Family, IcmpKey, IdentityId, PortPrefix,
    Program, ProgramKey, Rule, Table, TupleKey, VectorIndex,
};

/// IP protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// IP protocol number of ICMPv6.
pub const PROTOCOL_ICMPV6: u8 = 58;

/// What policy sees of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Source address; of the same family as the destination.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// 0 where the protocol has none.
    pub source_port: u16,
    /// 0 where the protocol has none.
    pub destination_port: u16,
    /// Type and code; looked at only if the protocol is the family's ICMP.
    pub icmp: (u8, u8),
}

impl Packet {
    /// Type and code, if this is the family's ICMP.
    pub fn icmp(&self) -> Option<(u8, u8)> {
        let protocol = if self.destination.is_ipv4() {
            PROTOCOL_ICMP
        } else {
            PROTOCOL_ICMPV6
        };
        (self.protocol == protocol).then_some(self.icmp)
    }
}

/// What a program says of a packet. The numbers are bits of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Allowed or denied.
    pub allowed: bool,
    /// The rule that decided; `None` only for a malformed program without rules, which denies.
    pub rule: Option<usize>,
    /// Log rules that matched on the way.
    pub logged: Vec<usize>,
    /// Pass rules and passing ends of tiers on the way.
    pub passed: Vec<usize>,
}

/// Runs a packet through a program. `identity` says which class an address is in.
pub fn evaluate(program: &Program, packet: &Packet, identity: impl Fn(IpAddr) -> IdentityId) -> Verdict {
    let vectors = matching_vectors(program, packet, identity);
    let mut verdict = Verdict {
        allowed: false,
        rule: None,
        logged: Vec::new(),
        passed: Vec::new(),
    };
    let mut from = 0;
    while let Some((bit, rule)) = next_match(program, &vectors, from) {
        from = bit + 1;
        match rule.action {
            Action::Log => verdict.logged.push(bit),
            Action::Pass { next } => {
                verdict.passed.push(bit);
                from = from.max(usize::from(next));
            }
            Action::Allow | Action::Deny => {
                verdict.allowed = rule.action == Action::Allow;
                verdict.rule = Some(bit);
                return verdict;
            }
        }
    }
    verdict
}

fn next_match<'p>(program: &'p Program, vectors: &[&BitVector], from: usize) -> Option<(usize, &'p Rule)> {
    let holds = |vector: &BitVector, bit: usize| {
        vector
            .get(bit / 64)
            .is_some_and(|word| word & (1 << (bit % 64)) != 0)
    };
    program
        .rules
        .iter()
        .enumerate()
        .skip(from)
        .find(|&(bit, _)| vectors.iter().all(|vector| holds(vector, bit)))
}

fn matching_vectors<'p>(
    program: &'p Program,
    packet: &Packet,
    identity: impl Fn(IpAddr) -> IdentityId,
) -> Vec<&'p BitVector> {
    let mut indices: Vec<VectorIndex> = Vec::new();
    for (table, address) in [
        (&program.source_identity, packet.source),
        (&program.destination_identity, packet.destination),
    ] {
        indices.extend(
            table
                .as_ref()
                .map(|table| exact(table, &identity(address)).unwrap_or(table.default)),
        );
    }
    for (table, address) in [
        (&program.source_net, packet.source),
        (&program.destination_net, packet.destination),
    ] {
        indices.extend(table.as_ref().map(|table| longest_net(table, address)));
    }
    for (table, port) in [
        (&program.source_port, packet.source_port),
        (&program.destination_port, packet.destination_port),
    ] {
        indices.extend(
            table
                .as_ref()
                .map(|table| longest_port(table, packet.protocol, port)),
        );
    }
    if let Some(table) = &program.icmp {
        indices.push(match packet.icmp() {
            None => table.default,
            Some((r#type, code)) => exact(
                table,
                &IcmpKey {
                    r#type,
                    code: Some(code),
                },
            )
            .or_else(|| exact(table, &IcmpKey { r#type, code: None }))
            .unwrap_or(program.icmp_other),
        });
    }
    for (table, address, port) in [
        (&program.source_tuple, packet.source, packet.source_port),
        (
            &program.destination_tuple,
            packet.destination,
            packet.destination_port,
        ),
    ] {
        let key = TupleKey {
            address,
            protocol: packet.protocol,
            port,
        };
        indices.extend(
            table
                .as_ref()
                .map(|table| exact(table, &key).unwrap_or(table.default)),
        );
    }
    indices
        .into_iter()
        .filter_map(|index| program.vectors.get(usize::from(index)))
        .collect()
}

fn exact<K: Ord>(table: &Table<K>, key: &K) -> Option<VectorIndex> {
    let at = table.entries.binary_search_by(|(k, _)| k.cmp(key)).ok()?;
    table.entries.get(at).map(|&(_, vector)| vector)
}

fn longest_net(table: &Table<IpNet>, address: IpAddr) -> VectorIndex {
    let covering = table.entries.iter().filter(|(net, _)| net.contains(&address));
    covering
        .max_by_key(|(net, _)| net.prefix_len())
        .map_or(table.default, |&(_, vector)| vector)
}

fn longest_port(table: &Table<PortPrefix>, protocol: u8, port: u16) -> VectorIndex {
    let covers = |prefix: &PortPrefix| {
        prefix.protocol == protocol
            && u32::from(prefix.port ^ port).leading_zeros().saturating_sub(16) >= u32::from(prefix.bits)
    };
    let covering = table.entries.iter().filter(|(prefix, _)| covers(prefix));
    covering
        .max_by_key(|(prefix, _)| prefix.bits)
        .map_or(table.default, |&(_, vector)| vector)
}

/// What a dataplane holds after applying deltas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replica {
    /// Classes of addresses.
    pub identities: BTreeMap<IpNet, IdentityId>,
    /// Programs by key.
    pub programs: BTreeMap<ProgramKey, Arc<Program>>,
    /// Local endpoints.
    pub endpoints: BTreeMap<EndpointId, Endpoint>,
}

/// A delta refers to something that does not exist, or removes what is in use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplicaError {
    /// A change or removal of, or a reference to, a program that is not there.
    #[error("program {0:?} does not exist")]
    UnknownProgram(ProgramKey),
    /// A program came under a key that another one has.
    #[error("program {0:?} is added a second time")]
    ProgramExists(ProgramKey),
    /// A program was removed while an endpoint used it.
    #[error("program {0:?} is removed while an endpoint uses it")]
    ProgramInUse(ProgramKey),
    /// An endpoint was removed that is not there.
    #[error("endpoint {0:?} does not exist")]
    UnknownEndpoint(EndpointId),
    /// An identity table entry exists already, or refers to a vector that does not.
    #[error("program {0:?}: identity change does not fit")]
    MisfitChange(ProgramKey),
}

impl Replica {
    /// Applies one delta, checking what the contract promises of the order.
    pub fn apply(&mut self, delta: &Delta) -> Result<(), ReplicaError> {
        match delta {
            Delta::Identity {
                net,
                identity: IdentityId::UNKNOWN,
            } => {
                self.identities.remove(net);
            }
            Delta::Identity { net, identity } => {
                self.identities.insert(*net, *identity);
            }
            Delta::ProgramAdd { key, program } => {
                if self.programs.insert(*key, Arc::clone(program)).is_some() {
                    return Err(ReplicaError::ProgramExists(*key));
                }
            }
            Delta::ProgramIdentities { key, change } => {
                let program = self
                    .programs
                    .get_mut(key)
                    .ok_or(ReplicaError::UnknownProgram(*key))?;
                let mut changed = Program::clone(program);
                changed.apply(change);
                if !is_sound(&changed) {
                    return Err(ReplicaError::MisfitChange(*key));
                }
                *program = Arc::new(changed);
            }
            Delta::ProgramRemove { key } => {
                if self
                    .endpoints
                    .values()
                    .any(|endpoint| endpoint.programs.keys().contains(key))
                {
                    return Err(ReplicaError::ProgramInUse(*key));
                }
                self.programs
                    .remove(key)
                    .ok_or(ReplicaError::UnknownProgram(*key))?;
            }
            Delta::EndpointUpdate(endpoint) => {
                let keys = endpoint.programs.keys();
                if let Some(key) = keys.iter().find(|key| !self.programs.contains_key(key)) {
                    return Err(ReplicaError::UnknownProgram(*key));
                }
                self.endpoints
                    .insert(endpoint.id.clone(), Endpoint::clone(endpoint));
            }
            Delta::EndpointRemove(id) => {
                self.endpoints
                    .remove(id)
                    .ok_or_else(|| ReplicaError::UnknownEndpoint(id.clone()))?;
            }
        }
        Ok(())
    }

    /// The class of an address.
    pub fn identity(&self, address: IpAddr) -> IdentityId {
        let host = IpNet::from(address);
        (0..=host.prefix_len())
            .rev()
            .filter_map(|len| IpNet::new(address, len).ok())
            .find_map(|net| self.identities.get(&net.trunc()).copied())
            .unwrap_or(IdentityId::UNKNOWN)
    }

    /// What an endpoint's policy says of a packet, with the rules' names; `None` if there is no such endpoint.
    pub fn evaluate(
        &self,
        id: &EndpointId,
        direction: Direction,
        packet: &Packet,
    ) -> Option<(Verdict, &Program)> {
        let family = if packet.destination.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        };
        let program = self
            .programs
            .get(&self.endpoints.get(id)?.programs.key(direction, family))?;
        Some((
            evaluate(program, packet, |address| self.identity(address)),
            program,
        ))
    }
}

/// Entries are sorted and unique, and every index names a vector.
fn is_sound(program: &Program) -> bool {
    let sound = |table: &Option<Table<IdentityId>>| {
        table.as_ref().is_none_or(|table| {
            table
                .entries
                .windows(2)
                .all(|pair| matches!(pair, [a, b] if a.0 < b.0))
                && table
                    .entries
                    .iter()
                    .all(|(_, vector)| usize::from(*vector) < program.vectors.len())
        })
    };
    sound(&program.source_identity) && sound(&program.destination_identity)
}
