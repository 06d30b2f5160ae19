//! From an ordered list of clauses (one a bit) to the tables of a [`Program`].
//!
//! Each dimension is compiled alone: which clauses hold for a value of it. Prefix dimensions (nets, ports) are
//! walked in pre-order with the state of the covering prefixes on a stack, so that a longer prefix's vector
//! already holds what its covering ones give.

mod exact;
mod identity;
mod ports;
mod prefixes;

use std::collections::BTreeSet;

use ipnet::IpNet;

pub(crate) use self::identity::IdentityDimension;
use crate::bits::{PoolFull, VectorPool};
use crate::clause::{Clause, NamedPort, SelectorId, Side};
use crate::output::{IdentityId, Program, TupleKey};

/// What the compiler asks about the world.
pub(crate) trait Membership {
    /// Identities whose addresses match a selector.
    fn identities(&self, selector: SelectorId) -> Vec<IdentityId>;
    /// The selectors that an identity matches, sorted.
    fn selectors(&self, identity: IdentityId) -> &[SelectorId];
    /// The members of a named port.
    fn tuples(&self, port: &NamedPort) -> Option<&BTreeSet<TupleKey>>;
}

/// A compiled program and what is needed to add identities to it later.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) program: Program,
    pub(crate) identities: ProgramIdentities,
}

/// The part of a program that identities depend on.
#[derive(Debug)]
pub(crate) struct ProgramIdentities {
    pub(crate) pool: VectorPool,
    pub(crate) source: Option<IdentityDimension>,
    pub(crate) destination: Option<IdentityDimension>,
}

/// Compiles `clauses`; at most [`crate::output::PROGRAM_RULES_MAX`] of them.
pub(crate) fn compile(clauses: &[Clause], members: &impl Membership) -> Result<Compiled, PoolFull> {
    let mut pool = VectorPool::default();
    let source = IdentityDimension::new(clauses, |clause| &clause.source);
    let destination = IdentityDimension::new(clauses, |clause| &clause.destination);
    let (icmp, icmp_other) = exact::icmp_table(&mut pool, clauses)?;
    let v4 = clauses.first().is_some_and(|clause| clause.v4);
    let program = Program {
        rules: clauses.iter().map(|clause| clause.rule.clone()).collect(),
        source_identity: source.as_ref().map(|d| d.table(&mut pool, members)).transpose()?,
        destination_identity: destination
            .as_ref()
            .map(|d| d.table(&mut pool, members))
            .transpose()?,
        source_net: net_table(&mut pool, clauses, |clause| &clause.source)?,
        destination_net: net_table(&mut pool, clauses, |clause| &clause.destination)?,
        destination_port: ports::destination_table(&mut pool, clauses)?,
        source_port: ports::source_table(&mut pool, clauses)?,
        icmp,
        icmp_other,
        source_tuple: exact::tuple_table(&mut pool, clauses, v4, members, |clause| &clause.source)?,
        destination_tuple: exact::tuple_table(&mut pool, clauses, v4, members, |clause| &clause.destination)?,
        vectors: pool.vectors().to_vec(),
    };
    Ok(Compiled {
        program,
        identities: ProgramIdentities {
            pool,
            source,
            destination,
        },
    })
}

fn net_table(
    pool: &mut VectorPool,
    clauses: &[Clause],
    side: impl Fn(&Clause) -> &Side,
) -> Result<Option<crate::output::Table<IpNet>>, PoolFull> {
    let mut walk = prefixes::PrefixWalk::new(clauses.len());
    for (bit, clause) in clauses.iter().enumerate() {
        let side = side(clause);
        match &side.nets {
            Some(nets) => nets.iter().for_each(|&net| walk.accept(bit, net)),
            None => walk.accept_everywhere(bit),
        }
        side.not_nets.iter().for_each(|&net| walk.refuse(bit, net));
    }
    if !walk.constrains() && clauses.iter().all(|clause| side(clause).nets.is_none()) {
        return Ok(None);
    }
    walk.table(pool).map(Some)
}
