//! The cases, and what is asked of this repository's daemon in each.

use clap::ValueEnum;

use crate::daemon::Daemon;
use crate::plan::{self, Plan};
use crate::report::{Memory, Target};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// Two feeds of 100,000 prefixes each to one receiver.
    TwoFeeds,
    /// Eight feeds of the same 50,000 prefixes, until every best path is right.
    EightFeeds,
    /// One feed of 1,000,000 prefixes; then all are withdrawn.
    OneMillion,
    /// A reflector of 50 clients with 200 prefixes each.
    #[value(name = "reflector-50")]
    Reflector50,
    /// A reflector of 200 clients with 50 prefixes each.
    #[value(name = "reflector-200")]
    Reflector200,
    /// 1,000 sessions with a hold time of 3 s while 200,000 prefixes come and go (ours alone).
    HoldTime,
    /// From an UPDATE to the route in the kernel, 1,000 times.
    FibLatency,
    /// One of two ToRs is lost without a word, with 1,000 and 100,000 routes over both (ours alone).
    SilentLoss,
    /// 200,000 and 1,000,000 routes into the kernel, beside a bare netlink loop.
    FibBulk,
}

pub(crate) const TARGETS: [Target; 8] = [
    against_bird("two-feeds"),
    against_bird("eight-feeds"),
    against_bird("one-million"),
    against_bird("one-million-withdraw"),
    against_frr("reflector-50", 20.0),
    against_frr("reflector-200", 24.0),
    against_bare("fib-200k"),
    against_bare("fib-1m"),
];

/// The name under which the bare netlink loop stands in tables.
pub(crate) const BARE: &str = "bare loop";

const fn against_bird(row: &'static str) -> Target {
    Target {
        row,
        rival: Daemon::Bird.name(),
        wall_ratio: 0.5,
        memory: Memory::Rivals,
    }
}

const fn against_frr(row: &'static str, mib: f64) -> Target {
    Target {
        row,
        rival: Daemon::Frr.name(),
        wall_ratio: 0.8,
        memory: Memory::Mib(mib),
    }
}

/// 0.9 of its rate.
const fn against_bare(row: &'static str) -> Target {
    Target {
        row,
        rival: BARE,
        wall_ratio: 1.0 / 0.9,
        memory: Memory::Any,
    }
}

/// What a case consists of.
pub(crate) enum Work {
    /// Feeds and goals.
    Plan(Plan),
    /// Sessions and prefixes.
    Hold(usize, usize),
    /// Routes.
    Latency(usize),
    /// Numbers of routes.
    Loss([usize; 2]),
    /// Rows with numbers of routes.
    Bulk([(&'static str, usize); 2]),
}

impl Case {
    pub(crate) fn work(self, scale: f64) -> Work {
        let scaled = |count: usize| ((count as f64 * scale) as usize).max(8);
        match self {
            Self::TwoFeeds => Work::Plan(plan::distinct_feeds("two-feeds", 2, scaled(200_000))),
            Self::EightFeeds => Work::Plan(plan::same_feeds("eight-feeds", 8, scaled(50_000))),
            Self::OneMillion => Work::Plan(plan::announce_and_withdraw(
                ["one-million", "one-million-withdraw"],
                scaled(1_000_000),
            )),
            Self::Reflector50 => Work::Plan(plan::reflector("reflector-50", 50, scaled(200))),
            Self::Reflector200 => Work::Plan(plan::reflector("reflector-200", 200, scaled(50))),
            Self::HoldTime => Work::Hold(1000, scaled(200_000)),
            Self::SilentLoss => Work::Loss([1000, scaled(100_000)]),
            Self::FibLatency => Work::Latency(scaled(1000)),
            Self::FibBulk => Work::Bulk([("fib-200k", scaled(200_000)), ("fib-1m", scaled(1_000_000))]),
        }
    }
}
