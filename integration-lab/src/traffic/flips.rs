//! When a TCP port opens and closes: a steady series of short connection attempts, each judged by when it
//! began.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// An attempt this often.
const INTERVAL: Duration = Duration::from_millis(10);
/// An attempt that has not succeeded by then was denied: shorter than the kernel's first repetition of a SYN,
/// so that each attempt is one packet.
const ATTEMPT_MAX: Duration = Duration::from_millis(400);

/// A moment from which attempts end otherwise than before; the first is that of the first attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flip {
    /// When the first such attempt began, in milliseconds of Unix time.
    pub at_unix_ms: u64,
    /// Whether attempts succeed from here on.
    pub open: bool,
}

/// Tries for some time and returns the flips.
pub fn watch(to: SocketAddr, seconds: u32) -> anyhow::Result<Vec<Flip>> {
    let (results, receiver) = mpsc::channel();
    let end = Instant::now() + Duration::from_secs(seconds.into());
    // Those that are under way at once are bounded by ATTEMPT_MAX / INTERVAL.
    let mut running = VecDeque::new();
    while Instant::now() < end {
        let results = results.clone();
        let at_unix_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .context("a clock before 1970")?
            .as_millis() as u64;
        running.push_back(std::thread::spawn(move || {
            let open = TcpStream::connect_timeout(&to, ATTEMPT_MAX).is_ok();
            let _ = results.send(Flip { at_unix_ms, open });
        }));
        while running.front().is_some_and(std::thread::JoinHandle::is_finished) {
            running.pop_front();
        }
        std::thread::sleep(INTERVAL);
    }
    drop(results);
    let mut attempts: Vec<Flip> = receiver.iter().collect();
    attempts.sort_by_key(|a| a.at_unix_ms);
    attempts.dedup_by_key(|a| a.open);
    Ok(attempts)
}
