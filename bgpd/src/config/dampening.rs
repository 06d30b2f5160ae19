//! Dampening of routes that flap: its parameters, and how the file has them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Penalty from which on a route is suppressed, where none is set (RFC 7196 section 6.1).
const SUPPRESS_DEFAULT: u32 = 6000;
/// Penalty at which it is used again, where none is set (RFC 7196 section 3).
const REUSE_DEFAULT: u32 = 750;
/// Half-life of a penalty, where none is set, in seconds (RFC 7196 section 3).
const HALF_LIFE_DEFAULT_S: u32 = 15 * 60;
/// Longest suppression, where none is set, in seconds (RFC 7196 section 3).
const SUPPRESS_TIME_DEFAULT_S: u32 = 60 * 60;
/// Longest suppression, and longest half-life, that can be set, in seconds.
const TIME_MAX_S: u32 = 24 * 60 * 60;
/// No penalty grows beyond this, whatever is set.
const PENALTY_MAX: u32 = 1_000_000;

/// How routes of a neighbour in another AS are dampened that come and go (RFC 2439 section 4.2). The defaults are
/// those of RFC 7196.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Dampening {
    /// In which time a penalty decays to its half.
    pub half_life: Duration,
    /// With a higher penalty than this, a route is suppressed.
    pub suppress: u32,
    /// With a lower penalty than this, it is used again.
    pub reuse: u32,
    /// For how long it is suppressed at most: penalties are not higher than what decays to `reuse` in this time.
    pub suppress_time: Duration,
}

impl Default for Dampening {
    fn default() -> Self {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        Self {
            half_life: seconds(HALF_LIFE_DEFAULT_S),
            suppress: SUPPRESS_DEFAULT,
            reuse: REUSE_DEFAULT,
            suppress_time: seconds(SUPPRESS_TIME_DEFAULT_S),
        }
    }
}

impl Dampening {
    /// The highest penalty (RFC 2439 section 4.2, the ceiling).
    pub fn ceiling(&self) -> f64 {
        let half_lives = self.suppress_time.as_secs_f64() / self.half_life.as_secs_f64();
        (f64::from(self.reuse) * half_lives.exp2()).min(PENALTY_MAX.into())
    }

    /// What is wrong with it: the key, and what would be right.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let times = Duration::from_secs(1)..=Duration::from_secs(TIME_MAX_S.into());
        let range = || format!("must be 1..{TIME_MAX_S} s");
        if !times.contains(&self.half_life) {
            return Err(("dampening half-life", range()));
        }
        if !times.contains(&self.suppress_time) {
            return Err(("dampening suppress-time", range()));
        }
        if self.reuse == 0 || self.reuse >= self.suppress {
            return Err((
                "dampening reuse",
                "must be at least 1, and less than suppress".to_owned(),
            ));
        }
        if f64::from(self.suppress) >= self.ceiling() {
            return Err((
                "dampening suppress",
                format!(
                    "is never reached: penalties are at most {:.0}, which decays to reuse within suppress-time",
                    self.ceiling()
                ),
            ));
        }
        Ok(())
    }
}

/// `dampening` in the file: true or false, or a table.
#[derive(Clone, Copy, Deserialize)]
#[serde(
    untagged,
    expecting = "dampening must be true, false, or a table of its settings"
)]
pub(super) enum FileDampening {
    Switch(bool),
    Table(Table),
}

/// Times are in seconds.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Table {
    half_life: Option<u32>,
    suppress: Option<u32>,
    reuse: Option<u32>,
    suppress_time: Option<u32>,
}

impl FileDampening {
    pub(super) fn dampening(self) -> Option<Dampening> {
        let default = Dampening::default();
        let seconds =
            |seconds: Option<u32>, or| seconds.map_or(or, |seconds| Duration::from_secs(seconds.into()));
        match self {
            Self::Switch(on) => on.then_some(default),
            Self::Table(table) => Some(Dampening {
                half_life: seconds(table.half_life, default.half_life),
                suppress: table.suppress.unwrap_or(default.suppress),
                reuse: table.reuse.unwrap_or(default.reuse),
                suppress_time: seconds(table.suppress_time, default.suppress_time),
            }),
        }
    }
}
