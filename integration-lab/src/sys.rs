//! The one system call that no safe library wraps.
#![expect(unsafe_code, reason = "getsockopt(TCP_INFO) has no safe wrapper")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

/// How many segments a TCP connection has retransmitted so far.
pub(crate) fn tcp_total_retransmissions(socket: BorrowedFd) -> io::Result<u32> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the descriptor is open while borrowed; the kernel writes at most `length` bytes to `info`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every field is an integer, and all bytes were zeroed before the kernel wrote some of them.
    Ok(unsafe { info.assume_init() }.tcpi_total_retrans)
}
