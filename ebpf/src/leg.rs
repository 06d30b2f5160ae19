//! One policy leg: the source's egress or the destination's ingress, judged at the hook that owns it.

use aya_ebpf::programs::TcContext;
use ebpf_common::endpoint::{EGRESS_V4, EGRESS_V6, Generation, HOST_ALLOWED, INGRESS_V4, INGRESS_V6};
use ebpf_common::event::{Reason, VERDICT_LOG};

use crate::Hook;
use crate::classify::{Verdict, evaluate};
use crate::event::{emit, what};
use crate::guard::to_host;
use crate::packet::Tuple;

/// The program of a leg.
#[inline(always)]
pub fn program(generation: &Generation, family: u8, ingress: bool) -> u32 {
    match (family, ingress) {
        (4, true) => generation.programs[INGRESS_V4],
        (4, false) => generation.programs[EGRESS_V4],
        (_, true) => generation.programs[INGRESS_V6],
        (_, false) => generation.programs[EGRESS_V6],
    }
}

/// Asks the policy, and for packets to the host the switch. 0 for allow, or why not.
#[inline(always)]
pub fn judge(
    ctx: &TcContext,
    hook: &Hook,
    generation: &Generation,
    tuple: &Tuple,
    ingress: bool,
    from_workload: bool,
    verdict: &mut Verdict,
) -> u32 {
    let id = program(generation, tuple.family, ingress);
    let code = evaluate(id, generation.epoch, hook.length, tuple, verdict);
    verdict.ingress = ingress as u32;
    if verdict.log_count != 0 {
        for (at, rule) in verdict.logs.iter().enumerate() {
            if (at as u8) < verdict.log_count {
                emit(
                    hook,
                    tuple,
                    verdict,
                    what(VERDICT_LOG, ingress, Reason::Log as u32),
                    *rule as u32,
                );
            }
        }
    }
    let asks_host = code == 0 && !ingress && from_workload && generation.flags & HOST_ALLOWED == 0;
    if asks_host && to_host(ctx, hook.ifindex, tuple) {
        Reason::EndpointToHost as u32
    } else {
        code
    }
}
