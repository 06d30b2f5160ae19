//! Priority of a thread, which no safe crate of ours offers.
#![expect(unsafe_code, reason = "sched_setscheduler and setpriority")]

use std::io;

/// Real-time priority: above ordinary threads, below the kernel's own.
const REAL_TIME_PRIORITY: libc::c_int = 10;
/// Where real time is not allowed.
const NICE: libc::c_int = -15;

/// Has the calling thread run before others, as far as the kernel allows.
pub(super) fn raise_priority() -> io::Result<()> {
    let parameter = libc::sched_param {
        sched_priority: REAL_TIME_PRIORITY,
    };
    // SAFETY: `parameter` lives through the call; 0 is the calling thread.
    let result = unsafe {
        libc::sched_setscheduler(
            0,
            libc::SCHED_RR | libc::SCHED_RESET_ON_FORK,
            &raw const parameter,
        )
    };
    if result == 0 {
        return Ok(());
    }
    // SAFETY: takes numbers alone; on Linux, 0 is the calling thread.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) } == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}
