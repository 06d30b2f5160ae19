//! The engine.

use crate::input::{Counts, Input};
use crate::output::Delta;
use crate::problem::Problem;

/// Turns resources into what the dataplane of one host must hold.
#[derive(Debug)]
pub struct Engine {
    local_node: String,
    counts: Counts,
}

impl Engine {
    /// An engine for the workloads of `local_node`.
    pub fn new(local_node: impl Into<String>) -> Self {
        Self {
            local_node: local_node.into(),
            counts: Counts::default(),
        }
    }

    /// Takes in a change. Nothing comes of it before the next [`Self::flush`].
    pub fn update(&mut self, _input: Input) {
        tracing::trace!(node = self.local_node, "update");
    }

    /// What the dataplane must change since the last call, in the order in which to apply it.
    pub fn flush(&mut self) -> Vec<Delta> {
        Vec::new()
    }

    /// What cannot be enforced as it is written, at the last flush.
    pub fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }

    /// How much is at work.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}
