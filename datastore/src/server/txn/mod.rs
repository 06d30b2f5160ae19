//! Requests that change or compare: their checks, and their effect on history.

pub(crate) mod apply;
pub(crate) mod check;
pub(crate) mod compare;
#[cfg(test)]
mod model;
pub(crate) mod read;
pub(crate) mod write;

use crate::server::refusal::Refusal;

/// Why a request was not carried out.
#[derive(Debug)]
pub(crate) enum Failure<E> {
    /// The request is at fault; nothing changed.
    Refused(Refusal),
    /// The file is at fault.
    Storage(E),
}

impl<E> From<Refusal> for Failure<E> {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
