//! The one place with unsafe code: registering the socket with the runtime.
#![expect(unsafe_code, reason = "tokio asks the caller to vouch for the descriptor")]

use std::io;

use netlink_sys::Socket;
use tokio::io::unix::AsyncFd;

/// Let the runtime watch a socket.
pub(crate) fn watch(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: `Socket` owns its descriptor: `as_raw_fd` gives the same open one until it is dropped, and
    // nothing replaces or closes it before that.
    let registered = unsafe { AsyncFd::register(socket) };
    registered.map_err(io::Error::from)
}
