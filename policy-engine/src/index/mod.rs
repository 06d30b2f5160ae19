//! Who an address is: labels of endpoints and network sets, the selectors in use that match them, and the
//! identities that follow.

mod addresses;
mod labels;
mod owners;
mod selectors;

pub(crate) use self::addresses::{AddressIndex, Reassignment};
pub(crate) use self::labels::{ClassId, LabelIndex, Labels};
pub(crate) use self::owners::{Owner, OwnerId, OwnerIndex, OwnerKey, OwnerPort};
pub(crate) use self::selectors::SelectorTable;
