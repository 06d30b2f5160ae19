//! Placeholder

pub mod output;
