use std::collections::{BTreeMap, BTreeSet};

use super::ast::Expression;

/// What a selector demands of one label before it can match.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelRestriction {
    /// The label must be there.
    pub present: bool,
    /// The label must not be there.
    pub absent: bool,
    /// The label must have one of these values; `None` leaves it open.
    pub values: Option<BTreeSet<String>>,
}

impl LabelRestriction {
    /// Whether no object can fulfil it, so that the selector matches nothing.
    #[must_use]
    pub fn unsatisfiable(&self) -> bool {
        (self.present && self.absent) || self.values.as_ref().is_some_and(BTreeSet::is_empty)
    }

    fn and(mut self, other: Self) -> Self {
        self.present |= other.present;
        self.absent |= other.absent;
        self.values = match (self.values, other.values) {
            (Some(a), Some(b)) => Some(a.intersection(&b).cloned().collect()),
            (a, b) => a.or(b),
        };
        self
    }

    fn or(mut self, other: Self) -> Self {
        self.present &= other.present;
        self.absent &= other.absent;
        self.values = match (self.values, other.values) {
            (Some(a), Some(b)) => Some(a.into_iter().chain(b).collect()),
            _ => None,
        };
        self
    }

    fn restricts(&self) -> bool {
        self.present || self.absent || self.values.is_some()
    }
}

pub(super) fn restrictions(expression: &Expression) -> BTreeMap<String, LabelRestriction> {
    let single = |label: &String, restriction| BTreeMap::from([(label.clone(), restriction)]);
    let present = |values| LabelRestriction {
        present: true,
        absent: false,
        values,
    };
    match expression {
        Expression::Equal(l, v) => single(l, present(Some(BTreeSet::from([v.clone()])))),
        Expression::In(l, values) => single(l, present(Some(values.iter().cloned().collect()))),
        Expression::Has(l)
        | Expression::Contains(l, _)
        | Expression::StartsWith(l, _)
        | Expression::EndsWith(l, _) => single(l, present(None)),
        Expression::Not(operand) => match operand.as_ref() {
            Expression::Has(l) => single(
                l,
                LabelRestriction {
                    absent: true,
                    ..LabelRestriction::default()
                },
            ),
            _ => BTreeMap::new(),
        },
        Expression::And(operands) => {
            let mut all = BTreeMap::<String, LabelRestriction>::new();
            for (label, restriction) in operands.iter().flat_map(restrictions) {
                let merged = all.remove(&label).unwrap_or_default().and(restriction);
                all.insert(label, merged);
            }
            all
        }
        Expression::Or(operands) => operands
            .iter()
            .map(restrictions)
            .reduce(|mut a, mut b| {
                a.retain(|label, _| b.contains_key(label));
                a.into_iter()
                    .filter_map(|(label, left)| Some((left.or(b.remove(&label)?), label)))
                    .filter(|(merged, _)| merged.restricts())
                    .map(|(merged, label)| (label, merged))
                    .collect()
            })
            .unwrap_or_default(),
        Expression::All | Expression::Global | Expression::NotEqual(..) | Expression::NotIn(..) => {
            BTreeMap::new()
        }
    }
}
