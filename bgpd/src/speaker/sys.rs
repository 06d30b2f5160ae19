//! Socket options that no safe crate offers.
#![expect(unsafe_code, reason = "setsockopt for TCP MD5 keys and minimum TTL")]

use std::io;
use std::mem::size_of;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, c_void, socklen_t};

use crate::config::PASSWORD_MAX_BYTES;

/// `struct tcp_md5sig` of linux/tcp.h.
#[repr(C)]
struct TcpMd5Sig {
    address: [u8; size_of::<libc::sockaddr_storage>()],
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: c_int,
    key: [u8; PASSWORD_MAX_BYTES],
}

/// RFC 2385: sets the key for segments to and from `peer`; an empty one removes it.
pub(super) fn set_md5_key(socket: BorrowedFd<'_>, peer: IpAddr, key: &[u8]) -> io::Result<()> {
    let mut option = TcpMd5Sig {
        address: socket_address(peer),
        flags: 0,
        prefix_length: 0,
        key_length: 0,
        interface: 0,
        key: [0; PASSWORD_MAX_BYTES],
    };
    let too_long = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the password is longer than 80 bytes",
        )
    };
    option
        .key
        .get_mut(..key.len())
        .ok_or_else(too_long)?
        .copy_from_slice(key);
    option.key_length = u16::try_from(key.len()).map_err(|_| too_long())?;
    // SAFETY: `option` is a `repr(C)` value laid out as the kernel's `struct tcp_md5sig`, it lives
    // through the call, and its size is passed along.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_MD5SIG,
            (&raw const option).cast::<c_void>(),
            size_of::<TcpMd5Sig>() as socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `struct sockaddr_in` or `struct sockaddr_in6` with port 0, in a `sockaddr_storage`.
fn socket_address(address: IpAddr) -> [u8; size_of::<libc::sockaddr_storage>()] {
    let mut storage = [0; size_of::<libc::sockaddr_storage>()];
    let (family, octets, offset) = match address {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec(), 4),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec(), 8),
    };
    let family = (family as libc::sa_family_t).to_ne_bytes();
    for (field, octet) in storage.iter_mut().zip(family) {
        *field = octet;
    }
    for (field, octet) in storage.iter_mut().skip(offset).zip(octets) {
        *field = octet;
    }
    storage
}

/// RFC 5082: drops segments that arrive with a lower TTL or hop limit.
pub(super) fn set_minimum_ttl(socket: BorrowedFd<'_>, peer: IpAddr, ttl: u8) -> io::Result<()> {
    let (level, name) = match peer {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MINTTL),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT),
    };
    let value = c_int::from(ttl);
    // SAFETY: the option takes an int; `value` is one and lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast::<c_void>(),
            size_of::<c_int>() as socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
