//! Events and counters.

use ebpf_common::event::Reason;

use crate::Hook;
use crate::classify::Verdict;
use crate::maps::COUNTERS;
use crate::packet::Tuple;
use crate::sys;

/// Counts a packet under a reason.
#[inline(always)]
pub fn count(reason: u32) {
    if let Some(counter) = sys::slot(&COUNTERS, reason) {
        *counter += 1;
    }
}

/// Tells user space of a verdict. `what` is verdict, direction and reason, a byte each from the lowest.
#[inline(never)]
pub fn emit(hook: &Hook, tuple: &Tuple, verdict: &Verdict, what: u32, rule: u32) {
    let stored = sys::submit(|record| {
        record.time = sys::precise_ns();
        record.source = tuple.source;
        record.destination = tuple.destination;
        record.source_port = tuple.source_port;
        record.destination_port = tuple.destination_port;
        record.protocol = tuple.protocol;
        record.family = tuple.family;
        record.icmp_type = tuple.icmp_type;
        record.icmp_code = tuple.icmp_code;
        record.verdict = what as u8;
        record.direction = (what >> 8) as u8;
        record.reason = (what >> 16) as u8;
        record.pass_count = verdict.pass_count;
        record.rule = rule as u16;
        record.padding = 0;
        record.program = verdict.program;
        record.endpoint = hook.endpoint;
        record.ifindex = hook.ifindex;
        record.length = hook.length;
        record.passes = verdict.passes;
    });
    if !stored {
        count(Reason::EventLost as u32);
    }
}

/// The third argument of [`emit`].
#[inline(always)]
pub fn what(verdict: u8, ingress: bool, reason: u32) -> u32 {
    verdict as u32 | (!ingress as u32) << 8 | reason << 16
}
