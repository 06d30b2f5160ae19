//! Making a lab from a topology, and unmaking it.

mod down;
mod links;
mod up;

pub use down::down;
pub use up::{Progress, run_exec_lines, up};
