//! Watches: what each one has seen and what it is to see next.

pub(crate) mod fragments;
pub(crate) mod recent;
pub(crate) mod watcher;
