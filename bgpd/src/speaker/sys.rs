//! Socket options that no safe crate offers.
#![expect(
    unsafe_code,
    reason = "setsockopt for TCP MD5 keys, minimum TTL and ICMPv6 filters; a raw socket in the runtime"
)]

use std::io;
use std::mem::size_of;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use libc::{c_int, c_void, socklen_t};
use socket2::Socket;
use tokio::io::unix::AsyncFd;

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

/// `TCP_MD5SIG_EXT` of linux/tcp.h.
const TCP_MD5SIG_EXT: c_int = 32;
/// `TCP_MD5SIG_FLAG_PREFIX` of linux/tcp.h.
const TCP_MD5SIG_FLAG_PREFIX: u8 = 1;

/// RFC 2385: sets the key for segments to and from `peers`; an empty one removes it. Of several that fit an
/// address, the kernel takes the one with the longest prefix. It does not look at the interface.
pub(super) fn set_md5_key(socket: BorrowedFd<'_>, peers: IpNet, key: &[u8]) -> io::Result<()> {
    let is_host = peers.prefix_len() == peers.max_prefix_len();
    let name = if is_host { libc::TCP_MD5SIG } else { TCP_MD5SIG_EXT };
    let mut option = TcpMd5Sig {
        address: socket_address(peers.addr()),
        flags: if is_host { 0 } else { TCP_MD5SIG_FLAG_PREFIX },
        prefix_length: if is_host { 0 } else { peers.prefix_len() },
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
            name,
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

/// RFC 3542 section 3.2: takes in ICMPv6 messages of these types alone.
pub(super) fn pass_only_icmpv6(socket: BorrowedFd<'_>, types: &[u8]) -> io::Result<()> {
    /// `ICMPV6_FILTER` of linux/icmpv6.h.
    const ICMPV6_FILTER: c_int = 1;
    // A bit a type; those that are set are kept out.
    let mut filter = [u32::MAX; 8];
    for message in types {
        if let Some(word) = filter.get_mut(usize::from(message / 32)) {
            *word &= !(1 << (message % 32));
        }
    }
    // SAFETY: the option takes a `struct icmp6_filter`, which is eight words; `filter` is that and lives through
    // the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_ICMPV6,
            ICMPV6_FILTER,
            (&raw const filter).cast::<c_void>(),
            size_of_val(&filter) as socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Has the runtime watch a socket.
pub(super) fn watch(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a `Socket` owns its descriptor and gives the same one each time it is asked, as long as it lives; the
    // result owns the socket.
    unsafe { AsyncFd::register(socket) }.map_err(Into::into)
}
