//! What the embedded store promises by itself: durability, restarts, damaged files, slow clients, its command line.

mod command_line;
mod crash;
mod damage;
mod restart;
mod slow_watch;
mod support;
