//! Keys of the TCP Authentication Option (RFC 5925) on sockets. Linux has it from 6.7 on, where it was built with it.

use std::io;
use std::os::fd::BorrowedFd;

use ipnet::IpNet;

use super::sys;
use crate::config::TcpAoKey;

/// Says what to do where the kernel cannot.
fn explain(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENOPROTOOPT) => io::Error::new(
            io::ErrorKind::Unsupported,
            "tcp-ao: this kernel has no TCP-AO (it needs Linux 6.7 with CONFIG_TCP_AO): use such a kernel, or password \
             instead, at both ends",
        ),
        _ => io::Error::new(
            error.kind(),
            format!("tcp-ao: the kernel does not take the key: {error}"),
        ),
    }
}

/// Sets the keys for segments to and from `peers`, and takes away those that are there no longer. The first one is
/// what we send with, and what the other end is asked to send with.
pub(super) fn set_keys(
    socket: BorrowedFd<'_>,
    peers: IpNet,
    old: &[TcpAoKey],
    new: &[TcpAoKey],
    is_listener: bool,
) -> io::Result<()> {
    let gone = old.iter().filter(|key| !new.contains(key));
    if is_listener {
        // A key that changes under its name goes before it comes.
        for key in gone.clone() {
            delete(socket, peers, key)?;
        }
    }
    for (at, key) in new.iter().enumerate() {
        match sys::add_ao_key(socket, peers, key, at == 0 && !is_listener) {
            // It is there already.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            result => result.map_err(explain)?,
        }
    }
    if !is_listener {
        for key in gone {
            delete(socket, peers, key)?;
        }
    }
    Ok(())
}

fn delete(socket: BorrowedFd<'_>, peers: IpNet, key: &TcpAoKey) -> io::Result<()> {
    match sys::delete_ao_key(socket, peers, key) {
        // There was none.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result.map_err(explain),
    }
}
