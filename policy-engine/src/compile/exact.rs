//! Dimensions that are looked up exactly: ICMP type and code, and (address, protocol, port).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Membership;
use crate::bits::{Bits, PoolFull, VectorPool};
use crate::clause::{Clause, Icmp, Side};
use crate::output::{IcmpKey, Table, TupleKey, VectorIndex};

/// The ICMP table, and the vector of ICMP packets whose type it does not hold. Both that and the default are
/// the rules without a positive ICMP match: `notICMP` holds for what is not ICMP.
pub(super) fn icmp_table(
    pool: &mut VectorPool,
    clauses: &[Clause],
) -> Result<(Option<Table<IcmpKey>>, VectorIndex), PoolFull> {
    let keys: BTreeSet<IcmpKey> = clauses
        .iter()
        .flat_map(|clause| [clause.icmp, clause.not_icmp])
        .flatten()
        .map(|icmp| IcmpKey {
            r#type: icmp.r#type,
            code: icmp.code,
        })
        .collect();
    let mut default = Bits::zeros(clauses.len());
    for (bit, clause) in clauses.iter().enumerate() {
        if clause.icmp.is_none() {
            default.set(bit);
        }
    }
    let default = pool.intern(default.words())?;
    if keys.is_empty() {
        return Ok((None, default));
    }
    let mut entries = Vec::new();
    for key in keys {
        let holds =
            |icmp: Icmp| icmp.r#type == key.r#type && icmp.code.is_none_or(|code| key.code == Some(code));
        let mut bits = Bits::zeros(clauses.len());
        for (bit, clause) in clauses.iter().enumerate() {
            if clause.icmp.is_none_or(holds) && !clause.not_icmp.is_some_and(holds) {
                bits.set(bit);
            }
        }
        entries.push((key, pool.intern(bits.words())?));
    }
    Ok((Some(Table { entries, default }), default))
}

/// Named ports of one side.
pub(super) fn tuple_table(
    pool: &mut VectorPool,
    clauses: &[Clause],
    v4: bool,
    members: &impl Membership,
    side: impl Fn(&Clause) -> &Side,
) -> Result<Option<Table<TupleKey>>, PoolFull> {
    let mut base = Bits::zeros(clauses.len());
    let mut changes: BTreeMap<TupleKey, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    let mut constrains = false;
    for (bit, clause) in clauses.iter().enumerate() {
        let side = side(clause);
        match &side.named {
            None => {
                base.set(bit);
            }
            Some(names) => {
                constrains = true;
                for key in names.iter().filter_map(|name| members.tuples(name)).flatten() {
                    changes.entry(*key).or_default().0.push(bit);
                }
            }
        }
        constrains |= !side.not_named.is_empty();
        for key in side
            .not_named
            .iter()
            .filter_map(|name| members.tuples(name))
            .flatten()
        {
            changes.entry(*key).or_default().1.push(bit);
        }
    }
    if !constrains {
        return Ok(None);
    }
    let default = pool.intern(base.words())?;
    let mut entries = Vec::new();
    for (key, (accepted, refused)) in changes {
        if matches!(key.address, IpAddr::V4(_)) != v4 {
            continue;
        }
        let mut bits = base.clone();
        for bit in accepted {
            bits.set(bit);
        }
        for bit in refused {
            bits.clear(bit);
        }
        entries.push((key, pool.intern(bits.words())?));
    }
    Ok(Some(Table { entries, default }))
}
