//! The programs at the host end of a workload's veth pair.
#![no_std]
#![no_main]

use aya_ebpf::{macros::classifier, programs::TcContext};

/// Packets from the workload: its egress policy.
#[classifier]
pub fn from_workload(_ctx: TcContext) -> i32 {
    -1
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
