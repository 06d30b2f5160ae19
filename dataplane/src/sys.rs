//! The system calls that the libraries do not have.
#![expect(
    unsafe_code,
    reason = "raw system calls, and a record read from the event ring"
)]

use ebpf_common::event::FlowRecord;

/// `MEMBARRIER_CMD_GLOBAL`: returns when every CPU has left whatever eBPF program it was in.
const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

/// Waits until no packet can be looking at what was replaced before the call.
pub(crate) fn wait_for_readers() -> std::io::Result<()> {
    // SAFETY: no pointers.
    let outcome = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// A clock of the kernel, in nanoseconds.
pub(crate) fn monotonic_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes a timespec there.
    let outcome = unsafe { libc::clock_gettime(clock, &raw mut time) };
    if outcome != 0 {
        return 0;
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// A record of the event ring.
pub(crate) fn flow_record(bytes: &[u8]) -> Option<FlowRecord> {
    if bytes.len() != size_of::<FlowRecord>() {
        return None;
    }
    // SAFETY: the size is right, every bit pattern is a record, and the read needs no alignment.
    Some(unsafe { bytes.as_ptr().cast::<FlowRecord>().read_unaligned() })
}
