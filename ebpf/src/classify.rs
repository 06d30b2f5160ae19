//! A program's verdict on a tuple: one lookup a dimension, the AND of the vectors, its lowest bit.

use ebpf_common::event::{NO_RULE, PASSES_MAX};
use ebpf_common::program::{
    ACTION_ALLOW, ACTION_DENY, ACTION_LOG, ACTION_PASS, ClassKey, ICMP_CODE_ANY, IDENTITY_NET_KEY_BITS,
    IdentityNetKey, NET_KEY_BITS, NetKey, PORT_KEY_BITS, PortKey, Program, TupleKey, VECTOR_ALL, Vector,
    dimension, icmp_class,
};
use ebpf_common::{Address, event::Reason};

use aya_ebpf::maps::lpm_trie::Key;

use crate::maps::{
    CLASSES, IDENTITIES, IDENTITY_NETS, NETS, PORTS, PROGRAMS, RULE_HITS, RULES, TUPLES, VECTORS,
};
use crate::packet::Tuple;
use crate::sys;

/// Words looked at, and Pass and Log rules taken, before a program counts as endless.
const STEPS_MAX: u32 = 128;
/// Log rules of one evaluation that are told of.
pub const LOGS_MAX: usize = 4;

/// The outcome of an evaluation.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Verdict {
    pub program: u32,
    pub rule: u16,
    pub pass_count: u8,
    pub log_count: u8,
    /// 1 if the program was the ingress one.
    pub ingress: u32,
    /// Words that are still to be looked at. Here and not in a register: the verifier does not follow it, and so need
    /// not tell the rounds of the scan apart.
    pub summary: u64,
    pub passes: [u16; PASSES_MAX],
    pub logs: [u16; LOGS_MAX],
}

impl Verdict {
    #[inline(always)]
    pub const fn new() -> Self {
        Self {
            program: 0,
            rule: NO_RULE,
            pass_count: 0,
            log_count: 0,
            ingress: 0,
            summary: 0,
            passes: [0; PASSES_MAX],
            logs: [0; LOGS_MAX],
        }
    }
}

/// The vectors of a tuple's classes.
struct Vectors {
    source_identity: &'static Vector,
    destination_identity: &'static Vector,
    source_net: &'static Vector,
    destination_net: &'static Vector,
    source_port: &'static Vector,
    destination_port: &'static Vector,
    source_tuple: &'static Vector,
    destination_tuple: &'static Vector,
    icmp: &'static Vector,
}

/// Asks program `id` about a tuple. 0 for allow, [`Reason::PolicyDeny`], or why there is no verdict.
///
/// A function with global linkage, which the verifier looks at once and not at each call.
#[expect(
    unsafe_code,
    reason = "the linker must not take a global function for one that may be merged or dropped"
)]
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn evaluate(
    id: u32,
    epoch: u32,
    length: u32,
    tuple: *const Tuple,
    verdict: *mut Verdict,
) -> u32 {
    let (Some(tuple), Some(verdict)) = (sys::given(tuple), sys::given_mut(verdict)) else {
        return Reason::NoProgram as u32;
    };
    *verdict = Verdict::new();
    let Some(program) = sys::read(&PROGRAMS, &id) else {
        return Reason::NoProgram as u32;
    };
    verdict.program = id;
    let Some(vectors) = lookup(id, program, epoch, tuple) else {
        return Reason::NoProgram as u32;
    };
    scan(program, &vectors, length, verdict)
}

#[inline(always)]
fn scan(program: &Program, vectors: &Vectors, length: u32, verdict: &mut Verdict) -> u32 {
    verdict.summary = vectors.source_identity.summary
        & vectors.destination_identity.summary
        & vectors.source_net.summary
        & vectors.destination_net.summary
        & vectors.source_port.summary
        & vectors.destination_port.summary
        & vectors.source_tuple.summary
        & vectors.destination_tuple.summary
        & vectors.icmp.summary;
    // The first rule that counts: what lies before was passed or logged.
    let mut from: u32 = 0;
    for _ in 0..STEPS_MAX {
        let summary = sys::unfollowed(&mut verdict.summary);
        if summary == 0 {
            return Reason::PolicyDeny as u32;
        }
        let at = sys::below_64(summary.trailing_zeros() as u64) as usize;
        let mut bits = sys::word(vectors.source_identity, at)
            & sys::word(vectors.destination_identity, at)
            & sys::word(vectors.source_net, at)
            & sys::word(vectors.destination_net, at)
            & sys::word(vectors.source_port, at)
            & sys::word(vectors.destination_port, at)
            & sys::word(vectors.source_tuple, at)
            & sys::word(vectors.destination_tuple, at)
            & sys::word(vectors.icmp, at);
        if at as u32 == from >> 6 {
            bits &= u64::MAX << (from & 63);
        }
        if bits == 0 {
            verdict.summary = summary & (summary - 1);
            continue;
        }
        let rule = (at as u32) << 6 | bits.trailing_zeros();
        let Some(&action) = RULES.get(program.rules + rule) else {
            return Reason::NoProgram as u32;
        };
        if let Some(hits) = sys::slot(&RULE_HITS, program.rules + rule) {
            hits.packets += 1;
            hits.bytes += length as u64;
        }
        match action >> 16 {
            ACTION_ALLOW => {
                verdict.rule = rule as u16;
                return 0;
            }
            ACTION_DENY => {
                verdict.rule = rule as u16;
                return Reason::PolicyDeny as u32;
            }
            ACTION_PASS => {
                let next = action & 0xffff;
                from = if next > rule { next } else { rule + 1 };
                note(&mut verdict.passes, &mut verdict.pass_count, rule);
            }
            ACTION_LOG => {
                from = rule + 1;
                note(&mut verdict.logs, &mut verdict.log_count, rule);
            }
            _ => return Reason::NoProgram as u32,
        }
        if from >= 4096 {
            return Reason::PolicyDeny as u32;
        }
        verdict.summary = summary & u64::MAX << (from >> 6);
    }
    Reason::ProgramLimit as u32
}

/// Appends to a list as long as there is room.
#[inline(always)]
fn note<const N: usize>(list: &mut [u16; N], count: &mut u8, rule: u32) {
    if sys::store(list, *count, rule as u16) {
        *count += 1;
    }
}

#[inline(always)]
fn lookup(id: u32, program: &Program, epoch: u32, tuple: &Tuple) -> Option<Vectors> {
    let all = VECTORS.get(VECTOR_ALL)?;
    let uses = |d: u32| program.dimensions & 1 << d != 0;
    let icmp = tuple.is_icmp();
    // An echo's identifier is no port.
    let (source_port, destination_port) = if icmp {
        (0, 0)
    } else {
        (tuple.source_port, tuple.destination_port)
    };

    let mut found = Vectors {
        source_identity: all,
        destination_identity: all,
        source_net: all,
        destination_net: all,
        source_port: all,
        destination_port: all,
        source_tuple: all,
        destination_tuple: all,
        icmp: all,
    };
    if uses(dimension::SOURCE_IDENTITY) {
        let value = identity(&tuple.source, tuple.family as u32, epoch);
        found.source_identity = vector(
            program,
            class(id, dimension::SOURCE_IDENTITY, value),
            dimension::SOURCE_IDENTITY,
        )?;
    }
    if uses(dimension::DESTINATION_IDENTITY) {
        let value = identity(&tuple.destination, tuple.family as u32, epoch);
        let slot = class(id, dimension::DESTINATION_IDENTITY, value);
        found.destination_identity = vector(program, slot, dimension::DESTINATION_IDENTITY)?;
    }
    if uses(dimension::SOURCE_NET) {
        found.source_net = vector(
            program,
            net(id, dimension::SOURCE_NET, &tuple.source),
            dimension::SOURCE_NET,
        )?;
    }
    if uses(dimension::DESTINATION_NET) {
        let slot = net(id, dimension::DESTINATION_NET, &tuple.destination);
        found.destination_net = vector(program, slot, dimension::DESTINATION_NET)?;
    }
    if uses(dimension::SOURCE_PORT) {
        let slot = port(id, dimension::SOURCE_PORT, tuple.protocol, source_port);
        found.source_port = vector(program, slot, dimension::SOURCE_PORT)?;
    }
    if uses(dimension::DESTINATION_PORT) {
        let slot = port(id, dimension::DESTINATION_PORT, tuple.protocol, destination_port);
        found.destination_port = vector(program, slot, dimension::DESTINATION_PORT)?;
    }
    if uses(dimension::SOURCE_TUPLE) {
        let slot = member(
            id,
            dimension::SOURCE_TUPLE,
            tuple.protocol,
            source_port,
            &tuple.source,
        );
        found.source_tuple = vector(program, slot, dimension::SOURCE_TUPLE)?;
    }
    if uses(dimension::DESTINATION_TUPLE) {
        let slot = member(
            id,
            dimension::DESTINATION_TUPLE,
            tuple.protocol,
            destination_port,
            &tuple.destination,
        );
        found.destination_tuple = vector(program, slot, dimension::DESTINATION_TUPLE)?;
    }
    if uses(dimension::ICMP) {
        let mut slot = program.defaults[dimension::ICMP as usize];
        if icmp {
            slot = class(
                id,
                dimension::ICMP,
                icmp_class(tuple.icmp_type, tuple.icmp_code as u32),
            );
            if slot == NONE {
                slot = class(id, dimension::ICMP, icmp_class(tuple.icmp_type, ICMP_CODE_ANY));
            }
            if slot == NONE {
                slot = program.icmp_other;
            }
        }
        found.icmp = VECTORS.get(slot)?;
    }
    Some(found)
}

/// A table that does not hold a key.
const NONE: u32 = u32::MAX;

#[inline(always)]
fn vector(program: &Program, slot: u32, dimension: u32) -> Option<&'static Vector> {
    VECTORS.get(if slot == NONE {
        program.defaults[dimension as usize]
    } else {
        slot
    })
}

// Not inlined, so that their keys share stack.

#[inline(never)]
fn class(program: u32, dimension: u32, value: u32) -> u32 {
    let key = ClassKey {
        program,
        dimension,
        value,
    };
    sys::read(&CLASSES, &key).copied().unwrap_or(NONE)
}

#[inline(never)]
fn net(program: u32, dimension: u32, address: &Address) -> u32 {
    let key = Key::new(
        NET_KEY_BITS + 128,
        NetKey {
            program,
            dimension,
            address: *address,
        },
    );
    NETS.get(&key).copied().unwrap_or(NONE)
}

#[inline(never)]
fn port(program: u32, dimension: u32, protocol: u8, port: u16) -> u32 {
    let key = PortKey {
        program,
        dimension: dimension as u8,
        protocol,
        port: port.to_be(),
    };
    PORTS
        .get(&Key::new(PORT_KEY_BITS + 16, key))
        .copied()
        .unwrap_or(NONE)
}

#[inline(never)]
fn member(program: u32, dimension: u32, protocol: u8, port: u16, address: &Address) -> u32 {
    let key = TupleKey {
        program,
        dimension: dimension as u8,
        protocol,
        port,
        address: *address,
    };
    sys::read(&TUPLES, &key).copied().unwrap_or(NONE)
}

/// The class of an address as a generation of `epoch` sees it. A value that user space replaces while it is read here
/// is of a batch that is not published yet, so what it leads to is void when that batch is.
#[inline(never)]
fn identity(address: &Address, family: u32, epoch: u32) -> u32 {
    let found = match sys::read(&IDENTITIES, address) {
        Some(found) => found,
        None => {
            let key = IdentityNetKey {
                family,
                address: *address,
            };
            match IDENTITY_NETS.get(&Key::new(IDENTITY_NET_KEY_BITS + 128, key)) {
                Some(found) => found,
                None => return 0,
            }
        }
    };
    if epoch.wrapping_sub(found.since) < 1 << 31 {
        found.after
    } else {
        found.before
    }
}
