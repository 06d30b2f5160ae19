//! Jitter (RFC 4271 section 10): a timer is shortened by up to a quarter.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A sequence that is fixed by its seed (SplitMix64), so that runs can be repeated.
#[derive(Clone, Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) const fn new(seed: u64) -> Self {
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
        self.within(time, 75..=100)
    }

    /// A part of the time between two numbers of percent.
    pub(crate) fn within(&mut self, time: Duration, percent: RangeInclusive<u32>) -> Duration {
        let parts = (self.next() % 256) as u32;
        let (least, most) = percent.into_inner();
        time / 100 * least + time / 100 * most.saturating_sub(least) / 255 * parts
    }
}
