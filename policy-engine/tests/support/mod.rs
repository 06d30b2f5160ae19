//! What the integration tests share.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

pub mod build;
pub mod generate;
pub mod oracle;
pub mod universe;
