//! The programs at the host end of a workload's veth pair.
//!
//! At each packet: the endpoint behind the interface; what a workload may send at all ([`guard`]); the flow that the
//! packet belongs to ([`track`]); and, unless the leg that this hook owns has been approved by the programs in force,
//! their verdict on the tuple that opened the flow ([`leg`], [`classify`]).
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![deny(unsafe_code)]

mod classify;
mod event;
mod guard;
mod hook;
mod leg;
mod maps;
mod packet;
mod sys;
mod track;

use aya_ebpf::{macros::classifier, programs::TcContext};

pub use hook::Hook;

/// Packets from the workload: its egress policy.
#[classifier]
pub fn from_workload(ctx: TcContext) -> i32 {
    hook::run(&ctx, true)
}

/// Packets to the workload: its ingress policy.
#[classifier]
pub fn to_workload(ctx: TcContext) -> i32 {
    hook::run(&ctx, false)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[expect(
    unsafe_code,
    reason = "the name and the section are what the loader looks for"
)]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
