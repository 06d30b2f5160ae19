//! Making a lab from a topology, and unmaking it.

mod down;
mod links;
mod restart;

mod up;

pub use down::down;
pub use restart::{end_node, restart_node};
pub use up::{Progress, run_exec_lines, up};
