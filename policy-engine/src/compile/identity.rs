//! Identity dimensions: which rules hold for the selectors that an address matches.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use super::Membership;
use crate::bits::{Bits, PoolFull, VectorPool};
use crate::clause::{Clause, SelectorId, Side};
use crate::output::{IdentityId, Table, VectorIndex};

/// The rules that each selector of one side of a program bears on.
#[derive(Debug)]
pub(crate) struct IdentityDimension {
    /// Rules that name no selector of this side.
    base: Bits,
    uses: FxHashMap<SelectorId, Uses>,
}

#[derive(Debug, Default)]
struct Uses {
    positive: Vec<usize>,
    negative: Vec<usize>,
}

impl IdentityDimension {
    /// `None` if no clause has a selector of this side.
    pub(super) fn new(clauses: &[Clause], side: impl Fn(&Clause) -> &Side) -> Option<Self> {
        let mut base = Bits::zeros(clauses.len());
        let mut uses: FxHashMap<SelectorId, Uses> = FxHashMap::default();
        for (bit, clause) in clauses.iter().enumerate() {
            let side = side(clause);
            match side.selector {
                Some(selector) => uses.entry(selector).or_default().positive.push(bit),
                None => {
                    base.set(bit);
                }
            }
            if let Some(selector) = side.not_selector {
                uses.entry(selector).or_default().negative.push(bit);
            }
        }
        (!uses.is_empty()).then_some(Self { base, uses })
    }

    /// Whether an identity that matches `selectors` needs an entry.
    pub(crate) fn concerns(&self, selectors: &[SelectorId]) -> bool {
        selectors.iter().any(|selector| self.uses.contains_key(selector))
    }

    /// The vector of an identity that matches `selectors`.
    pub(crate) fn vector(
        &self,
        pool: &mut VectorPool,
        selectors: &[SelectorId],
    ) -> Result<VectorIndex, PoolFull> {
        let mut bits = self.base.clone();
        let uses = || selectors.iter().filter_map(|selector| self.uses.get(selector));
        for &bit in uses().flat_map(|uses| &uses.positive) {
            bits.set(bit);
        }
        for &bit in uses().flat_map(|uses| &uses.negative) {
            bits.clear(bit);
        }
        pool.intern(bits.words())
    }

    pub(super) fn table(
        &self,
        pool: &mut VectorPool,
        members: &impl Membership,
    ) -> Result<Table<IdentityId>, PoolFull> {
        let default = pool.intern(self.base.words())?;
        let identities: BTreeSet<IdentityId> = self
            .uses
            .keys()
            .flat_map(|&selector| members.identities(selector))
            .collect();
        let entries = identities
            .into_iter()
            .map(|identity| Ok((identity, self.vector(pool, members.selectors(identity))?)))
            .collect::<Result<_, PoolFull>>()?;
        Ok(Table { entries, default })
    }
}
