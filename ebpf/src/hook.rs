//! The way of a packet through a hook.

use aya_ebpf::programs::TcContext;
use ebpf_common::conntrack::{APPROVED_HOST, Approval, LEG_DESTINATION, LEG_SOURCE, TCP, flag};
use ebpf_common::endpoint::Generation;
use ebpf_common::event::{Reason, VERDICT_ALLOW, VERDICT_DENY};

use crate::classify::Verdict;
use crate::event::{count, emit, what};
use crate::guard::{self, ACCEPT};
use crate::leg;
use crate::maps::{GENERATIONS, SCRATCH, Scratch};
use crate::packet::{ETHERNET, FIRST_FRAGMENT, LATER_FRAGMENT, Packet, TCP_RST, parse};
use crate::sys;
use crate::track::{self, Found, Opening};

/// Let the next program or the stack have it: `TCX_NEXT`, and `TC_ACT_UNSPEC` for a filter.
const PASS: i32 = -1;
/// `TC_ACT_SHOT`.
const DROP: i32 = 2;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Where the packet is.
#[repr(C)]
pub struct Hook {
    pub ifindex: u32,
    /// Number of the endpoint, 0 if there is none.
    pub endpoint: u32,
    /// Generation in force.
    pub generation: u32,
    /// Bytes without the Ethernet header.
    pub length: u32,
}

#[inline(always)]
pub fn run(ctx: &TcContext, from_workload: bool) -> i32 {
    let Some(work) = sys::slot(&SCRATCH, 0) else {
        return DROP;
    };
    work.packet = Packet::new();
    work.verdict = Verdict::new();
    work.hook = Hook {
        ifindex: sys::ifindex(ctx),
        endpoint: 0,
        generation: 0,
        length: ctx.len().saturating_sub(ETHERNET as u32),
    };
    let code = judge(ctx, work, from_workload);
    if code == 0 {
        return PASS;
    }
    count(code);
    if code == Reason::Spoofed as u32 && guard::is_chatter(&work.packet.tuple) {
        return DROP;
    }
    // The direction is that of the leg that objected; before any leg it is the hook's.
    let ingress = if work.verdict.program == 0 {
        !from_workload
    } else {
        work.verdict.ingress != 0
    };
    let what = what(VERDICT_DENY, ingress, code);
    emit(
        &work.hook,
        &work.packet.tuple,
        &work.verdict,
        what,
        work.verdict.rule as u32,
    );
    DROP
}

#[inline(always)]
fn judge(ctx: &TcContext, work: &mut Scratch, from_workload: bool) -> u32 {
    let hook = &mut work.hook;
    let packet = &mut work.packet;
    let Some(publication) = sys::publication(hook.ifindex) else {
        return Reason::NoEndpoint as u32;
    };
    let Some(generation) = sys::read(&GENERATIONS, &publication.generation) else {
        return Reason::NoEndpoint as u32;
    };
    hook.endpoint = generation.endpoint;
    hook.generation = publication.generation;

    if sys::has_vlan(ctx) {
        return Reason::NotIp as u32;
    }
    let family = match sys::ethertype(ctx) {
        ETHERTYPE_IPV4 => 4,
        ETHERTYPE_IPV6 => 6,
        ETHERTYPE_ARP if from_workload => return guard::check_arp(ctx, generation),
        ETHERTYPE_ARP => return 0,
        _ => return Reason::NotIp as u32,
    };
    let code = parse(ctx, ETHERNET as u32, 0, packet);
    if code != 0 {
        return code;
    }
    if packet.tuple.family != family {
        return Reason::Malformed as u32;
    }
    if from_workload {
        let code = guard::check_from_workload(ctx, hook, generation, packet);
        if code == ACCEPT {
            count(Reason::LinkLocal as u32);
            return 0;
        }
        if code != 0 {
            return code;
        }
    }
    let from_host = !from_workload && sys::ingress_ifindex(ctx) == 0;
    if packet.fragment == LATER_FRAGMENT {
        if from_host {
            return 0;
        }
        let code = track::recall_fragment(packet);
        if code != 0 {
            return code;
        }
    }
    if packet.fragment == FIRST_FRAGMENT {
        // Before its verdict: the later ones are judged like it, by the ports that they get from here.
        track::remember_fragment(packet);
    }
    if !packet.tuple.is_icmp_error() {
        return tracked(ctx, work, generation, from_workload, from_host);
    }
    if from_host {
        return 0;
    }
    icmp_error(ctx, work, generation, from_workload)
}

/// The approval that lets a flow pass a leg without asking.
#[inline(always)]
fn wanted(hook: &Hook, generation: &Generation, flags: u32, family: u8, ingress: bool) -> Approval {
    let token = if flags & flag::MIDFLOW != 0 {
        hook.generation
    } else {
        leg::program(generation, family, ingress)
    };
    Approval {
        token,
        epoch: generation.epoch,
    }
}

#[inline(never)]
fn tracked(
    ctx: &TcContext,
    work: &mut Scratch,
    generation: &Generation,
    from_workload: bool,
    from_host: bool,
) -> u32 {
    let packet = &mut work.packet;
    let forward = packet.tuple.key(&mut work.key);
    let echo = packet.tuple.is_echo_request() || packet.tuple.is_echo_reply();
    if packet.tuple.is_icmp() && !echo {
        if from_host {
            return 0;
        }
        let verdict = &mut work.verdict;
        return leg::judge(
            ctx,
            &work.hook,
            generation,
            &packet.tuple,
            !from_workload,
            from_workload,
            verdict,
        );
    }
    let now = sys::coarse_ns();
    let Some(settings) = track::settings() else {
        return Reason::NoProgram as u32;
    };
    if let Some(found) = track::find(&work.key) {
        let original = (found.flow.flags & flag::OPENED_BY_A != 0) == forward;
        let reopens = packet.opens_tcp() && (!original || found.flow.is_closed());
        if !reopens && !found.flow.is_expired(packet.tuple.protocol, settings, now) {
            return known(
                ctx,
                work,
                generation,
                from_workload,
                from_host,
                found,
                original,
                now,
            );
        }
    }
    unknown(
        ctx,
        work,
        generation,
        from_workload,
        from_host,
        forward,
        now,
        settings.strict != 0,
    )
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "inlined: a structure would cost stack")]
fn known(
    ctx: &TcContext,
    work: &mut Scratch,
    generation: &Generation,
    from_workload: bool,
    from_host: bool,
    found: Found,
    original: bool,
    now: u64,
) -> u32 {
    let hook = &work.hook;
    let packet = &work.packet;
    // The workload is the flow's source if it sends in its direction, or receives against it.
    let ingress = from_workload != original;
    let flow = &mut *found.flow;
    let wanted = wanted(hook, generation, flow.flags, packet.tuple.family, ingress);
    let held = if ingress {
        flow.approvals[LEG_DESTINATION]
    } else {
        flow.approvals[LEG_SOURCE]
    };
    if from_host {
        if original && !track::is_approved(held, wanted, true) {
            flow.approvals[LEG_DESTINATION] = Approval {
                token: APPROVED_HOST,
                epoch: 0,
            };
        }
    } else if !track::is_approved(held, wanted, from_workload && !original) {
        let code = judge_again(ctx, work, generation, from_workload, original, flow.flags);
        if code != 0 {
            let none = Approval { token: 0, epoch: 0 };
            if ingress {
                flow.approvals[LEG_DESTINATION] = none;
            } else {
                flow.approvals[LEG_SOURCE] = none;
            }
            // An established flow stays known, so that its packets are not taken for ones of an unknown connection.
            if !found.established {
                track::forget(&work.key);
            }
            return code;
        }
        let (hook, packet, verdict) = (&work.hook, &work.packet, &work.verdict);
        let before;
        if ingress {
            before = flow.rules[LEG_DESTINATION];
            flow.approvals[LEG_DESTINATION] = wanted;
            flow.rules[LEG_DESTINATION] = verdict.rule;
            flow.endpoints[LEG_DESTINATION] = hook.endpoint;
        } else {
            before = flow.rules[LEG_SOURCE];
            flow.approvals[LEG_SOURCE] = wanted;
            flow.rules[LEG_SOURCE] = verdict.rule;
            flow.endpoints[LEG_SOURCE] = hook.endpoint;
        }
        let reason = if held.token == 0 {
            Reason::PolicyAllow
        } else {
            Reason::Reevaluated
        } as u32;
        count(reason);
        if held.token == 0 || before != verdict.rule || held.token != wanted.token {
            emit(
                hook,
                &packet.tuple,
                verdict,
                what(VERDICT_ALLOW, ingress, reason),
                verdict.rule as u32,
            );
        }
    }
    // Between two workloads of this host a packet passes two hooks; the source's counts.
    let counts = !ingress || flow.approvals[LEG_SOURCE].token == 0;
    track::touch(
        &work.key,
        found,
        &work.packet,
        original,
        counts,
        work.hook.length,
        now,
    );
    0
}

/// Judges a known flow's leg at this hook on the tuple that opened it; the packet's tuple becomes that one.
#[inline(always)]
fn judge_again(
    ctx: &TcContext,
    work: &mut Scratch,
    generation: &Generation,
    from_workload: bool,
    original: bool,
    flags: u32,
) -> u32 {
    let Scratch {
        hook,
        packet,
        other,
        verdict,
        second,
        ..
    } = work;
    if !original {
        packet.tuple.reverse();
    }
    let ingress = from_workload != original;
    let code = leg::judge(
        ctx,
        hook,
        generation,
        &packet.tuple,
        ingress,
        from_workload && original,
        verdict,
    );
    if code == 0 || flags & flag::MIDFLOW == 0 {
        return code;
    }
    // Who opened it is a guess: the other guess may be right.
    *other = packet.tuple;
    other.reverse();
    let again = leg::judge(
        ctx,
        hook,
        generation,
        other,
        !ingress,
        from_workload && !original,
        second,
    );
    if again == 0 {
        *verdict = *second;
        return 0;
    }
    code
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "inlined: a structure would cost stack")]
fn unknown(
    ctx: &TcContext,
    work: &mut Scratch,
    generation: &Generation,
    from_workload: bool,
    from_host: bool,
    forward: bool,
    now: u64,
    strict: bool,
) -> u32 {
    let Scratch {
        hook,
        packet,
        other,
        verdict,
        second,
        key,
        flow,
        ..
    } = work;
    let midflow = packet.tuple.protocol == TCP && !packet.opens_tcp();
    let stateless = packet.tuple.is_echo_reply();
    let mut ingress = !from_workload;
    let mut opened_by_source = true;
    let mut reason = Reason::PolicyAllow as u32;
    let approval;
    if from_host {
        if midflow || stateless {
            return 0;
        }
        reason = Reason::FromHost as u32;
        approval = Approval {
            token: APPROVED_HOST,
            epoch: 0,
        };
    } else {
        if midflow && strict {
            return Reason::MidflowStrict as u32;
        }
        let mut code = leg::judge(
            ctx,
            hook,
            generation,
            &packet.tuple,
            ingress,
            from_workload,
            verdict,
        );
        if code != 0 && midflow {
            // It may be the other side's connection.
            *other = packet.tuple;
            other.reverse();
            if leg::judge(ctx, hook, generation, other, !ingress, false, second) == 0 {
                *verdict = *second;
                packet.tuple = *other;
                ingress = !ingress;
                opened_by_source = false;
                code = 0;
            } else if code == Reason::PolicyDeny as u32 {
                code = Reason::MidflowDenied as u32;
            }
        }
        if code != 0 {
            return code;
        }
        if midflow {
            reason = Reason::MidflowAllowed as u32;
        }
        let flags = if midflow { flag::MIDFLOW } else { 0 };
        approval = wanted(hook, generation, flags, packet.tuple.family, ingress);
    }
    count(reason);
    emit(
        hook,
        &packet.tuple,
        verdict,
        what(VERDICT_ALLOW, ingress, reason),
        verdict.rule as u32,
    );
    if stateless || packet.tcp_flags & TCP_RST != 0 {
        return 0;
    }
    let opening = Opening {
        opened_by_a: forward == opened_by_source,
        original: opened_by_source,
        flags: if midflow { flag::MIDFLOW } else { 0 },
        leg: if ingress { LEG_DESTINATION } else { LEG_SOURCE },
        approval,
        rule: verdict.rule,
        endpoint: hook.endpoint,
        length: hook.length,
    };
    track::create(key, flow, packet, &opening, now);
    0
}

/// An ICMP error passes with the flow that it is about; about anything else it is a packet like others.
#[inline(never)]
fn icmp_error(ctx: &TcContext, work: &mut Scratch, generation: &Generation, from_workload: bool) -> u32 {
    let Scratch {
        hook,
        packet,
        quoted,
        verdict,
        key,
        ..
    } = work;
    *quoted = Packet::new();
    let parsed = packet.fragment != LATER_FRAGMENT && parse(ctx, packet.transport + 8, 1, quoted) == 0;
    // It goes to the one who sent the packet that it is about.
    let (to, from) = (&packet.tuple.destination, &quoted.tuple.source);
    let returns = to[3] == from[3] && to[2] == from[2] && to[1] == from[1] && to[0] == from[0];
    // A workload may speak of packets that were sent to it, not of others' flows.
    let concerned =
        !from_workload || guard::is_own(generation, &quoted.tuple.destination, quoted.tuple.family == 6);
    if parsed
        && returns
        && concerned
        && quoted.fragment != LATER_FRAGMENT
        && quoted.tuple.family == packet.tuple.family
    {
        let forward = quoted.tuple.key(key);
        let now = sys::coarse_ns();
        if let (Some(found), Some(settings)) = (track::find(key), track::settings()) {
            let flow = &mut *found.flow;
            if !flow.is_expired(quoted.tuple.protocol, settings, now) {
                // The error travels against the packet that it quotes.
                let original = (flow.flags & flag::OPENED_BY_A != 0) != forward;
                let ingress = from_workload != original;
                let wanted = wanted(hook, generation, flow.flags, quoted.tuple.family, ingress);
                let held = if ingress {
                    flow.approvals[LEG_DESTINATION]
                } else {
                    flow.approvals[LEG_SOURCE]
                };
                let mut code = 0;
                if !track::is_approved(held, wanted, from_workload && !original) {
                    // As a packet of the error's direction: `judge_again` turns it into the opener's.
                    packet.tuple = quoted.tuple;
                    packet.tuple.reverse();
                    code = judge_again(ctx, work, generation, from_workload, original, flow.flags);
                }
                if code == 0 {
                    count(Reason::IcmpRelated as u32);
                }
                return code;
            }
        }
    }
    leg::judge(
        ctx,
        hook,
        generation,
        &packet.tuple,
        !from_workload,
        from_workload,
        verdict,
    )
}
