//! Jitter (RFC 4271 section 10): a timer is shortened by up to a quarter.

use std::time::Duration;

/// A sequence that is fixed by its seed (SplitMix64), so that runs can be repeated.
#[derive(Clone, Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Between three quarters of the time and all of it.
    pub(super) fn apply(&mut self, time: Duration) -> Duration {
        let parts = (self.next() % 256) as u32;
        time * 3 / 4 + time / 4 * parts / 255
    }
}
