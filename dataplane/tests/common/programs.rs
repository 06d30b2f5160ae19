//! Programs made by hand, and packets to run through them.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use policy_engine::output::{Action, BitVector, Delta, PortPrefix, Program, ProgramKey, Rule, RuleId, Table};

pub fn policy_rule(name: &str, index: u32) -> RuleId {
    RuleId::Policy {
        tier: "default".to_owned(),
        kind: "NetworkPolicy".to_owned(),
        namespace: "default".to_owned(),
        name: name.to_owned(),
        index,
    }
}

pub fn empty(rules: Vec<Rule>) -> Program {
    let words = rules.len().div_ceil(64);
    let mut all = vec![0u64; words];
    for bit in 0..rules.len() {
        all[bit / 64] |= 1 << (bit % 64);
    }
    Program {
        rules,
        vectors: vec![BitVector::from(all)],
        source_identity: None,
        destination_identity: None,
        source_net: None,
        destination_net: None,
        destination_port: None,
        source_port: None,
        icmp: None,
        icmp_other: 0,
        source_tuple: None,
        destination_tuple: None,
    }
}

fn rule(action: Action, id: RuleId) -> Rule {
    Rule { action, id }
}

/// One rule for everything.
pub fn always(action: Action, name: &str) -> Arc<Program> {
    Arc::new(empty(vec![rule(action, policy_rule(name, 0))]))
}

pub fn allow_all() -> Arc<Program> {
    always(Action::Allow, "allow-all")
}

pub fn deny_all() -> Arc<Program> {
    Arc::new(empty(vec![rule(Action::Deny, RuleId::EndOfProfiles)]))
}

/// Allows one protocol and destination port; the rest is denied by the tier's end.
pub fn allow_port(protocol: u8, port: u16) -> Arc<Program> {
    let end = RuleId::EndOfTier {
        tier: "default".to_owned(),
    };
    let mut program = empty(vec![
        rule(Action::Allow, policy_rule("allow-port", 0)),
        rule(Action::Deny, end),
    ]);
    program.vectors.push(BitVector::from([0b10]));
    program.destination_port = Some(Table {
        entries: vec![(
            PortPrefix {
                protocol,
                port,
                bits: 16,
            },
            0,
        )],
        default: 1,
    });
    Arc::new(program)
}

/// Allows destinations in a prefix.
pub fn allow_to(net: &str) -> Arc<Program> {
    let net: IpNet = net.parse().unwrap();
    let end = RuleId::EndOfTier {
        tier: "default".to_owned(),
    };
    let mut program = empty(vec![
        rule(Action::Allow, policy_rule("allow-to", 0)),
        rule(Action::Deny, end),
    ]);
    program.vectors.push(BitVector::from([0b10]));
    program.destination_net = Some(Table {
        entries: vec![(net, 0)],
        default: 1,
    });
    Arc::new(program)
}

pub fn update(key: u64, program: Arc<Program>) -> Delta {
    Delta::ProgramAdd {
        key: ProgramKey(key),
        program,
    }
}

/// An Ethernet frame with an IP packet.
pub fn frame(source: IpAddr, destination: IpAddr, protocol: u8, transport: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 2, 0, 0, 0, 0, 1];
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend((20 + transport.len() as u16).to_be_bytes());
            frame.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
            let sum: u32 = frame[14..34]
                .chunks(2)
                .map(|c| u32::from(u16::from_be_bytes([c[0], c[1]])))
                .sum();
            let sum = (sum & 0xffff) + (sum >> 16);
            let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((transport.len() as u16).to_be_bytes());
            frame.extend([protocol, 64]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        _ => panic!("two families"),
    }
    frame.extend(transport);
    frame
}

/// A transport header: TCP with `flags`, UDP, ICMP (type and code in the ports), or zeros.
pub fn transport(protocol: u8, source: u16, destination: u16, flags: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    match protocol {
        1 | 58 => {
            bytes.extend([
                source as u8,
                destination as u8,
                0,
                0,
                0x12,
                0x34,
                0,
                1,
                0,
                0,
                0,
                0,
            ]);
        }
        6 => {
            bytes.extend(source.to_be_bytes());
            bytes.extend(destination.to_be_bytes());
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        }
        17 => {
            bytes.extend(source.to_be_bytes());
            bytes.extend(destination.to_be_bytes());
            bytes.extend([0, 12, 0, 0, 1, 2, 3, 4]);
        }
        _ => {
            bytes.extend(source.to_be_bytes());
            bytes.extend(destination.to_be_bytes());
            bytes.extend([0; 16]);
        }
    }
    bytes
}
