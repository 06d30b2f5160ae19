//! Sessions of the daemon with routers that others wrote, in network namespaces of each test's own.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod capture;
mod net;
mod ours;
mod routers;

mod addpath;
mod bfd;
mod daemon;
mod dynamic;
mod link;
mod loss;
mod matrix;
mod mrt;
mod refresh;
mod restart;
mod sessions;
mod silent;
