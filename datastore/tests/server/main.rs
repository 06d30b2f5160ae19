//! What the embedded store promises by itself: durability, restarts, damaged files, slow clients, its command line.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on stops")]

mod command_line;
mod crash;
mod damage;
mod restart;
mod slow_watch;
mod support;
