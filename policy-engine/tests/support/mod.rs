//! What the integration tests share.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

pub mod build;
pub mod generate;
pub mod oracle;
pub mod universe;
