//! Port dimensions: protocol and port, as prefixes of the port within the protocol.
//!
//! The protocol is judged with the destination port; the source port's table judges the port alone.

use std::collections::BTreeSet;

use super::prefixes::PrefixWalk;
use crate::bits::{PoolFull, VectorPool};
use crate::clause::{Clause, PROTOCOLS_WITH_PORTS, PortRange, Side};
use crate::output::{PortPrefix, Table};

/// Bits of a port number.
const PORT_BITS: u8 = 16;

/// Protocol and destination port.
pub(super) fn destination_table(
    pool: &mut VectorPool,
    clauses: &[Clause],
) -> Result<Option<Table<PortPrefix>>, PoolFull> {
    let mut protocols: BTreeSet<u8> = clauses
        .iter()
        .flat_map(|c| c.protocol.into_iter().chain(c.not_protocol))
        .collect();
    let ports = clauses.iter().any(|c| constrains_ports(&c.destination));
    if ports {
        protocols.extend(PROTOCOLS_WITH_PORTS);
    }
    if protocols.is_empty() {
        return Ok(None);
    }
    table(
        pool,
        clauses,
        protocols,
        |clause| &clause.destination,
        Clause::accepts_protocol,
        |clause| clause.protocol.is_none(),
    )
    .map(Some)
}

/// Source port.
pub(super) fn source_table(
    pool: &mut VectorPool,
    clauses: &[Clause],
) -> Result<Option<Table<PortPrefix>>, PoolFull> {
    if !clauses.iter().any(|c| constrains_ports(&c.source)) {
        return Ok(None);
    }
    let protocols = PROTOCOLS_WITH_PORTS.into_iter().collect();
    table(
        pool,
        clauses,
        protocols,
        |clause| &clause.source,
        |_, _| true,
        |_| true,
    )
    .map(Some)
}

fn constrains_ports(side: &Side) -> bool {
    side.ports.is_some() || !side.not_ports.is_empty()
}

/// `any_other` says whether a clause accepts the protocols that are not in `protocols`.
fn table(
    pool: &mut VectorPool,
    clauses: &[Clause],
    protocols: BTreeSet<u8>,
    side: impl Fn(&Clause) -> &Side,
    accepts_protocol: impl Fn(&Clause, u8) -> bool,
    any_other: impl Fn(&Clause) -> bool,
) -> Result<Table<PortPrefix>, PoolFull> {
    let mut walk = PrefixWalk::new(clauses.len());
    for (bit, clause) in clauses.iter().enumerate() {
        if side(clause).ports.is_none() && any_other(clause) {
            walk.accept_everywhere(bit);
        }
    }
    for protocol in protocols {
        let root = PortPrefix {
            protocol,
            port: 0,
            bits: 0,
        };
        let has_ports = PROTOCOLS_WITH_PORTS.contains(&protocol);
        for (bit, clause) in clauses.iter().enumerate() {
            if !accepts_protocol(clause, protocol) {
                walk.refuse(bit, root);
                continue;
            }
            match &side(clause).ports {
                None => walk.accept(bit, root),
                Some(ranges) if has_ports => ranges
                    .iter()
                    .for_each(|&range| prefixes(protocol, range, |prefix| walk.accept(bit, prefix))),
                Some(_) => {}
            }
            if has_ports {
                for &range in &side(clause).not_ports {
                    prefixes(protocol, range, |prefix| walk.refuse(bit, prefix));
                }
            }
        }
    }
    walk.table(pool)
}

/// The prefixes that make up a range of ports: at most 30.
fn prefixes(protocol: u8, range: PortRange, mut each: impl FnMut(PortPrefix)) {
    let (mut low, high) = (u32::from(range.first), u32::from(range.last));
    while low <= high {
        // As long a run as low's alignment allows and the range still holds.
        let mut host_bits = low.trailing_zeros().min(u32::from(PORT_BITS));
        while host_bits > 0 && low + (1 << host_bits) - 1 > high {
            host_bits -= 1;
        }
        let (Ok(port), Ok(host)) = (u16::try_from(low), u8::try_from(host_bits)) else {
            return;
        };
        each(PortPrefix {
            protocol,
            port,
            bits: PORT_BITS.saturating_sub(host),
        });
        low += 1 << host_bits;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compile::prefixes::Prefix as _;

    proptest! {
        #[test]
        fn prefixes_cover_exactly_the_range(a: u16, b: u16, probe: u16) {
            let range = PortRange { first: a.min(b), last: a.max(b) };
            let mut got = Vec::new();
            prefixes(6, range, |prefix| got.push(prefix));
            prop_assert!(got.len() <= 30);
            for port in [probe, range.first, range.last, range.first.wrapping_sub(1), range.last.wrapping_add(1)] {
                let exact = PortPrefix { protocol: 6, port, bits: 16 };
                let hits = got.iter().filter(|prefix| prefix.covers(&exact)).count();
                prop_assert_eq!(hits, usize::from(range.first <= port && port <= range.last));
            }
        }
    }
}
